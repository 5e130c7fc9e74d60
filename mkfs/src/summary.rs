//! What a build has to say at its end.

use crate::image::Finished;
use crate::tree::FrozenTree;
use erofs_format::BlockAddr;
use erofs_format::kernel::{KernelVersion, Requirement};
use std::time::Duration;

/// Blocks into which somebody else writes data of a tar.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Room {
    /// The first of them.
    pub block: BlockAddr,
    /// Where the data is in the uncompressed tar, in bytes.
    pub offset: u64,
    /// Bytes of data; what is left of the last block is zeros.
    pub length: u64,
}

/// Result of a build.
#[derive(Debug, Clone)]
pub struct Summary {
    /// Directory entries, without `.` and `..`.
    pub entries: u64,
    /// Inodes.
    pub inodes: u64,
    /// Bytes of file data: read by a build, left where they are by an index.
    pub bytes_in: u64,
    /// Files that share the data of an identical one.
    pub duplicates: u64,
    /// Size of the image in bytes.
    pub image_size: u64,
    /// Block size of the image in bytes; a machine needs pages of at least this size to mount it.
    pub block_size: u64,
    /// Sizes of its extra devices in blocks, in the order of the device table.
    pub device_blocks: Vec<u64>,
    /// UUID of the image.
    pub uuid: [u8; 16],
    /// What a kernel must know to mount the image, oldest first.
    pub requirements: Vec<Requirement>,
    /// Whether it was read back and compared with what went in.
    pub verified: bool,
    /// Where data of a tar belongs whose files only got room, by ascending block, if that was asked for.
    pub rooms: Vec<Room>,
    /// Entries of the source that are left out because they vanished while it was read, where that was to be ignored.
    pub vanished: Vec<Vec<u8>>,
    /// How long it took.
    pub elapsed: Duration,
}

impl Summary {
    pub(crate) fn new(
        tree: &FrozenTree,
        finished: &Finished,
        requirements: Vec<Requirement>,
        bytes_in: u64,
        duplicates: u64,
        elapsed: Duration,
    ) -> Self {
        let (inodes, entries) = tree.counts();
        Self {
            entries,
            inodes,
            bytes_in,
            duplicates,
            image_size: finished.size,
            block_size: finished.superblock.block_bits.bytes(),
            device_blocks: finished
                .devices
                .iter()
                .map(|device| device.blocks)
                .collect(),
            uuid: finished.superblock.uuid,
            requirements,
            verified: false,
            rooms: Vec::new(),
            vanished: Vec::new(),
            elapsed,
        }
    }

    /// The requirement that decides which kernels mount the image.
    pub fn newest_requirement(&self) -> Requirement {
        self.requirements
            .iter()
            .copied()
            .max_by_key(|requirement| requirement.since())
            .unwrap_or(Requirement::Baseline)
    }

    /// The oldest kernel that mounts the image.
    pub fn oldest_kernel(&self) -> KernelVersion {
        self.newest_requirement().since()
    }

    /// Bytes in for each byte of the image.
    pub fn ratio(&self) -> f64 {
        self.bytes_in as f64 / self.image_size.max(1) as f64
    }

    /// Bytes in each second.
    pub fn throughput(&self) -> f64 {
        self.bytes_in as f64 / self.elapsed.as_secs_f64().max(1e-9)
    }
}
