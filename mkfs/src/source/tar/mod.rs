//! Tars in all dialects: V7, ustar, GNU, PAX, star; plain or compressed; in a file or passing by.
//!
//! [`Archive::open`] finds out what it has, [`scan`] puts all members into a [`Tree`] in one pass. What cannot be
//! represented is an error that names the member, and nothing is dropped silently. Where the standard leaves room:
//!
//! - links, directories, devices and pipes have no data, whatever size they announce;
//! - unknown types are refused instead of being taken for regular files;
//! - the archive ends with two blocks of zeros or where the file ends; what follows is ignored, as GNU tar does;
//! - PAX records count before GNU long names, these before the header; later global headers replace earlier ones
//!   keyword by keyword;
//! - owner names are ignored: numeric ids count.

mod acl;
mod decompress;
mod error;
mod gzip_index;
mod header;
mod input;
mod lzma;
mod members;
mod pax;
mod sparse;
mod whiteout;
mod xattr;

pub use acl::AclError;
pub use decompress::Compression;
pub use error::{MemberError, TarError};
pub use header::NumberError;
pub use pax::PaxError;
pub use sparse::SparseError;

use super::{Rules, StreamSink, Whiteouts};
use crate::tree::{Body, Location, Metadata, Tree, TreeError, components};
use decompress::{Content, Decoded, sniff};
use erofs_format::inode::FileType;
use erofs_format::superblock;
use erofs_format::xattr::Prefix;
use header::{BLOCK_SIZE, Header};
use input::{Input, Source};
use members::{Kind, Member, Members};
use std::fmt;
use std::fs::File;
use std::io::{self, Cursor, Read, Seek, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use whiteout::Markers;

/// Attributes by which overlayfs knows what it made itself: whiteouts say the same in layers.
const OVERLAY: &[u8] = b"trusted.overlay.";
/// Longest target of a symlink in bytes (`PATH_MAX` without its NUL).
const MAX_SYMLINK: usize = 4095;
/// Bytes that are unpacked at once.
const UNPACK_SIZE: usize = 256 << 10;
/// Capacity that a pipe on stdin is raised to, in bytes; more needs privileges.
const PIPE_CAPACITY: usize = 1 << 20;

/// A tar that was opened and, when it is compressed, is being decoded already.
pub struct Archive {
    source: ArchiveSource,
    compression: Option<Compression>,
    headers_only: bool,
}

enum ArchiveSource {
    File { file: Arc<File>, length: u64 },
    Stream(Box<dyn Read + Send>),
}

impl fmt::Debug for Archive {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Archive")
            .field("file", &self.file())
            .field("compression", &self.compression)
            .finish()
    }
}

impl Archive {
    /// Opens an archive, from its current position on: a file, or whatever stdin is.
    ///
    /// # Errors
    /// [`TarError::Read`], [`TarError::UnknownCompression`].
    pub fn open(mut file: File) -> Result<Self, TarError> {
        let metadata = file.metadata().map_err(unreadable)?;
        if metadata.is_file() && file.stream_position().map_err(unreadable)? == 0 {
            let mut start = [0; BLOCK_SIZE];
            let count = read_full(|out, at| file.read_at(out, at), &mut start)?;
            if sniff(start.get(..count).unwrap_or_default()) == Content::Plain {
                return Ok(Self {
                    source: ArchiveSource::File {
                        file: Arc::new(file),
                        length: metadata.len(),
                    },
                    compression: None,
                    headers_only: false,
                });
            }
        } else if !metadata.is_file() {
            // What is no pipe has no capacity; a smaller one works as well.
            let _ = rustix::pipe::fcntl_setpipe_size(&file, PIPE_CAPACITY);
        }
        Self::stream(file)
    }

    /// Takes an archive that can only be read on, plain or compressed.
    ///
    /// # Errors
    /// [`TarError::Read`], [`TarError::UnknownCompression`].
    pub fn stream(mut reader: impl Read + Send + 'static) -> Result<Self, TarError> {
        let mut start = [0; BLOCK_SIZE];
        let count = read_full(|out, _| reader.read(out), &mut start)?;
        let start = start.get(..count).unwrap_or_default().to_vec();
        let content = sniff(&start);
        let whole = Box::new(Cursor::new(start).chain(reader));
        match content {
            Content::Plain => Ok(Self {
                source: ArchiveSource::Stream(whole),
                compression: None,
                headers_only: false,
            }),
            Content::Compressed(compression) => Ok(Self {
                source: ArchiveSource::Stream(Box::new(
                    Decoded::start(compression, whole).map_err(unreadable)?,
                )),
                compression: Some(compression),
                headers_only: false,
            }),
            Content::Unsupported(name) => Err(TarError::UnknownCompression(name)),
        }
    }

