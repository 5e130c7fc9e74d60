//! The EROFS mounts of this mount namespace, from `/proc/self/mountinfo` (proc_pid_mountinfo(5)).

use std::ffi::OsString;
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

/// Filesystem type that our FUSE server mounts under (FUSE subtype `erofs`).
pub const FUSE_TYPE: &str = "fuse.erofs";

/// What carries a mount.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Carrier {
    /// The kernel reads the image file.
    File,
    /// The kernel reads a loop device.
    Loop {
        /// The file behind it, where sysfs still tells.
        backing: Option<PathBuf>,
    },
    /// The kernel reads another block device.
    Block,
    /// Our server in user space.
    Fuse,
}

/// One mounted EROFS image.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct MountedImage {
    /// As the kernel shows it: image file, block device, or what the FUSE server named.
    pub source: PathBuf,
    /// Where it is mounted.
    pub mount_point: PathBuf,
    /// What carries it.
    pub carrier: Carrier,
    /// Options of the mount and of the filesystem, comma-separated.
    pub options: String,
    /// Device number of the filesystem, `MAJOR:MINOR`.
    pub device: String,
}

/// One line of mountinfo, decoded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Line {
    pub(crate) device: String,
    pub(crate) root: PathBuf,
    pub(crate) mount_point: PathBuf,
    pub(crate) options: String,
    pub(crate) filesystem_type: String,
    pub(crate) source: PathBuf,
    pub(crate) filesystem_options: String,
}

/// A line of mountinfo that breaks its format.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("mountinfo line {line}: {rule}: {text:?}")]
pub struct TableError {
    /// Number of the line, from 1.
    pub line: usize,
    /// What is missing.
    pub rule: &'static str,
    /// The line.
    pub text: String,
}

/// Lists the EROFS and `fuse.erofs` mounts, oldest first.
///
/// # Errors
/// Reading `/proc/self/mountinfo`; a line that breaks its format ([`TableError`] as the source of an `InvalidData`).
pub fn list() -> io::Result<Vec<MountedImage>> {
    Ok(lines()?.into_iter().filter_map(image).collect())
}

/// All mounts, oldest first.
pub(crate) fn lines() -> io::Result<Vec<Line>> {
    let text = std::fs::read("/proc/self/mountinfo")?;
    parse(&text).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
}

pub(crate) fn image(line: Line) -> Option<MountedImage> {
    let carrier = match line.filesystem_type.as_str() {
        "erofs" => match loop_name(&line.source) {
            Some(name) => Carrier::Loop {
                backing: crate::loop_device::backing_file(name),
            },
            None if line.source.starts_with("/dev/") => Carrier::Block,
            None => Carrier::File,
        },
        FUSE_TYPE => Carrier::Fuse,
        _ => return None,
    };
    let mut options = line.options;
    for option in line
        .filesystem_options
        .split(',')
        .filter(|option| !option.is_empty())
    {
        if !options.split(',').any(|known| known == option) {
            options.push(',');
            options.push_str(option);
        }
    }
    Some(MountedImage {
        source: line.source,
        mount_point: line.mount_point,
        carrier,
        options,
        device: line.device,
    })
}

/// `loopN` of `/dev/loopN`.
pub(crate) fn loop_name(source: &Path) -> Option<&str> {
    let name = source.strip_prefix("/dev").ok()?.to_str()?;
    let number = name.strip_prefix("loop")?;
    (!number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit())).then_some(name)
}

/// Decodes mountinfo: `ID PARENT MAJOR:MINOR ROOT POINT OPTIONS [TAG…] - TYPE SOURCE FSOPTIONS` per line.
pub(crate) fn parse(text: &[u8]) -> Result<Vec<Line>, TableError> {
    let lines = text.split(|&byte| byte == b'\n').enumerate();
    lines
        .filter(|(_, line)| !line.is_empty())
        .map(|(index, line)| {
            parse_line(line).map_err(|rule| TableError {
                line: index + 1,
                rule,
                text: String::from_utf8_lossy(line).into_owned(),
            })
        })
        .collect()
}

fn parse_line(line: &[u8]) -> Result<Line, &'static str> {
    let mut fields = line.split(|&byte| byte == b' ');
    let mut next = |missing: &'static str| fields.next().ok_or(missing);
    next("no mount id")?;
    next("no parent id")?;
    let device = text(next("no device number")?);
    let root = path(next("no root")?);
    let mount_point = path(next("no mount point")?);
    let options = text(next("no mount options")?);
    while next("no separator after the optional tags")? != b"-" {}
    Ok(Line {
        device,
        root,
        mount_point,
        options,
        filesystem_type: text(next("no filesystem type")?),
        source: path(next("no source")?),
        filesystem_options: text(next("no filesystem options")?),
    })
}

fn text(field: &[u8]) -> String {
    String::from_utf8_lossy(&unescape(field)).into_owned()
}

fn path(field: &[u8]) -> PathBuf {
    PathBuf::from(OsString::from_vec(unescape(field)))
}

