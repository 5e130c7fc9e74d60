//! `erofs index`: metadata in a small image, data where it stands. The kernel, given the blobs as devices and given
//! everything in one file, and our reader must show what `tar -x` makes of the same tar, and the very bytes of raw files.
//!
//! fsck.erofs is no judge here: of flat inodes whose data lies on a device it extracts zeros.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{self, BufWriter, Seek, Write},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Instant,
};

use erofs_reader::{Extent, Place, Symlinks};
use erofs_tests::{
    archive,
    awkward::{self, Sizes, bytes},
    kernel::{self, Mounted, Way},
    manifest::{Manifest, Type},
    require,
    skip::{self, Reason},
    tree::{Content, Device, Tree},
    ustar,
    workshop::{Workshop, build, erofs, open, refused, succeed},
};

fn needs() -> Result<Vec<Way>, Reason> {
    skip::root()?;
    erofs()?;
    skip::program("losetup")?;
    Way::all()
}

fn index(sources: &[PathBuf], index: &Path, options: &[&str]) {
    let mut command = erofs().expect("asked for");
    command.args(["index", "--quiet", "-o"]).arg(index);
    succeed(command.args(options).args(sources));
}

/// The blobs of an index that stands beside them, by the tags of its slots.
fn blobs(index: &Path) -> Vec<PathBuf> {
    let folder = index.parent().expect("in a folder");
    let image = open(index, &[]);
    let tags = image.device_slots().iter();
    tags.map(|slot| folder.join(std::str::from_utf8(slot.tag_bytes()).expect("a name")))
        .collect()
}

/// The index and its blobs in one file, each at the block that its slot says.
fn concatenated(index: &Path, devices: &[PathBuf]) -> PathBuf {
    let image = open(index, &[]);
    let path = index.with_extension("whole");
    let mut whole = File::create(&path).expect("made");
    io::copy(&mut File::open(index).expect("opens"), &mut whole).expect("copied");
    let bits = image.superblock().block_bits;
    for (slot, device) in image.device_slots().iter().zip(devices) {
        let start = slot.unified_start.0 << bits.bits();
        assert!(whole.stream_position().expect("a file") <= start);
        whole.seek(io::SeekFrom::Start(start)).expect("a file");
        io::copy(&mut File::open(device).expect("opens"), &mut whole).expect("copied");
        whole
            .set_len(start + slot.blocks * bits.bytes())
            .expect("padded");
    }
    path
}

/// What every way to read an index with its blobs shows, each with its name.
fn shown(index: &Path, ways: &[Way]) -> Vec<(String, Manifest)> {
    let devices = blobs(index);
    let whole = concatenated(index, &devices);
    let mut all = Vec::new();
    for (what, devices) in [
        ("reader, devices", devices.as_slice()),
        ("reader, whole", &[]),
    ] {
        let image = if devices.is_empty() { &whole } else { index };
        let read = Manifest::of_image(&open(image, devices)).expect("readable");
        all.push((what.to_owned(), read));
    }
    for way in ways {
        let mounted = Mounted::with_devices(index, *way, &devices).expect("mounts");
        let seen = Manifest::of_directory(mounted.path()).expect("readable");
        all.push((format!("kernel, devices by {way:?}"), seen));
        let mounted = Mounted::new(&whole, *way, "").expect("mounts");
        let seen = Manifest::of_directory(mounted.path()).expect("readable");
        all.push((format!("kernel, whole by {way:?}"), seen));
    }
    all
}

/// Archives the awkward set and compares an index of the archive with what tar extracts.
fn tar_round_trip(format: &[&str], least: usize) {
    let ways = require!(needs());
    let workshop = Workshop::new(&awkward::tree(Sizes::default()));
    let tar = workshop.path("layer.tar");
    archive::create(&workshop.source, &tar, format);
    let expected = archive::extracted(&tar, &[]);
    assert!(expected.nodes.len() > least, "{}", expected.nodes.len());
    let toc = workshop.path("layer.erofs");
    index(&[tar], &toc, &[]);
    for (what, seen) in shown(&toc, &ways) {
        println!("{format:?}: {what}");
        expected.assert_same(&seen, &[]);
    }
}

