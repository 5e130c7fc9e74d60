//! The process: a socket, signals, the service manager.

use crate::api::diff::v1::diff_server::DiffServer;
use crate::api::snapshots::v1::snapshots_server::SnapshotsServer;
use crate::config::Config;
use crate::error::Error;
use crate::layer_mounts::FuseServer;
use crate::service::Service;
use crate::snapshotter::Snapshotter;
use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::net::UnixListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio_stream::wrappers::UnixListenerStream;
use tonic::transport::Server;

/// Why the process ends early.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The root folder cannot be used.
    #[error(transparent)]
    Open(#[from] Error),
    /// The socket cannot be made.
    #[error("socket {}: {source}", path.display())]
    Socket {
        /// The socket.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The runtime or the server.
    #[error("serving: {0}")]
    Server(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// Serves containerd until SIGTERM or SIGINT. Mounts stay: containers go on, and the next process finds them. `server` mounts
/// images that the kernel cannot.
///
/// # Errors
/// [`ServeError`].
pub fn serve(config: &Config, server: FuseServer) -> Result<(), ServeError> {
    let other = |error: io::Error| ServeError::Server(error.into());
    let snapshotter = Arc::new(Snapshotter::open(config, server)?);
    let service = Service::new(snapshotter, config.containerd.clone());
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(other)?;
    runtime.block_on(async {
        let listener = listen(&config.socket)?;
        let mut terminate = signal(SignalKind::terminate()).map_err(other)?;
        let mut interrupt = signal(SignalKind::interrupt()).map_err(other)?;
        notify("READY=1").map_err(other)?;
        let stopped = async move {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            // That nobody is told changes nothing.
            let _ = notify("STOPPING=1");
        };
        Server::builder()
            .add_service(SnapshotsServer::new(service.clone()))
            .add_service(DiffServer::new(service))
            .serve_with_incoming_shutdown(UnixListenerStream::new(listener), stopped)
            .await
            .map_err(|error| ServeError::Server(error.into()))
    })
}

/// Takes the place of a socket that nobody serves any more.
fn listen(path: &Path) -> Result<UnixListener, ServeError> {
    let failed = |source| ServeError::Socket {
        path: path.to_path_buf(),
        source,
    };
    if std::os::unix::net::UnixStream::connect(path).is_ok() {
        return Err(failed(io::ErrorKind::AddrInUse.into()));
    }
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
        _ => {}
    }
    let listener = UnixListener::bind(path).map_err(failed)?;
    fs::set_permissions(path, Permissions::from_mode(0o600)).map_err(failed)?;
    Ok(listener)
}

/// Tells the service manager, if one asked to be told (`sd_notify(3)`).
fn notify(state: &str) -> io::Result<()> {
    match std::env::var_os("NOTIFY_SOCKET") {
        Some(path) => UnixDatagram::unbound()?
            .send_to(state.as_bytes(), Path::new(&path))
            .map(drop),
        None => Ok(()),
    }
}
