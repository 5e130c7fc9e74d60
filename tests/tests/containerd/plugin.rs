//! `erofs snapshotter` without containerd: a client that calls it as containerd does.

use std::collections::{BTreeSet, HashMap};
use std::fs;
use std::future::Future;
use std::io::Write as _;
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use erofs_snapshotter::api::diff::v1::ApplyRequest;
use erofs_snapshotter::api::diff::v1::diff_client::DiffClient;
use erofs_snapshotter::api::snapshots::v1::snapshots_client::SnapshotsClient;
use erofs_snapshotter::api::snapshots::v1::{
    CleanupRequest, CommitSnapshotRequest, Info, ListSnapshotsRequest, MountsRequest,
    PrepareSnapshotRequest, RemoveSnapshotRequest, UsageRequest, ViewSnapshotRequest,
};
use erofs_snapshotter::api::types::{Descriptor, Mount};
use erofs_snapshotter::client::connect;
use erofs_snapshotter::contradictions;
use erofs_tests::listing::sha256;
use erofs_tests::skip::{self, Reason};
use erofs_tests::ustar;
use erofs_tests::workshop::{erofs, succeed};
use serde_json::Value;
use tokio::runtime::Runtime;
use tonic::transport::Channel;
use tonic::{Code, Status};

/// The signal of which it dies when it is asked to.
const KILLED: i32 = 9;
/// How long the plugin may take to answer or to die.
const PATIENCE: Duration = Duration::from_secs(60);

/// What tests without containerd need.
///
/// # Errors
/// It is missing.
pub(crate) fn needs() -> Result<(), Reason> {
    skip::kernel_erofs()?;
    erofs().map(drop)
}

/// A layer as its image describes it.
#[derive(Clone, Debug)]
pub(crate) struct Layer {
    /// In the content store.
    pub(crate) blob: Descriptor,
    /// Digest of the tar.
    pub(crate) diff_id: String,
}

/// A tar of files with these names and contents.
pub(crate) fn tar(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut tar = Vec::new();
    for (name, content) in files {
        tar.extend(ustar::header(name, content.len() as u64));
        tar.extend(*content);
        tar.resize(tar.len().next_multiple_of(512), 0);
    }
    tar.resize(tar.len() + 1024, 0);
    tar
}

/// What a compressor makes of it.
pub(crate) fn packed(program: &str, bytes: &[u8]) -> Vec<u8> {
    let mut child = Command::new(program)
        .arg("-1c")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("starts");
    let mut stdin = child.stdin.take().expect("piped");
    std::thread::scope(|scope| {
        scope.spawn(move || stdin.write_all(bytes).expect("taken"));
        child.wait_with_output().expect("waited").stdout
    })
}

/// Bytes that do not compress, the same for the same seed.
pub(crate) fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[3]
    };
    (0..length).map(|_| next()).collect()
}

/// The plugin, a folder of its own for its files, and one for blobs.
pub(crate) struct Plugin {
    folder: tempfile::TempDir,
    process: Option<Child>,
    runtime: Runtime,
    /// Where it finds programs, if not where the test does.
    pub(crate) path: Option<PathBuf>,
}

impl Plugin {
    /// One that does not run yet, with its files in `root` or else in a folder of its own.
    pub(crate) fn new(root: Option<&Path>) -> Self {
        let folder = tempfile::Builder::new()
            .prefix("ct")
            .tempdir()
            .expect("made");
        fs::create_dir_all(folder.path().join("content/blobs/sha256")).expect("made");
        let root = root.map_or_else(|| folder.path().join("store"), Path::to_path_buf);
        let config = format!(
            "root = \"{}\"\nsocket = \"{}\"\n[containerd]\naddress = \"/nonexistent\"\ncontent = \"{}\"\n[log]\nlevel = \"error\"\n",
            root.display(),
            folder.path().join("e.sock").display(),
            folder.path().join("content").display(),
        );
        fs::write(folder.path().join("plugin.toml"), config).expect("written");
        Self {
            folder,
            process: None,
            path: None,
            runtime: tokio::runtime::Builder::new_multi_thread()
                .worker_threads(2)
                .enable_all()
                .build()
                .expect("starts"),
        }
    }

