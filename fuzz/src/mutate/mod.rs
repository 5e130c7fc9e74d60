//! Mutates images where they say something.
//!
//! Bytes of an image that mean nothing are the most, so a change anywhere seldom matters. This mutator finds the fields of
//! superblock, device slots, inodes, xattrs, maps and directories of the image at hand, and gives some of them values that
//! are interesting there; every few times it leaves the bytes to libFuzzer.

mod anatomy;
mod random;

use crate::image::seal;
use anatomy::{Anatomy, Field};
use random::Random;

/// A mutation of libFuzzer: the buffer, bytes used in it, most bytes that may be used; answers the bytes used then.
pub type Default = fn(&mut [u8], usize, usize) -> usize;

/// Mutates the image in `data[..size]` in place and returns its new size, at most `max_size`.
pub fn image(data: &mut [u8], size: usize, max_size: usize, seed: u32, default: Default) -> usize {
    let mut random = Random::new(seed);
    let anatomy = Anatomy::of(&data[..size]);
    if anatomy.fields.is_empty() || random.one_in(5) {
        let size = default(data, size, max_size);
        seal(&mut data[..size]);
        return size;
    }
    for _ in 0..1 + random.below(4) * usize::from(random.one_in(3)) {
        match random.below(12) {
            0 => copy_record(&mut data[..size], &anatomy.inodes, 32, &mut random),
            1 => copy_record(&mut data[..size], &anatomy.dirents, 12, &mut random),
            2 => havoc(&mut data[..size], &anatomy, &mut random),
            _ => set_field(&mut data[..size], &anatomy, &mut random),
        }
    }
    seal(&mut data[..size]);
    size
}

/// Puts the front of one image before the end of another, cut at a block's start; returns the size of the result.
pub fn crossover(first: &[u8], second: &[u8], out: &mut [u8], seed: u32) -> usize {
    let mut random = Random::new(seed);
    let size = first.len().max(second.len()).min(out.len());
    let cut = (random.below(size / 512 + 1) * 512)
        .min(first.len())
        .min(size);
    out[..cut].copy_from_slice(&first[..cut]);
    let rest = second.get(cut..size.min(second.len())).unwrap_or_default();
    let end = cut + rest.len();
    out[cut..end].copy_from_slice(rest);
    seal(&mut out[..end]);
    end
}

fn pick<'a, T>(list: &'a [T], random: &mut Random) -> Option<&'a T> {
    list.get(random.below(list.len()))
}

fn set_field(image: &mut [u8], anatomy: &Anatomy, random: &mut Random) {
    let Some(field) = pick(&anatomy.fields, random) else {
        return;
    };
    let old = field.get(image);
    let bits = u32::from(field.width) * 8;
    let most = u64::MAX >> (64 - bits);
    let value = match random.below(12) {
        0 => 0,
        1 => most,
        2 => 1 << random.below(bits as usize),
        3 => (1u64 << random.below(bits as usize)).wrapping_sub(1),
        4 => old ^ 1 << random.below(bits as usize),
        5 => old.wrapping_add(1),
        6 => old.wrapping_sub(1),
        7 => old.wrapping_add(random.below(64) as u64).wrapping_sub(32),
        8 => random.next(),
        9 => random.below(64) as u64,
        // What is right somewhere else: another inode's number, another extent's address.
        10 => pick(&anatomy.fields, random).map_or(0, |other| other.get(image)),
        _ => ((image.len() as u64 / 512) >> random.below(8))
            .wrapping_add(random.below(3) as u64)
            .wrapping_sub(1),
    };
    field.set(image, value & most);
}

fn copy_record(image: &mut [u8], records: &[usize], length: usize, random: &mut Random) {
    if let (Some(from), Some(to)) = (pick(records, random), pick(records, random))
        && from + length <= image.len()
        && to + length <= image.len()
    {
        image.copy_within(*from..from + length, *to);
    }
}

/// A few random bytes in the neighbourhood of a field: names, values, inlined data.
fn havoc(image: &mut [u8], anatomy: &Anatomy, random: &mut Random) {
    let Some(Field { at, .. }) = pick(&anatomy.fields, random) else {
        return;
    };
    for _ in 0..1 + random.below(8) {
        let place = at + random.below(64);
        let value = random.next().to_le_bytes()[0];
        if let Some(byte) = image.get_mut(place) {
            *byte = value;
        }
    }
}
