//! Mounts images by the kernel, for the tests to look into.
//!
//! Not by `erofs mount`: what judges an image must not depend on the program that made it.

use std::{path::Path, process::Command};

use anyhow::{Context, Result, bail};
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
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
        let release = rustix::system::uname()
            .release()
            .to_string_lossy()
            .into_owned();
        let mut numbers = release
            .split(['.', '-'])
            .map_while(|part| part.parse::<u32>().ok());
        let version = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
        Ok(if version >= (6, 12) {
            vec![Self::File, Self::Loop]
        } else {
            vec![Self::Loop]
        })
    }
}

/// A mounted image; dropping it unmounts.
#[derive(Debug)]
pub struct Mounted {
    directory: TempDir,
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
        Ok(Self { directory })
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