    /// Gives it this table of its configuration from its next start on, in place of one of that name and all behind it.
    pub(crate) fn configure(&self, table: &str) {
        let path = self.folder.path().join("plugin.toml");
        let (name, _) = table.split_once('\n').expect("a name and lines");
        let config = fs::read_to_string(&path).expect("read");
        let before = config.split(name).next().unwrap_or_default();
        fs::write(path, format!("{before}{table}\n")).expect("written");
    }

    /// What it answers to an operator.
    pub(crate) fn operator(&self, question: &str) -> Value {
        let mut command = erofs().expect("asked for");
        command.args(["snapshotter", question, "--json", "--config"]);
        command.arg(self.folder.path().join("plugin.toml"));
        serde_json::from_slice(&succeed(&mut command).stdout).expect("JSON")
    }

    /// Its files.
    pub(crate) fn root(&self) -> PathBuf {
        self.folder.path().join("store")
    }

    /// Stores a blob. `tar` is what it is without compression.
    pub(crate) fn layer(&self, blob: &[u8], suffix: &str, tar: &[u8]) -> Layer {
        let digest = sha256(blob);
        fs::write(self.blob(&digest), blob).expect("written");
        Layer {
            blob: Descriptor {
                media_type: format!("application/vnd.oci.image.layer.v1.tar{suffix}"),
                digest: format!("sha256:{digest}"),
                size: blob.len().try_into().expect("small"),
                ..Descriptor::default()
            },
            diff_id: format!("sha256:{}", sha256(tar)),
        }
    }

    /// The file of a blob, by the hexadecimal part of its digest.
    pub(crate) fn blob(&self, digest: &str) -> PathBuf {
        self.folder.path().join("content/blobs/sha256").join(digest)
    }

    /// Starts it, with `EROFS_FAULT` where one is given. Whether it serves, rather than being killed before.
    pub(crate) fn start(&mut self, fault: Option<&str>) -> bool {
        assert!(self.process.is_none(), "it runs");
        let log = fs::File::options()
            .create(true)
            .append(true)
            .open(self.folder.path().join("plugin.log"))
            .expect("made");
        let mut command = erofs().expect("asked for");
        command
            .args(["snapshotter", "--config"])
            .arg(self.folder.path().join("plugin.toml"))
            .envs(fault.map(|fault| ("EROFS_FAULT", fault)))
            .envs(self.path.iter().map(|path| ("PATH", path)))
            .stderr(log.try_clone().expect("cloned"));
        let told = log.metadata().expect("there").len();
        let mut process = command.spawn().expect("starts");
        let began = Instant::now();
        while UnixStream::connect(self.folder.path().join("e.sock")).is_err() {
            if let Some(status) = process.try_wait().expect("asked") {
                if status.signal() == Some(KILLED) {
                    return false;
                }
                // Another test may be starting a program, which has all files open for a moment: that of the database, too.
                assert!(self.log().contains("another process"), "{}", self.log());
                log.set_len(told).expect("cut");
                process = command.spawn().expect("starts");
            }
            assert!(began.elapsed() < PATIENCE, "{}", self.log());
            sleep(Duration::from_millis(2));
        }
        self.process = Some(process);
        true
    }

