//! What is told about mounts: the plan, features, JSON, and every mistake in one line.

use std::fs;

use erofs_tests::{require, skip};
use serde_json::Value;

use super::workshop::{Workshop, keys, text};

#[test]
fn explain_names_the_plan_the_rejected_ways_and_the_attempts() {
    require!(skip::kernel_erofs());
    let workshop = require!(Workshop::new());
    let told = workshop.fine(&["mount", "--explain", "--via=loop", "image", "target"]);
    for part in [
        "image: needs Linux 5.4 (4096-byte blocks), this is ",
        "\nplan:\n  1. loop device, direct I/O: asked for\n",
        "\n  not file-backed: not asked for (via=loop)\n",
        "\n  not FUSE: not asked for (via=loop)\n",
        "\nattempts:\n  loop device, direct I/O: mounted\n",
    ] {
        assert!(told.contains(part), "{part:?} in {told}");
    }
    workshop.fine(&["umount", "target"]);

    // The kernel refuses files of tmpfs: no way to ask it first.
    let told = workshop.script(
        "mkdir memory\nmount -t tmpfs tmpfs memory\ncp image memory\n\
         \"$erofs\" mount --explain memory/image target\n\"$erofs\" umount target",
    );
    let told = text(&told.stdout);
    assert!(told.contains("\n  not file-backed: "), "{told}");
    assert!(
        told.contains("tmpfs cannot carry file-backed mounts"),
        "{told}"
    );
    assert!(
        told.contains("\n  loop device: mounted\n")
            || told.contains("loop device, direct I/O: mounted"),
        "{told}"
    );
    workshop.nothing_is_left();
}

#[test]
fn json_keeps_its_keys() {
    require!(skip::kernel_erofs());
    let workshop = require!(Workshop::new());
    let account = workshop.json(&["mount", "--json", "image", "target"]);
    assert_eq!(
        keys(&account),
        [
            "attempts",
            "devices",
            "direct_io",
            "error",
            "image",
            "mounted",
            "plan",
            "rejected",
            "target",
            "via"
        ]
    );
    assert_eq!(
        keys(&account["plan"][0]),
        ["direct_io", "reason", "unproven", "way"]
    );
    assert_eq!(
        keys(&account["attempts"][0]),
        ["consequence", "direct_io", "error", "way"]
    );
    assert_eq!(account["mounted"], account["plan"][0]["way"]);
    assert!(account["error"].is_null());
    workshop.fine(&["umount", "target"]);

    let features = workshop.json(&["features", "--json", "image"]);
    assert_eq!(
        keys(&features),
        ["abilities", "image", "machine", "probed_in"]
    );
    assert_eq!(
        keys(&features["machine"]),
        [
            "driver",
            "driver_module",
            "fuse_device",
            "fusermount",
            "kernel",
            "loop_devices",
            "mount_contexts",
            "page_size",
            "privilege",
            "sysfs_features"
        ]
    );
    assert_eq!(features["machine"]["privilege"], "full");
    assert_eq!(
        keys(&features["abilities"][0]),
        ["ability", "found_by", "since", "verdict"]
    );
    assert_eq!(
        keys(&features["image"]),
        [
            "block_size",
            "devices",
            "error",
            "extra_devices",
            "needs",
            "oldest_kernel",
            "oldest_kernel_because",
            "path",
            "plan",
            "rejected"
        ]
    );
    assert_eq!(features["image"]["oldest_kernel"], "5.4");
    assert_eq!(features["image"]["plan"][0]["way"], account["mounted"]);
    let folder = workshop.json(&["features", "--json"]);
    assert!(folder["image"].is_null());
    workshop.nothing_is_left();
}

/// A table of what was probed says the same as a mount.
#[test]
fn features_are_found_out_by_probes() {
    require!(skip::kernel_erofs());
    let workshop = require!(Workshop::new());
    let features = workshop.json(&["features", "--json"]);
    let abilities = features["abilities"].as_array().expect("an array");
    let row = |name: &str| {
        let mut rows = abilities.iter();
        rows.find(|row| row["ability"] == name)
            .unwrap_or_else(|| panic!("no {name}"))
    };
    assert_eq!(row("4096-byte blocks")["verdict"], "works");
    assert_eq!(
        row("4096-byte blocks")["found_by"],
        "a probe was mounted and read"
    );
    let file_backed = row("file-backed mounts")["verdict"] == "works";
    let output = workshop.run(&["mount", "--via=file", "image", "target"]);
    assert_eq!(output.status.success(), file_backed, "{output:?}");
    let table = workshop.fine(&["features", "image"]);
    for part in [
        "\n/dev/fuse ",
        "\nprivileges ",
        "\nloop devices ",
        "\nABILITY ",
        "needs Linux 5.4 for 4096-byte blocks\n",
        "\n1. ",
    ] {
        assert!(table.contains(part), "{part:?} in {table}");
    }
}

