#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use super::*;
use crate::config::{Config, Containerd};
use crate::content::Caller;
use erofs_tests::ustar;
use std::fs;
use std::path::Path;
use tokio::runtime::Runtime;
use tonic::metadata::MetadataMap;

/// A snapshotter, and a content store that shows its blobs.
struct Place {
    snapshotter: Snapshotter,
    content: Content,
    folder: tempfile::TempDir,
    _runtime: Runtime,
}

impl Place {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let containerd = Containerd {
            content: folder.path().join("content"),
            ..Containerd::default()
        };
        fs::create_dir_all(folder.path().join("content/blobs/sha256")).unwrap();
        let config = Config {
            root: folder.path().join("root"),
            ..Config::default()
        };
        let runtime = tokio::runtime::Builder::new_current_thread().build();
        let runtime = runtime.unwrap();
        let content = Content {
            caller: Caller::of(&MetadataMap::new(), &containerd).unwrap(),
            containerd: Arc::new(containerd),
            runtime: runtime.handle().clone(),
        };
        Self {
            snapshotter: Snapshotter::open(&config, |_| Err("no FUSE".into())).unwrap(),
            content,
            folder,
            _runtime: runtime,
        }
    }

    fn ahead(&self) -> &Ahead {
        &self.snapshotter.ahead
    }

    /// Adds the image of the layer at this place, which is asked for.
    fn add(&self, layers: Vec<String>, asked: usize) -> Option<u64> {
        self.ahead().ask(&layers[asked]);
        self.ahead().add(layers, asked)
    }

    /// Has a layer with one file be downloaded.
    fn download(&self, digit: char) {
        let digest = digest(digit);
        let name = digest.strip_prefix("sha256:").unwrap();
        let blobs = self.folder.path().join("content/blobs/sha256");
        let mut tar = ustar::header(&digit.to_string(), 1).to_vec();
        tar.push(digit as u8);
        // Padding, and the end of the tar.
        tar.resize(tar.len().next_multiple_of(512) + 1024, 0);
        fs::write(blobs.join(name), tar).unwrap();
    }

    /// Which layer is converted next, if there is one at once: it counts as if it could not be.
    fn next(&self, id: u64, most: usize) -> Option<char> {
        thread::scope(|scope| {
            let next = scope.spawn(|| self.ahead().next(id, most, &self.content));
            for _ in 0..20 {
                if next.is_finished() {
                    let task = next.join().unwrap();
                    return task.map(|task| task.digest.chars().last().unwrap());
                }
                thread::sleep(LOOK);
            }
            // It waits until this ends.
            self.ahead().give_up(&digest('0'));
            assert!(next.join().unwrap().is_none());
            None
        })
    }

    /// What a task makes.
    fn convert(&self, digit: char) -> Converted {
        let blob = self.content.file(&digest(digit)).unwrap().unwrap();
        convert_ahead(&self.snapshotter, &digest(digit), &blob, &Arc::default()).unwrap()
    }

    fn ingested(&self) -> usize {
        let ingest: &Path = &self.snapshotter.store.ingest_folder();
        fs::read_dir(ingest).unwrap().count()
    }
}

fn digest(digit: char) -> String {
    format!("sha256:{}", String::from(digit).repeat(64))
}

fn layers(digits: &str) -> Vec<String> {
    digits.chars().map(digest).collect()
}

#[test]
fn so_many_layers_above_the_one_that_is_asked_for_are_converted() {
    let place = Place::new();
    let id = place.add(layers("01234"), 0).unwrap();
    for digit in ['1', '3', '4'] {
        place.download(digit);
    }
    assert_eq!(place.next(id, 2), Some('1'));
    // 2 is not downloaded, and 3 is too far above.
    assert!(!place.ahead().ask(&digest('1')), "it is known");
    assert_eq!(place.next(id, 2), Some('3'));
    place.download('2');
    assert_eq!(place.next(id, 2), Some('2'));
    assert!(!place.ahead().ask(&digest('2')));
    assert_eq!(place.next(id, 2), Some('4'));
    assert_eq!(place.next(id, 2), None, "each is converted once");
}

#[test]
fn a_layer_that_comes_twice_is_converted_once() {
    let place = Place::new();
    let id = place.add(layers("0121"), 0).unwrap();
    place.download('1');
    place.download('2');
    assert_eq!(place.next(id, 8), Some('1'));
    assert_eq!(place.next(id, 8), Some('2'));
    assert_eq!(place.next(id, 8), None);
}

#[test]
fn an_image_is_looked_for_once() {
    let place = Place::new();
    let ahead = place.ahead();
    assert!(ahead.ask(&digest('0')), "nothing is known of it");
    assert!(!ahead.ask(&digest('0')), "it is looked for");
    assert!(
        ahead.ask(&digest('1')),
        "that is another one, for all we know"
    );
    assert!(ahead.add(layers("012"), 0).is_some());
    assert_eq!(ahead.add(layers("012"), 1), None);
    assert!(!ahead.ask(&digest('1')));
    place.download('1');
    place.download('2');
    let id = ahead.images().known[0].id;
    assert_eq!(place.next(id, 8), Some('2'), "1 is asked for");
    // As many as there is room for.
    let asked = "abcdef".chars().filter(|digit| ahead.ask(&digest(*digit)));
    assert_eq!(asked.count(), IMAGES - 1);
}

