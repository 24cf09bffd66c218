//! One slow client: it loses the oldest, stays fresh, and nobody else notices.

mod support;

use support::Server;
use support::client::{CLOSE, Client, PONG, TEXT};

const QUEUE: u64 = 50;
const WRITE_BUFFER: u64 = 64 << 10;
/// What the stalled client's own kernel may take for it; Linux doubles what is asked for.
const RECEIVE_BUFFER: u64 = 8 << 10;
const MESSAGE: usize = 400;
/// Messages published at a time; less than the kernels take for one client.
const BURST: u64 = 100;

/// Message number `n`, [`MESSAGE`] bytes long.
fn line(n: u64) -> String {
    format!("{{\"n\":{n},\"pad\":\"{}\"}}", "x".repeat(MESSAGE - 15 - n.to_string().len()))
}

fn body(numbers: std::ops::RangeInclusive<u64>) -> Vec<u8> {
    numbers.flat_map(|n| (line(n) + "\n").into_bytes()).collect()
}

fn number(client: &mut Client) -> u64 {
    client.json()["n"].as_u64().expect("a number")
}

#[test]
fn a_stalled_client_costs_nobody_anything_and_comes_back_fresh() {
    const BEFORE: u64 = 1_000;
    const STALLED: u64 = 20_000;
    let server =
        Server::start(&["--source", "none", "--workers", "2", "--queue-size", "50", "--write-buffer", "64KiB"]);
    server.say("x", "hello");
    let mut stalled = Client::with_small_buffer(server.address, "x", RECEIVE_BUFFER as usize / 2);
    let mut healthy = Client::connect(server.address, "x");
    assert_eq!((stalled.text(), healthy.text()), ("hello".into(), "hello".into()));
    let (tell, told) = std::sync::mpsc::channel();
    let reader = std::thread::spawn(move || {
        for expected in 1..=BEFORE + STALLED + 1 {
            assert_eq!(number(&mut healthy), expected, "a healthy client misses a message");
            if expected % BURST == 0 {
                tell.send(expected).expect("the test waits");
            }
        }
    });
    let publish = |numbers: std::ops::RangeInclusive<u64>| {
        for first in numbers.clone().step_by(BURST as usize) {
            let burst = first..=numbers.end().min(&(first + BURST - 1)).to_owned();
            let count = burst.clone().count();
            let answer = server.publish("x", "application/x-ndjson", &body(burst.clone()));
            assert_eq!(answer.json(), serde_json::json!({"published": count, "subscribers": 2}));
            // The healthy client keeps up: no faster than it reads.
            if burst.end() % BURST == 0 {
                assert_eq!(told.recv_timeout(support::PATIENCE).as_ref(), Ok(burst.end()));
            }
        }
    };
    publish(1..=BEFORE);
    let memory = server.memory();
    publish(BEFORE + 1..=BEFORE + STALLED);
    let grown = server.memory().saturating_sub(memory);
    assert!(grown < 4 << 20, "the server grew by {grown} bytes");

    // When its writer has looked at it again, a ring's worth and a frame begun are left.
    server.wait_for_metric("tickcast_frames_queued", |queued| queued <= QUEUE + 1);
    let [pushed, sent, dropped, queued, discarded] = server.metrics([
        "tickcast_frames_pushed_total",
        "tickcast_frames_sent_total",
        "tickcast_frames_dropped_total",
        "tickcast_frames_queued",
        "tickcast_frames_discarded_total",
    ]);
    assert_eq!(pushed, 2 + 2 * (BEFORE + STALLED), "published times subscribers, and each one's first");
    assert_eq!(pushed, sent + dropped + queued + discarded);
    assert!(dropped > STALLED / 2, "only {dropped} dropped");

    // It reads on: first what the kernels hold, then what the ring holds, then live.
    publish(BEFORE + STALLED + 1..=BEFORE + STALLED + 1);
    let newest = BEFORE + STALLED + 1;
    let mut numbers = vec![number(&mut stalled)];
    while *numbers.last().expect("one") < newest {
        numbers.push(number(&mut stalled));
    }
    let ordered = numbers.windows(2).all(|pair| pair[0] < pair[1]);
    assert!(ordered, "not in order: {numbers:?}");
    let old = numbers.iter().zip(1..).take_while(|(n, expected)| *n == expected).count() as u64;
    let frame = MESSAGE as u64 + 4;
    let most_old = (WRITE_BUFFER + 4 * RECEIVE_BUFFER) / frame + 1;
    assert!(old <= most_old, "{old} old messages, at most {most_old} fit in the kernels");
    let fresh = &numbers[old as usize..];
    assert!(fresh.len() as u64 <= QUEUE + 1, "{} messages were kept", fresh.len());
    assert!(fresh.windows(2).all(|pair| pair[0] + 1 == pair[1]), "the newest have holes: {fresh:?}");
    assert!(fresh[0] >= newest - QUEUE, "the oldest kept is {}, the newest {newest}", fresh[0]);
    reader.join().expect("no panic");
}

#[test]
fn control_frames_overtake_what_waits() {
    let server = Server::start(&["--source", "none", "--queue-size", "50"]);
    server.say("x", "hello");
    let mut client = Client::with_small_buffer(server.address, "x", 4 << 10);
    assert_eq!(client.text(), "hello");
    // More than all buffers: the ring is full and the socket blocked.
    let answer = server.publish("x", "application/x-ndjson", &body(1..=5_000));
    assert_eq!(answer.status, 200);
    client.send(support::client::PING, b"now");
    client.send(support::client::PING, b"and again");
    // Only what the kernels held, and the rest of a frame begun, comes before.
    let mut before = 0;
    while let (first, _) = client.read()
        && first != PONG
    {
        assert_eq!(first, TEXT);
        before += 1;
    }
    let in_kernels = before;
    assert_eq!(client.read(), (PONG, b"and again".to_vec()));
    let mut after = 0;
    while number(&mut client) < 5_000 {
        after += 1;
    }
    assert!(after >= 40, "the ring's {after} messages came behind the Pong, {in_kernels} before it");
}

