//! A client's place in a channel, from the join until the writer that serves it takes over.

use std::sync::Arc;

use super::channel::Channel;
use super::lane::Lane;
use super::sync::{OnceLock, task};
use super::{Frame, Shard};

/// What a join was given in its turn: where its frames come from, and which.
#[derive(Debug)]
pub(super) struct Joined {
    pub(super) lane: Arc<Lane>,
    /// The channel's last message before the join.
    pub(super) first: Option<Frame>,
    /// The number of the first message after it.
    pub(super) next: u64,
}

/// Filled in turn, perhaps by another thread; `None` inside: the shard takes no more channels. Filled
/// once and by one thread, so nobody waits for the lock that `OnceLock` has inside.
pub(super) type JoinedCell = OnceLock<Option<Joined>>;

/// A client's membership in a channel, on its way to the owner of the shard: everything published
/// from the join on is kept for it, as far as a ring holds.
///
/// Dropping it leaves the channel, and counts what it was owed as discarded.
#[derive(Debug)]
pub struct Membership {
    channel: Channel,
    /// `None` once the owner has taken over.
    joined: Option<Arc<JoinedCell>>,
}

impl Membership {
    pub(super) fn new(channel: &Channel, shard: &Arc<Shard>) -> Self {
        let joined = Arc::new(JoinedCell::new());
        channel.enter(shard, &joined);
        Self { channel: channel.clone(), joined: Some(joined) }
    }

    /// Waits until the join has had its turn: while another thread is inside the channel it runs
    /// this one's operations too, in order. Returns whether it was let in; it is not if the shard
    /// has more channels than it takes.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn joined(&self) -> bool {
        loop {
            match self.joined.as_ref().and_then(|joined| joined.get()) {
                Some(joined) => return joined.is_some(),
                None => task::yield_now().await,
            }
        }
    }

    /// For the owner: the membership is its own, and [`Channel::exit`] its duty. `None` if the join
    /// has not had its turn, or was refused.
    pub(super) fn take(mut self) -> Option<(Channel, Joined)> {
        let Joined { lane, first, next } = self.joined.as_ref()?.get()?.as_ref()?;
        let joined = Joined { lane: Arc::clone(lane), first: first.clone(), next: *next };
        self.joined = None;
        Some((self.channel.clone(), joined))
    }
}

impl Drop for Membership {
    fn drop(&mut self) {
        if let Some(joined) = self.joined.take() {
            self.channel.abandon(joined);
        }
    }
}
