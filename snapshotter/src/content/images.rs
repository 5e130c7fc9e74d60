//! Which layers lie above one: the manifest that has it is found by the labels with which containerd's garbage collector keeps its
//! layers.

use super::Content;
use crate::api::content::v1::{Info, ListContentRequest};
use crate::error::Error;
use tonic::Status;

/// Label of a manifest with the digest of a layer, whose place follows: 0 is the lowest.
const LAYER: &str = "containerd.io/gc.ref.content.l.";

impl Content {
    /// Digests of the layers of the image that has this one at this place, the lowest first. Of several images it is the one that
    /// was pulled, or else changed, last.
    ///
    /// # Errors
    /// [`Error::Containerd`].
    pub(crate) fn layers_of_image(
        &self,
        place: usize,
        digest: &str,
    ) -> Result<Option<Vec<String>>, Error> {
        let listed = self.runtime.block_on(self.manifests(place, digest));
        let manifests = listed.map_err(Error::containerd("looking for the image of", digest))?;
        let changed = |info: &Info| {
            let time = info.updated_at.as_ref();
            time.map(|time| (time.seconds, time.nanos))
        };
        let newest = manifests.into_iter().max_by_key(changed);
        Ok(newest.map(|mut manifest| {
            let label = |place| manifest.labels.remove(&format!("{LAYER}{place}"));
            (0..).map_while(label).collect()
        }))
    }

    async fn manifests(&self, place: usize, digest: &str) -> Result<Vec<Info>, Status> {
        let request = self.caller.request(ListContentRequest {
            filters: vec![format!("labels.\"{LAYER}{place}\"==\"{digest}\"")],
        });
        let mut answers = self.client().await?.list(request).await?.into_inner();
        let mut manifests = Vec::new();
        while let Some(answer) = answers.message().await? {
            manifests.extend(answer.info);
        }
        Ok(manifests)
    }
}
