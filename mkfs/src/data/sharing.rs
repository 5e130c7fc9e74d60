//! Extents that several files share: stretches of content that an earlier file holds too are looked for by chunks whose
//! borders depend on the content alone, and proved by BLAKE3.
//!
//! ```text
//! known    |---- pcluster A ----|---- pcluster B ----|---- pcluster C ----|
//! new           xxxx============================================yyyy
//!                    equal      |<-- B again ------->|<-- C, in part ->|
//! ```
//! An extent begins where its pcluster does, so what lies in front of the first pcluster that begins in the stretch is
//! stored again; of the last one the extent may take a part (`PARTIAL_REF`).

use super::encode::{EncodedSegment, StoredExtent};
use super::gear;
use erofs_format::compression::Algorithm;
use erofs_format::{BlockAddr, BlockBits};
use std::collections::HashMap;

/// Enough of a BLAKE3 digest that nobody makes two contents alike, and the algorithm: an inode has one for all that it
/// refers to, so what another algorithm encoded is of no use.
type ChunkDigest = [u8; 24];

/// A piece of a segment that begins and ends where its content says so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chunk {
    length: u32,
    digest: ChunkDigest,
}

/// Cuts a segment that is encoded with `algorithm` into chunks of 1 to 64 KiB, 4 KiB more than the least on average.
pub fn chunks(mut bytes: &[u8], algorithm: Algorithm) -> Vec<Chunk> {
    let mut chunks = Vec::with_capacity(bytes.len() >> 12);
    while !bytes.is_empty() {
        let (chunk, rest) = bytes.split_at(gear::cut(bytes));
        let mut digest = ChunkDigest::default();
        digest.copy_from_slice(&blake3::hash(chunk).as_bytes()[..24]);
        digest[0] = algorithm.value();
        chunks.push(Chunk {
            length: narrow(chunk.len() as u64),
            digest,
        });
        bytes = rest;
    }
    chunks
}

/// An extent of a segment that was stored.
#[derive(Debug, Clone, Copy)]
struct KnownExtent {
    /// Where it begins in the segment.
    start: u32,
    stored: StoredExtent,
    block: BlockAddr,
}

/// A segment that was stored.
#[derive(Debug)]
struct KnownSegment {
    extents: Box<[KnownExtent]>,
    /// Where its chunks begin, by ascending offset, and which ones they are.
    chunks: Box<[(u32, ChunkNumber)]>,
}

impl KnownSegment {
    /// The chunk that begins at this offset.
    fn chunk_at(&self, offset: u32) -> Option<ChunkNumber> {
        let index = self
            .chunks
            .binary_search_by_key(&offset, |(start, _)| *start);
        Some(self.chunks.get(index.ok()?)?.1)
    }
}

/// A content, in the order in which they came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct ChunkNumber(u32);

/// Where a chunk was seen last: its first place in that segment.
#[derive(Debug, Clone, Copy)]
struct Spot {
    segment: u32,
    offset: u32,
}

/// A stretch of a segment that an earlier segment holds too.
#[derive(Debug, Clone, Copy)]
struct Run {
    start: u32,
    end: u32,
    known: Spot,
}

/// A stretch of a segment that is not stored again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reference {
    /// Where it begins in the segment.
    pub start: usize,
    /// Where it ends.
    pub end: usize,
    /// The extent that takes its place.
    pub extent: StoredExtent,
}

/// Chunks of what was stored, and where their data is.
#[derive(Debug, Default)]
pub struct KnownExtents {
    chunks: HashMap<ChunkDigest, ChunkNumber>,
    /// By number of the chunk.
    spots: Vec<Spot>,
    segments: Vec<KnownSegment>,
    /// Chunks of all segments together.
    remembered: usize,
}

impl KnownExtents {
    /// Chunks that are remembered, about 9 GiB of data in 90 MiB; of more data only what came first.
    const LIMIT: usize = 1_800_000;

    /// Number of segments so far.
    pub fn segments(&self) -> usize {
        self.segments.len()
    }

    /// Forgets all segments from number `first` on.
    pub fn forget(&mut self, first: usize) {
        let Some(forgotten) = self.segments.get(first..) else {
            return;
        };
        let chunks: usize = forgotten.iter().map(|segment| segment.chunks.len()).sum();
        self.remembered -= chunks;
        self.segments.truncate(first);
        let spots = &self.spots;
        self.chunks.retain(|_, number| {
            let spot = spots.get(number.0 as usize);
            spot.is_some_and(|spot| (spot.segment as usize) < first)
        });
    }

