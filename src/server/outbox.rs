//! What one client is to be sent, and the write that sends it.
//!
//! Two lanes: control frames (Ping, Pong, Close), which overtake, and data frames out of the ring.
//! The only thing that goes before a control frame is the rest of a frame already begun.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use fastwebsockets::{OpCode, Payload};
use tokio::io::AsyncWrite;

use super::disconnect::NO_CODE;
use crate::fanout::{Frame, Subscriber};
use crate::metrics::ShardCounters;

/// Frames in one vectored write: the default ring whole, with room for control frames; a kilobyte
/// of stack.
const MAX_SLICES: usize = 64;
/// Writes for one client before others get their turn.
const MAX_WRITES: usize = 4;
/// Bytes of control frames that wait before nothing more is read of the client: it must take the
/// answers to its Pings before it may send more of them.
const MAX_CONTROL: usize = 4 << 10;

/// One client's pending output. Empty, it owns no memory.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    control: Vec<u8>,
    control_done: usize,
    /// Frames taken from the ring and not yet sent.
    unsent: VecDeque<Frame>,
    /// Bytes of the first of them that are sent.
    frame_done: usize,
    closing: Closing,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Closing {
    #[default]
    No,
    /// A Close follows the last frame of the ring.
    WhenDrained(u16, &'static str),
    /// The Close is in the control lane; nothing follows it.
    Queued,
}

/// What the clients of one writer task share.
#[derive(Debug)]
pub(super) struct Batch<'a> {
    /// Lends its buffer to one client at a time; a client that keeps frames keeps the buffer.
    pub(super) frames: &'a mut VecDeque<Frame>,
    pub(super) counters: &'a ShardCounters,
    /// Since when the client being served is there. What it got of earlier messages was not on its
    /// way to it all that time, and does not count as a delivery time.
    pub(super) since: Instant,
}

impl Outbox {
    /// Queues a Ping, unless so much waits before it that the client will hardly see it in time.
    pub(super) fn ping(&mut self, number: u32) {
        if !self.is_congested() {
            self.queue(OpCode::Ping, &number.to_be_bytes());
        }
    }

    /// Queues the Pong that answers a Ping.
    pub(super) fn pong(&mut self, payload: &[u8]) {
        self.queue(OpCode::Pong, payload);
    }

    /// Queues a Close; what waits behind it is discarded, but for the rest of a frame begun.
    pub(super) fn close(&mut self, code: u16, text: &str) {
        if self.closing == Closing::Queued {
            return;
        }
        let payload = match code {
            NO_CODE => Vec::new(),
            _ => [&code.to_be_bytes()[..], text.as_bytes()].concat(),
        };
        self.queue(OpCode::Close, &payload);
        self.closing = Closing::Queued;
        let begun = usize::from(self.frame_done > 0);
        self.unsent.drain(begun..).for_each(|frame| frame.count_discarded());
    }

    /// Has a Close follow what the ring holds.
    pub(super) fn close_when_drained(&mut self, code: u16, text: &'static str) {
        if self.closing == Closing::No {
            self.closing = Closing::WhenDrained(code, text);
        }
    }

    /// Whether the client must take something before more is read of it.
    pub(super) fn is_congested(&self) -> bool {
        self.control.len() - self.control_done > MAX_CONTROL
    }

    /// Whether a Close was sent, to its last byte.
    pub(super) fn is_closed(&self) -> bool {
        self.closing == Closing::Queued && self.control.is_empty()
    }

    /// Counts what is left as discarded.
    pub(super) fn discard(&mut self) {
        self.unsent.drain(..).for_each(|frame| frame.count_discarded());
    }

    fn queue(&mut self, opcode: OpCode, payload: &[u8]) {
        if self.closing == Closing::Queued {
            return;
        }
        let mut head = [0; 14];
        let len = fastwebsockets::Frame::new(true, opcode, None, Payload::Borrowed(payload)).fmt_head(&mut head);
        self.control.extend_from_slice(&head[..len]);
        self.control.extend_from_slice(payload);
    }

