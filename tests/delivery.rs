//! First the channel's last message, then every later one: no hole, no repeat.

mod support;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use support::client::{BINARY, Client, TEXT};
use support::{PATIENCE, Server, wait_until};
use tickcast::fanout::{Busy, Channel, Hub, HubConfig, Message, Subscription};

fn publish(channel: &Channel, message: &Message) {
    while channel.publish(message.clone()) == Err(Busy) {
        std::thread::yield_now();
    }
}

/// Takes `count` frames that must be numbered without hole or repeat; returns the first number.
fn take_consecutive(subscription: &mut Subscription, count: u64) -> u64 {
    let mut first = None;
    let mut taken = 0;
    while taken < count {
        let Some(frame) = subscription.try_recv() else {
            std::thread::yield_now();
            continue;
        };
        let first = *first.get_or_insert(frame.seq());
        assert_eq!(frame.seq(), first + taken, "the frame after {taken} others");
        taken += 1;
    }
    first.expect("count is positive")
}

/// Thousands of joins while several threads publish. Rings hold everything that is published while
/// a subscriber is there, so whatever is missing or repeated is the join's fault.
#[test]
fn joins_race_publications() {
    const JOINERS: usize = 3;
    const JOINS: usize = 2_000;
    let hub = Hub::new(HubConfig { queue_size: 1 << 14, ..HubConfig::default() });
    let channel = hub.channel("race").expect("a name");
    let done = AtomicBool::new(false);
    let joined_behind = AtomicU64::new(0);
    let start = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    publish(&channel, &Message::text("tick"));
                    std::thread::yield_now();
                }
            });
        }
        let joiners: Vec<_> = (0..JOINERS)
            .map(|_| {
                scope.spawn(|| {
                    // Enough of them, and at least one that met a publication.
                    for joins in 0.. {
                        let met = joined_behind.load(Ordering::Relaxed) > 0;
                        if joins >= JOINS && met || start.elapsed() > PATIENCE {
                            break;
                        }
                        let before = channel.seq();
                        let mut subscription = hub.subscribe(&channel);
                        let first = take_consecutive(&mut subscription, 5);
                        assert!(first >= before.max(1), "joined at {before} or later, got {first}");
                        joined_behind.fetch_add(u64::from(first > before), Ordering::Relaxed);
                        assert_eq!(subscription.lagged(), 0, "the ring was to hold everything");
                    }
                })
            })
            .collect();
        for joiner in joiners {
            if let Err(panic) = joiner.join() {
                done.store(true, Ordering::Relaxed);
                std::panic::resume_unwind(panic);
            }
        }
        done.store(true, Ordering::Relaxed);
    });
    assert!(joined_behind.into_inner() > 0, "no join ever met a publication: the race was not run");
    assert_eq!(channel.subscribers(), 0);
    let counters = channel.counters();
    let received = hub.metrics().sent().0;
    assert_eq!(counters.pushed.get(), received + counters.discarded.get() + counters.dropped.get());
}

#[test]
fn a_subscriber_sits_in_several_channels() {
    let hub = Hub::default();
    let (a, b) = (hub.channel("a").expect("a name"), hub.channel("b").expect("a name"));
    for n in 1..=3 {
        publish(&b, &Message::text(format!("b{n}")));
    }
    let mut subscription = hub.subscribe(&a);
    publish(&a, &Message::text("a1"));
    subscription.join(&b);
    subscription.join(&b);
    publish(&b, &Message::text("b4"));
    subscription.leave(&a);
    publish(&a, &Message::text("a2"));
    publish(&b, &Message::text("b5"));
    let received: Vec<_> = std::iter::from_fn(|| subscription.try_recv()).map(|frame| frame.payload()).collect();
    assert_eq!(received, ["a1", "b3", "b4", "b5"]);
    drop(subscription);
    assert_eq!((a.subscribers(), b.subscribers()), (0, 0));
}

#[test]
fn a_full_ring_loses_the_oldest_and_says_how_many() {
    let hub = Hub::new(HubConfig { queue_size: 3, ..HubConfig::default() });
    let channel = hub.channel("x").expect("a name");
    let mut subscription = hub.subscribe(&channel);
    for n in 1..=10 {
        publish(&channel, &Message::text(n.to_string()));
    }
    let received: Vec<_> = std::iter::from_fn(|| subscription.try_recv()).map(|frame| frame.seq()).collect();
    assert_eq!((received, subscription.lagged(), subscription.lagged()), (vec![8, 9, 10], 7, 0));
    publish(&channel, &Message::text("11"));
    drop(subscription);
    let counters = channel.counters();
    let counted = [&counters.pushed, &counters.dropped, &counters.discarded].map(|counter| counter.get());
    assert_eq!(counted, [11, 7, 1]);
}

