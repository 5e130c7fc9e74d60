//! Which work is compared, and what its goal is.

mod build;
mod compress;
mod read;

use crate::{
    check::Check,
    corpora::{Corpora, Corpus},
    measure::Work,
    tools::{Tool, Tools},
};

/// One comparison: the same work by several programs.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    /// What the command line calls it.
    pub(crate) name: &'static str,
    /// What is done, for the report.
    pub(crate) title: &'static str,
    /// Corpora to have, and to have in the page cache.
    pub(crate) needs: Vec<Corpus>,
    /// What our side is to reach.
    pub(crate) goal: Goal,
    /// Who does it how; ours first, then the one that the goal speaks of.
    pub(crate) contenders: Vec<(Tool, Work)>,
    /// How our work is judged.
    pub(crate) check: Check,
}

/// Limits for our side; what is `None` has no goal.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Goal {
    /// Wall time as a part of the second contender's.
    pub(crate) time: Option<f64>,
    /// Image size as a part of the second contender's.
    pub(crate) size: Option<f64>,
    /// Resident memory in MiB.
    pub(crate) peak: Option<f64>,
    /// Wall time in seconds.
    pub(crate) seconds: Option<f64>,
}

/// Every row, in the order of the report.
pub(crate) fn all(tools: &Tools, corpora: &Corpora) -> Vec<Row> {
    let bench = Bench { tools, corpora };
    let mut rows = bench.building();
    rows.extend(bench.compressing());
    rows.extend(bench.reading());
    rows
}

struct Bench<'a> {
    tools: &'a Tools,
    corpora: &'a Corpora,
}
