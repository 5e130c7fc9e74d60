//! What all threads of an extraction share.

use super::error::{ExtractError, Problem};
use super::{ExtractOptions, Skipped, Summary};
use crate::image::Image;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Image, options, and what is counted.
pub(super) struct Shared<'a> {
    pub(super) image: &'a Image,
    pub(super) options: &'a ExtractOptions,
    pub(super) progress: &'a AtomicU64,
    pub(super) report: &'a (dyn Fn(&Problem) + Sync),
    pub(super) made: Made,
    pub(super) skipped: SkippedCounters,
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

    pub(super) fn add_many(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
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
            problems: Counter::default(),
            stopped: AtomicBool::new(false),
        }
    }

    /// Reports a problem; one after which nothing could succeed stops all threads.
    pub(super) fn problem(&self, path: &[u8], error: ExtractError) {
        if error.is_final() {
            self.stopped.store(true, Ordering::Relaxed);
        }
        self.problems.add();
        (self.report)(&Problem {
            path: path.to_vec(),
            error,
        });
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
