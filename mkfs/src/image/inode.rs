//! Inodes as stored: core, attributes, and what follows them.

use super::{ImageError, Metadata};
use crate::plan::index_form::{FileIndex, IndexForm};
use crate::plan::inode_data::InodeData;
use crate::tree::{Body, InodeId, display};
use erofs_format::BlockAddr;
use erofs_format::compression::map_header::{ExtentsHeader, MapHeader};
use erofs_format::inode::{DataLayout, FileType, Inode, InodePayload};

impl Metadata<'_> {
    pub(super) fn encode_inode(
        &self,
        id: InodeId,
        serial: u32,
        out: &mut Vec<u8>,
    ) -> Result<(), ImageError> {
        let node = self.tree.inode(id);
        let data = self.data.of(self.tree, id);
        let fingerprint = self.data.fingerprint(self.tree, id);
        let body = self.plan.xattrs.body(id, node.xattrs, fingerprint);
        let shape = self
            .plan
            .shape(self.tree, id, &data, body.len() as u64, &self.superblock);
        let file_type = node.body.file_type();
        let (layout, payload) = self.layout(id, &data);
        let inode = Inode {
            extended: shape.extended,
            layout,
            // The tree has checked that the body is not too large.
            xattr_icount: erofs_format::xattr::icount(body.len() as u64).unwrap_or(0),
            mode: node.mode(),
            file_type,
            size: data.size(),
            payload,
            serial,
            uid: node.uid,
            gid: node.gid,
            mtime: node.mtime,
            nlink: node.nlink,
            dot_omitted: self.data.omit_dot && file_type == FileType::Directory,
        };
        inode
            .encode(&self.superblock, out)
            .map_err(|source| ImageError::Inode {
                path: self.tree.path(id),
                source,
            })?;
        out.extend_from_slice(&body);
        self.encode_trailer(id, &data, out)?;
        // A directory has room for an index that it may turn out not to need.
        debug_assert!(
            out.len() as u64 == shape.total || file_type == FileType::Directory,
            "{}",
            display(&self.tree.path(id))
        );
        Ok(())
    }

    fn layout(&self, id: InodeId, data: &InodeData<'_>) -> (DataLayout, InodePayload) {
        match data {
            InodeData::Nothing => {
                let payload = match self.tree.inode(id).body {
                    Body::CharDevice(number) | Body::BlockDevice(number) => {
                        InodePayload::Device(number)
                    }
                    Body::Regular { .. } => InodePayload::StartBlock(Some(BlockAddr(0))),
                    _ => InodePayload::Nothing,
                };
                (DataLayout::FlatPlain, payload)
            }
            InodeData::Metadata { size, inline_tail } => {
                let layout = if *inline_tail > 0 {
                    DataLayout::FlatInline
                } else {
                    DataLayout::FlatPlain
                };
                let start = (size > inline_tail).then(|| self.plan.first_block(id));
                (layout, InodePayload::StartBlock(start))
            }
            InodeData::Flat { start, tail, .. } => {
                let layout = if tail.is_some() {
                    DataLayout::FlatInline
                } else {
                    DataLayout::FlatPlain
                };
                (layout, InodePayload::StartBlock(*start))
            }
            InodeData::Chunked { format, .. } => (
                DataLayout::ChunkBased,
                InodePayload::ChunkFormat(format.encode()),
            ),
            InodeData::Packed { .. } => (
                DataLayout::CompressedFull,
                InodePayload::CompressedBlocks(0),
            ),
            InodeData::Extents { stored, .. } => (
                DataLayout::CompressedFull,
                InodePayload::CompressedBlocks(stored.blocks),
            ),
            InodeData::Compressed { blocks, index, .. } => {
                let layout = match index {
                    FileIndex::Lclusters(IndexForm::Compact) => DataLayout::CompressedCompact,
                    FileIndex::Lclusters(IndexForm::Full) | FileIndex::Extents { .. } => {
                        DataLayout::CompressedFull
                    }
                };
                (layout, InodePayload::CompressedBlocks(*blocks))
            }
        }
    }

    /// What follows core and attributes: tail, chunk table, or map header and index. `out` holds the inode so far.
    fn encode_trailer(
        &self,
        id: InodeId,
        data: &InodeData<'_>,
        out: &mut Vec<u8>,
    ) -> Result<(), ImageError> {
        let bits = self.superblock.block_bits;
        match data {
            InodeData::Nothing => {}
            InodeData::Metadata { size, inline_tail } => {
                if *inline_tail > 0 {
                    let mut content = Vec::new();
                    self.metadata_content(id, &mut content);
                    out.extend_from_slice(
                        content
                            .get((size - inline_tail) as usize..)
                            .unwrap_or_default(),
                    );
                }
            }
            InodeData::Flat { tail, .. } => {
                if let Some(tail) = tail {
                    self.tails.read(*tail, out)?;
                }
            }
            InodeData::Chunked {
                format,
                chunks,
                table,
                ..
            } => {
                out.resize(out.len().next_multiple_of(format.entry_size() as usize), 0);
                for (number, chunk) in (0u64..).zip(table.chunks(*chunks, *format, bits)) {
                    format
                        .encode_entry(chunk, out)
                        .ok_or_else(|| ImageError::Chunk {
                            path: self.tree.path(id),
                            chunk: number,
                        })?;
                }
            }
            InodeData::Compressed { .. } => self.encode_map(id, data, out)?,
            InodeData::Extents {
                stored, records, ..
            } => {
                let header = ExtentsHeader {
                    records: *records,
                    interlaced: stored.interlaced,
                    fragment: stored.fragment,
                };
                self.encode_extents(id, header, stored.records.iter().copied(), out)?;
            }
            InodeData::Packed { offset, .. } => {
                self.encode_header(id, MapHeader::Fragment { offset: *offset }, out)?;
            }
        }
        Ok(())
    }
}
