//! Probe mounts: the only proof of what a kernel reads is a mount and a file that comes back right.
//!
//! A probe mounts a tiny image without attaching it to the directory tree (fsmount(2)), reads its one file and lets go: the
//! mount table never shows it. Features of the format are probed through a loop device over a memfd, so nothing is written
//! anywhere. What concerns file-backed mounts takes an unnamed temporary file on the filesystem in question, since tmpfs
//! and memfd refuse them.

mod images;

use crate::ability::Ability;
use crate::attempt::WayError;
use crate::capabilities::{Capabilities, Driver, Privilege, Proof};
use crate::kernel::KernelMount;
use crate::loop_device::{LoopDevice, LoopSettings};
use crate::requirements::Requirements;
use erofs_format::BlockBits;
use images::ProbeImage;
use rustix::fd::{AsRawFd, OwnedFd};
use rustix::fs::{MemfdFlags, Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::MountAttrFlags;
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

/// Where the image of an `fsoffset=` probe begins, in bytes.
const PROBE_OFFSET: u64 = 8192;

impl Capabilities {
    /// Probes every ability that has a probe. `folder` is a folder on the filesystem whose file-backed mounts are of
    /// interest, normally the one that holds the image; an unnamed file is made in it.
    pub fn probe_all(&mut self, folder: &Path) {
        for ability in Ability::all() {
            self.probe(ability, folder);
        }
    }

    /// Probes what an image needs and what has not been probed yet.
    pub fn probe_needs(&mut self, requirements: &Requirements, folder: &Path) {
        for ability in requirements.abilities(self.page) {
            self.probe(ability, folder);
        }
    }

    /// Probes one ability, once.
    pub fn probe(&mut self, ability: Ability, folder: &Path) {
        if self.proof(ability).is_none()
            && let Some(image) = images::of(ability)
        {
            let proof = self.try_probe(ability, image, folder);
            self.proofs.push((ability, proof));
        }
    }

    fn try_probe(&self, ability: Ability, image: ProbeImage, folder: &Path) -> Proof {
        let not_probed = |reason: &str| Proof::NotProbed {
            reason: reason.to_owned(),
        };
        if self.privilege != Privilege::Full {
            return not_probed("needs CAP_SYS_ADMIN in the initial user namespace");
        }
        if !self.mount_contexts {
            return not_probed("needs fsopen(2)");
        }
        if self.driver == Driver::Absent {
            return not_probed("this kernel has no EROFS driver");
        }
        let on_file = matches!(
            ability,
            Ability::FileBacked | Ability::DirectIo | Ability::FsOffset
        );
        let mounted = if on_file || !self.loop_control {
            mount_file(ability, image, folder)
        } else {
            mount_loop(image)
        };
        let mount = match mounted {
            Ok(mount) => mount,
            Err(ProbeError::Setup(reason)) => return not_probed(&reason),
            Err(ProbeError::Way(error)) => match error.errno() {
                // Loop devices that are there and cannot be had say nothing about the kernel.
                _ if matches!(error, WayError::Loop(_)) => return not_probed(&error.to_string()),
                Some(errno) => {
                    return Proof::Refused {
                        errno,
                        reason: error.to_string(),
                    };
                }
                None => return not_probed(&error.to_string()),
            },
        };
        match read_probe(&mount, image.size) {
            Ok(content) if content == images::content(image.size) => Proof::Works,
            Ok(_) => Proof::WrongContent,
            Err(error) => Proof::Refused {
                errno: Errno::from_io_error(&error).unwrap_or(Errno::IO),
                reason: format!("reading: {error}"),
            },
        }
    }
}

#[derive(Debug)]
enum ProbeError {
    /// Before the kernel's EROFS had a say.
    Setup(String),
    Way(WayError),
}

fn setup(what: &'static str) -> impl Fn(io::Error) -> ProbeError {
    move |error| ProbeError::Setup(format!("{what}: {error}"))
}

fn mount_loop(image: ProbeImage) -> Result<OwnedFd, ProbeError> {
    // The smallest logical block suits every image.
    let settings = LoopSettings {
        offset: 0,
        size_limit: 0,
        block_bits: BlockBits::B512,
        direct_io_alignment: None,
        writable: false,
    };
    let name = PathBuf::from(format!("erofs-probe-{}", image.name));
    let attach = |bytes: &[u8]| -> Result<LoopDevice, ProbeError> {
        let memory = rustix::fs::memfd_create("erofs-probe", MemfdFlags::CLOEXEC)
            .map_err(|errno| ProbeError::Setup(format!("memfd_create: {errno}")))?;
        let mut file = File::from(memory);
        file.write_all(bytes).map_err(setup("memfd"))?;
        LoopDevice::attach(&file, &name, settings).map_err(|error| ProbeError::Way(error.into()))
    };
    let primary = attach(image.bytes)?;
    let extra = image.blob.map(attach).transpose()?;
    let devices: Vec<_> = extra
        .iter()
        .map(|device| device.path().to_owned())
        .collect();
    kernel_mount(primary.path().to_owned(), devices, None)
}

fn mount_file(ability: Ability, image: ProbeImage, folder: &Path) -> Result<OwnedFd, ProbeError> {
    let start = if ability == Ability::FsOffset {
        PROBE_OFFSET
    } else {
        0
    };
    let write = |bytes: &[u8]| -> Result<File, ProbeError> {
        let mut file = unnamed_file(folder).map_err(setup("temporary file"))?;
        file.write_all(&vec![0; start as usize])
            .map_err(setup("temporary file"))?;
        file.write_all(bytes).map_err(setup("temporary file"))?;
        Ok(file)
    };
    let path = |file: &File| PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()));
    let primary = write(image.bytes)?;
    let extra = image.blob.map(write).transpose()?;
    kernel_mount(
        path(&primary),
        extra.iter().map(path).collect(),
        Some((ability, start)),
    )
}

