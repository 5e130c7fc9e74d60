//! The images kept in `images/golden`, as their manifest tells of them.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// One of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Golden {
    /// File name without `.erofs`.
    pub name: String,
    /// The image.
    pub image: PathBuf,
    /// Its extra devices, in the order of its device table.
    pub devices: Vec<PathBuf>,
    /// Name of the listing.
    pub expected: String,
    /// Block size in bytes.
    pub block_size: u32,
    /// The first kernel that reads it, as `(major, minor)`.
    pub kernel: (u32, u32),
    /// SHA-256 of the image and of the devices, in hexadecimal digits.
    pub digests: Vec<String>,
    /// Options and sources of mkfs.erofs.
    pub made_by: String,
    /// What is special about it.
    pub shows: String,
}

/// The folder.
pub fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../images/golden")
}

impl Golden {
    /// All of them, in the order of the manifest.
    ///
    /// # Panics
    /// The manifest is missing or is not one.
    pub fn all() -> Vec<Self> {
        let folder = folder();
        let manifest = fs::read_to_string(folder.join("manifest.tsv")).expect("a manifest");
        manifest
            .lines()
            .skip(1)
            .map(|line| Self::parse(&folder, line))
            .collect()
    }

    fn parse(folder: &Path, line: &str) -> Self {
        let columns: Vec<&str> = line.split('\t').collect();
        let [
            image,
            devices,
            expected,
            block,
            kernel,
            _,
            digests,
            made_by,
            shows,
        ] = columns[..]
        else {
            panic!("nine columns: {line}");
        };
        let devices = devices.split(',').filter(|device| *device != "-");
        let (major, minor) = kernel.split_once('.').expect("a version");
        Self {
            name: image.trim_end_matches(".erofs").into(),
            image: folder.join(image),
            devices: devices.map(|device| folder.join(device)).collect(),
            expected: expected.into(),
            block_size: block.parse().expect("a number"),
            kernel: (
                major.parse().expect("a number"),
                minor.parse().expect("a number"),
            ),
            digests: digests.split(',').map(Into::into).collect(),
            made_by: made_by.into(),
            shows: shows.into(),
        }
    }

    /// What every reader must show of it, in the form of [`listing`](crate::listing).
    ///
    /// # Panics
    /// The listing is missing.
    pub fn expected(&self) -> String {
        let path = folder().join(format!("expected/{}.tsv", self.expected));
        fs::read_to_string(path).expect("a listing")
    }
}
