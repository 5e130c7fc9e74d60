//! From tasks to pieces of the archive.

use super::ranges::data_ranges;
use super::{PIECE, Piece};
use crate::extract::error::{ExtractError, Problem};
use crate::extract::shared::Shared;
use crate::extract::tar::{Encoded, Kind, Member};
use crate::inode::Inode;
use erofs_format::inode::{FileType, InodePayload};
use erofs_format::xattr::Prefix;
use std::ops::Range;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, SyncSender};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

/// Part of the work.
pub(super) struct Task {
    pub(super) work: Work,
    /// Takes the pieces in order, and is dropped behind the last one.
    pub(super) reply: SyncSender<Piece>,
}

pub(super) enum Work {
    /// Whole members.
    Members(Vec<Small>),
    /// The header of a member whose data comes with the following tasks.
    Header(Encoded),
    /// Data of the last member.
    Segment {
        path: Arc<[u8]>,
        inode: Inode,
        range: Range<u64>,
    },
    /// The last member cannot be continued.
    Broken(Problem),
}

/// A member that fits a piece.
pub(super) struct Small {
    pub(super) path: Box<[u8]>,
    pub(super) inode: Inode,
    pub(super) content: Content,
}

pub(super) enum Content {
    /// What is in the inode.
    Own(Option<First>),
    /// One more name of the member at a path, if it is there. Whoever works on that has begun before, so it can be
    /// waited for.
    LinkTo {
        target: Arc<[u8]>,
        is_there: Arc<OnceLock<bool>>,
    },
}

/// The first name of a file with several ones. Dropped, it tells the others that it is not in the archive.
pub(super) struct First(Arc<OnceLock<bool>>);

impl First {
    pub(super) const fn new(is_there: Arc<OnceLock<bool>>) -> Self {
        Self(is_there)
    }

    /// Tells them that it is.
    pub(super) fn written(self) {
        // Set here and by drop only.
        let _ = self.0.set(true);
    }
}

impl Drop for First {
    fn drop(&mut self) {
        let _ = self.0.set(false);
    }
}

pub(super) fn work(shared: &Shared<'_>, queue: &Mutex<Receiver<Task>>) {
    loop {
        let next = queue.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(task) = next else { return };
        if shared.is_stopped() {
            continue;
        }
        // Sending fails only when nobody writes any more.
        let _ = match task.work {
            Work::Members(members) => {
                let worker = Worker {
                    shared,
                    reply: &task.reply,
                    piece: Piece::default(),
                };
                worker.members(members);
                continue;
            }
            Work::Header(header) => task.reply.send(Piece {
                members: vec![(header, 0)],
                ..Piece::default()
            }),
            Work::Segment { path, inode, range } => {
                let mut piece = Piece::default();
                if let Err(error) = read(shared, &inode, range, &mut piece.data) {
                    piece.data.clear();
                    piece.broken = Some(Problem {
                        path: path.to_vec(),
                        error,
                    });
                }
                task.reply.send(piece)
            }
            Work::Broken(problem) => task.reply.send(Piece {
                broken: Some(problem),
                ..Piece::default()
            }),
        };
    }
}

struct Worker<'a> {
    shared: &'a Shared<'a>,
    reply: &'a SyncSender<Piece>,
    piece: Piece,
}

