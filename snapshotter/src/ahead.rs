//! Layers are converted before they are asked for.
//!
//! containerd has the layers of an image unpacked one after the other, downloads those above meanwhile, and writes to its own database
//! before it asks for the next; newer versions may have several unpacked side by side. When the first is asked for, those above it
//! are looked for, and as soon as one is downloaded it becomes an image in `ingest/`. The call for it then has but to name that.
//! Nothing is told of a layer that cannot be converted: who asks for it will be.

use crate::apply::{Converted, convert_ahead};
use crate::content::Content;
use crate::error::Error;
use crate::metadata::{Number, namespace};
use crate::snapshotter::Snapshotter;
use erofs_reader::processors::processors;
use std::collections::HashSet;
use std::fs::File;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// Most images whose layers are converted at once: what more are pulled are unpacked as they are asked for.
const IMAGES: usize = 4;
/// Most layers that are converted at once.
const WORKERS: usize = 4;
/// How long it takes at most until a layer that was downloaded is seen.
const LOOK: Duration = Duration::from_millis(20);
/// After so long without a call somebody has given an image up.
const IDLE: Duration = Duration::from_secs(600);

/// Layers of images that are being unpacked.
#[derive(Debug, Default)]
pub(crate) struct Ahead {
    images: Mutex<Images>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Images {
    known: Vec<Image>,
    /// Layers whose images are looked for.
    sought: Vec<String>,
    /// Layers of calls that are not answered yet.
    called: Vec<String>,
    /// The next one's.
    id: u64,
}

#[derive(Debug)]
struct Image {
    id: u64,
    /// The lowest first.
    layers: Vec<Blob>,
    /// Place of the highest that was asked for.
    asked: usize,
    /// When that was, or was answered.
    last: Instant,
    /// Whether it was given up.
    gone: Arc<AtomicBool>,
}

#[derive(Debug)]
struct Blob {
    digest: String,
    state: State,
}

#[derive(Debug)]
enum State {
    Waiting,
    Converting,
    Converted(Converted),
    /// It was asked for, or is here, or could not be converted.
    Done,
}

impl Image {
    fn new(id: u64, layers: Vec<String>, asked: usize) -> Self {
        let mut seen = HashSet::new();
        let blob = |(place, digest): (usize, String)| {
            // The second of two that are the same is here when it is asked for.
            let is_new = seen.insert(digest.clone());
            let state = match is_new && place > asked {
                true => State::Waiting,
                false => State::Done,
            };
            Blob { digest, state }
        };
        Self {
            id,
            layers: layers.into_iter().enumerate().map(blob).collect(),
            asked,
            last: Instant::now(),
            gone: Arc::default(),
        }
    }

    fn has(&self, digest: &str) -> bool {
        self.layers.iter().any(|layer| layer.digest == digest)
    }

    /// A layer is asked for.
    fn ask(&mut self, digest: &str) {
        let mut above = self.layers.iter().enumerate().skip(self.asked + 1);
        if let Some((place, _)) = above.find(|(_, layer)| layer.digest == digest) {
            self.asked = place;
        }
        self.last = Instant::now();
    }

    /// Leaves a layer to somebody else, unless it is being converted.
    fn skip(&mut self, digest: &str) {
        let same = self
            .layers
            .iter_mut()
            .filter(|layer| layer.digest == digest);
        for layer in same.filter(|layer| !matches!(layer.state, State::Converting)) {
            layer.state = State::Done;
        }
    }

    /// Whether nothing of it can be asked for any more: what is further down was asked for.
    fn is_done(&self) -> bool {
        let mut left = self.layers.iter().skip(self.asked);
        left.all(|layer| matches!(layer.state, State::Done))
    }
}

impl Drop for Image {
    fn drop(&mut self) {
        self.gone.store(true, Ordering::Relaxed);
    }
}

impl Images {
    /// Whether nobody asks for the layers of an image any more.
    fn is_over(&self, image: &Image) -> bool {
        image.is_done() || (self.called.is_empty() && image.last.elapsed() > IDLE)
    }

