//! Decoding pclusters, each once as far as the cache holds it.

use crate::cache::Lookup;
use crate::error::{Error, Feature, Rule};
use crate::image::Image;
use crate::map::Stored;
use erofs_codec::deflate::DeflateDecoder;
use erofs_codec::lz4::Lz4Decoder;
use erofs_codec::lzma::LzmaDecoder;
#[cfg(feature = "zstd")]
use erofs_codec::zstd::ZstdDecoder;
use erofs_codec::{Decoder, Ending};
use erofs_format::compression::Algorithm;
use erofs_format::compression::config::AlgorithmConfigs;
use erofs_format::{ByteOffset, DeviceId, Nid};
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

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

impl EncodedExtent {
    fn corrupt(&self, nid: Nid, rule: Rule) -> Error {
        Error::Corrupt {
            rule,
            nid: Some(nid),
            offset: ByteOffset(self.logical),
        }
    }
}

/// Most stored bytes that are read at once: they are decoded while they are still in the processor's cache.
const READ_AT_ONCE: usize = 64 << 10;

/// Workplaces that are not in use at the moment; each thread that decodes takes one and gives it back.
#[derive(Default)]
pub(crate) struct DecoderPool {
    places: Mutex<Vec<Workplace>>,
    decoded: AtomicU64,
}

/// What decoding needs, for some pclusters.
#[derive(Default)]
struct Workplace {
    stored: StoredBytes,
    decoders: Decoders,
    /// For what is decoded and not wanted.
    room: Vec<u8>,
}

/// A workplace that is given back when this is dropped.
pub(crate) struct Lease<'a> {
    pool: &'a DecoderPool,
    place: Workplace,
    /// Bytes that were decoded, as wanted.
    decoded: u64,
}

/// Bytes of a device that were read.
#[derive(Default)]
struct StoredBytes {
    /// Grows only.
    buffer: Vec<u8>,
    /// How many bytes of the buffer are from where, if any.
    held: Option<(DeviceId, ByteOffset, usize)>,
}

/// Decoders with a state worth keeping are made when they are first needed.
#[derive(Default)]
struct Decoders {
    lz4: Lz4Decoder,
    lzma: Option<LzmaDecoder>,
    deflate: Option<DeflateDecoder>,
    #[cfg(feature = "zstd")]
    zstd: Option<ZstdDecoder>,
}

impl StoredBytes {
    /// The bytes of a pcluster. If they have to be read, what follows them on the device is read too, up to `ahead` bytes
    /// in all.
    fn of(
        &mut self,
        image: &Image,
        nid: Nid,
        pcluster: &Pcluster,
        ahead: usize,
    ) -> Result<&[u8], Error> {
        let length = usize::try_from(pcluster.length).unwrap_or(0);
        let (device, offset) = match pcluster.stored {
            Stored::Device { device, offset } => (device, offset),
            Stored::Inline { area, offset } => {
                self.held = None;
                let buffer = self.room(length);
                image.read_metadata(Some(nid), area, offset, buffer)?;
                return Ok(buffer);
            }
        };
        let start = self.start_of(device, offset, length);
        let start = match start {
            Some(start) => start,
            None => {
                self.held = None;
                let ahead = ahead.min(READ_AT_ONCE).max(length);
                let buffer = self.room(ahead);
                let filled = match image.devices().read_up_to(device, offset, buffer) {
                    Ok(filled) if filled >= length => filled,
                    // What follows may be what cannot be read.
                    _ => {
                        let buffer = buffer.get_mut(..length).unwrap_or_default();
                        image
                            .devices()
                            .read_exact(Some(nid), device, offset, buffer)?;
                        length
                    }
                };
                self.held = Some((device, offset, filled));
                0
            }
        };
        Ok(self.buffer.get(start..start + length).unwrap_or_default())
    }

    /// Where in the buffer a range of a device is, if it was read.
    fn start_of(&self, device: DeviceId, offset: ByteOffset, length: usize) -> Option<usize> {
        let (_, first, filled) = self.held.filter(|held| held.0 == device)?;
        let start = usize::try_from(offset.0.checked_sub(first.0)?).ok()?;
        (start.checked_add(length)? <= filled).then_some(start)
    }

    /// The front of the buffer, of any content.
    fn room(&mut self, length: usize) -> &mut [u8] {
        if self.buffer.len() < length {
            self.buffer.resize(length, 0);
        }
        self.buffer.get_mut(..length).unwrap_or_default()
    }
}

impl Decoders {
    /// The decoder for an algorithm, if this reader was built with it.
    fn of(&mut self, algorithm: Algorithm, configs: &AlgorithmConfigs) -> Option<&mut dyn Decoder> {
        Some(match algorithm {
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
        })
    }
}

impl fmt::Debug for DecoderPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DecoderPool").finish_non_exhaustive()
    }
}

impl DecoderPool {
    pub(crate) fn lease(&self) -> Lease<'_> {
        let mut place = self.places().pop().unwrap_or_default();
        place.stored.held = None;
        Lease {
            pool: self,
            place,
            decoded: 0,
        }
    }

    /// Bytes that were decoded in all leases that have ended, also those of extents that then turned out to be broken.
    pub(crate) fn decoded(&self) -> u64 {
        self.decoded.load(Ordering::Relaxed)
    }

    fn places(&self) -> MutexGuard<'_, Vec<Workplace>> {
        // A place is pushed or popped whole, so a poisoned list is still right.
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Lease<'_> {
    fn drop(&mut self) {
        let place = std::mem::take(&mut self.place);
        self.pool.places().push(place);
        self.pool.decoded.fetch_add(self.decoded, Ordering::Relaxed);
    }
}

