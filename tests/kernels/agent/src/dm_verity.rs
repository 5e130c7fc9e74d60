//! dm-verity: a block device whose every read the kernel checks against a Merkle tree.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read},
    path::Path,
};

use sha2::{Digest, Sha256};

use crate::{ioctl, loop_device::LoopDevice};

const BLOCK: usize = 4096;
const SECTOR: u64 = 512;
const DIGEST: usize = 32;

/// `struct dm_ioctl` of linux/dm-ioctl.h, and where its fields are.
const DM_BYTES: usize = 312;
const DM_DATA_SIZE: usize = 12;
const DM_DATA_START: usize = 16;
const DM_TARGET_COUNT: usize = 20;
const DM_FLAGS: usize = 28;
const DM_DEVICE: usize = 40;
const DM_NAME: usize = 48;
const DM_READONLY: u32 = 1;
/// `struct dm_target_spec`.
const TARGET_BYTES: usize = 40;
const CREATE: u32 = 3;
const REMOVE: u32 = 4;
/// Without the flag to suspend it resumes.
const SUSPEND: u32 = 6;
const LOAD: u32 = 9;

const NAME: &str = "erofs";

/// Where a changed copy of the image goes, and the hashes.
const COPY: &str = "/run/tampered";
const HASHES: &str = "/run/hashes";

/// A verified device over an image; dropping it removes it.
#[derive(Debug)]
pub(crate) struct Verified {
    /// Its node below `/dev`.
    pub(crate) path: String,
    control: File,
    _data: LoopDevice,
    _hashes: LoopDevice,
}

impl Verified {
    /// A device over `image`; with `flip` over a copy of it with one byte changed.
    ///
    /// # Errors
    /// The errno of the kernel: ENODEV or ENOENT where it has no dm-verity.
    pub(crate) fn new(image: &Path, flip: bool) -> io::Result<Self> {
        let (levels, root) = merkle_tree(File::open(image)?)?;
        fs::write(HASHES, &levels)?;
        let data = if flip {
            tampered_copy(image, Path::new(COPY))?;
            LoopDevice::new(Path::new(COPY), false)?
        } else {
            LoopDevice::new(image, false)?
        };
        let hashes = LoopDevice::new(Path::new(HASHES), false)?;
        let blocks = fs::metadata(image)?.len() / BLOCK as u64;
        let table = format!(
            "1 {} {} {BLOCK} {BLOCK} {blocks} 0 sha256 {root} -",
            data.path, hashes.path
        );
        let control = OpenOptions::new()
            .read(true)
            .write(true)
            .open("/dev/mapper/control")?;
        let created = command(&control, CREATE, &[])?;
        let mut device = Self {
            path: String::new(),
            control,
            _data: data,
            _hashes: hashes,
        };
        let sectors = blocks * BLOCK as u64 / SECTOR;
        command(&device.control, LOAD, &target(sectors, &table))?;
        command(&device.control, SUSPEND, &[])?;
        let mut number = [0; 8];
        number.copy_from_slice(&created[DM_DEVICE..DM_DEVICE + 8]);
        device.path = format!("/dev/dm-{}", rustix::fs::minor(u64::from_ne_bytes(number)));
        Ok(device)
    }
}

impl Drop for Verified {
    fn drop(&mut self) {
        let _ = command(&self.control, REMOVE, &[]);
    }
}

/// Sends a command about the device [`NAME`], with a payload behind its header, and returns the header.
fn command(control: &File, number: u32, payload: &[u8]) -> io::Result<Vec<u8>> {
    let mut record = vec![0; DM_BYTES];
    record.extend_from_slice(payload);
    let bytes = u32::try_from(record.len()).map_err(io::Error::other)?;
    for (index, part) in [4u32, 0, 0].into_iter().enumerate() {
        ioctl::put(&mut record, index * 4, &part.to_ne_bytes());
    }
    ioctl::put(&mut record, DM_DATA_SIZE, &bytes.to_ne_bytes());
    ioctl::put(&mut record, DM_DATA_START, &(DM_BYTES as u32).to_ne_bytes());
    let targets = u32::from(!payload.is_empty());
    ioctl::put(&mut record, DM_TARGET_COUNT, &targets.to_ne_bytes());
    ioctl::put(&mut record, DM_FLAGS, &DM_READONLY.to_ne_bytes());
    ioctl::put(&mut record, DM_NAME, NAME.as_bytes());
    // _IOWR(0xfd, number, struct dm_ioctl)
    let request = 0xC000_FD00 | (DM_BYTES as u32) << 16 | number;
    ioctl::with_record(control, request, &mut record)?;
    Ok(record)
}

/// A `struct dm_target_spec` with its parameters.
fn target(sectors: u64, parameters: &str) -> Vec<u8> {
    let mut spec = vec![0; TARGET_BYTES];
    ioctl::put(&mut spec, 8, &sectors.to_ne_bytes());
    ioctl::put(&mut spec, 24, b"verity");
    spec.extend_from_slice(parameters.as_bytes());
    spec.push(0);
    spec.resize(spec.len().next_multiple_of(8), 0);
    spec
}

/// The hash levels of `data`, the topmost first, and the root digest in hexadecimal digits: format 1 without salt.
fn merkle_tree(mut data: File) -> io::Result<(Vec<u8>, String)> {
    let mut level = Vec::new();
    let mut block = [0; BLOCK];
    for _ in 0..data.metadata()?.len() / BLOCK as u64 {
        data.read_exact(&mut block)?;
        level.extend_from_slice(&Sha256::digest(block));
    }
    let mut levels = Vec::new();
    loop {
        level.resize(level.len().next_multiple_of(BLOCK), 0);
        let above: Vec<u8> = level.chunks(BLOCK).flat_map(Sha256::digest).collect();
        levels.push(level);
        if above.len() == DIGEST {
            levels.reverse();
            return Ok((levels.concat(), crate::manifest::hexadecimal(&above)));
        }
        level = above;
    }
}

/// Flips the byte in the middle of a copy of `image`.
///
/// # Errors
/// Of files.
fn tampered_copy(image: &Path, copy: &Path) -> io::Result<()> {
    let mut bytes = fs::read(image)?;
    let middle = bytes.len() / 2;
    bytes[middle] = !bytes[middle];
    fs::write(copy, bytes)
}
