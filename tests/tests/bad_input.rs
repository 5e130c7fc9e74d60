//! Bad sources get one line that names what is wrong and where, exit code 2, and no image.

use std::{
    fs::{self, File},
    io::{Seek, SeekFrom, Write},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    thread,
    time::{Duration, Instant},
};

use erofs_tests::{
    awkward::bytes,
    manifest::{Manifest, digest},
    require, skip,
    tree::{Attributes, Content, Kind, Tree},
    ustar,
    workshop::{Workshop, build, erofs, open, refused, succeed},
};
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use serde_json::Value;
use tempfile::TempDir;

/// A folder for images, in which nothing may be left.
struct Images(TempDir);

impl Images {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("a temporary directory"))
    }

    fn image(&self) -> PathBuf {
        self.0.path().join("image.erofs")
    }

    /// What `erofs build` says of a source that it must refuse.
    #[track_caller]
    fn refused(&self, arguments: &[&Path]) -> String {
        let mut command = erofs().expect("asked for");
        command.arg("build").args(arguments).arg("-o");
        let error = refused(command.arg(self.image()));
        self.nothing_left();
        error
    }

    #[track_caller]
    fn nothing_left(&self) {
        assert_eq!(fs::read_dir(self.0.path()).expect("there").count(), 0);
    }
}

/// The members and the end mark.
fn tar(members: &[([u8; 512], &[u8])]) -> Vec<u8> {
    let mut tar = Vec::new();
    for (header, content) in members {
        tar.extend(header);
        tar.extend(*content);
        tar.resize(tar.len().next_multiple_of(512), 0);
    }
    tar.extend([0; 1024]);
    tar
}

#[test]
fn damaged_tars() {
    require!(erofs());
    let good = tar(&[
        (ustar::header("first", 700), &[b'x'; 700]),
        (ustar::header("second", 700), &[b'y'; 700]),
    ]);
    let mut damaged = good.clone();
    damaged[1536 + 20] ^= 1;
    let link = |name, to| (ustar::hard_link(name, to), b"".as_slice());
    let file = |name| (ustar::header(name, 1), b"x".as_slice());
    let gzip = {
        let folder = tempfile::tempdir().expect("a temporary directory");
        fs::write(folder.path().join("tar"), &good).expect("written");
        succeed(Command::new("gzip").arg(folder.path().join("tar")));
        fs::read(folder.path().join("tar.gz")).expect("readable")
    };
    let mut flipped = gzip.clone();
    let middle = flipped.len() - 6;
    flipped[middle] ^= 0x55;
    let cases: Vec<(&str, Vec<u8>, &[&str])> = vec![
        ("cut in data", good[..900].to_vec(), &["truncated", "first"]),
        (
            "cut in a header",
            good[..1536 + 100].to_vec(),
            &["truncated", "first"],
        ),
        ("a damaged header", damaged, &["1536", "first", "checksum"]),
        (
            "a size of 8 GiB that is not there",
            tar(&[(ustar::header("huge", (8 << 30) - 1), b"x")]),
            &["truncated", "huge"],
        ),
        ("cut gzip", gzip[..gzip.len() / 2].to_vec(), &["gzip"]),
        ("damaged gzip", flipped, &["gzip"]),
        ("a link to itself", tar(&[link("loop", "loop")]), &["loop"]),
        (
            "links in a circle",
            tar(&[link("a", "b"), link("b", "a")]),
            &["a"],
        ),
        (
            "a link to nothing",
            tar(&[link("here", "nowhere")]),
            &["here", "nowhere"],
        ),
        ("a way out", tar(&[file("../outside")]), &["../outside"]),
        (
            "a file in a file",
            tar(&[file("plain"), file("plain/below")]),
            &["plain"],
        ),
        ("nothing at all", Vec::new(), &["empty"]),
        ("no tar", bytes::text(1, 5000), &["not a tar"]),
        (
            "another compression",
            [b"\x04\x22\x4d\x18".as_slice(), &good].concat(),
            &["lz4"],
        ),
    ];
    let folder = tempfile::tempdir().expect("a temporary directory");
    let source = folder.path().join("source.tar");
    for (what, content, words) in cases {
        println!("{what}");
        fs::write(&source, content).expect("written");
        let error = Images::new().refused(&[Path::new("--tar=f"), &source]);
        println!("  {error}");
        for word in words {
            assert!(
                error.to_lowercase().contains(&word.to_lowercase()),
                "{what}: no {word:?} in {error}"
            );
        }
    }
}

