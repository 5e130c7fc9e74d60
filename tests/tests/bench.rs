//! `erofs bench`: figures of every form and way, and nothing left behind.

use std::fs;

use erofs_tests::{
    require,
    skip::{self, Reason},
    tree::{Content, Tree},
    workshop::{Workshop, erofs, refused, succeed},
};
use serde_json::Value;

fn needs() -> Result<(), Reason> {
    skip::root()?;
    erofs()?;
    skip::fuse()?;
    skip::kernel_erofs()
}

fn source() -> Workshop {
    let mut tree = Tree::new();
    tree.directory("texts");
    for number in 0..20 {
        let line = format!("line {number} of a text that repeats itself\n");
        let content = Content::dense(line.repeat(200).into_bytes());
        tree.file(format!("texts/{number}"), content);
    }
    Workshop::new(&tree)
}

#[test]
fn every_form_is_measured_in_every_way() {
    require!(needs());
    let workshop = source();
    let folder = workshop.path("work");
    fs::create_dir(&folder).expect("made");
    let svg = workshop.path("chart.svg");
    let mut command = erofs().expect("asked for");
    command.args([
        "bench",
        "--json",
        "--runs=2",
        "--form=",
        "--form",
        "-z zstd,9 -C 16k",
    ]);
    command.arg("--svg").arg(&svg).arg("--folder").arg(&folder);
    let output = succeed(command.arg(&workshop.source));
    let result: Value = serde_json::from_slice(&output.stdout).expect("JSON");

    let forms = result["forms"].as_array().expect("a list");
    let sizes: Vec<_> = [(&[][..], ""), (&["-zzstd,9", "-C16k"], "-z zstd,9 -C 16k")]
        .iter()
        .zip(forms)
        .map(|((options, name), form)| {
            assert_eq!(form["options"], *name);
            let image = workshop.build("judge.erofs", options);
            let size = fs::metadata(image).expect("built").len();
            assert_eq!(form["image_bytes"], size, "{form}");
            for way in form["ways"].as_array().expect("a list") {
                let speed = way["sequential_bytes_per_second"].as_f64();
                let is_measured = speed.is_some_and(|speed| speed > 0.0);
                assert!(is_measured != way["skipped"].is_string(), "{way}");
            }
            size
        })
        .collect();
    assert!(sizes[1] < sizes[0]);
    assert_eq!(result["recommended"]["smallest"], "-z zstd,9 -C 16k");
    // FUSE and loop devices were asked for, so they work here.
    let skipped = |way: usize| &forms[0]["ways"][way]["skipped"];
    assert!(skipped(1).is_null() && skipped(2).is_null(), "{result}");
    let chart = fs::read_to_string(svg).expect("drawn");
    assert!(chart.contains("-z zstd,9 -C 16k"));
    assert_eq!(fs::read_dir(folder).expect("a folder").count(), 0);
}

#[test]
fn a_source_without_data_is_refused() {
    require!(needs());
    let mut tree = Tree::new();
    tree.file("empty", Content::dense(Vec::new()));
    let workshop = Workshop::new(&tree);
    let mut command = erofs().expect("asked for");
    command.args(["bench", "--form="]).arg(&workshop.source);
    let output = command.output().expect("starts");
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{error}");
    assert!(error.contains("nothing to measure"), "{error}");
    assert!(output.stdout.is_empty());
}

#[test]
fn wrong_forms_are_refused_before_anything_is_built() {
    require!(needs());
    let workshop = source();
    for (form, reason) in [
        ("-z lzx", "\"lzx\""),
        ("--no-such-option", "--no-such-option"),
        ("-C 64k", "-z"),
        ("--chunksize 4k --blobdev data", "--blobdev"),
    ] {
        let mut command = erofs().expect("asked for");
        command.args(["bench", "--form", "", "--form", form]);
        let told = refused(command.arg(&workshop.source));
        assert!(told.contains(reason), "{told}");
    }
}
