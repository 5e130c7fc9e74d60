//! The processes around a server: who starts it, and who cleans up after it.

use crate::mount;
use std::fmt;
use std::fs::{self, File};
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::{AsFd, RawFd};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};

/// What a daemon writes to its standard output once the mount answers, and a watcher once it watches. Anything else there is
/// the error that ended it.
const READY: u8 = 0;
/// Most bytes of such an error.
const LONGEST_MESSAGE: u64 = 64 << 10;

/// Why there is no daemon.
#[derive(Debug, thiserror::Error)]
pub enum LaunchError {
    /// It could not be started.
    #[error("cannot start the FUSE server: {0}")]
    Start(#[source] io::Error),
    /// It ended, and said why.
    #[error("{0}")]
    Failed(String),
    /// It ended without a word.
    #[error("the FUSE server ended before the image was mounted ({0})")]
    Died(ExitStatus),
}

/// Starts a daemon and returns when the mount answers. `server` must come to [`daemon`].
///
/// The daemon is a child of this process: one that lives on should expect its exit status.
///
/// # Errors
/// [`LaunchError`], with the daemon's own error where it had one.
pub fn launch(mut server: Command) -> Result<(), LaunchError> {
    let mut child = server
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(LaunchError::Start)?;
    let mut said = Vec::new();
    if let Some(output) = child.stdout.take() {
        let mut output = output.take(LONGEST_MESSAGE);
        let mut first = [0];
        match output.read_exact(&mut first) {
            Ok(()) if first == [READY] => return Ok(()),
            Ok(()) => {
                said.extend(first);
                // What was said until the pipe broke is better than nothing.
                let _ = output.read_to_end(&mut said);
            }
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => {}
            Err(error) => return Err(LaunchError::Start(error)),
        }
    }
    let status = child.wait().map_err(LaunchError::Start)?;
    if said.is_empty() {
        return Err(LaunchError::Died(status));
    }
    Err(LaunchError::Failed(
        String::from_utf8_lossy(&said).into_owned(),
    ))
}

/// The way to tell the parent, which called [`launch`], that the mount answers.
#[derive(Debug)]
pub struct Ready(());

impl Ready {
    /// Lets go of standard output and error, and tells it.
    ///
    /// # Errors
    /// When nobody waits any more.
    pub fn report(self) -> io::Result<()> {
        // In this order, so that whoever knows of the mount can rely on both.
        let mut launcher = File::from(io::stdout().as_fd().try_clone_to_owned()?);
        let null = File::options().write(true).open("/dev/null")?;
        rustix::stdio::dup2_stdout(&null)?;
        rustix::stdio::dup2_stderr(&null)?;
        launcher.write_all(&[READY])
    }
}

/// Closes what the caller of the program left open without meaning to: a lock, the end of a pipe that somebody waits for.
fn close_inherited() -> io::Result<()> {
    let mut numbers: Vec<RawFd> = Vec::new();
    for entry in fs::read_dir("/proc/self/fd")? {
        numbers.extend(
            entry?
                .file_name()
                .to_str()
                .and_then(|name| name.parse::<RawFd>().ok()),
        );
    }
    for number in numbers.into_iter().filter(|number| *number > 2) {
        // That of the listing itself is closed already.
        let _ = nix::unistd::close(number);
    }
    Ok(())
}

/// Runs `body` as the daemon of [`launch`]: in a session of its own, with its error handed to the launcher. It must be the
/// first thing that a program does, since whatever else is open is closed.
///
/// # Errors
/// Those of `body`, and that of making a session.
pub fn daemon<E: fmt::Display + From<io::Error>>(
    body: impl FnOnce(Ready) -> Result<(), E>,
) -> Result<(), E> {
    let result = rustix::process::setsid()
        .map_err(io::Error::from)
        .and_then(|_| close_inherited())
        .map_err(E::from)
        .and_then(|()| body(Ready(())));
    if let Err(error) = &result {
        // Alternate form: with causes, where the error has such a form. Nobody may be listening any more.
        let _ = write!(io::stdout(), "{error:#}");
        let _ = io::stdout().flush();
    }
    result
}

/// A process that waits for the end of this one.
#[derive(Debug)]
pub(crate) struct Watch {
    /// Its standard input is a pipe that nobody ever writes to; the kernel closes it when this process ends.
    watcher: Child,
}

impl Watch {
    /// Starts it and waits until it is out of reach of what may hit this process.
    pub(crate) fn start(mut watcher: Command) -> io::Result<Self> {
        let mut watcher = watcher
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()?;
        let output = watcher.stdout.take();
        let watch = Self { watcher };
        let mut said = [!READY];
        output.map_or(Ok(()), |mut output| output.read_exact(&mut said))?;
        if said != [READY] {
            return Err(io::Error::other("it does something else"));
        }
        Ok(watch)
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        drop(self.watcher.stdin.take());
        // How it fared is nothing to act on here.
        let _ = self.watcher.wait();
    }
}

/// Waits for the end of the server that started this process, then detaches what it left mounted on `target`, an absolute
/// path. Live mounts are not touched. As with [`daemon`], it must be the first thing that a program does.
///
/// # Errors
/// What keeps it from waiting or unmounting.
pub fn watch(target: &Path) -> io::Result<()> {
    // Signals to the server's process group or terminal do not come here.
    rustix::process::setsid()?;
    close_inherited()?;
    Ready(()).report()?;
    io::copy(&mut io::stdin(), &mut io::sink())?;
    if mount::is_abandoned(target) {
        mount::unmount_lazily(target).map_err(io::Error::other)?;
    }
    Ok(())
}
