//! A feed that says nothing: it is connected to again, and everybody is told how old the prices are.

use std::time::{Duration, Instant};

use tickcast::source::Timing;

use crate::exchange::Exchange;
use crate::ground::{Served, Witness, capture, expected, timing};
use crate::support::wait_until;

const STALE: Duration = Duration::from_millis(500);

#[test]
fn a_silent_feed_is_not_ready_and_its_last_state_is_served() {
    let exchange = Exchange::new(None);
    // The second attempt is refused for as long as the test wants: it never gets its answer.
    let served = Served::start(&exchange, Timing { stale_after: STALE, ..timing() });
    assert_eq!(served.get("/readyz").text(), "the source has not produced a snapshot yet\n");
    let mut peer = exchange.open();
    peer.send_all(capture(200).iter().map(String::as_str));
    served.wait_for_applied(200);
    let heard = Instant::now();
    let before = expected(capture(200));
    served.wait_for_symbols(&before);
    let witness = Witness::new(served.address);
    let again = exchange.request();
    assert!(heard.elapsed() > STALE / 2, "given up after {:?}", heard.elapsed());
    wait_until("not ready", || served.get("/readyz").status == 503);
    let text = served.get("/readyz").text();
    let seconds =
        text.strip_prefix("the feed has been silent for ").and_then(|rest| rest.split_once(" s (disconnected)"));
    let seconds: f64 = seconds.expect(&text).0.parse().expect("a number");
    assert!(seconds >= STALE.as_secs_f64() && seconds < 20.0, "{text}");
    let stats = served.stats();
    assert_eq!((&stats["source_connected"], &stats["ready"]), (&false.into(), &false.into()));
    assert!(stats["source_age_seconds"].as_f64().is_some_and(|age| age >= seconds), "{stats}");
    assert!(stats["trouble"].as_str().is_some_and(|trouble| trouble.contains("silent")), "{stats}");
    assert_eq!(served.sample("tickcast_source_connected"), 0.0);
    assert!(served.sample("tickcast_source_age_seconds") >= seconds);
    assert_eq!(served.sample("tickcast_source_reconnects_total{reason=\"stale\"}"), 1.0);
    assert_eq!(served.symbols(), before, "the last state stays, and so do its times");
    let mut again = again;
    again.agree();
    again.send(&capture(201)[200]);
    wait_until("ready again", || served.get("/readyz").status == 200);
    assert_eq!(served.sample("tickcast_source_connected"), 1.0);
    assert!(witness.end() > 1, "snapshots go on");
}

/// A connection that is accepted and then forgotten, at any step.
#[test]
fn half_open_connections_are_given_up() {
    let exchange = Exchange::new(None);
    let step = Duration::from_secs(1);
    let served = Served::start(&exchange, Timing { step, stale_after: STALE, ..timing() });
    let (silent, start) = (exchange.accept(), Instant::now());
    let half_answered = exchange.accept();
    assert!(start.elapsed() > step / 2, "given up after {:?}", start.elapsed());
    std::io::Write::write_all(&mut &half_answered, b"HTTP/1.1 101 Switching Pro").expect("sent");
    let open_and_silent = exchange.open();
    wait_until("three connections given up", || served.reconnects("timeout") == 2 && served.reconnects("stale") == 1);
    drop((silent, half_answered, open_and_silent));
    let mut peer = exchange.open();
    peer.send(&capture(1)[0]);
    wait_until("messages", || served.applied() == 1);
}
