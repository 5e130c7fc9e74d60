//! Which layers can be applied, and made as images.

use crate::error::Error;

/// Media type of a tar without compression.
pub(crate) const TAR: &str = "application/vnd.oci.image.layer.v1.tar";
/// Media types of tars, to which compressions are appended.
const TARS: [&str; 4] = [
    TAR,
    "application/vnd.oci.image.layer.nondistributable.v1.tar",
    "application/vnd.docker.image.rootfs.diff.tar",
    "application/vnd.docker.image.rootfs.foreign.diff.tar",
];
/// What is appended. How a tar is compressed is told by its content.
const COMPRESSIONS: [&str; 5] = ["", "+gzip", ".gzip", "+zstd", ".zstd"];
/// Media types of EROFS images: since containerd 2.3.4, and before.
const IMAGES: [&str; 2] = [
    "application/vnd.erofs.layer.v1",
    "application/vnd.oci.image.layer.v1.erofs",
];
/// An image as a whole in a zstd stream.
const ZSTD: &str = "+zstd";

/// What a layer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum MediaType<'a> {
    /// A tar, perhaps compressed.
    Tar,
    /// An EROFS image.
    Image {
        /// Media type of the image itself.
        plain: &'a str,
        /// Whether it is in a zstd stream.
        is_compressed: bool,
    },
}

impl<'a> MediaType<'a> {
    /// Reads a media type.
    ///
    /// # Errors
    /// [`Error::NotOurs`].
    pub(crate) fn parse(media_type: &'a str) -> Result<Self, Error> {
        let is_tar = |tar: &str| {
            let rest = media_type.strip_prefix(tar);
            rest.is_some_and(|rest| COMPRESSIONS.contains(&rest))
        };
        if TARS.into_iter().any(is_tar) {
            return Ok(Self::Tar);
        }
        let plain = media_type.strip_suffix(ZSTD);
        let (plain, is_compressed) = plain.map_or((media_type, false), |plain| (plain, true));
        match IMAGES.contains(&plain) {
            true => Ok(Self::Image {
                plain,
                is_compressed,
            }),
            false => Err(Error::NotOurs(format!(
                "media type {media_type:?} is not that of a tar or an EROFS layer"
            ))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn media_types() {
        for tar in TARS {
            for compression in COMPRESSIONS {
                let media_type = format!("{tar}{compression}");
                let parsed = MediaType::parse(&media_type);
                assert!(matches!(parsed, Ok(MediaType::Tar)), "{media_type}");
            }
        }
        for plain in IMAGES {
            for (suffix, is_compressed) in [("", false), (ZSTD, true)] {
                let media_type = format!("{plain}{suffix}");
                let parsed = MediaType::parse(&media_type).expect("known");
                let expected = MediaType::Image {
                    plain,
                    is_compressed,
                };
                assert_eq!(parsed, expected);
            }
        }
        for unknown in [
            "",
            "application/vnd.oci.image.layer.v1.tar+xz",
            "application/vnd.oci.image.layer.v1.tar+gzip+encrypted",
            "application/vnd.erofs.layer.v1+gzip",
            "application/vnd.erofs.layer.v2",
            "application/vnd.oci.image.config.v1+json",
        ] {
            let parsed = MediaType::parse(unknown);
            assert!(matches!(parsed, Err(Error::NotOurs(_))), "{unknown}");
        }
    }
}