    /// Takes an archive that is compressed by gzip, and writes to `index`, from its start on, where decoding can begin: zinfo
    /// of AWS SOCI, with 32 KiB for every 4 MiB of data. It is complete when the archive was read to its end.
    ///
    /// # Errors
    /// [`TarError::Read`], [`TarError::NotGzip`].
    pub fn with_gzip_index(
        mut reader: impl Read + Send + 'static,
        mut index: impl Write + Seek + Send + 'static,
    ) -> Result<Self, TarError> {
        let mut start = [0; BLOCK_SIZE];
        let count = read_full(|out, _| reader.read(out), &mut start)?;
        let start = start.get(..count).unwrap_or_default().to_vec();
        let content = sniff(&start);
        if content != Content::Compressed(Compression::Gzip) {
            return Err(TarError::NotGzip);
        }
        let whole = Box::new(Cursor::new(start).chain(reader));
        let decoded = Decoded::start_with(Compression::Gzip, whole, move |input, output| {
            gzip_index::decode(input, output, &mut index)
        });
        Ok(Self {
            source: ArchiveSource::Stream(Box::new(decoded.map_err(unreadable)?)),
            compression: Some(Compression::Gzip),
            headers_only: false,
        })
    }

    /// Writes the uncompressed archive to `copy` as it is read.
    #[must_use]
    pub fn copied_to(self, copy: impl Write + Send + 'static) -> Self {
        let reader: Box<dyn Read + Send> = match self.source {
            ArchiveSource::File { file, .. } => Box::new(FromStart { file, position: 0 }),
            ArchiveSource::Stream(reader) => reader,
        };
        Self {
            source: ArchiveSource::Stream(Box::new(Copying { reader, copy })),
            compression: self.compression,
            headers_only: self.headers_only,
        }
    }

    /// The same archive, in which no data stands behind the headers of regular files: these are holes of their size then.
    #[must_use]
    pub fn headers_only(self) -> Self {
        Self {
            headers_only: true,
            ..self
        }
    }

    /// How it is compressed.
    pub const fn compression(&self) -> Option<Compression> {
        self.compression
    }

    /// The file, when it is a plain tar whose data can be read at any place.
    pub const fn file(&self) -> Option<&Arc<File>> {
        match &self.source {
            ArchiveSource::File { file, .. } => Some(file),
            ArchiveSource::Stream(_) => None,
        }
    }
}

impl Archive {
    /// The same archive, such that its data can be read at any place: unless it can, it is unpacked into a nameless file
    /// in `folder`.
    ///
    /// # Errors
    /// [`TarError::Read`], [`TarError::Unpack`].
    pub fn in_place(self, folder: &Path) -> Result<Self, TarError> {
        let ArchiveSource::Stream(mut stream) = self.source else {
            return Ok(self);
        };
        let failed = |source| TarError::Unpack {
            folder: folder.to_path_buf(),
            source,
        };
        let mut file = tempfile::tempfile_in(folder).map_err(failed)?;
        let mut piece = vec![0; UNPACK_SIZE];
        let mut length = 0;
        loop {
            let count = read_full(|out, _| stream.read(out), &mut piece)?;
            file.write_all(piece.get(..count).unwrap_or_default())
                .map_err(failed)?;
            length += count as u64;
            if count < UNPACK_SIZE {
                break;
            }
        }
        Ok(Self {
            source: ArchiveSource::File {
                file: Arc::new(file),
                length,
            },
            compression: None,
            headers_only: self.headers_only,
        })
    }
}

/// Whether a file is a tar, plain or compressed, by its first header. Its position stays where it is.
pub fn is_tar(file: &File) -> bool {
    let mut first = [0; BLOCK_SIZE];
    unpacked_start(file, &mut first) == Some(BLOCK_SIZE) && Header::new(&first).is_some()
}

/// Whether a file may be a tar without members, plain or compressed: it begins with the end mark, and is no image.
pub fn is_end_mark(file: &File) -> bool {
    const MARK: usize = 2 * BLOCK_SIZE;
    let mut start = [0; MARK + superblock::MAGIC.to_le_bytes().len()];
    let count = unpacked_start(file, &mut start).unwrap_or(0);
    let (mark, behind) = start.split_at(MARK);
    count >= MARK && mark == [0; MARK] && behind != superblock::MAGIC.to_le_bytes()
}

