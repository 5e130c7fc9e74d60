//! Layers that are here are not downloaded, and only who may have them gets them.

use std::collections::HashMap;

use erofs_snapshotter::api::snapshots::v1::{Info, Kind};
use erofs_snapshotter::api::types::Mount;
use erofs_tests::containerd::{Containerd, NAME, NEWER, Registry, Setup};
use erofs_tests::listing::sha256;
use erofs_tests::require;
use erofs_tests::workshop::{Workshop, succeed};
use tonic::{Code, Status};

use crate::newer::{at_least, published, side_by_side};
use crate::plugin::{
    Client, Layer, Plugin, needs, noise, packed, read, refused, tar, unpack_labels,
};

const TARGET: &str = "containerd.io/snapshot.ref";

/// The chain ID of a layer over others.
fn chain(below: &str, layer: &Layer) -> String {
    let chain = format!("{below} {}", layer.diff_id);
    format!("sha256:{}", sha256(chain.as_bytes()))
}

/// Unpacks a layer as containerd does, in a namespace. Its name is that of the chain.
async fn unpack(
    client: &Client,
    namespace: &str,
    layer: &Layer,
    chain: &str,
    parent: &str,
) -> Result<String, Status> {
    let labels = unpack_labels(chain, layer, "");
    let (key, name) = (
        format!("{namespace}/1/extract"),
        format!("{namespace}/2/{chain}"),
    );
    let mounts = client.prepare(&key, parent, labels.clone()).await?;
    assert!(!is_read_only(&mounts), "{mounts:?}");
    client.apply(layer, &mounts).await?;
    client.commit_labelled(&key, &name, "", labels).await?;
    Ok(name)
}

fn is_read_only(mounts: &[Mount]) -> bool {
    let last = mounts.last().expect("a mount");
    last.options.iter().any(|option| option == "ro")
}

/// The names of what containerd would take for its own, in its order: it asks so.
async fn adopted(client: &Client, chain: &str, parent: &str) -> Vec<String> {
    let filter = format!("labels.\"{TARGET}\"=={chain},parent==\"{parent}\"");
    let listed = client.matching(vec![filter]).await.expect("listed");
    let is_it = |one: &Info| one.kind == i32::from(Kind::Committed);
    let names = listed.into_iter().filter(is_it).map(|one| {
        assert_eq!(one.labels.get(TARGET).map(String::as_str), Some(chain));
        one.name
    });
    names.collect()
}

