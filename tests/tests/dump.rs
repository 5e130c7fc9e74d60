//! `erofs dump` and `dump.erofs`: what they say is what the peer says, what the trees were made of, and always the same.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::{ffi::OsStrExt, process::ExitStatusExt},
    path::{Path, PathBuf},
    process::{Command, Output},
    time::{Duration, Instant},
};

use erofs_tests::{
    golden::{self, Golden},
    peers, require,
    skip::{self, Reason},
    tree::{Attributes, Content, Device, Kind, Tree},
    workshop::{Workshop, erofs, succeed},
};
use serde_json::Value;
use tempfile::TempDir;

/// `erofs dump` of an image with the devices that belong to it.
fn dump(golden: &Golden, words: &[&str]) -> Command {
    let mut command = erofs().expect("asked for");
    command.arg("dump").arg(&golden.image).args(words);
    for device in &golden.devices {
        command.arg("--device").arg(device);
    }
    command
}

fn text(output: Output) -> String {
    String::from_utf8(output.stdout).expect("text")
}

fn json(command: &mut Command) -> Value {
    let output = succeed(command);
    serde_json::from_slice(&output.stdout).expect("JSON")
}

/// The binary under the name of the C tool.
struct Link {
    _folder: TempDir,
    path: PathBuf,
}

impl Link {
    fn new() -> Result<Self, Reason> {
        let binary = skip::erofs_binary()?;
        let folder = tempfile::tempdir().expect("a temporary directory");
        let path = folder.path().join("dump.erofs");
        std::os::unix::fs::symlink(binary, &path).expect("made");
        Ok(Self {
            _folder: folder,
            path,
        })
    }
}

/// Runs both tools with the same words.
fn both(link: &Link, golden: &Golden, words: &[&str]) -> (String, String) {
    let run = |mut command: Command| {
        command.args(words).env("TZ", "UTC");
        for device in &golden.devices {
            command.arg("--device").arg(device);
        }
        String::from_utf8_lossy(&succeed(command.arg(&golden.image)).stdout).into_owned()
    };
    let peer = peers::erofs_utils("dump.erofs").expect("asked for");
    (run(peer), run(Command::new(&link.path)))
}

/// Golden images that the peer opens: it was built for pages of 4 KiB.
fn of_the_peer() -> impl Iterator<Item = Golden> {
    let all = Golden::all().into_iter();
    all.filter(|golden| golden.block_size <= 4096)
}

#[test]
fn the_peer_says_the_same_of_superblocks_and_statistics() {
    require!(peers::erofs_utils("dump.erofs"));
    let link = require!(Link::new());
    for golden in of_the_peer() {
        println!("{}", golden.name);
        let (expected, ours) = both(&link, &golden, &["-s", "-S"]);
        assert_eq!(ours, expected, "{}", golden.name);
    }
}

/// Lines of extents as numbers. The peer takes no care of what it prints as the place of a hole, and it shows none of a
/// fragment: both have no stored bytes with us, and then only the logical part counts.
fn extents(text: &str) -> Vec<(String, Option<String>)> {
    let lines = text
        .lines()
        .skip_while(|line| !line.starts_with(" Ext:"))
        .skip(1);
    lines
        .filter_map(|line| line.split_once(" : "))
        .map(|(logical, physical)| {
            let stored = !physical.trim_end().ends_with("|       0");
            (
                logical.to_owned(),
                stored.then(|| physical.trim_end().to_owned()),
            )
        })
        .collect()
}

#[test]
fn the_peer_says_the_same_of_inodes_and_extents() {
    require!(peers::erofs_utils("dump.erofs"));
    let link = require!(Link::new());
    let mut compared = 0;
    for golden in of_the_peer() {
        println!("{}", golden.name);
        for nid in telling_inodes(&golden) {
            let nid = nid.to_string();
            let (expected, ours) = both(&link, &golden, &["-e", "--nid", &nid]);
            let head = |text: &str| {
                let lines = text.lines().take_while(|line| !line.is_empty());
                lines.map(str::to_owned).collect::<Vec<_>>()
            };
            // Which of several names of an inode is its path, is everybody's own choice.
            let names = |lines: &[String]| lines.iter().any(|line| line.contains("Links: 1 "));
            let skipped = usize::from(!names(&head(&ours)));
            assert_eq!(
                head(&ours)[skipped..],
                head(&expected)[skipped..],
                "{} nid {nid}",
                golden.name
            );
            let (ours, expected) = (extents(&ours), extents(&expected));
            assert_eq!(ours.len(), expected.len(), "{} nid {nid}", golden.name);
            for (own, other) in ours.iter().zip(&expected) {
                assert_eq!(own.0, other.0, "{} nid {nid}", golden.name);
                if own.1.is_some() {
                    assert_eq!(own.1, other.1, "{} nid {nid}", golden.name);
                }
            }
            compared += 1;
        }
    }
    assert!(compared > 300, "{compared} inodes");
}

