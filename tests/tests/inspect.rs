//! `erofs ls`, `find` and `stat` against the programs of the same names on the source directory.

use std::{
    collections::BTreeSet, ffi::OsString, fs, os::unix::ffi::OsStringExt, path::Path,
    process::Command,
};

use erofs_tests::{
    golden::Golden,
    require, skip,
    tree::{Content, Tree},
    workshop::{Workshop, erofs, succeed},
};
use serde_json::Value;

/// What `erofs` prints.
fn ours(words: &[&str], image: &Path) -> Vec<u8> {
    let mut command = erofs().expect("asked for");
    let (name, rest) = words.split_first().expect("a command");
    succeed(command.arg(name).arg(image).args(rest)).stdout
}

/// Names with a NUL behind each.
fn names(output: &[u8]) -> BTreeSet<Vec<u8>> {
    let names = output.split(|byte| *byte == 0);
    let names: Vec<_> = names.filter(|name| !name.is_empty()).collect();
    let set: BTreeSet<_> = names.iter().map(|name| name.to_vec()).collect();
    assert_eq!(set.len(), names.len(), "a name twice");
    set
}

/// What find(1) says of the source with these tests.
fn find(source: &Path, tests: &[&str]) -> BTreeSet<Vec<u8>> {
    let mut command = Command::new("find");
    command.current_dir(source).args([".", "-mindepth", "0"]);
    let output = succeed(command.args(tests).args(["-printf", "%P\\0"]));
    let mut found = names(&output.stdout);
    // The root prints as nothing, and is a slash with us.
    if output.stdout.first() == Some(&0) {
        found.insert(b"/".to_vec());
    }
    found
}

#[test]
fn find_finds_what_find_finds() {
    require!(skip::root());
    require!(erofs());
    let workshop = Workshop::light();
    let image = workshop.build("image.erofs", &[]);
    for (own, theirs) in [
        (&[][..], &[][..]),
        (&["--type", "d"], &["-type", "d"]),
        (&["--type", "l,p,s"], &["-type", "l,p,s"]),
        (&["--type", "cb"], &["-type", "c,b"]),
        (&["--name", "*.*"], &["-name", "*.*", "!", "-path", "."]),
        (
            &["--name", "[a-m]*", "--type", "f"],
            &["-name", "[a-m]*", "-type", "f"],
        ),
        (&["--path", "names/*"], &["-path", "./names/*"]),
        (&["--max-depth", "1"], &["-maxdepth", "1"]),
        (&["--max-depth", "0"], &["-maxdepth", "0"]),
        (
            &["--size", "+4096", "--type", "f"],
            &["-size", "+4096c", "-type", "f"],
        ),
        (
            &["--size", "0", "--type", "f"],
            &["-size", "0", "-type", "f"],
        ),
        (
            &["--size", "-100", "--type", "f"],
            &["-size", "-100c", "-type", "f"],
        ),
        (&["--perm", "644"], &["-perm", "644"]),
        (&["--perm", "-222"], &["-perm", "-222"]),
        (&["--perm", "/6000"], &["-perm", "/6000"]),
        (&["--uid", "+0"], &["-uid", "+0"]),
        (&["--gid", "0", "--type", "f"], &["-gid", "0", "-type", "f"]),
        (
            &["--links", "+1", "--type", "f"],
            &["-links", "+1", "-type", "f"],
        ),
        (&["--links", "2"], &["-links", "2"]),
        (
            &["--newer-than", "2017-07-14T02:40:00"],
            &["-newermt", "2017-07-14 02:40:00 UTC"],
        ),
        (
            &["--older-than", "1500000000"],
            &["!", "-newermt", "@1499999999.999999999"],
        ),
    ] {
        println!("{own:?}");
        let words = [&["find", "--print0"], own].concat();
        let expected = find(&workshop.source, theirs);
        let found = names(&ours(&words, &image));
        let difference: Vec<_> = expected.symmetric_difference(&found).take(5).collect();
        assert!(
            difference.is_empty(),
            "{own:?}: {:?}",
            difference
                .iter()
                .map(|name| name.escape_ascii().to_string())
                .collect::<Vec<_>>()
        );
        if own != ["--older-than", "1500000000"] {
            assert!(!expected.is_empty(), "{own:?} says nothing");
        }
    }
    // Attributes, which find(1) knows nothing of.
    let expected: BTreeSet<_> = workshop
        .expected
        .nodes
        .iter()
        .filter(|(_, node)| node.xattrs.contains_key(b"security.capability".as_slice()))
        .map(|(path, _)| path.clone())
        .collect();
    let words = ["find", "--print0", "--xattr", "security.capability"];
    assert_eq!(names(&ours(&words, &image)), expected);
    assert!(!expected.is_empty());
}

