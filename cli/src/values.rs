//! Values of options, in the spellings of mkfs.erofs.

use erofs_format::BlockBits;
use erofs_format::inode::Timestamp;
pub(crate) use erofs_mkfs::spelling::size;
use regex::bytes::{Regex, RegexBuilder};
use std::num::NonZeroUsize;

/// A number, decimal or with `0x` hexadecimal.
pub(crate) fn number(text: &str) -> Result<u64, String> {
    let parsed = match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(digits) => u64::from_str_radix(digits, 16),
        None => text.parse(),
    };
    parsed.map_err(|_| format!("{text:?} is not a number: expected e.g. 4096 or 0x1000"))
}

/// A number of threads.
pub(crate) fn workers(text: &str) -> Result<NonZeroUsize, String> {
    text.parse()
        .map_err(|_| format!("{text:?} is no number of threads: expected 1 or more"))
}

/// The id of a user or a group. The largest number is none: chown(2) takes it for "unchanged".
pub(crate) fn owner(text: &str) -> Result<u32, String> {
    let id = text.parse().ok().filter(|id| *id != u32::MAX);
    id.ok_or_else(|| format!("{text:?} is no id: expected a number up to 4294967294"))
}

/// A block size in bytes.
pub(crate) fn block_size(text: &str) -> Result<BlockBits, String> {
    BlockBits::from_bytes(size(text)?)
        .map_err(|_| format!("{text:?}: a block has 512 to 65536 bytes, a power of two"))
}

/// A Unix time: seconds, perhaps negative or with a fraction.
pub(crate) fn timestamp(text: &str) -> Result<Timestamp, String> {
    let error = || format!("{text:?} is not a Unix time: expected seconds, e.g. 1700000000");
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let seconds: i64 = whole.parse().map_err(|_| error())?;
    if fraction.len() > 9 || !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(error());
    }
    let nanoseconds: u32 = format!("{fraction:0<9}").parse().map_err(|_| error())?;
    if whole.starts_with('-') && nanoseconds > 0 {
        let earlier = seconds.checked_sub(1).ok_or_else(error)?;
        return Ok(Timestamp {
            seconds: earlier,
            nanoseconds: 1_000_000_000 - nanoseconds,
        });
    }
    Ok(Timestamp {
        seconds,
        nanoseconds,
    })
}

/// A point in time: a Unix time as [`timestamp`] takes it, or a date with or without a time of day, in UTC.
pub(crate) fn point_in_time(text: &str) -> Result<Timestamp, String> {
    match date(text) {
        Some(seconds) => Ok(Timestamp {
            seconds,
            nanoseconds: 0,
        }),
        None => timestamp(text).map_err(|_| {
            format!("{text:?} is no time: expected Unix seconds or YYYY-MM-DD[THH:MM:SS]")
        }),
    }
}

/// Seconds since 1970 of `YYYY-MM-DD`, perhaps with `THH:MM:SS` behind it.
fn date(text: &str) -> Option<i64> {
    let (date, time) = match text.split_once(['T', ' ']) {
        Some((date, time)) => (date, time.strip_suffix('Z').unwrap_or(time)),
        None => (text, "00:00:00"),
    };
    let numbers = |text: &str, separator: char, lengths: [usize; 3]| -> Option<[i64; 3]> {
        let mut numbers = [0; 3];
        let mut parts = text.split(separator);
        for (number, length) in numbers.iter_mut().zip(lengths) {
            let part = parts.next()?;
            let digits = part.len() == length && part.bytes().all(|byte| byte.is_ascii_digit());
            *number = part.parse().ok().filter(|_| digits)?;
        }
        parts.next().is_none().then_some(numbers)
    };
    let [year, month, day] = numbers(date, '-', [4, 2, 2])?;
    let [hour, minute, second] = numbers(time, ':', [2, 2, 2])?;
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let lengths = [
        31,
        28 + i64::from(leap),
        31,
        30,
        31,
        30,
        31,
        31,
        30,
        31,
        30,
        31,
    ];
    let before = usize::try_from(month - 1).ok()?;
    let length = *lengths.get(before)?;
    if !(1..=length).contains(&day) || hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    // Leap days before this year, counted from year 0 on; 719,528 days lie between its first day and 1970.
    let past = year - 1;
    let leap_days = past.div_euclid(4) - past.div_euclid(100) + past.div_euclid(400) + 1;
    let days_before: i64 = lengths.iter().take(before).sum();
    let days = year * 365 + leap_days + days_before + day - 1 - 719_528;
    Some(((days * 24 + hour) * 60 + minute) * 60 + second)
}

