//! Sources: what they bring, what they skip, and when snapshots are taken.

mod support;

use std::io::Write;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use support::client::Client;
use support::{Server, wait_until};

fn trade(symbol: &str, price: &str) -> String {
    format!(
        r#"{{"e":"trade","E":1723161255343,"s":"{symbol}","t":1,"p":"{price}","q":"0.5","T":1723161255342,"m":true}}"#
    )
}

/// A capture that is gone with the test.
struct Capture(std::path::PathBuf);

impl Capture {
    fn new(name: &str, bytes: &[u8]) -> Self {
        let path = std::env::temp_dir().join(format!("tickcast-{}-{name}", std::process::id()));
        std::fs::write(&path, bytes).expect("written");
        Self(path)
    }

    fn source(&self) -> String {
        format!("replay:{}", self.0.display())
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// Reads snapshots until one has what is wanted.
fn read_until(client: &mut Client, wanted: impl Fn(&Value) -> bool) -> Value {
    let start = Instant::now();
    loop {
        let snapshot = client.json();
        if wanted(&snapshot) {
            return snapshot;
        }
        assert!(start.elapsed() < support::PATIENCE, "never came: the last is {snapshot}");
    }
}

#[test]
fn standard_input_is_served_beyond_its_end() {
    let mut server = Server::start(&["--source", "stdin", "--broadcast-interval", "0"]);
    let mut client = Client::connect(server.address, "market");
    let mut stdin = server.stdin();
    writeln!(stdin, "{}", trade("BBB", "0.10")).expect("written");
    let first = client.json();
    assert_eq!((&first["seq"], &first["type"], &first["channel"]), (&json!(1), &json!("snapshot"), &json!("market")));
    let bbb = json!({"last":0.1,"bid":null,"ask":null,"bid_size":null,"ask_size":null,"open":0.1,"high":0.1,"low":0.1,
        "volume":0.5,"vwap":0.1,"change":0,"change_pct":0,"trades":1,"ts":1_723_161_255_342_000_u64});
    assert_eq!(first["symbols"]["BBB"], bbb);
    writeln!(stdin, "{}", trade("AAA", "3")).expect("written");
    let text = client.text();
    assert!(text.find("\"AAA\"") < text.find("\"BBB\""), "symbols are sorted: {text}");
    write!(stdin, "{}", trade("AAA", "4")).expect("written");
    drop(stdin);
    let last = client.json();
    assert_eq!((&last["seq"], &last["symbols"]["AAA"]["last"]), (&json!(3), &json!(4)));
    server.wait_for_line("source has ended");
    assert_eq!(Client::connect(server.address, "market").json(), last);
    assert!(client.is_silent(Duration::from_millis(100)), "nothing changed");
}

#[test]
fn garbage_is_counted_by_reason_and_skipped() {
    let lines = [
        format!("1000 {}", trade("X", "1")),
        "no time in front".into(),
        trade("X", "7"),
        "99999999999999999999999 {}".into(),
        "1001 {\"e\":\"trade\",".into(),
        "1002 \u{0}\u{1}\u{fffd}".into(),
        "1003 {\"e\":\"kline\",\"s\":\"X\"}".into(),
        "1004 {\"result\":null,\"id\":1}".into(),
        "1005 {\"stream\":\"x@trade\",\"data\":{\"e\":\"trade\",\"s\":\"X\",\"p\":\"1,5\",\"q\":\"1\"}}".into(),
        "".into(),
        format!("1006 {}", "x".repeat(1_100_000)),
        format!("1007 {}", trade("X", "2.5")),
    ];
    let mut bytes = lines.join("\n").into_bytes();
    bytes.extend(b"\n1008 \xff\xfe{}\n");
    let capture = Capture::new("garbage.log", &bytes);
    let mut server = Server::start(&["--source", &capture.source(), "--replay-loop", "false"]);
    server.wait_for_line("skipped a message of the source");
    let error = |reason| server.metric(&format!("tickcast_source_errors_total{{reason=\"{reason}\"}}"));
    server.wait_for_metric("tickcast_source_errors_total", |count| count == 10);
    assert_eq!(["timestamp", "json", "shape", "number", "too_long"].map(error), [3, 3, 2, 1, 1]);
    assert_eq!(server.metric("tickcast_source_messages_total{kind=\"trade\"}"), 2);
    let snapshot = Client::connect(server.address, "market").json();
    assert!(!snapshot["symbols"]["X"].is_null());
}

#[test]
fn a_capture_plays_at_its_pace_and_starts_over() {
    let lines = format!("1000000000 {}\n1300000000 {}\n", trade("X", "1"), trade("X", "2"));
    let capture = Capture::new("pace.log", &zstd::encode_all(lines.as_bytes(), 1).expect("compressed"));
    let server = Server::start(&["--source", &capture.source(), "--broadcast-interval", "0"]);
    let mut client = Client::connect(server.address, "market");
    let last =
        |n: i32, trades: i32| move |s: &Value| s["symbols"]["X"]["last"] == n && s["symbols"]["X"]["trades"] == trades;
    read_until(&mut client, last(1, 1));
    let start = Instant::now();
    read_until(&mut client, last(2, 2));
    assert!(start.elapsed() > Duration::from_millis(200), "the gap of 0.3 s was played in {:?}", start.elapsed());
    // Sums start over with the capture.
    read_until(&mut client, last(1, 1));
    read_until(&mut client, last(2, 2));
}

#[test]
fn the_synthetic_market_moves() {
    let server = Server::start(&["--source", "sim", "--sim-symbols", "7", "--broadcast-interval", "0.05"]);
    let mut client = Client::connect(server.address, "market");
    let full = read_until(&mut client, |s| s["symbols"].as_object().is_some_and(|symbols| symbols.len() == 7));
    let mut seq = full["seq"].as_u64().expect("a number");
    for _ in 0..5 {
        let next = client.json();
        seq += 1;
        assert_eq!(next["seq"], seq);
        assert_ne!(next["symbols"], full["symbols"]);
    }
}

/// Nobody listens: nothing is serialised, and nothing is missed by who comes.
#[test]
fn nothing_is_published_to_nobody() {
    let mut server = Server::start(&["--source", "stdin", "--broadcast-interval", "50ms"]);
    let mut stdin = server.stdin();
    writeln!(stdin, "{}", trade("X", "1")).expect("written");
    wait_until("the first snapshot", || server.get("/readyz").status == 200);
    writeln!(stdin, "{}", trade("X", "2")).expect("written");
    server.wait_for_metric("tickcast_source_messages_total", |count| count == 2);
    // Six intervals in which it could.
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(server.metric("tickcast_messages_published_total"), 1);
    // While somebody listens snapshots come at the interval, changed or not.
    let mut client = Client::connect(server.address, "market");
    for seq in 1..=6 {
        assert_eq!(client.json()["seq"], seq);
    }
}

/// The interval is longer than the test: what is fresh was asked for.
#[test]
fn who_comes_gets_the_last_message_and_a_fresh_one() {
    let mut server = Server::start(&["--source", "stdin", "--broadcast-interval", "10m"]);
    let mut stdin = server.stdin();
    writeln!(stdin, "{}", trade("X", "1")).expect("written");
    wait_until("the first snapshot", || server.get("/readyz").status == 200);
    writeln!(stdin, "{}", trade("X", "2")).expect("written");
    server.wait_for_metric("tickcast_source_messages_total", |count| count == 2);
    let last = |server: &Server| server.get("/snapshot/market").json()["symbols"]["X"]["last"].clone();
    assert_eq!(last(&server), 2, "a request for the snapshot is reason enough for one");
    assert_eq!(server.get("/snapshot/market").json()["seq"], 2, "nothing has changed since");
    writeln!(stdin, "{}", trade("X", "3")).expect("written");
    server.wait_for_metric("tickcast_source_messages_total", |count| count == 3);
    let mut client = Client::connect(server.address, "market");
    let (old, new) = (client.json(), client.json());
    assert_eq!((&old["seq"], &new["seq"], &new["symbols"]["X"]["last"]), (&json!(2), &json!(3), &json!(3)));
    assert!(new["ts"].as_u64() > old["ts"].as_u64());
    assert!(client.is_silent(Duration::from_millis(100)), "the interval is not over");
}
