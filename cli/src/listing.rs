//! One file of an image as a line for people or an object for scripts.

use crate::names::Printable;
use erofs_format::device::DeviceNumber;
use erofs_format::inode::{DataLayout, FileType, InodePayload, Timestamp};
use erofs_reader::{Error, Image, Inode};
use serde::Serialize;
use std::fmt;

/// What a listing tells about a file.
pub(crate) struct Entry<'a> {
    name: &'a [u8],
    inode: &'a Inode,
    target: Option<Vec<u8>>,
}

impl<'a> Entry<'a> {
    /// Reads the target of a symbolic link.
    pub(crate) fn new(image: &Image, name: &'a [u8], inode: &'a Inode) -> Result<Self, Error> {
        let is_link = inode.file_type == FileType::Symlink;
        Ok(Self {
            name,
            inode,
            target: is_link.then(|| image.read_link(inode)).transpose()?,
        })
    }
}

impl fmt::Display for Entry<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let inode = self.inode;
        let size = match inode.payload {
            InodePayload::Device(DeviceNumber { major, minor }) => format!("{major}, {minor}"),
            _ => inode.data_size().to_string(),
        };
        write!(
            f,
            "{} {:>3} {:>5} {:>5} {size:>11} {} {}",
            Mode(inode),
            inode.nlink,
            inode.uid,
            inode.gid,
            Utc(inode.mtime),
            Printable(self.name)
        )?;
        match &self.target {
            Some(target) => write!(f, " -> {}", Printable(target)),
            None => Ok(()),
        }
    }
}

/// A mode as ls shows it, for example `drwxr-sr-x`.
pub(crate) struct Mode<'a>(pub(crate) &'a Inode);

impl fmt::Display for Mode<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mode = self.0.mode;
        let kind = match self.0.file_type {
            FileType::Regular => '-',
            FileType::Directory => 'd',
            FileType::CharDevice => 'c',
            FileType::BlockDevice => 'b',
            FileType::Fifo => 'p',
            FileType::Socket => 's',
            FileType::Symlink => 'l',
        };
        write!(f, "{kind}")?;
        for (shift, special_bit, special) in [(6, 0o4000, 's'), (3, 0o2000, 's'), (0, 0o1000, 't')]
        {
            let allowed = |bit, letter| {
                if mode >> shift & bit != 0 {
                    letter
                } else {
                    '-'
                }
            };
            let execute = match (mode & special_bit != 0, mode >> shift & 1 != 0) {
                (false, false) => '-',
                (false, true) => 'x',
                (true, false) => special.to_ascii_uppercase(),
                (true, true) => special,
            };
            write!(f, "{}{}{execute}", allowed(4, 'r'), allowed(2, 'w'))?;
        }
        Ok(())
    }
}

/// A time in UTC, with nanoseconds where there are any.
pub(crate) struct Utc(pub(crate) Timestamp);

impl fmt::Display for Utc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const DAY: i64 = 86_400;
        let Timestamp {
            seconds,
            nanoseconds,
        } = self.0;
        let (year, month, day) = civil(seconds.div_euclid(DAY));
        let second = seconds.rem_euclid(DAY);
        write!(
            f,
            "{year:04}-{month:02}-{day:02} {:02}:{:02}:{:02}",
            second / 3600,
            second / 60 % 60,
            second % 60
        )?;
        if nanoseconds != 0 {
            write!(f, ".{nanoseconds:09}")?;
        }
        Ok(())
    }
}

/// A time in UTC without nanoseconds, as ctime(3) writes it.
pub(crate) struct CTime(pub(crate) Timestamp);

impl fmt::Display for CTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const DAY: i64 = 86_400;
        const DAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
        const MONTHS: [&str; 12] = [
            "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
        ];
        let days = self.0.seconds.div_euclid(DAY);
        let second = self.0.seconds.rem_euclid(DAY);
        let (year, month, day) = civil(days);
        let of = |names: &[&'static str], index: i64| {
            let name = usize::try_from(index)
                .ok()
                .and_then(|index| names.get(index));
            name.copied().unwrap_or_default()
        };
        write!(
            f,
            "{} {} {day:>2} {:02}:{:02}:{:02} {year}",
            of(&DAYS, days.rem_euclid(7)),
            of(&MONTHS, month - 1),
            second / 3600,
            second / 60 % 60,
            second % 60
        )
    }
}

/// Year, month and day of a number of days since 1970-01-01, in the Gregorian calendar extended both ways. Days are at
/// most 2^63 / 86,400, so nothing overflows.
fn civil(days: i64) -> (i64, i64, i64) {
    const DAYS_IN_400_YEARS: i64 = 146_097;
    // Years begin in March here, so that a leap day is the last one. 719,468 days before 1970 a span of 400 years began.
    let days = days + 719_468;
    let (span, day) = (
        days.div_euclid(DAYS_IN_400_YEARS),
        days.rem_euclid(DAYS_IN_400_YEARS),
    );
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    // From March on, each five months have 153 days.
    let month = (5 * day + 2) / 153;
    let day_of_month = day - (153 * month + 2) / 5 + 1;
    let (year, month) = match month {
        0..=9 => (year, month + 3),
        _ => (year + 1, month - 9),
    };
    (span * 400 + year, month, day_of_month)
}

