//! Fragments: tails of files and whole small files, which are compressed together as one file, the *packed inode*.
//!
//! They wait until all data has been read. Then those with similar contents are put next to each other, so that they are
//! compressed as one, and workers read them in that order. What is equal to an earlier fragment, or to the end of
//! another one, is not stored again: found by hashes and proved by comparing the bytes.
//!
//! An image that goes on from another one has a packed inode that does so too: what is in it already keeps its place.

use super::gear;
use super::pipeline::{ContentReader, FileContent};
use super::spool::Spool;
use crate::source::StoreError;
use std::collections::HashMap;
use std::io;
use std::path::PathBuf;
use xxhash_rust::xxh3::xxh3_64;

/// Which fragments are looked for among the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum FragmentDedupe {
    /// None.
    Off,
    /// Those that are the same as a whole.
    Inode,
    /// Those that are the same as the end of another one, too.
    #[default]
    Full,
}

/// What becomes a fragment, and how fragments are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Packing {
    /// Whole files up to the length of a segment, not only small ones.
    pub whole_files: bool,
    /// Largest pcluster of the packed inode in bytes, when it differs from that of other files.
    pub max_pcluster: Option<usize>,
    /// Which fragments are looked for among the others.
    pub dedupe: FragmentDedupe,
}

/// Where a file's fragment is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FragmentRef {
    number: u32,
    /// Bytes of the fragment in front of those that the file uses.
    skip: u32,
}

/// A fragment with what is needed to find its like; workers make it.
#[derive(Debug, PartialEq, Eq)]
pub struct Fragment {
    /// The content.
    pub bytes: Vec<u8>,
    /// Hash of the whole.
    hash: u64,
    /// Hash of the last bytes, where there are as many.
    end: Option<u64>,
    /// What similar contents share.
    sketch: Option<u64>,
    /// What kind of file it belongs to.
    kind: u64,
}

impl Fragment {
    /// Of the file at `path`.
    pub fn new(path: &[u8], bytes: Vec<u8>) -> Self {
        /// Shorter ends are equal too often by chance.
        const END: usize = 64;
        let end = bytes.len().checked_sub(END).and_then(|at| bytes.get(at..));
        Self {
            hash: xxh3_64(&bytes),
            end: end.map(xxh3_64),
            sketch: gear::sketch(&bytes),
            kind: kind(path),
            bytes,
        }
    }
}

/// The first eight letters of a file name's extension, as a number that sorts like them. Parts without letters are no
/// extension but a version, as in `libc.so.6`.
fn kind(path: &[u8]) -> u64 {
    let name = path.rsplit(|byte| *byte == b'/').next().unwrap_or(path);
    let mut parts = name.split(|byte| *byte == b'.').skip(1).collect::<Vec<_>>();
    while let Some(part) = parts.pop() {
        if part.iter().any(u8::is_ascii_alphabetic) {
            let mut letters = [0; 8];
            for (letter, byte) in letters.iter_mut().zip(part) {
                *letter = byte.to_ascii_lowercase();
            }
            return u64::from_be_bytes(letters);
        }
    }
    0
}

/// Where the content of a fragment is.
#[derive(Debug, Clone, Copy)]
enum Place {
    /// In the spool.
    Spool(u64),
    /// At the end of a fragment that came later.
    EndOf(u32),
    /// In the packed inode that is gone on from, at this byte.
    Packed(u64),
}

#[derive(Debug)]
struct Kept {
    place: Place,
    kind: u64,
    length: u32,
    /// The first fragment that is similar.
    leader: u32,
}

/// All fragments of an image, in the order in which they came.
#[derive(Debug, Default)]
pub struct Fragments {
    spool: Spool,
    dedupe: FragmentDedupe,
    /// Positions and lengths of pieces of the packed inode that is gone on from, which are its end and are stored again.
    carried: Vec<(u64, u64)>,
    kept: Vec<Kept>,
    by_hash: HashMap<u64, u32>,
    by_end: HashMap<u64, u32>,
    by_sketch: HashMap<u64, u32>,
    /// For comparisons.
    other: Vec<u8>,
}

impl Fragments {
    /// Keeps up to `limit` bytes in memory; more goes to a nameless file in `folder`.
    pub fn new(dedupe: FragmentDedupe, limit: usize, folder: PathBuf) -> Self {
        Self {
            spool: Spool::new(limit, folder),
            dedupe,
            carried: Vec::new(),
            kept: Vec::new(),
            by_hash: HashMap::new(),
            by_end: HashMap::new(),
            by_sketch: HashMap::new(),
            other: Vec::new(),
        }
    }

