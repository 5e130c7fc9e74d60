//! Which ways of mounting to try, in which order, and why not the others. Pure: no system calls.

use crate::ability::Ability;
use crate::capabilities::{
    BackingFilesystem, Capabilities, Driver, Privilege, SourceFile, SourceKind, Verdict,
};
use crate::requirements::Requirements;
use crate::wish::{DirectIo, Via, Wish};
use erofs_format::kernel::{KernelVersion, Requirement};
use std::fmt;
use std::path::PathBuf;

/// A way of mounting.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Way {
    /// The kernel reads the image file itself.
    File,
    /// The image is a block device already.
    Block,
    /// The kernel reads loop devices.
    Loop,
    /// A server in user space.
    Fuse,
}

impl Way {
    /// Every way, the best first.
    pub const ALL: [Self; 4] = [Self::File, Self::Block, Self::Loop, Self::Fuse];
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::File => "file-backed",
            Self::Block => "block device",
            Self::Loop => "loop device",
            Self::Fuse => "FUSE",
        })
    }
}

/// The files and devices of an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sources {
    /// The image.
    pub image: SourceFile,
    /// Its extra devices in slot order; empty when they stand behind the image in the same file.
    pub devices: Vec<SourceFile>,
}

impl Sources {
    /// Whether the extra devices stand behind the image in its file. Of a block device the size is not known here.
    pub(crate) fn holds_devices(&self, requirements: &Requirements, offset: u64) -> bool {
        let room = match self.image.kind {
            SourceKind::Regular => self.image.bytes.saturating_sub(offset),
            SourceKind::BlockDevice | SourceKind::Other => u64::MAX,
        };
        let fits = requirements.flat_bytes.is_some_and(|bytes| bytes <= room);
        self.devices.is_empty() && requirements.extra_devices != 0 && fits
    }

    /// What a kernel needs for the image where it is, beyond what its superblock announces: devices behind it in its file.
    pub fn needs(&self, requirements: &Requirements, offset: u64) -> Requirements {
        let mut needs = requirements.clone();
        if self.holds_devices(requirements, offset) {
            needs.add([Requirement::FlatDevices]);
        }
        needs
    }
}

/// One way to try.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// The way.
    pub way: Way,
    /// Whether to ask for direct I/O.
    pub direct_io: bool,
    /// Why the way stands at this place.
    pub reason: &'static str,
    /// What the way needs and nobody has proven yet. Only these can explain an EINVAL away.
    pub unproven: Vec<Ability>,
}

/// Why a way is not tried.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Rejection {
    /// The user asked for another.
    #[error("not asked for (via={0})")]
    NotWished(Via),
    /// No EROFS in the kernel.
    #[error("this kernel has no EROFS driver, built in or as a module")]
    NoDriver,
    /// No privilege.
    #[error("mounting by the kernel needs CAP_SYS_ADMIN in the initial user namespace: {}", match .0 {
        Privilege::UserNamespace => "this is another user namespace",
        _ => "this process does not have it",
    })]
    NotPrivileged(Privilege),
    /// The kernel is too old.
    #[error("{ability}: since Linux {since}, this is {kernel}")]
    KernelTooOld {
        /// For what.
        ability: Ability,
        /// First version that has it.
        since: KernelVersion,
        /// The running kernel.
        kernel: KernelVersion,
    },
    /// Larger than the pages of this machine.
    #[error("{0}: larger than this machine's pages")]
    LargerThanPage(Ability),
    /// A probe failed.
    #[error("a probe of {ability} failed: {reason}")]
    ProbeRefused {
        /// Of what.
        ability: Ability,
        /// How.
        reason: String,
    },
    /// The backing filesystem.
    #[error("{path}: {reason}", path = path.display())]
    BackingFilesystem {
        /// The file on it.
        path: PathBuf,
        /// What it lacks.
        reason: &'static str,
    },
    /// Not what this way mounts.
    #[error("{path} is not {expected}", path = path.display())]
    Kind {
        /// Which file.
        path: PathBuf,
        /// What it would have to be.
        expected: &'static str,
    },
    /// `fsoffset=` needs whole blocks.
    #[error("offset {offset} is not a multiple of the image's blocks of {block} bytes")]
    Offset {
        /// In bytes.
        offset: u64,
        /// In bytes.
        block: u64,
    },
    /// `sizelimit=` needs a loop device.
    #[error("sizelimit= needs a loop device")]
    SizeLimit,
    /// No loop devices.
    #[error("/dev/loop-control cannot be opened: no loop devices here")]
    NoLoopControl,
    /// No FUSE.
    #[error("/dev/fuse cannot be opened: no FUSE here")]
    NoFuseDevice,
    /// No privilege and nobody to lend it.
    #[error("FUSE without privileges needs fusermount3, which is not installed")]
    NoFusermount,
    /// The caller has no server.
    #[error("no FUSE server is at hand")]
    NoLauncher,
}