#[test]
fn tars_of_the_gnu_format() {
    tar_round_trip(&["--format=gnu"], 4000);
}

#[test]
fn tars_of_the_ustar_format() {
    tar_round_trip(&["--format=ustar"], 3500);
}

#[test]
fn tars_with_pax_headers_and_attributes() {
    let options = ["--format=posix", "--xattrs", "--xattrs-include=*"];
    tar_round_trip(&options, 4000);
}

#[test]
fn sparse_tars() {
    for format in [
        ["--format=gnu", "-S", "--hole-detection=seek"],
        ["--format=posix", "-S", "--sparse-version=0.0"],
        ["--format=posix", "-S", "--sparse-version=0.1"],
        ["--format=posix", "-S", "--sparse-version=1.0"],
    ] {
        let ways = require!(needs());
        let mut tree = Tree::new();
        let all = awkward::tree(Sizes::default()).entries.into_iter();
        tree.entries
            .extend(all.filter(|entry| entry.path.starts_with(b"holes")));
        let workshop = Workshop::new(&tree);
        let tar = workshop.path("layer.tar");
        archive::create(&workshop.source, &tar, &format);
        let logical: u64 = workshop.expected.nodes.values().map(|node| node.size).sum();
        let size = fs::metadata(&tar).expect("there").len();
        assert!(size < logical / 10, "the holes are not in the tar: {size}");
        let toc = workshop.path("layer.erofs");
        index(std::slice::from_ref(&tar), &toc, &[]);
        let expected = archive::extracted(&tar, &[]);
        for (what, seen) in shown(&toc, &ways) {
            println!("{format:?}: {what}");
            expected.assert_same(&seen, &[]);
        }
    }
}

#[test]
fn whiteouts_of_layers_become_those_of_overlayfs() {
    let ways = require!(needs());
    let mut tree = Tree::new();
    tree.directory("etc");
    for name in ["etc/.wh.gone", "etc/kept", ".wh..wh..opq"] {
        tree.file(name, Content::dense(vec![b'x'; name.len()]));
    }
    let workshop = Workshop::new(&tree);
    let tar = workshop.path("layer.tar");
    archive::create(&workshop.source, &tar, &["--format=posix"]);
    let toc = workshop.path("layer.erofs");
    index(std::slice::from_ref(&tar), &toc, &["--whiteouts=overlay"]);
    let full = workshop.path("full.erofs");
    build(&tar, &full, &["--whiteouts=overlay"]);
    let expected = Manifest::of_image(&open(&full, &[])).expect("readable");
    let names: Vec<_> = expected.nodes.keys().map(Vec::as_slice).collect();
    assert_eq!(names, [b"".as_slice(), b"etc", b"etc/gone", b"etc/kept"]);
    let gone = &expected.nodes[b"etc/gone".as_slice()];
    assert_eq!(gone.kind, Type::CharacterDevice);
    assert_eq!(gone.device, Some(Device { major: 0, minor: 0 }));
    let opaque = &expected.nodes[b"".as_slice()].xattrs;
    assert_eq!(opaque[b"trusted.overlay.opaque".as_slice()], b"y");
    for (what, seen) in shown(&toc, &ways) {
        println!("{what}");
        expected.assert_same(&seen, &[]);
    }
}

