//! Images of both tools by the same arguments hold the same.

use std::{
    collections::BTreeSet,
    fs,
    os::unix::fs::MetadataExt,
    path::Path,
    time::{SystemTime, UNIX_EPOCH},
};

use erofs_reader::{Image, Symlinks};
use erofs_tests::{
    archive,
    awkward::bytes,
    manifest::Field,
    require,
    tree::{Attributes, Content, Device, Kind, Tree},
    ustar, workshop,
    workshop::{Workshop, open},
};

use super::{link, manifest, needs, peer, run};

/// Arguments in front of image and source, all that are taken by both.
const ROWS: [&[&str]; 19] = [
    &[],
    &["-Enoinline_data", "-b512"],
    &["-T77", "--workers=0", "--dsunit=0", "--fsalignblks=0"],
    &["-T77", "--ignore-mtime", "--mkfs-time"],
    &["-x-1", "--all-root"],
    &["--force-uid=3", "--uid-offset=100000", "-x0"],
    &["--hard-dereference", "-Eforce-inode-extended"],
    &["--exclude-path=names", "--exclude-regex=^(types/|.*xattr)"],
    &["--chunksize=4096", "-Eforce-chunk-indexes"],
    &["--chunksize=65536", "-Enosbcrc,^xattr-name-filter"],
    &["--root-xattr-isize=400", "--fsalignblks=64"],
    &["-zzstd,level=5", "-C65536"],
    &["-zzstd", "-Elegacy-compress", "--max-extent-bytes=0"],
    &["-Edot-omitted", "-T77"],
    &["--xattr-prefix=user.li", "--xattr-prefix=trusted.overlay."],
    &[
        "--dsunit=8",
        "-Eplain-xattr-prefixes",
        "--xattr-prefix=user.l",
    ],
    &["--xattr-prefix=user.", "--xattr-prefix=trusted."],
    &["--file-contexts=contexts"],
    &["--file-contexts=contexts", "--mount-point=vendor/"],
];

/// Labels by every rule of file_contexts(5). Not of single hard links: which name counts depends on the order of the walk.
const CONTEXTS: &str = "\
/types(/.*)?\t\tu:object_r:types_t:s0
/vendor(/.*)?\t\tu:object_r:vendor_t:s0
/types/fifo.* -p u:object_r:fifo_t:s0
/(vendor/)?[^lv].*/[[:alpha:]_]+ -- u:object_r:words_t:s0
/(vendor/)?names/.*\\.[^.]+$ u:object_r:ending_t:s0
/(vendor/)?types/.* -l u:object_r:link_t:s0
/vendor/names -d u:object_r:names_t:s0
/names <<none>>
/other/.* u:object_r:other_t:s0
/(vendor/)?[^lv].*[0-9]{2,} -- <<none>>
";

#[test]
fn of_directories() {
    require!(needs());
    let workshop = Workshop::light();
    fs::write(workshop.path("contexts"), CONTEXTS).unwrap();
    fs::write(
        workshop.path("contexts.local"),
        "/types/.* -c u:object_r:char_t:s0\n",
    )
    .unwrap();
    fs::write(workshop.path("contexts.subs"), "/xattrs /other\n").unwrap();
    fs::write(
        workshop.path("contexts.subs_dist"),
        "/vendor/modes /other\n",
    )
    .unwrap();
    for row in ROWS {
        let mut arguments = row.to_vec();
        arguments.extend(["--quiet", "theirs.erofs", "source"]);
        let theirs = run(peer(), &workshop, None, &arguments);
        assert!(theirs.status.success(), "{row:?}: {theirs:?}");
        let at = arguments.len() - 2;
        arguments[at] = "ours.erofs";
        let ours = run(link(&workshop), &workshop, None, &arguments);
        assert!(ours.status.success(), "{row:?}: {ours:?}");
        assert!(ours.stdout.is_empty());
        let (theirs, ours) = (
            manifest(&workshop, "theirs.erofs", &[]),
            manifest(&workshop, "ours.erofs", &[]),
        );
        assert!(theirs.nodes.len() > 500, "{row:?}");
        let differences = theirs.differences(&ours, &[]);
        let first: Vec<_> = differences
            .iter()
            .take(5)
            .map(ToString::to_string)
            .collect();
        assert!(first.is_empty(), "{row:?}: {first:#?}");
        workshop::fsck_accepts(&workshop.path("ours.erofs"));
    }
}