/// A UUID, `clear` for zeros, or `random`.
pub(crate) fn uuid(text: &str) -> Result<[u8; 16], String> {
    let mut bytes = [0; 16];
    match text {
        "clear" => return Ok(bytes),
        "random" => {
            let mut file =
                std::fs::File::open("/dev/urandom").map_err(|error| error.to_string())?;
            std::io::Read::read_exact(&mut file, &mut bytes).map_err(|error| error.to_string())?;
            bytes[6] = bytes[6] & 0x0F | 0x40;
            bytes[8] = bytes[8] & 0x3F | 0x80;
            return Ok(bytes);
        }
        _ => {}
    }
    let error = || format!("{text:?} is not a UUID");
    let hex: String = text.chars().filter(|c| *c != '-').collect();
    if hex.len() != 32 || !hex.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err(error());
    }
    for (index, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&hex[2 * index..2 * index + 2], 16).map_err(|_| error())?;
    }
    Ok(bytes)
}

/// A regular expression for paths, which are bytes; its time is linear, so there are no back references.
pub(crate) fn regex(text: &str) -> Result<Regex, String> {
    RegexBuilder::new(text)
        .unicode(false)
        .dot_matches_new_line(true)
        .build()
        .map_err(|error| error.to_string())
}

/// `0` or `1`.
pub(crate) fn zero_or_one(text: &str) -> Result<bool, String> {
    match text {
        "0" => Ok(false),
        "1" => Ok(true),
        _ => Err(format!("{text:?}: expected 0 or 1")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_those_of_date() {
        // As `date -u -d DATE +%s` tells them.
        for (text, expected) in [
            ("1970-01-01", Some(0)),
            ("2000-02-29T12:34:56", Some(951_827_696)),
            ("2100-03-01 00:00:00Z", Some(4_107_542_400)),
            ("1899-12-31T23:59:59", Some(-2_208_988_801)),
            ("0001-01-01", Some(-62_135_596_800)),
            ("-7", Some(-7)),
            ("2100-02-29", None),
            ("2026-13-01", None),
            ("2026-00-01", None),
            ("2026-01-01T24:00:00", None),
            ("2026-1-1", None),
            ("yesterday", None),
        ] {
            let seconds = point_in_time(text).ok().map(|time| time.seconds);
            assert_eq!(seconds, expected, "{text}");
        }
    }

    #[test]
    fn what_is_no_id_and_no_number_of_threads() {
        assert_eq!(owner("4294967294"), Ok(u32::MAX - 1));
        for text in ["4294967295", "4294967296", "-1", "root", ""] {
            assert!(owner(text).is_err(), "{text:?}");
        }
        assert_eq!(workers("2").map(usize::from), Ok(2));
        for text in ["0", "-1", "x", ""] {
            assert!(workers(text).unwrap_err().contains("1 or more"), "{text:?}");
        }
    }

    #[test]
    fn numbers_may_be_hexadecimal() {
        assert_eq!(number("4096"), Ok(4096));
        assert_eq!(number("0x1F"), Ok(31));
        assert_eq!(number("18446744073709551615"), Ok(u64::MAX));
        for text in ["", "0x", "-1", "+0x1", "12x", "18446744073709551616"] {
            assert!(number(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn times_keep_their_nanoseconds() {
        let time = |seconds, nanoseconds| {
            Some(Timestamp {
                seconds,
                nanoseconds,
            })
        };
        for (text, expected) in [
            ("0", time(0, 0)),
            ("1.5", time(1, 500_000_000)),
            ("-1.25", time(-2, 750_000_000)),
            ("-0.5", time(-1, 500_000_000)),
            ("-7", time(-7, 0)),
            ("1.0000000001", None),
            ("x", None),
            ("1.+1", None),
        ] {
            assert_eq!(timestamp(text).ok(), expected, "{text}");
        }
    }

    #[test]
    fn uuids() {
        assert_eq!(uuid("clear"), Ok([0; 16]));
        assert_eq!(uuid("01010101-0101-0101-0101-010101010101"), Ok([1; 16]));
        assert!(uuid("0101").is_err());
        assert!(uuid("é".repeat(16).as_str()).is_err());
        assert_ne!(uuid("random"), uuid("random"));
    }
}
