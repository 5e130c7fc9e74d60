//! `erofs cat`: the content of files, without mounting.

use crate::error::{Outcome, one_line};
use crate::image::ImageInput;
use crate::names::complain_of;
use anyhow::Context;
use clap::Args;
use erofs_format::inode::FileType;
use erofs_reader::{Image, Symlinks};
use std::fs::File;
use std::io::Write;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

/// Bytes that are read and written at once.
const PIECE: usize = 1 << 20;

/// Write files of an image to standard output.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Cat {
    #[command(flatten)]
    input: ImageInput,

    /// Files, from the root of the image; symbolic links are followed inside of it
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathBuf>,
}

const EXAMPLES: &str = "\
Examples:
  erofs cat rootfs.erofs etc/os-release
  erofs cat rootfs.erofs usr/share/dict/words | head
  erofs cat layer.toc.erofs etc/passwd --device layer.tar";

impl Cat {
    /// Runs the command.
    pub(crate) fn run(self) -> anyhow::Result<Outcome> {
        let image = self.input.open()?;
        let mut out = File::from(std::io::stdout().as_fd().try_clone_to_owned()?);
        let mut buffer = vec![0; PIECE];
        let mut outcome = Outcome::Fine;
        for path in &self.paths {
            let path = path.as_os_str().as_bytes();
            match Reading::start(&image, path) {
                Ok(mut reading) => loop {
                    match reading.next(&mut buffer) {
                        Ok([]) => break,
                        Ok(piece) => out.write_all(piece).context("standard output")?,
                        Err(error) => {
                            outcome = complain(path, &error);
                            break;
                        }
                    }
                },
                Err(error) => outcome = complain(path, &error),
            }
        }
        Ok(outcome)
    }
}

fn complain(path: &[u8], error: &anyhow::Error) -> Outcome {
    complain_of(path, &one_line(error));
    Outcome::Problems
}

/// A file on its way out.
struct Reading<'a> {
    image: &'a Image,
    inode: erofs_reader::Inode,
    position: u64,
}

impl<'a> Reading<'a> {
    fn start(image: &'a Image, path: &[u8]) -> anyhow::Result<Self> {
        let inode = image.resolve(path, Symlinks::Follow)?;
        match inode.file_type {
            FileType::Regular => Ok(Self {
                image,
                inode,
                position: 0,
            }),
            FileType::Directory => anyhow::bail!("is a directory"),
            _ => anyhow::bail!("is not a regular file"),
        }
    }

    /// The next piece, empty at the end.
    fn next<'b>(&mut self, buffer: &'b mut [u8]) -> anyhow::Result<&'b [u8]> {
        let count = self.image.read(&self.inode, self.position, buffer)?;
        self.position += count as u64;
        Ok(buffer.get(..count).unwrap_or_default())
    }
}