/// The same for scripts.
#[derive(Debug, Serialize)]
pub(crate) struct JsonEntry {
    /// Exact, unless `path_hex` is there.
    path: String,
    /// The bytes of a path that is not UTF-8.
    #[serde(skip_serializing_if = "Option::is_none")]
    path_hex: Option<String>,
    #[serde(rename = "type")]
    file_type: &'static str,
    nid: u64,
    mode: String,
    nlink: u32,
    uid: u32,
    gid: u32,
    size: u64,
    mtime_seconds: i64,
    mtime_nanoseconds: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    target: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    target_hex: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    major: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    minor: Option<u32>,
}

impl JsonEntry {
    pub(crate) fn new(entry: &Entry<'_>) -> Self {
        let inode = entry.inode;
        let (path, path_hex) = text(entry.name);
        let target = entry.target.as_deref().map(text);
        let device = match inode.payload {
            InodePayload::Device(number) => Some(number),
            _ => None,
        };
        Self {
            path,
            path_hex,
            file_type: type_name(inode.file_type),
            nid: inode.nid().0,
            mode: format!("{:04o}", inode.mode & 0o7777),
            nlink: inode.nlink,
            uid: inode.uid,
            gid: inode.gid,
            size: inode.data_size(),
            mtime_seconds: inode.mtime.seconds,
            mtime_nanoseconds: inode.mtime.nanoseconds,
            target_hex: target.as_ref().and_then(|(_, hex)| hex.clone()),
            target: target.map(|(text, _)| text),
            major: device.map(|number| number.major),
            minor: device.map(|number| number.minor),
        }
    }
}

/// A file type as results name it.
pub(crate) const fn type_name(file_type: FileType) -> &'static str {
    match file_type {
        FileType::Regular => "file",
        FileType::Directory => "directory",
        FileType::CharDevice => "character-device",
        FileType::BlockDevice => "block-device",
        FileType::Fifo => "fifo",
        FileType::Socket => "socket",
        FileType::Symlink => "symlink",
    }
}

/// A layout as results name it.
pub(crate) const fn layout_name(layout: DataLayout) -> &'static str {
    match layout {
        DataLayout::FlatPlain => "flat-plain",
        DataLayout::FlatInline => "flat-inline",
        DataLayout::ChunkBased => "chunk-based",
        DataLayout::CompressedFull => "compressed-full",
        DataLayout::CompressedCompact => "compressed-compact",
    }
}

/// Units of 512 bytes as the kernel counts them (`erofs_read_inode`, fs/erofs/inode.c): blocks of compressed data, else
/// the size in whole blocks, holes included.
pub(crate) fn st_blocks(image: &Image, inode: &Inode) -> u64 {
    let bits = image.superblock().block_bits;
    let blocks = match inode.payload {
        InodePayload::CompressedBlocks(blocks) => blocks,
        _ => bits.blocks_for(inode.size),
    };
    blocks.saturating_mul(bits.bytes() / 512)
}

/// Bytes as text, and in hexadecimal where that is not exact.
pub(crate) fn text(bytes: &[u8]) -> (String, Option<String>) {
    match std::str::from_utf8(bytes) {
        Ok(text) => (text.to_owned(), None),
        Err(_) => (
            String::from_utf8_lossy(bytes).into_owned(),
            Some(bytes.iter().map(|byte| format!("{byte:02x}")).collect()),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn utc(seconds: i64, nanoseconds: u32) -> String {
        Utc(Timestamp {
            seconds,
            nanoseconds,
        })
        .to_string()
    }

    #[test]
    fn times_are_those_of_date() {
        // As `date -u -d @SECONDS` shows them.
        for (seconds, expected) in [
            (0, "1970-01-01 00:00:00"),
            (-1, "1969-12-31 23:59:59"),
            (951_827_696, "2000-02-29 12:34:56"),
            (4_107_542_400, "2100-03-01 00:00:00"),
            (-2_208_988_801, "1899-12-31 23:59:59"),
            (13_574_563_200, "2400-02-29 00:00:00"),
            (-62_135_596_800, "0001-01-01 00:00:00"),
        ] {
            assert_eq!(utc(seconds, 0), expected);
        }
        assert_eq!(utc(1, 5), "1970-01-01 00:00:01.000000005");
        for edge in [i64::MIN, i64::MAX] {
            assert!(utc(edge, 0).contains(':'));
        }
    }
}
