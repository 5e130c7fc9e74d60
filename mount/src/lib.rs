//! Mounts EROFS images the best way the machine allows.
//!
//! ```text
//!  image ──► Requirements ─┐
//!  machine ► Capabilities ─┼─► plan() ─► MountPlan ─► execute() ─► Mounted
//!  user ───► Wish ─────────┘   (pure)    steps and     next way where the
//!                                        reasons       error allows it
//! ```
//!
//! | question | module |
//! |---|---|
//! | what does the image need? | [`requirements`] |
//! | where are the blobs of an index? | [`devices`] |
//! | what does this machine offer? | [`capabilities`], proven by [`probe`] |
//! | what can a kernel have or lack? | [`ability`] |
//! | which ways, in which order, why? | [`mod@plan`] |
//! | doing it, falling back, FUSE last | [`execute`] |
//! | what does an error of the kernel mean? | [`attempt`] |
//! | what does the user want? | [`wish`] |
//! | `-o` lists, fstab | [`options`] |
//! | `mount.erofs` as mount(8) calls it | [`helper`] |
//! | what is mounted? | [`table`] |
//! | the same with other owners | [`mapped`] |
//! | a filesystem that is written to, over them | [`ext4`] |
//! | taking it down | [`mod@umount`] |
//! | protecting the file of an image | [`fs_verity`] |
//! | memory of a process that keeps mounts for long | [`allocator`] |
//!
//! ```no_run
//! use erofs_mount::{MountOptions, MountRequest};
//!
//! let request = MountRequest {
//!     image: "rootfs.erofs".into(),
//!     target: "/mnt".into(),
//!     options: MountOptions::parse("nosuid,nodev")?,
//! };
//! let prepared = request.prepare(false)?;
//! println!("{}", prepared.plan);
//! let mounted = prepared.execute(None)?;
//! println!("mounted: {}", mounted.way);
//! erofs_mount::umount("/mnt".as_ref(), false)?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
#![deny(unsafe_code, unsafe_op_in_unsafe_fn)]

// So that unit and integration tests share `test_support`.
#[cfg(test)]
extern crate self as erofs_mount;

pub mod ability;
pub mod allocator;
pub mod attempt;
pub mod capabilities;
pub mod devices;
pub mod execute;
pub mod ext4;
pub mod fs_verity;
pub mod helper;
mod kernel;
mod loop_device;
pub mod mapped;
pub mod options;
pub mod plan;
pub mod probe;
pub mod requirements;
pub mod table;
#[cfg(test)]
mod test_support;
pub mod umount;
pub mod wish;

pub use ability::Ability;
pub use attempt::{Attempt, Consequence, WayError};
pub use capabilities::{Capabilities, Proof, Verdict};
pub use devices::DeviceError;
pub use execute::{FuseLauncher, FuseRequest, MountError, MountRequest, Mounted, PreparedMount};
pub use kernel::KernelError;
pub use loop_device::LoopError;
pub use options::MountOptions;
pub use plan::{MountPlan, PlanError, Rejection, Sources, Step, Way, plan};
pub use requirements::Requirements;
pub use umount::umount;
pub use wish::{DirectIo, Via, Wish};