/// The tar is behind its index: one file, whatever way the tar came.
#[test]
fn tars_in_the_file_of_their_index() {
    let ways = require!(needs());
    let workshop = Workshop::light();
    let tar = workshop.path("layer.tar");
    let options = ["--format=posix", "--xattrs", "--xattrs-include=*"];
    archive::create(&workshop.source, &tar, &options);
    let expected = archive::extracted(&tar, &[]);
    succeed(Command::new("gzip").arg("-k").arg(&tar));
    let whole = workshop.path("whole.erofs");
    index(std::slice::from_ref(&tar), &whole, &["--embed"]);
    let again = workshop.path("again.erofs");
    index(&[workshop.path("layer.tar.gz")], &again, &["--embed"]);
    assert_eq!(
        fs::read(&whole).expect("there"),
        fs::read(&again).expect("there")
    );
    let piped = workshop.path("piped.erofs");
    let mut command = erofs().expect("asked for");
    command
        .args(["index", "--quiet", "--embed", "-", "-o"])
        .arg(&piped);
    let mut cat = Command::new("cat");
    let mut cat = cat
        .arg(&tar)
        .stdout(Stdio::piped())
        .spawn()
        .expect("starts");
    succeed(command.stdin(cat.stdout.take().expect("piped")));
    assert!(cat.wait().expect("ends").success());
    assert_eq!(
        fs::read(&whole).expect("there"),
        fs::read(&piped).expect("there")
    );
    fs::remove_file(&tar).expect("there");

    let image = open(&whole, &[]);
    assert_eq!(image.device_slots()[0].tag_bytes(), b"embedded-1");
    expected.assert_same(&Manifest::of_image(&image).expect("readable"), &[]);
    let mut check = erofs().expect("asked for");
    succeed(check.args(["check", "--quiet", "--data"]).arg(&whole));
    for way in ways {
        let mounted = Mounted::new(&whole, way, "").expect("mounts");
        let seen = Manifest::of_directory(mounted.path()).expect("readable");
        expected.assert_same(&seen, &[]);
    }
}

/// What a tar lacks of its last block the copy has.
#[test]
fn an_unpadded_tar_in_the_file_of_its_index() {
    let ways = require!(needs());
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = |name: &str| directory.path().join(name);
    let mut member = ustar::header("name", 700).to_vec();
    member.resize(512 + 700, b'x');
    fs::write(path("unpadded.tar"), &member).expect("written");
    index(
        &[path("unpadded.tar")],
        &path("whole.erofs"),
        &["--embed", "--offset=4096"],
    );
    let whole = fs::read(path("whole.erofs")).expect("there");
    fs::write(path("cut.erofs"), &whole[4096..]).expect("written");
    assert_eq!(whole.len() % 512, 0);
    for way in ways {
        let mounted = Mounted::new(&path("cut.erofs"), way, "").expect("mounts");
        let read = fs::read(mounted.path().join("name")).expect("readable");
        assert_eq!(read, [b'x'; 700]);
    }
    let mut command = erofs().expect("asked for");
    let command = command
        .args(["index", "--embed", "-o"])
        .arg(path("no.erofs"));
    let error = refused(command.arg(path("whole.erofs")));
    assert!(error.contains("erofs build"), "{error}");
    assert!(!path("no.erofs").exists());
}

#[test]
fn tars_that_cannot_be_pointed_into_are_refused() {
    require!(erofs());
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = |name: &str| directory.path().join(name);
    let mut member = ustar::header("name", 700).to_vec();
    member.resize(512 + 700, b'x');
    let whole = [member.clone(), vec![0; 324 + 1024]].concat();
    fs::write(path("whole.tar"), &whole).expect("written");
    succeed(Command::new("gzip").args(["-k"]).arg(path("whole.tar")));
    fs::write(path("truncated.tar"), &whole[..900]).expect("written");
    fs::write(path("unpadded.tar"), &member).expect("written");
    fs::create_dir(path("out")).expect("made");
    for (name, words) in [
        ("whole.tar.gz", ["compressed (gzip)", "decompress it"]),
        ("truncated.tar", ["truncated", "name"]),
        ("unpadded.tar", ["name", "truncate -s %512"]),
    ] {
        let mut command = erofs().expect("asked for");
        let command = command.arg("index").args([&path(name), Path::new("-o")]);
        let error = refused(command.arg(path("out/index.erofs")));
        for word in words {
            assert!(error.contains(word), "{name}: {error}");
        }
        assert_eq!(fs::read_dir(path("out")).expect("there").count(), 0);
    }
    // A name is what a mount goes by; in one file it needs none.
    let mut command = erofs().expect("asked for");
    let tar = File::open(path("whole.tar")).expect("there");
    command
        .args(["index", "-", "-o"])
        .arg(path("out/index.erofs"));
    let error = refused(command.stdin(tar));
    assert!(error.contains("by its name") && error.contains("--embed"));
    assert_eq!(fs::read_dir(path("out")).expect("there").count(), 0);
    // The advice helps.
    File::options()
        .write(true)
        .open(path("unpadded.tar"))
        .and_then(|file| file.set_len(1536))
        .expect("padded");
    index(&[path("unpadded.tar")], &path("index.erofs"), &[]);
    let read = Manifest::of_image(&open(&path("index.erofs"), &[path("unpadded.tar")]));
    assert_eq!(read.expect("readable").nodes[b"name".as_slice()].size, 700);
}

