//! Fragments: files of every size around the edges of slots, blocks, clusters and segments, duplicates and near-duplicates.

use erofs_format::BlockBits;
use erofs_mkfs::build::BuildOptions;
use erofs_mkfs::data::fragments::{FragmentDedupe, Packing};
use erofs_mkfs::plan::index_form::IndexForm;

use crate::trees::{Files, compressed, noise, round_trip, text, written};

/// Sizes from one below to one above each edge.
fn sizes(cluster: usize) -> impl Iterator<Item = usize> {
    [
        1,
        32,
        64,
        512,
        4096,
        8192,
        cluster,
        2 * cluster,
        7 * cluster,
        2 << 20,
    ]
    .into_iter()
    .flat_map(|edge| [edge - 1, edge, edge + 1])
}

fn files(cluster: usize) -> Files {
    let mut files = Files::new();
    for (seed, size) in (1u64..).zip(sizes(cluster)) {
        files.insert(format!("text/{size}.txt"), text(seed, size));
        if size < 1 << 20 {
            files.insert(format!("again/{size}.txt"), text(seed, size));
            files.insert(format!("noise/{size}.bin"), noise(seed, size));
        }
    }
    let long = text(99, 3 * cluster + 500);
    files.insert("ends/a.c".into(), long[2 * cluster..].to_vec());
    files.insert("ends/b.c".into(), long[3 * cluster..].to_vec());
    files.insert("ends/c.c".into(), long.clone());
    files.insert("ends/d.c".into(), [noise(7, 100), long].concat());
    // All in front of the fragment is plain, and a large file whose last segment is short.
    files.insert(
        "mixed/noise.bin".into(),
        [noise(8, (2 << 20) + 4096), text(8, 300)].concat(),
    );
    files.insert(
        "mixed/text.bin".into(),
        [text(9, 2 << 20), noise(9, 300)].concat(),
    );
    files
}

#[test]
fn files_of_all_sizes_come_back_from_fragments() {
    for (bits, cluster) in [(12, 16384), (12, 4096), (9, 4096)] {
        let files = files(cluster);
        let folder = written(&files);
        for (whole_files, packed_cluster) in [(false, None), (true, Some(65536))] {
            let packing = Packing {
                whole_files,
                max_pcluster: packed_cluster,
                dedupe: FragmentDedupe::Full,
            };
            let index_form = if whole_files {
                IndexForm::Full
            } else {
                IndexForm::Compact
            };
            let block_bits = BlockBits::new(bits).unwrap();
            round_trip(
                folder.path(),
                &files,
                &BuildOptions {
                    block_bits,
                    index_form,
                    ..compressed(cluster, Some(packing))
                },
            );
        }
    }
}

#[test]
fn many_small_files_take_less_room_together() {
    let shared = text(1, 2000);
    let files: Files = (0..2000u64)
        .map(|number| {
            (
                format!("{number}.json"),
                [text(number, 100), shared.clone()].concat(),
            )
        })
        .collect();
    let folder = written(&files);
    let alone = round_trip(folder.path(), &files, &compressed(65536, None));
    let packed = round_trip(
        folder.path(),
        &files,
        &compressed(65536, Some(Packing::default())),
    );
    assert!(packed * 5 < alone, "{packed} of {alone}");
}

#[test]
fn fragments_that_do_not_compress_come_back() {
    let files: Files = (0..50u64)
        .map(|number| (number.to_string(), noise(number, 900)))
        .collect();
    let folder = written(&files);
    round_trip(
        folder.path(),
        &files,
        &compressed(65536, Some(Packing::default())),
    );
}
