//! A registry of images on this machine.

use std::fs::{self, File};
use std::path::Path;
use std::process::{Child, Command};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// How long it may take to listen.
const PATIENCE: Duration = Duration::from_secs(60);

/// A registry without encryption, with its files in a folder of its own. It ends when this is dropped.
#[derive(Debug)]
pub struct Registry {
    _folder: tempfile::TempDir,
    process: Child,
    address: String,
}

impl Registry {
    /// Starts `docker-registry` at a port that is free.
    ///
    /// # Panics
    /// It does not start.
    pub fn start(program: &Path) -> Self {
        let folder = tempfile::tempdir().expect("made");
        let (config, log) = (folder.path().join("config.yml"), folder.path().join("log"));
        let images = folder.path().join("images");
        let text = format!(
            "version: 0.1\nstorage:\n  filesystem: {{ rootdirectory: {} }}\nhttp:\n  addr: 127.0.0.1:0\n",
            images.display()
        );
        fs::write(&config, text).expect("written");
        let output = File::create(&log).expect("made");
        let process = Command::new(program)
            .arg("serve")
            .arg(&config)
            .stdout(output.try_clone().expect("cloned"))
            .stderr(output)
            .spawn()
            .expect("starts");
        let mut registry = Self {
            _folder: folder,
            process,
            address: String::new(),
        };
        let began = Instant::now();
        while registry.address.is_empty() {
            let said = fs::read_to_string(&log).expect("read");
            assert!(began.elapsed() < PATIENCE, "no address: {said}");
            registry.address = address(&said).unwrap_or_default();
            sleep(Duration::from_millis(10));
        }
        registry
    }

    /// The name of an image in it.
    pub fn image(&self, name: &str) -> String {
        format!("{}/{name}", self.address)
    }
}

/// Where it says that it listens.
fn address(log: &str) -> Option<String> {
    let (_, rest) = log.split_once("listening on ")?;
    let end = rest.find(|letter: char| !letter.is_ascii_digit() && !".:".contains(letter))?;
    rest.get(..end).map(str::to_owned)
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