    /// Kills it as a loss of power would, if it runs.
    pub(crate) fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill().expect("killed");
            process.wait().expect("ended");
        }
    }

    /// Whether it was killed; waits a moment for that.
    pub(crate) fn has_died(&mut self) -> bool {
        let process = self.process.as_mut().expect("runs");
        for _ in 0..2500 {
            if let Some(status) = process.try_wait().expect("asked") {
                self.process = None;
                return status.signal() == Some(KILLED);
            }
            sleep(Duration::from_millis(2));
        }
        false
    }

    /// Its process number.
    pub(crate) fn process(&self) -> u32 {
        self.process.as_ref().expect("runs").id()
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("plugin.log")).unwrap_or_default()
    }

    /// Lets calls go on while the test does something else.
    pub(crate) fn begin<T: Send + 'static>(
        &self,
        calls: impl Future<Output = T> + Send + 'static,
    ) -> tokio::task::JoinHandle<T> {
        self.runtime.spawn(calls)
    }

    /// Waits for an answer.
    pub(crate) fn wait<T>(&self, answer: impl Future<Output = T>) -> T {
        self.runtime
            .block_on(async { tokio::time::timeout(PATIENCE, answer).await })
            .expect("an answer in time")
    }

    /// A connection to it.
    pub(crate) fn client(&self) -> Client {
        let socket = self.folder.path().join("e.sock");
        let channel = self.wait(connect(&socket)).expect("it serves");
        Client { channel }
    }

    /// Asserts that database, files and mounts agree. The plugin is killed for that.
    #[track_caller]
    pub(crate) fn assert_consistent(&mut self, root: &Path, when: &str) {
        self.kill();
        let found = contradictions(root).expect("readable");
        assert!(found.is_empty(), "{when}: {found:#?}\n{}", self.log());
    }

    /// Removes all snapshots, as containerd's garbage collection does, and what belonged to them.
    ///
    /// # Errors
    /// What the plugin says.
    pub(crate) async fn remove_all(client: &Client) -> Result<(), Status> {
        loop {
            let listed = client.list().await?;
            if listed.is_empty() {
                return client.cleanup().await;
            }
            let parents: BTreeSet<&str> = listed.iter().map(|one| one.parent.as_str()).collect();
            for one in &listed {
                if !parents.contains(one.name.as_str()) {
                    client.remove(&one.name).await?;
                }
            }
        }
    }

    /// Asserts that nothing is left but the database and empty folders. The plugin is killed for that.
    #[track_caller]
    pub(crate) fn assert_empty(&mut self, root: &Path, when: &str) {
        self.assert_consistent(root, when);
        for folder in [
            "ingest",
            "snapshots",
            "writable",
            "merged",
            "m",
            "layers/local",
        ] {
            let entries = fs::read_dir(root.join(folder)).expect("read");
            assert_eq!(entries.count(), 0, "{when}: {folder} is not empty");
        }
        let layers = fs::read_dir(root.join("layers/sha256")).expect("read");
        for folder in layers {
            let folder = folder.expect("read").path();
            let left = fs::read_dir(&folder).expect("read").count();
            assert_eq!(left, 0, "{when}: {} is not empty", folder.display());
        }
    }
}

impl Drop for Plugin {
    fn drop(&mut self) {
        self.kill();
        unmount_below(self.folder.path());
    }
}

/// Unmounts what is mounted in a folder.
pub(crate) fn unmount_below(folder: &Path) {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let points = mounts.lines().filter_map(|line| line.split(' ').nth(1));
    let points: Vec<_> = points
        .filter(|point| Path::new(point).starts_with(folder))
        .collect();
    for point in points.iter().rev() {
        let _ = Command::new("umount").args(["-l", point]).status();
    }
}

/// Calls of containerd, each on the same connection.
#[derive(Clone)]
pub(crate) struct Client {
    channel: Channel,
}

/// Labels with which newer versions of containerd prepare the snapshot of a layer that is unpacked beside others.
pub(crate) fn unpack_labels(chain: &str, layer: &Layer, parent: &str) -> HashMap<String, String> {
    [
        ("containerd.io/snapshot.ref", chain),
        ("containerd.io/snapshot/diff-id", &layer.diff_id),
        ("containerd.io/snapshot/parent-chain-id", parent),
    ]
    .map(|(key, value)| (key.to_owned(), value.to_owned()))
    .into()
}

impl Client {
    fn snapshots(&self) -> SnapshotsClient<Channel> {
        SnapshotsClient::new(self.channel.clone())
    }

    pub(crate) async fn prepare(
        &self,
        key: &str,
        parent: &str,
        labels: HashMap<String, String>,
    ) -> Result<Vec<Mount>, Status> {
        let request = PrepareSnapshotRequest {
            key: key.to_owned(),
            parent: parent.to_owned(),
            labels,
            ..PrepareSnapshotRequest::default()
        };
        Ok(self.snapshots().prepare(request).await?.into_inner().mounts)
    }

    pub(crate) async fn view(&self, key: &str, parent: &str) -> Result<Vec<Mount>, Status> {
        let request = ViewSnapshotRequest {
            key: key.to_owned(),
            parent: parent.to_owned(),
            ..ViewSnapshotRequest::default()
        };
        Ok(self.snapshots().view(request).await?.into_inner().mounts)
    }

    pub(crate) async fn mounts(&self, key: &str) -> Result<Vec<Mount>, Status> {
        let request = MountsRequest {
            key: key.to_owned(),
            ..MountsRequest::default()
        };
        Ok(self.snapshots().mounts(request).await?.into_inner().mounts)
    }

