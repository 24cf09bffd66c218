//! The market's side: decoding and applying a minute of real messages, and writing a snapshot.

use divan::counter::{BytesCount, ItemsCount};
use divan::{Bencher, black_box};
use tickcast::market::{MarketState, SnapshotWriter};
use tickcast::source::Decoder;

static CAPTURE: &[u8] = include_bytes!("../data/binance-20240808-1m.log.zst");

fn main() {
    divan::main();
}

/// The capture's messages, without their receive times.
fn messages() -> Vec<Vec<u8>> {
    let text = zstd::decode_all(CAPTURE).expect("a whole capture");
    let lines = text.split(|byte| *byte == b'\n').filter_map(|line| line.split_at_checked(20));
    lines.map(|(_, message)| message.to_vec()).collect()
}

#[divan::bench(sample_count = 20)]
fn decode_and_apply(bencher: Bencher<'_, '_>) {
    let messages = messages();
    let bytes: usize = messages.iter().map(Vec::len).sum();
    bencher
        .counter(BytesCount::new(bytes))
        .counter(ItemsCount::new(messages.len()))
        .with_inputs(|| messages.clone())
        .bench_local_values(|mut messages| {
            let (mut decoder, mut state) = (Decoder::default(), MarketState::default());
            for message in &mut messages {
                let update = decoder.decode(message).expect("understood");
                state.apply(&update).expect("few symbols");
            }
            (state, messages)
        });
}

/// Serialising and framing are measured together by publishing to nobody.
#[divan::bench(args = [4, 30, 500])]
fn snapshot(bencher: Bencher<'_, '_>, symbols: usize) {
    let (mut decoder, mut state) = (Decoder::default(), MarketState::default());
    for n in 0..symbols {
        for message in [
            format!(r#"{{"e":"trade","T":1723161255342,"s":"S{n:03}","p":"61837.63000000","q":"0.02"}}"#),
            format!(r#"{{"u":1,"s":"S{n:03}","b":"61837.62","B":"1.5","a":"61837.63","A":"0.3"}}"#),
        ] {
            let mut message = message.into_bytes();
            let update = decoder.decode(&mut message).expect("understood");
            state.apply(&update).expect("few symbols");
        }
    }
    let mut writer = SnapshotWriter::default();
    bencher.bench_local(|| writer.write(black_box(&state), 1_763_870_000_123_456));
}