/// A file of 2^62 bytes of which the last are data: the best chunks of it take 4 GiB of zeros and a table as large.
#[test]
fn a_sparse_member_with_too_large_a_table_is_refused_before_it_is_stored() {
    require!(erofs());
    let folder = tempfile::tempdir().expect("a temporary directory");
    let source = folder.path().join("source.tar");
    let size = 1u64 << 62;
    let mut records = String::new();
    for (key, value) in [
        ("GNU.sparse.major", "1"),
        ("GNU.sparse.minor", "0"),
        ("GNU.sparse.name", "hole"),
        ("GNU.sparse.realsize", &size.to_string()),
    ] {
        let rest = format!(" {key}={value}\n");
        records.push_str(&format!("{}{rest}", rest.len() + 2));
    }
    let mut stored = format!("1\n{}\n4\n", size - 5000).into_bytes();
    stored.resize(512, 0);
    stored.extend(b"data");
    let content = tar(&[
        (ustar::pax(records.len() as u64), records.as_bytes()),
        (ustar::header("hole", stored.len() as u64), &stored),
    ]);
    fs::write(&source, content).expect("written");
    let images = Images::new();
    let output = Command::new("prlimit")
        .args(["--fsize=16777216", "--"])
        .arg(skip::erofs_binary().expect("asked for"))
        .args(["build", "--tar=f"])
        .args([&source, Path::new("-o"), &images.image()])
        .output()
        .expect("prlimit of util-linux");
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{error}");
    assert!(
        error.contains("hole: a sparse file of 4611686018427387904"),
        "{error}"
    );
    images.nothing_left();
}

#[test]
fn missing_sources() {
    require!(erofs());
    let folder = tempfile::tempdir().expect("a temporary directory");
    let missing = folder.path().join("missing");
    let error = Images::new().refused(&[&missing]);
    assert!(error.contains("missing"), "{error}");
    let error = Images::new().refused(&[Path::new("--tar=f"), &missing]);
    assert!(error.contains("missing"), "{error}");
}

#[test]
fn unreadable_files() {
    require!(skip::root());
    let setpriv = require!(skip::program("setpriv"));
    let binary = require!(skip::erofs_binary());
    let mut tree = Tree::new();
    tree.directory("folder");
    let secret = Kind::File(Content::dense(b"secret".to_vec()));
    tree.add("folder/secret", secret, Attributes::with_mode(0o600));
    let workshop = Workshop::new(&tree);
    // Where nobody may go, with a program that nobody may run.
    let open_to_all = |path: &Path, mode| {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("allowed");
    };
    open_to_all(workshop.directory.path(), 0o755);
    let program = workshop.path("erofs");
    fs::copy(binary, &program).expect("copied");
    let out = workshop.path("out");
    fs::create_dir(&out).expect("made");
    open_to_all(&out, 0o777);
    let error = refused(
        Command::new(setpriv)
            .args(["--reuid=65534", "--regid=65534", "--clear-groups"])
            .args([&program, Path::new("build"), &workshop.source])
            .arg("-o")
            .arg(out.join("image.erofs")),
    );
    assert!(error.contains("folder/secret"), "{error}");
    assert!(error.contains("ermission denied"), "{error}");
    assert_eq!(fs::read_dir(&out).expect("there").count(), 0);
}

/// Files of sysfs say that they have 4096 bytes and have fewer: like one that was cut after the tree was read.
#[test]
fn files_that_end_early() {
    require!(erofs());
    require!(skip::kernel_erofs());
    let source = Path::new("/sys/fs/erofs/features");
    let images = Images::new();
    let error = images.refused(&[source]);
    assert!(error.contains("of 4096 bytes"), "{error}");
    let named = fs::read_dir(source).expect("there").any(|entry| {
        let name = entry.expect("readable").file_name();
        error.contains(name.to_str().expect("text"))
    });
    assert!(named, "{error}");

    let mut command = erofs().expect("asked for");
    command.args(["build", "--quiet", "--ignore-changed"]);
    succeed(command.arg(source).arg("-o").arg(images.image()));
    let seen = Manifest::of_image(&open(&images.image(), &[])).expect("readable");
    let files = seen.files();
    assert!(!files.nodes.is_empty());
    assert!(files.nodes.values().all(|node| node.size == 4096));
}

