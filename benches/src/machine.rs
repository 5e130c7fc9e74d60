//! Where and when something was measured.

use std::{
    fmt::{self, Display},
    fs,
};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

/// What the figures depend on besides the programs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Machine {
    /// Model of the processor.
    pub(crate) processor: String,
    /// Processors of this process.
    pub(crate) processors: usize,
    /// Memory in GiB.
    pub(crate) memory: u64,
    /// Release of Linux and architecture.
    pub(crate) kernel: String,
    /// Day, UTC.
    pub(crate) date: String,
    /// Tasks that ran during the last minute, as the kernel averages them.
    pub(crate) load: String,
}

impl Machine {
    /// As it is now.
    ///
    /// # Errors
    /// Linux does not tell.
    pub(crate) fn now() -> Result<Self> {
        let cpuinfo = fs::read_to_string("/proc/cpuinfo")?;
        let uname = rustix::system::uname();
        let architecture = uname.machine().to_string_lossy().into_owned();
        let model = value(&cpuinfo, "model name").unwrap_or(&architecture);
        let meminfo = fs::read_to_string("/proc/meminfo")?;
        let memory = value(&meminfo, "MemTotal").context("no MemTotal")?;
        let load = fs::read_to_string("/proc/loadavg")?;
        let date = std::process::Command::new("date")
            .args(["-u", "+%F"])
            .output()?;
        Ok(Self {
            processor: model.to_owned(),
            processors: std::thread::available_parallelism()?.get(),
            memory: memory
                .trim_end_matches(" kB")
                .parse::<u64>()?
                .div_ceil(1 << 20),
            kernel: format!("{} {architecture}", uname.release().to_string_lossy()),
            date: String::from_utf8_lossy(&date.stdout).trim().to_owned(),
            load: load.split(' ').next().unwrap_or_default().to_owned(),
        })
    }
}

impl Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            processor,
            processors,
            memory,
            kernel,
            date,
            load: _,
        } = self;
        write!(
            f,
            "{date}; {processor}, {processors} processors, {memory} GiB; Linux {kernel}"
        )
    }
}

/// The first value of `key` in a file of "key : value" lines.
fn value<'a>(text: &'a str, key: &str) -> Option<&'a str> {
    text.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        (name.trim() == key).then(|| value.trim())
    })
}
