//! What clients may do, and what comes back.

use std::io::Write;

use crate::support::Server;
use crate::support::client::{BINARY, Client, PING, PONG, TEXT, frame, handshake_request};
use crate::support::http::{connect, read_answer};

#[test]
fn pings_are_answered_in_order_and_messages_are_ignored() {
    let server = Server::start(&["--source", "none"]);
    let mut client = Client::connect(server.address, "market");
    let mut bytes = Vec::new();
    for n in 0..20_u8 {
        bytes.extend(frame(PING, &[n; 100]));
        bytes.extend(frame(0x01, "hé".as_bytes()));
        bytes.extend(frame(PONG, b"unasked"));
        bytes.extend(frame(0x80, b"llo"));
        bytes.extend(frame(BINARY, &[n; 3_000]));
    }
    for piece in bytes.chunks(777) {
        client.stream.write_all(piece).expect("sent");
    }
    for n in 0..20_u8 {
        assert_eq!(client.read(), (PONG, vec![n; 100]));
    }
    server.say("market", "hello");
    assert_eq!(client.text(), "hello");
}

/// RFC 6455 section 5.5.3: a Pong has the payload of its Ping.
#[test]
fn a_pong_has_the_payload_of_its_ping() {
    let server = Server::start(&["--source", "none"]);
    let mut client = Client::connect(server.address, "market");
    for length in 0..=125 {
        let payload: Vec<_> = (0..length).map(|n: u8| n.wrapping_mul(37).wrapping_add(length)).collect();
        client.send(PING, &payload);
        assert_eq!(client.read(), (PONG, payload));
    }
}

/// Fragments, control frames between them and a code point over four of them, one byte at a time.
#[test]
fn a_byte_at_a_time_is_as_good() {
    let server = Server::start(&["--source", "none"]);
    let mut client = Client::connect(server.address, "market");
    let mut bytes = frame(0x01, b"");
    for byte in "€😀".bytes() {
        bytes.extend(frame(0x00, &[byte]));
        bytes.extend(frame(PING, &[byte]));
    }
    bytes.extend(frame(0x80, b""));
    bytes.extend(frame(TEXT, &[b'x'; 130]));
    bytes.extend(frame(PONG, b"nobody asked"));
    bytes.extend(frame(PING, b"last"));
    for byte in bytes {
        client.stream.write_all(&[byte]).expect("sent");
    }
    for byte in "€😀".bytes() {
        assert_eq!(client.read(), (PONG, vec![byte]));
    }
    assert_eq!(client.read(), (PONG, b"last".to_vec()));
}

#[test]
fn bytes_behind_the_handshake_are_read() {
    let server = Server::start(&["--source", "none"]);
    let mut stream = connect(server.address);
    let mut bytes = handshake_request(server.address, "/ws/market").into_bytes();
    bytes.extend(frame(PING, b"early"));
    bytes.extend(&frame(PING, b"in pieces")[..7]);
    stream.write_all(&bytes).expect("sent");
    assert_eq!(read_answer(&mut stream, false).status, 101);
    let mut client = Client { stream };
    assert_eq!(client.read(), (PONG, b"early".to_vec()));
    client.stream.write_all(&frame(PING, b"in pieces")[7..]).expect("sent");
    assert_eq!(client.read(), (PONG, b"in pieces".to_vec()));
}

/// A message as large as it may be is checked and dropped as it comes.
#[test]
fn a_large_message_is_not_kept() {
    const FRAGMENT: usize = 1 << 20;
    const FRAGMENTS: usize = 200;
    let server = Server::start(&["--source", "none", "--max-message-size", "200MiB"]);
    let mut client = Client::connect(server.address, "market");
    client.send(PING, b"first");
    client.read();
    let before = server.memory();
    client.send(0x02, b"");
    let fragment = frame(0x00, &[b'x'; FRAGMENT]);
    for _ in 0..FRAGMENTS {
        client.stream.write_all(&fragment).expect("sent");
    }
    client.send(PING, b"between");
    assert_eq!(client.read(), (PONG, b"between".to_vec()));
    let grown = server.memory().saturating_sub(before);
    assert!(grown < 8 << 20, "the server grew by {grown} bytes");
    client.send(0x80, b"one byte too many");
    assert_eq!(client.read_to_close().0, 1009);
}
