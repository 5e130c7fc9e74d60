//! Syncs what was prepared, behind the answer.

use crate::snapshotter::Snapshotter;
use std::io;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

/// Pause before a sync that failed is tried again.
const PAUSE: Duration = Duration::from_secs(1);

/// Syncs as long as the process lives: whatever came during one sync is synced by the next.
///
/// # Errors
/// No thread can be started.
pub(crate) fn start(snapshotter: Arc<Snapshotter>) -> io::Result<()> {
    let thread = thread::Builder::new().name("database sync".to_owned());
    thread.spawn(move || {
        loop {
            snapshotter.metadata.wait_for_unsynced();
            if let Err(error) = snapshotter.metadata.sync() {
                tracing::warn!(%error, "syncing what was prepared");
                thread::sleep(PAUSE);
            }
        }
    })?;
    Ok(())
}
