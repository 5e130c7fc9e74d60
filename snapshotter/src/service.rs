//! The gRPC services. What blocks is done in threads for that.

mod diff;
mod operator;
mod snapshots;

use crate::config::Containerd;
use crate::error::Error;
use crate::log;
use crate::snapshotter::Snapshotter;
use std::sync::Arc;
use std::time::Instant;
use tonic::{Code, Status};

/// What serves all of them.
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

    /// Does the work of a call, and tells of it: `key` is what it is about.
    async fn run<T: Send + 'static>(
        &self,
        method: &'static str,
        key: String,
        work: impl FnOnce(&Snapshotter) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Status> {
        let snapshotter = Arc::clone(&self.snapshotter);
        let began = Instant::now();
        let done = tokio::task::spawn_blocking(move || work(&snapshotter)).await;
        let done = done
            .map_err(|error| Status::internal(error.to_string()))
            .and_then(|done| done.map_err(Status::from));
        self.tell(method, &key, began, done.as_ref().err());
        done
    }

    /// Answers a call whose work only reads what the database has in memory, so that it is not worth a thread. `None`, for which
    /// nothing is told, if it turns out to be more.
    fn answer<T>(
        &self,
        method: &'static str,
        key: &str,
        work: impl FnOnce(&Snapshotter) -> Result<Option<T>, Error>,
    ) -> Result<Option<T>, Status> {
        let began = Instant::now();
        let done = work(&self.snapshotter).map_err(Status::from);
        if !matches!(done, Ok(None)) {
            self.tell(method, key, began, done.as_ref().err());
        }
        done
    }

    /// Tells of a call that has ended.
    fn tell(&self, method: &'static str, key: &str, began: Instant, failed: Option<&Status>) {
        let took = began.elapsed();
        log::call(method, key, took, failed);
        let code = failed.map_or(Code::Ok, Status::code);
        self.snapshotter.metrics.call(method, took, code);
    }

    /// Throws away what was removed, while nobody waits for it.
    fn clean_up(&self) {
        let service = self.clone();
        tokio::spawn(async move {
            let cleaned = service.run("Cleanup", String::new(), |snapshotter| {
                snapshotter.cleanup()
            });
            // Its error is in the log.
            let _ = cleaned.await;
        });
    }
}
