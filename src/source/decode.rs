//! Messages of the exchange, decoded.
//!
//! Understood are Binance's `bookTicker`, `trade`, `aggTrade` and `depthUpdate`, bare or in the
//! combined-stream envelope `{"stream":…,"data":…}` (Binance, "WebSocket Streams": spot and
//! COIN-M/USD-M futures; prices and quantities are JSON strings, times are milliseconds).

use rust_decimal::Decimal;
use simd_json::prelude::*;
use simd_json::tape::Value;
use simd_json::{Buffers, Tape};

use crate::market::{Change, Update};

/// Longest symbol accepted, in bytes; the exchange's longest are below 30.
const MAX_SYMBOL: usize = 64;

/// Decodes messages, reusing its buffers.
pub struct Decoder {
    buffers: Buffers,
    tape: Option<Tape<'static>>,
}

/// Why a message was not understood.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Reject {
    /// Not JSON.
    #[error("not JSON: {0}")]
    Json(String),
    /// JSON of a shape that is none of those understood.
    #[error("not a bookTicker, trade, aggTrade or depthUpdate message: {0}")]
    Shape(&'static str),
    /// A price or quantity that is none.
    #[error("`{0}` is not a price or quantity: a string such as \"61837.63\" with up to 28 digits is")]
    Number(&'static str),
}

impl Reject {
    /// The label under which it is counted.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Json(_) => "json",
            Self::Shape(_) => "shape",
            Self::Number(_) => "number",
        }
    }
}

impl std::fmt::Debug for Decoder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Decoder").finish_non_exhaustive()
    }
}

impl Default for Decoder {
    fn default() -> Self {
        Self { buffers: Buffers::new(1 << 12), tape: None }
    }
}

impl Decoder {
    /// Decodes one message in place: `line` is scratch afterwards.
    ///
    /// # Errors
    /// Anything that is not one of the messages understood, see [`Reject`].
    pub fn decode<'a>(&mut self, line: &'a mut [u8]) -> Result<Update<'a>, Reject> {
        let mut tape = self.tape.take().unwrap_or_else(|| Tape(Vec::new())).reset();
        let parsed = simd_json::fill_tape(line, &mut self.buffers, &mut tape);
        let update = match parsed {
            Ok(()) => read(tape.as_value()),
            Err(error) => Err(Reject::Json(error.to_string())),
        };
        self.tape = Some(tape.reset());
        update
    }
}

fn read<'a>(message: Value<'_, 'a>) -> Result<Update<'a>, Reject> {
    let message = message.get("data").unwrap_or(message);
    if !message.is_object() {
        return Err(Reject::Shape("not an object"));
    }
    let change = match text(message, "e") {
        Some("bookTicker") => quote(message)?,
        None if message.get("e").is_none() && message.get("b").is_some_and(|bid| bid.is_str()) => quote(message)?,
        Some("trade") => trade(message, 1, false)?,
        Some("aggTrade") => {
            let (first, last) = (message.get("f").and_then(|v| v.as_u64()), message.get("l").and_then(|v| v.as_u64()));
            let trades = last.zip(first).and_then(|(last, first)| last.checked_sub(first)).map_or(1, |n| n + 1);
            trade(message, trades, true)?
        }
        Some("depthUpdate") if is_array(message, "b") && is_array(message, "a") => Change::Depth,
        Some("depthUpdate") => return Err(Reject::Shape("`b` and `a` are not arrays")),
        Some(_) => return Err(Reject::Shape("`e` names another kind")),
        None => return Err(Reject::Shape("no `e` that names the kind")),
    };
    let symbol = text(message, "s").filter(|symbol| !symbol.is_empty() && symbol.len() <= MAX_SYMBOL);
    let symbol = symbol.ok_or(Reject::Shape("no symbol in `s`"))?;
    let millis = ["T", "E"].iter().find_map(|key| message.get(*key)?.as_u64());
    let id = match change {
        Change::Quote { .. } | Change::Depth => "u",
        Change::Trade { aggregated: false, .. } => "t",
        Change::Trade { aggregated: true, .. } => "a",
    };
    let id = message.get(id).and_then(|id| id.as_u64());
    Ok(Update { symbol, ts: millis.and_then(|millis| millis.checked_mul(1_000)), id, change })
}

fn quote(message: Value<'_, '_>) -> Result<Change, Reject> {
    Ok(Change::Quote {
        bid: decimal(message, "b")?,
        bid_size: decimal(message, "B")?,
        ask: decimal(message, "a")?,
        ask_size: decimal(message, "A")?,
    })
}

fn trade(message: Value<'_, '_>, trades: u64, aggregated: bool) -> Result<Change, Reject> {
    Ok(Change::Trade { price: decimal(message, "p")?, quantity: decimal(message, "q")?, trades, aggregated })
}

fn text<'a>(message: Value<'_, 'a>, key: &str) -> Option<&'a str> {
    message.get(key)?.into_string()
}

fn is_array(message: Value<'_, '_>, key: &str) -> bool {
    message.get(key).is_some_and(|value| value.is_array())
}

