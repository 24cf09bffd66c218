//! Against servers that send known messages: every count is exact, every latency within the histogram's
//! precision.

mod support;

use std::io::Write;
use std::net::TcpStream;
use std::time::Duration;

use serde_json::Value;
use support::{fan_out, frame, message, now_us, only, report, serve, wait_for_end};

/// Measures everything from the first connection on.
fn observe(name: &str, address: std::net::SocketAddr, connections: &str, more: &[&str]) -> Value {
    let url = format!("ws://{address}/ws/x");
    let fixed = ["--url", &url, "--connections", connections, "--ramp", "0s", "--warmup", "0s", "--duration", "2s"];
    let (report, _) = report(name, &[&fixed, more].concat());
    only(&report).clone()
}

fn send(mut stream: &TcpStream, frames: &[Vec<u8>]) {
    stream.write_all(&frames.concat()).expect("the harness reads");
    wait_for_end(stream);
}

#[test]
fn drops_repeats_and_disorder_are_counted_exactly() {
    const CLIENTS: u64 = 20;
    let address = serve(|_, stream| {
        // 4 and 5 never come, 8 comes twice, 10 after 11, 13 to 15 backwards.
        let numbers = [1, 2, 3, 6, 7, 8, 8, 9, 11, 10, 12, 15, 14, 13, 16];
        send(&stream, &numbers.map(|number| message(number, now_us())));
    });
    let run = observe("counts", address, &CLIENTS.to_string(), &[]);
    assert_eq!(run["traffic"]["messages"], CLIENTS * 15);
    assert_eq!(run["sequence"]["numbered"], CLIENTS * 15);
    assert_eq!(run["sequence"]["holes"], CLIENTS * 2);
    assert_eq!(run["sequence"]["repeats"], CLIENTS);
    assert_eq!(run["sequence"]["disorder"], CLIENTS * 3);
    assert_eq!(run["traffic"]["expected"], CLIENTS * 16);
    assert_eq!(run["traffic"]["delivered"], 14.0 / 16.0);
    assert_eq!(run["connections"]["opened"], CLIENTS);
    assert_eq!(run["connections"]["disconnects"], 0);
    assert_eq!(run["latency"]["untimed"], 0);
}

/// Delays so long that the way over the loopback is less than the histogram's thousandth.
#[test]
fn latencies_are_those_the_server_made() {
    let address = serve(|_, stream| {
        // The first is young, or it would be taken for one kept for newcomers.
        let old = |number: u64| message(number + 1, now_us() - number * 2_000_000);
        send(&stream, &std::iter::once(message(1, now_us())).chain((1..=999).map(old)).collect::<Vec<_>>());
    });
    let run = observe("latencies", address, "3", &[]);
    let delivery = &run["latency"]["delivery_us"];
    assert_eq!(delivery["count"], 3_000);
    for (quantile, seconds) in [("p50", 998.0), ("p90", 1_798.0), ("p99", 1_978.0), ("max", 1_998.0)] {
        let found = delivery[quantile].as_f64().expect("a number") / 1e6;
        assert!((found - seconds).abs() <= seconds * 0.002, "{quantile} is {found} s instead of {seconds} s");
    }
}

#[test]
fn the_first_message_of_a_newcomer_may_be_old_without_being_late() {
    let address = serve(|_, stream| send(&stream, &[message(7, now_us() - 9_000_000), message(8, now_us())]));
    let run = observe("retained", address, "2", &[]);
    assert_eq!(run["latency"]["retained"], 2);
    assert_eq!(run["latency"]["delivery_us"]["count"], 2);
    assert!(run["latency"]["delivery_us"]["max"].as_f64().expect("a number") < 2e6, "{run}");
    assert_eq!(run["sequence"]["holes"], 0);
}

