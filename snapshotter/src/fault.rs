//! Named steps at which the process can be made to die or to fail, so that tests see what that leaves.
//!
//! The environment variable `EROFS_FAULT=STEP=HOW[:COUNT]` is read once, when serving begins. `HOW` is `kill` (SIGKILL to
//! itself), `enospc` or `eio` (the step fails with it); `COUNT` is which time the step is reached, the first if it is left
//! out. Without the variable a step costs one load.

use crate::error::Error;
use rustix::io::Errno;
use rustix::process::{Signal, getpid, kill_process};
use std::io;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

/// The variable.
const VARIABLE: &str = "EROFS_FAULT";

macro_rules! steps {
    ($($(#[$doc:meta])* $step:ident = $name:literal,)*) => {
        /// A step of what the snapshotter does.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(crate) enum Step {
            $($(#[$doc])* $step,)*
        }

        impl Step {
            const fn name(self) -> &'static str {
                match self {
                    $(Self::$step => $name,)*
                }
            }
        }

        /// Names of all steps.
        pub const STEPS: &[&str] = &[$($name),*];
    };
}

steps! {
    /// The database is about to be changed: the transaction is made and not committed.
    DatabaseChanged = "database.changed",
    /// The transaction is committed.
    DatabaseCommitted = "database.committed",
    /// A snapshot has a line in the journal, and is not in the database.
    JournalWritten = "journal.written",
    /// What was answered is about to be synced.
    SyncBegun = "sync.begun",
    /// A snapshot has a record and no folder.
    PrepareRecorded = "prepare.recorded",
    /// A snapshot has a folder with nothing in it.
    PrepareFolder = "prepare.folder",
    /// The filesystem of a snapshot with a quota is made and not mounted.
    WritableFormatted = "writable.formatted",
    /// It is mounted and empty.
    WritableMounted = "writable.mounted",
    /// A snapshot has all, and nobody was told.
    PrepareMade = "prepare.made",
    /// A layer has a mount point and is not mounted.
    MountFolder = "mount.folder",
    /// A layer is mounted.
    MountDone = "mount.done",
    /// What was merged of layers has its name, and no record.
    MergedPublished = "merged.published",
    /// A part of a layer's blob is read.
    ApplyReading = "apply.reading",
    /// A layer is an image that is not known yet.
    LayerBuilt = "layer.built",
    /// The image has its name, and neither is synced.
    LayerNamed = "layer.named",
    /// The image has its name for ever, and no record.
    LayerPublished = "layer.published",
    /// The image is that of the snapshot, and nobody was told.
    LayerRecorded = "layer.recorded",
    /// A snapshot is about to be committed.
    CommitBegun = "commit.begun",
    /// It is committed, and nobody was told.
    CommitRecorded = "commit.recorded",
    /// A snapshot is about to be removed.
    RemoveBegun = "remove.begun",
    /// It has no record any more, and its files are there.
    RemoveRecorded = "remove.recorded",
    /// A layer without a record is unmounted; its mount point is there.
    CleanupUnmounted = "cleanup.unmounted",
    /// Its mount point is gone; its image is there.
    CleanupPoint = "cleanup.point",
    /// Its image is gone; the folder of the snapshot is there.
    CleanupImage = "cleanup.image",
    /// The filesystem of a removed snapshot is unmounted; its file is there.
    CleanupWritable = "cleanup.writable",
    /// All that was removed is thrown away, and nobody was told.
    CleanupDone = "cleanup.done",
    /// At the start: what was being written is thrown away.
    StartIngest = "start.ingest",
    /// At the start: folders without snapshots are thrown away.
    StartFolders = "start.folders",
    /// At the start: mounts without layers are gone.
    StartMounts = "start.mounts",
    /// At the start: images without layers are thrown away.
    StartImages = "start.images",
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum How {
    Kill,
    Fail(Errno),
}

/// What the variable asks for.
#[derive(Debug)]
struct Fault {
    step: &'static str,
    how: How,
    /// How often the step is passed before.
    passes: AtomicU64,
}

static FAULT: OnceLock<Fault> = OnceLock::new();

impl Fault {
    fn parse(text: &str) -> Option<Self> {
        let (name, how) = text.split_once('=')?;
        let (how, count) = how.split_once(':').unwrap_or((how, "1"));
        Some(Self {
            step: STEPS.iter().find(|step| **step == name)?,
            how: match how {
                "kill" => How::Kill,
                "enospc" => How::Fail(Errno::NOSPC),
                "eio" => How::Fail(Errno::IO),
                _ => return None,
            },
            passes: AtomicU64::new(count.parse::<u64>().ok()?.checked_sub(1)?),
        })
    }

    /// Whether it is now, which it is once.
    fn is_now(&self) -> bool {
        let one_less = |passes: u64| Some(passes.wrapping_sub(1));
        self.passes
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_less)
            .is_ok_and(|before| before == 0)
    }
}

/// Reads the variable, if it is set.
///
/// # Errors
/// [`Error::Argument`] if it says nothing known.
pub(crate) fn read_environment() -> Result<(), Error> {
    let Some(text) = std::env::var_os(VARIABLE) else {
        return Ok(());
    };
    let fault = text.to_str().and_then(Fault::parse).ok_or_else(|| {
        Error::Argument(format!(
            "{VARIABLE} is STEP=kill|enospc|eio[:COUNT], not {text:?}; steps: {}",
            STEPS.join(" ")
        ))
    })?;
    FAULT.get_or_init(|| fault);
    Ok(())
}

/// Passes a step, or fails there.
///
/// # Errors
/// [`Error::File`] with the step's name, if that was asked for.
pub(crate) fn at(step: Step) -> Result<(), Error> {
    let Some(fault) = FAULT.get() else {
        return Ok(());
    };
    if fault.step != step.name() || !fault.is_now() {
        return Ok(());
    }
    match fault.how {
        How::Kill => loop {
            // It ends before this returns.
            let _ = kill_process(getpid(), Signal::KILL);
        },
        How::Fail(errno) => Err(Error::File {
            what: "asked to fail at",
            path: fault.step.into(),
            source: io::Error::from(errno),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_is_once() {
        let fault = Fault::parse("mount.done=enospc:3").expect("known");
        assert_eq!(fault.how, How::Fail(Errno::NOSPC));
        let now: Vec<bool> = (0..5).map(|_| fault.is_now()).collect();
        assert_eq!(now, [false, false, true, false, false]);
    }

    #[test]
    fn what_is_not_known_is_refused() {
        for text in [
            "",
            "mount.done",
            "mount.done=",
            "mount.done=kill:0",
            "x=kill",
        ] {
            assert!(Fault::parse(text).is_none(), "{text}");
        }
    }
}
