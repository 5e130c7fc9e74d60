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
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::runtime::Runtime;
use tonic::Status;
use tonic::transport::Channel;

/// How long a process may take to tell what there is: systemd has the socket before anybody serves.
const PATIENCE: Duration = Duration::from_secs(30);

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
    /// The socket is there, and calls stay without an answer.
    #[error("{}: no answer for {} s: does what serves it fail to start? See its log, with systemd by journalctl -u erofs-snapshotter", .0.display(), PATIENCE.as_secs())]
    Silent(PathBuf),
    /// Somebody serves there, from another folder than was asked for.
    #[error("{} is served from {}, not from {}: name its socket, or leave the root out", socket.display(), serves.display(), root.display())]
    Other {
        /// The socket.
        socket: PathBuf,
        /// The folder of layers that it serves.
        serves: PathBuf,
        /// The one that was asked for.
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
    /// Finds the process that serves; when there is none, its files are opened, and nothing is thrown away for that: whoever asks may
    /// have another configuration than who served. `server` serves images where the kernel cannot.
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
                Err(Error::Taken(_)) => return Err(OperateError::Elsewhere { socket, root }),
                opened => opened?,
            };
            return Ok(Self(Answering::Files(Box::new(snapshotter))));
        }
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error: io::Error| failed(error.into()))?;
        let answer = async {
            let channel = connect(path).await.map_err(|error| failed(error.into()))?;
            let mut client = Box::new(OperatorClient::new(channel));
            client.status(StatusRequest {}).await?;
            Ok::<_, OperateError>(client)
        };
        let answered = runtime.block_on(async { tokio::time::timeout(PATIENCE, answer).await });
        let client = answered.map_err(|_| OperateError::Silent(path.clone()))??;
        Ok(Self(Answering::Process { runtime, client }))
    }

    /// Makes sure that it is this folder of layers about which answers come.
    ///
    /// # Errors
    /// [`OperateError::Other`].
    pub fn of_root(mut self, root: &Path, socket: &Path) -> Result<Self, OperateError> {
        let serves = PathBuf::from(self.status()?.root);
        match root.canonicalize().is_ok_and(|root| root == serves) {
            true => Ok(self),
            false => Err(OperateError::Other {
                socket: socket.to_path_buf(),
                serves,
                root: root.to_path_buf(),
            }),
        }
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
            Answering::Files(snapshotter) => {
                snapshotter.give_up();
                Ok(snapshotter.collect()?)
            }
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
