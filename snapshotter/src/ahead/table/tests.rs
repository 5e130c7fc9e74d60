#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use super::*;
use crate::ahead::place::{NAMESPACE, Place, digest, layers};
use crate::apply::convert_ahead;
use std::thread;

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
    assert!(ahead.add(NAMESPACE, layers("012"), 0).is_some());
    assert_eq!(ahead.add(NAMESPACE, layers("012"), 1), None);
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
    assert_eq!(place.ahead().add(NAMESPACE, layers("012"), 0), None);
    assert_eq!(place.ahead().add(NAMESPACE, layers("012"), 1), None);
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

/// Before it is unpacked: whoever is about to ask for it.
#[test]
fn what_lies_above_a_layer_is_had_before_it_is_asked_for() {
    let place = Place::new();
    let ahead = place.ahead();
    let nobody = AtomicBool::new(true);
    let take = |namespace: &str, below: char, is_it: bool| {
        let taken = ahead.take_above(namespace, &layers(&below.to_string()), |_| is_it);
        taken.map(|(blob, _)| blob.chars().last().unwrap())
    };
    let id = place.add(layers("0123"), 0).unwrap();
    "123".chars().for_each(|digit| place.download(digit));
    assert_eq!(take(NAMESPACE, '0', true), None, "it waits");
    let task = ahead.next(id, 8, &place.content).unwrap();
    assert_eq!(take(NAMESPACE, '0', true), None, "it is being converted");
    ahead.done(id, &task.digest, Some(place.convert('1')));
    assert_eq!(take(NAMESPACE, '0', false), None, "another is wanted");
    assert_eq!(take("other", '0', true), None);
    assert_eq!(take(NAMESPACE, '1', true), None);
    assert_eq!(take(NAMESPACE, '0', true), Some('1'));
    assert_eq!(take(NAMESPACE, '0', true), None, "it is taken");
    assert_eq!(ahead.images().known[0].asked, 1, "it was asked for");
    let taken: Vec<Taken> = ahead.taken(id).lock().unwrap().drain(..).collect();
    assert_eq!(taken.len(), 1);
    assert_eq!(taken[0].blob, digest('1'));
    assert!(taken[0].diff_id.starts_with("sha256:"));

    let task = ahead.next(id, 8, &place.content).unwrap();
    let made = Made {
        recorded: None,
        ..place.convert('2')
    };
    ahead.done(id, &task.digest, Some(made));
    assert_eq!(take(NAMESPACE, '1', true), None, "containerd may lose it");
    assert!(ahead.take(&digest('2'), &nobody).is_some());
    place.convert_next(id, '3');
    assert_eq!(take(NAMESPACE, '2', true), None, "the topmost");
    assert!(ahead.take(&digest('3'), &nobody).is_some());
}

#[test]
fn what_lies_above_a_layer_is_waited_for() {
    let place = Place::new();
    let ahead = place.ahead();
    let id = place.add(layers("012"), 0).unwrap();
    place.download('1');
    let task = ahead.next(id, 8, &place.content).unwrap();
    thread::scope(|scope| {
        let taken = scope.spawn(|| ahead.take_above(NAMESPACE, &layers("0"), |_| true));
        thread::sleep(2 * LOOK);
        assert!(!taken.is_finished());
        ahead.done(id, &task.digest, Some(place.convert('1')));
        assert!(taken.join().unwrap().is_some());
    });
    assert_eq!(place.ingested(), 0);
}
