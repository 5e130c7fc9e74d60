//! `erofs umount`: an image is taken down, with the loop device or the daemon behind it.

use crate::error::Outcome;
use crate::names::shown;
use anyhow::bail;
use clap::Args;
use std::path::PathBuf;

/// Unmount EROFS images, whichever way they were mounted.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Umount {
    /// Directories on which images are mounted
    #[arg(value_name = "DIR", required = true)]
    directories: Vec<PathBuf>,

    /// Detach an image that is in use now, and clean up when it is no longer
    #[arg(short, long)]
    lazy: bool,

    /// Tell what was unmounted
    #[arg(short, long)]
    verbose: bool,
}

const EXAMPLES: &str = "\
Examples:
  erofs umount /mnt
  erofs umount --lazy /mnt /models";

impl Umount {
    /// Runs the command. An error with one directory does not keep the others mounted.
    pub(crate) fn run(self) -> anyhow::Result<Outcome> {
        let mut errors = Vec::new();
        for directory in &self.directories {
            match erofs_mount::umount(directory, self.lazy) {
                Ok(unmounted) => {
                    let (path, source) = (shown(directory), shown(&unmounted.image.source));
                    if self.verbose {
                        say!("{source} unmounted from {path}");
                    }
                    // After a lazy unmount that is to be expected.
                    if let Some(device) = unmounted.left_over.filter(|_| !self.lazy) {
                        complain!(
                            "erofs: {path}: {} is still attached: somebody else uses it, or set it up to stay",
                            shown(&device)
                        );
                    }
                }
                Err(error) => errors.push(error.to_string()),
            }
        }
        if !errors.is_empty() {
            bail!("{}", errors.join("; "));
        }
        Ok(Outcome::Fine)
    }
}
