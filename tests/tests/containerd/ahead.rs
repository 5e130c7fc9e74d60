//! Layers that are converted before containerd asks for them.

use std::fs;
use std::path::PathBuf;

use erofs_snapshotter::contradictions;
use erofs_tests::containerd::{Containerd, Layout, NAME, Packing, Registry};
use erofs_tests::kernel::release;
use erofs_tests::require;
use erofs_tests::workshop::{Workshop, erofs, succeed};

use crate::commits::layer;
use crate::plugin::noise;
use crate::{IMAGE, import, needs};

/// Layers of the image.
const LAYERS: u64 = 5;
/// Bytes of the lowest one.
const LOWEST: usize = 32 << 20;

/// An image whose lowest layer takes so long that all others are done meanwhile; `change` changes the second one.
fn image(workshop: &Workshop, change: impl Fn(&mut Vec<u8>)) -> PathBuf {
    image_of(LAYERS, None, workshop, change)
}

/// One of so many layers, of which one is an EROFS image.
fn image_of(
    layers: u64,
    native: Option<u64>,
    workshop: &Workshop,
    change: impl Fn(&mut Vec<u8>),
) -> PathBuf {
    let mut layout = Layout::new(&workshop.path("layout"));
    for own in 0..layers {
        let source = workshop.path(&format!("layer{own}"));
        fs::create_dir_all(&source).expect("made");
        let size = if own == 0 { LOWEST } else { 10_000 };
        fs::write(source.join(own.to_string()), noise(own, size)).expect("written");
        let packing = match native == Some(own) {
            true => Packing::Native,
            false => Packing::Gzip,
        };
        layout.layer(&source, packing, |layer| {
            if own == 1 {
                change(layer);
            }
        });
    }
    let tar = workshop.path("image.tar");
    layout.finish(IMAGE, &tar);
    tar
}

/// How many layers had been converted when they were asked for.
fn ahead(containerd: &Containerd) -> u64 {
    let metrics = containerd.get("/metrics");
    let mut lines = metrics.lines();
    let count = lines.find_map(|line| line.strip_prefix("erofs_snapshotter_layers_ahead_total "));
    count.expect("counted").parse().expect("a number")
}

/// How many were there when their snapshots were prepared.
fn unpacked_before(containerd: &Containerd) -> usize {
    let log = containerd.plugin_log();
    log.matches("unpacked before").count()
}

/// What is being written, or waits to be asked for.
fn ingested(containerd: &Containerd) -> usize {
    let ingest = fs::read_dir(containerd.root().join("ingest"));
    ingest.expect("read").count()
}

fn are_converted_ahead(version: &'static str) {
    for (most, expected) in [(8, LAYERS - 1), (0, 0)] {
        let mut setup = require!(needs(version));
        setup.plugin = format!("[layers]\nahead = {most}\n");
        let workshop = Workshop::light();
        let tar = image(&workshop, |_| ());
        let containerd = Containerd::start(&setup);
        succeed(&mut containerd.ctr(&import(version, NAME, &tar)));
        assert_eq!(ahead(&containerd), expected);
        assert_eq!(ingested(&containerd), 0);
        let snapshots = containerd.snapshots().expect("listed").len();
        assert_eq!(snapshots as u64, LAYERS);

        view_topmost(&containerd);
        show(&containerd, LAYERS);
    }
}

/// Each layer that is mounted shows what it should, and these are all.
fn show(containerd: &Containerd, layers: u64) {
    let mounted = containerd.root().join("m");
    let mounted = fs::read_dir(mounted).expect("read");
    let mut seen = 0;
    for point in mounted {
        let point = point.expect("read").path();
        for own in 0..layers {
            if let Ok(content) = fs::read(point.join(own.to_string())) {
                let size = if own == 0 { LOWEST } else { 10_000 };
                assert!(content == noise(own, size), "{own}");
                seen += 1;
            }
        }
    }
    assert_eq!(seen, layers);
}

#[test]
fn layers_are_converted_ahead_under_containerd_2_1() {
    are_converted_ahead("2.1");
}

#[test]
fn layers_are_converted_ahead_under_containerd_1_7() {
    are_converted_ahead("1.7");
}

/// Has a view of the topmost snapshot be made, for which all layers are mounted, and tells its name. Nothing holds it: it goes with the
/// image at the latest.
fn view_topmost(containerd: &Containerd) -> String {
    let listed = containerd.says(&["snapshots", "--snapshotter", NAME, "list"]);
    let rows = listed.lines().skip(1);
    let rows: Vec<Vec<&str>> = rows.map(|row| row.split_whitespace().collect()).collect();
    let is_parent = |name: &str| rows.iter().any(|row| row.get(1) == Some(&name));
    let top = rows.iter().find(|row| !is_parent(row[0]));
    let top = top.expect("one is not")[0];
    containerd.says(&["snapshots", "--snapshotter", NAME, "view", "view", top]);
    top.to_owned()
}

