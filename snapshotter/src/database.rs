//! The database's file: room is taken before it is needed, and after an error of the disk it is opened anew.
//!
//! redb answers nothing any more once its file failed, also when that was because the disk was full for a moment.

use crate::error::Error;
use redb::backends::FileBackend;
use redb::{
    Database, DatabaseError, ReadTransaction, ReadableDatabase, StorageBackend, WriteTransaction,
};
use rustix::fs::FallocateFlags;
use std::fmt;
use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

/// Opens what the database is stored in.
type Open<B> = dyn Fn() -> Result<B, DatabaseError> + Send + Sync;
/// What is done with a database that was opened, before anything else.
type Begin = dyn Fn(&Database) -> Result<(), Error> + Send + Sync;

/// A database that goes on after errors.
pub(crate) struct Reopened<B> {
    open: Box<Open<B>>,
    begin: Box<Begin>,
    /// Whether the storage failed since the database was opened.
    failed: Arc<AtomicBool>,
    database: RwLock<Option<Database>>,
}

impl<B> fmt::Debug for Reopened<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reopened")
            .field("database", &self.database)
            .finish_non_exhaustive()
    }
}

impl<B: StorageBackend> Reopened<B> {
    /// Opens the database, or makes one. `begin` is what is done then, each time that it was opened.
    ///
    /// # Errors
    /// [`Error::Database`], those of `begin`.
    pub(crate) fn new(
        open: impl Fn() -> Result<B, DatabaseError> + Send + Sync + 'static,
        begin: impl Fn(&Database) -> Result<(), Error> + Send + Sync + 'static,
    ) -> Result<Self, Error> {
        let opened = Self {
            open: Box::new(open),
            begin: Box::new(begin),
            failed: Arc::default(),
            database: RwLock::default(),
        };
        opened.reopen()?;
        Ok(opened)
    }

    fn reopen(&self) -> Result<(), Error> {
        let mut database = self
            .database
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        if database.is_some() && !self.failed.load(Ordering::Acquire) {
            // Somebody else did it.
            return Ok(());
        }
        // Which lets go of the file.
        *database = None;
        self.failed.store(false, Ordering::Release);
        let backend = Watched {
            backend: (self.open)()?,
            failed: Arc::clone(&self.failed),
        };
        let opened = Database::builder().create_with_backend(backend)?;
        (self.begin)(&opened)?;
        *database = Some(opened);
        Ok(())
    }

    fn with<T>(&self, begin: impl Fn(&Database) -> Result<T, Error>) -> Result<T, Error> {
        loop {
            let database = self.database.read().unwrap_or_else(PoisonError::into_inner);
            match &*database {
                Some(database) if !self.failed.load(Ordering::Acquire) => return begin(database),
                _ => {}
            }
            drop(database);
            self.reopen()?;
        }
    }

    /// # Errors
    /// [`Error::Database`].
    pub(crate) fn begin_read(&self) -> Result<ReadTransaction, Error> {
        self.with(|database| Ok(database.begin_read()?))
    }

    /// # Errors
    /// [`Error::Database`].
    pub(crate) fn begin_write(&self) -> Result<WriteTransaction, Error> {
        self.with(|database| Ok(database.begin_write()?))
    }
}

/// Remembers that a storage failed.
#[derive(Debug)]
struct Watched<B> {
    backend: B,
    failed: Arc<AtomicBool>,
}

impl<B> Watched<B> {
    fn watch<T>(&self, result: io::Result<T>) -> io::Result<T> {
        if result.is_err() {
            self.failed.store(true, Ordering::Release);
        }
        result
    }
}

impl<B: StorageBackend> StorageBackend for Watched<B> {
    fn len(&self) -> io::Result<u64> {
        self.watch(self.backend.len())
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.watch(self.backend.read(offset, out))
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.watch(self.backend.set_len(len))?;
        // redb opens no file that is shorter than its header says, and syncs both at once, in whatever order.
        self.sync_data()
    }

    fn sync_data(&self) -> io::Result<()> {
        self.watch(self.backend.sync_data())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.watch(self.backend.write(offset, data))
    }

    fn close(&self) -> io::Result<()> {
        self.backend.close()
    }
}

/// A file that has room to grow: removing a snapshot writes, and must work when the disk is full.
#[derive(Debug)]
pub(crate) struct Roomy {
    file: File,
    backend: FileBackend,
}

impl Roomy {
    /// Opens the file, or makes it.
    ///
    /// # Errors
    /// As the system says; also when another process has it open.
    pub(crate) fn open(path: &Path) -> Result<Self, DatabaseError> {
        let file = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)?;
        let backend = FileBackend::new(file.try_clone()?)?;
        let roomy = Self { file, backend };
        roomy.take_room(roomy.len()?);
        Ok(roomy)
    }

    /// Takes room for the next time that redb doubles the length.
    fn take_room(&self, len: u64) {
        // Where there is none, or a filesystem that cannot do this, it is looked for when it is needed.
        let _ = rustix::fs::fallocate(&self.file, FallocateFlags::KEEP_SIZE, 0, 2 * len.max(1));
    }
}

impl StorageBackend for Roomy {
    fn len(&self) -> io::Result<u64> {
        self.backend.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.backend.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.backend.set_len(len)?;
        self.take_room(len);
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        self.backend.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.backend.write(offset, data)
    }

    fn close(&self) -> io::Result<()> {
        self.backend.close()
    }
}
