//! The packed inode, and the one of a base that is continued.

use super::options::BuildOptions;
use crate::data::compression::{Compression, Method};
use crate::data::encode::StoredExtent;
use crate::data::fragments::Offsets;
use crate::data::packing::{Packed, pack, pack_behind};
use crate::data::pipeline::{Settings, Stored};
use crate::data::writer::Writer;
use crate::data::{StoredData, StoredPclusters, StoredRecords};
use crate::options::BuildError;
use crate::plan::encoded_extents::FileExtents;
use crate::plan::most_frequent_time;
use crate::tree::{FrozenTree, Location, TreeError};
use erofs_format::compression::Algorithm;
use erofs_format::compression::encoded_extent::ExtentRecord;

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

/// Writes the fragments, if there are any that are not stored yet, and adds the packed inode to the tree, or what is new of it.
pub(super) fn store_fragments(
    tree: &mut FrozenTree,
    stored: &mut Stored,
    before: Option<KeptPacked>,
    method: Option<Method>,
    settings: Settings,
    writer: &mut Writer<'_>,
) -> Result<Offsets, BuildError> {
    let fragments = std::mem::take(&mut stored.fragments);
    let Some(method) = method.filter(|_| fragments.are_waiting()) else {
        return Ok(fragments.arrange(0).into_offsets());
    };
    let packed = match before {
        None => pack(0, fragments, method, settings, writer)?,
        Some(KeptPacked::Pclusters { data, .. }) => {
            pack_behind(data, fragments, method, settings, writer)?
        }
        Some(KeptPacked::Records { data, size }) => {
            let block_bits = settings.block_bits;
            let first = writer.block();
            let packed = pack(size, fragments, method, settings, writer)?;
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
                records: data.records.iter().copied().chain(new).collect(),
                blocks: data.blocks + (writer.block().0 - first.0),
                ..data
            };
            let data = StoredData::Extents(Box::new(data));
            Packed { data, ..packed }
        }
    };
    let number = u32::try_from(stored.files.len()).map_err(|_| TreeError::TooMany("files"))?;
    stored.files.push(packed.data);
    let location = Location::Stored(number);
    match tree.packed() {
        Some(id) => tree.set_location(id, packed.size, location),
        None => tree.add_packed(packed.size, location, most_frequent_time(tree))?,
    }
    Ok(packed.offsets)
}
