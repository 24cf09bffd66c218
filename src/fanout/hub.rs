//! The hub: all channels, all shards, all counters.

use std::collections::BTreeMap;
use std::sync::Arc;

use arc_swap::ArcSwap;

use super::{Channel, Rounds, Shard, Subscription};
use crate::metrics::Metrics;

/// Longest channel name in bytes.
pub const MAX_CHANNEL_NAME: usize = 64;

/// How a hub is laid out.
#[derive(Clone, Debug)]
pub struct HubConfig {
    /// Frames a ring holds, at least 1. Each costs 16 bytes for every channel in a shard and every
    /// client that lags, and keeps one frame alive as long as nothing newer displaces it.
    pub queue_size: usize,
    /// Channels there may be. Each costs about 1 KiB and its last message, and a ring in each shard
    /// where it has clients.
    pub max_channels: usize,
    /// Clients one shard may have. Each costs a bit from the beginning.
    pub max_clients_per_shard: usize,
}

impl Default for HubConfig {
    fn default() -> Self {
        Self { queue_size: 50, max_channels: 10_000, max_clients_per_shard: 1 << 18 }
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

/// Whether a channel may have that name.
pub(crate) fn check_name(name: &str) -> Result<(), ChannelError> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.:".contains(&byte);
    if name.is_empty() || name.len() > MAX_CHANNEL_NAME || !name.bytes().all(allowed) {
        return Err(ChannelError::InvalidName(name.chars().take(MAX_CHANNEL_NAME).collect()));
    }
    Ok(())
}

/// The root of the engine. A clone is another handle on the same hub.
#[derive(Clone, Debug)]
pub struct Hub(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    config: HubConfig,
    channels: ArcSwap<BTreeMap<Arc<str>, Channel>>,
    metrics: Arc<Metrics>,
}

impl Hub {
    /// A hub without channels.
    pub fn new(config: HubConfig) -> Self {
        Self(Arc::new(Inner { config, channels: ArcSwap::default(), metrics: Arc::default() }))
    }

    /// The channel of that name, created if there is none.
    ///
    /// # Errors
    /// The name is not valid, or there are too many channels.
    pub fn channel(&self, name: &str) -> Result<Channel, ChannelError> {
        if let Some(channel) = self.get(name) {
            return Ok(channel);
        }
        check_name(name)?;
        let publish_seconds = Arc::clone(&self.0.metrics.publish_seconds);
        let created = Channel::new(name, self.0.config.queue_size, publish_seconds);
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
        let HubConfig { max_channels, max_clients_per_shard, .. } = self.0.config;
        Arc::new(Shard::new(max_clients_per_shard, max_channels, self.0.metrics.add_shard()))
    }

    /// The rounds of a shard, for its owner; one for each shard.
    pub fn rounds(&self, shard: &Arc<Shard>) -> Rounds {
        Rounds::new(Arc::clone(shard), self.0.config.queue_size)
    }

    /// A subscription inside the process, in `channel`.
    pub fn subscribe(&self, channel: &Channel) -> Subscription {
        let counters = Arc::clone(&self.0.metrics.embedded);
        let mut subscription = Subscription::new(self.0.config.queue_size, counters);
        subscription.join(channel);
        subscription
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
