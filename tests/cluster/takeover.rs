//! One origin takes over from another.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::beside_others;
use super::bus::Bus;
use super::nodes::{Cluster, NONE, Node, SIM};
use super::support::wait_until;
use super::witness::{Heard, Witness, assert_same_bytes};

/// What an outage may take with the lease as it is by default: that, and about a second to notice and to take over.
pub(super) const SOON: Duration = Duration::from_secs(3);

fn witnesses<'a>(nodes: impl IntoIterator<Item = &'a Node>) -> Vec<Witness> {
    let witnesses: Vec<_> = nodes.into_iter().map(|node| Witness::join(node, "market")).collect();
    for witness in &witnesses {
        witness.wait_for_count(10);
    }
    witnesses
}

#[test]
fn the_standby_takes_over_from_one_that_is_killed() {
    let _machine = beside_others();
    let mut cluster = Cluster::start(2, &SIM);
    cluster.edges[0].say("quiet", "before");
    let active = cluster.active();
    let clients = witnesses(cluster.edges.iter().chain([&cluster.origins[1 - active]]));
    let epoch = cluster.edges[0].metric("tickcast_cluster_epoch");
    let killed = Instant::now();
    cluster.origins[active].kill();
    let took = clients.iter().map(|client| client.wait_for_news(killed)).max();
    let took = took.expect("clients");
    super::say(&format!("live again {:.2} s after kill -9 of the active origin", took.as_secs_f64()));
    assert!(took < SOON, "{took:?}");
    assert_eq!(cluster.active(), 1 - active);
    for client in &clients {
        client.wait_for_count(client.count() + 20);
        assert!(client.is_there());
    }
    assert_same_bytes(&clients);
    cluster.all().for_each(Node::wait_until_ready);
    assert!(cluster.all().all(|node| node.metric("tickcast_cluster_epoch") > epoch));
    // What the other has published goes on from there.
    let seq = cluster.edges[1].seq("quiet");
    assert_eq!(cluster.edges[1].get("/snapshot/quiet").text(), "before");
    cluster.edges[1].say("quiet", "after");
    wait_until("the next message", || cluster.all().all(|node| node.get("/snapshot/quiet").text() == "after"));
    assert!(cluster.all().all(|node| node.seq("quiet") > seq));
    // Who comes back is the standby.
    cluster.origins[active].restart();
    cluster.origins[active].wait_until_ready();
    assert_eq!(cluster.active(), 1 - active);
    let back = Witness::join(&cluster.origins[active], "market");
    back.wait_for_count(20);
    assert_eq!(cluster.active(), 1 - active);
    assert_same_bytes(clients.iter().chain([&back]));
}

/// Publishes numbers on an edge until it is over; returns those that were accepted. None is tried twice.
fn count_up(edge: &Node, over: &AtomicBool, accepted: &AtomicU64) -> Vec<u64> {
    let numbers = (1..).take_while(|_| !over.load(Ordering::Relaxed));
    let publish = |n: &u64| {
        let is_accepted = edge.publish("count", "text/plain", n.to_string().as_bytes()).status == 200;
        accepted.fetch_add(is_accepted.into(), Ordering::Relaxed);
        is_accepted
    };
    numbers.filter(publish).collect()
}

/// Whatever becomes of the origin that has said so.
#[test]
fn what_was_accepted_is_delivered_once() {
    let _machine = beside_others();
    let mut cluster = Cluster::start(2, &NONE);
    cluster.edges[0].say("count", "0");
    wait_until("the channel", || cluster.edges[1].get("/snapshot/count").status == 200);
    let client = Witness::join(&cluster.edges[1], "count");
    let (over, count) = (AtomicBool::new(false), AtomicU64::new(0));
    let Cluster { origins, edges, .. } = &mut cluster;
    let accepted = std::thread::scope(|scope| {
        let publisher = scope.spawn(|| count_up(&edges[0], &over, &count));
        for how in [Node::kill, Node::terminate, Node::kill, Node::terminate] {
            let enough = count.load(Ordering::Relaxed) + 50;
            wait_until("publications", || count.load(Ordering::Relaxed) > enough);
            let active = usize::from(!origins[0].is_active());
            how(&mut origins[active]);
            origins[active].wait();
            wait_until("the other", || origins[1 - active].is_active());
            origins[active].restart();
            origins[active].wait_until_ready();
        }
        over.store(true, Ordering::Relaxed);
        publisher.join().expect("no panic")
    });
    let last = *accepted.last().expect("many");
    client.wait_for("the last one", |heard| heard.iter().find(|heard| heard.text() == last.to_string()).map(drop));
    let got: Vec<u64> = client.heard().iter().map(|heard| heard.text().parse().expect("a number")).collect();
    assert!(got.is_sorted_by(|a, b| a < b), "repeated or out of order: {got:?}");
    let lost: Vec<_> = accepted.iter().filter(|n| got.binary_search(n).is_err()).collect();
    assert!(lost.is_empty(), "accepted and never delivered: {lost:?}");
    super::say(&format!("{} of {} publications were accepted, and delivered", accepted.len(), last));
}

