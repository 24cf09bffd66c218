//! Against servers that send known messages: every count is exact, every latency within the histogram's
//! precision.

mod support;

use std::io::Write;
use std::net::TcpStream;
use std::time::Duration;

use serde_json::Value;
use support::{TAKEN, fan_out, frame, message, now_us, only, report, serve, wait_for_end};

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
    assert_eq!(run["traffic"]["untimed"], 0);
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
    assert_eq!(run["traffic"]["retained"], 2);
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
    assert_eq!(run["traffic"]["untimed"], 4);
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

#[test]
fn what_no_hole_tells_of_is_told_otherwise() {
    let address = serve(|number, stream| {
        // The first gets everything, the second lacks the end, the third gets nothing.
        let last = [100, 60, 0][number.min(2)];
        send(&stream, &(1..=last).map(|number| message(number, now_us())).collect::<Vec<_>>());
    });
    let run = observe("behind", address, "3", &[]);
    assert_eq!(run["sequence"]["holes"], 0);
    assert_eq!(run["sequence"]["silent_clients"], 1);
    assert_eq!(run["sequence"]["behind"], 40);
    let warnings = run["warnings"].to_string();
    assert!(warnings.contains("1 open clients received no number") && warnings.contains("40 messages behind"), "{run}");
}

#[test]
fn a_numbering_that_begins_anew_is_no_loss_and_an_absurd_one_no_panic() {
    let address = serve(|number, stream| {
        let numbers: &[u64] =
            if number == 0 { &[999_999, 1_000_000, 1, 2, 3] } else { &[0, u64::MAX - 1, u64::MAX, 0, 7] };
        send(&stream, &numbers.iter().map(|number| message(*number, now_us())).collect::<Vec<_>>());
    });
    let run = observe("restart", address, "1", &[]);
    assert_eq!((&run["sequence"]["restarts"], &run["sequence"]["holes"]), (&Value::from(1), &Value::from(0)), "{run}");
    let run = observe("absurd", address, "2", &[]);
    assert_eq!(run["traffic"]["messages"], 10, "{run}");
    assert!(run["sequence"]["holes"].as_u64().is_some_and(|holes| holes > 1 << 62), "{run}");
}

/// Two seconds in which the server takes nothing: the messages that were due meanwhile show them, in
/// mid-run and at its end.
#[test]
fn a_stalled_server_cannot_hide() {
    for stalled in [150, 448] {
        let address = fan_out(move |published| {
            if published == stalled {
                std::thread::sleep(Duration::from_secs(2));
            }
            TAKEN
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
        if stalled == 150 {
            // Half of what was due in the stall waited for more than half of it.
            assert!(figure("/latency/delivery_us/p90") >= 0.9e6, "{run}");
            assert!(figure("/latency/uncorrected_us/p90") < figure("/latency/delivery_us/p90"), "{run}");
            assert!(figure("/traffic/longest_silence_us") >= 1.95e6, "{run}");
        }
    }
}
