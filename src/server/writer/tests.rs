//! A writer and its clients on connections that take what they like, in one thread, so that a seed
//! says what happens. Nobody may be left asleep, and no frame uncounted.

use bytes::Bytes;
use fastrand::Rng;

use super::*;
use crate::Config;
use crate::fanout::{Channel, HubConfig, Message};
use crate::server::Shutdown;
use crate::server::fake::{Fake, client_frame, take_frame, ticket};
use crate::server::seat::Seats;

/// Yields after which a writer that has something to do has done it.
const ENOUGH: usize = 5_000;

struct Client {
    io: Fake,
    channel: usize,
    rest: Vec<u8>,
    /// The last message; the first is the one from before the join, or the next.
    last: Option<u64>,
    frames: u64,
    /// Pings it sent that were not answered.
    unanswered: u32,
    is_told: bool,
    /// Its connection failed, or the peer ended it.
    is_gone: bool,
}

impl Client {
    fn look(&mut self) {
        let mut bytes = std::mem::take(&mut self.io.wire().written);
        if self.is_gone {
            // What it has taken is sent, whether or not it went out.
            bytes.extend(self.io.wire().held.drain(..));
        }
        assert!(bytes.is_empty() || !self.is_told, "nothing follows a Close");
        self.rest.extend(bytes);
        while let Some((opcode, payload)) = take_frame(&mut self.rest) {
            match opcode {
                1 => {
                    let number = std::str::from_utf8(&payload).ok().and_then(|text| text.trim_end().parse().ok());
                    assert!(number > self.last, "{number:?} after {:?}", self.last);
                    (self.last, self.frames) = (number, self.frames + 1);
                }
                8 => self.is_told = true,
                10 => self.unanswered -= 1,
                opcode => panic!("opcode {opcode}"),
            }
        }
    }
}

struct Bench {
    rng: Rng,
    hub: Hub,
    channels: Vec<Channel>,
    seats: [Arc<Seats>; 1],
    entrance: Arc<Entrance<Fake>>,
    clients: Vec<Client>,
    next_seed: u64,
}

impl Bench {
    async fn step(&mut self) {
        let channel = self.rng.usize(..self.channels.len());
        match self.rng.u32(..1_000) {
            0..200 => self.publish(channel, 1),
            200..210 => {
                let burst = self.rng.usize(..120);
                self.publish(channel, burst);
            }
            210..300 => self.connect(channel).await,
            300..800 => {
                let most = [1, 500, 20_000][self.rng.usize(..3)];
                let room = self.rng.usize(..=most);
                self.somebody(|client| client.io.open(room));
            }
            800..850 => self.somebody(|client| {
                client.unanswered += 1;
                client.io.say(&client_frame(9, b"ping"));
            }),
            850..870 => self.somebody(|client| {
                client.is_gone = true;
                client.io.fail();
            }),
            870..900 => self.somebody(|client| {
                client.is_gone = true;
                client.io.end();
            }),
            900..920 => self.somebody(|client| {
                client.is_gone = true;
                client.io.say(&client_frame(8, &[]));
            }),
            _ => {}
        }
        for _ in 0..self.rng.usize(..3) {
            tokio::task::yield_now().await;
        }
    }

    fn publish(&mut self, channel: usize, messages: usize) {
        let channel = &self.channels[channel];
        for _ in 0..messages {
            let text = format!("{}{}", channel.seq() + 1, " ".repeat(self.rng.usize(..300)));
            channel.publish(Message::text(text)).expect("alone");
        }
    }

    async fn connect(&mut self, channel: usize) {
        let (seat, membership) = Seats::take(&self.seats, &self.channels[channel]).await.expect("room");
        if self.rng.u32(..10) == 0 {
            return;
        }
        self.next_seed += 1;
        let io = Fake::any(self.next_seed);
        if self.rng.bool() {
            io.open(usize::MAX);
        }
        let arrival =
            Arrival { io: io.clone(), received: Bytes::new(), seat, membership, ticket: ticket(), expires: None };
        self.entrance.admit(arrival);
        let (rest, last) = Default::default();
        self.clients.push(Client { io, channel, rest, last, frames: 0, unanswered: 0, is_told: false, is_gone: false });
    }

    fn somebody(&mut self, mut act: impl FnMut(&mut Client)) {
        if !self.clients.is_empty() {
            let index = self.rng.usize(..self.clients.len());
            act(&mut self.clients[index]);
        }
    }

