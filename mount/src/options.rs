//! Mount options as typed in `-o` or /etc/fstab.
//!
//! A comma-separated list of `KEY` and `KEY=VALUE`, read from left to right, later options winning. A value that holds
//! a comma is put in double quotes, `device="/a,b.blob"`; the quotes are dropped, a backslash means itself, and a value
//! cannot hold a double quote then. Empty items are skipped. Sizes are bytes, or a number with K, M, G or T (powers of
//! 1024).

use crate::wish::{DirectIo, Via};
use rustix::mount::MountAttrFlags;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;

/// An option that the kernel's EROFS driver (or the FUSE server) interprets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FilesystemOption {
    /// Its name.
    pub key: String,
    /// Its value; a flag has none.
    pub value: Option<OsString>,
}

/// Mount options, sorted by who acts on them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MountOptions {
    /// Attributes of the mount: `nosuid`, `nodev`, `noexec`, `noatime`, … Always holds `MOUNT_ATTR_RDONLY`.
    pub attributes: MountAttrFlags,
    /// The way asked for (`via=`, `loop`).
    pub via: Via,
    /// Start of the image in its file or device, in bytes (`offset=`, `fsoffset=`).
    pub offset: u64,
    /// Bytes of the file that belong to the image (`sizelimit=`); needs a loop device.
    pub size_limit: Option<u64>,
    /// Extra devices in slot order (`device=`).
    pub devices: Vec<PathBuf>,
    /// `directio`, `nodirectio`.
    pub direct_io: DirectIo,
    /// Passed on, in the order given.
    pub filesystem: Vec<FilesystemOption>,
}

impl Default for MountOptions {
    fn default() -> Self {
        Self {
            attributes: MountAttrFlags::MOUNT_ATTR_RDONLY,
            via: Via::Auto,
            offset: 0,
            size_limit: None,
            devices: Vec::new(),
            direct_io: DirectIo::Auto,
            filesystem: Vec::new(),
        }
    }
}

/// Why an option list cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OptionError {
    /// `rw`.
    #[error(
        "an EROFS image cannot be mounted for writing: drop \"rw\", or put an overlay with an upper directory on top"
    )]
    Writable,
    /// An operation of mount(8) on existing mounts.
    #[error("option {0:?} changes an existing mount, which is the business of mount(8)")]
    NotAMount(String),
    /// A double quote without its partner.
    #[error("option {0:?} has an opening double quote without a closing one")]
    Quote(String),
    /// A name that is not text.
    #[error("option name {0:?} is not valid text")]
    Name(OsString),
    /// A value that the option does not take.
    #[error("option {key}={value:?}: expected {expected}")]
    Value {
        /// The option.
        key: String,
        /// The value given (empty: none).
        value: OsString,
        /// What it takes.
        expected: &'static str,
    },
}

impl OptionError {
    pub(crate) fn value(key: &str, value: &OsStr, expected: &'static str) -> Self {
        Self::Value {
            key: key.to_owned(),
            value: value.to_owned(),
            expected,
        }
    }
}

/// Options of the kernel's EROFS driver up to Linux 7.3 (format reference §20) that this crate only passes on.
const DRIVER_OPTIONS: [&str; 9] = [
    "user_xattr",
    "nouser_xattr",
    "acl",
    "noacl",
    "cache_strategy",
    "dax",
    "fsid",
    "domain_id",
    "inode_share",
];

/// What mount(8), /etc/fstab and systemd write for themselves, and flags without a meaning on a read-only filesystem. The
/// attributes that `user` and its like imply are for mount(8) to add, which it does before it calls a helper.
const NOT_FOR_US: [&str; 30] = [
    "user",
    "users",
    "owner",
    "group",
    "ro",
    "defaults",
    "auto",
    "noauto",
    "nofail",
    "_netdev",
    "nouser",
    "nousers",
    "noowner",
    "nogroup",
    "async",
    "sync",
    "dirsync",
    "silent",
    "loud",
    "mand",
    "nomand",
    "lazytime",
    "nolazytime",
    "iversion",
    "noiversion",
    "norelatime",
    "nostrictatime",
    "uhelper",
    "helper",
    "comment",
];

/// Operations on existing mounts.
const NOT_A_MOUNT: [&str; 13] = [
    "remount",
    "bind",
    "rbind",
    "move",
    "beneath",
    "shared",
    "rshared",
    "slave",
    "rslave",
    "private",
    "rprivate",
    "unbindable",
    "runbindable",
];

