//! Sorting more records than fit in memory: full runs are sorted, and beyond a limit written to an unlinked temporary file.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::collections::binary_heap::PeekMut;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

/// Something that is sorted and stored in `SIZE` bytes.
pub(super) trait Record: Ord + Copy {
    /// Bytes of the stored form.
    const SIZE: usize;

    /// Appends the stored form.
    fn encode(&self, out: &mut Vec<u8>);

    /// Reads the stored form, [`Self::SIZE`] bytes.
    fn decode(bytes: &[u8]) -> Self;
}

/// How much a sorter may hold, and where the rest goes.
#[derive(Debug, Clone)]
pub(super) struct Room {
    /// Most bytes of records in memory; without it all stay there.
    pub(super) bytes: Option<usize>,
    /// Folder of the temporary file.
    pub(super) folder: PathBuf,
}

/// Records of a run that stays in memory, if nothing else limits it.
const RUN_RECORDS: usize = 64 << 10;
/// Fewest records of a run, however small the room.
const FEWEST_RECORDS: usize = 1024;
/// Bytes of a run in the file that are read at once, at least and at most.
const READ_AHEAD: (usize, usize) = (4 << 10, 256 << 10);

/// Collects records.
#[derive(Debug)]
pub(super) struct Sorter<T> {
    /// The run that is being filled.
    current: Vec<T>,
    run_records: usize,
    runs: Vec<Run<T>>,
    room: Room,
    file: Option<File>,
    file_size: u64,
}

#[derive(Debug)]
enum Run<T> {
    Memory(Vec<T>),
    File { start: u64, end: u64 },
}

impl<T: Record> Sorter<T> {
    pub(super) fn new(room: &Room) -> Self {
        // One run is filled or read while another is sorted or written.
        let run_records = room
            .bytes
            .map_or(RUN_RECORDS, |bytes| bytes / 2 / size_of::<T>().max(1));
        Self {
            current: Vec::new(),
            run_records: run_records.max(FEWEST_RECORDS),
            runs: Vec::new(),
            room: room.clone(),
            file: None,
            file_size: 0,
        }
    }

    /// Adds a record.
    pub(super) fn push(&mut self, record: T) -> io::Result<()> {
        if self.current.capacity() == 0 {
            self.current.reserve_exact(self.run_records);
        }
        self.current.push(record);
        if self.current.len() >= self.run_records {
            self.finish_run()?;
        }
        Ok(())
    }

    /// Bytes in the temporary file.
    pub(super) const fn spilled(&self) -> u64 {
        self.file_size
    }

    fn finish_run(&mut self) -> io::Result<()> {
        self.current.sort_unstable();
        if self.room.bytes.is_none() {
            self.runs
                .push(Run::Memory(std::mem::take(&mut self.current)));
            return Ok(());
        }
        let file = match &mut self.file {
            Some(file) => file,
            none => none.insert(tempfile::tempfile_in(&self.room.folder)?),
        };
        let start = self.file_size;
        let mut bytes = Vec::with_capacity(READ_AHEAD.1);
        for records in self.current.chunks(READ_AHEAD.1 / T::SIZE) {
            bytes.clear();
            for record in records {
                record.encode(&mut bytes);
            }
            file.write_all_at(&bytes, self.file_size)?;
            self.file_size += bytes.len() as u64;
        }
        self.runs.push(Run::File {
            start,
            end: self.file_size,
        });
        self.current.clear();
        Ok(())
    }

    /// All records in ascending order.
    pub(super) fn sorted(mut self) -> io::Result<Sorted<T>> {
        self.current.sort_unstable();
        let last = std::mem::take(&mut self.current);
        self.runs.push(Run::Memory(last));
        let share = self.room.bytes.unwrap_or(usize::MAX) / 2 / self.runs.len();
        let read_ahead = share.clamp(READ_AHEAD.0, READ_AHEAD.1) / T::SIZE * T::SIZE;
        let mut sorted = Sorted {
            heap: BinaryHeap::with_capacity(self.runs.len()),
            cursors: self
                .runs
                .into_iter()
                .map(|run| Cursor {
                    run,
                    next: 0,
                    bytes: Vec::new(),
                })
                .collect(),
            file: self.file,
            read_ahead: read_ahead.max(T::SIZE),
        };
        for (index, cursor) in sorted.cursors.iter_mut().enumerate() {
            if let Some(record) = cursor.next(sorted.file.as_ref(), sorted.read_ahead)? {
                sorted.heap.push(Reverse((record, index)));
            }
        }
        Ok(sorted)
    }
}

