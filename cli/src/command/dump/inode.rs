//! One inode, with all that is stored for it.

use super::{Out, Problems};
use crate::listing::{self, Mode};
use crate::names::Printable;
use crate::sheet::{Value, left, right};
use erofs_format::chunk::ChunkFormat;
use erofs_format::compression::map_header::{ExtentRecords, MapHeader};
use erofs_format::directory::file_type_from_value;
use erofs_format::inode::{InodePayload, Timestamp};
use erofs_reader::dump::inode::{MapRecord, RawInode};
use erofs_reader::map::{Form, Location, Place, StoredExtent};
use erofs_reader::metadata::Area;
use erofs_reader::{Error, Image, Inode};

/// Which long parts are printed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Parts {
    pub(super) extents: bool,
    pub(super) directory: bool,
}

/// Prints an inode as an item of the open list. What cannot be read is told and left out.
pub(super) fn print(
    image: &Image,
    path: Option<&[u8]>,
    inode: &Inode,
    parts: Parts,
    out: &mut Out,
    problems: &mut Problems,
) -> anyhow::Result<()> {
    let absolute = path.map(|path| {
        let path = path.strip_prefix(b"/").unwrap_or(path);
        [b"/", path].concat()
    });
    let shown = absolute.as_deref().unwrap_or(b"(no path)");
    out.item(&format!("{}", Printable(shown)))?;
    let path_value = absolute.as_deref().map_or(Value::Nothing, Value::Bytes);
    out.field("path", path_value)?;
    attributes(image, inode, out)?;
    let mut failed = Vec::new();
    for part in [record, xattrs, map, places] {
        match part(image, inode, out)? {
            Ok(()) => {}
            Err(error) => failed.push(error),
        }
    }
    if parts.extents {
        extents(image, inode, out, &mut failed)?;
    }
    if parts.directory && inode.is_directory() {
        blocks(image, inode, out, &mut failed)?;
    }
    out.field("problems", Value::Number(failed.len() as u64))?;
    out.end()?;
    for error in failed {
        problems.tell(shown, &error);
    }
    Ok(())
}

/// A part that was printed, or what stopped it before it began; the outer error is one of printing.
type Part = anyhow::Result<Result<(), Error>>;

/// What `stat` would show.
fn attributes(image: &Image, inode: &Inode, out: &mut Out) -> anyhow::Result<()> {
    let metabox = image.metabox_inode().is_some();
    out.field("nid", Value::Number(inode.nid().0))?;
    out.field("st_ino", Value::Number(inode.nid().to_ino(metabox)))?;
    out.field("type", Value::text(listing::type_name(inode.file_type)))?;
    out.field(
        "mode",
        Value::text(format_args!("{:04o}", inode.mode & 0o7777)),
    )?;
    out.field("permissions", Value::text(Mode(inode)))?;
    out.field("uid", Value::Number(inode.uid.into()))?;
    out.field("gid", Value::Number(inode.gid.into()))?;
    out.field("nlink", Value::Number(inode.nlink.into()))?;
    out.field("size", Value::Number(inode.size))?;
    out.field("st_blocks", Value::Number(listing::st_blocks(image, inode)))?;
    out.field("mtime", Value::Time(inode.mtime))?;
    Ok(())
}

