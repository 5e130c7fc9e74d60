//! Hostile tars end with exit code 1, one reason, and nothing left behind.

use std::{collections::BTreeSet, fs};

use erofs_tests::{require, ustar, workshop::Workshop};

use super::{link, needs, run};

/// Names in the workshop.
fn names(workshop: &Workshop) -> BTreeSet<String> {
    let entries = fs::read_dir(workshop.directory.path()).unwrap();
    entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect()
}

fn tar(members: &[[u8; 512]], end: usize) -> Vec<u8> {
    let mut tar = members.concat();
    tar.resize(tar.len() + end, 0);
    tar
}

#[test]
fn nothing_is_left_of_a_failure() {
    require!(needs());
    let workshop = Workshop::light();
    let mut damaged = ustar::header("file", 0);
    damaged[0] = b'F';
    let mut negative = ustar::header("file", 0);
    negative[124..136].fill(0xFF);
    let cases = [
        ("no tar at all", vec![b'x'; 4096]),
        ("a tar without a byte", Vec::new()),
        (
            "a path that leaves",
            tar(&[ustar::header("../up", 0)], 1024),
        ),
        (
            "a name below a file",
            tar(&[ustar::header("a", 0), ustar::header("a/b", 0)], 1024),
        ),
        (
            "a link to nothing",
            tar(&[ustar::hard_link("a", "b")], 1024),
        ),
        ("an image", {
            let mut image = tar(&[], 4096);
            image[1024..1028].copy_from_slice(&0xE0F5_E1E2u32.to_le_bytes());
            image
        }),
        ("a wrong checksum", tar(&[damaged], 1024)),
        ("a negative size", tar(&[negative], 1024)),
        (
            "data that is cut off",
            tar(&[ustar::header("a", 5000)], 1024),
        ),
        (
            "data without end",
            tar(&[ustar::header("a", (8 << 30) - 1)], 1024),
        ),
        (
            "a whiteout without a name",
            tar(&[ustar::header(".wh.", 0)], 1024),
        ),
    ];
    link(&workshop);
    for (what, bytes) in cases {
        fs::write(workshop.path("input.tar"), bytes).unwrap();
        let before = names(&workshop);
        for mode in ["--tar=f", "--tar=i"] {
            for file in [false, true] {
                let input = workshop.path("input.tar");
                let mut arguments = vec![mode, "--aufs", "--quiet", "--ungzip=raw", "out.erofs"];
                if file {
                    arguments.push("input.tar");
                }
                let output = run(
                    link(&workshop),
                    &workshop,
                    (!file).then_some(input.as_path()),
                    &arguments,
                );
                let error = String::from_utf8(output.stderr).unwrap();
                assert_eq!(output.status.code(), Some(1), "{what}, {mode}: {error}");
                assert_eq!(error.lines().count(), 1, "{what}, {mode}: {error}");
                assert!(error.starts_with("mkfs.erofs: "), "{what}: {error}");
                assert_eq!(names(&workshop), before, "{what}, {mode}");
            }
        }
    }
}

#[test]
fn an_image_that_stands_survives_a_failure() {
    require!(needs());
    let workshop = Workshop::light();
    fs::write(
        workshop.path("input.tar"),
        tar(&[ustar::header("a", 5000)], 0),
    )
    .unwrap();
    fs::write(workshop.path("out.erofs"), b"what stood here").unwrap();
    let arguments = ["--tar=f", "out.erofs", "input.tar"];
    let output = run(link(&workshop), &workshop, None, &arguments);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(
        fs::read(workshop.path("out.erofs")).unwrap(),
        b"what stood here"
    );
    // Nor does a tar become its own image.
    let output = run(
        link(&workshop),
        &workshop,
        None,
        &["--tar=f", "input.tar", "input.tar"],
    );
    assert_eq!(output.status.code(), Some(1));
}
