//! Carries out a mount plan, falling back to the next way where the kernel's answer allows it.

use crate::ability::Ability;
use crate::attempt::{Attempt, Consequence, Meaning, WayError, meaning};
use crate::capabilities::{Capabilities, CapabilitiesError, SourceFile, SourceKind};
use crate::devices::{self, DeviceError};
use crate::kernel::KernelMount;
use crate::loop_device::{LoopDevice, LoopSettings};
use crate::options::MountOptions;
use crate::plan::{MountPlan, PlanError, Sources, Step, Way, plan};
use crate::requirements::{Requirements, RequirementsError};
use crate::wish::{DirectIo, Wish};
use rustix::io::Errno;
use std::error::Error;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

/// What to mount where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MountRequest {
    /// Image file or block device.
    pub image: PathBuf,
    /// Directory to mount on.
    pub target: PathBuf,
    /// Options; [`MountOptions::devices`] names the extra devices.
    pub options: MountOptions,
}

/// What a FUSE server is to serve.
#[derive(Debug, Clone, Copy)]
pub struct FuseRequest<'a> {
    /// Image file or block device, absolute.
    pub image: &'a Path,
    /// Extra devices in slot order, absolute.
    pub devices: &'a [SourceFile],
    /// Directory to mount on, absolute.
    pub target: &'a Path,
    /// Options: attributes, offset, size limit, and what the driver would have been told.
    pub options: &'a MountOptions,
}

