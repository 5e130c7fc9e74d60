//! SHA-256 of bytes that pass by.

use sha2::{Digest, Sha256};
use std::fmt::Write as _;
use std::io::{self, Write};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::JoinHandle;

/// Pieces that wait to be digested.
const WAITING: usize = 32;

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
                let mut digest = "sha256:".to_owned();
                for byte in sha256.finalize() {
                    write!(digest, "{byte:02x}").expect("a string takes everything");
                }
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
