//! Damaged images: whatever bytes are changed, reading ends, in bounded memory and without a panic, and bytes that are
//! read through different ways are the same.

mod support;

use erofs_format::BlockBits;
use erofs_reader::{Image, ImageOptions};
use proptest::prelude::*;
use std::sync::OnceLock;
use support::{DATA, META, SHARED, sample, seal};

/// Most bytes read of one file, and most files of one image: a damaged size may be anything.
const MAX_BYTES: u64 = 1 << 20;
const MAX_FILES: usize = 2000;

fn read_all(image: &Image) {
    let mut large = vec![0; 128 << 10];
    let mut small = vec![0; 4096];
    let Ok(walk) = image.walk() else {
        return;
    };
    for entry in walk.take(MAX_FILES).flatten() {
        let inode = entry.inode;
        let _ = image.xattrs(&inode);
        let _ = image.xattr(&inode, b"user.own");
        let _ = image.read_link(&inode);
        let mut end = 0;
        for extent in image.extents(&inode).take(1000).flatten() {
            assert!(extent.length > 0 && extent.end() > end);
            end = extent.end();
        }
        let mut position = 0;
        while position < inode.data_size().min(MAX_BYTES) {
            let Ok(count) = image.read(&inode, position, &mut large) else {
                break;
            };
            let Ok(again) = image.read(&inode, position + 1000, &mut small) else {
                position += count as u64;
                continue;
            };
            if let Some(part) = large.get(1000..1000 + again.min(count.saturating_sub(1000))) {
                assert!(part == &small[..part.len()]);
            }
            position += count as u64;
        }
    }
}

fn good() -> &'static (Vec<u8>, Vec<usize>) {
    static GOOD: OnceLock<(Vec<u8>, Vec<usize>)> = OnceLock::new();
    GOOD.get_or_init(|| {
        let image = sample(BlockBits::B512).image;
        // Every byte that says something, and some around them; zeros in between are left alone.
        let used = |at: &usize| image[*at] != 0 || image[at.saturating_sub(2)] != 0;
        let places = (1024..2048)
            .chain(META..META + (64 << 10))
            .chain(SHARED..SHARED + 256)
            .filter(used)
            .chain((DATA..image.len()).step_by(61))
            .collect();
        (image, places)
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(300) })]

    #[test]
    fn flipped_bytes(changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..12)) {
        let (image, places) = good();
        let mut image = image.clone();
        for (index, value) in changes {
            image[*index.get(places)] = value;
        }
        seal(&mut image);
        let options = ImageOptions { extent_cache: 1 << 20, metadata_cache: 1 << 20, ..ImageOptions::default() };
        if let Ok(image) = Image::open(image, options) {
            read_all(&image);
        }
    }

    #[test]
    fn cut_off(length in 0usize..900_000) {
        let (image, _) = good();
        let length = length.min(image.len());
        if let Ok(image) = Image::open(image[..length].to_vec(), ImageOptions::default()) {
            read_all(&image);
        }
    }

    #[test]
    fn arbitrary_bytes_behind_a_superblock(bytes in prop::collection::vec(any::<u8>(), 128..6000)) {
        let mut image = vec![0; 1024];
        image.extend(bytes);
        image[1024..1028].copy_from_slice(&0xE0F5_E1E2u32.to_le_bytes());
        image[1032..1036].copy_from_slice(&[0; 4]);
        image[1036] = 9 + image[1036] % 4;
        image[1024 + 90] = 0;
        image[1024 + 82..1024 + 84].fill(0);
        image[1024 + 81] &= 1;
        if let Ok(image) = Image::open(image, ImageOptions::default()) {
            read_all(&image);
        }
    }
}
