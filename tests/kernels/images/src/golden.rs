//! The images kept of the reference tool.

use anyhow::{Context, Result};
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

/// Images that need a later kernel than their superblock tells, since mkfs.erofs 1.9.4 leaves a feature out of it.
const UNTOLD: [(&str, &str); 1] = [
    // --tar=headerball writes chunk-based files without the bit of Linux 5.15.
    ("tar-headers", "5.15"),
];

/// Adds them, with what this project, not their own manifest, says of the oldest kernel.
pub(crate) fn add(list: &mut List) -> Result<()> {
    for golden in Golden::all() {
        let requirements = Requirements::read(&golden.image, 0)?;
        let (since, _) = requirements
            .oldest_kernel(BlockBits::B4096)
            .context("blocks of at most 4 KiB")?;
        let needs: Vec<_> = CONFIGURATIONS
            .into_iter()
            .filter(|(requirement, _)| requirements.features.contains(requirement))
            .map(|(_, name)| name)
            .collect();
        list.add(&Entry {
            name: format!("golden-{}", golden.name),
            manifest: folder().join(format!("expected/{}.tsv", golden.expected)),
            file: golden.image,
            devices: golden.devices,
            since: UNTOLD
                .into_iter()
                .find(|(name, _)| *name == golden.name)
                .map_or_else(|| since.to_string(), |(_, untold)| untold.to_owned()),
            group: "golden",
            label: golden.shows,
            more: if needs.is_empty() {
                String::new()
            } else {
                format!("needs={}", needs.join(","))
            },
        });
    }
    Ok(())
}
