//! Files that commands write beside their result, as the uncompressed form of a tar: they get their names when they are whole.

use anyhow::{Context, bail};
use erofs_mkfs::data::output::{FileIdentity, Output};
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

/// A file beside the image.
#[derive(Debug)]
pub(crate) struct Companion {
    form: Form,
    target: PathBuf,
}

#[derive(Debug)]
enum Form {
    /// Aside until it is whole.
    Aside(Output),
    /// A pipe or the like, to which it goes at once.
    Passing(File),
}

impl Companion {
    /// Prepares to write `target`, so that it is known before long work whether that can be.
    pub(crate) fn create(target: &Path) -> anyhow::Result<Self> {
        let named = || target.display().to_string();
        let passes = std::fs::metadata(target).is_ok_and(|metadata| {
            let kind = metadata.file_type();
            kind.is_fifo() || kind.is_char_device() || kind.is_socket()
        });
        let form = match passes {
            true => Form::Passing(
                File::options()
                    .write(true)
                    .open(target)
                    .with_context(named)?,
            ),
            false => Form::Aside(Output::create(target).with_context(named)?),
        };
        Ok(Self {
            form,
            target: target.to_path_buf(),
        })
    }

    /// Refuses a companion that would take the place of one of `others`: image, sources, other companions.
    pub(crate) fn check<'p>(
        &self,
        others: impl IntoIterator<Item = &'p Path>,
    ) -> anyhow::Result<()> {
        for other in others {
            if is_same(&self.target, other) {
                bail!(
                    "{} and {} are one file: give them different names",
                    other.display(),
                    self.target.display()
                );
            }
        }
        Ok(())
    }

    /// Where it will be.
    pub(crate) fn target(&self) -> &Path {
        &self.target
    }

    pub(crate) fn writer(&self) -> io::Result<BufWriter<File>> {
        Ok(BufWriter::with_capacity(1 << 20, self.file().try_clone()?))
    }

    const fn file(&self) -> &File {
        match &self.form {
            Form::Aside(output) => output.file(),
            Form::Passing(file) => file,
        }
    }

    /// Copies all of the file at `source` and gives it its name.
    pub(crate) fn publish_copy(self, source: &Path) -> anyhow::Result<()> {
        io::copy(&mut File::open(source)?, &mut self.file())
            .with_context(|| self.target.display().to_string())?;
        self.publish()
    }

    /// Writes all of it and gives it its name.
    pub(crate) fn publish_text(self, text: &str) -> anyhow::Result<()> {
        (&mut self.file())
            .write_all(text.as_bytes())
            .with_context(|| self.target.display().to_string())?;
        self.publish()
    }

    pub(crate) fn publish(self) -> anyhow::Result<()> {
        let Form::Aside(output) = self.form else {
            return Ok(());
        };
        let length = output.file().metadata()?.len();
        output
            .publish(length)
            .with_context(|| self.target.display().to_string())
    }
}

/// Whether two paths lead to one regular file, or will.
fn is_same(a: &Path, b: &Path) -> bool {
    match (std::fs::metadata(a), std::fs::metadata(b)) {
        (Ok(a), Ok(b)) => a.is_file() && FileIdentity::of(&a) == FileIdentity::of(&b),
        (Err(_), Err(_)) => {
            let folder = |path: &Path| {
                let parent = path.parent()?;
                let named = !parent.as_os_str().is_empty();
                let parent = if named { parent } else { Path::new(".") };
                parent.canonicalize().ok()
            };
            a.file_name() == b.file_name() && folder(a) == folder(b)
        }
        _ => false,
    }
}
