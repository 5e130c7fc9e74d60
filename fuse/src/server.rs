//! Serving a mounted image until it is unmounted, by whomever.

use crate::daemon::Watch;
use crate::filesystem::Filesystem;
use crate::mount::{self, MountError};
use crate::options::ServeOptions;
use erofs_reader::Image;
use fuser::{Config, Session, SessionACL};
use nix::sys::signal::{SigSet, Signal};
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::thread::{self, JoinHandle};

/// Why an image is not or no longer served.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The directory to mount on.
    #[error("{path}: {error}", path = path.display())]
    Target {
        /// The directory.
        path: PathBuf,
        /// Why.
        #[source]
        error: io::Error,
    },
    /// Mounting or unmounting.
    #[error(transparent)]
    Mount(#[from] MountError),
    /// The connection to the kernel.
    #[error("FUSE connection: {0}")]
    Connection(#[source] io::Error),
    /// The process that cleans up.
    #[error("cannot start the process that unmounts when this one is killed: {0}")]
    Watcher(#[source] io::Error),
    /// Signals, threads.
    #[error("cannot set up serving: {0}")]
    System(#[source] io::Error),
    /// Whoever waits for the mount.
    #[error("cannot report that the image is mounted: {0}")]
    Report(#[source] io::Error),
}

/// A mounted image that is being served by threads of this process.
#[derive(Debug)]
pub struct Server {
    target: PathBuf,
    device: u64,
    session: JoinHandle<io::Result<()>>,
}

impl Server {
    /// Mounts `image` on `target` and serves it. The mount answers when this returns.
    ///
    /// # Errors
    /// [`ServeError`]; nothing is left mounted then.
    pub fn mount(
        image: Arc<Image>,
        target: &Path,
        options: &ServeOptions,
    ) -> Result<Self, ServeError> {
        let target = directory(target)?;
        let connection = mount::mount(&target, options)?;
        let undo = Undo(&target);
        let mut config = Config::default();
        config.n_threads = Some(options.threads.get());
        config.clone_fd = true;
        // Who may come in is for the kernel to judge, which knows more about it than the user of a request.
        let session = Session::from_fd(
            Filesystem::new(image, options),
            connection,
            SessionACL::All,
            config,
        )
        .map_err(ServeError::Connection)?;
        let session = thread::Builder::new()
            .name("erofs-session".to_owned())
            .spawn(move || session.run())
            .map_err(ServeError::System)?;
        let device = fs::metadata(&target)
            .map_err(|error| ServeError::Target {
                path: target.clone(),
                error,
            })?
            .dev();
        std::mem::forget(undo);
        Ok(Self {
            target,
            device,
            session,
        })
    }

    /// Takes the mount off its directory at once. It is served on until nobody uses it any more: see [`Server::join`].
    ///
    /// # Errors
    /// [`ServeError::Mount`].
    pub fn unmount(&self) -> Result<(), ServeError> {
        unmount(&self.target, self.device)
    }

    /// Waits until the image is unmounted and the last user is gone.
    ///
    /// # Errors
    /// [`ServeError::Connection`].
    pub fn join(self) -> Result<(), ServeError> {
        self.session
            .join()
            .unwrap_or_else(|_| Err(io::Error::other("a serving thread panicked")))
            .map_err(ServeError::Connection)
    }
}

/// Unmounts `target` unless something else is mounted there by now.
fn unmount(target: &Path, device: u64) -> Result<(), ServeError> {
    if fs::metadata(target).is_ok_and(|metadata| metadata.dev() == device) {
        mount::unmount_lazily(target)?;
    }
    Ok(())
}

/// Unmounts when mounting is given up half-way.
struct Undo<'a>(&'a Path);

impl Drop for Undo<'_> {
    fn drop(&mut self) {
        // The error that led here is the one to report.
        let _ = mount::unmount_lazily(self.0);
    }
}

fn directory(path: &Path) -> Result<PathBuf, ServeError> {
    let failed = |error| ServeError::Target {
        path: path.to_owned(),
        error,
    };
    let target = path.canonicalize().map_err(failed)?;
    if !target.is_dir() {
        return Err(failed(io::ErrorKind::NotADirectory.into()));
    }
    Ok(target)
}

/// Mounts `image` on `target`, calls `ready` once the mount answers, and serves until it is unmounted.
///
/// This is what a process of its own is for: SIGTERM, SIGINT and SIGHUP unmount lazily, and the image is served until the
/// last user is gone; a second signal ends the process, with exit code 0 too. Call it before any other thread is started,
/// which the signals could hit. The working directory becomes `/`.
///
/// `watcher` is started so that nothing stays mounted when the process is killed: it must come to [`crate::watch`].
///
/// # Errors
/// [`ServeError`]; nothing is left mounted then.
pub fn serve(
    image: Arc<Image>,
    target: &Path,
    options: &ServeOptions,
    watcher: Command,
    ready: impl FnOnce() -> io::Result<()>,
) -> Result<(), ServeError> {
    let signals: SigSet = [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP]
        .into_iter()
        .collect();
    signals
        .thread_block()
        .map_err(|errno| ServeError::System(errno.into()))?;
    let target = directory(target)?;
    let _watch = Watch::start(watcher).map_err(ServeError::Watcher)?;
    std::env::set_current_dir("/").map_err(ServeError::System)?;
    let server = Server::mount(image, &target, options)?;
    let device = server.device;
    thread::Builder::new()
        .name("erofs-signals".to_owned())
        .spawn(move || {
            let mut detached = false;
            while signals.wait().is_ok() {
                if detached {
                    std::process::exit(0);
                }
                // What cannot be unmounted is left to the second signal, and to the watcher.
                let _ = unmount(&target, device);
                detached = true;
            }
        })
        .map_err(ServeError::System)?;
    if let Err(error) = ready() {
        server.unmount()?;
        return Err(ServeError::Report(error));
    }
    server.join()
}
