//! What `erofs build` and `erofs index` say at their end.

use crate::names::Printable;
use crate::report;
use clap::Args;
use erofs_format::kernel::Requirement;
use erofs_mkfs::summary::Summary;
use serde::Serialize;
use std::path::Path;

/// How the result is told.
#[derive(Debug, Args)]
pub(crate) struct Report {
    /// Print the summary as JSON
    #[arg(long)]
    json: bool,

    /// Print nothing but errors
    #[arg(short, long)]
    quiet: bool,
}

impl Report {
    /// Whether nothing may be said on the way.
    pub(crate) const fn is_quiet(&self) -> bool {
        self.quiet || self.json
    }

    /// Prints the summary as asked.
    pub(crate) fn print(&self, image: &Path, summary: &Summary) -> anyhow::Result<()> {
        warn(summary);
        if self.json {
            report::print_json(&JsonSummary::new(image, summary))?;
        } else if !self.quiet {
            print_summary(image, summary);
        }
        Ok(())
    }
}

/// Tells on standard error what is not in the image, where that was to be no error.
pub(crate) fn warn(summary: &Summary) {
    for path in &summary.vanished {
        let path = Printable(path);
        complain!("erofs: {path}: it vanished while its directory was read, and is left out");
    }
}

/// The summary for scripts.
#[derive(Debug, Serialize)]
struct JsonSummary {
    image: String,
    entries: u64,
    inodes: u64,
    bytes_in: u64,
    image_bytes: u64,
    ratio: f64,
    duplicate_files: u64,
    verified: bool,
    seconds: f64,
    bytes_per_second: f64,
    uuid: String,
    oldest_kernel: String,
    oldest_kernel_because: &'static str,
    requirements: Vec<JsonRequirement>,
}

#[derive(Debug, Serialize)]
struct JsonRequirement {
    feature: &'static str,
    since: String,
}

impl JsonSummary {
    fn new(image: &Path, summary: &Summary) -> Self {
        Self {
            image: report::path(image),
            entries: summary.entries,
            inodes: summary.inodes,
            bytes_in: summary.bytes_in,
            image_bytes: summary.image_size,
            ratio: summary.ratio(),
            duplicate_files: summary.duplicates,
            verified: summary.verified,
            seconds: summary.elapsed.as_secs_f64(),
            bytes_per_second: summary.throughput(),
            uuid: report::uuid(&summary.uuid),
            oldest_kernel: summary.oldest_kernel().to_string(),
            oldest_kernel_because: summary.newest_requirement().describe(),
            requirements: summary
                .requirements
                .iter()
                .map(|requirement| JsonRequirement {
                    feature: requirement.describe(),
                    since: requirement.since().to_string(),
                })
                .collect(),
        }
    }
}

/// The summary for people.
fn print_summary(image: &Path, summary: &Summary) {
    let is_index = summary.requirements.contains(&Requirement::DeviceTable);
    let size = report::bytes(summary.image_size);
    let data = report::bytes(summary.bytes_in);
    let entries = report::count(summary.entries, "entry", "entries");
    let time = report::seconds(summary.elapsed);
    if summary.requirements.contains(&Requirement::FlatDevices) {
        say!(
            "{}: {size}, an index and {data} of data behind it, {entries}, {time}",
            image.display()
        );
    } else if is_index {
        say!(
            "{}: {size} for {data} of data that stay in place, {entries}, {time}",
            image.display()
        );
    } else {
        say!(
            "{}: {size} from {data} of data in {entries} (ratio {:.2}), {time} at {}/s",
            image.display(),
            summary.ratio(),
            report::bytes(summary.throughput() as u64),
        );
    }
    if summary.duplicates > 0 {
        say!(
            "  {} the data of identical ones",
            report::count(summary.duplicates, "file shares", "files share")
        );
    }
    let pages = match summary.block_size {
        ..=4096 => String::new(),
        larger => format!(
            " on machines with pages of {} or more",
            report::bytes(larger)
        ),
    };
    say!(
        "  mounts on Linux {} and newer{pages} ({}); UUID {}",
        summary.oldest_kernel(),
        summary.newest_requirement().describe(),
        report::uuid(&summary.uuid),
    );
}
