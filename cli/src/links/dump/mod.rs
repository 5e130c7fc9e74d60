//! `dump.erofs`: this program with the options and the text of erofs-utils 1.9, for scripts that parse it.
//!
//! Where the C tool says that something cannot be read and then ends with 0, this one ends with 1. Times are in UTC.

mod extents;
mod statistics;
mod superblock;

use crate::error::{is_broken_pipe, one_line};
use crate::image::{ImageInput, Ruin};
use crate::listing::{self, Utc};
use crate::names::Printable;
use crate::output::Output;
use crate::report;
use crate::values;
use anyhow::Context;
use clap::Parser;
use erofs_format::Nid;
use erofs_format::inode::{FileType, Timestamp};
use erofs_reader::{FileSource, Image, Inode, Symlinks};
use rustix::io::Errno;
use std::ffi::{OsStr, OsString};
use std::io::{BufWriter, IsTerminal, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::process::ExitCode;

/// Found something that it could not show.
const FAILURE: u8 = 1;

/// Dump the layout of an EROFS image.
#[derive(Debug, Parser)]
#[command(
    name = "dump.erofs",
    infer_long_args = true,
    disable_version_flag = true,
    after_help = EXAMPLES
)]
struct Arguments {
    /// Print the version and exit
    #[arg(short = 'V', long)]
    version: bool,

    /// Show statistics of the image
    #[arg(short = 'S')]
    statistics: bool,

    /// Show extents (takes --nid or --path)
    #[arg(short = 'e')]
    extents: bool,

    /// Show the superblock; the default
    #[arg(short = 's')]
    superblock: bool,

    /// Print attributes of the image for udev
    #[arg(long)]
    blkid_udev: bool,

    /// An extra device of the image; may be repeated
    #[arg(long, value_name = "X")]
    device: Vec<PathBuf>,

    /// Show the entries of a directory (takes --nid or --path)
    #[arg(long)]
    ls: bool,

    /// Write the content of a file (takes --nid or --path)
    #[arg(long)]
    cat: bool,

    /// Show the inode of this number
    #[arg(long, value_name = "#", value_parser = values::number)]
    nid: Option<u64>,

    /// Skip so many bytes at the beginning of IMAGE
    #[arg(long, value_name = "#", value_parser = values::number, default_value = "0")]
    offset: u64,

    /// Show the inode at this path
    #[arg(long, value_name = "X")]
    path: Option<OsString>,

    /// Image file or block device
    #[arg(value_name = "IMAGE", required_unless_present = "version")]
    image: Option<PathBuf>,
}

const EXAMPLES: &str = "\
Examples:
  dump.erofs rootfs.erofs                         superblock
  dump.erofs -S rootfs.erofs                      statistics
  dump.erofs --path=/usr/bin/ls -e rootfs.erofs   one file and its extents

More, and results as JSON: erofs dump --help.";

/// Exit code of the C tool for an error number: what is left of its negative in 8 bits.
fn code(errno: Errno) -> u8 {
    let number = errno.raw_os_error().rem_euclid(256);
    u8::try_from(256 - number).unwrap_or(FAILURE)
}

/// The command as clap has it, for its man page.
#[cfg(test)]
pub(super) fn command() -> clap::Command {
    <Arguments as clap::CommandFactory>::command()
}

/// Runs the program on the arguments after its name.
pub(super) fn run(arguments: Vec<OsString>) -> ExitCode {
    let words = std::iter::once(OsString::from("dump.erofs")).chain(arguments);
    let arguments = match Arguments::try_parse_from(words) {
        Ok(arguments) => arguments,
        Err(error) if error.use_stderr() => {
            // Nobody is left to tell when this fails.
            let _ = error.print();
            return ExitCode::from(code(Errno::INVAL));
        }
        Err(help) => {
            let _ = help.print();
            return ExitCode::SUCCESS;
        }
    };
    if arguments.version {
        say!("dump.erofs (erofs) {}", env!("CARGO_PKG_VERSION"));
        return ExitCode::SUCCESS;
    }
    let image = match arguments.open() {
        Ok(image) => image,
        Err((code, error)) => {
            let (code, error) = match arguments.show_ruin(error) {
                Ok(error) => (FAILURE, error),
                Err(error) => (code, error),
            };
            complain!("dump.erofs: {}", one_line(&error));
            return ExitCode::from(code);
        }
    };
    match arguments.show(&image) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(FAILURE),
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            complain!("dump.erofs: {}", one_line(&error));
            ExitCode::from(FAILURE)
        }
    }
}

