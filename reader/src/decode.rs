//! Decoding pclusters, each once as far as the cache holds it.

use crate::cache::Lookup;
use crate::error::{Error, Feature, Rule};
use crate::image::Image;
use crate::inode::Inode;
use crate::map::Stored;
use erofs_codec::deflate::DeflateDecoder;
use erofs_codec::lz4::Lz4Decoder;
use erofs_codec::lzma::LzmaDecoder;
#[cfg(feature = "zstd")]
use erofs_codec::zstd::ZstdDecoder;
use erofs_codec::{Decoder, Ending};
use erofs_format::ByteOffset;
use erofs_format::compression::Algorithm;
use erofs_format::compression::config::AlgorithmConfigs;
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

/// An extent that is encoded.
#[derive(Debug, Clone, Copy)]
pub(crate) struct EncodedExtent {
    pub(crate) pcluster: Pcluster,
    /// First byte in the file.
    pub(crate) logical: u64,
    /// Decoded length in bytes, at most 12 MiB.
    pub(crate) length: u64,
    /// The pcluster may decode to more.
    pub(crate) partial: bool,
}

/// Decoders and buffers that are not in use at the moment; each thread that decodes takes one and gives it back.
#[derive(Default)]
pub(crate) struct DecoderPool(Mutex<Vec<Workplace>>);

/// What decoding one pcluster needs. Decoders with a state worth keeping are made when they are first needed.
#[derive(Default)]
struct Workplace {
    encoded: Vec<u8>,
    lz4: Lz4Decoder,
    lzma: Option<LzmaDecoder>,
    deflate: Option<DeflateDecoder>,
    #[cfg(feature = "zstd")]
    zstd: Option<ZstdDecoder>,
}

impl Workplace {
    /// The bytes to decode and the decoder for them, if this reader was built with it.
    fn decoder(
        &mut self,
        algorithm: Algorithm,
        configs: &AlgorithmConfigs,
    ) -> Option<(&[u8], &mut dyn Decoder)> {
        let decoder: &mut dyn Decoder = match algorithm {
            Algorithm::Lz4 => &mut self.lz4,
            Algorithm::Lzma => self.lzma.get_or_insert_with(|| {
                LzmaDecoder::new(configs.lzma.map_or(0, |config| config.dictionary_size))
            }),
            Algorithm::Deflate => self.deflate.get_or_insert_default(),
            #[cfg(feature = "zstd")]
            Algorithm::Zstd => self.zstd.get_or_insert_with(|| {
                ZstdDecoder::new(configs.zstd.map_or(0, |config| config.window_bits.into()))
            }),
            #[cfg(not(feature = "zstd"))]
            Algorithm::Zstd => return None,
        };
        Some((&self.encoded, decoder))
    }
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
    /// of it will be asked for; who asks meanwhile waits for it.
    pub(crate) fn read_encoded(
        &self,
        inode: &Inode,
        extent: &EncodedExtent,
        skip: u64,
        buffer: &mut [u8],
    ) -> Result<(), Error> {
        let start = usize::try_from(skip).unwrap_or(usize::MAX);
        let end = start.saturating_add(buffer.len());
        let whole = usize::try_from(extent.length).unwrap_or(usize::MAX);
        let cache = self.extents_cache();
        let decoded = if end - start == whole {
            match cache.get(extent.pcluster, end) {
                Some(decoded) => decoded,
                None => return self.decode_checked(inode, extent, buffer),
            }
        } else if !cache.admits(whole) {
            // What cannot be kept is decoded only as far as needed.
            let mut decoded = vec![0; end.min(whole)];
            self.decode_checked(inode, extent, &mut decoded)?;
            decoded.into()
        } else {
            match cache.get_or_lead(extent.pcluster, end) {
                Lookup::Found(decoded) => decoded,
                Lookup::Lead(lead) => {
                    let mut decoded: Arc<[u8]> = std::iter::repeat_n(0, whole).collect();
                    let output = Arc::get_mut(&mut decoded).expect("nobody else has it yet");
                    self.decode_checked(inode, extent, output)?;
                    lead.insert(&decoded);
                    decoded
                }
            }
        };
        if let Some(part) = decoded.get(start..end) {
            buffer.copy_from_slice(part);
        }
        Ok(())
    }

    /// Decodes the front of `extent` into `output`, and holds a whole extent to what the kernel asks of its end.
    fn decode_checked(
        &self,
        inode: &Inode,
        extent: &EncodedExtent,
        output: &mut [u8],
    ) -> Result<(), Error> {
        let whole = output.len() as u64 == extent.length;
        let ending = self.decode(inode, extent, output)?;
        if !whole || extent.partial {
            return Ok(());
        }
        let rule = match (extent.pcluster.algorithm, ending) {
            // fs/erofs/decompressor_zstd.c stops when the output is full.
            (_, Ending::Exact) | (Algorithm::Zstd, _) => return Ok(()),
            // fs/erofs/decompressor_deflate.c wants the end of the stream, not of the pcluster.
            (Algorithm::Deflate, Ending::Trailing { .. }) => return Ok(()),
            // The kernel knows only the front of such an extent (`z_erofs_map_blocks_fo`, fs/erofs/zmap.c), so it
            // asks for no end.
            (Algorithm::Lz4, _) => return Ok(()),
            (_, Ending::Trailing { bytes }) => Rule::TrailingBytes { bytes },
            (_, Ending::Open) => Rule::LongerThanExtent,
        };
        Err(inode.corrupt(rule, ByteOffset(extent.logical)))
    }

    /// Decodes the front of `extent` into `output`, and tells where the encoded data ends.
    pub(crate) fn decode(
        &self,
        inode: &Inode,
        extent: &EncodedExtent,
        output: &mut [u8],
    ) -> Result<Ending, Error> {
        let corrupt = |rule| inode.corrupt(rule, ByteOffset(extent.logical));
        let nid = Some(inode.nid());
        let pcluster = &extent.pcluster;
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
            let (encoded, decoder) =
                place
                    .decoder(pcluster.algorithm, self.configs())
                    .ok_or(Error::Unsupported {
                        feature: Feature::Algorithm(pcluster.algorithm),
                        nid,
                    })?;
            // Encoded data stands at the end of its pcluster; the zeros in front are less than a block
            // (`z_erofs_fixup_insize`, fs/erofs/decompressor.c).
            let bits = self.superblock().block_bits;
            let limit = bits.bytes() - bits.offset_in_block(first.0);
            let padding = encoded.iter().position(|byte| *byte != 0);
            let encoded = padding
                .filter(|padding| (*padding as u64) < limit)
                .and_then(|padding| encoded.get(padding..))
                .ok_or_else(|| corrupt(Rule::OnlyPadding))?;
            decoder
                .decode(encoded, output)
                .map_err(|error| corrupt(Rule::Decode(error)))
        })
    }
}