/// A non-negative decimal in plain digits, exact or not at all.
fn decimal(message: Value<'_, '_>, key: &'static str) -> Result<Decimal, Reject> {
    let plain = |text: &&str| {
        text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.') && text.starts_with(|c: char| c.is_ascii_digit())
    };
    let text = text(message, key).filter(plain);
    text.and_then(|text| Decimal::from_str_exact(text).ok()).ok_or(Reject::Number(key))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decode(line: &str) -> Result<(String, Option<u64>, Option<u64>, Change), Reject> {
        let mut bytes = line.as_bytes().to_vec();
        let update = Decoder::default().decode(&mut bytes)?;
        Ok((update.symbol.to_owned(), update.ts, update.id, update.change))
    }

    fn dec(text: &str) -> Decimal {
        text.parse().expect("a decimal")
    }

    #[test]
    fn every_kind_bare_and_enveloped() {
        let quote = Change::Quote { bid: dec("1.50"), bid_size: dec("2"), ask: dec("1.6"), ask_size: dec("0") };
        let trade = |trades, aggregated| Change::Trade { price: dec("3"), quantity: dec("0.1"), trades, aggregated };
        for (message, ts, id, change) in [
            (r#"{"u":1,"s":"X","b":"1.50","B":"2","a":"1.6","A":"0"}"#, None, Some(1), quote),
            (
                r#"{"e":"bookTicker","T":5,"E":6,"s":"X","b":"1.50","B":"2","a":"1.6","A":"0"}"#,
                Some(5_000),
                None,
                quote,
            ),
            (r#"{"e":"trade","E":7,"s":"X","t":3,"p":"3","q":"0.1","m":true}"#, Some(7_000), Some(3), trade(1, false)),
            (
                r#"{"e":"aggTrade","E":7,"s":"X","a":8,"p":"3","q":"0.1","f":10,"l":12,"T":6}"#,
                Some(6_000),
                Some(8),
                trade(3, true),
            ),
            (
                r#"{"e":"depthUpdate","E":7,"s":"X","U":1,"u":2,"b":[["1","2"]],"a":[]}"#,
                Some(7_000),
                Some(2),
                Change::Depth,
            ),
        ] {
            let expected = Ok(("X".to_owned(), ts, id, change));
            assert_eq!(decode(message), expected, "{message}");
            assert_eq!(decode(&format!(r#"{{"stream":"x@y","data":{message}}}"#)), expected, "{message}");
        }
    }

    #[test]
    fn everything_else_is_rejected_by_reason() {
        for (message, reason) in [
            ("", "json"),
            ("nonsense", "json"),
            (r#"{"e":"trade","#, "json"),
            ("\u{0}", "json"),
            ("[]", "shape"),
            ("3", "shape"),
            (r#"{"result":null,"id":1}"#, "shape"),
            (r#"{"e":"kline","s":"X"}"#, "shape"),
            (r#"{"e":7,"s":"X","b":"1","B":"1","a":"1","A":"1"}"#, "shape"),
            (r#"{"e":"depthUpdate","s":"X","b":1,"a":[]}"#, "shape"),
            (r#"{"e":"trade","p":"1","q":"1"}"#, "shape"),
            (r#"{"e":"trade","s":"","p":"1","q":"1"}"#, "shape"),
            (r#"{"e":"trade","s":"X","p":1.5,"q":"1"}"#, "number"),
            (r#"{"e":"trade","s":"X","p":"1e5","q":"1"}"#, "number"),
            (r#"{"e":"trade","s":"X","p":"-1","q":"1"}"#, "number"),
            (r#"{"e":"trade","s":"X","p":"NaN","q":"1"}"#, "number"),
            (r#"{"e":"trade","s":"X","p":"1_0","q":"1"}"#, "number"),
            (r#"{"e":"trade","s":"X","p":"1.2.3","q":"1"}"#, "number"),
            (r#"{"e":"trade","s":"X","p":".","q":"1"}"#, "number"),
            (r#"{"e":"trade","s":"X","p":"0.00000000000000000000000000001","q":"1"}"#, "number"),
        ] {
            assert_eq!(decode(message).map_err(|reject| reject.reason()), Err(reason), "{message}");
        }
    }

    #[test]
    fn deep_nesting_and_long_numbers_do_no_harm() {
        let deep = "[".repeat(1_000_000);
        assert_eq!(decode(&deep).map_err(|reject| reject.reason()), Err("json"));
        let closed = format!("{deep}{}", "]".repeat(1_000_000));
        assert!(decode(&closed).is_err());
        let long = r#"{"e":"trade","s":"X","t":12345678901234567890123,"p":"1","q":"1"}"#;
        assert!(decode(long).is_ok());
    }

    #[test]
    fn a_decoder_recovers_from_a_bad_message() {
        let mut decoder = Decoder::default();
        assert!(decoder.decode(&mut b"{\"e\":".to_vec()).is_err());
        assert!(decoder.decode(&mut br#"{"e":"trade","s":"X","p":"1","q":"1"}"#.to_vec()).is_ok());
    }
}
