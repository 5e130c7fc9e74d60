//! What containerd knows of blobs, and their labels.

use super::Content;
use crate::api::content::v1::{Info, InfoRequest, UpdateRequest};
use crate::error::Error;
use prost_types::FieldMask;
use std::collections::HashMap;
use tonic::{Code, Status};

/// Label of a compressed layer with the digest of what is in it.
const UNCOMPRESSED: &str = "containerd.io/uncompressed";

impl Content {
    /// Whether containerd has a blob in its database, for this namespace: its file is there before.
    ///
    /// # Errors
    /// [`Error::Containerd`].
    pub(crate) fn is_recorded(&self, blob: &str) -> Result<bool, Error> {
        let request = InfoRequest {
            digest: blob.to_owned(),
        };
        let asked = self.runtime.block_on(async {
            let mut client = self.client().await?;
            client.info(self.caller.request(request)).await
        });
        match asked {
            Ok(_) => Ok(true),
            Err(status) if status.code() == Code::NotFound => Ok(false),
            Err(status) => Err(Error::containerd("looking for", blob)(status)),
        }
    }

    /// Notes the diffID of a layer, as containerd does when it has had it unpacked.
    ///
    /// # Errors
    /// [`Error::Containerd`], also where the blob is not there any more.
    pub(crate) fn note_diff_id(&self, blob: &str, diff_id: &str) -> Result<(), Error> {
        let labels = HashMap::from([(UNCOMPRESSED.to_owned(), diff_id.to_owned())]);
        let noted = self.runtime.block_on(self.add_labels(blob, labels));
        noted.map_err(Error::containerd("noting the diffID of", blob))
    }

    /// Gives a blob labels, in place of those of the same names.
    pub(super) async fn add_labels(
        &self,
        digest: &str,
        labels: HashMap<String, String>,
    ) -> Result<(), Status> {
        let mut paths: Vec<_> = labels
            .keys()
            .map(|label| format!("labels.{label}"))
            .collect();
        paths.sort();
        let info = Info {
            digest: digest.to_owned(),
            labels,
            ..Info::default()
        };
        let request = UpdateRequest {
            info: Some(info),
            update_mask: Some(FieldMask { paths }),
        };
        self.client()
            .await?
            .update(self.caller.request(request))
            .await?;
        Ok(())
    }
}
