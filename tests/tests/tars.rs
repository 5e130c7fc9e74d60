//! `erofs build x.tar` shows what `tar -x` makes of it, whoever wrote the tar and however it comes.

use std::{
    fs::{self, File},
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use erofs_tests::{
    archive, awkward,
    kernel::{Mounted, Way},
    manifest::{Manifest, Type},
    require,
    skip::{self, Reason},
    tree::Device,
    ustar,
    workshop::{Workshop, build, erofs, open, succeed},
};

fn needs() -> Result<Vec<Way>, Reason> {
    skip::root()?;
    erofs()?;
    Way::all()
}

/// The image of a tar, mounted, is what tar extracts; `least` entries at least.
fn judge(tar: &Path, way: Way, least: usize) {
    let expected = archive::extracted(tar, &[]);
    assert!(expected.nodes.len() >= least, "{}", expected.nodes.len());
    let image = tar.with_extension("erofs");
    build(tar, &image, &[]);
    let mounted = Mounted::new(&image, way, "").expect("mounts");
    let seen = Manifest::of_directory(mounted.path()).expect("readable");
    expected.assert_same(&seen, &[]);
}

#[test]
fn tars_by_gnu_tar() {
    let ways = require!(needs());
    let workshop = Workshop::light();
    let tar = workshop.path("layer.tar");
    let formats: [&[&str]; 8] = [
        &["--format=v7"],
        &["--format=oldgnu"],
        &["--format=gnu", "-S"],
        &["--format=ustar"],
        &["--format=posix", "--xattrs", "--xattrs-include=*"],
        &["--format=posix", "-S", "--sparse-version=0.0"],
        &["--format=posix", "-S", "--sparse-version=0.1"],
        &["--format=posix", "-S", "--sparse-version=1.0"],
    ];
    for format in formats {
        println!("{format:?}");
        archive::create(&workshop.source, &tar, format);
        judge(&tar, ways[0], 1000);
    }
}

#[test]
fn tars_by_bsdtar() {
    let ways = require!(needs());
    let bsdtar = require!(skip::program("bsdtar"));
    let workshop = Workshop::light();
    // It writes these names in its own attributes alone, which tar does not read, and fractions before 1970 as if
    // they counted away from zero: a time before the first that ext4 holds.
    for name in ["xattrs/name-bytes", "times/-2147483647.000000001"]
        .into_iter()
        .chain(["times/-2147483647.500000000", "times/-2147483647.999999999"])
    {
        fs::remove_file(workshop.source.join(name)).expect("there");
    }
    // Its time is beyond ustar, so there the folder would be implied by its file alone.
    fs::remove_dir_all(workshop.source.join("times/directory")).expect("there");
    let tar = workshop.path("layer.tar");
    for format in ["pax", "gnutar", "ustar"] {
        println!("{format}");
        // Its ACLs name users; ours are in attributes.
        let output = Command::new(&bsdtar)
            .args([
                "--numeric-owner",
                "--no-acls",
                "--no-fflags",
                "--format",
                format,
            ])
            .arg("-C")
            .args([&workshop.source, Path::new("-cf"), &tar, Path::new(".")])
            .output()
            .expect("starts");
        // 1: some entries are beyond the format.
        assert!(matches!(output.status.code(), Some(0 | 1)), "{output:?}");
        judge(&tar, ways[0], 1000);
    }
}

#[test]
fn tars_by_python() {
    let ways = require!(needs());
    let python = require!(skip::program("python3"));
    let workshop = Workshop::light();
    // Python writes them with an exponent: tar takes the digits before it for whole seconds, we refuse the member.
    for time in ["0.000000001", "-1.999999999"] {
        fs::remove_file(workshop.source.join("times").join(time)).expect("there");
    }
    let tar = workshop.path("layer.tar");
    let script = "import sys, tarfile
with tarfile.open(sys.argv[1], 'w', format=getattr(tarfile, sys.argv[3])) as tar:
    tar.add(sys.argv[2], arcname='.')";
    for format in ["GNU_FORMAT", "PAX_FORMAT"] {
        println!("{format}");
        let mut command = Command::new(&python);
        command.env("LC_ALL", "C.UTF-8").args(["-c", script]);
        succeed(command.args([&tar, &workshop.source, Path::new(format)]));
        judge(&tar, ways[0], 1000);
    }
}

/// The standard output of a filter over some bytes.
fn filtered(program: &str, arguments: &[&str], input: &Path) -> Vec<u8> {
    let input = File::open(input).expect("opens");
    succeed(Command::new(program).args(arguments).stdin(input)).stdout
}

#[test]
fn the_way_a_tar_comes_leaves_no_trace() {
    require!(erofs());
    let folder = tempfile::tempdir().expect("a temporary directory");
    let path = |name: &str| folder.path().join(name);
    let tar = path("x.tar");
    let mut bytes = Vec::new();
    for n in 0..200usize {
        let size = n * 97 % 5000;
        bytes.extend(ustar::header(&format!("f{n}"), size as u64));
        bytes.extend(awkward::bytes::text(n as u64, size));
        bytes.resize(bytes.len().next_multiple_of(512), 0);
    }
    bytes.extend([0; 1024]);
    fs::write(&tar, &bytes).expect("written");
    let expected = build_to_bytes(&tar, &path("x.erofs"));

    let mut forms = Vec::new();
    for program in ["gzip", "zstd", "xz", "bzip2"] {
        require!(skip::program(program));
        forms.push((program.to_owned(), filtered(program, &["-c"], &tar)));
    }
    let half = bytes.len() / 2;
    for program in ["gzip", "zstd", "xz", "bzip2"] {
        let mut members = Vec::new();
        for part in [&bytes[..half], &bytes[half..]] {
            fs::write(path("part"), part).expect("written");
            members.extend(filtered(program, &["-c"], &path("part")));
        }
        forms.push((format!("{program}, two members"), members));
    }
    let mut padded = filtered("gzip", &["-c"], &tar);
    padded.resize(padded.len().next_multiple_of(10_240), 0);
    forms.push(("gzip and zeros".to_owned(), padded));
    forms.push((
        "plain and zeros".to_owned(),
        [bytes, vec![0; 10_240]].concat(),
    ));

    for (what, form) in forms {
        println!("{what}");
        // The name says nothing: the content does.
        let source = path("source");
        fs::write(&source, &form).expect("written");
        assert!(
            build_to_bytes(&source, &path("x.erofs")) == expected,
            "{what}"
        );
        let mut child = erofs()
            .expect("asked for")
            .args(["build", "--quiet", "-", "-o"])
            .arg(path("stdin.erofs"))
            .stdin(Stdio::piped())
            .spawn()
            .expect("starts");
        let mut stdin = child.stdin.take().expect("piped");
        stdin.write_all(&form).expect("taken");
        drop(stdin);
        assert!(child.wait().expect("waited").success(), "{what}");
        let by_pipe = fs::read(path("stdin.erofs")).expect("readable");
        assert!(by_pipe == expected, "{what} by a pipe");
    }
}

fn build_to_bytes(source: &Path, image: &Path) -> Vec<u8> {
    build(source, image, &[]);
    fs::read(image).expect("readable")
}

/// A tar made by hand of (name, content or link target) pairs, and what the image of it holds.
fn by_hand(members: &[([u8; 512], &[u8])], options: &[&str]) -> Manifest {
    let folder = tempfile::tempdir().expect("a temporary directory");
    let tar: PathBuf = folder.path().join("x.tar");
    let mut bytes = Vec::new();
    for (header, content) in members {
        bytes.extend(header);
        bytes.extend(*content);
        bytes.resize(bytes.len().next_multiple_of(512), 0);
    }
    bytes.extend([0; 1024]);
    fs::write(&tar, bytes).expect("written");
    let image = folder.path().join("x.erofs");
    build(&tar, &image, options);
    Manifest::of_image(&open(&image, &[])).expect("readable")
}

/// The content of what is 5 bytes long, told by its digest.
fn digest(content: &[u8]) -> Option<[u8; 32]> {
    let (digest, _) = erofs_tests::manifest::digest(&mut &*content).expect("memory reads");
    Some(digest)
}

#[test]
fn hard_links_may_come_before_their_targets() {
    require!(erofs());
    let members: [([u8; 512], &[u8]); 4] = [
        (ustar::hard_link("b/first", "a/target"), b""),
        (ustar::hard_link("c", "b/first"), b""),
        (ustar::header("a/target", 5), b"bytes"),
        (ustar::hard_link("last", "c"), b""),
    ];
    let seen = by_hand(&members, &[]);
    for name in ["a/target", "b/first", "c", "last"] {
        let node = &seen.nodes[name.as_bytes()];
        assert_eq!(
            (node.kind, node.links, node.digest),
            (Type::File, 4, digest(b"bytes"))
        );
        assert_eq!(node.shared_with.as_deref(), Some(b"a/target".as_slice()));
    }
}

#[test]
fn the_last_of_repeated_members_wins() {
    require!(erofs());
    let members: [([u8; 512], &[u8]); 4] = [
        (ustar::header("x", 5), b"first"),
        (ustar::hard_link("y", "x"), b""),
        (ustar::header("d/z", 1), b"z"),
        (ustar::header("./x", 4), b"last"),
    ];
    let seen = by_hand(&members, &[]);
    assert_eq!(seen.nodes[b"x".as_slice()].digest, digest(b"last"));
    // As tar -x does it: the link was to the first.
    assert_eq!(seen.nodes[b"y".as_slice()].digest, digest(b"first"));
    assert_eq!(seen.nodes[b"y".as_slice()].links, 1);
    assert_eq!(seen.nodes.len(), 5);
}

#[test]
fn parents_may_be_implied() {
    require!(erofs());
    let seen = by_hand(&[(ustar::header("a/b/c", 5), b"bytes")], &[]);
    let names: Vec<_> = seen.nodes.keys().map(Vec::as_slice).collect();
    assert_eq!(names, [b"".as_slice(), b"a", b"a/b", b"a/b/c"]);
    for name in [b"a".as_slice(), b"a/b"] {
        let node = &seen.nodes[name];
        assert_eq!(
            (node.kind, node.mode, node.uid),
            (Type::Directory, 0o755, 0)
        );
    }
}

#[test]
fn whiteouts_become_what_is_asked_for() {
    require!(erofs());
    let members: [([u8; 512], &[u8]); 3] = [
        (ustar::header("d/.wh.gone", 0), b""),
        (ustar::header("d/.wh..wh..opq", 0), b""),
        (ustar::header("d/kept", 1), b"k"),
    ];
    let kept: &[&[u8]] = &[b"", b"d", b"d/.wh..wh..opq", b"d/.wh.gone", b"d/kept"];
    let overlay: &[&[u8]] = &[b"", b"d", b"d/gone", b"d/kept"];
    type Case<'a> = (&'a [&'a str], &'a [&'a [u8]], Option<&'a [u8]>);
    let cases: [Case<'_>; 6] = [
        (&[], kept, None),
        (&["--whiteouts=keep"], kept, None),
        (&["--whiteouts=strip"], &[b"", b"d", b"d/kept"], None),
        (
            &["--whiteouts=overlay"],
            overlay,
            Some(b"trusted.overlay.opaque"),
        ),
        (&["--aufs"], overlay, Some(b"trusted.overlay.opaque")),
        (
            &["--whiteouts=overlay-user"],
            overlay,
            Some(b"user.overlay.opaque"),
        ),
    ];
    for (options, names, opaque) in cases {
        println!("{options:?}");
        let seen = by_hand(&members, options);
        let found: Vec<_> = seen.nodes.keys().map(Vec::as_slice).collect();
        assert_eq!(found, names);
        let xattrs = &seen.nodes[b"d".as_slice()].xattrs;
        match opaque {
            Some(name) => assert_eq!(xattrs.get(name).map(Vec::as_slice), Some(&b"y"[..])),
            None => assert!(xattrs.is_empty(), "{xattrs:?}"),
        }
        if let Some(gone) = seen.nodes.get(b"d/gone".as_slice()) {
            assert_eq!(gone.kind, Type::CharacterDevice);
            assert_eq!(gone.device, Some(Device { major: 0, minor: 0 }));
        }
    }
}
