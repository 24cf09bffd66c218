//! A synthetic market: the same seed gives the same stream of messages.

use std::fmt::Write;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use super::Next;
use super::lines::Lines;
use crate::config::SimConfig;

/// Where the synthetic clock begins, in milliseconds: 2024-01-01T00:00:00Z.
const EPOCH_MS: u64 = 1_704_067_200_000;
/// Messages handed over at a time.
const MAX_BATCH: usize = 256;

/// Symbols whose prices walk at random, one tick at a time; quotes and trades in the exchange's
/// shapes.
#[derive(Debug)]
pub struct Sim {
    random: fastrand::Rng,
    rate: f64,
    /// Bid prices in cents.
    bids: Vec<u64>,
    made: u64,
    start: Option<Instant>,
    message: String,
}

impl Sim {
    /// A market from a seed.
    pub fn new(config: &SimConfig) -> Self {
        let mut random = fastrand::Rng::with_seed(config.seed);
        let bids = (0..config.symbols).map(|_| random.u64(100..10_000_000)).collect();
        Self { random, rate: config.rate, bids, made: 0, start: None, message: String::new() }
    }

    /// The messages that are due at the configured rate.
    ///
    /// # Cancel safety
    /// Cancel safe: messages are made only when they are returned.
    pub async fn next(&mut self, due: &mut Lines) -> Next {
        let start = *self.start.get_or_insert_with(Instant::now);
        let at = |n: u64, rate: f64| start + Duration::from_secs_f64(n as f64 / rate);
        sleep_until(at(self.made, self.rate)).await;
        due.clear();
        let now = Instant::now();
        while due.len() < MAX_BATCH && at(self.made, self.rate) <= now {
            due.push(self.make().as_bytes());
        }
        Next::Lines
    }

    /// The next message of the stream.
    fn make(&mut self) -> &str {
        let ms = EPOCH_MS + (self.made as f64 * 1_000.0 / self.rate) as u64;
        let n = self.random.usize(..self.bids.len());
        let bid = (self.bids[n] + 1).saturating_sub(self.random.u64(..3)).max(1);
        self.bids[n] = bid;
        let mut size = || self.random.u64(1..500_000);
        let (a, b) = (size(), size());
        let trade = self.random.u8(..10) < 3;
        self.made += 1;
        self.message.clear();
        let stream = &mut self.message;
        // Writing to a String cannot fail.
        let _ = if trade {
            let price = Cents(bid + self.random.u64(..2));
            write!(
                stream,
                r#"{{"e":"trade","E":{ms},"s":"SIM{n:04}USD","t":{},"p":"{price}","q":"{}","T":{ms},"m":{}}}"#,
                self.made,
                Cents(a),
                self.random.bool(),
            )
        } else {
            write!(
                stream,
                r#"{{"e":"bookTicker","u":{},"s":"SIM{n:04}USD","b":"{}","B":"{}","a":"{}","A":"{}","T":{ms},"E":{ms}}}"#,
                self.made,
                Cents(bid),
                Cents(a),
                Cents(bid + 1),
                Cents(b),
            )
        };
        &self.message
    }
}

/// Hundredths, printed as a decimal.
struct Cents(u64);

impl std::fmt::Display for Cents {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{:02}", self.0 / 100, self.0 % 100)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::Decoder;

    fn stream(seed: u64) -> Vec<String> {
        let mut sim = Sim::new(&SimConfig { symbols: 3, rate: 50.0, seed });
        (0..1_000).map(|_| sim.make().to_owned()).collect()
    }

    #[test]
    fn the_same_seed_gives_the_same_stream() {
        assert_eq!(stream(7), stream(7));
        assert_ne!(stream(7), stream(8));
    }

    #[test]
    fn every_message_is_understood() {
        let mut decoder = Decoder::default();
        for message in stream(1) {
            let decoded = decoder.decode(&mut message.clone().into_bytes()).map(|update| update.change.kind());
            assert!(matches!(decoded, Ok("trade" | "bookTicker")), "{message}: {decoded:?}");
        }
    }
}