impl MountOptions {
    /// Options from one list.
    ///
    /// # Errors
    /// See [`MountOptions::add`].
    pub fn parse(list: impl AsRef<OsStr>) -> Result<Self, OptionError> {
        let mut options = Self::default();
        options.add(list)?;
        Ok(options)
    }

    /// Adds a further list (`-o` may be repeated); its options win over the earlier ones.
    ///
    /// # Errors
    /// [`OptionError`]: `rw`, unbalanced quotes, values out of range. Unknown options are kept for the kernel to judge.
    pub fn add(&mut self, list: impl AsRef<OsStr>) -> Result<(), OptionError> {
        self.add_list(list.as_ref(), |_| false)
    }

    /// As [`MountOptions::add`], but skips what `skip` says of a key.
    pub(crate) fn add_list(
        &mut self,
        list: &OsStr,
        skip: fn(&str) -> bool,
    ) -> Result<(), OptionError> {
        for item in split(list.as_bytes())? {
            let (key, value) = match item.iter().position(|&byte| byte == b'=') {
                Some(at) => (item.get(..at).unwrap_or_default(), item.get(at + 1..)),
                None => (item.as_slice(), None),
            };
            let key = std::str::from_utf8(key)
                .map_err(|_| OptionError::Name(OsString::from_vec(key.to_vec())))?;
            if !skip(key) {
                self.add_one(key, value.map(OsStr::from_bytes))?;
            }
        }
        Ok(())
    }

    /// Drops what this crate does not know (`mount -s`).
    pub fn tolerate_unknown(&mut self) {
        self.filesystem
            .retain(|option| DRIVER_OPTIONS.contains(&option.key.as_str()));
    }

    /// Names of the attributes that differ from a plain read-write mount, as mount(8) spells them: what a FUSE server hands
    /// to its own mount.
    pub fn attribute_names(&self) -> Vec<&'static str> {
        use MountAttrFlags as A;
        let names = [
            (A::MOUNT_ATTR_RDONLY, "ro"),
            (A::MOUNT_ATTR_NOSUID, "nosuid"),
            (A::MOUNT_ATTR_NODEV, "nodev"),
            (A::MOUNT_ATTR_NOEXEC, "noexec"),
            (A::MOUNT_ATTR_NOATIME, "noatime"),
            (A::MOUNT_ATTR_STRICTATIME, "strictatime"),
            (A::MOUNT_ATTR_NODIRATIME, "nodiratime"),
            (A::MOUNT_ATTR_NOSYMFOLLOW, "nosymfollow"),
        ];
        let set = names
            .into_iter()
            .filter(|(flag, _)| self.attributes.contains(*flag));
        set.map(|(_, name)| name).collect()
    }

    fn add_one(&mut self, key: &str, value: Option<&OsStr>) -> Result<(), OptionError> {
        let given = value.unwrap_or_default();
        match key {
            "rw" => return Err(OptionError::Writable),
            "loop" if value.is_none() => self.via = Via::Loop,
            "loop" => {
                return Err(OptionError::value(
                    key,
                    given,
                    "no value: the loop device is chosen",
                ));
            }
            "via" => self.via = given.to_str().unwrap_or_default().parse()?,
            "offset" | "fsoffset" => self.offset = size(key, given)?,
            "sizelimit" => self.size_limit = Some(size(key, given)?).filter(|&bytes| bytes != 0),
            "device" if given.is_empty() => return Err(OptionError::value(key, given, "a path")),
            "device" => self.devices.push(given.into()),
            "directio" => self.direct_io = DirectIo::Always,
            "nodirectio" => self.direct_io = DirectIo::Never,
            _ if self.attribute(key)
                || NOT_FOR_US.contains(&key)
                || key.starts_with("x-")
                || key.starts_with("X-") => {}
            _ if NOT_A_MOUNT.contains(&key) => return Err(OptionError::NotAMount(key.to_owned())),
            _ => self.filesystem.push(FilesystemOption {
                key: key.to_owned(),
                value: value.map(OsStr::to_owned),
            }),
        }
        Ok(())
    }

    /// Applies `key` if it names an attribute of mounts.
    fn attribute(&mut self, key: &str) -> bool {
        use MountAttrFlags as A;
        let (flag, set) = match key {
            "nosuid" => (A::MOUNT_ATTR_NOSUID, true),
            "suid" => (A::MOUNT_ATTR_NOSUID, false),
            "nodev" => (A::MOUNT_ATTR_NODEV, true),
            "dev" => (A::MOUNT_ATTR_NODEV, false),
            "noexec" => (A::MOUNT_ATTR_NOEXEC, true),
            "exec" => (A::MOUNT_ATTR_NOEXEC, false),
            "nosymfollow" => (A::MOUNT_ATTR_NOSYMFOLLOW, true),
            "symfollow" => (A::MOUNT_ATTR_NOSYMFOLLOW, false),
            "nodiratime" => (A::MOUNT_ATTR_NODIRATIME, true),
            "diratime" => (A::MOUNT_ATTR_NODIRATIME, false),
            // One field of several bits, in which relatime is zero.
            "noatime" | "strictatime" | "relatime" | "atime" => {
                self.attributes.remove(A::MOUNT_ATTR__ATIME);
                match key {
                    "noatime" => (A::MOUNT_ATTR_NOATIME, true),
                    "strictatime" => (A::MOUNT_ATTR_STRICTATIME, true),
                    _ => (A::empty(), true),
                }
            }
            _ => return false,
        };
        self.attributes.set(flag, set);
        true
    }
}

