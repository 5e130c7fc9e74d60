//! What the measuring programs share.

#![allow(dead_code, reason = "each program takes what it needs")]

use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// All files in `path`, by name.
pub(crate) fn collect(path: &Path, files: &mut Vec<PathBuf>) {
    let kind = path.symlink_metadata().expect("existing path").file_type();
    if kind.is_dir() {
        let mut inside: Vec<PathBuf> = std::fs::read_dir(path)
            .expect("readable directory")
            .map(|entry| entry.expect("directory entry").path())
            .collect();
        inside.sort();
        inside.iter().for_each(|path| collect(path, files));
    } else if kind.is_file() {
        files.push(path.to_owned());
    }
}

/// CPU time of this thread.
pub(crate) fn cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}
