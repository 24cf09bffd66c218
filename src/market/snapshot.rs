//! The market state as one JSON message.

use std::fmt::Write;

use rust_decimal::Decimal;

use super::state::{MarketState, Symbol};
use crate::fanout::Message;

/// Up to where a snapshot's sequence number goes.
const BEFORE_SEQ: &str = r#"{"type":"snapshot","channel":"market","seq":"#;

/// Writes snapshots; remembers how large they are.
#[derive(Debug, Default)]
pub struct SnapshotWriter {
    len: usize,
}

impl SnapshotWriter {
    /// The state as a message that gets its number from the channel. `ts` is when, in microseconds
    /// since the epoch. A price or size prints as the exchange sent it, without trailing zeros.
    pub fn write(&mut self, state: &MarketState, ts: u64) -> Message {
        let mut out = String::with_capacity(self.len + self.len / 8);
        // Writing to a String cannot fail.
        let _ = write!(out, r#","ts":{ts},"symbols":{{"#);
        for (n, (name, symbol)) in state.symbols().enumerate() {
            if n > 0 {
                out.push(',');
            }
            // A string is always representable as JSON.
            out.push_str(&serde_json::to_string(name).unwrap_or_default());
            out.push(':');
            write_symbol(&mut out, symbol);
        }
        out.push_str("}}");
        self.len = out.len();
        Message::numbered(BEFORE_SEQ, out)
    }
}

fn write_symbol(out: &mut String, symbol: &Symbol) {
    let session = symbol.session.as_ref();
    let against_open = |f: fn(&super::state::Session, Decimal) -> Option<Decimal>| f(session?, symbol.last?);
    let figures = [
        ("{\"last\":", symbol.last),
        (",\"bid\":", symbol.bid),
        (",\"ask\":", symbol.ask),
        (",\"bid_size\":", symbol.bid_size),
        (",\"ask_size\":", symbol.ask_size),
        (",\"open\":", session.map(|session| session.open)),
        (",\"high\":", session.map(|session| session.high)),
        (",\"low\":", session.map(|session| session.low)),
        (",\"volume\":", session.map(|session| session.volume)),
        (",\"vwap\":", session.and_then(|session| session.vwap())),
        (",\"change\":", against_open(super::state::Session::change)),
        (",\"change_pct\":", against_open(super::state::Session::change_pct)),
    ];
    for (key, figure) in figures {
        out.push_str(key);
        write_or_null(out, figure.map(|figure| figure.normalize()));
    }
    out.push_str(",\"trades\":");
    write_or_null(out, session.map(|session| session.trades));
    out.push_str(",\"ts\":");
    write_or_null(out, symbol.ts);
    out.push('}');
}

fn write_or_null(out: &mut String, figure: Option<impl std::fmt::Display>) {
    // Writing to a String cannot fail.
    let _ = match figure {
        Some(figure) => write!(out, "{figure}"),
        None => out.write_str("null"),
    };
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fanout::Hub;
    use crate::market::update::{Change, Update};

    fn sent(state: &MarketState) -> String {
        let hub = Hub::default();
        let channel = hub.channel("market").expect("a valid name");
        channel.publish(SnapshotWriter::default().write(state, 5)).expect("alone");
        let frame = hub.subscribe(&channel).try_recv().expect("published");
        String::from_utf8(frame.payload().to_vec()).expect("UTF-8")
    }

    #[test]
    fn an_empty_market_and_unknown_figures() {
        let mut state = MarketState::default();
        assert_eq!(sent(&state), r#"{"type":"snapshot","channel":"market","seq":1,"ts":5,"symbols":{}}"#);
        state.apply(&Update { symbol: "A\"B", ts: None, id: None, change: Change::Depth }).expect("few symbols");
        assert_eq!(
            sent(&state),
            concat!(
                r#"{"type":"snapshot","channel":"market","seq":1,"ts":5,"symbols":{"A\"B":{"last":null,"#,
                r#""bid":null,"ask":null,"bid_size":null,"ask_size":null,"open":null,"high":null,"low":null,"#,
                r#""volume":null,"vwap":null,"change":null,"change_pct":null,"trades":null,"ts":null}}}"#
            )
        );
    }

    #[test]
    fn figures_keep_their_digits() {
        let mut state = MarketState::default();
        for (price, quantity) in [("61700.10000000", "0.00001000"), ("0.09999999999999999999", "1000000000000")] {
            let (price, quantity) = (price.parse().expect("decimal"), quantity.parse().expect("decimal"));
            let change = Change::Trade { price, quantity, trades: 1, aggregated: false };
            state
                .apply(&Update { symbol: "X", ts: Some(1_723_161_255_342_000), id: None, change })
                .expect("few symbols");
        }
        let text = sent(&state);
        for expected in [
            r#""last":0.09999999999999999999,"#,
            r#""open":61700.1,"high":61700.1,"#,
            r#""volume":1000000000000.00001,"#,
            r#""change_pct":-100,"#,
            r#""trades":2,"ts":1723161255342000}"#,
        ] {
            assert!(text.contains(expected), "{expected} in {text}");
        }
    }
}
