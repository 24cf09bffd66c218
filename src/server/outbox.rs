//! What one client is to be sent, and the write that sends it.
//!
//! A client that keeps up has no outbox: frames are lent to it for one write ([`send_lent`]). What its
//! socket does not take is kept, in two lanes: control frames (Ping, Pong, Close), which overtake, and
//! data frames in a ring of its own. The only thing that goes before a control frame is the rest of
//! a frame already begun.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use fastwebsockets::{OpCode, Payload};
use tokio::io::AsyncWrite;
use tokio::time::Instant as Moment;

use super::disconnect::{Disconnect, NO_CODE};
use crate::fanout::{Frame, Ring};
use crate::metrics::ShardCounters;

/// Frames in one vectored write: the default ring whole, with room for control frames; a kilobyte
/// of stack.
const MAX_SLICES: usize = 64;
/// Writes for one client before others get their turn.
const MAX_WRITES: usize = 4;
/// Bytes of control frames that wait before nothing more is read of the client: it must take the
/// answers to its Pings before it may send more of them.
const MAX_CONTROL: usize = 4 << 10;

/// Where a writer task counts what it sends to one client; nobody else counts there.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ledger<'a> {
    pub(super) counters: &'a ShardCounters,
    /// Since when the client being served is there. What it got of earlier messages was not on its
    /// way to it all that time, and does not count as a delivery time.
    pub(super) since: Instant,
}

impl Ledger<'_> {
    fn count(&self, frame: &Frame, now: Instant) {
        self.counters.frames_sent.add_alone(1);
        if frame.published() >= self.since {
            self.counters.delivery_seconds.observe_alone(now.saturating_duration_since(frame.published()));
        }
    }
}

/// Sends frames to a client for whom nothing else waits, in as few writes as possible, and leaves those
/// in `frames` that the socket did not take to their last byte. Returns how many bytes of the first
/// of them it took, or `None` if nothing is left.
///
/// # Errors
/// The socket failed.
pub(super) fn send_lent<'a>(
    cx: &mut Context<'_>,
    mut io: Pin<&mut impl AsyncWrite>,
    frames: &mut (impl Iterator<Item = &'a Frame> + Clone),
    ledger: Ledger<'_>,
) -> io::Result<Option<usize>> {
    loop {
        let mut ahead = frames.clone();
        let written = match (ahead.next(), ahead.next()) {
            (None, _) => return Ok(None),
            (Some(only), None) => io.as_mut().poll_write(cx, only.wire()),
            _ => {
                let mut slices = [IoSlice::new(&[]); MAX_SLICES];
                let gathered = slices.iter_mut().zip(frames.clone());
                let len = gathered.map(|(slice, frame)| *slice = IoSlice::new(frame.wire())).count();
                io.as_mut().poll_write_vectored(cx, &slices[..len])
            }
        };
        let mut written = match written {
            Poll::Ready(Ok(0)) => return Err(io::ErrorKind::WriteZero.into()),
            Poll::Ready(written) => written?,
            Poll::Pending => return Ok(Some(0)),
        };
        ledger.counters.bytes_sent.add_alone(written as u64);
        let now = Instant::now();
        while let Some(frame) = frames.clone().next() {
            if written < frame.wire().len() {
                if written > 0 {
                    return Ok(Some(written));
                }
                break;
            }
            written -= frame.wire().len();
            ledger.count(frame, now);
            frames.next();
        }
    }
}

/// One client's pending output. What is left when it is dropped is counted as discarded.
#[derive(Debug)]
pub(super) struct Outbox {
    /// Since when something waits without interruption.
    since: Moment,
    /// When the socket last took something, if it did since then.
    progress: Moment,
    control: Vec<u8>,
    control_done: usize,
    /// Frames taken from the ring and not yet sent.
    unsent: VecDeque<Frame>,
    /// Bytes of the first of them that are sent.
    frame_done: usize,
    /// There once the client lags.
    ring: Option<Ring>,
    closing: Closing,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Closing {
    #[default]
    No,
    /// A Close follows the last frame of the ring.
    WhenDrained(Disconnect),
    /// The Close is in the control lane; nothing follows it.
    Queued(Disconnect),
}

impl Default for Outbox {
    /// Something begins to wait.
    fn default() -> Self {
        let now = Moment::now();
        let (control, unsent) = Default::default();
        let (control_done, frame_done, ring, closing) = (0, 0, None, Closing::No);
        Self { since: now, progress: now, control, control_done, unsent, frame_done, ring, closing }
    }
}

impl Outbox {
    /// With a frame of which the socket took the first `done` bytes.
    pub(super) fn begun(frame: Frame, done: usize) -> Self {
        let mut outbox = Self::default();
        (outbox.unsent, outbox.frame_done) = (VecDeque::from([frame]), done);
        outbox
    }

    /// Keeps a frame until the socket takes it, with up to `capacity` others that are not begun: the
    /// client comes back to the newest. Returns whether another one gave way.
    pub(super) fn push(&mut self, frame: Frame, capacity: usize) -> bool {
        if self.is_closing() {
            frame.count_discarded();
            return false;
        }
        let ring = self.ring.get_or_insert_with(|| Ring::new(capacity));
        let begun = usize::from(self.frame_done > 0);
        let is_full = self.unsent.len() + ring.len() >= begun + ring.capacity();
        // Those taken from the ring are older than those in it.
        let oldest = if is_full { self.unsent.remove(begun) } else { None };
        let displaced = ring.push(frame).or(oldest);
        displaced.iter().for_each(Frame::count_dropped);
        displaced.is_some()
    }

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

