//! What lies where.

use super::statistics::space_name;
use super::{Out, Problems};
use crate::sheet::{Value, left, right};
use erofs_format::DeviceId;
use erofs_reader::Image;
use erofs_reader::dump::regions::{Region, Space};

/// All regions by position, and between them what nothing leads to.
pub(super) fn print(image: &Image, out: &mut Out, problems: &mut Problems) -> anyhow::Result<()> {
    let regions = image.all_regions(&mut |path, error| problems.tell(path, error))?;
    let columns = [
        left("in", 9),
        left("from", 26),
        left("to", 26),
        right("length", 14),
        left("content", 18),
        right("nid", 12),
    ];
    out.table("map", &columns)?;
    let mut last: Option<(Space, u64)> = None;
    let image_end = image_end(image);
    for region in &regions {
        if let Some((space, end)) = last
            && space != region.space
        {
            gap(out, space, end, end_of(space, end, image_end))?;
        }
        let end = match last {
            Some((space, end)) if space == region.space => end,
            _ => 0,
        };
        // Blobs hold more than this image uses.
        if matches!(
            region.space,
            Space::Device(DeviceId::PRIMARY) | Space::Metabox
        ) {
            gap(out, region.space, end, region.start)?;
        }
        row(out, region)?;
        last = Some((region.space, end.max(region.end())));
    }
    if let Some((space, end)) = last {
        gap(out, space, end, end_of(space, end, image_end))?;
    }
    out.end_list()?;
    Ok(())
}

fn image_end(image: &Image) -> u64 {
    let superblock = image.superblock();
    superblock
        .blocks
        .saturating_mul(superblock.block_bits.bytes())
}

fn end_of(space: Space, end: u64, image_end: u64) -> u64 {
    match space {
        Space::Device(DeviceId::PRIMARY) => image_end,
        _ => end,
    }
}

fn gap(out: &mut Out, space: Space, from: u64, to: u64) -> anyhow::Result<()> {
    if from < to {
        out.row(&[
            Value::Text(space_name(space)),
            Value::Position(from),
            Value::Position(to),
            Value::Number(to - from),
            Value::text("-"),
            Value::Nothing,
        ])?;
    }
    Ok(())
}

fn row(out: &mut Out, region: &Region) -> anyhow::Result<()> {
    out.row(&[
        Value::Text(space_name(region.space)),
        Value::Position(region.start),
        Value::Position(region.end()),
        Value::Number(region.length),
        Value::text(region.content.name()),
        Value::maybe(region.owner().map(|nid| nid.0)),
    ])?;
    Ok(())
}

/// What holds these bytes of the image.
pub(super) fn print_at(
    image: &Image,
    offsets: &[u64],
    out: &mut Out,
    problems: &mut Problems,
) -> anyhow::Result<()> {
    let regions = image.all_regions(&mut |path, error| problems.tell(path, error))?;
    let columns = [
        left("at", 26),
        left("content", 18),
        left("from", 26),
        right("length", 14),
        right("nid", 12),
        left("path", 0),
    ];
    out.table("at", &columns)?;
    for at in offsets {
        let mut found = false;
        let holds = |region: &&Region| {
            region.space == Space::Device(DeviceId::PRIMARY)
                && (region.start..region.end()).contains(at)
        };
        for region in regions.iter().filter(holds) {
            found = true;
            let path = match region.owner() {
                Some(nid) => image.path_of(nid)?,
                None => None,
            };
            let path = path.map(|path| [b"/", path.as_slice()].concat());
            out.row(&[
                Value::Position(*at),
                Value::text(region.content.name()),
                Value::Position(region.start),
                Value::Number(region.length),
                Value::maybe(region.owner().map(|nid| nid.0)),
                path.as_deref().map_or(Value::Nothing, Value::Bytes),
            ])?;
        }
        if !found {
            out.row(&[
                Value::Position(*at),
                Value::text("-"),
                Value::Nothing,
                Value::Nothing,
                Value::Nothing,
                Value::Nothing,
            ])?;
        }
    }
    out.end_list()?;
    Ok(())
}
