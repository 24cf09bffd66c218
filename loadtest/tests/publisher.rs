//! Servers that take publications in their own way: none is lost by the harness, and none forgotten.

mod support;

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::Value;
use support::{Answer, TAKEN, fan_out, only, report};

/// Publishes 20 a second for two seconds to two clients.
fn publish(name: &str, address: SocketAddr, more: &[&str]) -> Value {
    let (socket, publish) = (format!("ws://{address}/ws/x"), format!("http://{address}/publish/x"));
    let fixed = [
        "--url",
        &socket,
        "--publish-url",
        &publish,
        "--publish-rate",
        "20",
        "--connections",
        "2",
        "--ramp",
        "0s",
        "--warmup",
        "0s",
        "--duration",
        "2s",
    ];
    let (report, _) = report(name, &[&fixed, more].concat());
    only(&report).clone()
}

#[test]
fn a_connection_may_end_with_every_answer() {
    for (name, answer) in [
        ("close", "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\n{}"),
        ("old", "HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\n{}"),
        ("until-end", "HTTP/1.1 200 OK\r\n\r\n{}"),
    ] {
        let run = publish(name, fan_out(move |_| Some((answer, true))), &[]);
        assert_eq!(run["publisher"]["published"], 40, "{name}: {run}");
        assert_eq!(run["publisher"]["publish_errors"], 0, "{name}: {run}");
        assert_eq!(run["traffic"]["messages"], 80, "{name}: {run}");
        assert_eq!(run["sequence"]["disorder"], 0, "{name}: {run}");
    }
}

/// As after a time of idleness: what is sent at that very moment is lost, and said to be.
#[test]
fn a_connection_may_end_without_a_word() {
    let run = publish("silently", fan_out(|_| TAKEN.map(|(answer, _)| (answer, true))), &[]);
    let published = run["publisher"]["published"].as_u64().expect("a number");
    assert_eq!(run["publisher"]["publish_errors"], 40 - published, "{run}");
    assert!(published >= 20, "{run}");
}

#[test]
fn answers_in_several_parts_are_one() {
    let answer = "HTTP/1.1 103 Early Hints\r\n\r\n\
                  HTTP/1.1 201 Created\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n";
    let run = publish("parts", fan_out(move |_| Some((answer, false))), &[]);
    assert_eq!(run["publisher"]["published"], 40, "{run}");
    assert_eq!(run["traffic"]["messages"], 80, "{run}");
}

#[test]
fn a_refusal_is_counted_with_its_reason() {
    let refused: Answer = Some(("HTTP/1.1 429 Too Many Requests\r\nContent-Length: 4\r\n\r\nslow", false));
    let run = publish("refused", fan_out(move |published| if published % 4 == 0 { refused } else { TAKEN }), &[]);
    assert_eq!(run["publisher"]["published"], 30, "{run}");
    assert_eq!(run["publisher"]["publish_errors"], 10, "{run}");
    assert_eq!(run["publisher"]["error_reasons"][0]["reason"], "HTTP 429 Too Many Requests: slow");
}

#[test]
fn what_is_never_answered_is_an_error_of_its_own() {
    let run = publish("silent", fan_out(|published| if published > 11 { None } else { TAKEN }), &["--settle", "500ms"]);
    assert_eq!(run["publisher"]["scheduled"], 40, "{run}");
    assert_eq!(run["publisher"]["published"], 10, "{run}");
    assert_eq!(run["publisher"]["publish_errors"], 30, "{run}");
    assert_eq!(run["traffic"]["delivered"], 0.25, "{run}");
}

#[test]
fn a_server_that_takes_nothing_is_given_up_at_once() {
    let nothing: Answer = Some(("HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n", false));
    let began = std::time::Instant::now();
    let run = publish("nothing", fan_out(move |_| nothing), &["--duration", "60s"]);
    assert_eq!(run["verdict"], "invalid");
    assert!(run["invalid"].to_string().contains("nothing could be published: HTTP 401 Unauthorized"), "{run}");
    // A minute would be the whole measurement.
    assert!(began.elapsed() < Duration::from_secs(50));
}
