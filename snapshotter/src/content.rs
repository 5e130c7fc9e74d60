//! Blobs of containerd's content store: from its folder where that can be seen, else through containerd.

use crate::api::content::v1::{ReadContentRequest, ReadContentResponse};
use crate::client::connect;
use crate::config::Containerd;
use crate::error::Error;
use crate::store::sha256;
use std::fs::File;
use std::io::{self, Read};
use tokio::runtime::Handle;
use tonic::codec::Streaming;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::{Code, Request, Status};
use tonic_prost::prost::bytes::{Buf, Bytes};

/// The header that tells containerd's namespace.
pub(crate) const NAMESPACE: &str = "containerd-namespace";

/// Opens a blob. What is asked for through containerd is asked for in `namespace`, by `runtime`.
///
/// # Errors
/// [`Error::Argument`], [`Error::NotFound`], [`Error::File`].
pub(crate) fn open(
    containerd: &Containerd,
    digest: &str,
    namespace: Option<&MetadataValue<Ascii>>,
    runtime: &Handle,
) -> Result<Box<dyn Read + Send>, Error> {
    let path = containerd
        .content
        .join("blobs/sha256")
        .join(sha256(digest)?);
    match File::open(&path) {
        Ok(file) => return Ok(Box::new(file)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(Error::file("opening", &path)(error)),
    }
    let namespace = match namespace {
        Some(namespace) => namespace.clone(),
        None => containerd
            .namespace
            .parse()
            .map_err(|_| Error::Argument(format!("{:?} is no namespace", containerd.namespace)))?,
    };
    let blob = runtime.block_on(request(containerd, digest, namespace));
    match blob {
        Ok(pieces) => Ok(Box::new(Pieces {
            pieces,
            piece: Bytes::new(),
            runtime: runtime.clone(),
        })),
        Err(status) if status.code() == Code::NotFound => Err(Error::NotFound {
            what: "blob",
            name: digest.to_owned(),
        }),
        Err(status) => Err(Error::file("asking", &containerd.address)(
            io::Error::other(status),
        )),
    }
}

async fn request(
    containerd: &Containerd,
    digest: &str,
    namespace: MetadataValue<Ascii>,
) -> Result<Streaming<ReadContentResponse>, Status> {
    let channel = connect(&containerd.address)
        .await
        .map_err(|error| Status::unavailable(error.to_string()))?;
    let mut request = Request::new(ReadContentRequest {
        digest: digest.to_owned(),
        ..ReadContentRequest::default()
    });
    request.metadata_mut().insert(NAMESPACE, namespace);
    let mut client = crate::api::content::v1::content_client::ContentClient::new(channel);
    Ok(client.read(request).await?.into_inner())
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
