//! A connection that is about to end is replaced before it does.

use std::time::Duration;

use tickcast::source::Timing;

use crate::exchange::Exchange;
use crate::ground::{Served, Witness, capture, expected, sum, timing};

const NOTICES: [&str; 2] = [
    r#"{"e":"serverShutdown","E":1770123456789}"#,
    r#"{"stream":"!serverShutdown","data":{"e":"serverShutdown","E":1770123456789}}"#,
];

/// Both connections bring the same for a while; who counts twice has other sums.
#[test]
fn a_notice_opens_the_new_connection_before_the_old_one_closes() {
    let exchange = Exchange::new(None);
    // The moment for which the old connection stays is longer than this test has it speak.
    let served = Served::start(&exchange, Timing { overlap: Duration::from_millis(500), ..timing() });
    let witness = Witness::new(served.address);
    let messages = capture(1_000);
    let send = |peer: &mut crate::exchange::Peer, range: std::ops::Range<usize>| {
        peer.send_all(messages[range].iter().map(String::as_str));
    };
    let mut old = exchange.open();
    send(&mut old, 0..200);
    served.wait_for_applied(200);
    old.send(NOTICES[0]);
    let mut new = exchange.open();
    // The old one goes on as long as the new one has nothing to say.
    send(&mut old, 200..300);
    served.wait_for_applied(300);
    // What the new one begins with is old already; then both bring the same.
    send(&mut new, 250..400);
    send(&mut old, 300..400);
    served.wait_for_applied(400);
    assert_eq!(old.read_close(), 1000);
    send(&mut new, 400..600);
    new.send(NOTICES[1]);
    let mut third = exchange.open();
    send(&mut third, 590..1_000);
    served.wait_for_applied(1_000);
    assert_eq!(new.read_close(), 1000);
    served.wait_for_symbols(&expected(messages));
    let stats = served.stats();
    assert_eq!(stats["source_reconnects"], serde_json::json!({ "shutdown_notice": 2 }));
    assert_eq!(stats["source_errors"], serde_json::json!({ "old": 50 + 100 + 10 }));
    assert_eq!(stats["source_connected"], true);
    assert!(witness.end() > 0);
}

/// As before the exchange's own 24 hours are over.
#[test]
fn a_connection_is_replaced_before_its_time() {
    let exchange = Exchange::new(None);
    let served = Served::start(&exchange, Timing { max_age: Duration::from_millis(300), ..timing() });
    let mut old = exchange.open();
    for n in 0..3 {
        old.send(&capture(4)[n]);
        served.wait_for_applied(n + 1);
        let mut new = exchange.open();
        new.send(&capture(4)[n]);
        assert_eq!(old.read_close(), 1000);
        old = new;
    }
    old.send(&capture(4)[3]);
    served.wait_for_applied(4);
    let stats = served.stats();
    assert!(stats["source_reconnects"]["planned"].as_u64() >= Some(3), "{stats}");
    assert_eq!(sum(&stats["source_errors"]), 3);
}

#[test]
fn a_replacement_that_fails_is_tried_again_and_the_old_connection_serves_on() {
    let exchange = Exchange::new(None);
    let served = Served::start(&exchange, timing());
    let mut old = exchange.open();
    old.send(&capture(1)[0]);
    served.wait_for_applied(1);
    old.send(NOTICES[0]);
    exchange.request().raw(b"HTTP/1.1 503 Service Unavailable\r\n\r\n");
    let silent = exchange.open();
    old.send(&capture(2)[1]);
    served.wait_for_applied(2);
    assert_eq!(served.stats()["source_connected"], true);
    // Now the old one ends before the new one has said anything.
    old.end();
    let mut new = silent;
    new.send(&capture(3)[2]);
    served.wait_for_applied(3);
    assert_eq!(served.stats()["source_reconnects"], serde_json::json!({ "shutdown_notice": 1, "status": 1 }));
    // Nothing more is planned.
    assert!(exchange.is_left_alone(Duration::from_millis(100)));
}