/// Where the text goes, and how names are shown there.
struct Out {
    lock: BufWriter<Output>,
    terminal: bool,
}

impl Out {
    /// A name from the image: as it is for scripts, harmless on a terminal.
    fn name(&mut self, name: &[u8]) -> std::io::Result<()> {
        if self.terminal {
            write!(self.lock, "{}", Printable(name))
        } else {
            self.lock.write_all(name)
        }
    }
}

impl Arguments {
    /// Whether the superblock is to be shown: nothing else was asked for, or it was.
    const fn wants_superblock(&self) -> bool {
        let else_wanted =
            self.statistics || self.extents || self.nid.is_some() || self.path.is_some();
        !self.blkid_udev && !self.cat && (self.superblock || !else_wanted)
    }

    /// Shows the superblock of an image that does not open because of `error`, which it returns: as an error when nothing
    /// could be shown, or was to be.
    fn show_ruin(&self, error: anyhow::Error) -> anyhow::Result<anyhow::Error> {
        if !self.wants_superblock() {
            return Err(error);
        }
        let Ruin { image, error } = self.input().open_superblock(error)?;
        let mut out = BufWriter::new(Output::new());
        superblock::show(&image, &mut out)?;
        out.flush()?;
        Ok(error)
    }

    fn input(&self) -> ImageInput {
        ImageInput {
            image: self.image.clone().unwrap_or_default(),
            devices: self.device.clone(),
            offset: self.offset,
        }
    }

    fn open(&self) -> Result<Image, (u8, anyhow::Error)> {
        let path = self.image.clone().unwrap_or_default();
        if let Err(error) = FileSource::open(&path) {
            let errno = Errno::from_io_error(&error).unwrap_or(Errno::IO);
            let error = anyhow::Error::from(error).context(path.display().to_string());
            return Err((code(errno), error));
        }
        let input = self.input();
        // The C tool does not look at the checksum.
        let opened = input.open_for_metadata();
        opened
            .or_else(|error| input.open_despite_checksum(error))
            .map_err(|error| (code(Errno::INVAL), error))
    }

    /// Whether all that was asked for could be shown.
    fn show(&self, image: &Image) -> anyhow::Result<bool> {
        let stdout = std::io::stdout();
        let mut out = Out {
            terminal: stdout.is_terminal(),
            lock: BufWriter::new(Output::new()),
        };
        let shown = self.show_to(image, &mut out)?;
        out.lock.flush()?;
        Ok(shown)
    }

    fn show_to(&self, image: &Image, out: &mut Out) -> anyhow::Result<bool> {
        if self.blkid_udev {
            let uuid = report::uuid(&image.superblock().uuid);
            writeln!(
                out.lock,
                "ID_FS_UUID={uuid}\nID_FS_UUID_ENC={uuid}\nID_FS_TYPE=erofs\nID_FS_USAGE=filesystem"
            )?;
            return Ok(true);
        }
        if self.cat {
            if self.superblock || self.statistics || self.ls {
                complain!("dump.erofs: --cat excludes -S, -s and --ls");
                return Ok(false);
            }
            return self.write_content(image, out);
        }
        let inode_wanted = self.nid.is_some() || self.path.is_some();
        if self.wants_superblock() {
            superblock::show(image, &mut out.lock)?;
        }
        let mut whole = true;
        if self.statistics {
            whole &= statistics::show(image, &mut out.lock)?;
        }
        if inode_wanted {
            whole &= self.show_inode(image, out)?;
        } else if self.extents {
            complain!("dump.erofs: -e takes --nid or --path");
            return Ok(false);
        }
        Ok(whole)
    }

    fn inode(&self, image: &Image) -> anyhow::Result<Inode> {
        match &self.path {
            Some(path) => image
                .resolve(path.as_bytes(), Symlinks::Keep)
                .with_context(|| shown(path)),
            None => Ok(image.inode(Nid(self.nid.unwrap_or(0)))?),
        }
    }