#[test]
fn the_spread_is_from_the_first_to_the_last_client() {
    let address = serve(|number, stream| {
        // Known by its number: the second client is half a second behind.
        std::thread::sleep(Duration::from_millis(if number == 0 { 0 } else { 500 }));
        send(&stream, &(1..=10).map(|number| message(number, now_us())).collect::<Vec<_>>());
    });
    let run = observe("spread", address, "2", &["--ts-field", ""]);
    assert_eq!(run["latency"], Value::Null);
    let spread = &run["spread_us"];
    assert_eq!(spread["count"], 10);
    assert!(spread["min"].as_f64().expect("a number") > 400e3, "{spread}");
}

#[test]
fn fragments_binary_and_control_frames_are_understood() {
    let address = serve(|_, stream| {
        let now = now_us();
        let (millis, micros) = (now / 1_000, now % 1_000);
        let json = format!(r#"{{"data":{{"n":5,"at":{millis}.{micros:03}}},"pad":"{}"}}"#, "x".repeat(70_000));
        let (head, tail) = json.as_bytes().split_at(30);
        send(
            &stream,
            &[
                frame(0x01, head),
                frame(0x89, b"ping"),
                frame(0x80, tail),
                frame(0x82, json.replace("\"n\":5", "\"n\":6").as_bytes()),
                frame(0x82, &[0xff; 300]),
                frame(0x81, b""),
            ],
        );
    });
    let fields = ["--ts-field", "data.at", "--ts-unit", "ms", "--seq-field", "data.n"];
    let run = observe("fragments", address, "2", &fields);
    assert_eq!(run["traffic"]["messages"], 8);
    assert_eq!(run["traffic"]["binary"], 4);
    assert_eq!(run["traffic"]["pings"], 2);
    assert_eq!(run["sequence"]["numbered"], 4);
    assert_eq!(run["sequence"]["holes"], 0);
    assert_eq!(run["latency"]["delivery_us"]["count"], 4);
    assert_eq!(run["latency"]["untimed"], 4);
    assert!(run["latency"]["delivery_us"]["max"].as_f64().expect("a number") < 2e6, "{run}");
}

#[test]
fn without_times_and_numbers_the_rest_is_reported() {
    let address = serve(|_, stream| send(&stream, &[frame(0x81, b"{\"price\":1}"), frame(0x81, b"hello")]));
    let run = observe("untimed", address, "2", &[]);
    assert_eq!(run["traffic"]["messages"], 4);
    assert_eq!(run["traffic"]["payload_bytes"], 32);
    assert_eq!(run["latency"], Value::Null);
    assert_eq!(run["sequence"], Value::Null);
    let warnings = run["warnings"].to_string();
    assert!(warnings.contains("no message had a time"), "{warnings}");
    assert!(warnings.contains("losses cannot be seen"), "{warnings}");
}

/// Two seconds in which the server takes nothing: the messages that were due meanwhile show them.
#[test]
fn a_stalled_server_cannot_hide() {
    let stall = Duration::from_secs(2);
    let address = fan_out(move |published| {
        if published == 150 {
            std::thread::sleep(stall);
        }
    });
    let (socket, publish) = (format!("ws://{address}/ws/x"), format!("http://{address}/publish/x"));
    let arguments = [
        "--url",
        &socket,
        "--publish-url",
        &publish,
        "--publish-rate",
        "100",
        "--connections",
        "5",
        "--ramp",
        "100ms",
        "--warmup",
        "500ms",
        "--duration",
        "4s",
    ];
    let (report, _) = report("stall", &arguments);
    let run = only(&report);
    assert_eq!(run["publisher"]["scheduled"], 400);
    assert_eq!(run["publisher"]["published"], 400);
    assert_eq!(run["traffic"]["messages"], 2_000);
    assert_eq!(run["traffic"]["delivered"], 1.0);
    let figure = |at: &str| run.pointer(at).and_then(Value::as_f64).expect("a number");
    assert!(figure("/latency/delivery_us/p99.9") >= 1.95e6, "{run}");
    // Half of what was due in the stall waited for more than half of it.
    assert!(figure("/latency/delivery_us/p90") >= 0.9e6, "{run}");
    assert!(figure("/latency/uncorrected_us/p50") < figure("/latency/delivery_us/p90"), "{run}");
    assert!(figure("/traffic/longest_silence_us") >= 1.95e6, "{run}");
}
