//! What the kernel says while a job runs.

use std::{
    fs::{File, OpenOptions},
    io::{Read, Seek, SeekFrom},
    os::unix::fs::OpenOptionsExt,
};

/// Lines that are about an image.
const TELLING: [&str; 9] = [
    "erofs",
    "WARNING",
    "BUG",
    "RIP",
    "verity",
    "overlayfs",
    "Call Trace",
    "I/O error",
    "hung",
];
/// What every mount says.
const USUAL: &str = "mounted with root inode";
const MOST_RECORDS: usize = 2000;

/// The kernel's log from now on.
#[derive(Debug)]
pub(crate) struct KernelLog(Option<File>);

impl KernelLog {
    /// Opens it; where it cannot be read it stays empty.
    pub(crate) fn open() -> Self {
        let file = OpenOptions::new()
            .read(true)
            .custom_flags(libc::O_NONBLOCK)
            .open("/dev/kmsg");
        Self(file.ok().and_then(|mut file| {
            file.seek(SeekFrom::End(0)).ok()?;
            Some(file)
        }))
    }

    /// The telling lines since the last call.
    pub(crate) fn lines(&mut self) -> Vec<String> {
        let mut lines = Vec::new();
        let Some(file) = &mut self.0 else {
            return lines;
        };
        let mut buffer = [0; 8192];
        for _ in 0..MOST_RECORDS {
            match file.read(&mut buffer) {
                Ok(read) if read > 0 => {
                    let record = String::from_utf8_lossy(&buffer[..read]);
                    let text = record.split_once(';').map_or("", |(_, text)| text);
                    let line = text.lines().next().unwrap_or("");
                    if TELLING.iter().any(|word| line.contains(word)) && !line.contains(USUAL) {
                        lines.push(line.to_owned());
                    }
                }
                // Overwritten before it was read.
                Err(error) if error.raw_os_error() == Some(libc::EPIPE) => {}
                _ => break,
            }
        }
        lines
    }
}
