//! Makes inputs of the fuzz targets from images:
//!
//! ```text
//! cargo run --manifest-path fuzz/Cargo.toml --example seeds -- CORPUS IMAGE…
//! ```
//! writes to `CORPUS/TARGET/`: the images themselves, and what they are made of: directories, xattrs, maps, encoded units.
//! Images above 128 KiB are taken apart only: fuzzing large inputs is slow.

use erofs_format::DeviceId;
use erofs_format::compression::Algorithm;
use erofs_format::inode::{DataLayout, InodePayload};
use erofs_format::xattr::body_size;
use erofs_fuzz::image::{DEVICE_UNITS, seal};
use erofs_fuzz::synthetic::Parameters;
use erofs_reader::{FileSource, Image, ImageOptions, Inode, Place, Stored};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::{env, error, fs};

const MAX_IMAGE: usize = 128 << 10;
/// Bytes taken of what follows an inode.
const MAX_BEHIND: usize = 2048;
const MAX_UNIT: u64 = 8192;
const MAX_UNITS: usize = 4;

struct Seeds {
    folder: PathBuf,
}

impl Seeds {
    fn write(&self, target: &str, parts: &[&[u8]]) -> Result<(), Box<dyn error::Error>> {
        let input = parts.concat();
        let mut hasher = DefaultHasher::new();
        input.hash(&mut hasher);
        let folder = self.folder.join(target);
        fs::create_dir_all(&folder)?;
        fs::write(folder.join(format!("{:016x}", hasher.finish())), input)?;
        Ok(())
    }

    fn image(&self, path: &Path) -> Result<(), Box<dyn error::Error>> {
        let bytes = fs::read(path)?;
        let mut input = bytes.clone();
        if let Ok(device) = fs::read(path.with_extension("1.blob")) {
            input.extend(&device);
            input.resize(input.len().next_multiple_of(512), 0);
            input[DEVICE_UNITS] = u8::try_from(device.len().div_ceil(512)).unwrap_or(0);
        }
        if input.len() <= MAX_IMAGE {
            seal(&mut input);
            for target in ["superblock_walk", "image_read", "check", "dump", "extract"] {
                self.write(target, &[&input])?;
            }
        }
        self.write(
            "format_records",
            &[&[3], bytes.get(1024..1024 + MAX_BEHIND).unwrap_or_default()],
        )?;
        let image = Image::open(FileSource::open(path)?, ImageOptions::default())?;
        for entry in image.walk()?.flatten() {
            self.inode(&image, &bytes, &entry.inode)?;
        }
        if let Some(packed) = image.superblock().packed {
            self.inode(&image, &bytes, &image.inode(packed)?)?;
        }
        Ok(())
    }

    fn inode(
        &self,
        image: &Image,
        bytes: &[u8],
        inode: &Inode,
    ) -> Result<(), Box<dyn error::Error>> {
        let superblock = image.superblock();
        let size = inode.data_size();
        let head = |flags, word| Parameters::head(superblock.block_bits, flags, 15, word, size);
        let (_, start) = inode.position();
        let core = usize::try_from(start.0 + inode.core_size())?;
        let behind = |from: usize| {
            bytes
                .get(from..bytes.len().min(from + MAX_BEHIND))
                .unwrap_or_default()
        };
        if inode.xattr_icount > 0 {
            self.write("xattr", &[&head(0, inode.xattr_icount), behind(core)])?;
        }
        // Indexes keep their place relative to a multiple of 32 bytes.
        let end = core + usize::try_from(body_size(inode.xattr_icount))?;
        let map = behind(end.next_multiple_of(32));
        match inode.layout {
            DataLayout::CompressedFull => {
                self.write("map_full", &[&head(0, 0), map])?;
                self.write("map_extents", &[&head(1, 0), map])?;
            }
            DataLayout::CompressedCompact => self.write("map_compact", &[&head(0, 0), map])?,
            DataLayout::ChunkBased => {
                if let InodePayload::ChunkFormat(format) = inode.payload {
                    self.write("chunk_map", &[&head(2, format), map])?;
                }
            }
            DataLayout::FlatPlain | DataLayout::FlatInline => {}
        }
        if inode.is_directory() && size <= 4 * superblock.block_bits.bytes() {
            let mut data = vec![0; usize::try_from(size)?];
            image.read(inode, 0, &mut data)?;
            let flags = u8::from(inode.dot_omitted) << 3;
            self.write("directory", &[&head(flags, 0), &data])?;
        }
        for extent in image.extents(inode).flatten().take(MAX_UNITS) {
            let Place::Encoded {
                stored:
                    Stored::Device {
                        device: DeviceId::PRIMARY,
                        offset,
                    },
                length,
                algorithm,
                ..
            } = extent.place
            else {
                continue;
            };
            let unit = bytes
                .get(usize::try_from(offset.0)?..usize::try_from(offset.0 + length)?)
                .filter(|_| length <= MAX_UNIT)
                .unwrap_or_default();
            let padding = unit
                .iter()
                .position(|byte| *byte != 0)
                .unwrap_or(unit.len());
            let [a, b, c, ..] = extent.length.to_le_bytes();
            let target = match algorithm {
                Algorithm::Lz4 => "decode_lz4",
                Algorithm::Lzma => "decode_lzma",
                Algorithm::Deflate => "decode_deflate",
                Algorithm::Zstd => "decode_zstd",
            };
            self.write(target, &[&[a, b, c], &unit[padding..]])?;
        }
        Ok(())
    }
}

fn main() -> Result<(), Box<dyn error::Error>> {
    let mut arguments = env::args_os().skip(1).map(PathBuf::from);
    let folder = arguments.next().ok_or("usage: seeds CORPUS IMAGE…")?;
    let seeds = Seeds { folder };
    for path in arguments {
        if let Err(error) = seeds.image(&path) {
            eprintln!("{}: {error}", path.display());
        }
    }
    Ok(())
}
