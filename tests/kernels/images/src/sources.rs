//! Of what images are made, each with the manifest of what they must show.

use std::{
    fs::{self, File},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, UNIX_EPOCH},
};

use anyhow::{Context, Result, ensure};
use erofs_tests::{
    archive,
    awkward::{self, Sizes, bytes},
    tree::{Content, Entry, Kind, Tree},
    ustar,
};

/// Files beyond these make an index need 48-bit addresses.
const BEYOND_RAW: u64 = 13 << 40;
const BEYOND_TAR: u64 = (3 << 40) / 2 + (1 << 30);

/// The time in the headers of [`ustar`].
const HEADER_TIME: u64 = 0o13_000_000_000;

/// A source and its manifest.
#[derive(Debug)]
pub(crate) struct Source {
    /// A directory, a tar, or raw files in this order.
    pub(crate) paths: Vec<PathBuf>,
    /// The file that tells what its images show.
    pub(crate) manifest: PathBuf,
}

/// All sources.
#[derive(Debug)]
pub(crate) struct Sources {
    /// A directory with everything that is awkward.
    pub(crate) tree: Source,
    /// What of it is about the content of files.
    pub(crate) content: Source,
    /// A tar of the directory.
    pub(crate) tar: Source,
    /// Raw files, some of them small.
    pub(crate) raw: Source,
    /// Raw files, one of them so large that the other is behind what 32 bits address.
    pub(crate) huge_raw: Source,
    /// A tar of two such files.
    pub(crate) huge_tar: Source,
}

impl Sources {
    /// Makes directories in `work`, and in `folder` the manifests and the files that stay devices of images.
    pub(crate) fn new(work: &Path, folder: &Path, agent: &Path) -> Result<Self> {
        let maker = Maker {
            work,
            folder,
            agent,
        };
        let mut tree = awkward::tree(Sizes {
            wide: 150,
            ..Sizes::default()
        });
        tree.entries.retain(|entry| !is_merely_large(entry));
        let directory = maker.directory("tree", &tree)?;
        tree.entries.retain(is_about_content);
        let content = maker.directory("content", &tree)?;
        Ok(Self {
            tar: maker.tar(&directory)?,
            tree: directory,
            content,
            raw: maker.raw()?,
            huge_raw: maker.huge_raw()?,
            huge_tar: maker.huge_tar()?,
        })
    }
}

/// Whether a guest would take its time for nothing that a smaller file would not show as well.
fn is_merely_large(entry: &Entry) -> bool {
    // Fills clusters of 1 MiB.
    const WANTED: &[u8] = b"sizes/text-1000003";
    let size = match &entry.kind {
        Kind::File(content) => content.size,
        _ => 0,
    };
    size > 200_000 && entry.path != WANTED
}

/// Names, links, owners and times cost a guest more time than bytes do, and no form of data changes them.
fn is_about_content(entry: &Entry) -> bool {
    let top = entry.path.split(|byte| *byte == b'/').next().unwrap_or(b"");
    let folders: [&[u8]; 5] = [b"sizes", b"holes", b"duplicates", b"types", b"xattrs"];
    folders.contains(&top)
}

struct Maker<'a> {
    work: &'a Path,
    folder: &'a Path,
    agent: &'a Path,
}

