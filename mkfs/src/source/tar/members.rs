//! Members of an archive: header blocks put together with the extension headers in front of them.

use super::error::{MemberError, TarError};
use super::header::{
    self, BLOCK_SIZE, Block, Dialect, Field, GNU_EXTENSION_IS_EXTENDED, GNU_EXTENSION_PIECES,
    GNU_IS_EXTENDED, GNU_SPARSE_PIECES, Header, NumberError,
};
use super::input::{Input, ReadError};
use super::pax::{Attributes, Scope};
use super::sparse::{DataMapParser, PaxSparse, Pieces, SparseError};
use crate::source::{StoreError, StreamSink, default_root};
use crate::tree::{DataRange, Location, Metadata};
use erofs_format::device::DeviceNumber;
use erofs_format::inode::Timestamp;
use erofs_format::superblock;
use std::io::{self, Read};

/// Longest name or link target in an extension header in bytes. Paths of 2048 names fit.
const MAX_LONG_NAME: u64 = 1 << 20;
/// Largest PAX header in bytes: all attributes that an inode can have, twice, once of them as base64, and a long map.
const MAX_PAX_HEADER: u64 = 8 << 20;

/// What a member is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Regular,
    Directory,
    HardLink,
    Symlink,
    CharDevice,
    BlockDevice,
    Fifo,
    Socket,
}

/// A member. Buffers are used again for the next one.
#[derive(Debug)]
pub(super) struct Member {
    /// Offset of its header in bytes, after extension headers.
    pub(super) offset: u64,
    pub(super) kind: Kind,
    pub(super) path: Vec<u8>,
    /// Target of a hard link or symlink.
    pub(super) link: Vec<u8>,
    pub(super) metadata: Metadata,
    pub(super) device: DeviceNumber,
    /// Size of a regular file in bytes.
    pub(super) size: u64,
    /// Data ranges of a sparse file with holes.
    pub(super) sparse: Option<Vec<DataRange>>,
    /// Offset of the data in the archive, in bytes.
    pub(super) data_offset: u64,
    /// Bytes of data in the archive.
    pub(super) stored: u64,
}

impl Default for Member {
    fn default() -> Self {
        Self {
            offset: 0,
            kind: Kind::Regular,
            path: Vec::new(),
            link: Vec::new(),
            metadata: default_root(Timestamp::default()),
            device: DeviceNumber::default(),
            size: 0,
            sparse: None,
            data_offset: 0,
            stored: 0,
        }
    }
}

/// Goes through an archive.
pub(super) struct Members<'a> {
    input: Input<'a>,
    keep_xattrs: bool,
    globals: Option<Attributes>,
    /// The member that [`Members::advance`] came to.
    pub(super) member: Member,
    /// Whether regular files have no data here, whatever their size.
    pub(super) headers_only: bool,
    /// Bytes of its data, and of the padding behind, that were not read yet.
    unread: u64,
    padding: u64,
}

/// Extension headers in front of a member.
#[derive(Default)]
struct Extensions {
    pax: Option<Attributes>,
    long_name: Option<Vec<u8>>,
    long_link: Option<Vec<u8>>,
}

impl Extensions {
    const fn is_empty(&self) -> bool {
        self.pax.is_none() && self.long_name.is_none() && self.long_link.is_none()
    }
}

impl<'a> Members<'a> {
    pub(super) fn new(input: Input<'a>, keep_xattrs: bool) -> Self {
        Self {
            input,
            keep_xattrs,
            globals: None,
            member: Member::default(),
            headers_only: false,
            unread: 0,
            padding: 0,
        }
    }

    /// Bytes of the archive read or jumped over so far.
    pub(super) const fn position(&self) -> u64 {
        self.input.position()
    }

    /// Bytes of a stream behind its end mark.
    pub(super) const fn trailing(&self) -> u64 {
        self.input.drained()
    }

