//! An inode as stored: its record, and how its data is found.

use crate::error::{Error, Rule};
use crate::image::Image;
use crate::inode::Inode;
use erofs_format::chunk::ChunkFormat;
use erofs_format::compression::compact_index;
use erofs_format::compression::full_index;
use erofs_format::compression::map_header::{
    self, Advise, ExtentRecords, MAP_HEADER_SIZE, MapHeader, RawMapHeader,
};
use erofs_format::inode::{
    COMPACT_INODE_SIZE, DataLayout, EXTENDED_INODE_SIZE, InodePayload, RawCompactInode,
    RawExtendedInode,
};
use erofs_format::record;
use erofs_format::{ByteOffset, Nid};

/// An inode's record as stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RawInode {
    /// 32 bytes.
    Compact(RawCompactInode),
    /// 64 bytes.
    Extended(RawExtendedInode),
}

/// What stands behind an inode's xattrs, and says where its data is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MapRecord {
    /// Flat layouts, and files without data.
    None,
    /// A chunk table.
    Chunks {
        /// Its format.
        format: ChunkFormat,
        /// Its place in the inode's area.
        table: ByteOffset,
        /// Number of entries.
        entries: u64,
    },
    /// A map header, and for most files an index.
    Compressed {
        /// Place of the header in the inode's area.
        header: ByteOffset,
        /// The header as stored.
        raw: RawMapHeader,
        /// What it means.
        meaning: MapHeader,
        /// Its index; `None` when the whole file is a fragment.
        index: Option<IndexRecord>,
    },
}

/// Where an index of a compressed file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IndexRecord {
    /// Its first byte in the inode's area.
    pub start: ByteOffset,
    /// Its size in bytes, without an inlined tail behind it.
    pub size: u64,
    /// Number of its records: lclusters, or encoded extents.
    pub records: u64,
}

impl Image {
    /// The record of an inode as stored.
    ///
    /// # Errors
    /// I/O errors.
    pub fn raw_inode(&self, inode: &Inode) -> Result<RawInode, Error> {
        let (area, offset) = inode.position();
        let truncated = |_| inode.corrupt(Rule::Overflow, offset);
        let mut bytes = [0; EXTENDED_INODE_SIZE as usize];
        let length = usize::try_from(inode.core_size()).unwrap_or(COMPACT_INODE_SIZE as usize);
        let core = bytes.get_mut(..length).unwrap_or_default();
        self.read_metadata(Some(inode.nid()), area, offset, core)?;
        Ok(if inode.extended {
            RawInode::Extended(record::read(&bytes, "extended inode").map_err(truncated)?)
        } else {
            RawInode::Compact(record::read(&bytes, "inode").map_err(truncated)?)
        })
    }

    /// How the data of an inode is found.
    ///
    /// # Errors
    /// [`Error::Corrupt`] for a map header or chunk format that breaks a rule; I/O errors.
    pub fn map_record(&self, inode: &Inode) -> Result<MapRecord, Error> {
        if inode.data_size() == 0 {
            return Ok(MapRecord::None);
        }
        match (inode.layout, inode.payload) {
            (DataLayout::ChunkBased, InodePayload::ChunkFormat(format)) => {
                let place = inode.position().1;
                let format = ChunkFormat::decode(format)
                    .map_err(|error| inode.corrupt(Rule::ChunkFormat(error), place))?;
                let bits = self.superblock().block_bits;
                Ok(MapRecord::Chunks {
                    format,
                    table: inode.after_xattrs(format.entry_size())?,
                    entries: format.chunk_count(inode.data_size(), bits),
                })
            }
            (DataLayout::CompressedFull | DataLayout::CompressedCompact, _) => {
                self.compressed_record(inode)
            }
            _ => Ok(MapRecord::None),
        }
    }

    fn compressed_record(&self, inode: &Inode) -> Result<MapRecord, Error> {
        let end = inode.after_xattrs(1)?;
        let overflow = || inode.corrupt(Rule::Overflow, end);
        let header = map_header::position(end).ok_or_else(overflow)?;
        let mut bytes = [0; MAP_HEADER_SIZE as usize];
        self.read_metadata(Some(inode.nid()), inode.position().0, header, &mut bytes)?;
        let raw = record::read(&bytes, "map header").map_err(|_| overflow())?;
        let meaning = MapHeader::decode(&bytes, inode.layout, self.superblock())
            .map_err(|error| inode.corrupt(Rule::MapHeader(error), header))?;
        let index = index_record(inode, header, &meaning);
        if index.is_none() && !matches!(meaning, MapHeader::Fragment { .. }) {
            return Err(overflow());
        }
        Ok(MapRecord::Compressed {
            header,
            raw,
            meaning,
            index,
        })
    }
}

fn index_record(inode: &Inode, header: ByteOffset, meaning: &MapHeader) -> Option<IndexRecord> {
    let size = inode.data_size();
    let pieces = |bits: u8| (size >> bits) + u64::from(size & ((1 << bits) - 1) != 0);
    Some(match meaning {
        MapHeader::Fragment { .. } => return None,
        MapHeader::Index(index) if inode.layout == DataLayout::CompressedCompact => {
            let start = compact_index::position(header)?;
            let two_byte = index.advise.contains(Advise::COMPACTED_2B);
            let records = pieces(index.lcluster_bits);
            IndexRecord {
                start,
                size: compact_index::Layout::new(start, records, two_byte).size(),
                records,
            }
        }
        MapHeader::Index(index) => {
            let start = full_index::position(header, 0)?;
            let records = pieces(index.lcluster_bits);
            IndexRecord {
                start,
                size: full_index::position(header, records)?.0 - start.0,
                records,
            }
        }
        MapHeader::Extents(extents) => {
            let record_size = extents.records.record_size();
            let start = record_size.table(header)?;
            let records = match extents.records {
                ExtentRecords::Sequential { extent_bits }
                | ExtentRecords::Scattered { extent_bits } => pieces(extent_bits),
                ExtentRecords::Listed { count } | ExtentRecords::ListedWide { count } => count,
            };
            IndexRecord {
                start,
                size: record_size.position(start, records)?.0 - start.0,
                records,
            }
        }
    })
}

/// Finds paths of inodes.
impl Image {
    /// The first path, in listing order, that leads to the inode `nid`: without a leading slash, empty for the root.
    /// Reads directories until it is found.
    ///
    /// # Errors
    /// As [`Image::root`]. Directories that cannot be read are passed over.
    pub fn path_of(&self, nid: Nid) -> Result<Option<Vec<u8>>, Error> {
        let mut names = self.names_from(&self.root()?);
        while let Some(name) = names.next() {
            if let Ok(name) = name
                && name.nid == nid
            {
                return Ok(Some(name.path.to_vec()));
            }
        }
        Ok(None)
    }
}
