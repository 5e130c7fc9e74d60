//! Container images made by hand: layers by `tar` and `gzip`, in an OCI layout that containerd imports.

use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::archive;
use crate::listing::sha256;
use crate::workshop::{self, succeed};

/// What a layer is compressed with.
#[derive(Clone, Copy, Debug)]
pub enum Packing {
    /// With nothing.
    Plain,
    /// `gzip -1`.
    Gzip,
    /// `zstd`.
    Zstd,
    /// As an EROFS image that `erofs build` makes.
    Native,
    /// As that image in zstd.
    NativeZstd,
}

impl Packing {
    /// Media type of layers, as all versions of containerd take it for one.
    pub const fn media_type(self) -> &'static str {
        match self {
            Self::Plain => "application/vnd.oci.image.layer.v1.tar",
            Self::Gzip => "application/vnd.oci.image.layer.v1.tar+gzip",
            Self::Zstd => "application/vnd.oci.image.layer.v1.tar+zstd",
            Self::Native => "application/vnd.oci.image.layer.v1.erofs",
            Self::NativeZstd => "application/vnd.oci.image.layer.v1.erofs+zstd",
        }
    }
}

/// An image that is being made in a folder.
#[derive(Clone, Debug)]
pub struct Layout {
    folder: PathBuf,
    layers: Vec<Value>,
    diff_ids: Vec<String>,
    command: Vec<String>,
}

impl Layout {
    /// An image without layers, in a folder that is made.
    ///
    /// # Panics
    /// It cannot be made.
    pub fn new(folder: &Path) -> Self {
        fs::create_dir_all(folder.join("blobs/sha256")).expect("made");
        Self {
            folder: folder.to_path_buf(),
            layers: Vec::new(),
            diff_ids: Vec::new(),
            command: vec!["sh".to_owned()],
        }
    }

    /// Sets what a container runs, where nothing is said: a shell otherwise.
    #[must_use]
    pub fn command(mut self, command: &[&str]) -> Self {
        self.command = command.iter().map(ToString::to_string).collect();
        self
    }

    /// Stores a blob.
    fn blob(&self, bytes: &[u8]) -> Value {
        let digest = sha256(bytes);
        fs::write(self.folder.join("blobs/sha256").join(&digest), bytes).expect("written");
        json!({"digest": format!("sha256:{digest}"), "size": bytes.len()})
    }

    /// Adds what is in `source` as a layer. `change` changes the packed layer, and its own digest with it.
    ///
    /// # Panics
    /// A program fails.
    pub fn layer(&mut self, source: &Path, packing: Packing, change: impl FnOnce(&mut Vec<u8>)) {
        let plain = self.folder.join("layer");
        match packing {
            Packing::Native | Packing::NativeZstd => workshop::build(source, &plain, &[]),
            _ => archive::create(
                source,
                &plain,
                &[
                    "--format=posix",
                    // The same tree is the same tar.
                    "--pax-option=delete=atime,delete=ctime",
                    "--xattrs",
                    "--xattrs-include=*",
                ],
            ),
        }
        let bytes = fs::read(&plain).expect("read");
        let digest = sha256(&bytes);
        let packed =
            |program: &str, option: &str| succeed(Command::new(program).arg(option).arg(&plain));
        let mut packed = match packing {
            Packing::Plain | Packing::Native => bytes,
            Packing::Gzip => packed("gzip", "-1c").stdout,
            Packing::Zstd | Packing::NativeZstd => packed("zstd", "-qc").stdout,
        };
        change(&mut packed);
        fs::remove_file(plain).expect("removed");
        self.packed(packing.media_type(), &packed, digest);
    }

    /// Adds a layer whose content has this digest, in hexadecimal, without compression.
    ///
    /// # Panics
    /// It cannot be written.
    pub fn packed(&mut self, media_type: &str, bytes: &[u8], digest: String) {
        let mut layer = self.blob(bytes);
        layer["mediaType"] = media_type.into();
        self.layers.push(layer);
        self.diff_ids.push(format!("sha256:{digest}"));
    }

    /// Writes the tar that `ctr image import` takes.
    ///
    /// # Panics
    /// It cannot be written.
    pub fn finish(self, name: &str, tar: &Path) {
        let architecture = if cfg!(target_arch = "x86_64") {
            "amd64"
        } else {
            "arm64"
        };
        let config = json!({
            "architecture": architecture, "os": "linux",
            "config": {"Env": ["PATH=/bin"], "Cmd": self.command, "WorkingDir": "/"},
            "rootfs": {"type": "layers", "diff_ids": self.diff_ids},
        });
        let described = |media_type: &str, content: &Value| {
            let bytes = content.to_string().into_bytes();
            let mut descriptor = self.blob(&bytes);
            descriptor["mediaType"] = media_type.into();
            descriptor
        };
        let config = described("application/vnd.oci.image.config.v1+json", &config);
        let manifest_type = "application/vnd.oci.image.manifest.v1+json";
        let manifest = json!({
            "schemaVersion": 2, "mediaType": manifest_type, "config": config, "layers": self.layers,
        });
        let mut manifest = described(manifest_type, &manifest);
        manifest["annotations"] = json!({"io.containerd.image.name": name});
        manifest["platform"] = json!({"architecture": architecture, "os": "linux"});
        let index = json!({"schemaVersion": 2, "manifests": [manifest]});
        let layout = json!({"imageLayoutVersion": "1.0.0"});
        fs::write(self.folder.join("index.json"), index.to_string()).expect("written");
        fs::write(self.folder.join("oci-layout"), layout.to_string()).expect("written");
        archive::create(&self.folder, tar, &[]);
    }
}