    /// Queues the Close that goes with `end`; what waits behind it is discarded, but for the rest of a
    /// frame begun.
    pub(super) fn close(&mut self, end: Disconnect) {
        if self.is_closing() {
            return;
        }
        let payload = match end.close() {
            Some((NO_CODE, _)) | None => Vec::new(),
            Some((code, text)) => [&code.to_be_bytes()[..], text.as_bytes()].concat(),
        };
        self.queue(OpCode::Close, &payload);
        self.closing = Closing::Queued(end);
        let begun = usize::from(self.frame_done > 0);
        self.unsent.drain(begun..).for_each(|frame| frame.count_discarded());
        self.discard_ring();
    }

    /// Has a Close follow what the ring holds.
    pub(super) fn close_when_drained(&mut self, end: Disconnect) {
        if self.closing == Closing::No {
            self.closing = Closing::WhenDrained(end);
        }
    }

    /// Keeps what is sent back to the client until it takes it: it gives way to nothing.
    #[cfg(feature = "echo")]
    pub(super) fn echo(&mut self, frame: Frame) {
        debug_assert!(self.ring.is_none(), "nothing is published to a client of an echo server");
        self.unsent.push_back(frame);
    }

    /// Whether the client must take something before more is read of it.
    pub(super) fn is_congested(&self) -> bool {
        #[cfg(feature = "echo")]
        if self.unsent.iter().map(|frame| frame.wire().len()).sum::<usize>() - self.frame_done > super::echo::MAX_ECHOED
        {
            return true;
        }
        self.control.len() - self.control_done > MAX_CONTROL
    }

    /// Since when something waits without interruption.
    pub(super) fn since(&self) -> Moment {
        self.since
    }

    /// Since when the socket has taken nothing.
    pub(super) fn progress(&self) -> Moment {
        self.progress
    }

    fn is_closing(&self) -> bool {
        matches!(self.closing, Closing::Queued(_))
    }

    /// Why the client was sent a Close, if it was, to its last byte.
    pub(super) fn closed(&self) -> Option<Disconnect> {
        match self.closing {
            Closing::Queued(end) if self.control.is_empty() => Some(end),
            _ => None,
        }
    }

    fn discard_ring(&mut self) {
        let ring = self.ring.take();
        ring.iter().flat_map(|ring| std::iter::from_fn(|| ring.pop())).for_each(|frame| frame.count_discarded());
    }

    /// Whether there is nothing to send or to remember.
    pub(super) fn is_done(&self) -> bool {
        let is_drained = self.ring.as_ref().is_none_or(Ring::is_empty);
        is_drained && self.is_empty() && self.closing == Closing::No
    }

    fn queue(&mut self, opcode: OpCode, payload: &[u8]) {
        if self.is_closing() {
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
        ledger: Ledger<'_>,
    ) -> Poll<io::Result<()>> {
        for writes in 0.. {
            self.refill();
            if self.is_empty() {
                break;
            }
            if writes == MAX_WRITES {
                cx.waker().wake_by_ref();
                break;
            }
            ready!(self.poll_write(cx, io.as_mut(), ledger))?;
        }
        Poll::Ready(Ok(()))
    }

    fn is_empty(&self) -> bool {
        self.unsent.is_empty() && self.control.is_empty()
    }

    /// Takes frames from the ring, and what follows the last of them.
    fn refill(&mut self) {
        while self.unsent.len() < MAX_SLICES
            && let Some(frame) = self.ring.as_ref().and_then(Ring::pop)
        {
            self.unsent.push_back(frame);
        }
        if let Closing::WhenDrained(end) = self.closing
            && self.unsent.is_empty()
        {
            self.close(end);
        }
    }

    /// One write of as much as there is.
    fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        io: Pin<&mut impl AsyncWrite>,
        ledger: Ledger<'_>,
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
        ledger.counters.bytes_sent.add_alone(written as u64);
        self.advance(written, ledger);
        Poll::Ready(Ok(()))
    }

    /// Forgets `written` bytes, in the order in which they were gathered.
    fn advance(&mut self, mut written: usize, ledger: Ledger<'_>) {
        let now = Instant::now();
        self.progress = Moment::now();
        if self.frame_done > 0 {
            written = self.advance_frame(written, now, ledger);
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
            written = self.advance_frame(written, now, ledger);
        }
    }

    /// Forgets up to `written` bytes of the first frame; returns how many are left.
    fn advance_frame(&mut self, written: usize, now: Instant, ledger: Ledger<'_>) -> usize {
        let Some(frame) = self.unsent.front() else {
            debug_assert!(false, "no more is written than was gathered");
            return 0;
        };
        let left = frame.wire().len() - self.frame_done;
        if written < left {
            self.frame_done += written;
            return 0;
        }
        ledger.count(frame, now);
        self.unsent.pop_front();
        self.frame_done = 0;
        written - left
    }
}

impl Drop for Outbox {
    fn drop(&mut self) {
        self.unsent.iter().for_each(Frame::count_discarded);
        self.discard_ring();
    }
}

#[cfg(test)]
mod tests;