    fn converting(&self) -> usize {
        let layers = self.known.iter().flat_map(|image| &image.layers);
        let converting = layers.filter(|layer| matches!(layer.state, State::Converting));
        converting.count()
    }
}

/// How many layers are converted at once: each has threads of its own for what takes long.
fn workers() -> usize {
    (processors().get() / 2).clamp(1, WORKERS)
}

/// A layer that is to be converted.
struct Task<'a> {
    ahead: &'a Ahead,
    image: u64,
    digest: String,
    blob: File,
    gone: Arc<AtomicBool>,
}

impl Drop for Task<'_> {
    fn drop(&mut self) {
        // Whatever ended it: somebody may wait for it.
        self.ahead.done(self.image, &self.digest, None);
    }
}

/// A call for a layer.
#[derive(Debug)]
pub(crate) struct Call<'a> {
    ahead: &'a Ahead,
    digest: String,
}

impl Drop for Call<'_> {
    fn drop(&mut self) {
        let mut images = self.ahead.images();
        let called = images
            .called
            .iter()
            .position(|called| *called == self.digest);
        called.map(|place| images.called.swap_remove(place));
        for image in &mut images.known {
            image.last = Instant::now();
            image.skip(&self.digest);
        }
        drop(images);
        self.ahead.changed.notify_all();
    }
}

impl Ahead {
    fn images(&self) -> MutexGuard<'_, Images> {
        self.images.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that a layer is asked for. Returns whether its image is to be looked for: it is not known, and there is room for it.
    fn ask(&self, digest: &str) -> bool {
        let mut images = self.images();
        let mut is_known = false;
        for image in images.known.iter_mut().filter(|image| image.has(digest)) {
            image.ask(digest);
            is_known = true;
        }
        is_known |= images.sought.iter().any(|sought| sought == digest);
        let is_sought = !is_known && images.known.len() + images.sought.len() < IMAGES;
        if is_sought {
            images.sought.push(digest.to_owned());
        }
        self.changed.notify_all();
        is_sought
    }

