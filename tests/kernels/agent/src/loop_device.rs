//! Read-only loop devices.

use std::{
    fs::{File, OpenOptions},
    io,
    os::{fd::AsRawFd, unix::fs::OpenOptionsExt},
    path::Path,
};

use crate::ioctl;

const LOOP_CTL_GET_FREE: u32 = 0x4C82;
/// Linux 5.8.
const LOOP_CONFIGURE: u32 = 0x4C0A;
/// `struct loop_config` of linux/loop.h: fd, block size, `struct loop_info64` with its flags at 52.
const LOOP_CONFIG_BYTES: usize = 304;
const LO_FLAGS: usize = 8 + 52;
const LO_FLAGS_READ_ONLY: u32 = 1;
const LO_FLAGS_AUTOCLEAR: u32 = 4;
const LO_FLAGS_DIRECT_IO: u32 = 16;
/// Others may take the free device first.
const ATTEMPTS: usize = 64;

/// A loop device, which goes when it is dropped and nothing mounts it.
#[derive(Debug)]
pub(crate) struct LoopDevice {
    /// Its node below `/dev`.
    pub(crate) path: String,
    _open: File,
}

impl LoopDevice {
    /// Makes a device of `file`.
    ///
    /// # Errors
    /// The errno of the kernel.
    pub(crate) fn new(file: &Path, direct: bool) -> io::Result<Self> {
        let custom = if direct { libc::O_DIRECT } else { 0 };
        let backing = OpenOptions::new()
            .read(true)
            .custom_flags(custom)
            .open(file)?;
        let control = OpenOptions::new()
            .read(true)
            .write(true)
            .open("/dev/loop-control")?;
        let mut flags = LO_FLAGS_READ_ONLY | LO_FLAGS_AUTOCLEAR;
        if direct {
            flags |= LO_FLAGS_DIRECT_IO;
        }
        for _ in 0..ATTEMPTS {
            let number = ioctl::with_number(&control, LOOP_CTL_GET_FREE, 0)?;
            let path = format!("/dev/loop{number}");
            let device = File::open(&path)?;
            let mut config = [0; LOOP_CONFIG_BYTES];
            ioctl::put(&mut config, 0, &backing.as_raw_fd().to_ne_bytes());
            ioctl::put(&mut config, LO_FLAGS, &flags.to_ne_bytes());
            match ioctl::with_record(&device, LOOP_CONFIGURE, &mut config) {
                Ok(_) => {
                    return Ok(Self {
                        path,
                        _open: device,
                    });
                }
                Err(error) if error.raw_os_error() == Some(libc::EBUSY) => {}
                Err(error) => return Err(error),
            }
        }
        Err(io::Error::from_raw_os_error(libc::EBUSY))
    }
}
