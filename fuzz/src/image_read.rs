//! Opens an image and reads everything in it, as far as limits allow: xattrs, links, maps, data.
//!
//! Invariants: those of the layers ([`crate::map`], [`crate::xattr`]); the bytes of a range are the same however it is
//! split; data that was read lies inside of its device; a second reader with cold caches reads the same.

use crate::{image, map, xattr};
use erofs_reader::{Image, Inode};

const MAX_FILES: usize = 200;
/// Bytes read from the front and from the end of each file.
const MAX_BYTES: u64 = 192 << 10;

/// Runs the target.
pub fn run(input: &[u8]) {
    let (Some(image), Some(cold)) = (image::open(input), image::open(input)) else {
        return;
    };
    for entry in image
        .walk()
        .expect("the root was read")
        .take(MAX_FILES)
        .flatten()
    {
        let inode = entry.inode;
        xattr::check(&image, &inode);
        map::check(&image, &inode);
        if let Ok(target) = image.read_link(&inode) {
            assert!((1..=4095).contains(&target.len()) && !target.contains(&0));
        }
        let size = inode.data_size();
        read(&image, &cold, &inode, 0, size.min(MAX_BYTES));
        if size > MAX_BYTES {
            read(&image, &cold, &inode, size - 5000, size);
        }
    }
}

/// Reads `start..end` of a file in one piece, then in small ones.
fn read(image: &Image, cold: &Image, inode: &Inode, start: u64, end: u64) {
    let mut large = vec![0; 64 << 10];
    let mut small = [0; 700];
    let mut position = start;
    while position < end {
        let Ok(count) = image.read(inode, position, &mut large) else {
            return;
        };
        assert!(count > 0);
        let expected = (inode.data_size() - position).min(large.len() as u64);
        assert_eq!(count as u64, expected);
        for skip in [0, 100, count / 2, count.saturating_sub(1)] {
            let skip = skip.min(count - 1);
            let again = cold
                .read(inode, position + skip as u64, &mut small)
                .unwrap_or_default();
            let both = again.min(count - skip);
            assert!(
                large[skip..skip + both] == small[..both],
                "nid {}: bytes from {} on differ",
                inode.nid(),
                position + skip as u64
            );
        }
        position += count as u64;
    }
}
