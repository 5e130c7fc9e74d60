//! The `erofs` program: one subcommand for each thing a user wants to do with EROFS images.
#![forbid(unsafe_code)]
#![warn(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "they panic: see output"
)]

#[macro_use]
mod output;

mod build_report;
mod command;
mod companion;
mod compare;
mod compressors;
mod error;
mod image;
mod image_arguments;
mod links;
mod listing;
#[cfg(test)]
mod manual;
mod metabox;
mod mounting;
mod names;
mod packing;
mod presets;
mod progress;
mod report;
mod scratch;
mod sheet;
mod values;

use clap::{Parser, Subcommand};
use std::path::Path;
use std::process::ExitCode;

/// Builds, mounts, serves and checks EROFS images.
#[derive(Debug, Parser)]
#[command(name = "erofs", version, max_term_width = 100, propagate_version = true, after_help = AFTER_HELP)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

const AFTER_HELP: &str = "\
Exit codes: 0 fine, 1 found problems or differences, 2 could not run.
First steps:  erofs try        builds, mounts and verifies an image of the current directory";

#[derive(Debug, Subcommand)]
enum Command {
    Try(command::try_::Try),
    Build(command::build::Build),
    Index(command::index::Index),
    Merge(command::merge::Merge),
    Mount(command::mount::Mount),
    Umount(command::umount::Umount),
    Features(command::features::Features),
    Fuse(command::fuse::Fuse),
    Ls(command::ls::Ls),
    Cat(command::cat::Cat),
    Stat(command::stat::Stat),
    Find(command::find::Find),
    Check(command::check::Check),
    Dump(command::dump::Dump),
    Extract(command::extract::Extract),
    Diff(command::diff::Diff),
    Bench(command::bench::Bench),
    Snapshotter(command::snapshotter::Snapshotter),
}

fn main() -> ExitCode {
    let mut words = std::env::args_os();
    let called = words.next().unwrap_or_default();
    let name = Path::new(&called).file_name().unwrap_or_default();
    if let Some(link) = links::find(name) {
        return link(words.collect());
    }
    let words: Vec<_> = words.collect();
    let json = words.iter().take_while(|word| *word != "--");
    let json = json.into_iter().any(|word| word == "--json");
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => return refuse(&error, json),
    };
    let result = match arguments.command {
        Command::Try(try_) => try_.run(),
        Command::Build(build) => build.run(),
        Command::Index(index) => index.run(),
        Command::Merge(index) => index.run(),
        Command::Mount(mount) => mount.run(),
        Command::Umount(umount) => umount.run(),
        Command::Features(features) => features.run(),
        Command::Fuse(fuse) => fuse.run(),
        Command::Ls(ls) => ls.run(),
        Command::Cat(cat) => cat.run(),
        Command::Stat(stat) => stat.run(),
        Command::Find(find) => find.run(),
        Command::Check(check) => check.run(),
        Command::Dump(dump) => dump.run(),
        Command::Extract(extract) => extract.run(),
        Command::Diff(diff) => diff.run(),
        Command::Bench(bench) => bench.run(),
        Command::Snapshotter(snapshotter) => snapshotter.run(),
    };
    error::exit_code(result, json)
}

/// Prints help, or what is wrong with the arguments.
fn refuse(error: &clap::Error, json: bool) -> ExitCode {
    // Nobody is left to tell when this fails.
    let _ = error.print();
    if !error.use_stderr() {
        return ExitCode::SUCCESS;
    }
    if json {
        output::json_error(&message(&error.to_string()));
    }
    ExitCode::from(2)
}

/// What clap says of wrong arguments, in one line, without the usage and where help is.
fn message(text: &str) -> String {
    let text = text.strip_prefix("error: ").unwrap_or(text);
    let paragraphs = text.split("\n\n").map(str::trim).filter(|paragraph| {
        let is_hint = ["Usage:", "For more information"];
        !paragraph.is_empty() && !is_hint.iter().any(|start| paragraph.starts_with(start))
    });
    let lines = paragraphs.map(|paragraph| {
        let words: Vec<_> = paragraph.split_whitespace().collect();
        words.join(" ")
    });
    lines.collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    #[test]
    fn messages_are_whole_and_one_line() {
        let told = |words: &[&str]| {
            let words = ["erofs"].iter().chain(words);
            message(&Arguments::try_parse_from(words).unwrap_err().to_string())
        };
        assert_eq!(
            told(&["build", "source"]),
            "the following required arguments were not provided: --output <IMAGE>"
        );
        let error = told(&["build", "a", "-o", "b", "--preset", "smal"]);
        assert!(
            error.starts_with(
                "invalid value 'smal' for '--preset <PRESET>' [possible values: fast, "
            )
        );
        assert!(
            error.ends_with("; tip: a similar value exists: 'small'"),
            "{error}"
        );
        let error = told(&["ls", "--bogus", "image"]);
        assert!(
            error.starts_with("unexpected argument '--bogus' found; tip: "),
            "{error}"
        );
        assert!(!error.contains("Usage") && !error.contains("--help"));
    }
}
