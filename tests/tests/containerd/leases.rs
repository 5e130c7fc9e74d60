//! What holds a layer that was committed until somebody has made an image of it.

use std::collections::HashMap;
use std::fs;
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use erofs_snapshotter::api::diff::v1::DiffRequest;
use erofs_snapshotter::api::diff::v1::diff_client::DiffClient;
use erofs_snapshotter::api::snapshots::v1::MountsRequest;
use erofs_snapshotter::api::snapshots::v1::snapshots_client::SnapshotsClient;
use erofs_snapshotter::api::types::Mount;
use erofs_snapshotter::client::connect;
use erofs_tests::containerd::{Containerd, NAME, Setup};
use erofs_tests::require;
use erofs_tests::workshop::succeed;
use tokio::runtime::Runtime;
use tonic::transport::Channel;
use tonic::{Code, Request, Status};

use crate::needs;
use crate::plugin::noise;

/// Sockets of both, in their folder.
const CONTAINERD: &str = "c.sock";
const PLUGIN: &str = "e.sock";
/// A lease of the caller.
const CALLER: &str = "caller";
/// What names of leases that the plugin makes begin with.
const OURS: &str = "erofs-snapshotter-";

/// A snapshot to which something was written.
struct Scene {
    containerd: Containerd,
    tokio: Runtime,
    mounts: Vec<Mount>,
}

impl Scene {
    fn new(setup: &Setup) -> Self {
        let containerd = Containerd::start(setup);
        containerd.says(&["snapshots", "--snapshotter", NAME, "prepare", "written"]);
        let tokio = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("starts");
        let mut scene = Self {
            containerd,
            tokio,
            mounts: Vec::new(),
        };
        let request = MountsRequest {
            snapshotter: NAME.to_owned(),
            key: "written".to_owned(),
        };
        let mut client = SnapshotsClient::new(scene.channel(CONTAINERD));
        let mounts = client.mounts(called(request, None));
        let mounts = scene.tokio.block_on(mounts);
        scene.mounts = mounts.expect("told").into_inner().mounts;
        let [upper] = &scene.mounts[..] else {
            panic!("one mount: {:?}", scene.mounts);
        };
        let file = format!("{}/file", upper.source);
        fs::write(file, noise(1, 3_000_000)).expect("written");
        scene
    }

    fn channel(&self, socket: &str) -> Channel {
        let socket = self.containerd.folder().join(socket);
        self.tokio.block_on(connect(&socket)).expect("it serves")
    }

    /// Asks one of both for the layer of the snapshot. Returns the digest of its blob.
    fn diff(
        &self,
        socket: &str,
        lease: Option<&'static str>,
        labels: HashMap<String, String>,
    ) -> Result<String, Status> {
        let request = DiffRequest {
            right: self.mounts.clone(),
            media_type: "application/vnd.oci.image.layer.v1.tar".to_owned(),
            labels,
            ..DiffRequest::default()
        };
        let mut client = DiffClient::new(self.channel(socket));
        let answer = self.tokio.block_on(client.diff(called(request, lease)))?;
        Ok(answer.into_inner().diff.expect("described").digest)
    }

    /// The same where nothing is wrong.
    #[track_caller]
    fn layer(&self, socket: &str, lease: Option<&'static str>) -> String {
        self.diff(socket, lease, HashMap::new()).expect("made")
    }

    /// Leases of the plugin, and what labels they have.
    fn ours(&self) -> Vec<(String, String)> {
        let listed = self.containerd.says(&["leases", "list"]);
        let lines = listed.lines().filter(|line| line.starts_with(OURS));
        let words = lines.map(|line| line.split_whitespace());
        words
            .map(|mut words| {
                let (name, labels) = (words.next(), words.next_back());
                (
                    name.expect("one").to_owned(),
                    labels.expect("one").to_owned(),
                )
            })
            .collect()
    }

    /// The only one.
    #[track_caller]
    fn our_only(&self) -> String {
        let ours = self.ours();
        assert_eq!(ours.len(), 1, "{ours:?}");
        ours[0].0.clone()
    }

    /// Ends a lease, and has containerd collect what nothing else holds.
    fn end(&self, lease: &str) {
        self.containerd.says(&["leases", "rm", "--sync", lease]);
    }

    /// Whether there is such a blob, when containerd has collected what nothing holds.
    fn keeps(&self, digest: &str) -> bool {
        self.containerd.collect(NAME);
        let listed = self.containerd.says(&["content", "ls", "--quiet"]);
        listed.lines().any(|line| line == digest)
    }

    /// Asserts that no lease of the plugin is left, and no blob on its way.
    #[track_caller]
    fn nothing_is_left(&self) {
        assert_eq!(self.ours(), []);
        let active = self.containerd.says(&["content", "active"]);
        assert_eq!(active.lines().count(), 1, "{active}");
    }
}

