//! The parts by themselves.

use std::sync::Arc;

use loom::thread;

use super::super::audience::Audience;
use super::super::slots::Slots;
use super::super::turn::Turn;
use super::support::{Alone, block_on};

/// Three threads, four operations: each runs once, alone, and after those before it.
pub(super) fn turn() {
    struct Shared {
        turn: Turn<(usize, usize)>,
        alone: Alone,
        ran: std::sync::Mutex<Vec<(usize, usize)>>,
    }
    let shared = Arc::new(Shared { turn: Turn::new(), alone: Alone::default(), ran: std::sync::Mutex::default() });
    let enter = |shared: &Shared, thread, n| {
        shared.turn.enter((thread, n), |operation| {
            shared.alone.touch();
            shared.ran.lock().expect("no panic").push(operation);
        });
    };
    let threads: Vec<_> = [1, 2]
        .map(|thread| {
            let shared = Arc::clone(&shared);
            thread::spawn(move || (0..thread).for_each(|n| enter(&shared, thread, n)))
        })
        .into();
    enter(&shared, 0, 0);
    threads.into_iter().for_each(|thread| thread.join().expect("no panic"));
    let ran = shared.ran.lock().expect("no panic");
    assert_eq!(ran.len(), 4);
    for thread in 0..3 {
        assert!(ran.iter().filter(|(by, _)| *by == thread).map(|(_, n)| *n).eq(0..thread.max(1)));
    }
    assert!(!shared.turn.is_busy());
}

/// Who takes a mark sees what was done before it, and every mark is taken once.
pub(super) fn marks() {
    let shared = Arc::new((Slots::new(64), [Alone::default(), Alone::default()]));
    let slots: Vec<_> = (0..2).map(|_| shared.0.claim().expect("room")).collect();
    let threads: Vec<_> = slots
        .into_iter()
        .map(|slot| {
            let shared = Arc::clone(&shared);
            thread::spawn(move || {
                shared.1[slot].touch();
                shared.0.mark(slot);
            })
        })
        .collect();
    let mut taken = Vec::new();
    let take = |taken: &mut Vec<usize>| {
        let before = taken.len();
        shared.0.take(taken);
        taken[before..].iter().for_each(|slot| shared.1[*slot].touch());
    };
    take(&mut taken);
    take(&mut taken);
    threads.into_iter().for_each(|thread| thread.join().expect("no panic"));
    take(&mut taken);
    taken.sort_unstable();
    assert_eq!(taken, [0, 1]);
}

/// A slot has one owner at a time, who sees what the last one did.
pub(super) fn claims() {
    let shared = Arc::new((Slots::new(64), <[Alone; 3]>::default()));
    let owned = |shared: &(Slots, [Alone; 3])| {
        for _ in 0..2 {
            let slot = shared.0.claim().expect("room");
            shared.1[slot].touch();
            shared.0.release(slot);
        }
    };
    let threads: Vec<_> = (0..2)
        .map(|_| {
            let shared = Arc::clone(&shared);
            thread::spawn(move || owned(&shared))
        })
        .collect();
    threads.into_iter().for_each(|thread| thread.join().expect("no panic"));
}

/// A publisher that rests while nobody listens, and the first who does.
pub(super) fn audience() {
    let audience = Arc::new(Audience::default());
    let publisher = {
        let audience = Arc::clone(&audience);
        thread::spawn(move || {
            audience.set_stale(true);
            if audience.count() == 0 {
                block_on(audience.wanted());
            }
        })
    };
    audience.join();
    publisher.join().expect("no panic");
}
