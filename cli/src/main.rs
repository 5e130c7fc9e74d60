//! The `erofs` program: one subcommand for each thing a user wants to do with EROFS images.
#![forbid(unsafe_code)]

mod command;
mod error;
mod image_arguments;
mod progress;
mod report;
mod values;

use clap::{Parser, Subcommand};
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
    Build(command::build::Build),
    Index(command::index::Index),
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let result = match arguments.command {
        Command::Build(build) => build.run(),
        Command::Index(index) => index.run(),
    };
    error::exit_code(result)
}
