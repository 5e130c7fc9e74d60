//! How newer versions of containerd unpack, and what becomes of layers that are broken or not waited for.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::Write as _;
use std::path::PathBuf;
use std::process::Command;

use erofs_snapshotter::api::types::Mount;
use erofs_tests::listing::sha256;
use erofs_tests::require;
use erofs_tests::workshop::succeed;
use tonic::Code;

use crate::plugin::{
    Layer, Plugin, needs, noise, packed, read, refused, tar, unmount_below, unpack_labels,
};

/// As containerd from 2.2 on unpacks: layers side by side, each without a parent, which comes with Commit.
#[test]
fn layers_are_unpacked_side_by_side() {
    require!(needs());
    let mut plugin = Plugin::new(None);
    let root = plugin.root();
    assert!(plugin.start(None), "{}", plugin.log());
    let client = plugin.client();
    let contents: Vec<Vec<u8>> = (0..4).map(|own| noise(own, 300_000)).collect();
    let names = ["0", "1", "2", "3"];
    let layers: Vec<Layer> = (names.iter().zip(&contents))
        .map(|(name, content)| {
            let tar = tar(&[(name, content), ("top", name.as_bytes())]);
            plugin.layer(&packed("gzip", &tar), "+gzip", &tar)
        })
        .collect();
    let runtime_tasks = (0..4).map(|own| {
        let (client, layer) = (client.clone(), layers[own].clone());
        async move {
            let parent = own
                .checked_sub(1)
                .map_or_else(String::new, |below| format!("chain-{below}"));
            let labels = unpack_labels(&format!("chain-{own}"), &layer, &parent);
            let mounts = client.prepare(&format!("unpack-{own}"), "", labels).await?;
            client
                .apply(&layer, &mounts)
                .await
                .map(|applied| applied.digest)
        }
    });
    let applied = plugin.wait(async {
        let tasks: Vec<_> = runtime_tasks.map(tokio::spawn).collect();
        let mut applied = Vec::new();
        for task in tasks {
            applied.push(task.await.expect("runs"));
        }
        applied
    });
    for (applied, layer) in applied.into_iter().zip(&layers) {
        assert_eq!(applied.expect("applied"), layer.diff_id);
    }

    plugin.wait(async {
        // The parent comes late.
        refused(
            client.commit("unpack-1", "chain-1", "chain-0").await,
            Code::NotFound,
        );
        client
            .commit("unpack-0", "chain-0", "")
            .await
            .expect("the first");
        // Nobody builds on what is not committed, on itself, or commits twice.
        refused(
            client.commit("unpack-2", "chain-2", "unpack-1").await,
            Code::FailedPrecondition,
        );
        refused(
            client.commit("unpack-2", "chain-2", "chain-2").await,
            Code::NotFound,
        );
        refused(
            client.commit("unpack-1", "chain-0", "").await,
            Code::AlreadyExists,
        );
        for (own, parent) in [(1, "chain-0"), (2, "chain-1"), (3, "chain-2")] {
            let (key, name) = (format!("unpack-{own}"), format!("chain-{own}"));
            client.commit(&key, &name, parent).await.expect(parent);
        }
        refused(
            client.commit("unpack-3", "chain-3", "chain-2").await,
            Code::NotFound,
        );
    });
    let mounts = plugin.wait(client.prepare("container", "chain-3", HashMap::new()));
    let found = read(&mounts.expect("prepared"), &root.join("../seen"), &names);
    let expected: Vec<_> = contents.into_iter().map(Some).collect();
    assert!(found == expected, "each layer shows its file");

    // A snapshot that was prepared over one parent is not committed over another.
    plugin.wait(async {
        let mounts = client
            .prepare("over-1", "chain-1", HashMap::new())
            .await
            .expect("prepared");
        client.apply(&layers[0], &mounts).await.expect("applied");
        refused(
            client.commit("over-1", "other", "chain-2").await,
            Code::FailedPrecondition,
        );
        client
            .commit("over-1", "other", "chain-1")
            .await
            .expect("its own");
        refused(client.remove("chain-1").await, Code::FailedPrecondition);
        Plugin::remove_all(&client).await.expect("removed");
    });
    plugin.assert_empty(&root, "in the end");
    assert_eq!(plugin.log(), "");
}