/// The same promise over sockets, with clients that come while a stream is published.
#[test]
fn clients_that_come_during_a_stream_miss_and_repeat_nothing() {
    const LINES: usize = 4_000;
    // Who joins is owed what comes from then on, up to a ring full until it is answered: a handshake that
    // gets no processor for long must not lose any here.
    let server = Server::start(&["--source", "none", "--workers", "2", "--queue-size", "4000"]);
    server.say("numbers", "0");
    let body: String = (1..=LINES).map(|n| format!("{n}\n")).collect();
    let firsts: Vec<usize> = std::thread::scope(|scope| {
        let clients: Vec<_> = (0..40)
            .map(|n| {
                let server = &server;
                scope.spawn(move || {
                    wait_until("the stream", || n < 20 || server.metric("tickcast_messages_published_total") > n * 50);
                    let mut client = Client::connect(server.address, "numbers");
                    let first: usize = client.text().parse().expect("a number");
                    for expected in first + 1..=LINES {
                        assert_eq!(client.text(), expected.to_string());
                    }
                    first
                })
            })
            .collect();
        wait_until("the first clients", || server.metric("tickcast_connections") >= 20);
        let answer = server.publish("numbers", "application/x-ndjson", body.as_bytes());
        assert_eq!(answer.json()["published"], LINES);
        clients.into_iter().map(|client| client.join().expect("no panic")).collect()
    });
    assert!(firsts.iter().filter(|first| **first == 0).count() >= 20, "{firsts:?}");
    assert_eq!(server.metric("tickcast_frames_dropped_total"), 0);
}

/// A client that has been told that it is connected is: what is published next reaches it, all of it.
#[test]
fn who_is_connected_misses_nothing() {
    let server = Server::start(&["--source", "none"]);
    server.say("x", "0");
    let mut clients = Vec::new();
    for n in 1..=100 {
        clients.push(Client::connect(server.address, "x"));
        let lines = format!("{}\n{}\n", 2 * n - 1, 2 * n);
        let answer = server.publish("x", "application/x-ndjson", lines.as_bytes());
        assert_eq!(answer.json(), serde_json::json!({"published": 2, "subscribers": n}));
    }
    for (n, client) in clients.iter_mut().enumerate() {
        for expected in 2 * n..=200 {
            assert_eq!(client.text(), expected.to_string());
        }
    }
}

#[test]
fn everybody_gets_the_bytes_as_they_were_published() {
    let server = Server::start(&["--source", "none"]);
    let json = format!("{{ \"a\" : 1.10, \"b\":\"\\u00e9é\", \"pad\":\"{}\" }}", "x".repeat(2_500_000));
    assert_eq!(server.publish("market", "application/json", json.as_bytes()).status, 200);
    let mut clients: Vec<_> = (0..20).map(|_| Client::connect(server.address, "market")).collect();
    let binary: Vec<u8> = (0..=255).cycle().take(70_000).collect();
    let published = server.publish("market", "application/octet-stream", &binary);
    assert_eq!(published.json(), serde_json::json!({"published": 1, "subscribers": 20}));
    assert_eq!(server.get("/snapshot/market").body, binary);
    for client in &mut clients {
        assert!(client.read() == (TEXT, json.clone().into_bytes()), "2.5 MB differ");
        assert!(client.read() == (BINARY, binary.clone()), "the binary message differs");
    }
}

/// published × subscribers = sent + dropped + queued + discarded, at rest.
#[test]
fn every_frame_is_accounted_for() {
    // Nothing may be lost only because a writer gets no processor for a while.
    let server = Server::start(&["--source", "none", "--queue-size", "128"]);
    server.say("x", "first");
    let mut clients: Vec<_> = (0..30).map(|_| Client::connect(server.address, "x")).collect();
    clients.iter_mut().for_each(|client| assert_eq!(client.text(), "first"));
    for n in 0..100 {
        server.say("x", &n.to_string());
    }
    for client in &mut clients {
        for n in 0..100 {
            assert_eq!(client.text(), n.to_string());
        }
    }
    assert_eq!(server.wait_for_metric("tickcast_frames_sent_total", |sent| sent >= 30 * 101), 30 * 101);
    let rest = ["tickcast_frames_queued", "tickcast_frames_dropped_total", "tickcast_frames_discarded_total"];
    assert_eq!(rest.map(|name| server.metric(name)), [0, 0, 0]);
}
