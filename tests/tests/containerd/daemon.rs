//! A real containerd of its own, with `erofs snapshotter` as its plugin, in a folder.

use std::ffi::OsString;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::thread::sleep;
use std::time::{Duration, Instant};

use erofs_tests::peers;
use erofs_tests::skip::Reason;
use erofs_tests::workshop::{erofs, succeed};

/// What the plugin is called.
pub(crate) const NAME: &str = "erofs-toolkit";
/// How long a daemon may take to answer.
const PATIENCE: Duration = Duration::from_secs(60);

/// Both daemons. They are killed when this is dropped, and what they mounted is unmounted.
pub(crate) struct Containerd {
    folder: tempfile::TempDir,
    path: OsString,
    plugin: Child,
    daemon: Child,
}

/// Whether this version of containerd was fetched.
///
/// # Errors
/// It was not.
pub(crate) fn fetched(version: &str) -> Result<Vec<PathBuf>, Reason> {
    let cache = peers::cache()?;
    let folders = [format!("containerd-{version}/bin"), "runc/bin".to_owned()];
    let folders = folders.map(|folder| cache.join(folder));
    match folders.iter().find(|folder| !folder.is_dir()) {
        None => Ok(folders.into()),
        Some(folder) => Err(Reason(format!(
            "{} is missing: run tests/containerd/fetch.sh",
            folder.display()
        ))),
    }
}

