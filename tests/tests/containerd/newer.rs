//! What containerd does in versions that no Debian has, by the real one that `CONTAINERD_DIR` names. What tests without it replay is in
//! [`unpacking`](crate::unpacking).

use std::fs;
use std::path::Path;
use std::process::Command;

use erofs_tests::containerd::{Containerd, NAME, NEWER, Packing, Registry, Setup, newer};
use erofs_tests::manifest::Manifest;
use erofs_tests::skip::{self, Reason};
use erofs_tests::workshop::{Workshop, erofs, succeed};
use serde_json::Value;

use crate::built_in::mkfs;
use crate::commits::layer;
use crate::cri::pods_run;
use crate::leases::layers_wait_for_their_image;
use crate::{IMAGE, NATIVE, image, import, layout, lives, needs, shows};

/// A containerd of at least this version. Debian has none, so CI has none: to skip these tests is no failure there.
pub(crate) fn at_least(major: u32, minor: u32) -> Option<Setup> {
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
    if at_least(2, 0).is_none() {
        return;
    }
    lives(NEWER, &NATIVE);
}

#[test]
fn layers_wait_for_their_image_under_newer_containerd() {
    if at_least(2, 0).is_some() {
        layers_wait_for_their_image(NEWER);
    }
}

#[test]
fn pods_run_under_newer_containerd() {
    if at_least(2, 0).is_some() {
        pods_run(NEWER);
    }
}

/// Asserts that a container of the image sees the awkward tree, also while the plugin is started anew. It is removed then.
///
/// `ctr image mount` is not asked for that: of mounts that are all for containerd to make, 2.4.0-beta.0 dies, also of those
/// of its own EROFS snapshotter.
fn runs(containerd: &mut Containerd, snapshotter: &str, workshop: &Workshop) {
    let name = containerd.container("sees");
    let run = ["run", "--detach", "--snapshotter", snapshotter, IMAGE];
    containerd.says(&[&run[..], &[&name, "sleep", "1000"]].concat());
    containerd.kill_plugin();
    let expected = Manifest::of_directory(&workshop.path("awkward/awkward")).expect("readable");
    let seen = Manifest::of_directory(&containerd.rootfs(&name).join("awkward"));
    expected.assert_same(&seen.expect("readable"), &[]);
    let exec = ["task", "exec", "--exec-id", "1", &name, "cat", "/old/new"];
    assert_eq!(containerd.says(&exec), "new\n");
    containerd.says(&["task", "rm", "--force", &name]);
    containerd.says(&["container", "rm", &name]);
}

/// containerd mounts each layer itself, for each container.
#[test]
fn newer_containerd_mounts_layers_itself() {
    let Some(mut setup) = at_least(2, 2) else {
        return;
    };
    setup.plugin = "[mounts]\nmode = \"delegate\"\n".to_owned();
    let workshop = Workshop::light();
    let tar = image(&workshop, &setup, |_| ());
    let mut containerd = Containerd::start(&setup);
    succeed(&mut containerd.ctr(&import(NEWER, NAME, &tar)));
    runs(&mut containerd, NAME, &workshop);
    // What a container writes becomes layers, without anything being mounted for that.
    let name = containerd.container("writes");
    let run = ["run", "--detach", "--snapshotter", NAME, IMAGE, &name];
    let script = "rm -r /old; echo made >/made; : >/done; exec sleep 1000";
    containerd.says(&[&run[..], &["sh", "-c", script]].concat());
    containerd.wait(|containerd| containerd.rootfs(&name).join("done").exists());
    let path = workshop.path("written");
    fs::write(
        &path,
        layer(&containerd, Packing::Plain.media_type(), &name),
    )
    .expect("written");
    let listed = succeed(Command::new("tar").arg("-tf").arg(&path)).stdout;
    let listed = String::from_utf8(listed).expect("text");
    let listed: Vec<&str> = listed.lines().collect();
    assert!(
        listed.contains(&".wh.old") && listed.contains(&"made") && !listed.contains(&"bin/"),
        "{listed:?}"
    );
    fs::write(
        &path,
        layer(&containerd, Packing::Native.media_type(), &name),
    )
    .expect("written");
    succeed(erofs().expect("asked for").arg("check").arg(&path));
    containerd.says(&["task", "rm", "--force", &name]);
    containerd.says(&["container", "rm", &name]);
    assert_eq!(containerd.mounted(), 0, "by the plugin");
    succeed(&mut containerd.ctr(&["image", "rm", "--sync", IMAGE]));
    containerd.wait(|containerd| containerd.files().is_empty());
}

/// Puts the image into a registry. Returns its name there.
pub(crate) fn published(
    workshop: &Workshop,
    setup: &Setup,
    containerd: &Containerd,
    to: &Registry,
) -> String {
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
pub(crate) fn side_by_side(setup: &mut Setup) {
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

/// The transfer service pulls, and unpacks one layer after the other.
#[test]
fn newer_containerd_pulls() {
    let Some(setup) = at_least(2, 0) else {
        return;
    };
    let workshop = Workshop::light();
    let registry = Registry::start(&setup.program("docker-registry"));
    let containerd = Containerd::start(&setup);
    let name = published(&workshop, &setup, &containerd, &registry);
    pull(&containerd, NAME, &name);
    assert_eq!(containerd.snapshots().expect("listed").len(), 4);
    shows(&containerd, NAME, &workshop);
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
    let mut theirs = Containerd::start(&setup);
    pull(&theirs, "erofs", &name);
    runs(&mut theirs, "erofs", &workshop);
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
