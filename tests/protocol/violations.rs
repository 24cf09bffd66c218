//! What RFC 6455 forbids, and the code it ends with.

use std::io::Write;

use crate::support::Server;
use crate::support::client::{BINARY, CLOSE, Client, PING, PONG, TEXT, close, frame};
use crate::{ended, wait_for_ended};

const MAX_MESSAGE: usize = 1_000;

/// Sends `bytes`, so many at a time; returns the code of the Close that comes back.
fn told(server: &Server, bytes: &[u8], size: usize) -> u16 {
    let mut client = Client::connect(server.address, "market");
    for piece in bytes.chunks(size) {
        // What comes behind the violation may find the connection gone.
        if client.stream.write_all(piece).is_err() {
            break;
        }
    }
    let (code, _, _) = client.read_to_close();
    // Nothing comes behind a Close, whether it is answered or not.
    assert_eq!(client.try_read(), None);
    code
}

/// A frame's head with a length in a form of one's choice and the beginning of its payload, which may be all of it.
fn begun(first: u8, length: &[u8], payload: &[u8]) -> Vec<u8> {
    let form = match length.len() {
        2 => 126,
        8 => 127,
        _ => length[0],
    };
    let long = if length.len() == 1 { &[] } else { length };
    [&[first, 0x80 | form], long, &[0; 4], payload].concat()
}

fn unmasked(first: u8) -> Vec<u8> {
    vec![first, 2, 3, 0xe8]
}

/// Each ends at its last byte; none is a complete frame unless it must be.
fn violations() -> Vec<(Vec<u8>, u16, &'static str)> {
    let mut cases: Vec<(Vec<u8>, u16, &str)> = vec![
        (frame(0x09, b"x"), 1002, "5.5: fragmented Ping"),
        (frame(0x0a, b"x"), 1002, "5.5: fragmented Pong"),
        (frame(0x08, &close(1000)), 1002, "5.5: fragmented Close"),
        (frame(0x80, b"x"), 1002, "5.4: continuation of nothing"),
        (frame(0x00, b""), 1002, "5.4: continuation of nothing, empty"),
        ([frame(TEXT, b"x"), frame(0x80, b"y")].concat(), 1002, "5.4: continuation of a whole message"),
        ([frame(0x01, b"x"), frame(TEXT, b"y")].concat(), 1002, "5.4: text inside text"),
        ([frame(0x01, b"x"), frame(0x01, b"y")].concat(), 1002, "5.4: fragments inside fragments"),
        ([frame(0x02, b"x"), frame(PING, b""), frame(BINARY, b"y")].concat(), 1002, "5.4: binary behind a Ping"),
        (begun(TEXT, &[0, 125], b""), 1002, "5.2: length of 7 bits in 16"),
        (begun(BINARY, &[0, 0, 0, 0, 0, 0, 0xff, 0xff], b""), 1002, "5.2: length of 16 bits in 64"),
        (begun(BINARY, &[0x80, 0, 0, 0, 0, 0, 0, 0], b""), 1002, "5.2: length of 64 bits"),
        (frame(CLOSE, b"x"), 1002, "5.5.1: Close of one byte"),
        (begun(TEXT, &[100], b"ok\xff"), 1007, "8.1: text, before its end"),
        (begun(TEXT, &[100], b"ok\xed\xa0"), 1007, "8.1: a surrogate, before its end"),
        (begun(TEXT, &[100], b"\xf4\x90"), 1007, "8.1: beyond Unicode, before its end"),
        (begun(TEXT, &[100], b"\xc0"), 1007, "8.1: overlong, before its end"),
        (frame(TEXT, b"\xe2\x82"), 1007, "8.1: text that ends inside a code point"),
        ([frame(0x01, b"\xe2"), frame(0x00, b"\x82"), frame(0x80, b"")].concat(), 1007, "8.1: the same in fragments"),
        ([frame(0x01, b"\xe2\x82"), begun(0x00, &[50], b"x")].concat(), 1007, "8.1: code point broken by a fragment"),
        ([frame(0x01, b"\xe2"), frame(PING, b""), begun(0x80, &[9], b"(")].concat(), 1007, "8.1: and behind a Ping"),
        (frame(CLOSE, &[&close(1000)[..], b"\xff"].concat()), 1007, "8.1: reason that is not UTF-8"),
        (frame(CLOSE, &[&close(1000)[..], b"\xe2\x82"].concat()), 1007, "8.1: reason that ends inside a code point"),
        (begun(TEXT, &[3, 0xe9], b""), 1009, "10.4: message over the limit, by its head"),
        (begun(BINARY, &[0, 0, 0, 0, 0, 1, 0, 0], b""), 1009, "10.4: in 64 bits"),
        (begun(BINARY, &[0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff], b""), 1009, "10.4: absurd length"),
        ([frame(0x02, &[0; 600]), begun(0x80, &[1, 0x91], b"")].concat(), 1009, "10.4: fragments together, by a head"),
    ];
    for first in [0xc1, 0xa1, 0x91, 0xf1, 0xc2, 0xc9, 0x98, 0xaa, 0x40] {
        cases.push((begun(first, &[0], b"")[..2].to_vec(), 1002, "5.2: reserved bit"));
    }
    for opcode in [3, 4, 5, 6, 7, 0xb, 0xc, 0xd, 0xe, 0xf] {
        cases.push((begun(0x80 | opcode, &[0], b"")[..2].to_vec(), 1002, "5.2: reserved opcode"));
    }
    for first in [TEXT, BINARY, 0x01, PING, PONG, CLOSE] {
        cases.push((unmasked(first), 1002, "5.1: unmasked frame"));
    }
    for first in [PING, PONG, CLOSE] {
        cases.push((begun(first, &[0, 126], b"")[..2].to_vec(), 1002, "5.5: control frame over 125 bytes"));
        cases.push((
            begun(first, &[0, 0, 0, 0, 0, 1, 0, 0], b"")[..2].to_vec(),
            1002,
            "5.5: control frame over 64 KiB",
        ));
    }
    for code in [0_u16, 1, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535] {
        cases.push((frame(CLOSE, &close(code)), 1002, "7.4: Close code that may not be sent"));
    }
    cases
}

