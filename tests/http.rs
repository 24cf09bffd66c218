//! The HTTP side: handshakes that fail, paths, methods, readiness, statistics.

mod support;

use std::io::{Read, Write};
use std::time::Duration;

use support::client::{Client, handshake_request};
use support::http::{connect, read_answer, request};
use support::{Server, wait_until};

fn server() -> Server {
    Server::start(&["--source", "none"])
}

/// What a changed handshake is answered with.
fn handshake(server: &Server, from: &str, to: &str) -> support::http::Answer {
    let mut stream = connect(server.address);
    let text = handshake_request(server.address, "/ws/market");
    assert!(text.contains(from));
    stream.write_all(text.replace(from, to).as_bytes()).expect("sent");
    read_answer(&mut stream, false)
}

#[test]
fn a_handshake_that_is_not_one_is_told_why() {
    let server = server();
    for (from, to, status, word) in [
        ("Upgrade: websocket\r\n", "", 426, "Upgrade: websocket"),
        ("Upgrade: websocket", "Upgrade: h2c", 426, "Upgrade: websocket"),
        ("Version: 13", "Version: 8", 426, "Sec-WebSocket-Version: 13"),
        ("Sec-WebSocket-Version: 13\r\n", "", 426, "Sec-WebSocket-Version: 13"),
        ("Connection: keep-alive, Upgrade", "Connection: keep-alive", 400, "Connection"),
        ("Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n", "", 400, "Sec-WebSocket-Key"),
        ("dGhlIHNhbXBsZSBub25jZQ==", "dGhlIHNhbXBsZQ==", 400, "16 bytes"),
        ("dGhlIHNhbXBsZSBub25jZQ==", "dGhlIHNhbXBsZSBub25j!Q==", 400, "16 bytes"),
        ("HTTP/1.1", "HTTP/1.0", 400, "HTTP/1.1"),
        ("Host: ", "X-Host: ", 400, "Host"),
        ("Host: ", "Host: x\r\nHost: ", 400, "Host"),
        ("GET", "POST", 405, "GET"),
        ("/ws/market", "/ws/nothing", 404, "nothing"),
    ] {
        let answer = handshake(&server, from, to);
        assert_eq!(answer.status, status, "{to:?} for {from:?}: {}", answer.text());
        assert!(answer.error().contains(word), "{}", answer.error());
        if status == 426 {
            assert_eq!(answer.header("upgrade"), Some("websocket"));
            assert_eq!(answer.header("sec-websocket-version"), Some("13"));
        }
    }
    // An answer without a body, even to a whole handshake.
    let mut stream = connect(server.address);
    stream.write_all(handshake_request(server.address, "/ws/market").replace("GET", "HEAD").as_bytes()).expect("sent");
    assert_eq!(read_answer(&mut stream, true).status, 400);
    // Letters of either case, several tokens, and an extension that is not taken up.
    let answer = handshake(&server, "Upgrade: websocket", "UPGRADE: h2c, WebSocket");
    assert_eq!(answer.status, 101);
    let answer = handshake(&server, "\r\n\r\n", "\r\nSec-WebSocket-Extensions: permessage-deflate\r\n\r\n");
    assert_eq!((answer.status, answer.header("sec-websocket-extensions")), (101, None));
    assert_eq!(server.get("/ws/market").status, 426);
    assert_eq!(Client::ask(server.address, "/ws/").status, 404);
}

#[test]
fn other_paths_and_methods() {
    let server = server();
    for path in ["/nope", "/ws", "/publish", "/snapshot", "/metrics/", "//", "/healthz/x"] {
        let answer = server.get(path);
        assert_eq!(answer.status, 404, "{path}");
        assert!(answer.error().contains(path), "{}", answer.error());
    }
    for (method, path, allow) in [
        ("POST", "/", "get, head"),
        ("DELETE", "/stats", "get, head"),
        ("PUT", "/snapshot/market", "get, head"),
        ("GET", "/publish/market", "post"),
        ("OPTIONS", "/metrics", "get, head"),
    ] {
        let answer = request(server.address, method, path, &[], b"");
        assert_eq!((answer.status, answer.header("allow")), (405, Some(allow)), "{method} {path}");
        assert!(answer.error().contains(&method.to_string()), "{}", answer.error());
    }
    let head = request(server.address, "HEAD", "/", &[], b"");
    assert_eq!((head.status, head.body.len()), (200, 0));
    let page = server.get("/");
    assert_eq!(head.header("content-length"), Some(&*page.body.len().to_string()));
    assert!(page.text().contains("new WebSocket(") && !page.text().contains("/*APP*/"));
    assert_eq!(page.header("content-type"), Some("text/html; charset=utf-8"));
}

