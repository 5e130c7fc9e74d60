//! Jobs: one mount of one image each, and its record.
//!
//! A job is a line of columns separated by tabs, `-` for empty: id, mode, image, devices by commas, mount options, flags
//! by commas. A record is a line `J ID`, then `M` manifest lines, `K` lines of the kernel's log, `S` with the
//! outcome, and `E ID`. What a crash cuts off has no `E`.

use std::{
    fmt::Write as _,
    fs,
    io::{self, Write},
    path::Path,
    time::{Duration, Instant},
};

use crate::{
    content::Depth,
    kernel_log::KernelLog,
    manifest::{Walk, errno},
    reach::{Mode, Mounted, Payload},
};

/// One job.
#[derive(Debug)]
struct Job<'a> {
    id: &'a str,
    mode: Mode,
    image: &'a str,
    devices: Vec<&'a str>,
    options: &'a str,
    depth: Depth,
    limit: Option<Duration>,
}

impl<'a> Job<'a> {
    fn parse(line: &'a str) -> io::Result<Self> {
        let columns: Vec<&str> = line
            .split('\t')
            .map(|column| if column == "-" { "" } else { column })
            .collect();
        let [id, mode, image, devices, options, flags] = columns[..] else {
            return Err(io::Error::other(format!("not a job: {line}")));
        };
        let parts = |list: &'a str| list.split(',').filter(|part| !part.is_empty());
        let seconds = parts(flags).find_map(|flag| flag.strip_prefix("budget:")?.parse().ok());
        Ok(Self {
            id,
            mode: mode.parse()?,
            image,
            devices: parts(devices).collect(),
            options,
            depth: if parts(flags).any(|flag| flag == "deep") {
                Depth::Thrice
            } else {
                Depth::Once
            },
            limit: seconds.map(Duration::from_secs),
        })
    }

    /// Mounts and reads; everything of the record behind its first line.
    fn run(&self, payload: &Payload, log: &mut KernelLog) -> String {
        let mut record = String::new();
        let began = Instant::now();
        let mounted = Mounted::new(payload, self.mode, self.image, &self.devices, self.options);
        let outcome = match mounted {
            Err(error) => format!("refused errno={}", errno(&error)),
            Ok(mounted) => {
                let mut walk = Walk::new(mounted.path(), self.depth);
                if let Some(limit) = self.limit {
                    walk = walk.within(limit);
                }
                let manifest = walk.finish();
                for line in manifest.lines.lines() {
                    let _ = writeln!(record, "M {line}");
                }
                format!(
                    "read entries={} errors={} unmounted={}",
                    manifest.entries,
                    manifest.errors,
                    mounted.unmount()
                )
            }
        };
        for line in log.lines() {
            let _ = writeln!(record, "K {line}");
        }
        let _ = writeln!(
            record,
            "S {outcome} ms={}\nE {}",
            began.elapsed().as_millis(),
            self.id
        );
        record
    }
}

/// Runs all jobs of a file, with a line about the kernel in front and one behind.
///
/// # Errors
/// The file is no list of jobs, or a record cannot be written.
pub(crate) fn run_all(jobs: &Path, payload: &Payload, records: &mut impl Write) -> io::Result<()> {
    let jobs = fs::read_to_string(jobs)?;
    let release = fs::read_to_string("/proc/sys/kernel/osrelease")?;
    let mut log = KernelLog::open();
    emit(records, &format!("B {} {}\n", release.trim(), uptime()))?;
    for line in jobs.lines() {
        let job = Job::parse(line)?;
        // First, that the host may know which job it was that the kernel did not survive.
        emit(records, &format!("J {}\n", job.id))?;
        emit(records, &job.run(payload, &mut log))?;
    }
    emit(records, &format!("D {}\n", uptime()))
}

fn emit(records: &mut impl Write, text: &str) -> io::Result<()> {
    records.write_all(text.as_bytes())?;
    records.flush()
}

/// Seconds since the kernel started.
fn uptime() -> String {
    let text = fs::read_to_string("/proc/uptime").unwrap_or_default();
    text.split(' ').next().unwrap_or_default().to_owned()
}
