//! The metabox: inodes with all that follows them, as the compressed data of one inode (Linux 6.17).

use super::{ImageError, Metadata};
use crate::data::made::MadeFile;
use crate::data::writer::Writer;
use std::io::{self, Read};

impl Metadata<'_> {
    /// Writes all inodes that the metabox holds.
    pub(super) fn compress_inodes(
        &mut self,
        writer: &mut Writer<'_>,
        digest: &mut blake3::Hasher,
    ) -> Result<(), ImageError> {
        let size = self.plan.metabox_size();
        let Some(pipeline) = self.pipeline.as_ref().filter(|_| size > 0) else {
            return Ok(());
        };
        let content = Content {
            metadata: self,
            next: 0,
            bytes: Vec::new(),
            read: 0,
            end: 0,
        };
        let file: MadeFile<'_> = (b"the metabox inode".to_vec(), size, Box::new(content));
        let stored = pipeline.store(std::iter::once(file), writer)?;
        digest.update(&stored.digest);
        self.data.metabox = stored.files.into_iter().next();
        Ok(())
    }
}

/// The data of the metabox inode, made as it is read.
struct Content<'m, 'i> {
    metadata: &'m Metadata<'i>,
    /// Number of the next inode.
    next: usize,
    /// The inode before, with the zeros in front of it.
    bytes: Vec<u8>,
    /// Of these so many were read.
    read: usize,
    /// Offset of their end.
    end: u64,
}

impl Content<'_, '_> {
    /// Makes the next inode, or what is left behind the last one.
    fn make_next(&mut self) -> Result<(), ImageError> {
        let plan = &self.metadata.plan;
        self.bytes.clear();
        self.read = 0;
        let start = match plan.boxed.get(self.next) {
            Some(id) => plan.offset(*id),
            None => plan.metabox_size(),
        };
        let mut inode = Vec::new();
        if let Some(id) = plan.boxed.get(self.next) {
            let serial = plan.order.len() + 1 + self.next;
            let serial = u32::try_from(serial).unwrap_or(u32::MAX);
            self.metadata.encode_inode(*id, serial, &mut inode)?;
            self.next += 1;
        }
        let gap = usize::try_from(start - self.end).unwrap_or(0);
        self.bytes.resize(gap, 0);
        self.bytes.extend_from_slice(&inode);
        self.end = start + inode.len() as u64;
        Ok(())
    }
}

impl Read for Content<'_, '_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if self.read == self.bytes.len() {
            self.make_next().map_err(io::Error::other)?;
        }
        let rest = self.bytes.get(self.read..).unwrap_or_default();
        let length = rest.len().min(out.len());
        out[..length].copy_from_slice(&rest[..length]);
        self.read += length;
        Ok(length)
    }
}
