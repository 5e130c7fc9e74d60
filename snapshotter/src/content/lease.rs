//! What keeps a new blob until the caller has made an image of it.
//!
//! That is the caller's lease where containerd (1.7 to 2.4) tells it: for calls that begin inside of it, as those of CRI. Those of its
//! clients come without, so the blob gets a lease of its own, which expires.

use super::{Content, unique_name};
use crate::api::leases::v1::leases_client::LeasesClient;
use crate::api::leases::v1::{AddResourceRequest, CreateRequest, DeleteRequest, Resource};
use crate::error::Error;
use prost_types::Timestamp;
use std::collections::HashMap;
use std::num::NonZeroU32;
use std::time::{Duration, SystemTime};
use tonic::Status;
use tonic::transport::Channel;

/// Label of a lease with the time from which on containerd's garbage collection deletes it.
const EXPIRE: &str = "containerd.io/gc.expire";
/// What containerd calls blobs among what leases hold.
const BLOB: &str = "content";

/// Holds a blob.
pub(super) struct Lease<'a> {
    content: &'a Content,
    id: String,
    /// Whether it goes with this: it is ours, and there is no blob yet.
    is_deleted: bool,
}

impl<'a> Lease<'a> {
    /// Has a lease hold the blob `digest`, be it there already or not. One of ours is deleted unless it is kept.
    ///
    /// # Errors
    /// [`Error::Containerd`]: such a blob could be collected before its caller has it.
    pub(super) fn hold(content: &'a Content, digest: &str) -> Result<Self, Error> {
        let failed = |status| Error::containerd("leasing", digest)(status);
        let lease = match content.caller.lease() {
            Some(id) => Self {
                content,
                id: id.to_owned(),
                is_deleted: false,
            },
            None => Self::create(content).map_err(failed)?,
        };
        let request = AddResourceRequest {
            id: lease.id.clone(),
            resource: Some(Resource {
                id: digest.to_owned(),
                r#type: BLOB.to_owned(),
            }),
        };
        let added = content.runtime.block_on(async {
            let request = content.caller.request(request);
            client(content).await?.add_resource(request).await
        });
        added.map_err(failed)?;
        Ok(lease)
    }

    /// A lease of ours.
    fn create(content: &'a Content) -> Result<Self, Status> {
        let lease = Self {
            content,
            id: unique_name(),
            is_deleted: true,
        };
        let expiry = expiry(content.containerd.lease);
        let request = CreateRequest {
            id: lease.id.clone(),
            labels: HashMap::from([(EXPIRE.to_owned(), expiry)]),
        };
        content.runtime.block_on(async {
            let request = content.caller.request(request);
            client(content).await?.create(request).await
        })?;
        Ok(lease)
    }

    /// There is a blob: its lease stays until it expires.
    pub(super) fn keep(mut self) {
        self.is_deleted = false;
    }
}

impl Drop for Lease<'_> {
    fn drop(&mut self) {
        if !self.is_deleted {
            return;
        }
        let content = self.content;
        let id = std::mem::take(&mut self.id);
        // What cannot be deleted expires.
        let _ = content.runtime.block_on(async {
            let request = content.caller.request(DeleteRequest { id });
            client(content).await?.delete(request).await
        });
    }
}

async fn client(content: &Content) -> Result<LeasesClient<Channel>, Status> {
    content.channel().await.map(LeasesClient::new)
}

/// The time in so many seconds, as RFC 3339 writes it: of what cannot be read containerd takes it that it never expires.
fn expiry(seconds: NonZeroU32) -> String {
    let time = SystemTime::now() + Duration::from_secs(seconds.get().into());
    let time = Timestamp {
        nanos: 0,
        ..Timestamp::from(time)
    };
    time.to_string()
}