    /// Remembers a segment that was stored from block `start` on.
    pub fn remember(
        &mut self,
        chunks: &[Chunk],
        extents: &[StoredExtent],
        start: BlockAddr,
        block_bits: BlockBits,
    ) {
        if self.remembered >= Self::LIMIT {
            // Nothing would ever refer to it.
            return;
        }
        let segment = narrow(self.segments.len() as u64);
        let (mut next, mut offset) = (start, 0u32);
        let known = extents.iter().map(|stored| {
            let block = stored.elsewhere().unwrap_or(next);
            if stored.elsewhere().is_none() {
                next = BlockAddr(next.0 + stored.blocks(block_bits));
            }
            let start = offset;
            offset = offset.saturating_add(stored.length);
            KnownExtent {
                start,
                stored: *stored,
                block,
            }
        });
        let extents = known.collect();
        let mut offset = 0u32;
        let chunks = chunks.iter().map(|chunk| {
            let spot = Spot { segment, offset };
            let next = ChunkNumber(narrow(self.spots.len() as u64));
            let number = *self.chunks.entry(chunk.digest).or_insert(next);
            match self.spots.get_mut(number.0 as usize) {
                // The first of a content that repeats itself, so that the most can follow.
                Some(known) if known.segment == segment => {}
                // The newest segment is the one that what comes next is most alike: another version of the file before.
                Some(known) => *known = spot,
                None => self.spots.push(spot),
            }
            offset = offset.saturating_add(chunk.length);
            (spot.offset, number)
        });
        let chunks: Box<[_]> = chunks.collect();
        self.remembered += chunks.len();
        self.segments.push(KnownSegment { extents, chunks });
    }

    /// What of a segment need not be stored again, by ascending offset. Only its first `end` bytes count.
    pub fn references(
        &self,
        chunks: &[Chunk],
        end: usize,
        block_bits: BlockBits,
    ) -> Vec<Reference> {
        let mut references = Vec::new();
        for run in self.runs(chunks) {
            self.references_in(run, narrow(end as u64), block_bits, &mut references);
        }
        references
    }

    fn runs(&self, chunks: &[Chunk]) -> Vec<Run> {
        let mut runs: Vec<Run> = Vec::new();
        let mut offset = 0u32;
        for chunk in chunks {
            let end = offset.saturating_add(chunk.length);
            if let Some(number) = self.chunks.get(&chunk.digest) {
                match runs.last_mut() {
                    Some(run) if run.end == offset && self.goes_on(run, *number) => run.end = end,
                    _ => runs.extend(self.spots.get(number.0 as usize).map(|known| Run {
                        start: offset,
                        end,
                        known: *known,
                    })),
                }
            }
            offset = end;
        }
        runs
    }

    /// Whether this chunk comes next where the run was found.
    fn goes_on(&self, run: &Run, chunk: ChunkNumber) -> bool {
        let segment = self.segments.get(run.known.segment as usize);
        let offset = run.known.offset.checked_add(run.end - run.start);
        let next = segment.zip(offset);
        next.and_then(|(segment, offset)| segment.chunk_at(offset)) == Some(chunk)
    }

    /// Extents that begin in the run, one after the other.
    fn references_in(&self, run: Run, end: u32, block_bits: BlockBits, out: &mut Vec<Reference>) {
        let Some(known) = self.segments.get(run.known.segment as usize) else {
            return;
        };
        let block = narrow(block_bits.bytes());
        let end = run.end.min(end);
        let known = &known.extents;
        let first = known.partition_point(|extent| extent.start < run.known.offset);
        for extent in known.get(first..).unwrap_or_default() {
            let start = run.start + (extent.start - run.known.offset);
            if start >= end {
                break;
            }
            let length = extent.stored.length.min(end - start);
            // An index says where an extent begins once in a block, and how large it is in the block behind that.
            let least = if extent.stored.is_big() {
                2 * block
            } else {
                block
            };
            // What is stored in front of a reference, and behind it, must itself be long enough.
            let gap = out
                .last()
                .map_or(start, |before| start - narrow(before.end as u64));
            if length < least || gap > 0 && gap < 2 * block {
                continue;
            }
            out.push(Reference {
                start: start as usize,
                end: (start + length) as usize,
                extent: extent.stored.again(length, extent.block),
            });
        }
    }
}

