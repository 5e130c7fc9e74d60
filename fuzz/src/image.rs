//! Inputs that are images: any file that `erofs` itself would take.
//!
//! The checksum is made right first, so that the fuzzer need not find it. A byte that EROFS reserves ([`DEVICE_UNITS`])
//! tells how much of the input's end is the content of the extra devices, if there are any.

use crate::limit::Guarded;
use erofs_format::BlockBits;
use erofs_format::superblock::{SUPERBLOCK_OFFSET, checksum_length, image_checksum};
use erofs_reader::{ByteSource, Image, ImageOptions};

const START: usize = SUPERBLOCK_OFFSET as usize;
const CHECKSUM: std::ops::Range<usize> = START + 4..START + 8;
const BLOCK_BITS: usize = START + 12;
const EXTRA_DEVICES: std::ops::Range<usize> = START + 86..START + 88;
/// Byte of the image that tells how many units of 512 bytes at its end are the content of each extra device; 0 for devices
/// inside of the image ("flat").
pub const DEVICE_UNITS: usize = START + 120;

/// Makes the checksum right, as far as there is a superblock.
pub fn seal(image: &mut [u8]) {
    let Some(bits) = image
        .get(BLOCK_BITS)
        .and_then(|bits| BlockBits::new(*bits).ok())
    else {
        return;
    };
    let mut covered = image.get(START..).unwrap_or_default().to_vec();
    covered.resize(checksum_length(bits), 0);
    let checksum = image_checksum(&covered).to_le_bytes();
    image[CHECKSUM].copy_from_slice(&checksum);
}

/// An input, taken apart.
#[derive(Debug)]
pub struct Input {
    /// The image, its checksum right.
    pub image: Vec<u8>,
    /// Contents of the extra devices; none when they are inside of the image.
    pub devices: Vec<Vec<u8>>,
}

impl Input {
    /// Takes an input apart; `None` when it is too short for a superblock.
    pub fn split(input: &[u8]) -> Option<Self> {
        let mut image = input.to_vec();
        let units = usize::from(*image.get(DEVICE_UNITS)?);
        let slots = image[EXTRA_DEVICES]
            .iter()
            .rev()
            .fold(0, |value, byte| value << 8 | usize::from(*byte));
        let mut devices = Vec::new();
        if units > 0 && slots <= 4 {
            let device = image.split_off(image.len().saturating_sub(units * 512));
            devices.resize(slots, device);
        }
        seal(&mut image);
        Some(Self { image, devices })
    }

    /// Opens the image with small caches, each device guarded.
    pub fn open(&self) -> Option<Image> {
        let guard =
            |device: &Vec<u8>| Box::new(Guarded::new(device.clone())) as Box<dyn ByteSource>;
        let options = ImageOptions {
            devices: self.devices.iter().map(guard).collect(),
            extent_cache: 1 << 20,
            metadata_cache: 256 << 10,
            ..ImageOptions::default()
        };
        Image::open(Guarded::new(self.image.clone()), options).ok()
    }
}

/// Opens an input, see [`Input`].
pub fn open(input: &[u8]) -> Option<Image> {
    Input::split(input)?.open()
}
