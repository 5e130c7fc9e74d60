//! `erofs stat`: what an image says about files, as stat(1) shows it.

use crate::error::Outcome;
use crate::image::ImageInput;
use crate::listing::{self, Mode};
use crate::names::{Printable, complain_of};
use crate::output::Output;
use crate::sheet::{Sheet, Value};
use clap::Args;
use erofs_format::inode::{FileType, InodePayload};
use erofs_reader::metadata::Area;
use erofs_reader::{Error, Image, Inode, Symlinks};
use std::ffi::OsString;
use std::io::{BufWriter, Write};
use std::os::unix::ffi::OsStrExt;

/// Show all attributes of files of an image.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Stat {
    #[command(flatten)]
    input: ImageInput,

    /// Files, from the root of the image; by default the root
    #[arg(value_name = "PATH", default_value = "/")]
    paths: Vec<OsString>,

    /// Follow symbolic links, inside of the image
    #[arg(short = 'L', long)]
    dereference: bool,

    /// Print JSON
    #[arg(long)]
    json: bool,
}

const EXAMPLES: &str = "\
Examples:
  erofs stat rootfs.erofs etc/passwd
  erofs stat rootfs.erofs -L --json bin/sh";

impl Stat {
    /// Runs the command.
    pub(crate) fn run(self) -> anyhow::Result<Outcome> {
        let image = self.input.open_for_metadata()?;
        let symlinks = if self.dereference {
            Symlinks::Follow
        } else {
            Symlinks::Keep
        };
        let mut sheet = Sheet::new(BufWriter::new(Output::new()), self.json)?;
        let mut outcome = Outcome::Fine;
        sheet.list("files")?;
        for path in &self.paths {
            let path = path.as_bytes();
            let file = image
                .resolve(path, symlinks)
                .and_then(|inode| File::read(&image, inode));
            match file {
                Ok(file) => print(&image, path, &file, &mut sheet)?,
                Err(error) => {
                    outcome = Outcome::Problems;
                    complain_of(path, &error);
                }
            }
        }
        sheet.end_list()?;
        sheet.finish()?;
        Ok(outcome)
    }
}

/// An inode with what is stored apart from it.
struct File {
    inode: Inode,
    target: Option<Vec<u8>>,
    xattrs: Vec<erofs_reader::Xattr>,
}

impl File {
    fn read(image: &Image, inode: Inode) -> Result<Self, Error> {
        let is_link = inode.file_type == FileType::Symlink;
        Ok(Self {
            target: is_link.then(|| image.read_link(&inode)).transpose()?,
            xattrs: image.xattrs(&inode)?,
            inode,
        })
    }
}

fn print<W: Write>(
    image: &Image,
    path: &[u8],
    file: &File,
    sheet: &mut Sheet<W>,
) -> std::io::Result<()> {
    let inode = &file.inode;
    sheet.item(&Printable(path).to_string())?;
    sheet.field("path", Value::Bytes(path))?;
    sheet.field("type", Value::text(listing::type_name(inode.file_type)))?;
    if let Some(target) = &file.target {
        sheet.field("target", Value::Bytes(target))?;
    }
    sheet.field("size", Value::Number(inode.size))?;
    sheet.field("st_blocks", Value::Number(listing::st_blocks(image, inode)))?;
    let block = image.superblock().block_bits.bytes();
    sheet.field("block_size", Value::Number(block))?;
    let metabox = image.metabox_inode().is_some();
    sheet.field("st_ino", Value::Number(inode.nid().to_ino(metabox)))?;
    sheet.field("nid", Value::Number(inode.nid().0))?;
    sheet.field("nlink", Value::Number(inode.nlink.into()))?;
    if let InodePayload::Device(number) = inode.payload {
        sheet.field("major", Value::Number(number.major.into()))?;
        sheet.field("minor", Value::Number(number.minor.into()))?;
    }
    let mode = format!("{:04o}", inode.mode & 0o7777);
    sheet.field("mode", Value::Text(mode))?;
    sheet.field("permissions", Value::text(Mode(inode)))?;
    sheet.field("uid", Value::Number(inode.uid.into()))?;
    sheet.field("gid", Value::Number(inode.gid.into()))?;
    sheet.field("mtime", Value::Time(inode.mtime))?;
    sheet.field("mtime_unix", Value::Text(unix_time(inode)))?;
    sheet.field("layout", Value::text(listing::layout_name(inode.layout)))?;
    let form = if inode.extended {
        "extended"
    } else {
        "compact"
    };
    sheet.field("inode_form", Value::text(form))?;
    let (area, position) = inode.position();
    let area = match area {
        Area::Primary => "image",
        Area::Metabox => "metabox",
    };
    sheet.field("inode_in", Value::text(area))?;
    sheet.field("inode_position", Value::Position(position.0))?;
    sheet.list("xattrs")?;
    for xattr in &file.xattrs {
        sheet.pair(&xattr.name, &xattr.value)?;
    }
    sheet.end_list()?;
    sheet.end()
}

/// Seconds since 1970 with nanoseconds, as `stat -c %.Y` shows them.
fn unix_time(inode: &Inode) -> String {
    let time = inode.mtime;
    let nanoseconds = i64::from(time.nanoseconds.min(999_999_999));
    if time.seconds < 0 && nanoseconds > 0 {
        let whole = (time.seconds + 1).unsigned_abs();
        return format!("-{whole}.{:09}", 1_000_000_000 - nanoseconds);
    }
    format!("{}.{nanoseconds:09}", time.seconds)
}
