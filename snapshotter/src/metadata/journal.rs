//! What was answered and is not synced yet: lines in a file, which the kernel keeps when the process dies.
//!
//! Of a transaction that redb does not sync nothing is left in its file when the process ends. So each snapshot that is made by such
//! a one is first a line here, written and not synced, of which the next process makes it again. A loss of power may take both.
//!
//! The database has the number of the last line that is in it. Lines count as long as they are whole and their numbers follow each
//! other: the rest is part of a line, or older. Once all are on disk in the database, the next is written over them, at the start of
//! the file. Each opening of the database begins with numbers of its own, so no line of an earlier one can follow.

use super::bytes;
use super::change::Change;
use super::records::Snapshot;
use crate::digest;
use crate::error::Error;
use crate::fault::{self, Step};
use redb::{Durability, StorageBackend, StorageError};
use serde::{Deserialize, Serialize};
use std::io;
use std::path::Path;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// Bytes that the file has at most.
const MOST: u64 = 1 << 20;
/// Numbers of lines for one opening of the database.
const NUMBERS: u64 = 1 << 32;

/// A snapshot that was made.
#[derive(Debug, Serialize, Deserialize)]
struct Line {
    number: u64,
    key: String,
    snapshot: Snapshot,
}

impl Line {
    /// Its digest and itself, as JSON, which has no line break.
    fn bytes(&self) -> Result<Vec<u8>, Error> {
        let json = bytes(&self.key, self)?;
        let digest = digest::of_bytes(&json);
        Ok([digest.as_bytes(), b" ", &json, b"\n"].concat())
    }

    /// The same from that, without the line break, if it is whole.
    fn parse(line: &[u8]) -> Option<Self> {
        let space = line.iter().position(|byte| *byte == b' ')?;
        let (digest, json) = (line.get(..space)?, line.get(space + 1..)?);
        let is_whole = digest::of_bytes(json).as_bytes() == digest;
        is_whole.then(|| serde_json::from_slice(json).ok())?
    }
}

/// The file, and how far it is written.
#[derive(Debug)]
pub(super) struct Journal<B> {
    file: B,
    /// Changed by who may write to the database.
    position: Mutex<Position>,
    /// There is a line that is not synced.
    came: Condvar,
}

#[derive(Debug, Default)]
struct Position {
    /// Where the last line ends, in bytes.
    end: u64,
    /// The last line that is in the database.
    last: u64,
    /// The last one that is there on disk.
    synced: u64,
}

impl Position {
    const fn is_synced(&self) -> bool {
        self.last == self.synced
    }
}

impl<B: StorageBackend> Journal<B> {
    pub(super) fn new(file: B) -> Self {
        Self {
            file,
            position: Mutex::default(),
            came: Condvar::new(),
        }
    }

    fn position(&self) -> MutexGuard<'_, Position> {
        self.position.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes again, in the first change of a database that was opened, what is not in it.
    ///
    /// # Errors
    /// [`Error::Database`], [`Error::File`].
    pub(super) fn replay(&self, change: Change) -> Result<(), Error> {
        let mut position = self.position();
        let read = self.read().map_err(failed("reading"))?;
        let lines = read.split(|byte| *byte == b'\n').map_while(Line::parse);
        let mut last = change.journalled()?;
        let mut before = None;
        for line in lines {
            if before.is_some_and(|before| line.number != before + 1) {
                break;
            }
            before = Some(line.number);
            if line.number == last + 1 {
                last = line.number;
                if let Err(error) = change.restore(&line.key, &line.snapshot) {
                    tracing::warn!(key = line.key, %error, "a snapshot that was prepared is lost");
                }
            }
        }
        let next = (last / NUMBERS + 1) * NUMBERS;
        change.set_journalled(next)?;
        change.0.commit()?;
        *position = Position {
            end: 0,
            last: next,
            synced: next,
        };
        Ok(())
    }

    fn read(&self) -> io::Result<Vec<u8>> {
        let length = self.file.len()?.min(MOST);
        let mut lines = vec![0; usize::try_from(length).unwrap_or(0)];
        self.file.read(0, &mut lines)?;
        Ok(lines)
    }

    /// Commits a change that makes a snapshot, so that a loss of power may take it and nothing else does.
    ///
    /// # Errors
    /// [`Error::Database`], [`Error::File`]; it may be made all the same.
    pub(super) fn commit(
        &self,
        mut change: Change,
        key: &str,
        snapshot: &Snapshot,
    ) -> Result<(), Error> {
        let mut position = self.position();
        let number = change.journalled()? + 1;
        if number != position.last + 1 {
            // The database was opened anew since this change was begun.
            return Err(StorageError::PreviousIo.into());
        }
        change.set_journalled(number)?;
        fault::at(Step::DatabaseChanged)?;
        let line = Line {
            number,
            key: key.to_owned(),
            snapshot: snapshot.clone(),
        };
        let line = line.bytes()?;
        let begin = if position.is_synced() {
            0
        } else {
            position.end
        };
        let end = begin + line.len() as u64;
        let is_noted = end <= MOST;
        if is_noted {
            self.file.write(begin, &line).map_err(failed("writing"))?;
            fault::at(Step::JournalWritten)?;
            change.0.set_durability(Durability::None)?;
        }
        change.0.commit()?;
        *position = Position {
            end,
            last: number,
            synced: if is_noted { position.synced } else { number },
        };
        drop(position);
        self.came.notify_one();
        fault::at(Step::DatabaseCommitted)
    }

    /// The last line that is in the database. Does not change while a change is made.
    pub(super) fn last(&self) -> u64 {
        self.position().last
    }

    /// Notes that a change was synced behind this line.
    pub(super) fn set_synced(&self, number: u64) {
        let mut position = self.position();
        position.synced = position.synced.max(number);
    }

    /// Whether everything is synced.
    pub(super) fn is_synced(&self) -> bool {
        self.position().is_synced()
    }

    /// Waits until something is not synced.
    pub(super) fn wait(&self) {
        let position = self.position();
        // What stops the waiting is looked at by who waits.
        drop(
            self.came
                .wait_while(position, |position| position.is_synced()),
        );
    }
}

fn failed(what: &'static str) -> impl FnOnce(io::Error) -> Error {
    Error::file(what, Path::new("metadata.journal"))
}
