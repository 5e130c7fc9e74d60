//! `containerd.services.diff.v1.Diff`.

use super::{Service, Waiting};
use crate::ahead;
use crate::api::diff::v1::diff_server::Diff;
use crate::api::diff::v1::{ApplyRequest, ApplyResponse, DiffRequest, DiffResponse};
use crate::apply::{apply, target};
use crate::content::{Caller, Content};
use crate::diff::diff;
use crate::error::Error;
use std::sync::Arc;
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
        let (applied, snapshot) = self
            .run("Apply", key, move |snapshotter| {
                let layer = request
                    .diff
                    .ok_or_else(|| Error::Argument("no layer is named".to_owned()))?;
                let snapshot = target(&snapshotter.store, &request.mounts)?;
                let _call = ahead::follow(&whole, &content, snapshot, &layer.digest);
                let open = || content.open(&layer.digest);
                let applied = apply(snapshotter, snapshot, &layer, &gone, &open);
                let applied = applied.inspect_err(|_| snapshotter.ahead.give_up(&layer.digest));
                Ok((applied?, snapshot))
            })
            .await?;
        drop(waiting);
        self.mount(snapshot);
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