/// Size of a file that one worker compresses for a second or more, a piece after the other.
const LARGE: u64 = 12 << 20;

/// Writes to a file after its folder was read and before the file is: when the last piece of the large file before it has
/// been read and is being compressed.
fn build_while_a_file_changes(
    source: &Path,
    image: &Path,
    options: &[&str],
    change: impl Fn(&mut File),
) -> Output {
    let child = erofs()
        .expect("asked for")
        .args([
            "build",
            "--quiet",
            "--workers=1",
            "--memory=8m",
            "-zzstd,15",
        ])
        .args(options)
        .args([source, Path::new("-o"), image])
        .stderr(Stdio::piped())
        .spawn()
        .expect("starts");
    let io = format!("/proc/{}/io", child.id());
    let read = || -> Option<u64> {
        let text = fs::read_to_string(&io).ok()?;
        text.lines().next()?.strip_prefix("rchar: ")?.parse().ok()
    };
    while read().is_some_and(|bytes| bytes < LARGE) {
        thread::sleep(Duration::from_millis(1));
    }
    let mut log = File::options()
        .write(true)
        .open(source.join("z.log"))
        .expect("opens");
    change(&mut log);
    child.wait_with_output().expect("waited")
}

#[test]
fn files_that_grow() {
    require!(erofs());
    let folder = tempfile::tempdir().expect("a temporary directory");
    let source = folder.path().join("source");
    fs::create_dir(&source).expect("made");
    fs::write(source.join("a.large"), bytes::text(1, LARGE as usize)).expect("written");
    let log = bytes::text(2, 5000);
    fs::write(source.join("z.log"), &log).expect("written");
    let images = Images::new();
    let grow = |log: &mut File| {
        log.seek(SeekFrom::End(0)).expect("a file");
        log.write_all(b"one more line\n").expect("written");
    };
    let refused = build_while_a_file_changes(&source, &images.image(), &[], grow);
    let error = String::from_utf8_lossy(&refused.stderr);
    assert_eq!(refused.status.code(), Some(2), "{error}");
    assert_eq!(error.lines().count(), 1, "{error}");
    assert!(
        error.contains("z.log: it had 5000 bytes, now it has 5014"),
        "{error}"
    );
    images.nothing_left();

    fs::write(source.join("z.log"), &log).expect("written");
    let options = ["--ignore-changed"];
    let taken = build_while_a_file_changes(&source, &images.image(), &options, grow);
    assert!(taken.status.success(), "{taken:?}");
    // What was there when the tree was read.
    let seen = Manifest::of_image(&open(&images.image(), &[])).expect("readable");
    let node = &seen.nodes[b"z.log".as_slice()];
    let (expected, _) = digest(&mut log.as_slice()).expect("memory reads");
    assert_eq!((node.size, node.digest), (5000, Some(expected)));
}

/// A file that is written to after its folder was read keeps its size.
#[test]
fn files_that_are_rewritten() {
    require!(erofs());
    let folder = tempfile::tempdir().expect("a temporary directory");
    let source = folder.path().join("source");
    fs::create_dir(&source).expect("made");
    fs::write(source.join("a.large"), bytes::text(1, LARGE as usize)).expect("written");
    fs::write(source.join("z.log"), bytes::text(2, 5000)).expect("written");
    let images = Images::new();
    let rewrite = |log: &mut File| {
        log.write_all(b"new").expect("written");
    };
    let refused = build_while_a_file_changes(&source, &images.image(), &[], rewrite);
    let error = String::from_utf8_lossy(&refused.stderr);
    assert_eq!(refused.status.code(), Some(2), "{error}");
    assert!(error.contains("z.log: it was changed"), "{error}");
    images.nothing_left();
    let options = ["--ignore-changed"];
    let taken = build_while_a_file_changes(&source, &images.image(), &options, rewrite);
    assert!(taken.status.success(), "{taken:?}");
}

