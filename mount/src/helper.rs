//! The calling convention of mount(8) helpers: `mount.erofs SOURCE DIR [-sfnv] [-N NAMESPACE] [-o OPTIONS] [-t TYPE]`
//! (mount(8), "EXTERNAL HELPERS").
//!
//! What mount(8) does before it calls (seen with util-linux 2.38.1):
//! * it writes `rw` wherever the user did not write `ro`, so `rw` says nothing here: the mount is read-only;
//! * for type `erofs` it puts a regular file behind a loop device itself and hands over that device, the file-backed way is
//!   lost. It does not for types with a suffix: `erofs.auto`, `erofs.file`, `erofs.loop` and `erofs.fuse` mean the image
//!   itself, mounted that way. `offset=` makes it use a loop device for these too, `fsoffset=` does not.

use crate::options::{MountOptions, OptionError};
use crate::wish::Via;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

/// What `mount.erofs` was asked to do.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct HelperCall {
    /// The image.
    pub source: PathBuf,
    /// Where to mount it.
    pub target: PathBuf,
    /// The lists of all `-o`, and the way that `-t erofs.WAY` names. `-s` has already dropped what nobody knows.
    pub options: MountOptions,
    /// `-f`: check everything, mount nothing.
    pub fake: bool,
    /// `-v`.
    pub verbose: bool,
    /// `-N`: mount namespace (a process id or a path) to mount in.
    pub namespace: Option<OsString>,
}

/// Why a helper call cannot be understood.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HelperError {
    /// Not exactly one image and one directory.
    #[error("expected SOURCE and DIR, got {0} arguments")]
    Operands(usize),
    /// A flag that helpers do not have.
    #[error("unknown flag {0:?}")]
    Flag(OsString),
    /// A flag at the end whose value is missing.
    #[error("flag -{0} needs a value")]
    FlagValue(char),
    /// `-t` names another filesystem.
    #[error("filesystem type {0:?} is not erofs, erofs.auto, erofs.file, erofs.loop or erofs.fuse")]
    Type(OsString),
    /// The option list.
    #[error(transparent)]
    Options(#[from] OptionError),
}

impl HelperCall {
    /// From the arguments after the program's name. Flags may be joined (`-nv`), may stand before or after SOURCE and
    /// DIR, and `--` ends them. `-n` (no mtab) is accepted and means nothing.
    ///
    /// # Errors
    /// [`HelperError`].
    pub fn parse<A: Into<OsString>>(
        arguments: impl IntoIterator<Item = A>,
    ) -> Result<Self, HelperError> {
        let mut call = Self::default();
        let (mut sloppy, mut flags_ended, mut operands) = (false, false, Vec::new());
        let mut way = None;
        let mut arguments = arguments.into_iter().map(Into::into);
        while let Some(argument) = arguments.next() {
            let bytes = argument.as_bytes();
            if flags_ended || bytes.first() != Some(&b'-') || bytes == b"-" {
                operands.push(PathBuf::from(argument));
                continue;
            }
            if bytes == b"--" {
                flags_ended = true;
                continue;
            }
            let mut rest = bytes.get(1..).unwrap_or_default();
            while let Some((&flag, after)) = rest.split_first() {
                rest = after;
                match flag {
                    b's' => sloppy = true,
                    b'f' => call.fake = true,
                    b'n' => {}
                    b'v' => call.verbose = true,
                    b'o' | b't' | b'N' => {
                        let value = match std::mem::take(&mut rest) {
                            [] => arguments
                                .next()
                                .ok_or(HelperError::FlagValue(char::from(flag)))?,
                            joined => OsStr::from_bytes(joined).to_owned(),
                        };
                        match flag {
                            b'o' => call.options.add_list(&value, |key| key == "rw")?,
                            b'N' => call.namespace = Some(value),
                            _ => way = Some(way_of(&value).ok_or(HelperError::Type(value))?),
                        }
                    }
                    _ => return Err(HelperError::Flag(argument.clone())),
                }
            }
        }
        // An option is more deliberate than a type.
        if call.options.via == Via::Auto {
            call.options.via = way.unwrap_or_default();
        }
        if sloppy {
            call.options.tolerate_unknown();
        }
        let count = operands.len();
        let [source, target] =
            <[PathBuf; 2]>::try_from(operands).map_err(|_| HelperError::Operands(count))?;
        Ok(Self {
            source,
            target,
            ..call
        })
    }
}

