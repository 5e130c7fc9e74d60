//! The daemons, and what a client asks of them.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use erofs_tests::containerd::{Containerd, NAME, NEWER, Registry, Setup, fetched};

use super::images::IMPORTED;
use crate::tools::{Tools, workspace};

/// Ours, containerd's own, and what everybody has.
pub(crate) const SNAPSHOTTERS: [&str; 3] = [NAME, "erofs", "overlayfs"];
/// What a containerd from 2.2 on is told so that it unpacks layers side by side.
const SIDE_BY_SIDE: &str =
    "[plugins.\"io.containerd.transfer.v1.local\"]\nmax_concurrent_unpacks = 4\n";
/// How long something may take to end.
const PATIENCE: Duration = Duration::from_secs(20);

/// containerd with its plugin, and a registry.
pub(crate) struct Site {
    containerd: Containerd,
    setup: Setup,
    registry: Registry,
    containers: usize,
}

impl Site {
    /// Starts them, with erofs-utils of Debian sid for the built-in snapshotter. A newer containerd that `CONTAINERD_DIR` names
    /// takes the place of Debian's, and unpacks layers side by side.
    ///
    /// # Errors
    /// They cannot be fetched or do not start.
    pub(crate) fn start(tools: &Tools) -> Result<Self> {
        let fetch = workspace().join("tests/containerd/fetch.sh");
        let status = Command::new(&fetch).stdout(Stdio::null()).status()?;
        ensure!(status.success(), "{}: {status}", fetch.display());
        let (version, containerd) = match env::var_os("CONTAINERD_DIR") {
            Some(_) => (NEWER, SIDE_BY_SIDE),
            None => ("2.1", ""),
        };
        let mut programs =
            fetched(version).map_err(|reason| anyhow::anyhow!("containerd: {reason}"))?;
        programs.extend(tools.mkfs_erofs.parent().map(Path::to_path_buf));
        let setup = Setup {
            version,
            programs,
            erofs: tools.erofs.clone(),
            content: None,
            plugin: String::new(),
            containerd: containerd.to_owned(),
        };
        Ok(Self {
            containerd: Containerd::start(&setup),
            registry: Registry::start(&setup.program("docker-registry")),
            setup,
            containers: 0,
        })
    }

    /// Whether it is the containerd that `CONTAINERD_DIR` names.
    pub(crate) fn is_newer(&self) -> bool {
        self.setup.version == NEWER
    }

    /// Where the daemons keep their files.
    pub(crate) fn folder(&self) -> &Path {
        self.containerd.folder()
    }

    /// A program that came with containerd.
    pub(crate) fn program(&self, name: &str) -> PathBuf {
        self.setup.program(name)
    }

    /// What containerd says of itself.
    ///
    /// # Errors
    /// It does not start.
    pub(crate) fn version(&self) -> Result<String> {
        let output = Command::new(self.program("containerd"))
            .arg("--version")
            .output()?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let words: Vec<_> = text.split_whitespace().collect();
        Ok(format!(
            "containerd {}",
            words.get(2).copied().unwrap_or("of unknown version")
        ))
    }

    /// The name of an image in the registry.
    pub(crate) fn image(&self, name: &str) -> String {
        self.registry.image(name)
    }

    fn ctr(&self, arguments: &[&str]) -> Result<Output> {
        let output = self.containerd.ctr(arguments).output()?;
        if !output.status.success() {
            bail!(
                "ctr {arguments:?}: {}\n{}",
                String::from_utf8_lossy(&output.stderr),
                self.containerd.plugin_log()
            );
        }
        Ok(output)
    }

    /// Puts an image into the registry and forgets it.
    pub(crate) fn push(&self, image: &str, archive: &Path) {
        self.containerd.push(archive, IMPORTED, image);
    }

    /// Pulls and unpacks an image. Seconds.
    ///
    /// # Errors
    /// It fails.
    pub(crate) fn pull(&self, snapshotter: &str, image: &str) -> Result<f64> {
        // What was written before is not this one's to wait for.
        rustix::fs::sync();
        let began = Instant::now();
        let with = ["--plain-http", "--snapshotter", snapshotter];
        self.ctr(&[&["image", "pull"], &with[..], &[image]].concat())?;
        let seconds = began.elapsed().as_secs_f64();
        let listed = self.ctr(&["snapshots", "--snapshotter", snapshotter, "list"])?;
        let listed = String::from_utf8_lossy(&listed.stdout);
        ensure!(
            listed.lines().count() > 1,
            "{snapshotter} unpacked nothing of {image}"
        );
        Ok(seconds)
    }