/// A file that is deleted after its folder was read, before it is: it is no more, nor are its other names.
#[test]
fn files_that_vanish() {
    require!(erofs());
    let folder = tempfile::tempdir().expect("a temporary directory");
    let source = folder.path().join("source");
    fs::create_dir(&source).expect("made");
    fs::write(source.join("a.large"), bytes::text(1, LARGE as usize)).expect("written");
    let images = Images::new();
    for (options, code) in [(&[][..], 2), (&["--ignore-changed", "--verify"], 0)] {
        fs::write(source.join("z.log"), bytes::text(2, 5000)).expect("written");
        fs::hard_link(source.join("z.log"), source.join("z.other")).expect("linked");
        let vanish = |_: &mut File| {
            fs::remove_file(source.join("z.log")).expect("removed");
            fs::remove_file(source.join("z.other")).expect("removed");
        };
        let done = build_while_a_file_changes(&source, &images.image(), options, vanish);
        let error = String::from_utf8_lossy(&done.stderr);
        assert_eq!(done.status.code(), Some(code), "{error}");
        assert!(error.contains("z.log"), "{error}");
        if code == 2 {
            images.nothing_left();
        }
    }
    let seen = Manifest::of_image(&open(&images.image(), &[])).expect("readable");
    let names: Vec<_> = seen.nodes.keys().map(Vec::as_slice).collect();
    assert_eq!(names, [&b""[..], b"a.large"]);
}

#[test]
fn full_disks() {
    require!(skip::root());
    require!(erofs());
    let mut tree = Tree::new();
    tree.file("large", Content::dense(bytes::random(1, 4 << 20)));
    let workshop = Workshop::new(&tree);
    let images = Images::new();
    let folder = images.0.path();
    mount("none", folder, "tmpfs", MountFlags::empty(), c"size=1m").expect("mounts");
    let mut command = erofs().expect("asked for");
    command.arg("build").arg(&workshop.source).arg("-o");
    let output = command.arg(images.image()).output().expect("starts");
    let left = fs::read_dir(folder).expect("there").count();
    unmount(folder, UnmountFlags::DETACH).expect("unmounts");
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{error}");
    assert_eq!(error.lines().count(), 1, "{error}");
    assert!(error.contains("No space left on device"), "{error}");
    assert!(error.contains("image.erofs"), "{error}");
    assert_eq!(left, 0);
}

#[test]
fn places_where_no_image_can_be() {
    require!(erofs());
    let folder = tempfile::tempdir().expect("a temporary directory");
    let source = folder.path().join("source");
    fs::create_dir(&source).expect("made");
    for place in ["no/such/folder/image.erofs", "source"] {
        let mut command = erofs().expect("asked for");
        command.arg("build").arg(&source).arg("-o");
        let error = refused(command.arg(folder.path().join(place)));
        assert!(error.contains(place), "{error}");
    }
    let mut left = fs::read_dir(folder.path()).expect("there");
    assert_eq!(left.next().expect("one").expect("readable").path(), source);
    assert!(left.next().is_none());
}

/// Asking makes nothing.
#[test]
fn a_snapshotter_that_is_not_there() {
    require!(erofs());
    let folder = tempfile::tempdir().expect("a temporary directory");
    let root = folder.path().join("missing");
    for question in ["status", "gc", "scrub"] {
        let mut command = erofs().expect("asked for");
        command.args(["snapshotter", question, "--socket"]);
        command.arg(folder.path().join("socket"));
        let error = refused(command.arg("--root").arg(&root));
        assert!(error.contains("missing holds no layers"), "{error}");
        assert!(!root.exists(), "{question}");
    }
}

/// Two processes would have one database.
#[test]
fn a_snapshotter_that_serves_elsewhere() {
    require!(erofs());
    require!(skip::root());
    let folder = tempfile::tempdir().expect("a temporary directory");
    let (root, socket) = (folder.path().join("root"), folder.path().join("socket"));
    let mut serving = erofs().expect("asked for");
    serving.arg("snapshotter").arg("--root").arg(&root);
    serving.arg("--socket").arg(&socket).stderr(Stdio::null());
    let mut serving = serving.spawn().expect("starts");
    let started = Instant::now();
    while !socket.exists() && started.elapsed() < Duration::from_secs(60) {
        std::thread::sleep(Duration::from_millis(10));
    }
    let mut command = erofs().expect("asked for");
    command.args(["snapshotter", "status", "--socket"]);
    command.arg(folder.path().join("other"));
    let elsewhere = command.arg("--root").arg(&root).output().expect("starts");
    let mut command = erofs().expect("asked for");
    command.args(["snapshotter", "gc", "--root"]);
    command.arg(folder.path().join("other")).arg("--socket");
    let not_its = command.arg(&socket).output().expect("starts");
    let second = |root: &Path, socket: &Path| {
        let mut command = erofs().expect("asked for");
        command.arg("snapshotter").arg("--root").arg(root);
        command.arg("--socket").arg(socket);
        command.output().expect("starts")
    };
    let same_root = second(&root, &folder.path().join("other"));
    let same_socket = second(&folder.path().join("others"), &socket);
    serving.kill().expect("killed");
    serving.wait().expect("waited");
    for (asked, expected) in [
        (elsewhere, "name its socket"),
        (not_its, "is served from"),
        (same_root, "another process has its database open"),
        (same_socket, "another process serves it"),
    ] {
        let error = String::from_utf8_lossy(&asked.stderr);
        assert_eq!(asked.status.code(), Some(2), "{error}");
        assert!(error.contains(expected), "{error}");
    }
}