    /// Makes a layer that of the snapshot with these mounts.
    pub(crate) async fn apply(
        &self,
        layer: &Layer,
        mounts: &[Mount],
    ) -> Result<Descriptor, Status> {
        let request = ApplyRequest {
            diff: Some(layer.blob.clone()),
            mounts: mounts.to_vec(),
            ..ApplyRequest::default()
        };
        let mut client = DiffClient::new(self.channel.clone());
        let applied = client.apply(request).await?.into_inner().applied;
        Ok(applied.expect("described"))
    }

    /// Commits, over `parent` if that is not empty and the snapshot was prepared without one.
    pub(crate) async fn commit(&self, key: &str, name: &str, parent: &str) -> Result<(), Status> {
        self.commit_labelled(key, name, parent, HashMap::new())
            .await
    }

    /// The same with labels, as containerd commits what it unpacked.
    pub(crate) async fn commit_labelled(
        &self,
        key: &str,
        name: &str,
        parent: &str,
        labels: HashMap<String, String>,
    ) -> Result<(), Status> {
        let request = CommitSnapshotRequest {
            key: key.to_owned(),
            name: name.to_owned(),
            parent: parent.to_owned(),
            labels,
            ..CommitSnapshotRequest::default()
        };
        self.snapshots().commit(request).await.map(drop)
    }

    pub(crate) async fn remove(&self, key: &str) -> Result<(), Status> {
        let request = RemoveSnapshotRequest {
            key: key.to_owned(),
            ..RemoveSnapshotRequest::default()
        };
        self.snapshots().remove(request).await.map(drop)
    }

    /// Waits until what was removed is thrown away.
    pub(crate) async fn cleanup(&self) -> Result<(), Status> {
        self.snapshots()
            .cleanup(CleanupRequest::default())
            .await
            .map(drop)
    }

    /// Bytes and inodes.
    pub(crate) async fn usage(&self, key: &str) -> Result<(u64, u64), Status> {
        let request = UsageRequest {
            key: key.to_owned(),
            ..UsageRequest::default()
        };
        let usage = self.snapshots().usage(request).await?.into_inner();
        let number = |number: i64| number.try_into().expect("not negative");
        Ok((number(usage.size), number(usage.inodes)))
    }

    pub(crate) async fn list(&self) -> Result<Vec<Info>, Status> {
        self.matching(Vec::new()).await
    }

    /// Those snapshots of which one of these filters holds.
    pub(crate) async fn matching(&self, filters: Vec<String>) -> Result<Vec<Info>, Status> {
        let mut infos = Vec::new();
        let mut client = self.snapshots();
        let stream = client.list(ListSnapshotsRequest {
            filters,
            ..ListSnapshotsRequest::default()
        });
        let mut stream = stream.await?.into_inner();
        while let Some(message) = stream.message().await? {
            infos.extend(message.info);
        }
        Ok(infos)
    }

    /// Unpacks one layer over another, in three calls.
    pub(crate) async fn unpack(
        &self,
        layer: &Layer,
        name: &str,
        parent: &str,
    ) -> Result<(), Status> {
        let key = format!("unpack {name}");
        let mounts = self.prepare(&key, parent, HashMap::new()).await?;
        let applied = self.apply(layer, &mounts).await?;
        assert_eq!(applied.digest, layer.diff_id);
        self.commit(&key, name, "").await
    }
}

/// Mounts a snapshot as containerd does.
pub(crate) fn mount(mounts: &[Mount], folder: &Path) {
    fs::create_dir_all(folder).expect("made");
    let [mount] = mounts else {
        panic!("one mount: {mounts:?}");
    };
    let options = mount.options.join(",");
    let mut command = Command::new("mount");
    command.args(["-t", &mount.r#type, "-o", &options, &mount.source]);
    succeed(command.arg(folder));
}

/// Mounts a snapshot as containerd does, and reads files in it.
pub(crate) fn read(mounts: &[Mount], folder: &Path, names: &[&str]) -> Vec<Option<Vec<u8>>> {
    mount(mounts, folder);
    let content = names.iter().map(|name| fs::read(folder.join(name)).ok());
    let content = content.collect();
    // Another test may be starting a program, which has all files open for a moment.
    succeed(Command::new("umount").arg("--lazy").arg(folder));
    content
}

/// Asserts the code of a refusal, and returns what it says.
#[track_caller]
pub(crate) fn refused<T: std::fmt::Debug>(answer: Result<T, Status>, code: Code) -> String {
    let status = answer.expect_err("refused");
    assert_eq!(status.code(), code, "{status:?}");
    status.message().to_owned()
}