impl Worker<'_> {
    fn members(mut self, members: Vec<Small>) {
        let mut headers = 0;
        for Small {
            path,
            inode,
            content,
        } in members
        {
            let before = self.piece.data.len();
            match self.member(&path, &inode, content) {
                Ok(header) => {
                    let data = self.piece.data.len() - before;
                    headers += header.length();
                    self.piece.members.push((header, data));
                }
                Err(error) => {
                    self.piece.data.truncate(before);
                    self.shared.problem(&path, error);
                }
            }
            // Attributes may be large.
            if headers + self.piece.data.len() >= PIECE {
                headers = 0;
                if self.reply.send(std::mem::take(&mut self.piece)).is_err() {
                    return;
                }
            }
        }
        // Fails only when nobody writes any more.
        let _ = self.reply.send(self.piece);
    }

    /// Appends the data of a member, and returns its header.
    fn member(
        &mut self,
        path: &[u8],
        inode: &Inode,
        content: Content,
    ) -> Result<Encoded, ExtractError> {
        let shared = self.shared;
        let first = match content {
            Content::LinkTo { target, is_there } => {
                if !*is_there.wait() {
                    return Err(ExtractError::LinkedToNothing(target.to_vec()));
                }
                let target = target.to_vec();
                let header = member(shared, path, inode, Kind::HardLink { target })?.encode()?;
                shared.made.hard_links.add();
                return Ok(header);
            }
            Content::Own(first) => first,
        };
        let header = match inode.file_type {
            FileType::Regular => self.file(path, inode)?,
            _ => member(shared, path, inode, kind(shared, inode)?)?.encode()?,
        };
        if let Some(first) = first {
            first.written();
        }
        match inode.file_type {
            FileType::Regular => {
                shared.made.files.add();
                shared.made.bytes.add_many(inode.data_size());
                shared.made.bytes_written.add_many(header.data());
            }
            // The root is not counted.
            FileType::Directory if path.is_empty() => {}
            FileType::Directory => shared.made.directories.add(),
            FileType::Symlink => shared.made.symlinks.add(),
            _ => shared.made.special_files.add(),
        }
        Ok(header)
    }

    fn file(&mut self, path: &[u8], inode: &Inode) -> Result<Encoded, ExtractError> {
        let shared = self.shared;
        let size = inode.data_size();
        let whole = 0..size;
        let data = if shared.options.sparse_members && size > 0 {
            data_ranges(shared.image, inode)?
        } else {
            vec![whole.clone()]
        };
        for range in &data {
            read(shared, inode, range.clone(), &mut self.piece.data)?;
        }
        let kind = if data == [whole] {
            Kind::File { size }
        } else {
            Kind::Sparse { size, data }
        };
        Ok(member(shared, path, inode, kind)?.encode()?)
    }
}

/// Appends bytes of a file to `data`.
fn read(
    shared: &Shared<'_>,
    inode: &Inode,
    range: Range<u64>,
    data: &mut Vec<u8>,
) -> Result<(), ExtractError> {
    let start = data.len();
    // At most a piece.
    let length = usize::try_from(range.end - range.start).unwrap_or(usize::MAX);
    data.resize(start + length, 0);
    let room = data.get_mut(start..).unwrap_or_default();
    shared.image.read(inode, range.start, room)?;
    shared.progress.fetch_add(length as u64, Ordering::Relaxed);
    Ok(())
}

/// What anything but a regular file is in a tar.
fn kind(shared: &Shared<'_>, inode: &Inode) -> Result<Kind, ExtractError> {
    let number = match inode.payload {
        InodePayload::Device(number) => number,
        _ => erofs_format::device::DeviceNumber::default(),
    };
    Ok(match inode.file_type {
        FileType::Regular => Kind::File {
            size: inode.data_size(),
        },
        FileType::Directory => Kind::Directory,
        FileType::Symlink => Kind::Symlink {
            target: shared.image.read_link(inode)?,
        },
        FileType::CharDevice => Kind::CharDevice(number),
        FileType::BlockDevice => Kind::BlockDevice(number),
        FileType::Fifo => Kind::Fifo,
        FileType::Socket => Kind::Socket,
    })
}

/// A member with the attributes of an inode.
pub(super) fn member(
    shared: &Shared<'_>,
    path: &[u8],
    inode: &Inode,
    kind: Kind,
) -> Result<Member, ExtractError> {
    let options = shared.options;
    let (uid, gid) = if options.same_owner {
        (inode.uid, inode.gid)
    } else {
        (0, 0)
    };
    let mut xattrs = Vec::new();
    // A link has those of what it leads to.
    if options.xattrs && !matches!(kind, Kind::HardLink { .. }) {
        xattrs = shared.image.xattrs(inode)?;
        xattrs.sort();
        // The kernel lists more than can be set: a NUL ends names, a prefix alone is none, an ACL has none behind it.
        xattrs.retain(|xattr| {
            let settable = !xattr.name.contains(&0) && Prefix::split(&xattr.name).is_some();
            if !settable {
                shared.skipped.xattrs.add();
            }
            settable
        });
    }
    Ok(Member {
        path: path.to_vec(),
        kind,
        mode: inode.mode & 0o7777,
        uid,
        gid,
        mtime: inode.mtime,
        xattrs,
    })
}