#[test]
fn violations_are_answered_with_their_code() {
    let server = Server::start(&["--source", "none", "--max-message-size", &MAX_MESSAGE.to_string()]);
    let cases = violations();
    for (bytes, code, what) in &cases {
        for size in [1, bytes.len()] {
            assert_eq!(told(&server, bytes, size), *code, "{what}: {bytes:x?} in pieces of {size}");
        }
    }
    for (reason, code) in [("protocol", 1002), ("utf8", 1007), ("too_big", 1009)] {
        wait_for_ended(&server, reason, 2 * cases.iter().filter(|case| case.1 == code).count() as u64);
    }
    server.wait_for_metric("tickcast_connections", |open| open == 0);
}

#[test]
fn what_came_before_a_violation_is_answered() {
    let server = Server::start(&["--source", "none"]);
    let mut client = Client::connect(server.address, "market");
    let bytes = [frame(PING, b"one"), frame(PING, b"two"), frame(0x83, b""), frame(PING, b"three"), frame(CLOSE, b"")];
    client.stream.write_all(&bytes.concat()).expect("sent");
    assert_eq!(client.read(), (PONG, b"one".to_vec()));
    assert_eq!(client.read(), (PONG, b"two".to_vec()));
    assert_eq!(client.read_to_close(), (1002, "reserved opcode".into(), 0));
    assert_eq!(client.try_read(), None);
    wait_for_ended(&server, "protocol", 0);
    drop(client);
    wait_for_ended(&server, "protocol", 1);
    assert_eq!(ended(&server, "closed"), 0);
}

/// What fits and what does not, to the byte, in one frame and in fragments.
#[test]
fn a_message_may_be_as_large_as_the_limit() {
    let server = Server::start(&["--source", "none", "--max-message-size", &MAX_MESSAGE.to_string()]);
    let mut client = Client::connect(server.address, "market");
    client.send(TEXT, &[b'x'; MAX_MESSAGE]);
    client.send(0x02, &[0; MAX_MESSAGE - 1]);
    client.send(PING, &[0; 125]);
    client.send(0x00, &[0; 1]);
    client.send(0x00, b"");
    client.send(0x80, b"");
    client.send(BINARY, &[0; MAX_MESSAGE]);
    assert_eq!(client.read(), (PONG, vec![0; 125]));
    client.send(0x02, &[0; MAX_MESSAGE]);
    client.send(0x80, &[0; 1]);
    assert_eq!(client.read_to_close().0, 1009);
}
