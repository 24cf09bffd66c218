//! Whatever the exchange does, the feed comes back, nothing counts twice, and clients notice nothing.

use std::time::{Duration, Instant};

use crate::exchange::{Exchange, Peer, frame};
use crate::ground::{Served, Witness, capture, expected, sum, timing};
use crate::support::client::{BINARY, CLOSE, TEXT};
use crate::support::wait_until;

const CONTINUATION: u8 = 0x80;
const NOT_LAST: u8 = 0x7f;

/// The reason for which the next connection is counted, and what the exchange does to this one.
type Trouble = (&'static str, fn(Peer));
type Refusal = (&'static str, fn(&Exchange));

/// Once it is open.
const TROUBLES: [Trouble; 12] = [
    ("cut", |mut peer| {
        peer.raw(&frame(TEXT, &[b'x'; 500])[..200]);
        peer.end();
    }),
    ("cut", Peer::end),
    ("failed", |mut peer| {
        peer.raw(&frame(TEXT, &[b'x'; 500])[..200]);
        peer.reset();
    }),
    ("closed", |mut peer| {
        peer.raw(&frame(CLOSE, &[0x03, 0xe9]));
        assert_eq!(peer.read_close(), 1001, "a Close is answered with its code");
    }),
    ("closed", |mut peer| peer.raw(&frame(CLOSE, b""))),
    ("protocol", |mut peer| peer.raw(&frame(TEXT | 0x40, b"{}"))),
    ("protocol", |mut peer| peer.raw(&frame(0x83, b"{}"))),
    ("protocol", |mut peer| peer.raw(&frame(TEXT, b"\xff\xfe"))),
    ("protocol", |mut peer| peer.raw(&frame(CONTINUATION, b"{}"))),
    ("protocol", |mut peer| peer.raw(&[frame(TEXT & NOT_LAST, b"{"), frame(TEXT, b"}")].concat())),
    ("too_big", |mut peer| peer.raw(&[TEXT, 127, 0, 0, 0, 0, 1, 0, 0, 1])),
    ("too_big", |mut peer| {
        let mebibyte = vec![b'1'; 1 << 20];
        peer.raw(&frame(TEXT & NOT_LAST, &mebibyte));
        for _ in 0..16 {
            peer.try_raw(&frame(CONTINUATION & NOT_LAST, &mebibyte));
        }
    }),
];

/// Before.
const REFUSALS: [Refusal; 7] = [
    ("handshake", |exchange| drop(exchange.accept())),
    ("handshake", |exchange| exchange.request().raw(b"SSH-2.0-OpenSSH_9.6\r\n\r\n")),
    ("handshake", |exchange| {
        let text = "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";
        exchange.request().raw(format!("HTTP/1.1 101 Switching Protocols\r\n{text}\r\n\r\n").as_bytes());
    }),
    ("handshake", |exchange| exchange.request().try_raw(&[b'a'; 20_000])),
    ("status", |exchange| exchange.request().raw(b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n")),
    ("status", |exchange| exchange.request().raw(b"HTTP/1.1 429 Too Many Requests\r\nRetry-After: 0\r\n\r\n")),
    ("status", |exchange| exchange.request().raw(b"HTTP/1.1 302 Found\r\nLocation: ws://127.0.0.1:1/\r\n\r\n")),
];

#[test]
fn the_state_is_that_of_an_uninterrupted_feed_and_no_number_is_missing() {
    // Each connection repeats what the one before has brought last.
    const PIECE: usize = 300;
    const REPEATED: usize = 40;
    let exchange = Exchange::new(None);
    let served = Served::start(&exchange, timing());
    let witness = Witness::new(served.address);
    let messages = capture((TROUBLES.len() + 1) * PIECE);
    let mut refusals = REFUSALS.iter().cycle();
    let mut counted = std::collections::BTreeMap::new();
    let mut last = None;
    for (n, piece) in messages.chunks(PIECE).enumerate() {
        let mut peer = exchange.open();
        let from = (n * PIECE).saturating_sub(REPEATED);
        peer.send_all(messages[from..n * PIECE].iter().chain(piece).map(String::as_str));
        served.wait_for_applied((n + 1) * PIECE);
        let Some((reason, trouble)) = TROUBLES.get(n) else {
            last = Some(peer);
            break;
        };
        trouble(peer);
        *counted.entry(*reason).or_insert(0) += 1;
        let (reason, refuse) = refusals.next().expect("endless");
        refuse(&exchange);
        *counted.entry(*reason).or_insert(0) += 1;
    }
    assert!(last.is_some());
    served.wait_for_symbols(&expected(messages));
    let stats = served.stats();
    assert_eq!(stats["source_reconnects"], serde_json::to_value(counted).expect("counts"));
    assert_eq!(stats["source_errors"], serde_json::json!({ "old": TROUBLES.len() * REPEATED }));
    assert_eq!((&stats["source_connected"], &stats["ready"]), (&true.into(), &true.into()));
    assert!(witness.end() > 0);
}

#[test]
fn what_is_not_understood_is_counted_and_the_connection_lives_on() {
    let exchange = Exchange::new(None);
    let served = Served::start(&exchange, timing());
    let mut peer = exchange.open();
    let messages = capture(300);
    peer.send_all(messages[..100].iter().map(String::as_str));
    for (first, junk) in [
        (BINARY, &b"\x00\xff\xfe\x80"[..]),
        (TEXT, b"{\"stream\":\"btcusdt@trade\",\"data\":{"),
        (TEXT, b"{\"result\":null,\"id\":1}"),
        (TEXT, b"{\"error\":{\"code\":3,\"msg\":\"Invalid JSON\"}}"),
        (TEXT, b""),
    ] {
        peer.raw(&frame(first, junk));
    }
    // A large message is no trouble, nor is one in pieces.
    peer.raw(&frame(BINARY, &vec![b'['; 10 << 20]));
    let (head, tail) = messages[100].as_bytes().split_at(30);
    peer.raw(&[frame(TEXT & NOT_LAST, head), frame(CONTINUATION & NOT_LAST, b""), frame(CONTINUATION, tail)].concat());
    peer.send_all(messages[101..].iter().map(String::as_str));
    served.wait_for_applied(messages.len());
    served.wait_for_symbols(&expected(messages));
    let stats = served.stats();
    assert_eq!(stats["source_errors"], serde_json::json!({ "json": 4, "shape": 2 }));
    assert_eq!(sum(&stats["source_reconnects"]), 0);
}

/// The exchange wants its own payload back; that is not market data, so a feed that only pings is silent.
#[test]
fn a_ping_is_answered_and_does_not_count_as_a_message() {
    let exchange = Exchange::new(None);
    let timing = tickcast::source::Timing { stale_after: Duration::from_millis(700), ..timing() };
    let served = Served::start(&exchange, timing);
    let mut peer = exchange.open();
    let start = Instant::now();
    for payload in [&b""[..], b"1723161255343", b"\x00\xff\r\n\x80", &[0xa5; 125]] {
        assert_eq!(peer.ping(payload), payload);
    }
    // A Ping between the pieces of a message, and a Pong that nobody asked for.
    let message = capture(1)[0].as_bytes();
    peer.raw(&[frame(0x8a, b"unasked"), frame(TEXT & NOT_LAST, &message[..10])].concat());
    assert_eq!(peer.ping(b"between"), b"between");
    peer.raw(&frame(CONTINUATION, &message[10..]));
    served.wait_for_applied(1);
    let mut pings = 0;
    while served.reconnects("stale") == 0 {
        assert!(start.elapsed() < crate::support::PATIENCE, "still connected after {pings} Pings");
        peer.try_raw(&frame(0x89, b"alive"));
        pings += 1;
        std::thread::sleep(Duration::from_millis(5));
    }
    assert!(start.elapsed() >= Duration::from_millis(700) && pings > 5, "{pings}");
    exchange.open().send(&capture(2)[1]);
    wait_until("the feed to go on", || served.applied() == 2);
}

#[test]
fn an_exchange_that_asks_for_patience_gets_it() {
    let exchange = Exchange::new(None);
    let served = Served::start(&exchange, timing());
    exchange.request().raw(b"HTTP/1.1 418 I'm a teapot\r\nRetry-After: 1\r\n\r\n");
    let refused = Instant::now();
    let mut peer = exchange.open();
    assert!(refused.elapsed() >= Duration::from_millis(900), "asked again after {:?}", refused.elapsed());
    peer.send(&capture(1)[0]);
    served.wait_for_applied(1);
    assert_eq!(served.reconnects("status"), 1);
}
