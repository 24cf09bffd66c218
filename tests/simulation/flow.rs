//! One direction of a connection, as TCP makes it: a send buffer, what is under way, a receive buffer.
//!
//! Loss never loses a byte here, it delays all that follow by retransmission timeouts, each twice as long
//! as the one before. Acknowledgements and window updates take no time.

use std::collections::VecDeque;

use bytes::Bytes;
use fastrand::Rng;

use super::agenda::Millis;
use super::audit::digest;

/// First retransmission timeout, and the longest. Linux waits up to 120 s, which no heartbeat survives.
const FIRST_TIMEOUT: Millis = 200;
pub(crate) const LAST_TIMEOUT: Millis = 8_000;

/// What a path through the network does to segments.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Link {
    pub(crate) latency: Millis,
    pub(crate) jitter: Millis,
    /// How many segments of a thousand are lost.
    pub(crate) loss: u32,
    /// Largest segment.
    pub(crate) segment: usize,
}

impl Link {
    /// What is sent in one millisecond shares its fate, so that the order in which it is does not matter.
    fn time(&self, seed: u64, now: Millis) -> Millis {
        let mut rng = Rng::with_seed(digest(seed, now));
        let mut at = now + self.latency + rng.u64(0..=self.jitter);
        let mut timeout = FIRST_TIMEOUT;
        while self.loss > 0 && rng.u32(0..1_000) < self.loss {
            at += timeout;
            timeout = (2 * timeout).min(LAST_TIMEOUT);
        }
        at
    }
}

/// How far the sender's end of the stream has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    Open,
    /// Behind what waits.
    Queued,
    Flying(Millis),
    Arrived,
}

#[derive(Debug)]
pub(crate) struct Flow {
    link: Link,
    seed: u64,
    send_buffer: usize,
    receive_buffer: usize,
    waiting: VecDeque<Bytes>,
    waiting_len: usize,
    flying: VecDeque<(Millis, Bytes)>,
    flying_len: usize,
    arrived: VecDeque<Bytes>,
    arrived_len: usize,
    end: End,
    /// The end is a reset.
    is_reset: bool,
    /// Somebody will call [`Self::arrive`].
    is_awaited: bool,
    timeout: Millis,
    last_at: Millis,
    pub(crate) total_sent: u64,
    pub(crate) total_arrived: u64,
}

impl Flow {
    pub(crate) fn new(link: Link, seed: u64, send_buffer: usize, receive_buffer: usize) -> Self {
        Self {
            link,
            seed,
            send_buffer,
            receive_buffer,
            waiting: VecDeque::new(),
            waiting_len: 0,
            flying: VecDeque::new(),
            flying_len: 0,
            arrived: VecDeque::new(),
            arrived_len: 0,
            end: End::Open,
            is_reset: false,
            is_awaited: false,
            timeout: FIRST_TIMEOUT,
            last_at: 0,
            total_sent: 0,
            total_arrived: 0,
        }
    }

    /// Bytes that the send buffer takes.
    pub(crate) fn room(&self) -> usize {
        self.send_buffer - self.waiting_len - self.flying_len
    }

    /// Enough that a kernel says so to who waits.
    pub(crate) fn has_much_room(&self) -> bool {
        self.room() >= self.send_buffer.div_ceil(3)
    }

    /// Bytes that have arrived and were not read.
    pub(crate) fn unread(&self) -> usize {
        self.arrived_len
    }

    /// Bytes anywhere in it.
    pub(crate) fn held(&self) -> usize {
        self.waiting_len + self.flying_len + self.arrived_len
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.end == End::Arrived
    }

    pub(crate) fn is_open(&self) -> bool {
        self.end == End::Open
    }

    pub(crate) fn was_reset(&self) -> bool {
        self.is_reset && self.has_ended()
    }

    /// No more than there is room for.
    pub(crate) fn push(&mut self, bytes: Bytes) {
        assert!(bytes.len() <= self.room() && self.end == End::Open);
        self.total_sent += bytes.len() as u64;
        self.waiting_len += bytes.len();
        self.waiting.push_back(bytes);
    }

    pub(crate) fn shut_down(&mut self) {
        if self.end == End::Open {
            self.end = End::Queued;
        }
    }

    /// Throws away what has not arrived, and tells the other side. Returns whether that was anything.
    pub(crate) fn reset(&mut self) -> bool {
        let lost = self.waiting_len + self.flying_len > 0;
        self.waiting.clear();
        self.flying.clear();
        (self.waiting_len, self.flying_len) = (0, 0);
        if self.end != End::Arrived {
            (self.end, self.is_reset) = (End::Queued, true);
        }
        lost
    }

    /// Throws away everything; nobody is there to read it. Returns whether that was anything.
    pub(crate) fn discard(&mut self) -> bool {
        let lost = self.held() > 0;
        self.waiting.clear();
        self.flying.clear();
        self.arrived.clear();
        (self.waiting_len, self.flying_len, self.arrived_len) = (0, 0, 0);
        lost
    }

    /// Sends what the window allows. Returns when to call [`Self::arrive`], unless that is known.
    pub(crate) fn pump(&mut self, now: Millis) -> Option<Millis> {
        while let Some(first) = self.waiting.front_mut() {
            let window = self.receive_buffer - self.arrived_len - self.flying_len;
            let len = first.len().min(self.link.segment).min(window);
            if len == 0 {
                break;
            }
            let piece = first.split_to(len);
            if first.is_empty() {
                self.waiting.pop_front();
            }
            self.last_at = self.link.time(self.seed, now).max(self.last_at);
            self.waiting_len -= len;
            self.flying_len += len;
            self.flying.push_back((self.last_at, piece));
        }
        if self.waiting.is_empty() && self.end == End::Queued {
            self.last_at = self.link.time(self.seed, now).max(self.last_at);
            self.end = End::Flying(self.last_at);
        }
        self.await_first(now)
    }

    fn await_first(&mut self, now: Millis) -> Option<Millis> {
        let first = match (self.flying.front(), self.end) {
            (Some((at, _)), _) => *at,
            (None, End::Flying(at)) => at,
            _ => return None,
        };
        (!std::mem::replace(&mut self.is_awaited, true)).then_some(first.max(now + 1))
    }

    /// What is due arrives, or is sent again because nothing gets through. Returns when to call this again.
    pub(crate) fn arrive(&mut self, now: Millis, gets_through: bool) -> Option<Millis> {
        self.is_awaited = false;
        if !gets_through {
            self.is_awaited = true;
            let again = now + self.timeout;
            self.timeout = (2 * self.timeout).min(LAST_TIMEOUT);
            return Some(again);
        }
        self.timeout = FIRST_TIMEOUT;
        while let Some((_, bytes)) = self.flying.pop_front_if(|(at, _)| *at <= now) {
            self.flying_len -= bytes.len();
            self.arrived_len += bytes.len();
            self.total_arrived += bytes.len() as u64;
            self.arrived.push_back(bytes);
        }
        if self.flying.is_empty() && matches!(self.end, End::Flying(at) if at <= now) {
            self.end = End::Arrived;
        }
        self.await_first(now)
    }

    /// Up to `most` bytes of what has arrived.
    pub(crate) fn read(&mut self, most: usize) -> Option<Bytes> {
        let first = self.arrived.front_mut()?;
        let piece = first.split_to(first.len().min(most));
        if first.is_empty() {
            self.arrived.pop_front();
        }
        self.arrived_len -= piece.len();
        Some(piece)
    }
}
