//! Limits that hold for every input: memory, reads and bytes read.

use cap::Cap;
use erofs_format::ByteOffset;
use erofs_reader::ByteSource;
use std::alloc::System;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Most bytes of Rust's heap at any time. Beyond it an allocation fails, and the process aborts.
///
/// Targets read with caches of at most 2 MiB; the largest pcluster is 1 MiB, the largest extent 12 MiB.
pub const HEAP: usize = 64 << 20;

#[global_allocator]
static ALLOCATOR: Cap<System> = Cap::new(System, HEAP);

/// Most bytes that the reader may ask for at once: a pcluster, or the algorithm configurations.
const LARGEST_READ: usize = 1 << 20;
/// Most reads and bytes for one input, far above what inputs of honest size need.
const MAX_READS: u64 = 1 << 20;
const MAX_BYTES: u64 = 2 << 30;

/// Bytes in memory that panic when they are read without measure.
#[derive(Debug)]
pub struct Guarded {
    bytes: Vec<u8>,
    reads: AtomicU64,
    total: AtomicU64,
}

impl Guarded {
    /// A source of these bytes.
    pub fn new(bytes: Vec<u8>) -> Self {
        Self {
            bytes,
            reads: AtomicU64::new(0),
            total: AtomicU64::new(0),
        }
    }
}

impl ByteSource for Guarded {
    fn read_at(&self, offset: ByteOffset, buffer: &mut [u8]) -> io::Result<usize> {
        assert!(
            buffer.len() <= LARGEST_READ,
            "read of {} bytes",
            buffer.len()
        );
        // A file answers EINVAL there, which would pass for a failure of the machine.
        assert!(i64::try_from(offset.0).is_ok(), "read at {offset}");
        let reads = self.reads.fetch_add(1, Relaxed);
        let total = self.total.fetch_add(buffer.len() as u64, Relaxed);
        assert!(
            reads < MAX_READS && total < MAX_BYTES,
            "{reads} reads, {total} bytes"
        );
        self.bytes.read_at(offset, buffer)
    }

    fn size(&self) -> u64 {
        self.bytes.len() as u64
    }
}
