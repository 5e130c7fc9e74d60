//! What `erofs build` makes of every awkward tree: the kernel, by file and by loop device, shows exactly
//! the source; fsck.erofs accepts the image; its bytes depend on the source alone.

use std::fs;

use erofs_tests::{
    awkward::{self, Sizes},
    kernel::{self, Mounted, Way},
    manifest::{Field, Manifest},
    peers, require,
    skip::{self, Reason},
    tree::Tree,
    workshop::{FORMS, Workshop, erofs, fsck_accepts, open, succeed},
};
use proptest::prelude::*;

fn round_trip(tree: &Tree, forms: &[&[&str]], ways: &[Way]) {
    let workshop = Workshop::new(tree);
    for (number, form) in forms.iter().enumerate() {
        let image = workshop.build(&format!("{number}.erofs"), form);
        println!("{form:?}: fsck");
        fsck_accepts(&image);
        for way in ways {
            println!("{form:?}: {way:?}");
            let mounted = Mounted::new(&image, *way, "").expect("mounts");
            let shown = Manifest::of_directory(mounted.path()).expect("readable");
            workshop.expected.assert_same(&shown, &[]);
        }
    }
}

/// Everything that the tests below need.
fn needs() -> Result<Vec<Way>, Reason> {
    skip::root()?;
    erofs()?;
    peers::erofs_utils("fsck.erofs")?;
    Way::all()
}

#[test]
fn the_fixed_set_comes_back_in_every_form() {
    let ways = require!(needs());
    round_trip(&awkward::tree(Sizes::default()), &FORMS, &ways);
}

/// Where there is nothing that a form is about.
#[test]
fn next_to_nothing_comes_back_in_every_form() {
    let ways = require!(needs());
    let whole = awkward::tree(Sizes::default());
    for names in [&[""][..], &["", "types", "types/file"]] {
        let mut tree = whole.clone();
        let is_named = |path: &[u8]| names.iter().any(|name| name.as_bytes() == path);
        tree.entries.retain(|entry| is_named(&entry.path));
        assert_eq!(tree.entries.len(), names.len());
        let workshop = Workshop::new(&tree);
        let sparse_forms: [&[&str]; 7] = [
            &["-zzstd", "-m16k:zstd"],
            &["-zlz4", "-m4096:lz4", "--zD", "-Elegacy-compress"],
            &["-m4096:zstd", "-Enoinline_data"],
            &["-zzstd", "-Eall-fragments", "--zD"],
            &["-zlz4", "-E48bit", "--zD"],
            &["--preset=small"],
            &["--preset=hpc", "-b512"],
        ];
        for form in FORMS.into_iter().chain(sparse_forms) {
            println!("{} entries, {form:?}", names.len());
            let image = workshop.build("image.erofs", form);
            let shown = Manifest::of_image(&open(&image, &[])).expect("readable");
            workshop
                .expected
                .assert_same(&shown, &[Field::DirectoryLinks]);
            let mut check = erofs().expect("asked for");
            succeed(check.args(["check", "--data", "--quiet"]).arg(&image));
            if form
                .iter()
                .any(|option| option.starts_with("-m") || option.starts_with("--preset"))
                && kernel::release() < (6, 17)
            {
                continue;
            }
            let mounted = Mounted::new(&image, ways[0], "").expect("mounts");
            let shown = Manifest::of_directory(mounted.path()).expect("readable");
            workshop
                .expected
                .assert_same(&shown, &[Field::DirectoryLinks]);
        }
    }
}

/// By the kernel: the peer's check gives up on such paths.
#[test]
fn paths_beyond_path_max_come_back() {
    let ways = require!(needs());
    let workshop = Workshop::new(&awkward::deep());
    for form in [FORMS[0], FORMS[5]] {
        let image = workshop.build("deep.erofs", form);
        for way in &ways {
            let mounted = Mounted::new(&image, *way, "").expect("mounts");
            let shown = Manifest::of_directory(mounted.path()).expect("readable");
            workshop.expected.assert_same(&shown, &[]);
        }
    }
}

#[test]
#[ignore = "builds and reads files beyond 4 GiB and 100,000 entries, eight times"]
fn huge_files_and_directories_come_back_in_every_form() {
    let ways = require!(needs());
    let mut tree = awkward::huge();
    let wide = awkward::tree(Sizes {
        wide: 100_000,
        ..Sizes::default()
    });
    tree.entries.extend(
        wide.entries
            .into_iter()
            .filter(|entry| entry.path.starts_with(b"wide")),
    );
    round_trip(&tree, &FORMS, &ways);
}

#[test]
fn the_same_source_gives_the_same_bytes() {
    require!(needs());
    let workshop = Workshop::new(&awkward::tree(Sizes {
        wide: 300,
        ..Sizes::default()
    }));
    for form in FORMS {
        let first = fs::read(workshop.build("first.erofs", form)).expect("readable");
        for other in ["--workers=1", "--workers=2", "--workers=8", "--memory=16m"] {
            let options = [form, &[other]].concat();
            let again = fs::read(workshop.build("again.erofs", &options)).expect("readable");
            assert!(first == again, "{options:?} gives other bytes");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: std::env::var("PROPTEST_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(8),
        max_shrink_iters: 400,
        ..ProptestConfig::default()
    })]

    #[test]
    fn random_trees_come_back(tree in awkward::strategy::tree(40), form in 0..FORMS.len()) {
        random_tree(&tree, form);
    }
}

fn random_tree(tree: &Tree, form: usize) {
    let ways = require!(needs());
    round_trip(tree, &FORMS[form..=form], &ways[..1]);
}
