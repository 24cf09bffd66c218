//! What a test of the feed stands on: a server of its own, and messages of the real capture.

use std::io::Read;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::Value;
use tickcast::config::Config;
use tickcast::market::{MarketState, Publisher, SnapshotWriter};
use tickcast::server::{MARKET, Shutdown};
use tickcast::source::{Binance, Decoder, Feed, SourceKind, Timing};
use tickcast::{Hub, Server};
use tokio::runtime::Runtime;
use tokio::sync::oneshot;

use crate::exchange::Exchange;
use crate::support::client::Client;
use crate::support::http::{Answer, request};
use crate::support::{PATIENCE, wait_until};

/// A server with a live feed, in this process.
pub(crate) struct Served {
    pub(crate) address: SocketAddr,
    _stop: oneshot::Sender<Shutdown>,
    _runtime: Runtime,
}

/// Times for tests: retries come quickly, and nothing is given up by itself.
pub(crate) fn timing() -> Timing {
    Timing {
        step: Duration::from_secs(10),
        retry: Duration::from_millis(5),
        retry_cap: Duration::from_millis(50),
        overlap: Duration::from_millis(50),
        ..Timing::new(Duration::from_secs(60))
    }
}

impl Served {
    pub(crate) fn start(exchange: &Exchange, timing: Timing) -> Self {
        Self::with_ca(exchange, timing, None)
    }

    pub(crate) fn with_ca(exchange: &Exchange, timing: Timing, ca: Option<&str>) -> Self {
        let mut config = Config { listen: SocketAddr::from(([127, 0, 0, 1], 0)), workers: 2, ..Config::default() };
        config.source = exchange.source().parse().expect("a source");
        config.ws.broadcast_interval = Duration::from_millis(10);
        config.binance.ca = ca.map(Into::into);
        let SourceKind::Binance(url) = &config.source else { panic!("{}", config.source) };
        let feed = Feed::Binance(Box::new(Binance::with_timing(url, &config.binance, timing).expect("roots")));
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
        let runtime = runtime.expect("a runtime");
        let _inside = runtime.enter();
        let hub = Hub::new(config.hub());
        let interval = config.ws.broadcast_interval;
        let server = Server::bind(config, hub.clone()).expect("a port");
        let address = server.local_addr().expect("bound");
        let publisher = Publisher::new(&hub, hub.channel(MARKET).expect("a name"), interval);
        runtime.spawn(publisher.run(feed));
        let (stop, stopped) = oneshot::channel();
        runtime.spawn(server.run(async { stopped.await.unwrap_or(Shutdown::GoingAway) }));
        drop(_inside);
        Self { address, _stop: stop, _runtime: runtime }
    }

    pub(crate) fn get(&self, path: &str) -> Answer {
        request(self.address, "GET", path, &[], b"")
    }

    pub(crate) fn stats(&self) -> Value {
        self.get("/stats").json()
    }

    /// Messages applied.
    pub(crate) fn applied(&self) -> u64 {
        sum(&self.stats()["source_messages"])
    }

    pub(crate) fn wait_for_applied(&self, messages: usize) {
        wait_until("messages applied", || self.applied() >= messages as u64);
        assert_eq!(self.applied(), messages as u64);
    }

    /// Connections after the first, by reason.
    pub(crate) fn reconnects(&self, reason: &str) -> u64 {
        self.stats()["source_reconnects"][reason].as_u64().unwrap_or(0)
    }

    pub(crate) fn symbols(&self) -> Value {
        self.get("/snapshot/market").json()["symbols"].clone()
    }

    /// Waits until the snapshot is what it should be. With a client it is taken every 10 ms.
    pub(crate) fn wait_for_symbols(&self, symbols: &Value) {
        let start = Instant::now();
        while self.symbols() != *symbols && start.elapsed() < PATIENCE {
            std::thread::sleep(Duration::from_millis(5));
        }
        assert_eq!(self.symbols(), *symbols);
    }

    /// A sample of `/metrics`.
    pub(crate) fn sample(&self, name: &str) -> f64 {
        let text = self.get("/metrics").text();
        let sample = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok());
        sample.unwrap_or_else(|| panic!("no {name} in {text}"))
    }
}

pub(crate) fn sum(counts: &Value) -> u64 {
    counts.as_object().expect("counts").values().filter_map(Value::as_u64).sum()
}

/// The first messages of the bundled capture, as the exchange sent them.
pub(crate) fn capture(count: usize) -> &'static [String] {
    static MESSAGES: OnceLock<Vec<String>> = OnceLock::new();
    let all = MESSAGES.get_or_init(|| {
        let file = std::fs::File::open(concat!(env!("CARGO_MANIFEST_DIR"), "/data/binance-20240808-1m.log.zst"));
        let mut text = String::new();
        zstd::Decoder::new(file.expect("bundled")).expect("zstd").read_to_string(&mut text).expect("UTF-8");
        text.lines().map(|line| line.split_once(' ').expect("a receive time").1.to_owned()).collect()
    });
    &all[..count]
}

/// The symbols after each of these messages was applied once.
pub(crate) fn expected(messages: &[String]) -> Value {
    let (mut state, mut decoder) = (MarketState::default(), Decoder::default());
    for message in messages {
        let mut bytes = message.clone().into_bytes();
        state.apply(&decoder.decode(&mut bytes).expect("a message")).expect("few symbols");
    }
    let hub = Hub::default();
    let channel = hub.channel("expected").expect("a name");
    channel.publish(SnapshotWriter::default().write(&state, 1)).expect("alone");
    let frame = hub.subscribe(&channel).try_recv().expect("published");
    serde_json::from_slice::<Value>(&frame.payload()).expect("JSON")["symbols"].take()
}

/// A client that is there all the time and counts on every number.
pub(crate) struct Witness {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<u64>,
}

impl Witness {
    pub(crate) fn new(address: SocketAddr) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let mut client = Client::connect(address, MARKET);
        let thread = std::thread::spawn(move || {
            let (mut last, mut received) = (None, 0);
            while !stopped.load(Ordering::Relaxed) {
                let snapshot = client.json();
                let seq = snapshot["seq"].as_u64().expect("a number");
                assert!(last.is_none_or(|last| seq == last + 1), "{seq} after {last:?}");
                (last, received) = (Some(seq), received + 1);
            }
            received
        });
        Self { stop, thread }
    }

    /// How many snapshots it has had, without a hole.
    pub(crate) fn end(self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().expect("no hole")
    }
}