    /// Whether there are such that are to be stored.
    pub fn are_waiting(&self) -> bool {
        let is_waiting = |kept: &Kept| matches!(kept.place, Place::Spool(_));
        self.kept.iter().any(is_waiting)
    }

    /// Takes what is at byte `offset` of the packed inode that is gone on from; `None` when there are too many.
    pub fn keep(&mut self, offset: u64) -> Option<FragmentRef> {
        let number = u32::try_from(self.kept.len()).ok()?;
        self.kept.push(Kept {
            place: Place::Packed(offset),
            kind: 0,
            length: 0,
            leader: number,
        });
        Some(FragmentRef { number, skip: 0 })
    }

    /// Takes a piece of the packed inode that is gone on from, to be stored again in front of all fragments. Pieces come in
    /// order.
    ///
    /// # Errors
    /// When the temporary file fails.
    pub fn carry(&mut self, piece: &[u8]) -> io::Result<()> {
        let position = self.spool.push(piece)?;
        self.carried.push((position, piece.len() as u64));
        Ok(())
    }

    /// Keeps a fragment. Also tells whether the same one was there before.
    ///
    /// # Errors
    /// When the temporary file fails.
    pub fn push(&mut self, fragment: &Fragment) -> io::Result<(FragmentRef, bool)> {
        if let Some(known) = self.find(fragment)? {
            let same = self.length(known.number) == length(&fragment.bytes);
            return Ok((known, same));
        }
        let number = u32::try_from(self.kept.len()).map_err(io::Error::other)?;
        let position = self.spool.push(&fragment.bytes)?;
        let leader = match fragment.sketch {
            Some(sketch) => *self.by_sketch.entry(sketch).or_insert(number),
            None => number,
        };
        self.kept.push(Kept {
            place: Place::Spool(position),
            kind: fragment.kind,
            length: length(&fragment.bytes),
            leader,
        });
        if self.dedupe != FragmentDedupe::Off {
            self.by_hash.entry(fragment.hash).or_insert(number);
        }
        if self.dedupe == FragmentDedupe::Full
            && let Some(end) = fragment.end
        {
            let before = self.by_end.insert(end, number);
            if let Some(before) = before {
                self.replace_end(before, number, fragment)?;
            }
        }
        Ok((FragmentRef { number, skip: 0 }, false))
    }

    /// Looks for the content of `fragment` among what is there.
    fn find(&mut self, fragment: &Fragment) -> io::Result<Option<FragmentRef>> {
        let wanted = length(&fragment.bytes);
        let whole = self.by_hash.get(&fragment.hash).copied();
        if let Some(number) = whole
            && self.length(number) == wanted
            && self.ends_with(number, &fragment.bytes)?
        {
            return Ok(Some(FragmentRef { number, skip: 0 }));
        }
        let longer = fragment.end.and_then(|end| self.by_end.get(&end).copied());
        if let Some(number) = longer
            && let Some(skip) = self.length(number).checked_sub(wanted)
            && self.ends_with(number, &fragment.bytes)?
        {
            return Ok(Some(FragmentRef { number, skip }));
        }
        Ok(None)
    }

    /// When `fragment`, which is kept under `number`, ends with all of the one before, that one needs no room of its own.
    /// When it does not, the longer one stays the one to be found by its end.
    fn replace_end(&mut self, before: u32, number: u32, fragment: &Fragment) -> io::Result<()> {
        let shorter = self.length(before) as usize;
        let end = fragment
            .bytes
            .len()
            .checked_sub(shorter)
            .and_then(|at| fragment.bytes.get(at..));
        let replaced = match end {
            Some(end) => self.ends_with(before, end)?,
            None => {
                if let Some(key) = fragment.end {
                    self.by_end.insert(key, before);
                }
                false
            }
        };
        if replaced && let Some(kept) = self.kept.get_mut(before as usize) {
            kept.place = Place::EndOf(number);
        }
        Ok(())
    }

    fn length(&self, number: u32) -> u32 {
        self.kept.get(number as usize).map_or(0, |kept| kept.length)
    }

    /// Whether a fragment that is at least as long as `bytes` ends with them.
    fn ends_with(&mut self, number: u32, bytes: &[u8]) -> io::Result<bool> {
        let mut at = number;
        while let Some(Kept { place, length, .. }) = self.kept.get(at as usize) {
            match place {
                Place::EndOf(later) => at = *later,
                // Of these the content is not known, so nobody looks for it.
                Place::Packed(_) => return Ok(false),
                Place::Spool(position) => {
                    let skip = u64::from(*length).saturating_sub(bytes.len() as u64);
                    self.other.clear();
                    self.spool
                        .read(position + skip, bytes.len(), &mut self.other)?;
                    return Ok(self.other == bytes);
                }
            }
        }
        Ok(false)
    }

