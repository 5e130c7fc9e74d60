//! A build that ends early leaves nothing under the final name, and nothing that was mounted stays.

use std::{
    fs,
    io::Write,
    path::Path,
    process::{Command, ExitStatus, Stdio},
    thread,
    time::{Duration, Instant},
};

use erofs_tests::{
    kernel, require, skip,
    tree::{Content, Tree},
    ustar,
    workshop::{Workshop, refused},
};
use rustix::process::{Pid, Signal, kill_process};

/// The first 2 MiB of a tar whose one member should have 4.
fn half_a_tar() -> Vec<u8> {
    let mut tar = ustar::header("big", 4 << 20).to_vec();
    tar.resize(2 << 20, b'x');
    tar
}

#[test]
fn kill_leaves_no_image() {
    let erofs = require!(skip::erofs_binary());
    let directory = tempfile::tempdir().expect("a temporary directory");
    let image = directory.path().join("image.erofs");
    let mut child = Command::new(erofs)
        .args(["build", "-", "-o"])
        .arg(&image)
        .stdin(Stdio::piped())
        .spawn()
        .expect("starts");
    let mut stdin = child.stdin.take().expect("piped");
    // A pipe holds 64 KiB: when all is written, the build is in the middle of the member.
    stdin.write_all(&half_a_tar()).expect("taken");
    assert!(
        child.try_wait().expect("waited").is_none(),
        "still building"
    );
    child.kill().expect("killed");
    child.wait().expect("waited");
    assert!(!image.exists());
}

#[test]
fn a_truncated_source_leaves_nothing() {
    let erofs = require!(skip::erofs_binary());
    let directory = tempfile::tempdir().expect("a temporary directory");
    let tar = directory.path().join("half.tar");
    fs::write(&tar, half_a_tar()).expect("written");
    let folder = directory.path().join("images");
    fs::create_dir(&folder).expect("made");
    let output = Command::new(erofs)
        .args(["build", "-o"])
        .args([folder.join("image.erofs"), tar])
        .output()
        .expect("starts");
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    assert!(
        String::from_utf8_lossy(&output.stderr).contains("big"),
        "{output:?}"
    );
    assert_eq!(
        fs::read_dir(&folder).expect("readable").count(),
        0,
        "no temporary file either"
    );
}

/// Whether something is mounted below a folder.
fn is_mounted_below(folder: &Path) -> bool {
    let mounts = fs::read_to_string("/proc/self/mountinfo").expect("readable");
    mounts.contains(folder.to_str().expect("a plain name"))
}

#[test]
fn signals_leave_no_mount_and_no_folder() {
    let erofs = require!(skip::erofs_binary());
    require!(skip::root().and_then(|()| skip::kernel_erofs()));
    let mut tree = Tree::new();
    for number in 0..3000u32 {
        let text = format!("{number} ").repeat(4000).into_bytes();
        tree.file(format!("{number}"), Content::dense(text));
    }
    let workshop = Workshop::new(&tree);
    for (command, signal, code) in [
        ("try", Signal::INT, 130),
        ("bench", Signal::INT, 130),
        ("bench", Signal::TERM, 143),
        ("try", Signal::HUP, 129),
    ] {
        let folder = workshop.path("temporary");
        // On a busy machine all of the work may be done before the signal comes.
        let code_of_one = (0..20).find_map(|_| {
            fs::create_dir(&folder).expect("made");
            let status = ended_while_mounted(&erofs, command, &workshop.source, &folder, signal);
            assert!(!is_mounted_below(&folder), "{command}");
            fs::remove_dir(&folder).expect("empty");
            status.code().filter(|code| *code != 0)
        });
        assert_eq!(code_of_one, Some(code), "{command}");
    }
}

/// Runs a command, with its temporary files below `folder`, and sends it a signal when it has mounted something.
fn ended_while_mounted(
    erofs: &Path,
    command: &str,
    source: &Path,
    folder: &Path,
    signal: Signal,
) -> ExitStatus {
    // What a shell starts in the background is told to ignore Ctrl-C, which it would go on to do.
    let mut child = Command::new("env")
        .arg("--default-signal=INT,HUP")
        .arg(erofs)
        .arg(command)
        .arg(source)
        .env("TMPDIR", folder)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("starts");
    let started = Instant::now();
    while !is_mounted_below(folder) {
        if let Some(status) = child.try_wait().expect("waited") {
            return status;
        }
        assert!(started.elapsed() < Duration::from_secs(60), "{command}");
        thread::sleep(Duration::from_millis(1));
    }
    let id = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    // It is there, if only to be waited for.
    kill_process(id.expect("an id"), signal).expect("sent");
    child.wait().expect("waited")
}

#[test]
fn what_try_and_bench_write_beside_is_whole_or_not_there() {
    let erofs = require!(skip::erofs_binary());
    require!(skip::root().and_then(|()| skip::kernel_erofs()));
    let mut tree = Tree::new();
    tree.file("file", Content::dense(b"content".to_vec()));
    let workshop = Workshop::new(&tree);
    let (tar, missing) = (workshop.path("tar"), workshop.path("missing/file"));
    let mut bytes = ustar::header("member", 0).to_vec();
    bytes.resize(2048, 0);
    fs::write(&tar, &bytes).expect("written");
    for (command, option) in [("try", "--keep"), ("bench", "--svg")] {
        let mut run = Command::new(&erofs);
        let told = refused(
            run.arg(command)
                .arg(&workshop.source)
                .args([option])
                .arg(&missing),
        );
        assert!(told.contains("missing/file: No such file"), "{told}");
        // Nothing was built first.
        let mut run = Command::new(&erofs);
        let told = refused(run.arg(command).arg(&tar).args([option]).arg(&tar));
        assert!(told.contains("one file"), "{told}");
        assert_eq!(fs::read(&tar).expect("there"), bytes);
    }
    let kept = workshop.source.join("kept.erofs");
    let mut run = Command::new(&erofs);
    run.arg("try")
        .arg(&workshop.source)
        .arg("--keep")
        .arg(&kept);
    for _ in 0..2 {
        let output = run.output().expect("starts");
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        let mounted = kernel::Mounted::new(&kept, kernel::Way::Loop, "").expect("an image");
        assert_eq!(
            fs::read(mounted.path().join("file")).expect("there"),
            b"content"
        );
    }
}
