//! A subscriber's ring beside a deque behind a mutex: push and pop, empty and full, alone and with
//! a second thread at the other end.
//!
//! ```sh
//! cargo bench --bench ring
//! ```

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Barrier, Mutex};
use std::time::Instant;

use divan::{Bencher, black_box};
use tickcast::fanout::{Frame, Message, Ring};

const CAPACITY: usize = 50;

fn main() {
    divan::main();
}

/// A bounded queue that gives up its oldest.
trait Queue: Sync {
    fn new() -> Self;
    fn push(&self, frame: Frame) -> Option<Frame>;
    fn pop(&self) -> Option<Frame>;
}

impl Queue for Ring {
    fn new() -> Self {
        Self::new(CAPACITY)
    }

    fn push(&self, frame: Frame) -> Option<Frame> {
        Self::push(self, frame)
    }

    fn pop(&self) -> Option<Frame> {
        Self::pop(self)
    }
}

struct LockedDeque(Mutex<VecDeque<Frame>>);

impl Queue for LockedDeque {
    fn new() -> Self {
        Self(Mutex::new(VecDeque::with_capacity(CAPACITY)))
    }

    fn push(&self, frame: Frame) -> Option<Frame> {
        let mut frames = self.0.lock().expect("no panic");
        let displaced = if frames.len() == CAPACITY { frames.pop_front() } else { None };
        frames.push_back(frame);
        displaced
    }

    fn pop(&self) -> Option<Frame> {
        self.0.lock().expect("no panic").pop_front()
    }
}

fn frame() -> Frame {
    Frame::new(Message::binary(vec![0; 1_024]), 1, Instant::now(), Arc::default())
}

fn full<Q: Queue>(frame: &Frame) -> Q {
    let queue = Q::new();
    (0..CAPACITY).for_each(|_| drop(queue.push(frame.clone())));
    queue
}

#[divan::bench(types = [Ring, LockedDeque])]
fn pop_empty<Q: Queue>(bencher: Bencher<'_, '_>) {
    let queue = Q::new();
    bencher.bench_local(|| queue.pop().is_none());
}

#[divan::bench(types = [Ring, LockedDeque])]
fn push_empty_and_pop<Q: Queue>(bencher: Bencher<'_, '_>) {
    let (queue, frame) = (Q::new(), frame());
    bencher.bench_local(|| {
        drop(black_box(queue.push(frame.clone())));
        queue.pop()
    });
}

#[divan::bench(types = [Ring, LockedDeque])]
fn push_full<Q: Queue>(bencher: Bencher<'_, '_>) {
    let frame = frame();
    let queue = full::<Q>(&frame);
    bencher.bench_local(|| queue.push(frame.clone()));
}

#[divan::bench(types = [Ring, LockedDeque])]
fn fill_and_drain<Q: Queue>(bencher: Bencher<'_, '_>) {
    let (queue, frame) = (Q::new(), frame());
    bencher.counter(divan::counter::ItemsCount::new(CAPACITY)).bench_local(|| {
        (0..CAPACITY).for_each(|_| drop(queue.push(frame.clone())));
        std::iter::from_fn(|| queue.pop()).for_each(|frame| drop(black_box(frame)));
    });
}

#[divan::bench(types = [Ring, LockedDeque], sample_count = 1_000, min_time = 0.5)]
fn push_while_another_pops<Q: Queue>(bencher: Bencher<'_, '_>) {
    let (queue, frame) = (Q::new(), frame());
    contended(bencher, || drop(queue.push(frame.clone())), || drop(queue.pop()));
}

#[divan::bench(types = [Ring, LockedDeque], sample_count = 1_000, min_time = 0.5)]
fn push_full_while_another_pushes<Q: Queue>(bencher: Bencher<'_, '_>) {
    let frame = frame();
    let queue = full::<Q>(&frame);
    contended(bencher, || drop(queue.push(frame.clone())), || drop(queue.push(frame.clone())));
}

#[divan::bench(types = [Ring, LockedDeque], sample_count = 1_000, min_time = 0.5)]
fn pop_while_another_pushes<Q: Queue>(bencher: Bencher<'_, '_>) {
    let frame = frame();
    let queue = full::<Q>(&frame);
    contended(bencher, || drop(queue.pop()), || drop(queue.push(frame.clone())));
}

/// Measures `one` while a second thread does nothing but `other`.
fn contended(bencher: Bencher<'_, '_>, one: impl Fn(), other: impl Fn() + Sync) {
    let (stop, started) = (AtomicBool::new(false), Barrier::new(2));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            started.wait();
            while !stop.load(Ordering::Relaxed) {
                other();
            }
        });
        started.wait();
        bencher.bench_local(one);
        stop.store(true, Ordering::Relaxed);
    });
}
