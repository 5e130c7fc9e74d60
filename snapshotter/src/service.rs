//! The gRPC services. What they do blocks, so it is done in threads for that.

mod diff;
mod snapshots;

use crate::config::Containerd;
use crate::error::Error;
use crate::snapshotter::Snapshotter;
use std::sync::Arc;
use tonic::Status;

/// What serves both services.
#[derive(Debug, Clone)]
pub(crate) struct Service {
    snapshotter: Arc<Snapshotter>,
    containerd: Arc<Containerd>,
}

impl Service {
    pub(crate) fn new(snapshotter: Arc<Snapshotter>, containerd: Containerd) -> Self {
        Self {
            snapshotter,
            containerd: Arc::new(containerd),
        }
    }

    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Snapshotter) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Status> {
        let snapshotter = Arc::clone(&self.snapshotter);
        tokio::task::spawn_blocking(move || work(&snapshotter))
            .await
            .map_err(|error| Status::internal(error.to_string()))?
            .map_err(Status::from)
    }
}
