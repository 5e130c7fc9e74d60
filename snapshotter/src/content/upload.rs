//! A new blob, written through containerd.

use super::Content;
use super::lease::Lease;
use crate::api::content::v1::{
    AbortRequest, InfoRequest, WriteAction, WriteContentRequest, WriteContentResponse,
};
use crate::error::Error;
use std::collections::HashMap;
use std::io::{self, Write};
use tokio::sync::mpsc::{Sender, channel};
use tokio_stream::wrappers::ReceiverStream;
use tonic::codec::Streaming;
use tonic::{Code, Status};

/// Bytes of data in one message: below what containerd takes.
const PIECE: usize = 1 << 20;

/// A blob on its way. Unless it is committed, nothing of it stays.
pub(crate) struct Upload<'a> {
    content: &'a Content,
    reference: String,
    /// `None` once it is committed.
    stream: Option<Stream>,
    piece: Vec<u8>,
    written: u64,
}

/// Requests and their responses.
struct Stream {
    requests: Sender<WriteContentRequest>,
    responses: Streaming<WriteContentResponse>,
}

impl<'a> Upload<'a> {
    /// Begins a blob that is called `reference` until it is whole. What came under that name before is thrown away.
    ///
    /// # Errors
    /// [`Error::Containerd`], also where somebody else writes under that name.
    pub(crate) fn start(content: &'a Content, reference: String) -> Result<Self, Error> {
        let start = async {
            // Nothing comes back before the first request is there.
            let (requests, receiver) = channel(1);
            let first = WriteContentRequest {
                action: WriteAction::Stat.into(),
                r#ref: reference.clone(),
                ..WriteContentRequest::default()
            };
            requests.send(first).await.map_err(|_| ended())?;
            let request = content.caller.request(ReceiverStream::new(receiver));
            let responses = content.client().await?.write(request).await?;
            let mut responses = responses.into_inner();
            responses.message().await?.ok_or_else(ended)?;
            Ok(Stream {
                requests,
                responses,
            })
        };
        let stream = content.runtime.block_on(start);
        let stream = stream.map_err(Error::containerd("writing", &reference))?;
        Ok(Self {
            content,
            reference,
            stream: Some(stream),
            piece: Vec::new(),
            written: 0,
        })
    }

    /// Sends a request and waits for its response.
    fn send(&mut self, request: WriteContentRequest) -> Result<(), Status> {
        let stream = self.stream.as_mut().ok_or_else(ended)?;
        self.content.runtime.block_on(async {
            // When nobody takes requests any more, the response says why.
            let _ = stream.requests.send(request).await;
            stream.responses.message().await?.ok_or_else(ended)?;
            Ok(())
        })
    }

    fn send_piece(&mut self) -> Result<(), Status> {
        let data = std::mem::take(&mut self.piece);
        let length = data.len() as u64;
        self.send(WriteContentRequest {
            action: WriteAction::Write.into(),
            offset: offset(self.written),
            data,
            ..WriteContentRequest::default()
        })?;
        self.written += length;
        Ok(())
    }

    /// Makes what was written a blob with this digest and these labels, which a lease holds. If there is such a blob already, it
    /// gets those labels that it does not have. Returns its size in bytes.
    ///
    /// # Errors
    /// [`Error::Containerd`].
    pub(crate) fn commit(
        mut self,
        digest: &str,
        labels: HashMap<String, String>,
    ) -> Result<u64, Error> {
        let failed = |status| Error::containerd("committing", digest)(status);
        if !self.piece.is_empty() {
            self.send_piece().map_err(failed)?;
        }
        // A blob that is there already does not get the lease that this stream may have.
        let lease = Lease::hold(self.content, digest)?;
        let done = self.send(WriteContentRequest {
            action: WriteAction::Commit.into(),
            total: offset(self.written),
            expected: digest.to_owned(),
            offset: offset(self.written),
            labels: labels.clone(),
            ..WriteContentRequest::default()
        });
        match done {
            Ok(()) => self.stream = None,
            Err(status) if status.code() == Code::AlreadyExists => {
                self.label(digest, labels).map_err(failed)?;
            }
            Err(status) => return Err(failed(status)),
        }
        lease.keep();
        Ok(self.written)
    }

    /// Gives a blob those labels that it does not have.
    fn label(&self, digest: &str, mut labels: HashMap<String, String>) -> Result<(), Status> {
        let content = self.content;
        content.runtime.block_on(async {
            let mut client = content.client().await?;
            let request = InfoRequest {
                digest: digest.to_owned(),
            };
            let found = client.info(content.caller.request(request)).await?;
            let known = found.into_inner().info.unwrap_or_default().labels;
            labels.retain(|label, _| !known.contains_key(label));
            match labels.is_empty() {
                true => Ok(()),
                false => content.add_labels(digest, labels).await,
            }
        })
    }
}

impl Write for Upload<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let room = PIECE - self.piece.len();
        let taken = bytes.get(..room).unwrap_or(bytes);
        self.piece.extend_from_slice(taken);
        if self.piece.len() == PIECE {
            self.send_piece().map_err(io::Error::other)?;
        }
        Ok(taken.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Upload<'_> {
    fn drop(&mut self) {
        let Some(stream) = self.stream.take() else {
            return;
        };
        let content = self.content;
        let reference = self.reference.clone();
        content.runtime.block_on(async {
            // The name is free when the stream has ended.
            drop(stream.requests);
            let mut responses = stream.responses;
            while let Ok(Some(_)) = responses.message().await {}
            // What is not aborted goes when containerd cleans up, after a day.
            if let Ok(mut client) = content.client().await {
                let request = AbortRequest { r#ref: reference };
                let _ = client.abort(content.caller.request(request)).await;
            }
        });
    }
}

fn ended() -> Status {
    Status::unavailable("containerd ended the stream")
}

/// A number as messages have it.
fn offset(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}
