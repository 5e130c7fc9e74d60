//! What is pulled: container images made of the corpora.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use erofs_tests::containerd::{Layout, Packing};

use super::site::Site;
use crate::corpora::{Corpora, Corpus};

/// What images are called before they get their names in the registry.
pub(crate) const IMPORTED: &str = "registry.example/imported:1";
/// What becomes the second and the third layer of the Debian root: about a third of it each.
const PARTS: [&[&str]; 2] = [
    &["usr/lib/jvm", "usr/include", "usr/bin"],
    &["usr/lib/gcc", "usr/share"],
];
/// Layers of the other image.
const LAYERS: usize = 121;

/// A Debian root in three large layers, and a small one that changes a little: what `ctr image import` takes.
///
/// # Errors
/// It cannot be made.
pub(crate) fn of_a_root(corpora: &Corpora) -> Result<PathBuf> {
    let image = corpora.beside("container.tar");
    if image.exists() {
        return Ok(image);
    }
    eprintln!("making {}", image.display());
    let folder = corpora.beside("container.new");
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder)?;
    let base = folder.join("base");
    let mut copy = Command::new("cp");
    copy.arg("-a").arg(corpora.path(Corpus::Rootfs)).arg(&base);
    ensure!(copy.status()?.success(), "{copy:?} fails");
    let mut sources = vec![base.clone()];
    for (number, part) in PARTS.into_iter().enumerate() {
        let source = folder.join(format!("part{number}"));
        for name in part {
            let (from, to) = (base.join(name), source.join(name));
            fs::create_dir_all(to.parent().context("below the root")?)?;
            fs::rename(&from, &to).with_context(|| from.display().to_string())?;
        }
        sources.push(source);
    }
    let small = folder.join("small");
    fs::create_dir_all(small.join("etc"))?;
    fs::write(small.join("etc/hostname"), "measured\n")?;
    fs::write(small.join("etc/.wh.debian_version"), "")?;
    sources.push(small);
    let mut layout = Layout::new(&folder.join("layout"));
    for source in &sources {
        layout.layer(source, Packing::Gzip, |_| ());
    }
    let new = folder.join("container.tar");
    layout.finish(IMPORTED, &new);
    fs::rename(&new, &image)?;
    fs::remove_dir_all(&folder)?;
    Ok(image)
}

/// A shell, and a file in each of 120 further layers.
///
/// # Errors
/// It cannot be made.
pub(crate) fn of_many_layers(site: &Site) -> Result<PathBuf> {
    let folder = site.folder().join("layered");
    let mut layout = Layout::new(&folder.join("layout"));
    for number in 0..LAYERS {
        let source = folder.join(format!("layer{number}"));
        fs::create_dir_all(source.join("layers"))?;
        fs::write(
            source.join(format!("layers/{number}")),
            format!("{number}\n"),
        )?;
        if number == 0 {
            fs::create_dir(source.join("bin"))?;
            fs::copy(site.program("busybox"), source.join("bin/busybox"))?;
            for name in ["true", "sh"] {
                std::os::unix::fs::symlink("busybox", source.join("bin").join(name))?;
            }
            for name in ["proc", "sys", "dev"] {
                fs::create_dir(source.join(name))?;
            }
        }
        layout.layer(&source, Packing::Gzip, |_| ());
    }
    let image = folder.join("image.tar");
    layout.finish(IMPORTED, &image);
    Ok(image)
}
