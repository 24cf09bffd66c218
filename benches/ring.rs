//! A subscriber's ring against what else could be one: a push into a full one, and a burst drained.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use divan::{Bencher, black_box};
use tickcast::fanout::{Frame, Hub, Message, Ring};

const CAPACITY: usize = 50;

fn main() {
    divan::main();
}

fn frame() -> Frame {
    let channel = Hub::default().channel("bench").expect("a name");
    channel.publish(Message::binary(vec![0; 1_024])).expect("alone");
    channel.last().expect("published")
}

#[divan::bench]
fn push_full_ring(bencher: Bencher<'_, '_>) {
    let (ring, frame) = (Ring::new(CAPACITY), frame());
    (0..CAPACITY).for_each(|_| drop(ring.push(frame.clone())));
    bencher.bench_local(|| black_box(ring.push(frame.clone())));
}

#[divan::bench]
fn push_full_mutex_deque(bencher: Bencher<'_, '_>) {
    let (ring, frame) = (Mutex::new(VecDeque::with_capacity(CAPACITY)), frame());
    bencher.bench_local(|| {
        let mut frames = ring.lock().expect("no panic");
        let displaced = if frames.len() == CAPACITY { frames.pop_front() } else { None };
        frames.push_back(frame.clone());
        black_box(displaced)
    });
}

#[divan::bench]
fn push_full_tokio_broadcast(bencher: Bencher<'_, '_>) {
    let (sender, _receiver) = tokio::sync::broadcast::channel(CAPACITY);
    let frame = frame();
    bencher.bench_local(|| black_box(sender.send(frame.clone()).is_ok()));
}

#[divan::bench]
fn burst_and_drain_ring(bencher: Bencher<'_, '_>) {
    let (ring, frame) = (Arc::new(Ring::new(CAPACITY)), frame());
    bencher.bench_local(|| {
        (0..CAPACITY).for_each(|_| drop(ring.push(frame.clone())));
        while let Some(frame) = ring.pop() {
            black_box(&frame);
        }
    });
}
