//! A real containerd of its own, with `erofs snapshotter` as its plugin, in a folder.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output};
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::peers;
use crate::skip::Reason;
use crate::workshop::succeed;
use serde_json::Value;

/// What the plugin is called.
pub const NAME: &str = "erofs-toolkit";
/// The version of the containerd that `CONTAINERD_DIR` names, which is newer than any in Debian.
pub const NEWER: &str = "newer";
/// How long a daemon may take to answer.
const PATIENCE: Duration = Duration::from_secs(60);

/// What is started, and how.
#[derive(Clone, Debug)]
pub struct Setup {
    /// Version of containerd, as [`fetched`] takes it.
    pub version: &'static str,
    /// Folders of programs, as [`fetched`] returns them: the first in PATH.
    pub programs: Vec<PathBuf>,
    /// Our binary.
    pub erofs: PathBuf,
    /// Where the plugin looks for blobs if not in containerd's own store.
    pub content: Option<PathBuf>,
    /// Further lines of the plugin's configuration.
    pub plugin: String,
    /// Further lines of containerd's configuration, behind what we print, whose last table is that of CRI.
    pub containerd: String,
}

impl Setup {
    /// A program that came with containerd.
    ///
    /// # Panics
    /// It did not.
    pub fn program(&self, name: &str) -> PathBuf {
        let mut paths = self.programs.iter().map(|folder| folder.join(name));
        paths.find(|path| path.is_file()).expect(name)
    }
}

/// Both daemons. They are killed when this is dropped, and what they mounted is unmounted.
#[derive(Debug)]
pub struct Containerd {
    folder: tempfile::TempDir,
    version: &'static str,
    path: OsString,
    erofs: PathBuf,
    plugin: Child,
    daemon: Child,
}

/// The folder whose `bin` has `containerd`, `ctr` and `containerd-shim-runc-v2`.
///
/// # Errors
/// `CONTAINERD_DIR` is not set.
fn named() -> Result<PathBuf, Reason> {
    let named = std::env::var_os("CONTAINERD_DIR").map(PathBuf::from);
    named.ok_or_else(|| Reason("CONTAINERD_DIR names no newer containerd".to_owned()))
}

/// What is before and behind the first point of the version of the containerd that `CONTAINERD_DIR` names.
///
/// # Errors
/// It names none.
///
/// # Panics
/// It does not tell its version.
pub fn newer() -> Result<(u32, u32), Reason> {
    let mut command = Command::new(named()?.join("bin/containerd"));
    let said = String::from_utf8(succeed(command.arg("--version")).stdout).expect("text");
    // `containerd github.com/containerd/containerd/v2 2.3.4 REVISION`, or v2.3.4
    let version = said.split_whitespace().nth(2).expect("a version");
    let mut numbers = version.trim_start_matches('v').split('.').map(str::parse);
    match (numbers.next(), numbers.next()) {
        (Some(Ok(major)), Some(Ok(minor))) => Ok((major, minor)),
        _ => panic!("no version: {said}"),
    }
}

/// Whether containerd has its transfer service unpack images, unless its client is told `--local`.
pub fn has_transfer_service(version: &str) -> bool {
    !matches!(version, "1.6" | "1.7")
}

/// Folders of the programs of this version of containerd, and of what is run with it.
///
/// # Errors
/// It was not fetched.
pub fn fetched(version: &str) -> Result<Vec<PathBuf>, Reason> {
    let cache = peers::cache()?;
    let of_containerd = match version {
        NEWER => named()?.join("bin"),
        _ => cache.join(format!("containerd-{version}/bin")),
    };
    // The shell and the registry are the same for all.
    let others = ["runc/bin", "containerd-2.1/bin"].map(|folder| cache.join(folder));
    let folders: Vec<_> = [of_containerd].into_iter().chain(others).collect();
    match folders.iter().find(|folder| !folder.is_dir()) {
        None => Ok(folders),
        Some(folder) => Err(Reason(format!(
            "{} is missing: run tests/containerd/fetch.sh",
            folder.display()
        ))),
    }
}