#[test]
fn layers_are_given_unread_only_to_who_may_have_them() {
    require!(needs());
    let mut plugin = Plugin::new(None);
    let root = plugin.root();
    let cache = "[cache]\nsize = \"1GiB\"\nskip_download = true\nsharing = ";
    plugin.configure(&format!("{cache}\"isolated\""));
    assert!(plugin.start(None), "{}", plugin.log());
    let client = plugin.client();
    let contents = [noise(20, 100_000), noise(21, 100_000)];
    let layers = ["low", "high"]
        .into_iter()
        .zip(&contents)
        .map(|(name, content)| {
            let tar = tar(&[(name, content)]);
            plugin.layer(&packed("gzip", &tar), "+gzip", &tar)
        });
    let layers: Vec<Layer> = layers.collect();
    let [low, high] = &layers[..] else {
        unreachable!()
    };
    let (first, second) = (low.diff_id.clone(), chain(&low.diff_id, high));
    let prepare = |key: &'static str, parent: &str, layer: &Layer, chain: &str| {
        let (client, parent) = (client.clone(), parent.to_owned());
        let labels = unpack_labels(chain, layer, "");
        async move { client.prepare(key, &parent, labels).await }
    };
    plugin.wait(async {
        let below = unpack(&client, "a", low, &first, "")
            .await
            .expect("the first");
        unpack(&client, "a", high, &second, &below)
            .await
            .expect("the second");

        // It is there, and nothing is made of it once more.
        refused(
            prepare("a/3/extract", "", low, &first).await,
            Code::AlreadyExists,
        );
        assert_eq!(adopted(&client, &first, "").await, [below.as_str()]);
        assert_eq!(client.list().await.expect("listed").len(), 2);

        // Another namespace reads the blob of each layer itself, once.
        let below = unpack(&client, "b", low, &first, "").await.expect("read");
        refused(
            prepare("b/3/extract", "", low, &first).await,
            Code::AlreadyExists,
        );
        unpack(&client, "b", high, &second, &below)
            .await
            .expect("read");

        // A label may say what it likes: what is not so is not told.
        let lie = tar(&[("lie", b"lie")]);
        let lie = plugin.layer(&lie, "", &lie);
        let mounts = client.prepare("0/1/extract", "", HashMap::new()).await;
        client
            .apply(&lie, &mounts.expect("prepared"))
            .await
            .expect("applied");
        let labels = unpack_labels(&first, low, "");
        let lied = client.commit_labelled("0/1/extract", "0/2/lie", "", labels);
        lied.await.expect("committed");
        let names = adopted(&client, &first, "").await;
        assert_eq!(names.len(), 2, "{names:?}");
        assert!(!names.contains(&"0/2/lie".to_owned()), "{names:?}");

        // Nobody has them any more, but the cache.
        Plugin::remove_all(&client).await.expect("removed");
        refused(
            prepare("a/4/extract", "", low, &first).await,
            Code::AlreadyExists,
        );
        let below = adopted(&client, &first, "").await;
        assert_eq!(below, [format!("a/4/{first}")]);
        refused(
            prepare("a/5/extract", &below[0], high, &second).await,
            Code::AlreadyExists,
        );
        let names = adopted(&client, &second, &below[0]).await;
        assert_eq!(names, [format!("a/5/{second}")]);
        // A chain that nobody makes of them is made by unpacking.
        let other = chain(&second, low);
        let mounts = prepare("c/1/extract", &below[0], low, &other).await;
        assert!(!is_read_only(&mounts.expect("prepared")));
        client.remove("c/1/extract").await.expect("removed");
    });
    let mounts = plugin.wait(client.view("a/6/view", &format!("a/5/{second}")));
    let seen = root.join("../seen");
    let found = read(&mounts.expect("seen"), &seen, &["low", "high"]);
    assert!(found == contents.clone().map(Some), "both are shown");

    // Side by side, so that what is below comes with the commit.
    plugin.wait(async {
        let labels = unpack_labels(&second, high, &first);
        let mounts = client.prepare("a/7/extract", "", labels.clone()).await;
        assert!(is_read_only(&mounts.expect("staged")));
        let mounts = client.mounts("a/7/extract").await.expect("the same");
        assert!(is_read_only(&mounts));
        // Older ones do not look at that, and unpack.
        let applied = client.apply(high, &mounts).await.expect("applied");
        assert_eq!(applied.digest, high.diff_id);
        let below = format!("a/4/{first}");
        let committed = client.commit_labelled("a/7/extract", "a/8/second", &below, labels.clone());
        committed.await.expect("committed");
        assert_eq!(adopted(&client, &second, &below).await.len(), 2);
        let mounts = client.prepare("c/7/extract", "", labels).await;
        assert!(
            !is_read_only(&mounts.expect("prepared")),
            "it never had that layer"
        );
        client.remove("c/7/extract").await.expect("removed");
        client.cleanup().await.expect("cleaned up");
    });
    plugin.assert_consistent(&root, "with what was not downloaded");

    plugin.configure(&format!("{cache}\"shared\""));
    assert!(plugin.start(None), "{}", plugin.log());
    let client = plugin.client();
    plugin.wait(async {
        let labels = unpack_labels(&first, low, "");
        refused(
            client.prepare("d/1/extract", "", labels).await,
            Code::AlreadyExists,
        );
        let labels = unpack_labels(&second, high, &first);
        let mounts = client.prepare("d/2/extract", "", labels).await;
        assert!(is_read_only(&mounts.expect("staged")));
        Plugin::remove_all(&client).await.expect("removed");
    });
    plugin.assert_consistent(&root, "in the end");
    assert_eq!(plugin.log(), "");
}