/// The records of a [`Sorter`] in order.
#[derive(Debug)]
pub(super) struct Sorted<T> {
    /// The next record of each run that has one.
    heap: BinaryHeap<Reverse<(T, usize)>>,
    cursors: Vec<Cursor<T>>,
    file: Option<File>,
    /// Bytes that are read from the file at once.
    read_ahead: usize,
}

#[derive(Debug)]
struct Cursor<T> {
    run: Run<T>,
    /// Next record of a run in memory; next byte of `bytes` of one in the file.
    next: usize,
    bytes: Vec<u8>,
}

impl<T: Record> Cursor<T> {
    /// The next record of the run.
    fn next(&mut self, file: Option<&File>, read_ahead: usize) -> io::Result<Option<T>> {
        Ok(match &mut self.run {
            Run::Memory(records) => {
                let record = records.get(self.next).copied();
                self.next += 1;
                record
            }
            Run::File { start, end } => {
                if self.next >= self.bytes.len() && start < end {
                    let left = usize::try_from(*end - *start).unwrap_or(usize::MAX);
                    self.bytes.resize(left.min(read_ahead), 0);
                    if let Some(file) = file {
                        file.read_exact_at(&mut self.bytes, *start)?;
                    }
                    *start += self.bytes.len() as u64;
                    self.next = 0;
                }
                let record = self
                    .bytes
                    .get(self.next..self.next + T::SIZE)
                    .map(T::decode);
                self.next += T::SIZE;
                record
            }
        })
    }
}

impl<T: Record> Iterator for Sorted<T> {
    type Item = io::Result<T>;

    fn next(&mut self) -> Option<Self::Item> {
        let mut first = self.heap.peek_mut()?;
        let Reverse((record, index)) = *first;
        let next = self.cursors.get_mut(index).map_or(Ok(None), |cursor| {
            cursor.next(self.file.as_ref(), self.read_ahead)
        });
        match next {
            // In place of the one before: where a run goes on alone, nothing moves.
            Ok(Some(next)) => *first = Reverse((next, index)),
            Ok(None) => {
                PeekMut::pop(first);
            }
            Err(error) => {
                PeekMut::pop(first);
                return Some(Err(error));
            }
        }
        Some(Ok(record))
    }
}

/// Inode numbers are sorted to look at inodes in the order in which they are stored.
impl Record for u64 {
    const SIZE: usize = 8;

    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.to_le_bytes());
    }

    fn decode(bytes: &[u8]) -> Self {
        Self::from_le_bytes(bytes.first_chunk().copied().unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Numbers that are in no order, some of them twice.
    fn numbers(count: u64) -> impl Iterator<Item = u64> {
        (0..count).map(|number| number.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 40)
    }

    fn sort(count: u64, bytes: Option<usize>) -> (Vec<u64>, u64) {
        let folder = std::env::temp_dir();
        let mut sorter = Sorter::new(&Room { bytes, folder });
        for number in numbers(count) {
            sorter.push(number).unwrap();
        }
        let spilled = sorter.spilled();
        let sorted = sorter.sorted().unwrap().map(Result::unwrap).collect();
        (sorted, spilled)
    }

    #[test]
    fn any_room_gives_the_same_order() {
        for count in [0, 1, 1023, 1024, 1025, 200_000] {
            let mut expected: Vec<_> = numbers(count).collect();
            expected.sort_unstable();
            for bytes in [None, Some(0), Some(64 << 10), Some(1 << 30)] {
                let (sorted, spilled) = sort(count, bytes);
                assert_eq!(sorted, expected, "{count} {bytes:?}");
                let small = bytes.is_some_and(|bytes| bytes < 1 << 20);
                assert_eq!(
                    spilled > 0,
                    small && count >= 200_000
                        || bytes == Some(0) && count >= 1024
                        || bytes == Some(64 << 10) && count >= 4096
                );
            }
        }
    }

    #[test]
    fn a_folder_that_is_not_there_is_an_error() {
        let room = Room {
            bytes: Some(0),
            folder: "/nonexistent".into(),
        };
        let mut sorter = Sorter::new(&room);
        let result = (0..2048).try_for_each(|number| sorter.push(number));
        assert_eq!(result.unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
