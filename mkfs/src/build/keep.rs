//! What of an image stays in the one that continues it, and where it is.

use super::base::{AppendError, Base};
use super::kept_map::KeptMap;
use super::kept_records::KeptRecords;
use super::options::BuildOptions;
use super::packed::KeptPacked;
use super::packed_directories;
use crate::data::encode::StoredExtent;
use crate::data::pipeline::Stored;
use crate::data::sharing::indexable;
use crate::data::writer::Writer;
use crate::data::{StoredData, StoredPclusters, StoredRecords};
use crate::image::ImageError;
use crate::options::BuildError;
use crate::plan::chunk_table::ChunkPiece;
use crate::plan::index_form::{IndexForm, tail_room};
use crate::plan::inode_data::LayerFileData;
use crate::plan::layer_files::Placer;
use crate::plan::xattrs::XattrPlan;
use crate::source::layers::{FileSource, LayerFile, Merged};
use crate::tree::{Body, FrozenTree, InodeId, Location, TreeError};
use erofs_format::compression::map_header::MapHeader;
use erofs_format::inode::EXTENDED_INODE_SIZE;
use erofs_format::{BlockAddr, BlockBits, DeviceId};
use erofs_reader::Inode;
use erofs_reader::dump::inode::MapRecord;
use erofs_reader::map::{Form, Location as Place};

/// What of the base is in the image that continues it.
#[derive(Debug, Default)]
pub(super) struct Kept {
    /// Files without compression, by their number in the layer.
    pub(super) layer_files: Vec<Option<LayerFileData>>,
    /// The front of the packed inode, when new fragments follow it.
    pub(super) packed: Option<KeptPacked>,
    /// Whether any file is told of by records alone, which the 48-bit layout has.
    pub(super) bit48: bool,
}

impl Base {
    /// Finds out where the files are that stay. `merged` then has a packed inode if the base has one. Data is where it was, and
    /// none of it before block `first`.
    pub(super) fn keep(
        &self,
        merged: &mut Merged,
        stored: &mut Stored,
        writer: &mut Writer<'_>,
        options: &BuildOptions,
        first: BlockAddr,
    ) -> Result<Kept, BuildError> {
        let Merged { tree, content } = merged;
        let packed = self.image.superblock().packed;
        let packed = packed.map(|nid| self.image.inode(nid)).transpose();
        let failed = |source| self.unreadable(PACKED.to_vec(), source);
        let packed = packed.map_err(failed)?;
        if let Some(inode) = &packed {
            let number =
                u32::try_from(content.files.len()).map_err(|_| TreeError::TooMany("files"))?;
            let source = FileSource::Inode(inode.nid());
            content.files.push(LayerFile { layer: 0, source });
            tree.add_packed(inode.size, Location::Layer(number), inode.mtime)?;
        }
        let continued = tree.packed().zip(packed).filter(|_| {
            stored.fragments.are_waiting() || packed_directories::place(tree, 0, options).is_some()
        });
        let files: Vec<_> = tree
            .all_inodes()
            .filter(|id| continued.is_none() || Some(*id) != tree.packed())
            .filter_map(|id| match tree.inode(id).body {
                Body::Regular {
                    size,
                    location: Location::Layer(number),
                } => Some((id, size, number)),
                _ => None,
            })
            .collect();
        let mut keeper = Keeper {
            base: self,
            tree,
            stored,
            writer,
            index_form: options.index_form,
            lowest: u64::MAX,
        };
        let device_blocks = self.device_blocks()?;
        let mut layer_files = vec![None; content.files.len()];
        let mut compressed = Vec::new();
        for (id, size, number) in files {
            let Some((file, _)) = content.file(number) else {
                continue;
            };
            let FileSource::Inode(nid) = file.source else {
                continue;
            };
            let failed = |source| self.unreadable(tree.path(id), source);
            let inode = self.image.inode(nid).map_err(failed)?;
            if inode.layout.is_compressed() {
                let data = keeper.pclusters(id, &inode)?;
                let number = u32::try_from(keeper.stored.files.len())
                    .map_err(|_| TreeError::TooMany("files"))?;
                keeper.stored.files.push(data);
                compressed.push((id, size, Location::Stored(number)));
                continue;
            }
            let mut placer = Placer {
                tree,
                content,
                first_devices: &[DeviceId::PRIMARY],
                blocks: &device_blocks,
                block_bits: self.image.superblock().block_bits,
                writer: &mut *keeper.writer,
                tails: &mut keeper.stored.tails,
            };
            let mut data = placer.place(id, number, size)?;
            keeper.see(&mut data);
            layer_files[number as usize] = Some(data);
        }
        let packed = continued
            .map(|(id, inode)| keeper.packed(id, &inode))
            .transpose()?;
        let lowest = keeper.lowest;
        if lowest < first.0 {
            return Err(AppendError::NoRoom {
                path: self.path.clone(),
                lowest,
                needed: first.0,
            }
            .into());
        }
        for (id, size, location) in compressed {
            tree.set_location(id, size, location);
        }
        let has_records = |data: &StoredData| matches!(data, StoredData::Extents(_));
        Ok(Kept {
            layer_files,
            bit48: matches!(packed, Some(KeptPacked::Records { .. }))
                || stored.files.iter().any(has_records),
            packed,
        })
    }
}