#[test]
fn find_begins_where_it_is_told() {
    require!(erofs());
    let golden = Golden::all()
        .into_iter()
        .find(|golden| golden.name == "plain")
        .expect("there");
    let all = String::from_utf8(ours(&["find"], &golden.image)).expect("text");
    let directory = all
        .lines()
        .skip(1)
        .find_map(|line| Some(line.split_once('/')?.0))
        .expect("a directory");
    let below: Vec<_> = all
        .lines()
        .filter(|line| *line == directory || line.starts_with(&format!("{directory}/")))
        .collect();
    let found = String::from_utf8(ours(&["find", directory], &golden.image)).expect("text");
    assert_eq!(found.lines().collect::<Vec<_>>(), below);
    // A line of JSON for each.
    let lines = String::from_utf8(ours(&["find", directory, "--json"], &golden.image));
    let paths: Vec<_> = lines
        .expect("text")
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).expect("JSON")["path"].clone())
        .collect();
    assert_eq!(paths.len(), below.len());
    assert_eq!(paths[0], directory);
    // What is not there.
    let mut command = erofs().expect("asked for");
    let output = command.arg("find").arg(&golden.image).arg("nowhere");
    let output = output.output().expect("starts");
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("nowhere"));
    for bad in [
        ["--size", "x"],
        ["--perm", "999"],
        ["--type", "q"],
        ["--name", "["],
    ] {
        let mut command = erofs().expect("asked for");
        let output = command.arg("find").arg(&golden.image).args(bad).output();
        assert_eq!(output.expect("starts").status.code(), Some(2), "{bad:?}");
    }
}

#[test]
fn stat_says_what_stat_says() {
    require!(skip::root());
    require!(erofs());
    let workshop = Workshop::light();
    let image = workshop.build("image.erofs", &[]);
    let paths: Vec<_> = workshop
        .expected
        .nodes
        .keys()
        // stat(1) takes paths.
        .filter(|path| !path.is_empty() && path.len() < 1000 && !path.contains(&b'\n'))
        .take(400)
        .collect();
    let given: Vec<OsString> = paths
        .iter()
        .map(|path| OsString::from_vec((*path).clone()))
        .collect();
    let mut command = Command::new("stat");
    command
        .current_dir(&workshop.source)
        .args(["-c", "%a %u %g %h %.Y %f %Hr %Lr %s", "--"]);
    let theirs = succeed(command.args(&given)).stdout;
    let mut command = erofs().expect("asked for");
    command.arg("stat").arg(&image).arg("--json");
    let output = succeed(command.args(&given)).stdout;
    let json: Value = serde_json::from_slice(&output).expect("JSON");
    let files = json["files"].as_array().expect("a list");
    let lines: Vec<_> = theirs.split(|byte| *byte == b'\n').collect();
    assert_eq!(files.len(), paths.len());
    for ((path, file), line) in paths.iter().zip(files).zip(lines) {
        let name = path.escape_ascii().to_string();
        let line = String::from_utf8_lossy(line);
        let mut words = line.split(' ');
        let mut next = || words.next().expect("nine words");
        let mode = u32::from_str_radix(next(), 8).expect("octal");
        let own_mode = file["mode"].as_str().expect("text");
        assert_eq!(u32::from_str_radix(own_mode, 8), Ok(mode), "{name}");
        assert_eq!(file["uid"].to_string(), next(), "{name}");
        assert_eq!(file["gid"].to_string(), next(), "{name}");
        assert_eq!(file["nlink"].to_string(), next(), "{name}");
        assert_eq!(file["mtime_unix"], next(), "{name}");
        let kind = u32::from_str_radix(next(), 16).expect("hexadecimal") & 0o170_000;
        let (major, minor) = (next().to_owned(), next().to_owned());
        if kind == 0o020_000 || kind == 0o060_000 {
            assert_eq!(file["major"].to_string(), major, "{name}");
            assert_eq!(file["minor"].to_string(), minor, "{name}");
        }
        if kind == 0o100_000 || kind == 0o120_000 {
            assert_eq!(file["size"].to_string(), next(), "{name}");
        }
        let node = &workshop.expected.nodes[*path];
        let xattrs = file["xattrs"].as_array().expect("a list");
        assert_eq!(xattrs.len(), node.xattrs.len(), "{name}");
    }
}