/// Those of `ways` that read a metabox, if this kernel does.
fn with_metabox(ways: Vec<Way>) -> Vec<Way> {
    if kernel::release() < (6, 17) {
        println!("kernel skipped, because Linux 6.17 is the first that reads a metabox");
        return Vec::new();
    }
    ways
}

fn checked(image: &Path) {
    let mut check = erofs().expect("asked for");
    succeed(check.args(["check", "--quiet", "--data"]).arg(image));
}

#[test]
fn indexes_of_tars_with_compressed_metadata() {
    let ways = with_metabox(require!(needs()));
    let workshop = Workshop::light();
    let tar = workshop.path("layer.tar");
    let options = ["--format=posix", "--xattrs", "--xattrs-include=*"];
    archive::create(&workshop.source, &tar, &options);
    let expected = archive::extracted(&tar, &[]);
    let size = |index: &Path| fs::metadata(index).expect("there").len();
    let plain = workshop.path("plain.erofs");
    index(std::slice::from_ref(&tar), &plain, &[]);
    for (options, eighths) in [(&["-m64k:zstd", "--zD"][..], 4), (&["-m4096:lz4"], 6)] {
        let toc = workshop.path("layer.erofs");
        index(std::slice::from_ref(&tar), &toc, options);
        println!("{options:?}: {} of {}", size(&toc), size(&plain));
        assert!(size(&toc) < size(&plain) / 8 * eighths);
        checked(&toc);
        for (what, seen) in shown(&toc, &ways) {
            println!("{options:?}: {what}");
            expected.assert_same(&seen, &[]);
        }
        let whole = workshop.path("whole.erofs");
        index(
            std::slice::from_ref(&tar),
            &whole,
            &[options, &["--embed"]].concat(),
        );
        checked(&whole);
        for way in &ways {
            let mounted = Mounted::new(&whole, *way, "").expect("mounts");
            let seen = Manifest::of_directory(mounted.path()).expect("readable");
            expected.assert_same(&seen, &[]);
        }
    }
    let mut command = erofs().expect("asked for");
    let command = command.args(["index", "--compress-directories", "-o"]);
    let error = refused(command.arg(workshop.path("no.erofs")).arg(&tar));
    assert!(error.contains("needs -m"), "{error}");
}

/// Addresses of the data stand in what is compressed in front of it.
#[test]
fn indexes_of_raw_files_with_compressed_metadata() {
    let ways = with_metabox(require!(needs()));
    let mut tree = Tree::new();
    for n in 0..40u64 {
        let content = Content::dense(bytes::text(n, 12288 + n as usize * 107));
        tree.file(format!("part-{n:02}"), content);
    }
    let workshop = Workshop::new(&tree);
    let names = workshop.expected.clone().files().nodes.into_keys();
    let sources: Vec<_> = names
        .map(|name| workshop.source.join(String::from_utf8(name).expect("text")))
        .collect();
    let expected = workshop.expected.clone().files();
    let (plain, toc) = (workshop.path("plain.erofs"), workshop.path("model.erofs"));
    index(&sources, &plain, &[]);
    index(&sources, &toc, &["-m16k:zstd", "--zD"]);
    let size = |index: &Path| fs::metadata(index).expect("there").len();
    println!("{} of {}", size(&toc), size(&plain));
    assert!(size(&toc) < size(&plain) / 2);
    let image = open(&toc, &blobs(&toc));
    let first = image.device_slots()[0].unified_start;
    assert_eq!(first.0 << 12, size(&toc), "devices follow the index");
    checked(&toc);
    // By files alone: not every machine has 40 loop devices.
    let file_backed = ways.into_iter().filter(|way| *way == Way::File);
    for (what, seen) in shown(&toc, &file_backed.collect::<Vec<_>>()) {
        println!("{what}");
        expected.assert_same(&seen.files(), &[]);
    }
}

