//! A temporary folder in which an image is made and mounted. Both are gone when the command ends, by a signal too.

use anyhow::Context;
use nix::sys::signal::{SigSet, Signal};
use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;
use tempfile::TempDir;

/// Signals that end a program, Ctrl-C first.
const ENDING: [Signal; 3] = [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP];
/// How often what is left is tried to be taken away, and the pause in between: the command goes on meanwhile, and may mount.
const ATTEMPTS: u32 = 50;
const PAUSE: Duration = Duration::from_millis(20);

/// The folder, until it is dropped.
#[derive(Debug)]
pub(crate) struct Scratch {
    folder: TempDir,
    image: PathBuf,
    target: PathBuf,
    /// Held from a signal on: what fails since the folder goes is not told.
    ending: Arc<Mutex<()>>,
}

impl Scratch {
    /// Makes the folder in `parent`, else where temporary files belong. Call it before any other thread is started, which the
    /// signals could hit.
    ///
    /// # Errors
    /// What the system says.
    pub(crate) fn new(prefix: &str, parent: Option<&Path>) -> anyhow::Result<Self> {
        let signals = ending_signals()?;
        signals.thread_block()?;
        let mut builder = tempfile::Builder::new();
        builder.prefix(prefix);
        let folder = match parent {
            Some(parent) => builder
                .tempdir_in(parent)
                .with_context(|| format!("cannot make a folder in {}", parent.display())),
            None => builder
                .tempdir()
                .context("cannot make a temporary folder (TMPDIR names another place for it)"),
        }?;
        let image = folder.path().join("image.erofs");
        let target = folder.path().join("mnt");
        fs::create_dir(&target).with_context(|| target.display().to_string())?;
        let left = (folder.path().to_path_buf(), target.clone());
        let ending = Arc::new(Mutex::new(()));
        let ends = Arc::clone(&ending);
        thread::Builder::new()
            .name("erofs-signals".to_owned())
            .spawn(move || {
                if let Ok(signal) = signals.wait() {
                    let _held = ends.lock();
                    take_away(&left.0, &left.1);
                    // As shells tell it.
                    std::process::exit(128 + signal as i32);
                }
            })?;
        Ok(Self {
            folder,
            image,
            target,
            ending,
        })
    }

    /// The folder itself.
    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Where the image goes.
    pub(crate) fn image(&self) -> &Path {
        &self.image
    }

    /// An empty directory to mount it on.
    pub(crate) fn target(&self) -> &Path {
        &self.target
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // After a signal the thread that holds it ends the program.
        drop(self.ending.lock());
    }
}

/// The signals that would end this program: nohup(1) and shells let it ignore some.
fn ending_signals() -> io::Result<SigSet> {
    let status = fs::read_to_string("/proc/self/status")?;
    Ok(ending_of(&status))
}

/// The same by what /proc/PID/status says.
fn ending_of(status: &str) -> SigSet {
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    let ignored = mask.unwrap_or(0);
    let is_heeded = |signal: &Signal| ignored >> (*signal as u32 - 1) & 1 == 0;
    ENDING.into_iter().filter(is_heeded).collect()
}

/// Unmounts `target` and removes `folder`, in which it is.
fn take_away(folder: &Path, target: &Path) {
    for _ in 0..ATTEMPTS {
        // Most often it is that nothing is mounted.
        let _ = erofs_mount::umount(target, true);
        match fs::remove_dir_all(folder) {
            Err(error) if error.kind() != ErrorKind::NotFound => thread::sleep(PAUSE),
            _ => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_ignored_stays_ignored() {
        let heeded = |status: &str| ending_of(status).iter().collect::<Vec<_>>();
        assert_eq!(
            heeded("Name:\tx\nSigIgn:\t0000000000001000\n"),
            [Signal::SIGHUP, Signal::SIGINT, Signal::SIGTERM]
        );
        // nohup, and `&` in a script.
        assert_eq!(heeded("SigIgn:\t0000000000000003\n"), [Signal::SIGTERM]);
    }
}