    /// Decides the order: by kind, then by similarity, then as they came. A fragment that is similar to an earlier one
    /// follows it. The first byte, of what is carried where anything is, comes to byte `start` of the packed inode.
    pub fn arrange(self, start: u64) -> PackedFile {
        let Self {
            spool,
            carried,
            kept,
            ..
        } = self;
        let mut order: Vec<u32> = (0u32..)
            .zip(&kept)
            .filter(|(_, kept)| matches!(kept.place, Place::Spool(_)))
            .map(|(number, _)| number)
            .collect();
        let kind = |number: u32| kept.get(number as usize).map_or(0, |kept| kept.kind);
        order.sort_unstable_by_key(|number| {
            let leader = kept
                .get(*number as usize)
                .map_or(*number, |kept| kept.leader);
            (kind(leader), leader, *number)
        });
        let mut offsets = vec![0; kept.len()];
        let mut size = start;
        let mut pieces = Vec::with_capacity(carried.len() + order.len());
        for (position, length) in carried {
            pieces.push(Piece {
                offset: size,
                position,
            });
            size += length;
        }
        for number in order {
            if let Some(Kept {
                place: Place::Spool(position),
                length,
                ..
            }) = kept.get(number as usize)
            {
                offsets[number as usize] = size;
                pieces.push(Piece {
                    offset: size,
                    position: *position,
                });
                size += u64::from(*length);
            }
        }
        // A fragment at the end of a later one: that one has its place when its turn comes from behind.
        for (number, fragment) in kept.iter().enumerate().rev() {
            match fragment.place {
                Place::Spool(_) => {}
                Place::Packed(offset) => offsets[number] = offset,
                Place::EndOf(later) => {
                    if let Some(longer) = kept.get(later as usize) {
                        offsets[number] =
                            offsets[later as usize] + u64::from(longer.length - fragment.length);
                    }
                }
            }
        }
        PackedFile {
            spool,
            pieces,
            size,
            offsets: Offsets(offsets),
        }
    }
}

/// Fragments are pieces of segments, and these are far below 4 GiB.
fn length(bytes: &[u8]) -> u32 {
    u32::try_from(bytes.len()).unwrap_or(u32::MAX)
}

/// A fragment in the packed file.
#[derive(Debug)]
struct Piece {
    offset: u64,
    position: u64,
}

/// Where each fragment is in the packed inode.
#[derive(Debug, Default)]
pub struct Offsets(Vec<u64>);

impl Offsets {
    /// Offset in the packed inode, in bytes.
    pub fn of(&self, fragment: FragmentRef) -> u64 {
        let start = self.0.get(fragment.number as usize).copied().unwrap_or(0);
        start + u64::from(fragment.skip)
    }
}

/// The content of the packed inode, but for the front that stays where it is.
#[derive(Debug)]
pub struct PackedFile {
    spool: Spool,
    /// By ascending offset.
    pieces: Vec<Piece>,
    /// Of the packed inode, in bytes.
    size: u64,
    offsets: Offsets,
}

impl PackedFile {
    /// Size of the packed inode in bytes.
    pub const fn size(&self) -> u64 {
        self.size
    }

    /// Where the fragments are.
    pub const fn offsets(&self) -> &Offsets {
        &self.offsets
    }

    /// Appends what is no fragment of a file.
    ///
    /// # Errors
    /// When the temporary file fails.
    pub fn push(&mut self, bytes: &[u8]) -> io::Result<()> {
        let position = self.spool.push(bytes)?;
        self.pieces.push(Piece {
            offset: self.size,
            position,
        });
        self.size += bytes.len() as u64;
        Ok(())
    }

    /// Where the fragments are. The content is given up.
    pub fn into_offsets(self) -> Offsets {
        self.offsets
    }