/// The blobs that a namespace has.
fn blobs(containerd: &Containerd, namespace: &str) -> usize {
    let list = ["--namespace", namespace, "content", "list", "--quiet"];
    containerd.says(&list).lines().count()
}

/// Pulls an image again whose layers are kept, and in other namespaces.
fn is_downloaded_once(mut setup: Setup) {
    let table = "[cache]\nsize = \"1GiB\"\nskip_download = true\n";
    setup.plugin = table.to_owned();
    let workshop = Workshop::light();
    let registry = Registry::start(&setup.program("docker-registry"));
    let mut containerd = Containerd::start(&setup);
    let name = published(&workshop, &setup, &containerd, &registry);
    let pull = |containerd: &Containerd, namespace: &str| {
        let pull = ["--namespace", namespace, "image", "pull", "--plain-http"];
        containerd.says(&[&pull[..], &["--snapshotter", NAME, &name]].concat());
    };
    let remove = |containerd: &Containerd, namespace: &str| {
        let remove = ["--namespace", namespace, "image", "rm", "--sync", &name];
        succeed(&mut containerd.ctr(&remove));
    };
    let runs = |containerd: &Containerd, namespace: &str| {
        let container = containerd.container(namespace);
        let run = [
            "--namespace",
            namespace,
            "run",
            "--rm",
            "--snapshotter",
            NAME,
        ];
        let command = [&name, &container, "cat", "/old/new"];
        containerd.says(&[&run[..], &command].concat())
    };
    pull(&containerd, "default");
    // Manifest, configuration and four layers.
    assert_eq!(blobs(&containerd, "default"), 6);
    remove(&containerd, "default");
    containerd.wait(|containerd| containerd.snapshots().is_ok_and(|left| left.is_empty()));
    pull(&containerd, "default");
    assert_eq!(
        blobs(&containerd, "default"),
        2,
        "{}",
        containerd.plugin_log()
    );
    assert!(runs(&containerd, "default").starts_with("new\n"));
    pull(&containerd, "other");
    assert_eq!(blobs(&containerd, "other"), 6, "it never had them");

    // Each gets them now, and keeps them when the others have gone.
    let path = containerd.folder().join("plugin.toml");
    let config = std::fs::read_to_string(&path).expect("read");
    let shared = config.replace(table, &format!("{table}sharing = \"shared\"\n"));
    std::fs::write(path, shared).expect("written");
    containerd.kill_plugin();
    pull(&containerd, "third");
    assert_eq!(
        blobs(&containerd, "third"),
        2,
        "{}",
        containerd.plugin_log()
    );
    remove(&containerd, "default");
    remove(&containerd, "other");
    assert!(runs(&containerd, "third").starts_with("new\n"));
    remove(&containerd, "third");
    containerd.wait(|containerd| containerd.report("status").1["snapshots"]["committed"] == 0);
    let log = containerd.plugin_log();
    assert!(!log.contains("WARN") && !log.contains("ERROR"), "{log}");
}

#[test]
fn layers_are_downloaded_once() {
    is_downloaded_once(require!(crate::needs("2.1")));
}

#[test]
fn newer_containerd_downloads_layers_once() {
    if let Some(setup) = at_least(2, 0) {
        is_downloaded_once(setup);
    }
}

/// Of what lies on others containerd says nothing then but which layer it is.
#[test]
fn newer_containerd_downloads_layers_once_side_by_side() {
    let Some(mut setup) = at_least(2, 4) else {
        return;
    };
    assert_eq!(setup.version, NEWER);
    side_by_side(&mut setup);
    is_downloaded_once(setup);
}