/// A segment with references in the place of what it shares; `None` when that would not be smaller, or the index could
/// not hold it. `encode` encodes what has to be cut anew, `input` is the segment's data, `is_end` says that nothing follows.
///
/// # Errors
/// What `encode` says.
pub fn share<E>(
    segment: &EncodedSegment,
    input: &[u8],
    references: &[Reference],
    is_end: bool,
    block_bits: BlockBits,
    mut encode: impl FnMut(&[u8]) -> Result<EncodedSegment, E>,
) -> Result<Option<EncodedSegment>, E> {
    let pieces = Pieces::new(segment, block_bits);
    let body = segment
        .extents
        .iter()
        .map(|extent| extent.length as usize)
        .sum();
    let mut shared = EncodedSegment::default();
    let mut position = 0;
    // How things were before each reference that was taken.
    let mut taken = Vec::new();
    for reference in references {
        let before = (shared.bytes.len(), shared.extents.len(), position);
        pieces.own(position, reference.start, input, &mut shared, &mut encode)?;
        shared.extents.push(reference.extent);
        if is_indexable(&shared.extents, false, block_bits) {
            taken.push(before);
            position = reference.end;
        } else {
            take_back(&mut shared, before);
        }
    }
    loop {
        let before = (shared.bytes.len(), shared.extents.len(), position);
        pieces.own(position, body, input, &mut shared, &mut encode)?;
        if is_indexable(&shared.extents, is_end, block_bits) {
            break;
        }
        take_back(&mut shared, before);
        let Some(before) = taken.pop() else {
            return Ok(None);
        };
        position = take_back(&mut shared, before);
    }
    let smaller = shared.bytes.len() < segment.bytes.len();
    Ok(smaller.then_some(shared))
}

/// Shortens a segment to what it was, and returns the position of then.
fn take_back(segment: &mut EncodedSegment, before: (usize, usize, usize)) -> usize {
    let (bytes, extents, position) = before;
    segment.bytes.truncate(bytes);
    segment.extents.truncate(extents);
    position
}

/// Whether an index can hold the extents of a segment.
fn is_indexable(extents: &[StoredExtent], is_end: bool, block_bits: BlockBits) -> bool {
    indexable(extents, is_end, block_bits) == extents.len()
}

/// How many of the first extents of a file or segment an index can hold, where others follow them unless `is_end`.
pub fn indexable(extents: &[StoredExtent], is_end: bool, block_bits: BlockBits) -> usize {
    let mut offset = 0;
    let unfit = extents.iter().enumerate().position(|(number, extent)| {
        // Plain data is one extent for each block, of which only the last may be shorter.
        let length = match extent.is_plain() {
            true => block_bits.offset_in_block(extent.length.into()),
            false => extent.length.into(),
        };
        let end = offset + length;
        let records = block_bits.whole_blocks(end);
        offset = block_bits.offset_in_block(end);
        let least = match extent.is_big() {
            true => 2,
            false => u64::from(length > 0),
        };
        records < least && !(is_end && number + 1 == extents.len() && !extent.is_big())
    });
    unfit.unwrap_or(extents.len())
}

/// The extents of a segment as they were encoded, with their places.
struct Pieces<'s> {
    segment: &'s EncodedSegment,
    /// For each extent where its data and its bytes begin; one more than extents.
    starts: Vec<(usize, usize)>,
}

impl<'s> Pieces<'s> {
    fn new(segment: &'s EncodedSegment, block_bits: BlockBits) -> Self {
        let mut starts = vec![(0, 0)];
        let (mut data, mut bytes) = (0, 0);
        for extent in &segment.extents {
            data += extent.length as usize;
            bytes += (extent.blocks(block_bits) << block_bits.bits()) as usize;
            starts.push((data, bytes));
        }
        Self { segment, starts }
    }

    /// Appends the data from `start` to `end`: extents that lie between as they are, the rest encoded anew.
    fn own<E>(
        &self,
        start: usize,
        end: usize,
        input: &[u8],
        out: &mut EncodedSegment,
        encode: &mut impl FnMut(&[u8]) -> Result<EncodedSegment, E>,
    ) -> Result<(), E> {
        let mut anew = |from: usize, to: usize, out: &mut EncodedSegment| {
            if from < to {
                let encoded = encode(input.get(from..to).unwrap_or_default())?;
                out.bytes.extend_from_slice(&encoded.bytes);
                out.extents.extend(encoded.extents);
            }
            Ok(())
        };
        let first = self.starts.partition_point(|(data, _)| *data < start);
        let last = self
            .starts
            .partition_point(|(data, _)| *data <= end)
            .saturating_sub(1);
        let (Some((from, bytes)), Some((to, bytes_end))) = (
            self.starts.get(first),
            self.starts.get(last).filter(|_| first <= last),
        ) else {
            return anew(start, end, out);
        };
        anew(start, *from, out)?;
        out.bytes.extend_from_slice(
            self.segment
                .bytes
                .get(*bytes..*bytes_end)
                .unwrap_or_default(),
        );
        out.extents
            .extend_from_slice(self.segment.extents.get(first..last).unwrap_or_default());
        anew(*to, end, out)
    }
}

fn narrow(value: u64) -> u32 {
    u32::try_from(value).unwrap_or(u32::MAX)
}
