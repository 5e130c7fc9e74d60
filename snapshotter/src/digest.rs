//! SHA-256 of bytes that pass by, and of files.

use sha2::{Digest, Sha256};
use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, Read, Write};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::JoinHandle;

/// Pieces that wait to be digested.
const WAITING: usize = 32;

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

/// Digests what is written to it, in a thread of its own.
pub(crate) struct Hasher(SyncSender<Vec<u8>>);

impl Hasher {
    /// A hasher, and who tells what it digested once it is dropped.
    pub(crate) fn start() -> io::Result<(Self, JoinHandle<Digested>)> {
        let (sender, pieces) = sync_channel::<Vec<u8>>(WAITING);
        let thread = std::thread::Builder::new()
            .name("digest".to_owned())
            .spawn(move || {
                let (mut sha256, mut size) = (Sha256::new(), 0);
                for piece in pieces {
                    sha256.update(&piece);
                    size += piece.len() as u64;
                }
                let digest = told(sha256);
                Digested { digest, size }
            })?;
        Ok((Self(sender), thread))
    }
}

impl Write for Hasher {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0
            .send(bytes.to_vec())
            .map_err(|_| io::ErrorKind::BrokenPipe)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
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
