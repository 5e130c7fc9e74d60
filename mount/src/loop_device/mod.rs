//! Loop devices: a file shown as a block device that frees itself, read-only but for writable filesystems.

mod ioctl;

use erofs_format::BlockBits;
use ioctl::LoopInfo;
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How often to look for another free device when somebody else was faster.
const RACES: usize = 64;

/// What to show of a file.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LoopSettings {
    /// First byte.
    pub(crate) offset: u64,
    /// Number of bytes, 0 for all. A tail shorter than a logical block is not shown.
    pub(crate) size_limit: u64,
    /// Block size of the image: the logical block size must not exceed it.
    pub(crate) block_bits: BlockBits,
    /// Alignment in bytes that the file asks of direct I/O; `None` goes through the page cache.
    pub(crate) direct_io_alignment: Option<u32>,
    /// Whether the file, which then must be open for that, is written to.
    pub(crate) writable: bool,
}

/// An attached loop device. Once it is mounted the mount keeps it; dropped unmounted it is freed.
#[derive(Debug)]
pub(crate) struct LoopDevice {
    path: PathBuf,
    _open: OwnedFd,
}

/// A step of attaching a loop device that failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{operation}: {errno}")]
pub struct LoopError {
    /// The step.
    pub operation: String,
    /// Its error.
    pub errno: Errno,
}

impl LoopError {
    fn new(operation: impl Into<String>) -> impl FnOnce(Errno) -> Self {
        let operation = operation.into();
        move |errno| Self { operation, errno }
    }
}

impl LoopDevice {
    /// Attaches `file`; `name` is what losetup(8) shows.
    pub(crate) fn attach(
        file: impl AsFd,
        name: &Path,
        settings: LoopSettings,
    ) -> Result<Self, LoopError> {
        Self::attach_with(&file, name, settings, set_up)
    }

    fn attach_with<F: AsFd>(
        file: &F,
        name: &Path,
        settings: LoopSettings,
        set_up: fn(&OwnedFd, &F, &Path, LoopSettings) -> rustix::io::Result<()>,
    ) -> Result<Self, LoopError> {
        let control = open(Path::new("/dev/loop-control"), OFlags::RDWR)?;
        // What is configured through a descriptor for reading is read-only.
        let access = match settings.writable {
            true => OFlags::RDWR,
            false => OFlags::RDONLY,
        };
        let mut race = Errno::BUSY;
        for _ in 0..RACES {
            let number = ioctl::get_free(&control).map_err(LoopError::new("LOOP_CTL_GET_FREE"))?;
            let path = PathBuf::from(format!("/dev/loop{number}"));
            let device = match open(&path, access) {
                Ok(device) => device,
                // A device just made gets its node from udev or devtmpfs; one just taken by another may be locked.
                Err(error) if matches!(error.errno, Errno::NOENT | Errno::NXIO | Errno::BUSY) => {
                    race = error.errno;
                    std::thread::sleep(Duration::from_millis(1));
                    continue;
                }
                Err(error) => return Err(error),
            };
            match set_up(&device, file, name, settings) {
                Ok(()) => {
                    // Not for writing: kernels without CONFIG_BLK_DEV_WRITE_MOUNTED refuse to mount a device open for that.
                    let open = open(&path, OFlags::RDONLY)?;
                    return Ok(Self { path, _open: open });
                }
                Err(Errno::BUSY) => race = Errno::BUSY,
                Err(errno) => {
                    return Err(LoopError::new(format!(
                        "attaching {} to {}",
                        name.display(),
                        path.display()
                    ))(errno));
                }
            }
        }
        Err(LoopError::new(format!(
            "no loop device after {RACES} attempts"
        ))(race))
    }