#[test]
fn a_client_that_goes_leaves_nothing_uncounted() {
    let server = Server::start(&["--source", "none", "--queue-size", "10"]);
    server.say("x", "hello");
    let mut clients: Vec<_> = (0..5).map(|_| Client::with_small_buffer(server.address, "x", 4 << 10)).collect();
    clients.iter_mut().for_each(|client| assert_eq!(client.text(), "hello"));
    assert_eq!(server.publish("x", "application/x-ndjson", &body(1..=3_000)).status, 200);
    assert!(server.metric("tickcast_frames_queued") > 0, "nothing is queued: the clients do not stall");
    drop(clients);
    server.wait_for_metric("tickcast_connections", |connections| connections == 0);
    let values = server.metrics([
        "tickcast_frames_sent_total",
        "tickcast_frames_dropped_total",
        "tickcast_frames_discarded_total",
    ]);
    assert!(values[2] >= 5 * 10, "{values:?}");
    assert_eq!(server.metric("tickcast_frames_queued"), 0);
    assert_eq!(values.iter().sum::<u64>(), 5 * 3_001);
}

/// Opening and closing many connections leaves neither memory nor descriptors behind.
#[test]
fn sessions_leave_nothing_behind() {
    let server = Server::start(&["--source", "none"]);
    server.say("x", &"y".repeat(1_000));
    let descriptors = || std::fs::read_dir(format!("/proc/{}/fd", server.id())).expect("a process").count();
    let round = || {
        let mut clients: Vec<_> = (0..200).map(|_| Client::connect(server.address, "x")).collect();
        clients.iter_mut().for_each(|client| assert_eq!(client.text().len(), 1_000));
        drop(clients);
        server.wait_for_metric("tickcast_connections", |connections| connections == 0);
    };
    (0..3).for_each(|_| round());
    let (memory, open) = (server.memory(), descriptors());
    // 4,000 sessions: a leak of each one's ring alone would be 5 MB.
    (0..20).for_each(|_| round());
    support::wait_until("closing all descriptors", || descriptors() <= open);
    let grown = server.memory().saturating_sub(memory);
    assert!(grown < 4 << 20, "the server grew by {grown} bytes");
}

/// Publishes until the client's ring has lost something more.
fn make_lag(server: &Server) {
    let (mut n, dropped) = (1, server.metric("tickcast_frames_dropped_total"));
    while server.metric("tickcast_frames_dropped_total") == dropped {
        assert_eq!(server.publish("x", "application/x-ndjson", &body(n..=n + 999)).status, 200);
        n += 1_000;
    }
}

#[test]
fn who_lags_too_long_is_evicted_if_so_configured() {
    let server = Server::start(&["--source", "none", "--evict-after", "1s"]);
    server.say("x", "hello");
    let mut slow = Client::with_small_buffer(server.address, "x", RECEIVE_BUFFER as usize / 2);
    let mut healthy = Client::connect(server.address, "x");
    assert_eq!((slow.text(), healthy.text()), ("hello".into(), "hello".into()));
    let reader = std::thread::spawn(move || while healthy.text() != "end" {});
    make_lag(&server);
    // It reads, but never all there is.
    let publish_more = || assert_eq!(server.publish("x", "application/x-ndjson", &body(1..=200)).status, 200);
    let told = loop {
        publish_more();
        let (first, payload) = slow.read();
        if first == CLOSE {
            break payload;
        }
    };
    assert_eq!(told, [&1008_u16.to_be_bytes()[..], b"slow consumer"].concat());
    server.wait_for_metric("tickcast_disconnects_total{reason=\"slow\"}", |count| count == 1);
    server.wait_for_metric("tickcast_frames_queued", |queued| queued == 0);
    server.say("x", "end");
    reader.join().expect("a client that keeps up stays");
}

#[test]
fn who_catches_up_in_between_stays() {
    let server = Server::start(&["--source", "none", "--evict-after", "700ms", "--write-timeout", "700ms"]);
    server.say("x", "hello");
    let mut slow = Client::with_small_buffer(server.address, "x", RECEIVE_BUFFER as usize / 2);
    assert_eq!(slow.text(), "hello");
    for round in 0..4 {
        make_lag(&server);
        let end = format!("end {round}");
        server.say("x", &end);
        while slow.text() != end {}
        server.wait_for_metric("tickcast_frames_queued", |queued| queued == 0);
        // Longer in all than it may lag without interruption.
        std::thread::sleep(std::time::Duration::from_millis(300));
        assert_eq!(server.metric("tickcast_disconnects_total"), 0);
    }
}

#[test]
fn who_takes_nothing_is_cut_off_even_without_a_heartbeat() {
    let server = Server::start(&["--source", "none", "--heartbeat-interval", "0", "--write-timeout", "1s"]);
    server.say("x", "hello");
    let mut stalled = Client::with_small_buffer(server.address, "x", RECEIVE_BUFFER as usize / 2);
    let mut idle = Client::connect(server.address, "market");
    assert_eq!(stalled.text(), "hello");
    make_lag(&server);
    server.wait_for_metric("tickcast_disconnects_total{reason=\"stalled\"}", |count| count == 1);
    server.wait_for_metric("tickcast_frames_queued", |queued| queued == 0);
    server.say("market", "still here");
    assert_eq!(idle.text(), "still here", "who has nothing to take is not stalled");
}
