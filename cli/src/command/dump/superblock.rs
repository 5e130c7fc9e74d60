//! The superblock and what belongs to it.

use super::Out;
use crate::report;
use crate::sheet::{Value, left, right};
use erofs_format::BlockBits;
use erofs_format::DeviceId;
use erofs_format::compression::Algorithm;
use erofs_format::feature::{FeatureCompat, FeatureIncompat};
use erofs_format::inode::Timestamp;
use erofs_format::kernel::{Requirement, used_since};
use erofs_format::superblock::SUPERBLOCK_OFFSET;
use erofs_format::xattr::Prefix;
use erofs_mount::Requirements;
use erofs_reader::Image;

/// Everything but the tree.
pub(super) fn print(image: &Image, out: &mut Out) -> anyhow::Result<()> {
    fields(image, out)?;
    features(image, out)?;
    algorithms(image, out)?;
    devices(image, out)?;
    xattr_prefixes(image, out)?;
    Ok(())
}

fn fields(image: &Image, out: &mut Out) -> anyhow::Result<()> {
    let superblock = image.superblock();
    let record = image.superblock_record()?;
    let raw = &record.raw;
    let block = superblock.block_bits.bytes();
    let position = |address: u32| Value::Position(u64::from(address) * block);
    let has_checksum = superblock.compat.contains(FeatureCompat::SB_CHKSUM);
    let number = |value: u64| Value::Number(value);
    out.object("superblock")?;
    out.field("position", Value::Position(SUPERBLOCK_OFFSET))?;
    out.field("size", number(superblock.size() as u64))?;
    out.field("magic", Value::Bits(raw.magic.get().into(), 8))?;
    out.field("checksum", Value::Bits(raw.checksum.get().into(), 8))?;
    out.field(
        "checksum_computed",
        Value::Bits(record.computed_checksum.into(), 8),
    )?;
    out.field("checksum_used", Value::Flag(has_checksum))?;
    out.field("checksummed_bytes", number(record.checksummed))?;
    out.field(
        "feature_compat",
        Value::Bits(raw.feature_compat.get().into(), 8),
    )?;
    out.field(
        "feature_incompat",
        Value::Bits(raw.feature_incompat.get().into(), 8),
    )?;
    out.field("blkszbits", number(raw.blkszbits.into()))?;
    out.field("block_size", number(block))?;
    out.field("sb_extslots", number(raw.sb_extslots.into()))?;
    out.field("blocks", number(superblock.blocks))?;
    out.field(
        "image_size",
        Value::Position(superblock.blocks.saturating_mul(block)),
    )?;
    out.field(
        "source_size",
        Value::Position(image.device_size(DeviceId::PRIMARY)),
    )?;
    out.field("blocks_lo", number(raw.blocks_lo.get().into()))?;
    out.field("root_nid", number(superblock.root.0))?;
    out.field("rootnid_2b", number(raw.rootnid_2b.get().into()))?;
    out.field("rootnid_8b", number(raw.rootnid_8b.get()))?;
    out.field("inos", number(raw.inos.get()))?;
    out.field("epoch", Value::Signed(raw.epoch.get()))?;
    out.field("fixed_nsec", number(raw.fixed_nsec.get().into()))?;
    out.field("build_time", number(raw.build_time.get().into()))?;
    let created = Timestamp {
        seconds: superblock
            .epoch
            .saturating_add(superblock.build_time.into()),
        nanoseconds: superblock.fixed_nanoseconds,
    };
    out.field("created", Value::Time(created))?;
    out.field("meta_blkaddr", number(raw.meta_blkaddr.get().into()))?;
    out.field("meta_position", position(raw.meta_blkaddr.get()))?;
    out.field("xattr_blkaddr", number(raw.xattr_blkaddr.get().into()))?;
    out.field("xattr_position", position(raw.xattr_blkaddr.get()))?;
    out.field("uuid", Value::Text(report::uuid(&raw.uuid)))?;
    let length = raw.volume_name.iter().position(|byte| *byte == 0);
    let label = raw.volume_name.get(..length.unwrap_or(16));
    out.field("volume_name", Value::Bytes(label.unwrap_or_default()))?;
    let algorithms = raw.available_compr_algs.get();
    if superblock
        .incompat
        .contains(FeatureIncompat::COMPR_CFGS_OR_BIG_PCLUSTER)
    {
        out.field("available_compr_algs", Value::Bits(algorithms.into(), 4))?;
    } else {
        out.field("lz4_max_distance", number(algorithms.into()))?;
    }
    out.field("extra_devices", number(raw.extra_devices.get().into()))?;
    out.field("devt_slotoff", number(raw.devt_slotoff.get().into()))?;
    out.field(
        "device_table_position",
        Value::Position(superblock.device_table.0),
    )?;
    out.field("dirblkbits", number(raw.dirblkbits.into()))?;
    out.field("xattr_prefix_count", number(raw.xattr_prefix_count.into()))?;
    out.field(
        "xattr_prefix_start",
        number(raw.xattr_prefix_start.get().into()),
    )?;
    out.field(
        "xattr_prefix_position",
        Value::Position(superblock.xattr_prefix_start.0),
    )?;
    out.field("packed_nid", number(raw.packed_nid.get()))?;
    out.field(
        "metabox_nid",
        Value::maybe(
            record
                .extension
                .map(|extension| extension.metabox_nid.get()),
        ),
    )?;
    out.field(
        "xattr_filter_reserved",
        number(raw.xattr_filter_reserved.into()),
    )?;
    out.field(
        "ishare_xattr_prefix_id",
        number(raw.ishare_xattr_prefix_id.into()),
    )?;
    out.field("reserved", Value::Bits(raw.reserved.get().into(), 4))?;
    out.field("reserved2", Value::Bits(raw.reserved2.get(), 16))?;
    out.end()?;
    Ok(())
}

