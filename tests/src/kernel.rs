//! Mounts images by the kernel, for the tests to look into.
//!
//! Not by `erofs mount`: what judges an image must not depend on the program that made it.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};
use rustix::{
    fs::CWD,
    mount::{
        FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags, MoveMountFlags, UnmountFlags,
        fsconfig_create, fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen, mount,
        move_mount, unmount,
    },
};
use tempfile::TempDir;

use crate::skip::Reason;

/// How the kernel reaches an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// It opens the file itself: Linux 6.12.
    File,
    /// Through a loop device, made by util-linux.
    Loop,
}

impl Way {
    /// The ways of the running kernel.
    ///
    /// # Errors
    /// See [`kernel_erofs`](crate::skip::kernel_erofs).
    pub fn all() -> Result<Vec<Self>, Reason> {
        crate::skip::kernel_erofs()?;
        Ok(if release() >= (6, 12) {
            vec![Self::File, Self::Loop]
        } else {
            vec![Self::Loop]
        })
    }
}

/// The running kernel, as `(major, minor)`.
pub fn release() -> (u32, u32) {
    let release = rustix::system::uname()
        .release()
        .to_string_lossy()
        .into_owned();
    let mut numbers = release
        .split(['.', '-'])
        .map_while(|part| part.parse::<u32>().ok());
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}

/// A mounted image; dropping it unmounts.
#[derive(Debug)]
pub struct Mounted {
    directory: TempDir,
    // Dropped after the image is unmounted.
    _devices: Vec<LoopDevice>,
}

/// A loop device over a file, by its path; dropping it gives it back.
#[derive(Debug)]
pub struct LoopDevice(String);

impl LoopDevice {
    /// Over `file`, whole, for reading.
    ///
    /// # Errors
    /// What `losetup` said.
    pub fn new(file: &Path) -> Result<Self> {
        Self::with_options(file, &["--read-only"])
    }

    /// Over `file`, whole, for writing too.
    ///
    /// # Errors
    /// What `losetup` said.
    pub fn writable(file: &Path) -> Result<Self> {
        Self::with_options(file, &[])
    }

    fn with_options(file: &Path, options: &[&str]) -> Result<Self> {
        let output = Command::new("losetup")
            .args(["--find", "--show"])
            .args(options)
            .arg(file)
            .output()?;
        if !output.status.success() {
            bail!("losetup: {}", String::from_utf8_lossy(&output.stderr));
        }
        Ok(Self(String::from_utf8(output.stdout)?.trim().to_owned()))
    }

    /// `/dev/loopN`.
    pub fn path(&self) -> &Path {
        Path::new(&self.0)
    }
}

impl Drop for LoopDevice {
    fn drop(&mut self) {
        let _ = Command::new("losetup").args(["--detach", &self.0]).status();
    }
}

impl Mounted {
    /// Mounts `image` read-only. `options` are those of the kernel, separated by commas.
    ///
    /// # Errors
    /// What the kernel or `mount` said.
    pub fn new(image: &Path, way: Way, options: &str) -> Result<Self> {
        let directory = TempDir::new()?;
        match way {
            Way::File => {
                let options = std::ffi::CString::new(options)?;
                mount(
                    image,
                    directory.path(),
                    "erofs",
                    MountFlags::RDONLY,
                    options.as_c_str(),
                )
                .with_context(|| format!("mounting the file {}", image.display()))?;
            }
            Way::Loop => {
                let list = ["ro,loop", options].join(",");
                let output = Command::new("mount")
                    .args(["-t", "erofs", "-o", list.trim_end_matches(',')])
                    .args([image, directory.path()])
                    .output()?;
                if !output.status.success() {
                    bail!(
                        "mount -o {list}: {}",
                        String::from_utf8_lossy(&output.stderr)
                    );
                }
            }
        }
        Ok(Self {
            directory,
            _devices: Vec::new(),
        })
    }

    /// Mounts an index `image` whose extra devices are these files, in the order of its device table.
    ///
    /// # Errors
    /// What the kernel, `mount` or `losetup` said.
    pub fn with_devices(image: &Path, way: Way, devices: &[PathBuf]) -> Result<Self> {
        match way {
            Way::File => {
                let directory = TempDir::new()?;
                // One option at a time: the list that mount(2) takes ends after 4095 bytes.
                let context = fsopen("erofs", FsOpenFlags::FSOPEN_CLOEXEC)?;
                fsconfig_set_string(&context, "source", image)?;
                fsconfig_set_flag(&context, "ro")?;
                for device in devices {
                    fsconfig_set_string(&context, "device", device)
                        .with_context(|| format!("device={}", device.display()))?;
                }
                fsconfig_create(&context)
                    .with_context(|| format!("mounting the index {}", image.display()))?;
                let mounted = fsmount(
                    &context,
                    FsMountFlags::FSMOUNT_CLOEXEC,
                    MountAttrFlags::empty(),
                )?;
                let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
                move_mount(&mounted, "", CWD, directory.path(), flags)?;
                Ok(Self {
                    directory,
                    _devices: Vec::new(),
                })
            }
            Way::Loop => {
                let loops = devices
                    .iter()
                    .map(|device| LoopDevice::new(device))
                    .collect::<Result<Vec<_>>>()?;
                let options: Vec<_> = loops
                    .iter()
                    .map(|device| format!("device={}", device.0))
                    .collect();
                let mut mounted = Self::new(image, way, &options.join(","))?;
                mounted._devices = loops;
                Ok(mounted)
            }
        }
    }

    /// The root of the mounted image.
    pub fn path(&self) -> &Path {
        self.directory.path()
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        // Lazily, lest a failed test that still holds a file leaves the mount behind.
        let _ = unmount(self.directory.path(), UnmountFlags::DETACH);
    }
}