/// Fills `out` with the first bytes of what is in a file, plain or compressed, as far as there are as many.
fn unpacked_start(file: &File, out: &mut [u8]) -> Option<usize> {
    let mut start = [0; BLOCK_SIZE];
    let count = read_full(|out, at| file.read_at(out, at), &mut start).ok()?;
    let mut decoded;
    let mut reader = FromStart {
        file: Arc::new(file.try_clone().ok()?),
        position: 0,
    };
    let reader: &mut dyn Read = match sniff(start.get(..count).unwrap_or_default()) {
        Content::Plain => &mut reader,
        Content::Unsupported(_) => return None,
        Content::Compressed(compression) => {
            decoded = Decoded::start(compression, Box::new(reader)).ok()?;
            &mut decoded
        }
    };
    read_full(|out, _| reader.read(out), out).ok()
}

/// Reads a file from its start, whatever its position.
struct FromStart {
    file: Arc<File>,
    position: u64,
}

impl Read for FromStart {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let count = self.file.read_at(out, self.position)?;
        self.position += count as u64;
        Ok(count)
    }
}

/// Hands on what it reads, and writes it elsewhere too.
struct Copying<W> {
    reader: Box<dyn Read + Send>,
    copy: W,
}

impl<W: Write> Read for Copying<W> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let count = self.reader.read(out)?;
        self.copy.write_all(out.get(..count).unwrap_or_default())?;
        if count == 0 {
            self.copy.flush()?;
        }
        Ok(count)
    }
}

fn unreadable(source: io::Error) -> TarError {
    TarError::Read {
        offset: 0,
        member: Vec::new(),
        source,
    }
}

/// Fills `out` as far as there are bytes.
fn read_full(
    mut read: impl FnMut(&mut [u8], u64) -> io::Result<usize>,
    out: &mut [u8],
) -> Result<usize, TarError> {
    let mut count = 0;
    while let Some(room) = out.get_mut(count..).filter(|room| !room.is_empty()) {
        match read(room, count as u64) {
            Ok(0) => break,
            Ok(more) => count += more,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(unreadable(error)),
        }
    }
    Ok(count)
}

/// What becomes of the data of regular files.
pub enum Data<'s> {
    /// It stays in the archive, which must be a plain tar in a file: files get [`Location::Archive`].
    InPlace,
    /// It is passed over: files get [`Location::Archive`] of the uncompressed archive, which somebody else keeps.
    Elsewhere,
    /// It is handed on as it passes by: files get the location that the sink returns.
    Through(&'s mut dyn StreamSink),
}

impl fmt::Debug for Data<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::InPlace => "InPlace",
            Self::Elsewhere => "Elsewhere",
            Self::Through(_) => "Through",
        })
    }
}

/// What a scan went through.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Summary {
    /// Members, repeated and left out ones included.
    pub members: u64,
    /// Data of regular files as stored (without holes) in bytes, without files that were left out.
    pub data: u64,
    /// Length of the uncompressed archive up to its end mark, in bytes.
    pub length: u64,
    /// Bytes of a stream behind its end mark.
    pub trailing: u64,
}

/// Puts all members of an archive into `tree`. Its root keeps its metadata unless a member `./` has others. Overlay
/// markers are attributes that `rules` do not drop: without them a layer would show deleted files.
///
/// # Errors
/// [`TarError`].
pub fn scan(
    archive: Archive,
    rules: &Rules,
    whiteouts: Whiteouts,
    tree: &mut Tree,
    mut data: Data<'_>,
) -> Result<Summary, TarError> {
    let mut source = archive.source;
    let input = match &mut source {
        ArchiveSource::File { file, length } => Source::File {
            file,
            length: *length,
        },
        ArchiveSource::Stream(_) if matches!(data, Data::InPlace) => {
            return Err(TarError::NotSeekable {
                compression: archive.compression,
            });
        }
        ArchiveSource::Stream(reader) => Source::Stream(reader.as_mut()),
    };
    let mut members = Members::new(Input::new(input), !rules.drop_xattrs);
    members.headers_only = archive.headers_only;
    let mut markers = Markers::new(whiteouts);
    let mut summary = Summary::default();
    while advance(&mut members, rules)? {
        summary.members += 1;
        let member = &mut members.member;
        if rules.as_layer {
            take_as_layer(member, tree);
        }
        if is_excluded(member, rules)? {
            continue;
        }
        let is_marker = markers.take(&member.path, member.metadata.mtime);
        if is_marker.map_err(|problem| refused(member, problem))? {
            continue;
        }
        let xattrs = std::mem::take(&mut member.metadata.xattrs);
        let mut metadata = Metadata {
            xattrs,
            ..member.metadata
        };
        rules.apply(&member.path, file_type(member.kind), &mut metadata);
        let location = match (member.kind, member.stored) {
            (Kind::Regular, 1..) => {
                summary.data += member.stored;
                match &mut data {
                    Data::InPlace | Data::Elsewhere => {
                        members.skip_data()?;
                        in_place(&members.member, tree)?
                    }
                    Data::Through(sink) => members.store(&metadata, &mut **sink)?,
                }
            }
            _ => Location::Nowhere,
        };
        insert(&members.member, metadata, location, tree)?;
    }
    summary.length = members.position();
    summary.trailing = members.trailing();
    markers.apply(tree, rules)?;
    Ok(summary)
}