/// The record, field by field.
fn record(image: &Image, inode: &Inode, out: &mut Out) -> Part {
    let raw = match image.raw_inode(inode) {
        Ok(raw) => raw,
        Err(error) => return Ok(Err(error)),
    };
    let (area, position) = inode.position();
    let bits = image.superblock().block_bits;
    out.object("record")?;
    out.field("in", Value::text(area_name(area)))?;
    out.field("position", Value::Position(position.0))?;
    out.field("block", Value::Number(bits.whole_blocks(position.0)))?;
    out.field(
        "offset_in_block",
        Value::Number(bits.offset_in_block(position.0)),
    )?;
    out.field("size", Value::Number(inode.core_size()))?;
    let (format, icount, mode, nb, u, serial) = match &raw {
        RawInode::Compact(raw) => (
            raw.format,
            raw.xattr_icount,
            raw.mode,
            raw.nb,
            raw.u,
            raw.ino,
        ),
        RawInode::Extended(raw) => (
            raw.format,
            raw.xattr_icount,
            raw.mode,
            raw.nb,
            raw.u,
            raw.ino,
        ),
    };
    let form = if inode.extended {
        "extended"
    } else {
        "compact"
    };
    out.field("i_format", Value::Bits(format.get().into(), 4))?;
    out.field("form", Value::text(form))?;
    out.field("layout", Value::text(listing::layout_name(inode.layout)))?;
    out.field("dot_omitted", Value::Flag(inode.dot_omitted))?;
    out.field("i_xattr_icount", Value::Number(icount.get().into()))?;
    out.field("i_mode", Value::text(format_args!("{:07o}", mode.get())))?;
    out.field("i_nb", Value::Number(nb.get().into()))?;
    out.field("i_u", Value::Bits(u.get().into(), 8))?;
    out.field("i_ino", Value::Number(serial.get().into()))?;
    match &raw {
        RawInode::Compact(raw) => {
            out.field("i_mtime", Value::Number(raw.mtime.get().into()))?;
            out.field("reserved", Value::Bits(raw.reserved.get().into(), 8))?;
        }
        RawInode::Extended(raw) => {
            let time = Timestamp {
                seconds: raw.mtime.get(),
                nanoseconds: raw.mtime_nsec.get(),
            };
            out.field("i_mtime", Value::Signed(time.seconds))?;
            out.field("i_mtime_nsec", Value::Number(time.nanoseconds.into()))?;
            let reserved: String = raw
                .reserved
                .iter()
                .map(|byte| format!("{byte:02x}"))
                .collect();
            out.field("reserved", Value::Text(reserved))?;
        }
    }
    match inode.payload {
        InodePayload::StartBlock(start) => {
            out.field("start_block", Value::maybe(start.map(|start| start.0)))?;
        }
        InodePayload::CompressedBlocks(blocks) => {
            out.field("compressed_blocks", Value::Number(blocks))?;
        }
        InodePayload::ChunkFormat(format) => {
            out.field("chunk_format", Value::Bits(format.into(), 4))?;
        }
        InodePayload::Device(number) => {
            out.field("major", Value::Number(number.major.into()))?;
            out.field("minor", Value::Number(number.minor.into()))?;
        }
        InodePayload::Nothing => {}
    }
    out.end()?;
    Ok(Ok(()))
}

fn xattrs(image: &Image, inode: &Inode, out: &mut Out) -> Part {
    let body = match image.xattr_record(inode) {
        Ok(Some(body)) => body,
        Ok(None) => return Ok(Ok(())),
        Err(error) => return Ok(Err(error)),
    };
    out.object("xattrs")?;
    out.field("in", Value::text(area_name(body.area)))?;
    out.field("position", Value::Position(body.offset.0))?;
    out.field("size", Value::Number(body.size))?;
    out.field("name_filter", Value::Bits(body.filter.into(), 8))?;
    let columns = [
        right("shared_id", 9),
        left("position", 26),
        right("size", 6),
        left("index", 5),
        left("name", 30),
        left("value", 0),
    ];
    out.table("entries", &columns)?;
    for entry in &body.entries {
        let name = entry.name.as_deref().unwrap_or(&entry.suffix);
        out.row(&[
            Value::maybe(entry.shared.map(u64::from)),
            Value::Position(entry.offset.0),
            Value::Number(entry.size),
            Value::Bits(entry.index.value().into(), 2),
            Value::Bytes(name),
            Value::Bytes(&entry.value),
        ])?;
    }
    out.end_list()?;
    out.end()?;
    Ok(Ok(()))
}

