//! Layers are converted before they are asked for.
//!
//! containerd has the layers of an image unpacked one after the other, downloads those above meanwhile, and writes to its own database
//! before it asks for the next; newer versions may have several unpacked side by side. When the first is asked for, those above it
//! are looked for, and as soon as one is downloaded it becomes an image in `ingest/`. The call for it then has but to name that, or is
//! not even made, see [`stored`](crate::stored).
//! Nothing is told of a layer that cannot be converted: who asks for it will be.

#[cfg(test)]
pub(crate) mod place;
mod table;

pub(crate) use table::{Ahead, Call};

use crate::apply::convert_ahead;
use crate::content::Content;
use crate::error::Error;
use crate::metadata::{Number, namespace};
use crate::snapshotter::Snapshotter;
use std::sync::{Arc, PoisonError};
use std::thread;
use std::time::{Duration, Instant};
use table::{Made, Taken, Task, workers};

/// How long containerd's database is left to others between two writes that nobody waits for.
const PACE: Duration = Duration::from_millis(20);

/// Notes that a layer is asked for, as long as what it returns is there, to be unpacked to `snapshot`. Unless it is known what lies
/// above it, that is looked for, in a thread, and converted.
pub(crate) fn follow<'a>(
    snapshotter: &'a Arc<Snapshotter>,
    content: &Content,
    snapshot: Number,
    digest: &str,
) -> Call<'a> {
    let call = snapshotter.ahead.call(digest);
    if snapshotter.layers.ahead == 0 || !snapshotter.ahead.ask(digest) {
        return call;
    }
    let search = Search {
        snapshotter: Arc::clone(snapshotter),
        digest: digest.to_owned(),
    };
    let content = content.clone();
    let thread = thread::Builder::new().name("layers ahead".to_owned());
    let started = thread.spawn(move || {
        let blob = search.digest.clone();
        if let Err(error) = convert(search, content, snapshot) {
            tracing::debug!(blob, %error, "looking for the layers above it");
        }
    });
    if let Err(error) = started {
        tracing::debug!(%error, "no thread for layers that are not asked for yet");
    }
    call
}

/// The image of a layer is looked for as long as this is there.
struct Search {
    snapshotter: Arc<Snapshotter>,
    digest: String,
}

impl Drop for Search {
    fn drop(&mut self) {
        self.snapshotter.ahead.stop_seeking(&self.digest);
    }
}

/// Converts what lies above a layer that is being unpacked to `snapshot`.
fn convert(search: Search, content: Content, snapshot: Number) -> Result<(), Error> {
    let snapshotter = Arc::clone(&search.snapshotter);
    let key = snapshotter.metadata.key(snapshot)?;
    let below = snapshotter.metadata.get(&key)?;
    let place = snapshotter.metadata.ancestors(&below)?.len();
    let namespace = namespace(&key);
    let content = content.in_namespace(namespace);
    let Some(layers) = content.layers_of_image(place, &search.digest)? else {
        return Ok(());
    };
    let digests = layers.iter().map(|layer| layer.digest.clone()).collect();
    let Some(id) = snapshotter.ahead.add(namespace, digests, place) else {
        return Ok(());
    };
    drop(search);
    // Images come as they are.
    for layer in layers.iter().filter(|layer| !layer.is_tar()) {
        snapshotter.ahead.leave(id, &layer.digest);
    }
    let taken = snapshotter.ahead.taken(id);
    let most = snapshotter.layers.ahead;
    let work = || {
        while let Some(task) = snapshotter.ahead.next(id, most, &content) {
            let made = convert_one(&snapshotter, &content, &task);
            let made = made.unwrap_or_else(|error| {
                tracing::debug!(blob = task.digest, %error, "not converted before it is asked for");
                None
            });
            snapshotter.ahead.done(id, &task.digest, made);
        }
    };
    thread::scope(|scope| {
        for _ in 1..workers().min(most) {
            let worker = thread::Builder::new().name("layers ahead".to_owned());
            // Without it the others do its work.
            let _ = worker.spawn_scoped(scope, work);
        }
        work();
    });
    let taken = std::mem::take(&mut *taken.lock().unwrap_or_else(PoisonError::into_inner));
    for Taken { blob, diff_id } in taken {
        thread::sleep(PACE);
        if let Err(error) = content.note_diff_id(&blob, &diff_id) {
            tracing::debug!(blob, %error, "its diffID is not noted");
        }
    }
    Ok(())
}

/// A layer that is here already stays as it is.
fn convert_one(
    snapshotter: &Snapshotter,
    content: &Content,
    task: &Task<'_>,
) -> Result<Option<Made>, Error> {
    if snapshotter.metadata.layer_of_blob(&task.digest)?.is_some() {
        return Ok(None);
    }
    let converted = convert_ahead(snapshotter, &task.digest, &task.blob, &task.gone)?;
    let asked = Instant::now();
    // Where nobody tells, the layer waits for the call that unpacks it.
    let is_recorded = content.is_recorded(&task.digest).unwrap_or_default();
    Ok(Some(Made {
        converted,
        recorded: is_recorded.then_some(asked),
    }))
}
