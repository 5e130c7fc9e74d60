//! SHA-256 of bytes that pass by, and of files.

use sha2::{Digest, Sha256};
use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, Read, Write};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};

/// Pieces that wait to be digested: as many as the decoder of a tar hands over.
const WAITING: usize = 8;

/// Bytes of a file that are read at once.
const PIECE: usize = 1 << 20;

/// As containerd has it: `sha256:` and 64 hexadecimal digits.
fn told(sha256: Sha256) -> String {
    let mut text = "sha256:".to_owned();
    for byte in sha256.finalize() {
        write!(text, "{byte:02x}").expect("a string takes everything");
    }
    text
}

/// The chain ID of a layer with this diffID over those with the chain ID `below`, as the OCI image specification has it.
pub(crate) fn chain(below: Option<&str>, diff_id: &str) -> String {
    match below {
        None => diff_id.to_owned(),
        Some(below) => told(Sha256::new_with_prefix(format!("{below} {diff_id}"))),
    }
}

/// The digest of bytes.
pub(crate) fn of_bytes(bytes: &[u8]) -> String {
    told(Sha256::new_with_prefix(bytes))
}

/// The digest of a file from its start on; `progress` learns of bytes that were read.
///
/// # Errors
/// Those of reading and of `progress`.
pub(crate) fn of_file(
    mut file: &File,
    mut progress: impl FnMut(u64) -> io::Result<()>,
) -> io::Result<String> {
    let mut sha256 = Sha256::new();
    let mut piece = vec![0; PIECE];
    loop {
        let count = file.read(&mut piece)?;
        let Some(read) = piece.get(..count).filter(|read| !read.is_empty()) else {
            return Ok(told(sha256));
        };
        sha256.update(read);
        progress(count as u64)?;
    }
}

/// What was digested.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Digested {
    /// `sha256:` and 64 hexadecimal digits.
    pub(crate) digest: String,
    /// In bytes.
    pub(crate) size: u64,
}

/// Bytes from which on a thread digests what comes: less is digested sooner than one is started.
const SHORT: u64 = 1 << 20;

/// Digests what is written to it, in a thread of its own if that is much.
pub(crate) struct Hasher {
    /// What was digested by now, unless a thread does that.
    digesting: Option<Digesting>,
    thread: Option<SyncSender<Vec<u8>>>,
}

/// What is digested by now, and who is told in the end.
struct Digesting {
    sha256: Sha256,
    size: u64,
    told: Sender<Digested>,
}

impl Digesting {
    fn update(&mut self, bytes: &[u8]) {
        self.sha256.update(bytes);
        self.size += bytes.len() as u64;
    }

    fn tell(self) {
        let (digest, size) = (told(self.sha256), self.size);
        // Whoever does not listen any more does not want it either.
        let _ = self.told.send(Digested { digest, size });
    }
}

impl Hasher {
    /// A hasher, and where it tells what it digested once it is dropped.
    pub(crate) fn new() -> (Self, Receiver<Digested>) {
        let (told, digested) = channel();
        let digesting = Some(Digesting {
            sha256: Sha256::new(),
            size: 0,
            told,
        });
        let hasher = Self {
            digesting,
            thread: None,
        };
        (hasher, digested)
    }

    /// Leaves the rest to a thread.
    fn start(mut digesting: Digesting) -> io::Result<SyncSender<Vec<u8>>> {
        let (sender, pieces) = sync_channel::<Vec<u8>>(WAITING);
        let thread = std::thread::Builder::new().name("digest".to_owned());
        thread.spawn(move || {
            for piece in pieces {
                digesting.update(&piece);
            }
            digesting.tell();
        })?;
        Ok(sender)
    }
}

impl Write for Hasher {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if let Some(digesting) = &mut self.digesting
            && digesting.size < SHORT
        {
            digesting.update(bytes);
            return Ok(bytes.len());
        }
        if let Some(digesting) = self.digesting.take() {
            self.thread = Some(Self::start(digesting)?);
        }
        let thread = self.thread.as_ref().ok_or(io::ErrorKind::BrokenPipe)?;
        let sent = thread.send(bytes.to_vec());
        sent.map_err(|_| io::ErrorKind::BrokenPipe)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Hasher {
    fn drop(&mut self) {
        if let Some(digesting) = self.digesting.take() {
            digesting.tell();
        }
    }
}

/// Writes everything to both, the first one first.
pub(crate) struct Both<A, B>(pub(crate) A, pub(crate) B);

impl<A: Write, B: Write> Write for Both<A, B> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write_all(bytes)?;
        self.1.write_all(bytes)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()?;
        self.1.flush()
    }
}