    /// All sockets take everything.
    async fn settle(&mut self) {
        self.clients.iter().for_each(|client| client.io.open(usize::MAX));
        for _ in 0..ENOUGH {
            tokio::task::yield_now().await;
        }
        self.clients.iter_mut().for_each(Client::look);
    }

    fn check_that_nobody_sleeps(&self) {
        for client in self.clients.iter().filter(|client| !client.is_gone) {
            let newest = Some(self.channels[client.channel].seq()).filter(|seq| *seq > 0);
            assert_eq!((client.last, client.rest.len(), client.unanswered), (newest, 0, 0));
        }
        let frames: u64 = self.clients.iter().map(|client| client.frames).sum();
        let counted = |count: fn(&Channel) -> u64| self.channels.iter().map(count).sum::<u64>();
        let given_up = counted(|channel| channel.counters().dropped.get() + channel.counters().discarded.get());
        assert_eq!(self.hub.metrics().sent().0, frames);
        assert_eq!(counted(|channel| channel.counters().pushed.get()), frames + given_up, "nothing is queued");
    }
}

async fn run(seed: u64) {
    let mut rng = Rng::with_seed(seed);
    let mut config = Config::default();
    config.limits.messages_per_second = 0;
    config.ws.queue_size = [1, 2, 8, 50, 100][rng.usize(..5)];
    let hub = Hub::new(HubConfig { queue_size: config.ws.queue_size, ..HubConfig::default() });
    let channels = ["a", "b"].map(|name| hub.channel(name).expect("a name")).into();
    let shard = hub.add_shard();
    let seats = [Arc::new(Seats::new(Arc::clone(&shard)))];
    let entrance = Arc::new(Entrance::new(shard));
    let (phase, seen) = watch::channel(Phase::Serving);
    let writer = tokio::spawn(Writer::new(hub.clone(), Arc::clone(&entrance), &config, seen).run());
    let mut bench = Bench { rng, hub, channels, seats, entrance, clients: Vec::new(), next_seed: seed << 32 };
    for _ in 0..3 {
        for _ in 0..300 {
            bench.step().await;
        }
        bench.settle().await;
        bench.check_that_nobody_sleeps();
        let here = bench.clients.iter().filter(|client| !client.is_gone).count();
        assert_eq!(bench.channels.iter().map(Channel::subscribers).sum::<usize>(), here, "all ends are noticed");
    }
    for channel in 0..2 {
        bench.publish(channel, 5);
    }
    phase.send_replace(Phase::Closing(Farewell {
        how: Shutdown::GoingAway,
        until: Instant::now() + std::time::Duration::from_secs(20),
    }));
    bench.settle().await;
    bench.check_that_nobody_sleeps();
    assert!(bench.clients.iter().all(|client| client.is_told || client.is_gone), "each is told why it ends");
    bench.clients.iter().for_each(|client| client.io.end());
    writer.await.expect("no panic");
    assert!(bench.channels.iter().all(|channel| channel.subscribers() == 0));
}

#[test]
fn nobody_is_left_asleep_and_no_frame_uncounted() {
    for seed in 0..60 {
        let ran = std::panic::catch_unwind(|| {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
            runtime.block_on(run(seed));
        });
        assert!(ran.is_ok(), "the seed was {seed}");
    }
}

/// A server that is dropped as it begins to drain aborts its writers, which they notice when they yield.
#[test]
fn a_writer_whose_server_is_gone_keeps_no_thread() {
    let (tell, told) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
        runtime.block_on(async {
            let hub = Hub::new(HubConfig::default());
            let entrance = Arc::new(Entrance::<Fake>::new(hub.add_shard()));
            let (phase, seen) = watch::channel(Phase::Serving);
            let writer = tokio::spawn(Writer::new(hub, entrance, &Config::default(), seen).run());
            tokio::task::yield_now().await;
            phase.send_replace(Phase::Draining(Farewell { how: Shutdown::GoingAway, until: Instant::now() }));
            drop(phase);
            tokio::task::yield_now().await;
            writer.abort();
            // The receiver waits, or the test has failed.
            let _ = tell.send(writer.await.is_err_and(|error| error.is_cancelled()));
        });
    });
    assert_eq!(told.recv_timeout(std::time::Duration::from_secs(20)), Ok(true));
}
