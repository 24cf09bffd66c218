//! Where snapshots go.

use crate::fanout::{Busy, Channel, Message};

/// What a [`Publisher`](super::Publisher) publishes to, and whether anybody wants it.
pub trait Outlet: Send + Sync + 'static {
    /// Takes a message without waiting for anybody.
    ///
    /// # Errors
    /// Too many publish at once; try again after yielding the thread.
    fn publish(&self, message: Message) -> Result<(), Busy>;

    /// Whether anybody listens.
    fn has_listeners(&self) -> bool;

    /// Says whether newer content exists than the last message.
    fn set_stale(&self, stale: bool);

    /// Waits until somebody begins to listen, or asks, while the last message is stale.
    fn wanted(&self) -> impl Future<Output = ()> + Send;

    /// Waits until what was published has been passed on.
    fn offered(&self) -> impl Future<Output = ()> + Send;
}

impl Outlet for Channel {
    fn publish(&self, message: Message) -> Result<(), Busy> {
        Self::publish(self, message).map(drop)
    }

    fn has_listeners(&self) -> bool {
        self.subscribers() > 0
    }

    fn set_stale(&self, stale: bool) {
        Self::set_stale(self, stale);
    }

    fn wanted(&self) -> impl Future<Output = ()> + Send {
        Self::wanted(self)
    }

    fn offered(&self) -> impl Future<Output = ()> + Send {
        Self::offered(self)
    }
}