/// What the packed inode is called, which has no name.
const PACKED: &[u8] = b"the packed inode";

/// Bytes of it that are read at a time.
const PIECE: usize = 1 << 20;

/// Takes maps of the base over.
struct Keeper<'a, 'o> {
    base: &'a Base,
    tree: &'a FrozenTree,
    stored: &'a mut Stored,
    writer: &'a mut Writer<'o>,
    /// Form of the indexes of compressed files.
    index_form: IndexForm,
    /// First block with data.
    lowest: u64,
}

impl Keeper<'_, '_> {
    /// Takes note of where a file without compression is: where it was. The places of devices are found later.
    fn see(&mut self, data: &mut LayerFileData) {
        match data {
            LayerFileData::Flat {
                device,
                start,
                unified_start,
                ..
            } => {
                *unified_start = *start;
                if *device == Some(DeviceId::PRIMARY) {
                    self.lowest = self.lowest.min(start.0);
                }
            }
            LayerFileData::Chunked { pieces, .. } => {
                let own = |piece: &&ChunkPiece| piece.device == DeviceId::PRIMARY;
                let starts = pieces.iter().filter(own).map(|piece| piece.start.0);
                self.lowest = starts.fold(self.lowest, u64::min);
            }
        }
    }

    /// Writes what was inlined, and has no room behind the new inode, into a block: padded in front when it is encoded (format
    /// reference §11.4).
    fn write_tail(
        &mut self,
        bytes: &[u8],
        is_encoded: bool,
        block_bits: BlockBits,
    ) -> Result<BlockAddr, ImageError> {
        let at = self.writer.block();
        if is_encoded {
            let padding = block_bits.bytes().saturating_sub(bytes.len() as u64);
            self.writer.pad_to(self.writer.position() + padding)?;
        }
        self.writer.write(bytes)?;
        self.writer.pad_to_block()?;
        Ok(at)
    }

    /// The front of the packed inode that stays. What does not, because nothing could follow it, is read to be stored again.
    fn packed(&mut self, id: InodeId, inode: &Inode) -> Result<KeptPacked, BuildError> {
        let image = &self.base.image;
        let bits = image.superblock().block_bits;
        let unreadable = |source| self.base.unreadable(self.tree.path(id), source);
        let mut map = KeptMap::default();
        let mut all_stays = true;
        for extent in image.stored_extents(inode) {
            let extent = extent.map_err(unreadable)?;
            if extent.form == Form::Hole {
                // It might be of any size.
                let path = self.tree.path(id);
                return Err(self.base.refused(path, "a hole in the packed inode").into());
            }
            if !all_stays {
                continue;
            }
            let stays = match extent.form {
                Form::Data => map.push_flat(&extent, image),
                _ => map.push(&extent, image).is_ok(),
            };
            if !stays && let Some(data) = self.records(id, inode)? {
                // Plain data behind it would have to be interlaced too.
                if !data.interlaced {
                    let size = inode.size;
                    return Ok(KeptPacked::Records { data, size });
                }
            }
            if map.interlaced {
                map.extents.pop();
            }
            all_stays = stays && !map.interlaced;
        }
        map.extents.truncate(indexable(&map.extents, false, bits));
        self.lowest = self.lowest.min(map.lowest.unwrap_or(u64::MAX));
        let mut position: u64 = map.extents.iter().map(|e| u64::from(e.length)).sum();
        let mut piece = vec![0; PIECE];
        while position < inode.data_size() {
            let length = image
                .read(inode, position, &mut piece)
                .map_err(unreadable)?;
            let carried = piece.get(..length).unwrap_or_default();
            let fragments = &mut self.stored.fragments;
            fragments.carry(carried).map_err(ImageError::from)?;
            position += length.max(1) as u64;
        }
        let algorithm = map.algorithm;
        Ok(KeptPacked::Pclusters {
            algorithm,
            data: StoredPclusters {
                start: map.start,
                blocks: map.extents.iter().map(|e| e.blocks(bits)).sum(),
                extents: map.extents.into(),
                algorithm: algorithm.unwrap_or_else(|| self.base.algorithm()),
                interlaced: false,
                fragment: None,
                tail: None,
            },
        })
    }

