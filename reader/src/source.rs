//! Byte sources: where the bytes of an image or of one of its devices come from.

use erofs_format::ByteOffset;
use std::fs::File;
use std::io::{self, Seek, SeekFrom};
use std::os::unix::fs::FileExt;
use std::path::Path;

/// Random access to the bytes of an image or device. Reading takes `&self`, so that many threads can share a source.
pub trait ByteSource: Send + Sync {
    /// Reads up to `buffer.len()` bytes from `offset` on and returns how many; 0 only at the end of the source or for an
    /// empty buffer.
    ///
    /// # Errors
    /// Whatever the source reports; [`io::ErrorKind::Interrupted`] is retried by the reader.
    fn read_at(&self, offset: ByteOffset, buffer: &mut [u8]) -> io::Result<usize>;

    /// Size in bytes. Asked once, when the image is opened.
    fn size(&self) -> u64;
}

/// A regular file or block device, read with `pread`.
///
/// Files are not mapped into memory: another process could truncate them.
#[derive(Debug)]
pub struct FileSource {
    file: File,
    size: u64,
}

impl FileSource {
    /// Opens `path` for reading.
    ///
    /// # Errors
    /// When the file cannot be opened or its size cannot be found out.
    pub fn open(path: &Path) -> io::Result<Self> {
        Self::new(File::open(path)?)
    }

    /// Takes an open file. Its position is not used later, but may be moved once.
    ///
    /// # Errors
    /// When its size cannot be found out.
    pub fn new(file: File) -> io::Result<Self> {
        let metadata = file.metadata()?;
        // The size of a block device is not in its metadata.
        let size = if metadata.is_file() {
            metadata.len()
        } else {
            (&file).seek(SeekFrom::End(0))?
        };
        Ok(Self { file, size })
    }
}

impl ByteSource for FileSource {
    fn read_at(&self, offset: ByteOffset, buffer: &mut [u8]) -> io::Result<usize> {
        self.file.read_at(buffer, offset.0)
    }

    fn size(&self) -> u64 {
        self.size
    }
}

impl ByteSource for &[u8] {
    fn read_at(&self, offset: ByteOffset, buffer: &mut [u8]) -> io::Result<usize> {
        let rest = usize::try_from(offset.0)
            .ok()
            .and_then(|start| self.get(start..))
            .unwrap_or_default();
        let length = rest.len().min(buffer.len());
        if let (Some(to), Some(from)) = (buffer.get_mut(..length), rest.get(..length)) {
            to.copy_from_slice(from);
        }
        Ok(length)
    }

    fn size(&self) -> u64 {
        self.len() as u64
    }
}

impl ByteSource for Vec<u8> {
    fn read_at(&self, offset: ByteOffset, buffer: &mut [u8]) -> io::Result<usize> {
        self.as_slice().read_at(offset, buffer)
    }

    fn size(&self) -> u64 {
        self.len() as u64
    }
}

impl<S: ByteSource + ?Sized> ByteSource for Box<S> {
    fn read_at(&self, offset: ByteOffset, buffer: &mut [u8]) -> io::Result<usize> {
        (**self).read_at(offset, buffer)
    }

    fn size(&self) -> u64 {
        (**self).size()
    }
}

impl<S: ByteSource + ?Sized> ByteSource for std::sync::Arc<S> {
    fn read_at(&self, offset: ByteOffset, buffer: &mut [u8]) -> io::Result<usize> {
        (**self).read_at(offset, buffer)
    }

    fn size(&self) -> u64 {
        (**self).size()
    }
}

/// The part of a source that begins at an offset: an image inside of a larger file.
#[derive(Debug)]
pub struct OffsetSource<S> {
    inner: S,
    start: ByteOffset,
}

impl<S: ByteSource> OffsetSource<S> {
    /// `inner` from byte `start` on.
    pub const fn new(inner: S, start: ByteOffset) -> Self {
        Self { inner, start }
    }
}

impl<S: ByteSource> ByteSource for OffsetSource<S> {
    fn read_at(&self, offset: ByteOffset, buffer: &mut [u8]) -> io::Result<usize> {
        match self.start.checked_add(offset.0) {
            Some(position) => self.inner.read_at(position, buffer),
            None => Ok(0),
        }
    }

    fn size(&self) -> u64 {
        self.inner.size().saturating_sub(self.start.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(source: &dyn ByteSource, offset: u64, length: usize) -> Vec<u8> {
        let mut buffer = vec![0xEE; length];
        let count = source.read_at(ByteOffset(offset), &mut buffer).unwrap();
        buffer.truncate(count);
        buffer
    }

    #[test]
    fn every_source_reads_the_same_and_ends_quietly() {
        let mut file = tempfile::tempfile().unwrap();
        std::io::Write::write_all(&mut file, b"..0123456789").unwrap();
        let sources: [Box<dyn ByteSource>; 3] = [
            Box::new(b"0123456789".to_vec()),
            Box::new(&b"0123456789"[..]),
            Box::new(OffsetSource::new(
                FileSource::new(file).unwrap(),
                ByteOffset(2),
            )),
        ];
        for source in &sources {
            assert_eq!(source.size(), 10);
            assert_eq!(read(source, 0, 4), b"0123");
            assert_eq!(read(source, 8, 4), b"89");
            assert_eq!(read(source, 10, 4), b"");
            assert_eq!(read(source, u64::MAX - 1, 4), b"");
        }
    }
}
