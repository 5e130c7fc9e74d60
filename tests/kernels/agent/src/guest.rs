//! The first process of a guest.
//!
//! The initramfs holds `/modules/*.ko` with their order in `/modules/list`, and `/jobs` (or a command for the
//! [system]). The first disk holds the payload:
//! partition 1 is an ext4 with the images as files, the others are images themselves. Records go to the second disk as they
//! come, each synced, so that they survive what a job does to the kernel.

use std::{
    collections::BTreeMap,
    ffi::CStr,
    fs::{self, File, OpenOptions},
    io::{self, Write},
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use rustix::{
    mount::{MountFlags, mount},
    system::{RebootCommand, finit_module, reboot},
};

use crate::{job, manifest::errno, reach::Payload, system};

const PAYLOAD: &str = "/payload";
const PAYLOAD_DISK: &str = "/dev/vda1";
const RECORD_DISK: &str = "/dev/vdb";
const PATIENCE: Duration = Duration::from_secs(30);

/// Does everything and powers off.
pub(crate) fn run() -> ! {
    if let Err(error) = work() {
        // The serial console, which the host keeps.
        eprintln!("agent: {error}");
    }
    rustix::fs::sync();
    let error = reboot(RebootCommand::PowerOff);
    eprintln!("agent: power off: {error:?}");
    loop {
        thread::sleep(PATIENCE);
    }
}

fn work() -> io::Result<()> {
    for (kind, at) in [
        ("proc", "/proc"),
        ("sysfs", "/sys"),
        ("devtmpfs", "/dev"),
        ("tmpfs", "/run"),
    ] {
        mount_special(kind, kind, at)?;
    }
    load_modules()?;
    if let Ok(command) = fs::read_to_string(system::COMMAND) {
        wait_for_disks(&system::DISKS)?;
        return system::run(&command);
    }
    wait_for_disks(&[PAYLOAD_DISK, RECORD_DISK])?;
    mount_special("ext4", PAYLOAD_DISK, PAYLOAD)?;
    let payload = Payload::on_disk(PAYLOAD, PAYLOAD_DISK, partitions()?);
    let mut records = Synced(OpenOptions::new().write(true).open(RECORD_DISK)?);
    job::run_all(Path::new("/jobs"), &payload, &mut records)
}

pub(crate) fn mount_special(kind: &str, source: &str, at: &str) -> io::Result<()> {
    fs::create_dir_all(at)?;
    match mount(source, at, kind, MountFlags::empty(), None::<&CStr>) {
        // The kernel may have mounted /dev itself.
        Err(rustix::io::Errno::BUSY) => Ok(()),
        other => Ok(other?),
    }
}

fn load_modules() -> io::Result<()> {
    for name in fs::read_to_string("/modules/list")?.lines() {
        let module = File::open(format!("/modules/{name}"))?;
        match finit_module(&module, c"", 0) {
            Ok(()) | Err(rustix::io::Errno::EXIST) => {}
            // A job that needs it will tell.
            Err(error) => eprintln!("agent: {name}: {error}"),
        }
    }
    Ok(())
}

/// Disks come a moment after their driver.
fn wait_for_disks(disks: &[&str]) -> io::Result<()> {
    let began = Instant::now();
    while !disks.iter().all(|disk| Path::new(disk).exists()) {
        if began.elapsed() > PATIENCE {
            return Err(io::Error::other("no disks"));
        }
        thread::sleep(Duration::from_millis(10));
    }
    Ok(())
}

/// The payload disk's partitions by the names in their table.
fn partitions() -> io::Result<BTreeMap<String, PathBuf>> {
    let mut partitions = BTreeMap::new();
    for entry in fs::read_dir("/sys/block/vda")? {
        let entry = entry?;
        let events = match fs::read_to_string(entry.path().join("uevent")) {
            Ok(events) => events,
            Err(error) if [libc::ENOENT, libc::ENOTDIR].contains(&errno(&error)) => continue,
            Err(error) => return Err(error),
        };
        let name = events
            .lines()
            .find_map(|line| line.strip_prefix("PARTNAME="));
        if let Some(name) = name {
            partitions.insert(name.to_owned(), Path::new("/dev").join(entry.file_name()));
        }
    }
    Ok(partitions)
}

/// Writes that are on the disk when they return.
struct Synced(File);

impl Write for Synced {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.sync_all()
    }
}
