//! Libraries under measurement, without a program around them: each probe is a run of this binary that opens an image,
//! takes its time for the work alone, and adds up the bytes that it read.

use std::{
    collections::HashMap,
    ffi::{OsStr, OsString},
    fs::File,
    os::unix::fs::FileExt,
    path::Path,
    time::Instant,
};

use anyhow::{Context, Result, bail, ensure};
use erofs_codec::{
    Decoder, deflate::DeflateDecoder, lz4::Lz4Decoder, lzma::LzmaDecoder, zstd::ZstdDecoder,
};
use erofs_format::{
    DeviceId,
    compression::Algorithm,
    inode::{DataLayout, FileType},
};
use erofs_reader::{Extent, FileSource, Image, ImageOptions, Inode, Place, Stored};
use erofs_rs::{EroFS, backend::SliceImage};

use crate::measure::{Usage, Work, own_cpu, own_peak};

/// The first argument that makes this binary a probe.
pub(crate) const FLAG: &str = "--probe";

/// Bytes of one read, where it is not the reads that are counted.
const PIECE: usize = 1 << 20;
/// What is read at random, in bytes.
const RANDOM: u64 = 48 << 20;
/// Bytes of one random read.
const BLOCK: u64 = 4096;
/// Largest dictionary of MicroLZMA and largest window of Zstd that EROFS allows, in bytes and as a power of two.
const LARGEST_DICTIONARY: u32 = 8 << 20;
const LARGEST_WINDOW_LOG: u32 = 20;

/// What is probed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Probe {
    /// Our reader, all regular files in the order of the names.
    Sequential,
    /// All stored data of regular files, read and decoded without a reader.
    BareDecoder,
    /// Our reader, blocks in random order.
    Random,
    /// erofs-rs, the same blocks in the same order.
    RandomErofsRs,
}

const ALL: [(&str, Probe); 4] = [
    ("sequential", Probe::Sequential),
    ("bare-decoder", Probe::BareDecoder),
    ("random", Probe::Random),
    ("random-erofs-rs", Probe::RandomErofsRs),
];

impl Probe {
    /// The probe of an image, as work.
    pub(crate) fn work(self, image: &Path) -> Work {
        let name = ALL.iter().find(|(_, probe)| *probe == self);
        let name = name.map_or("", |(name, _)| name);
        Work::probing(vec![name.into(), image.into()])
    }
}

/// Runs the probe that the arguments name and prints its [`Usage`].
///
/// # Errors
/// The image cannot be read.
pub(crate) fn run(mut arguments: impl Iterator<Item = OsString>) -> Result<()> {
    let name = arguments.next().context("no probe")?;
    let image = arguments.next().context("no image")?;
    let found = ALL.iter().find(|(known, _)| OsStr::new(known) == name);
    let (_, probe) = found.context("no such probe")?;
    let usage = match probe {
        Probe::Sequential => sequential(image.as_ref())?,
        Probe::BareDecoder => bare_decoder(image.as_ref())?,
        Probe::Random => random(image.as_ref())?,
        Probe::RandomErofsRs => random_erofs_rs(image.as_ref())?,
    };
    println!("{}", serde_json::to_string(&usage)?);
    Ok(())
}

/// Measures `work`, which returns the sum of the bytes that it read.
fn timed(work: impl FnOnce() -> Result<u64>) -> Result<Usage> {
    let (start, cpu) = (Instant::now(), own_cpu()?);
    let sum = work()?;
    Ok(Usage {
        wall: start.elapsed().as_secs_f64(),
        cpu: own_cpu()? - cpu,
        peak: own_peak()?,
        sum: Some(sum),
    })
}

/// Fast, and the same however the bytes are cut.
fn sum(bytes: &[u8]) -> u64 {
    let sums = bytes
        .chunks(1 << 16)
        .map(|chunk| u64::from(chunk.iter().map(|&byte| u32::from(byte)).sum::<u32>()));
    sums.sum()
}

fn open(path: &Path) -> Result<Image> {
    Ok(Image::open(
        FileSource::open(path)?,
        ImageOptions::default(),
    )?)
}

/// Regular files with data, each once.
fn files(image: &Image) -> Result<Vec<Inode>> {
    let mut files = Vec::new();
    let mut seen = std::collections::HashSet::new();
    for entry in image.walk()? {
        let inode = entry?.inode;
        if inode.file_type == FileType::Regular && inode.size > 0 && seen.insert(inode.nid()) {
            files.push(inode);
        }
    }
    Ok(files)
}

fn sequential(path: &Path) -> Result<Usage> {
    let image = open(path)?;
    let files = files(&image)?;
    let mut buffer = vec![0; PIECE];
    timed(|| {
        let mut total = 0;
        for inode in &files {
            let mut position = 0;
            while position < inode.size {
                let count = image.read(inode, position, &mut buffer)?;
                ensure!(count > 0, "inode {} ends at {position}", inode.nid());
                total += sum(&buffer[..count]);
                position += count as u64;
            }
        }
        Ok(total)
    })
}

