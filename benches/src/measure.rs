//! What one run of a program costs.
//!
//! The program is started by a small process of its own, this binary again: the kernel counts the memory of
//! the process that forks into the peak of its child, and only a process with one child can tell that child's
//! use from others'.

use std::{
    ffi::OsString,
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Instant,
};

use anyhow::{Context, Result, bail, ensure};
use nix::sys::{
    resource::{UsageWho, getrusage},
    time::TimeValLike,
};
use serde::{Deserialize, Serialize};

/// The first argument that makes this binary the starter of a program.
pub(crate) const FLAG: &str = "--measure";

/// Stands in arguments for the image to write.
pub(crate) const IMAGE: &str = "{image}";

/// A program run: the image goes where [`IMAGE`] stands among the arguments.
#[derive(Clone, Debug)]
pub(crate) struct Work {
    /// Program and arguments.
    pub(crate) command: Vec<OsString>,
    /// File on standard input.
    pub(crate) stdin: Option<PathBuf>,
}

/// What a run used, its child processes included.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Usage {
    /// Seconds from start to end.
    pub(crate) wall: f64,
    /// Seconds of user and system time of all threads.
    pub(crate) cpu: f64,
    /// Largest resident set, in bytes.
    pub(crate) peak: u64,
}

impl Work {
    /// Runs the program, which writes `image`.
    ///
    /// # Errors
    /// The program fails, with what it said; or it writes no image.
    pub(crate) fn run(&self, image: &Path) -> Result<Usage> {
        let mut command = Command::new(std::env::current_exe()?);
        command.arg(FLAG).args(self.command.iter().map(|argument| {
            if argument == IMAGE {
                image.as_os_str()
            } else {
                argument
            }
        }));
        command.stdin(match &self.stdin {
            Some(path) => File::open(path)
                .with_context(|| path.display().to_string())?
                .into(),
            None => Stdio::null(),
        });
        let output = command.output()?;
        if !output.status.success() {
            bail!(
                "{:?}: {}",
                self.command,
                String::from_utf8_lossy(&output.stderr)
            );
        }
        ensure!(fs::exists(image)?, "{:?} wrote no image", self.command);
        Ok(serde_json::from_slice(&output.stdout)?)
    }
}

/// Runs `command` with this process's standard input and prints its [`Usage`].
///
/// # Errors
/// It does not start or fails.
pub(crate) fn measure(mut command: impl Iterator<Item = OsString>) -> Result<()> {
    let program = command.next().context("no program to measure")?;
    let start = Instant::now();
    let status = Command::new(&program)
        .args(command)
        .stdout(Stdio::null())
        .status()
        .with_context(|| program.display().to_string())?;
    let wall = start.elapsed().as_secs_f64();
    ensure!(status.success(), "{status}");
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN)?;
    let cpu = (usage.user_time() + usage.system_time()).num_microseconds();
    let usage = Usage {
        wall,
        cpu: cpu as f64 / 1e6,
        // Linux tells it in KiB.
        peak: u64::try_from(usage.max_rss())? << 10,
    };
    println!("{}", serde_json::to_string(&usage)?);
    Ok(())
}