#[test]
fn several_requests_on_one_connection() {
    let server = server();
    let mut stream = connect(server.address);
    for _ in 0..3 {
        stream.write_all(b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n").expect("sent");
        assert_eq!(read_answer(&mut stream, false).text(), "ok\n");
    }
    stream.write_all(handshake_request(server.address, "/ws/market").as_bytes()).expect("sent");
    assert_eq!(read_answer(&mut stream, false).status, 101);
    server.say("market", "hello");
    assert_eq!(Client { stream }.text(), "hello");
}

#[test]
fn snapshots_are_the_last_message() {
    let server = server();
    assert_eq!(server.get("/snapshot/market").status, 404);
    assert!(server.get("/snapshot/market").error().contains("no message yet"));
    assert!(server.get("/snapshot/other").error().contains("other"));
    for (content_type, body, expected) in [
        ("application/json", "{ \"a\": 1 }", "application/json"),
        ("text/plain", "plain wörds", "text/plain; charset=utf-8"),
        ("application/octet-stream", "\u{0}bytes", "application/octet-stream"),
    ] {
        assert_eq!(server.publish("other", content_type, body.as_bytes()).status, 200);
        let answer = server.get("/snapshot/other");
        assert_eq!((answer.text(), answer.header("content-type")), (body.to_owned(), Some(expected)));
    }
}

#[test]
fn channel_names_may_be_percent_encoded() {
    let server = server();
    assert_eq!(server.publish("binance%3Abtc", "text/plain", b"hi").status, 200);
    assert_eq!(server.get("/snapshot/binance:btc").text(), "hi");
    assert_eq!(Client::connect(server.address, "binance%3abtc").text(), "hi");
    assert_eq!(server.publish("a%2Fb", "text/plain", b"hi").status, 400);
    assert_eq!(server.publish("%ff", "text/plain", b"hi").status, 400);
}

#[test]
fn statistics() {
    let server = server();
    server.say("b", "1");
    server.say("b", "2");
    let _client = Client::connect(server.address, "b");
    server.wait_for_metric("tickcast_frames_sent_total", |sent| sent == 1);
    let stats = server.get("/stats").json();
    let channels = server.get("/channels").json();
    assert_eq!(stats["channels"], channels["channels"]);
    assert_eq!(channels["channels"][0]["name"], "b");
    assert_eq!(channels["channels"][1]["name"], "market");
    let b = &channels["channels"][0];
    assert_eq!((&b["seq"], &b["subscribers"], &b["messages_published"]), (&2.into(), &1.into(), &2.into()));
    for (key, value) in [("connections", 1), ("frames_sent", 1), ("messages_published", 2), ("frames_queued", 0)] {
        assert_eq!(stats[key], value, "{key}");
    }
    assert_eq!(stats["version"], env!("CARGO_PKG_VERSION"));
    assert!(stats["uptime_seconds"].as_f64().expect("a number") > 0.0);
    wait_until("a rate", || server.get("/channels").json()["channels"][0]["rate"].is_f64());
    let metrics = server.get("/metrics");
    assert!(metrics.header("content-type").expect("one").starts_with("text/plain; version=0.0.4"));
    for line in [
        "tickcast_connections{channel=\"b\"} 1",
        "tickcast_messages_published_total{channel=\"b\"} 2",
        "tickcast_publish_seconds_count 2",
        "tickcast_publish_seconds_bucket{le=\"+Inf\"} 2",
        "# TYPE tickcast_delivery_seconds histogram",
    ] {
        assert!(metrics.text().lines().any(|other| other == line), "no line {line}");
    }
}

#[test]
fn readiness_waits_for_the_first_snapshot() {
    let mut server = Server::start(&["--source", "stdin"]);
    assert_eq!((server.get("/healthz").status, server.get("/readyz").status), (200, 503));
    // What others publish is not what it waits for.
    server.say("market", "hello");
    assert_eq!(server.get("/readyz").status, 503);
    let mut stdin = server.stdin();
    writeln!(stdin, r#"{{"e":"trade","E":1,"s":"X","p":"1","q":"1"}}"#).expect("written");
    wait_until("readiness", || server.get("/readyz").status == 200);
    assert_eq!(self::server().get("/readyz").status, 200, "with nothing to wait for");
}

#[test]
fn a_connection_that_asks_for_nothing_is_closed() {
    let server = Server::start(&["--source", "none", "--handshake-timeout", "200ms"]);
    for bytes in ["", "GET / HTTP/1.1\r\nho", "GET / HTTP/1.1\r\nhost: x\r\n"] {
        let mut stream = connect(server.address);
        stream.write_all(bytes.as_bytes()).expect("sent");
        let mut rest = Vec::new();
        // The end, or a reset: not a timeout.
        if let Err(error) = stream.read_to_end(&mut rest) {
            assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
        }
    }
    // A client that is through is not.
    let mut client = Client::connect(server.address, "market");
    assert!(client.is_silent(Duration::from_millis(500)));
    server.say("market", "hello");
    assert_eq!(client.text(), "hello");
}

/// A client that asks and does not read is given up, and does not keep the answer alive.
#[test]
fn an_answer_that_nobody_takes_is_given_up() {
    let server = Server::start(&["--source", "none", "--handshake-timeout", "300ms"]);
    let descriptors = || std::fs::read_dir(format!("/proc/{}/fd", server.id())).expect("a process").count();
    let before = descriptors();
    let body = vec![b'x'; 16 << 20];
    assert_eq!(server.publish("x", "text/plain", &body).status, 200);
    let ask = |_| {
        let mut stream = connect(server.address);
        stream.write_all(b"GET /snapshot/x HTTP/1.1\r\nhost: x\r\n\r\n").expect("sent");
        stream.read_exact(&mut [0]).expect("the answer begins");
        stream
    };
    let stalled: Vec<_> = (0..5).map(ask).collect();
    wait_until("giving up", || descriptors() <= before);
    drop(stalled);
    assert_eq!(server.get("/snapshot/x").body, body);
}

#[test]
fn a_request_that_is_not_http_is_refused() {
    let server = server();
    for bytes in [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".as_slice(),
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"\0\0\0\0\r\n\r\n",
    ] {
        let mut stream = connect(server.address);
        stream.write_all(bytes).expect("sent");
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        assert!(answer.is_empty() || answer.starts_with(b"HTTP/1.1 4"), "{}", String::from_utf8_lossy(&answer));
    }
    let huge = format!("GET /{} HTTP/1.1\r\nhost: x\r\n\r\n", "x".repeat(100_000));
    let mut stream = connect(server.address);
    let _ = stream.write_all(huge.as_bytes());
    let answer = read_answer(&mut stream, true);
    assert!((400..500).contains(&answer.status), "{}", answer.head);
    assert_eq!(server.get("/healthz").status, 200);
}
