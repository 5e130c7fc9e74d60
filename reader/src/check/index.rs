//! Lcluster indexes and tables of encoded extents, record by record: what a lookup may or may not come across.

use super::Checker;
use super::finding::At;
use super::map::{PIECE, Scan};
use super::rule::Rule;
use super::work::Work;
use crate::inode::Inode;
use erofs_format::compression::encoded_extent::{BASE_ADDRESS_SIZE, ExtentRecord, RecordSize};
use erofs_format::compression::lcluster::{Head, Lcluster, NonHead};
use erofs_format::compression::map_header::{
    Advise, ExtentRecords, ExtentsHeader, IndexHeader, MAP_HEADER_SIZE, MapHeader, RawMapHeader,
    position,
};
use erofs_format::compression::{LclusterType, compact_index, full_index};
use erofs_format::feature::FeatureIncompat;
use erofs_format::inode::DataLayout;
use erofs_format::{ByteOffset, record};

/// Bits of the map header that have a meaning.
const KNOWN_ADVISE: u16 = 0x3F;

impl Checker<'_> {
    /// Looks at the index of a compressed file whose xattrs end at `end`.
    pub(super) fn index(&mut self, inode: &Inode, end: ByteOffset) -> Scan {
        let area = inode.position().0;
        let mut bytes = [0; MAP_HEADER_SIZE as usize];
        let start = position(end).unwrap_or(end);
        let at = At::area(area, start);
        if let Err(error) = self.read(inode, start, &mut bytes) {
            self.broken(inode, &error);
            return Scan::Unreadable;
        }
        let header = match MapHeader::decode(&bytes, inode.layout, self.image.superblock()) {
            Ok(header) => header,
            Err(error) => {
                self.found(inode, Rule::MapHeader, at, || error.to_string());
                return Scan::Unreadable;
            }
        };
        let behind = ByteOffset(start.0.saturating_add(MAP_HEADER_SIZE));
        if let MapHeader::Fragment { .. } = header {
            return Scan::Done(behind);
        }
        if let Ok(raw) = record::read::<RawMapHeader>(&bytes, "map header")
            && raw.advise.get() & !KNOWN_ADVISE != 0
        {
            let value = format!("{:#06x}", raw.advise.get());
            self.found(inode, Rule::MapAdvise, at, || value);
        }
        match header {
            MapHeader::Fragment { .. } => Scan::Done(behind),
            MapHeader::Index(header) => self.lclusters(inode, &header, start),
            MapHeader::Extents(header) => self.encoded_extents(inode, &header, start),
        }
    }

    fn lclusters(&mut self, inode: &Inode, header: &IndexHeader, start: ByteOffset) -> Scan {
        if header.inline_size > 0 {
            self.needs_feature(inode, FeatureIncompat::ZTAILPACKING);
        }
        let bits = header.lcluster_bits;
        let total = (inode.size >> bits) + u64::from(inode.size & ((1 << bits) - 1) != 0);
        let mut lookups = Lookups {
            header: *header,
            total,
            number: 0,
            head: None,
            furthest: 0,
            without_blocks: None,
        };
        if inode.layout == DataLayout::CompressedFull {
            let first = full_index::position(start, 0);
            let end = full_index::position(start, total);
            let (Some(first), Some(end)) = (first, end) else {
                return self.outside(inode, start);
            };
            if !self.is_inside(inode, start, end) {
                return Scan::Unreadable;
            }
            let scan = self.table(inode, first, end, &mut |checker, _, piece| {
                for bytes in piece.chunks_exact(full_index::RECORD_SIZE as usize) {
                    if let Ok(record) = full_index::decode(bytes) {
                        checker.lcluster(inode, &mut lookups, &record);
                    }
                }
            });
            self.last_extent(inode, &lookups);
            return scan;
        }
        let Some(first) = compact_index::position(start) else {
            return self.outside(inode, start);
        };
        let two_byte = header.advise.contains(Advise::COMPACTED_2B);
        let layout = compact_index::Layout::new(first, total, two_byte);
        let end = ByteOffset(first.0.saturating_add(layout.size()));
        if !self.is_inside(inode, start, end) {
            return Scan::Unreadable;
        }
        let scan = self.packs(inode, &layout, first, end, &mut lookups);
        self.last_extent(inode, &lookups);
        scan
    }

    /// The last extent has no blocks when it is a fragment or inlined; otherwise it is a hole.
    fn last_extent(&mut self, inode: &Inode, lookups: &Lookups) {
        let header = &lookups.header;
        let elsewhere = header.advise.contains(Advise::FRAGMENT_PCLUSTER) || header.inline_size > 0;
        if let Some(at) = lookups.without_blocks.filter(|_| !elsewhere) {
            self.found(inode, Rule::IndexHole, at, || "0 blocks".to_owned());
        }
    }

    fn packs(
        &mut self,
        inode: &Inode,
        layout: &compact_index::Layout,
        first: ByteOffset,
        end: ByteOffset,
        lookups: &mut Lookups,
    ) -> Scan {
        if !self.work.charge(lookups.total.saturating_mul(Work::RECORD)) {
            return Scan::BudgetSpent;
        }
        let big = lookups.header.advise.intersects(Advise::BIG_PCLUSTERS);
        let bits = lookups.header.lcluster_bits;
        // Packs do not cross a multiple of their size, so pieces that do not either hold whole packs.
        let mut at = first;
        while at < end {
            let piece_end = (at.0 / PIECE as u64 + 1) * PIECE as u64;
            let piece_end = ByteOffset(piece_end.min(end.0));
            let mut unreadable = None;
            let scan = self.table(inode, at, piece_end, &mut |checker, at, piece| {
                while let Some(place) = layout.position(lookups.number) {
                    let pack = (first.0 + place.offset)
                        .checked_sub(at.0)
                        .and_then(|offset| usize::try_from(offset).ok())
                        .and_then(|offset| piece.get(offset..))
                        .filter(|pack| pack.len() >= place.kind.size());
                    let Some(pack) = pack else {
                        break;
                    };
                    match layout.record(place, pack, bits, big) {
                        Ok(record) => checker.lcluster(inode, lookups, &record),
                        Err(error) => {
                            unreadable = Some(error);
                            break;
                        }
                    }
                }
            });
            if let Some(error) = unreadable {
                let at = At::File(lookups.number << bits);
                self.found(inode, Rule::IndexRecord, at, || error.to_string());
                // The extents before may be readable.
                return Scan::Done(end);
            }
            if !matches!(scan, Scan::Done(_)) {
                return scan;
            }
            at = piece_end;
        }
        Scan::Done(end)
    }

    fn outside(&mut self, inode: &Inode, start: ByteOffset) -> Scan {
        let at = At::area(inode.position().0, start);
        let value = || "the index overflows 64 bits".to_owned();
        self.found(inode, Rule::DataOutside, at, value);
        Scan::Unreadable
    }

    /// Looks at the record of the next lcluster.
    fn lcluster(&mut self, inode: &Inode, lookups: &mut Lookups, record: &Lcluster) {
        let number = lookups.number;
        lookups.number += 1;
        let at = At::File(number << lookups.header.lcluster_bits);
        match record {
            Lcluster::Head(head) => self.head(inode, lookups, number, head),
            Lcluster::NonHead(record) => {
                let Some((head_number, kind)) = lookups.head else {
                    let value = || "the first extent does not begin at byte 0".to_owned();
                    self.found(inode, Rule::IndexOffset, at, value);
                    return;
                };
                let distance = number - head_number;
                let back = u64::from(record.back);
                if back == 0 {
                    self.found(inode, Rule::IndexLookBack, at, || "distance 0".to_owned());
                } else if back > distance {
                    let value = || format!("back {back}, the extent begins {distance} before");
                    self.found(inode, Rule::IndexDistance, at, value);
                }
                let ahead = number.saturating_add(record.ahead.max(1).into());
                lookups.furthest = lookups.furthest.max(ahead);
                self.size_record(inode, lookups, at, kind, distance, record);
            }
        }
    }

    fn head(&mut self, inode: &Inode, lookups: &mut Lookups, number: u64, head: &Head) {
        let at = At::File(number << lookups.header.lcluster_bits);
        let inside = u64::from(head.offset) >> lookups.header.lcluster_bits == 0;
        if !inside || (number == 0 && head.offset != 0) {
            let value = || format!("offset {}", head.offset);
            self.found(inode, Rule::IndexOffset, at, value);
        }
        if lookups.furthest > number {
            let value = || format!("ahead to lcluster {}", lookups.furthest);
            self.found(inode, Rule::IndexDistance, at, value);
        }
        if head.hole {
            self.found(inode, Rule::IndexHole, at, || "hole flag".to_owned());
        }
        if head.kind == LclusterType::Head2 {
            self.needs_feature(inode, FeatureIncompat::DEVICE_TABLE_OR_COMPR_HEAD2);
        }
        // A head at the end of the file only marks it.
        let start = (number << lookups.header.lcluster_bits).saturating_add(head.offset.into());
        if start < inode.size
            && let Some(at) = lookups.without_blocks.take()
        {
            self.found(inode, Rule::IndexHole, at, || "0 blocks".to_owned());
        }
        lookups.head = Some((number, head.kind));
        lookups.furthest = 0;
    }

    /// Sizes of big pclusters.
    fn size_record(
        &mut self,
        inode: &Inode,
        lookups: &mut Lookups,
        at: At,
        kind: LclusterType,
        distance: u64,
        record: &NonHead,
    ) {
        let big = lookups.header.advise.contains(Advise::big_pcluster(kind));
        match record.blocks {
            Some(blocks) if !big || distance != 1 => {
                let value = || format!("{blocks} blocks, {distance} lclusters behind the head");
                let none = !lookups.header.advise.intersects(Advise::BIG_PCLUSTERS);
                let rule = if none {
                    Rule::IndexSize
                } else {
                    Rule::IndexSizePlace
                };
                self.found(inode, rule, at, value);
            }
            Some(0) => lookups.without_blocks = Some(at),
            _ => {}
        }
    }

    fn encoded_extents(
        &mut self,
        inode: &Inode,
        header: &ExtentsHeader,
        start: ByteOffset,
    ) -> Scan {
        self.needs_feature(inode, FeatureIncompat::BIT48);
        let size = header.records.record_size();
        let count = match header.records {
            ExtentRecords::Listed { count } | ExtentRecords::ListedWide { count } => count,
            ExtentRecords::Sequential { extent_bits }
            | ExtentRecords::Scattered { extent_bits } => {
                (inode.size >> extent_bits) + u64::from(inode.size & ((1 << extent_bits) - 1) != 0)
            }
        };
        let base = if size == RecordSize::B4 {
            BASE_ADDRESS_SIZE
        } else {
            0
        };
        let Some(table) = size.table(start) else {
            return self.outside(inode, start);
        };
        let end = count
            .checked_mul(size.bytes())
            .and_then(|length| table.checked_add(length)?.checked_add(base));
        let Some(end) = end else {
            return self.outside(inode, start);
        };
        if !self.is_inside(inode, start, end) {
            return Scan::Unreadable;
        }
        if !matches!(size, RecordSize::B16 | RecordSize::B32) {
            return Scan::Done(end);
        }
        let mut next = 0u64;
        let record_size = usize::try_from(size.bytes()).unwrap_or(PIECE);
        self.table(inode, table, end, &mut |checker, at, piece| {
            for (bytes, at) in piece
                .chunks_exact(record_size)
                .zip((at.0..).step_by(record_size))
            {
                let Ok(record) = ExtentRecord::decode(bytes, size) else {
                    continue;
                };
                let first = at == table.0;
                let ascends = if first {
                    record.start == 0
                } else {
                    record.start >= next
                };
                if !ascends || record.start > inode.size {
                    let at = At::area(inode.position().0, ByteOffset(at));
                    let value = || format!("byte {} of {}", record.start, inode.size);
                    checker.found(inode, Rule::ExtentOrder, at, value);
                }
                next = record.start.saturating_add(1);
            }
        })
    }
}

/// What lookups rely on while an index is read from its first record on.
struct Lookups {
    header: IndexHeader,
    /// Number of lclusters.
    total: u64,
    /// The next lcluster.
    number: u64,
    /// Lcluster and kind of the last head.
    head: Option<(u64, LclusterType)>,
    /// The furthest lcluster to which a distance ahead leads from behind the last head.
    furthest: u64,
    /// Where the extent of the last head says that it has no blocks.
    without_blocks: Option<At>,
}
