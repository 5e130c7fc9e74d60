//! Compares two trees: images, directories, tars.
//!
//! ```text
//! side A ┐                      ┌ differences of entries that both have ─ in order ┐
//!        ├ merge of both walks ─┤ contents in doubt ─ workers ─────────────────────┼ sink
//! side B ┘                      └ entries of one side ─ renames, at the end ───────┘
//! ```
//!
//! | module | question that it answers |
//! |---|---|
//! | `side` | what is asked of either side? |
//! | `image`, `directory`, `tree` | what are the sides? |
//! | `walk` | what do both have, and what only one? |
//! | `difference` | what differs between two entries? |
//! | `content`, `digest`, `files` | are contents the same? |
//! | `renames`, `paths` | what has another name only? |
//! | `ordered` | in which order is it told? |
//! | `text`, `json` | how is it told? |
//!
//! Memory is bounded by the directories on one path, by files with several names and by what only one side has.

mod content;
mod difference;
mod digest;
mod directory;
mod files;
mod image;
mod json;
mod ordered;
mod paths;
mod renames;
mod side;
mod text;
mod tree;
mod walk;

pub(crate) use difference::{Difference, Ignored, Kind, Problem};
pub(crate) use directory::DirectorySide;
pub(crate) use image::ImageSide;
pub(crate) use json::{JsonDifference, JsonProblem};
pub(crate) use ordered::Sink;
pub(crate) use side::Side;
pub(crate) use tree::TreeSide;

use crate::names::Printable;
use anyhow::{Context, bail};
use difference::{Changes, Lone};
use files::Files;
use ordered::Ordered;
use renames::Renames;
use side::{Location, SideError};
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicU64, Ordering};
use walk::{Walked, Walker};

/// How to compare.
#[derive(Debug, Clone)]
pub(crate) struct Options {
    /// Compare this path of both sides and what is below it, as [`normal`] gives it; empty for everything.
    pub(crate) subtree: Vec<u8>,
    /// Leave out these paths and what is below them, as [`normal`] gives them.
    pub(crate) excluded: Vec<Vec<u8>>,
    /// What is not compared.
    pub(crate) ignored: Ignored,
    /// Whether contents of files of the same size are compared.
    pub(crate) contents: bool,
    /// Whether renamed files are looked for.
    pub(crate) renames: bool,
    /// Whether it is enough to know that there are differences: the walk ends at the first entry of one side only.
    pub(crate) any: bool,
    /// Threads that compare contents.
    pub(crate) workers: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            subtree: Vec::new(),
            excluded: Vec::new(),
            ignored: Ignored::default(),
            contents: true,
            renames: true,
            any: false,
            workers: std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
        }
    }
}

/// A path without what means nothing: leading, double and trailing slashes, and `.`.
///
/// # Errors
/// For what no path in an image is: `..`, names over 255 bytes, NUL.
pub(crate) fn normal(path: &[u8]) -> anyhow::Result<Vec<u8>> {
    let names = erofs_mkfs::tree::components(path).with_context(|| Printable(path).to_string())?;
    Ok(names.join(&b'/'))
}

/// What a comparison came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Totals {
    /// Entries, those on both sides counted once.
    pub(crate) entries: u64,
    /// Bytes of data that were compared or digested.
    pub(crate) bytes: u64,
    /// Entries on both sides that differ.
    pub(crate) changed: u64,
    /// Files of another name, with the same content.
    pub(crate) renamed: u64,
    /// Entries that only side A has, without renamed ones.
    pub(crate) removed: Amount,
    /// Entries that only side B has, without renamed ones.
    pub(crate) added: Amount,
    /// Entries that could not be compared.
    pub(crate) problems: u64,
}

/// How much only one side has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Amount {
    pub(crate) entries: u64,
    /// Bytes in regular files.
    pub(crate) bytes: u64,
}

impl Totals {
    /// Whether anything differs.
    pub(crate) const fn differ(&self) -> bool {
        self.changed + self.renamed + self.removed.entries + self.added.entries > 0
    }
}

