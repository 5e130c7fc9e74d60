//! One arena for all names and symlink targets.

use super::TreeError;

/// Bytes in the arena. Names have at most 255 bytes, symlink targets at most 4095.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct NameRef {
    start: u32,
    length: u16,
}

impl NameRef {
    /// Length in bytes.
    pub const fn len(self) -> usize {
        self.length as usize
    }

    /// Whether it has no bytes.
    pub const fn is_empty(self) -> bool {
        self.length == 0
    }
}

/// The arena.
#[derive(Debug, Default)]
pub(super) struct NameArena {
    bytes: Vec<u8>,
}

impl NameArena {
    pub(super) fn push(&mut self, bytes: &[u8]) -> Result<NameRef, TreeError> {
        let start =
            u32::try_from(self.bytes.len()).map_err(|_| TreeError::TooMany("bytes of names"))?;
        let length =
            u16::try_from(bytes.len()).map_err(|_| TreeError::TooMany("bytes in one name"))?;
        self.bytes.extend_from_slice(bytes);
        Ok(NameRef { start, length })
    }

    pub(super) fn get(&self, name: NameRef) -> &[u8] {
        &self.bytes[name.start as usize..][..name.len()]
    }
}
