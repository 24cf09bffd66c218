//! The market's state, from its updates to the bytes that are sent: bringing every symbol up to
//! date, serialising the snapshot, and serialising and framing it.
//!
//! ```sh
//! cargo bench --bench snapshot
//! ```

use divan::counter::ItemsCount;
use divan::{Bencher, black_box};
use tickcast::fanout::Hub;
use tickcast::market::{Change, MarketState, SnapshotWriter, Update};

const SYMBOLS: [usize; 4] = [4, 30, 300, 3_000];
const TS: u64 = 1_763_870_000_123_456;

fn main() {
    divan::main();
}

/// Names of `symbols` instruments.
fn names(symbols: usize) -> Vec<String> {
    (0..symbols).map(|n| format!("S{n:04}USDT")).collect()
}

/// A quote and a trade for each.
fn apply_all(state: &mut MarketState, names: &[String]) {
    let decimal = |text: &str| text.parse().expect("a decimal");
    let quote = Change::Quote {
        bid: decimal("61837.62000000"),
        bid_size: decimal("1.50000000"),
        ask: decimal("61837.63000000"),
        ask_size: decimal("0.30000000"),
    };
    let (price, quantity) = (decimal("61837.63000000"), decimal("0.02000000"));
    let trade = Change::Trade { price, quantity, trades: 1, aggregated: false };
    for symbol in names {
        for change in [quote, trade] {
            state.apply(&Update { symbol, ts: Some(TS), id: None, change }).expect("few symbols");
        }
    }
}

fn market(symbols: usize) -> MarketState {
    let mut state = MarketState::default();
    apply_all(&mut state, &names(symbols));
    state
}

#[divan::bench(args = SYMBOLS)]
fn build(bencher: Bencher<'_, '_>, symbols: usize) {
    let (mut state, names) = (market(symbols), names(symbols));
    bencher.counter(ItemsCount::new(2 * symbols)).bench_local(|| apply_all(black_box(&mut state), &names));
}

#[divan::bench(args = SYMBOLS)]
fn serialise(bencher: Bencher<'_, '_>, symbols: usize) {
    let (state, mut writer) = (market(symbols), SnapshotWriter::default());
    bencher.bench_local(|| writer.write(black_box(&state), TS));
}

#[divan::bench(args = SYMBOLS)]
fn serialise_and_frame(bencher: Bencher<'_, '_>, symbols: usize) {
    let (state, mut writer) = (market(symbols), SnapshotWriter::default());
    let channel = Hub::default().channel("market").expect("a name");
    bencher.bench_local(|| channel.publish(writer.write(black_box(&state), TS)).expect("alone"));
}