    fn write_content(&self, image: &Image, out: &mut Out) -> anyhow::Result<bool> {
        let inode = self.inode(image)?;
        let mut buffer = vec![0; 1 << 20];
        let mut position = 0;
        loop {
            let count = image.read(&inode, position, &mut buffer)?;
            if count == 0 {
                return Ok(true);
            }
            out.lock
                .write_all(buffer.get(..count).unwrap_or_default())?;
            position += count as u64;
        }
    }

    fn show_inode(&self, image: &Image, out: &mut Out) -> anyhow::Result<bool> {
        let inode = self.inode(image)?;
        let packed = image.packed_inode().map(Inode::nid) == Some(inode.nid());
        let path = if packed {
            b"(packed file)".to_vec()
        } else {
            match image.path_of(inode.nid())? {
                Some(path) => [b"/", path.as_slice()].concat(),
                None => b"(not found)".to_vec(),
            }
        };
        attributes(image, &inode, &path, out)?;
        if self.ls {
            list(image, &inode, out)?;
        }
        if !self.extents {
            return Ok(true);
        }
        extents::show(image, &inode, &path, out)
    }
}

fn shown(path: &OsStr) -> String {
    Printable(path.as_bytes()).to_string()
}

fn attributes(image: &Image, inode: &Inode, path: &[u8], out: &mut Out) -> anyhow::Result<()> {
    let stored = stored_size(image, inode);
    let kind = match inode.file_type {
        FileType::Regular => "regular file",
        FileType::Directory => "directory",
        FileType::CharDevice => "char dev",
        FileType::BlockDevice => "block dev",
        FileType::Fifo => "FIFO file",
        FileType::Socket => "SOCK file",
        FileType::Symlink => "symlink file",
    };
    // What C prints for 0 / 0.
    let ratio = match inode.size {
        0 => "-nan".to_owned(),
        size => format!("{:.2}", stored as f64 * 100.0 / size as f64),
    };
    let body = erofs_format::xattr::body_size(inode.xattr_icount);
    let mode = inode.mode & 0o777;
    let permissions: String = (0..9)
        .map(|bit| match (mode >> (8 - bit) & 1, bit % 3) {
            (0, _) => '-',
            (_, 0) => 'r',
            (_, 1) => 'w',
            _ => 'x',
        })
        .collect();
    let seconds = Timestamp {
        nanoseconds: 0,
        ..inode.mtime
    };
    write!(out.lock, "Path : ")?;
    out.name(path)?;
    writeln!(out.lock)?;
    writeln!(
        out.lock,
        "Size: {}  On-disk size: {stored}  {kind}",
        inode.size
    )?;
    writeln!(
        out.lock,
        "NID: {}   Links: {}   Layout: {}   Compression ratio: {ratio}%",
        inode.nid().0,
        inode.nlink,
        inode.layout.value()
    )?;
    writeln!(
        out.lock,
        "Inode size: {}   Xattr size: {body}",
        inode.core_size()
    )?;
    writeln!(
        out.lock,
        "Uid: {}   Gid: {}  Access: {mode:04o}/{permissions}",
        inode.uid, inode.gid
    )?;
    writeln!(
        out.lock,
        "Timestamp: {}.{:09}",
        Utc(seconds),
        inode.mtime.nanoseconds
    )?;
    Ok(())
}

/// Bytes that a file takes: blocks of compressed data, else its size.
fn stored_size(image: &Image, inode: &Inode) -> u64 {
    if inode.layout.is_compressed() {
        listing::st_blocks(image, inode).saturating_mul(512)
    } else {
        inode.size
    }
}

fn list(image: &Image, inode: &Inode, out: &mut Out) -> anyhow::Result<()> {
    writeln!(out.lock, "\n       NID TYPE  FILENAME")?;
    for block in image.directory_blocks(inode)? {
        for entry in block?.entries {
            write!(out.lock, "{:>10}    {}  ", entry.nid.0, entry.file_type)?;
            out.name(&entry.name)?;
            writeln!(out.lock)?;
        }
    }
    Ok(())
}
