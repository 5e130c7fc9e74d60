//! Maps of sparse files: the old GNU header, PAX 0.0, 0.1 and 1.0.
//!
//! All store the pieces of data back to back. GNU tar pads each piece to blocks, but makes pieces of whole blocks, except
//! for the last one; bsdtar, Python and Go do not pad. Both are the same bytes, and a map whose pieces do not add up to
//! the stored size is refused.

use super::header::{GNU_PIECE_SIZE, NumberError, number};
use crate::tree::DataRange;

/// Most pieces of one file.
pub(super) const MAX_PIECES: usize = 1_000_000;

/// Why a sparse map is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SparseError {
    /// Text that is no number where one belongs.
    #[error("a number is malformed or missing")]
    Number,
    /// A number of the old GNU header.
    #[error("a number {0}")]
    Field(#[from] NumberError),
    /// An offset without length, or fewer pieces than announced.
    #[error("it is incomplete")]
    Incomplete,
    /// Too many pieces.
    #[error("it has more than 1000000 pieces")]
    TooManyPieces,
    /// No size of the whole file.
    #[error("the size of the file is missing")]
    NoSize,
    /// A version that does not exist.
    #[error("version {0}.{1} is unknown")]
    Version(u64, u64),
    /// star's own layout of sparse files.
    #[error("star's own layout is not supported; recreate the archive with GNU tar or bsdtar")]
    Star,
    /// Pieces out of order, overlapping or past the end.
    #[error("the piece at {offset} (+{length}) overlaps the one before it or ends after the file")]
    Order {
        /// Offset in the file, in bytes.
        offset: u64,
        /// Length in bytes.
        length: u64,
    },
    /// Another number of bytes in the archive than in the map.
    #[error("its pieces have {mapped} bytes, but {stored} are stored")]
    Stored {
        /// Sum of the pieces, in bytes.
        mapped: u64,
        /// Bytes in the archive.
        stored: u64,
    },
}

/// Collects the pieces of a map in file order.
#[derive(Debug, Default, Clone)]
pub(super) struct Pieces {
    ranges: Vec<DataRange>,
    count: usize,
    mapped: u64,
    end: u64,
}

impl Pieces {
    /// Appends a piece; empty ones only say where the file ends, touching ones become one.
    ///
    /// # Errors
    /// [`SparseError`] for too many pieces, or one that does not come after the others.
    pub(super) fn push(&mut self, offset: u64, length: u64) -> Result<(), SparseError> {
        let order = SparseError::Order { offset, length };
        self.count += 1;
        if self.count > MAX_PIECES {
            return Err(SparseError::TooManyPieces);
        }
        let end = offset.checked_add(length).ok_or(order)?;
        if offset < self.end {
            return Err(order);
        }
        if length == 0 {
            return Ok(());
        }
        match self.ranges.last_mut() {
            Some(last) if self.end == offset => last.length += length,
            _ => self.ranges.push(DataRange { offset, length }),
        }
        self.mapped += length;
        self.end = end;
        Ok(())
    }

    /// Appends the pieces of an old GNU header or extension block; `false` once the list has ended.
    ///
    /// # Errors
    /// [`SparseError`].
    pub(super) fn push_gnu(&mut self, bytes: &[u8]) -> Result<bool, SparseError> {
        for piece in bytes.chunks_exact(GNU_PIECE_SIZE) {
            if piece.iter().all(|byte| *byte == 0) {
                return Ok(false);
            }
            let (offset, length) = piece.split_at(GNU_PIECE_SIZE / 2);
            self.push(unsigned(offset)?, unsigned(length)?)?;
        }
        Ok(true)
    }

    /// Number of pieces so far, empty ones included.
    pub(super) const fn count(&self) -> usize {
        self.count
    }

    /// The data ranges of a file of `size` bytes of which `stored` are in the archive.
    ///
    /// # Errors
    /// [`SparseError`] when they contradict each other.
    pub(super) fn finish(self, size: u64, stored: u64) -> Result<Vec<DataRange>, SparseError> {
        if self.end > size {
            let (offset, length) = self
                .ranges
                .last()
                .map_or((0, 0), |last| (last.offset, last.length));
            return Err(SparseError::Order { offset, length });
        }
        if self.mapped != stored {
            return Err(SparseError::Stored {
                mapped: self.mapped,
                stored,
            });
        }
        Ok(self.ranges)
    }
}

fn unsigned(field: &[u8]) -> Result<u64, SparseError> {
    u64::try_from(number(field)?).map_err(|_| NumberError::OutOfRange.into())
}

/// Reads a decimal number of a PAX map: digits only, at most 2^63 - 1.
pub(super) fn decimal(text: &[u8]) -> Option<u64> {
    if text.is_empty() {
        return None;
    }
    let mut value: u64 = 0;
    for byte in text {
        let digit = byte.checked_sub(b'0').filter(|digit| *digit <= 9)?;
        value = value.checked_mul(10)?.checked_add(u64::from(digit))?;
    }
    (value <= i64::MAX.cast_unsigned()).then_some(value)
}

