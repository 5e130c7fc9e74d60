//! The tree of names: every directory once, with the rules for directories.

use super::broken;
use super::finding::{At, Finding};
use super::rule::Rule;
use super::work::Work;
use crate::image::Image;
use crate::inode::Inode;
use crate::metadata::Window;
use crate::walk::DEFAULT_MAX_DEPTH;
use erofs_format::Nid;
use erofs_format::directory::{DIRENT_SIZE, DirectoryBlock, DirentError, file_type_value};
use std::collections::HashSet;
use std::io;

/// Directories, from the root down, that keep their block while what is below them is looked at.
const LEVELS_WITH_BLOCK: usize = 32;

/// What is done with names and findings.
pub(super) trait Visitor {
    /// A name that leads to `inode`; the root (or where the walk begins) first, with an empty path.
    ///
    /// # Errors
    /// Ends the walk.
    fn name(&mut self, path: &[u8], inode: &Inode) -> io::Result<()>;

    /// A broken rule.
    fn found(&mut self, rule: Rule, finding: &dyn Fn() -> Finding);

    /// Whether there is nothing more to look for.
    fn is_done(&self) -> bool {
        false
    }
}

/// Walks everything below `start`. Tells whether that was possible within the budget.
pub(super) fn walk(
    image: &Image,
    start: &Inode,
    work: &mut Work<'_>,
    visitor: &mut dyn Visitor,
) -> io::Result<bool> {
    visitor.name(&[], start)?;
    if !start.is_directory() {
        return Ok(true);
    }
    let is_root = start.nid() == image.superblock().root;
    let mut walk = Walk {
        image,
        visitor,
        work,
        path: Vec::new(),
        entered: HashSet::from([start.nid()]),
        stack: vec![Level::new(start, is_root.then_some(start.nid()), 0)],
        window: Window::default(),
    };
    walk.run()
}

struct Walk<'a, 'image> {
    image: &'a Image,
    visitor: &'a mut dyn Visitor,
    work: &'a mut Work<'image>,
    /// Path of the directory on top of the stack; of one of its entries while that is looked at.
    path: Vec<u8>,
    entered: HashSet<Nid>,
    stack: Vec<Level>,
    /// Inodes of a directory often lie side by side.
    window: Window,
}

/// A directory that is being listed.
struct Level {
    directory: Inode,
    /// Where `..` must lead; `None` when nobody knows.
    parent: Option<Nid>,
    path_length: usize,
    /// First byte of the current block.
    start: u64,
    /// Next entry of the current block.
    index: usize,
    /// The current block; empty when it has to be read (again).
    block: Vec<u8>,
    previous: Vec<u8>,
    subdirectories: u64,
    has_dot: bool,
    has_parent: bool,
    /// Something could not be read, so what is missing says nothing.
    incomplete: bool,
    told: Vec<Rule>,
}

impl Level {
    fn new(directory: &Inode, parent: Option<Nid>, path_length: usize) -> Self {
        Self {
            directory: *directory,
            parent,
            path_length,
            start: 0,
            index: 0,
            block: Vec::new(),
            previous: Vec::new(),
            subdirectories: 0,
            has_dot: false,
            has_parent: false,
            incomplete: false,
            told: Vec::new(),
        }
    }

    /// Whether a rule is broken for the first time in this directory.
    fn first(&mut self, rule: Rule) -> bool {
        let first = !self.told.contains(&rule);
        if first {
            self.told.push(rule);
        }
        first
    }

    fn next_block(&mut self, block_size: u64) {
        self.start = self.start.saturating_add(block_size);
        self.index = 0;
        self.block = Vec::new();
    }

    /// Byte of the directory at which an entry of the current block stands.
    const fn entry_at(&self, index: usize) -> u64 {
        self.start.saturating_add((index * DIRENT_SIZE) as u64)
    }
}

/// An entry, taken out of its block.
struct Entry {
    at: u64,
    nid: Nid,
    file_type: u8,
    reserved: u8,
    name: Vec<u8>,
}

impl Walk<'_, '_> {
    fn run(&mut self) -> io::Result<bool> {
        while let Some(mut level) = self.stack.pop() {
            self.path.truncate(level.path_length);
            if self.visitor.is_done() {
                return Ok(true);
            }
            if level.start >= level.directory.size {
                self.finish(&mut level);
                continue;
            }
            if level.block.is_empty() && !self.read_block(&mut level) {
                return Ok(false);
            }
            // Whatever is found, the next turn is about another entry.
            let Some(entry) = self.next_entry(&mut level) else {
                self.stack.push(level);
                continue;
            };
            if !self.work.charge(Work::NAME) {
                return Ok(false);
            }
            self.entry(level, &entry)?;
        }
        Ok(true)
    }

