//! The images kept of the reference tool.

use std::{
    io,
    path::PathBuf,
    sync::{Arc, atomic::AtomicU64},
};

use anyhow::Result;
use erofs_format::BlockBits;
use erofs_mount::Requirements;
use erofs_reader::{
    ByteSource, FileSource,
    check::{CheckOptions, check},
};
use erofs_tests::golden::{Golden, folder};

use crate::list::{Entry, List, needs};

/// Images that older kernels than they need show otherwise, without an error, and other keys of theirs.
const MISREAD: [(&str, &str); 1] = [("index-hole", " misread=5.10,6.1,6.12,6.16,6.17,6.18")];

/// For blocks larger than the pages of these machines, which no kernel mounts.
const NEVER: &str = "0.0";

/// What the image needs by its superblock, and by what `erofs check` finds below it.
fn requirements(golden: &Golden) -> Result<Requirements> {
    let source = |path: &PathBuf| -> io::Result<Arc<dyn ByteSource>> {
        Ok(Arc::new(FileSource::open(path)?))
    };
    let devices = golden
        .devices
        .iter()
        .map(source)
        .collect::<io::Result<Vec<_>>>()?;
    let image = source(&golden.image)?;
    let report = check(
        &image,
        &devices,
        &CheckOptions::default(),
        &AtomicU64::new(0),
    )?;
    let mut requirements = Requirements::read(&golden.image, 0)?;
    requirements.add(report.unannounced);
    Ok(requirements)
}

/// Adds them, with what this project, not their own manifest, says of the oldest kernel.
pub(crate) fn add(list: &mut List) -> Result<()> {
    for golden in Golden::all() {
        let requirements = requirements(&golden)?;
        let said = requirements.oldest_kernel(BlockBits::B4096);
        let misread = MISREAD.into_iter().find(|(name, _)| *name == golden.name);
        let mut more = misread.map_or("", |(_, more)| more).to_owned();
        if said.is_none() {
            more += " expect=unreadable";
        }
        more += &needs(&requirements);
        list.add(&Entry {
            name: format!("golden-{}", golden.name),
            manifest: folder().join(format!("expected/{}.tsv", golden.expected)),
            file: golden.image,
            devices: golden.devices,
            since: said.map_or_else(|| NEVER.into(), |(since, _)| since.to_string()),
            group: "golden",
            label: golden.shows,
            more,
        });
    }
    Ok(())
}