    /// `/dev/loopN`.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

fn open(path: &Path, access: OFlags) -> Result<OwnedFd, LoopError> {
    rustix::fs::open(path, access | OFlags::CLOEXEC, Mode::empty())
        .map_err(LoopError::new(format!("open({})", path.display())))
}

/// One step where the kernel can; direct I/O where it is allowed.
fn set_up<F: AsFd>(
    device: &OwnedFd,
    file: &F,
    name: &Path,
    settings: LoopSettings,
) -> rustix::io::Result<()> {
    let buffered = LoopSettings {
        direct_io_alignment: None,
        ..settings
    };
    let attempts = [
        direct_block_size(settings).map(|_| settings),
        Some(buffered),
    ];
    for settings in attempts.into_iter().flatten() {
        let block_size = direct_block_size(settings).unwrap_or(512);
        match ioctl::configure(device, file.as_fd(), block_size, info(name, settings)) {
            // Either this kernel does not know the call (before 5.8), or it dislikes the settings.
            Err(Errno::INVAL | Errno::NOTTY | Errno::NOSYS) => {}
            done => return done,
        }
    }
    set_up_in_steps(device, file, name, settings)
}

/// The calls of kernels before 5.8. Another process sees the device before it is set up.
fn set_up_in_steps<F: AsFd>(
    device: &OwnedFd,
    file: &F,
    name: &Path,
    settings: LoopSettings,
) -> rustix::io::Result<()> {
    ioctl::set_file(device, file.as_fd())?;
    let buffered = LoopSettings {
        direct_io_alignment: None,
        ..settings
    };
    let mut done = ioctl::set_status(device, info(name, buffered));
    // EAGAIN: pages read by somebody (udev) between the two steps.
    for _ in 0..RACES {
        if done != Err(Errno::AGAIN) {
            break;
        }
        std::thread::sleep(Duration::from_millis(1));
        done = ioctl::set_status(device, info(name, buffered));
    }
    if done.is_err() {
        // The first error is the one to tell.
        let _ = ioctl::clear(device);
        return done;
    }
    if direct_block_size(settings) == Some(512) {
        // A gain where it works, and nothing is lost where it does not.
        let _ = ioctl::set_direct_io(device);
    }
    Ok(())
}

/// Logical block size under which direct I/O is possible.
fn direct_block_size(settings: LoopSettings) -> Option<u32> {
    let size = settings.direct_io_alignment?.max(512);
    let fits = size.is_power_of_two() && u64::from(size) <= settings.block_bits.bytes().min(4096);
    (fits && settings.offset.is_multiple_of(size.into())).then_some(size)
}

fn info(name: &Path, settings: LoopSettings) -> LoopInfo {
    let mut file_name = [0; 64];
    for (to, from) in file_name
        .iter_mut()
        .take(63)
        .zip(name.as_os_str().as_bytes())
    {
        *to = *from;
    }
    let direct = if settings.direct_io_alignment.is_some() {
        ioctl::DIRECT_IO
    } else {
        0
    };
    let read_only = match settings.writable {
        true => 0,
        false => ioctl::READ_ONLY,
    };
    LoopInfo::new(
        settings.offset,
        settings.size_limit,
        read_only | ioctl::AUTOCLEAR | direct,
        file_name,
    )
}

/// The file behind `loopN`, from sysfs.
pub(crate) fn backing_file(loop_name: &str) -> Option<PathBuf> {
    let mut path = std::fs::read(format!("/sys/block/{loop_name}/loop/backing_file")).ok()?;
    if path.last() == Some(&b'\n') {
        path.pop();
    }
    Some(PathBuf::from(std::ffi::OsString::from_vec(path)))
}

/// Whether `loopN` frees itself at its last close; `None` when it is free already.
pub(crate) fn frees_itself(loop_name: &str) -> Option<bool> {
    let text = std::fs::read_to_string(format!("/sys/block/{loop_name}/loop/autoclear")).ok()?;
    Some(text.trim() == "1")
}

/// Waits until `loopN` shows `file` no longer; `false` when it still does after `patience`.
pub(crate) fn wait_until_free(loop_name: &str, file: &Path, patience: Duration) -> bool {
    let start = Instant::now();
    while backing_file(loop_name).as_deref() == Some(file) {
        if start.elapsed() > patience {
            return false;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    fn settings(alignment: Option<u32>) -> LoopSettings {
        LoopSettings {
            offset: 0,
            size_limit: 0,
            block_bits: BlockBits::B4096,
            direct_io_alignment: alignment,
            writable: false,
        }
    }

    #[test]
    fn direct_io_never_asks_for_more_than_the_image_has() {
        let with = |offset, bits, alignment| {
            direct_block_size(LoopSettings {
                offset,
                block_bits: BlockBits::new(bits).expect("valid"),
                ..settings(alignment)
            })
        };
        for (offset, bits, alignment, expected) in [
            (0, 12, None, None),
            (0, 12, Some(512), Some(512)),
            (0, 12, Some(1), Some(512)),
            (0, 12, Some(4096), Some(4096)),
            (0, 9, Some(512), Some(512)),
            (0, 9, Some(4096), None),
            (0, 14, Some(4096), Some(4096)),
            (0, 14, Some(16384), None),
            (512, 12, Some(512), Some(512)),
            (512, 12, Some(4096), None),
            (4096, 12, Some(4096), Some(4096)),
            (100, 12, Some(512), None),
            (0, 12, Some(3000), None),
        ] {
            assert_eq!(
                with(offset, bits, alignment),
                expected,
                "{offset} {bits} {alignment:?}"
            );
        }
    }

    /// Both ways of setting up show the right bytes and free the device.
    #[test]
    fn devices_show_the_file_and_free_themselves() {
        if let Some(reason) = crate::test_support::cannot_mount() {
            return crate::test_support::skip("loop devices", &reason);
        }
        let file = tempfile::NamedTempFile::new().expect("temporary file");
        let bytes: Vec<u8> = (0..20_000u32).map(|i| (i / 7) as u8).collect();
        std::fs::write(file.path(), &bytes).expect("written");
        let shown = LoopSettings {
            offset: 1024,
            size_limit: 8192,
            ..settings(Some(512))
        };
        for set_up in [set_up, set_up_in_steps] {
            let device = LoopDevice::attach_with(file.as_file(), file.path(), shown, set_up)
                .expect("attached");
            let mut read = Vec::new();
            std::fs::File::open(device.path())
                .expect("open")
                .read_to_end(&mut read)
                .expect("read");
            assert_eq!(read, bytes[1024..1024 + 8192]);
            let name = device
                .path()
                .strip_prefix("/dev")
                .expect("in /dev")
                .to_str()
                .expect("text")
                .to_owned();
            assert_eq!(frees_itself(&name), Some(true));
            let ro = std::fs::read_to_string(format!("/sys/block/{name}/ro")).expect("sysfs");
            assert_eq!(ro.trim(), "1");
            let source = crate::capabilities::SourceFile::inspect(file.path()).expect("there");
            if source.direct_io_alignment.is_some_and(|bytes| bytes <= 512) {
                let direct = std::fs::read_to_string(format!("/sys/block/{name}/loop/dio"));
                assert_eq!(direct.expect("sysfs").trim(), "1");
            }
            let backing = backing_file(&name).expect("attached");
            drop(device);
            assert!(
                wait_until_free(&name, &backing, Duration::from_secs(5)),
                "{name} still attached"
            );
        }
    }
}