/// Starts a FUSE server and returns once the mount answers. The server mounts under the type [`crate::table::FUSE_TYPE`].
///
/// Any `FnMut(&FuseRequest) -> Result<(), Box<dyn Error + Send + Sync>>` is one.
pub trait FuseLauncher {
    /// Serves `request` until it is unmounted.
    ///
    /// # Errors
    /// Whatever keeps the server from mounting. It is the last way: nothing follows.
    fn launch(&mut self, request: &FuseRequest<'_>) -> Result<(), Box<dyn Error + Send + Sync>>;
}

impl<F: FnMut(&FuseRequest<'_>) -> Result<(), Box<dyn Error + Send + Sync>>> FuseLauncher for F {
    fn launch(&mut self, request: &FuseRequest<'_>) -> Result<(), Box<dyn Error + Send + Sync>> {
        self(request)
    }
}

/// A mount that stands.
#[derive(Debug)]
pub struct Mounted {
    /// The way that worked.
    pub way: Way,
    /// Whether direct I/O was asked for and granted. A loop device takes it silently or not at all.
    pub direct_io: bool,
    /// Every attempt, the one that worked last.
    pub attempts: Vec<Attempt>,
}

/// Why nothing was mounted.
#[derive(Debug, thiserror::Error)]
pub enum MountError {
    /// The image cannot be read.
    #[error(transparent)]
    Requirements(#[from] RequirementsError),
    /// The machine cannot be judged.
    #[error(transparent)]
    Capabilities(#[from] CapabilitiesError),
    /// A file is missing.
    #[error("{path}: {error}", path = path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        error: io::Error,
    },
    /// A blob of the image is missing.
    #[error(transparent)]
    Devices(#[from] DeviceError),
    /// No way to try.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// The kernel found the image corrupt.
    #[error("{image} is corrupt: {}", last_failure(attempts), image = image.display())]
    Corrupt {
        /// The image.
        image: PathBuf,
        /// Every attempt; the last one found out.
        attempts: Vec<Attempt>,
    },
    /// No way worked.
    #[error("cannot mount {image}: {}", last_failure(attempts), image = image.display())]
    Failed {
        /// The image.
        image: PathBuf,
        /// Every attempt.
        attempts: Vec<Attempt>,
    },
}

impl MountError {
    /// The attempts made, for `--explain`.
    pub fn attempts(&self) -> &[Attempt] {
        match self {
            Self::Corrupt { attempts, .. } | Self::Failed { attempts, .. } => attempts,
            _ => &[],
        }
    }
}

fn last_failure(attempts: &[Attempt]) -> String {
    let last = attempts.iter().rev().find_map(|attempt| {
        attempt
            .failure
            .as_ref()
            .map(|(error, _)| (attempt.way, error))
    });
    last.map_or_else(String::new, |(way, error)| format!("{way}: {error}"))
}

/// A request with everything known that decides about it: what `--explain` shows before anything is done.
#[derive(Debug, Clone)]
pub struct PreparedMount {
    /// The image and its extra devices.
    pub sources: Sources,
    /// What the image needs.
    pub requirements: Requirements,
    /// What the machine offers.
    pub capabilities: Capabilities,
    /// What follows.
    pub plan: MountPlan,
    target: PathBuf,
    options: MountOptions,
}

impl MountRequest {
    /// Looks at the image, its devices and the machine, and plans. Nothing is mounted, nothing is probed.
    ///
    /// # Errors
    /// [`MountError`], all but `Corrupt` and `Failed`.
    pub fn prepare(&self, fuse_launcher: bool) -> Result<PreparedMount, MountError> {
        let requirements = Requirements::read(&self.image, self.options.offset)?;
        self.prepare_with(requirements, Capabilities::detect()?, fuse_launcher)
    }

    /// As [`MountRequest::prepare`], with requirements and capabilities (perhaps with probes) that are known already.
    ///
    /// # Errors
    /// As [`MountRequest::prepare`].
    pub fn prepare_with(
        &self,
        requirements: Requirements,
        capabilities: Capabilities,
        fuse_launcher: bool,
    ) -> Result<PreparedMount, MountError> {
        let sources = Sources::find(&self.image, &self.options, &requirements)?;
        let failed = |error| MountError::File {
            path: self.target.clone(),
            error,
        };
        let target = self.target.canonicalize().map_err(failed)?;
        if !target.is_dir() {
            return Err(failed(io::ErrorKind::NotADirectory.into()));
        }
        let plan = plan(
            &requirements,
            &capabilities,
            &sources,
            &Wish::new(&self.options, fuse_launcher),
        )?;
        Ok(PreparedMount {
            sources,
            requirements,
            capabilities,
            plan,
            target,
            options: self.options.clone(),
        })
    }
}

impl Sources {
    /// Looks at an image and its extra devices. Those that `options` does not name are found beside the image by the tags
    /// of their slots, see [`devices::find`]; where they follow the image in its file or have no tags, there are none.
    ///
    /// # Errors
    /// [`MountError::File`], [`MountError::Devices`].
    pub fn find(
        image: &Path,
        options: &MountOptions,
        requirements: &Requirements,
    ) -> Result<Self, MountError> {
        let inspect = |path: &Path| {
            SourceFile::inspect(path).map_err(|error| MountError::File {
                path: path.to_owned(),
                error,
            })
        };
        let image = inspect(image)?;
        let named = options.devices.iter().map(|path| inspect(path));
        let mut found = Self {
            image,
            devices: named.collect::<Result<_, _>>()?,
        };
        let slots = &requirements.slots;
        let has_tags = slots.len() == usize::from(requirements.extra_devices)
            && slots.iter().all(|slot| !slot.tag.is_empty());
        if found.devices.is_empty()
            && has_tags
            && found.image.kind == SourceKind::Regular
            && !found.holds_devices(requirements, options.offset)
        {
            let folder = found.image.path.parent().unwrap_or(Path::new("/"));
            let paths = devices::find(folder, slots)?;
            found.devices = paths
                .iter()
                .map(|path| inspect(path))
                .collect::<Result<_, _>>()?;
        }
        for (slot, device) in slots.iter().zip(&found.devices) {
            if device.kind == SourceKind::Regular {
                slot.check(&device.path, device.bytes)?;
            }
        }
        Ok(found)
    }
}

impl PreparedMount {
    /// Tries the steps of the plan in order. `launcher` serves the FUSE way; without one that way must not be in the plan.
    ///
    /// # Errors
    /// [`MountError::Corrupt`], [`MountError::Failed`].
    pub fn execute(
        mut self,
        mut launcher: Option<&mut dyn FuseLauncher>,
    ) -> Result<Mounted, MountError> {
        let mut attempts = Vec::new();
        let steps = std::mem::take(&mut self.plan.steps);
        for step in &steps {
            let mut direct_io = step.direct_io;
            loop {
                let Err(error) = self.attempt(step.way, direct_io, &mut launcher) else {
                    attempts.push(Attempt {
                        way: step.way,
                        direct_io,
                        failure: None,
                    });
                    return Ok(Mounted {
                        way: step.way,
                        direct_io,
                        attempts,
                    });
                };
                let consequence = self.consequence(&error, step, direct_io);
                attempts.push(Attempt {
                    way: step.way,
                    direct_io,
                    failure: Some((error, consequence.clone())),
                });
                match consequence {
                    Consequence::WithoutDirectIo => direct_io = false,
                    Consequence::NextWay | Consequence::Lacking(_) => break,
                    Consequence::Corrupt => {
                        return Err(MountError::Corrupt {
                            image: self.sources.image.path,
                            attempts,
                        });
                    }
                    Consequence::GiveUp => {
                        return Err(MountError::Failed {
                            image: self.sources.image.path,
                            attempts,
                        });
                    }
                }
            }
        }
        Err(MountError::Failed {
            image: self.sources.image.path,
            attempts,
        })
    }

    fn attempt(
        &self,
        way: Way,
        direct_io: bool,
        launcher: &mut Option<&mut dyn FuseLauncher>,
    ) -> Result<(), WayError> {
        match way {
            Way::Fuse => {
                let request = FuseRequest {
                    image: &self.sources.image.path,
                    devices: &self.sources.devices,
                    target: &self.target,
                    options: &self.options,
                };
                let Some(launcher) = launcher else {
                    return Err(WayError::Fuse("no server given".into()));
                };
                launcher.launch(&request).map_err(WayError::Fuse)
            }
            Way::File | Way::Block => {
                // Extra devices of a block device must be block devices too.
                let (devices, _loops) = self.devices(way == Way::Block, direct_io)?;
                let source = self.sources.image.path.clone();
                self.kernel_mount(
                    source,
                    devices,
                    self.options.offset,
                    direct_io && way == Way::File,
                )
            }
            Way::Loop => {
                let image = self.attach(
                    &self.sources.image,
                    self.options.offset,
                    self.options.size_limit,
                    direct_io,
                )?;
                let (devices, _loops) = self.devices(true, direct_io)?;
                self.kernel_mount(image.path().to_owned(), devices, 0, false)
            }
        }
    }

    /// Paths of the extra devices, with loop devices in place of files where `block` devices are needed.
    fn devices(
        &self,
        block: bool,
        direct_io: bool,
    ) -> Result<(Vec<PathBuf>, Vec<LoopDevice>), WayError> {
        let (mut paths, mut loops) = (Vec::new(), Vec::new());
        for device in &self.sources.devices {
            if block && device.kind == SourceKind::Regular {
                let attached = self.attach(device, 0, None, direct_io)?;
                paths.push(attached.path().to_owned());
                loops.push(attached);
            } else {
                paths.push(device.path.clone());
            }
        }
        Ok((paths, loops))
    }

    fn attach(
        &self,
        source: &SourceFile,
        offset: u64,
        size_limit: Option<u64>,
        direct_io: bool,
    ) -> Result<LoopDevice, WayError> {
        let file = File::open(&source.path).map_err(|error| WayError::Open {
            path: source.path.clone(),
            error,
        })?;
        let settings = LoopSettings {
            offset,
            size_limit: size_limit.unwrap_or(0),
            block_bits: self.requirements.block_bits,
            direct_io_alignment: source.direct_io_alignment.filter(|_| direct_io),
            writable: false,
        };
        Ok(LoopDevice::attach(&file, &source.path, settings)?)
    }

    fn kernel_mount(
        &self,
        source: PathBuf,
        devices: Vec<PathBuf>,
        offset: u64,
        direct_io: bool,
    ) -> Result<(), WayError> {
        let mount = KernelMount {
            source,
            devices,
            direct_io,
            offset,
            options: self.options.filesystem.clone(),
            attributes: self.options.attributes,
        };
        Ok(mount.mount_on(&self.target)?)
    }

    fn consequence(&mut self, error: &WayError, step: &Step, direct_io: bool) -> Consequence {
        let Some(errno) = error.errno() else {
            return Consequence::GiveUp;
        };
        if step.way == Way::File
            && direct_io
            && self.options.direct_io == DirectIo::Auto
            && matches!(errno, Errno::INVAL | Errno::OPNOTSUPP)
        {
            return Consequence::WithoutDirectIo;
        }
        match meaning(errno) {
            Meaning::Corrupt => Consequence::Corrupt,
            Meaning::AnotherWay => Consequence::NextWay,
            // A loop device that cannot be had says nothing about the image.
            _ if matches!(error, WayError::Loop(_)) => Consequence::NextWay,
            Meaning::Fatal => Consequence::GiveUp,
            Meaning::PerhapsLacking => self
                .lacking(step)
                .map_or(Consequence::GiveUp, Consequence::Lacking),
        }
    }

    /// What the step needs and the kernel turns out not to have.
    fn lacking(&mut self, step: &Step) -> Option<Ability> {
        let folder = match self.sources.image.kind {
            SourceKind::Regular => self
                .sources
                .image
                .path
                .parent()
                .unwrap_or(Path::new("/"))
                .to_owned(),
            SourceKind::BlockDevice | SourceKind::Other => std::env::temp_dir(),
        };
        step.unproven.iter().copied().find(|&ability| {
            self.capabilities.probe(ability, &folder);
            !self.capabilities.verdict(ability).is_possible()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::Carrier;
    use erofs_format::BlockBits;

    /// An image on a block device is mounted as it is, at an offset too; blobs in files get loop devices.
    #[test]
    fn block_devices() {
        if let Some(reason) = crate::test_support::cannot_mount() {
            return crate::test_support::skip("block devices", &reason);
        }
        let images = Path::new(env!("CARGO_MANIFEST_DIR")).join("../images/probe");
        let folder = tempfile::tempdir().expect("temporary folder");
        let content = std::fs::read(images.join("block-4096.erofs")).expect("image");
        let shifted = folder.path().join("shifted");
        std::fs::write(&shifted, [vec![0; 8192], content].concat()).expect("written");
        let target = folder.path().join("target");
        std::fs::create_dir(&target).expect("made");
        let blob = images.join("devices.blob");
        let settings = LoopSettings {
            offset: 0,
            size_limit: 0,
            block_bits: BlockBits::B512,
            direct_io_alignment: None,
            writable: false,
        };
        let fsoffset = {
            let mut capabilities = Capabilities::detect().expect("a supported kernel");
            capabilities.probe(Ability::FsOffset, folder.path());
            capabilities.verdict(Ability::FsOffset).is_possible()
        };
        for (file, options, way) in [
            (images.join("block-4096.erofs"), String::new(), Way::Block),
            (
                shifted.clone(),
                "offset=8192".to_owned(),
                if fsoffset { Way::Block } else { Way::Loop },
            ),
            (shifted, "via=loop,offset=8192".to_owned(), Way::Loop),
            (
                images.join("devices.erofs"),
                format!("device={}", blob.display()),
                Way::Block,
            ),
        ] {
            let open = File::open(&file).expect("image");
            let device = LoopDevice::attach(&open, &file, settings).expect("attached");
            let requirements =
                Requirements::read(&file, if options.contains("offset") { 8192 } else { 0 });
            let requirements = requirements.expect("an image");
            let mut capabilities = Capabilities::detect().expect("a supported kernel");
            capabilities.probe_needs(&requirements, folder.path());
            let reads = |ability: &Ability| capabilities.verdict(*ability).is_possible();
            if !requirements.abilities(capabilities.page).iter().all(reads) {
                crate::test_support::skip(&options, "this kernel does not read the image");
                continue;
            }
            let request = MountRequest {
                image: device.path().to_owned(),
                target: target.clone(),
                options: MountOptions::parse(&options).expect("valid"),
            };
            let mounted = request
                .prepare(false)
                .and_then(|prepared| prepared.execute(None));
            let mounted = mounted.unwrap_or_else(|error| panic!("{options}: {error}"));
            drop(device);
            let read = std::fs::read(target.join("probe"));
            let unmounted = crate::umount(&target, false).expect("unmounted");
            assert_eq!(
                (mounted.way, read.expect("read").len()),
                (way, 9000),
                "{options}"
            );
            assert!(matches!(unmounted.image.carrier, Carrier::Loop { .. }));
            assert_eq!(unmounted.left_over, None);
        }
    }
}