/// The way that a filesystem type asks for.
fn way_of(filesystem_type: &OsStr) -> Option<Via> {
    match filesystem_type.to_str()?.strip_prefix("erofs")? {
        "" => Some(Via::Auto),
        suffix => suffix.strip_prefix('.')?.parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call() -> HelperCall {
        HelperCall {
            source: "/i".into(),
            target: "/d".into(),
            ..Default::default()
        }
    }

    #[test]
    fn calls() {
        let options = |list| MountOptions::parse(list).expect("valid");
        for (line, expected) in [
            ("/i /d", call()),
            ("/i /d -n", call()),
            (
                "-fv /i /d",
                HelperCall {
                    fake: true,
                    verbose: true,
                    ..call()
                },
            ),
            (
                "/i /d -o noexec,offset=512",
                HelperCall {
                    options: options("noexec,offset=512"),
                    ..call()
                },
            ),
            (
                "/i /d -onoexec -o loop",
                HelperCall {
                    options: options("noexec,loop"),
                    ..call()
                },
            ),
            (
                "/i /d -so odd,acl",
                HelperCall {
                    options: options("acl"),
                    ..call()
                },
            ),
            (
                "/i /d -o odd,acl",
                HelperCall {
                    options: options("odd,acl"),
                    ..call()
                },
            ),
            ("/i /d -t erofs", call()),
            ("/i /d -t erofs.auto", call()),
            (
                "/i /d -t erofs.fuse -N 12",
                HelperCall {
                    options: options("via=fuse"),
                    namespace: Some("12".into()),
                    ..call()
                },
            ),
            (
                "/i /d -t erofs.fuse -o via=loop",
                HelperCall {
                    options: options("via=loop"),
                    ..call()
                },
            ),
            (
                "-v -- -i /d",
                HelperCall {
                    source: "-i".into(),
                    verbose: true,
                    ..call()
                },
            ),
        ] {
            assert_eq!(
                HelperCall::parse(line.split(' ')).expect(line),
                expected,
                "{line}"
            );
        }
    }

    /// Command lines recorded from util-linux 2.38.1.
    #[test]
    fn calls_of_mount_8() {
        for (line, expected) in [
            ("/i /d -o rw", ""),
            (
                "/i /d -o ro,nosuid,noexec,nodev,via=fuse,user",
                "nosuid,noexec,nodev,via=fuse",
            ),
            (r#"/i /d -o rw,device="/a,b""#, r#"device="/a,b""#),
            (
                "/i /d -o rw,nosuid,nodev,user,nofail,exec -t erofs.auto",
                "nosuid,nodev",
            ),
            ("/i /d -o rw,user=x,exec,suid,dev -t erofs.file", "via=file"),
        ] {
            let options = MountOptions::parse(expected).expect("valid");
            let expected = HelperCall { options, ..call() };
            assert_eq!(
                HelperCall::parse(line.split(' ')).expect(line),
                expected,
                "{line}"
            );
        }
        let fake = HelperCall {
            fake: true,
            verbose: true,
            ..call()
        };
        assert_eq!(
            HelperCall::parse("/i /d -f -n -v -o ro".split(' ')),
            Ok(fake)
        );
        let namespace = HelperCall {
            namespace: Some("/proc/7/fd/4".into()),
            ..call()
        };
        assert_eq!(
            HelperCall::parse("/i /d -s -o ro -N /proc/7/fd/4".split(' ')),
            Ok(namespace)
        );
    }

    #[test]
    fn refusals() {
        for (line, expected) in [
            ("/i", HelperError::Operands(1)),
            ("/i /d /e", HelperError::Operands(3)),
            ("/i /d -o", HelperError::FlagValue('o')),
            ("/i /d -N", HelperError::FlagValue('N')),
            ("/i /d -z", HelperError::Flag("-z".into())),
            ("/i /d --all", HelperError::Flag("--all".into())),
            (
                "/i /d -o remount",
                HelperError::Options(OptionError::NotAMount("remount".into())),
            ),
            ("/i /d -t ext4", HelperError::Type("ext4".into())),
            ("/i /d -t erofsx", HelperError::Type("erofsx".into())),
            ("/i /d -t erofs.x", HelperError::Type("erofs.x".into())),
        ] {
            assert_eq!(HelperCall::parse(line.split(' ')), Err(expected), "{line}");
        }
        assert_eq!(
            HelperCall::parse(Vec::<OsString>::new()),
            Err(HelperError::Operands(0))
        );
    }
}