/// Threads that end leave memory to others, of which each then keeps as much as any needed.
#[test]
fn memory_is_given_back_behind_large_layers() {
    /// Most bytes for themselves that a process needs which serves and has unpacked everything, in KiB.
    const AT_REST: u64 = 24 << 10;
    /// The same while it unpacks four layers.
    const UNPACKING: u64 = 96 << 10;
    require!(needs());
    let mut plugin = Plugin::new(None);
    let root = plugin.root();
    assert!(plugin.start(None), "{}", plugin.log());
    let client = plugin.client();
    let names: Vec<String> = (0..1500).map(|number| number.to_string()).collect();
    let layers: Vec<Layer> = (0..4)
        .map(|own| {
            let content = noise(own, 20 << 20);
            let (large, small) = content.split_at(8 << 20);
            let small = names.iter().map(String::as_str).zip(small.chunks(8 << 10));
            let files: Vec<_> = [("large", large)].into_iter().chain(small).collect();
            let tar = tar(&files);
            plugin.layer(&packed("gzip", &tar), "+gzip", &tar)
        })
        .collect();
    let own_memory = |plugin: &Plugin| {
        let status = fs::read_to_string(format!("/proc/{}/status", plugin.process()));
        let status = status.expect("read");
        ["RssAnon:", "VmHWM:", "RssFile:"].map(|key| {
            let line = status.lines().find_map(|line| line.strip_prefix(key));
            let number = line.and_then(|line| line.trim().strip_suffix(" kB"));
            number.expect(key).parse::<u64>().expect("a number")
        })
    };
    for round in 0..3 {
        let tasks = (0..4).map(|own| {
            let (client, layer) = (client.clone(), layers[own].clone());
            plugin.begin(async move {
                let key = format!("unpack-{own}");
                let mounts = client.prepare(&key, "", HashMap::new()).await?;
                client.apply(&layer, &mounts).await
            })
        });
        let tasks: Vec<_> = tasks.collect();
        for task in tasks {
            let applied = plugin.wait(task).expect("runs");
            applied.expect("applied");
        }
        let removed = plugin.wait(Plugin::remove_all(&client));
        removed.expect("removed");
        let [at_rest, peak, file] = own_memory(&plugin);
        eprintln!(
            "round {round}: {at_rest} KiB at rest, {} at most",
            peak - file
        );
        assert!(at_rest < AT_REST, "round {round}: {at_rest} KiB");
        assert!(
            peak - file < UNPACKING,
            "round {round}: {peak} - {file} KiB"
        );
    }
    plugin.assert_empty(&root, "in the end");
}

/// Two images with the same layer are pulled at once, and one of them is removed.
#[test]
fn a_layer_that_is_unpacked_twice_is_stored_once() {
    require!(needs());
    let mut plugin = Plugin::new(None);
    let root = plugin.root();
    assert!(plugin.start(None), "{}", plugin.log());
    let client = plugin.client();
    let content = noise(3, 2_000_000);
    let tar = tar(&[("file", &content)]);
    let layer = plugin.layer(&tar, "", &tar);
    plugin.wait(async {
        let twins = ["one", "two"].map(|name| {
            let (client, layer) = (client.clone(), layer.clone());
            tokio::spawn(async move { client.unpack(&layer, name, "").await })
        });
        for twin in twins {
            twin.await.expect("runs").expect("unpacked");
        }
        // And again, on a snapshot that has a layer already.
        let mounts = client
            .prepare("three", "", HashMap::new())
            .await
            .expect("prepared");
        client.apply(&layer, &mounts).await.expect("applied");
        client.apply(&layer, &mounts).await.expect("applied again");
        client.remove("one").await.expect("removed");
        client.cleanup().await.expect("cleaned up");
    });
    let mounts = plugin.wait(client.view("view", "two")).expect("seen");
    let found = read(&mounts, &root.join("../seen"), &["file"]);
    assert!(found == [Some(content)], "it is there still");
    plugin.assert_consistent(&root, "with one of two removed");

    assert!(plugin.start(None), "{}", plugin.log());
    let client = plugin.client();
    plugin.wait(async {
        // Another blob takes the place of the first.
        let mounts = client.mounts("three").await.expect("known");
        let other = plugin.layer(
            &crate::plugin::tar(&[("x", b"x")]),
            "",
            &crate::plugin::tar(&[("x", b"x")]),
        );
        client.apply(&other, &mounts).await.expect("applied");
        client
            .commit("three", "three", "")
            .await
            .expect_err("the name is its own key");
        client
            .commit("three", "other", "")
            .await
            .expect("committed");
        client.remove("view").await.expect("removed");
        client.remove("two").await.expect("removed");
        client.cleanup().await.expect("cleaned up");
    });
    plugin.assert_consistent(&root, "with another layer");
    assert!(plugin.start(None), "{}", plugin.log());
    let client = plugin.client();
    plugin.wait(Plugin::remove_all(&client)).expect("removed");
    plugin.assert_empty(&root, "in the end");
}

