//! The same bytes in the same order on every node, from whichever node they come.

use super::nats::Nats;
use super::nodes::{Cluster, NONE, Node, SIM};
use super::support::client::{BINARY, Client, TEXT};
use super::support::http::Answer;
use super::support::wait_until;
use super::witness::{Heard, Witness, assert_same_bytes};
use super::{alone, beside_others};

fn exists(node: &Node, channel: &str) {
    wait_until(&format!("the channel {channel}"), || node.get(&format!("/snapshot/{channel}")).status == 200);
}

fn accepted(answer: &Answer, published: u64) {
    let json = || answer.json()["published"].as_u64();
    assert!(answer.status == 200 && json() == Some(published), "{}: {}", answer.status, answer.text());
}

#[test]
fn every_node_serves_the_same_market() {
    let _machine = beside_others();
    let cluster = Cluster::start(2, &SIM);
    let witnesses: Vec<_> = cluster.all().map(|node| Witness::join(node, "market")).collect();
    for witness in &witnesses {
        witness.wait_for_count(30);
    }
    assert_same_bytes(&witnesses);
    for witness in &witnesses {
        assert_eq!(witness.audit().1, 0, "no hole");
    }
    for node in cluster.all() {
        assert_eq!(node.losses(), 0);
        assert_eq!(node.metric("tickcast_cluster_connected"), 1);
    }
    let (active, standby) = cluster.active_and_standby();
    let epoch = active.metric("tickcast_cluster_epoch");
    assert!(epoch > 0);
    for node in cluster.all() {
        assert_eq!(node.metric("tickcast_cluster_epoch"), epoch);
        let stats = node.get("/stats").json();
        let (expected, role) = if cluster.edges.iter().any(|edge| edge.address == node.address) {
            (false, "edge")
        } else {
            (node.address == active.address, "origin")
        };
        let about = &stats["cluster"];
        assert_eq!((about["active"].as_bool(), about["role"].as_str()), (Some(expected), Some(role)), "{about}");
        assert_eq!((about["connected"].as_bool(), about["epoch"].as_u64()), (Some(true), Some(epoch)), "{about}");
    }
    assert_eq!(standby.metric("tickcast_cluster_sent_total"), 0, "who is not active is silent");
    assert!(standby.metric("tickcast_cluster_received_total") > 0);
}

/// Nobody listens at the active origin itself: what is serialised for nobody there is wanted elsewhere.
#[test]
fn the_market_moves_for_the_clients_of_other_nodes() {
    let _machine = beside_others();
    let cluster = Cluster::start(1, &SIM);
    let first = Witness::join(&cluster.edges[0], "market").wait_for_count(20);
    let seqs: Vec<_> = first.iter().map(Heard::seq).collect();
    assert!(seqs.windows(2).all(|pair| pair[0] + 1 == pair[1]), "{seqs:?}");
}

/// Publishes on several nodes at once, each in its way; returns how many messages that makes.
fn publish_everywhere(cluster: &Cluster) -> usize {
    const EACH: usize = 20;
    let (active, standby) = cluster.active_and_standby();
    let (json, lines) = (&cluster.edges[0], &cluster.edges[1]);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for n in 0..EACH {
                let body = format!("{{ \"from\" : \"edge\",\t\"n\": {n}, \"pi\":3.1400e0, \"ä\":\"\\u00e4\" }} ");
                accepted(&json.publish("desk", "application/json", body.as_bytes()), 1);
            }
        });
        scope.spawn(|| {
            for n in 0..EACH {
                accepted(&standby.publish("desk", "text/plain", format!("standby\n{n}\0é").as_bytes()), 1);
            }
        });
        scope.spawn(|| {
            for n in 0..EACH {
                accepted(&active.publish("desk", "application/octet-stream", &[0xff, 0, n as u8, b'\r', b'\n']), 1);
            }
        });
        scope.spawn(|| {
            let body: String = (0..EACH).map(|n| format!("{{\"line\":{n}}}\n")).collect();
            accepted(&lines.publish("desk", "application/x-ndjson", body.as_bytes()), EACH as u64);
        });
    });
    4 * EACH
}

