//! The hub: all channels, all shards, all counters.

use std::collections::BTreeMap;
use std::sync::Arc;

use arc_swap::ArcSwap;

use super::shard::WORD;
use super::{Channel, Shard, Subscriber, Subscription};
use crate::metrics::{Counter, Metrics};

/// Sets a channel keeps its subscribers in. Leaving searches one of them: with 64, ten thousand leave in
/// two milliseconds in all; a single set that is copied for each takes half a second (`benches/register.rs`).
pub(super) const SETS: usize = 64;

/// Longest channel name in bytes.
pub const MAX_CHANNEL_NAME: usize = 64;

/// How a hub is laid out.
#[derive(Clone, Debug)]
pub struct HubConfig {
    /// Writer tasks that will serve subscribers, 1 to 64 of them get sets of their own; usually one
    /// a core. More than that share sets, which costs a little order and nothing else.
    pub shards: usize,
    /// Frames a subscriber's ring holds, at least 1. Each costs 16 bytes a subscriber, and keeps
    /// one frame alive as long as nothing newer displaces it.
    pub queue_size: usize,
    /// Channels there may be. Each costs about 2 KiB and its last message.
    pub max_channels: usize,
    /// Subscribers one shard may have. A thousand cost 128 bytes when they come.
    pub max_subscribers_per_shard: usize,
}

impl Default for HubConfig {
    fn default() -> Self {
        Self { shards: 1, queue_size: 50, max_channels: 10_000, max_subscribers_per_shard: 1 << 20 }
    }
}

/// Why a channel could not be had.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChannelError {
    /// The name cannot be one.
    #[error("channel name {0:?} is not valid: 1 to {MAX_CHANNEL_NAME} of the characters A-Z a-z 0-9 _ - . : are")]
    InvalidName(String),
    /// There are as many channels as there may be.
    #[error("there are {0} channels already, and no more may be created")]
    TooMany(usize),
}

/// The root of the engine. A clone is another handle on the same hub.
#[derive(Clone, Debug)]
pub struct Hub(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    config: HubConfig,
    channels: ArcSwap<BTreeMap<Arc<str>, Channel>>,
    shards: ArcSwap<Vec<Arc<Shard>>>,
    next_id: Counter,
    metrics: Arc<Metrics>,
}

impl Hub {
    /// A hub without channels.
    pub fn new(config: HubConfig) -> Self {
        Self(Arc::new(Inner {
            config,
            channels: ArcSwap::default(),
            shards: ArcSwap::default(),
            next_id: Counter::default(),
            metrics: Arc::default(),
        }))
    }

    /// The channel of that name, created if there is none.
    ///
    /// # Errors
    /// The name is not valid, or there are too many channels.
    pub fn channel(&self, name: &str) -> Result<Channel, ChannelError> {
        if let Some(channel) = self.get(name) {
            return Ok(channel);
        }
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.:".contains(&byte);
        if name.is_empty() || name.len() > MAX_CHANNEL_NAME || !name.bytes().all(allowed) {
            return Err(ChannelError::InvalidName(name.chars().take(MAX_CHANNEL_NAME).collect()));
        }
        let publish_seconds = Arc::clone(&self.0.metrics.publish_seconds);
        let created = Channel::new(name, Arc::default(), publish_seconds);
        let max = self.0.config.max_channels;
        self.0.channels.rcu(|channels| {
            let mut channels = BTreeMap::clone(channels);
            if channels.len() < max && !channels.contains_key(name) {
                channels.insert(name.into(), created.clone());
            }
            channels
        });
        self.get(name).ok_or(ChannelError::TooMany(max))
    }

    /// The channel of that name, if there is one.
    pub fn get(&self, name: &str) -> Option<Channel> {
        self.0.channels.load().get(name).cloned()
    }

    /// All channels, by name.
    pub fn channels(&self) -> Vec<Channel> {
        self.0.channels.load().values().cloned().collect()
    }

    /// Adds a shard; the caller becomes its owner, see [`Shard`].
    pub fn add_shard(&self) -> Arc<Shard> {
        let id = self.0.next_id.next() as usize;
        let counters = self.0.metrics.add_shard();
        let shard = Arc::new(Shard::new(id, self.0.config.max_subscribers_per_shard, counters));
        self.0.shards.rcu(|shards| {
            let mut shards = Vec::clone(shards);
            shards.push(Arc::clone(&shard));
            shards
        });
        shard
    }

    /// Takes a shard out again; its owner is gone.
    pub fn remove_shard(&self, shard: &Arc<Shard>) {
        shard.close();
        self.0
            .shards
            .rcu(|shards| shards.iter().filter(|other| !Arc::ptr_eq(other, shard)).cloned().collect::<Vec<_>>());
    }

    /// A subscriber at `slot` of `shard`, in no channel.
    ///
    /// # Panics
    /// `slot` is not below [`Shard::slots`].
    pub fn subscriber(&self, shard: &Arc<Shard>, slot: usize) -> Subscriber {
        assert!(slot < shard.slots(), "slot {slot} of {}", shard.slots());
        shard.reserve(slot);
        // Slots of one word go into one set, so that their marks can be made together; a shard's
        // sets are neighbours, so that a shard is woken when all of its rings have the frame.
        let groups = self.0.config.shards.clamp(1, SETS);
        let sets = SETS / groups;
        let set = (shard.id % groups) * sets + (slot / WORD + shard.id / groups) % sets;
        Subscriber::new(Arc::clone(shard), slot, set, self.0.config.queue_size)
    }

    /// A subscription of its own, in `channel`.
    pub fn subscribe(&self, channel: &Channel) -> Subscription {
        let id = self.0.next_id.next() as usize;
        let counters = Arc::clone(&self.0.metrics.embedded);
        let shard = Arc::new(Shard::new(id, 1, counters));
        let mut subscription = Subscription::new(self.subscriber(&shard, 0));
        subscription.join(channel);
        subscription
    }

    /// Waits until what `channel` has accepted is in the rings, and the writers have visited
    /// everybody who has something. A publisher of bursts that waits here now and then does not
    /// outrun them: a client whose socket takes what it is given loses nothing to the burst. A slow
    /// client does not prolong the wait.
    pub async fn visited(&self, channel: &Channel) {
        let accepted = channel.accepted();
        while channel.seq() < accepted {
            tokio::task::yield_now().await;
        }
        for shard in self.0.shards.load_full().iter() {
            shard.visited().await;
        }
    }

    /// Everything counted.
    pub fn metrics(&self) -> &Arc<Metrics> {
        &self.0.metrics
    }
}

impl Default for Hub {
    fn default() -> Self {
        Self::new(HubConfig::default())
    }
}
