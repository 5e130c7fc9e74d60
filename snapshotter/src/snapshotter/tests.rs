//! Whoever asks for the mounts of a snapshot while it is removed, with what lies below it, leaves no mount behind.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use super::*;
use erofs_mount::table;
use erofs_tests::{require, skip};
use std::thread;

fn opened() -> (Snapshotter, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let config = Config {
        root: folder.path().join("root"),
        ..Config::default()
    };
    let snapshotter = Snapshotter::open(&config, |_| Err("nobody asks for FUSE".into()));
    (snapshotter.unwrap(), folder)
}

/// A layer, and a view of it that nobody has mounted yet.
fn view(snapshotter: &Snapshotter, labels: Labels) -> Snapshot {
    let prepared = snapshotter.prepare("key", State::Active, None, Labels::new());
    prepared.unwrap();
    let number = snapshotter.metadata.get("key").unwrap().number;
    fs::write(snapshotter.store.upper(number).join("file"), "content").unwrap();
    let committed = snapshotter.commit("key", "layer", None, Labels::new());
    committed.unwrap();
    let metadata = &snapshotter.metadata;
    let view = metadata.create("view", State::View, Some("layer"), None, None, labels);
    view.unwrap()
}

fn remove_both(snapshotter: &Snapshotter) {
    snapshotter.remove("view").unwrap();
    snapshotter.remove("layer").unwrap();
    snapshotter.cleanup().unwrap();
}

#[track_caller]
fn assert_nothing_is_mounted(snapshotter: &Snapshotter) {
    let store = &snapshotter.store;
    assert_eq!(store.mount_points().unwrap(), HashSet::new());
    assert_eq!(store.all_mapped().unwrap(), HashSet::new());
    let mut mounted = table::list().unwrap().into_iter();
    let ours = mounted.find(|mounted| mounted.mount_point.starts_with(store.root()));
    assert_eq!(ours, None);
}

/// The removal comes between looking for the layers and mounting them.
#[test]
fn what_was_removed_is_not_mounted_again() {
    require!(skip::kernel_erofs());
    let (snapshotter, _folder) = opened();
    let view = view(&snapshotter, Labels::new());
    let layers = snapshotter.layers_below(&view).unwrap();
    let [(number, lower)] = &layers[..] else {
        panic!("one layer: {layers:?}");
    };
    let mount = || {
        let check = || snapshotter.check_there("view", &view);
        snapshotter.mounts.mount(*number, lower, check)
    };
    mount().unwrap();
    remove_both(&snapshotter);
    assert!(matches!(mount(), Err(Error::NotFound { .. })));
    assert_nothing_is_mounted(&snapshotter);
    // Another one of the same name does not stand for it.
    let prepared = snapshotter.prepare("view", State::View, None, Labels::new());
    prepared.unwrap();
    assert!(matches!(mount(), Err(Error::NotFound { .. })));
}

/// Both at once, many times, for users with other numbers too.
#[test]
fn mounts_beside_a_removal_leave_nothing() {
    require!(skip::kernel_erofs());
    let (snapshotter, _folder) = opened();
    for round in 0..40 {
        let mut labels = Labels::new();
        if round % 2 == 1 {
            let users = "containerd.io/snapshot/uidmapping".to_owned();
            labels.insert(users, "0:1000:65536".to_owned());
        }
        view(&snapshotter, labels);
        thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    let refused = loop {
                        if let Err(error) = snapshotter.mounts("view") {
                            break error;
                        }
                    };
                    assert!(matches!(refused, Error::NotFound { .. }), "{refused}");
                });
            }
            scope.spawn(|| remove_both(&snapshotter));
        });
        assert_nothing_is_mounted(&snapshotter);
    }
}
