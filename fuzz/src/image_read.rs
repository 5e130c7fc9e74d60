//! Opens an image and reads everything in it, as far as limits allow: xattrs, links, maps, data.
//!
//! Invariants: those of the layers ([`crate::map`], [`crate::xattr`]); a second reader with cold caches reads the same; so it
//! does in other pieces, unless the map contradicts itself.

use crate::{image, map, xattr};
use erofs_reader::{Image, Inode};

const MAX_FILES: usize = 200;
/// Largest packed inode or metabox whose map is looked at, in bytes.
const MAX_SPECIAL: u64 = 1 << 20;
/// Bytes read from the front and from the end of each file.
const MAX_BYTES: u64 = 192 << 10;

/// Runs the target.
pub fn run(input: &[u8]) {
    let (Some(image), Some(cold)) = (image::open(input), image::open(input)) else {
        return;
    };
    // Fragments and metadata come through the maps of these.
    let special = [image.superblock().packed, image.superblock().metabox];
    let consistent = special.into_iter().flatten().all(|nid| {
        let inode = image
            .inode(nid)
            .expect("it was read when the image was opened");
        inode.data_size() <= MAX_SPECIAL && map::is_consistent(&image, &inode, 0, inode.data_size())
    });
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
        let pair = Pair {
            image: &image,
            cold: &cold,
            consistent,
        };
        pair.read(&inode, 0, size.min(MAX_BYTES));
        if size > MAX_BYTES {
            pair.read(&inode, size - 5000, size);
        }
    }
}

/// An image, opened twice.
struct Pair<'a> {
    image: &'a Image,
    cold: &'a Image,
    /// The maps of packed inode and metabox do not contradict themselves.
    consistent: bool,
}

impl Pair<'_> {
    /// Reads `start..end` of a file in one piece, then in small ones.
    fn read(&self, inode: &Inode, start: u64, end: u64) {
        let mut large = vec![0; 64 << 10];
        let mut small = [0; 700];
        let mut position = start;
        while position < end {
            let Ok(count) = self.image.read(inode, position, &mut large) else {
                return;
            };
            assert!(count > 0);
            let expected = (inode.data_size() - position).min(large.len() as u64);
            assert_eq!(count as u64, expected);
            let behind = position + count as u64;
            let split = self.consistent && map::is_consistent(self.image, inode, position, behind);
            let skips = if split {
                &[0, 100, count / 2, count - 1][..]
            } else {
                &[0]
            };
            for skip in skips {
                let skip = (*skip).min(count - 1);
                let at = position + skip as u64;
                let again = self.cold.read(inode, at, &mut small).unwrap_or_default();
                let both = again.min(count - skip);
                let same = large[skip..skip + both] == small[..both];
                assert!(same, "nid {}: bytes from {at} on differ", inode.nid());
            }
            position = behind;
        }
    }
}