/// Feature bits as stored, then what a kernel needs for them and for all else in the superblock.
fn features(image: &Image, out: &mut Out) -> anyhow::Result<()> {
    let superblock = image.superblock();
    let since = |version: Option<erofs_format::kernel::KernelVersion>| {
        version.map_or(Value::Nothing, Value::text)
    };
    let columns = [
        left("set", 8),
        left("bit", 10),
        left("since", 5),
        left("name", 0),
    ];
    out.table("features", &columns)?;
    for (name, bit) in superblock.compat.iter_names() {
        out.row(&[
            Value::text("compat"),
            Value::Bits(bit.bits().into(), 8),
            since(used_since(bit)),
            Value::Text(name.to_lowercase()),
        ])?;
    }
    for (name, bit) in superblock.incompat.iter_names() {
        let requirement = Requirement::from_features(bit).first().copied();
        out.row(&[
            Value::text("incompat"),
            Value::Bits(bit.bits().into(), 8),
            since(requirement.map(Requirement::since)),
            Value::Text(name.to_lowercase()),
        ])?;
    }
    out.end_list()?;

    // The commonest pages; block sizes below a page need newer kernels.
    let page = BlockBits::B4096;
    let requirements = Requirements::from_superblock(superblock);
    out.table("needs", &[left("since", 5), left("what", 0)])?;
    for ability in requirements.abilities(page) {
        out.row(&[since(ability.since(page)), Value::text(ability)])?;
    }
    out.end_list()?;
    let oldest = requirements.oldest_kernel(page);
    out.field("oldest_kernel", since(oldest.map(|(version, _)| version)))?;
    Ok(())
}

fn algorithms(image: &Image, out: &mut Out) -> anyhow::Result<()> {
    let configs = image.algorithm_configs();
    let columns = [left("algorithm", 9), left("settings", 0)];
    out.table("algorithms", &columns)?;
    for algorithm in Algorithm::ALL {
        let settings = match algorithm {
            Algorithm::Lz4 => configs.lz4.map(|lz4| {
                vec![
                    format!("max_distance={}", lz4.max_distance),
                    format!("max_pcluster_blocks={}", lz4.max_pcluster_blocks),
                ]
            }),
            Algorithm::Lzma => configs
                .lzma
                .map(|lzma| vec![format!("dictionary_size={}", lzma.dictionary_size)]),
            Algorithm::Deflate => configs
                .deflate
                .map(|deflate| vec![format!("window_bits={}", deflate.window_bits)]),
            Algorithm::Zstd => configs
                .zstd
                .map(|zstd| vec![format!("window_bits={}", zstd.window_bits)]),
        };
        if let Some(settings) = settings {
            out.row(&[Value::text(algorithm.name()), Value::Words(settings)])?;
        }
    }
    out.end_list()?;
    Ok(())
}

fn devices(image: &Image, out: &mut Out) -> anyhow::Result<()> {
    let block = image.superblock().block_bits.bytes();
    let columns = [
        right("device", 6),
        right("blocks", 12),
        right("unified_block", 13),
        left("unified_position", 30),
        right("source_size", 14),
        left("tag", 0),
    ];
    out.table("devices", &columns)?;
    for (index, slot) in image.device_slots().iter().enumerate() {
        let id = DeviceId::from_slot(index).unwrap_or_default();
        out.row(&[
            Value::Number(id.0.into()),
            Value::Number(slot.blocks),
            Value::Number(slot.unified_start.0),
            Value::Position(slot.unified_start.0.saturating_mul(block)),
            Value::Number(image.device_size(id)),
            Value::Bytes(slot.tag_bytes()),
        ])?;
    }
    out.end_list()?;
    Ok(())
}

fn xattr_prefixes(image: &Image, out: &mut Out) -> anyhow::Result<()> {
    let columns = [right("prefix", 6), right("base", 4), left("text", 0)];
    out.table("xattr_prefixes", &columns)?;
    for (index, prefix) in image.long_xattr_prefixes().iter().enumerate() {
        let base = Prefix::from_value(prefix.base).map_or(&b"?"[..], Prefix::text);
        out.row(&[
            Value::Number(index as u64),
            Value::Number(prefix.base.into()),
            Value::Bytes(&[base, &prefix.infix].concat()),
        ])?;
    }
    out.end_list()?;
    Ok(())
}
