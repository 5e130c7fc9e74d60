//! A build reads its image back: one that was changed before it got its name is not published.

use std::{
    fs::{self, File},
    io::Write,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    thread,
    time::{Duration, Instant},
};

use erofs_tests::{require, skip, ustar, workshop::refused};

/// The unfinished image of a process, which has no name of its own, once so much of it is written.
fn unfinished(process: u32, folder: &Path, length: u64) -> File {
    let began = Instant::now();
    loop {
        let descriptors = fs::read_dir(format!("/proc/{process}/fd")).expect("it runs");
        let image = descriptors
            .filter_map(|entry| Some(entry.ok()?.path()))
            .find(|path| fs::read_link(path).is_ok_and(|target| target.starts_with(folder)));
        let file = image.map(|path| File::options().write(true).open(path).expect("opens"));
        if let Some(file) = file
            && file.metadata().expect("asked").len() >= length
        {
            return file;
        }
        assert!(began.elapsed() < Duration::from_secs(60), "nothing written");
        thread::sleep(Duration::from_millis(10));
    }
}

/// Builds a tar of one file of 4 MiB, of which byte 600,000 is changed on the disk while the rest is still to come.
fn build_changed(folder: &Path, options: &[&str]) -> (Output, PathBuf) {
    let mut tar = ustar::header("big", 4 << 20).to_vec();
    tar.resize(512 + (4 << 20), b'x');
    tar.resize(tar.len() + 1024, 0);
    let image = folder.join("image.erofs");
    let mut command = Command::new(skip::erofs_binary().expect("asked for"));
    command.args(["build", "-", "--quiet", "-o"]).arg(&image);
    command.args(options).stdin(Stdio::piped());
    let mut child = command.stderr(Stdio::piped()).spawn().expect("starts");
    let mut stdin = child.stdin.take().expect("piped");
    let (first, second) = tar.split_at(3 << 20);
    stdin.write_all(first).expect("taken");
    // Data begins behind the block of the superblock.
    let changed = unfinished(child.id(), folder, 1 << 20);
    changed.write_all_at(b"y", 4096 + 600_000).expect("written");
    stdin.write_all(second).expect("taken");
    drop(stdin);
    (child.wait_with_output().expect("waited"), image)
}

#[test]
fn what_is_not_what_went_in_gets_no_name() {
    require!(skip::erofs_binary());
    let folder = tempfile::tempdir().expect("a temporary directory");
    for options in [&[][..], &["--verify"], &["--chunksize=4096"]] {
        let (output, _) = build_changed(folder.path(), options);
        let error = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{error}");
        assert!(
            error.contains("/big: bytes 524288 to 1048576 are not those of the source"),
            "{error}"
        );
        let left = fs::read_dir(folder.path()).expect("readable").count();
        assert_eq!(left, 0, "{options:?}: something was left behind");
    }
    // Nobody else looks: it is the comparison that finds it.
    let (output, image) = build_changed(folder.path(), &["--no-verify"]);
    assert!(output.status.success(), "{output:?}");
    assert!(image.exists());
}

#[test]
fn an_index_has_nothing_to_verify() {
    let erofs = require!(skip::erofs_binary());
    let folder = tempfile::tempdir().expect("a temporary directory");
    let tar = folder.path().join("one.tar");
    let mut bytes = ustar::header("empty", 0).to_vec();
    bytes.resize(512 + 1024, 0);
    fs::write(&tar, bytes).expect("written");
    let mut merge = Command::new(erofs);
    merge.args(["merge", "--index", "--verify", "-o"]);
    let error = refused(merge.args([folder.path().join("image"), tar]));
    assert!(error.contains("--verify"), "{error}");
}