/// Whose path was mistyped, say.
#[test]
fn a_snapshotter_leaves_what_is_no_socket() {
    require!(erofs());
    require!(skip::root());
    let folder = tempfile::tempdir().expect("a temporary directory");
    let file = folder.path().join("file");
    fs::write(&file, "kept").expect("written");
    for (socket, expected) in [
        (file.clone(), "no socket"),
        (
            folder.path().join("missing/socket"),
            "its folder is missing",
        ),
    ] {
        let mut command = erofs().expect("asked for");
        command.arg("snapshotter").arg("--root");
        command.arg(folder.path().join("root"));
        let error = refused(command.arg("--socket").arg(socket));
        assert!(error.contains(expected), "{error}");
    }
    assert_eq!(fs::read(file).expect("read"), b"kept");
}

#[test]
fn an_image_and_its_device_have_different_names() {
    require!(erofs());
    let folder = tempfile::tempdir().expect("a temporary directory");
    let source = folder.path().join("source");
    fs::create_dir(&source).expect("made");
    fs::write(source.join("file"), vec![b'x'; 20000]).expect("written");
    let image = folder.path().join("image.erofs");
    let mut command = erofs().expect("asked for");
    command.args(["build", "--chunksize=4096"]).arg(&source);
    command.arg("-o").arg(&image);
    // The same file by another path.
    let blob = folder.path().join("source/../image.erofs");
    let error = refused(command.arg("--blobdev").arg(blob));
    assert!(error.contains("different names"), "{error}");
    assert!(!image.exists());
}

/// What was there before a failed build is there after it.
#[test]
fn older_images_stay() {
    require!(erofs());
    let images = Images::new();
    fs::write(images.image(), "older").expect("written");
    let source = images.0.path().join("cut.tar");
    let cut = tar(&[(ustar::header("member", 5000), b"x")]);
    fs::write(&source, &cut[..600]).expect("written");
    let mut command = erofs().expect("asked for");
    command.arg("build").arg(&source).arg("-o");
    refused(command.arg(images.image()));
    assert_eq!(fs::read(images.image()).expect("there"), b"older");
}

#[test]
fn options_that_mean_nothing_here() {
    require!(erofs());
    let images = Images::new();
    let folder = tempfile::tempdir().expect("a temporary directory");
    let source = folder.path().join("file");
    fs::write(&source, "content").expect("written");
    for (options, expected) in [
        (&["-C", "64k"][..], "needs -z"),
        (&["--one-file-system"], "for directories"),
        (&["--aufs"], "for tars"),
        (&["-z", "zstd", "--chunksize", "4096"], "exclude each other"),
        (&["-E", "legacy-compress"], "needs -z"),
        (&["--xattr-prefix", "bogus."], "with their namespace"),
    ] {
        let mut arguments = vec![source.as_path()];
        arguments.extend(options.iter().map(Path::new));
        let error = images.refused(&arguments);
        assert!(error.contains(expected), "{options:?}: {error}");
    }
}

