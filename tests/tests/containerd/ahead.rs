//! Layers that are converted before containerd asks for them.

use std::fs;
use std::path::PathBuf;

use erofs_tests::containerd::{Containerd, Layout, NAME, Packing};
use erofs_tests::require;
use erofs_tests::workshop::{Workshop, succeed};

use crate::plugin::noise;
use crate::{IMAGE, import, needs};

/// Layers of the image.
const LAYERS: u64 = 5;
/// Bytes of the lowest one.
const LOWEST: usize = 32 << 20;

/// An image whose lowest layer takes so long that all others are done meanwhile; `change` changes the second one.
fn image(workshop: &Workshop, change: impl Fn(&mut Vec<u8>)) -> PathBuf {
    let mut layout = Layout::new(&workshop.path("layout"));
    for own in 0..LAYERS {
        let source = workshop.path(&format!("layer{own}"));
        fs::create_dir_all(&source).expect("made");
        let size = if own == 0 { LOWEST } else { 10_000 };
        fs::write(source.join(own.to_string()), noise(own, size)).expect("written");
        layout.layer(&source, Packing::Gzip, |layer| {
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

        // Each shows what it should.
        let mounted = containerd.root().join("m");
        let mounted = fs::read_dir(mounted).expect("read");
        let mut seen = 0;
        for point in mounted {
            let point = point.expect("read").path();
            for own in 0..LAYERS {
                if let Ok(content) = fs::read(point.join(own.to_string())) {
                    let size = if own == 0 { LOWEST } else { 10_000 };
                    assert!(content == noise(own, size), "{own}");
                    seen += 1;
                }
            }
        }
        assert_eq!(seen, LAYERS);
    }
}

#[test]
fn layers_are_converted_ahead_under_containerd_2_1() {
    are_converted_ahead("2.1");
}

#[test]
fn layers_are_converted_ahead_under_containerd_1_7() {
    are_converted_ahead("1.7");
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