/// Who calls goes away in the middle of a layer.
#[test]
fn a_cancelled_layer_leaves_nothing() {
    require!(needs());
    let mut plugin = Plugin::new(None);
    let root = plugin.root();
    assert!(plugin.start(None), "{}", plugin.log());
    let client = plugin.client();
    // A pipe in place of the blob, to stop in the middle.
    let content = noise(4, 1 << 20);
    let tar = tar(&[("file", &content)]);
    let layer = plugin.layer(&tar, "", &tar);
    let pipe = plugin.blob(layer.blob.digest.strip_prefix("sha256:").expect("a digest"));
    fs::remove_file(&pipe).expect("removed");
    succeed(Command::new("mkfifo").arg(&pipe));
    plugin.wait(async {
        let mounts = client
            .prepare("cancelled", "", HashMap::new())
            .await
            .expect("prepared");
        let apply = {
            let (client, layer) = (client.clone(), layer.clone());
            tokio::spawn(async move { client.apply(&layer, &mounts).await })
        };
        let writing = tokio::task::spawn_blocking(move || {
            let mut file = File::options().write(true).open(pipe).expect("opened");
            file.write_all(&tar[..tar.len() / 2]).expect("taken");
            (file, tar)
        });
        let (mut file, tar) = writing.await.expect("runs");
        apply.abort();
        apply.await.expect_err("cancelled");
        // The plugin takes a little more until it sees that nobody waits, and then closes the pipe.
        let ended = tokio::task::spawn_blocking(move || {
            let rest = tar[tar.len() / 2..].chunks(512);
            rest.map(|piece| {
                std::thread::sleep(std::time::Duration::from_millis(1));
                file.write_all(piece)
            })
            .find_map(Result::err)
        });
        let ended = ended
            .await
            .expect("runs")
            .expect("nobody reads it to its end");
        assert_eq!(ended.kind(), std::io::ErrorKind::BrokenPipe);
        client.remove("cancelled").await.expect("removed");
        client.cleanup().await.expect("cleaned up");
    });
    plugin.assert_empty(&root, "cancelled");
}

