//! Getting a FUSE connection mounted and taken down: by mount(2) with privileges, by the set-uid `fusermount3` without.
//!
//! fuser could mount too, but shows root's mounts without their subtype and knows fewer attributes.

use crate::options::ServeOptions;
use rustix::fd::{AsRawFd, OwnedFd};
use rustix::io::Errno;
use rustix::mount::{MountAttrFlags, MountFlags, UnmountFlags};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags};
use std::ffi::CString;
use std::fs::File;
use std::io::{self, ErrorKind, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Where connections to the kernel come from.
const DEVICE: &str = "/dev/fuse";
/// The type that `mount` shows. mount(2) takes what is behind the dot as the subtype.
const FILESYSTEM_TYPE: &str = "fuse.erofs";
/// That part alone, for `fusermount3`.
const SUBTYPE: &str = "erofs";
/// The helper of libfuse 3, and that of libfuse 2.
const HELPERS: [&str; 2] = ["fusermount3", "fusermount"];
/// Tells the helper on which descriptor to send the connection.
const HELPER_SOCKET: &str = "_FUSE_COMMFD";

/// Why something could not be mounted or unmounted.
#[derive(Debug, thiserror::Error)]
pub enum MountError {
    /// The device.
    #[error("{DEVICE}: {0} (is the module fuse loaded, may you open the device?)")]
    Device(#[source] io::Error),
    /// A name that mount(2) cannot be told.
    #[error("{0:?} contains a NUL")]
    Nul(String),
    /// mount(2) or umount(2).
    #[error("{target}: {errno}", target = target.display())]
    Kernel {
        /// The directory.
        target: PathBuf,
        /// What the kernel said.
        #[source]
        errno: Errno,
    },
    /// No helper to be found.
    #[error(
        "fusermount3, which mounts for users other than root, is not installed (package fuse3)"
    )]
    NoHelper,
    /// The helper could not be run.
    #[error("fusermount3: {0}")]
    Helper(#[source] io::Error),
    /// The helper refused.
    #[error("{0}")]
    Refused(String),
}

/// Mounts on `target`, an absolute path, and returns the connection.
pub(crate) fn mount(target: &Path, options: &ServeOptions) -> Result<OwnedFd, MountError> {
    match mount_directly(target, options) {
        Err(MountError::Kernel {
            errno: Errno::PERM, ..
        }) => mount_by_helper(target, options),
        result => result,
    }
}

fn mount_directly(target: &Path, options: &ServeOptions) -> Result<OwnedFd, MountError> {
    let device = open_device().map_err(MountError::Device)?;
    let mut data = format!(
        "fd={},rootmode=40000,user_id={},group_id={},default_permissions",
        device.as_raw_fd(),
        rustix::process::getuid().as_raw(),
        rustix::process::getgid().as_raw(),
    );
    if options.allow_other {
        data.push_str(",allow_other");
    }
    let nul = |text: &str| MountError::Nul(text.to_owned());
    let data = CString::new(data.as_str()).map_err(|_| nul(&data))?;
    let source = CString::new(options.source.as_str()).map_err(|_| nul(&options.source))?;
    rustix::mount::mount(
        source.as_c_str(),
        target,
        FILESYSTEM_TYPE,
        flags(options.attributes),
        data.as_c_str(),
    )
    .map_err(|errno| MountError::Kernel {
        target: target.to_owned(),
        errno,
    })?;
    Ok(device)
}

/// A connection that is not mounted yet. The helper opens the device with our rights, so it gets no further than this.
fn open_device() -> io::Result<OwnedFd> {
    let device = File::options().read(true).write(true).open(DEVICE)?;
    Ok(device.into())
}

/// The same attributes for mount(2).
fn flags(attributes: MountAttrFlags) -> MountFlags {
    use MountAttrFlags as A;
    let pairs = [
        (A::MOUNT_ATTR_NOSUID, MountFlags::NOSUID),
        (A::MOUNT_ATTR_NODEV, MountFlags::NODEV),
        (A::MOUNT_ATTR_NOEXEC, MountFlags::NOEXEC),
        (A::MOUNT_ATTR_NOATIME, MountFlags::NOATIME),
        (A::MOUNT_ATTR_STRICTATIME, MountFlags::STRICTATIME),
        (A::MOUNT_ATTR_NODIRATIME, MountFlags::NODIRATIME),
        (A::MOUNT_ATTR_NOSYMFOLLOW, MountFlags::NOSYMFOLLOW),
    ];
    let set = pairs
        .into_iter()
        .filter(|(attribute, _)| attributes.contains(*attribute));
    set.fold(MountFlags::RDONLY, |flags, (_, flag)| flags | flag)
}

/// Lets `fusermount3` mount: it sends the connection through a socket that it gets as its standard input.
fn mount_by_helper(target: &Path, options: &ServeOptions) -> Result<OwnedFd, MountError> {
    let (ours, theirs) = UnixStream::pair().map_err(MountError::Helper)?;
    let child = start_helper(|command| {
        let socket = theirs.try_clone()?;
        command
            .arg("-o")
            .arg(helper_options(options))
            .arg("--")
            .arg(target)
            .env(HELPER_SOCKET, "0")
            .stdin(OwnedFd::from(socket));
        Ok(())
    })?;
    drop(theirs);
    let device = receive(&ours).map_err(MountError::Helper)?;
    let output = child.wait_with_output().map_err(MountError::Helper)?;
    match device {
        Some(device) if output.status.success() => Ok(device),
        _ => Err(refused(&output.stderr)),
    }
}

/// The options as the helper reads them: commas and backslashes in a value want a backslash. There are no access times to
/// be chosen about.
fn helper_options(options: &ServeOptions) -> String {
    use MountAttrFlags as A;
    let mut list = format!("ro,default_permissions,subtype={SUBTYPE}");
    let named = [
        (A::MOUNT_ATTR_NOSUID, ",nosuid"),
        (A::MOUNT_ATTR_NODEV, ",nodev"),
        (A::MOUNT_ATTR_NOEXEC, ",noexec"),
        (A::MOUNT_ATTR_NOSYMFOLLOW, ",nosymfollow"),
    ];
    for (attribute, name) in named {
        if options.attributes.contains(attribute) {
            list.push_str(name);
        }
    }
    if options.allow_other {
        list.push_str(",allow_other");
    }
    list.push_str(",fsname=");
    for letter in options.source.chars() {
        if matches!(letter, ',' | '\\') {
            list.push('\\');
        }
        list.push(letter);
    }
    list
}

/// Receives the one descriptor that the helper sends, or nothing when it gives up.
fn receive(socket: &UnixStream) -> io::Result<Option<OwnedFd>> {
    let mut byte = [0];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    rustix::io::retry_on_intr(|| {
        rustix::net::recvmsg(
            socket,
            &mut [IoSliceMut::new(&mut byte)],
            &mut control,
            RecvFlags::CMSG_CLOEXEC,
        )
    })?;
    let device = control.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut descriptors) => descriptors.next(),
        _ => None,
    });
    Ok(device)
}