#[test]
fn what_is_published_anywhere_reaches_everybody_in_one_order() {
    let _machine = beside_others();
    let cluster = Cluster::start(2, &NONE);
    accepted(&cluster.edges[0].publish("desk", "text/plain", b"first"), 1);
    cluster.all().for_each(|node| exists(node, "desk"));
    let witnesses: Vec<_> = cluster.all().map(|node| Witness::join(node, "desk")).collect();
    for witness in &witnesses {
        assert_eq!(witness.wait_for_count(1)[0].payload, b"first");
    }
    let count = 1 + publish_everywhere(&cluster);
    let heard: Vec<Vec<_>> = witnesses
        .iter()
        .map(|witness| witness.wait_for_count(count).into_iter().map(|heard| (heard.first, heard.payload)).collect())
        .collect();
    for other in &heard[1..] {
        assert!(*other == heard[0], "not the same order or not the same bytes");
    }
    let is_there = |kind: u8, payload: &[u8]| {
        assert_eq!(heard[0].iter().filter(|one| **one == (kind, payload.to_vec())).count(), 1);
    };
    is_there(TEXT, "{ \"from\" : \"edge\",\t\"n\": 7, \"pi\":3.1400e0, \"ä\":\"\\u00e4\" } ".as_bytes());
    is_there(TEXT, "standby\n7\0é".as_bytes());
    is_there(BINARY, &[0xff, 0, 7, b'\r', b'\n']);
    is_there(TEXT, b"{\"line\":7}");
    let last = &heard[0][count - 1].1;
    for node in cluster.all() {
        assert_eq!(node.get("/snapshot/desk").body, *last);
        assert_eq!(node.seq("desk"), count as u64);
    }
    for witness in witnesses {
        assert_eq!(witness.count(), count, "nothing else");
    }
}

/// A publication is checked where it comes in, and answered as if there were no cluster.
#[test]
fn a_publication_is_answered_where_it_is_made() {
    let _machine = beside_others();
    let cluster = Cluster::start(2, &NONE);
    let (active, standby) = cluster.active_and_standby();
    let here = &cluster.edges[0];
    accepted(&here.publish("desk", "text/plain", b"first"), 1);
    exists(here, "desk");
    let clients: Vec<_> = (0..3).map(|_| Witness::join(here, "desk")).collect();
    for client in &clients {
        client.wait_for_count(1);
    }
    for (node, subscribers) in [(here, 3), (&cluster.edges[1], 0), (active, 0), (standby, 0)] {
        let answer = node.publish("desk", "application/json", b"[1]");
        assert_eq!(answer.json(), serde_json::json!({ "published": 1, "subscribers": subscribers }), "its own clients");
        for (channel, kind, body, status, word) in [
            ("desk", "application/json", &b"{"[..], 400, "not JSON"),
            ("desk", "text/plain", b"\xff", 400, "not UTF-8"),
            ("desk", "application/xml", b"<a/>", 415, "not supported"),
            ("b%20d", "text/plain", b"x", 400, "not valid"),
            ("a*", "text/plain", b"x", 400, "not valid"),
        ] {
            let answer = node.publish(channel, kind, body);
            assert!(answer.status == status && answer.error().contains(word), "{} {}", answer.status, answer.text());
        }
        let answer = node.publish("desk", "application/x-ndjson", b"1\n2\n{\n4\n");
        let json = answer.json();
        assert_eq!((answer.status, &json["line"], &json["published"]), (400, &3.into(), &2.into()), "{json}");
    }
    for client in clients {
        client.wait_for_count(1 + 4 * 3);
    }
}

/// Names with dots and colons are channels as others are, and a message as large as the bus takes arrives.
#[test]
fn names_and_sizes_go_through() {
    let _machine = beside_others();
    let cluster = Cluster::start(1, &NONE);
    let longest = "x".repeat(64);
    let large = vec![b'a'; 1_000_000];
    for (n, channel) in ["a.b.c", "a:b", "A-Z_0", "publish.x", &longest].into_iter().enumerate() {
        let body = [format!("{n} ").as_bytes(), &large].concat();
        let answer = cluster.edges[0].publish(channel, "text/plain", &body);
        accepted(&answer, 1);
        for node in cluster.all() {
            exists(node, channel);
            assert_eq!(node.get(&format!("/snapshot/{channel}")).body, body, "{channel}");
        }
    }
    // Who comes later gets them from the store, in which they are no smaller.
    let late = Node::edge(&cluster.nats, &[]);
    late.wait_until_ready();
    assert!(late.get("/snapshot/a.b.c").body.starts_with(b"0 aaa"));
    assert_eq!(late.get(&format!("/snapshot/{longest}")).body.len(), large.len() + 2);
    // What alone is a name of a channel, and cannot be told from others on the bus.
    for channel in ["..", ".a", "a.", "a..b"] {
        let answer = cluster.edges[0].publish(channel, "text/plain", b"a");
        assert_eq!(answer.status, 400, "{channel}: {}", answer.text());
    }
    let answer = cluster.edges[0].publish("large", "text/plain", &vec![b'a'; 3_000_000]);
    assert_eq!(answer.status, 413, "{}", answer.text());
    accepted(&cluster.edges[0].publish("large", "text/plain", b"a"), 1);
}

