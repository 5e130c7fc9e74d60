//! What one run of a program costs.
//!
//! The program is started by a small process of its own, this binary again: the kernel counts the memory of
//! the process that forks into the peak of its child, and only a process with one child can tell that child's
//! use from others'.

use std::{
    ffi::OsString,
    fs::File,
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

use crate::probe;

/// The first argument that makes this binary the starter of a program.
pub(crate) const FLAG: &str = "--measure";

/// Stands in arguments for the path of what is written.
pub(crate) const OUTPUT: &str = "{output}";

/// A run: its output goes where [`OUTPUT`] stands in the arguments.
#[derive(Clone, Debug)]
pub(crate) struct Work {
    /// Program and arguments; of a probe the arguments alone.
    pub(crate) command: Vec<OsString>,
    /// File on standard input.
    pub(crate) stdin: Option<PathBuf>,
    /// What it leaves.
    pub(crate) product: Product,
    /// Whether it is a [probe](crate::probe) instead of a program.
    pub(crate) is_probe: bool,
}

/// What a run leaves at the path of its output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Product {
    /// A file, whose size counts.
    File,
    /// A directory.
    Directory,
    /// Nothing: it reads only.
    Nothing,
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
    /// What a probe made of the bytes that it read.
    pub(crate) sum: Option<u64>,
}

impl Work {
    /// A program that writes a file.
    pub(crate) const fn writing_a_file(command: Vec<OsString>) -> Self {
        Self {
            command,
            stdin: None,
            product: Product::File,
            is_probe: false,
        }
    }

    /// A program that reads only.
    pub(crate) fn reading(command: Vec<OsString>) -> Self {
        Self {
            product: Product::Nothing,
            ..Self::writing_a_file(command)
        }
    }

    /// A probe.
    pub(crate) fn probing(arguments: Vec<OsString>) -> Self {
        Self {
            is_probe: true,
            ..Self::reading(arguments)
        }
    }

    /// Runs it with its output at `output`.
    ///
    /// # Errors
    /// It fails, with what it said; or it leaves nothing where it should.
    pub(crate) fn run(&self, output: &Path) -> Result<Usage> {
        let mut command = Command::new(std::env::current_exe()?);
        let flag = if self.is_probe { probe::FLAG } else { FLAG };
        command.arg(flag).args(self.command.iter().map(|argument| {
            match argument.to_str().and_then(|text| text.split_once(OUTPUT)) {
                Some((before, after)) => {
                    let mut argument = OsString::from(before);
                    argument.push(output);
                    argument.push(after);
                    argument
                }
                None => argument.clone(),
            }
        }));
        command.stdin(match &self.stdin {
            Some(path) => File::open(path)
                .with_context(|| path.display().to_string())?
                .into(),
            None => Stdio::null(),
        });
        let told = command.output()?;
        if !told.status.success() {
            bail!(
                "{:?}: {}",
                self.command,
                String::from_utf8_lossy(&told.stderr)
            );
        }
        let there = match self.product {
            Product::File => output.is_file(),
            Product::Directory => output.is_dir(),
            Product::Nothing => true,
        };
        ensure!(there, "{:?} left nothing", self.command);
        Ok(serde_json::from_slice(&told.stdout)?)
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
    let usage = Usage {
        wall,
        cpu: cpu(&usage),
        // Linux tells it in KiB.
        peak: u64::try_from(usage.max_rss())? << 10,
        sum: None,
    };
    println!("{}", serde_json::to_string(&usage)?);
    Ok(())
}

/// Seconds of user and system time of this process so far.
///
/// # Errors
/// None on Linux.
pub(crate) fn own_cpu() -> Result<f64> {
    Ok(cpu(&getrusage(UsageWho::RUSAGE_SELF)?))
}

/// Largest resident set of this process so far, in bytes: of this program alone, where `getrusage` counts what ran in the
/// process before too.
///
/// # Errors
/// None on Linux.
pub(crate) fn own_peak() -> Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB"));
    Ok(kib.context("no VmHWM")?.parse::<u64>()? << 10)
}

fn cpu(usage: &nix::sys::resource::Usage) -> f64 {
    (usage.user_time() + usage.system_time()).num_microseconds() as f64 / 1e6
}
