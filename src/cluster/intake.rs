//! What the publisher of snapshots of an origin publishes to.

use std::sync::Arc;

use crossbeam_queue::ArrayQueue;
use tokio::sync::Notify;

use crate::fanout::{Audience, Busy, Message};
use crate::market::Outlet;

/// Snapshots that wait for the bus at most; then the oldest give way.
const WAITING: usize = 64;

/// Snapshots on their way to the bus. Has a listener while this node is the active origin, so that nothing
/// is serialised on one that is not, and one that becomes it begins with what is newest. A clone is
/// another handle on the same.
#[derive(Clone, Debug)]
pub struct Intake(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    waiting: ArrayQueue<Message>,
    arrived: Notify,
    taken: Notify,
    audience: Audience,
}

impl Intake {
    pub(super) fn new() -> Self {
        let waiting = ArrayQueue::new(WAITING);
        Self(Arc::new(Inner { waiting, arrived: Notify::new(), taken: Notify::new(), audience: Audience::default() }))
    }

    /// Listens until the listener is dropped. What waits from before is old; the newest is taken only if
    /// nothing newer can be made, else it is made at once.
    pub(super) fn listen(&self) -> Listening<'_> {
        let kept = if self.0.audience.is_stale() { 0 } else { 1 };
        while self.0.waiting.len() > kept {
            self.0.waiting.pop();
        }
        self.0.audience.join();
        Listening { intake: self }
    }
}

impl Outlet for Intake {
    fn publish(&self, message: Message) -> Result<(), Busy> {
        // Not numbered yet, so nobody misses it.
        drop(self.0.waiting.force_push(message));
        self.0.arrived.notify_one();
        Ok(())
    }

    fn has_listeners(&self) -> bool {
        self.0.audience.count() > 0
    }

    fn set_stale(&self, stale: bool) {
        self.0.audience.set_stale(stale);
    }

    async fn wanted(&self) {
        self.0.audience.wanted().await;
    }

    async fn offered(&self) {
        while self.has_listeners() && !self.0.waiting.is_empty() {
            self.0.taken.notified().await;
        }
    }
}

/// The one who takes what was published.
#[derive(Debug)]
pub(super) struct Listening<'a> {
    intake: &'a Intake,
}

impl Listening<'_> {
    /// The next snapshot.
    ///
    /// # Cancel safety
    /// Cancel safe: one is taken only when it is returned.
    pub(super) async fn next(&mut self) -> Message {
        loop {
            if let Some(message) = self.intake.0.waiting.pop() {
                self.intake.0.taken.notify_one();
                return message;
            }
            self.intake.0.arrived.notified().await;
        }
    }
}

impl Drop for Listening<'_> {
    fn drop(&mut self) {
        self.intake.0.audience.leave();
        self.intake.0.taken.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn publish(intake: &Intake, text: &str) {
        intake.publish(Message::text(text)).expect("never too many");
    }

    #[tokio::test]
    async fn who_begins_to_listen_gets_the_newest_or_has_a_newer_one_made() {
        let intake = Intake::new();
        for text in ["old", "older", "newest"] {
            publish(&intake, text);
        }
        assert!(!intake.has_listeners());
        let mut listening = intake.listen();
        assert!(intake.has_listeners());
        assert_eq!(listening.next().await.payload(1), "newest");
        drop(listening);
        publish(&intake, "outdated");
        intake.set_stale(true);
        let mut listening = intake.listen();
        intake.wanted().await;
        publish(&intake, "newer");
        assert_eq!(listening.next().await.payload(2), "newer");
        intake.offered().await;
        drop(listening);
        assert!(!intake.has_listeners());
    }

    #[tokio::test]
    async fn a_bus_that_takes_nothing_loses_the_oldest_and_keeps_nobody_waiting() {
        let intake = Intake::new();
        let mut listening = intake.listen();
        for n in 0..WAITING + 3 {
            publish(&intake, &n.to_string());
        }
        assert_eq!(listening.next().await.payload(1), "3");
        let waits = intake.clone();
        let waits = tokio::spawn(async move { waits.offered().await });
        tokio::task::yield_now().await;
        assert!(!waits.is_finished());
        drop(listening);
        waits.await.expect("it does not wait for who is gone");
    }
}
