//! The ioctls that no safe interface offers.

use std::{
    fs::File,
    io,
    os::fd::{AsRawFd, RawFd},
};

/// An ioctl whose argument is a number, or none.
///
/// # Errors
/// The errno of the kernel.
pub(crate) fn with_number(file: &File, request: u32, number: RawFd) -> io::Result<i32> {
    // SAFETY: the callers' requests take a number by value, so the kernel touches no memory of ours.
    check(unsafe { libc::ioctl(file.as_raw_fd(), request as libc::Ioctl, number) })
}

/// An ioctl whose argument is a record of bytes, which the kernel may change.
///
/// # Errors
/// The errno of the kernel.
pub(crate) fn with_record(file: &File, request: u32, record: &mut [u8]) -> io::Result<i32> {
    // SAFETY: the callers hand in at least as many bytes as the request's record has.
    check(unsafe {
        libc::ioctl(
            file.as_raw_fd(),
            request as libc::Ioctl,
            record.as_mut_ptr(),
        )
    })
}

fn check(result: i32) -> io::Result<i32> {
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(result)
    }
}

/// Puts `bytes` into a record.
pub(crate) fn put(record: &mut [u8], offset: usize, bytes: &[u8]) {
    record[offset..offset + bytes.len()].copy_from_slice(bytes);
}
