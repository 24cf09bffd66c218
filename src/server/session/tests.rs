//! Sessions on a connection that takes what it likes. They are visited only when they are marked, so
//! whoever is not woken is found asleep with something to send.

use std::sync::Arc;

use fastrand::Rng;

use super::*;
use crate::fanout::{Channel, Hub, Message, Shard};
use crate::metrics::ChannelCounters;
use crate::server::fake::{Fake, client_frame, take_frame, ticket};
use crate::server::seat::Seats;

const PING: u8 = 9;
const CLOSE: u8 = 8;

struct Bench {
    rng: Rng,
    queue_size: usize,
    io: Fake,
    shard: Arc<Shard>,
    session: Option<Session<Fake>>,
    scratch: Vec<u8>,
    channel: Arc<ChannelCounters>,
    offered: u32,
    pinged: u32,
    received: Received,
}

/// What has come out, in whole frames.
#[derive(Default)]
struct Received {
    rest: Vec<u8>,
    frames: u64,
    last: u32,
    ponged: u32,
    is_closed: bool,
}

impl Received {
    fn take(&mut self, bytes: &[u8]) {
        assert!(bytes.is_empty() || !self.is_closed, "nothing follows a Close");
        self.rest.extend_from_slice(bytes);
        while let Some((opcode, payload)) = take_frame(&mut self.rest) {
            let number = || u32::from_be_bytes(payload[..4].try_into().expect("four bytes"));
            match opcode {
                2 => {
                    assert!(number() > self.last, "{} after {}", number(), self.last);
                    (self.last, self.frames) = (number(), self.frames + 1);
                }
                10 => {
                    assert_eq!(number(), self.ponged + 1, "answers come in order, none is dropped");
                    self.ponged = number();
                }
                PING => {}
                CLOSE => self.is_closed = true,
                other => panic!("opcode {other}"),
            }
        }
    }
}

fn bench(seed: u64, io: Fake) -> Bench {
    let mut rng = Rng::with_seed(seed);
    let hub = Hub::default();
    let channel: Channel = hub.channel("x").expect("a name");
    let shard = hub.add_shard();
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let seats = [Arc::new(Seats::new(Arc::clone(&shard)))];
    let (seat, _) = runtime.block_on(Seats::take(&seats, &channel)).expect("room");
    let session = Session::new(io.clone(), ticket(), seat, 1);
    let queue_size = [1, 2, 5, 50, 100][rng.usize(..5)];
    let (channel, received) = Default::default();
    let mut bench = Bench {
        rng,
        queue_size,
        io,
        shard,
        session: Some(session),
        scratch: vec![0; 1_024],
        channel,
        offered: 0,
        pinged: 0,
        received,
    };
    bench.visit();
    bench
}

