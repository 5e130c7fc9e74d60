//! One 512-byte header block: fields, numbers, checksum.
//!
//! All dialects share the V7 layout of the first 257 bytes; the magic says what the rest means.

/// Size of a block in bytes; headers are one block, data is padded to blocks.
pub(super) const BLOCK_SIZE: usize = 512;

/// A block.
pub(super) type Block = [u8; BLOCK_SIZE];

/// A field of the header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Field {
    start: usize,
    length: usize,
    name: &'static str,
}

impl Field {
    const fn new(start: usize, length: usize, name: &'static str) -> Self {
        Self {
            start,
            length,
            name,
        }
    }

    /// What messages call it.
    pub(super) const fn name(self) -> &'static str {
        self.name
    }

    fn of(self, block: &Block) -> &[u8] {
        block
            .get(self.start..self.start + self.length)
            .unwrap_or_default()
    }
}

pub(super) const NAME: Field = Field::new(0, 100, "name");
pub(super) const MODE: Field = Field::new(100, 8, "mode");
pub(super) const UID: Field = Field::new(108, 8, "uid");
pub(super) const GID: Field = Field::new(116, 8, "gid");
pub(super) const SIZE: Field = Field::new(124, 12, "size");
pub(super) const MTIME: Field = Field::new(136, 12, "mtime");
const CHECKSUM: Field = Field::new(148, 8, "checksum");
const TYPE: usize = 156;
pub(super) const LINK_NAME: Field = Field::new(157, 100, "link name");
const MAGIC: Field = Field::new(257, 8, "magic");
pub(super) const DEVICE_MAJOR: Field = Field::new(329, 8, "device major number");
pub(super) const DEVICE_MINOR: Field = Field::new(337, 8, "device minor number");
const PREFIX: Field = Field::new(345, 155, "name prefix");
const STAR_PREFIX: Field = Field::new(345, 131, "name prefix");
const STAR_ATIME: Field = Field::new(476, 12, "access time");
const STAR_MAGIC: Field = Field::new(508, 4, "star magic");
pub(super) const GNU_REAL_SIZE: Field = Field::new(483, 12, "real size");

/// Where an old GNU sparse header keeps its first pieces, and where the next block says that more follow.
pub(super) const GNU_SPARSE_PIECES: std::ops::Range<usize> = 386..482;
pub(super) const GNU_IS_EXTENDED: usize = 482;
/// The same in the extension blocks.
pub(super) const GNU_EXTENSION_PIECES: std::ops::Range<usize> = 0..504;
pub(super) const GNU_EXTENSION_IS_EXTENDED: usize = 504;
/// Size of one piece: offset and length, 12 bytes each.
pub(super) const GNU_PIECE_SIZE: usize = 24;

/// Which of the incompatible layouts follows the magic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Dialect {
    /// No magic: nothing after the link name.
    V7,
    /// POSIX, PAX included: name prefix of 155 bytes.
    Ustar,
    /// star and xstar: like POSIX, with a name prefix of 131 bytes and two times behind it.
    Star,
    /// GNU: sparse map instead of a prefix.
    Gnu,
}

/// Why a numeric field cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NumberError {
    /// Neither octal nor base-256.
    #[error("is not a number")]
    Malformed,
    /// More than 63 bits.
    #[error("is out of range")]
    OutOfRange,
}

/// A header block whose checksum is right.
#[derive(Debug, Clone, Copy)]
pub(super) struct Header<'b> {
    block: &'b Block,
    dialect: Dialect,
}

impl<'b> Header<'b> {
    /// `None` when the checksum is wrong. Old tars summed signed bytes; both sums count.
    pub(super) fn new(block: &'b Block) -> Option<Self> {
        let stored = number(CHECKSUM.of(block)).ok()?;
        let blank = |sum: i64, field: i64| sum - field + 8 * i64::from(b' ');
        let sum = |bytes: &[u8]| i64::from(bytes.iter().map(|byte| u32::from(*byte)).sum::<u32>());
        if stored != blank(sum(block), sum(CHECKSUM.of(block))) {
            let sum = |bytes: &[u8]| -> i64 {
                bytes.iter().map(|byte| i64::from(byte.cast_signed())).sum()
            };
            if stored != blank(sum(block), sum(CHECKSUM.of(block))) {
                return None;
            }
        }
        let dialect = match MAGIC.of(block) {
            b"ustar  \0" => Dialect::Gnu,
            magic if magic.starts_with(b"ustar") && is_star(block) => Dialect::Star,
            magic if magic.starts_with(b"ustar") => Dialect::Ustar,
            // The first star had its own mark only, and the prefix of what became POSIX.
            _ if STAR_MAGIC.of(block) == b"tar\0" => Dialect::Ustar,
            _ => Dialect::V7,
        };
        Some(Self { block, dialect })
    }

    pub(super) const fn dialect(self) -> Dialect {
        self.dialect
    }