    /// Sends everything there is, in as few writes as possible, without waiting. Ready: nothing is
    /// left, or others should have their turn and this client was marked again. Pending: the socket
    /// takes no more, and the waker of `cx` will be woken when it does.
    pub(super) fn poll_flush(
        &mut self,
        cx: &mut Context<'_>,
        mut io: Pin<&mut impl AsyncWrite>,
        subscriber: Option<&Subscriber>,
        batch: &mut Batch<'_>,
    ) -> Poll<io::Result<()>> {
        if self.unsent.capacity() == 0 {
            self.unsent = std::mem::take(batch.frames);
        }
        let mut result = Poll::Ready(Ok(()));
        for writes in 0.. {
            self.refill(subscriber);
            if self.is_empty() {
                break;
            }
            if writes == MAX_WRITES {
                cx.waker().wake_by_ref();
                break;
            }
            result = self.poll_write(cx, io.as_mut(), batch);
            if !matches!(result, Poll::Ready(Ok(()))) {
                break;
            }
        }
        if self.unsent.is_empty() {
            *batch.frames = std::mem::take(&mut self.unsent);
        }
        result
    }

    fn is_empty(&self) -> bool {
        self.unsent.is_empty() && self.control.is_empty()
    }

    /// Takes frames from the ring. Together with those taken before they are never more than the
    /// ring holds: a client that comes back after a stall starts with the newest.
    fn refill(&mut self, subscriber: Option<&Subscriber>) {
        let Some(subscriber) = subscriber.filter(|_| self.closing != Closing::Queued) else {
            return;
        };
        let begun = usize::from(self.frame_done > 0);
        let ring = subscriber.ring();
        while self.unsent.len() > begun && self.unsent.len() - begun + ring.len() > ring.capacity() {
            if let Some(stale) = self.unsent.remove(begun) {
                subscriber.drop_stale(&stale);
            }
        }
        while self.unsent.len() < MAX_SLICES
            && let Some(frame) = subscriber.pop()
        {
            self.unsent.push_back(frame);
        }
        if let Closing::WhenDrained(code, text) = self.closing
            && self.unsent.is_empty()
        {
            self.close(code, text);
        }
    }

    /// One write of as much as there is.
    fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        io: Pin<&mut impl AsyncWrite>,
        batch: &Batch<'_>,
    ) -> Poll<io::Result<()>> {
        let mut slices = [IoSlice::new(&[]); MAX_SLICES];
        let mut len = 0;
        let mut add = |bytes| {
            if len < MAX_SLICES {
                slices[len] = IoSlice::new(bytes);
                len += 1;
            }
        };
        let mut frames = self.unsent.iter();
        if self.frame_done > 0
            && let Some(begun) = frames.next()
        {
            add(&begun.wire()[self.frame_done..]);
        }
        if !self.control.is_empty() {
            add(&self.control[self.control_done..]);
        }
        frames.for_each(|frame| add(frame.wire()));
        let written = ready!(match &slices[..len] {
            [only] => io.poll_write(cx, only),
            several => io.poll_write_vectored(cx, several),
        })?;
        if written == 0 {
            return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
        }
        batch.counters.bytes_sent.add(written as u64);
        self.advance(written, batch);
        Poll::Ready(Ok(()))
    }

    /// Forgets `written` bytes, in the order in which they were gathered.
    fn advance(&mut self, mut written: usize, batch: &Batch<'_>) {
        let now = Instant::now();
        if self.frame_done > 0 {
            written = self.advance_frame(written, now, batch);
        }
        let control = written.min(self.control.len() - self.control_done);
        self.control_done += control;
        written -= control;
        if self.control_done == self.control.len() {
            (self.control, self.control_done) = (Vec::new(), 0);
        } else if self.control_done > MAX_CONTROL {
            self.control.drain(..self.control_done);
            self.control_done = 0;
        }
        while written > 0 {
            written = self.advance_frame(written, now, batch);
        }
    }

    /// Forgets up to `written` bytes of the first frame; returns how many are left.
    fn advance_frame(&mut self, written: usize, now: Instant, batch: &Batch<'_>) -> usize {
        let Some(frame) = self.unsent.front() else {
            debug_assert!(false, "no more is written than was gathered");
            return 0;
        };
        let left = frame.wire().len() - self.frame_done;
        if written < left {
            self.frame_done += written;
            return 0;
        }
        batch.counters.frames_sent.add(1);
        if frame.published() >= batch.since {
            batch.counters.delivery_seconds.observe(now.saturating_duration_since(frame.published()));
        }
        self.unsent.pop_front();
        self.frame_done = 0;
        written - left
    }
}
