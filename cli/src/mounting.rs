//! A mount with its whole story: what was planned, what was tried, and what to do when nothing worked.

use crate::command::fuse;
use crate::names::shown;
use crate::report;
use erofs_format::superblock::SuperblockError;
use erofs_mount::requirements::RequirementsError;
use erofs_mount::{
    Attempt, DeviceError, MountError, MountOptions, MountPlan, MountRequest, Mounted, PlanError,
    PreparedMount, Rejection, Sources, Via, Way, WayError,
};
use serde::Serialize;
use std::path::Path;

/// How much is printed on the way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Detail {
    /// Nothing.
    Nothing,
    /// What was mounted how.
    Result,
    /// The plan with its reasons and every attempt.
    Plan,
}

/// A way to try.
#[derive(Debug, Serialize)]
struct PlannedWay {
    way: Way,
    direct_io: bool,
    reason: String,
    /// What it needs of the kernel and no probe has shown.
    unproven: Vec<String>,
}

/// A way that is not tried.
#[derive(Debug, Serialize)]
struct RejectedWay {
    way: Way,
    reasons: Vec<String>,
}

/// A way that was tried.
#[derive(Debug, Serialize)]
struct TriedWay {
    way: Way,
    direct_io: bool,
    error: Option<String>,
    consequence: Option<String>,
}

impl From<&Attempt> for TriedWay {
    fn from(attempt: &Attempt) -> Self {
        let failure = attempt.failure.as_ref();
        Self {
            way: attempt.way,
            direct_io: attempt.direct_io,
            error: failure.map(|(error, _)| error.to_string()),
            consequence: failure.map(|(_, consequence)| consequence.to_string()),
        }
    }
}

/// Ways to mount, those to try and the others, as JSON.
#[derive(Debug, Serialize, Default)]
pub(crate) struct PlanAccount {
    plan: Vec<PlannedWay>,
    rejected: Vec<RejectedWay>,
}

impl PlanAccount {
    pub(crate) fn new(plan: &MountPlan) -> Self {
        let steps = plan.steps.iter().map(|step| PlannedWay {
            way: step.way,
            direct_io: step.direct_io,
            reason: step.reason.to_owned(),
            unproven: step.unproven.iter().map(ToString::to_string).collect(),
        });
        Self {
            plan: steps.collect(),
            ..Self::impossible(&plan.rejected)
        }
    }

    pub(crate) fn impossible(rejected: &[(Way, Vec<Rejection>)]) -> Self {
        let rejected = rejected.iter().map(|(way, reasons)| RejectedWay {
            way: *way,
            reasons: reasons.iter().map(ToString::to_string).collect(),
        });
        Self {
            plan: Vec::new(),
            rejected: rejected.collect(),
        }
    }
}

/// What became of a mount, as `--json` prints it.
#[derive(Debug, Serialize)]
pub(crate) struct Account {
    image: String,
    target: String,
    via: Via,
    /// Extra devices in slot order.
    devices: Vec<String>,
    #[serde(flatten)]
    ways: PlanAccount,
    attempts: Vec<TriedWay>,
    /// The way that worked.
    mounted: Option<Way>,
    direct_io: bool,
    error: Option<String>,
}

impl Account {
    fn new(request: &MountRequest) -> Self {
        Self {
            image: report::path(&request.image),
            target: report::path(&request.target),
            via: request.options.via,
            devices: Vec::new(),
            ways: PlanAccount::default(),
            attempts: Vec::new(),
            mounted: None,
            direct_io: false,
            error: None,
        }
    }

    /// What the user may not expect: FUSE where nobody asked for it, and why not the kernel.
    pub(crate) fn surprise(&self) -> Option<String> {
        if self.mounted != Some(Way::Fuse) || self.via == Via::Fuse {
            return None;
        }
        let rejected = self.ways.rejected.iter().flat_map(|way| &way.reasons);
        let failed = self.attempts.iter().filter_map(|way| way.error.as_ref());
        let reason = failed.chain(rejected).next()?;
        Some(format!("mounted through FUSE: {reason}"))
    }
}

/// A mount that is taken away whatever happens.
#[derive(Debug)]
pub(crate) struct MountGuard<'t> {
    /// What was planned, as lines.
    pub(crate) plan: String,
    /// What became of it.
    pub(crate) mounted: Mounted,
    /// The folder, until it is unmounted.
    target: Option<&'t Path>,
}

impl<'t> MountGuard<'t> {
    /// Mounts `image` on `target`.
    pub(crate) fn mount(image: &Path, target: &'t Path, via: Via) -> Result<Self, MountError> {
        let request = MountRequest {
            image: image.to_path_buf(),
            target: target.to_path_buf(),
            options: MountOptions {
                via,
                ..MountOptions::default()
            },
        };
        let prepared = request.prepare(true)?;
        let plan = prepared.plan.to_string();
        let mut launcher = fuse::launch;
        let mounted = prepared.execute(Some(&mut launcher))?;
        Ok(Self {
            plan,
            mounted,
            target: Some(target),
        })
    }

    /// Unmounts, and tells when that fails.
    pub(crate) fn unmount(mut self) -> anyhow::Result<()> {
        if let Some(target) = self.target.take() {
            erofs_mount::umount(target, false)?;
        }
        Ok(())
    }
}

