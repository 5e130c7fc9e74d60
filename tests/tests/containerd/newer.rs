//! What containerd does from 2.2 on, by the real one that `CONTAINERD_DIR` names. What tests without it replay is in
//! [`unpacking`](crate::unpacking).

use std::fs;
use std::path::Path;

use erofs_tests::containerd::{Containerd, NAME, NEWER, Packing, Registry, Setup, newer};
use erofs_tests::skip::{self, Reason};
use erofs_tests::workshop::{Workshop, succeed};
use serde_json::Value;

use crate::built_in::mkfs;
use crate::{IMAGE, Kept, layout, lives, needs, shows};

/// A containerd of at least this version. Debian has none, so CI has none: to skip these tests is no failure there.
fn at_least(major: u32, minor: u32) -> Option<Setup> {
    match newer() {
        Ok(version) if version >= (major, minor) => {
            needs(NEWER).map_err(|reason| skip::report(&reason)).ok()
        }
        Ok(_) => {
            let reason = format!("CONTAINERD_DIR names no containerd {major}.{minor} or newer");
            skip::report_missing(&Reason(reason));
            None
        }
        Err(reason) => {
            skip::report_missing(&reason);
            None
        }
    }
}

#[test]
fn images_live_under_newer_containerd() {
    if at_least(2, 2).is_none() {
        return;
    }
    let kept = Kept {
        content: None,
        packing: Packing::Native,
        committed: [Packing::Gzip, Packing::Native],
        plugin: "",
        files: 3,
    };
    lives(NEWER, &kept);
}

/// containerd mounts each layer itself, for each container.
#[test]
fn newer_containerd_mounts_layers_itself() {
    if at_least(2, 2).is_none() {
        return;
    }
    let kept = Kept {
        content: None,
        packing: Packing::Zstd,
        committed: [Packing::Zstd, Packing::Gzip],
        plugin: "[mounts]\nmode = \"delegate\"\n",
        files: 3,
    };
    lives(NEWER, &kept);
}

/// Puts the image into a registry. Returns its name there.
fn published(workshop: &Workshop, setup: &Setup, containerd: &Containerd, to: &Registry) -> String {
    let name = to.image("image:1");
    let tar = workshop.path("image.tar");
    layout(workshop, setup, Packing::Zstd, |_| ()).finish(IMAGE, &tar);
    containerd.push(&tar, IMAGE, &name);
    name
}

fn pull(containerd: &Containerd, snapshotter: &str, name: &str) {
    let pull = ["image", "pull", "--plain-http", "--snapshotter"];
    containerd.says(&[&pull[..], &[snapshotter, name]].concat());
    containerd.says(&["image", "tag", name, IMAGE]);
}

/// What stands in the table of its transfer service beside the snapshotters.
fn side_by_side(setup: &mut Setup) {
    setup.containerd =
        "[plugins.\"io.containerd.transfer.v1.local\"]\nmax_concurrent_unpacks = 4\n".to_owned();
}

#[test]
fn newer_containerd_unpacks_side_by_side() {
    let Some(mut setup) = at_least(2, 2) else {
        return;
    };
    side_by_side(&mut setup);
    setup.plugin = "[log]\nlevel = \"debug\"\nformat = \"json\"\n".to_owned();
    let workshop = Workshop::light();
    let registry = Registry::start(&setup.program("docker-registry"));
    let containerd = Containerd::start(&setup);
    let name = published(&workshop, &setup, &containerd, &registry);
    pull(&containerd, NAME, &name);
    let log = containerd.plugin_log();
    let lines = log.lines().map(serde_json::from_str);
    let lines: Vec<Value> = lines.collect::<Result<_, _>>().expect("JSON");
    let methods = lines.iter().filter_map(|line| line["method"].as_str());
    let before: Vec<_> = methods.take_while(|method| *method != "Commit").collect();
    let prepared = before.iter().filter(|method| **method == "Prepare").count();
    assert!(prepared > 1, "one layer after the other: {before:?}");
    shows(&containerd, NAME, &workshop);
    succeed(&mut containerd.ctr(&["image", "rm", "--sync", IMAGE, &name]));
    containerd.wait(|containerd| containerd.files().is_empty());
    assert_eq!(containerd.mounted(), 0);
}

/// Layers that one containerd unpacked by our plugin are mounted by the EROFS snapshotter of another one as they are.
#[test]
fn newer_containerd_takes_our_layers() {
    let Some(mut setup) = at_least(2, 4) else {
        return;
    };
    let workshop = Workshop::light();
    let registry = Registry::start(&setup.program("docker-registry"));
    let ours = Containerd::start(&setup);
    let name = published(&workshop, &setup, &ours, &registry);
    pull(&ours, NAME, &name);

    side_by_side(&mut setup);
    let layers = ours.root().join("layers");
    setup.containerd += &format!(
        "[plugins.\"io.containerd.snapshotter.v1.erofs\"]\nlayer_content_caches = [\"{}\"]\n",
        layers.display()
    );
    let calls = mkfs(&workshop, &mut setup);
    let theirs = Containerd::start(&setup);
    pull(&theirs, "erofs", &name);
    shows(&theirs, "erofs", &workshop);
    let calls = fs::read_to_string(calls).unwrap_or_default();
    assert!(!calls.contains("--tar"), "{calls}");
    let snapshots = "root/io.containerd.snapshotter.v1.erofs/snapshots";
    let snapshots = fs::read_dir(theirs.folder().join(snapshots)).expect("read");
    let blobs = snapshots.map(|entry| entry.expect("read").path().join("layer.erofs"));
    let targets: Vec<_> = blobs.filter_map(|blob| fs::read_link(blob).ok()).collect();
    assert_eq!(targets.len(), 4, "{targets:?}");
    assert!(targets.iter().all(|target| target.starts_with(&layers)));
    assert!(Path::new(&targets[1]).is_file());
}