fn bare_decoder(path: &Path) -> Result<Usage> {
    let image = open(path)?;
    let mut extents: Vec<Extent> = Vec::new();
    for inode in files(&image)? {
        for extent in image.extents(&inode) {
            extents.push(extent?);
        }
    }
    let file = File::open(path)?;
    let mut decoders: HashMap<Algorithm, Box<dyn Decoder>> = HashMap::from([
        (Algorithm::Lz4, Box::new(Lz4Decoder) as Box<dyn Decoder>),
        (
            Algorithm::Lzma,
            Box::new(LzmaDecoder::new(LARGEST_DICTIONARY)),
        ),
        (Algorithm::Deflate, Box::new(DeflateDecoder::default())),
        (
            Algorithm::Zstd,
            Box::new(ZstdDecoder::new(LARGEST_WINDOW_LOG)),
        ),
    ]);
    let (mut stored_bytes, mut decoded) = (Vec::new(), Vec::new());
    timed(|| {
        let mut total = 0;
        for extent in &extents {
            let length = usize::try_from(extent.length)?;
            match extent.place {
                Place::Hole => {}
                Place::Data {
                    device: DeviceId::PRIMARY,
                    offset,
                }
                | Place::Inline { offset, .. } => {
                    let mut offset = offset.0;
                    let mut left = length;
                    while left > 0 {
                        let part = left.min(PIECE);
                        decoded.resize(part, 0);
                        file.read_exact_at(&mut decoded, offset)?;
                        total += sum(&decoded);
                        offset += part as u64;
                        left -= part;
                    }
                }
                Place::Encoded {
                    stored: Stored::Device { offset, .. } | Stored::Inline { offset, .. },
                    length: stored,
                    algorithm,
                    ..
                } => {
                    stored_bytes.resize(usize::try_from(stored)?, 0);
                    file.read_exact_at(&mut stored_bytes, offset.0)?;
                    let padding = stored_bytes.iter().position(|&byte| byte != 0);
                    let encoded = &stored_bytes[padding.context("only zeros")?..];
                    decoded.resize(length, 0);
                    let decoder = decoders.get_mut(&algorithm).context("no decoder")?;
                    decoder.decode(encoded, &mut decoded)?;
                    total += sum(&decoded);
                }
                other => bail!("mkfs.erofs puts nothing there by default: {other:?}"),
            }
        }
        Ok(total)
    })
}

/// Blocks of compressed files of a MiB or more, every block of as many files as [`RANDOM`] takes, in an order that is the
/// same on every run.
fn blocks(image: &Image) -> Result<Vec<(Inode, u64)>> {
    let mut blocks = Vec::new();
    for inode in files(image)? {
        if inode.size < 1 << 20
            || !matches!(
                inode.layout,
                DataLayout::CompressedCompact | DataLayout::CompressedFull
            )
        {
            continue;
        }
        blocks.extend((0..inode.size / BLOCK).map(|block| (inode, block * BLOCK)));
        if blocks.len() as u64 * BLOCK >= RANDOM {
            break;
        }
    }
    ensure!(!blocks.is_empty(), "no large compressed files");
    // Fisher and Yates, by xorshift64.
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    for end in (1..blocks.len()).rev() {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        blocks.swap(end, usize::try_from(state % (end as u64 + 1))?);
    }
    Ok(blocks)
}

fn random(path: &Path) -> Result<Usage> {
    let blocks = blocks(&open(path)?)?;
    // Nothing of it in any cache.
    let image = open(path)?;
    let mut buffer = [0; BLOCK as usize];
    timed(|| {
        let mut total = 0;
        for (inode, offset) in &blocks {
            let count = image.read(inode, *offset, &mut buffer)?;
            ensure!(count == buffer.len(), "short read");
            total += sum(&buffer);
        }
        Ok(total)
    })
}

fn random_erofs_rs(path: &Path) -> Result<Usage> {
    let blocks = blocks(&open(path)?)?;
    let bytes = std::fs::read(path)?;
    let filesystem = EroFS::new(SliceImage::new(&bytes))?;
    let mut files = HashMap::new();
    for (inode, _) in &blocks {
        if let std::collections::hash_map::Entry::Vacant(entry) = files.entry(inode.nid().0) {
            let theirs = filesystem.get_inode(inode.nid().0)?;
            entry.insert(filesystem.open_inode_file(theirs)?);
        }
    }
    let mut buffer = [0; BLOCK as usize];
    timed(|| {
        let mut total = 0;
        for (inode, offset) in &blocks {
            let file = &files[&inode.nid().0];
            // It ends a read where a cluster ends.
            let mut filled = 0;
            while filled < buffer.len() {
                let count = file.read_at(&mut buffer[filled..], *offset + filled as u64)?;
                ensure!(count > 0, "short read");
                filled += count;
            }
            total += sum(&buffer);
        }
        Ok(total)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_do_not_depend_on_cuts() {
        let bytes: Vec<u8> = (0..200_000u32).map(|n| (n % 251) as u8).collect();
        let (a, b) = bytes.split_at(70_001);
        assert_eq!(sum(&bytes), sum(a) + sum(b));
        assert_eq!(sum(&[255; 1 << 16]), 255 << 16);
    }
}