/// The lease is long, so what is short is not that it runs out.
#[test]
fn who_is_told_to_end_hands_over_at_once() {
    let _machine = beside_others();
    let source = [&SIM[..], &["--cluster-lease", "15s"]].concat();
    let mut cluster = Cluster::start(2, &source);
    let active = cluster.active();
    let clients = witnesses(&cluster.edges);
    let told = Instant::now();
    cluster.origins[active].terminate();
    wait_until("a new active origin", || cluster.origins[1 - active].is_active());
    let taken = Instant::now();
    let took = clients.iter().map(|client| client.wait_for_news(taken)).max().expect("clients") + (taken - told);
    super::say(&format!("live again {:.2} s after SIGTERM of the active origin", took.as_secs_f64()));
    assert!(took < SOON, "{took:?}");
    assert_eq!(cluster.origins[active].wait().0.code(), Some(0));
    for client in &clients {
        client.wait_for_count(client.count() + 20);
        assert!(client.is_there());
        assert_eq!(client.audit().1, 0, "what is handed over in order has no holes");
    }
    assert_same_bytes(&clients);
    assert_eq!(cluster.active(), 1 - active);
}

#[test]
fn a_standby_that_ends_disturbs_nobody() {
    let _machine = beside_others();
    let mut cluster = Cluster::start(1, &SIM);
    let active = cluster.active();
    let clients = witnesses(&cluster.edges);
    for again in [Node::kill, Node::terminate] {
        let epoch = cluster.edges[0].metric("tickcast_cluster_epoch");
        again(&mut cluster.origins[1 - active]);
        cluster.origins[1 - active].wait();
        clients[0].wait_for_count(clients[0].count() + 60);
        assert_eq!(clients[0].audit().1, 0);
        assert_eq!(cluster.edges[0].metric("tickcast_cluster_epoch"), epoch);
        cluster.origins[1 - active].restart();
        cluster.origins[1 - active].wait_until_ready();
    }
    assert_eq!(cluster.active(), active);
}

/// One that stood still for longer than its lease believes for a moment that it is active. Nobody else does.
#[test]
fn one_that_stood_still_is_not_believed() {
    let _machine = beside_others();
    let mut cluster = Cluster::start(2, &SIM);
    let active = cluster.active();
    let clients = witnesses(cluster.edges.iter().chain([&cluster.origins[1 - active]]));
    let mut bus = Bus::connect(cluster.nats.address());
    bus.subscribe("tickcast.market");
    let stopped = Instant::now();
    cluster.origins[active].stop();
    let took = clients.iter().map(|client| client.wait_for_news(stopped)).max();
    super::say(&format!("live again {:.2} s after SIGSTOP of the active origin", took.expect("clients").as_secs_f64()));
    assert!(took < Some(SOON), "{took:?}");
    assert_eq!(cluster.active(), 1 - active);
    let epoch = cluster.origins[1 - active].metric("tickcast_cluster_epoch");
    std::thread::sleep(Duration::from_secs(10).saturating_sub(stopped.elapsed()));
    cluster.origins[active].go_on();
    for client in &clients {
        client.wait_for_count(client.count() + 40);
    }
    assert_eq!(cluster.active(), 1 - active);
    assert_same_bytes(&clients);
    let back = Witness::join(&cluster.origins[active], "market");
    back.wait_for_count(10);
    assert_same_bytes(clients.iter().chain([&back]));
    assert!(cluster.all().all(|node| node.metric("tickcast_cluster_epoch") == epoch));
    // Everything under a number of the new epoch, as it went over the bus, is what clients have got.
    let (delivered, mut fenced) = (clients[0].audit().0, 0);
    let end = *delivered.keys().last().expect("messages");
    loop {
        let seen = bus.next();
        if seen.epoch() < epoch && delivered.get(&seen.seq()).is_some_and(|payload| *payload != seen.payload) {
            fenced += 1;
        }
        if seen.epoch() == epoch && seen.seq() >= end {
            break;
        }
    }
    super::say(&format!("{fenced} messages of the old epoch were ignored"));
    assert_eq!(bus.last("tickcast", "tickcast.market").epoch(), epoch);
}

/// Both at once: nobody is there for a while, and who comes goes on from what is known.
#[test]
fn numbers_go_on_when_all_origins_were_away() {
    let _machine = beside_others();
    let mut cluster = Cluster::start(1, &NONE);
    cluster.edges[0].say("desk", "1");
    cluster.edges[0].say("desk", "2");
    let client = Witness::join(&cluster.edges[0], "desk");
    let other = client.wait_for_count(1);
    assert_eq!(other[0].payload, b"2");
    cluster.origins.iter_mut().for_each(Node::kill);
    let why = cluster.edges[0].wait_until_not_ready();
    assert!(why.contains("origin"), "{why}");
    let answer = cluster.edges[0].publish("desk", "text/plain", b"lost");
    assert!(answer.status == 503 && answer.header("retry-after").is_some(), "{} {}", answer.head, answer.text());
    assert_eq!(cluster.edges[0].get("/healthz").status, 200);
    // Nobody has to be told: who was there goes on with its clients.
    cluster.origins.iter_mut().for_each(Node::restart);
    cluster.all().for_each(Node::wait_until_ready);
    cluster.edges[0].say("desk", "3");
    let texts: Vec<_> = client.wait_for_count(2).iter().map(Heard::text).collect();
    assert_eq!(texts, ["2", "3"]);
    wait_until("the message", || cluster.all().all(|node| node.get("/snapshot/desk").text() == "3"));
    assert!(cluster.all().all(|node| node.seq("desk") >= 3));
}
