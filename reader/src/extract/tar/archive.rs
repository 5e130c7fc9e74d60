//! An archive under construction: headers, data and padding in the right order.

use super::header::Header;
use super::member::{Kind, Member, MemberError};
use super::pax::Records;
use super::{BLOCK_SIZE, acl, padding, sparse};
use std::io::{self, Write};

/// Why an archive cannot be continued.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// The output failed.
    #[error("cannot write the archive: {0}")]
    Write(#[from] io::Error),
    /// More data than the last member announced.
    #[error("more data than the member has: {0} bytes")]
    TooMuch(u64),
    /// Less data than the last member announced.
    #[error("data of the member before is missing: {0} bytes")]
    Missing(u64),
}

/// All headers of a member, as they stand in an archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Encoded {
    header: Vec<u8>,
    data: u64,
    padding: usize,
}

impl Encoded {
    /// How many bytes of data have to follow: for files the bytes of the file, holes left out.
    pub const fn data(&self) -> u64 {
        self.data
    }

    /// How many bytes of memory it takes.
    pub const fn length(&self) -> usize {
        self.header.len()
    }
}

/// Writes an archive to `out`, member by member: the headers by [`Archive::member`], then as many bytes as they announce
/// by [`Archive::data`], in pieces of any size.
#[derive(Debug)]
pub struct Archive<W> {
    out: W,
    /// Data of the last member that is still to come, and the padding behind it, in bytes.
    missing: u64,
    padding: usize,
}

impl<W: Write> Archive<W> {
    /// An archive without members.
    pub const fn new(out: W) -> Self {
        Self {
            out,
            missing: 0,
            padding: 0,
        }
    }

    /// Writes the headers of a member.
    ///
    /// # Errors
    /// [`ArchiveError::Missing`], [`ArchiveError::Write`].
    pub fn member(&mut self, member: &Encoded) -> Result<(), ArchiveError> {
        self.complete()?;
        self.out.write_all(&member.header)?;
        self.missing = member.data;
        self.padding = member.padding;
        self.end_of_data()
    }

    /// Writes data of the last member.
    ///
    /// # Errors
    /// [`ArchiveError::TooMuch`], [`ArchiveError::Write`].
    pub fn data(&mut self, bytes: &[u8]) -> Result<(), ArchiveError> {
        let length = bytes.len() as u64;
        let Some(missing) = self.missing.checked_sub(length) else {
            return Err(ArchiveError::TooMuch(length - self.missing));
        };
        self.missing = missing;
        self.out.write_all(bytes)?;
        self.end_of_data()
    }

    /// Writes the end mark.
    ///
    /// # Errors
    /// [`ArchiveError::Missing`], [`ArchiveError::Write`].
    pub fn finish(mut self) -> Result<W, ArchiveError> {
        self.complete()?;
        self.out.write_all(&[0; 2 * BLOCK_SIZE])?;
        self.out.flush()?;
        Ok(self.out)
    }

    fn complete(&self) -> Result<(), ArchiveError> {
        match self.missing {
            0 => Ok(()),
            missing => Err(ArchiveError::Missing(missing)),
        }
    }

    fn end_of_data(&mut self) -> Result<(), ArchiveError> {
        if self.missing == 0 {
            let length = std::mem::take(&mut self.padding);
            let zeros = [0; BLOCK_SIZE];
            self.out
                .write_all(zeros.get(..length).unwrap_or_default())?;
        }
        Ok(())
    }
}

impl Member {
    /// The headers of this member, and the map if it is a sparse file.
    ///
    /// # Errors
    /// [`MemberError`].
    pub fn encode(&self) -> Result<Encoded, MemberError> {
        let mut out = Vec::new();
        let (data, stored) = encode(self, &mut out)?;
        Ok(Encoded {
            header: out,
            data,
            padding: padding(stored),
        })
    }
}