    /// The records of a file, if it is one of encoded extents.
    fn records(&mut self, id: InodeId, inode: &Inode) -> Result<Option<StoredRecords>, BuildError> {
        let image = &self.base.image;
        let unreadable = |source| self.base.unreadable(self.tree.path(id), source);
        let MapRecord::Compressed {
            meaning: MapHeader::Extents(_),
            ..
        } = image.map_record(inode).map_err(unreadable)?
        else {
            return Ok(None);
        };
        let mut kept = KeptRecords::default();
        for extent in image.stored_extents(inode) {
            let extent = extent.map_err(unreadable)?;
            kept.push(&extent, image)
                .map_err(|form| self.base.refused(self.tree.path(id), form))?;
        }
        if let Some(lowest) = kept.lowest {
            let bits = image.superblock().block_bits;
            self.lowest = self.lowest.min(bits.whole_blocks(lowest));
        }
        Ok(Some(kept.into_stored(image)))
    }

    /// The pclusters of a file.
    fn pclusters(&mut self, id: InodeId, inode: &Inode) -> Result<StoredData, BuildError> {
        let (image, path) = (&self.base.image, || self.tree.path(id));
        let refused = |form| self.base.refused(path(), form);
        let bits = image.superblock().block_bits;
        let mut map = KeptMap::default();
        let (mut fragment, mut tail) = (None, None);
        for extent in image.stored_extents(inode) {
            let extent = extent.map_err(|source| self.base.unreadable(path(), source))?;
            match extent.location {
                Some(Place::Packed { offset }) => {
                    let kept = self.stored.fragments.keep(offset);
                    fragment = Some(kept.ok_or(TreeError::TooMany("fragments"))?);
                }
                Some(Place::Inline { area, offset }) => {
                    let mut bytes = vec![0; usize::try_from(extent.stored_length).unwrap_or(0)];
                    image
                        .read_metadata(Some(inode.nid()), area, offset, &mut bytes)
                        .map_err(|source| self.base.unreadable(path(), source))?;
                    tail = Some((extent, bytes));
                }
                _ => {
                    if let Err(form) = map.push(&extent, image) {
                        // Of such a form only records tell.
                        let records = self.records(id, inode)?;
                        let records = records.ok_or_else(|| self.base.refused(path(), form))?;
                        return Ok(StoredData::Extents(Box::new(records)));
                    }
                }
            }
        }
        self.lowest = self.lowest.min(map.lowest.unwrap_or(u64::MAX));
        let mut extents = map.extents;
        if let (true, Some(fragment)) = (extents.is_empty(), fragment) {
            return Ok(StoredData::Packed(fragment));
        }
        let mut algorithm = map.algorithm;
        let mut inlined = None;
        if let Some((extent, bytes)) = tail {
            let is_encoded = match extent.form {
                Form::Encoded { algorithm: own, .. } => {
                    if *algorithm.get_or_insert(own) != own {
                        return Err(refused("several algorithms in one file").into());
                    }
                    true
                }
                _ => false,
            };
            let length = u32::try_from(extent.length);
            let length = length.map_err(|_| refused("a very long extent"))?;
            let is_shared = |extent: &StoredExtent| extent.elsewhere().is_some();
            let form = match extents.iter().any(is_shared) {
                true => IndexForm::Full,
                false => self.index_form,
            };
            let attributes = self.tree.xattrs.get(self.tree.inode(id).xattrs);
            let head = EXTENDED_INODE_SIZE + XattrPlan::largest_body(attributes);
            let mut elsewhere = None;
            if bytes.len() <= usize::from(tail_room(head, inode.size, form, bits)) {
                let tail = self.stored.tails.push(&bytes).map_err(ImageError::from)?;
                inlined = Some(tail);
            } else if map.interlaced {
                return Err(refused("interlaced data with an end behind its inode").into());
            } else {
                let at = self.write_tail(&bytes, is_encoded, bits)?;
                let at = u32::try_from(at.0).ok();
                elsewhere = Some(at.ok_or_else(|| refused("an end behind block 2^32"))?);
            }
            let blocks = is_encoded.then_some(1);
            extents.push(StoredExtent::kept(length, blocks, elsewhere, false));
        }
        Ok(StoredData::Compressed(Box::new(StoredPclusters {
            start: map.start,
            blocks: map.blocks,
            extents: extents.into(),
            algorithm: algorithm.unwrap_or_else(|| self.base.algorithm()),
            interlaced: map.interlaced,
            fragment,
            tail: inlined,
        })))
    }
}
