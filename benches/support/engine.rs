//! The engine with clients in it and no sockets behind them: shards whose owner is the benchmark.

use std::hint::black_box;
use std::sync::Arc;

use tickcast::fanout::{Channel, Frame, Hub, HubConfig, Message, Rounds, Shard};

/// Writer tasks, as on a machine with two cores.
const SHARDS: usize = 2;

/// A channel and those who joined it.
pub struct Engine {
    pub channel: Channel,
    message: Message,
    rounds: Vec<Rounds>,
}

impl Engine {
    /// `clients` in a channel, to be sent messages of `payload` bytes.
    pub fn new(clients: usize, payload: usize) -> Self {
        let hub = Hub::default();
        let channel = hub.channel("bench").expect("a name");
        let shares = (0..SHARDS).map(|shard| (shard..clients).step_by(SHARDS).len());
        let rounds = shares.map(|share| go_rounds(&hub, &hub.add_shard(), &channel, share)).collect();
        Self { channel, message: Message::binary(vec![b'x'; payload]), rounds }
    }

    /// The same with every ring full.
    pub fn lagging(clients: usize, payload: usize) -> Self {
        let engine = Self::new(clients, payload);
        (0..HubConfig::default().queue_size).for_each(|_| engine.publish());
        engine
    }

    pub fn publish(&self) {
        self.channel.publish(self.message.clone()).expect("alone");
    }

    /// Brings all clients what they have not had, as a writer task does.
    pub fn deliver(&mut self, mut take: impl FnMut(&Frame)) {
        for rounds in &mut self.rounds {
            rounds.collect();
            while let Some(delivery) = rounds.next_delivery() {
                delivery.frames.iter().for_each(&mut take);
            }
        }
    }

    /// Brings it, and nobody looks.
    pub fn discard(&mut self) {
        self.deliver(|frame| {
            black_box(frame);
        });
    }
}

/// `clients` of a shard in a channel, and the rounds that serve them.
pub fn go_rounds(hub: &Hub, shard: &Arc<Shard>, channel: &Channel, clients: usize) -> Rounds {
    let mut rounds = hub.rounds(shard);
    for _ in 0..clients {
        let slot = shard.claim().expect("room");
        let (place, _) = rounds.register(slot, channel.join(shard)).expect("nobody else is inside");
        let _ = rounds.catch_up(place);
    }
    rounds
}
