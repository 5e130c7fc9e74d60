//! What is mounted by every way: the image, parts of files, indexes with their blobs; nothing is left behind.

use std::fs;

use erofs_tests::{
    require,
    skip::{self, Reason},
};

use super::workshop::{Workshop, keys, text, ways};

#[test]
fn every_way_shows_the_image_and_leaves_nothing() {
    let workshop = require!(Workshop::new());
    for (way, kind) in require!(ways()) {
        let told = workshop.fine(&[
            "mount", "-v", "--via", way, "image", "target", "-o", "nosuid",
        ]);
        assert!(told.starts_with("image mounted on target: "), "{told}");
        let (shown, options) = workshop.mounted().expect("mounted");
        assert_eq!(shown, kind);
        assert!(options.starts_with("ro,nosuid,"), "{options}");
        workshop.shows_the_source();
        // A daemon and its supervisor, a loop device, or nothing.
        let helpers = [("fuse", 2), ("loop", 1), ("file", 0)];
        let expected = helpers.iter().find(|(name, _)| *name == way);
        let found = workshop.left_behind();
        assert_eq!(
            Some(found.len()),
            expected.map(|(_, count)| *count),
            "{way}: {found:?}"
        );

        let target = workshop.at("target");
        let listed = workshop.json(&["mount", "--list", "--json"]);
        let mut rows = listed.as_array().expect("an array").iter();
        let row = rows.find(|row| row["mount_point"] == target.to_str().expect("text"));
        let row = row.expect("listed");
        assert_eq!(
            keys(row),
            ["backing_file", "mount_point", "options", "source", "way"]
        );
        assert_eq!(row["way"], way);
        let image = if way == "loop" {
            &row["backing_file"]
        } else {
            &row["source"]
        };
        assert_eq!(image, workshop.at("image").to_str().expect("text"));
        let table = workshop.fine(&["mount", "--list"]);
        assert!(table.contains(target.to_str().expect("text")), "{table}");

        let told = workshop.fine(&["umount", "-v", "target"]);
        assert!(told.ends_with(" unmounted from target\n"), "{told}");
        workshop.nothing_is_left();
    }
}

#[test]
fn an_image_within_a_file() {
    let workshop = require!(Workshop::new());
    let image = fs::read(workshop.at("image")).expect("read");
    fs::write(workshop.at("bundle"), [vec![0xEE; 1 << 20], image].concat()).expect("written");
    for (way, _) in require!(ways()) {
        // By file since Linux 6.16 only.
        let way = if way == "file" { "auto" } else { way };
        workshop.fine(&["mount", "--via", way, "--offset=1M", "bundle", "target"]);
        workshop.shows_the_source();
        workshop.fine(&["umount", "target"]);
        workshop.nothing_is_left();
    }
}

#[test]
fn an_image_in_use_is_detached_only_lazily() {
    let workshop = require!(Workshop::new());
    fs::create_dir(workshop.at("other")).expect("made");
    for (way, _) in require!(ways()) {
        workshop.fine(&["mount", "--via", way, "image", "target"]);
        let file = fs::File::open(workshop.at("target/file")).expect("opens");
        // A mistake with one directory does not keep the others.
        let error = workshop.refused(&["umount", "other", "target"]);
        assert!(error.contains("other is not a mount point; "), "{error}");
        assert!(error.contains("target is in use (--lazy "), "{error}");
        assert!(workshop.mounted().is_some());
        workshop.fine(&["umount", "--lazy", "target"]);
        assert_eq!(workshop.mounted(), None);
        let read = std::io::read_to_string(std::io::Read::take(&file, 4)).expect("still readable");
        assert_eq!(read, "\0\0\0\0");
        drop(file);
        workshop.nothing_is_left();
    }
}