/// What says where the data is.
fn map(image: &Image, inode: &Inode, out: &mut Out) -> Part {
    let bits = image.superblock().block_bits;
    match image.map_record(inode) {
        Err(error) => return Ok(Err(error)),
        Ok(MapRecord::None) => {}
        Ok(MapRecord::Chunks {
            format:
                format @ ChunkFormat {
                    block_shift: _,
                    indexes,
                    wide,
                },
            table,
            entries,
        }) => {
            out.object("chunks")?;
            out.field("table_position", Value::Position(table.0))?;
            out.field("entries", Value::Number(entries))?;
            out.field("entry_size", Value::Number(format.entry_size()))?;
            out.field("chunk_size", Value::Number(1 << format.chunk_bits(bits)))?;
            out.field("indexes", Value::Flag(indexes))?;
            out.field("wide", Value::Flag(wide))?;
            out.end()?;
        }
        Ok(MapRecord::Compressed {
            header,
            raw,
            meaning,
            index,
        }) => {
            out.object("map_header")?;
            out.field("position", Value::Position(header.0))?;
            out.field("word", Value::Bits(raw.word.get().into(), 8))?;
            out.field("h_advise", Value::Bits(raw.advise.get().into(), 4))?;
            out.field("h_algorithmtype", Value::Bits(raw.algorithms.into(), 2))?;
            out.field("h_clusterbits", Value::Bits(raw.cluster_bits.into(), 2))?;
            map_meaning(&meaning, out)?;
            if let Some(index) = index {
                out.field("index_position", Value::Position(index.start.0))?;
                out.field("index_size", Value::Number(index.size))?;
                out.field("records", Value::Number(index.records))?;
            }
            out.end()?;
        }
    }
    Ok(Ok(()))
}

fn map_meaning(meaning: &MapHeader, out: &mut Out) -> anyhow::Result<()> {
    match meaning {
        MapHeader::Fragment { offset } => {
            out.field("form", Value::text("fragment"))?;
            out.field("fragment_offset", Value::Position(*offset))?;
        }
        MapHeader::Index(index) => {
            let advise = index
                .advise
                .iter_names()
                .map(|(name, _)| name.to_lowercase());
            out.field("form", Value::text("lcluster-index"))?;
            out.field("advise", Value::Words(advise.collect()))?;
            out.field("head1", Value::text(index.head1.name()))?;
            out.field("head2", Value::text(index.head2.name()))?;
            out.field("lcluster_size", Value::Number(1 << index.lcluster_bits))?;
            out.field("inline_size", Value::Number(index.inline_size.into()))?;
            out.field(
                "fragment_offset",
                Value::Number(index.fragment_offset.into()),
            )?;
        }
        MapHeader::Extents(extents) => {
            let (form, extent_bits) = match extents.records {
                ExtentRecords::Sequential { extent_bits } => ("sequential", Some(extent_bits)),
                ExtentRecords::Scattered { extent_bits } => ("scattered", Some(extent_bits)),
                ExtentRecords::Listed { .. } => ("listed", None),
                ExtentRecords::ListedWide { .. } => ("listed-wide", None),
            };
            out.field("form", Value::text(format_args!("extents-{form}")))?;
            out.field(
                "record_size",
                Value::Number(extents.records.record_size().bytes()),
            )?;
            out.field(
                "extent_size",
                Value::maybe(extent_bits.map(|bits| 1 << bits)),
            )?;
            out.field("interlaced", Value::Flag(extents.interlaced))?;
            out.field("fragment", Value::Flag(extents.fragment))?;
        }
    }
    Ok(())
}

/// What stands where in the metadata.
fn places(image: &Image, inode: &Inode, out: &mut Out) -> Part {
    let added = image.regions().and_then(|mut regions| {
        regions.add_metadata(inode)?;
        Ok(regions.into_sorted())
    });
    let regions = match added {
        Ok(regions) => regions,
        Err(error) => return Ok(Err(error)),
    };
    let columns = [left("part", 18), left("position", 26), right("size", 12)];
    out.table("metadata", &columns)?;
    for region in regions.iter().filter(|region| region.owner().is_some()) {
        out.row(&[
            Value::text(region.content.name()),
            Value::Position(region.start),
            Value::Number(region.length),
        ])?;
    }
    out.end_list()?;
    Ok(Ok(()))
}

