//! What a layer is made as, and how it is compressed on its way.

use crate::error::Error;
use crate::media_type::MediaType;
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
    /// The media type of a tar that is compressed with it.
    const fn of_tar(self) -> &'static str {
        match self {
            Self::Plain => "application/vnd.oci.image.layer.v1.tar",
            Self::Gzip => "application/vnd.oci.image.layer.v1.tar+gzip",
            Self::Zstd => "application/vnd.oci.image.layer.v1.tar+zstd",
        }
    }
}

/// What a layer is without compression.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Content {
    Tar,
    /// An EROFS image.
    Image,
}

/// As what a layer is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Format<'a> {
    pub(super) media_type: &'a str,
    pub(super) content: Content,
    pub(super) packing: Packing,
}

impl<'a> Format<'a> {
    /// By media type; a tar in gzip if none is asked for.
    ///
    /// # Errors
    /// [`Error::NotOurs`].
    pub(super) fn of(media_type: &'a str) -> Result<Self, Error> {
        let mut packings = [Packing::Gzip, Packing::Plain, Packing::Zstd].into_iter();
        let of_tar = |packing: &Packing| media_type.is_empty() || packing.of_tar() == media_type;
        if let Some(packing) = packings.find(of_tar) {
            return Ok(Self {
                media_type: packing.of_tar(),
                content: Content::Tar,
                packing,
            });
        }
        match MediaType::parse(media_type) {
            Ok(MediaType::Image { is_compressed, .. }) => Ok(Self {
                media_type,
                content: Content::Image,
                packing: match is_compressed {
                    true => Packing::Zstd,
                    false => Packing::Plain,
                },
            }),
            _ => Err(Error::NotOurs(format!(
                "layers of type {media_type:?} are not made here"
            ))),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_are_made_as_the_media_type_says() {
        let (tar, image) = ("application/vnd.oci.image.layer.v1.tar", Content::Image);
        let gzip = format!("{tar}+gzip");
        for (asked, media_type, content, packing) in [
            ("", gzip.as_str(), Content::Tar, Packing::Gzip),
            (&gzip, &gzip, Content::Tar, Packing::Gzip),
            (tar, tar, Content::Tar, Packing::Plain),
            (
                "application/vnd.erofs.layer.v1",
                "application/vnd.erofs.layer.v1",
                image,
                Packing::Plain,
            ),
            (
                "application/vnd.erofs.layer.v1+zstd",
                "application/vnd.erofs.layer.v1+zstd",
                image,
                Packing::Zstd,
            ),
            (
                "application/vnd.oci.image.layer.v1.erofs",
                "application/vnd.oci.image.layer.v1.erofs",
                image,
                Packing::Plain,
            ),
        ] {
            let expected = Format {
                media_type,
                content,
                packing,
            };
            assert_eq!(Format::of(asked).expect("known"), expected);
        }
        for unknown in [
            "application/vnd.erofs.layer.v1+gzip",
            // It can be applied, and is not made.
            "application/vnd.docker.image.rootfs.diff.tar.gzip",
            "application/vnd.oci.image.layer.v1.tar+xz",
        ] {
            let refused = Format::of(unknown);
            assert!(matches!(refused, Err(Error::NotOurs(_))), "{unknown}");
        }
    }
}
