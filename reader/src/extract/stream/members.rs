//! From entries of the tree to tasks.

use super::ranges::{Pieces, data_ranges};
use super::worker::{Content, First, Small, Task, Work, member};
use super::{PIECE, Piece};
use crate::extract::error::{ExtractError, Problem};
use crate::extract::node::is_device;
use crate::extract::shared::Shared;
use crate::extract::tar::Kind;
use crate::extract::traverse::{Entry, Maker};
use crate::inode::Inode;
use erofs_format::Nid;
use erofs_format::inode::FileType;
use std::collections::HashMap;
use std::ops::Range;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, OnceLock};

/// Members of a task, and bytes of data in it, at which it is sent.
const MOST_MEMBERS: usize = 256;
const ENOUGH_DATA: u64 = 512 << 10;

/// Puts entries into tasks.
pub(super) struct Gathering<'a> {
    shared: &'a Shared<'a>,
    tasks: SyncSender<Task>,
    order: SyncSender<Receiver<Piece>>,
    members: Vec<Small>,
    data: u64,
    /// Files with several names: the first one, and whether it is in the archive.
    linked: HashMap<Nid, Linked>,
}

/// The first name of a file.
struct Linked {
    path: Arc<[u8]>,
    is_there: Arc<OnceLock<bool>>,
}

impl<'a> Gathering<'a> {
    pub(super) fn new(
        shared: &'a Shared<'a>,
        tasks: SyncSender<Task>,
        order: SyncSender<Receiver<Piece>>,
    ) -> Self {
        Self {
            shared,
            tasks,
            order,
            members: Vec::new(),
            data: 0,
            linked: HashMap::new(),
        }
    }

    /// The directory in which everything else is.
    pub(super) fn root(&mut self, root: &Inode) {
        self.push(b"", root, Content::Own(None));
    }

    fn push(&mut self, path: &[u8], inode: &Inode, content: Content) {
        self.data += match content {
            Content::Own(_) if inode.file_type == FileType::Regular => inode.data_size(),
            _ => 0,
        };
        self.members.push(Small {
            path: path.into(),
            inode: *inode,
            content,
        });
        if self.members.len() >= MOST_MEMBERS || self.data >= ENOUGH_DATA {
            self.send();
        }
    }

    /// Sends what was gathered.
    pub(super) fn send(&mut self) {
        self.data = 0;
        let members = std::mem::take(&mut self.members);
        if !members.is_empty() {
            self.send_task(Work::Members(members));
        }
    }

    fn send_task(&mut self, work: Work) {
        // One piece waits while the next one is made.
        let (reply, pieces) = sync_channel(1);
        // In this order: what a worker has must have its place.
        if self.order.send(pieces).is_err() || self.tasks.send(Task { work, reply }).is_err() {
            // The output has failed, or the workers have panicked, which the end of their scope reports.
            self.shared.stop();
        }
    }

    /// A file too large for one piece.
    fn large(
        &mut self,
        path: &[u8],
        inode: &Inode,
        first: Option<First>,
    ) -> Result<(), ExtractError> {
        let image = self.shared.image;
        let size = inode.data_size();
        let whole = 0..size;
        let ranges = if self.shared.options.sparse_members {
            data_ranges(image, inode)?
        } else {
            vec![whole.clone()]
        };
        let kind = if ranges == [whole] {
            Kind::File { size }
        } else {
            Kind::Sparse {
                size,
                data: ranges.clone(),
            }
        };
        let header = member(self.shared, path, inode, kind)?.encode()?;
        let stored = header.data();
        self.send();
        self.send_task(Work::Header(header));
        if let Some(first) = first {
            first.written();
        }
        let path: Arc<[u8]> = path.into();
        for range in ranges {
            self.segments(&path, inode, range);
        }
        self.shared.made.files.add();
        self.shared.made.bytes.add_many(size);
        self.shared.made.bytes_written.add_many(stored);
        Ok(())
    }

    fn segments(&mut self, path: &Arc<[u8]>, inode: &Inode, range: Range<u64>) {
        for piece in Pieces::new(self.shared.image, inode, range) {
            if self.shared.is_stopped() {
                return;
            }
            self.send_task(match piece {
                Ok(range) => Work::Segment {
                    path: Arc::clone(path),
                    inode: *inode,
                    range,
                },
                Err(error) => Work::Broken(Problem {
                    path: path.to_vec(),
                    error: error.into(),
                }),
            });
        }
    }
}

impl Maker for Gathering<'_> {
    fn enter(&mut self, directory: &Entry<'_>) -> Result<(), ExtractError> {
        self.push(directory.path, directory.inode, Content::Own(None));
        Ok(())
    }

    fn leave(&mut self) {}

    fn make(&mut self, entry: &Entry<'_>) -> Result<(), ExtractError> {
        let inode = entry.inode;
        if is_device(inode) && !self.shared.options.devices {
            return Ok(());
        }
        let mut first = None;
        if inode.nlink > 1 {
            if let Some(linked) = self.linked.get(&inode.nid()) {
                let content = Content::LinkTo {
                    target: Arc::clone(&linked.path),
                    is_there: Arc::clone(&linked.is_there),
                };
                self.push(entry.path, inode, content);
                return Ok(());
            }
            let is_there = Arc::new(OnceLock::new());
            first = Some(First::new(Arc::clone(&is_there)));
            let path = entry.path.into();
            self.linked.insert(inode.nid(), Linked { path, is_there });
        }
        if inode.file_type == FileType::Regular && inode.data_size() > PIECE as u64 {
            return self.large(entry.path, inode, first);
        }
        self.push(entry.path, inode, Content::Own(first));
        Ok(())
    }
}