    /// A call for a layer, for as long as this is there.
    fn call(&self, digest: &str) -> Call<'_> {
        self.images().called.push(digest.to_owned());
        Call {
            ahead: self,
            digest: digest.to_owned(),
        }
    }

    /// Adds the image that was found for the layer at this place of it, unless it is there or was given up meanwhile.
    fn add(&self, layers: Vec<String>, asked: usize) -> Option<u64> {
        let mut images = self.images();
        let digest = layers.get(asked)?;
        let sought = images.sought.iter().position(|sought| sought == digest)?;
        images.sought.swap_remove(sought);
        let mut is_known = false;
        for image in &mut images.known {
            if layers.iter().skip(asked + 1).any(|above| image.has(above)) {
                image.ask(digest);
                is_known = true;
            }
        }
        if is_known {
            return None;
        }
        images.id += 1;
        let id = images.id;
        let mut image = Image::new(id, layers, asked);
        for called in &images.called {
            image.skip(called);
        }
        images.known.push(image);
        Some(id)
    }

    /// What was made of a blob that is asked for. Waits if that is being done, as long as somebody waits for it.
    pub(crate) fn take(&self, digest: &str, gone: &AtomicBool) -> Option<Converted> {
        let mut images = self.images();
        loop {
            let mut is_busy = false;
            let mut taken = None;
            let layers = images.known.iter_mut().flat_map(|image| &mut image.layers);
            for layer in layers.filter(|layer| layer.digest == digest) {
                match std::mem::replace(&mut layer.state, State::Done) {
                    State::Converting => {
                        layer.state = State::Converting;
                        is_busy = true;
                    }
                    State::Converted(converted) => taken = Some(converted),
                    State::Waiting | State::Done => {}
                }
            }
            if taken.is_some() || !is_busy || gone.load(Ordering::Relaxed) {
                self.changed.notify_all();
                return taken;
            }
            let waited = self.changed.wait_timeout(images, LOOK);
            images = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Gives the images up that have this layer, since it cannot be unpacked.
    pub(crate) fn give_up(&self, digest: &str) {
        let mut images = self.images();
        let has = |image: &mut Image| image.has(digest);
        let given_up: Vec<Image> = images.known.extract_if(.., has).collect();
        // Perhaps one of those is the image. Its next layer has it looked for again.
        images.sought.clear();
        drop(images);
        drop(given_up);
        self.changed.notify_all();
    }

    /// Waits for a layer of an image that can be converted, at most so many above the one that was asked for last. There is none when
    /// nothing of it can be asked for any more; then nothing is left of it.
    fn next(&self, id: u64, most: usize, content: &Content) -> Option<Task<'_>> {
        let mut images = self.images();
        loop {
            let place = images.known.iter().position(|image| image.id == id)?;
            if images.is_over(images.known.get(place)?) {
                let image = images.known.swap_remove(place);
                drop(images);
                drop(image);
                self.changed.notify_all();
                return None;
            }
            let has_room = images.converting() < workers();
            let image = images.known.get_mut(place)?;
            let above = image.layers.iter_mut().skip(image.asked + 1).take(most);
            let mut is_missing = false;
            for layer in above.filter(|layer| has_room && matches!(layer.state, State::Waiting)) {
                match content.file(&layer.digest) {
                    Ok(Some(blob)) => {
                        layer.state = State::Converting;
                        return Some(Task {
                            ahead: self,
                            image: id,
                            digest: layer.digest.clone(),
                            blob,
                            gone: Arc::clone(&image.gone),
                        });
                    }
                    Ok(None) => is_missing = true,
                    Err(_) => layer.state = State::Done,
                }
            }
            let patience = if is_missing { LOOK } else { IDLE };
            let waited = self.changed.wait_timeout(images, patience);
            images = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// A layer of an image was converted, or could not be.
    fn done(&self, id: u64, digest: &str, converted: Option<Converted>) {
        let mut images = self.images();
        let is_called = images.called.iter().any(|called| called == digest);
        let image = images.known.iter_mut().find(|image| image.id == id);
        if let Some(Image { layers, asked, .. }) = image {
            let mut layers = layers.iter_mut().enumerate();
            let layer = layers.find(|(_, layer)| {
                layer.digest == digest && matches!(layer.state, State::Converting)
            });
            if let Some((place, layer)) = layer {
                // Who asked for it may have found it elsewhere, and be gone.
                let converted = converted.filter(|_| place > *asked || is_called);
                layer.state = converted.map_or(State::Done, State::Converted);
            }
        }
        drop(images);
        self.changed.notify_all();
    }
}

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
        let Search {
            snapshotter,
            digest,
        } = &search;
        if let Err(error) = convert(snapshotter, content, snapshot, digest) {
            tracing::debug!(blob = digest, %error, "looking for the layers above it");
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
        let mut images = self.snapshotter.ahead.images();
        images.sought.retain(|sought| *sought != self.digest);
    }
}

/// Converts what lies above a layer that is being unpacked to `snapshot`.
fn convert(
    snapshotter: &Snapshotter,
    content: Content,
    snapshot: Number,
    digest: &str,
) -> Result<(), Error> {
    let key = snapshotter.metadata.key(snapshot)?;
    let below = snapshotter.metadata.get(&key)?;
    let place = snapshotter.metadata.ancestors(&below)?.len();
    let content = content.in_namespace(namespace(&key));
    let Some(layers) = content.layers_of_image(place, digest)? else {
        return Ok(());
    };
    let Some(id) = snapshotter.ahead.add(layers, place) else {
        return Ok(());
    };
    let most = snapshotter.layers.ahead;
    let work = || {
        while let Some(task) = snapshotter.ahead.next(id, most, &content) {
            let converted = convert_one(snapshotter, &task);
            let converted = converted.unwrap_or_else(|error| {
                tracing::debug!(blob = task.digest, %error, "not converted before it is asked for");
                None
            });
            snapshotter.ahead.done(id, &task.digest, converted);
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
    Ok(())
}

/// A layer that is here already stays as it is.
fn convert_one(snapshotter: &Snapshotter, task: &Task) -> Result<Option<Converted>, Error> {
    if snapshotter.metadata.layer_of_blob(&task.digest)?.is_some() {
        return Ok(None);
    }
    convert_ahead(snapshotter, &task.digest, &task.blob, &task.gone).map(Some)
}

#[cfg(test)]
mod tests;
