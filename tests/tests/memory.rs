//! Memory stays bounded whatever the source.

use std::{
    io::{BufWriter, Write},
    process::{Command, Stdio},
};

use erofs_tests::{require, skip, ustar};

/// Runs `erofs` under GNU time while `feed` writes its standard input; peak resident memory in KiB.
fn peak(arguments: &[&str], feed: impl FnOnce(&mut dyn Write)) -> Result<u64, skip::Reason> {
    let erofs = skip::erofs_binary()?;
    let time = skip::program("time")?;
    let directory = tempfile::tempdir().expect("a temporary directory");
    let report = directory.path().join("time");
    let mut child = Command::new(time)
        .args(["-q", "-f", "%M", "-o"])
        .args([&report, &erofs])
        .args(arguments)
        .arg(directory.path().join("image.erofs"))
        .stdin(Stdio::piped())
        .spawn()
        .expect("starts");
    let mut stdin = BufWriter::with_capacity(1 << 20, child.stdin.take().expect("piped"));
    feed(&mut stdin);
    drop(stdin);
    assert!(child.wait().expect("waited").success());
    let report = std::fs::read_to_string(report).expect("written by time");
    Ok(report.trim().parse().expect("KiB"))
}

#[test]
fn a_million_files_from_a_tar() {
    let kib = require!(peak(&["build", "--quiet", "-", "-o"], |tar| {
        for n in 0..1_000_000u32 {
            let name = format!("{:03}/{:03}/file-{n}", n / 10_000, n / 100 % 100);
            let mut member = [0; 1024];
            member[..512].copy_from_slice(&ustar::header(&name, 8));
            member[512..516].copy_from_slice(&n.to_le_bytes());
            tar.write_all(&member).expect("taken");
        }
        tar.write_all(&[0; 1024]).expect("taken");
    }));
    println!("{kib} KiB");
    assert!(kib <= 200 << 10, "{kib} KiB");
}

#[test]
#[ignore = "2 GiB of data"]
fn one_large_file_compressed() {
    let block = erofs_tests::awkward::bytes::text(1, 1 << 20);
    let kib = require!(peak(
        &["build", "--quiet", "-zzstd", "-C1m", "-", "-o"],
        |tar| {
            tar.write_all(&ustar::header("large", 2 << 30))
                .expect("taken");
            for _ in 0..2048 {
                tar.write_all(&block).expect("taken");
            }
            tar.write_all(&[0; 1024]).expect("taken");
        }
    ));
    println!("{kib} KiB");
    assert!(kib <= 192 << 10, "{kib} KiB");
}
