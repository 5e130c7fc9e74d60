//! Golden images with one field changed.

use erofs_format::superblock::{SUPERBLOCK_OFFSET, checksum_length, image_checksum};
use erofs_tests::{golden::Golden, numbers::Numbers, workshop::open};

use crate::fields::{self, Field, Kind};

/// One changed image.
#[derive(Debug)]
pub(crate) struct Mutation {
    /// Short, unique.
    pub(crate) name: String,
    /// What was changed, for people.
    pub(crate) what: String,
    /// The image.
    pub(crate) bytes: Vec<u8>,
    /// What it was made of.
    pub(crate) golden: Golden,
}

/// `count` changes of golden images, the same for the same seed: all kinds of fields in turn, of all images in turn.
pub(crate) fn all(count: usize, seed: u64) -> Vec<Mutation> {
    let goldens = Golden::all();
    let images: Vec<(Vec<u8>, Vec<Field>)> = goldens
        .iter()
        .map(|golden| {
            let bytes = std::fs::read(&golden.image).expect("kept");
            let image = open(&golden.image, &golden.devices);
            let fields = fields::of_image(&image, &bytes);
            (bytes, fields)
        })
        .collect();
    let mut numbers = Numbers::new(seed);
    let mut mutations = Vec::new();
    while mutations.len() < count {
        let kind = Kind::ALL[mutations.len() % Kind::ALL.len()];
        // An image with such a field: the superblock is in each, encoded data in few.
        let number = loop {
            let number = numbers.below(goldens.len());
            if images[number].1.iter().any(|field| field.kind == kind) {
                break number;
            }
        };
        let (bytes, fields) = &images[number];
        let choice: Vec<&Field> = fields.iter().filter(|field| field.kind == kind).collect();
        let field = choice[numbers.below(choice.len())];
        let mut bytes = bytes.clone();
        let (before, after) = change(&mut bytes, field, &mut numbers);
        if before == after {
            continue;
        }
        seal(&mut bytes);
        let golden = goldens[number].clone();
        mutations.push(Mutation {
            name: format!("m{:04}", mutations.len()),
            what: format!(
                "{}: {:?} {}: {before:#x} -> {after:#x}",
                golden.name, kind, field.name
            ),
            bytes,
            golden,
        });
    }
    mutations
}

/// Gives a field another value, one of those at which programs break.
fn change(bytes: &mut [u8], field: &Field, numbers: &mut Numbers) -> (u64, u64) {
    let place = &mut bytes[field.offset..field.offset + field.width];
    let mut number = [0; 8];
    number[..field.width].copy_from_slice(place);
    let before = u64::from_le_bytes(number);
    let bits = 8 * field.width;
    let all = if bits == 64 {
        u64::MAX
    } else {
        (1 << bits) - 1
    };
    let after = all
        & match numbers.below(9) {
            0 => 0,
            1 => 1,
            2 => all,
            3 => before.wrapping_add(1),
            4 => before.wrapping_sub(1),
            5 => before ^ (1 << (bits - 1)),
            6 => before.wrapping_mul(2),
            7 => before ^ (1 << numbers.below(bits)),
            _ => numbers.next(),
        };
    place.copy_from_slice(&after.to_le_bytes()[..field.width]);
    (before, after)
}

/// Sets the checksum right, for it would hide what else is wrong.
fn seal(bytes: &mut [u8]) {
    let start = SUPERBLOCK_OFFSET as usize;
    let bits = bytes[start + 12];
    let Ok(bits) = erofs_format::BlockBits::new(bits) else {
        return;
    };
    let end = (start + checksum_length(bits)).min(bytes.len());
    let checksum = image_checksum(&bytes[start..end]);
    bytes[start + 4..start + 8].copy_from_slice(&checksum.to_le_bytes());
}
