//! The rules as data: a stable id, how much a breach matters, one sentence each.
//!
//! They follow the list of what an image must obey in the format reference (§21) and what a reader must not trust (§23),
//! which describe `fs/erofs` of Linux 5.10 to 7.3.

/// How much it matters that a rule is broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// The kernel refuses the image, or answers an error for the file, directory or attribute.
    Rejects,
    /// The kernel goes on, but what it shows is wrong, or differs between kernel versions.
    Misreads,
    /// The kernel reads it as meant; no known tool writes it, or not every machine reads it.
    Unusual,
}

impl Severity {
    /// All of them, the worst first.
    pub const ALL: [Self; 3] = [Self::Rejects, Self::Misreads, Self::Unusual];

    /// Stable name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Rejects => "rejects",
            Self::Misreads => "misreads",
            Self::Unusual => "unusual",
        }
    }
}

macro_rules! rules {
    ($($name:ident $id:literal $severity:ident $sentence:literal)*) => {
        /// A rule that [`check`](super::check()) knows.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Rule {
            $(#[doc = $sentence] $name,)*
        }

        impl Rule {
            /// All rules, in the order of the documentation.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// Stable id, for scripts.
            pub const fn id(self) -> &'static str {
                match self { $(Self::$name => $id,)* }
            }

            /// What a breach means.
            pub const fn severity(self) -> Severity {
                match self { $(Self::$name => Severity::$severity,)* }
            }

            /// The rule in one sentence.
            pub const fn sentence(self) -> &'static str {
                match self { $(Self::$name => $sentence,)* }
            }
        }
    };
}

