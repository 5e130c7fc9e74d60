//! What is said of an extraction.

use crate::error::Outcome;
use crate::names::{Printable, about};
use crate::progress::Progress;
use crate::report::{self, count};
use erofs_reader::extract::{ExtractError, Problem, Skipped, Summary};
use serde::Serialize;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Problems that are told one by one; the rest is counted.
const MOST_SHOWN: u64 = 100;

/// Tells problems while they come, from any thread.
#[derive(Debug, Default)]
pub(super) struct Problems(AtomicU64);

impl Problems {
    pub(super) fn tell(&self, progress: &Progress, problem: &Problem) {
        if self.0.fetch_add(1, Ordering::Relaxed) < MOST_SHOWN {
            progress.above(|| complain!("erofs: {}", text(problem)));
        }
    }

    pub(super) fn tell_rest(&self) {
        let all = self.0.load(Ordering::Relaxed);
        if all > MOST_SHOWN {
            complain!("erofs: … and {} more problems", all - MOST_SHOWN);
        }
    }
}

/// A problem on one line, safe for terminals.
pub(super) fn text(problem: &Problem) -> String {
    let path = if problem.path.is_empty() {
        b"/"
    } else {
        problem.path.as_slice()
    };
    let advice = match problem.error {
        ExtractError::Exists => " (--force replaces files and merges directories)",
        _ => "",
    };
    format!("{}{advice}", about(path, &problem.error))
}

/// Fine when everything that was asked for was extracted.
pub(super) fn outcome(summary: &Summary) -> Outcome {
    if summary.problems == 0 && !summary.skipped.is_any() {
        Outcome::Fine
    } else {
        Outcome::Problems
    }
}

pub(super) fn tell_left_out(summary: &Summary) {
    if summary.skipped.is_any() {
        complain!("erofs: left out: {}", left_out(&summary.skipped));
    }
}

pub(super) fn print(target: &Path, summary: &Summary, elapsed: Duration) {
    say!(
        "{}: {} ({}, {} written), {}, {}, {}, {} in {}",
        Printable(target.as_os_str().as_bytes()),
        count(summary.files, "file", "files"),
        report::bytes(summary.bytes),
        report::bytes(summary.bytes_written),
        count(summary.directories, "directory", "directories"),
        count(summary.symlinks, "symbolic link", "symbolic links"),
        count(summary.special_files, "special file", "special files"),
        count(summary.hard_links, "hard link", "hard links"),
        report::seconds(elapsed),
    );
    if summary.skipped.set_id_bits > 0 {
        say!(
            "  {} without set-id bits, as who extracts is not the owner in the image",
            count(summary.skipped.set_id_bits, "file", "files")
        );
    }
}

/// What is missing, and what would help.
fn left_out(skipped: &Skipped) -> String {
    let mut parts = Vec::new();
    for (count, what) in [
        (
            skipped.device_nodes,
            "device nodes (they need the right to make them)",
        ),
        (skipped.owners, "owners (--no-same-owner does without)"),
        (
            skipped.xattrs,
            "extended attributes (no right to set them, or no room in the filesystem; --no-xattrs does without)",
        ),
    ] {
        if count > 0 {
            parts.push(format!("{count} {what}"));
        }
    }
    parts.join(", ")
}

/// What was made.
#[derive(Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum JsonTarget {
    Directory(String),
    Tar(String),
}

/// The summary for scripts.
#[derive(Debug, Serialize)]
pub(super) struct JsonSummary {
    #[serde(flatten)]
    target: JsonTarget,
    files: u64,
    bytes: u64,
    bytes_written: u64,
    directories: u64,
    symlinks: u64,
    special_files: u64,
    hard_links: u64,
    skipped: JsonSkipped,
    problems: u64,
    stopped: bool,
    seconds: f64,
}

#[derive(Debug, Serialize)]
struct JsonSkipped {
    device_nodes: u64,
    owners: u64,
    xattrs: u64,
    set_id_bits: u64,
}

impl JsonSummary {
    pub(super) fn new(target: JsonTarget, summary: &Summary, elapsed: Duration) -> Self {
        Self {
            target,
            files: summary.files,
            bytes: summary.bytes,
            bytes_written: summary.bytes_written,
            directories: summary.directories,
            symlinks: summary.symlinks,
            special_files: summary.special_files,
            hard_links: summary.hard_links,
            skipped: JsonSkipped {
                device_nodes: summary.skipped.device_nodes,
                owners: summary.skipped.owners,
                xattrs: summary.skipped.xattrs,
                set_id_bits: summary.skipped.set_id_bits,
            },
            problems: summary.problems,
            stopped: summary.stopped,
            seconds: elapsed.as_secs_f64(),
        }
    }
}
