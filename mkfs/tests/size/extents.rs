//! Shared extents: files with stretches in common take less room.

use erofs_format::BlockBits;
use erofs_mkfs::build::BuildOptions;
use erofs_mkfs::data::compression::AlgorithmSettings;
use erofs_mkfs::data::fragments::Packing;
use erofs_mkfs::data::hints::Hints;

use crate::trees::{Files, compressed, noise, round_trip, text, written};

fn files() -> Files {
    let original = text(1, 5 << 20);
    let half = text(2, 700_001);
    [
        ("a/original", original.clone()),
        ("b/front", [text(3, 12_345), original.clone()].concat()),
        (
            "c/middle",
            [
                &original[..1_000_000],
                &text(4, 777),
                &original[1_000_000..],
            ]
            .concat(),
        ),
        ("d/end", [&original[..3_333_333], &text(5, 99)[..]].concat()),
        ("e/cut", original[54_321..4_000_000].to_vec()),
        ("f/same", original.clone()),
        ("g/half", half.clone()),
        ("h/twice", [half.clone(), noise(6, 50_000), half].concat()),
        ("i/noise", [noise(7, 300_000), text(1, 400_000)].concat()),
        ("j/same", original),
        ("k/zeros", vec![0; 3 << 20]),
        (
            "l/zeros",
            [vec![0; 2 << 20], text(8, 40_000), vec![0; 1 << 20]].concat(),
        ),
    ]
    .map(|(name, content)| (name.to_owned(), content))
    .into()
}

#[test]
fn stretches_in_common_are_stored_once() {
    for (bits, cluster, packing) in [
        (12, 65536, None),
        (12, 16384, Some(Packing::default())),
        (12, 4096, None),
        (9, 4096, None),
    ] {
        let options = BuildOptions {
            block_bits: BlockBits::new(bits).unwrap(),
            ..compressed(cluster, packing)
        };
        let files = files();
        let folder = written(&files);
        let apart = round_trip(folder.path(), &files, &options);
        let shared = round_trip(
            folder.path(),
            &files,
            &BuildOptions {
                share_extents: true,
                ..options
            },
        );
        println!("{cluster}: {apart} without, {shared} with shared extents");
        assert!(shared * 2 < apart, "{shared} of {apart}");
    }
}

#[test]
fn nothing_is_shared_with_what_another_algorithm_encoded() {
    let mut options = compressed(65536, None);
    options.share_extents = true;
    if let Some(compression) = &mut options.compression {
        compression.algorithms.push(AlgorithmSettings::Lz4);
        let hints = b"65536 1 \\.lz4$\n4096 1 \\.small$";
        compression.hints = Hints::parse(hints, 2, options.block_bits).unwrap();
    }
    let original = text(1, 1 << 20);
    let moved = [text(2, 5000), original.clone()].concat();
    let files = [
        ("a", original.clone()),
        ("b.lz4", moved.clone()),
        ("c", moved.clone()),
        ("d.small", moved),
        ("e.lz4", [text(3, 7000), original].concat()),
    ]
    .map(|(name, content)| (name.to_owned(), content))
    .into();
    round_trip(written(&files).path(), &files, &options);
}
