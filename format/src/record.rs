//! Reading a fixed-size record from the front of a byte slice.

use zerocopy::{FromBytes, Immutable, KnownLayout, Unaligned};

/// A record was expected where too few bytes are left.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{record} needs {needed} bytes, only {available} are left")]
pub struct Truncated {
    /// Name of the record.
    pub record: &'static str,
    /// Size of the record in bytes.
    pub needed: usize,
    /// Bytes that are there.
    pub available: usize,
}

/// Copies the record of type `T` from the front of `bytes`.
///
/// # Errors
/// [`Truncated`] when `bytes` is shorter than the record.
pub fn read<T>(bytes: &[u8], record: &'static str) -> Result<T, Truncated>
where
    T: FromBytes + KnownLayout + Immutable + Unaligned + Copy,
{
    T::read_from_prefix(bytes)
        .map(|(value, _)| value)
        .map_err(|_| Truncated {
            record,
            needed: size_of::<T>(),
            available: bytes.len(),
        })
}
