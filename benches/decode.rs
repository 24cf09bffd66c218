//! A minute of real messages, decoded: simd-json as it is used, and serde_json into the same shape.
//! Both give the same updates, which is checked before anything is measured.
//!
//! ```sh
//! cargo bench --bench decode
//! ```

#[path = "support/mod.rs"]
mod support;

use divan::counter::{BytesCount, ItemsCount};
use divan::{Bencher, black_box};
use rust_decimal::Decimal;
use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, SeqAccess, Visitor};
use support::capture::messages;
use tickcast::market::{Change, MarketState, Update};
use tickcast::source::Decoder;

fn main() {
    divan::main();
}

/// Measures `each` of the capture's messages; parsing in place needs a fresh copy every time.
fn measure(bencher: Bencher<'_, '_>, mut each: impl FnMut(&mut [u8])) {
    let messages = messages();
    let bytes: usize = messages.iter().map(Vec::len).sum();
    bencher
        .counter(BytesCount::new(bytes))
        .counter(ItemsCount::new(messages.len()))
        .with_inputs(|| messages.clone())
        .bench_local_refs(|messages| messages.iter_mut().for_each(|message| each(message)));
}

#[divan::bench(sample_count = 50)]
fn simd_json_tape(bencher: Bencher<'_, '_>) {
    let mut decoder = Decoder::default();
    measure(bencher, |message| {
        black_box(decoder.decode(message).expect("understood"));
    });
}

#[divan::bench(sample_count = 50)]
fn serde_json_struct(bencher: Bencher<'_, '_>) {
    let mut decoder = Decoder::default();
    for mut message in messages() {
        let expected = message.clone();
        assert_eq!(
            decode(&expected),
            decoder.decode(&mut message).ok().map(|update| Update { id: None, ..update }),
            "{}",
            String::from_utf8_lossy(&expected)
        );
    }
    measure(bencher, |message| {
        black_box(decode(message).expect("understood"));
    });
}

#[divan::bench(sample_count = 50)]
fn simd_json_tape_and_apply(bencher: Bencher<'_, '_>) {
    let (mut decoder, mut state) = (Decoder::default(), MarketState::default());
    measure(bencher, |message| {
        let update = decoder.decode(message).expect("understood");
        state.apply(&update).expect("few symbols");
    });
}

#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(borrow)]
    data: Fields<'a>,
}

/// Every field that one of the kinds needs.
#[derive(Deserialize)]
struct Fields<'a> {
    e: Option<&'a str>,
    s: &'a str,
    #[serde(rename = "T")]
    transaction: Option<u64>,
    #[serde(rename = "E")]
    event: Option<u64>,
    #[serde(borrow)]
    b: Option<Side<'a>>,
    #[serde(rename = "B")]
    bid_size: Option<&'a str>,
    #[serde(borrow)]
    a: Option<Side<'a>>,
    #[serde(rename = "A")]
    ask_size: Option<&'a str>,
    p: Option<&'a str>,
    q: Option<&'a str>,
    f: Option<u64>,
    l: Option<u64>,
}

/// A price in a quote, levels in a depth update.
enum Side<'a> {
    Price(&'a str),
    Levels,
}

impl<'de: 'a, 'a> Deserialize<'de> for Side<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;
        impl<'de> Visitor<'de> for Either {
            type Value = Side<'de>;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a price or levels")
            }

            fn visit_borrowed_str<E>(self, price: &'de str) -> Result<Self::Value, E> {
                Ok(Side::Price(price))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut levels: A) -> Result<Self::Value, A::Error> {
                while levels.next_element::<IgnoredAny>()?.is_some() {}
                Ok(Side::Levels)
            }
        }
        deserializer.deserialize_any(Either)
    }
}

fn decode(message: &[u8]) -> Option<Update<'_>> {
    let Envelope { data } = serde_json::from_slice(message).ok()?;
    let change = match data.e {
        Some("bookTicker") | None => Change::Quote {
            bid: price(data.b.as_ref())?,
            bid_size: decimal(data.bid_size)?,
            ask: price(data.a.as_ref())?,
            ask_size: decimal(data.ask_size)?,
        },
        Some(kind @ ("trade" | "aggTrade")) => {
            let aggregated = kind == "aggTrade";
            let counted = data.l.zip(data.f).filter(|_| aggregated).and_then(|(last, first)| last.checked_sub(first));
            let trades = counted.map_or(1, |n| n + 1);
            Change::Trade { price: decimal(data.p)?, quantity: decimal(data.q)?, trades, aggregated }
        }
        Some("depthUpdate") if matches!((&data.b, &data.a), (Some(Side::Levels), Some(Side::Levels))) => Change::Depth,
        Some(_) => return None,
    };
    let millis = data.transaction.or(data.event);
    Some(Update { symbol: data.s, ts: millis.and_then(|millis| millis.checked_mul(1_000)), id: None, change })
}

fn price(side: Option<&Side<'_>>) -> Option<Decimal> {
    match side? {
        Side::Price(price) => decimal(Some(price)),
        Side::Levels => None,
    }
}

fn decimal(text: Option<&str>) -> Option<Decimal> {
    Decimal::from_str_exact(text?).ok()
}
