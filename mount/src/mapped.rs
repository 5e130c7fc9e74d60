//! A mounted image once more, with other owners: what a container sees whose users have other numbers outside (idmapped mounts,
//! Linux 5.12; EROFS and overlayfs over it 5.19).

use rustix::fs::CWD;
use rustix::mount::{MoveMountFlags, OpenTreeFlags, move_mount, open_tree};
use std::fs::{self, File};
use std::io;
use std::mem::size_of;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// How long a process may take to come into a namespace of its own.
const PATIENCE: Duration = Duration::from_secs(5);

/// Numbers of users or groups.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IdRange {
    /// The first one in the image.
    pub inside: u32,
    /// The first one that it is shown as.
    pub outside: u32,
    /// How many there are.
    pub count: u32,
}

/// Which numbers are shown as which.
#[derive(Debug)]
pub struct IdMapping(File);

/// The process by which a namespace is made: it does nothing, and ends with this.
struct Holder(Child);

impl Drop for Holder {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl IdMapping {
    /// A mapping of users and groups, each of at least one range.
    ///
    /// # Errors
    /// No user namespace can be made, or the ranges are refused: they overlap, or are too many.
    pub fn new(users: &[IdRange], groups: &[IdRange]) -> io::Result<Self> {
        let child = Command::new("unshare")
            .args(["--user", "cat"])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        let mut holder = Holder(child);
        let folder = Path::new("/proc").join(holder.0.id().to_string());
        let own = fs::read_link("/proc/self/ns/user")?;
        let began = Instant::now();
        while fs::read_link(folder.join("ns/user"))? == own {
            if let Some(status) = holder.0.try_wait()? {
                return Err(io::Error::other(format!("unshare --user: {status}")));
            }
            if began.elapsed() > PATIENCE {
                return Err(io::ErrorKind::TimedOut.into());
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        for (name, ranges) in [("uid_map", users), ("gid_map", groups)] {
            let line = |range: &IdRange| {
                let IdRange {
                    inside,
                    outside,
                    count,
                } = range;
                format!("{inside} {outside} {count}\n")
            };
            fs::write(
                folder.join(name),
                ranges.iter().map(line).collect::<String>(),
            )?;
        }
        File::open(folder.join("ns/user")).map(Self)
    }

    /// Shows what is mounted on `from` on the directory `to` as well, with mapped owners.
    ///
    /// # Errors
    /// Those of the kernel: `EINVAL` of filesystems that cannot be mapped, as FUSE.
    pub fn show(&self, from: &Path, to: &Path) -> io::Result<()> {
        let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
        let tree = open_tree(CWD, from, flags)?;
        set_mapping(std::os::fd::AsFd::as_fd(&tree), &self.0)?;
        Ok(move_mount(
            &tree,
            "",
            CWD,
            to,
            MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH,
        )?)
    }
}

/// `mount_setattr(2)`, for which no library has a wrapper.
#[allow(unsafe_code, reason = "a system call without a wrapper")]
fn set_mapping(tree: BorrowedFd<'_>, namespace: &File) -> io::Result<()> {
    let attributes = libc::mount_attr {
        attr_set: libc::MOUNT_ATTR_IDMAP,
        attr_clr: 0,
        propagation: 0,
        userns_fd: namespace.as_raw_fd() as u64,
    };
    // SAFETY: the path is a string with an end, the structure has the size that is told, both outlive the call, which only
    // reads them; the descriptors are open.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            tree.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH,
            &raw const attributes,
            size_of::<libc::mount_attr>(),
        )
    };
    match result {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
