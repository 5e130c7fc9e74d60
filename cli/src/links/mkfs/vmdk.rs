//! Descriptors of virtual disks: text that lets a hypervisor show image and devices as one disk, one behind the other.

use erofs_mkfs::summary::Summary;
use std::fmt::Write;
use std::path::{Path, PathBuf};

const SECTOR: u64 = 512;
/// The geometry of old: cylinders of so many sectors, counted up to what 28 bits of IDE address.
const CYLINDER_SECTORS: u64 = 16 * 63;
const MOST_CYLINDERS: u64 = 16383;

/// The descriptor of an image and the devices it needs, of which `devices` names the files.
pub(super) fn descriptor(image: &Path, devices: &[PathBuf], summary: &Summary) -> String {
    let mut files = vec![(image, summary.image_size)];
    for (path, blocks) in devices.iter().zip(&summary.device_blocks) {
        files.push((path, blocks * summary.block_size));
    }
    let [a, b, c, d, ..] = summary.uuid;
    let id = u32::from_be_bytes([a, b, c, d]);
    let mut text = format!(
        "# Disk DescriptorFile\nversion=1\nCID={id:08x}\nparentCID=ffffffff\ncreateType=\"twoGbMaxExtentFlat\"\n\n# Extent description\n"
    );
    let mut sectors = 0;
    for (path, bytes) in files {
        let own = bytes / SECTOR;
        sectors += own;
        // Nothing fails that writes to a string.
        let _ = writeln!(text, "RW {own} FLAT \"{}\" 0", path.display());
    }
    let cylinders = sectors.div_ceil(CYLINDER_SECTORS).min(MOST_CYLINDERS);
    let _ = write!(
        text,
        "\n# The Disk Data Base\n#DDB\n\nddb.virtualHWVersion = \"4\"\nddb.geometry.cylinders = \"{cylinders}\"\nddb.geometry.heads = \"16\"\nddb.geometry.sectors = \"63\"\nddb.adapterType = \"ide\"\n"
    );
    text
}