fn kernel_mount(
    source: PathBuf,
    devices: Vec<PathBuf>,
    on_file: Option<(Ability, u64)>,
) -> Result<OwnedFd, ProbeError> {
    let mount = KernelMount {
        source,
        devices,
        direct_io: matches!(on_file, Some((Ability::DirectIo, _))),
        offset: on_file.map_or(0, |(_, start)| start),
        options: Vec::new(),
        attributes: MountAttrFlags::MOUNT_ATTR_RDONLY
            | MountAttrFlags::MOUNT_ATTR_NOSUID
            | MountAttrFlags::MOUNT_ATTR_NODEV,
    };
    mount
        .detached()
        .map_err(|error| ProbeError::Way(error.into()))
}

/// A file without a name in `folder`, open for reading and writing.
fn unnamed_file(folder: &Path) -> io::Result<File> {
    let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
    match rustix::fs::open(folder, flags, Mode::RUSR | Mode::WUSR) {
        Ok(file) => Ok(file.into()),
        // Filesystems without O_TMPFILE: a file that loses its name at once.
        Err(Errno::OPNOTSUPP | Errno::ISDIR | Errno::NOENT) => {
            let path = folder.join(format!(".erofs-probe.{}", std::process::id()));
            let file = File::options()
                .read(true)
                .write(true)
                .create_new(true)
                .open(&path)?;
            std::fs::remove_file(&path)?;
            Ok(file)
        }
        Err(errno) => Err(errno.into()),
    }
}

fn read_probe(mount: &OwnedFd, size: usize) -> io::Result<Vec<u8>> {
    let file = rustix::fs::openat(
        mount,
        "probe",
        OFlags::RDONLY | OFlags::CLOEXEC,
        Mode::empty(),
    )?;
    let mut content = Vec::with_capacity(size + 1);
    File::from(file)
        .take(size as u64 + 1)
        .read_to_end(&mut content)?;
    Ok(content)
}
