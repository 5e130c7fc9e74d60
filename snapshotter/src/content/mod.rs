//! Blobs of containerd's content store: read from its folder where that can be seen, else through containerd; written through
//! containerd.

mod blob;
mod caller;
mod images;
mod known;
mod lease;
mod upload;

pub(crate) use blob::{Blob, new_file, take};
pub(crate) use caller::Caller;
pub(crate) use upload::Upload;

use crate::api::content::v1::content_client::ContentClient;
use crate::api::content::v1::{ReadContentRequest, ReadContentResponse};
use crate::client::connect;
use crate::config::Containerd;
use crate::error::Error;
use crate::store::sha256;
use std::fs::File;
use std::io::{self, Read};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};
use tokio::runtime::Handle;
use tokio::sync::OnceCell;
use tonic::codec::Streaming;
use tonic::transport::Channel;
use tonic::{Code, Status};
use tonic_prost::prost::bytes::{Buf, Bytes};

/// containerd's content store, for one caller. Calls block, and need a thread for that.
#[derive(Debug, Clone)]
pub(crate) struct Content {
    pub(crate) containerd: Arc<Containerd>,
    pub(crate) caller: Caller,
    pub(crate) runtime: Handle,
    /// The connection to containerd, once there is one: what is cloned has it too, and it is made anew where it breaks.
    pub(crate) connection: Arc<OnceCell<Channel>>,
}

impl Content {
    /// The same for what belongs to this namespace of containerd, if that is known.
    pub(crate) fn in_namespace(self, namespace: &str) -> Self {
        Self {
            caller: self.caller.in_namespace(namespace),
            ..self
        }
    }

    /// Opens a blob.
    ///
    /// # Errors
    /// [`Error::Argument`], [`Error::NotFound`], [`Error::File`], [`Error::Containerd`].
    pub(crate) fn open(&self, digest: &str) -> Result<Blob, Error> {
        if let Some(file) = self.file(digest)? {
            return Ok(Blob::File(file));
        }
        match self.runtime.block_on(self.read(digest)) {
            Ok(pieces) => Ok(Blob::Stream(Box::new(Pieces {
                pieces,
                piece: Bytes::new(),
                runtime: self.runtime.clone(),
            }))),
            Err(status) if status.code() == Code::NotFound => Err(Error::NotFound {
                what: "blob",
                name: digest.to_owned(),
            }),
            Err(status) => Err(Error::containerd("reading", digest)(status)),
        }
    }

    /// Opens a blob that can be seen, and is whole.
    ///
    /// # Errors
    /// [`Error::Argument`], [`Error::File`].
    pub(crate) fn file(&self, digest: &str) -> Result<Option<File>, Error> {
        let blobs = self.containerd.content.join("blobs/sha256");
        let path = blobs.join(sha256(digest)?);
        match File::open(&path) {
            Ok(file) => Ok(Some(file)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Error::file("opening", &path)(error)),
        }
    }

    async fn read(&self, digest: &str) -> Result<Streaming<ReadContentResponse>, Status> {
        let request = self.caller.request(ReadContentRequest {
            digest: digest.to_owned(),
            ..ReadContentRequest::default()
        });
        Ok(self.client().await?.read(request).await?.into_inner())
    }

    async fn client(&self) -> Result<ContentClient<Channel>, Status> {
        self.channel().await.map(ContentClient::new)
    }

    async fn channel(&self) -> Result<Channel, Status> {
        let address = &self.containerd.address;
        let channel = self.connection.get_or_try_init(|| connect(address)).await;
        let channel = channel.cloned();
        channel.map_err(|error| Status::unavailable(format!("{}: {error}", address.display())))
    }
}

/// A name that nothing else has: no other blob on its way, and no other lease.
pub(crate) fn unique_name() -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    format!("erofs-snapshotter-{}", now.unwrap_or_default().as_nanos())
}

/// A blob that comes in messages.
struct Pieces {
    pieces: Streaming<ReadContentResponse>,
    piece: Bytes,
    runtime: Handle,
}

impl Read for Pieces {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        while self.piece.is_empty() {
            match self.runtime.block_on(self.pieces.message()) {
                Ok(Some(message)) => self.piece = message.data,
                Ok(None) => return Ok(0),
                Err(status) => return Err(io::Error::other(status)),
            }
        }
        let count = out.len().min(self.piece.len());
        self.piece
            .copy_to_slice(out.get_mut(..count).unwrap_or_default());
        Ok(count)
    }
}
