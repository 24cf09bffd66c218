//! Clients that send as much as they can: the others are served all the while.

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::support::Server;
use crate::support::client::{BINARY, Client, PING, PONG, TEXT, frame};
use crate::wait_for_ended;

/// A client that pings and does not read is not answered without bound, and loses no answer.
#[test]
fn a_flood_of_pings_is_throttled_not_buffered() {
    const PINGS: usize = 200_000;
    let server = Server::start(&["--source", "none", "--messages-per-second", "0"]);
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

/// One writer for all: what floods it has its turn, and no more than that.
#[test]
fn neighbours_of_floods_miss_nothing() {
    const MESSAGES: u64 = 20;
    const FLOODERS: usize = 8;
    let empty = [frame(0x01, b""), frame(0x00, b"").repeat(2_000), frame(0x80, b"")].concat();
    for flood in [
        empty,
        frame(TEXT, b"").repeat(2_000),
        frame(BINARY, b"x").repeat(2_000),
        frame(BINARY, &[0; 60_000]),
        frame(PONG, b"").repeat(2_000),
        [frame(PONG, &[0; 125]), frame(TEXT, "ä€😀".as_bytes())].concat().repeat(200),
    ] {
        let arguments =
            ["--source", "none", "--workers", "1", "--heartbeat-interval", "0", "--messages-per-second", "0"];
        let server = Server::start(&arguments);
        server.say("news", "first");
        let mut neighbour = Client::connect(server.address, "news");
        assert_eq!(neighbour.text(), "first");
        let (flooding, sent) = (Arc::new(AtomicBool::new(true)), Arc::new(AtomicU64::new(0)));
        let flood = Arc::new(flood);
        let start = |_| {
            let mut client = Client::connect(server.address, "market");
            let (flooding, sent, flood) = (Arc::clone(&flooding), Arc::clone(&sent), Arc::clone(&flood));
            std::thread::spawn(move || {
                while flooding.load(Ordering::Relaxed) {
                    client.stream.write_all(&flood).expect("the flood is allowed");
                    sent.fetch_add(1, Ordering::Relaxed);
                }
            })
        };
        let floods: Vec<_> = (0..FLOODERS).map(start).collect();
        let mut seen = 0;
        for n in 0..MESSAGES {
            server.say("news", &n.to_string());
            assert_eq!(neighbour.text(), n.to_string());
            neighbour.send(PING, b"");
            assert_eq!(neighbour.read(), (PONG, vec![]));
            seen = sent.load(Ordering::Relaxed);
        }
        assert!(seen > FLOODERS as u64, "the flood was read meanwhile");
        flooding.store(false, Ordering::Relaxed);
        floods.into_iter().for_each(|flood| flood.join().expect("no panic"));
        assert_eq!(server.metric("tickcast_disconnects_total{reason=\"protocol\"}"), 0);
    }
}

/// Frames of any kind count, whole messages or not.
#[test]
fn a_flood_over_the_limit_is_ended() {
    let server = Server::start(&["--source", "none", "--messages-per-second", "50"]);
    let mut count = 0;
    for flood in [
        frame(PING, b"").repeat(101),
        frame(PONG, b"").repeat(101),
        frame(TEXT, b"x").repeat(101),
        [frame(0x01, b""), frame(0x00, b"").repeat(100)].concat(),
    ] {
        let mut client = Client::connect(server.address, "market");
        client.stream.write_all(&flood).expect("sent");
        let (code, text, _) = client.read_to_close();
        assert_eq!((code, &*text), (1008, "too many messages"));
        count += 1;
        wait_for_ended(&server, "flood", count);
    }
    // As many as it may, in pieces that do not count by themselves.
    let mut client = Client::connect(server.address, "market");
    for byte in frame(PING, b"x").repeat(50) {
        client.stream.write_all(&[byte]).expect("sent");
    }
    (0..50).for_each(|_| assert_eq!(client.read(), (PONG, b"x".to_vec())));
}
