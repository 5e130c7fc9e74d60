//! `erofs snapshotter` beside what containerd has itself: its own EROFS snapshotter and overlayfs, all three in one real
//! containerd, from a registry on this machine.
//!
//! | module | answers |
//! |---|---|
//! | [`images`] | what is pulled |
//! | [`site`] | which daemons run, and what a client asks of them |
//! | [`calls`] | how long single calls of the snapshots service take |

mod calls;
mod images;
mod site;

use std::fmt::Write;
use std::path::PathBuf;

use anyhow::{Result, ensure};
use clap::Args;

use crate::corpora::{Corpora, Corpus};
use crate::machine::Machine;
use crate::report;
use crate::statistics::median;
use crate::tools::Tools;
use site::{SNAPSHOTTERS, Site};

const MIB: f64 = 1_048_576.0;
/// Containers that read the same files.
const READERS: usize = 3;
/// Containers that are started one after the other in each round.
const STARTS: usize = 10;

/// The table of a containerd that is newer than Debian's, in the document that has both.
const NEWER: &str = "measured with a newer containerd";

/// Measures pulls, starts, page cache and calls of the snapshotter under a real containerd: Debian's, or that in the folder
/// which CONTAINERD_DIR names, which unpacks four layers side by side
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Rounds in which every snapshotter pulls once
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    runs: u32,

    /// Where corpora are, or are made; by default in the cache
    #[arg(long, value_name = "DIR")]
    corpora: Option<PathBuf>,

    /// Measure this binary, instead of building the workspace's release
    #[arg(long, value_name = "PATH")]
    erofs: Option<PathBuf>,

    /// Put the table between the markers of this document
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
}

/// What one snapshotter needed, in the order of [`SNAPSHOTTERS`].
type Figures = [Vec<f64>; SNAPSHOTTERS.len()];

/// A line of the table: ratios to the built-in EROFS snapshotter and to overlayfs, and the goals for them.
struct Line {
    title: &'static str,
    unit: &'static str,
    goals: [Option<f64>; 2],
    figures: Figures,
}

/// Measures everything and prints or inserts the table.
///
/// # Errors
/// A daemon or a client fails; a container does not show what is in its image.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let corpora = Corpora::new(arguments.corpora.clone())?;
    corpora.make(Corpus::Rootfs)?;
    let tools = Tools::find(arguments.erofs.clone())?;
    let before = Machine::now()?;
    let mut site = Site::start(&tools)?;
    let (large, layered) = (site.image("large:1"), site.image("layered:1"));
    site.push(&large, &images::of_a_root(&corpora)?);
    site.push(&layered, &images::of_many_layers(&site)?);

    let mut lines = Vec::new();
    lines.push(Line {
        title: "pull and unpack 4 layers",
        unit: "s",
        goals: match site.is_newer() {
            true => [Some(0.6), Some(0.35)],
            false => [Some(0.7), Some(0.55)],
        },
        figures: pulls(&mut site, &large, arguments.runs, 0)?.0,
    });
    let memory = site.plugin_memory()?;
    let (layers, starts) = pulls(&mut site, &layered, arguments.runs, STARTS)?;
    lines.push(Line {
        title: "pull and unpack 121 layers",
        unit: "s",
        goals: [None, Some(1.0)],
        figures: layers,
    });
    let mut caches = Figures::default();
    for (index, snapshotter) in SNAPSHOTTERS.into_iter().enumerate() {
        site.pull(snapshotter, &large)?;
        caches[index] = vec![site.page_cache(snapshotter, &large, READERS)? / MIB];
        site.remove(snapshotter, &large)?;
    }
    lines.push(Line {
        title: "start a container over 121 layers, warm",
        unit: "s",
        goals: [None, Some(1.0)],
        figures: starts,
    });
    lines.push(Line {
        title: "page cache after three containers read `/usr`",
        unit: "MiB",
        goals: [None, Some(1.1)],
        figures: caches,
    });
    for (title, figures) in calls::measure(&site)? {
        lines.push(Line {
            title,
            unit: "ms",
            goals: [None, Some(1.0)],
            figures,
        });
    }
    let text = text(&lines, memory, &tools, &site, &before)?;
    println!("\n{text}");
    match &arguments.report {
        Some(path) => {
            let table = match site.is_newer() {
                true => NEWER,
                false => report::MEASURED,
            };
            report::insert(path, table, &text)
        }
        None => Ok(()),
    }
}

/// Pulls an image with each snapshotter in turn, another one first in each round, and starts so many containers of it each time.
/// Seconds of pulls and of starts.
fn pulls(site: &mut Site, image: &str, runs: u32, starts: usize) -> Result<(Figures, Figures)> {
    let (mut pulled, mut started) = (Figures::default(), Figures::default());
    for round in 0..runs as usize {
        for turn in 0..SNAPSHOTTERS.len() {
            let index = (round + turn) % SNAPSHOTTERS.len();
            let snapshotter = SNAPSHOTTERS[index];
            let seconds = site.pull(snapshotter, image)?;
            eprintln!("{image}  {snapshotter:<16}{seconds:8.3} s");
            pulled[index].push(seconds);
            if starts > 0 {
                started[index].extend(site.starts(snapshotter, image, starts)?);
            }
            site.remove(snapshotter, image)?;
        }
    }
    Ok((pulled, started))
}

fn text(
    lines: &[Line],
    memory: u64,
    tools: &Tools,
    site: &Site,
    machine: &Machine,
) -> Result<String> {
    let mut out = String::new();
    let (before, after) = (&machine.load, Machine::now()?.load);
    writeln!(
        out,
        "{machine};\nload of the machine {before} before and {after} after the run."
    )?;
    let ours = tools.versions.first().map_or("", String::as_str);
    writeln!(out, "{ours}; {}.\n", site.version()?)?;
    writeln!(
        out,
        "| work | goals | ÷ built-in EROFS | ÷ overlayfs | erofs snapshotter | built-in EROFS | overlayfs | |"
    )?;
    writeln!(out, "|---|---|--:|--:|--:|--:|--:|---|")?;
    for line in lines {
        let [ours, others @ ..] = &line.figures;
        let ratios = others.each_ref().map(|theirs| {
            let pairs = ours.iter().zip(theirs);
            median(pairs.map(|(ours, theirs)| ours / theirs).collect())
        });
        let goals: Vec<_> = ["built-in", "overlayfs"]
            .into_iter()
            .zip(line.goals)
            .filter_map(|(peer, goal)| Some(format!("≤ {:.2} × {peer}", goal?)))
            .collect();
        let met = ratios
            .into_iter()
            .zip(line.goals)
            .all(|(ratio, goal)| goal.is_none_or(|goal| ratio <= goal));
        let [ours, builtin, overlayfs] = line.figures.each_ref().map(|all| {
            ensure!(!all.is_empty(), "{}: nothing was measured", line.title);
            Ok(format!("{:.3} {}", median(all.clone()), line.unit))
        });
        let [to_builtin, to_overlayfs] = ratios;
        writeln!(
            out,
            "| {} | {} | {to_builtin:.2} | {to_overlayfs:.2} | {} | {} | {} | {} |",
            line.title,
            goals.join(", "),
            ours?,
            builtin?,
            overlayfs?,
            if met { "met" } else { "**missed**" },
        )?;
    }
    let memory = memory as f64 / MIB;
    let verdict = if memory < 100.0 { "met" } else { "**missed**" };
    writeln!(
        out,
        "| largest memory of the process after that | < 100 MiB | – | – | {memory:.0} MiB | – | – | {verdict} |"
    )?;
    Ok(out)
}