/// Without -T it is that of the build.
#[test]
fn of_directories_whose_files_get_one_time() {
    require!(needs());
    let workshop = Workshop::light();
    let now = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    for (command, image) in [(peer(), "theirs.erofs"), (link(&workshop), "ours.erofs")] {
        let before = now().as_secs();
        let output = run(command, &workshop, None, &["--all-time", image, "source"]);
        assert!(output.status.success(), "{output:?}");
        let between = before..=now().as_secs();
        let manifest = manifest(&workshop, image, &[]);
        for (path, node) in &manifest.nodes {
            let seconds = u64::try_from(node.mtime.seconds).unwrap();
            assert!(between.contains(&seconds), "{image}: {path:?}: {node:?}");
        }
    }
}

#[test]
fn of_tars() {
    require!(needs());
    let workshop = Workshop::light();
    let tar = workshop.path("source.tar");
    let format = ["--format=posix", "--xattrs", "--xattrs-include=*"];
    archive::create(&workshop.source, &tar, &format);
    for row in [
        &["--tar=f"][..],
        &["--tar", "-T5", "-Enoinline_data", "--sort=none"],
        &["--tar=f", "--all-root", "--uid-offset=7"],
        &["--tar=i"],
    ] {
        let mut arguments = row.to_vec();
        arguments.extend(["--quiet", "theirs.erofs", "source.tar"]);
        let theirs = run(peer(), &workshop, None, &arguments);
        assert!(theirs.status.success(), "{row:?}: {theirs:?}");
        let at = arguments.len() - 2;
        arguments[at] = "ours.erofs";
        let ours = run(link(&workshop), &workshop, None, &arguments);
        assert!(ours.status.success(), "{row:?}: {ours:?}");
        let devices: &[&str] = if row[0] == "--tar=i" {
            &["source.tar"]
        } else {
            &[]
        };
        let theirs = manifest(&workshop, "theirs.erofs", devices);
        let ours = manifest(&workshop, "ours.erofs", devices);
        assert!(theirs.nodes.len() > 500, "{row:?}");
        // The C tool drops the fractions of times, and attributes with names it cannot tell.
        let differences = theirs.differences(&ours, &[Field::Nanoseconds, Field::Seconds]);
        let first: Vec<_> = differences
            .iter()
            .take(5)
            .map(ToString::to_string)
            .collect();
        assert!(first.is_empty(), "{row:?}: {first:#?}");
    }
}

#[test]
fn of_what_neither_takes() {
    require!(needs());
    let workshop = Workshop::light();
    for arguments in [
        &[][..],
        &["a.erofs"],
        &["a.erofs", "missing"],
        &["--bogus", "a.erofs", "source"],
        &["-Ebogus", "a.erofs", "source"],
        &["-zbogus", "a.erofs", "source"],
        &["-Uzz", "a.erofs", "source"],
        &["-Tx", "a.erofs", "source"],
        &["-L1234567890123456", "a.erofs", "source"],
        &["--force-uid=4294967295", "a.erofs", "source"],
        &["--force-gid=4294967295", "a.erofs", "source"],
        &["-d10", "a.erofs", "source"],
        &["--chunksize=5000", "a.erofs", "source"],
        &["-C5000", "a.erofs", "source"],
        &["--tar=f", "a.erofs", "missing"],
        &["missing/a.erofs", "source"],
    ] {
        for command in [peer(), link(&workshop)] {
            let output = run(command, &workshop, None, arguments);
            assert_eq!(output.status.code(), Some(1), "{arguments:?}: {output:?}");
        }
        if let Some(image) = arguments.iter().find(|word| word.ends_with(".erofs")) {
            // The C tool may have left something.
            let _ = std::fs::remove_file(workshop.path(image));
            let output = run(link(&workshop), &workshop, None, arguments);
            assert!(!output.stderr.is_empty() && !workshop.path(image).exists());
        }
    }
}

