//! `erofs dump --tree` against the trees that went into images.

use std::{collections::BTreeMap, fs, os::unix::ffi::OsStrExt, path::Path};

use erofs_tests::{
    golden::Golden,
    listing::{escaped, hexadecimal, sha256},
    require, skip,
    workshop::{Workshop, erofs, succeed},
};

use super::{dump, text};

/// A line of a manifest: a path and its keywords.
type Line = (Vec<u8>, Keywords);

/// Keywords and values.
type Keywords = BTreeMap<Vec<u8>, Vec<u8>>;

fn manifest(golden: &Golden, words: &[&str]) -> Vec<Line> {
    let words = [&["--tree"], words].concat();
    let text = text(succeed(&mut dump(golden, &words)));
    parsed(&text)
}

fn parsed(text: &str) -> Vec<Line> {
    let mut lines = text.lines();
    assert_eq!(lines.next(), Some("#mtree"));
    lines
        .map(|line| {
            let mut words = line.split(' ');
            let path = unescaped(words.next().expect("a path"));
            let path = path.strip_prefix(b"./").unwrap_or(&path).to_vec();
            let pairs = words.map(|word| {
                let (name, value) = word.split_once('=').expect("a keyword");
                (unescaped(name), unescaped(value))
            });
            (path, pairs.collect())
        })
        .collect()
}

/// Takes back backslashes with three octal digits.
fn unescaped(word: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = word.as_bytes();
    while let Some((&first, more)) = rest.split_first() {
        if first == b'\\' {
            let digits = std::str::from_utf8(&more[..3]).expect("digits");
            bytes.push(u8::from_str_radix(digits, 8).expect("octal"));
            rest = &more[3..];
        } else {
            bytes.push(first);
            rest = more;
        }
    }
    bytes
}

/// A line in the form of the golden listings, without the path and without the first name of the inode, which is that
/// in listing order here.
fn columns(line: &Keywords) -> String {
    let word = |name: &str| {
        let bytes = line.get(name.as_bytes()).map_or(&b"0"[..], Vec::as_slice);
        String::from_utf8(bytes.to_vec()).expect("text")
    };
    let kind = word("type");
    let letter = match kind.as_str() {
        "file" => "f",
        "dir" => "d",
        "link" => "l",
        "char" => "c",
        "block" => "b",
        "fifo" => "p",
        "socket" => "s",
        other => panic!("type {other}"),
    };
    let content = match letter {
        "f" => word("sha256digest"),
        "l" => escaped(&line[b"link".as_slice()]),
        "c" | "b" => {
            let device = word("device");
            let mut numbers = device.split(',').skip(1).map(|part| part.parse::<u32>());
            let mut next = || numbers.next().expect("two").expect("numbers");
            let (major, minor) = (next(), next());
            format!("{:x}", rustix::fs::makedev(major, minor))
        }
        _ => "-".into(),
    };
    let mut xattrs: Vec<String> = line
        .iter()
        .filter_map(|(name, value)| {
            let hex = hexadecimal(value);
            Some(format!("{}={hex}", escaped(name.strip_prefix(b"xattr.")?)))
        })
        .collect();
    xattrs.sort();
    let mode = u32::from_str_radix(&word("mode"), 8).expect("octal");
    format!(
        "{letter}\t{mode:o}\t{}:{}\t{}\t{}\t{}\t{content}\t{}",
        word("uid"),
        word("gid"),
        word("nlink"),
        word("size"),
        word("time"),
        xattrs.join(",")
    )
}

