//! Prints what our reader sees in an image, errors included: `listing IMAGE [DEVICE…]`.
//!
//! The form is that of `tests/kernels`, so the outputs can be compared line by line.

use std::{path::PathBuf, process::ExitCode};

use erofs_reader::{ByteSource, FileSource, Image, ImageOptions};
use erofs_tests::listing;

fn main() -> ExitCode {
    match run() {
        Ok(text) => {
            print!("{text}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::from(2)
        }
    }
}

fn run() -> anyhow::Result<String> {
    let mut sources = Vec::new();
    for path in std::env::args_os().skip(1).map(PathBuf::from) {
        sources.push(FileSource::open(&path)?);
    }
    anyhow::ensure!(!sources.is_empty(), "usage: listing IMAGE [DEVICE…]");
    let image = sources.remove(0);
    let boxed = |source| Box::new(source) as Box<dyn ByteSource>;
    let options = ImageOptions {
        devices: sources.into_iter().map(boxed).collect(),
        ..ImageOptions::default()
    };
    Ok(listing::of_image(&Image::open(image, options)?))
}
