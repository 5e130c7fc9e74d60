//! Files of one side that the other has by another name: found by digest, among files of the same size only.

use super::content::{Buffers, digest};
use super::difference::Problem;
use super::digest::Digest;
use super::side::{Identity, Side, SideError};
use super::walk::{Lone, Walked};
use erofs_format::inode::FileType;
use std::collections::{HashMap, VecDeque};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// What was found out about entries that only one side has.
#[derive(Debug, Default)]
pub(super) struct Renames {
    /// For each entry of side B the entry of side A that it was.
    pub(super) origins: HashMap<usize, usize>,
    pub(super) problems: Vec<Problem>,
}

/// A file to digest: one for all its names.
struct File {
    side: usize,
    lone: Lone,
    digest: OnceLock<Result<Digest, SideError>>,
}

/// Finds renamed files.
pub(super) fn find(
    sides: [&dyn Side; 2],
    walked: &Walked,
    workers: usize,
    progress: &AtomicU64,
) -> Renames {
    let sizes = walked.lone.each_ref().map(|lone| sizes(lone));
    let mut files: Vec<File> = Vec::new();
    let mut known: HashMap<(usize, Identity), usize> = HashMap::new();
    // For each side: which entries may be renamed, and the number of their file.
    let candidates = [0, 1].map(|side: usize| {
        let mut candidates = Vec::new();
        for (index, lone) in walked.lone[side].iter().enumerate() {
            if !is_candidate(lone) || sizes[1 - side].binary_search(&lone.size).is_err() {
                continue;
            }
            let file = *known.entry((side, lone.identity)).or_insert_with(|| {
                files.push(File {
                    side,
                    lone: *lone,
                    digest: OnceLock::new(),
                });
                files.len() - 1
            });
            candidates.push((index, file));
        }
        candidates
    });
    digest_all(sides, walked, &files, workers, progress);
    let origins = matched(walked, &candidates, &files);
    let problems = files.into_iter().filter_map(|file| {
        let error = file.digest.into_inner()?.err()?;
        Some(Problem {
            side: file.side,
            path: walked.paths.path(file.lone.path),
            error,
        })
    });
    Renames {
        origins,
        problems: problems.collect(),
    }
}

fn is_candidate(lone: &Lone) -> bool {
    lone.file_type == FileType::Regular && lone.size > 0
}

fn sizes(lone: &[Lone]) -> Vec<u64> {
    let mut sizes: Vec<u64> = lone
        .iter()
        .filter(|lone| is_candidate(lone))
        .map(|lone| lone.size)
        .collect();
    sizes.sort_unstable();
    sizes.dedup();
    sizes
}

fn digest_all(
    sides: [&dyn Side; 2],
    walked: &Walked,
    files: &[File],
    workers: usize,
    progress: &AtomicU64,
) {
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..workers.min(files.len()) {
            scope.spawn(|| {
                let mut buffers = Buffers::default();
                while let Some(file) = files.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let path = walked.paths.path(file.lone.path);
                    let result = sides[file.side]
                        .content(&path, file.lone.handle)
                        .and_then(|content| digest(&content, file.lone.size, &mut buffers));
                    progress.fetch_add(file.lone.size, Ordering::Relaxed);
                    // Each file has one worker.
                    let _ = file.digest.set(result);
                }
            });
        }
    });
}

/// Entries of side A that wait for one of side B, by content and perhaps by last name.
type Waiting<'w, K> = HashMap<(u64, Digest, K), VecDeque<usize>>;

/// Pairs first those that kept their last name, then the others, in the order of the walk.
fn matched(
    walked: &Walked,
    candidates: &[Vec<(usize, usize)>; 2],
    files: &[File],
) -> HashMap<usize, usize> {
    let digest_of = |file: usize| files[file].digest.get()?.as_ref().ok().copied();
    let key = |side: usize, (index, file): (usize, usize)| {
        let lone = walked.lone[side].get(index)?;
        Some((lone.size, digest_of(file)?, walked.paths.name(lone.path)))
    };
    let mut by_name: Waiting<'_, &[u8]> = HashMap::new();
    let mut by_content: Waiting<'_, ()> = HashMap::new();
    for candidate in &candidates[0] {
        if let Some((size, digest, name)) = key(0, *candidate) {
            let index = candidate.0;
            by_name
                .entry((size, digest, name))
                .or_default()
                .push_back(index);
            by_content
                .entry((size, digest, ()))
                .or_default()
                .push_back(index);
        }
    }
    let mut origins = HashMap::new();
    let mut taken = vec![false; walked.lone[0].len()];
    for candidate in &candidates[1] {
        if let Some(key) = key(1, *candidate)
            && let Some(origin) = by_name.get_mut(&key).and_then(VecDeque::pop_front)
        {
            taken[origin] = true;
            origins.insert(candidate.0, origin);
        }
    }
    for candidate in &candidates[1] {
        if origins.contains_key(&candidate.0) {
            continue;
        }
        let Some((size, digest, _)) = key(1, *candidate) else {
            continue;
        };
        let waiting = by_content.get_mut(&(size, digest, ()));
        let Some(waiting) = waiting else { continue };
        while let Some(origin) = waiting.pop_front() {
            if !std::mem::replace(&mut taken[origin], true) {
                origins.insert(candidate.0, origin);
                break;
            }
        }
    }
    origins
}