#[test]
fn manifests_are_the_trees_that_went_into_golden_images() {
    require!(erofs());
    for golden in Golden::all() {
        println!("{}", golden.name);
        let mut expected: BTreeMap<String, (String, String)> = BTreeMap::new();
        for line in golden.expected().lines() {
            let (rest, first) = line.rsplit_once('\t').expect("columns");
            let (path, rest) = rest.split_once('\t').expect("columns");
            expected.insert(path.to_owned(), (rest.to_owned(), first.to_owned()));
        }
        let mut groups: BTreeMap<Vec<u8>, Vec<Vec<u8>>> = BTreeMap::new();
        for (path, line) in manifest(&golden, &[]) {
            let name = escaped(&path);
            let (columns_expected, _) = expected.get(&name).expect("a path of the tree");
            // Of the largest files the listings tell only the ends.
            if !columns_expected.contains("ends:") {
                assert_eq!(&columns(&line), columns_expected, "{}: {name}", golden.name);
            }
            let first = line.get(b"hardlink".as_slice()).unwrap_or(&path);
            let first = first.strip_prefix(b"./").unwrap_or(first).to_vec();
            groups.entry(first).or_default().push(path);
        }
        let listed: usize = groups.values().map(Vec::len).sum();
        assert_eq!(listed, expected.len(), "{}", golden.name);
        for mut group in groups.into_values() {
            group.sort();
            for path in &group[1..] {
                let first = &expected[&escaped(path)].1;
                assert_eq!(first, &escaped(&group[0]), "{}", golden.name);
            }
        }
    }
}

#[test]
fn manifests_of_awkward_trees_are_those_of_their_sources_for_any_number_of_threads() {
    require!(skip::root());
    require!(erofs());
    let workshop = Workshop::light();
    let mut texts = Vec::new();
    for form in [&[][..], &["-zzstd"], &["-b512"]] {
        let image = workshop.build("image.erofs", form);
        for workers in ["1", "3"] {
            let mut command = erofs().expect("asked for");
            command.arg("dump").arg(&image);
            texts.push(text(succeed(command.args([
                "--tree",
                "--workers",
                workers,
            ]))));
        }
    }
    for other in &texts[1..] {
        assert!(other == &texts[0], "another image of the same tree");
    }
    let lines = parsed(&texts[0]);
    assert_eq!(lines.len(), workshop.expected.nodes.len());
    let mut digested = 0;
    for (path, line) in &lines {
        let path = if path == b"." { &[] } else { path.as_slice() };
        let name = String::from_utf8_lossy(path);
        let node = &workshop.expected.nodes[path];
        let number = |word: &str| -> i64 {
            let bytes = line.get(word.as_bytes()).map_or(&b"0"[..], Vec::as_slice);
            let digits = std::str::from_utf8(bytes).expect("text");
            digits.parse().expect("a number")
        };
        assert_eq!(number("uid"), i64::from(node.uid), "{name}");
        assert_eq!(number("gid"), i64::from(node.gid), "{name}");
        assert_eq!(
            number("nlink"),
            i64::try_from(node.links).expect("few"),
            "{name}"
        );
        assert_eq!(
            number("size"),
            i64::try_from(node.size).expect("small"),
            "{name}"
        );
        let time = format!("{}.{:09}", node.mtime.seconds, node.mtime.nanoseconds);
        assert_eq!(line[b"time".as_slice()], time.as_bytes(), "{name}");
        assert_eq!(
            line[b"mode".as_slice()],
            format!("{:04o}", node.mode).as_bytes()
        );
        assert_eq!(line.get(b"link".as_slice()), node.target.as_ref(), "{name}");
        let xattrs = line.iter().filter_map(|(key, value)| {
            let key = key.strip_prefix(b"xattr.")?;
            Some((key.to_vec(), value.clone()))
        });
        assert_eq!(xattrs.collect::<BTreeMap<_, _>>(), node.xattrs, "{name}");
        // Paths that are too long for one call are left out here.
        let source = workshop
            .source
            .join(Path::new(std::ffi::OsStr::from_bytes(path)));
        if line[b"type".as_slice()] == b"file"
            && node.size < 1 << 20
            && let Ok(content) = fs::read(source)
        {
            let digest = sha256(&content);
            assert_eq!(
                line[b"sha256digest".as_slice()],
                digest.as_bytes(),
                "{name}"
            );
            digested += 1;
        }
    }
    assert!(digested > 100, "{digested} files");
}