    /// Whether star wrote it: its sparse maps have their own layout.
    pub(super) fn has_star_mark(self) -> bool {
        STAR_MAGIC.of(self.block) == b"tar\0"
    }

    pub(super) const fn type_flag(self) -> u8 {
        self.block[TYPE]
    }

    /// Text up to the first NUL.
    pub(super) fn text(self, field: Field) -> &'b [u8] {
        until_nul(field.of(self.block))
    }

    /// Appends the name with its prefix.
    pub(super) fn append_name(self, out: &mut Vec<u8>) {
        let prefix = match self.dialect {
            Dialect::Ustar => self.text(PREFIX),
            Dialect::Star => self.text(STAR_PREFIX),
            Dialect::V7 | Dialect::Gnu => &[],
        };
        if !prefix.is_empty() {
            out.extend_from_slice(prefix);
            out.push(b'/');
        }
        out.extend_from_slice(self.text(NAME));
    }

    /// # Errors
    /// [`NumberError`].
    pub(super) fn number(self, field: Field) -> Result<i64, NumberError> {
        number(field.of(self.block))
    }
}

/// star leaves the last byte of its prefix zero and puts a time after it, where POSIX goes on with the prefix.
fn is_star(block: &Block) -> bool {
    let time = STAR_ATIME.of(block);
    STAR_MAGIC.of(block) == b"tar\0"
        && STAR_PREFIX.of(block).last() == Some(&0)
        && time
            .first()
            .is_some_and(|byte| matches!(byte, b'0'..=b'7' | b' ') || *byte >= 0x80)
}

/// The bytes before the first NUL.
pub(super) fn until_nul(bytes: &[u8]) -> &[u8] {
    bytes.split(|byte| *byte == 0).next().unwrap_or_default()
}

/// Reads a number: octal text, or base-256 when the first bit is set. Blank fields are 0.
///
/// # Errors
/// [`NumberError`].
pub(super) fn number(bytes: &[u8]) -> Result<i64, NumberError> {
    match bytes.first() {
        Some(first) if first & 0x80 != 0 => base_256(bytes, *first),
        _ => octal(bytes),
    }
}

/// Octal digits, blanks before them, a blank or NUL after them. Some tars overwrite the first digit with NUL.
fn octal(bytes: &[u8]) -> Result<i64, NumberError> {
    let mut rest = bytes.strip_prefix(b"\0").unwrap_or(bytes);
    while let [b' ', tail @ ..] = rest {
        rest = tail;
    }
    let mut value: i64 = 0;
    while let [digit @ b'0'..=b'7', tail @ ..] = rest {
        value = value
            .checked_mul(8)
            .and_then(|value| value.checked_add(i64::from(digit - b'0')))
            .ok_or(NumberError::OutOfRange)?;
        rest = tail;
    }
    match rest.first() {
        None | Some(b' ' | 0) => Ok(value),
        Some(_) => Err(NumberError::Malformed),
    }
}

/// Two's complement, big endian; the first bit is the mark, the second the sign.
fn base_256(bytes: &[u8], first: u8) -> Result<i64, NumberError> {
    let negative = first & 0x40 != 0;
    let top = if negative { first } else { first & 0x7F };
    let mut value = i128::from(top.cast_signed());
    for byte in bytes.iter().skip(1) {
        value = value
            .checked_mul(256)
            .and_then(|value| value.checked_add(i128::from(*byte)))
            .ok_or(NumberError::OutOfRange)?;
    }
    i64::try_from(value).map_err(|_| NumberError::OutOfRange)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_octal_or_base_256() {
        let cases: [(&[u8], Result<i64, NumberError>); 17] = [
            (b"0000644\0", Ok(0o644)),
            (b"   644 \0", Ok(0o644)),
            (b"77777777", Ok(0o7777_7777)),
            (b"644", Ok(0o644)),
            (b"\x00000644\0", Ok(0o644)),
            (b"\0\0\0\0\0\0\0\0", Ok(0)),
            (b"        ", Ok(0)),
            (b"644 garbage", Ok(0o644)),
            (b"0000698\0", Err(NumberError::Malformed)),
            (b"-000001\0", Err(NumberError::Malformed)),
            (b"777777777777777777777", Ok(i64::MAX)),
            (b"1777777777777777777777", Err(NumberError::OutOfRange)),
            (b"\x80\0\0\0\0\0\x02\x01", Ok(513)),
            (b"\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFE", Ok(-2)),
            (b"\x80\0\0\0\x7F\xFF\xFF\xFF\xFF\xFF\xFF\xFF", Ok(i64::MAX)),
            (
                b"\x80\0\0\0\x80\0\0\0\0\0\0\0",
                Err(NumberError::OutOfRange),
            ),
            (
                b"\xFF\xFF\xFF\xFF\x7F\xFF\xFF\xFF\xFF\xFF\xFF\xFF",
                Err(NumberError::OutOfRange),
            ),
        ];
        for (bytes, expected) in cases {
            assert_eq!(number(bytes), expected, "{bytes:?}");
        }
    }
}