impl Image {
    /// Fills `buffer` with the decoded bytes of `extent` from its byte `skip` on; `buffer` does not reach beyond it.
    ///
    /// A buffer for the whole extent is decoded into directly. Everything else is decoded as a whole and kept, since more
    /// of it will be asked for; who asks meanwhile waits for it.
    ///
    /// `ahead` is how many stored bytes from the extent's on are wanted soon.
    pub(crate) fn read_encoded(
        &self,
        lease: &mut Lease<'_>,
        nid: Nid,
        extent: &EncodedExtent,
        skip: u64,
        ahead: usize,
        buffer: &mut [u8],
    ) -> Result<(), Error> {
        let start = usize::try_from(skip).unwrap_or(usize::MAX);
        let end = start.saturating_add(buffer.len());
        let whole = usize::try_from(extent.length).unwrap_or(usize::MAX);
        let cache = self.extents_cache();
        let decoded = if end - start == whole {
            match cache.get(extent.pcluster, end) {
                Some(decoded) => decoded,
                None => return self.decode_checked(lease, nid, extent, ahead, buffer),
            }
        } else if !cache.admits(whole) {
            // What cannot be kept is decoded only as far as needed.
            let mut decoded = vec![0; end.min(whole)];
            self.decode_checked(lease, nid, extent, ahead, &mut decoded)?;
            decoded.into()
        } else {
            match cache.get_or_lead(extent.pcluster, end) {
                Lookup::Found(decoded) => decoded,
                Lookup::Lead(lead) => {
                    let mut decoded: Arc<[u8]> = std::iter::repeat_n(0, whole).collect();
                    let output = Arc::get_mut(&mut decoded).expect("nobody else has it yet");
                    match self.decode_checked(lease, nid, extent, ahead, output) {
                        Ok(()) => {
                            lead.insert(&decoded);
                            decoded
                        }
                        // What is asked for may lie in front of what is broken. Linux decodes no further and reads it.
                        Err(error) if end < whole => {
                            drop(lead);
                            let mut decoded = vec![0; end];
                            self.decode_checked(lease, nid, extent, ahead, &mut decoded)
                                .map_err(|_| error)?;
                            decoded.into()
                        }
                        Err(error) => return Err(error),
                    }
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
        lease: &mut Lease<'_>,
        nid: Nid,
        extent: &EncodedExtent,
        ahead: usize,
        output: &mut [u8],
    ) -> Result<(), Error> {
        let whole = output.len() as u64 == extent.length;
        let ending = self.decode(lease, nid, extent, ahead, output)?;
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
        Err(extent.corrupt(nid, rule))
    }

    /// Decodes the front of `extent` into `output`, and tells where the encoded data ends; `ahead` as above.
    pub(crate) fn decode(
        &self,
        lease: &mut Lease<'_>,
        nid: Nid,
        extent: &EncodedExtent,
        ahead: usize,
        output: &mut [u8],
    ) -> Result<Ending, Error> {
        lease.decoded = lease.decoded.saturating_add(output.len() as u64);
        let Workplace {
            stored, decoders, ..
        } = &mut lease.place;
        let (decoder, encoded) = self.encoded(stored, decoders, nid, extent, ahead)?;
        decoder
            .decode(encoded, output)
            .map_err(|error| extent.corrupt(nid, Rule::Decode(error)))
    }

    /// Tells what [`Image::decode`] would of the whole extent, for who does not want its bytes.
    pub(crate) fn verify(
        &self,
        lease: &mut Lease<'_>,
        nid: Nid,
        extent: &EncodedExtent,
        ahead: usize,
    ) -> Result<Ending, Error> {
        let length = usize::try_from(extent.length).unwrap_or(usize::MAX);
        lease.decoded = lease.decoded.saturating_add(extent.length);
        let Workplace {
            stored,
            decoders,
            room,
        } = &mut lease.place;
        let (decoder, encoded) = self.encoded(stored, decoders, nid, extent, ahead)?;
        decoder
            .verify(encoded, length, room)
            .map_err(|error| extent.corrupt(nid, Rule::Decode(error)))
    }

    /// The encoded data of `extent`, and what decodes it.
    fn encoded<'a>(
        &self,
        stored: &'a mut StoredBytes,
        decoders: &'a mut Decoders,
        nid: Nid,
        extent: &EncodedExtent,
        ahead: usize,
    ) -> Result<(&'a mut dyn Decoder, &'a [u8]), Error> {
        let pcluster = &extent.pcluster;
        let encoded = stored.of(self, nid, pcluster, ahead)?;
        let decoder =
            decoders
                .of(pcluster.algorithm, self.configs())
                .ok_or(Error::Unsupported {
                    feature: Feature::Algorithm(pcluster.algorithm),
                    nid: Some(nid),
                })?;
        // Encoded data stands at the end of its pcluster; the zeros in front are less than a block
        // (`z_erofs_fixup_insize`, fs/erofs/decompressor.c).
        let (Stored::Device { offset, .. } | Stored::Inline { offset, .. }) = pcluster.stored;
        let bits = self.superblock().block_bits;
        let limit = bits.bytes() - bits.offset_in_block(offset.0);
        let padding = encoded.iter().position(|byte| *byte != 0);
        let encoded = padding
            .filter(|padding| (*padding as u64) < limit)
            .and_then(|padding| encoded.get(padding..))
            .ok_or_else(|| extent.corrupt(nid, Rule::OnlyPadding))?;
        Ok((decoder, encoded))
    }
}
