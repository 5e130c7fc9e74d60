//! The packed inode, and the one of a base that is continued.

use super::options::BuildOptions;
use crate::data::compression::{Compression, Method};
use crate::data::encode::StoredExtent;
use crate::data::fragments::{Fragments, Offsets, PackedFile};
use crate::data::packing::{Packed, length, pack, pack_behind};
use crate::data::pipeline::Settings;
use crate::data::writer::Writer;
use crate::data::{StoredData, StoredPclusters, StoredRecords};
use crate::options::BuildError;
use crate::plan::encoded_extents::FileExtents;
use crate::plan::most_frequent_time;
use crate::tree::{FrozenTree, Location, TreeError};
use erofs_format::compression::Algorithm;
use erofs_format::compression::encoded_extent::ExtentRecord;
use std::io;

/// The front of a packed inode that others follow.
#[derive(Debug)]
pub(super) enum KeptPacked {
    /// Whole blocks. What does not stay waits to be stored again.
    Pclusters {
        /// Where they are; of their length others may follow.
        data: StoredPclusters,
        /// How all that is encoded of them is; `None` when nothing is.
        algorithm: Option<Algorithm>,
    },
    /// All of it, as records tell.
    Records {
        /// Where it is.
        data: StoredRecords,
        /// Its size in bytes.
        size: u64,
    },
}

/// How new fragments are compressed: behind others, of whose map not each record names one, by the algorithm of these.
pub(super) fn packed_method(options: &BuildOptions, before: Option<&KeptPacked>) -> Option<Method> {
    let compression = options.compression.as_ref()?;
    match before {
        Some(KeptPacked::Pclusters {
            algorithm: Some(algorithm),
            ..
        }) => compression.packed_method_by(*algorithm),
        _ => Compression::packed_method(compression),
    }
}

impl KeptPacked {
    /// Size of that front in bytes.
    fn size(&self) -> u64 {
        match self {
            Self::Pclusters { data, .. } => length(&data.extents),
            Self::Records { size, .. } => *size,
        }
    }
}

/// What is to be written of the packed inode.
#[derive(Debug)]
pub(super) struct PackedContent {
    before: Option<KeptPacked>,
    file: PackedFile,
    /// Whether anything of it is not written yet.
    is_new: bool,
}

impl PackedContent {
    /// All fragments, behind what stays.
    pub(super) fn new(fragments: Fragments, before: Option<KeptPacked>) -> Self {
        let start = before.as_ref().map_or(0, KeptPacked::size);
        Self {
            is_new: fragments.are_waiting(),
            file: fragments.arrange(start),
            before,
        }
    }

    /// Its size in bytes, with what stays.
    pub(super) const fn size(&self) -> u64 {
        self.file.size()
    }

    /// Whether anything of it is not written yet.
    pub(super) const fn is_new(&self) -> bool {
        self.is_new
    }

    /// Where the fragments are.
    pub(super) const fn offsets(&self) -> &Offsets {
        self.file.offsets()
    }

    /// Appends what is no fragment of a file.
    pub(super) fn push(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.is_new = true;
        self.file.push(bytes)
    }

    /// Writes it, if anything of it is new, and gives the tree a packed inode that has it. `files` takes where it is.
    pub(super) fn store(
        self,
        tree: &mut FrozenTree,
        files: &mut Vec<StoredData>,
        method: Option<Method>,
        settings: Settings,
        writer: &mut Writer<'_>,
    ) -> Result<Offsets, BuildError> {
        let Self {
            before,
            file,
            is_new,
        } = self;
        let Some(method) = method.filter(|_| is_new) else {
            return Ok(file.into_offsets());
        };
        let packed = match before {
            None => pack(0, file, method, settings, writer)?,
            Some(KeptPacked::Pclusters { data, .. }) => {
                pack_behind(data, file, method, settings, writer)?
            }
            Some(KeptPacked::Records { data, size }) => {
                pack_behind_records(data, size, file, method, settings, writer)?
            }
        };
        let number = u32::try_from(files.len()).map_err(|_| TreeError::TooMany("files"))?;
        files.push(packed.data);
        let location = Location::Stored(number);
        match tree.packed() {
            Some(id) => tree.set_location(id, packed.size, location),
            None => tree.add_packed(packed.size, location, most_frequent_time(tree))?,
        }
        Ok(packed.offsets)
    }
}

/// Writes what follows the `size` bytes of which `before` tells.
fn pack_behind_records(
    before: StoredRecords,
    size: u64,
    file: PackedFile,
    method: Method,
    settings: Settings,
    writer: &mut Writer<'_>,
) -> Result<Packed, BuildError> {
    let block_bits = settings.block_bits;
    let first = writer.block();
    let packed = pack(size, file, method, settings, writer)?;
    let length = packed.size - size;
    let plain;
    let (start, extents) = match &packed.data {
        StoredData::Compressed(new) => (new.start, &*new.extents),
        // As it is, where that is no larger.
        _ => {
            plain = StoredExtent::plain_run(length, first, block_bits).collect::<Vec<_>>();
            (first, &*plain)
        }
    };
    let new = FileExtents {
        size: length,
        start,
        extents,
        algorithm: method.settings.algorithm(),
        fragment: None,
        block_bits,
    };
    let new = new.records().map(|record| ExtentRecord {
        start: size + record.start,
        ..record
    });
    let data = StoredRecords {
        records: before.records.iter().copied().chain(new).collect(),
        blocks: before.blocks + (writer.block().0 - first.0),
        ..before
    };
    let data = StoredData::Extents(Box::new(data));
    Ok(Packed { data, ..packed })
}
