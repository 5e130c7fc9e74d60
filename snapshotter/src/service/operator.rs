//! `erofs.snapshotter.v1.Operator`.

use super::Service;
use crate::api::operator::operator_server::Operator;
use crate::api::operator::{
    CollectRequest, CollectResponse, ScrubRequest, ScrubResponse, StatusRequest, StatusResponse,
};
use std::ops::ControlFlow;
use std::pin::Pin;
use tokio::sync::mpsc::channel;
use tokio_stream::Stream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

/// Reports that wait for their reader.
const WAITING: usize = 16;

#[tonic::async_trait]
impl Operator for Service {
    async fn status(&self, _: Request<StatusRequest>) -> Result<Response<StatusResponse>, Status> {
        let status = self.run("Status", String::new(), |snapshotter| {
            Ok(StatusResponse {
                serving: true,
                ..snapshotter.status()?
            })
        });
        status.await.map(Response::new)
    }

    async fn collect(
        &self,
        _: Request<CollectRequest>,
    ) -> Result<Response<CollectResponse>, Status> {
        self.run("Collect", String::new(), |snapshotter| {
            snapshotter.collect()
        })
        .await
        .map(Response::new)
    }

    type ScrubStream = Pin<Box<dyn Stream<Item = Result<ScrubResponse, Status>> + Send>>;

    async fn scrub(&self, _: Request<ScrubRequest>) -> Result<Response<Self::ScrubStream>, Status> {
        let (sender, receiver) = channel(WAITING);
        let service = self.clone();
        tokio::spawn(async move {
            let reports = sender.clone();
            let scrubbed = service.run("Scrub", String::new(), move |snapshotter| {
                // Whoever asked may have gone.
                snapshotter.scrub(|report| match reports.blocking_send(Ok(report)) {
                    Ok(()) => ControlFlow::Continue(()),
                    Err(_) => ControlFlow::Break(()),
                })
            });
            if let Err(status) = scrubbed.await {
                let _ = sender.send(Err(status)).await;
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }
}