#[test]
fn mistakes_are_named_in_one_line() {
    let workshop = require!(Workshop::new());
    for (arguments, expected) in [
        (&["absent", "target"][..], "absent: No such file"),
        (&["image", "absent"], "absent: No such file"),
        (&["image", "source/file"], "source/file: not a directory"),
        (&["source/file", "target"], "no EROFS magic"),
        (&["--offset=4096", "image", "target"], "--offset BYTES"),
        (&["-orw", "image", "target"], "drop \"rw\""),
        (
            &["-oremount", "image", "target"],
            "the business of mount(8)",
        ),
        (
            &["-ooffset=x", "image", "target"],
            "offset=\"x\": expected a number of bytes",
        ),
        (&["-odevice=\"x", "image", "target"], "closing one"),
        (
            &["--fuse", "-osurprise", "image", "target"],
            "\"surprise\" is not known to the FUSE server",
        ),
        (
            &["--device=source/file", "image", "target"],
            "0 extra devices, 1 were given",
        ),
        (
            &["--via=file", "-osizelimit=4096", "image", "target"],
            "sizelimit= needs a loop device",
        ),
    ] {
        let error = workshop.refused(&[&["mount"], arguments].concat());
        assert!(
            error.starts_with("erofs: ") && error.contains(expected),
            "{arguments:?}: {error}"
        );
    }
    for (arguments, expected) in [
        (
            &["--via=nfs", "image", "target"][..],
            "one of auto, file, loop, fuse",
        ),
        (
            &["--via=file", "--fuse", "image", "target"],
            "cannot be used with",
        ),
        (&["image"], "<DIR>"),
        (&["--list", "image", "target"], "cannot be used with"),
    ] {
        let output = workshop.run(&[&["mount"], arguments].concat());
        assert_eq!(output.status.code(), Some(2), "{output:?}");
        assert!(text(&output.stderr).contains(expected), "{output:?}");
    }
    let error = workshop.refused(&["umount", "target"]);
    assert!(error.contains("is not a mount point"), "{error}");
    let error = workshop.refused(&["umount", "/proc"]);
    assert!(error.contains("is a mount of proc"), "{error}");
    workshop.nothing_is_left();
}

#[test]
fn names_of_two_lines_are_told_on_one() {
    require!(skip::kernel_erofs());
    let workshop = require!(Workshop::new());
    let (image, target) = ("image\nof two", "target\nof two");
    std::fs::rename(workshop.at("image"), workshop.at(image)).expect("renamed");
    std::fs::create_dir(workshop.at(target)).expect("made");
    let told = workshop.fine(&["mount", "-v", image, target]);
    let listed = workshop.fine(&["mount", "--list"]);
    let gone = workshop.fine(&["umount", "-v", target]);
    for text in [told, listed, gone] {
        let line = text.lines().find(|line| line.contains("image\\nof two"));
        assert!(
            line.is_some_and(|line| line.contains("target\\nof two")),
            "{text}"
        );
    }
    std::fs::remove_dir(workshop.at(target)).expect("empty");
    std::fs::rename(workshop.at(image), workshop.at("image")).expect("renamed");
    workshop.nothing_is_left();
}

#[test]
fn the_helper_has_a_version_and_help() {
    let workshop = require!(Workshop::new());
    let helper = workshop.at("mount.erofs");
    std::os::unix::fs::symlink(&workshop.erofs, &helper).expect("made");
    for (word, expected) in [("-V", "mount.erofs (erofs) "), ("--help", "Examples:\n")] {
        let output = std::process::Command::new(&helper).arg(word).output();
        let output = output.expect("starts");
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        assert!(text(&output.stdout).contains(expected), "{output:?}");
    }
}

#[test]
fn the_kernel_names_an_unknown_option() {
    require!(skip::kernel_erofs());
    let workshop = require!(Workshop::new());
    let error = workshop.refused(&["mount", "--via=loop", "-osurprise", "image", "target"]);
    assert!(error.contains("surprise"), "{error}");
    workshop.nothing_is_left();
}

#[test]
fn a_corrupt_image_is_refused_by_the_first_way() {
    require!(skip::kernel_erofs());
    let workshop = require!(Workshop::new());
    let mut image = fs::read(workshop.at("image")).expect("read");
    image[1024 + 16] ^= 1; // The superblock's checksum no longer fits.
    fs::write(workshop.at("image"), image).expect("written");
    let error = workshop.refused(&["mount", "image", "target"]);
    assert!(error.contains(" is corrupt: "), "{error}");
    assert!(error.contains("build it anew"), "{error}");
    let output = workshop.run(&["mount", "--json", "image", "target"]);
    assert_eq!(output.status.code(), Some(2));
    let account: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert!(
        account["plan"].as_array().expect("an array").len() >= 2,
        "{account}"
    );
    let attempts = account["attempts"].as_array().expect("an array");
    assert_eq!(attempts.len(), 1, "{account}");
    assert_eq!(attempts[0]["consequence"], "the image is corrupt");
    assert!(account["mounted"].is_null());
    assert!(
        account["error"]
            .as_str()
            .expect("text")
            .contains(" is corrupt: ")
    );
    workshop.nothing_is_left();
}
