//! `--gzinfo`: where decoding can begin, byte for byte as the C tool says it.

use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
};

use erofs_tests::{
    archive,
    awkward::bytes,
    require,
    tree::{Content, Tree},
    workshop::Workshop,
};

use super::{link, manifest, needs, peer, run};

fn gzip(input: &Path, output: &Path, level: &str) {
    let mut command = Command::new("gzip");
    command.args(["-c", level]).arg(input);
    let file = fs::File::create(output).unwrap();
    assert!(
        command
            .stdout(Stdio::from(file))
            .status()
            .unwrap()
            .success()
    );
}

#[test]
fn gzip_indexes_are_those_of_the_c_tool() {
    require!(needs());
    let mut tree = Tree::new();
    tree.file("text", Content::dense(bytes::text(1, 5 << 20)));
    tree.file("noise", Content::dense(bytes::random(2, 5 << 20)));
    tree.file("more", Content::dense(bytes::text(3, 1 << 20)));
    let workshop = Workshop::new(&tree);
    let tar = workshop.path("a.tar");
    archive::create(&workshop.source, &tar, &[]);
    gzip(&tar, &workshop.path("a.gz"), "-6");
    // One member behind the other, as in eStargz.
    let whole = fs::read(&tar).unwrap();
    let mut members = Vec::new();
    for part in [&whole[..700], &whole[700..6_000_000], &whole[6_000_000..]] {
        fs::write(workshop.path("part"), part).unwrap();
        gzip(&workshop.path("part"), &workshop.path("part.gz"), "-1n");
        members.extend(fs::read(workshop.path("part.gz")).unwrap());
    }
    fs::write(workshop.path("members.gz"), members).unwrap();
    for name in ["a.gz", "members.gz"] {
        for mode in ["--tar=f", "--tar=i"] {
            for (tool, index, image) in [
                (peer(), "--gzinfo=theirs", "theirs.erofs"),
                (link(&workshop), "--gzinfo=ours", "ours.erofs"),
            ] {
                let output = run(
                    tool,
                    &workshop,
                    None,
                    &["--quiet", mode, index, image, name],
                );
                assert!(output.status.success(), "{name}: {output:?}");
            }
            let theirs = fs::read(workshop.path("theirs")).unwrap();
            assert!(theirs.len() > 3 * 32768);
            assert!(theirs == fs::read(workshop.path("ours")).unwrap(), "{name}");
            let devices: &[&str] = if mode == "--tar=i" { &["a.tar"] } else { &[] };
            let ours = manifest(&workshop, "ours.erofs", devices);
            manifest(&workshop, "theirs.erofs", devices).assert_same(&ours, &[]);
        }
    }
    // From a pipe, and without an index.
    fs::remove_file(workshop.path("ours")).unwrap();
    let packed = workshop.path("a.gz");
    let arguments = [
        "--quiet",
        "--tar=f",
        "--gzinfo=ours",
        "--ungzip=copy",
        "o.erofs",
    ];
    let output = run(link(&workshop), &workshop, Some(&packed), &arguments);
    assert!(output.status.success(), "{output:?}");
    assert!(workshop.path("ours").exists());
    assert!(fs::read(workshop.path("copy")).unwrap() == whole);
    for (source, code) in [("a.gz", 0), ("a.tar", 1)] {
        let arguments = ["--quiet", "--tar=f", "--gzinfo", "o.erofs", source];
        for tool in [peer(), link(&workshop)] {
            let output = run(tool, &workshop, None, &arguments);
            assert_eq!(output.status.code(), Some(code), "{output:?}");
        }
    }
    // Neither file is there when one cannot be made.
    let cut = fs::read(&packed).unwrap();
    fs::write(&packed, &cut[..cut.len() / 2]).unwrap();
    fs::remove_file(workshop.path("ours")).unwrap();
    let arguments = ["--tar=f", "--gzinfo=ours", "new.erofs", "a.gz"];
    let output = run(link(&workshop), &workshop, None, &arguments);
    let error = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(
        error.contains("gzip data near compressed offset"),
        "{error}"
    );
    assert!(!workshop.path("ours").exists() && !workshop.path("new.erofs").exists());
}
