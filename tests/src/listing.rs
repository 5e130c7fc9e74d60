//! What our reader sees in an image, line by line, in the form that `tests/kernels` makes of a mount and
//! `images/golden/expected` keeps: columns separated by tabs for path, type, mode, owner, links, size, time, content,
//! attributes, and the first path, in byte order, of all with the same inode.
//!
//! What cannot be read is told in place, with a `!` in front, and the rest goes on: images need not be well-formed.

use std::{collections::HashMap, fmt::Write as _};

use erofs_format::{
    Nid,
    inode::{FileType, InodePayload},
};
use erofs_reader::{Image, Inode};
use rustix::fs::makedev;
use sha2::{Digest, Sha256};

/// Of larger files only both ends are told.
const WHOLE: u64 = 64 << 20;
const END: u64 = 1 << 20;
const BUFFER: usize = 1 << 17;

/// The columns of an inode between its path and the names that it shares.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Columns {
    /// Type to time.
    pub metadata: [String; 6],
    /// Digest, target or device number.
    pub content: Result<String, String>,
    /// `name=value` of every attribute, sorted, the values in hexadecimal digits.
    pub xattrs: Result<Vec<String>, String>,
}

/// The whole image. Errors of walking stand in lines of their own: path, `?`, and what happened.
pub fn of_image(image: &Image) -> String {
    let mut lines: Vec<(Vec<u8>, Option<Nid>, String)> = Vec::new();
    let failed = |error: erofs_reader::Error| format!("?\t!{error}");
    match image.walk() {
        Err(error) => lines.push((Vec::new(), None, failed(error))),
        Ok(mut walk) => {
            while let Some(found) = walk.next() {
                let path = walk.path().to_vec();
                lines.push(match found {
                    Ok(entry) => {
                        let shared = !entry.inode.is_directory();
                        let columns = Columns::of(image, &entry.inode).to_string();
                        (path, shared.then(|| entry.inode.nid()), columns)
                    }
                    Err(error) => (path, None, failed(error)),
                });
            }
        }
    }
    lines.sort_by(|one, other| one.0.cmp(&other.0));
    let mut first_names: HashMap<Nid, String> = HashMap::new();
    let mut text = String::new();
    for (path, nid, columns) in lines {
        let name = name_of(&path);
        let first = nid.map(|nid| first_names.entry(nid).or_insert_with(|| name.clone()));
        let shared = first.filter(|first| **first != name);
        let shared = shared.map_or("-", |first| first.as_str());
        let _ = writeln!(text, "{name}\t{columns}\t{shared}");
    }
    text
}

impl Columns {
    /// Those of an inode.
    pub fn of(image: &Image, inode: &Inode) -> Self {
        let (letter, size) = match inode.file_type {
            FileType::Regular => ("f", inode.size),
            FileType::Symlink => ("l", inode.size),
            FileType::Directory => ("d", 0),
            FileType::CharDevice => ("c", 0),
            FileType::BlockDevice => ("b", 0),
            FileType::Fifo => ("p", 0),
            FileType::Socket => ("s", 0),
        };
        Self {
            metadata: [
                letter.into(),
                format!("{:o}", inode.mode & 0o7777),
                format!("{}:{}", inode.uid, inode.gid),
                inode.nlink.to_string(),
                size.to_string(),
                format!("{}.{:09}", inode.mtime.seconds, inode.mtime.nanoseconds),
            ],
            content: content(image, inode),
            xattrs: xattrs(image, inode),
        }
    }
}

impl std::fmt::Display for Columns {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for column in &self.metadata {
            write!(f, "{column}\t")?;
        }
        let content = self.content.as_ref().unwrap_or_else(|error| error);
        let xattrs = self.xattrs.as_ref().map(|list| list.join(","));
        write!(
            f,
            "{content}\t{}",
            xattrs.unwrap_or_else(|error| error.clone())
        )
    }
}

fn content(image: &Image, inode: &Inode) -> Result<String, String> {
    match inode.file_type {
        FileType::Regular if inode.size > WHOLE => {
            let mut hash = Sha256::new();
            hash_range(image, inode, 0, END, &mut hash)?;
            hash_range(image, inode, inode.size - END, inode.size, &mut hash)?;
            Ok(format!("ends:{}", hexadecimal(&hash.finalize())))
        }
        FileType::Regular => beginning(image, inode, inode.size),
        FileType::Symlink => image
            .read_link(inode)
            .map(|target| escaped(&target))
            .map_err(|error| format!("!target:{error}")),
        FileType::CharDevice | FileType::BlockDevice => Ok(match inode.payload {
            InodePayload::Device(number) => {
                format!("{:x}", makedev(number.major, number.minor))
            }
            _ => "0".into(),
        }),
        FileType::Directory | FileType::Fifo | FileType::Socket => Ok("-".into()),
    }
}

/// SHA-256 of the first `end` bytes of a file.
///
/// # Errors
/// What failed and where.
pub fn beginning(image: &Image, inode: &Inode, end: u64) -> Result<String, String> {
    let mut hash = Sha256::new();
    hash_range(image, inode, 0, end, &mut hash)?;
    Ok(hexadecimal(&hash.finalize()))
}

fn hash_range(
    image: &Image,
    inode: &Inode,
    start: u64,
    end: u64,
    hash: &mut Sha256,
) -> Result<(), String> {
    let mut buffer = vec![0; BUFFER];
    let mut at = start;
    while at < end {
        let want = usize::try_from(end - at).map_or(BUFFER, |left| left.min(BUFFER));
        match image.read(inode, at, &mut buffer[..want]) {
            Ok(0) => return Err(format!("!short@{at}")),
            Ok(count) => {
                hash.update(&buffer[..count]);
                at += count as u64;
            }
            Err(error) => return Err(format!("!read@{at}:{error}")),
        }
    }
    Ok(())
}

fn xattrs(image: &Image, inode: &Inode) -> Result<Vec<String>, String> {
    let found = image
        .xattrs(inode)
        .map_err(|error| format!("!list:{error}"))?;
    let mut all: Vec<String> = found
        .iter()
        .map(|xattr| format!("{}={}", escaped(&xattr.name), hexadecimal(&xattr.value)))
        .collect();
    all.sort();
    Ok(all)
}

/// A path as the first column tells it.
pub fn name_of(path: &[u8]) -> String {
    if path.is_empty() {
        ".".into()
    } else {
        escaped(path)
    }
}

/// Printable ASCII as it is; everything else, blanks and backslashes as `\xHH`.
pub fn escaped(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, &byte| {
        if byte.is_ascii_graphic() && byte != b'\\' {
            text.push(char::from(byte));
        } else {
            let _ = write!(text, "\\x{byte:02x}");
        }
        text
    })
}

/// The SHA-256 of bytes, in hexadecimal.
pub fn sha256(bytes: &[u8]) -> String {
    hexadecimal(&Sha256::digest(bytes))
}

/// Two digits for each byte.
pub fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}