    /// Goes to the next member; `false` at the end of the archive, and then a stream has been read to its end.
    ///
    /// # Errors
    /// [`TarError`].
    pub(super) fn advance(&mut self) -> Result<bool, TarError> {
        self.skip_data()?;
        let mut extensions = Extensions::default();
        loop {
            let offset = self.input.position();
            let block = match self.input.block() {
                Ok(Some(block)) => *block,
                Ok(None) if offset == 0 => return Err(TarError::Empty),
                Ok(None) if extensions.is_empty() => return Ok(false),
                Ok(None) => return Err(self.failed(ReadError::Truncated)),
                Err(error) => return Err(self.failed(error)),
            };
            if block == [0; BLOCK_SIZE] {
                if !extensions.is_empty() {
                    return Err(self.refused(offset, MemberError::Orphan));
                }
                self.check_end(offset)?;
                return Ok(false);
            }
            let Some(header) = Header::new(&block) else {
                if offset == 0 {
                    return Err(TarError::NotTar);
                }
                return Err(TarError::Header {
                    offset,
                    after: self.member.path.clone(),
                    problem: "its checksum is wrong",
                });
            };
            if !self.take_extension(header, offset, &mut extensions)? {
                self.take_member(&block, header, offset, extensions)?;
                return Ok(true);
            }
        }
    }

    /// Hands the member's data to `sink`.
    ///
    /// # Errors
    /// [`TarError`].
    pub(super) fn store(
        &mut self,
        metadata: &Metadata,
        sink: &mut dyn StreamSink,
    ) -> Result<Location, TarError> {
        let mut failure = None;
        let mut data = Data {
            input: &mut self.input,
            unread: &mut self.unread,
            failure: &mut failure,
        };
        let result = sink.store(
            &self.member.path,
            metadata,
            self.member.size,
            self.member.sparse.as_deref(),
            &mut data,
        );
        match failure {
            Some(error) => Err(self.failed(error)),
            None => result.map_err(|error: StoreError| error.into()),
        }
    }

    /// Goes past the data. The padding of the last member may be missing.
    ///
    /// # Errors
    /// [`TarError`] when the data is not all there.
    pub(super) fn skip_data(&mut self) -> Result<(), TarError> {
        let (unread, padding) = (self.unread, self.padding);
        (self.unread, self.padding) = (0, 0);
        if unread + padding == 0 {
            return Ok(());
        }
        self.input
            .skip(unread)
            .map_err(|error| self.failed(error))?;
        match self.input.skip(padding) {
            Ok(()) | Err(ReadError::Truncated) => Ok(()),
            Err(error) => Err(self.failed(error)),
        }
    }

    /// After a block of zeros: a second one, or the end of the file, or anything that is no header.
    fn check_end(&mut self, offset: u64) -> Result<(), TarError> {
        match self.input.block() {
            Ok(Some(block)) if *block != [0; BLOCK_SIZE] && Header::new(block).is_some() => {
                return Err(TarError::Header {
                    offset,
                    after: self.member.path.clone(),
                    problem: "a lone block of zeros, after which the archive goes on",
                });
            }
            Ok(_) | Err(ReadError::Truncated) => {}
            Err(error) => return Err(self.failed(error)),
        }
        // Where an image has its superblock, behind zeros.
        if offset == 0
            && let Ok(Some(block)) = self.input.block()
            && block.starts_with(&superblock::MAGIC.to_le_bytes())
        {
            return Err(TarError::Image);
        }
        self.input.drain().map_err(|error| self.failed(error))
    }