/// What is printed is not the work: that is done, and has its verdict, when nobody reads; what is the work fails on a full disk.
#[test]
fn readers_that_have_gone() {
    require!(erofs());
    let folder = tempfile::tempdir().expect("a temporary directory");
    let path = |name: &str| folder.path().join(name);
    fs::create_dir(path("source")).expect("made");
    fs::write(path("source/file"), vec![b'x'; 20000]).expect("written");
    let run = |words: &[&str], to: Stdio| {
        let mut command = erofs().expect("asked for");
        command.current_dir(folder.path()).args(words).stdout(to);
        let output = command.output().expect("starts");
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        (output.status.code(), error)
    };
    let gone = |words: &[&str]| {
        let (reader, writer) = std::io::pipe().expect("a pipe");
        drop(reader);
        run(words, writer.into())
    };
    let full = |words: &[&str]| {
        let device = File::options().write(true).open("/dev/full");
        run(words, device.expect("there").into())
    };
    for words in [
        &["build", "source", "-o", "image"][..],
        &["build", "source", "-o", "image", "--quiet"],
        &["ls", "-l", "image"],
        &["dump", "--all", "image"],
        &["check", "--data", "image"],
        &["diff", "image", "source"],
        &["extract", "image", "out"],
    ] {
        assert_eq!(gone(words), (Some(0), String::new()), "{words:?}");
    }
    assert!(path("out/file").exists());
    fs::write(path("source/file"), "other").expect("written");
    assert_eq!(gone(&["diff", "image", "source"]).0, Some(1));
    fs::write(path("none"), [0; 5000]).expect("written");
    assert_eq!(gone(&["check", "none"]).0, Some(1));
    for words in [
        &["ls", "image"][..],
        &["dump", "image"],
        &["check", "image", "--json"],
    ] {
        let (code, error) = full(words);
        assert_eq!(code, Some(2), "{words:?}");
        assert!(error.starts_with("erofs: standard output: "), "{error}");
    }
    let (code, error) = full(&["build", "source", "-o", "image"]);
    assert_eq!(code, Some(0));
    assert!(error.starts_with("erofs: standard output: "), "{error}");
}

#[test]
fn images_that_were_cut_off_are_told_from_broken_ones() {
    require!(erofs());
    let folder = tempfile::tempdir().expect("a temporary directory");
    let image = folder.path().join("image");
    fs::write(folder.path().join("file"), vec![b'x'; 20000]).expect("written");
    build(folder.path().join("file").as_path(), &image, &[]);
    let file = File::options().write(true).open(&image).expect("opens");
    file.set_len(8192).expect("cut");
    for command in ["ls", "extract"] {
        let mut run = erofs().expect("asked for");
        let error = refused(
            run.arg(command)
                .arg(&image)
                .current_dir(folder.path())
                .args((command == "extract").then_some("out")),
        );
        assert!(error.contains("cut off"), "{error}");
    }
    let mut check = erofs().expect("asked for");
    let output = check.arg("check").arg(&image).output().expect("starts");
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stdout).contains("cut off"));
    // A folder is no image at all.
    let mut check = erofs().expect("asked for");
    assert!(refused(check.arg("check").arg(folder.path())).contains("a directory"));
}

#[test]
fn every_command_that_cannot_run_says_so_in_json() {
    require!(erofs());
    let folder = tempfile::tempdir().expect("a temporary directory");
    for words in [
        &["build", "absent", "-o", "x"][..],
        &["index", "absent", "-o", "x"],
        &["merge", "absent", "-o", "x"],
        &["bench", "absent"],
        &["mount", "absent", "."],
        &["ls", "absent"],
        &["stat", "absent"],
        &["find", "absent"],
        &["check", "absent"],
        &["dump", "absent"],
        &["dump", "--tree", "absent"],
        &["extract", "absent", "out"],
        &["diff", "absent", "."],
        &["try", "absent"],
        &["features", "--bogus"],
        &["build"],
    ] {
        let mut command = erofs().expect("asked for");
        command.arg(words[0]).arg("--json").args(&words[1..]);
        let output = command.current_dir(folder.path()).output().expect("starts");
        let error = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{words:?}: {error}");
        let document: Value = serde_json::from_slice(&output.stdout).expect("JSON");
        let told = document["error"].as_str().expect("a text");
        // What clap says in several lines is one here.
        let error = error.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(
            !told.is_empty() && told.split("; ").all(|part| error.contains(part)),
            "{words:?}: {told:?} {error:?}"
        );
    }
}

#[test]
fn results_name_images_of_any_name_in_json() {
    use std::os::unix::ffi::OsStrExt;
    require!(erofs());
    let folder = tempfile::tempdir().expect("a temporary directory");
    fs::write(folder.path().join("file"), "x").expect("written");
    let image = folder
        .path()
        .join(std::ffi::OsStr::from_bytes(b"image\xff\n"));
    let mut command = erofs().expect("asked for");
    command
        .args(["build", "--json"])
        .arg(folder.path().join("file"));
    let output = succeed(command.arg("-o").arg(&image));
    serde_json::from_slice::<Value>(&output.stdout).expect("JSON");
}
