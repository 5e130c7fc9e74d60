//! Encoded extents (layout 1 with the EXTENTS bit): one record for each extent, of 4, 8, 16 or 32 bytes.
//!
//! ```text
//!  4  plen u32
//!  8  plen u32  address u32
//! 16  plen u32  address u64            start u32
//! 32  plen u32  address u64            start u64            zero 12 bytes
//! plen: bits 0-20 encoded bytes (0: hole), bit 27 PARTIAL_REF, bits 28-31 0 plain, else algorithm + 1
//! ```
//! The records start behind the map header, aligned to their size; in front of 4-byte records stands the address of the
//! first piece (u64). Addresses are counted in bytes and need no alignment. Since Linux 6.15, in 48-bit images.

use super::map_header::MAP_HEADER_SIZE;
use super::{Algorithm, MAX_PCLUSTER_SIZE};
use crate::address::ByteOffset;
use crate::record::{self, Truncated};
use zerocopy::little_endian::{U32, U64};

/// Size of the first piece's address in front of 4-byte records, in bytes.
pub const BASE_ADDRESS_SIZE: u64 = 8;

const LENGTH_MASK: u32 = (1 << 21) - 1;
const PARTIAL_REF: u32 = 1 << 27;
const FORMAT_SHIFT: u32 = 28;

/// Size of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RecordSize {
    /// 4 bytes.
    B4,
    /// 8 bytes.
    B8,
    /// 16 bytes.
    B16,
    /// 32 bytes.
    B32,
}

impl RecordSize {
    /// In bytes.
    pub const fn bytes(self) -> u64 {
        4 << self.selector()
    }

    /// As the map header stores it.
    pub const fn selector(self) -> u16 {
        match self {
            Self::B4 => 0,
            Self::B8 => 1,
            Self::B16 => 2,
            Self::B32 => 3,
        }
    }

    /// From the low two bits of a stored value.
    pub const fn from_selector(value: u16) -> Self {
        match value & 3 {
            0 => Self::B4,
            1 => Self::B8,
            2 => Self::B16,
            _ => Self::B32,
        }
    }

    /// Where the table of the map header at `map_header` starts: the first piece's address with 4-byte records, else the
    /// first record. `None` past 64 bits.
    pub fn table(self, map_header: ByteOffset) -> Option<ByteOffset> {
        map_header
            .checked_add(MAP_HEADER_SIZE)?
            .checked_align_up(self.bytes())
    }

    /// Position of record `index` of the table at `table`, or `None` past 64 bits.
    pub fn position(self, table: ByteOffset, index: u64) -> Option<ByteOffset> {
        let base = match self {
            Self::B4 => BASE_ADDRESS_SIZE,
            Self::B8 | Self::B16 | Self::B32 => 0,
        };
        table
            .checked_add(base)?
            .checked_add(index.checked_mul(self.bytes())?)
    }
}

/// A record; what its size does not hold is 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct ExtentRecord {
    /// Length and format as stored, see [`Piece`]; in a fragment the low 32 bits of its offset.
    pub plen: u32,
    /// Where the encoded bytes are; in a fragment the high 32 bits of its offset.
    pub address: ByteOffset,
    /// First decoded byte in the file.
    pub start: u64,
}

/// How the bytes of an extent are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Piece {
    /// Nowhere: the extent reads as zeros.
    Hole,
    /// Somewhere.
    Stored {
        /// Encoded length in bytes, 1 to 1 MiB.
        length: u32,
        /// `None` for plain bytes.
        algorithm: Option<Algorithm>,
        /// It decodes to more than the extent.
        partial: bool,
    },
}

/// Why a piece cannot be read. The kernel refuses each of these.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PieceError {
    /// Unknown algorithm.
    #[error("extent format {0} is unknown")]
    Format(u32),
    /// Too many encoded bytes.
    #[error("{0} encoded bytes, at most 1 MiB are allowed")]
    Length(u32),
}

impl Piece {
    /// From a record's field.
    ///
    /// # Errors
    /// [`PieceError`].
    pub fn decode(plen: u32) -> Result<Self, PieceError> {
        let length = plen & LENGTH_MASK;
        if length == 0 {
            return Ok(Self::Hole);
        }
        if u64::from(length) > MAX_PCLUSTER_SIZE {
            return Err(PieceError::Length(length));
        }
        let format = plen >> FORMAT_SHIFT;
        let algorithm = match format.checked_sub(1) {
            None => None,
            Some(value) => Some(
                u8::try_from(value)
                    .ok()
                    .and_then(Algorithm::from_value)
                    .ok_or(PieceError::Format(format))?,
            ),
        };
        Ok(Self::Stored {
            length,
            algorithm,
            partial: plen & PARTIAL_REF != 0,
        })
    }

