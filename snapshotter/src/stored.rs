//! Layers that are not even downloaded, since they are here: how containerd is told.
//!
//! Before it downloads a layer it prepares the snapshot to which it will unpack it. A label says what that will become: its chain ID,
//! which is made of the diffID of the layer and of all below.
//!
//! | containerd | is told | and then |
//! |---|---|---|
//! | all, layer by layer | that it exists | looks for a committed snapshot with that label and parent, and takes it for its own |
//! | from 2.4 on, side by side, so that nothing is said of what is below | mounts to which nothing can be written | commits the snapshot |

use crate::apply::DIFF_ID;
use crate::error::Error;
use crate::metadata::{Labels, Snapshot, State, TARGET};
use crate::metrics::Found;
use crate::snapshotter::Snapshotter;

impl Snapshotter {
    /// Makes sure that there is a committed snapshot of what is about to be unpacked to a new one with this key, and returns what
    /// it is called by that label, if its layer is here and the namespace may have it unread.
    ///
    /// # Errors
    /// [`Error`].
    pub(crate) fn stored(
        &self,
        key: &str,
        parent: Option<&str>,
        labels: &Labels,
    ) -> Result<Option<String>, Error> {
        let Some(target) = labels.get(TARGET).filter(|_| self.cache.skip_download) else {
            return Ok(None);
        };
        let Some(diff_id) = self.metadata.diff_id(parent, target)? else {
            return Ok(None);
        };
        let Some((number, layer)) = self.metadata.layer_with(&diff_id)? else {
            return Ok(None);
        };
        if !self.is_shared_with(key, &layer) || !self.is_whole(number, &layer)? {
            return Ok(None);
        }
        // Beside its key, which no other snapshot of any namespace has.
        let folder = key.rsplit_once('/').map_or("", |(folder, _)| folder);
        let name = format!("{folder}/{target}");
        let is_there =
            self.metadata
                .commit_stored(&name, parent, number, target, labels.clone())?;
        if !is_there {
            return Ok(None);
        }
        self.metrics.found(Found::Here);
        tracing::info!(method = "Prepare", key = target, "not downloaded");
        Ok(Some(target.clone()))
    }

    /// Gives a snapshot that was just made the layer that is about to be unpacked to it, if it is here and the namespace may have
    /// it unread. Returns whether it was.
    ///
    /// # Errors
    /// [`Error`].
    pub(crate) fn stage(&self, snapshot: &Snapshot) -> Result<bool, Error> {
        let diff_id = snapshot.labels.get(DIFF_ID);
        let is_wanted = self.cache.skip_download && snapshot.state == State::Active;
        let Some(diff_id) = diff_id.filter(|_| is_wanted) else {
            return Ok(false);
        };
        // Should the layer be lost before it is committed, then what is in the empty folder is none.
        self.store.mark_applied(snapshot.number)?;
        match self.reuse_unread(snapshot.number, diff_id)? {
            Some(_) => {
                tracing::info!(method = "Prepare", key = diff_id, "not downloaded");
                Ok(true)
            }
            None => {
                self.store.unmark_applied(snapshot.number)?;
                Ok(false)
            }
        }
    }
}
