//! Side-by-side benchmarks: every row runs `erofs` and its peers in turn on the same corpus, checks that our
//! output is right, and prints medians and ratios.
//!
//! | module | answers |
//! |---|---|
//! | [`corpora`] | what is measured on, and how it is made |
//! | [`tools`] | which programs run, in which versions |
//! | [`rows`] | which work is compared, and what its goal is |
//! | [`measure`] | what one run of a program costs |
//! | [`probe`] | what a library costs without a program around it |
//! | [`check`] | whether the work was done right |
//! | [`statistics`] | what several runs amount to |
//! | [`machine`] | where this was measured |
//! | [`record`] | what was measured before |
//! | [`report`] | the table, on the terminal and in the docs |
//! | [`charts`] | the same as pictures |
//! | [`containerd`] | how `erofs snapshotter` does beside what containerd has itself |
//!
//! A slow machine fails nothing: only a program that fails or a wrong output does.
#![forbid(unsafe_code)]

mod charts;
mod check;
mod containerd;
mod corpora;
mod machine;
mod measure;
mod probe;
mod record;
mod report;
mod rows;
mod statistics;
mod tools;

use std::time::{Duration, Instant};
use std::{env, fs, path::PathBuf, process::ExitCode};

use anyhow::{Context, Result, bail, ensure};
use clap::Parser;

use check::Check;
use corpora::Corpora;
use measure::Product;
use record::{Measured, Record, Run};
use rows::Row;
use statistics::Series;
use tools::Tools;

/// Runs erofs and its peers alternately on the same corpora and reports medians and ratios.
#[derive(Debug, Parser)]
#[command(version, args_conflicts_with_subcommands = true)]
struct Arguments {
    #[command(subcommand)]
    other: Option<Other>,

    /// Rows to measure; all when none is named
    #[arg(value_name = "ROW")]
    rows: Vec<String>,

    /// Print the rows and stop
    #[arg(long)]
    list: bool,

    /// Rounds in which every program runs once
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    runs: u32,

    /// Begin no further round of a row when its rounds took so long
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    at_most: u64,

    /// Where corpora are, or are made; by default in the cache
    #[arg(long, value_name = "DIR")]
    corpora: Option<PathBuf>,

    /// Where images and files are written: a folder in memory
    #[arg(long, value_name = "DIR", default_value = "/dev/shm")]
    output: PathBuf,

    /// Measure this binary, instead of building the workspace's release
    #[arg(long, value_name = "PATH")]
    erofs: Option<PathBuf>,

    /// Put the tables between the markers of this document, and draw charts of them beside it. What was measured is kept
    /// in a JSON file of the same name: rows that are not measured now stay as they are
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,

    /// Measure nothing: write that document anew from what was measured
    #[arg(long, requires = "report", conflicts_with = "rows")]
    redraw: bool,
}

/// What is no row.
#[derive(Debug, clap::Subcommand)]
enum Other {
    Containerd(containerd::Arguments),
}

fn main() -> ExitCode {
    let rest = || env::args_os().skip(2);
    let result = match env::args_os().nth(1) {
        Some(first) if first == measure::FLAG => measure::measure(rest()),
        Some(first) if first == probe::FLAG => probe::run(rest()),
        _ => run(&Arguments::parse()),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("erofs-benches: {error:#}");
            ExitCode::from(2)
        }
    }
}

fn run(arguments: &Arguments) -> Result<()> {
    if let Some(Other::Containerd(arguments)) = &arguments.other {
        return containerd::run(arguments);
    }
    let corpora = Corpora::new(arguments.corpora.clone())?;
    if arguments.list {
        for row in rows::all(&Tools::default(), &corpora) {
            println!("{:<20}{}", row.name, row.title);
        }
        return Ok(());
    }
    ensure!(
        rustix::process::geteuid().is_root(),
        "root is needed, to read the corpora whole and to mount the images"
    );
    let tools = Tools::find(arguments.erofs.clone())?;
    let document = arguments.report.as_deref();
    let mut record = Record::of(document)?;
    let every = rows::all(&tools, &corpora);
    let rows = if arguments.redraw {
        Vec::new()
    } else {
        chosen(every.clone(), &arguments.rows)?
    };
    for corpus in rows.iter().flat_map(|row| &row.needs) {
        corpora.make(*corpus)?;
    }
    let run = Run::begins(&tools)?;
    for row in &rows {
        let series = runs(row, &corpora, arguments).with_context(|| format!("row {}", row.name))?;
        record.put(Measured {
            row: row.name.to_owned(),
            run: run.clone(),
            series,
        })?;
    }
    if !arguments.redraw {
        println!("\n{}", report::text(&known(&rows, &record))?);
    }
    document.map_or(Ok(()), |path| {
        let known = known(&every, &record);
        report::insert(path, report::MEASURED, &report::text(&known)?)?;
        charts::draw(path, &known)
    })
}

/// Those of `rows` that were measured, now or before.
fn known<'a>(rows: &'a [Row], record: &'a Record) -> Vec<(&'a Row, &'a Measured)> {
    let known = rows.iter().map(|row| Some((row, record.get(row.name)?)));
    known.flatten().collect()
}

fn chosen(all: Vec<Row>, names: &[String]) -> Result<Vec<Row>> {
    if let Some(name) = names
        .iter()
        .find(|name| all.iter().all(|row| row.name != **name))
    {
        bail!("there is no row {name}; --list prints them");
    }
    Ok(all
        .into_iter()
        .filter(|row| names.is_empty() || names.iter().any(|name| name == row.name))
        .collect())
}

/// Measures a row: every contender once a round, another one first in each.
fn runs(row: &Row, corpora: &Corpora, arguments: &Arguments) -> Result<Vec<Series>> {
    for corpus in &row.needs {
        corpora.warm(*corpus)?;
    }
    let mut series: Vec<_> = row
        .contenders
        .iter()
        .map(|(tool, _)| Series::new(*tool))
        .collect();
    let directory = tempfile::tempdir_in(&arguments.output)?;
    let output = directory.path().join("output");
    let (began, at_most) = (Instant::now(), Duration::from_secs(arguments.at_most));
    for round in 0..arguments.runs as usize {
        if round > 0 && began.elapsed() > at_most {
            break;
        }
        for turn in 0..row.contenders.len() {
            let index = (round + turn) % row.contenders.len();
            let (tool, work) = &row.contenders[index];
            let usage = work.run(&output)?;
            let bytes = match work.product {
                Product::File => Some(fs::metadata(&output)?.len()),
                Product::Directory | Product::Nothing => None,
            };
            eprintln!(
                "{:<20}{:<14}{}",
                row.name,
                tool.name(),
                report::Progress(usage, bytes)
            );
            let series = &mut series[index];
            if series.runs.is_empty() {
                series.bytes = bytes;
                if index == 0 {
                    let checked = row.check.run(&output, directory.path());
                    checked.context("the work was not done right")?;
                }
            }
            if index == 0 {
                ensure!(
                    series.bytes == bytes,
                    "the same work made {:?} bytes first and {bytes:?} now",
                    series.bytes
                );
            }
            series.runs.push(usage);
            match work.product {
                Product::File => fs::remove_file(&output)?,
                Product::Directory => fs::remove_dir_all(&output)?,
                Product::Nothing => {}
            }
        }
        if row.check == Check::SameSums {
            let mut sums = series.iter().filter_map(|one| one.runs.last()?.sum);
            let first = sums.next().context("no probe told a sum")?;
            ensure!(sums.all(|sum| sum == first), "other bytes were read");
        }
    }
    Ok(series)
}
