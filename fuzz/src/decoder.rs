//! One line of a source, decoded by the project and by serde_json: what the project takes is JSON, and says
//! the same to both; prices print as they came. Nothing panics or overflows the stack.

use std::fmt;

use rust_decimal::Decimal;
use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use tickcast::market::Change;
use tickcast::source::{Decoder, Reject};

/// How deep a message is nested to see that depth costs no stack.
const DEEP: usize = 20_000;
/// Messages nested so deep are no longer than that: it is about the depth.
const SHORT: usize = 64;

/// Decodes one input.
pub fn run(data: &[u8]) {
    let mut decoder = Decoder::default();
    let decoded = decode(&mut decoder, data);
    assert_eq!(decode(&mut decoder, data), decoded, "a decoder that has been used says the same");
    if let Ok(decoded) = &decoded {
        assert!(std::str::from_utf8(data).is_ok(), "not UTF-8, and decoded to {decoded:?}");
        let json = serde_json::from_slice::<IgnoredAny>(data);
        assert!(json.is_ok(), "not JSON: {json:?}, and decoded to {decoded:?}");
        // This one is recursive and gives up at a depth of 128.
        match serde_json::from_slice::<Json>(data) {
            Ok(json) => compare(&json, decoded),
            Err(error) => assert!(error.to_string().starts_with("recursion limit"), "not JSON: {error}"),
        }
    }
    if data.len() <= SHORT {
        for (open, close) in [("[", "]"), ("{\"data\":", "}")] {
            let nested = [open.repeat(DEEP).as_bytes(), data, close.repeat(DEEP).as_bytes()].concat();
            assert!(decode(&mut decoder, &nested).is_err(), "decoded, however deep");
        }
    }
}

/// An update that outlives its line.
#[derive(Debug, PartialEq)]
struct Decoded {
    symbol: String,
    ts: Option<u64>,
    change: Change,
}

fn decode(decoder: &mut Decoder, line: &[u8]) -> Result<Decoded, Reject> {
    let mut line = line.to_vec();
    let update = decoder.decode(&mut line)?;
    Ok(Decoded { symbol: update.symbol.to_owned(), ts: update.ts, change: update.change })
}

/// What was decoded stands in the message. Of a key that is there more than once the first counts.
fn compare(message: &Json, decoded: &Decoded) {
    let message = message.get("data").unwrap_or(message);
    assert_eq!(message.get("s"), Some(&Json::Text(decoded.symbol.clone())));
    assert!((1..=64).contains(&decoded.symbol.len()));
    // `-0`, which serde_json takes for a float and simd-json for a whole number.
    let is_odd = ["T", "E"].iter().any(|key| message.get(key) == Some(&Json::NegativeZero));
    let millis = ["T", "E"].iter().find_map(|key| match message.get(key) {
        Some(Json::Natural(millis)) => Some(*millis),
        _ => None,
    });
    assert!(is_odd || decoded.ts == millis.and_then(|millis| millis.checked_mul(1_000)), "{:?}", decoded.ts);
    let kind = message.get("e");
    let is_kind = |name: &str| kind == Some(&Json::Text(name.to_owned()));
    let number = |key: &str, decimal: Decimal| match message.get(key) {
        Some(Json::Text(text)) => assert_eq!(plain(&decimal.to_string()), plain(text), "`{key}` is {text}"),
        other => panic!("`{key}` is {other:?} and was read as {decimal}"),
    };
    match decoded.change {
        Change::Quote { bid, bid_size, ask, ask_size } => {
            assert!(kind.is_none() || is_kind("bookTicker"), "{kind:?}");
            number("b", bid);
            number("B", bid_size);
            number("a", ask);
            number("A", ask_size);
        }
        Change::Trade { price, quantity, trades, aggregated } => {
            assert!(is_kind(if aggregated { "aggTrade" } else { "trade" }), "{kind:?}");
            number("p", price);
            number("q", quantity);
            assert!(trades >= 1 && (aggregated || trades == 1), "{trades} trades");
            if let (true, Some(Json::Natural(first)), Some(Json::Natural(last))) =
                (aggregated, message.get("f"), message.get("l"))
                && last >= first
            {
                assert_eq!(trades - 1, last - first);
            }
        }
        Change::Depth => {
            assert!(is_kind("depthUpdate"), "{kind:?}");
            assert!(["b", "a"].iter().all(|key| message.get(key) == Some(&Json::Array)), "no arrays");
        }
    }
}

/// A decimal without the zeros that say nothing.
fn plain(text: &str) -> String {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let whole = whole.trim_start_matches('0');
    let whole = if whole.is_empty() { "0" } else { whole };
    format!("{whole}.{}", fraction.trim_end_matches('0'))
}

/// As much of a JSON value as messages are about.
#[derive(Debug, PartialEq)]
enum Json {
    Object(Vec<(String, Json)>),
    Array,
    Text(String),
    Natural(u64),
    NegativeZero,
    Other,
}

impl Json {
    fn get(&self, key: &str) -> Option<&Self> {
        match self {
            Self::Object(members) => members.iter().find(|(name, _)| name == key).map(|(_, value)| value),
            _ => None,
        }
    }
}

impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AnyJson)
    }
}

struct AnyJson;

impl<'de> Visitor<'de> for AnyJson {
    type Value = Json;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_bool<E>(self, _: bool) -> Result<Json, E> {
        Ok(Json::Other)
    }

    fn visit_unit<E>(self) -> Result<Json, E> {
        Ok(Json::Other)
    }

    fn visit_f64<E>(self, number: f64) -> Result<Json, E> {
        let is_negative_zero = number == 0.0 && number.is_sign_negative();
        Ok(if is_negative_zero { Json::NegativeZero } else { Json::Other })
    }

    fn visit_i64<E>(self, _: i64) -> Result<Json, E> {
        Ok(Json::Other)
    }

    fn visit_u64<E>(self, number: u64) -> Result<Json, E> {
        Ok(Json::Natural(number))
    }

    fn visit_str<E>(self, text: &str) -> Result<Json, E> {
        Ok(Json::Text(text.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut array: A) -> Result<Json, A::Error> {
        while array.next_element::<Json>()?.is_some() {}
        Ok(Json::Array)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut object: A) -> Result<Json, A::Error> {
        let mut members = Vec::new();
        while let Some(member) = object.next_entry()? {
            members.push(member);
        }
        Ok(Json::Object(members))
    }
}
