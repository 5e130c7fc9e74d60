//! How the kernel gets at an image.

use std::{
    collections::BTreeMap,
    ffi::CString,
    fs, io,
    path::{Path, PathBuf},
    str::FromStr,
};

use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

use crate::{dm_verity::Verified, fs_verity, loop_device::LoopDevice};

/// The ways to an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// A partition of the payload disk.
    Block,
    /// A loop device.
    Loop,
    /// A loop device that reads past the page cache.
    LoopDirect,
    /// The file itself: Linux 6.12.
    File,
    /// The file itself, sealed by fs-verity; or a copy of which one byte was then flipped on its disk.
    FsVerity {
        /// Whether the byte is flipped.
        flip: bool,
    },
    /// A dm-verity device over it; or over a copy with one byte flipped.
    DmVerity {
        /// Whether the byte is flipped.
        flip: bool,
    },
    /// An overlay whose lowest layer is the image.
    Overlay,
}

impl FromStr for Mode {
    type Err = io::Error;

    fn from_str(name: &str) -> io::Result<Self> {
        Ok(match name {
            "blk" => Self::Block,
            "loop" => Self::Loop,
            "loop-direct" => Self::LoopDirect,
            "file" => Self::File,
            "fs-verity" => Self::FsVerity { flip: false },
            "fs-verity-flip" => Self::FsVerity { flip: true },
            "dm-verity" => Self::DmVerity { flip: false },
            "dm-verity-flip" => Self::DmVerity { flip: true },
            "overlay" => Self::Overlay,
            _ => return Err(io::Error::other(format!("no mode {name}"))),
        })
    }
}

/// Where the images are.
#[derive(Debug)]
pub(crate) struct Payload {
    directory: PathBuf,
    /// The disk of the directory's filesystem.
    disk: Option<PathBuf>,
    /// Partitions by name.
    partitions: BTreeMap<String, PathBuf>,
}

impl Payload {
    /// Files in a directory of the host.
    pub(crate) fn on_host(directory: &str) -> Self {
        Self {
            directory: directory.into(),
            disk: None,
            partitions: BTreeMap::new(),
        }
    }

    /// Files on the mounted `disk`, and the partitions beside it.
    pub(crate) fn on_disk(
        directory: &str,
        disk: &str,
        partitions: BTreeMap<String, PathBuf>,
    ) -> Self {
        Self {
            directory: directory.into(),
            disk: Some(disk.into()),
            partitions,
        }
    }
}

/// What keeps an image reachable; dropped after the image is unmounted.
#[derive(Debug, Default)]
struct Devices {
    _loops: Vec<LoopDevice>,
    verified: Option<Verified>,
}

/// A mounted image.
#[derive(Debug)]
pub(crate) struct Mounted {
    at: &'static Path,
    _devices: Devices,
}

const AT: &str = "/run/erofs-mount";
const LOWER: &str = "/run/erofs-lower";

impl Mounted {
    /// Mounts `image` of the payload with these extra devices. In the options of an overlay `{low}` and `{payload}` are
    /// the mounted image and the payload's directory.
    ///
    /// # Errors
    /// The errno of what refused.
    pub(crate) fn new(
        payload: &Payload,
        mode: Mode,
        image: &str,
        devices: &[&str],
        options: &str,
    ) -> io::Result<Self> {
        fs::create_dir_all(AT)?;
        let mut kept = Devices::default();
        let source = reach(payload, mode, image, &mut kept)?;
        let mut erofs_options = Vec::new();
        for device in devices {
            let path = reach(payload, mode, device, &mut kept)?;
            erofs_options.push(format!("device={path}"));
        }
        if mode == Mode::Overlay {
            fs::create_dir_all(LOWER)?;
            mount_at(&source, LOWER, "erofs", &erofs_options.join(","))?;
            let directory = payload.directory.to_string_lossy();
            let options = options.replace("{low}", LOWER);
            let mounted = mount_at(
                "overlay",
                AT,
                "overlay",
                &options.replace("{payload}", &directory),
            );
            unmount(LOWER, UnmountFlags::DETACH)?;
            mounted?;
        } else {
            erofs_options.extend((!options.is_empty()).then(|| options.to_owned()));
            mount_at(&source, AT, "erofs", &erofs_options.join(","))?;
        }
        Ok(Self {
            at: Path::new(AT),
            _devices: kept,
        })
    }

    /// Its root.
    pub(crate) fn path(&self) -> &'static Path {
        self.at
    }

    /// Unmounts it; whether nothing held it.
    pub(crate) fn unmount(self) -> bool {
        let clean = unmount(self.at, UnmountFlags::empty()).is_ok();
        if !clean {
            let _ = unmount(self.at, UnmountFlags::DETACH);
        }
        clean
    }
}

/// What to name to the kernel for a file of the payload.
fn reach(payload: &Payload, mode: Mode, name: &str, kept: &mut Devices) -> io::Result<String> {
    let file = payload.directory.join(name);
    let mut looped = |direct| {
        let device = LoopDevice::new(&file, direct)?;
        let path = device.path.clone();
        kept._loops.push(device);
        Ok(path)
    };
    match mode {
        Mode::Block => payload
            .partitions
            .get(name)
            .map(|path| path.to_string_lossy().into_owned())
            .ok_or_else(|| io::Error::from_raw_os_error(libc::ENOENT)),
        Mode::Loop | Mode::Overlay => looped(false),
        Mode::LoopDirect => looped(true),
        Mode::File => Ok(file.to_string_lossy().into_owned()),
        Mode::FsVerity { flip: false } => {
            fs_verity::seal(&file)?;
            Ok(file.to_string_lossy().into_owned())
        }
        Mode::FsVerity { flip: true } => {
            let disk = payload.disk.as_ref();
            let disk = disk.ok_or_else(|| io::Error::from_raw_os_error(libc::ENODEV))?;
            let copy = fs_verity::tampered_copy(&file, disk)?;
            Ok(copy.to_string_lossy().into_owned())
        }
        Mode::DmVerity { flip } => {
            let device = Verified::new(&file, flip)?;
            let path = device.path.clone();
            kept.verified = Some(device);
            Ok(path)
        }
    }
}

/// Mounts read-only by mount(2), as every kernel has it.
fn mount_at(source: &str, target: &str, kind: &str, options: &str) -> io::Result<()> {
    let options = CString::new(options)?;
    Ok(mount(
        source,
        target,
        kind,
        MountFlags::RDONLY,
        options.as_c_str(),
    )?)
}