/// Around every edge of where the last partial block goes: into the index behind the inode, into a chunk of the
/// index, or nowhere.
const SIZES: [u64; 17] = [
    0,
    1,
    700,
    4031,
    4032,
    4033,
    4064,
    4090,
    4095,
    4096,
    4097,
    5 * 4096,
    5 * 4096 + 4032,
    5 * 4096 + 4033,
    (10 << 20) + 4090,
    (10 << 20) + 1,
    1_000_003,
];

#[test]
fn raw_files_of_awkward_sizes() {
    let ways = require!(needs());
    let mut tree = Tree::new();
    for size in SIZES {
        let content = Content::dense(bytes::random(size, size as usize));
        tree.file(format!("size-{size}"), content);
    }
    let workshop = Workshop::new(&tree);
    let sources: Vec<_> = SIZES
        .iter()
        .map(|size| workshop.source.join(format!("size-{size}")))
        .collect();
    let toc = workshop.path("model.erofs");
    index(&sources, &toc, &[]);
    let tags = blobs(&toc);
    let outside: Vec<_> = sources
        .iter()
        .filter(|path| tags.contains(path))
        .cloned()
        .collect();
    assert_eq!(
        tags, outside,
        "tags are paths, in the order of the arguments"
    );
    assert!(tags.contains(&workshop.source.join("size-4096")));
    assert!(!tags.contains(&workshop.source.join("size-700")));
    let expected = workshop.expected.clone().files();
    assert_eq!(expected.nodes.len(), SIZES.len());
    for (what, seen) in shown(&toc, &ways) {
        println!("{what}");
        expected.assert_same(&seen.files(), &[]);
    }
}

#[test]
fn copied_ends_are_no_neighbours_of_what_is_before() {
    require!(erofs());
    let mut tree = Tree::new();
    // Each too long behind an inode, and alone in an index whose first free block is the first or second.
    for size in [4096 + 4095, 2 * 4096 + 4095] {
        let content = Content::dense(bytes::random(size, size as usize));
        tree.file(format!("size-{size}"), content);
    }
    let workshop = Workshop::new(&tree);
    for size in [4096 + 4095, 2 * 4096 + 4095] {
        let source = workshop.source.join(format!("size-{size}"));
        let toc = workshop.path(&format!("{size}.erofs"));
        index(std::slice::from_ref(&source), &toc, &[]);
        let image = open(&toc, &[source]);
        let root = image.root().expect("a root");
        let name = format!("size-{size}");
        let nid = image.lookup(&root, name.as_bytes()).expect("readable");
        let inode = image.inode(nid.expect("there")).expect("readable");
        let places: Vec<_> = image
            .extents(&inode)
            .map(|extent| match extent.expect("a map") {
                Extent {
                    place: Place::Data { device, offset },
                    length,
                    ..
                } => (device.0, offset.0, offset.0 + length),
                other => panic!("{other:?}"),
            })
            .collect();
        for pair in places.windows(2) {
            let ((device, _, end), (next, start, _)) = (pair[0], pair[1]);
            assert!(device == next || end != start, "{places:?}");
        }
        assert_eq!(places.last().expect("an end").0, 0, "{places:?}");
    }
}

#[test]
fn raw_files_under_other_names() {
    let ways = require!(needs());
    let mut tree = Tree::new();
    for name in ["one", "two", "three"] {
        tree.file(name, Content::dense(bytes::text(name.len() as u64, 9000)));
    }
    let workshop = Workshop::new(&tree);
    let source = |name: &str, file: &str| {
        PathBuf::from(format!("{name}={}", workshop.source.join(file).display()))
    };
    let toc = workshop.path("model.erofs");
    let sources = [
        source("weights/a/one", "one"),
        source("weights/b/one", "two"),
        source("three=3", "three"),
        // The same file once more.
        source("again", "one"),
    ];
    // Arguments split at the first "=", so this one is called "three" and comes from "3=…".
    let error = refused(
        erofs()
            .expect("asked for")
            .args(["index", "-o"])
            .arg(&toc)
            .args(&sources),
    );
    assert!(error.contains("3="), "{error}");
    let sources = [&sources[..2], &sources[3..]].concat();
    index(&sources, &toc, &[]);
    let file = |name: &str| workshop.expected.nodes[name.as_bytes()].clone();
    let expected = Manifest {
        nodes: BTreeMap::from([
            (b"weights/a/one".to_vec(), file("one")),
            (b"weights/b/one".to_vec(), file("two")),
            (b"again".to_vec(), file("one")),
        ]),
    };
    for (what, seen) in shown(&toc, &ways) {
        println!("{what}");
        expected.assert_same(&seen.files(), &[]);
    }
}

