//! fsopen(2), fsconfig(2), fsmount(2).

use super::{KernelError, KernelMount, lossy};
use rustix::fd::{AsFd, AsRawFd, OwnedFd};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{FsMountFlags, FsOpenFlags};
use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;

/// fsconfig(2) takes strings of up to 255 bytes (`strndup_user(_value, 256)` in fs/fsopen.c).
const LONGEST_VALUE: usize = 255;

pub(super) fn mount_detached(mount: &KernelMount) -> Result<OwnedFd, KernelError> {
    let context = rustix::mount::fsopen("erofs", FsOpenFlags::FSOPEN_CLOEXEC)
        .map_err(|errno| KernelError::new("fsopen(erofs)", errno))?;
    // Open files stand in for paths that are too long, and must stay open until the mount is made.
    let mut stand_ins = Vec::new();
    set(
        &context,
        "source",
        mount.source.as_os_str().to_owned(),
        &mut stand_ins,
    )?;
    let flag = |key: &str| {
        rustix::mount::fsconfig_set_flag(context.as_fd(), key)
            .map_err(|errno| failure(&context, format!("fsconfig({key})"), errno))
    };
    flag("ro")?;
    for option in mount.driver_options() {
        match option.value {
            Some(value) => set(&context, &option.key, value, &mut stand_ins)?,
            None => flag(&option.key)?,
        }
    }
    rustix::mount::fsconfig_create(context.as_fd()).map_err(|errno| {
        failure(
            &context,
            format!("fsconfig(create, {})", mount.source.display()),
            errno,
        )
    })?;
    rustix::mount::fsmount(
        context.as_fd(),
        FsMountFlags::FSMOUNT_CLOEXEC,
        mount.attributes,
    )
    .map_err(|errno| failure(&context, "fsmount".to_owned(), errno))
}

fn set(
    context: &OwnedFd,
    key: &str,
    value: OsString,
    stand_ins: &mut Vec<OwnedFd>,
) -> Result<(), KernelError> {
    let mut value = value;
    let operation = format!("fsconfig({key}={})", lossy(&value));
    if value.len() > LONGEST_VALUE && matches!(key, "source" | "device") {
        let file = rustix::fs::open(&value, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
            .map_err(|errno| KernelError::new(format!("open({})", lossy(&value)), errno))?;
        value = format!("/proc/self/fd/{}", file.as_raw_fd()).into();
        stand_ins.push(file);
    }
    rustix::mount::fsconfig_set_string(context.as_fd(), key, value.as_bytes())
        .map_err(|errno| failure(context, operation, errno))
}

/// The error with the messages that the context collected: one read(2), one message, ENODATA after the last.
fn failure(context: &OwnedFd, operation: String, errno: Errno) -> KernelError {
    let mut log = Vec::new();
    let mut buffer = [0; 1024];
    while let Ok(length @ 1..) = rustix::io::read(context, &mut buffer) {
        let message = String::from_utf8_lossy(buffer.get(..length).unwrap_or_default());
        // The first letter tells the level: "e ", "w " or "i ".
        let text = message.get(2..).unwrap_or_default().trim_end();
        log.push(text.to_owned());
        if log.len() >= 16 {
            break;
        }
    }
    KernelError {
        operation,
        errno,
        log,
    }
}