/// Ways to try in order, and the ways ruled out with every reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MountPlan {
    /// At least one.
    pub steps: Vec<Step>,
    /// Each with at least one reason.
    pub rejected: Vec<(Way, Vec<Rejection>)>,
}

impl fmt::Display for MountPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let steps = self.steps.iter().enumerate().map(|(index, step)| {
            let direct = if step.direct_io { ", direct I/O" } else { "" };
            format!("{}. {}{direct}: {}", index + 1, step.way, step.reason)
        });
        let lines: Vec<_> = steps
            .chain(self.rejected.iter().map(rejected_line))
            .collect();
        f.write_str(&lines.join("\n"))
    }
}

/// Why there is no plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PlanError {
    /// The image has extra devices and the caller named another number of them.
    Devices {
        /// How many it has.
        needed: u16,
        /// How many were named.
        given: usize,
    },
    /// Every way is ruled out.
    Impossible {
        /// What was asked for.
        via: Via,
        /// Every way with its reasons.
        rejected: Vec<(Way, Vec<Rejection>)>,
    },
}

impl std::error::Error for PlanError {}

impl fmt::Display for PlanError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Devices { needed, given } => {
                write!(
                    f,
                    "the image has {needed} extra devices, {given} were given (device=, in the order of its slots)"
                )
            }
            Self::Impossible { via, rejected } => {
                match via {
                    Via::Auto => f.write_str("no way to mount this image here")?,
                    via => write!(f, "cannot mount via {via}")?,
                }
                // Of a way that was asked for only its own reasons matter.
                let others = |reasons: &[Rejection]| matches!(reasons, [Rejection::NotWished(_)]);
                for way in rejected.iter().filter(|(_, reasons)| !others(reasons)) {
                    write!(f, "\n{}", rejected_line(way))?;
                }
                Ok(())
            }
        }
    }
}

fn rejected_line((way, reasons): &(Way, Vec<Rejection>)) -> String {
    let reasons: Vec<_> = reasons.iter().map(ToString::to_string).collect();
    format!("not {way}: {}", reasons.join("; "))
}

/// Orders the ways of mounting.
///
/// # Errors
/// [`PlanError`]: wrong number of devices, or no way left.
pub fn plan(
    requirements: &Requirements,
    capabilities: &Capabilities,
    sources: &Sources,
    wish: &Wish,
) -> Result<MountPlan, PlanError> {
    let question = Question {
        requirements,
        capabilities,
        sources,
        wish,
    };
    let given = sources.devices.len();
    if given != usize::from(requirements.extra_devices) && !question.is_flat() {
        return Err(PlanError::Devices {
            needed: requirements.extra_devices,
            given,
        });
    }
    let (mut steps, mut rejected) = (Vec::new(), Vec::new());
    for way in Way::ALL {
        if question.is_beside_the_point(way) {
            continue;
        }
        let reasons = question.rejections(way);
        if reasons.is_empty() {
            steps.push(question.step(way, steps.is_empty()));
        } else {
            rejected.push((way, reasons));
        }
    }
    if steps.is_empty() {
        return Err(PlanError::Impossible {
            via: wish.via,
            rejected,
        });
    }
    Ok(MountPlan { steps, rejected })
}

