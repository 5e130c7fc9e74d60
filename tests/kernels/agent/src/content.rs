//! What a regular file holds.

use std::{fs::File, num::NonZero, ops::Range, os::unix::fs::FileExt, path::Path, ptr};

use rustix::{
    fs::{Advice, fadvise},
    mm::{MapFlags, ProtFlags, mmap, munmap},
};
use sha2::{Digest, Sha256};

use crate::manifest::{errno, hexadecimal};

/// How often a file is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Depth {
    /// From front to back.
    Once,
    /// Then cold and backwards in odd steps, which decodes parts of clusters, then through a memory map.
    Thrice,
}

/// What reads need, made once: in an emulated guest the zeros of a fresh one take as long as the file.
#[derive(Debug)]
pub(crate) struct Buffer(Vec<u8>);

impl Default for Buffer {
    fn default() -> Self {
        Self(vec![0; BUFFER])
    }
}

const BUFFER: usize = 1 << 17;
/// Of larger files only both ends are read.
const WHOLE: u64 = 64 << 20;
const END: u64 = 1 << 20;
/// Larger files are read once.
const KEEP: u64 = 32 << 20;
/// A step whose multiples stand at every place of a block.
const STEP: usize = 4096 * 7 + 13;

/// The SHA-256 of the file's bytes in hexadecimal digits, or what failed: `!WHAT@OFFSET:ERRNO`, and for a failed read a
/// colon and the digest of the bytes in front of it. Files over 64 MiB are told by their first and last MiB: `ends:`.
pub(crate) fn of_file(
    path: &Path,
    size: u64,
    depth: Depth,
    buffer: &mut Buffer,
) -> Result<String, String> {
    let file = File::open(path).map_err(|error| format!("!open:{}", errno(&error)))?;
    let buffer = &mut buffer.0[..];
    if size > WHOLE {
        let mut hash = Sha256::new();
        front_to_back(&file, 0..END, &mut hash, buffer, None)?;
        front_to_back(&file, size - END..size, &mut hash, buffer, None)?;
        return Ok(format!("ends:{}", hexadecimal(&hash.finalize())));
    }
    let mut hash = Sha256::new();
    let mut bytes = Vec::new();
    let again = depth == Depth::Thrice && size <= KEEP && size > 0;
    let keep = again.then_some(&mut bytes);
    front_to_back(&file, 0..size, &mut hash, buffer, keep)?;
    if again {
        backwards(&file, &bytes, buffer)?;
        mapped(&file, &bytes)?;
    }
    Ok(hexadecimal(&hash.finalize()))
}

fn front_to_back(
    file: &File,
    range: Range<u64>,
    hash: &mut Sha256,
    buffer: &mut [u8],
    mut keep: Option<&mut Vec<u8>>,
) -> Result<(), String> {
    let mut at = range.start;
    while at < range.end {
        let want = BUFFER.min(usize::try_from(range.end - at).unwrap_or(BUFFER));
        match file.read_at(&mut buffer[..want], at) {
            Ok(0) => return Err(format!("!short@{at}:0")),
            Ok(read) => {
                hash.update(&buffer[..read]);
                if let Some(kept) = keep.as_deref_mut() {
                    kept.extend_from_slice(&buffer[..read]);
                }
                at += read as u64;
            }
            Err(error) => {
                let before = hexadecimal(&hash.clone().finalize());
                return Err(format!("!read@{at}:{}:{before}", errno(&error)));
            }
        }
    }
    Ok(())
}

/// Without read-ahead, as page after page would be asked for by a program that starts.
fn backwards(file: &File, expected: &[u8], buffer: &mut [u8]) -> Result<(), String> {
    forget(file);
    let _ = fadvise(file, 0, None, Advice::Random);
    let mut end = expected.len();
    while end > 0 {
        let start = end.saturating_sub(STEP);
        let part = &mut buffer[..end - start];
        match file.read_exact_at(part, start as u64) {
            Ok(()) if *part == expected[start..end] => end = start,
            Ok(()) => return Err(format!("!backwards@{start}:differs")),
            Err(error) => return Err(format!("!backwards@{start}:{}", errno(&error))),
        }
    }
    Ok(())
}

fn mapped(file: &File, expected: &[u8]) -> Result<(), String> {
    forget(file);
    let failed = |error: rustix::io::Errno| format!("!map@0:{}", error.raw_os_error());
    // SAFETY: a new mapping at an address of the kernel's choice aliases nothing.
    let map = unsafe {
        mmap(
            ptr::null_mut(),
            expected.len(),
            ProtFlags::READ,
            MapFlags::PRIVATE,
            file,
            0,
        )
    }
    .map_err(failed)?;
    // SAFETY: the mapping has this length and is readable, and nobody writes to the read-only filesystem.
    let same = unsafe { std::slice::from_raw_parts(map.cast::<u8>(), expected.len()) } == expected;
    // SAFETY: the slice above is gone.
    unsafe { munmap(map, expected.len()) }.map_err(failed)?;
    if same {
        Ok(())
    } else {
        Err("!map@0:differs".into())
    }
}

/// Drops what the page cache has of the file.
fn forget(file: &File) {
    let _ = fadvise(file, 0, NonZero::new(0), Advice::DontNeed);
}