/// As where containerd has them unpacked side by side.
#[test]
fn what_others_unpack_already_is_left_to_them() {
    let place = Place::new();
    let ahead = place.ahead();
    let _calls = layers("012")
        .iter()
        .map(|digest| ahead.call(digest))
        .collect::<Vec<_>>();
    let id = place.add(layers("0123"), 0).unwrap();
    "123".chars().for_each(|digit| place.download(digit));
    assert_eq!(place.next(id, 8), Some('3'));
    assert_eq!(place.next(id, 8), None);
    assert!(ahead.images().known.is_empty());
}

/// The layers come so soon, and one of them fails, that its image is not found yet.
#[test]
fn what_is_given_up_is_not_looked_for() {
    let place = Place::new();
    assert!(place.ahead().ask(&digest('0')));
    assert!(place.ahead().ask(&digest('1')));
    place.ahead().give_up(&digest('1'));
    assert_eq!(place.ahead().add(layers("012"), 0), None);
    assert_eq!(place.ahead().add(layers("012"), 1), None);
}

/// The last layer is here already, so that nobody takes what was made of it.
#[test]
fn what_nobody_needs_goes_with_the_call() {
    let place = Place::new();
    let ahead = place.ahead();
    let id = place.add(layers("01"), 0).unwrap();
    place.download('1');
    let task = ahead.next(id, 8, &place.content).unwrap();
    ahead.done(id, &task.digest, Some(place.convert('1')));
    let call = ahead.call(&digest('1'));
    assert!(!ahead.ask(&digest('1')));
    assert_eq!(place.ingested(), 1);
    drop(call);
    assert_eq!(place.ingested(), 0);
    assert_eq!(place.next(id, 8), None);

    // The same while it is converted.
    let id = place.add(layers("01"), 0).unwrap();
    let task = ahead.next(id, 8, &place.content).unwrap();
    let call = ahead.call(&digest('1'));
    assert!(!ahead.ask(&digest('1')));
    drop(call);
    ahead.done(id, &task.digest, Some(place.convert('1')));
    assert_eq!(place.ingested(), 0);
    assert_eq!(place.next(id, 8), None);
    assert!(ahead.images().known.is_empty());
}

#[test]
fn who_asks_gets_what_was_converted_and_waits_for_what_is_being() {
    let place = Place::new();
    let ahead = place.ahead();
    let id = place.add(layers("012"), 0).unwrap();
    place.download('1');
    place.download('2');
    let (nobody, somebody) = (AtomicBool::new(true), AtomicBool::new(false));
    assert!(ahead.take(&digest('1'), &somebody).is_none(), "not begun");
    let task = ahead.next(id, 8, &place.content).unwrap();
    assert_eq!(task.digest, digest('2'));
    let call = ahead.call(&digest('2'));
    assert!(!ahead.ask(&digest('2')));
    assert!(ahead.take(&digest('2'), &nobody).is_none(), "nobody waits");
    thread::scope(|scope| {
        let taken = scope.spawn(|| ahead.take(&digest('2'), &somebody));
        thread::sleep(2 * LOOK);
        assert!(!taken.is_finished());
        ahead.done(id, &digest('2'), Some(place.convert('2')));
        assert!(taken.join().unwrap().is_some());
    });
    assert!(ahead.take(&digest('2'), &somebody).is_none(), "it is taken");
    drop(call);
    assert_eq!(place.ingested(), 0);
    assert_eq!(place.next(id, 8), None, "nothing is left of the image");
    assert!(ahead.images().known.is_empty());
}

#[test]
fn what_is_given_up_is_thrown_away() {
    let place = Place::new();
    let ahead = place.ahead();
    let id = place.add(layers("012"), 0).unwrap();
    place.download('1');
    place.download('2');
    let task = ahead.next(id, 8, &place.content).unwrap();
    ahead.done(id, &task.digest, Some(place.convert('1')));
    drop(task);
    assert_eq!(place.ingested(), 1);
    let task = ahead.next(id, 8, &place.content).unwrap();
    ahead.give_up(&digest('0'));
    assert_eq!(place.ingested(), 0);
    // What is being converted ends when it reads on.
    assert!(task.gone.load(Ordering::Relaxed));
    let error = convert_ahead(&place.snapshotter, &task.digest, &task.blob, &task.gone);
    error.expect_err("given up");
    ahead.done(id, &digest('2'), Some(place.convert('2')));
    assert_eq!(place.ingested(), 0);
}

#[test]
fn who_asks_for_what_was_not_converted_does_it() {
    let place = Place::new();
    let ahead = place.ahead();
    let id = place.add(layers("012"), 0).unwrap();
    place.download('1');
    let task = ahead.next(id, 8, &place.content).unwrap();
    thread::scope(|scope| {
        let somebody = AtomicBool::new(false);
        let taken = scope.spawn(move || ahead.take(&digest('1'), &somebody));
        thread::sleep(2 * LOOK);
        assert!(!taken.is_finished());
        // As when it fails, or its thread ends.
        drop(task);
        assert!(taken.join().unwrap().is_none());
    });
}

#[test]
fn only_so_many_are_converted_at_once() {
    let place = Place::new();
    let id = place.add(layers("0123456789"), 0).unwrap();
    "123456789".chars().for_each(|digit| place.download(digit));
    let next = || place.ahead().next(id, 9, &place.content).unwrap();
    let tasks: Vec<_> = (0..workers()).map(|_| next()).collect();
    thread::scope(|scope| {
        let waits = scope.spawn(next);
        thread::sleep(2 * LOOK);
        assert!(!waits.is_finished());
        drop(tasks);
        waits.join().unwrap();
    });
}
