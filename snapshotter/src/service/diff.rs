//! `containerd.services.diff.v1.Diff`.

use super::Service;
use crate::ahead;
use crate::api::diff::v1::diff_server::Diff;
use crate::api::diff::v1::{ApplyRequest, ApplyResponse, DiffRequest, DiffResponse};
use crate::apply::{apply, target};
use crate::content::{Caller, Content};
use crate::diff::diff;
use crate::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::runtime::Handle;
use tonic::metadata::MetadataMap;
use tonic::{Request, Response, Status};

impl Service {
    /// The content store for who called with these headers.
    fn content(&self, headers: &MetadataMap) -> Result<Content, Error> {
        Ok(Content {
            caller: Caller::of(headers, &self.containerd)?,
            containerd: Arc::clone(&self.containerd),
            runtime: Handle::current(),
            connection: Arc::default(),
        })
    }
}

#[tonic::async_trait]
impl Diff for Service {
    async fn apply(
        &self,
        request: Request<ApplyRequest>,
    ) -> Result<Response<ApplyResponse>, Status> {
        let content = self.content(request.metadata())?;
        let request = request.into_inner();
        let key = request.diff.as_ref().map(|layer| layer.digest.clone());
        let key = key.unwrap_or_default();
        let waiting = Waiting::default();
        let gone = Arc::clone(&waiting.gone);
        let whole = Arc::clone(&self.snapshotter);
        let applied = self
            .run("Apply", key, move |snapshotter| {
                let layer = request
                    .diff
                    .ok_or_else(|| Error::Argument("no layer is named".to_owned()))?;
                let snapshot = target(&snapshotter.store, &request.mounts)?;
                let _call = ahead::follow(&whole, &content, snapshot, &layer.digest);
                let open = || content.open(&layer.digest);
                let applied = apply(snapshotter, snapshot, &layer, &gone, &open);
                if let Err(error) = &applied {
                    snapshotter.ahead.give_up(&layer.digest);
                    if matches!(error, Error::NotOurs(_)) {
                        // Another differ is asked next, and looks at what lies below.
                        snapshotter.mounts(&snapshotter.metadata.key(snapshot)?)?;
                    }
                }
                applied
            })
            .await?;
        Ok(Response::new(ApplyResponse {
            applied: Some(applied),
        }))
    }

    async fn diff(&self, request: Request<DiffRequest>) -> Result<Response<DiffResponse>, Status> {
        let content = self.content(request.metadata())?;
        let request = request.into_inner();
        let diff = self
            .run("Diff", request.r#ref.clone(), move |snapshotter| {
                diff(snapshotter, &content, request)
            })
            .await?;
        Ok(Response::new(DiffResponse { diff: Some(diff) }))
    }
}

/// Who waits for an answer. It is dropped early when the call is cancelled or the connection ends.
#[derive(Debug, Default)]
struct Waiting {
    gone: Arc<AtomicBool>,
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.gone.store(true, Ordering::Relaxed);
    }
}
