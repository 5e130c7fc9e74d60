//! `erofs check`: every rule of the format, held against an image.

use crate::error::{Outcome, printed};
use crate::image::{ImageInput, cut_off};
use crate::names::Printable;
use crate::output::Output;
use crate::progress::Progress;
use crate::{report, values};
use anyhow::Context;
use clap::Args;
use erofs_format::kernel::KernelVersion;
use erofs_format::{BlockBits, Nid};
use erofs_mount::{Ability, MountOptions, Requirements, Sources};
use erofs_reader::check::{
    CheckOptions, Counts, Finding, Report, Rule, Severity, Start, Statistics, check,
};
use serde::Serialize;
use std::io::{BufWriter, Write};
use std::num::NonZeroUsize;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Check an image: everything the kernel would refuse or read wrongly, and what is unusual.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Check {
    #[command(flatten)]
    input: ImageInput,

    /// Read and decode all data too
    #[arg(long)]
    data: bool,

    /// Check only what is at this path and below
    #[arg(long, value_name = "PATH", conflicts_with = "nid")]
    path: Option<PathBuf>,

    /// Check only this inode and what is below
    #[arg(long, value_name = "N")]
    nid: Option<u64>,

    /// Do not compare the superblock's checksum
    #[arg(long)]
    no_checksum: bool,

    /// Let unusual findings count as problems for the exit code
    #[arg(long)]
    strict: bool,

    /// Threads that decode data, by default one for each processor, at most 8
    #[arg(long, value_name = "N", value_parser = values::workers)]
    workers: Option<NonZeroUsize>,

    /// Most memory for the lists of names and extents; what is more goes to a temporary file in $TMPDIR (/var/tmp). By
    /// default all stay in memory: about 48 bytes for each inode and extent
    #[arg(long, value_name = "SIZE", value_parser = values::size)]
    max_memory: Option<u64>,

    /// Most findings of each rule to show; all are counted
    #[arg(long, value_name = "N", default_value = "100")]
    limit: u64,

    /// Print a report as JSON
    #[arg(long)]
    json: bool,

    /// Print nothing but findings
    #[arg(short, long, conflicts_with = "json")]
    quiet: bool,
}

const EXAMPLES: &str = "\
Examples:
  erofs check rootfs.erofs
  erofs check --data rootfs.erofs
  erofs check --data --device layer.tar layer.toc.erofs
  erofs check --json rootfs.erofs | jq '.findings[] | select(.severity == \"rejects\")'

Each finding is one line: what it means (\"rejects\": the kernel answers an error; \"misreads\": it shows \
    something wrong; \"unusual\": it reads what is meant), the rule, a path, inode and byte, what is there.

Exit codes: 0 nothing but unusual findings, 1 findings, 2 could not run. With --strict any finding is 1.";

impl Check {
    /// Runs the command.
    pub(crate) fn run(self) -> anyhow::Result<Outcome> {
        let (primary, devices) = self.input.sources()?;
        let defaults = CheckOptions::default();
        let options = CheckOptions {
            data: self.data,
            start: match (self.path, self.nid) {
                (Some(path), _) => Start::Path(path.into_os_string().into_vec()),
                (None, Some(nid)) => Start::Inode(Nid(nid)),
                (None, None) => Start::Root,
            },
            checksum: !self.no_checksum,
            workers: self.workers.unwrap_or(defaults.workers),
            max_memory: self
                .max_memory
                .map(|size| usize::try_from(size).unwrap_or(usize::MAX)),
            temporary_folder: temporary_folder(),
            findings_per_rule: self.limit,
        };
        let started = Instant::now();
        let progress = Progress::start("checking", self.quiet || self.json);
        let result = check(&primary, &devices, &options, progress.counter());
        drop(progress);
        let image = &self.input.image;
        let report = result.with_context(|| image.display().to_string())?;
        let needs = Needs::new(&self.input, &report);
        printed(if self.json {
            report::print_json(&JsonReport::new(image, &report, &needs, started.elapsed()))
        } else {
            print_findings(&report)
        })?;
        if !(self.json || self.quiet) {
            print_summary(&self.input, &report, &needs, started.elapsed());
        }
        let fine = report.is_clean() && !(self.strict && report.counts.total() > 0);
        Ok(if fine {
            Outcome::Fine
        } else {
            Outcome::Problems
        })
    }
}

/// Where temporary files may be large: what is in memory must not go to memory.
pub(crate) fn temporary_folder() -> PathBuf {
    std::env::var_os("TMPDIR").map_or_else(|| PathBuf::from("/var/tmp"), PathBuf::from)
}

/// Prints findings, one on each line.
pub(crate) fn print_findings(report: &Report) -> anyhow::Result<()> {
    let mut out = BufWriter::new(Output::new());
    for finding in &report.findings {
        let severity = finding.rule.severity().name();
        write!(out, "{severity:8}  {:20}  ", finding.rule.id())?;
        if let Some(path) = &finding.path {
            write!(out, "/{}: ", Printable(path))?;
        }
        writeln!(out, "{finding}")?;
    }
    for rule in Rule::ALL {
        let shown = report
            .findings
            .iter()
            .filter(|finding| finding.rule == *rule)
            .count() as u64;
        let more = report.counts.of(*rule).saturating_sub(shown);
        if more > 0 {
            let severity = rule.severity().name();
            writeln!(out, "{severity:8}  {:20}  … and {more} more", rule.id())?;
        }
    }
    Ok(out.flush()?)
}

/// The oldest kernel that reads the image, and what asks for it.
struct Needs(Option<(KernelVersion, Ability)>);

impl Needs {
    /// What the superblock says and what was found beyond. Nothing of an image that does not open.
    fn new(input: &ImageInput, report: &Report) -> Self {
        let requirements = Requirements::read(&input.image, input.offset).ok();
        let options = MountOptions {
            offset: input.offset,
            devices: input.devices.clone(),
            ..MountOptions::default()
        };
        // The commonest pages.
        Self(requirements.and_then(|mut requirements| {
            if let Ok(sources) = Sources::find(&input.image, &options, &requirements) {
                requirements = sources.needs(&requirements, input.offset);
            }
            requirements.add(report.unannounced.iter().copied());
            requirements.oldest_kernel(BlockBits::B4096)
        }))
    }
}

fn print_summary(input: &ImageInput, report: &Report, needs: &Needs, elapsed: Duration) {
    let statistics = &report.statistics;
    let mut text = match report.counts.total() {
        0 => "no findings".to_owned(),
        1 => "1 finding".to_owned(),
        count => format!("{count} findings"),
    };
    let parts: Vec<_> = Severity::ALL
        .into_iter()
        .map(|severity| (severity.name(), report.counts.of_severity(severity)))
        .filter(|(_, count)| *count > 0)
        .map(|(name, count)| format!("{count} {name}"))
        .collect();
    if !parts.is_empty() {
        text.push_str(&format!(" ({})", parts.join(", ")));
    }
    text.push_str(&format!(
        "; {} inodes, {} names, {} extents",
        statistics.inodes, statistics.names, statistics.extents
    ));
    let data = statistics.decoded_bytes + statistics.read_bytes;
    if data > 0 {
        text.push_str(&format!(", {} of data", report::bytes(data)));
    }
    if !report.complete {
        text.push_str("; not everything could be checked");
        if let Some(cut_off) = cut_off(&input.image, input.offset) {
            text.push_str(&format!("; {cut_off}"));
        }
    }
    if let Needs(Some((kernel, ability))) = needs {
        text.push_str(&format!("; needs Linux {kernel} for {ability}"));
    }
    say!(
        "{}: {text}, in {}",
        input.image.display(),
        report::seconds(elapsed)
    );
}

/// The report for scripts.
#[derive(Debug, Serialize)]
struct JsonReport<'a> {
    image: String,
    /// Whether the kernel reads the image as it is meant.
    clean: bool,
    complete: bool,
    /// The oldest kernel that reads it on pages of 4 KiB, if one does, as far as it was looked at.
    oldest_kernel: Option<String>,
    oldest_kernel_because: Option<String>,
    findings: Vec<JsonFinding<'a>>,
    /// By severity.
    counts: JsonCounts,
    /// Numbers of findings by rule, also of those not shown; rules that nothing breaks are left out.
    rules: std::collections::BTreeMap<&'static str, u64>,
    statistics: JsonStatistics,
    seconds: f64,
}

