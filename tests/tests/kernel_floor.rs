//! What the summary says of the oldest kernel that mounts an image, and what `--kernel` refuses.

use std::path::PathBuf;

use erofs_tests::{
    awkward::bytes,
    require,
    tree::{Content, Tree},
    ustar,
    workshop::{Workshop, erofs, refused, succeed},
};

/// What is built or indexed.
#[derive(Clone, Copy, Debug)]
enum Source {
    /// Files without holes.
    Dense,
    /// One more with a hole.
    Sparse,
    /// A file in the workshop.
    File(&'static str),
}

/// Command, source, options; the oldest kernel, the one just too old, and what its refusal advises.
type Case = (
    &'static str,
    Source,
    &'static [&'static str],
    &'static str,
    Option<(&'static str, &'static str)>,
);

#[rustfmt::skip]
const CASES: [Case; 29] = [
    ("build", Source::Dense, &[], "5.4", None),
    ("build", Source::Dense, &["-Enoinline_data"], "5.4", None),
    ("build", Source::Dense, &["-L", "fifteen bytes.."], "5.4", None),
    ("build", Source::Dense, &["--chunksize=4096"], "5.15", Some(("5.14", "--chunksize"))),
    ("build", Source::Sparse, &[], "5.15", Some(("5.10", "--no-sparse"))),
    ("build", Source::Sparse, &["--no-sparse"], "5.4", None),
    ("build", Source::Dense, &["-b512"], "6.4", Some(("6.3", "4096"))),
    ("build", Source::Dense, &["-zlz4", "-C4k"], "5.4", None),
    ("build", Source::Dense, &["-zlz4hc,12"], "5.13", Some(("5.12", "-C"))),
    ("build", Source::Dense, &["-zlz4", "-C4k", "-Eztailpacking"], "5.17", Some(("5.16", "ztailpacking"))),
    ("build", Source::Dense, &["-zlzma"], "5.16", Some(("5.15", "-z"))),
    ("build", Source::Dense, &["-zdeflate"], "6.6", Some(("6.5", "-z"))),
    ("build", Source::Dense, &["-zlz4hc,12:zstd", "-C4k"], "5.4", None),
    ("build", Source::Dense, &["-zzstd"], "6.10", Some(("6.9", "-z"))),
    ("build", Source::Dense, &["-zzstd", "-C4k", "-Elegacy-compress"], "6.10", Some(("6.6", "-z"))),
    ("build", Source::Dense, &["-zzstd", "-Efragments,dedupe"], "6.10", Some(("6.9", "-z"))),
    ("build", Source::Dense, &["-b1024", "-zzstd"], "6.10", Some(("6.9", "-z"))),
    ("build", Source::Dense, &["-E48bit"], "6.15", Some(("6.14", "-E48bit"))),
    ("build", Source::Dense, &["-Edot-omitted"], "6.15", Some(("6.14", "dot-omitted"))),
    ("build", Source::Dense, &["-zzstd", "-m4096"], "6.17", Some(("6.16", "-m"))),
    ("build", Source::Dense, &["-m4096:lz4", "--xattr-prefix=auto"], "6.17", Some(("6.16", "-m"))),
    ("build", Source::Dense, &["-zlz4", "-C4k", "--compress-directories"], "5.4", None),
    ("build", Source::Dense, &["-zzstd", "-E48bit"], "6.15", Some(("6.14", "-E48bit"))),
    ("build", Source::Dense, &["-L", "sixteen bytes..."], "6.15", Some(("6.14", "15 bytes"))),
    ("index", Source::File("source/text"), &[], "5.16", Some(("5.15", "full image"))),
    ("index", Source::File("x.tar"), &[], "6.4", Some(("6.3", "4096"))),
    ("index", Source::File("x.tar"), &["-m64k:zstd", "--zD"], "6.17", Some(("6.16", "-m"))),
    ("index", Source::File("x.tar"), &["--embed"], "6.4", Some(("6.3", "--embed"))),
    ("build", Source::File("x.tar"), &[], "5.4", None),
];

#[test]
fn what_an_image_can_do_without_is_left_out_if_asked() {
    require!(erofs());
    let mut tree = Tree::new();
    tree.file("hole", Content::sparse(1 << 20, vec![(0, vec![1; 4096])]));
    let workshop = Workshop::new(&tree);
    let output = workshop.path("image.erofs");
    let mut command = erofs().expect("asked for");
    command.args(["build", "--json", "--kernel=5.10", "--kernel-downgrade"]);
    command.args(["-Edot-omitted", "--xattr-prefix=auto", "--chunksize=4096"]);
    command.arg(&workshop.source).arg("-o").arg(&output);
    let result = succeed(&mut command);
    let summary: serde_json::Value =
        serde_json::from_slice(&result.stdout).expect("one JSON document");
    assert_eq!(summary["oldest_kernel"], "5.4");
    let told = String::from_utf8_lossy(&result.stderr);
    assert_eq!(told.lines().count(), 3, "{told}");
    for what in [
        "48-bit layout (since 6.15)",
        "xattr prefixes",
        "chunk-based",
    ] {
        assert!(told.contains(what), "{told}");
    }
}

#[test]
fn every_form_tells_its_oldest_kernel() {
    require!(erofs());
    let mut tree = Tree::new();
    tree.file("text", Content::dense(bytes::text(1, 50_000)));
    tree.file("small", Content::dense(b"small".to_vec()));
    let dense = Workshop::new(&tree);
    tree.file("hole", Content::sparse(1 << 20, vec![(0, vec![1; 4096])]));
    let sparse = Workshop::new(&tree);
    let tar = [
        ustar::header("member", 512).to_vec(),
        vec![b'x'; 512],
        vec![0; 1024],
    ];
    std::fs::write(dense.path("x.tar"), tar.concat()).expect("written");

    for (command, source, options, oldest, too_old) in CASES {
        println!("{command} {source:?} {options:?}");
        let source: PathBuf = match source {
            Source::Dense => dense.source.clone(),
            Source::Sparse => sparse.source.clone(),
            Source::File(name) => dense.path(name),
        };
        let image = dense.path("image.erofs");
        let with = |more: &[&str]| {
            let mut erofs = erofs().expect("asked for");
            erofs.arg(command).args(options).args(more);
            erofs.arg(&source).arg("-o").arg(&image);
            erofs
        };
        let output = succeed(&mut with(&["--json", "--kernel", oldest]));
        let summary: serde_json::Value =
            serde_json::from_slice(&output.stdout).expect("one JSON document");
        assert_eq!(summary["oldest_kernel"], oldest);
        let newest = summary["requirements"]
            .as_array()
            .and_then(|all| all.last());
        assert_eq!(newest.expect("some")["since"], oldest);
        std::fs::remove_file(&image).expect("there");
        if let Some((kernel, advice)) = too_old {
            let error = refused(&mut with(&["--kernel", kernel]));
            for word in [kernel, oldest, advice] {
                assert!(error.contains(word), "no {word:?} in {error}");
            }
            assert!(!image.exists());
        }
    }
}
