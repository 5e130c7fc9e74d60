//! How much of everything there is.

use super::{Out, Problems};
use crate::listing;
use crate::sheet::{Value, left, right};
use erofs_format::DeviceId;
use erofs_reader::Image;
use erofs_reader::dump::regions::Space;
use erofs_reader::dump::statistics::{Amount, LAYOUTS, Statistics, TYPES, Usage};

/// An address space as results name it.
pub(super) fn space_name(space: Space) -> String {
    match space {
        Space::Device(DeviceId::PRIMARY) => "image".to_owned(),
        Space::Device(device) => format!("device-{device}"),
        Space::Metabox => "metabox".to_owned(),
    }
}

/// Counts and prints.
pub(super) fn print(image: &Image, out: &mut Out, problems: &mut Problems) -> anyhow::Result<()> {
    let statistics = image.statistics(&mut |path, error| problems.tell(path, error))?;
    let s = &statistics;
    out.object("statistics")?;
    out.field("names", Value::Number(s.names))?;
    out.field("inodes", Value::Number(s.inodes))?;
    out.field(
        "inodes_in_superblock",
        Value::Number(image.superblock().inodes),
    )?;
    out.field("hard_linked_inodes", Value::Number(s.hard_linked))?;
    out.field("compact_inodes", Value::Number(s.compact))?;
    out.field("extended_inodes", Value::Number(s.extended))?;
    out.field("file_bytes", Value::Number(s.file_bytes()))?;
    out.field("file_bytes_stored", Value::Number(s.file_bytes_stored))?;
    out.field(
        "compression_ratio",
        ratio(s.file_bytes(), s.file_bytes_stored),
    )?;
    out.field("holes", Value::Number(s.holes.count))?;
    out.field("hole_bytes", Value::Number(s.holes.bytes))?;
    out.field("fragments", Value::Number(s.fragments.count))?;
    out.field("fragment_bytes", Value::Number(s.fragments.bytes))?;
    out.field("problems", Value::Number(s.problems))?;
    counts(s, out)?;
    algorithms(s, out)?;
    xattrs(s, out)?;
    for (space, usage) in &s.usage {
        print_usage(*space, usage, out)?;
    }
    out.end()?;
    Ok(())
}

/// How many bytes of the first there are for one of the second.
fn ratio(plain: u64, stored: u64) -> Value<'static> {
    if stored == 0 {
        return Value::Nothing;
    }
    Value::Ratio(plain as f64 / stored as f64, 3)
}

fn counts(s: &Statistics, out: &mut Out) -> anyhow::Result<()> {
    let amounts = |amount: &Amount| [Value::Number(amount.count), Value::Number(amount.bytes)];
    let columns = [left("type", 18), right("inodes", 12), right("bytes", 20)];
    out.table("types", &columns)?;
    for (file_type, amount) in TYPES.into_iter().zip(&s.types) {
        let [count, bytes] = amounts(amount);
        out.row(&[Value::text(listing::type_name(file_type)), count, bytes])?;
    }
    out.end_list()?;
    let columns = [left("layout", 18), right("inodes", 12), right("bytes", 20)];
    out.table("layouts", &columns)?;
    for (layout, amount) in LAYOUTS.into_iter().zip(&s.layouts) {
        let [count, bytes] = amounts(amount);
        out.row(&[Value::text(listing::layout_name(layout)), count, bytes])?;
    }
    out.end_list()?;
    let columns = [
        right("from", 20),
        right("below", 20),
        right("files", 12),
        right("bytes", 20),
    ];
    out.table("file_sizes", &columns)?;
    for (class, amount) in &s.sizes {
        let power = |exponent: u32| 1u64.checked_shl(exponent);
        let from = class.checked_sub(1).and_then(power).unwrap_or(0);
        let [count, bytes] = amounts(amount);
        out.row(&[
            Value::Number(from),
            Value::maybe(power(*class)),
            count,
            bytes,
        ])?;
    }
    out.end_list()?;
    Ok(())
}

fn algorithms(s: &Statistics, out: &mut Out) -> anyhow::Result<()> {
    let columns = [
        left("algorithm", 18),
        right("extents", 12),
        right("file_bytes", 20),
        right("stored_bytes", 20),
        right("ratio", 8),
    ];
    out.table("compression", &columns)?;
    for (algorithm, amount) in &s.algorithms {
        out.row(&[
            Value::text(algorithm.map_or("plain", |algorithm| algorithm.name())),
            Value::Number(amount.extents),
            Value::Number(amount.file_bytes),
            Value::Number(amount.stored_bytes),
            ratio(amount.file_bytes, amount.stored_bytes),
        ])?;
    }
    out.end_list()?;
    Ok(())
}

fn xattrs(s: &Statistics, out: &mut Out) -> anyhow::Result<()> {
    let xattrs = &s.xattrs;
    out.object("xattrs")?;
    out.field("inodes", Value::Number(xattrs.bodies.count))?;
    out.field("body_bytes", Value::Number(xattrs.bodies.bytes))?;
    out.field("inline", Value::Number(xattrs.inline.count))?;
    out.field("inline_bytes", Value::Number(xattrs.inline.bytes))?;
    out.field("shared", Value::Number(xattrs.shared))?;
    out.field("shared_references", Value::Number(xattrs.references.count))?;
    out.field(
        "bytes_without_sharing",
        Value::Number(xattrs.references.bytes),
    )?;
    out.end()?;
    Ok(())
}

fn print_usage(space: Space, usage: &Usage, out: &mut Out) -> anyhow::Result<()> {
    let name = format!("usage_of_{}", space_name(space).replace('-', "_"));
    let columns = [
        left("content", 18),
        right("regions", 12),
        right("bytes", 20),
        right("percent", 8),
    ];
    out.table(&name, &columns)?;
    let percent = |bytes: u64| match usage.size {
        0 => Value::Nothing,
        size => Value::Ratio(bytes as f64 * 100.0 / size as f64, 2),
    };
    for (content, amount) in &usage.content {
        out.row(&[
            Value::text(content.name()),
            Value::Number(amount.count),
            Value::Number(amount.bytes),
            percent(amount.bytes),
        ])?;
    }
    for (what, bytes) in [
        ("data-padding", usage.data_padding),
        ("metadata-slack", usage.metadata_slack),
        ("unused", usage.unused),
        ("total", usage.size),
    ] {
        out.row(&[
            Value::text(what),
            Value::Nothing,
            Value::Number(bytes),
            percent(bytes),
        ])?;
    }
    out.end_list()?;
    Ok(())
}
