//! Which layers lie above one: the manifest that has it is found by the labels with which containerd's garbage collector keeps its
//! layers.

use super::Content;
use crate::api::content::v1::{Info, ListContentRequest};
use crate::error::Error;
use crate::media_type::MediaType;
use serde::Deserialize;
use std::io::{self, Read};
use std::path::Path;
use tonic::Status;

/// Label of a manifest with the digest of a layer, whose place follows: 0 is the lowest.
const LAYER: &str = "containerd.io/gc.ref.content.l.";

/// Most bytes of a manifest, as containerd has it.
const MANIFEST: u64 = 8 << 20;

/// What is read of a manifest.
#[derive(Deserialize)]
struct Manifest {
    layers: Vec<LayerOfImage>,
}

/// A layer as a manifest names it.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct LayerOfImage {
    media_type: String,
    pub(crate) digest: String,
}

impl LayerOfImage {
    /// Whether it is said to be a tar that we unpack.
    pub(crate) fn is_tar(&self) -> bool {
        matches!(MediaType::parse(&self.media_type), Ok(MediaType::Tar))
    }
}

impl Content {
    /// The layers of the image that has this one at this place, the lowest first. Of several images it is the one that was pulled, or
    /// else changed, last.
    ///
    /// # Errors
    /// [`Error::Containerd`]; [`Error::File`] where it is no manifest, and those of [`Content::open`].
    pub(crate) fn layers_of_image(
        &self,
        place: usize,
        digest: &str,
    ) -> Result<Option<Vec<LayerOfImage>>, Error> {
        let listed = self.runtime.block_on(self.manifests(place, digest));
        let manifests = listed.map_err(Error::containerd("looking for the image of", digest))?;
        let changed = |info: &Info| {
            let time = info.updated_at.as_ref();
            time.map(|time| (time.seconds, time.nanos))
        };
        let Some(newest) = manifests.into_iter().max_by_key(changed) else {
            return Ok(None);
        };
        let failed = |source| Error::file("reading", Path::new(&newest.digest))(source);
        let mut text = Vec::new();
        let manifest = self.open(&newest.digest)?.into_reader();
        manifest
            .take(MANIFEST)
            .read_to_end(&mut text)
            .map_err(failed)?;
        let manifest: Manifest =
            serde_json::from_slice(&text).map_err(|error| failed(io::Error::other(error)))?;
        let layer = manifest.layers.get(place);
        let is_it = layer.is_some_and(|layer| layer.digest == digest);
        Ok(is_it.then_some(manifest.layers))
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
