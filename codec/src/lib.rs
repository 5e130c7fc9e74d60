//! Compression codecs that fill a fixed output.
//!
//! An EROFS pcluster has a fixed size in blocks on disk and covers as much file
//! data as its encoding holds, so an encoder is not asked "how small does this
//! get?" but "how much of this fits here?". [`Encoder`] answers that question,
//! [`Decoder`] undoes it for the whole or for a prefix of what was encoded.
//!
//! | feature | codec | code |
//! |---|---|---|
//! | – | [`lz4`]: `Lz4Encoder`, `Lz4HcEncoder`, `Lz4Decoder` | ours |
//! | – | [`lzma`]: `LzmaEncoder`, `LzmaDecoder` | Rust, lzma-rust2; ours |
//! | – | [`deflate`]: `DeflateEncoder`, `DeflateDecoder` | ours; Rust, zlib-rs |
//! | `zstd` (default) | [`zstd`]: `ZstdEncoder`, `ZstdDecoder` | C, through zstd-safe |
//!
//! With `--no-default-features` no C is built: all but Zstd remains.
//!
//! Encoders are deterministic: after [`Encoder::restart`] the bytes produced
//! depend only on the parameters and on the data given since, so any number of
//! workers writes the same image.
//!
//! Two private modules have `unsafe`: the hot loop of the LZ4 decoder (`lz4/wild.rs`)
//! and the bits of the LZMA decoder (`lzma/range`).
#![deny(unsafe_code)]

pub mod compressibility;
pub mod deflate;
pub mod lz4;
pub mod lzma;
#[cfg(feature = "zstd")]
pub mod zstd;

/// Bytes per EROFS block for which the encoders decide whether encoding pays
/// and where a pcluster may end. Images with larger blocks only lose the
/// option to end early.
pub const BLOCK: usize = 4096;

/// What [`Encoder::fill`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fill {
    /// Bytes of the input that the encoding covers, from its start.
    pub consumed: usize,
    /// Bytes written to the front of the output.
    pub encoded: usize,
}

/// Encodes prefixes of data into outputs of a given size.
pub trait Encoder: Send {
    /// Encodes the longest prefix of `input` it finds with bounded effort whose
    /// encoding fits `output`, as one self-contained unit (Zstd: one frame).
    ///
    /// `input` may be far longer than what fits: only what is needed is read.
    /// When all of `input` fits it is taken whole. The unit may be shorter than
    /// `output` by whole [`BLOCK`]s where that is the better cut.
    ///
    /// `Ok(None)`: the data does not compress, that is, the encoding would need
    /// as many blocks as the bytes it covers. The caller stores the data plain,
    /// best about `output.len()` bytes of it before it asks again. The content
    /// of `output` is then unspecified.
    ///
    /// # Errors
    /// [`EncodeError`] if the codec itself fails; data alone is never a reason.
    fn fill(&mut self, input: &[u8], output: &mut [u8]) -> Result<Option<Fill>, EncodeError>;

    /// Forgets what earlier data taught about how well data compresses. Call at
    /// the start of each independently encoded segment.
    fn restart(&mut self);
}

/// Decodes units made by the matching [`Encoder`].
pub trait Decoder: Send {
    /// Decodes `encoded`, one whole unit without the zero padding in front of
    /// it, fills `output` exactly, and tells where the unit ends.
    ///
    /// `output` may be shorter than what the unit decodes to: then only that
    /// prefix is decoded, and what follows it in `encoded` is not checked.
    ///
    /// # Errors
    /// [`DecodeError`] for anything that does not decode to at least
    /// `output.len()` bytes. The content of `output` is then unspecified.
    fn decode(&mut self, encoded: &[u8], output: &mut [u8]) -> Result<Ending, DecodeError>;

    /// Tells what [`Decoder::decode`] would of an output of `length` bytes, for
    /// who does not want them. `room` grows as needed and holds nothing.
    ///
    /// # Errors
    /// As [`Decoder::decode`].
    fn verify(
        &mut self,
        encoded: &[u8],
        length: usize,
        room: &mut Vec<u8>,
    ) -> Result<Ending, DecodeError> {
        if room.len() < length {
            room.resize(length, 0);
        }
        self.decode(encoded, room.get_mut(..length).unwrap_or_default())
    }
}

/// Where a unit ends that filled the output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// With the last byte of the output and the last encoded byte. LZMA may tell
    /// so of a prefix too, when what is left takes no bits of its own.
    Exact,
    /// With the last byte of the output, before the last encoded byte. Never
    /// told of LZ4, whose blocks have no mark at their end.
    Trailing {
        /// Encoded bytes behind the end of the unit.
        bytes: usize,
    },
    /// Not with the last byte of the output: there is more to decode, or what
    /// follows is cut off or corrupt.
    Open,
}

/// Why an encoder could not be made or failed.
#[derive(Debug, thiserror::Error)]
pub enum EncodeError {
    /// A parameter outside its range.
    #[error("{name} is {value}, allowed are {min} to {max}")]
    Parameter {
        /// The parameter's name.
        name: &'static str,
        /// The value asked for.
        value: i64,
        /// The smallest value allowed.
        min: i64,
        /// The largest value allowed.
        max: i64,
    },
    /// The codec library reported an error.
    #[error("{codec} encoder: {reason}")]
    Library {
        /// The codec's name.
        codec: &'static str,
        /// What the library says.
        reason: &'static str,
    },
}

impl EncodeError {
    /// Refuses a parameter outside its range.
    fn check(
        name: &'static str,
        value: i64,
        range: std::ops::RangeInclusive<i64>,
    ) -> Result<(), Self> {
        if range.contains(&value) {
            return Ok(());
        }
        Err(Self::Parameter {
            name,
            value,
            min: *range.start(),
            max: *range.end(),
        })
    }
}

/// Which rule an encoded unit breaks.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The unit does not begin with what its format asks for.
    #[error("{codec} header: {reason}")]
    Header {
        /// The codec's name.
        codec: &'static str,
        /// The rule that is broken.
        reason: &'static str,
    },
    /// The unit needs more history than allowed.
    #[error("window of {declared} bytes, at most {allowed} are allowed")]
    Window {
        /// Bytes the unit declares.
        declared: u64,
        /// Bytes allowed.
        allowed: u64,
    },
    /// The data is corrupt.
    #[error("{codec} data is corrupt: {reason}")]
    Corrupt {
        /// The codec's name.
        codec: &'static str,
        /// What the library says.
        reason: &'static str,
    },
    /// The unit is well-formed and decodes to less than asked for.
    #[error("decodes to {produced} bytes where {expected} are expected")]
    Short {
        /// Bytes decoded.
        produced: usize,
        /// Bytes asked for.
        expected: usize,
    },
    /// The data ends before the unit does.
    #[error("cut off after decoding {produced} of {expected} bytes")]
    Truncated {
        /// Bytes decoded.
        produced: usize,
        /// Bytes asked for.
        expected: usize,
    },
}