#[test]
fn who_comes_later_has_the_last_message_at_once() {
    let _machine = beside_others();
    let mut cluster = Cluster::start(1, &NONE);
    cluster.edges[0].say("quiet", "the only one");
    cluster.edges[0].say("desk", "1");
    cluster.edges[0].say("desk", "2");
    let edge = Node::edge(&cluster.nats, &[]);
    edge.wait_until_ready();
    let mut client = Client::connect(edge.address, "quiet");
    assert_eq!(client.text(), "the only one");
    let desk = Witness::join(&edge, "desk");
    cluster.edges[0].say("desk", "3");
    edge.say("desk", "4");
    let texts = |witness: &Witness, count| witness.wait_for_count(count).iter().map(Heard::text).collect::<Vec<_>>();
    assert_eq!(texts(&desk, 3), ["2", "3", "4"]);
    // One that was away while somebody went on.
    cluster.edges[0].kill();
    edge.say("desk", "5");
    edge.say("meanwhile", "1");
    cluster.edges[0].restart();
    let back = &cluster.edges[0];
    back.wait_until_ready();
    assert_eq!(Client::connect(back.address, "quiet").text(), "the only one");
    assert_eq!(Client::connect(back.address, "meanwhile").text(), "1");
    let again = Witness::join(back, "desk");
    back.say("desk", "6");
    assert_eq!(texts(&again, 2), ["5", "6"]);
    assert_eq!(texts(&desk, 5), ["2", "3", "4", "5", "6"]);
    assert_eq!((desk.count(), again.count()), (5, 2), "none twice");
    assert_eq!((edge.losses(), back.losses()), (0, 0));
    drop(client);
}

/// Clients that come and go while the market moves, at an edge that has just said that it is ready.
#[test]
fn who_comes_at_once_misses_nothing() {
    let _machine = alone();
    let cluster = Cluster::start(0, &SIM);
    for _ in 0..5 {
        let edge = Node::edge(&cluster.nats, &[]);
        edge.wait_until_ready();
        let known = cluster.origins[0].seq("market");
        let witness = Witness::join(&edge, "market");
        let first = witness.wait_for_count(1)[0].seq();
        assert!(first + 2 >= known, "{first}, and {known} a moment before");
        witness.wait_for_count(10);
        assert_eq!(witness.audit().1, 0);
        assert_eq!(edge.losses(), 0);
    }
}

#[test]
fn two_clusters_share_a_bus() {
    let _machine = beside_others();
    let one = Cluster::start(1, &NONE);
    let other = ["--cluster-subject", "prod.tickcast"];
    let origin = Node::origin(&one.nats, &[&other[..], &NONE].concat());
    let edge = Node::edge(&one.nats, &other);
    origin.wait_until_ready();
    edge.wait_until_ready();
    assert!(origin.is_active(), "nobody else is there");
    one.edges[0].say("desk", "one");
    edge.say("desk", "other");
    for (node, text) in one.all().map(|node| (node, "one")).chain([(&origin, "other"), (&edge, "other")]) {
        exists(node, "desk");
        assert_eq!((node.get("/snapshot/desk").text(), node.seq("desk")), (text.to_owned(), 1));
        assert_eq!(node.metric("tickcast_cluster_ignored_total"), 0);
    }
}

/// A market that is larger than what NATS carries: nobody gets anything, and somebody is told.
#[test]
fn a_snapshot_that_the_bus_does_not_carry_is_told() {
    let _machine = beside_others();
    let nats = Nats::with("max_payload: 65536");
    let mut origin = Node::origin(&nats, &["--source", "sim", "--sim-symbols", "1000", "--sim-rate", "10000"]);
    let edge = Node::edge(&nats, &[]);
    let line = origin.wait_for_line("max_payload");
    assert!(line.contains("market") && line.contains("65536"), "{line}");
    let too_big = "tickcast_cluster_lost_total{reason=\"too_big\"}";
    origin.wait_for_metric(too_big, |count| count > 1);
    // What fits goes through all the same.
    wait_until("a publication", || edge.publish("desk", "text/plain", b"small").status == 200);
    exists(&edge, "desk");
    let answer = edge.publish("desk", "text/plain", &vec![b'a'; 65_536]);
    assert!(answer.status == 413 && answer.error().contains("max_payload"), "{} {}", answer.status, answer.text());
}
