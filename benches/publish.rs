//! Publishing to N subscribers: framing, pushing, marking and waking, until all is taken out again.
//! Beside it what is usually written instead.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use divan::{Bencher, black_box};
use tickcast::fanout::{Hub, HubConfig, Message, Shard, Subscriber};
use tokio::sync::{broadcast, mpsc};

const SUBSCRIBERS: [usize; 4] = [1, 100, 1_000, 10_000];
const SHARDS: usize = 2;

fn main() {
    divan::main();
}

fn payload() -> Bytes {
    Bytes::from(vec![b'x'; 1_024])
}

struct Engine {
    hub: Hub,
    shards: Vec<Arc<Shard>>,
    subscribers: Vec<Vec<Subscriber>>,
}

impl Engine {
    fn new(subscribers: usize) -> Self {
        let hub = Hub::new(HubConfig { shards: SHARDS, ..HubConfig::default() });
        let channel = hub.channel("bench").expect("a name");
        let shards: Vec<_> = (0..SHARDS).map(|_| hub.add_shard()).collect();
        let mut joined: Vec<Vec<Subscriber>> = (0..SHARDS).map(|_| Vec::new()).collect();
        for n in 0..subscribers {
            let mut subscriber = hub.subscriber(&shards[n % SHARDS], n / SHARDS);
            subscriber.join(&channel);
            joined[n % SHARDS].push(subscriber);
        }
        Self { hub, shards, subscribers: joined }
    }

    fn drain(&self, slots: &mut Vec<usize>) {
        for (shard, subscribers) in self.shards.iter().zip(&self.subscribers) {
            shard.take_ready(slots);
            for slot in slots.drain(..) {
                while let Some(frame) = subscribers[slot].pop() {
                    black_box(frame.wire());
                }
            }
        }
    }
}

#[divan::bench(args = SUBSCRIBERS)]
fn publish(bencher: Bencher<'_, '_>, subscribers: usize) {
    let engine = Engine::new(subscribers);
    let channel = engine.hub.channel("bench").expect("a name");
    let message = Message::binary(payload());
    let mut slots = Vec::new();
    bencher
        .with_inputs(|| engine.drain(&mut slots))
        .bench_local_values(|()| channel.publish(message.clone()).expect("alone"));
}

#[divan::bench(args = SUBSCRIBERS)]
fn publish_and_drain(bencher: Bencher<'_, '_>, subscribers: usize) {
    let engine = Engine::new(subscribers);
    let channel = engine.hub.channel("bench").expect("a name");
    let message = Message::binary(payload());
    let mut slots = Vec::new();
    bencher.bench_local(|| {
        channel.publish(message.clone()).expect("alone");
        engine.drain(&mut slots);
    });
}

#[divan::bench(args = SUBSCRIBERS)]
fn tokio_broadcast_and_drain(bencher: Bencher<'_, '_>, subscribers: usize) {
    let (sender, _) = broadcast::channel(50);
    let mut receivers: Vec<_> = (0..subscribers).map(|_| sender.subscribe()).collect();
    let message = payload();
    bencher.bench_local(|| {
        sender.send(message.clone()).expect("there are receivers");
        for receiver in &mut receivers {
            black_box(receiver.try_recv().expect("one message"));
        }
    });
}

#[divan::bench(args = SUBSCRIBERS)]
fn mpsc_in_mutex_map_and_drain(bencher: Bencher<'_, '_>, subscribers: usize) {
    let (senders, mut receivers): (HashMap<_, _>, Vec<_>) = (0..subscribers)
        .map(|n| {
            let (sender, receiver) = mpsc::channel(50);
            ((n, sender), receiver)
        })
        .unzip();
    let senders = Mutex::new(senders);
    let message = payload();
    bencher.bench_local(|| {
        for sender in senders.lock().expect("no panic").values() {
            sender.try_send(message.clone()).expect("room");
        }
        for receiver in &mut receivers {
            black_box(receiver.try_recv().expect("one message"));
        }
    });
}
