//! The 512 bytes of a ustar header.

use super::BLOCK_SIZE;
use erofs_format::inode::Timestamp;

const NAME: Field = Field(0, 100);
const MODE: Field = Field(100, 8);
const UID: Field = Field(108, 8);
const GID: Field = Field(116, 8);
const SIZE: Field = Field(124, 12);
const MTIME: Field = Field(136, 12);
const CHECKSUM: Field = Field(148, 8);
const TYPE_FLAG: Field = Field(156, 1);
const LINK_NAME: Field = Field(157, 100);
const MAGIC: Field = Field(257, 8);
const DEVICE_MAJOR: Field = Field(329, 8);
const DEVICE_MINOR: Field = Field(337, 8);
const PREFIX: Field = Field(345, 155);

/// Start and length in bytes.
#[derive(Clone, Copy)]
struct Field(usize, usize);

/// A header block. What does not fit a field is left zero, and the setter returns `false`.
pub(super) struct Header([u8; BLOCK_SIZE]);

impl Header {
    pub(super) fn new(type_flag: u8) -> Self {
        let mut header = Self([0; BLOCK_SIZE]);
        header.put(TYPE_FLAG, &[type_flag]);
        header.put(MAGIC, b"ustar\x0000");
        for field in [MODE, UID, GID, SIZE, MTIME, DEVICE_MAJOR, DEVICE_MINOR] {
            header.number(field, 0);
        }
        header
    }

    fn put(&mut self, Field(start, length): Field, bytes: &[u8]) -> bool {
        let fits = bytes.len() <= length;
        if let Some(field) = self.0.get_mut(start..start + bytes.len()).filter(|_| fits) {
            field.copy_from_slice(bytes);
        }
        fits
    }

    /// Octal digits with a NUL behind them.
    fn number(&mut self, field: Field, value: u64) -> bool {
        let digits = field.1 - 1;
        let text = format!("{value:0digits$o}");
        text.len() == digits && self.put(field, text.as_bytes())
    }

    /// The path, split at a slash if it is long.
    pub(super) fn path(&mut self, path: &[u8]) -> bool {
        if self.put(NAME, path) {
            return true;
        }
        let split = path.iter().enumerate().find_map(|(at, byte)| {
            let rest = path.get(at + 1..).unwrap_or_default();
            let fits = at > 0 && at <= PREFIX.1 && (1..=NAME.1).contains(&rest.len());
            (*byte == b'/' && fits).then_some((at, rest))
        });
        let Some((at, rest)) = split else {
            return false;
        };
        self.put(NAME, rest) && self.put(PREFIX, path.get(..at).unwrap_or_default())
    }

    /// As much of a name as fits, for members whose name is said elsewhere.
    pub(super) fn placeholder(&mut self, name: &[u8]) {
        self.put(NAME, name.get(..NAME.1).unwrap_or(name));
    }

    pub(super) fn link(&mut self, target: &[u8]) -> bool {
        self.put(LINK_NAME, target)
    }

    pub(super) fn mode(&mut self, mode: u16) {
        self.number(MODE, (mode & 0o7777).into());
    }

    pub(super) fn uid(&mut self, uid: u32) -> bool {
        self.number(UID, uid.into())
    }

    pub(super) fn gid(&mut self, gid: u32) -> bool {
        self.number(GID, gid.into())
    }

    pub(super) fn size(&mut self, size: u64) -> bool {
        self.number(SIZE, size)
    }

    /// The whole seconds, if they can be said; `false` also if that is not all.
    pub(super) fn mtime(&mut self, mtime: Timestamp) -> bool {
        let seconds = u64::try_from(mtime.seconds);
        seconds.is_ok_and(|seconds| self.number(MTIME, seconds)) && mtime.nanoseconds == 0
    }

    /// Numbers of 21 bits; those of Linux have 12 and 20.
    pub(super) fn device(&mut self, major: u32, minor: u32) -> (bool, bool) {
        (
            self.number(DEVICE_MAJOR, major.into()),
            self.number(DEVICE_MINOR, minor.into()),
        )
    }

    /// The block, with its checksum: the sum of its bytes, those of the checksum taken for spaces.
    pub(super) fn finish(mut self) -> [u8; BLOCK_SIZE] {
        self.put(CHECKSUM, b"        ");
        let sum: u32 = self.0.iter().map(|byte| u32::from(*byte)).sum();
        self.put(CHECKSUM, format!("{sum:06o}\0").as_bytes());
        self.0
    }
}
