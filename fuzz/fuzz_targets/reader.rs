//! Opens arbitrary bytes as an image, and reads whatever is in it.
//!
//! Invariants: no panic; every walk and every list of extents ends; extents tile a file in ascending order; the same bytes
//! come out of a large and of a small read.
//!
//! The checksum is made right first, so that the fuzzer need not find it. The last byte says how many of the bytes before
//! it are a device of their own, in units of 512 bytes.
#![no_main]

use erofs_format::BlockBits;
use erofs_format::superblock::{checksum_length, image_checksum};
use erofs_reader::{ByteSource, Image, ImageOptions, Symlinks};
use libfuzzer_sys::fuzz_target;

const MAX_FILES: usize = 200;
const MAX_EXTENTS: usize = 200;
const MAX_BYTES: u64 = 256 << 10;

fn seal(image: &mut [u8]) {
    let Some(bits) = image.get(1036).and_then(|bits| BlockBits::new(*bits).ok()) else {
        return;
    };
    let mut covered = image.get(1024..).unwrap_or_default().to_vec();
    covered.resize(checksum_length(bits), 0);
    let checksum = image_checksum(&covered).to_le_bytes();
    image[1028..1032].copy_from_slice(&checksum);
}

fn read_file(image: &Image, inode: &erofs_reader::Inode) {
    let _ = image.xattrs(inode);
    let _ = image.xattr(inode, b"user.own");
    let _ = image.read_link(inode);
    let mut end = 0;
    for extent in image.extents(inode).take(MAX_EXTENTS).flatten() {
        assert!(extent.length > 0 && extent.end() > end);
        end = extent.end();
    }
    let mut large = vec![0; 64 << 10];
    let mut small = [0; 700];
    let mut position = 0;
    while position < inode.data_size().min(MAX_BYTES) {
        let Ok(count) = image.read(inode, position, &mut large) else {
            break;
        };
        let skip = 100.min(count);
        if let Ok(again) = image.read(inode, position + skip as u64, &mut small) {
            let both = again.min(count - skip);
            assert_eq!(&large[skip..skip + both], &small[..both]);
        }
        position += count as u64;
    }
}

fuzz_target!(|data: &[u8]| {
    let Some((units, bytes)) = data.split_last() else {
        return;
    };
    let cut = bytes.len().saturating_sub(usize::from(*units) * 512);
    let (image, device) = bytes.split_at(cut);
    let mut image = image.to_vec();
    seal(&mut image);
    let devices: Vec<Box<dyn ByteSource>> = if device.is_empty() {
        Vec::new()
    } else {
        vec![Box::new(device.to_vec())]
    };
    let options = ImageOptions {
        devices,
        extent_cache: 1 << 20,
        metadata_cache: 256 << 10,
        ..ImageOptions::default()
    };
    let Ok(image) = Image::open(image, options) else {
        return;
    };
    let Ok(walk) = image.walk() else {
        return;
    };
    for entry in walk.take(MAX_FILES).flatten() {
        read_file(&image, &entry.inode);
        let _ = image.resolve(&entry.path, Symlinks::Follow);
    }
});
