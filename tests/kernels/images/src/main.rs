//! Makes every form of image that `erofs build` and `erofs index` write, and the list that `tests/kernels` reads:
//!
//! ```text
//! erofs-kernel-images EROFS AGENT FOLDER
//! ```
//!
//! EROFS is the binary, AGENT tells what a directory holds, and FOLDER gets the images and `images.list`. What a summary calls the
//! oldest kernel becomes `min=`, so that the matrix judges the statement with the image. Needs root, as the tree does.
//!
//! | module | answers |
//! |---|---|
//! | [`sources`] | of what images are made |
//! | [`built`] | which images this project writes |
//! | [`golden`] | which images of the reference tool are kept |
//! | [`list`] | how an image is listed |

mod built;
mod golden;
mod list;
mod sources;

use std::{env, path::PathBuf};

use anyhow::{Result, bail};

use crate::{list::List, sources::Sources};

fn main() -> Result<()> {
    let arguments: Vec<PathBuf> = env::args_os().skip(1).map(PathBuf::from).collect();
    let [erofs, agent, folder] = &arguments[..] else {
        bail!("usage: erofs-kernel-images EROFS AGENT FOLDER");
    };
    let mut list = List::new(erofs, folder);
    // Goes when the images are made.
    let work = tempfile::tempdir_in(folder)?;
    let sources = Sources::new(work.path(), folder, agent)?;
    built::directories(&mut list, &sources)?;
    built::increments(&mut list, &sources)?;
    built::tars(&mut list, &sources)?;
    built::raw_files(&mut list, &sources)?;
    built::ways(&mut list, &sources)?;
    golden::add(&mut list)?;
    list.write()
}
