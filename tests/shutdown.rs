//! SIGTERM and SIGINT: everybody gets what waits and a Close, and the process ends in time. What is
//! particular to a restart is in `restart.rs`.

mod support;

use std::io::{Read, Write};
use std::time::Duration;

use support::client::{CLOSE, Client, close, frame, handshake_request};
use support::{Server, http};

#[test]
fn everybody_gets_close_1001_under_load() {
    const CLIENTS: usize = 1_000;
    // Small messages: what comes while the test connects the rest fits into the kernels' buffers.
    let arguments =
        ["--source", "sim", "--sim-symbols", "1", "--broadcast-interval", "100ms", "--drain-timeout", "15s"];
    let mut server = Server::start(&arguments);
    let mut clients: Vec<_> = (0..CLIENTS).map(|_| Client::connect(server.address, "market")).collect();
    server.wait_for_metric("tickcast_connections", |connections| connections == CLIENTS as u64);
    server.wait_for_metric("tickcast_frames_sent_total", |sent| sent > 5 * CLIENTS as u64);
    server.signal("-INT");
    let mut last = Vec::new();
    for client in &mut clients {
        let mut seq = 0;
        loop {
            let (first, payload) = client.read();
            if first == CLOSE {
                assert_eq!(payload[..2], close(1001));
                client.send(CLOSE, &payload[..2]);
                break;
            }
            let snapshot: serde_json::Value = serde_json::from_slice(&payload).expect("JSON");
            let next = snapshot["seq"].as_u64().expect("a number");
            assert!(seq == 0 || next == seq + 1, "{next} after {seq}");
            seq = next;
        }
        assert!(client.try_read().is_none(), "nothing follows a Close");
        last.push(seq);
    }
    let (status, took) = server.wait();
    assert_eq!(status.code(), Some(0));
    assert!(took < Duration::from_secs(16), "it took {took:?}");
    assert!(last.iter().all(|seq| *seq == last[0]), "everybody was sent the last message");
}

#[test]
fn a_client_that_does_not_read_holds_nothing_up() {
    let mut server = Server::start(&["--source", "none", "--drain-timeout", "300ms"]);
    server.say("x", "hello");
    let mut stalled = Client::with_small_buffer(server.address, "x", 4 << 10);
    let mut idle = Client::connect(server.address, "market");
    assert_eq!(stalled.text(), "hello");
    let body = format!("\"{}\"\n", "y".repeat(1_000)).repeat(2_000);
    assert_eq!(server.publish("x", "application/x-ndjson", body.as_bytes()).status, 200);
    server.signal("-INT");
    let (status, took) = server.wait();
    assert_eq!(status.code(), Some(0));
    assert!(took < Duration::from_millis(1_300), "it took {took:?}");
    let (code, text, _) = idle.read_to_close();
    assert_eq!((code, &*text), (1001, "server shutting down"));
}

#[test]
fn what_is_in_the_rings_is_sent_first() {
    let mut server = Server::start(&["--source", "none", "--queue-size", "50"]);
    server.say("x", "hello");
    let mut client = Client::with_small_buffer(server.address, "x", 4 << 10);
    let body: String = (1..=2_000).map(|n| format!("\"{n:0>1000}\"\n")).collect();
    assert_eq!(server.publish("x", "application/x-ndjson", body.as_bytes()).status, 200);
    server.signal("-TERM");
    server.wait_for_line("shutting down");
    let mut last = String::new();
    while let (first, payload) = client.read()
        && first != CLOSE
    {
        last = String::from_utf8(payload).expect("UTF-8");
    }
    assert_eq!(last.trim_matches('"').trim_start_matches('0'), "2000");
    client.stream.write_all(&frame(CLOSE, &close(1001))).expect("sent");
    assert_eq!(server.wait().0.code(), Some(0));
}

#[test]
fn a_second_signal_ends_it_at_once() {
    let mut server = Server::start(&["--source", "none", "--drain-timeout", "60s"]);
    server.say("x", "hello");
    let mut stalled = Client::with_small_buffer(server.address, "x", 4 << 10);
    assert_eq!(stalled.text(), "hello");
    let body = format!("\"{}\"\n", "y".repeat(1_000)).repeat(2_000);
    assert_eq!(server.publish("x", "application/x-ndjson", body.as_bytes()).status, 200);
    server.signal("-TERM");
    server.wait_for_line("shutting down");
    server.signal("-TERM");
    let (status, _) = server.wait();
    assert_eq!(status.code(), Some(1));
}