#[test]
fn ls_lists_every_name_once_with_and_without_inodes() {
    require!(skip::root());
    require!(erofs());
    let workshop = Workshop::light();
    for form in [&[][..], &["-b512"], &["-zzstd"]] {
        let image = workshop.build("image.erofs", form);
        let count = |words: &[&str]| {
            let output = ours(words, &image);
            output.iter().filter(|byte| **byte == b'\n').count()
        };
        let expected = workshop.expected.nodes.len() - 1;
        assert_eq!(count(&["ls", "-R"]), expected, "{form:?}");
        assert_eq!(count(&["ls", "-lR"]), expected, "{form:?}");
        let json: Value =
            serde_json::from_slice(&ours(&["ls", "-R", "--json"], &image)).expect("JSON");
        assert_eq!(json.as_array().expect("a list").len(), expected);
        assert_eq!(count(&["ls", "-ld"]), 1);
        // One line, one file: a newline in a name is escaped.
        assert!(
            workshop
                .expected
                .nodes
                .keys()
                .any(|path| path.contains(&b'\n'))
        );
    }
}

#[test]
fn a_deep_and_wide_tree_is_listed_in_order() {
    require!(erofs());
    let mut tree = Tree::new();
    let mut path = String::new();
    for depth in 0..200 {
        path.push_str(if depth == 0 { "d" } else { "/d" });
        tree.directory(&path);
        // Names on both sides of the directory, over several blocks.
        for side in ["a", "z"] {
            for number in 0..if depth % 50 == 0 { 60 } else { 1 } {
                tree.file(format!("{path}/{side}{number:02}"), Content::default());
            }
        }
    }
    let workshop = Workshop::new(&tree);
    let image = workshop.build("image.erofs", &["-b512"]);
    let listed = String::from_utf8(ours(&["ls", "-R"], &image)).expect("text");
    let lines: Vec<_> = listed.lines().collect();
    assert_eq!(lines.len(), workshop.expected.nodes.len() - 1);
    // Listing order is that of components, parents first.
    let keys: Vec<Vec<&str>> = lines.iter().map(|line| line.split('/').collect()).collect();
    assert!(keys.is_sorted());
}

#[test]
fn metadata_is_shown_without_the_devices() {
    require!(erofs());
    let golden = Golden::all()
        .into_iter()
        .find(|golden| golden.name == "tar-index")
        .expect("there");
    let folder = tempfile::tempdir().expect("a temporary directory");
    let alone = folder.path().join("alone.erofs");
    fs::copy(&golden.image, &alone).expect("copied");
    for words in [&["ls", "-R"][..], &["find"], &["stat"], &["dump", "-S"]] {
        let mut command = erofs().expect("asked for");
        let output = command.arg(words[0]).arg(&alone).args(&words[1..]).output();
        let output = output.expect("starts");
        assert_eq!(output.status.code(), Some(0), "{words:?}");
        assert!(!output.stdout.is_empty());
    }
    // Contents take the device.
    let mut command = erofs().expect("asked for");
    let output = command.arg("dump").arg(&alone).arg("--tree").output();
    assert_ne!(output.expect("starts").status.code(), Some(0));
}
