//! The process: a socket, signals, the service manager.

use crate::api::diff::v1::diff_server::DiffServer;
use crate::api::operator::operator_server::OperatorServer;
use crate::api::snapshots::v1::snapshots_server::SnapshotsServer;
use crate::config::Config;
use crate::error::Error;
use crate::fault;
use crate::layer_mounts::FuseServer;
use crate::monitoring::Listener;
use crate::service::Service;
use crate::snapshotter::Snapshotter;
use crate::{log, seal, socket, syncing};
use erofs_mount::allocator;
use std::io;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::sync::Arc;
use tokio::signal::unix::{SignalKind, signal};
use tokio_stream::wrappers::UnixListenerStream;
use tonic::transport::Server;

/// Why the process ends early.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The root folder cannot be used.
    #[error(transparent)]
    Open(#[from] Error),
    /// A socket cannot be made.
    #[error("socket {path}: {source}")]
    Socket {
        /// The socket, or the address of metrics.
        path: String,
        /// Why.
        source: io::Error,
    },
    /// Nobody but root can mount layers.
    #[error("the snapshotter mounts layers for containerd, which only root may: run it as root")]
    NotRoot,
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
    if !rustix::process::geteuid().is_root() {
        return Err(ServeError::NotRoot);
    }
    log::start(&config.log);
    for doubt in config.doubts() {
        tracing::warn!("{doubt}");
    }
    // Before there are other threads.
    allocator::share_arenas();
    fault::read_environment()?;
    let snapshotter = Arc::new(Snapshotter::open(config, server)?);
    snapshotter.sweep();
    let service = Service::new(Arc::clone(&snapshotter), config.containerd.clone());
    // What takes long has threads of its own; short calls and their answers then never go from one thread to another.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(other)?;
    runtime.block_on(async {
        let failed = |path: String| move |source| ServeError::Socket { path, source };
        let path = config.socket.display().to_string();
        let handed_over = socket::handed_over().map_err(failed("handed over".to_owned()))?;
        let listener = match handed_over {
            Some(listener) => listener,
            None => socket::listen(&config.socket).map_err(failed(path.clone()))?,
        };
        let address = &config.metrics.address;
        let monitoring = Listener::bind(address)
            .await
            .map_err(failed(address.to_string()))?;
        if let Some(listener) = monitoring {
            tokio::spawn(listener.serve(Arc::clone(&snapshotter)));
        }
        syncing::start(Arc::clone(&snapshotter)).map_err(other)?;
        seal::start(snapshotter).map_err(other)?;
        let mut terminate = signal(SignalKind::terminate()).map_err(other)?;
        let mut interrupt = signal(SignalKind::interrupt()).map_err(other)?;
        notify("READY=1").map_err(other)?;
        tracing::info!(socket = path, root = %config.root.display(), "serving");
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
            .add_service(DiffServer::new(service.clone()))
            .add_service(OperatorServer::new(service))
            .serve_with_incoming_shutdown(UnixListenerStream::new(listener), stopped)
            .await
            .map_err(|error| ServeError::Server(error.into()))
    })
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
