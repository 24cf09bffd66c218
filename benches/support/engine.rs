//! The engine with subscribers in it and nobody behind them: shards whose owner is the benchmark.

use std::hint::black_box;
use std::sync::Arc;

use tickcast::fanout::{Channel, Frame, Hub, HubConfig, Message, Shard, Subscriber};

/// Writer tasks, as on a machine with two cores.
const SHARDS: usize = 2;

/// A channel and those who joined it.
pub struct Engine {
    pub channel: Channel,
    message: Message,
    shards: Vec<Arc<Shard>>,
    /// By shard and slot.
    subscribers: Vec<Vec<Subscriber>>,
    slots: Vec<usize>,
}

impl Engine {
    /// `subscribers` in a channel, to be sent messages of `payload` bytes.
    pub fn new(subscribers: usize, payload: usize) -> Self {
        let hub = Hub::new(HubConfig { shards: SHARDS, ..HubConfig::default() });
        let channel = hub.channel("bench").expect("a name");
        let shards: Vec<_> = (0..SHARDS).map(|_| hub.add_shard()).collect();
        let mut joined: Vec<Vec<Subscriber>> = (0..SHARDS).map(|_| Vec::new()).collect();
        for n in 0..subscribers {
            let mut subscriber = hub.subscriber(&shards[n % SHARDS], n / SHARDS);
            subscriber.join(&channel);
            joined[n % SHARDS].push(subscriber);
        }
        let message = Message::binary(vec![b'x'; payload]);
        Self { channel, message, shards, subscribers: joined, slots: Vec::with_capacity(subscribers) }
    }

    /// The same with every ring full.
    pub fn lagging(subscribers: usize, payload: usize) -> Self {
        let engine = Self::new(subscribers, payload);
        (0..HubConfig::default().queue_size).for_each(|_| engine.publish());
        engine
    }

    pub fn publish(&self) {
        self.channel.publish(self.message.clone()).expect("alone");
    }

    /// Visits all who are marked and takes everything out of their rings, as a writer task does.
    pub fn drain(&mut self, mut take: impl FnMut(Frame)) {
        let Self { shards, subscribers, slots, .. } = self;
        for (shard, subscribers) in shards.iter().zip(subscribers) {
            shard.take_ready(slots);
            for slot in slots.drain(..) {
                while let Some(frame) = subscribers[slot].pop() {
                    take(frame);
                }
            }
        }
    }

    /// Takes everything out and throws it away.
    pub fn discard(&mut self) {
        self.drain(|frame| drop(black_box(frame)));
    }

    /// All who joined, in no order.
    pub fn subscribers(&self) -> impl Iterator<Item = &Subscriber> {
        self.subscribers.iter().flatten()
    }
}
