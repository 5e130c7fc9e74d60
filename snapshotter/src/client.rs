//! How services behind a Unix socket are called: those of containerd.

use std::io;
use std::path::Path;
use tonic::transport::{Channel, Endpoint, Error, Uri};

/// Connects to whoever serves `socket`.
///
/// # Errors
/// Nobody does.
pub async fn connect(socket: &Path) -> Result<Channel, Error> {
    let socket = socket.to_path_buf();
    // The address that HTTP wants is never looked at.
    Endpoint::from_static("http://socket")
        .connect_with_connector(tower::service_fn(move |_: Uri| {
            let socket = socket.clone();
            async move {
                let stream = tokio::net::UnixStream::connect(socket).await?;
                Ok::<_, io::Error>(hyper_util::rt::TokioIo::new(stream))
            }
        }))
        .await
}