/// Cuts a list at its commas outside of quotes and drops the quotes.
fn split(list: &[u8]) -> Result<Vec<Vec<u8>>, OptionError> {
    let (mut items, mut item, mut quoted) = (Vec::new(), Vec::new(), false);
    for &byte in list {
        match byte {
            b'"' => quoted = !quoted,
            b',' if !quoted => items.push(std::mem::take(&mut item)),
            _ => item.push(byte),
        }
    }
    if quoted {
        return Err(OptionError::Quote(
            String::from_utf8_lossy(&item).into_owned(),
        ));
    }
    items.push(item);
    items.retain(|item| !item.is_empty());
    Ok(items)
}

fn size(key: &str, value: &OsStr) -> Result<u64, OptionError> {
    let error = || OptionError::value(key, value, "a number of bytes, or one with K, M, G or T");
    let text = value.to_str().ok_or_else(error)?;
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let shift = match unit {
        "" => 0,
        "K" | "k" | "KiB" => 10,
        "M" | "MiB" => 20,
        "G" | "GiB" => 30,
        "T" | "TiB" => 40,
        _ => return Err(error()),
    };
    number
        .parse::<u64>()
        .ok()
        .and_then(|number| number.checked_mul(1 << shift))
        .ok_or_else(error)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rustix::mount::MountAttrFlags as A;

    const RO: A = A::MOUNT_ATTR_RDONLY;

    fn pass(key: &str, value: Option<&str>) -> FilesystemOption {
        FilesystemOption {
            key: key.into(),
            value: value.map(Into::into),
        }
    }

    #[test]
    fn attributes() {
        for (list, expected) in [
            ("", RO),
            ("ro,defaults,,nofail,noauto,_netdev", RO),
            (
                "nosuid,nodev,noexec",
                RO | A::MOUNT_ATTR_NOSUID | A::MOUNT_ATTR_NODEV | A::MOUNT_ATTR_NOEXEC,
            ),
            ("nosuid,suid", RO),
            ("noatime", RO | A::MOUNT_ATTR_NOATIME),
            ("noatime,strictatime", RO | A::MOUNT_ATTR_STRICTATIME),
            ("noatime,relatime", RO),
            (
                "nodiratime,nosymfollow",
                RO | A::MOUNT_ATTR_NODIRATIME | A::MOUNT_ATTR_NOSYMFOLLOW,
            ),
            ("user=alice,users,owner,group,exec", RO),
            (
                "x-systemd.automount,X-mount.mkdir=0755,comment=x,sync,mand",
                RO,
            ),
        ] {
            let options = MountOptions::parse(list).expect(list);
            assert_eq!(
                options,
                MountOptions {
                    attributes: expected,
                    ..Default::default()
                },
                "{list}"
            );
        }
    }

    #[test]
    fn values() {
        let base = MountOptions::default;
        for (list, expected) in [
            (
                "loop",
                MountOptions {
                    via: Via::Loop,
                    ..base()
                },
            ),
            (
                "via=file",
                MountOptions {
                    via: Via::File,
                    ..base()
                },
            ),
            ("loop,via=auto", base()),
            (
                "offset=4096",
                MountOptions {
                    offset: 4096,
                    ..base()
                },
            ),
            (
                "fsoffset=8K",
                MountOptions {
                    offset: 8192,
                    ..base()
                },
            ),
            (
                "offset=1MiB,sizelimit=2G",
                MountOptions {
                    offset: 1 << 20,
                    size_limit: Some(2 << 30),
                    ..base()
                },
            ),
            ("sizelimit=0", base()),
            (
                "device=/a,device=b",
                MountOptions {
                    devices: vec!["/a".into(), "b".into()],
                    ..base()
                },
            ),
            (
                r#"device="/a,b",noatime,suid"#,
                MountOptions {
                    devices: vec!["/a,b".into()],
                    attributes: RO | A::MOUNT_ATTR_NOATIME,
                    ..base()
                },
            ),
            (
                r#"device=/a\,device=b=c"#,
                MountOptions {
                    devices: vec!["/a\\".into(), "b=c".into()],
                    ..base()
                },
            ),
            (
                "directio",
                MountOptions {
                    direct_io: DirectIo::Always,
                    ..base()
                },
            ),
            (
                "directio,nodirectio",
                MountOptions {
                    direct_io: DirectIo::Never,
                    ..base()
                },
            ),
            (
                "noacl,cache_strategy=disabled,dax",
                MountOptions {
                    filesystem: vec![
                        pass("noacl", None),
                        pass("cache_strategy", Some("disabled")),
                        pass("dax", None),
                    ],
                    ..base()
                },
            ),
            (
                "surprise=1",
                MountOptions {
                    filesystem: vec![pass("surprise", Some("1"))],
                    ..base()
                },
            ),
        ] {
            assert_eq!(MountOptions::parse(list).expect(list), expected, "{list}");
        }
    }

    #[test]
    fn attributes_have_names() {
        for list in [
            "ro",
            "ro,nosuid,nodev,noexec,noatime",
            "ro,strictatime,nodiratime,nosymfollow",
        ] {
            let names = MountOptions::parse(list).expect("valid").attribute_names();
            assert_eq!(names.join(","), list);
        }
    }

    #[test]
    fn refusals() {
        for (list, expected) in [
            ("rw", OptionError::Writable),
            ("ro,rw", OptionError::Writable),
            ("remount", OptionError::NotAMount("remount".into())),
            ("rslave", OptionError::NotAMount("rslave".into())),
            (
                r#"device="/a,ro"#,
                OptionError::Quote("device=/a,ro".into()),
            ),
            (
                "device=",
                OptionError::value("device", "".as_ref(), "a path"),
            ),
            (
                "device",
                OptionError::value("device", "".as_ref(), "a path"),
            ),
            (
                "loop=/dev/loop1",
                OptionError::value(
                    "loop",
                    "/dev/loop1".as_ref(),
                    "no value: the loop device is chosen",
                ),
            ),
            (
                "via=nfs",
                OptionError::value("via", "nfs".as_ref(), "one of auto, file, loop, fuse"),
            ),
        ] {
            assert_eq!(
                MountOptions::parse(list).expect_err(list),
                expected,
                "{list}"
            );
        }
        for list in [
            "offset=",
            "offset",
            "offset=-1",
            "offset=1Q",
            "offset=99999999999999999999",
            "offset=16777216T",
        ] {
            assert!(
                matches!(MountOptions::parse(list), Err(OptionError::Value { .. })),
                "{list}"
            );
        }
        assert!(matches!(
            MountOptions::parse(OsStr::from_bytes(b"\xff=1")),
            Err(OptionError::Name(_))
        ));
    }

    #[test]
    fn sloppy_drops_only_what_nobody_knows() {
        let mut options = MountOptions::parse("acl,surprise,offset=512").expect("valid");
        options.tolerate_unknown();
        assert_eq!(
            options,
            MountOptions {
                filesystem: vec![pass("acl", None)],
                offset: 512,
                ..Default::default()
            }
        );
    }

    proptest! {
        #[test]
        fn any_bytes_are_options_or_an_error(list in proptest::collection::vec(any::<u8>(), 0..200)) {
            if let Ok(options) = MountOptions::parse(OsStr::from_bytes(&list)) {
                prop_assert!(options.attributes.contains(RO));
            }
        }

        #[test]
        fn quoted_device_paths_survive(path in "[^\"\0]{1,80}") {
            let options = MountOptions::parse(format!("nodev,device=\"{path}\",acl")).expect("valid");
            prop_assert_eq!(options.devices, vec![PathBuf::from(path)]);
        }
    }
}