impl Bench {
    fn serve(&mut self, serve: impl FnOnce(&mut Session<Fake>, &mut Desk<'_>) -> Visit) {
        let Some(session) = &mut self.session else { return };
        let mut desk = Desk {
            counters: self.shard.counters(),
            scratch: &mut self.scratch,
            bytes_read: &mut 0,
            queue_size: self.queue_size,
            allowance: Allowance::new(1 << 10, 0),
        };
        let visit = serve(session, &mut desk);
        self.received.take(&std::mem::take(&mut self.io.wire().written));
        if visit == Visit::Over {
            self.session.take().into_iter().for_each(Session::finish);
        }
    }

    fn visit(&mut self) {
        self.serve(|session, desk| session.visit(desk));
    }

    fn visit_if_marked(&mut self) {
        loop {
            let mut marked = Vec::new();
            self.shard.take_marked(&mut marked);
            if marked.is_empty() || self.session.is_none() {
                return;
            }
            self.visit();
        }
    }

    fn offer(&mut self, count: usize) {
        if self.session.is_none() {
            return;
        }
        let mut frame = || {
            self.offered += 1;
            let filling = vec![0; self.rng.usize(..300)];
            let message = Message::binary([&self.offered.to_be_bytes()[..], &filling].concat());
            Frame::new(message, self.offered.into(), Instant::now(), Arc::clone(&self.channel))
        };
        let frames: Vec<_> = (0..count).map(|_| frame()).collect();
        self.serve(|session, desk| session.offer(frames.iter(), 0, desk));
    }

    fn say_ping(&mut self) {
        self.pinged += 1;
        self.io.say(&client_frame(PING, &[&self.pinged.to_be_bytes()[..], &[0; 90]].concat()));
    }

    fn step(&mut self) {
        match self.rng.u32(..1_000) {
            0..400 => {
                let count = self.rng.usize(1..=self.queue_size);
                self.offer(count);
            }
            400..500 => self.say_ping(),
            // More than it may have answers waiting.
            500..505 => (0..100).for_each(|_| self.say_ping()),
            505..550 => {
                self.session.iter_mut().for_each(|session| _ = session.ping());
                self.visit();
            }
            550..950 => {
                let most = [1, 50, 2_000, 100_000][self.rng.usize(..4)];
                self.io.open(self.rng.usize(..=most));
            }
            950..951 => self.io.fail(),
            951..952 => self.io.end(),
            952..953 => self.io.say(&client_frame(CLOSE, &[])),
            953..954 => {
                self.session.iter_mut().for_each(|session| session.close(Disconnect::Heartbeat));
                self.visit();
            }
            954..955 => {
                self.session.iter_mut().for_each(|session| session.drain(Disconnect::Shutdown));
                self.visit();
            }
            _ => {}
        }
        if self.rng.bool() {
            self.visit_if_marked();
        }
    }

    fn end(mut self) {
        self.io.open(usize::MAX);
        self.visit_if_marked();
        let dropped = self.channel.dropped.get();
        if self.session.as_ref().is_some_and(|session| session.end.is_none()) {
            assert!(self.received.rest.is_empty(), "a frame is begun and the socket takes more");
            assert_eq!(self.received.last, self.offered, "the newest comes");
            assert_eq!(self.received.ponged, self.pinged);
            assert_eq!(self.received.frames + dropped, u64::from(self.offered));
        }
        self.session.take().into_iter().for_each(Session::finish);
        // What it has taken is sent, whether or not it went out.
        let held: Vec<u8> = self.io.wire().held.drain(..).collect();
        self.received.take(&held);
        let sent = self.shard.counters().frames_sent.get();
        assert_eq!(sent, self.received.frames);
        assert_eq!(sent + dropped + self.channel.discarded.get(), u64::from(self.offered), "each is counted once");
    }
}

#[test]
fn a_session_takes_what_its_connection_takes_and_counts_the_rest() {
    for seed in 0..300 {
        let run = std::panic::catch_unwind(|| {
            let mut bench = bench(seed, Fake::any(seed));
            (0..300).for_each(|_| bench.step());
            bench.end();
        });
        assert!(run.is_ok(), "the seed was {seed}");
    }
}

#[test]
fn who_could_not_be_answered_is_read_again_when_it_takes_answers() {
    for seed in 0..50 {
        let mut bench = bench(seed, Fake::new(seed));
        (0..100).for_each(|_| bench.say_ping());
        bench.visit_if_marked();
        assert!(!bench.io.wire().has_been_read(), "seed {seed}: it need not take answers");
        bench.io.open(usize::MAX);
        bench.visit_if_marked();
        assert_eq!(bench.received.ponged, 100, "seed {seed}");
    }
}

#[test]
fn what_a_connection_holds_back_goes_out_when_it_can() {
    for seed in 0..50 {
        let mut bench = bench(seed, Fake::holding(seed, 1_000));
        bench.offer(1);
        let session = bench.session.as_ref().expect("open");
        assert!(session.outbox.is_none(), "seed {seed}: all of it was taken");
        assert_eq!(bench.received.frames, 0);
        bench.io.open(1);
        bench.visit_if_marked();
        bench.io.open(usize::MAX);
        bench.visit_if_marked();
        assert_eq!(bench.received.last, 1, "seed {seed}");
    }
}

#[test]
fn a_farewell_that_is_not_taken_keeps_nobody() {
    for seed in 0..50 {
        let mut bench = bench(seed, Fake::holding(seed, 1_000));
        bench.offer(1);
        bench.session.iter_mut().for_each(|session| session.close(Disconnect::Heartbeat));
        bench.visit();
        assert!(bench.session.is_some() && !bench.io.wire().is_shut_down);
        // The peer closes as well, and the end waits for the farewell only until the socket takes it, or fails.
        bench.io.say(&client_frame(CLOSE, &[]));
        if bench.rng.bool() {
            bench.io.fail();
        }
        bench.io.open(usize::MAX);
        bench.visit_if_marked();
        bench.io.end();
        bench.visit_if_marked();
        assert!(bench.session.is_none(), "seed {seed}");
    }
}

#[test]
fn an_idle_client_is_small() {
    let size = size_of::<Session<crate::server::Stream>>();
    assert!(size <= 256, "{size} bytes");
}