/// A call as clients of containerd make it.
fn called<T>(message: T, lease: Option<&'static str>) -> Request<T> {
    let mut request = Request::new(message);
    let headers = request.metadata_mut();
    headers.insert("containerd-namespace", "default".parse().expect("text"));
    if let Some(lease) = lease {
        headers.insert("containerd-lease", lease.parse().expect("text"));
    }
    request
}

fn now() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.expect("after 1970").as_secs()
}

/// Seconds from 1970 on to when a lease with this label expires.
fn expiry(label: &str) -> u64 {
    let time = label.strip_prefix("containerd.io/gc.expire=");
    let mut date = Command::new("date");
    date.args(["-u", "+%s", "-d", time.expect(label)]);
    let said = String::from_utf8(succeed(&mut date).stdout).expect("text");
    said.trim().parse().expect("a number")
}

pub(crate) fn layers_wait_for_their_image(version: &'static str) {
    let setup = require!(needs(version));
    let mut scene = Scene::new(&setup);
    scene.containerd.says(&["leases", "create", "--id", CALLER]);

    // containerd is told the caller's lease, and does not pass it on.
    let began = now();
    let digest = scene.layer(CONTAINERD, Some(CALLER));
    let ended = now();
    let first = scene.our_only();
    let expiry_of_first = expiry(&scene.ours()[0].1);
    assert!((began + 3600..=ended + 3600).contains(&expiry_of_first));
    assert!(scene.keeps(&digest));
    // The same, as its own client asks for it, is held anew.
    let diff = ["snapshots", "--snapshotter", NAME, "diff", "written"];
    succeed(&mut scene.containerd.ctr(&diff));
    let packed = scene.ours().into_iter().find(|(name, _)| *name != first);
    scene.end(&packed.expect("of the compressed layer").0);
    assert_eq!(scene.layer(CONTAINERD, None), digest);
    assert_eq!(scene.ours().len(), 2);
    scene.end(&first);
    assert!(scene.keeps(&digest));
    scene.end(&scene.our_only());
    assert!(!scene.keeps(&digest));

    // Where the caller's lease is told, that holds the layer, also if it is there already.
    assert_eq!(scene.layer(PLUGIN, Some(CALLER)), digest);
    scene.nothing_is_left();
    assert!(scene.keeps(&digest));
    scene.end(CALLER);
    assert!(!scene.keeps(&digest));
    scene.containerd.says(&["leases", "create", "--id", CALLER]);
    assert_eq!(scene.layer(PLUGIN, None), digest);
    assert_eq!(scene.layer(PLUGIN, Some(CALLER)), digest);
    scene.end(&scene.our_only());
    assert!(scene.keeps(&digest));
    scene.end(CALLER);
    assert!(!scene.keeps(&digest));

    // What fails leaves nothing: for a lease that is gone, for a label that containerd refuses.
    let refused = scene.diff(PLUGIN, Some(CALLER), HashMap::new());
    assert_eq!(refused.expect_err("refused").code(), Code::NotFound);
    scene.nothing_is_left();
    let label = HashMap::from([("label".to_owned(), "x".repeat(5000))]);
    let refused = scene.diff(CONTAINERD, None, label);
    assert_eq!(refused.expect_err("refused").code(), Code::InvalidArgument);
    scene.nothing_is_left();
    assert!(!scene.keeps(&digest));

    // What nobody makes an image of goes by itself.
    let config = scene.containerd.folder().join("plugin.toml");
    let text = fs::read_to_string(&config).expect("read");
    let text = text.replace("[containerd]", "[containerd]\nlease = 2");
    fs::write(config, text).expect("written");
    scene.containerd.kill_plugin();
    assert_eq!(scene.layer(CONTAINERD, None), digest);
    let label = &scene.ours()[0].1;
    while now() <= expiry(label) {
        sleep(Duration::from_millis(100));
    }
    assert!(!scene.keeps(&digest));
    scene.nothing_is_left();

    // A containerd that makes no leases does so itself: what is unimplemented it asks of its own differ.
    let config = scene.containerd.folder().join("config.toml");
    let text = fs::read_to_string(&config).expect("read");
    let disabled = "disabled_plugins = [\"io.containerd.grpc.v1.leases\"]";
    fs::write(config, format!("{disabled}\n{text}")).expect("written");
    scene.containerd.kill_daemon();
    let refused = scene.diff(PLUGIN, None, HashMap::new());
    assert_eq!(refused.expect_err("refused").code(), Code::Unimplemented);
    let active = scene.containerd.says(&["content", "active"]);
    assert_eq!(active.lines().count(), 1, "{active}");
    scene.layer(CONTAINERD, None);
}

#[test]
fn layers_wait_for_their_image_under_containerd_2_1() {
    layers_wait_for_their_image("2.1");
}

#[test]
fn layers_wait_for_their_image_under_containerd_1_7() {
    layers_wait_for_their_image("1.7");
}
