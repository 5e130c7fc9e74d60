//! `containerd.services.diff.v1.Diff`.

use super::Service;
use crate::api::diff::v1::diff_server::Diff;
use crate::api::diff::v1::{ApplyRequest, ApplyResponse, DiffRequest, DiffResponse};
use crate::apply::{apply, check_media_type, target};
use crate::content::{self, NAMESPACE};
use crate::error::Error;
use std::sync::Arc;
use tokio::runtime::Handle;
use tonic::{Request, Response, Status};

#[tonic::async_trait]
impl Diff for Service {
    async fn apply(
        &self,
        request: Request<ApplyRequest>,
    ) -> Result<Response<ApplyResponse>, Status> {
        let namespace = request.metadata().get(NAMESPACE).cloned();
        let request = request.into_inner();
        let containerd = Arc::clone(&self.containerd);
        let runtime = Handle::current();
        let applied = self
            .run(move |snapshotter| {
                let layer = request
                    .diff
                    .ok_or_else(|| Error::Argument("no layer is named".to_owned()))?;
                check_media_type(&layer.media_type)?;
                let snapshot = target(&snapshotter.store, &request.mounts)?;
                let digest = &layer.digest;
                let blob = content::open(&containerd, digest, namespace.as_ref(), &runtime)?;
                apply(snapshotter, snapshot, digest, blob)
            })
            .await?;
        Ok(Response::new(ApplyResponse {
            applied: Some(applied),
        }))
    }

    /// Left to containerd's own differ, which mounts both sides.
    async fn diff(&self, _: Request<DiffRequest>) -> Result<Response<DiffResponse>, Status> {
        Err(Error::NotOurs("layers are told apart by the walking differ".to_owned()).into())
    }
}
