//! A guest with programs of its own: the first disk is an EROFS image of its root directory, over which changes stay in
//! memory; the second is an ext4 that it sees at `/disk`.

use std::{
    fs,
    io::{self, Write as _},
    os::unix::fs::chroot,
    process::Command,
};

use rustix::mount::{MountFlags, mount};

use crate::guest::mount_special;

/// What the guest runs, by `/bin/sh`.
pub(crate) const COMMAND: &str = "/command";
/// Root directory and ext4.
pub(crate) const DISKS: [&str; 2] = ["/dev/vda", "/dev/vdb"];
const SYSTEM: &str = "/system";

/// Runs the command there, and tells its exit code.
pub(crate) fn run(command: &str) -> io::Result<()> {
    let [image, disk] = DISKS;
    fs::create_dir_all("/image")?;
    mount(image, "/image", "erofs", MountFlags::RDONLY, c"")?;
    mount_special("tmpfs", "tmpfs", "/changes")?;
    for folder in ["/changes/upper", "/changes/work", SYSTEM] {
        fs::create_dir_all(folder)?;
    }
    let layers = c"lowerdir=/image,upperdir=/changes/upper,workdir=/changes/work";
    mount("overlay", SYSTEM, "overlay", MountFlags::empty(), layers)?;
    for (kind, source, at) in [
        ("proc", "proc", "proc"),
        ("sysfs", "sysfs", "sys"),
        ("devtmpfs", "devtmpfs", "dev"),
        ("tmpfs", "tmpfs", "run"),
        ("tmpfs", "tmpfs", "tmp"),
        ("ext4", disk, "disk"),
    ] {
        mount_special(kind, source, &format!("{SYSTEM}/{at}"))?;
    }
    chroot(SYSTEM)?;
    std::env::set_current_dir("/")?;
    let status = Command::new("/bin/sh")
        .args(["-c", command])
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .status()?;
    let code = status.code().unwrap_or(255);
    let mut console = io::stdout().lock();
    writeln!(console, "agent: the command ended with {code}")?;
    console.flush()
}