impl Containerd {
    /// Starts them.
    ///
    /// # Panics
    /// One does not start.
    pub fn start(setup: &Setup) -> Self {
        Self::start_below(&std::env::temp_dir(), setup)
    }

    /// The same, with all of their files in a folder below this one.
    ///
    /// # Panics
    /// One does not start.
    pub fn start_below(parent: &Path, setup: &Setup) -> Self {
        // Paths of sockets are short.
        let folder = tempfile::Builder::new()
            .prefix("ct")
            // As the mount table has it.
            .tempdir_in(parent.canonicalize().expect("there"))
            .expect("made");
        let at = |name: &str| folder.path().join(name).display().to_string();
        let mut path = OsString::new();
        for folder in &setup.programs {
            path.push(folder);
            path.push(":");
        }
        path.push(std::env::var_os("PATH").expect("set"));
        let mut printed = Command::new(&setup.erofs);
        printed.args(["snapshotter", "--print-containerd-config"]);
        printed.args(["--root", &at("layers"), "--socket", &at("e.sock")]);
        printed.env("PATH", &path);
        let mut printed = String::from_utf8(succeed(&mut printed).stdout).expect("text");
        printed += &setup.containerd;
        let has_mkfs = |folder: &PathBuf| folder.join("mkfs.erofs").is_file();
        if setup.programs.iter().any(has_mkfs) {
            // containerd's own snapshotter and differ are run as well.
            printed = printed.replace(r#", "walking"]"#, r#", "erofs", "walking"]"#);
            printed += r#"
[[plugins."io.containerd.transfer.v1.local".unpack_config]]
  platform = "linux"
  snapshotter = "erofs"
  differ = "erofs"
"#;
        }
        let config_version = match has_transfer_service(setup.version) {
            true => 3,
            false => 2,
        };
        fs::write(at("drop-in.toml"), printed).expect("written");
        let config = format!(
            r#"version = {config_version}
imports = ["{drop_in}"]
root = "{root}"
state = "{state}"
[grpc]
  address = "{socket}"
[ttrpc]
  address = "{socket}.ttrpc"
[plugins."io.containerd.nri.v1.nri"]
  disable = true
"#,
            drop_in = at("drop-in.toml"),
            root = at("root"),
            state = at("state"),
            socket = at("c.sock"),
        );
        fs::write(at("config.toml"), config).expect("written");
        let content = setup.content.as_ref().map_or_else(
            || at("root/io.containerd.content.v1.content"),
            |content| content.display().to_string(),
        );
        let config = format!(
            "root = \"{}\"\nsocket = \"{}\"\n[containerd]\naddress = \"{}\"\ncontent = \"{content}\"\n\
             [metrics]\naddress = \"{}\"\n{}",
            at("layers"),
            at("e.sock"),
            at("c.sock"),
            at("m.sock"),
            setup.plugin,
        );
        fs::write(at("plugin.toml"), config).expect("written");
        let plugin = plugin(&setup.erofs, folder.path(), None);
        let daemon = daemon(folder.path(), &path);
        let started = Self {
            folder,
            version: setup.version,
            path,
            erofs: setup.erofs.clone(),
            plugin,
            daemon,
        };
        started.wait_for_daemon();
        started
    }

    fn wait_for_daemon(&self) {
        self.wait(|started| {
            let answer = started.ctr(&["version"]).output();
            answer.expect("starts").status.success()
        });
    }

    /// Where both keep their files.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Where the plugin keeps its files.
    pub fn root(&self) -> PathBuf {
        self.folder.path().join("layers")
    }

    /// The process of the plugin.
    pub fn plugin(&self) -> u32 {
        self.plugin.id()
    }

    /// The process of containerd.
    pub fn daemon(&self) -> u32 {
        self.daemon.id()
    }

    /// Has containerd throw away what nothing needs: also snapshots that it could not throw away before, of which it thinks only when
    /// another one of that snapshotter goes.
    ///
    /// # Panics
    /// It refuses.
    #[track_caller]
    pub fn collect(&self, snapshotter: &str) {
        let snapshots = ["snapshots", "--snapshotter", snapshotter];
        let prepare = [&snapshots[..], &["prepare", "collected"]].concat();
        // After a failure it waits before it calls the plugin again.
        self.wait(|started| {
            let prepared = started.ctr(&prepare).output();
            prepared.expect("starts").status.success()
        });
        self.says(&[&snapshots[..], &["rm", "collected"]].concat());
        let lease = self.says(&["leases", "create"]);
        self.says(&["leases", "rm", "--sync", lease.trim()]);
    }

    /// Kills containerd as a loss of power would, and starts another one. Containers go on.
    ///
    /// # Panics
    /// It does not start.
    pub fn kill_daemon(&mut self) {
        self.daemon.kill().expect("killed");
        self.daemon.wait().expect("ended");
        self.daemon = daemon(self.folder.path(), &self.path);
        self.wait_for_daemon();
    }

    /// Waits for something.
    ///
    /// # Panics
    /// It does not come.
    pub fn wait(&self, holds: impl Fn(&Self) -> bool) {
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

    /// What the plugin wrote to its standard error.
    pub fn plugin_log(&self) -> String {
        fs::read_to_string(self.folder.path().join("plugin.log")).unwrap_or_default()
    }

    /// What an operator asks of the plugin.
    ///
    /// # Panics
    /// The command does not start.
    pub fn operator(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(&self.erofs);
        command.arg("snapshotter").args(arguments);
        let config = self.folder.path().join("plugin.toml");
        command
            .arg("--config")
            .arg(config)
            .output()
            .expect("starts")
    }

    /// What it answers, and its exit code.
    ///
    /// # Panics
    /// It is not JSON.
    #[track_caller]
    pub fn report(&self, question: &str) -> (Option<i32>, Value) {
        let output = self.operator(&[question, "--json"]);
        let text = String::from_utf8_lossy(&output.stdout);
        let report = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
        (output.status.code(), report)
    }

    /// What the plugin answers to HTTP.
    ///
    /// # Panics
    /// Nothing.
    pub fn get(&self, path: &str) -> String {
        let mut socket = UnixStream::connect(self.folder.path().join("m.sock")).expect("answers");
        let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        socket.write_all(request.as_bytes()).expect("sent");
        let mut answer = String::new();
        socket.read_to_string(&mut answer).expect("received");
        answer
    }

    /// A call of containerd's client.
    pub fn ctr(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("ctr");
        command
            .env("PATH", &self.path)
            .arg("--address")
            .arg(self.folder.path().join("c.sock"))
            .args(arguments);
        command
    }

    /// A container's name, which runc wants to be another one for each daemon of this machine.
    ///
    /// # Panics
    /// Never.
    pub fn container(&self, name: &str) -> String {
        let folder = self.folder.path().file_name().expect("named");
        format!("{name}-{}", folder.display())
    }

    /// What such a call prints.
    ///
    /// # Panics
    /// It fails.
    #[track_caller]
    pub fn says(&self, arguments: &[&str]) -> String {
        String::from_utf8(succeed(&mut self.ctr(arguments)).stdout).expect("text")
    }

    /// Puts an image of an archive into a registry under another name, and forgets it.
    ///
    /// # Panics
    /// containerd or the registry refuses.
    #[track_caller]
    pub fn push(&self, archive: &Path, image: &str, name: &str) {
        let mut import = vec!["image", "import", "--no-unpack"];
        if has_transfer_service(self.version) {
            import.push("--local");
        }
        import.push(archive.to_str().expect("text"));
        self.says(&import);
        self.says(&["image", "tag", image, name]);
        self.says(&["image", "push", "--plain-http", name]);
        self.says(&["image", "rm", "--sync", image, name]);
    }

    /// The first process of a running container, in a namespace of containerd.
    ///
    /// # Panics
    /// It does not run.
    #[track_caller]
    pub fn process(&self, namespace: &str, container: &str) -> u32 {
        let tasks = self.says(&["--namespace", namespace, "task", "list"]);
        tasks
            .lines()
            .find(|line| line.starts_with(container))
            .and_then(|line| line.split_whitespace().nth(1)?.parse().ok())
            .expect("a process")
    }

    /// Kills the plugin as a loss of power would.
    ///
    /// # Panics
    /// It does not start.
    pub fn kill_plugin(&mut self) {
        self.restart_plugin(None);
    }

    /// Kills the plugin and starts another one, with `EROFS_FAULT` where one is given.
    ///
    /// # Panics
    /// It does not start.
    pub fn restart_plugin(&mut self, fault: Option<&str>) {
        self.stop_plugin();
        self.plugin = plugin(&self.erofs, self.folder.path(), fault);
        self.wait(|started| started.snapshots().is_ok());
    }

    /// Kills the plugin, if it did not die before.
    ///
    /// # Panics
    /// It cannot be killed.
    pub fn stop_plugin(&mut self) {
        self.plugin.kill().expect("killed");
        self.plugin.wait().expect("ended");
    }

    /// Whether the plugin is dead; waits a moment for that.
    ///
    /// # Panics
    /// Nobody knows.
    pub fn plugin_died(&mut self) -> bool {
        (0..100).any(|_| {
            sleep(Duration::from_millis(5));
            self.plugin.try_wait().expect("asked").is_some()
        })
    }

    /// Where the root filesystem of a running container is mounted.
    pub fn rootfs(&self, container: &str) -> PathBuf {
        let tasks = "state/io.containerd.runtime.v2.task/default";
        self.folder
            .path()
            .join(tasks)
            .join(container)
            .join("rootfs")
    }

    /// Names of all snapshots.
    ///
    /// # Errors
    /// What the client says.
    ///
    /// # Panics
    /// It does not start.
    pub fn snapshots(&self) -> Result<Vec<String>, String> {
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
    ///
    /// # Panics
    /// They cannot be listed.
    pub fn files(&self) -> Vec<PathBuf> {
        let mut files = Vec::new();
        let folders = ["layers", "snapshots", "writable", "merged", "ingest"];
        let mut left: Vec<_> = folders
            .into_iter()
            .chain(["i", "m"])
            .map(|folder| self.folder.path().join("layers").join(folder))
            .collect();
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

    /// How many layers are mounted.
    ///
    /// # Panics
    /// Linux does not tell.
    pub fn mounted(&self) -> usize {
        let root = self.root();
        let points = mount_points();
        points
            .iter()
            .filter(|point| point.starts_with(&root))
            .count()
    }
}

/// Where something is mounted on this machine, oldest first.
fn mount_points() -> Vec<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mounts").expect("read");
    let points = mounts.lines().filter_map(|line| line.split(' ').nth(1));
    // As proc_pid_mounts(5) writes a space.
    points
        .map(|point| point.replace("\\040", " ").into())
        .collect()
}

/// Starts containerd.
fn daemon(folder: &Path, path: &OsStr) -> Child {
    let log = File::options()
        .create(true)
        .append(true)
        .open(folder.join("containerd.log"))
        .expect("made");
    Command::new("containerd")
        .env("PATH", path)
        .arg("--config")
        .arg(folder.join("config.toml"))
        .stdout(log.try_clone().expect("cloned"))
        .stderr(log)
        .spawn()
        .expect("starts")
}

/// Starts the plugin.
fn plugin(erofs: &Path, folder: &Path, fault: Option<&str>) -> Child {
    let log = File::options()
        .create(true)
        .append(true)
        .open(folder.join("plugin.log"))
        .expect("made");
    Command::new(erofs)
        .args(["snapshotter", "--config"])
        .arg(folder.join("plugin.toml"))
        .envs(fault.map(|fault| ("EROFS_FAULT", fault)))
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
        for point in mount_points().iter().rev() {
            if point.starts_with(self.folder.path()) {
                let _ = Command::new("umount").arg("-l").arg(point).status();
            }
        }
        // A test that fails leaves layers that cannot be removed, if they were made so.
        let _ = Command::new("chattr")
            .args(["-R", "-f", "-i"])
            .arg(self.folder.path().join("layers"))
            .status();
    }
}
