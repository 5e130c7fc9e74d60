//! The Unix sockets on which this process is called.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use tokio::net::UnixListener;

/// The socket that the service manager made and hands over (`sd_listen_fds(3)`), if it did. To be asked once.
///
/// # Errors
/// What it hands over is something else.
pub(crate) fn handed_over() -> io::Result<Option<UnixListener>> {
    let listener = listenfd::ListenFd::from_env().take_unix_listener(0)?;
    listener
        .map(|listener| {
            listener.set_nonblocking(true)?;
            UnixListener::from_std(listener)
        })
        .transpose()
}

/// Takes the place of a socket that nobody serves any more. Only root may call.
///
/// # Errors
/// `AddrInUse` where somebody does.
pub(crate) fn listen(path: &Path) -> io::Result<UnixListener> {
    if is_served(path)? {
        return Err(io::ErrorKind::AddrInUse.into());
    }
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(path)?;
    fs::set_permissions(path, Permissions::from_mode(0o600))?;
    Ok(listener)
}

/// Whether somebody answers at a socket.
///
/// # Errors
/// It cannot be told: the socket is not for this user.
pub(crate) fn is_served(path: &Path) -> io::Result<bool> {
    use io::ErrorKind::{ConnectionRefused, NotFound};
    match std::os::unix::net::UnixStream::connect(path) {
        Ok(_) => Ok(true),
        Err(error) if matches!(error.kind(), NotFound | ConnectionRefused) => Ok(false),
        Err(error) => Err(error),
    }
}
