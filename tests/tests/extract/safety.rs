//! Extraction under attack: from the image, from beside, and without room.

use std::{
    fs,
    os::unix::fs::symlink,
    path::Path,
    process::{Command, Stdio},
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use erofs_format::Nid;
use erofs_tests::{
    require, skip,
    tree::{Content, Tree},
};

use super::{SmallDisk, Workshop, ended, hostile::Hostile, names};

#[test]
fn whoever_swaps_directories_gains_nothing() {
    let workshop = require!(Workshop::new());
    let mut tree = Tree::new();
    for outer in 0..6u8 {
        tree.directory(format!("{outer}"));
        for inner in 0..20u8 {
            tree.directory(format!("{outer}/{inner:02}"));
            for file in 0..10u8 {
                let path = format!("{outer}/{inner:02}/{file}");
                tree.file(path, Content::dense(vec![file; 10_000]));
            }
        }
    }
    workshop.build(&tree, &[]);
    let (out, outside) = (workshop.path("out"), workshop.path("outside"));
    fs::create_dir(&outside).expect("made");
    for inner in 0..20u8 {
        fs::create_dir(outside.join(format!("{inner:02}"))).expect("made");
    }
    let before = names(&outside);
    let done = AtomicBool::new(false);
    let swaps = std::thread::scope(|scope| {
        let swapper = scope.spawn(|| {
            let mut swaps = 0u32;
            while !done.load(Ordering::Relaxed) {
                for name in ["0", "3", "1", "5"] {
                    let (inside, moved) = (out.join(name), out.join(format!("moved-{name}")));
                    if fs::rename(&inside, &moved).is_ok() && symlink(&outside, &inside).is_ok() {
                        swaps += 1;
                        std::thread::sleep(Duration::from_micros(200));
                    }
                    // Whatever stands there now: the link, or nothing.
                    let _ = fs::remove_file(&inside);
                    let _ = fs::rename(&moved, &inside);
                }
            }
            swaps
        });
        for _ in 0..8 {
            let output = workshop.extract(&["out", "--force", "--no-same-owner", "--workers=4"]);
            assert!(matches!(output.status.code(), Some(0 | 1)), "{output:?}");
        }
        done.store(true, Ordering::Relaxed);
        swapper.join().expect("no panic")
    });
    assert!(swaps > 20, "{swaps} swaps");
    assert_eq!(names(&outside), before);
}

#[test]
fn a_bomb_ends_with_the_disk() {
    require!(skip::root());
    let workshop = require!(Workshop::new());
    let mut tree = Tree::new();
    tree.file("bomb", Content::dense(vec![0; 64 << 20]));
    tree.file("small", Content::dense(b"small".to_vec()));
    workshop.build(&tree, &["-zzstd", "-C64k"]);
    assert!(fs::metadata(workshop.path("image")).expect("there").len() < 1 << 20);
    let disk = workshop.path("disk");
    let disk = SmallDisk::new(&disk);
    for words in [&["disk/out"][..], &["--tar=disk/tar"]] {
        let output = workshop.extract(words);
        ended(&output, 2);
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(error.contains("No space left"), "{error}");
    }
    assert!(!disk.0.join("tar").exists());
    let left = names(&disk.0.join("out"));
    assert!(left == [""] || left == ["", "small"], "{left:?}");
}

#[test]
fn entries_without_end_come_to_one() {
    let workshop = require!(Workshop::new());
    let mut image = Hostile::new();
    image.directory(&[(b"long", Hostile::nid(2))]);
    image.file(b"content");
    // Two million names in 4 MiB: all chunks are the same block.
    let entries: [(&[u8], Nid); 2] = [(b"a", Hostile::nid(1)), (b"b", Hostile::nid(1))];
    image.repeated_directory(&entries, 1 << 20);
    workshop.write_image(image);
    for words in [&["out", "--no-same-owner"][..], &["--tar=tar"]] {
        let started = Instant::now();
        let output = workshop.extract(words);
        ended(&output, 2);
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(error.lines().count() < 110, "{error}");
        let elapsed = started.elapsed();
        assert!(elapsed < Duration::from_secs(60), "{elapsed:?}");
    }
    // What waited for its turn was given up too.
    assert_eq!(names(&workshop.path("out")), ["", "long"]);
    assert!(!workshop.path("tar").exists());
}

#[test]
fn a_kill_leaves_no_half_large_file() {
    let workshop = require!(Workshop::new());
    let mut tree = Tree::new();
    for file in 0..6u8 {
        let content = vec![file + 1; 24 << 20];
        tree.file(format!("{file}"), Content::dense(content));
    }
    workshop.build(&tree, &["--no-dedupe"]);
    for (name, least) in [("out-1", 1), ("out-4", 4)] {
        let out = workshop.path(name);
        let mut child = workshop
            .erofs("extract")
            .args(["image".as_ref(), out.as_os_str()])
            .args(["--workers=3", "--no-same-owner"])
            .stdout(Stdio::null())
            .spawn()
            .expect("starts");
        while files(&out).len() < least {
            assert!(child.try_wait().expect("waited").is_none(), "ended early");
            std::thread::sleep(Duration::from_millis(1));
        }
        child.kill().expect("killed");
        child.wait().expect("waited");
        for name in files(&out).iter().filter(|name| !name.starts_with('.')) {
            let file: u8 = name.parse().expect("a number");
            let content = fs::read(out.join(name)).expect("readable");
            assert!(content == vec![file + 1; 24 << 20], "{name} is half");
        }
    }
    let tar = workshop.path("tar");
    let mut child = workshop
        .erofs("extract")
        .args(["image", "--tar=tar", "--quiet"])
        .spawn()
        .expect("starts");
    std::thread::sleep(Duration::from_millis(20));
    child.kill().expect("killed");
    child.wait().expect("waited");
    if tar.exists() {
        // It was faster.
        let list = Command::new("tar").arg("-tf").arg(&tar).output();
        ended(&list.expect("starts"), 0);
    }
}

fn files(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).into_iter().flatten();
    entries
        .map(|entry| entry.expect("readable").file_name())
        .map(|name| name.into_string().expect("text"))
        .collect()
}