struct Question<'a> {
    requirements: &'a Requirements,
    capabilities: &'a Capabilities,
    sources: &'a Sources,
    wish: &'a Wish,
}

impl Question<'_> {
    fn is_flat(&self) -> bool {
        self.sources
            .holds_devices(self.requirements, self.wish.offset)
    }

    /// Ways that nobody would expect for this kind of image: not worth a line of explanation.
    fn is_beside_the_point(&self, way: Way) -> bool {
        let block = self.sources.image.kind == SourceKind::BlockDevice;
        match way {
            Way::Block => !block,
            Way::File => block && self.wish.via != Via::File,
            // A block device needs a loop device only to begin or end somewhere else.
            Way::Loop => {
                block
                    && self.wish.via == Via::Auto
                    && self.wish.offset == 0
                    && self.wish.size_limit.is_none()
            }
            Way::Fuse => false,
        }
    }

    fn is_wished(&self, way: Way) -> bool {
        match self.wish.via {
            Via::Auto => true,
            Via::File => way == Way::File,
            Via::Loop => way == Way::Loop,
            Via::Fuse => way == Way::Fuse,
        }
    }

    fn rejections(&self, way: Way) -> Vec<Rejection> {
        if !self.is_wished(way) {
            return vec![Rejection::NotWished(self.wish.via)];
        }
        let mut reasons = Vec::new();
        if way == Way::Fuse {
            self.reject_fuse(&mut reasons);
            return reasons;
        }
        if self.capabilities.driver == Driver::Absent {
            reasons.push(Rejection::NoDriver);
        }
        if self.capabilities.privilege != Privilege::Full {
            reasons.push(Rejection::NotPrivileged(self.capabilities.privilege));
        }
        match way {
            Way::File => self.reject_file(&mut reasons),
            Way::Loop => self.reject_kinds(&mut reasons),
            Way::Block | Way::Fuse => {}
        }
        let loops = way == Way::Loop
            || self
                .sources
                .devices
                .iter()
                .any(|device| device.kind == SourceKind::Regular);
        if matches!(way, Way::Loop | Way::Block) && loops && !self.capabilities.loop_control {
            reasons.push(Rejection::NoLoopControl);
        }
        if matches!(way, Way::File | Way::Block) {
            self.reject_place(&mut reasons);
        }
        for ability in self.abilities(way) {
            match self.capabilities.verdict(ability) {
                Verdict::Proven | Verdict::Expected => {}
                Verdict::Never => reasons.push(Rejection::LargerThanPage(ability)),
                Verdict::Refused { reason } => {
                    reasons.push(Rejection::ProbeRefused { ability, reason })
                }
                Verdict::TooOld { since } => {
                    reasons.push(Rejection::KernelTooOld {
                        ability,
                        since,
                        kernel: self.capabilities.kernel,
                    });
                }
            }
        }
        reasons
    }

    fn reject_fuse(&self, reasons: &mut Vec<Rejection>) {
        if !self.wish.fuse_launcher {
            reasons.push(Rejection::NoLauncher);
        }
        if !self.capabilities.fuse.device {
            reasons.push(Rejection::NoFuseDevice);
        }
        if self.capabilities.privilege == Privilege::None && !self.capabilities.fuse.fusermount {
            reasons.push(Rejection::NoFusermount);
        }
        let other = self.files().find(|file| file.kind == SourceKind::Other);
        reasons.extend(other.map(|file| Rejection::Kind {
            path: file.path.clone(),
            expected: "a regular file or a block device",
        }));
    }

    fn reject_file(&self, reasons: &mut Vec<Rejection>) {
        for file in self.files() {
            if file.kind != SourceKind::Regular {
                reasons.push(Rejection::Kind {
                    path: file.path.clone(),
                    expected: "a regular file",
                });
            } else if let Some(reason) = file.filesystem.refuses_file_backed() {
                reasons.push(Rejection::BackingFilesystem {
                    path: file.path.clone(),
                    reason,
                });
            }
        }
    }

    fn reject_kinds(&self, reasons: &mut Vec<Rejection>) {
        for file in self.files().filter(|file| file.kind == SourceKind::Other) {
            reasons.push(Rejection::Kind {
                path: file.path.clone(),
                expected: "a regular file or a block device",
            });
        }
    }

    /// Without a loop device the image begins where `fsoffset=` can say, and ends where it likes.
    fn reject_place(&self, reasons: &mut Vec<Rejection>) {
        let block = self.requirements.block_bits.bytes();
        if !self.wish.offset.is_multiple_of(block) {
            reasons.push(Rejection::Offset {
                offset: self.wish.offset,
                block,
            });
        }
        if self.wish.size_limit.is_some() {
            reasons.push(Rejection::SizeLimit);
        }
    }

    /// What `way` needs of the kernel.
    fn abilities(&self, way: Way) -> Vec<Ability> {
        if way == Way::Fuse {
            return Vec::new();
        }
        let mut abilities = self.requirements.abilities(self.capabilities.page);
        if way == Way::File {
            abilities.push(Ability::FileBacked);
        }
        if matches!(way, Way::File | Way::Block) && self.wish.offset != 0 {
            abilities.push(Ability::FsOffset);
        }
        if self.is_flat() {
            abilities.push(Ability::Read(Requirement::FlatDevices));
        }
        abilities
    }

    fn step(&self, way: Way, first: bool) -> Step {
        let mut unproven = self.abilities(way);
        unproven.retain(|&ability| self.capabilities.verdict(ability) != Verdict::Proven);
        Step {
            way,
            direct_io: self.direct_io(way),
            reason: self.reason(way, first),
            unproven,
        }
    }

    /// Direct I/O spares caching data twice, in the image's pages and in those of the filesystem under it.
    fn direct_io(&self, way: Way) -> bool {
        if self.wish.direct_io == DirectIo::Never {
            return false;
        }
        match way {
            Way::Fuse | Way::Block => false,
            // The loop device takes it where the file allows.
            Way::Loop => true,
            Way::File if self.wish.direct_io == DirectIo::Always => true,
            Way::File => {
                let block = self.requirements.block_bits.bytes();
                let aligned = |file: &SourceFile| {
                    file.direct_io_alignment.is_some_and(|bytes| {
                        let bytes = u64::from(bytes);
                        block.is_multiple_of(bytes) && self.wish.offset.is_multiple_of(bytes)
                    })
                };
                self.capabilities.verdict(Ability::DirectIo).is_possible()
                    && self.files().all(aligned)
            }
        }
    }

    fn reason(&self, way: Way, first: bool) -> &'static str {
        match (way, first) {
            _ if self.wish.via != Via::Auto => "asked for",
            (Way::File, _) if self.sources.image.filesystem == BackingFilesystem::Erofs => {
                "no loop device in between; the kernel may refuse it, as the image stands on EROFS"
            }
            (Way::File, _) => "no loop device in between",
            (Way::Block, _) => "the image is a block device",
            (Way::Loop, true) => "the kernel reads it, a file-backed mount is ruled out",
            (Way::Loop, false) => "should the kernel refuse a file-backed mount",
            (Way::Fuse, true) => "the kernel cannot mount it here",
            (Way::Fuse, false) => "should the kernel refuse",
        }
    }

    fn files(&self) -> impl Iterator<Item = &SourceFile> {
        std::iter::once(&self.sources.image).chain(&self.sources.devices)
    }
}