/// Blobs that are no layers.
#[test]
fn broken_layers_are_refused_and_leave_nothing() {
    require!(needs());
    let mut plugin = Plugin::new(None);
    let root = plugin.root();
    assert!(plugin.start(None), "{}", plugin.log());
    let client = plugin.client();
    let whole = tar(&[("a", &noise(5, 300_000)), ("b", b"b")]);
    let (gzip, zstd) = (packed("gzip", &whole), packed("zstd", &whole));
    let changed = |blob: &[u8], at: usize| {
        let mut blob = blob.to_vec();
        blob[at] ^= 0x55;
        blob
    };
    let cut = |blob: &[u8], by: usize| blob[..blob.len() - by].to_vec();
    let outside = |name: &str| tar(&[(name, b"x")]);
    let mut other = plugin.layer(&gzip, "+gzip", &whole);
    other.diff_id = format!("sha256:{}", "0".repeat(64));
    let mut unknown = plugin.layer(&gzip, "+gzip", &whole);
    unknown.blob.media_type = "application/vnd.example.layer".to_owned();
    let vanished = plugin.layer(b"vanished", "", b"vanished");
    fs::remove_file(plugin.blob(&sha256(b"vanished"))).expect("removed");
    let invalid = |blob: Vec<u8>, suffix: &str| {
        let layer = plugin.layer(&blob, suffix, &whole);
        (layer, Code::InvalidArgument)
    };
    let broken = [
        (
            "gzip, changed in the middle",
            invalid(changed(&gzip, gzip.len() / 2), "+gzip"),
        ),
        (
            "gzip, changed checksum",
            invalid(changed(&gzip, gzip.len() - 6), "+gzip"),
        ),
        ("gzip, cut off", invalid(cut(&gzip, 1), "+gzip")),
        (
            "zstd, changed in the middle",
            invalid(changed(&zstd, zstd.len() / 2), "+zstd"),
        ),
        (
            "zstd, changed checksum",
            invalid(changed(&zstd, zstd.len() - 2), "+zstd"),
        ),
        ("zstd, cut off", invalid(cut(&zstd, 1), "+zstd")),
        ("tar, cut off", invalid(whole[..200_000].to_vec(), "")),
        ("no tar", invalid(noise(6, 5000), "")),
        ("nothing", invalid(Vec::new(), "+gzip")),
        ("a name outside", invalid(outside("../x"), "")),
        ("a name outside, later", invalid(outside("a/../../x"), "")),
        ("another digest", (other, Code::InvalidArgument)),
        ("an unknown media type", (unknown, Code::Unimplemented)),
        // There is no containerd to be asked for it.
        ("a blob that vanished", (vanished, Code::Unavailable)),
    ];
    for (what, (layer, code)) in &broken {
        let labels = unpack_labels(what, layer, "");
        let mounts = plugin
            .wait(client.prepare(what, "", labels))
            .expect("prepared");
        let answer = plugin.wait(client.apply(layer, &mounts));
        let status = answer.expect_err(what);
        assert_eq!(status.code(), *code, "{what}: {status:?}");
        plugin.wait(client.remove(what)).expect("removed");
    }
    plugin.wait(client.cleanup()).expect("cleaned up");
    plugin.assert_empty(&root, "broken layers");

    // Names are below the root directory, whether they say so or not.
    assert!(plugin.start(None), "{}", plugin.log());
    let client = plugin.client();
    let absolute = outside("/etc/x");
    let absolute = plugin.layer(&absolute, "", &absolute);
    let mounts = plugin.wait(async {
        client
            .unpack(&absolute, "absolute", "")
            .await
            .expect("unpacked");
        client.view("view", "absolute").await.expect("seen")
    });
    let found = read(&mounts, &root.join("../seen"), &["etc/x"]);
    assert_eq!(found, [Some(b"x".to_vec())]);
}

/// What lies below a layer that is unpacked here is not mounted for that. Others who look find nothing rather than an empty folder,
/// unless they ask for the mounts, or for a layer to be unpacked that only others can unpack.
#[test]
fn what_lies_below_is_mounted_when_somebody_looks() {
    require!(needs());
    let mut plugin = Plugin::new(None);
    let root = plugin.root();
    assert!(plugin.start(None), "{}", plugin.log());
    let client = plugin.client();
    let layers: Vec<Layer> = (0..3u8)
        .map(|own| {
            let tar = tar(&[("own", &[own])]);
            plugin.layer(&packed("gzip", &tar), "+gzip", &tar)
        })
        .collect();
    let mut unknown = layers[2].clone();
    unknown.blob.media_type = "application/vnd.example.layer".to_owned();
    let lowest = |mounts: &[Mount]| {
        let options = mounts[0].options.iter();
        let mut lower = options.filter_map(|option| option.strip_prefix("lowerdir="));
        PathBuf::from(lower.next().expect("one"))
    };
    for (own, asks) in [(0, true), (1, false)] {
        let base = format!("base-{own}");
        let key = format!("extract-{own}");
        plugin.wait(async {
            let unpacked = client.unpack(&layers[own], &base, "").await;
            unpacked.expect("unpacked");
        });
        let labels = unpack_labels("wanted", &layers[2], &base);
        let mounts = plugin.wait(client.prepare(&key, &base, labels));
        let mounts = mounts.expect("prepared");
        let point = lowest(&mounts);
        assert!(!point.exists(), "{}", point.display());
        match asks {
            true => assert_eq!(plugin.wait(client.mounts(&key)).expect("told"), mounts),
            false => {
                let answer = plugin.wait(client.apply(&unknown, &mounts));
                refused(answer, Code::Unimplemented);
            }
        }
        let shown = fs::read(point.join("own"));
        assert_eq!(shown.expect("mounted"), [u8::from(!asks)]);
    }

    // As when the machine is started anew.
    plugin.kill();
    unmount_below(&root);
    assert!(plugin.start(None), "{}", plugin.log());
    let points = fs::read_dir(root.join("m")).expect("read");
    assert_eq!(points.count(), 0);
}
