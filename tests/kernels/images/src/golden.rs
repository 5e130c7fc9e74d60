//! The images kept of the reference tool.

use anyhow::Result;
use erofs_format::{BlockBits, kernel::Requirement};
use erofs_mount::Requirements;
use erofs_tests::golden::{Golden, folder};

use crate::list::{Entry, List};

/// What a kernel may have been built without. Debian's 6.1 was, of MicroLZMA.
const CONFIGURATIONS: [(Requirement, &str); 3] = [
    (Requirement::MicroLzma, "EROFS_FS_ZIP_LZMA"),
    (Requirement::Deflate, "EROFS_FS_ZIP_DEFLATE"),
    (Requirement::Zstd, "EROFS_FS_ZIP_ZSTD"),
];

/// Images that need a later kernel than this project reads out of their superblock, and other keys of theirs.
const UNTOLD: [(&str, &str, &str); 4] = [
    // mkfs.erofs 1.9.4 writes chunk-based files without the feature bit of Linux 5.15.
    ("composefs", "5.15", ""),
    ("tar-headers", "5.15", ""),
    // PLAIN_XATTR_PFX is a compatible feature, yet kernels before it look for the prefixes in the packed inode.
    ("xattr-prefix-plain", "6.17", ""),
    // There is no feature bit for it. Older kernels take the hole for data and show other bytes.
    ("index-hole", "7.2", " misread=5.10,6.1,6.12,6.16,6.17,6.18"),
];

/// For blocks larger than the pages of these machines, which no kernel mounts.
const NEVER: &str = "0.0";

/// Adds them, with what this project, not their own manifest, says of the oldest kernel.
pub(crate) fn add(list: &mut List) -> Result<()> {
    for golden in Golden::all() {
        let requirements = Requirements::read(&golden.image, 0)?;
        let said = requirements.oldest_kernel(BlockBits::B4096);
        let untold = UNTOLD.into_iter().find(|(name, ..)| *name == golden.name);
        let needs: Vec<_> = CONFIGURATIONS
            .into_iter()
            .filter(|(requirement, _)| requirements.features.contains(requirement))
            .map(|(_, name)| name)
            .collect();
        let mut more = untold.map_or("", |(.., more)| more).to_owned();
        if said.is_none() {
            more += " expect=unreadable";
        }
        if !needs.is_empty() {
            more += &format!(" needs={}", needs.join(","));
        }
        list.add(&Entry {
            name: format!("golden-{}", golden.name),
            manifest: folder().join(format!("expected/{}.tsv", golden.expected)),
            file: golden.image,
            devices: golden.devices,
            since: match (said, untold) {
                (_, Some((_, since, _))) => since.into(),
                (Some((since, _)), None) => since.to_string(),
                (None, None) => NEVER.into(),
            },
            group: "golden",
            label: golden.shows,
            more,
        });
    }
    Ok(())
}