#[derive(Debug, Serialize)]
struct JsonFinding<'a> {
    rule: &'static str,
    severity: &'static str,
    nid: Option<u64>,
    path: Option<String>,
    /// What `offset` counts in: `image`, `metabox`, `device N` or the `file` itself.
    space: String,
    offset: u64,
    value: &'a str,
    /// The rule in one sentence.
    sentence: &'static str,
}

#[derive(Debug, Serialize)]
struct JsonCounts {
    rejects: u64,
    misreads: u64,
    unusual: u64,
}

#[derive(Debug, Serialize)]
struct JsonStatistics {
    inodes: u64,
    names: u64,
    extents: u64,
    file_bytes: u64,
    stored_bytes: u64,
    decoded_bytes: u64,
    read_bytes: u64,
    spilled_bytes: u64,
}

impl<'a> JsonReport<'a> {
    fn new(image: &Path, report: &'a Report, Needs(needs): &Needs, elapsed: Duration) -> Self {
        let count = |counts: &Counts, severity| counts.of_severity(severity);
        let Statistics {
            inodes,
            names,
            extents,
            file_bytes,
            stored_bytes,
            decoded_bytes,
            read_bytes,
            spilled_bytes,
        } = report.statistics;
        Self {
            image: report::path(image),
            clean: report.is_clean(),
            complete: report.complete,
            oldest_kernel: needs.map(|(kernel, _)| kernel.to_string()),
            oldest_kernel_because: needs.map(|(_, ability)| ability.to_string()),
            findings: report.findings.iter().map(JsonFinding::new).collect(),
            counts: JsonCounts {
                rejects: count(&report.counts, Severity::Rejects),
                misreads: count(&report.counts, Severity::Misreads),
                unusual: count(&report.counts, Severity::Unusual),
            },
            rules: Rule::ALL
                .iter()
                .map(|rule| (rule.id(), report.counts.of(*rule)))
                .filter(|(_, count)| *count > 0)
                .collect(),
            statistics: JsonStatistics {
                inodes,
                names,
                extents,
                file_bytes,
                stored_bytes,
                decoded_bytes,
                read_bytes,
                spilled_bytes,
            },
            seconds: elapsed.as_secs_f64(),
        }
    }
}

impl<'a> JsonFinding<'a> {
    fn new(finding: &'a Finding) -> Self {
        Self {
            rule: finding.rule.id(),
            severity: finding.rule.severity().name(),
            nid: finding.nid.map(|nid| nid.0),
            path: finding
                .path
                .as_ref()
                .map(|path| format!("/{}", Printable(path))),
            space: finding.at.space(),
            offset: finding.at.offset(),
            value: &finding.value,
            sentence: finding.rule.sentence(),
        }
    }
}
