//! What all threads of an extraction share.

use super::error::{ExtractError, Problem};
use super::{ExtractOptions, Skipped, Summary};
use crate::image::Image;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Problems after which an image is given up: whoever repeats one block of a directory makes as many as he likes.
const MOST_PROBLEMS: u64 = 1_000_000;

/// Image, options, and what is counted.
pub(super) struct Shared<'a> {
    pub(super) image: &'a Image,
    pub(super) options: &'a ExtractOptions,
    pub(super) progress: &'a AtomicU64,
    pub(super) report: &'a (dyn Fn(&Problem) + Sync),
    pub(super) made: Made,
    pub(super) skipped: SkippedCounters,
    /// Permissions that are cut off.
    pub(super) umask: u16,
    problems: Counter,
    stopped: AtomicBool,
}

/// A number that many threads advance.
#[derive(Default)]
pub(super) struct Counter(AtomicU64);

impl Counter {
    pub(super) fn add(&self) {
        self.add_many(1);
    }

    /// Returns the number before.
    pub(super) fn add_many(&self, count: u64) -> u64 {
        self.0.fetch_add(count, Ordering::Relaxed)
    }

    fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

#[derive(Default)]
pub(super) struct Made {
    pub(super) files: Counter,
    pub(super) bytes: Counter,
    pub(super) bytes_written: Counter,
    pub(super) directories: Counter,
    pub(super) symlinks: Counter,
    pub(super) special_files: Counter,
    pub(super) hard_links: Counter,
}

#[derive(Default)]
pub(super) struct SkippedCounters {
    pub(super) device_nodes: Counter,
    pub(super) owners: Counter,
    pub(super) xattrs: Counter,
    pub(super) set_id_bits: Counter,
}

/// The umask of this process. The system call would change it for a moment, for all threads.
fn umask() -> u16 {
    const USUAL: u16 = 0o022;
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let value = status.lines().find_map(|line| line.strip_prefix("Umask:"));
    value
        .and_then(|value| u16::from_str_radix(value.trim(), 8).ok())
        .unwrap_or(USUAL)
}

impl<'a> Shared<'a> {
    pub(super) fn new(
        image: &'a Image,
        options: &'a ExtractOptions,
        progress: &'a AtomicU64,
        report: &'a (dyn Fn(&Problem) + Sync),
    ) -> Self {
        Self {
            image,
            options,
            progress,
            report,
            made: Made::default(),
            skipped: SkippedCounters::default(),
            umask: if options.same_permissions { 0 } else { umask() },
            problems: Counter::default(),
            stopped: AtomicBool::new(false),
        }
    }

    /// Reports a problem; one after which nothing could succeed, or one too many, stops all threads.
    pub(super) fn problem(&self, path: &[u8], error: ExtractError) {
        if self.problems.add_many(1) >= MOST_PROBLEMS || error.is_final() {
            self.stop();
        }
        (self.report)(&Problem {
            path: path.to_vec(),
            error,
        });
    }

    pub(super) fn stop(&self) {
        self.stopped.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Relaxed)
    }

    pub(super) fn summary(&self) -> Summary {
        let Self { made, skipped, .. } = self;
        Summary {
            files: made.files.get(),
            bytes: made.bytes.get(),
            bytes_written: made.bytes_written.get(),
            directories: made.directories.get(),
            symlinks: made.symlinks.get(),
            special_files: made.special_files.get(),
            hard_links: made.hard_links.get(),
            skipped: Skipped {
                device_nodes: skipped.device_nodes.get(),
                owners: skipped.owners.get(),
                xattrs: skipped.xattrs.get(),
                set_id_bits: skipped.set_id_bits.get(),
            },
            problems: self.problems.get(),
            stopped: self.is_stopped(),
        }
    }
}