/// Inodes of one image that are worth a look: of each layout and type the largest.
fn telling_inodes(golden: &Golden) -> Vec<u64> {
    let tree = json(&mut dump(golden, &["--all", "--json"]));
    let mut largest: BTreeMap<(String, String), (u64, u64)> = BTreeMap::new();
    for inode in tree["inodes"].as_array().expect("a list") {
        let layout = inode["record"]["layout"].as_str().expect("a layout");
        let kind = inode["type"].as_str().expect("a type");
        let size = inode["size"].as_u64().expect("a size");
        let nid = inode["nid"].as_u64().expect("a number");
        // The peer finds no path of what lies in the metabox by its number.
        if nid >> 63 != 0 {
            continue;
        }
        let key = (layout.to_owned(), kind.to_owned());
        let entry = largest.entry(key).or_insert((size, nid));
        *entry = (*entry).max((size, nid));
    }
    largest.into_values().map(|(_, nid)| nid).collect()
}

#[test]
fn the_link_has_the_exit_codes_of_the_peer() {
    let mut peer = require!(peers::erofs_utils("dump.erofs"));
    let link = require!(Link::new());
    let image = Golden::all().remove(0).image;
    let image = image.to_str().expect("text");
    let nowhere = "/nowhere/image.erofs";
    let no_image = golden::folder().join("manifest.tsv");
    let no_image = no_image.to_str().expect("text");
    for words in [
        vec![image],
        vec!["-V"],
        vec!["--help"],
        vec!["--blkid-udev", image],
        vec!["--ls", "--path=/", image],
        vec!["--cat", "--path=/", image],
        vec![],
        vec!["--unknown", image],
        vec!["--nid=3x", image],
        vec![image, image],
        vec![nowhere],
        vec![no_image],
    ] {
        let code = |command: &mut Command| {
            let output = command.args(&words).output().expect("starts");
            output.status.code().expect("an exit")
        };
        let expected = code(&mut peer);
        peer = peers::erofs_utils("dump.erofs").expect("there");
        assert_eq!(code(&mut Command::new(&link.path)), expected, "{words:?}");
    }
    // Where the peer complains and ends with 0.
    for words in [["--path=/nowhere", image], ["-e", image]] {
        let output = Command::new(&link.path).args(words).output();
        let output = output.expect("starts");
        assert_eq!(output.status.code(), Some(1), "{words:?}");
        assert!(!output.stderr.is_empty());
    }
    let listed = |path: &Path| {
        let words = ["--ls", "--path=/", image];
        text(succeed(Command::new(path).args(words).env("TZ", "UTC")))
    };
    let program = PathBuf::from(peer.get_program());
    assert_eq!(listed(&link.path), listed(&program));
}

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

/// A name in the form of the golden listings.
fn shown(path: &[u8]) -> String {
    path.iter()
        .map(|&byte| match byte {
            b'!'..=b'~' if byte != b'\\' => char::from(byte).to_string(),
            _ => format!("\\x{byte:02x}"),
        })
        .collect()
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
        "l" => shown(&line[b"link".as_slice()]),
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
            let hex: String = value.iter().map(|byte| format!("{byte:02x}")).collect();
            Some(format!("{}={hex}", shown(name.strip_prefix(b"xattr.")?)))
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
            let name = shown(&path);
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
                let first = &expected[&shown(path)].1;
                assert_eq!(first, &shown(&group[0]), "{}", golden.name);
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
            use sha2::Digest;
            let digest: String = sha2::Sha256::digest(&content)
                .iter()
                .map(|byte| format!("{byte:02x}"))
                .collect();
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

/// A small tree with a bit of everything, the same on every machine.
fn small_tree() -> Tree {
    let mut tree = Tree::new();
    let phrase =
        |length: usize| b"all work and no play ".repeat(length / 21 + 1)[..length].to_vec();
    tree.directory("dir");
    tree.file("dir/text", Content::dense(phrase(100_000)));
    tree.file("dir/empty", Content::default());
    tree.file("evil\x1b[2J\n\u{202e}", Content::dense(phrase(10)));
    tree.file(
        "sparse",
        Content::sparse(1 << 20, vec![(500_000, phrase(5000))]),
    );
    tree.symlink("link", "dir/text");
    let null = Device { major: 1, minor: 3 };
    let attributes = Attributes::with_mode(0o666);
    tree.add("null", Kind::CharacterDevice(null), attributes);
    let mut attributed = Attributes::with_mode(0o4755);
    attributed.uid = 70_000;
    let value = (b"user.key".to_vec(), b"value\xff".to_vec());
    attributed.xattrs.extend([value]);
    let content = Content::dense(phrase(3));
    tree.add("attributed", Kind::File(content), attributed);
    tree.hard_link("dir/other-name", "attributed");
    tree
}

/// Compares with `tests/snapshots/dump/NAME.txt`, or writes it with `UPDATE_SNAPSHOTS=1`.
fn assert_snapshot(name: &str, actual: &str) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("snapshots/dump");
    let path = folder.join(format!("{name}.txt"));
    if std::env::var_os("UPDATE_SNAPSHOTS").is_some() {
        fs::create_dir_all(&folder).expect("made");
        fs::write(path, actual).expect("written");
        return;
    }
    let expected = fs::read_to_string(&path).unwrap_or_default();
    let differs = expected
        .lines()
        .zip(actual.lines())
        .position(|(one, other)| one != other);
    assert!(
        expected == actual,
        "{name} differs in line {differs:?}; UPDATE_SNAPSHOTS=1 cargo test -p erofs-tests --test dump snapshots"
    );
}

