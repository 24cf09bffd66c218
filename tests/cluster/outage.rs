//! NATS goes away and comes back. Clients stay, and nobody has to start anything again.

use std::time::{Duration, Instant};

use super::beside_others;
use super::nats::Nats;
use super::nodes::{Cluster, NONE, Node, SIM};
use super::support::wait_until;
use super::takeover::SOON;
use super::witness::{Witness, assert_same_bytes};

/// How soon a node says that it is not ready.
const FEW_SECONDS: Duration = Duration::from_secs(5);

/// Kills NATS, sees that everybody says so and that clients stay, and starts it again as `prepare` leaves it;
/// returns how long it then took until every client had news.
fn interrupt(cluster: &mut Cluster, clients: &[Witness], prepare: impl FnOnce(&Nats)) -> Duration {
    let killed = Instant::now();
    cluster.nats.kill();
    for node in cluster.all() {
        let why = node.wait_until_not_ready();
        assert!(why.contains("NATS"), "{why}");
        assert_eq!(node.get("/healthz").status, 200);
        assert_eq!(node.metric("tickcast_cluster_connected"), 0);
        assert_eq!(node.get("/stats").json()["cluster"]["connected"], false);
    }
    assert!(killed.elapsed() < FEW_SECONDS, "{:?}", killed.elapsed());
    // An edge cannot publish, and says when to try again; the last message is there for who wants it.
    for edge in &cluster.edges {
        let answer = edge.publish("desk", "text/plain", b"lost");
        assert!(answer.status == 503 && answer.header("retry-after").is_some(), "{} {}", answer.head, answer.text());
        let late = Witness::join(edge, "market");
        late.wait_for_count(1);
        assert_eq!(edge.get("/snapshot/market").status, 200);
    }
    let pings: Vec<_> = clients.iter().map(Witness::pings).collect();
    wait_until("more Pings", || clients.iter().zip(&pings).all(|(client, before)| client.pings() >= before + 2));
    prepare(&cluster.nats);
    cluster.nats.restart();
    let back = Instant::now();
    let took = clients.iter().map(|client| client.wait_for_news(back)).max().expect("clients");
    cluster.all().for_each(Node::wait_until_ready);
    assert!(clients.iter().all(Witness::is_there), "nobody was sent away");
    took
}

fn goes_on(cluster: &Cluster, clients: &[Witness]) {
    cluster.active();
    for client in clients {
        client.wait_for_count(client.count() + 20);
    }
    assert_same_bytes(clients);
    cluster.edges[0].say("desk", "again");
    wait_until("a publication", || cluster.all().all(|node| node.get("/snapshot/desk").text() == "again"));
    assert!(cluster.all().all(|node| node.metric("tickcast_cluster_reconnects_total") > 0));
}

fn clients(cluster: &Cluster) -> Vec<Witness> {
    let clients: Vec<_> = cluster.edges.iter().map(|edge| Witness::join(edge, "market")).collect();
    for client in &clients {
        client.wait_for_count(10);
    }
    clients
}

#[test]
fn nats_is_killed_and_comes_back() {
    let _machine = beside_others();
    let mut cluster = Cluster::start(2, &SIM);
    let clients = clients(&cluster);
    let took = interrupt(&mut cluster, &clients, |_| ());
    super::say(&format!("live again {:.2} s after the return of NATS", took.as_secs_f64()));
    assert!(took < SOON, "{took:?}");
    goes_on(&cluster, &clients);
}

#[test]
fn nats_comes_back_with_an_empty_store() {
    let _machine = beside_others();
    let mut cluster = Cluster::start(2, &SIM);
    cluster.edges[0].say("quiet", "the only one");
    wait_until("a publication", || cluster.all().all(|node| node.get("/snapshot/quiet").status == 200));
    let clients = clients(&cluster);
    let epoch = cluster.edges[0].metric("tickcast_cluster_epoch");
    let took = interrupt(&mut cluster, &clients, Nats::empty);
    super::say(&format!("live again {:.2} s after the return of NATS without its store", took.as_secs_f64()));
    assert!(took < SOON, "{took:?}");
    goes_on(&cluster, &clients);
    assert!(cluster.all().all(|node| node.metric("tickcast_cluster_epoch") > epoch), "older messages stay older");
    // What was in the store and is known to the origin is there again for who comes new.
    let edge = Node::edge(&cluster.nats, &[]);
    edge.wait_until_ready();
    assert_eq!(edge.get("/snapshot/quiet").text(), "the only one");
    cluster.edges[0].say("quiet", "the next one");
    wait_until("the next one", || edge.get("/snapshot/quiet").text() == "the next one");
}

#[test]
fn nodes_wait_for_a_nats_that_is_not_there_yet() {
    let _machine = beside_others();
    let mut nats = Nats::start();
    nats.kill();
    let nodes = [Node::origin(&nats, &NONE), Node::origin(&nats, &NONE), Node::edge(&nats, &[])];
    for node in &nodes {
        let why = node.wait_until_not_ready();
        assert!(why.contains("NATS"), "{why}");
        assert_eq!(node.get("/healthz").status, 200);
    }
    nats.restart();
    nodes.iter().for_each(Node::wait_until_ready);
    nodes[2].say("desk", "1");
    wait_until("a publication", || nodes.iter().all(|node| node.get("/snapshot/desk").text() == "1"));
}

/// What the store holds is enough to go on, when everybody was away.
#[test]
fn a_cluster_that_was_shut_down_goes_on_where_it_was() {
    let _machine = beside_others();
    let mut cluster = Cluster::start(1, &NONE);
    for n in 1..=3 {
        cluster.edges[0].say("desk", &n.to_string());
    }
    cluster.origins.iter_mut().chain(&mut cluster.edges).for_each(Node::kill);
    cluster.nats.kill();
    cluster.nats.restart();
    cluster.origins.iter_mut().chain(&mut cluster.edges).for_each(Node::restart);
    cluster.all().for_each(Node::wait_until_ready);
    wait_until("the last message", || cluster.all().all(|node| node.get("/snapshot/desk").text() == "3"));
    let client = Witness::join(&cluster.edges[0], "desk");
    cluster.edges[0].say("desk", "4");
    assert_eq!(client.wait_for_count(2)[1].payload, b"4");
    assert!(cluster.edges[0].seq("desk") >= 4);
}
