//! Who listens to a channel, and whether they are owed something newer.

use super::sync::{AtomicBool, AtomicUsize, Notify, Ordering};

/// Subscribers of a channel, counted, and the word between them and a publisher that rests while
/// nobody listens.
///
/// Sequentially consistent throughout: a publisher marks the channel stale and then looks whether
/// somebody listens, a subscriber is counted and then looks whether the channel is stale. One of
/// the two sees the other, so nobody is left with an old message.
#[derive(Debug, Default)]
pub(crate) struct Audience {
    count: AtomicUsize,
    stale: AtomicBool,
    wanted: Notify,
}

impl Audience {
    pub(crate) fn count(&self) -> usize {
        self.count.load(Ordering::SeqCst)
    }

    pub(crate) fn join(&self) {
        self.count.fetch_add(1, Ordering::SeqCst);
        self.ask();
    }

    pub(crate) fn leave(&self) {
        self.count.fetch_sub(1, Ordering::SeqCst);
    }

    pub(crate) fn set_stale(&self, stale: bool) {
        self.stale.store(stale, Ordering::SeqCst);
    }

    pub(crate) fn is_stale(&self) -> bool {
        self.stale.load(Ordering::SeqCst)
    }

    /// Wakes the publisher if the channel is stale.
    pub(crate) fn ask(&self) {
        if self.is_stale() {
            self.wanted.notify_one();
        }
    }

    pub(crate) async fn wanted(&self) {
        self.wanted.notified().await;
    }
}