    /// Removes an image, its snapshots and its blobs.
    ///
    /// # Errors
    /// It fails.
    pub(crate) fn remove(&self, snapshotter: &str, image: &str) -> Result<()> {
        self.ctr(&["image", "rm", "--sync", image])?;
        let began = Instant::now();
        loop {
            let listed = self.ctr(&["snapshots", "--snapshotter", snapshotter, "list"])?;
            if String::from_utf8_lossy(&listed.stdout).lines().count() == 1 {
                return Ok(());
            }
            ensure!(
                began.elapsed() < PATIENCE,
                "snapshots of {image} are not removed"
            );
            sleep(Duration::from_millis(100));
        }
    }

    /// Largest resident set of the plugin until now, in bytes.
    ///
    /// # Errors
    /// Linux does not tell.
    pub(crate) fn plugin_memory(&self) -> Result<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.containerd.plugin()))?;
        kibibytes(&status, "VmHWM:")
    }

    fn name(&mut self) -> String {
        self.containers += 1;
        self.containerd.container(&format!("c{}", self.containers))
    }

    /// Runs `true` in one container after the other, which are removed. Seconds of each; a first one is not counted.
    ///
    /// # Errors
    /// One fails.
    pub(crate) fn starts(
        &mut self,
        snapshotter: &str,
        image: &str,
        count: usize,
    ) -> Result<Vec<f64>> {
        let mut seconds = Vec::new();
        for _ in 0..=count {
            let name = self.name();
            let began = Instant::now();
            let with = ["run", "--rm", "--snapshotter", snapshotter];
            self.ctr(&[&with[..], &[image, &name, "/bin/true"]].concat())?;
            seconds.push(began.elapsed().as_secs_f64());
        }
        Ok(seconds.split_off(1))
    }

    /// Bytes by which the page cache grows when several containers at the same time read all files below `/usr`.
    ///
    /// # Errors
    /// One fails.
    pub(crate) fn page_cache(
        &mut self,
        snapshotter: &str,
        image: &str,
        containers: usize,
    ) -> Result<f64> {
        let mut names = Vec::new();
        for _ in 0..containers {
            let name = self.name();
            let with = ["run", "--detach", "--snapshotter", snapshotter];
            self.ctr(&[&with[..], &[image, &name, "sleep", "10000"]].concat())?;
            names.push(name);
        }
        rustix::fs::sync();
        fs::write("/proc/sys/vm/drop_caches", "3")?;
        let before = cached()?;
        for name in &names {
            let script = "find /usr -type f -exec cat {} + | cksum";
            let with = ["task", "exec", "--exec-id", "reads", name, "sh", "-c"];
            let output = self.ctr(&[&with[..], &[script]].concat())?;
            ensure!(!output.stdout.is_empty(), "nothing was read");
            eprintln!(
                "{snapshotter:<16}{:8.1} MiB cached",
                (cached()?.saturating_sub(before)) as f64 / 1_048_576.0
            );
        }
        let grown = cached()?.saturating_sub(before);
        for name in &names {
            self.ctr(&["task", "kill", "--signal", "9", name])?;
            let began = Instant::now();
            while self.ctr(&["task", "rm", name]).is_err() {
                ensure!(began.elapsed() < PATIENCE, "{name} does not end");
                sleep(Duration::from_millis(50));
            }
            self.ctr(&["container", "rm", name])?;
        }
        Ok(grown as f64)
    }

    /// The socket of containerd.
    pub(crate) fn socket(&self) -> PathBuf {
        self.containerd.folder().join("c.sock")
    }
}

/// Bytes of the page cache, those of block devices included.
fn cached() -> Result<u64> {
    let text = fs::read_to_string("/proc/meminfo")?;
    Ok(kibibytes(&text, "Cached:")? + kibibytes(&text, "Buffers:")?)
}

fn kibibytes(text: &str, key: &str) -> Result<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(key));
    let number = line.and_then(|line| line.trim().strip_suffix(" kB"));
    Ok(number
        .with_context(|| format!("no {key}"))?
        .parse::<u64>()?
        * 1024)
}
