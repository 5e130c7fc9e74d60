//! Which layers of which images wait, are being converted, or were.

use crate::apply::Converted;
use crate::content::Content;
use crate::metadata::Layer;
use erofs_reader::processors::processors;
use std::collections::HashSet;
use std::fs::File;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Most images whose layers are converted at once: what more are pulled are unpacked as they are asked for.
const IMAGES: usize = 4;
/// Most layers that are converted at once.
const WORKERS: usize = 4;
/// How long it takes at most until a layer that was downloaded is seen.
pub(super) const LOOK: Duration = Duration::from_millis(20);
/// How long it is waited at most for a layer that was not asked for yet: containerd holds a lock meanwhile, for which its garbage
/// collection waits, and whoever else prepares something waits for that.
const PATIENCE: Duration = Duration::from_millis(100);
/// How long it is trusted that containerd has a blob.
const TRUST: Duration = Duration::from_secs(1);
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
    /// containerd's, in which it is pulled.
    namespace: String,
    /// The lowest first.
    layers: Vec<Blob>,
    /// Place of the highest that was asked for.
    asked: usize,
    /// When that was, or was answered.
    last: Instant,
    /// Whether it was given up.
    gone: Arc<AtomicBool>,
    taken: Arc<Mutex<Vec<Taken>>>,
}

/// A layer that containerd does not ask to be unpacked, so that it does not note its diffID with its blob.
#[derive(Debug)]
pub(super) struct Taken {
    pub(super) blob: String,
    pub(super) diff_id: String,
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
    Converted(Made),
    /// It was asked for, or is here, or could not be converted.
    Done,
}

/// A layer that was converted.
#[derive(Debug)]
pub(super) struct Made {
    pub(super) converted: Converted,
    /// When containerd had its blob in its database, and not only as a file.
    pub(super) recorded: Option<Instant>,
}

impl Made {
    fn is_recorded(&self) -> bool {
        self.recorded.is_some_and(|then| then.elapsed() < TRUST)
    }
}

impl Image {
    fn new(id: u64, namespace: &str, layers: Vec<String>, asked: usize) -> Self {
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
            namespace: namespace.to_owned(),
            layers: layers.into_iter().enumerate().map(blob).collect(),
            asked,
            last: Instant::now(),
            gone: Arc::default(),
            taken: Arc::default(),
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

    /// The layers above those of these blobs, but for the topmost.
    fn above(&mut self, below: &[String]) -> impl Iterator<Item = &mut Blob> {
        let places: Vec<bool> = self
            .layers
            .iter()
            .map(|layer| below.contains(&layer.digest))
            .collect();
        let topmost = self.layers.len().saturating_sub(1);
        let above = self.layers.iter_mut().take(topmost).skip(1);
        above
            .zip(places)
            .filter_map(|(layer, is_above)| is_above.then_some(layer))
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

    fn note_taken(&self, blob: &str, converted: &Converted) {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        taken.push(Taken {
            blob: blob.to_owned(),
            diff_id: converted.layer.digest.clone().unwrap_or_default(),
        });
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
pub(super) fn workers() -> usize {
    (processors().get() / 2).clamp(1, WORKERS)
}

/// A layer that is to be converted.
#[derive(Debug)]
pub(super) struct Task<'a> {
    ahead: &'a Ahead,
    image: u64,
    pub(super) digest: String,
    pub(super) blob: File,
    pub(super) gone: Arc<AtomicBool>,
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
    pub(super) fn ask(&self, digest: &str) -> bool {
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

    /// The image of a layer is looked for no more.
    pub(super) fn stop_seeking(&self, digest: &str) {
        self.images().sought.retain(|sought| sought != digest);
    }

    /// A call for a layer, for as long as this is there.
    pub(super) fn call(&self, digest: &str) -> Call<'_> {
        self.images().called.push(digest.to_owned());
        Call {
            ahead: self,
            digest: digest.to_owned(),
        }
    }

    /// Adds the image that was found for the layer at this place of it, unless it is there or was given up meanwhile.
    pub(super) fn add(&self, namespace: &str, layers: Vec<String>, asked: usize) -> Option<u64> {
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
        let mut image = Image::new(id, namespace, layers, asked);
        for called in &images.called {
            image.skip(called);
        }
        images.known.push(image);
        Some(id)
    }

    /// Leaves a layer of an image to the call for it.
    pub(super) fn leave(&self, id: u64, digest: &str) {
        let mut images = self.images();
        let image = images.known.iter_mut().find(|image| image.id == id);
        image.into_iter().for_each(|image| image.skip(digest));
    }

    /// What will be taken of an image that was added.
    pub(super) fn taken(&self, id: u64) -> Arc<Mutex<Vec<Taken>>> {
        let images = self.images();
        let image = images.known.iter().find(|image| image.id == id);
        image.map_or_else(Arc::default, |image| Arc::clone(&image.taken))
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
                    State::Converted(made) => taken = Some(made.converted),
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

    /// What was made of the layer over one that came from one of these blobs, in an image that this namespace pulls, and the digest of
    /// its blob, if it is the layer that is wanted, and containerd will not miss the blob. If that is being done it is waited for, for a
    /// moment. The topmost layer is left to the call for it, for which containerd waits until it is downloaded.
    pub(crate) fn take_above(
        &self,
        namespace: &str,
        below: &[String],
        is_it: impl Fn(&Layer) -> bool,
    ) -> Option<(String, Converted)> {
        let began = Instant::now();
        let mut images = self.images();
        loop {
            let mut is_busy = false;
            let mut taken = None;
            let pulled = images.known.iter_mut();
            let pulled = pulled.filter(|image| image.namespace == namespace);
            for layer in pulled.flat_map(|image| image.above(below)) {
                match &layer.state {
                    State::Converting => is_busy = true,
                    State::Converted(made)
                        if made.is_recorded() && is_it(&made.converted.layer) =>
                    {
                        let state = std::mem::replace(&mut layer.state, State::Done);
                        if let State::Converted(made) = state {
                            taken = Some((layer.digest.clone(), made.converted));
                        }
                    }
                    State::Converted(_) | State::Waiting | State::Done => {}
                }
            }
            if let Some((digest, converted)) = &taken {
                let pulled = images.known.iter_mut();
                let pulled = pulled.filter(|image| image.namespace == namespace);
                for image in pulled.filter(|image| image.has(digest)) {
                    image.ask(digest);
                    image.skip(digest);
                    image.note_taken(digest, converted);
                }
            }
            let patience = PATIENCE.saturating_sub(began.elapsed());
            if taken.is_some() || !is_busy || patience.is_zero() {
                drop(images);
                self.changed.notify_all();
                return taken;
            }
            let waited = self.changed.wait_timeout(images, patience);
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
    pub(super) fn next(&self, id: u64, most: usize, content: &Content) -> Option<Task<'_>> {
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
    pub(super) fn done(&self, id: u64, digest: &str, made: Option<Made>) {
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
                let made = made.filter(|_| place > *asked || is_called);
                layer.state = made.map_or(State::Done, State::Converted);
            }
        }
        drop(images);
        self.changed.notify_all();
    }
}

#[cfg(test)]
mod tests;
