//! How a layer is compressed on its way.

use crate::error::Error;
use erofs_codec::zstd::StreamEncoder;
use flate2::Compression;
use flate2::write::GzEncoder;
use std::io::{self, Write};

/// As gzip and zstd have it unless told otherwise.
const GZIP_LEVEL: u32 = 6;
const ZSTD_LEVEL: i32 = 3;

/// What a layer is compressed with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Packing {
    Plain,
    Gzip,
    Zstd,
}

impl Packing {
    /// By media type; gzip if none is asked for.
    ///
    /// # Errors
    /// [`Error::NotOurs`].
    pub(super) fn of(media_type: &str) -> Result<Self, Error> {
        let all = [Self::Gzip, Self::Plain, Self::Zstd];
        all.into_iter()
            .find(|packing| media_type.is_empty() || packing.media_type() == media_type)
            .ok_or_else(|| {
                Error::NotOurs(format!("layers of type {media_type:?} are not made here"))
            })
    }

    pub(super) const fn media_type(self) -> &'static str {
        match self {
            Self::Plain => "application/vnd.oci.image.layer.v1.tar",
            Self::Gzip => "application/vnd.oci.image.layer.v1.tar+gzip",
            Self::Zstd => "application/vnd.oci.image.layer.v1.tar+zstd",
        }
    }
}

/// Compresses what is written to it.
pub(super) enum Packer<W: Write> {
    Plain(W),
    /// Its header has no time and no name.
    Gzip(GzEncoder<W>),
    Zstd(StreamEncoder<W>),
}

impl<W: Write> Packer<W> {
    pub(super) fn new(packing: Packing, out: W) -> io::Result<Self> {
        Ok(match packing {
            Packing::Plain => Self::Plain(out),
            Packing::Gzip => Self::Gzip(GzEncoder::new(out, Compression::new(GZIP_LEVEL))),
            Packing::Zstd => Self::Zstd(StreamEncoder::new(out, ZSTD_LEVEL)?),
        })
    }

    /// Writes what is left.
    pub(super) fn finish(self) -> io::Result<W> {
        match self {
            Self::Plain(out) => Ok(out),
            Self::Gzip(encoder) => encoder.finish(),
            Self::Zstd(encoder) => encoder.finish(),
        }
    }
}

impl<W: Write> Write for Packer<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(out) => out.write(bytes),
            Self::Gzip(encoder) => encoder.write(bytes),
            Self::Zstd(encoder) => encoder.write(bytes),
        }
    }

    /// Nothing is flushed on the way: that would end blocks early.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