/// Detaches the mount on `target`: it disappears now, and ends when nobody uses it any more.
pub(crate) fn unmount_lazily(target: &Path) -> Result<(), MountError> {
    match rustix::mount::unmount(target, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW) {
        Ok(()) => Ok(()),
        Err(Errno::PERM) => {
            let child = start_helper(|command| {
                command.args(["-u", "-z", "--"]).arg(target);
                Ok(())
            })?;
            let output = child.wait_with_output().map_err(MountError::Helper)?;
            if output.status.success() {
                return Ok(());
            }
            Err(refused(&output.stderr))
        }
        Err(errno) => Err(MountError::Kernel {
            target: target.to_owned(),
            errno,
        }),
    }
}

/// Whether a FUSE mount is on `target` whose server is gone. Asks for what the kernel keeps no copy of.
pub(crate) fn is_abandoned(target: &Path) -> bool {
    // The second when the server goes away over the question.
    matches!(
        rustix::fs::statvfs(target),
        Err(Errno::NOTCONN | Errno::CONNABORTED)
    )
}

/// Starts whichever helper there is.
fn start_helper(
    arguments: impl Fn(&mut Command) -> io::Result<()>,
) -> Result<std::process::Child, MountError> {
    for helper in HELPERS {
        let mut command = Command::new(helper);
        command
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        arguments(&mut command).map_err(MountError::Helper)?;
        match command.spawn() {
            Ok(child) => return Ok(child),
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(MountError::Helper(error)),
        }
    }
    Err(MountError::NoHelper)
}

fn refused(message: &[u8]) -> MountError {
    let message = String::from_utf8_lossy(message).trim().to_owned();
    MountError::Refused(if message.is_empty() {
        "fusermount3 failed without a word".to_owned()
    } else {
        message
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn helper_options_are_escaped() {
        let options = ServeOptions {
            source: r"/a,b\c".to_owned(),
            attributes: MountAttrFlags::MOUNT_ATTR_NODEV | MountAttrFlags::MOUNT_ATTR_NOATIME,
            allow_other: true,
            ..ServeOptions::default()
        };
        assert_eq!(
            helper_options(&options),
            r"ro,default_permissions,subtype=erofs,nodev,allow_other,fsname=/a\,b\\c"
        );
    }

    #[test]
    fn mounts_are_always_read_only() {
        assert_eq!(flags(MountAttrFlags::empty()), MountFlags::RDONLY);
        assert_eq!(
            flags(MountAttrFlags::MOUNT_ATTR_NOSYMFOLLOW | MountAttrFlags::MOUNT_ATTR_NOSUID),
            MountFlags::RDONLY | MountFlags::NOSYMFOLLOW | MountFlags::NOSUID
        );
    }

    #[test]
    fn an_ordinary_directory_is_not_an_abandoned_mount() {
        assert!(!is_abandoned(Path::new("/")));
        assert!(!is_abandoned(Path::new("/nowhere")));
    }
}
