//! What clients may not do, and how they are told (RFC 6455); what they may, and what comes back.

mod support;

use std::io::Write;

use support::Server;
use support::client::{BINARY, CLOSE, Client, PING, PONG, TEXT, close, frame, handshake_request};
use support::http::{connect, read_answer};

/// Sends `bytes`; returns the code of the Close that comes back and the counted reason's name.
fn told(server: &Server, bytes: &[u8]) -> u16 {
    let mut client = Client::connect(server.address, "market");
    client.stream.write_all(bytes).expect("sent");
    let (code, _, _) = client.read_to_close();
    // The answer to a Close is the end of the connection.
    client.send(CLOSE, &close(code));
    assert_eq!(client.try_read(), None);
    code
}

#[test]
fn violations_are_answered_with_their_code() {
    let server = Server::start(&["--source", "none", "--max-message-size", "1000"]);
    for (bytes, code, what) in [
        (vec![0x81, 1, b'x'], 1002, "unmasked frame"),
        (frame(0xc1, b"x"), 1002, "reserved bit"),
        (frame(0x83, b"x"), 1002, "reserved opcode"),
        (frame(0x09, b"x"), 1002, "fragmented Ping"),
        (frame(PING, &[0; 126]), 1002, "Ping over 125 bytes"),
        (frame(0x80, b"x"), 1002, "continuation of nothing"),
        ([frame(0x01, b"x"), frame(TEXT, b"y")].concat(), 1002, "text inside text"),
        (frame(CLOSE, b"x"), 1002, "Close of one byte"),
        (frame(CLOSE, &close(1005)), 1002, "Close code that may not be sent"),
        (frame(TEXT, b"\xff\xfe"), 1007, "text that is not UTF-8"),
        ([frame(0x01, b"\xe2\x82"), frame(0x80, b"x")].concat(), 1007, "code point broken by a fragment"),
        (frame(TEXT, &[b'x'; 1_001]), 1009, "message over the limit"),
        ([frame(0x02, &[0; 600]), frame(0x80, &[0; 600])].concat(), 1009, "fragments over the limit together"),
        (vec![BINARY, 0xff, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1, 2, 3, 4], 1009, "absurd length"),
    ] {
        assert_eq!(told(&server, &bytes), code, "{what}");
    }
    server.wait_for_metric("tickcast_disconnects_total", |count| count == 14);
    assert_eq!(server.metric("tickcast_connections"), 0);
    let reason = |reason| server.metric(&format!("tickcast_disconnects_total{{reason=\"{reason}\"}}"));
    assert_eq!(["protocol", "utf8", "too_big"].map(reason), [9, 2, 3]);
}

#[test]
fn a_close_is_echoed() {
    let server = Server::start(&["--source", "none"]);
    for payload in [vec![], close(1000), close(1001), close(3000), close(4999)] {
        let mut client = Client::connect(server.address, "market");
        client.send(CLOSE, &payload);
        assert_eq!(client.read(), (CLOSE, payload));
        assert_eq!(client.try_read(), None);
    }
    server.wait_for_metric("tickcast_disconnects_total{reason=\"closed\"}", |count| count == 5);
    drop(Client::connect(server.address, "market"));
    server.wait_for_metric("tickcast_disconnects_total{reason=\"gone\"}", |count| count == 1);
}

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

/// A client that pings and does not read is not answered without bound, and loses no answer.
#[test]
fn a_flood_of_pings_is_throttled_not_buffered() {
    const PINGS: usize = 200_000;
    let server = Server::start(&["--source", "none"]);
    let mut client = Client::with_small_buffer(server.address, "market", 4 << 10);
    let before = server.memory();
    let mut sender = Client { stream: client.stream.try_clone().expect("a descriptor") };
    let flood = std::thread::spawn(move || {
        let ping = frame(PING, &[b'x'; 125]).repeat(100);
        for _ in 0..PINGS / 100 {
            sender.stream.write_all(&ping).expect("sent");
        }
    });
    // Others are served all the while.
    for n in 0..50 {
        let mut other = Client::connect(server.address, "market");
        server.say("market", &n.to_string());
        while other.text() != n.to_string() {}
    }
    let grown = server.memory().saturating_sub(before);
    assert!(grown < 8 << 20, "the server grew by {grown} bytes");
    let mut pongs = 0;
    while pongs < PINGS {
        pongs += usize::from(client.read().0 == PONG);
    }
    flood.join().expect("no panic");
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
