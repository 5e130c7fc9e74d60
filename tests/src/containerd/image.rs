//! Container images made by hand: layers by `tar` and `gzip`, in an OCI layout that containerd imports.

use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::archive;
use crate::workshop::succeed;

/// What a layer is compressed with.
#[derive(Clone, Copy, Debug)]
pub enum Packing {
    /// With nothing.
    Plain,
    /// `gzip -1`.
    Gzip,
    /// `zstd`.
    Zstd,
}

/// An image that is being made in a folder.
#[derive(Debug)]
pub struct Layout {
    folder: PathBuf,
    layers: Vec<Value>,
    diff_ids: Vec<String>,
}

fn sha256(bytes: &[u8]) -> String {
    let mut digest = String::new();
    for byte in Sha256::digest(bytes) {
        write!(digest, "{byte:02x}").expect("a string takes everything");
    }
    digest
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
        }
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
        let tar = self.folder.join("layer.tar");
        archive::create(
            source,
            &tar,
            &[
                "--format=posix",
                // The same tree is the same tar.
                "--pax-option=delete=atime,delete=ctime",
                "--xattrs",
                "--xattrs-include=*",
            ],
        );
        self.diff_ids
            .push(format!("sha256:{}", sha256(&fs::read(&tar).expect("read"))));
        let (suffix, packed) = match packing {
            Packing::Plain => ("", fs::read(&tar).expect("read")),
            Packing::Gzip => (
                "+gzip",
                succeed(Command::new("gzip").arg("-1c").arg(&tar)).stdout,
            ),
            Packing::Zstd => (
                "+zstd",
                succeed(Command::new("zstd").arg("-qc").arg(&tar)).stdout,
            ),
        };
        let mut packed = packed;
        change(&mut packed);
        let mut layer = self.blob(&packed);
        layer["mediaType"] = format!("application/vnd.oci.image.layer.v1.tar{suffix}").into();
        self.layers.push(layer);
        fs::remove_file(tar).expect("removed");
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
            "config": {"Env": ["PATH=/bin"], "Cmd": ["sh"], "WorkingDir": "/"},
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
