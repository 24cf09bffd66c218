//! An edge that does not keep up holds nobody back.

use std::time::{Duration, Instant};

use super::beside_others;
use super::nats::Nats;
use super::nodes::{Cluster, NONE, Node, SIM};
use super::support::wait_until;
use super::witness::{Heard, Witness, assert_same_bytes};

/// Longest silence between two messages within a time.
fn longest_silence(heard: &[Heard], from: Instant, to: Instant) -> Duration {
    let times = heard.iter().map(|heard| heard.at).filter(|at| (from..to).contains(at));
    let times: Vec<_> = [from].into_iter().chain(times).chain([to]).collect();
    times.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or_default()
}

#[test]
fn an_edge_that_stands_still_holds_nobody_back() {
    let _machine = beside_others();
    let mut cluster = Cluster::start(2, &SIM);
    let clients: Vec<_> = cluster.edges.iter().map(|edge| Witness::join(edge, "market")).collect();
    clients.iter().for_each(|client| drop(client.wait_for_count(10)));
    let stopped = Instant::now();
    cluster.edges[0].stop();
    let before = clients[1].count();
    // Eighty at twenty a second: four seconds.
    clients[1].wait_for_count(before + 80);
    let silence = longest_silence(&clients[1].heard(), stopped, Instant::now());
    assert!(silence < Duration::from_secs(1), "{silence:?}");
    assert_eq!(clients[1].audit().1, 0);
    let newest = cluster.edges[1].seq("market");
    cluster.edges[0].go_on();
    clients[0].wait_for_seq(newest);
    clients[0].wait_for_count(clients[0].count() + 20);
    assert_same_bytes(&clients);
    assert!(clients[0].is_there() && clients[0].audit().1 <= cluster.edges[0].losses());
    assert_eq!(cluster.edges[1].losses(), 0);
    cluster.all().for_each(Node::wait_until_ready);
}

/// NATS ends the connection of one that takes nothing for too long. It connects again and has what is newest.
#[test]
fn an_edge_that_nats_has_given_up_catches_up() {
    let _machine = beside_others();
    let nats = Nats::with("write_deadline: \"500ms\"\nmax_pending: 4MB");
    let origin = Node::origin(&nats, &NONE);
    let mut edges = [Node::edge(&nats, &[]), Node::edge(&nats, &[])];
    edges.iter().chain([&origin]).for_each(Node::wait_until_ready);
    origin.say("small", "before");
    wait_until("a publication", || edges.iter().all(|edge| edge.get("/snapshot/small").text() == "before"));
    let clients: Vec<_> = edges.iter().map(|edge| Witness::join(edge, "small")).collect();
    edges[0].stop();
    // More than the kernel holds for a connection, and the bus besides.
    let large = vec![b'x'; 900_000];
    for n in 0..40 {
        let body = [format!("{n} ").as_bytes(), &large].concat();
        assert_eq!(origin.publish("large", "text/plain", &body).status, 200);
        origin.say("small", &n.to_string());
    }
    wait_until("all of them", || clients[1].count() == 41);
    let mut bus = super::bus::Bus::connect(nats.address());
    bus.flush();
    edges[0].go_on();
    edges[0].wait_for_metric("tickcast_cluster_reconnects_total", |count| count > 0);
    edges[0].wait_until_ready();
    wait_until("the newest", || edges[0].get("/snapshot/large").body.starts_with(b"39 "));
    clients[0].wait_for("the newest", |heard| heard.iter().find(|heard| heard.payload == b"39").map(drop));
    let numbers: Vec<i64> = clients[0].heard().iter().filter_map(|heard| heard.text().parse().ok()).collect();
    assert!(numbers.is_sorted_by(|a, b| a < b), "repeated or out of order: {numbers:?}");
    let lost = 40 - numbers.len() as u64;
    assert!(lost <= edges[0].losses(), "{lost} lost, {} counted", edges[0].losses());
    assert!(clients.iter().all(Witness::is_there));
    assert_eq!(edges[1].metric("tickcast_cluster_missed_total"), 0);
    assert_eq!(edges[1].metric("tickcast_cluster_reconnects_total"), 0);
}
