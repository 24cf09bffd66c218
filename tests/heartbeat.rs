//! Ping and Pong: who answers stays, who does not is gone after interval and timeout.

mod support;

use std::time::{Duration, Instant};

use support::Server;
use support::client::{CLOSE, Client, PING, PONG, close};

const INTERVAL: Duration = Duration::from_millis(300);
const TIMEOUT: Duration = Duration::from_millis(200);

fn server() -> Server {
    Server::start(&["--source", "none", "--heartbeat-interval", "300ms", "--heartbeat-timeout", "200ms"])
}

#[test]
fn a_silent_peer_is_closed_and_counted() {
    let server = server();
    let start = Instant::now();
    let mut client = Client::connect(server.address, "market");
    let (first, _) = client.read();
    assert_eq!(first, PING);
    assert!(start.elapsed() >= INTERVAL, "a Ping after {:?}", start.elapsed());
    assert_eq!(client.read(), (CLOSE, [&close(1008)[..], b"heartbeat timeout"].concat()));
    assert!(start.elapsed() >= INTERVAL + TIMEOUT, "closed after {:?}", start.elapsed());
    assert_eq!(client.try_read(), None, "the server waits for nothing more");
    server.wait_for_metric("tickcast_disconnects_total{reason=\"heartbeat\"}", |count| count == 1);
    assert_eq!(server.metric("tickcast_connections"), 0);
}

#[test]
fn a_peer_that_answers_stays_and_is_asked_again() {
    let server = Server::start(&["--source", "none", "--heartbeat-interval", "300ms", "--heartbeat-timeout", "5s"]);
    let mut client = Client::connect(server.address, "market");
    for _ in 0..6 {
        let (first, payload) = client.read();
        assert_eq!(first, PING);
        client.send(PONG, &payload);
    }
    assert_eq!(server.metric("tickcast_connections"), 1);
    assert_eq!(server.metric("tickcast_disconnects_total"), 0);
}

/// Data of the client is no answer, and neither is a Pong from before the Ping.
#[test]
fn only_a_pong_answers() {
    let server = server();
    let mut client = Client::connect(server.address, "market");
    client.send(PONG, b"too early");
    while client.is_silent(Duration::from_millis(20)) {
        client.send(support::client::TEXT, b"still here");
    }
    assert_eq!(client.read().0, PING);
    client.send(support::client::TEXT, b"still here");
    assert_eq!(client.read().0, CLOSE);
}

/// A peer whose socket takes nothing cannot be told, and is gone all the same.
#[test]
fn a_stalled_peer_is_dropped_without_waiting() {
    let server = server();
    server.say("x", "hello");
    let mut client = Client::with_small_buffer(server.address, "x", 4 << 10);
    assert_eq!(client.text(), "hello");
    let body = format!("\"{}\"\n", "y".repeat(1_000)).repeat(2_000);
    assert_eq!(server.publish("x", "application/x-ndjson", body.as_bytes()).status, 200);
    server.wait_for_metric("tickcast_disconnects_total{reason=\"heartbeat\"}", |count| count == 1);
    server.wait_for_metric("tickcast_frames_queued", |queued| queued == 0);
}

/// A server that did not run for a while finds the Pongs that came meanwhile.
#[test]
fn a_pause_of_the_server_is_not_blamed_on_clients() {
    let server = Server::start(&["--source", "none", "--heartbeat-interval", "1s", "--heartbeat-timeout", "1s"]);
    let mut clients: Vec<_> = (0..20).map(|_| Client::connect(server.address, "market")).collect();
    for client in &mut clients {
        assert_eq!(client.read().0, PING);
    }
    server.signal("-STOP");
    for client in &mut clients {
        client.send(PONG, b"");
    }
    std::thread::sleep(Duration::from_millis(1_500));
    server.signal("-CONT");
    for client in &mut clients {
        assert_eq!(client.read().0, PING, "pinged again, not closed");
        client.send(PONG, b"");
    }
    assert_eq!(server.metric("tickcast_disconnects_total"), 0);
}

#[test]
fn an_interval_of_zero_sends_none() {
    let server = Server::start(&["--source", "none", "--heartbeat-interval", "0"]);
    let mut client = Client::connect(server.address, "market");
    assert!(client.is_silent(Duration::from_millis(700)));
}