impl Maker<'_> {
    fn manifest(&self, name: &str, directory: &Path) -> Result<PathBuf> {
        let path = self.folder.join(format!("{name}.manifest"));
        let output = Command::new(self.agent)
            .arg("manifest")
            .arg(directory)
            .output()
            .with_context(|| self.agent.display().to_string())?;
        ensure!(
            output.status.success(),
            "the manifest of {name}: {output:?}"
        );
        fs::write(&path, output.stdout)?;
        Ok(path)
    }

    fn directory(&self, name: &str, tree: &Tree) -> Result<Source> {
        let path = self.work.join(name);
        fs::create_dir(&path)?;
        tree.write(&path)?;
        let manifest = self.manifest(name, &path)?;
        Ok(Source {
            paths: vec![path],
            manifest,
        })
    }

    /// What `tar -x` makes of a tar is what its images show.
    fn tar(&self, source: &Source) -> Result<Source> {
        let path = self.folder.join("tree.tar");
        archive::create(
            &source.paths[0],
            &path,
            &["--format=pax", "--xattrs", "--xattrs-include=*"],
        );
        let extracted = self.work.join("extracted");
        fs::create_dir(&extracted)?;
        let status = Command::new("tar")
            .args([
                "--numeric-owner",
                "--same-owner",
                "-p",
                "--warning=no-timestamp",
            ])
            .args(["--xattrs", "--xattrs-include=*", "-C"])
            .args([&extracted, Path::new("-xf"), &path])
            .status()?;
        ensure!(status.success(), "tar: {status}");
        let manifest = self.manifest("tar", &extracted)?;
        Ok(Source {
            paths: vec![path],
            manifest,
        })
    }

    /// Raw files are alone in a directory for the manifest, then stand in the folder, as they are devices.
    fn raw_files(&self, name: &str, files: &[(&str, Content)]) -> Result<Source> {
        let directory = self.work.join(name);
        fs::create_dir(&directory)?;
        for (file, content) in files {
            write(&directory.join(file), content)?;
        }
        let manifest = self.manifest(name, &directory)?;
        let mut paths = Vec::new();
        for (file, _) in files {
            let path = self.folder.join(file);
            fs::rename(directory.join(file), &path)?;
            paths.push(path);
        }
        Ok(Source { paths, manifest })
    }

    fn raw(&self) -> Result<Source> {
        let files = [
            ("whole.raw", Content::dense(bytes::random(1, 3 * 4096))),
            ("tail.raw", Content::dense(bytes::random(2, 300_001))),
            (
                "long-tail.raw",
                Content::dense(bytes::text(3, 2 * 4096 - 1)),
            ),
            ("tiny.raw", Content::dense(b"tiny".to_vec())),
            (
                "sparse.raw",
                Content::sparse(1 << 20, vec![(500_000, bytes::text(4, 5000))]),
            ),
        ];
        self.raw_files("raw", &files)
    }

    fn huge_raw(&self) -> Result<Source> {
        let pieces = vec![
            (0, bytes::text(5, 5000)),
            (BEYOND_RAW - 9000, bytes::text(6, 9000)),
        ];
        let files = [
            ("huge.raw", Content::sparse(BEYOND_RAW, pieces)),
            ("behind.raw", Content::dense(bytes::text(7, 50_000))),
        ];
        self.raw_files("huge-raw", &files)
    }

    fn huge_tar(&self) -> Result<Source> {
        let directory = self.work.join("huge-tar");
        fs::create_dir(&directory)?;
        let path = self.folder.join("huge.tar");
        let tar = File::create(&path)?;
        let small = bytes::text(8, 70_000);
        tar.write_all_at(&large_header("huge", BEYOND_TAR), 0)?;
        tar.write_all_at(b"start", 512)?;
        let second = 512 + BEYOND_TAR;
        tar.write_all_at(&ustar::header("small", small.len() as u64), second)?;
        tar.write_all_at(&small, second + 512)?;
        let end = second + 512 + (small.len() as u64).next_multiple_of(512) + 1024;
        tar.set_len(end)?;

        let pieces = vec![(0, b"start".to_vec())];
        write(
            &directory.join("huge"),
            &Content::sparse(BEYOND_TAR, pieces),
        )?;
        write(&directory.join("small"), &Content::dense(small))?;
        for name in ["huge", "small"] {
            let file = File::options().write(true).open(directory.join(name))?;
            file.set_modified(UNIX_EPOCH + Duration::from_secs(HEADER_TIME))?;
        }
        let manifest = self.manifest("huge-tar", &directory)?;
        Ok(Source {
            paths: vec![path],
            manifest,
        })
    }
}

fn write(path: &Path, content: &Content) -> Result<()> {
    let file = File::create(path).with_context(|| path.display().to_string())?;
    file.set_len(content.size)?;
    for (offset, bytes) in &content.pieces {
        file.write_all_at(bytes, *offset)?;
    }
    Ok(())
}

/// A header whose size is in base 256, as GNU tar writes what does not fit eleven octal digits.
fn large_header(name: &str, size: u64) -> [u8; 512] {
    let mut header = ustar::header(name, 0);
    header[124..136].fill(0);
    header[124] = 0x80;
    header[128..136].copy_from_slice(&size.to_be_bytes());
    // The checksum counts itself as spaces.
    header[148..156].fill(b' ');
    let sum: u32 = header.iter().map(|&byte| u32::from(byte)).sum();
    header[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
    header
}
