//! `erofs extract --tar`.

use super::Extract;
use super::summary::{self, JsonSummary, JsonTarget, Problems};
use crate::error::Outcome;
use crate::progress::Progress;
use crate::report;
use anyhow::{Context, bail};
use erofs_mkfs::data::output::Output;
use erofs_reader::Image;
use erofs_reader::extract::{ExtractOptions, StreamError, Summary, extract_tar};
use std::fs::File;
use std::io::{IsTerminal, Seek, Write};
use std::os::fd::AsFd;
use std::path::Path;
use std::time::Instant;

/// Writes what is selected to `tar`, `-` for standard output.
pub(super) fn run(
    command: &Extract,
    tar: &Path,
    selection: &[Vec<u8>],
    options: &ExtractOptions,
) -> anyhow::Result<Outcome> {
    if tar == Path::new("-") {
        return to_stdout(command, selection, options);
    }
    let started = Instant::now();
    let name = || tar.display().to_string();
    let image = command.input.open()?;
    let output = Output::create(tar).with_context(name)?;
    let summary = write(command, &image, output.file(), selection, options).with_context(name)?;
    let length = output.file().stream_position().with_context(name)?;
    output.publish(length).with_context(name)?;
    if command.json {
        let target = JsonTarget::Tar(report::path(tar));
        report::print_json(&JsonSummary::new(target, &summary, started.elapsed()))?;
    } else if !command.quiet {
        summary::print(tar, &summary, started.elapsed());
    }
    Ok(summary::outcome(&summary))
}

fn to_stdout(
    command: &Extract,
    selection: &[Vec<u8>],
    options: &ExtractOptions,
) -> anyhow::Result<Outcome> {
    let stdout = std::io::stdout();
    if stdout.is_terminal() {
        bail!("a tar is not for terminals: give --tar=FILE, or send standard output elsewhere");
    }
    if command.json {
        bail!("standard output has room for the tar or the summary, not for both: give --tar=FILE");
    }
    // Everything comes in large pieces, which the buffer of standard output would only copy.
    let out = File::from(stdout.as_fd().try_clone_to_owned()?);
    let summary = write(command, &command.input.open()?, &out, selection, options)?;
    Ok(summary::outcome(&summary))
}

fn write(
    command: &Extract,
    image: &Image,
    out: impl Write,
    selection: &[Vec<u8>],
    options: &ExtractOptions,
) -> anyhow::Result<Summary> {
    let progress = Progress::start("extracting", command.quiet || command.json);
    let problems = Problems::default();
    let result = extract_tar(
        image,
        out,
        selection,
        options,
        progress.counter(),
        &|problem| problems.tell(&progress, problem),
    );
    drop(progress);
    problems.tell_rest();
    match result {
        Err(StreamError::Broken(problem)) => bail!(
            "the archive ends in the middle of {}",
            summary::text(&problem)
        ),
        result => Ok(result?),
    }
}
