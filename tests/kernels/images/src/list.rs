//! The list that the matrix reads; its keys are explained in tests/kernels/README.md.

use std::{
    ffi::OsStr,
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, ensure};
use erofs_format::kernel::Requirement;
use erofs_mount::Requirements;
use serde_json::Value;

use crate::sources::Source;

/// What a kernel may have been built without. Debian's 6.1 was, of MicroLZMA.
const CONFIGURATIONS: [(Requirement, &str); 3] = [
    (Requirement::MicroLzma, "EROFS_FS_ZIP_LZMA"),
    (Requirement::Deflate, "EROFS_FS_ZIP_DEFLATE"),
    (Requirement::Zstd, "EROFS_FS_ZIP_ZSTD"),
];

/// The key of an image that asks for such, with a space in front; empty for others.
pub(crate) fn needs(requirements: &Requirements) -> String {
    let needs: Vec<_> = CONFIGURATIONS
        .into_iter()
        .filter(|(requirement, _)| requirements.features.contains(requirement))
        .map(|(_, name)| name)
        .collect();
    if needs.is_empty() {
        return String::new();
    }
    format!(" needs={}", needs.join(","))
}

/// A list in the making.
#[derive(Debug)]
pub(crate) struct List {
    erofs: PathBuf,
    folder: PathBuf,
    text: String,
}

/// One image.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    /// Short and unique.
    pub(crate) name: String,
    /// The image.
    pub(crate) file: PathBuf,
    /// Extra devices in the order of its table.
    pub(crate) devices: Vec<PathBuf>,
    /// What it shows.
    pub(crate) manifest: PathBuf,
    /// The oldest kernel that reads it, as this project says.
    pub(crate) since: String,
    /// Which table of the report it is in.
    pub(crate) group: &'static str,
    /// What it is, for people.
    pub(crate) label: String,
    /// Other keys.
    pub(crate) more: String,
}

impl List {
    /// An empty list of images that `erofs` writes into `folder`.
    pub(crate) fn new(erofs: &Path, folder: &Path) -> Self {
        Self {
            erofs: erofs.to_owned(),
            folder: folder.to_owned(),
            text: String::new(),
        }
    }

    /// Adds an image. Words hold no quotes.
    pub(crate) fn add(&mut self, entry: &Entry) {
        let _ = write!(
            self.text,
            "{} '{}' 'manifest={}' min={} group={} 'label={}'",
            entry.name,
            entry.file.display(),
            entry.manifest.display(),
            entry.since,
            entry.group,
            entry.label,
        );
        if !entry.devices.is_empty() {
            let devices: Vec<_> = entry
                .devices
                .iter()
                .map(|path| path.to_string_lossy())
                .collect();
            let _ = write!(self.text, " 'devices={}'", devices.join(","));
        }
        let _ = writeln!(self.text, " {}", entry.more);
    }

    /// Builds or indexes a source; `command` is `build` or `index`. The entry says what the summary says.
    pub(crate) fn make(
        &self,
        command: &str,
        name: &str,
        source: &Source,
        options: &[&str],
    ) -> Result<Entry> {
        let file = self.folder.join(format!("{name}.erofs"));
        let arguments: Vec<&OsStr> = [command, "--json", "-o"]
            .into_iter()
            .map(OsStr::new)
            .chain([file.as_os_str()])
            .chain(options.iter().map(OsStr::new))
            .chain(source.paths.iter().map(|path| path.as_os_str()))
            .collect();
        let output = Command::new(&self.erofs)
            .args(&arguments)
            .output()
            .with_context(|| self.erofs.display().to_string())?;
        let error = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{arguments:?}: {error}");
        let summary: Value = serde_json::from_slice(&output.stdout)?;
        let since = summary["oldest_kernel"].as_str();
        let more = needs(&Requirements::read(&file, 0)?);
        Ok(Entry {
            name: name.into(),
            file,
            devices: Vec::new(),
            manifest: source.manifest.clone(),
            since: since.context("a summary names the oldest kernel")?.into(),
            group: command_group(command),
            label: [command]
                .iter()
                .chain(options)
                .copied()
                .collect::<Vec<_>>()
                .join(" "),
            more,
        })
    }

    /// Writes the list into its folder.
    pub(crate) fn write(&self) -> Result<()> {
        let path = self.folder.join("images.list");
        fs::write(&path, &self.text).with_context(|| path.display().to_string())
    }
}

fn command_group(command: &str) -> &'static str {
    if command == "index" { "index" } else { "build" }
}