#[test]
fn of_directories_with_their_data_elsewhere() {
    require!(needs());
    let workshop = Workshop::light();
    for (command, image, blob) in [
        (peer(), "theirs.erofs", "--blobdev=theirs.blob"),
        (link(&workshop), "ours.erofs", "--blobdev=ours.blob"),
    ] {
        let arguments = ["--quiet", "--chunksize=4096", blob, image, "source"];
        let output = run(command, &workshop, None, &arguments);
        assert!(output.status.success(), "{output:?}");
    }
    let theirs = manifest(&workshop, "theirs.erofs", &["theirs.blob"]);
    let ours = manifest(&workshop, "ours.erofs", &["ours.blob"]);
    theirs.assert_same(&ours, &[]);
    // Neither file is there when one cannot be made.
    std::fs::remove_file(workshop.path("ours.blob")).unwrap();
    let arguments = [
        "--chunksize=4096",
        "--blobdev=ours.blob",
        "missing/x",
        "source",
    ];
    let output = run(link(&workshop), &workshop, None, &arguments);
    assert_eq!(output.status.code(), Some(1));
    assert!(!workshop.path("ours.blob").exists());
}

/// Both go on from an image of the C tool, which also is as compressed as it makes them.
#[test]
fn of_directories_over_an_image() {
    require!(needs());
    let mut tree = Tree::new();
    tree.directory("kept");
    tree.file("kept/file", Content::dense(bytes::text(1, 100_000)));
    tree.file("kept/tail", Content::dense(bytes::random(2, 5000)));
    tree.directory("changed");
    tree.file("changed/gone", Content::dense(bytes::text(3, 50_000)));
    tree.file("changed/new", Content::dense(bytes::text(4, 50_000)));
    let workshop = Workshop::new(&tree);
    let mut changes = Tree::new();
    changes.directory("changed");
    changes.file("changed/new", Content::dense(bytes::text(5, 40_000)));
    let whiteout = Kind::CharacterDevice(Device { major: 0, minor: 0 });
    changes.add("changed/gone", whiteout, Attributes::with_mode(0));
    changes.file("more", Content::dense(bytes::random(6, 9000)));
    fs::create_dir(workshop.path("changes")).unwrap();
    changes.write(&workshop.path("changes")).unwrap();
    for row in [
        &["-zlz4"][..],
        &["-zzstd", "-C65536"],
        &["-zlz4hc", "-Eztailpacking"],
        &["-Enoinline_data"],
    ] {
        let base = [row, &["--quiet", "base.erofs", "source"]].concat();
        assert!(run(peer(), &workshop, None, &base).status.success());
        let arguments =
            |image| [row, &["--quiet", "--incremental=data", image, "changes"]].concat();
        for (command, image) in [(peer(), "theirs.erofs"), (link(&workshop), "ours.erofs")] {
            fs::copy(workshop.path("base.erofs"), workshop.path(image)).unwrap();
            let done = run(command, &workshop, None, &arguments(image));
            assert!(done.status.success(), "{row:?}: {done:?}");
        }
        let theirs = manifest(&workshop, "theirs.erofs", &[]);
        let ours = manifest(&workshop, "ours.erofs", &[]);
        assert_eq!(ours.nodes.len(), 8, "{:?}", ours.nodes.keys());
        // Ours says in a directory that it holds a whiteout.
        theirs.assert_same(&ours, &[Field::Xattrs]);
        workshop::fsck_accepts(&workshop.path("ours.erofs"));
    }
}