/// What was converted by then is there when containerd prepares its snapshot, so that it does not ask for it to be unpacked. All
/// blobs are there too, with the labels that tell where they came from and what is in them.
#[test]
fn layers_are_there_when_they_are_prepared() {
    const MANY: u64 = 24;
    const NATIVE: u64 = 3;
    let setup = require!(needs("2.1"));
    let workshop = Workshop::light();
    let tar = image_of(MANY, Some(NATIVE), &workshop, |_| ());
    let registry = Registry::start(&setup.program("docker-registry"));
    let containerd = Containerd::start(&setup);
    let name = registry.image("image:1");
    containerd.push(&tar, IMAGE, &name);
    for _ in 0..3 {
        containerd.wait(|containerd| containerd.files().is_empty());
        let before = unpacked_before(&containerd);
        containerd.says(&[
            "image",
            "pull",
            "--plain-http",
            "--snapshotter",
            NAME,
            &name,
        ]);
        // The lowest, the image and the topmost are unpacked; the others may be as well, if they come late.
        let sooner = unpacked_before(&containerd) - before;
        assert!((1..MANY as usize - 2).contains(&sooner), "{sooner} layers");
        assert_eq!(ingested(&containerd), 0);
        assert_eq!(containerd.snapshots().expect("listed").len() as u64, MANY);
        view_topmost(&containerd);
        show(&containerd, MANY);

        containerd.wait(|containerd| {
            let blobs = containerd.says(&["content", "list"]);
            let from = "containerd.io/distribution.source.";
            let is_labelled =
                |blob: &&str| blob.contains(from) && blob.contains("containerd.io/uncompressed=");
            blobs.lines().filter(is_labelled).count() as u64 == MANY
        });
        succeed(&mut containerd.ctr(&["image", "rm", "--sync", &name]));
    }
    containerd.wait(|containerd| containerd.files().is_empty());
    assert_eq!(containerd.mounted(), 0);
}

/// More than 64 layers are merged when somebody looks at them, and never mounted one by one.
#[test]
fn a_hundred_layers_are_one_mount() {
    const MANY: u64 = 66;
    let setup = require!(needs("2.1"));
    let workshop = Workshop::light();
    let tar = image_of(MANY, None, &workshop, |_| ());
    let containerd = Containerd::start(&setup);
    succeed(&mut containerd.ctr(&import("2.1", NAME, &tar)));
    assert_eq!(containerd.mounted(), 0);
    let topmost = view_topmost(&containerd);
    // Older kernels would want a loop device for each layer all the same.
    let mounts = if release() < (6, 12) {
        MANY as usize
    } else {
        1
    };
    assert_eq!(containerd.mounted(), mounts);
    show(&containerd, MANY);

    // What one of them has over the others: no differ but ours makes an image of that.
    let image = workshop.path("topmost.erofs");
    let diff = layer(&containerd, Packing::Native.media_type(), &topmost);
    fs::write(&image, diff).expect("written");
    let own = format!("/{}", MANY - 1);
    let read = erofs()
        .expect("asked for")
        .arg("cat")
        .arg(&image)
        .arg(&own)
        .output();
    let read = read.expect("starts");
    assert!(
        read.status.success(),
        "{}",
        String::from_utf8_lossy(&read.stderr)
    );
    assert!(read.stdout == noise(MANY - 1, 10_000), "{own}");
}

/// Whatever happens when a layer that was converted before becomes a snapshot: nothing is left of it, and the next pull works.
#[test]
fn layers_that_are_there_outlive_a_death() {
    const MANY: u64 = 12;
    let setup = require!(needs("2.1"));
    let workshop = Workshop::light();
    let tar = image_of(MANY, None, &workshop, |_| ());
    let registry = Registry::start(&setup.program("docker-registry"));
    let mut containerd = Containerd::start(&setup);
    let name = registry.image("image:1");
    containerd.push(&tar, IMAGE, &name);
    let pull = [
        "image",
        "pull",
        "--plain-http",
        "--snapshotter",
        NAME,
        &name,
    ];
    for (fault, dies) in [
        ("layer.built=kill:6", true),
        ("layer.named=kill:6", true),
        ("layer.published=kill:6", true),
        ("database.changed=kill:14", true),
        ("database.committed=kill:14", true),
        ("layer.built=enospc:6", false),
        ("layer.published=eio:6", false),
    ] {
        containerd.restart_plugin(Some(fault));
        let before = unpacked_before(&containerd);
        let pulled = containerd.ctr(&pull).output().expect("starts");
        assert!(!pulled.status.success(), "{fault}");
        assert_eq!(containerd.plugin_died(), dies, "{fault}");
        assert!(
            unpacked_before(&containerd) > before,
            "{fault}: it came too soon"
        );
        if dies {
            containerd.restart_plugin(None);
        }
        containerd.wait(|containerd| ingested(containerd) == 0);
        if !dies {
            containerd.restart_plugin(None);
        }
        // containerd waits a while before it connects again.
        containerd.wait(|containerd| {
            let pulled = containerd.ctr(&pull).output().expect("starts");
            pulled.status.success()
        });
        view_topmost(&containerd);
        show(&containerd, MANY);
        succeed(&mut containerd.ctr(&["image", "rm", "--sync", &name]));
        containerd.wait(|containerd| containerd.files().is_empty());
    }
    containerd.stop_plugin();
    let found = contradictions(&containerd.root()).expect("readable");
    assert!(found.is_empty(), "{found:#?}");
}

/// The second layer cannot be unpacked, so nobody asks for those above it.
#[test]
fn what_nobody_asks_for_is_thrown_away() {
    let version = "2.1";
    let setup = require!(needs(version));
    let workshop = Workshop::light();
    let broken = image(&workshop, |layer| layer.truncate(layer.len() / 2));
    let containerd = Containerd::start(&setup);
    let refused = containerd.ctr(&import(version, NAME, &broken)).output();
    let refused = refused.expect("starts");
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(!refused.status.success() && said.contains("gzip"), "{said}");
    assert_eq!(ahead(&containerd), 0);
    containerd.wait(|containerd| ingested(containerd) == 0);
}
