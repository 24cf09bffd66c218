//! Updates by their numbers: what is old, and what only looks so.

use serde_json::json;

use crate::exchange::Exchange;
use crate::ground::{Served, timing};
use crate::support::wait_until;

fn quote(symbol: &str, id: u64, time: Option<u64>, bid: &str) -> String {
    let time = time.map_or(String::new(), |time| format!(r#","e":"bookTicker","T":{time},"E":{time}"#));
    format!(r#"{{"u":{id},"s":"{symbol}","b":"{bid}","B":"1","a":"9","A":"1"{time}}}"#)
}

fn trade(kind: &str, id: u64, time: u64, price: &str) -> String {
    let key = if kind == "trade" { "t" } else { "a" };
    format!(r#"{{"e":"{kind}","E":{time},"s":"X","{key}":{id},"p":"{price}","q":"1","T":{time}}}"#)
}

fn count(served: &Served, messages: u64) {
    wait_until("messages counted", || {
        let stats = served.stats();
        crate::ground::sum(&stats["source_messages"]) + crate::ground::sum(&stats["source_errors"]) >= messages
    });
}

#[test]
fn what_came_before_is_counted_and_changes_nothing() {
    let exchange = Exchange::new(None);
    let served = Served::start(&exchange, timing());
    let mut peer = exchange.open();
    peer.send(&quote("X", 10, None, "5"));
    peer.send(&quote("X", 9, None, "4"));
    peer.send(&quote("X", 10, None, "3"));
    // Another symbol and other kinds have numbers of their own.
    peer.send(&quote("Y", 9, None, "2"));
    peer.send(&trade("trade", 7, 1_000, "6"));
    peer.send(&trade("trade", 7, 1_000, "6"));
    peer.send(&trade("aggTrade", 3, 1_000, "6"));
    peer.send(r#"{"e":"depthUpdate","E":2000,"s":"X","U":1,"u":8,"b":[],"a":[]}"#);
    peer.send(r#"{"e":"depthUpdate","E":1500,"s":"X","U":1,"u":7,"b":[],"a":[]}"#);
    // Without a number nothing can be told.
    peer.send(r#"{"e":"trade","s":"X","p":"8","q":"1","T":3000}"#);
    peer.send(r#"{"e":"trade","s":"X","p":"8","q":"1","T":3000}"#);
    count(&served, 11);
    wait_until("the last of them", || served.symbols()["X"]["trades"] == 3);
    let symbols = served.symbols();
    assert_eq!((&symbols["X"]["bid"], &symbols["Y"]["bid"]), (&json!(5), &json!(2)));
    assert_eq!((&symbols["X"]["last"], &symbols["X"]["ts"]), (&json!(8), &json!(3_000_000)));
    assert_eq!(served.stats()["source_errors"], json!({ "old": 4 }));
    let kinds = json!({ "aggTrade": 1, "bookTicker": 2, "depthUpdate": 1, "trade": 3 });
    assert_eq!(served.stats()["source_messages"], kinds);
}

#[test]
fn numbers_that_start_over_at_the_exchange_do_not_silence_a_symbol() {
    let exchange = Exchange::new(None);
    let served = Served::start(&exchange, timing());
    let mut peer = exchange.open();
    peer.send(&quote("X", 1_000_000, Some(5_000), "5"));
    served.wait_for_applied(1);
    peer.end();
    let mut peer = exchange.open();
    // What the exchange repeats has no later time.
    peer.send(&quote("X", 999_999, Some(5_000), "4"));
    count(&served, 2);
    peer.send(&quote("X", 1, Some(6_000), "3"));
    peer.send(&quote("X", 2, Some(6_000), "7"));
    peer.send(&quote("X", 1, Some(6_000), "2"));
    count(&served, 5);
    wait_until("the last of them", || served.symbols()["X"]["bid"] == 7);
    assert_eq!(served.stats()["source_errors"], json!({ "old": 2 }));
}