#[test]
fn names_given_twice_are_refused() {
    require!(erofs());
    let directory = tempfile::tempdir().expect("a temporary directory");
    for folder in ["a", "b"] {
        fs::create_dir(directory.path().join(folder)).expect("made");
        fs::write(directory.path().join(folder).join("same"), folder).expect("written");
    }
    let mut command = erofs().expect("asked for");
    command.current_dir(&directory);
    let error = refused(command.args(["index", "-o", "index.erofs", "a/same", "b/same"]));
    assert!(error.contains("same: two files have this name"), "{error}");
    assert!(!directory.path().join("index.erofs").exists());
}

#[test]
fn many_raw_files() {
    let ways = require!(needs());
    let mut tree = Tree::new();
    for n in 0..400u64 {
        let content = Content::dense(bytes::random(n, 4096 + n as usize * 11));
        tree.file(format!("part-{n:05}.safetensors"), content);
    }
    let workshop = Workshop::new(&tree);
    let names = workshop.expected.clone().files().nodes.into_keys();
    let sources: Vec<_> = names
        .map(|name| workshop.source.join(String::from_utf8(name).expect("text")))
        .collect();
    let toc = workshop.path("model.erofs");
    index(&sources, &toc, &[]);
    assert_eq!(blobs(&toc), sources);
    let size = fs::metadata(&toc).expect("there").len();
    let tails: u64 = (0..400u64).map(|n| (n * 11) % 4096).sum();
    assert!(
        size < tails + 400 * 800,
        "{size} bytes for {tails} of tails"
    );
    // By files alone: not every machine has 400 loop devices.
    let file_backed = ways.iter().copied().filter(|way| *way == Way::File);
    let ways: Vec<_> = file_backed.collect();
    for (what, seen) in shown(&toc, &ways) {
        println!("{what}");
        workshop
            .expected
            .clone()
            .files()
            .assert_same(&seen.files(), &[]);
    }
}

#[test]
fn the_data_of_a_huge_file_is_not_read() {
    require!(erofs());
    let directory = tempfile::tempdir().expect("a temporary directory");
    let blob = directory.path().join("huge.bin");
    let toc = directory.path().join("huge.erofs");
    let file = File::create(&blob).expect("made");
    let size = (100 << 30) + 700;
    file.set_len(size).expect("sparse");
    let marks = [0, (60 << 30) + 12_345, size - 2000, size - 9];
    for at in marks {
        file.write_all_at(&at.to_le_bytes(), at).expect("written");
    }
    let began = Instant::now();
    index(std::slice::from_ref(&blob), &toc, &[]);
    // Reading 100 GiB, even of holes, takes more than ten.
    let seconds = began.elapsed().as_secs_f64();
    assert!(seconds < 1.0, "{seconds} s");
    assert!(fs::metadata(&toc).expect("there").len() <= 3 * 4096);

    let ways = require!(needs());
    let devices = blobs(&toc);
    assert_eq!(devices, [blob]);
    for way in ways {
        let mounted = Mounted::with_devices(&toc, way, &devices).expect("mounts");
        let seen = File::open(mounted.path().join("huge.bin")).expect("opens");
        assert_eq!(seen.metadata().expect("stat").len(), size);
        for at in marks {
            let mut mark = [0; 8];
            seen.read_exact_at(&mut mark, at).expect("readable");
            assert_eq!(u64::from_le_bytes(mark), at, "{way:?}");
        }
    }
}

