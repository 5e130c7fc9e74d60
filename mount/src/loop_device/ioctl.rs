//! The ioctls of the loop driver (`include/uapi/linux/loop.h`), each behind a safe function.
#![allow(unsafe_code)]

use rustix::fd::{AsFd, AsRawFd, BorrowedFd};
use rustix::io;
use rustix::ioctl::{Ioctl, IoctlOutput, Opcode, Setter, ioctl};
use std::ffi::c_void;

const LOOP_SET_FD: Opcode = 0x4C00;
const LOOP_CLR_FD: Opcode = 0x4C01;
const LOOP_SET_STATUS64: Opcode = 0x4C04;
const LOOP_SET_DIRECT_IO: Opcode = 0x4C08;
const LOOP_CONFIGURE: Opcode = 0x4C0A;
const LOOP_CTL_GET_FREE: Opcode = 0x4C82;

/// `LO_FLAGS_READ_ONLY`.
pub(super) const READ_ONLY: u32 = 1;
/// `LO_FLAGS_AUTOCLEAR`: the device frees itself at its last close.
pub(super) const AUTOCLEAR: u32 = 4;
/// `LO_FLAGS_DIRECT_IO`.
pub(super) const DIRECT_IO: u32 = 16;

/// `struct loop_info64`, 232 bytes.
#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct LoopInfo {
    device: u64,
    inode: u64,
    rdevice: u64,
    /// Start of the device in the file, in bytes.
    pub(super) offset: u64,
    /// Bytes of the file to show, 0 for all.
    pub(super) size_limit: u64,
    number: u32,
    encrypt_type: u32,
    encrypt_key_size: u32,
    /// `READ_ONLY | AUTOCLEAR | DIRECT_IO`.
    pub(super) flags: u32,
    /// NUL-padded name, for losetup(8) to show.
    pub(super) file_name: [u8; 64],
    crypt_name: [u8; 64],
    encrypt_key: [u8; 32],
    init: [u64; 2],
}

impl LoopInfo {
    pub(super) const fn new(offset: u64, size_limit: u64, flags: u32, file_name: [u8; 64]) -> Self {
        Self {
            device: 0,
            inode: 0,
            rdevice: 0,
            offset,
            size_limit,
            number: 0,
            encrypt_type: 0,
            encrypt_key_size: 0,
            flags,
            file_name,
            crypt_name: [0; 64],
            encrypt_key: [0; 32],
            init: [0; 2],
        }
    }
}

/// `struct loop_config`, 304 bytes.
#[repr(C)]
struct LoopConfig {
    fd: u32,
    block_size: u32,
    info: LoopInfo,
    reserved: [u64; 8],
}

const _: () = assert!(size_of::<LoopInfo>() == 232 && size_of::<LoopConfig>() == 304);

/// Number of a free loop device, made if there is none.
pub(super) fn get_free(control: impl AsFd) -> io::Result<i32> {
    // SAFETY: LOOP_CTL_GET_FREE takes no argument and touches no memory of ours.
    unsafe { ioctl(control, Number::<LOOP_CTL_GET_FREE>(0)) }
}

/// Attaches `file` in one step (Linux 5.8).
pub(super) fn configure(
    device: impl AsFd,
    file: BorrowedFd<'_>,
    block_size: u32,
    info: LoopInfo,
) -> io::Result<()> {
    let config = LoopConfig {
        fd: descriptor(file)?,
        block_size,
        info,
        reserved: [0; 8],
    };
    // SAFETY: LOOP_CONFIGURE reads one `struct loop_config`, whose layout `LoopConfig` has (size checked above), from the
    // pointer that `Setter` keeps valid for the call.
    unsafe { ioctl(device, Setter::<LOOP_CONFIGURE, LoopConfig>::new(config)) }
}

/// Attaches `file` with default settings.
pub(super) fn set_file(device: impl AsFd, file: BorrowedFd<'_>) -> io::Result<()> {
    let number = descriptor(file)? as usize;
    // SAFETY: LOOP_SET_FD takes a descriptor by value; the kernel checks it.
    unsafe { ioctl(device, Number::<LOOP_SET_FD>(number)) }.map(drop)
}

/// Changes the settings of an attached device.
pub(super) fn set_status(device: impl AsFd, info: LoopInfo) -> io::Result<()> {
    // SAFETY: LOOP_SET_STATUS64 reads one `struct loop_info64`, whose layout `LoopInfo` has (size checked above), from the
    // pointer that `Setter` keeps valid for the call.
    unsafe { ioctl(device, Setter::<LOOP_SET_STATUS64, LoopInfo>::new(info)) }
}

/// Switches an attached device to direct I/O.
pub(super) fn set_direct_io(device: impl AsFd) -> io::Result<()> {
    // SAFETY: LOOP_SET_DIRECT_IO takes 0 or 1 by value.
    unsafe { ioctl(device, Number::<LOOP_SET_DIRECT_IO>(1)) }.map(drop)
}

/// Detaches the file, at the last close if the device is in use.
pub(super) fn clear(device: impl AsFd) -> io::Result<()> {
    // SAFETY: LOOP_CLR_FD takes no argument.
    unsafe { ioctl(device, Number::<LOOP_CLR_FD>(0)) }.map(drop)
}

fn descriptor(file: BorrowedFd<'_>) -> io::Result<u32> {
    u32::try_from(file.as_raw_fd()).map_err(|_| io::Errno::BADF)
}

/// An ioctl that takes a number by value and answers with its return value.
struct Number<const OPCODE: Opcode>(usize);

// SAFETY: the opcodes used with it take their argument by value, so the pointer is never followed, and the output is the
// return value alone.
unsafe impl<const OPCODE: Opcode> Ioctl for Number<OPCODE> {
    type Output = i32;
    const IS_MUTATING: bool = false;

    fn opcode(&self) -> Opcode {
        OPCODE
    }

    fn as_ptr(&mut self) -> *mut c_void {
        std::ptr::without_provenance_mut(self.0)
    }

    unsafe fn output_from_ptr(output: IoctlOutput, _: *mut c_void) -> io::Result<i32> {
        Ok(output)
    }
}