/// Appends all headers of a member. Returns how many bytes of data follow, and how many are stored in all, with the map.
fn encode(member: &Member, out: &mut Vec<u8>) -> Result<(u64, u64), MemberError> {
    let (mut map, mut data) = (Vec::new(), 0);
    let type_flag = match &member.kind {
        Kind::File { size } => {
            data = *size;
            b'0'
        }
        Kind::Sparse { size, data: ranges } => {
            checked_size(*size)?;
            data = sparse::encode_map(*size, ranges, &mut map)?;
            b'0'
        }
        Kind::Socket => b'0',
        Kind::HardLink { .. } => b'1',
        Kind::Symlink { .. } => b'2',
        Kind::CharDevice(_) => b'3',
        Kind::BlockDevice(_) => b'4',
        Kind::Directory => b'5',
        Kind::Fifo => b'6',
    };
    let mut header = Header::new(type_flag);
    let mut records = Records::default();
    names(member, &mut header, &mut records)?;
    let stored = checked_size(data.saturating_add(map.len() as u64))?;
    if !header.size(stored) {
        records.push_number("size", stored);
    }
    header.mode(member.mode);
    if !header.uid(member.uid) {
        records.push_number("uid", member.uid.into());
    }
    if !header.gid(member.gid) {
        records.push_number("gid", member.gid.into());
    }
    if !header.mtime(member.mtime) {
        records.push_time("mtime", member.mtime);
    }
    if let Kind::CharDevice(number) | Kind::BlockDevice(number) = member.kind {
        let (major, minor) = header.device(number.major, number.minor);
        if !major {
            records.push_number("SCHILY.devmajor", number.major.into());
        }
        if !minor {
            records.push_number("SCHILY.devminor", number.minor.into());
        }
    }
    if member.kind == Kind::Socket {
        records.push(b"SCHILY.filetype", b"socket");
    }
    for xattr in &member.xattrs {
        records.push_xattr(&xattr.name, &xattr.value);
        if let (Some(keyword), Some(text)) = (acl::keyword(&xattr.name), acl::text(&xattr.value)) {
            records.push(keyword, text.as_bytes());
        }
    }
    records.encode(out);
    out.extend_from_slice(&header.finish());
    out.append(&mut map);
    Ok((data, stored))
}

/// Path and target.
fn names(member: &Member, header: &mut Header, records: &mut Records) -> Result<(), MemberError> {
    let mut path = checked_path(&member.path)?.to_vec();
    if path.is_empty() {
        path.push(b'.');
    }
    if member.kind == Kind::Directory {
        path.push(b'/');
    }
    let target = match &member.kind {
        Kind::Symlink { target } if target.is_empty() || target.contains(&0) => {
            return Err(MemberError::Path);
        }
        Kind::HardLink { target } if checked_path(target)?.is_empty() => {
            return Err(MemberError::Path);
        }
        Kind::Symlink { target } | Kind::HardLink { target } => target.as_slice(),
        _ => &[],
    };
    let is_sparse = matches!(member.kind, Kind::Sparse { .. });
    let long_path = !is_sparse && !header.path(&path);
    let long_target = !header.link(target);
    let is_text = |bytes: &[u8], said: bool| !said || std::str::from_utf8(bytes).is_ok();
    if !is_text(&path, long_path || is_sparse) || !is_text(target, long_target) {
        // Otherwise records are UTF-8.
        records.push(b"hdrcharset", b"BINARY");
    }
    if let Kind::Sparse { size, .. } = member.kind {
        let name = path.rsplit(|byte| *byte == b'/').next().unwrap_or(&path);
        header.placeholder(&[b"GNUSparseFile.0/", name].concat());
        sparse::announce(records, &path, size);
    }
    if long_path {
        header.placeholder(&path);
        records.push(b"path", &path);
    }
    if long_target {
        records.push(b"linkpath", target);
    }
    Ok(())
}

fn checked_path(path: &[u8]) -> Result<&[u8], MemberError> {
    if path.contains(&0) || path.starts_with(b"/") || path.ends_with(b"/") {
        return Err(MemberError::Path);
    }
    Ok(path)
}

fn checked_size(size: u64) -> Result<u64, MemberError> {
    i64::try_from(size)
        .map(|_| size)
        .map_err(|_| MemberError::Size(size))
}