/// What the `GNU.sparse.*` records of a PAX header say.
#[derive(Debug, Default, Clone)]
pub(super) struct SparseRecords {
    major: Option<u64>,
    minor: Option<u64>,
    size: Option<u64>,
    announced: Option<u64>,
    pending_offset: Option<u64>,
    pieces: Pieces,
    present: bool,
}

/// Where the map of a PAX sparse file is.
#[derive(Debug)]
pub(super) enum PaxSparse {
    /// In the PAX header (0.0 and 0.1).
    Known {
        /// Size of the whole file in bytes.
        size: u64,
        /// Its pieces.
        pieces: Pieces,
    },
    /// In front of the data (1.0).
    InData {
        /// Size of the whole file in bytes.
        size: u64,
    },
}

impl SparseRecords {
    /// Takes the record `GNU.sparse.{key}`; the name is not its business.
    ///
    /// # Errors
    /// [`SparseError`].
    pub(super) fn take(&mut self, key: &[u8], value: &[u8]) -> Result<(), SparseError> {
        let number = || decimal(value).ok_or(SparseError::Number);
        match key {
            b"major" => self.major = Some(number()?),
            b"minor" => self.minor = Some(number()?),
            b"size" | b"realsize" => self.size = Some(number()?),
            b"numblocks" => self.announced = Some(number()?),
            b"offset" => {
                if self.pending_offset.replace(number()?).is_some() {
                    return Err(SparseError::Incomplete);
                }
            }
            b"numbytes" => {
                let offset = self.pending_offset.take().ok_or(SparseError::Incomplete)?;
                self.pieces.push(offset, number()?)?;
            }
            b"map" => {
                self.pieces = Pieces::default();
                let mut numbers = value.split(|byte| *byte == b',');
                while let Some(offset) = numbers.next() {
                    if offset.is_empty() && self.pieces.count() == 0 && value.is_empty() {
                        break;
                    }
                    let length = numbers.next().ok_or(SparseError::Incomplete)?;
                    let (Some(offset), Some(length)) = (decimal(offset), decimal(length)) else {
                        return Err(SparseError::Number);
                    };
                    self.pieces.push(offset, length)?;
                }
            }
            _ => return Ok(()),
        }
        self.present = true;
        Ok(())
    }

    /// What they add up to; `None` when the file is not sparse.
    ///
    /// # Errors
    /// [`SparseError`].
    pub(super) fn resolve(self) -> Result<Option<PaxSparse>, SparseError> {
        if !self.present {
            return Ok(None);
        }
        let size = self.size.ok_or(SparseError::NoSize)?;
        match (self.major.unwrap_or(0), self.minor.unwrap_or(0)) {
            (1, 0) => return Ok(Some(PaxSparse::InData { size })),
            (0, 0 | 1) => {}
            (major, minor) => return Err(SparseError::Version(major, minor)),
        }
        let announced = self
            .announced
            .is_none_or(|announced| announced == self.pieces.count() as u64);
        if self.pending_offset.is_some() || !announced {
            return Err(SparseError::Incomplete);
        }
        Ok(Some(PaxSparse::Known {
            size,
            pieces: self.pieces,
        }))
    }
}

/// Reads the map in front of the data of a PAX 1.0 sparse file: decimal lines, first the number of pieces.
#[derive(Debug, Default)]
pub(super) struct DataMapParser {
    announced: Option<u64>,
    offset: Option<u64>,
    number: Option<u64>,
    pieces: Pieces,
}