impl Drop for MountGuard<'_> {
    fn drop(&mut self) {
        if let Some(target) = self.target {
            // Another error is on its way to the user.
            let _ = erofs_mount::umount(target, true);
        }
    }
}

/// Mounts, with FUSE as the last way, and tells as much of it as `detail` says.
pub(crate) fn mount(request: &MountRequest, detail: Detail) -> (Account, Result<(), MountError>) {
    let mut account = Account::new(request);
    let result = try_mount(request, detail, &mut account);
    if let Err(error) = &result {
        if detail == Detail::Plan {
            tell_attempts(error.attempts());
        }
        account.attempts = error.attempts().iter().map(TriedWay::from).collect();
        if let MountError::Plan(PlanError::Impossible { rejected, .. }) = error {
            account.ways = PlanAccount::impossible(rejected);
        }
        account.error = Some(explained(error));
    }
    (account, result)
}

fn try_mount(
    request: &MountRequest,
    detail: Detail,
    account: &mut Account,
) -> Result<(), MountError> {
    let prepared = request.prepare(true)?;
    account.devices = devices(&prepared.sources);
    account.ways = PlanAccount::new(&prepared.plan);
    if detail == Detail::Plan {
        tell_plan(&prepared);
    }
    let mut launcher = fuse::launch;
    let mounted = prepared.execute(Some(&mut launcher))?;
    account.attempts = mounted.attempts.iter().map(TriedWay::from).collect();
    account.mounted = Some(mounted.way);
    account.direct_io = mounted.direct_io;
    match detail {
        Detail::Nothing => {}
        Detail::Plan => tell_attempts(&mounted.attempts),
        Detail::Result => {
            let direct = if mounted.direct_io {
                ", direct I/O"
            } else {
                ""
            };
            let (image, target) = (shown(&request.image), shown(&request.target));
            say!("{image} mounted on {target}: {}{direct}", mounted.way);
        }
    }
    Ok(())
}

pub(crate) fn devices(sources: &Sources) -> Vec<String> {
    let paths = sources.devices.iter().map(|device| &device.path);
    paths.map(|path| report::path(path)).collect()
}

fn tell_plan(prepared: &PreparedMount) {
    let page = prepared.capabilities.page;
    if let Some((kernel, ability)) = prepared.requirements.oldest_kernel(page) {
        say!(
            "image: needs Linux {kernel} ({ability}), this is {}",
            prepared.capabilities.release
        );
    }
    for (index, device) in prepared.sources.devices.iter().enumerate() {
        say!("device {}: {}", index + 1, shown(&device.path));
    }
    say!("plan:");
    for line in prepared.plan.to_string().lines() {
        say!("  {line}");
    }
}

fn tell_attempts(attempts: &[Attempt]) {
    if !attempts.is_empty() {
        say!("attempts:");
    }
    for attempt in attempts {
        say!("  {attempt}");
    }
}

/// The error as one line, with what to do about it.
pub(crate) fn explained(error: &MountError) -> String {
    // The ways of a plan stand on lines of their own.
    let text = error.to_string();
    let text = text.replacen('\n', ": ", 1).replace('\n', "; ");
    match advice(error) {
        Some(advice) => format!("{text}; {advice}"),
        None => text,
    }
}

const NAME_DEVICES: &str =
    "name the devices in the order of the slots with --device PATH (in fstab: device=PATH)";

fn advice(error: &MountError) -> Option<&'static str> {
    Some(match error {
        MountError::Requirements(RequirementsError::Superblock {
            error: SuperblockError::Magic(_) | SuperblockError::Truncated(_),
            ..
        }) => "is it an EROFS image? One that begins within its file needs --offset BYTES",
        MountError::Plan(PlanError::Devices { needed: 0, .. }) => "leave --device out",
        MountError::Plan(PlanError::Devices { .. })
        | MountError::Devices(
            DeviceError::Missing { .. }
            | DeviceError::Outside { .. }
            | DeviceError::Ambiguous { .. }
            | DeviceError::TooSmall { .. },
        ) => NAME_DEVICES,
        MountError::Plan(PlanError::Impossible { via, rejected }) => {
            let reasons: Vec<_> = rejected.iter().flat_map(|(_, reasons)| reasons).collect();
            let is = |test: fn(&Rejection) -> bool| reasons.iter().any(|reason| test(reason));
            if matches!(via, Via::File | Via::Loop) {
                if is(|reason| matches!(reason, Rejection::NotPrivileged(_))) {
                    "run it as root, or use --fuse, which needs no root"
                } else {
                    "--via auto takes the next best way"
                }
            } else if is(|reason| matches!(reason, Rejection::NoFusermount)) {
                "install fuse3, or run it as root"
            } else if is(|reason| matches!(reason, Rejection::NoFuseDevice)) {
                if is(|reason| matches!(reason, Rejection::NotPrivileged(_))) {
                    "load FUSE (modprobe fuse) and let yourself open /dev/fuse, or run it as root"
                } else {
                    "load FUSE (modprobe fuse), or use a kernel that reads the image"
                }
            } else {
                return None;
            }
        }
        MountError::Corrupt { .. } => "copy it again or build it anew",
        MountError::Failed { attempts, .. } => {
            let last = attempts.last().and_then(|attempt| attempt.failure.as_ref());
            match last {
                Some((WayError::Kernel(error), _)) if error.log.is_empty() => {}
                _ => return None,
            }
            "the kernel's log (dmesg) may tell more"
        }
        _ => return None,
    })
}
