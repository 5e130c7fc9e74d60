//! A build that ends early leaves nothing under the final name.

use std::{
    fs,
    io::Write,
    process::{Command, Stdio},
};

use erofs_tests::{require, skip, ustar};

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