/// Undoes the kernel's `\ooo` escapes (`seq_escape`: space, tab, newline, backslash, `#`). Anything else that starts
/// with a backslash stands for itself.
fn unescape(field: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        match (byte, after) {
            (
                b'\\',
                [
                    high @ b'0'..=b'3',
                    middle @ b'0'..=b'7',
                    low @ b'0'..=b'7',
                    beyond @ ..,
                ],
            ) => {
                out.push((high - b'0') << 6 | (middle - b'0') << 3 | (low - b'0'));
                rest = beyond;
            }
            _ => out.push(byte),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn lines_of_the_kernel() {
        let table: [(&[u8], &str, &str, &str, &str); 8] = [
            (
                b"30 1 254:0 / / rw,relatime - ext4 /dev/vda rw,discard",
                "ext4",
                "/dev/vda",
                "/",
                "rw,discard",
            ),
            (
                b"40 30 0:33 / /m ro,relatime shared:1 master:2 - erofs /a.erofs ro,directio",
                "erofs",
                "/a.erofs",
                "/m",
                "ro,directio",
            ),
            (
                b"40 30 0:33 / /a\\040b\\011c\\012d\\134e ro - erofs /i\\040- ro",
                "erofs",
                "/i -",
                "/a b\tc\nd\\e",
                "ro",
            ),
            // A name that looks like an escape is itself escaped by the kernel.
            (
                b"40 30 0:33 / /x\\134040y ro - erofs /i ro",
                "erofs",
                "/i",
                "/x\\040y",
                "ro",
            ),
            (
                b"40 30 0:33 / /n\\400\\9\\ ro - erofs /i ro",
                "erofs",
                "/i",
                "/n\\400\\9\\",
                "ro",
            ),
            (
                b"40 30 0:33 / /- ro - fuse.erofs img ro,user_id=0",
                "fuse.erofs",
                "img",
                "/-",
                "ro,user_id=0",
            ),
            (b"40 30 0:33 / /m ro - tmpfs  rw", "tmpfs", "", "/m", "rw"),
            (
                b"40 30 0:33 / /\\303\\244 ro tag:x - erofs none ",
                "erofs",
                "none",
                "/\u{e4}",
                "",
            ),
        ];
        for (line, filesystem_type, source, mount_point, options) in table {
            let parsed = parse(line).expect("valid").remove(0);
            assert_eq!(parsed.filesystem_type, filesystem_type);
            assert_eq!(parsed.source, Path::new(source));
            assert_eq!(parsed.mount_point, Path::new(mount_point));
            assert_eq!(parsed.filesystem_options, options);
        }
    }

    #[test]
    fn broken_lines_are_named() {
        for (line, rule) in [
            ("x", "no parent id"),
            ("1 2 3:4 / /m", "no mount options"),
            (
                "1 2 3:4 / /m ro shared:1 erofs /i ro",
                "no separator after the optional tags",
            ),
            ("1 2 3:4 / /m ro -", "no filesystem type"),
            ("1 2 3:4 / /m ro - erofs", "no source"),
            ("1 2 3:4 / /m ro - erofs /i", "no filesystem options"),
        ] {
            let error =
                parse(format!("1 1 0:1 / / rw - a b c\n{line}\n").as_bytes()).expect_err(line);
            assert_eq!((error.line, error.rule), (2, rule), "{line}");
        }
    }

    #[test]
    fn carriers() {
        let carrier = |filesystem_type: &str, source: &str| {
            let line = format!("40 30 0:33 / /m ro,nosuid - {filesystem_type} {source} ro,acl");
            parse(line.as_bytes())
                .expect("valid")
                .into_iter()
                .find_map(image)
                .map(|image| (image.carrier, image.options))
        };
        let options = "ro,nosuid,acl".to_owned();
        assert_eq!(
            carrier("erofs", "/srv/a.erofs"),
            Some((Carrier::File, options.clone()))
        );
        assert_eq!(
            carrier("erofs", "/dev/vdb"),
            Some((Carrier::Block, options.clone()))
        );
        assert_eq!(
            carrier("erofs", "/dev/loop"),
            Some((Carrier::Block, options.clone()))
        );
        assert_eq!(
            carrier("erofs", "/dev/loop999999"),
            Some((Carrier::Loop { backing: None }, options.clone()))
        );
        assert_eq!(carrier("fuse.erofs", "a"), Some((Carrier::Fuse, options)));
        assert_eq!(carrier("fuse.sshfs", "a"), None);
        assert_eq!(carrier("ext4", "/dev/vda"), None);
    }

    proptest! {
        #[test]
        fn any_bytes_parse_or_are_refused(text in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = parse(&text);
        }

        #[test]
        fn escaped_paths_come_back(name in proptest::collection::vec(1u8.., 1..40)) {
            let escaped: Vec<u8> = name.iter().flat_map(|&byte| match byte {
                b' ' | b'\t' | b'\n' | b'\\' | b'#' => format!("\\{byte:03o}").into_bytes(),
                _ => vec![byte],
            }).collect();
            let line = [b"1 1 0:1 / ".as_slice(), &escaped, b" ro - erofs i ro"].concat();
            let parsed = parse(&line).expect("valid");
            prop_assert_eq!(parsed[0].mount_point.clone().into_os_string().into_vec(), name);
        }
    }
}
