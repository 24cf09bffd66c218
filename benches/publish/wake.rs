//! Who is woken: every client's task, which has a ring of its own, or one writer task a shard. Frames
//! are the same in both; tasks sleep on a runtime of two threads until there is something.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::Thread;

use divan::black_box;
use tickcast::fanout::{Channel, Hub, Message, Rounds, Shard, Subscription};
use tokio::runtime::Runtime;

use crate::support::engine::go_rounds;
use crate::{FanOut, PAYLOAD};

const WORKERS: usize = 2;

/// Frames taken by the tasks. Counting is release, reading acquire: who reads the last count knows
/// that all have taken theirs.
struct Taken {
    frames: AtomicUsize,
    subscribers: usize,
    publisher: Thread,
}

impl Taken {
    fn count(&self, frames: usize) {
        let before = self.frames.fetch_add(frames, Ordering::AcqRel);
        if (before + frames) / self.subscribers > before / self.subscribers {
            self.publisher.unpark();
        }
    }

    fn wait(&self, published: usize) {
        while self.frames.load(Ordering::Acquire) < published * self.subscribers {
            std::thread::park();
        }
    }
}

/// What both have: the runtime with the tasks, and a publisher outside of it.
struct Tasks {
    _runtime: Runtime,
    channel: Channel,
    message: Message,
    published: usize,
    taken: Arc<Taken>,
}

impl Tasks {
    fn start(subscribers: usize, spawn: impl FnOnce(&Hub, &Channel, &Arc<Taken>)) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(WORKERS).build().expect("threads");
        let hub = Hub::default();
        let channel = hub.channel("bench").expect("a name");
        let taken = Arc::new(Taken { frames: AtomicUsize::new(0), subscribers, publisher: std::thread::current() });
        let guard = runtime.enter();
        spawn(&hub, &channel, &taken);
        drop(guard);
        Self { _runtime: runtime, channel, message: Message::binary(vec![b'x'; PAYLOAD]), published: 0, taken }
    }

    fn publish(&mut self) {
        self.channel.publish(self.message.clone()).expect("alone");
        self.published += 1;
    }

    fn drain(&self) {
        self.taken.wait(self.published);
    }
}

/// A task and a `Notify` a client.
pub(crate) struct WakePerClient(Tasks);

impl FanOut for WakePerClient {
    fn new(subscribers: usize) -> Self {
        Self(Tasks::start(subscribers, |hub, channel, taken| {
            for _ in 0..subscribers {
                tokio::spawn(take_own(hub.subscribe(channel), Arc::clone(taken)));
            }
        }))
    }

    fn publish(&mut self) {
        self.0.publish();
    }

    fn drain(&mut self) {
        self.0.drain();
    }
}

async fn take_own(mut subscription: Subscription, taken: Arc<Taken>) {
    loop {
        drop(black_box(subscription.recv().await));
        taken.count(1);
    }
}

/// A task and a `Notify` a shard: the engine as the server runs it.
pub(crate) struct WakePerShard(Tasks);

impl FanOut for WakePerShard {
    fn new(subscribers: usize) -> Self {
        Self(Tasks::start(subscribers, |hub, channel, taken| {
            for first in 0..WORKERS {
                let (shard, share) = (hub.add_shard(), (first..subscribers).step_by(WORKERS).len());
                let rounds = go_rounds(hub, &shard, channel, share);
                tokio::spawn(take_for_all(shard, rounds, Arc::clone(taken)));
            }
        }))
    }

    fn publish(&mut self) {
        self.0.publish();
    }

    fn drain(&mut self) {
        self.0.drain();
    }
}

async fn take_for_all(shard: Arc<Shard>, mut rounds: Rounds, taken: Arc<Taken>) {
    loop {
        shard.wait().await;
        rounds.collect();
        let mut frames = 0;
        while let Some(delivery) = rounds.next_delivery() {
            frames += black_box(delivery.frames).len();
        }
        if frames > 0 {
            taken.count(frames);
        }
    }
}