impl Containerd {
    /// Starts them. `folders` are those that [`fetched`] returned; `content` is where the plugin looks for blobs if not in
    /// containerd's own store.
    pub(crate) fn start(version: &str, folders: &[PathBuf], content: Option<&Path>) -> Self {
        // Paths of sockets are short.
        let folder = tempfile::Builder::new()
            .prefix("ct")
            .tempdir()
            .expect("made");
        let at = |name: &str| folder.path().join(name).display().to_string();
        // What ours does not take goes to containerd's own.
        let (config_version, differs) = match version {
            "1.7" => (2, r#""walking""#),
            _ => (3, r#""erofs", "walking""#),
        };
        let config = format!(
            r#"version = {config_version}
root = "{root}"
state = "{state}"
[grpc]
  address = "{socket}"
[ttrpc]
  address = "{socket}.ttrpc"
[proxy_plugins.{NAME}]
  type = "snapshot"
  address = "{plugin}"
  capabilities = ["rebase"]
[proxy_plugins.{NAME}-diff]
  type = "diff"
  address = "{plugin}"
[plugins."io.containerd.service.v1.diff-service"]
  default = ["{NAME}-diff", {differs}]
[plugins."io.containerd.nri.v1.nri"]
  disable = true
"#,
            root = at("root"),
            state = at("state"),
            socket = at("c.sock"),
            plugin = at("e.sock"),
        );
        fs::write(at("config.toml"), config).expect("written");
        let content = content.map_or_else(
            || at("root/io.containerd.content.v1.content"),
            |content| content.display().to_string(),
        );
        let config = format!(
            "root = \"{}\"\nsocket = \"{}\"\n[containerd]\naddress = \"{}\"\ncontent = \"{content}\"\n",
            at("layers"),
            at("e.sock"),
            at("c.sock"),
        );
        fs::write(at("plugin.toml"), config).expect("written");
        let mut path = OsString::new();
        for folder in folders {
            path.push(folder);
            path.push(":");
        }
        path.push(std::env::var_os("PATH").expect("set"));
        let plugin = plugin(folder.path());
        let log = File::create(folder.path().join("containerd.log")).expect("made");
        let daemon = Command::new("containerd")
            .env("PATH", &path)
            .arg("--config")
            .arg(folder.path().join("config.toml"))
            .stdout(log.try_clone().expect("cloned"))
            .stderr(log)
            .spawn()
            .expect("starts");
        let started = Self {
            folder,
            path,
            plugin,
            daemon,
        };
        started.wait(|started| {
            started
                .ctr(&["version"])
                .output()
                .expect("starts")
                .status
                .success()
        });
        started
    }

    /// Waits for something.
    pub(crate) fn wait(&self, holds: impl Fn(&Self) -> bool) {
        let began = Instant::now();
        while !holds(self) {
            let log = self.folder.path().join("containerd.log");
            assert!(
                began.elapsed() < PATIENCE,
                "{}\n{}",
                fs::read_to_string(log).unwrap_or_default(),
                self.plugin_log()
            );
            sleep(Duration::from_millis(50));
        }
    }

    pub(crate) fn plugin_log(&self) -> String {
        fs::read_to_string(self.folder.path().join("plugin.log")).unwrap_or_default()
    }

    /// A call of containerd's client.
    pub(crate) fn ctr(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("ctr");
        command
            .env("PATH", &self.path)
            .arg("--address")
            .arg(self.folder.path().join("c.sock"))
            .args(arguments);
        command
    }

    /// A container's name, which runc wants to be another one for each daemon of this machine.
    pub(crate) fn container(&self, name: &str) -> String {
        let folder = self.folder.path().file_name().expect("named");
        format!("{name}-{}", folder.display())
    }

    /// What such a call prints.
    #[track_caller]
    pub(crate) fn says(&self, arguments: &[&str]) -> String {
        String::from_utf8(succeed(&mut self.ctr(arguments)).stdout).expect("text")
    }

    /// Kills the plugin as a loss of power would, and starts another one.
    pub(crate) fn kill_plugin(&mut self) {
        self.plugin.kill().expect("killed");
        self.plugin.wait().expect("ended");
        self.plugin = plugin(self.folder.path());
        self.wait(|started| started.snapshots().is_ok());
    }

    /// Names of all snapshots.
    ///
    /// # Errors
    /// What the client says.
    pub(crate) fn snapshots(&self) -> Result<Vec<String>, String> {
        let output = self
            .ctr(&["snapshots", "--snapshotter", NAME, "list"])
            .output();
        let output = output.expect("starts");
        if !output.status.success() {
            return Err(String::from_utf8_lossy(&output.stderr).into_owned());
        }
        let text = String::from_utf8(output.stdout).expect("text");
        let names = text
            .lines()
            .skip(1)
            .filter_map(|line| line.split_whitespace().next());
        Ok(names.map(str::to_owned).collect())
    }

    /// Files of the plugin: images of layers, and whatever is in folders of snapshots or on its way.
    pub(crate) fn files(&self) -> Vec<PathBuf> {
        let mut files = Vec::new();
        let folders = ["layers", "snapshots", "ingest", "m"];
        let mut left: Vec<_> = folders
            .map(|folder| self.folder.path().join("layers").join(folder))
            .into();
        while let Some(folder) = left.pop() {
            for entry in fs::read_dir(&folder).expect("read") {
                let path = entry.expect("read").path();
                match path.is_dir() && folder.starts_with(self.folder.path().join("layers/layers"))
                {
                    true => left.push(path),
                    false => files.push(path),
                }
            }
        }
        files
    }

    /// Mount points of layers.
    pub(crate) fn mounted(&self) -> usize {
        let prefix = format!("{}/", self.folder.path().join("layers").display());
        let mounts = fs::read_to_string("/proc/self/mounts").expect("read");
        mounts
            .lines()
            .filter(|line| {
                line.split(' ')
                    .nth(1)
                    .is_some_and(|point| point.starts_with(&prefix))
            })
            .count()
    }
}

/// Starts the plugin.
fn plugin(folder: &Path) -> Child {
    let log = File::options()
        .create(true)
        .append(true)
        .open(folder.join("plugin.log"))
        .expect("made");
    erofs()
        .expect("asked for")
        .args(["snapshotter", "--config"])
        .arg(folder.join("plugin.toml"))
        .stderr(log)
        .spawn()
        .expect("starts")
}

impl Drop for Containerd {
    fn drop(&mut self) {
        for child in [&mut self.daemon, &mut self.plugin] {
            let _ = child.kill();
            let _ = child.wait();
        }
        let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
        let mut points: Vec<&str> = mounts
            .lines()
            .filter_map(|line| line.split(' ').nth(1))
            .filter(|point| Path::new(point).starts_with(self.folder.path()))
            .collect();
        points.reverse();
        for point in points {
            let _ = Command::new("umount").args(["-l", point]).status();
        }
    }
}
