//! `erofs mount`: an image appears in a directory, the best way that this machine allows.

use crate::error::Outcome;
use crate::mounting::{self, Detail};
use crate::names::{Printable, shown};
use crate::{report, values};
use anyhow::anyhow;
use clap::Args;
use erofs_mount::table::{self, Carrier, MountedImage};
use erofs_mount::{MountError, MountOptions, MountRequest, Via, Way};
use serde::Serialize;
use std::ffi::OsString;
use std::path::PathBuf;

/// Mount an image on a directory, read-only: by the kernel where that works, through FUSE otherwise.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Mount {
    /// Image file or block device
    #[arg(value_name = "IMAGE", required_unless_present = "list")]
    image: Option<PathBuf>,

    /// Directory to mount on
    #[arg(value_name = "DIR", required_unless_present = "list")]
    directory: Option<PathBuf>,

    /// The way: auto (the best that works), file, loop or fuse
    #[arg(long, value_name = "WAY")]
    via: Option<Via>,

    /// Serve the image in user space: works without root
    #[arg(long, conflicts_with = "via")]
    fuse: bool,

    /// Mount options by commas, as in /etc/fstab; may be repeated
    #[arg(short = 'o', value_name = "OPTIONS")]
    options: Vec<OsString>,

    /// An extra device of the image, in the order of its device table; may be repeated. Without it an index finds its
    /// blobs beside itself
    #[arg(long = "device", value_name = "PATH")]
    devices: Vec<PathBuf>,

    /// Where the image begins in its file, in bytes
    #[arg(long, value_name = "BYTES", value_parser = values::size)]
    offset: Option<u64>,

    /// Tell which ways were considered, why not the others, and what came of each attempt
    #[arg(long)]
    explain: bool,

    /// List the EROFS images that are mounted
    #[arg(long, conflicts_with_all = ["image", "directory", "via", "fuse", "options", "devices", "offset", "explain"])]
    list: bool,

    /// Print JSON, with everything that --explain tells
    #[arg(long)]
    json: bool,

    /// Tell what was mounted how
    #[arg(short, long)]
    verbose: bool,
}

const EXAMPLES: &str = "\
Examples:
  erofs mount rootfs.erofs /mnt
  erofs mount --explain rootfs.erofs /mnt
  erofs mount --fuse rootfs.erofs ~/rootfs      needs no root
  erofs mount model.erofs /models               an index: its blobs stand beside it
  erofs mount --list
  erofs umount /mnt";

impl Mount {
    /// Runs the command.
    pub(crate) fn run(self) -> anyhow::Result<Outcome> {
        let (Some(image), Some(directory)) = (&self.image, &self.directory) else {
            return list(self.json);
        };
        let request = MountRequest {
            image: image.clone(),
            target: directory.clone(),
            options: self.options()?,
        };
        if self.json {
            let (account, result) = mounting::mount(&request, Detail::Nothing);
            report::print_json(&account)?;
            explain(result)?;
        } else {
            let detail = match (self.explain, self.verbose) {
                (true, _) => Detail::Plan,
                (false, true) => Detail::Result,
                (false, false) => Detail::Nothing,
            };
            let (account, result) = mounting::mount(&request, detail);
            explain(result)?;
            if let (Detail::Nothing, Some(surprise)) = (detail, account.surprise()) {
                complain!("erofs: {surprise}");
            }
        }
        Ok(Outcome::Fine)
    }

    fn options(&self) -> anyhow::Result<MountOptions> {
        let mut options = MountOptions::default();
        for list in &self.options {
            options.add(list)?;
        }
        options.devices.extend(self.devices.iter().cloned());
        options.offset = self.offset.unwrap_or(options.offset);
        options.via = match (self.fuse, self.via) {
            (true, _) => Via::Fuse,
            (false, via) => via.unwrap_or(options.via),
        };
        Ok(options)
    }
}

fn explain(result: Result<(), MountError>) -> anyhow::Result<()> {
    result.map_err(|error| anyhow!(mounting::explained(&error)))
}

/// A mounted image, as `--list --json` prints it.
#[derive(Debug, Serialize)]
struct ListedImage {
    source: String,
    mount_point: String,
    way: Way,
    /// The file behind a loop device.
    backing_file: Option<String>,
    options: String,
}

impl From<MountedImage> for ListedImage {
    fn from(image: MountedImage) -> Self {
        let way = way(&image.carrier);
        let backing_file = match image.carrier {
            Carrier::Loop { backing } => backing,
            _ => None,
        };
        Self {
            source: report::path(&image.source),
            mount_point: report::path(&image.mount_point),
            way,
            backing_file: backing_file.as_deref().map(report::path),
            options: image.options,
        }
    }
}

const fn way(carrier: &Carrier) -> Way {
    match carrier {
        Carrier::File => Way::File,
        Carrier::Loop { .. } => Way::Loop,
        Carrier::Block => Way::Block,
        Carrier::Fuse => Way::Fuse,
    }
}

fn list(json: bool) -> anyhow::Result<Outcome> {
    let images = table::list()?;
    if json {
        let images: Vec<ListedImage> = images.into_iter().map(Into::into).collect();
        report::print_json(&images)?;
        return Ok(Outcome::Fine);
    }
    let heading = ["IMAGE", "MOUNTED ON", "WAY", "OPTIONS"].map(str::to_owned);
    let rows = images.into_iter().map(|image| {
        let own = shown(&image.source);
        let source = match &image.carrier {
            Carrier::Loop {
                backing: Some(file),
            } => format!("{} ({own})", shown(file)),
            _ => own.to_string(),
        };
        [
            source,
            shown(&image.mount_point).to_string(),
            way(&image.carrier).to_string(),
            Printable(image.options.as_bytes()).to_string(),
        ]
    });
    report::print_table(std::iter::once(heading).chain(rows))?;
    Ok(Outcome::Fine)
}
