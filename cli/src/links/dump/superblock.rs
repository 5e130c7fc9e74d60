//! `dump.erofs -s`.

use crate::report;
use erofs_format::compression::Algorithm;
use erofs_format::feature::{FeatureCompat, FeatureIncompat};
use erofs_format::inode::Timestamp;
use erofs_format::kernel::Requirement;
use erofs_format::superblock::MAGIC;
use erofs_mount::Requirements;
use erofs_reader::Image;
use std::io::Write;

/// Names of compatible features, as scripts know them.
const COMPAT: [(FeatureCompat, &str); 6] = [
    (FeatureCompat::SB_CHKSUM, "sb_csum"),
    (FeatureCompat::MTIME, "mtime"),
    (FeatureCompat::XATTR_FILTER, "xattr_filter"),
    (FeatureCompat::SHARED_EA_IN_METABOX, "shared_ea_in_metabox"),
    (FeatureCompat::PLAIN_XATTR_PFX, "plain_xattr_pfx"),
    (FeatureCompat::ISHARE_XATTRS, "ishare_xattrs"),
];

/// Names of incompatible features; two features may share a bit, and the device table is listed alone.
const INCOMPAT: [(FeatureIncompat, &str); 11] = [
    (FeatureIncompat::ZERO_PADDING, "lz4_0padding"),
    (FeatureIncompat::COMPR_CFGS_OR_BIG_PCLUSTER, "compr_cfgs"),
    (FeatureIncompat::COMPR_CFGS_OR_BIG_PCLUSTER, "big_pcluster"),
    (FeatureIncompat::CHUNKED_FILE, "chunked_file"),
    (FeatureIncompat::DEVICE_TABLE_OR_COMPR_HEAD2, "device_table"),
    (FeatureIncompat::ZTAILPACKING, "ztailpacking"),
    (FeatureIncompat::FRAGMENTS_OR_DEDUPE, "fragments"),
    (FeatureIncompat::FRAGMENTS_OR_DEDUPE, "dedupe"),
    (FeatureIncompat::XATTR_PREFIXES, "xattr_prefixes"),
    (FeatureIncompat::BIT48, "48bit"),
    (FeatureIncompat::METABOX, "metabox"),
];

pub(super) fn show(image: &Image, out: &mut impl Write) -> anyhow::Result<()> {
    let superblock = image.superblock();
    let mut line = |name: &str, value: &dyn std::fmt::Display| {
        writeln!(out, "{:<45} {value}", format!("{name}:"))
    };
    line("Filesystem magic number", &format_args!("0x{MAGIC:04X}"))?;
    line("Filesystem blocksize", &superblock.block_bits.bytes())?;
    let blocks = image
        .device_slots()
        .iter()
        .fold(superblock.blocks, |sum, slot| {
            sum.saturating_add(slot.blocks)
        });
    line("Filesystem blocks", &blocks)?;
    line(
        "Filesystem inode metadata start block",
        &superblock.meta_block,
    )?;
    line(
        "Filesystem shared xattr metadata start block",
        &superblock.xattr_block,
    )?;
    line("Filesystem root nid", &superblock.root.0)?;
    if let Some(packed) = superblock.packed {
        line("Filesystem packed nid", &packed.0)?;
    }
    if let Some(metabox) = superblock.metabox {
        line("Filesystem metabox nid", &metabox.0)?;
    }
    if superblock
        .incompat
        .contains(FeatureIncompat::COMPR_CFGS_OR_BIG_PCLUSTER)
    {
        let used = |algorithm: &Algorithm| superblock.algorithms() & algorithm.bit() != 0;
        let names: Vec<_> = Algorithm::ALL
            .into_iter()
            .filter(used)
            .map(Algorithm::name)
            .collect();
        line("Filesystem compr_algs", &names.join(", "))?;
    } else {
        line(
            "Filesystem lz4_max_distance",
            &superblock.algorithms_or_lz4_window,
        )?;
    }
    line("Filesystem sb_size", &superblock.size())?;
    line("Filesystem inode count", &superblock.inodes)?;
    let seconds = superblock
        .epoch
        .saturating_add(superblock.build_time.into());
    line(
        "Filesystem created",
        &crate::listing::CTime(Timestamp {
            seconds,
            nanoseconds: 0,
        }),
    )?;
    let words = |names: Vec<&str>| {
        names
            .iter()
            .map(|name| format!("{name} "))
            .collect::<String>()
    };
    let compat = COMPAT
        .iter()
        .filter(|(bit, _)| superblock.compat.contains(*bit))
        .map(|(_, name)| *name);
    line("Filesystem compatible features", &words(compat.collect()))?;
    let incompat = INCOMPAT
        .iter()
        .filter(|(bit, _)| superblock.incompat.contains(*bit))
        .map(|(_, name)| *name);
    line(
        "Filesystem incompatible features",
        &words(incompat.collect()),
    )?;
    line("Filesystem UUID", &report::uuid(&superblock.uuid))?;
    let requirements = Requirements::from_superblock(superblock);
    let newest = requirements
        .features
        .iter()
        .filter(|requirement| **requirement != Requirement::LongLabel)
        .map(|requirement| requirement.since())
        .max();
    if let Some(version) = newest {
        line("Required upstream Linux kernel version", &version)?;
    }
    Ok(())
}