#[cfg(test)]
mod tests {
    use super::*;
    use erofs_format::inode::Timestamp;

    fn member(path: &[u8], kind: Kind) -> Member {
        Member {
            path: path.to_vec(),
            kind,
            mode: 0o644,
            uid: 0,
            gid: 0,
            mtime: Timestamp::default(),
            xattrs: Vec::new(),
        }
    }

    #[test]
    fn what_fits_needs_one_block() {
        let long = [&[b'p'; 155][..], b"/", &[b'n'; 100]].concat();
        for path in [&b""[..], b"a", &[b'x'; 100], &long, b"\xff"] {
            let mut out = Vec::new();
            encode(&member(path, Kind::File { size: 1 << 32 }), &mut out).unwrap();
            assert_eq!(out.len(), 512);
        }
        let mut out = Vec::new();
        encode(&member(&[b'd'; 99], Kind::Directory), &mut out).unwrap();
        assert_eq!(out.len(), 512);
        assert!(out.starts_with(&[b'd'; 99]) && out[99] == b'/');
    }

    #[test]
    fn what_does_not_fit_is_said_in_records() {
        let size = 8 << 30;
        for (text, changed) in [
            ("path", member(&[b'x'; 101], Kind::Fifo)),
            ("path", member(&[b'd'; 100], Kind::Directory)),
            ("hdrcharset=BINARY", member(&[0xFF; 101], Kind::Fifo)),
            ("size=8589934592", member(b"a", Kind::File { size })),
            (
                "uid=2097152",
                Member {
                    uid: 1 << 21,
                    ..member(b"a", Kind::Fifo)
                },
            ),
            (
                "gid=4294967295",
                Member {
                    gid: u32::MAX,
                    ..member(b"a", Kind::Fifo)
                },
            ),
            (
                "linkpath",
                member(
                    b"a",
                    Kind::Symlink {
                        target: vec![b't'; 101],
                    },
                ),
            ),
            ("SCHILY.filetype=socket", member(b"a", Kind::Socket)),
        ] {
            let mut out = Vec::new();
            encode(&changed, &mut out).unwrap();
            assert!(out.len() >= 3 * 512 && out[156] == b'x', "{text}");
            let records = String::from_utf8_lossy(&out[512..]);
            assert!(records.contains(text), "{text}: {records}");
        }
    }

    #[test]
    fn data_is_counted() {
        let mut archive = Archive::new(Vec::new());
        let file = member(b"a", Kind::File { size: 3 }).encode().unwrap();
        assert_eq!(file.data(), 3);
        archive.member(&file).unwrap();
        archive.data(b"ab").unwrap();
        assert!(matches!(archive.data(b"cd"), Err(ArchiveError::TooMuch(1))));
        let directory = member(b"", Kind::Directory).encode().unwrap();
        let next = archive.member(&directory);
        assert!(matches!(next, Err(ArchiveError::Missing(1))));
        archive.data(b"c").unwrap();
        archive.member(&directory).unwrap();
        let out = archive.finish().unwrap();
        assert_eq!(out.len(), 5 * 512);
        assert!(out[512..].starts_with(b"abc\0") && out[1024..].starts_with(b"./\0"));
    }

    #[test]
    fn what_no_tar_can_say_is_refused() {
        let target = |target: &[u8]| target.to_vec();
        for (path, kind) in [
            (&b"/a"[..], Kind::Directory),
            (b"a/", Kind::Directory),
            (b"a\0", Kind::Fifo),
            (
                b"a",
                Kind::Symlink {
                    target: target(b""),
                },
            ),
            (
                b"a",
                Kind::Symlink {
                    target: target(b"x\0"),
                },
            ),
            (
                b"a",
                Kind::HardLink {
                    target: target(b""),
                },
            ),
        ] {
            assert_eq!(member(path, kind).encode(), Err(MemberError::Path));
        }
        let size = 1 << 63;
        let file = member(b"a", Kind::File { size });
        assert_eq!(file.encode(), Err(MemberError::Size(size)));
    }
}
