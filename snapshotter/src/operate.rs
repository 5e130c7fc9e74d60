//! How an operator asks: the process that serves, or, when there is none, its files.

use crate::api::operator::operator_client::OperatorClient;
pub use crate::api::operator::{
    Cache, CollectResponse, Layers, MountCount, ScrubResponse, ScrubbedLayer, SnapshotCounts,
    StatusResponse,
};
use crate::api::operator::{CollectRequest, ScrubRequest, StatusRequest};
use crate::client::connect;
use crate::config::Config;
use crate::error::Error;
use crate::layer_mounts::FuseServer;
use crate::snapshotter::Snapshotter;
use crate::{socket, store};
use std::io;
use std::ops::ControlFlow;
use std::path::PathBuf;
use tokio::runtime::Runtime;
use tonic::Status;
use tonic::transport::Channel;

/// Why an operator gets no answer.
#[derive(Debug, thiserror::Error)]
pub enum OperateError {
    /// The socket cannot be called.
    #[error("socket {}: {source}", path.display())]
    Socket {
        /// The socket.
        path: PathBuf,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The process that serves says why.
    #[error("{}", .0.message())]
    Refused(Box<Status>),
    /// Nobody serves, and there are no files.
    #[error(
        "nobody serves {}, and {} holds no layers: there is no {} in it", socket.display(), root.display(), store::DATABASE
    )]
    Nothing {
        /// The socket.
        socket: PathBuf,
        /// The folder of layers.
        root: PathBuf,
    },
    /// Nobody serves there, but somebody has the files.
    #[error(
        "nobody serves {}, but another process has the files of {} open: name its socket", socket.display(), root.display()
    )]
    Elsewhere {
        /// The socket.
        socket: PathBuf,
        /// The folder of layers.
        root: PathBuf,
    },
    /// Nobody serves, and the files cannot be used.
    #[error(transparent)]
    Files(#[from] Error),
}

impl From<Status> for OperateError {
    fn from(status: Status) -> Self {
        Self::Refused(Box::new(status))
    }
}

/// Whoever answers.
#[derive(Debug)]
pub struct Operator(Answering);

#[derive(Debug)]
enum Answering {
    Process {
        runtime: Runtime,
        client: Box<OperatorClient<Channel>>,
    },
    Files(Box<Snapshotter>),
}

impl Operator {
    /// Finds the process that serves; when there is none, its files are opened, and what belongs to nothing is thrown away
    /// as when it starts; `server` serves images where the kernel cannot.
    ///
    /// # Errors
    /// [`OperateError`].
    pub fn find(config: &Config, server: FuseServer) -> Result<Self, OperateError> {
        let path = &config.socket;
        let failed = |source| OperateError::Socket {
            path: path.clone(),
            source,
        };
        if !socket::is_served(path).map_err(|error| failed(error.into()))? {
            let (socket, root) = (path.clone(), config.root.clone());
            // Opening would make them.
            if !root.join(store::DATABASE).exists() {
                return Err(OperateError::Nothing { socket, root });
            }
            let snapshotter = match Snapshotter::open(config, server) {
                Err(Error::Database(error))
                    if matches!(*error, redb::Error::DatabaseAlreadyOpen) =>
                {
                    return Err(OperateError::Elsewhere { socket, root });
                }
                opened => opened?,
            };
            return Ok(Self(Answering::Files(Box::new(snapshotter))));
        }
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error: io::Error| failed(error.into()))?;
        let channel = runtime
            .block_on(connect(path))
            .map_err(|error| failed(error.into()))?;
        let client = Box::new(OperatorClient::new(channel));
        Ok(Self(Answering::Process { runtime, client }))
    }

    /// What there is.
    ///
    /// # Errors
    /// [`OperateError`].
    pub fn status(&mut self) -> Result<StatusResponse, OperateError> {
        match &mut self.0 {
            Answering::Process { runtime, client } => {
                let status = runtime.block_on(client.status(StatusRequest {}))?;
                Ok(status.into_inner())
            }
            Answering::Files(snapshotter) => Ok(snapshotter.status()?),
        }
    }

    /// Throws away what no snapshot needs.
    ///
    /// # Errors
    /// [`OperateError`].
    pub fn collect(&mut self) -> Result<CollectResponse, OperateError> {
        match &mut self.0 {
            Answering::Process { runtime, client } => {
                let collected = runtime.block_on(client.collect(CollectRequest {}))?;
                Ok(collected.into_inner())
            }
            Answering::Files(snapshotter) => Ok(snapshotter.collect()?),
        }
    }

    /// Reads all layers and compares them with what was noted when they were written.
    ///
    /// # Errors
    /// [`OperateError`]; what is wrong with layers is reported.
    pub fn scrub(&mut self, mut report: impl FnMut(ScrubResponse)) -> Result<(), OperateError> {
        match &mut self.0 {
            Answering::Process { runtime, client } => runtime.block_on(async {
                let mut reports = client.scrub(ScrubRequest {}).await?.into_inner();
                while let Some(next) = reports.message().await? {
                    report(next);
                }
                Ok(())
            }),
            Answering::Files(snapshotter) => Ok(snapshotter.scrub(|next| {
                report(next);
                ControlFlow::Continue(())
            })?),
        }
    }
}