/// An index finds its blobs by the tags of its slots, wherever the two are moved together.
#[test]
fn an_index_finds_its_blobs() {
    let workshop = require!(Workshop::new());
    for (name, length) in [("first.bin", 70_001u32), ("second.bin", 12_288)] {
        let content: Vec<u8> = (0..length).map(|byte| (byte * 7 % 251) as u8).collect();
        fs::create_dir_all(workshop.at("raw")).expect("made");
        fs::write(workshop.at("raw").join(name), content).expect("written");
    }
    workshop.fine(&[
        "index",
        "raw/first.bin",
        "raw/second.bin",
        "-o",
        "raw/index",
        "--quiet",
    ]);
    let shows_the_blobs = |folder: &str| {
        for name in ["first.bin", "second.bin"] {
            let shown = fs::read(workshop.at("target").join(name)).expect("read");
            assert!(
                shown == fs::read(workshop.at(folder).join(name)).expect("read"),
                "{name}"
            );
        }
        workshop.fine(&["umount", "target"]);
        workshop.nothing_is_left();
    };
    fs::rename(workshop.at("raw"), workshop.at("moved")).expect("moved");
    for (way, _) in require!(ways()) {
        let account = workshop.json(&["mount", "--json", "--via", way, "moved/index", "target"]);
        let devices = account["devices"].as_array().expect("an array");
        assert_eq!(devices.len(), 2, "{account}");
        assert_eq!(
            devices[1],
            workshop.at("moved/second.bin").to_str().expect("text")
        );
        shows_the_blobs("moved");
    }

    fs::create_dir(workshop.at("elsewhere")).expect("made");
    fs::rename(
        workshop.at("moved/second.bin"),
        workshop.at("elsewhere/blob"),
    )
    .expect("moved");
    let error = workshop.refused(&["mount", "moved/index", "target"]);
    for part in [
        "device slot 2",
        "\"second.bin\"",
        "/moved;",
        "--device PATH",
    ] {
        assert!(error.contains(part), "{part:?} in {error}");
    }
    let devices = ["--device=moved/first.bin", "--device=elsewhere/blob"];
    let mount = [&["mount", "moved/index", "target"], &devices[..]].concat();
    workshop.fine(&mount);
    fs::copy(
        workshop.at("elsewhere/blob"),
        workshop.at("moved/second.bin"),
    )
    .expect("copied");
    shows_the_blobs("moved");
    let error = workshop.refused(&mount[..4]);
    assert!(error.contains("2 extra devices, 1 were given"), "{error}");

    fs::write(workshop.at("moved/second.bin"), "short").expect("written");
    let error = workshop.refused(&["mount", "moved/index", "target"]);
    assert!(
        error.contains("has 5 bytes, but the blob of device slot 2 has at least 8192"),
        "{error}"
    );
    workshop.nothing_is_left();
}

/// Blocks larger than the pages of x86-64; on arm64 pages may be larger.
#[test]
fn what_the_kernel_cannot_read_goes_to_fuse_aloud() {
    require!(skip::kernel_erofs());
    require!(skip::fuse());
    let workshop = require!(Workshop::new());
    if rustix::param::page_size() != 4096 {
        return skip::report(&Reason("the kernel's pages are larger".into()));
    }
    let image = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../images/probe/block-16384.erofs"
    );
    let output = workshop.run(&["mount", image, "target"]);
    assert!(output.status.success(), "{output:?}");
    assert_eq!(
        text(&output.stderr),
        "erofs: mounted through FUSE: 16384-byte blocks: larger than this machine's pages\n"
    );
    assert_eq!(workshop.mounted().expect("mounted").0, "fuse.erofs");
    let probe = fs::read(workshop.at("target/probe")).expect("read");
    assert!(!probe.is_empty());
    workshop.fine(&["umount", "target"]);
    let error = workshop.refused(&["mount", "--via=loop", image, "target"]);
    assert!(
        error.contains("larger than this machine's pages"),
        "{error}"
    );
    assert!(error.contains("--via auto"), "{error}");
    workshop.nothing_is_left();
}
