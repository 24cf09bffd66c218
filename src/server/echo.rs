//! What a client sends goes back to it, for conformance suites. Feature `echo` only: a server that
//! fans out has no use for it.

use std::sync::Arc;
use std::time::Instant;

use crate::fanout::{Frame, Message};
use crate::metrics::ChannelCounters;

/// Bytes that wait to go back before nothing more is read of the client.
pub(super) const MAX_ECHOED: usize = 64 << 10;

/// A client's message as far as it has come. Boxed, because a session is small.
#[derive(Debug, Default)]
pub(super) struct Echo(Option<Box<Collected>>);

#[derive(Debug, Default)]
struct Collected {
    message: Vec<u8>,
    counters: Arc<ChannelCounters>,
}

impl Echo {
    /// Takes a piece of a message; returns the whole message, as one frame, with the last.
    pub(super) fn collect(&mut self, text: bool, payload: &[u8], last: bool) -> Option<Frame> {
        let Collected { message, counters } = &mut **self.0.get_or_insert_default();
        message.extend_from_slice(payload);
        last.then(|| {
            let message = std::mem::take(message);
            let message = match text {
                true => Message::text_from_utf8(message).expect("the reader lets no other text through"),
                false => Message::binary(message),
            };
            Frame::new(message, 0, Instant::now(), Arc::clone(counters))
        })
    }
}
