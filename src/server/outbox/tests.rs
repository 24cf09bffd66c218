//! Random operations, and byte for byte what must come out.

use std::sync::Arc;
use std::task::Waker;

use fastrand::Rng;

use super::*;
use crate::fanout::Message;
use crate::metrics::ChannelCounters;
use crate::server::fake::Fake;

/// What an outbox must be.
#[derive(Default)]
struct Model {
    /// A frame of which some bytes are sent: what is left, and whether it is data.
    begun: Option<(VecDeque<u8>, bool)>,
    control: VecDeque<Vec<u8>>,
    data: VecDeque<Vec<u8>>,
    close_when_drained: bool,
    is_closed: bool,
    sent: u64,
    dropped: u64,
    discarded: u64,
}

impl Model {
    fn push(&mut self, frame: &Frame, capacity: usize) -> bool {
        if self.is_closed {
            self.discarded += 1;
            return false;
        }
        let is_full = self.data.len() == capacity;
        if is_full {
            self.data.pop_front();
            self.dropped += 1;
        }
        self.data.push_back(frame.wire().to_vec());
        is_full
    }

    fn control(&mut self, opcode: u8, payload: &[u8]) {
        if !self.is_closed {
            self.control.push_back([&[0x80 | opcode, payload.len() as u8], payload].concat());
        }
    }

    fn close(&mut self) {
        self.control(8, &[&1001_u16.to_be_bytes()[..], b"server shutting down"].concat());
        self.is_closed = true;
        self.discarded += self.data.len() as u64;
        self.data.clear();
    }

    fn is_drained(&self) -> bool {
        self.data.is_empty() && !matches!(self.begun, Some((_, true)))
    }

    /// These bytes were sent.
    fn take(&mut self, bytes: &[u8]) {
        for byte in bytes {
            if self.begun.is_none() && self.control.is_empty() && self.data.is_empty() {
                self.close_if_drained();
            }
            let mut next = self.begun.take().unwrap_or_else(|| {
                let control = self.control.pop_front().map(|frame| (frame.into(), false));
                control.or_else(|| Some((self.data.pop_front()?.into(), true))).expect("more than there is to send")
            });
            assert_eq!(next.0.pop_front(), Some(*byte));
            if next.0.is_empty() {
                self.sent += u64::from(next.1);
            } else {
                self.begun = Some(next);
            }
        }
    }

    fn close_if_drained(&mut self) {
        if self.close_when_drained && !self.is_closed && self.is_drained() {
            self.close();
        }
    }

    fn queued(&self) -> u64 {
        self.data.len() as u64 + u64::from(matches!(self.begun, Some((_, true))))
    }
}

struct Bench {
    rng: Rng,
    capacity: usize,
    io: Fake,
    outbox: Outbox,
    model: Model,
    channel: Arc<ChannelCounters>,
    shard: ShardCounters,
    pushed: u64,
    bytes: u64,
}

impl Bench {
    fn new(seed: u64) -> Self {
        let mut rng = Rng::with_seed(seed);
        let capacity = [1, 2, 5, 50, 100][rng.usize(..5)];
        let (outbox, model, channel, shard) = Default::default();
        Self { rng, capacity, io: Fake::new(seed), outbox, model, channel, shard, pushed: 0, bytes: 0 }
    }

    fn step(&mut self) {
        match self.rng.u32(..1_000) {
            0..600 => self.push(),
            600..620 => (0..self.rng.usize(..2 * self.capacity)).for_each(|_| self.push()),
            620..680 => {
                let payload = vec![b'p'; self.rng.usize(..100)];
                self.outbox.pong(&payload);
                self.model.control(10, &payload);
            }
            680..720 if !self.outbox.is_congested() => {
                self.outbox.ping(self.pushed as u32);
                self.model.control(9, &(self.pushed as u32).to_be_bytes());
            }
            720..990 => {
                let most = [1, 100, 5_000, 100_000][self.rng.usize(..4)];
                self.io.open(self.rng.usize(..=most));
                self.flush();
            }
            990..992 => {
                self.outbox.close(Disconnect::Shutdown);
                if !self.model.is_closed {
                    self.model.close();
                }
            }
            992..995 => {
                self.outbox.close_when_drained(Disconnect::Shutdown);
                self.model.close_when_drained = true;
            }
            _ => {}
        }
        self.check();
    }

    fn push(&mut self) {
        self.pushed += 1;
        let message = Message::binary(vec![self.pushed as u8; self.rng.usize(..400)]);
        let frame = Frame::new(message, self.pushed, Instant::now(), Arc::clone(&self.channel));
        let gave_way = self.outbox.push(frame.clone(), self.capacity);
        assert_eq!(gave_way, self.model.push(&frame, self.capacity));
    }

    fn flush(&mut self) {
        let Self { io, outbox, model, shard, .. } = self;
        let cx = &mut Context::from_waker(Waker::noop());
        let ledger = Ledger { counters: shard, since: Instant::now() };
        if let Poll::Ready(flushed) = outbox.poll_flush(cx, Pin::new(&mut *io), ledger) {
            flushed.expect("it does not fail");
        }
        let bytes = std::mem::take(&mut io.wire().written);
        model.take(&bytes);
        model.close_if_drained();
        self.bytes += bytes.len() as u64;
    }

    fn check(&self) {
        let Self { model, channel, shard, .. } = self;
        let counted = [&channel.dropped, &channel.discarded, &shard.frames_sent, &shard.bytes_sent].map(|n| n.get());
        assert_eq!(counted, [model.dropped, model.discarded, model.sent, self.bytes]);
        assert_eq!(self.pushed, model.sent + model.dropped + model.discarded + model.queued());
        assert_eq!(
            self.outbox.closed().is_some(),
            model.is_closed && model.begun.is_none() && model.control.is_empty()
        );
    }

    fn end(mut self) {
        if self.rng.bool() {
            self.io.open(usize::MAX);
            while self.model.queued() > 0 {
                self.flush();
            }
            self.check();
        }
        self.model.discarded += self.model.queued();
        drop(self.outbox);
        let counted = [&self.channel.dropped, &self.channel.discarded, &self.shard.frames_sent].map(|n| n.get());
        assert_eq!(counted, [self.model.dropped, self.model.discarded, self.model.sent]);
        assert_eq!(counted.iter().sum::<u64>(), self.pushed);
    }
}

#[test]
fn what_comes_out_is_whole_in_order_and_the_newest() {
    for seed in 0..300 {
        let run = std::panic::catch_unwind(|| {
            let mut bench = Bench::new(seed);
            (0..300).for_each(|_| bench.step());
            bench.end();
        });
        assert!(run.is_ok(), "the seed was {seed}");
    }
}
