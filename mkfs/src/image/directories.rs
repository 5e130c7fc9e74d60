//! Data of directories and links: as it is, or compressed.

use super::{ImageError, Metadata};
use crate::data::made::{MadeFile, MetadataPipeline};
use crate::data::writer::Writer;
use crate::plan::directory;
use crate::plan::inode_data::InodeData;
use crate::tree::{Body, InodeId};
use std::io::Cursor;

impl Metadata<'_> {
    /// Compresses directories of more than a block, where the options want that.
    pub(super) fn compress_directories(
        &mut self,
        writer: &mut Writer<'_>,
        digest: &mut blake3::Hasher,
    ) -> Result<(), ImageError> {
        let (Some(_), Some(pipeline)) = (&self.data.directories, &self.pipeline) else {
            return Ok(());
        };
        let large = self.large_directories();
        if large.is_empty() {
            return Ok(());
        }
        let files = large.iter().map(|id| -> MadeFile<'_> {
            let mut content = Vec::new();
            self.metadata_content(*id, &mut content);
            let size = content.len() as u64;
            (self.tree.path(*id), size, Box::new(Cursor::new(content)))
        });
        let stored = pipeline.store(files, writer)?;
        digest.update(&stored.digest);
        if let Some(directories) = &mut self.data.directories {
            directories.stored = large.into_iter().zip(stored.files).collect();
        }
        Ok(())
    }

    fn large_directories(&self) -> Vec<InodeId> {
        let bits = self.superblock.block_bits;
        let is_large = |id: &InodeId| {
            let is_directory = matches!(self.tree.inode(*id).body, Body::Directory);
            let size = || self.data.of(self.tree, *id).size();
            is_directory && MetadataPipeline::compresses(size(), bits)
        };
        self.tree.breadth_first().filter(is_large).collect()
    }

    /// Writes directories and long links that are not compressed.
    pub(super) fn write_directories(
        &self,
        writer: &mut Writer<'_>,
        digest: &mut blake3::Hasher,
    ) -> Result<(), ImageError> {
        let bits = self.superblock.block_bits;
        let mut bytes = Vec::new();
        for id in self.tree.breadth_first() {
            let InodeData::Metadata { size, inline_tail } = self.data.of(self.tree, id) else {
                continue;
            };
            if size == inline_tail {
                continue;
            }
            bytes.clear();
            self.metadata_content(id, &mut bytes);
            bytes.truncate((size - inline_tail) as usize);
            digest.update(&bytes);
            debug_assert_eq!(writer.block(), self.plan.first_block(id));
            writer.write(&bytes)?;
            writer.pad_to_block()?;
        }
        writer.pad_to(self.plan.directory_end().0 << bits.bits())?;
        Ok(())
    }

    /// Data of a directory or link.
    pub(super) fn metadata_content(&self, id: InodeId, out: &mut Vec<u8>) {
        let bits = self.superblock.block_bits;
        match self.tree.inode(id).body {
            Body::Symlink(target) => out.extend_from_slice(self.tree.target(target)),
            _ => {
                let nid_of = |inode| self.plan.nid(inode, bits);
                directory::encode(self.tree, id, bits, self.data.omit_dot, nid_of, out);
            }
        }
    }
}