/// Goes to the next member, if there is one.
fn advance(members: &mut Members<'_>, rules: &Rules) -> Result<bool, TarError> {
    match members.advance() {
        Err(TarError::Empty) if rules.as_layer => Ok(false),
        advanced => advanced,
    }
}

/// Makes of a member what [`Rules::as_layer`] says.
fn take_as_layer(member: &mut Member, tree: &Tree) {
    if let Some(path) = tree.through_links(&member.path) {
        member.path = path;
    }
    if member.kind == Kind::HardLink
        && let Some(target) = tree.through_links(&member.link)
    {
        member.link = target;
    }
    let is_held = |name: &[u8]| Prefix::split(name).is_some() && !name.starts_with(OVERLAY);
    let xattrs = &mut member.metadata.xattrs;
    xattrs.retain(|xattr| is_held(&xattr.name));
}

/// The type of a member's inode; what a hard link is is known with its target, whose metadata counts.
const fn file_type(kind: Kind) -> FileType {
    match kind {
        Kind::Regular | Kind::HardLink => FileType::Regular,
        Kind::Directory => FileType::Directory,
        Kind::Symlink => FileType::Symlink,
        Kind::CharDevice => FileType::CharDevice,
        Kind::BlockDevice => FileType::BlockDevice,
        Kind::Fifo => FileType::Fifo,
        Kind::Socket => FileType::Socket,
    }
}

fn is_excluded(member: &Member, rules: &Rules) -> Result<bool, TarError> {
    if !rules.excludes_any() {
        return Ok(false);
    }
    let parts = components(&member.path).map_err(|source| {
        misplaced(
            member,
            TreeError::Name {
                path: member.path.clone(),
                source,
            },
        )
    })?;
    Ok(rules.excludes(&parts))
}

fn in_place(member: &Member, tree: &mut Tree) -> Result<Location, TarError> {
    let sparse = member
        .sparse
        .as_ref()
        .map(|ranges| tree.add_sparse_map(ranges.clone()))
        .transpose()
        .map_err(|error| misplaced(member, error))?;
    Ok(Location::Archive {
        offset: member.data_offset,
        sparse,
    })
}

fn insert(
    member: &Member,
    metadata: Metadata,
    location: Location,
    tree: &mut Tree,
) -> Result<(), TarError> {
    // Written the plain way, a path is found faster.
    let path = member.path.strip_prefix(b"./").unwrap_or(&member.path);
    let path = path.strip_suffix(b"/").unwrap_or(path);
    let body = match member.kind {
        Kind::HardLink => {
            return tree
                .link(path, &member.link)
                .map_err(|error| misplaced(member, error));
        }
        Kind::Symlink => {
            check_target(&member.link).map_err(|problem| refused(member, problem))?;
            let target = tree.intern(&member.link);
            Body::Symlink(target.map_err(|error| misplaced(member, error))?)
        }
        Kind::Regular => Body::Regular {
            size: member.size,
            location,
        },
        Kind::Directory => Body::Directory,
        Kind::CharDevice => Body::CharDevice(member.device),
        Kind::BlockDevice => Body::BlockDevice(member.device),
        Kind::Fifo => Body::Fifo,
        Kind::Socket => Body::Socket,
    };
    match tree.insert(path, metadata, body) {
        Ok(_) => Ok(()),
        Err(error) => Err(misplaced(member, error)),
    }
}

fn check_target(target: &[u8]) -> Result<(), MemberError> {
    Err(MemberError::LinkTarget(match target {
        [] => "is empty",
        _ if target.contains(&0) => "contains a NUL byte",
        _ if target.len() > MAX_SYMLINK => "is longer than 4095 bytes",
        _ => return Ok(()),
    }))
}

fn misplaced(member: &Member, source: TreeError) -> TarError {
    TarError::Place {
        offset: member.offset,
        source,
    }
}

fn refused(member: &Member, problem: MemberError) -> TarError {
    TarError::Member {
        offset: member.offset,
        path: member.path.clone(),
        problem,
    }
}

#[cfg(test)]
mod tests;