rules! {
    SuperblockTruncated "sb-truncated" Rejects "The image holds a whole superblock at byte 1024."
    SuperblockMagic "sb-magic" Rejects "The superblock begins with the magic number 0xe0f5e1e2."
    SuperblockBlockSize "sb-block-size" Rejects "Blocks have 512 bytes to 64 KiB."
    SuperblockPageSize "sb-page-size" Unusual "Blocks have at most 4 KiB: a kernel with smaller pages than blocks cannot mount the image."
    SuperblockDirectoryBlocks "sb-dirblkbits" Rejects "Directory blocks are as large as blocks."
    SuperblockFeatures "sb-features" Rejects "There are no incompatible features but those that Linux 7.3 knows."
    SuperblockChecksum "sb-checksum" Rejects "The superblock's checksum is right."
    SuperblockSize "sb-size" Rejects "Superblock and extension slots fit the first 4 KiB of the image."
    SuperblockMetabox "sb-metabox" Rejects "An image with a metabox names its inode in an extension slot, and that inode lies outside of the metabox."
    SuperblockPacked "sb-packed" Rejects "The packed inode lies outside of the metabox."
    SuperblockSharePrefix "sb-share-prefix" Rejects "The prefix of inode fingerprints is one of the image's long prefixes."
    SuperblockLabel "sb-label" Unusual "The label ends with a NUL: Linux before 6.15 refuses one of 16 bytes."
    SuperblockReserved "sb-reserved" Unusual "Reserved bytes of the superblock are zero."
    SuperblockNanoseconds "sb-nanoseconds" Misreads "The common nanoseconds of compact inodes are below 1,000,000,000."
    SuperblockBlocks "sb-blocks" Unusual "The image has as many blocks as the superblock says."
    SuperblockInodes "sb-inodes" Unusual "The superblock counts the inodes that can be reached, for statfs(2); images that grew may count more."
    AlgorithmConfig "algorithm-config" Rejects "Every algorithm of the superblock has a configuration, long enough and with legal values."
    AlgorithmBlocks "algorithm-blocks" Rejects "LZ4 pclusters have at most 256 blocks: Linux 6.16 and later refuse images with more of smaller blocks, which 6.12 reads."
    AlgorithmUnused "algorithm-unused" Unusual "Some file uses each algorithm of the superblock: a kernel without one refuses the whole image."
    FeatureMissing "feature-missing" Unusual "A structure is announced by its feature bit, so that older kernels refuse what they would misread."
    DeviceTable "device-table" Rejects "The table of extra devices lies inside of the image."
    DeviceTag "device-tag" Unusual "Every extra device has a tag."
    DeviceOverlap "device-overlap" Misreads "Devices do not overlap in the unified address space."
    DeviceShort "device-short" Rejects "An extra device is as long as its slot says."
    DeviceMissing "device-missing" Unusual "All extra devices are at hand: data on others was not checked."
    PrefixTable "xattr-prefix" Rejects "Long xattr prefixes have 1 to 256 bytes and lie in their container."
    PrefixBase "xattr-prefix-base" Misreads "A long xattr prefix builds on a base prefix that the kernel shows."
    PrefixPlace "xattr-prefix-place" Unusual "Long xattr prefixes lie in the packed inode if there is one: Linux before 6.17 looks only there."
    Root "root" Rejects "The root inode can be read and is a directory."
    PackedInode "packed-inode" Rejects "The packed inode can be read and is a regular file."
    MetaboxInode "metabox-inode" Rejects "The metabox inode can be read and is a regular file."
    InodeOutside "inode-outside" Rejects "An inode lies inside of the image, or of the metabox."
    InodeFormat "inode-format" Rejects "The format field of an inode has no unknown bits."
    InodeLayout "inode-layout" Rejects "The data layout of an inode is one of the five that exist."
    InodeMode "inode-mode" Rejects "The mode of an inode has a valid file type."
    InodeSize "inode-size" Rejects "The size of a file is below 2^63."
    InodeAlgorithm "inode-algorithm" Rejects "Compressed inodes are found only in images that list an algorithm."
    InodeLinks "inode-links" Misreads "An inode counts its names; a directory its subdirectories and two (or 1 for too many)."
    InodeBlocks "inode-blocks" Misreads "A compressed inode counts the blocks of its pclusters, which stat(2) shows."
    InodeNanoseconds "inode-nanoseconds" Misreads "Nanoseconds of an extended inode are below 1,000,000,000."
    InodeTime "inode-time" Misreads "A compact inode has a time of its own only in 48-bit images: Linux before 6.15 ignores it."
    InodeZero "inode-zero" Unusual "No file has inode number 0, which user space takes for an unused directory entry."
    InodeReserved "inode-reserved" Unusual "Reserved bytes of inodes are zero."
    InodeSpecialSize "inode-special-size" Unusual "Device nodes, named pipes and sockets have size 0."
    SymlinkSize "symlink-size" Rejects "The target of a symbolic link has 1 to 4095 bytes."
    SymlinkNul "symlink-nul" Rejects "The target of a symbolic link has no NUL."
    DirectoryBlock "dir-block" Rejects "The first name offset of a directory block is a multiple of 12 inside of the block."
    DirectoryName "dir-name" Rejects "A name lies inside of its directory block and has 1 to 255 bytes."
    DirectoryNameByte "dir-name-byte" Rejects "Names contain neither NUL nor slash."
    DirectoryOrder "dir-order" Misreads "Names of a directory ascend by bytes over all its blocks: others are listed, but not found."
    DirectoryDuplicate "dir-duplicate" Misreads "No name occurs twice in a directory."
    DirectoryDot "dir-dot" Misreads "A directory has an entry \".\" that leads to itself, unless its inode says that it is omitted."
    DirectoryParent "dir-parent" Misreads "A directory has an entry \"..\" that leads to its parent, in the root to itself."
    DirectoryType "dir-type" Misreads "The file type of a directory entry is that of its inode, or unknown."
    DirectoryPadding "dir-padding" Unusual "Behind the last name of a directory block are zeros."
    DirectoryReserved "dir-reserved" Unusual "Reserved bytes of directory entries are zero."
    DirectoryCycle "dir-cycle" Misreads "No directory contains itself."
    DirectoryAlias "dir-alias" Misreads "A directory has one name."
    DirectoryDepth "dir-depth" Misreads "Directories are nested at most 4096 deep: what is below was not checked."
    XattrBody "xattr-body" Rejects "A body of attributes holds something, and has room for its shared ids."
    XattrEntry "xattr-entry" Rejects "Attributes lie inside of their body, shared ones inside of the image, and fill the body exactly."
    XattrFilter "xattr-filter" Misreads "The name filter lets every attribute of its inode pass: others are listed, but not found."
    XattrFilterUnused "xattr-filter-unused" Unusual "The name filter is zero in images without that feature."
    XattrIndex "xattr-index" Misreads "The prefix of an attribute exists: the kernel shows no others."
    XattrHidden "xattr-hidden" Unusual "Attributes are of a namespace that the kernel shows."
    XattrDuplicate "xattr-duplicate" Misreads "An inode has one attribute of a name."
    XattrReserved "xattr-reserved" Unusual "Reserved bytes of xattr bodies are zero."
    XattrFingerprint "xattr-fingerprint" Misreads "An inode fingerprint has 1 byte to a block."
    DataOutside "data-outside" Rejects "Data and metadata lie inside of their device."
    DataCut "data-cut" Rejects "The last block of a file is not cut off by the end of its device: file-backed mounts answer EIO."
    DataDevices "data-devices" Rejects "A pcluster lies on one device."
    FlatStart "flat-start" Rejects "A flat inode that needs blocks has a first block."
    FlatHole "flat-hole" Misreads "Flat inodes are holes only in 48-bit images: Linux before 6.15 reads some block."
    InlineCrosses "inline-crosses" Rejects "Inline data does not cross a block boundary."
    InlineAligned "inline-aligned" Unusual "Inline data is less than a block."
    InlineNextBlock "inline-next-block" Unusual "Inline data begins in the block in which its inode ends."
    ChunkFormat "chunk-format" Rejects "The chunk format has no unknown bits."
    ChunkDevice "chunk-device" Rejects "The device of a chunk has a slot."
    ChunkDeviceAlias "chunk-device-alias" Misreads "The device id of a chunk has no bits that the kernel masks off, which leads to another device."
    ChunkHigh "chunk-high" Misreads "High address bits of chunks are zero unless the chunk format is 48-bit."
    ChunkReserved "chunk-reserved" Unusual "Reserved bits beside the chunk format are zero."
    MapHeader "map-header" Rejects "The map header of a compressed file names known algorithms, allowed lclusters and big pclusters."
    MapAdvise "map-advise" Unusual "The map header has no unknown advise bits."
    AlgorithmListed "algorithm-listed" Rejects "Files use only algorithms that the superblock lists."
    IndexRecord "index-record" Rejects "Records of an lcluster index can be decoded."
    IndexOffset "index-offset" Rejects "An extent begins inside of its lcluster, the first one at byte 0."
    IndexLookBack "index-look-back" Rejects "The distance back of an lcluster leads to the begin of its extent."
    IndexDistance "index-distance" Misreads "Distances of lclusters do not lead beyond their extent, back or ahead."
    IndexSize "index-size" Rejects "A big pcluster has its size in the first lcluster behind its head, where one follows; other files have no sizes."
    IndexSizePlace "index-size-place" Misreads "In files with big pclusters, sizes stand there only, and only behind heads that may have several blocks: the kernel ignores others, or takes them where reading begins there."
    IndexHole "index-hole" Misreads "An lcluster index has no holes: Linux before 7.2 reads some block."
    ExtentRecord "extent-record" Rejects "Encoded extents have a known format and at most 1 MiB."
    ExtentOrder "extent-order" Misreads "The extents of a file ascend from byte 0 without gaps, and begin inside of the file."
    ExtentSize "extent-size" Rejects "An extent has 1 byte to 12 MiB."
    ExtentExpanded "extent-expanded" Rejects "Data is not longer encoded than decoded, but at the end of a file (since Linux 7.0)."
    PclusterSize "pcluster-size" Rejects "A pcluster has at most 1 MiB."
    PclusterDeclared "pcluster-declared" Misreads "No LZ4 pcluster is larger than the algorithm's configuration says."
    PlainSize "plain-size" Rejects "Plain data fits its pcluster."
    FragmentPacked "fragment-packed" Rejects "An image with fragments has a packed inode."
    FragmentOutside "fragment-outside" Rejects "A fragment lies inside of the packed inode."
    FragmentRecursion "fragment-recursion" Rejects "The packed inode has no fragments itself."
    OverlapMetadata "overlap-metadata" Misreads "No two pieces of metadata share bytes."
    OverlapData "overlap-data" Misreads "Data and metadata do not share bytes."
    PclusterShared "pcluster-shared" Misreads "All files that share a pcluster agree on its size and algorithm."
    PclusterOverlap "pcluster-overlap" Misreads "Pclusters do not overlap with each other, nor with uncompressed data."
    DataEncoded "data-encoded" Rejects "Encoded data can be decoded."
    DataPadding "data-padding" Rejects "Less than a block of zeros stands in front of encoded data."
    DataLength "data-length" Rejects "Encoded data decodes to exactly its extent, or to more if marked as a partial reference."
    DataLonger "data-longer" Unusual "Encoded data ends with its extent also where the kernel does not ask for that."
    DataTail "data-tail" Misreads "Behind the end of a file its last block is zero, as mmap(2) shows it."
    Io "io" Rejects "The image and its devices can be read."
    Limit "limit" Misreads "Metadata is not so entangled that looking at all of it takes longer than its size allows: the rest was not checked."
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn ids_are_unique_and_plain() {
        let ids: BTreeSet<_> = Rule::ALL.iter().map(|rule| rule.id()).collect();
        assert_eq!(ids.len(), Rule::ALL.len());
        for rule in Rule::ALL {
            let plain = |c: char| c.is_ascii_lowercase() || c == '-';
            assert!(rule.id().chars().all(plain), "{}", rule.id());
            assert!(rule.sentence().ends_with('.'), "{}", rule.id());
        }
    }

    /// The page for users tells every rule as it is here.
    #[test]
    fn the_documentation_lists_every_rule() {
        let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/check.md");
        let page = std::fs::read_to_string(page).unwrap();
        let rows: Vec<String> = Rule::ALL
            .iter()
            .map(|rule| {
                let severity = rule.severity().name();
                format!("| `{}` | {severity} | {} |", rule.id(), rule.sentence())
            })
            .collect();
        let documented: Vec<_> = page
            .lines()
            .filter(|line| {
                Severity::ALL
                    .iter()
                    .any(|severity| line.contains(&format!("` | {} | ", severity.name())))
            })
            .collect();
        assert_eq!(
            documented,
            rows,
            "the table should be:\n{}",
            rows.join("\n")
        );
    }
}