#[test]
fn snapshots() {
    require!(erofs());
    let all = Golden::all();
    let named = |name: &str| {
        let found = all.iter().find(|golden| golden.name == name);
        found.unwrap_or_else(|| panic!("no golden image {name}"))
    };
    for name in SNAPSHOTS {
        let golden = named(name);
        assert_snapshot(name, &text(succeed(&mut dump(golden, &["--all", "--map"]))));
    }
    // What one of ours looks like; devices and owners take root.
    require!(skip::root());
    let workshop = Workshop::new(&small_tree());
    for (name, options) in [("ours", &[][..]), ("ours-zstd", &["-zzstd", "-C16k"])] {
        let image = workshop.build("image.erofs", &[&["-T0"], options].concat());
        let mut command = erofs().expect("asked for");
        command.arg("dump").arg(image).args(["--all", "--map"]);
        assert_snapshot(name, &text(succeed(&mut command)));
    }
}

/// Golden images of which the whole text is kept.
const SNAPSHOTS: [&str; 6] = [
    "block-1024-chunk",
    "block-512-zstd",
    "lz4hc-fragments",
    "lz4hc-tail",
    "metabox",
    "zstd-48bit-dedupe",
];

#[test]
fn numbers_add_up() {
    require!(erofs());
    for golden in Golden::all() {
        println!("{}", golden.name);
        let all = json(&mut dump(&golden, &["-a", "-m", "--json"]));
        let number = |value: &Value| value.as_u64().unwrap_or_else(|| panic!("{value}"));
        let rows = |value: &Value| value.as_array().expect("rows").clone();
        let statistics = &all["statistics"];
        assert_eq!(statistics["problems"], 0, "{}", golden.name);
        // What the image's bytes are used for adds up to the image.
        let mut sum = 0;
        for row in rows(&statistics["usage_of_image"]) {
            if row["content"] == "total" {
                assert_eq!(number(&row["bytes"]), sum, "{}", golden.name);
                let size = number(&all["superblock"]["image_size"]);
                assert_eq!(size, sum, "{}", golden.name);
            } else {
                sum += number(&row["bytes"]);
            }
        }
        // The map has no gap: what nothing leads to is in it.
        let mut end = 0;
        for row in rows(&all["map"]) {
            if row["in"] == "image" {
                assert!(number(&row["from"]) <= end, "{}: {row}", golden.name);
                end = end.max(number(&row["to"]));
            }
        }
        assert_eq!(end, number(&all["superblock"]["image_size"]));
        let inodes = rows(&all["inodes"]);
        let in_tree = inodes.iter().filter(|inode| !inode["path"].is_null());
        assert_eq!(in_tree.count() as u64, number(&statistics["inodes"]));
        for inode in inodes {
            assert_eq!(inode["problems"], 0, "{}: {inode}", golden.name);
            // Extents cover the file.
            let kind = inode["type"].as_str().expect("a type");
            let mut position = 0;
            for extent in rows(&inode["extents"]) {
                assert_eq!(number(&extent["logical"]), position, "{}", golden.name);
                position += number(&extent["length"]);
            }
            if matches!(kind, "file" | "directory" | "symlink") {
                assert_eq!(position, number(&inode["size"]), "{}", golden.name);
            }
            // Directory blocks cover the directory and list its entries in order.
            if kind == "directory" {
                let mut names: Vec<String> = Vec::new();
                let mut position = 0;
                for block in rows(&inode["directory_blocks"]) {
                    assert_eq!(number(&block["start"]), position);
                    position += number(&block["length"]);
                    for entry in rows(&block["entries"]) {
                        names.push(entry["name"].as_str().expect("a name").to_owned());
                    }
                }
                assert_eq!(position, number(&inode["size"]));
                assert!(names.iter().any(|name| name == ".."));
            }
        }
    }
}