    /// The record's field, or `None` for lengths outside of 1 byte to 1 MiB.
    pub fn encode(self) -> Option<u32> {
        let Self::Stored {
            length,
            algorithm,
            partial,
        } = self
        else {
            return Some(0);
        };
        if length == 0 || u64::from(length) > MAX_PCLUSTER_SIZE {
            return None;
        }
        let format = algorithm.map_or(0, |algorithm| u32::from(algorithm.value()) + 1);
        Some(length | if partial { PARTIAL_REF } else { 0 } | format << FORMAT_SHIFT)
    }
}

impl ExtentRecord {
    /// Decodes the record at the start of `bytes`.
    ///
    /// # Errors
    /// [`Truncated`] with fewer bytes than a record has.
    pub fn decode(bytes: &[u8], size: RecordSize) -> Result<Self, Truncated> {
        let name = "encoded extent";
        Ok(match size {
            RecordSize::B4 => {
                let plen: U32 = record::read(bytes, name)?;
                Self {
                    plen: plen.get(),
                    ..Self::default()
                }
            }
            RecordSize::B8 => {
                let [plen, address]: [U32; 2] = record::read(bytes, name)?;
                Self {
                    plen: plen.get(),
                    address: ByteOffset(address.get().into()),
                    start: 0,
                }
            }
            RecordSize::B16 => {
                let [plen, low, high, start]: [U32; 4] = record::read(bytes, name)?;
                Self {
                    plen: plen.get(),
                    address: ByteOffset(join(low, high)),
                    start: start.get().into(),
                }
            }
            RecordSize::B32 => {
                let words: [U32; 8] = record::read(bytes, name)?;
                let [plen, low, high, start_low, start_high, ..] = words;
                Self {
                    plen: plen.get(),
                    address: ByteOffset(join(low, high)),
                    start: join(start_low, start_high),
                }
            }
        })
    }

    /// Appends the stored form; `None` when `size` has no room for address or start.
    pub fn encode(&self, size: RecordSize, out: &mut Vec<u8>) -> Option<()> {
        let narrow = |value: u64| u32::try_from(value).ok().map(u32::to_le_bytes);
        let plen = self.plen.to_le_bytes();
        match size {
            RecordSize::B4 if self.address.0 == 0 && self.start == 0 => {
                out.extend_from_slice(&plen);
            }
            RecordSize::B8 if self.start == 0 => {
                let address = narrow(self.address.0)?;
                out.extend_from_slice(&plen);
                out.extend_from_slice(&address);
            }
            RecordSize::B4 | RecordSize::B8 => return None,
            RecordSize::B16 => {
                let start = narrow(self.start)?;
                out.extend_from_slice(&plen);
                out.extend_from_slice(&self.address.0.to_le_bytes());
                out.extend_from_slice(&start);
            }
            RecordSize::B32 => {
                out.extend_from_slice(&plen);
                out.extend_from_slice(&self.address.0.to_le_bytes());
                out.extend_from_slice(&self.start.to_le_bytes());
                out.extend_from_slice(&[0; 12]);
            }
        }
        Some(())
    }

    /// How the extent's bytes are stored, unless it is a fragment.
    ///
    /// # Errors
    /// [`PieceError`].
    pub fn piece(&self) -> Result<Piece, PieceError> {
        Piece::decode(self.plen)
    }

    /// Byte offset in the packed inode, when this is the last record of a file with a fragment.
    pub const fn fragment_offset(&self) -> u64 {
        self.plen as u64 | self.address.0 << 32
    }
}

/// Address of the first piece, in front of 4-byte records.
///
/// # Errors
/// [`Truncated`] with fewer than 8 bytes.
pub fn decode_base_address(bytes: &[u8]) -> Result<ByteOffset, Truncated> {
    let base: U64 = record::read(bytes, "address of encoded extents")?;
    Ok(ByteOffset(base.get()))
}

fn join(low: U32, high: U32) -> u64 {
    u64::from(low.get()) | u64::from(high.get()) << 32
}