/// A tar of 2.3 TiB has more than 2^32 blocks of 512 bytes, two files of 10 TiB as many of 4 KiB: all of it holes but the ends.
#[test]
fn blocks_behind_32_bits_are_found() {
    require!(erofs());
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = |name: &str| directory.path().join(name);
    let content = bytes::random(5, 5000);
    let tar = File::create(path("large.tar")).expect("made");
    let size: u64 = (8 << 30) - 512;
    let mut at = 0;
    for number in 0..300 {
        let header = ustar::header(&number.to_string(), size);
        tar.write_all_at(&header, at).expect("written");
        at += 512 + size;
    }
    let last = ustar::header("last", content.len() as u64);
    tar.write_all_at(&[&last, &*content].concat(), at)
        .expect("written");
    tar.set_len(at + 512 + 5120 + 1024).expect("sparse");
    assert!(at / 512 > 1 << 32);
    for name in ["one", "last"] {
        let file = File::create(path(name)).expect("made");
        file.set_len(10 << 40).expect("sparse");
        file.write_all_at(&content, (10 << 40) - 5000)
            .expect("written");
    }
    index(&[path("large.tar")], &path("tar.erofs"), &[]);
    index(&[path("one"), path("last")], &path("raw.erofs"), &[]);
    for toc in ["tar.erofs", "raw.erofs"] {
        let toc = path(toc);
        let devices = blobs(&toc);
        succeed(
            erofs()
                .expect("asked for")
                .args(["check", "--quiet"])
                .arg(&toc),
        );
        let image = open(&toc, &devices);
        let inode = image.resolve(b"/last", Symlinks::Keep).expect("there");
        let mut read = vec![0; content.len()];
        let start = inode.size - 5000;
        let length = image.read(&inode, start, &mut read).expect("readable");
        assert!(length == 5000 && read == content);
        let ways = require!(needs());
        for way in ways.into_iter().filter(|_| kernel::release() >= (6, 15)) {
            let mounted = Mounted::with_devices(&toc, way, &devices).expect("mounts");
            let seen = File::open(mounted.path().join("last")).expect("opens");
            let mut read = vec![0; content.len()];
            seen.read_exact_at(&mut read, start).expect("readable");
            assert!(read == content, "{way:?}");
        }
    }
}

/// A wrong or missing blob is seen at once, by reader and kernel.
#[test]
fn the_number_of_devices_must_fit() {
    let ways = require!(needs());
    let mut tree = Tree::new();
    tree.file("a", Content::dense(bytes::text(1, 9000)));
    tree.file("b", Content::dense(bytes::text(2, 9000)));
    let workshop = Workshop::new(&tree);
    let sources = [workshop.source.join("a"), workshop.source.join("b")];
    let toc = workshop.path("model.erofs");
    index(&sources, &toc, &[]);
    for way in ways {
        assert!(Mounted::with_devices(&toc, way, &sources[..1]).is_err());
        assert!(Mounted::with_devices(&toc, way, &sources).is_ok());
    }
}

/// ≤ 200 MiB; mkfs.erofs --tar=i takes 568.
#[test]
fn memory_for_the_index_of_a_million_files() {
    require!(erofs());
    let time = require!(skip::program("time"));
    let directory = tempfile::tempdir().expect("a temporary directory");
    let tar = directory.path().join("million.tar");
    let mut file = BufWriter::with_capacity(1 << 20, File::create(&tar).expect("made"));
    for n in 0..1_000_000u32 {
        let name = format!("{:03}/{:03}/file-{n}", n / 10_000, n / 100 % 100);
        let mut member = [0; 1024];
        member[..512].copy_from_slice(&ustar::header(&name, 8));
        member[512..516].copy_from_slice(&n.to_le_bytes());
        file.write_all(&member).expect("written");
    }
    file.write_all(&[0; 1024]).expect("written");
    drop(file);
    let report = directory.path().join("time");
    succeed(
        Command::new(time)
            .args(["-q", "-f", "%M", "-o"])
            .args([&report, &require!(skip::erofs_binary())])
            .args(["index", "--quiet", "-o"])
            .args([&directory.path().join("million.erofs"), &tar]),
    );
    let report = fs::read_to_string(report).expect("written by time");
    let kib: u64 = report.trim().parse().expect("KiB");
    println!("{kib} KiB");
    assert!(kib <= 200 << 10, "{kib} KiB");
}