    /// Reads an extension header; `false` when this is a member.
    fn take_extension(
        &mut self,
        header: Header<'_>,
        offset: u64,
        extensions: &mut Extensions,
    ) -> Result<bool, TarError> {
        match header.type_flag() {
            b'L' => {
                let name = self.extension(header, offset, "long name", MAX_LONG_NAME)?;
                extensions.long_name = Some(header::until_nul(&name).to_vec());
            }
            b'K' => {
                let link = self.extension(header, offset, "long link target", MAX_LONG_NAME)?;
                extensions.long_link = Some(header::until_nul(&link).to_vec());
            }
            // `X` is what Solaris wrote before `x` became the standard.
            b'x' | b'X' => {
                let records = self.extension(header, offset, "PAX header", MAX_PAX_HEADER)?;
                let mut pax = extensions
                    .pax
                    .take()
                    .or_else(|| self.globals.clone())
                    .unwrap_or_default();
                pax.take(&records, Scope::Member, self.keep_xattrs)
                    .map_err(|error| self.named_by_next(offset, error.into()))?;
                extensions.pax = Some(pax);
            }
            b'g' => {
                let records = self.extension(header, offset, "PAX header", MAX_PAX_HEADER)?;
                let mut globals = self.globals.take().unwrap_or_default();
                globals
                    .take(&records, Scope::Global, self.keep_xattrs)
                    .map_err(|error| self.named(header, offset, error.into()))?;
                if globals.is_continued {
                    return Err(self.named(header, offset, MemberError::MultiVolume));
                }
                self.globals = Some(globals);
            }
            // The label of a volume.
            b'V' => {
                self.expect_data(header, offset)?;
                self.skip_data()?;
                *extensions = Extensions::default();
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// The data of an extension header.
    fn extension(
        &mut self,
        header: Header<'_>,
        offset: u64,
        what: &'static str,
        limit: u64,
    ) -> Result<Vec<u8>, TarError> {
        let size = self.expect_data(header, offset)?;
        if size > limit {
            return Err(self.named(header, offset, MemberError::TooLarge { what, limit }));
        }
        let mut data = Vec::new();
        self.unread = 0;
        let appended = self.input.append(size, &mut data);
        appended.map_err(|error| {
            self.rename(header);
            self.failed(error)
        })?;
        self.skip_data()?;
        Ok(data)
    }

    /// Reads the size from the header; that much data is next.
    fn expect_data(&mut self, header: Header<'_>, offset: u64) -> Result<u64, TarError> {
        let size = size(header).map_err(|error| self.named(header, offset, error))?;
        self.set_data(size);
        Ok(size)
    }

    fn set_data(&mut self, size: u64) {
        let part = size % BLOCK_SIZE as u64;
        self.unread = size;
        self.padding = if part == 0 {
            0
        } else {
            BLOCK_SIZE as u64 - part
        };
    }

    fn take_member(
        &mut self,
        block: &Block,
        header: Header<'_>,
        offset: u64,
        extensions: Extensions,
    ) -> Result<(), TarError> {
        let mut pax = extensions.pax.or_else(|| self.globals.clone());
        let member = &mut self.member;
        member.offset = offset;
        member.path.clear();
        match pax
            .as_mut()
            .and_then(Attributes::take_path)
            .or(extensions.long_name)
        {
            Some(path) => member.path = path,
            None => header.append_name(&mut member.path),
        }
        member.link.clear();
        match pax
            .as_mut()
            .and_then(|pax| pax.link_path.take())
            .or(extensions.long_link)
        {
            Some(link) => member.link = link,
            None => member
                .link
                .extend_from_slice(header.text(header::LINK_NAME)),
        }
        let wrong = |members: &Self, problem| Err(members.refused(offset, problem));
        if let Err(problem) = self.fill_metadata(header, pax.as_mut()) {
            return wrong(self, problem);
        }
        let has_data = match kind(header, &self.member.path, pax.as_ref()) {
            Ok((kind, has_data)) => {
                self.member.kind = kind;
                has_data
            }
            Err(problem) => return wrong(self, problem),
        };
        let stored = if has_data {
            match pax.as_ref().and_then(|pax| pax.size) {
                Some(size) => size,
                None => match size(header) {
                    Ok(size) => size,
                    Err(problem) => return wrong(self, problem),
                },
            }
        } else {
            0
        };
        self.member.size = stored;
        self.member.sparse = None;
        if self.member.kind == Kind::Directory && stored > 0 && header.type_flag() != b'D' {
            return wrong(self, MemberError::DirectoryData(stored));
        }
        self.set_data(stored);
        if self.member.kind == Kind::Regular && self.headers_only {
            self.set_data(0);
        } else if self.member.kind == Kind::Regular {
            self.resolve_sparse(block, header, pax)?;
        }
        self.member.stored = self.unread;
        self.member.data_offset = self.input.position();
        Ok(())
    }

    fn fill_metadata(
        &mut self,
        header: Header<'_>,
        pax: Option<&mut Attributes>,
    ) -> Result<(), MemberError> {
        let mut none = Attributes::default();
        let pax = pax.unwrap_or(&mut none);
        let member = &mut self.member;
        // Some archives store the type bits as well; they say nothing that the type flag does not.
        member.metadata.permissions =
            u16::try_from(field(header, header::MODE)? & 0o7777).unwrap_or_default();
        member.metadata.uid = id(header, header::UID, pax.uid)?;
        member.metadata.gid = id(header, header::GID, pax.gid)?;
        member.metadata.mtime = match pax.mtime {
            Some(mtime) => mtime,
            None => Timestamp {
                seconds: field(header, header::MTIME)?,
                nanoseconds: 0,
            },
        };
        member.device = DeviceNumber::default();
        if matches!(header.type_flag(), b'3' | b'4') {
            member.device = DeviceNumber {
                major: id(header, header::DEVICE_MAJOR, pax.device_major)?,
                minor: id(header, header::DEVICE_MINOR, pax.device_minor)?,
            };
            for (field, number, limit, bits) in [
                (header::DEVICE_MAJOR, member.device.major, "below 4096", 12),
                (
                    header::DEVICE_MINOR,
                    member.device.minor,
                    "below 1048576",
                    20,
                ),
            ] {
                if number >> bits != 0 {
                    return Err(MemberError::Range {
                        field: field.name(),
                        value: number.into(),
                        limit,
                    });
                }
            }
        }
        let permissions = pax
            .resolve_acls()
            .map_err(|(name, source)| MemberError::Acl { name, source })?;
        if let Some(permissions) = permissions {
            let special = member.metadata.permissions & 0o7000;
            member.metadata.permissions = special | permissions;
        }
        member.metadata.xattrs = std::mem::take(&mut pax.xattrs);
        Ok(())
    }

    /// Reads the map of a sparse file; then the data is next.
    fn resolve_sparse(
        &mut self,
        block: &Block,
        header: Header<'_>,
        pax: Option<Attributes>,
    ) -> Result<(), TarError> {
        let offset = self.member.offset;
        let refused = |members: &Self, error: SparseError| members.refused(offset, error.into());
        let (size, pieces) = if header.type_flag() == b'S' {
            self.gnu_map(block, header)?
        } else {
            let records = match pax {
                Some(pax) => pax.sparse.resolve().map_err(|error| refused(self, error))?,
                None => None,
            };
            match records {
                None => return Ok(()),
                Some(PaxSparse::Known { size, pieces }) => (size, pieces),
                Some(PaxSparse::InData { size }) => (size, self.data_map()?),
            }
        };
        let ranges = pieces
            .finish(size, self.unread)
            .map_err(|error| refused(self, error))?;
        self.member.size = size;
        let is_whole =
            matches!(ranges.as_slice(), [only] if only.offset == 0 && only.length == size);
        self.member.sparse = (!is_whole && size > 0).then_some(ranges);
        Ok(())
    }

    /// Map and file size of an old GNU sparse file; the extension blocks do not count as data.
    fn gnu_map(&mut self, block: &Block, header: Header<'_>) -> Result<(u64, Pieces), TarError> {
        let offset = self.member.offset;
        let refused = |members: &Self, error: SparseError| members.refused(offset, error.into());
        let size = header
            .number(header::GNU_REAL_SIZE)
            .and_then(|size| u64::try_from(size).map_err(|_| NumberError::OutOfRange))
            .map_err(|error| refused(self, error.into()))?;
        let mut pieces = Pieces::default();
        let mut open = pieces
            .push_gnu(block.get(GNU_SPARSE_PIECES).unwrap_or_default())
            .map_err(|error| refused(self, error))?;
        let mut more = block[GNU_IS_EXTENDED] != 0;
        while more {
            let extension = match self.input.block() {
                Ok(Some(block)) => *block,
                Ok(None) => return Err(self.failed(ReadError::Truncated)),
                Err(error) => return Err(self.failed(error)),
            };
            // Nothing but blocks without pieces could go on for ever.
            if !open {
                return Err(refused(self, SparseError::Incomplete));
            }
            open = pieces
                .push_gnu(extension.get(GNU_EXTENSION_PIECES).unwrap_or_default())
                .map_err(|error| refused(self, error))?;
            more = extension[GNU_EXTENSION_IS_EXTENDED] != 0;
        }
        Ok((size, pieces))
    }

    /// The map in front of the data; it counts as stored.
    fn data_map(&mut self) -> Result<Pieces, TarError> {
        let offset = self.member.offset;
        let refused = |members: &Self, error: SparseError| members.refused(offset, error.into());
        let mut parser = DataMapParser::default();
        loop {
            self.unread = self
                .unread
                .checked_sub(BLOCK_SIZE as u64)
                .ok_or_else(|| refused(self, SparseError::Incomplete))?;
            let block = match self.input.block() {
                Ok(Some(block)) => *block,
                Ok(None) => return Err(self.failed(ReadError::Truncated)),
                Err(error) => return Err(self.failed(error)),
            };
            if let Some(pieces) = parser.take(&block).map_err(|error| refused(self, error))? {
                return Ok(pieces);
            }
        }
    }

    fn rename(&mut self, header: Header<'_>) {
        self.member.path.clear();
        header.append_name(&mut self.member.path);
    }

    /// An error of an extension header, named by its own header.
    fn named(&mut self, header: Header<'_>, offset: u64, problem: MemberError) -> TarError {
        self.rename(header);
        self.refused(offset, problem)
    }

    /// An error of a PAX header, named by the member that it belongs to: its own name is made up.
    fn named_by_next(&mut self, offset: u64, problem: MemberError) -> TarError {
        self.member.path.clear();
        if let Ok(Some(block)) = self.input.block()
            && let Some(header) = Header::new(block)
        {
            header.append_name(&mut self.member.path);
        }
        self.refused(offset, problem)
    }

    fn refused(&self, offset: u64, problem: MemberError) -> TarError {
        TarError::Member {
            offset,
            path: self.member.path.clone(),
            problem,
        }
    }

    fn failed(&self, error: ReadError) -> TarError {
        let (offset, member) = (self.input.position(), self.member.path.clone());
        match error {
            ReadError::Truncated => TarError::Truncated { offset, member },
            ReadError::Io(source) => TarError::Read {
                offset,
                member,
                source,
            },
        }
    }
}

/// What the header describes, and whether data follows it. POSIX stores none for links, directories, devices and pipes,
/// whatever their size says.
fn kind(
    header: Header<'_>,
    path: &[u8],
    pax: Option<&Attributes>,
) -> Result<(Kind, bool), MemberError> {
    let meaning = match header.type_flag() {
        b'S' if header.dialect() != Dialect::Gnu || header.has_star_mark() => {
            return Err(SparseError::Star.into());
        }
        b'0' | 0 | b'7' | b'S' if pax.is_some_and(|pax| pax.is_socket) => {
            return Ok((Kind::Socket, false));
        }
        // Before directories had a type they had a slash.
        b'0' | 0 | b'7' if path.ends_with(b"/") => return Ok((Kind::Directory, true)),
        b'0' | 0 | b'7' | b'S' => return Ok((Kind::Regular, true)),
        b'1' => return Ok((Kind::HardLink, false)),
        b'2' => return Ok((Kind::Symlink, false)),
        b'3' => return Ok((Kind::CharDevice, false)),
        b'4' => return Ok((Kind::BlockDevice, false)),
        b'5' => return Ok((Kind::Directory, false)),
        b'6' => return Ok((Kind::Fifo, false)),
        // A directory with the list of its entries, in incremental backups.
        b'D' => return Ok((Kind::Directory, true)),
        b'M' => return Err(MemberError::MultiVolume),
        b'A' => "Solaris ACL",
        b'E' => "Solaris extended attributes",
        b'I' => "metadata without the file",
        b'N' => "list of long names of ancient GNU tar",
        _ => "unknown",
    };
    Err(MemberError::Type {
        flag: header.type_flag(),
        meaning,
    })
}

fn field(header: Header<'_>, field: Field) -> Result<i64, MemberError> {
    header.number(field).map_err(|source| MemberError::Number {
        field: field.name(),
        source,
    })
}

/// A number of 32 bits, from the extension headers when they have it.
fn id(header: Header<'_>, from: Field, extended: Option<u32>) -> Result<u32, MemberError> {
    if let Some(value) = extended {
        return Ok(value);
    }
    let value = field(header, from)?;
    u32::try_from(value).map_err(|_| MemberError::Range {
        field: from.name(),
        value,
        limit: "a number of 32 bits",
    })
}

fn size(header: Header<'_>) -> Result<u64, MemberError> {
    let value = field(header, header::SIZE)?;
    u64::try_from(value).map_err(|_| MemberError::Range {
        field: header::SIZE.name(),
        value,
        limit: "0 or more",
    })
}

/// A member's data, for a sink.
struct Data<'m, 'a> {
    input: &'m mut Input<'a>,
    unread: &'m mut u64,
    failure: &'m mut Option<ReadError>,
}

impl Read for Data<'_, '_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let wanted = out
            .len()
            .min(usize::try_from(*self.unread).unwrap_or(usize::MAX));
        if wanted == 0 {
            return Ok(0);
        }
        // The reason stays here, with the offset; the sink only learns that there is one.
        let count = match self.input.read(out.get_mut(..wanted).unwrap_or_default()) {
            Ok(0) => {
                *self.failure = Some(ReadError::Truncated);
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            Ok(count) => count,
            Err(error) => {
                let kind = error.kind();
                *self.failure = Some(ReadError::Io(error));
                return Err(kind.into());
            }
        };
        *self.unread -= count as u64;
        Ok(count)
    }
}