    /// Appends the bytes of the packed inode from `offset` on up to `end`.
    ///
    /// # Errors
    /// When the temporary file fails.
    pub fn append(&self, offset: u64, end: u64, out: &mut Vec<u8>) -> io::Result<()> {
        let first = self
            .pieces
            .partition_point(|piece| piece.offset <= offset)
            .saturating_sub(1);
        let pieces = self.pieces.get(first..).unwrap_or_default();
        for (index, piece) in pieces
            .iter()
            .enumerate()
            .take_while(|(_, piece)| piece.offset < end)
        {
            let behind = pieces.get(index + 1).map_or(self.size, |next| next.offset);
            let start = offset.max(piece.offset);
            let length = behind.min(end).saturating_sub(start);
            let length = usize::try_from(length).map_err(io::Error::other)?;
            self.spool
                .read(piece.position + (start - piece.offset), length, out)?;
        }
        Ok(())
    }
}

impl ContentReader for PackedFile {
    fn read(
        &self,
        file: &FileContent,
        offset: u64,
        length: u64,
        out: &mut Vec<u8>,
    ) -> Result<(), StoreError> {
        let start = file.position + offset;
        self.append(start, start + length, out)
            .map_err(|source| StoreError::Read {
                path: file.path.to_vec(),
                source,
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noise(seed: u64, length: usize) -> Vec<u8> {
        let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
        (0..length)
            .map(|_| {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                (state >> 40) as u8
            })
            .collect()
    }

    /// Keeps `contents` and returns the packed file with where each of them is in it.
    fn packed(dedupe: FragmentDedupe, contents: &[(&str, Vec<u8>)]) -> (Vec<u8>, Vec<u64>) {
        let mut fragments = Fragments::new(dedupe, 3000, std::env::temp_dir());
        let refs: Vec<_> = contents
            .iter()
            .map(|(path, bytes)| {
                fragments
                    .push(&Fragment::new(path.as_bytes(), bytes.clone()))
                    .unwrap()
                    .0
            })
            .collect();
        let file = fragments.arrange(0);
        let mut bytes = Vec::new();
        let mut at = 0;
        while at < file.size() {
            let end = file.size().min(at + 777);
            file.append(at, end, &mut bytes).unwrap();
            at = end;
        }
        assert_eq!(bytes.len() as u64, file.size());
        let offsets = file.into_offsets();
        let places: Vec<u64> = refs.iter().map(|fragment| offsets.of(*fragment)).collect();
        for ((path, content), place) in contents.iter().zip(&places) {
            assert_eq!(
                bytes[*place as usize..][..content.len()],
                content[..],
                "{path}"
            );
        }
        (bytes, places)
    }

    #[test]
    fn equal_fragments_and_ends_of_others_are_stored_once() {
        let long = noise(1, 2000);
        let longest = [noise(2, 500), long.clone()].concat();
        let contents = [
            ("a", long[1500..].to_vec()),
            ("b", long.clone()),
            ("c", long[1000..].to_vec()),
            ("d", longest.clone()),
            ("e", long.clone()),
            ("f", noise(3, 100)),
            ("g", [noise(4, 300), long[1990..].to_vec()].concat()),
            ("h", [noise(5, 300), long[1900..].to_vec()].concat()),
        ];
        let total: usize = contents.iter().map(|(_, bytes)| bytes.len()).sum();
        assert_eq!(packed(FragmentDedupe::Off, &contents).0.len(), total);
        let inode = packed(FragmentDedupe::Inode, &contents).0.len();
        assert_eq!(inode, total - 2000);
        let full = packed(FragmentDedupe::Full, &contents).0.len();
        assert_eq!(full, 2500 + 100 + 310 + 400);
    }

    #[test]
    fn similar_fragments_of_a_kind_follow_each_other() {
        let page = noise(1, 5000);
        let mut edited = page.clone();
        edited[2500] ^= 1;
        let contents = [
            ("x/page.html", page),
            ("x/code.c", noise(2, 600)),
            ("x/other.html", noise(3, 600)),
            ("y/page.html.orig", edited),
            ("y/more.C", noise(4, 600)),
            ("lib.so.6", noise(5, 600)),
            ("liba.so", noise(6, 600)),
        ];
        let (_, places) = packed(FragmentDedupe::Full, &contents);
        let mut order: Vec<usize> = (0..contents.len()).collect();
        order.sort_by_key(|index| places[*index]);
        assert_eq!(order, [1, 4, 0, 3, 2, 5, 6]);
    }

    #[test]
    fn extensions_sort_like_their_letters() {
        assert_eq!(kind(b"a.d/libc.so.6"), kind(b"x.SO"));
        assert!(kind(b"README") < kind(b"a.c") && kind(b"a.c") < kind(b"a.cc"));
        assert_eq!(kind(b".c"), kind(b"a.c"));
        assert_eq!(kind(b"dir.c/file"), 0);
    }
}
