//! The Unix sockets on which this process is called.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::Path;
use tokio::net::UnixListener;

/// Most bytes of a socket's path (`sun_path` of `unix(7)`, without its NUL).
const LONGEST: usize = 107;

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
/// The socket gets its name when it can be called: containerd waits while there is none, but gives up for a while when it is
/// refused.
///
/// # Errors
/// `AddrInUse` where somebody does; `AlreadyExists` where something else has that name; `NotFound` where its folder is missing.
pub(crate) fn listen(path: &Path) -> io::Result<UnixListener> {
    use io::ErrorKind::{AddrInUse, AlreadyExists, InvalidInput, NotFound};
    let mut aside = path.as_os_str().to_owned();
    aside.push(".new");
    if aside.len() > LONGEST {
        let most = LONGEST - ".new".len();
        let reason = format!("a socket's path has at most {most} bytes: take a shorter one");
        return Err(io::Error::new(InvalidInput, reason));
    }
    match fs::metadata(path) {
        Ok(found) if !found.file_type().is_socket() => {
            return Err(io::Error::new(
                AlreadyExists,
                "this is there, and no socket: take another name",
            ));
        }
        _ if is_served(path)? => {
            return Err(io::Error::new(AddrInUse, "another process serves it"));
        }
        _ => {}
    }
    if let Some(folder) = path.parent()
        && !folder.as_os_str().is_empty()
        && !folder.exists()
    {
        return Err(io::Error::new(NotFound, "its folder is missing: make it"));
    }
    match fs::remove_file(&aside) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(&aside)?;
    fs::set_permissions(&aside, Permissions::from_mode(0o600))?;
    fs::rename(&aside, path)?;
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixStream;

    #[tokio::test]
    async fn a_new_socket_refuses_nobody() {
        let folder = tempfile::tempdir().expect("made");
        for round in 0..200 {
            let path = folder.path().join(round.to_string());
            let caller = std::thread::spawn({
                let path = path.clone();
                move || {
                    loop {
                        match UnixStream::connect(&path) {
                            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                            answer => return answer.map(drop),
                        }
                    }
                }
            });
            let listener = listen(&path).expect("listens");
            let answer = caller.join().expect("ends");
            answer.expect("not refused");
            drop(listener);
        }
        let names = fs::read_dir(folder.path()).expect("read").count();
        assert_eq!(names, 200, "nothing is left aside");
    }

    #[tokio::test]
    async fn what_is_no_socket_stays() {
        let folder = tempfile::tempdir().expect("made");
        let path = folder.path().join("file");
        fs::write(&path, "kept").expect("written");
        let error = listen(&path).expect_err("it is a file");
        assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(fs::read(&path).expect("read"), b"kept");
        let error = listen(folder.path()).expect_err("it is a folder");
        assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
        let error = listen(&folder.path().join("missing/socket")).expect_err("no folder");
        assert!(error.to_string().contains("folder"), "{error}");
        let error = listen(&folder.path().join("n".repeat(120))).expect_err("too long");
        assert!(error.to_string().contains("at most 103"), "{error}");
    }

    #[tokio::test]
    async fn takes_the_place_of_the_dead_only() {
        let folder = tempfile::tempdir().expect("made");
        let path = folder.path().join("socket");
        let first = listen(&path).expect("listens");
        let error = listen(&path).expect_err("it is served");
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
        drop(first);
        listen(&path).expect("listens");
    }
}