/// Compares `sides`, A and B. `sink` gets changed entries in the order of the walk (depth first, names in byte order), then
/// renamed, removed and added ones, each in that order; it does not depend on the number of workers. `progress` counts
/// bytes of data.
///
/// # Errors
/// When no side has the subtree, when a start cannot be looked at, when the sink fails. What cannot be compared further
/// down is told to the sink.
pub(crate) fn compare(
    sides: [&dyn Side; 2],
    options: &Options,
    progress: &AtomicU64,
    sink: &mut dyn Sink,
) -> anyhow::Result<Totals> {
    let shown = || Printable(&options.subtree).to_string();
    let start = [
        sides[0].find(&options.subtree).with_context(shown)?,
        sides[1].find(&options.subtree).with_context(shown)?,
    ];
    if start.iter().all(Option::is_none) {
        bail!("{}: neither side has it", shown());
    }
    // Reading a compressed tar has counted too.
    let before = progress.load(Ordering::Relaxed);
    let ordered = Ordered::new(&mut *sink);
    let walked = std::thread::scope(|scope| {
        let (files, worker) = Files::new(sides, &ordered, progress);
        for _ in 0..options.workers.max(1) {
            let worker = worker.clone();
            scope.spawn(move || worker.run());
        }
        drop(worker);
        // Ends the queue with the walk.
        Walker::new(sides, options, &ordered, files).walk(start)
    });
    let stopped = ordered.stopped();
    let (changed, problems) = ordered.finish()?;
    let mut totals = Totals {
        entries: walked.entries,
        changed,
        problems,
        ..Totals::default()
    };
    if !stopped {
        let found = if options.renames && options.contents {
            renames::find(sides, &walked, options.workers.max(1), progress)
        } else {
            Renames::default()
        };
        let mut ending = Ending {
            sides,
            options,
            walked: &walked,
            found,
            sink,
            totals: &mut totals,
        };
        // Whether it was broken off is known to the sink.
        let _ = ending.tell()?;
    }
    totals.bytes = progress.load(Ordering::Relaxed) - before;
    Ok(totals)
}

/// What is told when the walk is over: entries of one side.
struct Ending<'c> {
    sides: [&'c dyn Side; 2],
    options: &'c Options,
    walked: &'c Walked,
    found: Renames,
    sink: &'c mut dyn Sink,
    totals: &'c mut Totals,
}

impl Ending<'_> {
    fn tell(&mut self) -> std::io::Result<ControlFlow<()>> {
        for problem in std::mem::take(&mut self.found.problems) {
            self.problem(&problem);
        }
        let mut gone = vec![false; self.walked.lone[0].len()];
        for (index, added) in self.walked.lone[1].iter().enumerate() {
            let Some(origin) = self.found.origins.get(&index) else {
                continue;
            };
            gone[*origin] = true;
            let removed = &self.walked.lone[0][*origin];
            let paths = [removed, added].map(|lone| self.walked.paths.path(lone.path));
            let changes = match self.changes(&paths, [removed, added]) {
                Ok(changes) => changes,
                Err((side, error)) => {
                    let path = paths[side].clone();
                    self.problem(&Problem { side, path, error });
                    Changes::default()
                }
            };
            self.totals.renamed += 1;
            let [from, path] = paths;
            let difference = Difference {
                path,
                kind: Kind::Renamed {
                    from,
                    size: added.size,
                    changes: Box::new(changes),
                },
            };
            if self.sink.difference(&difference)?.is_break() {
                return Ok(ControlFlow::Break(()));
            }
        }
        for side in [0, 1] {
            for (index, lone) in self.walked.lone[side].iter().enumerate() {
                let renamed = match side {
                    0 => gone.get(index).copied().unwrap_or(false),
                    _ => self.found.origins.contains_key(&index),
                };
                if !renamed && self.lone(side, lone)?.is_break() {
                    return Ok(ControlFlow::Break(()));
                }
            }
        }
        Ok(ControlFlow::Continue(()))
    }

    /// What else differs between the two names of a file.
    fn changes(
        &self,
        paths: &[Vec<u8>; 2],
        lone: [&walk::Lone; 2],
    ) -> Result<Changes, (usize, SideError)> {
        let node = |side: usize| {
            let at = Location::of(&paths[side]);
            let node = self.sides[side].node(at, lone[side].handle);
            node.map_err(|error| (side, error))
        };
        let (a, b) = (node(0)?, node(1)?);
        let sides = [
            (self.sides[0], &a, Location::of(&paths[0])),
            (self.sides[1], &b, Location::of(&paths[1])),
        ];
        Changes::between(sides, &self.options.ignored)
    }

    fn lone(&mut self, side: usize, lone: &walk::Lone) -> std::io::Result<ControlFlow<()>> {
        let paths = &self.walked.paths;
        let first_name = || self.walked.links.first_name(side, lone.identity);
        let told = Lone {
            file_type: lone.file_type,
            size: lone.size,
            link_to: lone
                .linked
                .then(first_name)
                .flatten()
                .map(|id| paths.path(id)),
        };
        let amount = match side {
            0 => &mut self.totals.removed,
            _ => &mut self.totals.added,
        };
        amount.entries += 1;
        amount.bytes += lone.size;
        self.sink.difference(&Difference {
            path: paths.path(lone.path),
            kind: match side {
                0 => Kind::Removed(told),
                _ => Kind::Added(told),
            },
        })
    }

    fn problem(&mut self, problem: &Problem) {
        self.totals.problems += 1;
        self.sink.problem(problem);
    }
}