    fn found(&mut self, rule: Rule, nid: Nid, at: At, value: &dyn Fn() -> String) {
        let path = &self.path;
        self.visitor.found(rule, &|| Finding {
            rule,
            nid: Some(nid),
            path: Some(path.clone()),
            at,
            value: value(),
        });
    }

    /// A finding about the directory itself, which is told once.
    fn found_once(&mut self, level: &mut Level, rule: Rule, at: u64, value: &dyn Fn() -> String) {
        if level.first(rule) {
            self.found(rule, level.directory.nid(), At::File(at), value);
        }
    }

    /// Reads the current block; `false` when the budget is spent. A block that cannot be read ends its directory.
    fn read_block(&mut self, level: &mut Level) -> bool {
        let block_size = self.image.superblock().block_bits.bytes();
        let length = (level.directory.size - level.start).min(block_size);
        // A block that is read again is in a cache.
        let cost = if level.index == 0 {
            length
        } else {
            length / 16
        };
        if !self.work.charge(cost) {
            return false;
        }
        level.block.resize(usize::try_from(length).unwrap_or(0), 0);
        let result = self
            .image
            .read(&level.directory, level.start, &mut level.block);
        if let Err(error) = result {
            let mut finding = broken::finding(&error, level.directory.nid());
            finding.path = Some(self.path.clone());
            self.visitor.found(finding.rule, &|| finding.clone());
            level.incomplete = true;
            level.start = level.directory.size;
            level.block = Vec::new();
            return true;
        }
        if level.index == 0 {
            self.check_padding(level);
        }
        true
    }

    /// Behind the last name, which ends at the first NUL, nothing is expected.
    fn check_padding(&mut self, level: &mut Level) {
        let Ok(block) = DirectoryBlock::new(&level.block) else {
            return;
        };
        let Some(last) = block
            .count()
            .checked_sub(1)
            .and_then(|last| level.block.get(last * DIRENT_SIZE + 8..))
            .and_then(|bytes| bytes.first_chunk())
        else {
            return;
        };
        let start = usize::from(u16::from_le_bytes(*last));
        let rest = level.block.get(start..).unwrap_or_default();
        let end = rest.iter().position(|byte| *byte == 0);
        let Some((at, byte)) = end.and_then(|end| {
            let stray = rest.get(end..)?.iter().position(|byte| *byte != 0)?;
            Some((start + end + stray, *rest.get(end + stray)?))
        }) else {
            return;
        };
        let position = level.start.saturating_add(at as u64);
        self.found_once(level, Rule::DirectoryPadding, position, &|| {
            format!("{byte:#04x}")
        });
    }

    /// The next entry of the current block; `None` when there is none, or none that can be read.
    fn next_entry(&mut self, level: &mut Level) -> Option<Entry> {
        let block_size = self.image.superblock().block_bits.bytes();
        let at = level.entry_at(level.index);
        let block = match DirectoryBlock::new(&level.block) {
            Ok(block) => block,
            Err(error) => {
                // What could not be read has been told already.
                if !level.block.is_empty() {
                    let (nid, at) = (level.directory.nid(), At::File(level.start));
                    self.found(Rule::DirectoryBlock, nid, at, &|| error.to_string());
                    level.incomplete = true;
                }
                level.next_block(block_size);
                return None;
            }
        };
        if level.index >= block.count() {
            level.next_block(block_size);
            return None;
        }
        let index = level.index;
        level.index += 1;
        match block.entry(index) {
            Ok(entry) => {
                let flag = |byte: usize| {
                    let at = index * DIRENT_SIZE + byte;
                    level.block.get(at).copied().unwrap_or(0)
                };
                Some(Entry {
                    at,
                    nid: entry.nid,
                    file_type: flag(10),
                    reserved: flag(11),
                    name: entry.name.to_vec(),
                })
            }
            Err(error) => {
                let rule = match error {
                    DirentError::NameByte { .. } => Rule::DirectoryNameByte,
                    DirentError::Name { .. } | DirentError::FirstNameOffset { .. } => {
                        Rule::DirectoryName
                    }
                };
                level.incomplete = true;
                let nid = level.directory.nid();
                self.found(rule, nid, At::File(at), &|| error.to_string());
                None
            }
        }
    }

