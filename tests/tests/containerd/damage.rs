//! Layers that a disk changed, looked at before they are mounted.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread::sleep;
use std::time::Duration;

use erofs_tests::require;
use tonic::Code;

use crate::plugin::{Layer, Plugin, needs, noise, read, refused, tar};

/// The file of a layer.
fn file(root: &Path, layer: &Layer) -> PathBuf {
    let hex = layer.diff_id.strip_prefix("sha256:").expect("a digest");
    let (first, _) = hex.split_at(2);
    root.join(format!("layers/sha256/{first}/{hex}.erofs"))
}

fn flip_last(path: &Path) {
    let file = File::options()
        .read(true)
        .write(true)
        .open(path)
        .expect("opened");
    let last = file.metadata().expect("there").len() - 1;
    let mut byte = [0];
    file.read_exact_at(&mut byte, last).expect("read");
    file.write_all_at(&[!byte[0]], last).expect("written");
}

#[test]
fn no_container_runs_over_a_damaged_layer() {
    require!(needs());
    let mut plugin = Plugin::new(None);
    plugin.configure("[integrity]\nverify_at_mount = true");
    let root = plugin.root();
    let layers = [("lower", 1), ("upper", 2)].map(|(name, seed)| {
        let tar = tar(&[(name, &noise(seed, 300_000))]);
        plugin.layer(&tar, "", &tar)
    });
    assert!(plugin.start(None), "{}", plugin.log());
    let client = plugin.client();
    plugin.wait(async {
        client
            .unpack(&layers[0], "lower", "")
            .await
            .expect("unpacked");
        client
            .unpack(&layers[1], "upper", "lower")
            .await
            .expect("unpacked");
    });
    // What was written is noted a little later.
    let mut rounds = 0;
    while plugin.operator("scrub")["unrecorded"] != 0 {
        rounds += 1;
        assert!(rounds < 1000, "digests are never noted");
        sleep(Duration::from_millis(10));
    }
    // It is on disk with the next change that is.
    plugin.wait(async {
        client.view("settled", "lower").await.expect("sound");
        client.remove("settled").await.expect("removed");
    });
    let damaged = file(&root, &layers[1]);
    for mode in ["overlay", "delegate"] {
        plugin.kill();
        plugin.configure(&format!("[mounts]\nmode = \"{mode}\""));
        for point in std::fs::read_dir(root.join("m")).expect("read") {
            // Those of layers that are mounted stay mounted.
            let point = point.expect("read").path();
            let _ = Command::new("umount").arg(point).output();
        }
        flip_last(&damaged);
        assert!(plugin.start(None), "{}", plugin.log());
        let client = plugin.client();
        let answer = plugin.wait(client.view("view", "upper"));
        let said = refused(answer, Code::DataLoss);
        for part in [
            &*layers[1].diff_id,
            damaged.to_str().expect("text"),
            "its digest is sha256:",
            "pull",
        ] {
            assert!(said.contains(part), "{part}: {said}");
        }
        // What it lies over is as it was.
        plugin.wait(client.view("other", "lower")).expect("sound");
        flip_last(&damaged);
        let view = plugin.wait(client.view("view", "upper")).expect("sound");
        if mode == "overlay" {
            let found = read(&view, &root.join("../shown"), &["upper", "lower"]);
            assert_eq!(found, [Some(noise(2, 300_000)), Some(noise(1, 300_000))]);
        }
        plugin.wait(async {
            client.remove("view").await.expect("removed");
            client.remove("other").await.expect("removed");
        });
    }
    let client = plugin.client();
    plugin.wait(Plugin::remove_all(&client)).expect("removed");
    plugin.assert_empty(&root, "in the end");
}
