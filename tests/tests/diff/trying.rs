//! `erofs try` compares by the same walk: every kind of source is what its mount shows.

use std::path::Path;

use erofs_tests::{
    archive, require, skip,
    workshop::{Workshop, erofs, succeed},
};

fn tried(sources: &[&Path]) {
    let mut command = erofs().expect("asked for");
    command.args(["try", "--json"]).args(sources);
    let output = succeed(&mut command);
    let result: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(result["differences"], serde_json::json!([]));
    let (entries, compared) = (&result["entries"], &result["compared_entries"]);
    // The root is no entry of the image's, and is compared nevertheless.
    let entries = entries.as_u64().expect("a number");
    assert_eq!(compared.as_u64(), Some(entries + 1));
}

#[test]
fn every_kind_of_source_is_what_its_mount_shows() {
    require!(skip::root());
    require!(skip::kernel_erofs());
    require!(erofs());
    let workshop = Workshop::light();
    tried(&[&workshop.source]);
    let tar = workshop.path("x.tar");
    let options = ["--format=posix", "-S", "--xattrs", "--xattrs-include=*"];
    archive::create(&workshop.source, &tar, &options);
    tried(&[&tar]);
    let packed = workshop.path("x.tar.gz");
    archive::create(&workshop.source, &packed, &[&options[..], &["-z"]].concat());
    tried(&[&packed]);
    tried(&[&tar, &packed]);
}