/// Room for data that somebody else writes: files are zeros in blocks of their own, of which the image takes none on disk.
#[test]
fn of_files_that_get_room_only() {
    require!(needs());
    let mut tree = Tree::new();
    tree.directory("folder");
    tree.file("folder/random", Content::dense(bytes::random(1, 100_000)));
    tree.file("folder/same", Content::dense(bytes::random(1, 100_000)));
    tree.file("small", Content::dense(bytes::text(2, 9)));
    tree.file("empty", Content::dense(Vec::new()));
    let workshop = Workshop::new(&tree);
    archive::create(&workshop.source, &workshop.path("a.tar"), &[]);
    let base = ["--quiet", "-Enoinline_data", "base.erofs", "source"];
    assert!(run(peer(), &workshop, None, &base).status.success());
    for (row, source, has_data) in [
        (&["--clean=rvsp", "--tar=f"][..], "a.tar", false),
        (&["--clean=rvsp", "--tar=i"], "a.tar", false),
        (&["--clean=rvsp"], "base.erofs", false),
        (&["--clean=rvsp"], "source", true),
        (&["--clean=0"], "source", true),
        (&["--clean=0", "--tar=f"], "a.tar", true),
        (&["--incremental=rvsp", "--tar=f"], "a.tar", false),
        (&["--incremental=rvsp"], "base.erofs", false),
        (&["--incremental=rvsp"], "source", true),
        (&["--incremental=0"], "source", true),
        (
            &["--incremental=0", "--clean=rvsp", "--tar"],
            "a.tar",
            false,
        ),
        (&["--incremental"], "base.erofs", true),
    ] {
        for (command, image) in [(peer(), "theirs.erofs"), (link(&workshop), "ours.erofs")] {
            fs::copy(workshop.path("base.erofs"), workshop.path(image)).unwrap();
            let arguments = [row, &["--quiet", "-T0", image, source]].concat();
            let done = run(command, &workshop, None, &arguments);
            assert!(done.status.success(), "{row:?}: {done:?}");
        }
        // The C tool names a device for an index of which there is none.
        let devices: &[&str] = if row[1..] == ["--tar=i"] {
            &["a.tar"]
        } else {
            &[]
        };
        let theirs = manifest(&workshop, "theirs.erofs", devices);
        let ours = manifest(&workshop, "ours.erofs", &[]);
        // Of the root, the C tool takes nothing from images.
        let ignored = [Field::Seconds, Field::Nanoseconds, Field::Mode];
        theirs.assert_same(&ours, &ignored);
        let same = workshop.expected.differences(&ours, &ignored);
        assert_eq!(same.is_empty(), has_data, "{row:?} {source}: {same:?}");
        workshop::fsck_accepts(&workshop.path("ours.erofs"));
        if !has_data {
            let metadata = fs::metadata(workshop.path("ours.erofs")).unwrap();
            let taken = metadata.blocks() * 512;
            assert!(metadata.len() > taken + 190_000, "{row:?}: {metadata:?}");
        }
    }
    for image in ["theirs.erofs", "ours.erofs"] {
        let tool = if image == "ours.erofs" {
            link(&workshop)
        } else {
            peer()
        };
        let done = run(tool, &workshop, None, &["--clean=0", image, "base.erofs"]);
        assert_eq!(done.status.code(), Some(1));
    }
}

/// A tar in which no data stands behind the headers.
#[test]
fn of_headers_alone() {
    require!(needs());
    let workshop = Workshop::light();
    let tar = [
        ustar::header("large", 5 << 30),
        ustar::header("small", 7),
        ustar::header("empty", 0),
        ustar::hard_link("other", "small"),
    ];
    for end in [0, 1024] {
        let mut bytes = tar.concat();
        bytes.resize(bytes.len() + end, 0);
        fs::write(workshop.path("headers.tar"), bytes).unwrap();
        for (command, image) in [(peer(), "theirs.erofs"), (link(&workshop), "ours.erofs")] {
            let arguments = ["--quiet", "--tar=headerball", image, "headers.tar"];
            let done = run(command, &workshop, None, &arguments);
            assert!(done.status.success(), "{done:?}");
            assert!(fs::metadata(workshop.path(image)).unwrap().len() < 10_000);
        }
        let (theirs, ours) = (
            open(&workshop.path("theirs.erofs"), &[]),
            open(&workshop.path("ours.erofs"), &[]),
        );
        for path in ["large", "small", "empty", "other"] {
            let inode = |image: &Image| image.resolve(path.as_bytes(), Symlinks::Keep).unwrap();
            let (theirs, ours) = (inode(&theirs), inode(&ours));
            assert_eq!((theirs.size, theirs.nlink), (ours.size, ours.nlink));
            assert_eq!(theirs.layout, ours.layout, "{path}");
        }
        workshop::fsck_accepts(&workshop.path("ours.erofs"));
    }
}

/// Writes the data of a tar where a map of `--tar=i,MAP` says that it belongs. Returns what the lines say but for the blocks.
fn fill(image: &Path, tar: &Path, map: &Path) -> BTreeSet<(u64, u64, u64)> {
    let mut bytes = fs::read(image).unwrap();
    let tar = fs::read(tar).unwrap();
    let mut seen = BTreeSet::new();
    for line in fs::read_to_string(map).unwrap().lines() {
        let mut fields = line.split_whitespace();
        let mut next = |radix| {
            fields
                .next()
                .map(|f| u64::from_str_radix(f, radix).unwrap())
        };
        let (block, count) = (next(16).unwrap(), next(16).unwrap());
        let (offset, zeros) = (next(16).unwrap(), next(10).unwrap_or(0));
        let length = (count * 4096 - zeros) as usize;
        let data = &tar[offset as usize..][..length];
        bytes[block as usize * 4096..][..length].copy_from_slice(data);
        seen.insert((count, offset, zeros));
    }
    fs::write(image, bytes).unwrap();
    seen
}