#[test]
fn every_byte_has_an_owner() {
    require!(erofs());
    let golden = Golden::all().remove(0);
    let all = json(&mut dump(&golden, &["-m", "--json"]));
    let rows = all["map"].as_array().expect("rows");
    for row in rows.iter().filter(|row| row["in"] == "image").take(20) {
        let from = row["from"].as_u64().expect("a number");
        let at = json(&mut dump(
            &golden,
            &["--at", &format!("{from:#x}"), "--json"],
        ));
        let found = at["at"].as_array().expect("rows");
        assert!(
            found
                .iter()
                .any(|answer| answer["content"] == row["content"] && answer["nid"] == row["nid"]),
            "{row}: {found:?}"
        );
    }
}

#[test]
fn odd_names_are_harmless_and_exact() {
    require!(erofs());
    require!(skip::root());
    let workshop = Workshop::new(&small_tree());
    let image = workshop.build("image.erofs", &[]);
    let mut run = erofs().expect("asked for");
    let shown = text(succeed(run.arg("dump").arg(&image).args(["-a", "-m"])));
    let plain = |character: char| !character.is_control() || character == '\n';
    assert!(shown.chars().all(plain));
    assert!(shown.contains("/evil\\u{1b}[2J\\n\\u{202e}\n"));
    let mut run = erofs().expect("asked for");
    let tree = json(run.arg("dump").arg(&image).args(["--tree", "--json"]));
    let entries = tree["tree"].as_array().expect("a list");
    let paths: Vec<_> = entries.iter().map(|entry| &entry["path"]).collect();
    assert!(paths.contains(&&Value::from("/evil\x1b[2J\n\u{202e}")));
    let attributed = entries.iter().find(|entry| entry["path"] == "/attributed");
    let xattr = &attributed.expect("there")["xattrs"][0];
    assert_eq!(xattr["name"], "user.key");
    assert_eq!(xattr["value_hex"], "76616c7565ff");
    let linked = entries
        .iter()
        .find(|entry| entry["path"] == "/dir/other-name");
    assert_eq!(linked.expect("there")["hard_link_to"], "/attributed");
}

/// Images that break rules, of all kinds.
fn malformed() -> Vec<PathBuf> {
    let folder = golden::folder().join("../malformed");
    let images = fs::read_dir(folder).expect("a folder").filter_map(|entry| {
        let path = entry.expect("readable").path();
        (path.extension()? == "erofs").then_some(path)
    });
    let mut images: Vec<_> = images.collect();
    images.sort();
    images
}

#[test]
fn broken_images_are_told_and_end_quickly_in_bounded_memory() {
    let binary = require!(skip::erofs_binary());
    let images = malformed();
    assert!(images.len() > 50, "{} images", images.len());
    for image in images {
        println!("{}", image.display());
        for words in [
            &["dump", "-a", "-m"][..],
            &["dump", "--tree"],
            &["ls", "-lR"],
            &["find", "--size", "+1"],
            &["stat"],
        ] {
            let started = Instant::now();
            // 1 GiB of address space holds the caches, threads and no sizes that an image made up.
            let output = Command::new("prlimit")
                .args(["--as=1073741824", "--"])
                .arg(&binary)
                .arg(words[0])
                .arg(&image)
                .args(&words[1..])
                .output()
                .expect("prlimit of util-linux");
            let code = output.status.code();
            assert_eq!(output.status.signal(), None, "{image:?} {words:?}");
            assert!(
                matches!(code, Some(0..=2)),
                "{image:?} {words:?}: {code:?} {}",
                String::from_utf8_lossy(&output.stderr)
            );
            assert!(
                code == Some(0) || !output.stderr.is_empty(),
                "{image:?} {words:?}"
            );
            let elapsed = started.elapsed();
            assert!(
                elapsed < Duration::from_secs(20),
                "{image:?} {words:?}: {elapsed:?}"
            );
        }
    }
}