/// Requests on connections that were there before: not ready, and nothing is published any more.
#[test]
fn while_it_drains_it_is_not_ready_and_publishes_nothing() {
    let mut server = Server::start(&["--source", "none", "--drain-timeout", "20s"]);
    server.say("x", "hello");
    let mut stalled = Client::with_small_buffer(server.address, "x", 4 << 10);
    assert_eq!(stalled.text(), "hello");
    let body = format!("\"{}\"\n", "y".repeat(1_000)).repeat(2_000);
    assert_eq!(server.publish("x", "application/x-ndjson", body.as_bytes()).status, 200);
    // A stream of publications that has begun and goes on.
    let mut stream = http::connect(server.address);
    let head = "POST /publish/x HTTP/1.1\r\nhost: x\r\ncontent-type: application/x-ndjson\r\ntransfer-encoding: chunked\r\n\r\n";
    stream.write_all(format!("{head}4\r\n\"a\"\n\r\n").as_bytes()).expect("sent");
    server.wait_for_metric("tickcast_messages_published_total{channel=\"x\"}", |count| count == 2_002);
    let mut handshake = http::connect(server.address);
    let text = handshake_request(server.address, "/ws/x");
    handshake.write_all(&text.as_bytes()[..50]).expect("half a handshake");
    let mut request = http::connect(server.address);
    request.write_all(b"GET /readyz HTTP/1.1\r\nhost: x\r\n").expect("half a request");
    // Connections are accepted in order: when these are answered, those above are being served.
    (0..5).for_each(|_| assert_eq!(server.get("/healthz").status, 200));
    server.signal("-INT");
    server.wait_for_line("shutting down");
    support::wait_until("not listening any more", || std::net::TcpStream::connect(server.address).is_err());
    let answer = http::read_answer(&mut stream, false);
    assert_eq!((answer.status, &answer.json()["published"]), (503, &serde_json::json!(1)), "{}", answer.text());
    handshake.write_all(&text.as_bytes()[50..]).expect("the rest of it");
    assert_eq!(http::read_answer(&mut handshake, false).status, 503);
    request.write_all(b"\r\n").expect("the rest of it");
    assert_eq!(http::read_answer(&mut request, false).status, 503);
    // It ends as soon as the last client has read on.
    let mut rest = Vec::new();
    stalled.stream.read_to_end(&mut rest).expect("all of it");
    drop(stalled);
    assert_eq!(server.wait().0.code(), Some(0));
}

/// A request that does not end is cut off with the rest, with clients to be told to go and without.
#[test]
fn a_request_that_does_not_end_is_cut_off() {
    let head = "POST /publish/x HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 9\r\n\r\n{";
    for (workers, clients) in [("1", 0), ("1", 1), ("2", 0), ("2", 1)] {
        let arguments = ["--source", "none", "--drain-timeout", "300ms", "--workers", workers];
        let mut server = Server::start(&arguments);
        let mut request = http::connect(server.address);
        request.write_all(head.as_bytes()).expect("sent");
        let mut clients: Vec<_> = (0..clients).map(|_| Client::connect(server.address, "market")).collect();
        // Connections are accepted in order: when this is answered, the request is being served.
        assert_eq!(server.get("/healthz").status, 200);
        server.signal("-TERM");
        clients.iter_mut().for_each(|client| assert_eq!(client.read_to_close().0, 1012));
        let (status, took) = server.wait();
        assert_eq!(status.code(), Some(0), "{workers} workers");
        assert!(took < Duration::from_millis(1_300), "it took {took:?}");
    }
}

/// Nobody reads the log: the server goes on.
#[test]
fn a_closed_log_ends_nothing() {
    let mut command = support::command(&["--listen", "127.0.0.1:0", "--source", "stdin", "--log", "debug"]);
    let mut child = command.spawn().expect("the binary starts");
    let mut line = String::new();
    let mut log = std::io::BufReader::new(child.stderr.take().expect("piped"));
    std::io::BufRead::read_line(&mut log, &mut line).expect("a line");
    let address = line.trim().rsplit("http://").next().expect("an address").trim_end_matches('/').parse().expect("one");
    drop(log);
    writeln!(child.stdin.take().expect("piped"), "garbage").expect("written");
    for _ in 0..3 {
        let mut client = Client::connect(address, "market");
        client.send(CLOSE, &close(1000));
        assert_eq!(client.read().0, CLOSE);
    }
    assert!(child.try_wait().expect("a child").is_none(), "the server ended");
    child.kill().expect("it runs");
    child.wait().expect("it ends");
}