/// Room for a tar's data, with a map that tells where it belongs.
#[test]
fn of_tars_with_a_map() {
    require!(needs());
    let mut tree = Tree::new();
    tree.directory("folder");
    tree.file("folder/random", Content::dense(bytes::random(1, 100_000)));
    tree.file("folder/whole", Content::dense(bytes::random(2, 8192)));
    tree.file("small", Content::dense(bytes::text(3, 9)));
    tree.file("empty", Content::dense(Vec::new()));
    let workshop = Workshop::new(&tree);
    archive::create(&workshop.source, &workshop.path("a.tar"), &[]);
    for (row, lines) in [
        (&["--tar=i,MAP"][..], 3),
        (&["--clean=rvsp", "--tar=i,MAP"], 3),
        (&["--clean=rvsp", "--tar=f,MAP"], 3),
        (&["--tar=f,MAP"], 0),
    ] {
        let mut told = Vec::new();
        for (command, name) in [(peer(), "theirs"), (link(&workshop), "ours")] {
            let map = format!("{name}.map");
            let mut arguments: Vec<_> = row.iter().map(|word| word.replace("MAP", &map)).collect();
            let image = format!("{name}.erofs");
            arguments.extend(["--quiet", "-T0", &image, "a.tar"].map(str::to_owned));
            let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
            let done = run(command, &workshop, None, &arguments);
            assert!(done.status.success(), "{row:?}: {done:?}");
            let [image_path, tar, map] = [&*image, "a.tar", &*map].map(|name| workshop.path(name));
            told.push(fill(&image_path, &tar, &map));
            let filled = manifest(&workshop, &image, &[]);
            let ignored = [Field::Seconds, Field::Nanoseconds, Field::Mode];
            workshop.expected.assert_same(&filled, &ignored);
        }
        assert_eq!(told[0], told[1], "{row:?}");
        assert_eq!(told[1].len(), lines, "{row:?}");
    }
    // Of sparse files each piece has blocks of its own, or is refused.
    let sparse = Content::sparse(
        100_000,
        vec![(512, bytes::random(4, 512)), (40_960, vec![7; 9])],
    );
    let mut tree = Tree::new();
    tree.file("sparse", sparse);
    let sparse = Workshop::new(&tree);
    for (detection, name) in [("seek", "sparse.tar"), ("raw", "inside.tar")] {
        let detection = format!("--hole-detection={detection}");
        let options = ["--sparse", "--format=posix", &detection];
        archive::create(&sparse.source, &workshop.path(name), &options);
    }
    let arguments = ["--quiet", "--tar=i,s.map", "s.erofs", "sparse.tar"];
    assert!(
        run(link(&workshop), &workshop, None, &arguments)
            .status
            .success()
    );
    let [image, tar, map] = ["s.erofs", "sparse.tar", "s.map"].map(|name| workshop.path(name));
    assert_eq!(fill(&image, &tar, &map).len(), 2);
    let ignored = [Field::Seconds, Field::Nanoseconds, Field::Mode];
    let filled = manifest(&workshop, "s.erofs", &[]);
    sparse.expected.assert_same(&filled, &ignored);
    for (mode, tar, reason) in [
        ("--tar=i,a.tar", "a.tar", "one file"),
        ("--tar=i,no.erofs", "a.tar", "one file"),
        ("--tar=x,map", "a.tar", "headerball"),
        ("--tar=i,no.map", "inside.tar", "sparse: pieces"),
        ("--tar=i,no.map", "missing", "missing"),
    ] {
        let done = run(link(&workshop), &workshop, None, &[mode, "no.erofs", tar]);
        let error = String::from_utf8_lossy(&done.stderr);
        assert_eq!(done.status.code(), Some(1), "{mode}");
        assert!(error.contains(reason), "{mode}: {error}");
        let left = ["no.erofs", "no.map"].map(|name| workshop.path(name).exists());
        assert_eq!(left, [false; 2], "{mode}");
    }
}