fn extents(
    image: &Image,
    inode: &Inode,
    out: &mut Out,
    failed: &mut Vec<Error>,
) -> anyhow::Result<()> {
    let columns = [
        right("extent", 6),
        left("logical", 26),
        right("length", 12),
        left("form", 10),
        left("partial", 7),
        left("in", 9),
        left("physical", 30),
        right("stored", 12),
    ];
    out.table("extents", &columns)?;
    for (number, extent) in image.stored_extents(inode).enumerate() {
        match extent {
            Ok(extent) => out.row(&extent_row(number as u64, &extent))?,
            Err(error) => failed.push(error),
        }
    }
    out.end_list()?;
    Ok(())
}

fn extent_row(number: u64, extent: &StoredExtent) -> [Value<'static>; 8] {
    let (form, partial) = match extent.form {
        Form::Hole => ("hole", false),
        Form::Data => ("data", false),
        Form::Plain { interlaced: false } => ("plain", false),
        Form::Plain { interlaced: true } => ("interlaced", false),
        Form::Encoded { algorithm, partial } => (algorithm.name(), partial),
        Form::Fragment => ("fragment", false),
    };
    let (place, position) = match extent.location {
        None => (Value::Nothing, Value::Nothing),
        Some(Location::Device { device, offset }) => {
            (Value::Text(device_name(device)), Value::Position(offset.0))
        }
        Some(Location::Inline { area, offset }) => {
            let name = match area {
                Area::Primary => "inline",
                Area::Metabox => "metabox",
            };
            (Value::text(name), Value::Position(offset.0))
        }
        Some(Location::Packed { offset }) => (Value::text("packed"), Value::Position(offset)),
    };
    [
        Value::Number(number),
        Value::Position(extent.logical),
        Value::Number(extent.length),
        Value::text(form),
        Value::Flag(partial),
        place,
        position,
        Value::Number(extent.stored_length),
    ]
}

fn device_name(device: erofs_format::DeviceId) -> String {
    super::statistics::space_name(erofs_reader::dump::regions::Space::Device(device))
}

fn area_name(area: Area) -> &'static str {
    match area {
        Area::Primary => "image",
        Area::Metabox => "metabox",
    }
}

fn blocks(
    image: &Image,
    inode: &Inode,
    out: &mut Out,
    failed: &mut Vec<Error>,
) -> anyhow::Result<()> {
    out.list("directory_blocks")?;
    for block in image.directory_blocks(inode)? {
        let block = match block {
            Ok(block) => block,
            Err(error) => {
                failed.push(error);
                continue;
            }
        };
        out.item(&format!("block at {} ({:#x})", block.start, block.start))?;
        out.field("start", Value::Position(block.start))?;
        out.field("length", Value::Number(block.length))?;
        let (place, position) = match block.place {
            Place::Hole => ("hole", None),
            Place::Data { device, offset } => (&*device_name(device), Some(offset.0)),
            Place::Inline { area, offset } => (area_name(area), Some(offset.0)),
            Place::Packed { offset } => ("packed", Some(offset)),
            Place::Encoded { .. } => ("encoded", None),
        };
        out.field("in", Value::text(place))?;
        out.field("position", position.map_or(Value::Nothing, Value::Position))?;
        out.field("free", Value::Number(block.free))?;
        let columns = [
            right("nid", 20),
            right("nameoff", 7),
            right("file_type", 9),
            left("type", 16),
            left("name", 0),
        ];
        out.table("entries", &columns)?;
        for entry in &block.entries {
            let file_type = file_type_from_value(entry.file_type);
            out.row(&[
                Value::Number(entry.nid.0),
                Value::Number(entry.nameoff.into()),
                Value::Number(entry.file_type.into()),
                file_type.map_or(Value::Nothing, |file_type| {
                    Value::text(listing::type_name(file_type))
                }),
                Value::Bytes(&entry.name),
            ])?;
        }
        out.end_list()?;
        out.end()?;
    }
    out.end_list()?;
    Ok(())
}