    /// Looks at an entry, and puts the level and perhaps a new one back on the stack.
    fn entry(&mut self, mut level: Level, entry: &Entry) -> io::Result<()> {
        let directory = level.directory.nid();
        if entry.reserved != 0 {
            let value = || format!("{:#04x}", entry.reserved);
            self.found_once(&mut level, Rule::DirectoryReserved, entry.at, &value);
        }
        match entry.name.cmp(&level.previous) {
            // The first name is greater than none.
            std::cmp::Ordering::Greater => {}
            std::cmp::Ordering::Equal => {
                let value = || format!("\"{}\"", entry.name.escape_ascii());
                self.found_once(&mut level, Rule::DirectoryDuplicate, entry.at, &value);
            }
            std::cmp::Ordering::Less => {
                let previous = std::mem::take(&mut level.previous);
                let value = || {
                    let (name, before) = (entry.name.escape_ascii(), previous.escape_ascii());
                    format!("\"{name}\" behind \"{before}\"")
                };
                self.found_once(&mut level, Rule::DirectoryOrder, entry.at, &value);
            }
        }
        level.previous.clone_from(&entry.name);
        match entry.name.as_slice() {
            b"." => {
                level.has_dot = true;
                if entry.nid != directory || level.directory.dot_omitted {
                    let value = || format!("\".\" leads to inode {}", entry.nid);
                    self.found(Rule::DirectoryDot, directory, At::File(entry.at), &value);
                }
            }
            b".." => {
                level.has_parent = true;
                if let Some(parent) = level.parent.filter(|parent| *parent != entry.nid) {
                    let value = || format!("\"..\" leads to inode {}, not {parent}", entry.nid);
                    self.found(Rule::DirectoryParent, directory, At::File(entry.at), &value);
                }
            }
            _ => return self.child(level, entry),
        }
        self.stack.push(level);
        Ok(())
    }

    fn child(&mut self, mut level: Level, entry: &Entry) -> io::Result<()> {
        if !self.path.is_empty() {
            self.path.push(b'/');
        }
        self.path.extend_from_slice(&entry.name);
        let at = At::File(entry.at);
        if entry.nid.0 == 0 {
            self.found(Rule::InodeZero, entry.nid, at, &|| "inode 0".to_owned());
        }
        let inode = match self.image.inode_through(&mut self.window, entry.nid) {
            Ok(inode) => inode,
            Err(error) => {
                let mut finding = broken::finding(&error, entry.nid);
                if finding.rule == Rule::DataOutside {
                    finding.rule = Rule::InodeOutside;
                }
                finding.path = Some(self.path.clone());
                self.visitor.found(finding.rule, &|| finding.clone());
                level.incomplete = true;
                self.stack.push(level);
                return Ok(());
            }
        };
        let expected = file_type_value(inode.file_type);
        if entry.file_type != 0 && entry.file_type != expected {
            let value = || format!("type {}, the inode's is {expected}", entry.file_type);
            self.found(Rule::DirectoryType, entry.nid, at, &value);
        }
        self.visitor.name(&self.path, &inode)?;
        if !inode.is_directory() {
            self.stack.push(level);
            return Ok(());
        }
        level.subdirectories = level.subdirectories.saturating_add(1);
        let parent = level.directory.nid();
        let path_length = self.path.len();
        // Deep in a tree the directories above read their block again, so that memory is bounded.
        if self.stack.len() >= LEVELS_WITH_BLOCK {
            level.block = Vec::new();
        }
        self.stack.push(level);
        if self.stack.len() >= DEFAULT_MAX_DEPTH {
            let value = || format!("more than {DEFAULT_MAX_DEPTH} levels");
            self.found(Rule::DirectoryDepth, entry.nid, at, &value);
        } else if self.entered.insert(entry.nid) {
            self.stack
                .push(Level::new(&inode, Some(parent), path_length));
        } else {
            let on_path = |level: &Level| level.directory.nid() == entry.nid;
            let (rule, value) = if self.stack.iter().any(on_path) {
                (Rule::DirectoryCycle, "a directory on the way to this entry")
            } else {
                (Rule::DirectoryAlias, "a directory that has another name")
            };
            self.found(rule, entry.nid, at, &|| value.to_owned());
        }
        Ok(())
    }

    /// What can be said when a directory was listed.
    fn finish(&mut self, level: &mut Level) {
        if level.incomplete {
            return;
        }
        let directory = level.directory;
        let at = At::File(0);
        if !level.has_dot && !directory.dot_omitted {
            let value = || "no entry \".\"".to_owned();
            self.found(Rule::DirectoryDot, directory.nid(), at, &value);
        }
        if !level.has_parent {
            let value = || "no entry \"..\"".to_owned();
            self.found(Rule::DirectoryParent, directory.nid(), at, &value);
        }
        let expected = level.subdirectories.saturating_add(2);
        // Directories with more links than their inode can count say 1.
        if u64::from(directory.nlink) != expected && directory.nlink != 1 {
            let (area, offset) = directory.position();
            let value = || format!("{} links, counted {expected}", directory.nlink);
            let at = At::area(area, offset);
            self.found(Rule::InodeLinks, directory.nid(), at, &value);
        }
    }
}
