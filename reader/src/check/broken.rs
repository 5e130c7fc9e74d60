//! From an error of the reader to the rule that is broken.

use super::finding::{At, Finding};
use super::rule::Rule;
use crate::error::{Error, Rule as Broken};
use erofs_format::Nid;
use erofs_format::inode::InodeError;
use erofs_format::xattr::XattrError;

/// The finding for an error met while reading `nid`, whose path is not known here.
pub(super) fn finding(error: &Error, nid: Nid) -> Finding {
    let (rule, found, at, value) = match error {
        Error::Io { device, offset, .. } => (
            Rule::Io,
            None,
            At::device(*device, offset.0),
            error.to_string(),
        ),
        Error::Corrupt {
            rule,
            nid: found,
            offset,
        } => {
            let (broken, in_file) = classify(rule);
            let found = found.unwrap_or(nid);
            let at = match (in_file, found.in_metabox()) {
                (true, _) => At::File(offset.0),
                (false, true) => At::Metabox(offset.0),
                (false, false) => At::Image(offset.0),
            };
            (broken, Some(found), at, rule.to_string())
        }
        other => (Rule::DataEncoded, None, At::File(0), other.to_string()),
    };
    Finding {
        rule,
        nid: Some(found.unwrap_or(nid)),
        path: None,
        at,
        value,
    }
}

/// The rule, and whether the offset of such an error counts in the file instead of in the image.
fn classify(rule: &Broken) -> (Rule, bool) {
    match rule {
        Broken::BeyondDevice { .. } | Broken::Overflow => (Rule::DataOutside, false),
        Broken::NoSuchDevice { .. } => (Rule::ChunkDevice, true),
        Broken::RootNotADirectory => (Rule::Root, false),
        Broken::NoMetabox | Broken::BeyondMetabox { .. } => (Rule::InodeOutside, false),
        Broken::NoPackedInode => (Rule::FragmentPacked, true),
        Broken::Inode(error) => {
            let rule = match error {
                InodeError::Truncated(_) => Rule::InodeOutside,
                InodeError::Format(_) => Rule::InodeFormat,
                InodeError::Layout(_) => Rule::InodeLayout,
                InodeError::Mode(_) => Rule::InodeMode,
                InodeError::Size(_) => Rule::InodeSize,
            };
            (rule, false)
        }
        Broken::ChunkFormat(_) => (Rule::ChunkFormat, false),
        Broken::NoStartBlock { .. } => (Rule::FlatStart, false),
        Broken::MapGap => (Rule::ExtentOrder, true),
        Broken::InlineCrossesBlock { .. } => (Rule::InlineCrosses, false),
        Broken::Directory(_) => (Rule::DirectoryBlock, true),
        Broken::DirectoryCycle(_) => (Rule::DirectoryCycle, true),
        Broken::DirectoryAlias(_) => (Rule::DirectoryAlias, true),
        Broken::TooDeep { .. } => (Rule::DirectoryDepth, true),
        Broken::SymlinkSize { .. } => (Rule::SymlinkSize, false),
        Broken::SymlinkNul { .. } => (Rule::SymlinkNul, false),
        Broken::Xattr(error) => {
            let rule = match error {
                XattrError::Empty | XattrError::SharedCount { .. } => Rule::XattrBody,
                XattrError::Truncated(_) | XattrError::EntryTooLong { .. } => Rule::XattrEntry,
            };
            (rule, false)
        }
        Broken::XattrPrefix(_) => (Rule::PrefixTable, false),
        Broken::NoAlgorithm => (Rule::InodeAlgorithm, false),
        Broken::AlgorithmNotListed(_) => (Rule::AlgorithmListed, true),
        Broken::MapHeader(_) => (Rule::MapHeader, false),
        Broken::CompactIndex(_) => (Rule::IndexRecord, true),
        Broken::ClusterOffset { .. } => (Rule::IndexOffset, true),
        Broken::UnexpectedPclusterSize { .. } | Broken::NoPclusterSize => (Rule::IndexSize, true),
        Broken::LookBack { .. } => (Rule::IndexLookBack, true),
        Broken::Piece(_) => (Rule::ExtentRecord, true),
        Broken::ExtentSize { .. } => (Rule::ExtentSize, true),
        Broken::PclusterSize { .. } => (Rule::PclusterSize, true),
        Broken::PlainTooLong { .. } => (Rule::PlainSize, true),
        Broken::CrossesDevices { .. } => (Rule::DataDevices, true),
        Broken::OnlyPadding => (Rule::DataPadding, true),
        Broken::BeyondPacked { .. } => (Rule::FragmentOutside, true),
        Broken::PackedInPacked => (Rule::FragmentRecursion, true),
        Broken::Decode(_) => (Rule::DataEncoded, true),
        Broken::LongerThanExtent | Broken::TrailingBytes { .. } => (Rule::DataLength, true),
        Broken::TooManyEntries { .. } | Broken::TooManyExtents { .. } => (Rule::Limit, true),
    }
}
