//! Decoding pclusters, each once as far as the cache holds it.

use crate::error::{Error, Feature, Rule};
use crate::image::Image;
use crate::inode::Inode;
use crate::map::{Extent, Stored};
use erofs_codec::Decoder;
use erofs_codec::zstd::ZstdDecoder;
use erofs_format::ByteOffset;
use erofs_format::compression::Algorithm;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

/// A pcluster: what decodes to the same bytes has the same key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Pcluster {
    pub(crate) stored: Stored,
    /// Stored length in bytes, at most 1 MiB.
    pub(crate) length: u64,
    pub(crate) algorithm: Algorithm,
}

/// Decoders and buffers that are not in use at the moment; each thread that decodes takes one and gives it back.
#[derive(Default)]
pub(crate) struct DecoderPool(Mutex<Vec<Workplace>>);

#[derive(Default)]
struct Workplace {
    encoded: Vec<u8>,
    zstd: Option<Box<dyn Decoder>>,
}

impl fmt::Debug for DecoderPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DecoderPool").finish_non_exhaustive()
    }
}

impl DecoderPool {
    fn with<R>(&self, work: impl FnOnce(&mut Workplace) -> R) -> R {
        // A place is pushed or popped whole, so a poisoned list is still right.
        let lock = || self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut place = lock().pop().unwrap_or_default();
        let result = work(&mut place);
        lock().push(place);
        result
    }
}

impl Image {
    /// Fills `buffer` with the decoded bytes of `extent` from its byte `skip` on; `buffer` does not reach beyond it.
    ///
    /// A buffer for the whole extent is decoded into directly. Everything else is decoded as a whole and kept, since more
    /// of it will be asked for.
    pub(crate) fn read_encoded(
        &self,
        inode: &Inode,
        extent: &Extent,
        pcluster: &Pcluster,
        skip: u64,
        buffer: &mut [u8],
    ) -> Result<(), Error> {
        let start = usize::try_from(skip).unwrap_or(usize::MAX);
        let end = start.saturating_add(buffer.len());
        if let Some(part) = self
            .extents_cache()
            .get(*pcluster)
            .as_deref()
            .and_then(|decoded| decoded.get(start..end))
        {
            buffer.copy_from_slice(part);
            return Ok(());
        }
        let whole = usize::try_from(extent.length).unwrap_or(usize::MAX);
        if end - start == whole {
            return self.decode(inode, extent, pcluster, buffer);
        }
        // What cannot be kept is decoded only as far as needed.
        let keep = self.extents_cache().admits(whole);
        let length = if keep { whole } else { end.min(whole) };
        let mut decoded: Arc<[u8]> = std::iter::repeat_n(0, length).collect();
        let output = Arc::get_mut(&mut decoded).expect("nobody else has it yet");
        self.decode(inode, extent, pcluster, output)?;
        if let Some(part) = decoded.get(start..end) {
            buffer.copy_from_slice(part);
        }
        if keep {
            self.extents_cache().insert(*pcluster, &decoded);
        }
        Ok(())
    }

    /// Decodes the front of `extent` into `output`.
    fn decode(
        &self,
        inode: &Inode,
        extent: &Extent,
        pcluster: &Pcluster,
        output: &mut [u8],
    ) -> Result<(), Error> {
        let corrupt = |rule| inode.corrupt(rule, ByteOffset(extent.logical));
        let nid = Some(inode.nid());
        self.decoders().with(|place| {
            let length = usize::try_from(pcluster.length).unwrap_or(0);
            place.encoded.resize(length, 0);
            let first = match pcluster.stored {
                Stored::Device { device, offset } => {
                    self.devices()
                        .read_exact(nid, device, offset, &mut place.encoded)?;
                    offset
                }
                Stored::Inline { area, offset } => {
                    self.read_metadata(nid, area, offset, &mut place.encoded)?;
                    offset
                }
            };
            let decoder = match pcluster.algorithm {
                Algorithm::Zstd => {
                    let window = self.configs().zstd.map_or(0, |config| config.window_bits);
                    place
                        .zstd
                        .get_or_insert_with(|| Box::new(ZstdDecoder::new(window.into())))
                }
                other => {
                    return Err(Error::Unsupported {
                        feature: Feature::Algorithm(other),
                        nid,
                    });
                }
            };
            // Encoded data stands at the end of its pcluster; the zeros in front are less than a block
            // (`z_erofs_fixup_insize`, fs/erofs/decompressor.c).
            let bits = self.superblock().block_bits;
            let limit = bits.bytes() - bits.offset_in_block(first.0);
            let padding = place.encoded.iter().position(|byte| *byte != 0);
            let encoded = padding
                .filter(|padding| (*padding as u64) < limit)
                .and_then(|padding| place.encoded.get(padding..))
                .ok_or_else(|| corrupt(Rule::OnlyPadding))?;
            decoder
                .decode(encoded, output)
                .map_err(|error| corrupt(Rule::Decode(error)))
        })
    }
}