impl DataMapParser {
    /// Takes one block of the map; the pieces when the map ends in it. The rest of that block is padding.
    ///
    /// # Errors
    /// [`SparseError`].
    pub(super) fn take(&mut self, block: &[u8]) -> Result<Option<Pieces>, SparseError> {
        for byte in block {
            match byte {
                b'0'..=b'9' => {
                    let value = self
                        .number
                        .unwrap_or(0)
                        .checked_mul(10)
                        .and_then(|value| value.checked_add(u64::from(byte - b'0')))
                        .filter(|value| *value <= i64::MAX.cast_unsigned())
                        .ok_or(SparseError::Number)?;
                    self.number = Some(value);
                }
                b'\n' => {
                    let number = self.number.take().ok_or(SparseError::Number)?;
                    if self.announced.is_none() {
                        if number > MAX_PIECES as u64 {
                            return Err(SparseError::TooManyPieces);
                        }
                        self.announced = Some(number);
                    } else if let Some(offset) = self.offset.take() {
                        self.pieces.push(offset, number)?;
                    } else {
                        self.offset = Some(number);
                    }
                    if self.announced == Some(self.pieces.count() as u64) && self.offset.is_none() {
                        return Ok(Some(std::mem::take(&mut self.pieces)));
                    }
                }
                _ => return Err(SparseError::Number),
            }
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(offset: u64, length: u64) -> DataRange {
        DataRange { offset, length }
    }

    #[test]
    fn pieces_must_ascend_and_add_up() {
        let finish = |pieces: &[(u64, u64)], size, stored| {
            let mut map = Pieces::default();
            for (offset, length) in pieces {
                map.push(*offset, *length)?;
            }
            map.finish(size, stored)
        };
        assert_eq!(
            finish(&[(0, 512), (512, 100), (4096, 1), (5000, 0)], 5000, 613),
            Ok(vec![range(0, 612), range(4096, 1)])
        );
        assert_eq!(finish(&[], 5000, 0), Ok(vec![]));
        assert_eq!(
            finish(&[(0, 10), (9, 1)], 100, 11),
            Err(SparseError::Order {
                offset: 9,
                length: 1
            })
        );
        assert_eq!(
            finish(&[(10, 10), (0, 1)], 100, 11),
            Err(SparseError::Order {
                offset: 0,
                length: 1
            })
        );
        assert_eq!(
            finish(&[(0, 101)], 100, 101),
            Err(SparseError::Order {
                offset: 0,
                length: 101
            })
        );
        assert_eq!(
            finish(&[(u64::MAX, 1)], 100, 1),
            Err(SparseError::Order {
                offset: u64::MAX,
                length: 1
            })
        );
        // Each piece padded on its own, as no known program does with odd pieces before the last.
        assert_eq!(
            finish(&[(0, 100), (4096, 100)], 8192, 1024),
            Err(SparseError::Stored {
                mapped: 200,
                stored: 1024
            })
        );
    }

    #[test]
    fn maps_in_front_of_the_data_may_cross_blocks() {
        let text = b"3\n0\n100\n4096\n200\n8192\n0\n";
        for cut in 1..text.len() {
            let (first, second) = text.split_at(cut);
            let mut parser = DataMapParser::default();
            assert!(parser.take(first).expect("valid").is_none(), "{cut}");
            let mut padded = second.to_vec();
            padded.resize(512, 0);
            let pieces = parser.take(&padded).expect("valid").expect("complete");
            assert_eq!(
                pieces.finish(8192, 300),
                Ok(vec![range(0, 100), range(4096, 200)])
            );
        }
        let mut parser = DataMapParser::default();
        assert_eq!(
            parser
                .take(b"0\n\0\0")
                .expect("valid")
                .expect("complete")
                .count(),
            0
        );
        for (text, expected) in [
            (&b"\0"[..], SparseError::Number),
            (b"\n", SparseError::Number),
            (b"1\n0\nx", SparseError::Number),
            (b"1000001\n", SparseError::TooManyPieces),
            (b"99999999999999999999", SparseError::Number),
        ] {
            assert_eq!(
                DataMapParser::default().take(text).map(|_| ()),
                Err(expected),
                "{text:?}"
            );
        }
    }

    #[test]
    fn records_of_three_versions_resolve() {
        let resolve = |records: &[(&str, &str)]| {
            let mut sparse = SparseRecords::default();
            for (key, value) in records {
                sparse.take(key.as_bytes(), value.as_bytes())?;
            }
            sparse.resolve()
        };
        let ranges = |records| match resolve(records) {
            Ok(Some(PaxSparse::Known { size, pieces })) => {
                pieces.finish(size, 30).map(|ranges| (size, ranges))
            }
            other => panic!("{other:?}"),
        };
        let expected = Ok((100, vec![range(0, 10), range(50, 20)]));
        assert_eq!(
            ranges(&[
                ("size", "100"),
                ("numblocks", "2"),
                ("offset", "0"),
                ("numbytes", "10"),
                ("offset", "50"),
                ("numbytes", "20")
            ]),
            expected
        );
        assert_eq!(
            ranges(&[("size", "100"), ("numblocks", "2"), ("map", "0,10,50,20")]),
            expected
        );
        assert!(matches!(
            resolve(&[("major", "1"), ("minor", "0"), ("realsize", "7")]),
            Ok(Some(PaxSparse::InData { size: 7 }))
        ));
        assert!(matches!(
            resolve(&[("size", "7"), ("numblocks", "0"), ("map", "")]),
            Ok(Some(PaxSparse::Known { size: 7, .. }))
        ));
        assert!(matches!(resolve(&[]), Ok(None)));
        for (records, expected) in [
            (&[("map", "0,10")][..], SparseError::NoSize),
            (&[("size", "9"), ("offset", "0")], SparseError::Incomplete),
            (&[("size", "9"), ("numbytes", "1")], SparseError::Incomplete),
            (
                &[("size", "9"), ("offset", "1"), ("offset", "2")],
                SparseError::Incomplete,
            ),
            (&[("size", "9"), ("map", "0,1,5")], SparseError::Incomplete),
            (&[("size", "9"), ("map", "0,1,")], SparseError::Incomplete),
            (&[("size", "9"), ("map", "0,-1")], SparseError::Number),
            (
                &[("size", "9"), ("map", "0,1"), ("numblocks", "2")],
                SparseError::Incomplete,
            ),
            (&[("size", "-1")], SparseError::Number),
            (&[("size", "9"), ("major", "2")], SparseError::Version(2, 0)),
        ] {
            assert_eq!(resolve(records).map(|_| ()), Err(expected), "{records:?}");
        }
    }
}
