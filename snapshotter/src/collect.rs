//! What `erofs snapshotter gc` does while others work.

use crate::api::operator::CollectResponse;
use crate::error::Error;
use crate::snapshotter::Snapshotter;

impl Snapshotter {
    /// Throws away all that no snapshot needs: what was removed, unused layers, and what belongs to nothing.
    ///
    /// # Errors
    /// [`Error`]; what was thrown away by then is gone.
    pub(crate) fn collect(&self) -> Result<CollectResponse, Error> {
        let mut collected = self.evict(0)?;
        self.cleanup()?;
        let strays = self.remove_strays()?;
        collected.strays += strays.strays;
        collected.bytes += strays.bytes;
        Ok(collected)
    }
}
