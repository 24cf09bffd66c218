//! What an origin begins with: how old it is, whose lease it waits for, and what it may promise when it knows nothing.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::beside_others;
use super::nats::Nats;
use super::nodes::{Cluster, NONE, Node, SIM};
use super::support::wait_until;
use super::witness::Witness;

fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970")
}

#[test]
fn the_first_snapshot_after_a_takeover_is_a_new_one() {
    let _machine = beside_others();
    let mut cluster = Cluster::start(1, &SIM);
    let client = Witness::join(&cluster.edges[0], "market");
    // The standby has made its first snapshot long before.
    client.wait_for_count(40);
    let active = cluster.active();
    let epoch = cluster.edges[0].metric("tickcast_cluster_epoch");
    cluster.origins[active].kill();
    let (killed, seq) = (now(), cluster.edges[0].seq("market"));
    wait_until("another reign", || cluster.edges[0].metric("tickcast_cluster_epoch") > epoch);
    let first = client.wait_for("a message of it", |heard| heard.iter().find(|heard| heard.seq() > seq + 1).cloned());
    let snapshots: serde_json::Value = serde_json::from_slice(&first.payload).expect("JSON");
    let made = Duration::from_micros(snapshots["ts"].as_u64().expect("a time"));
    let before = client.heard().into_iter().find(|heard| heard.seq() == first.seq() - 1).expect("the one before");
    let before: serde_json::Value = serde_json::from_slice(&before.payload).expect("JSON");
    let before = Duration::from_micros(before["ts"].as_u64().expect("a time"));
    // One may have been on its way when its origin was killed; none is from before that.
    assert!(made > killed, "{made:?} {killed:?}");
    assert!(before + Duration::from_millis(500) > killed, "{before:?} {killed:?}");
}

#[test]
fn an_origin_waits_as_long_as_the_holder_counts_on_its_lease() {
    let _machine = beside_others();
    let nats = Nats::start();
    let holder = Node::origin(&nats, &[&SIM[..], &["--cluster-lease", "20"]].concat());
    holder.wait_until_ready();
    let client = Witness::join(&holder, "market");
    let epoch = holder.metric("tickcast_cluster_epoch");
    let hasty = Node::origin(&nats, &[&SIM[..], &["--cluster-lease", "0.5"]].concat());
    hasty.wait_until_ready();
    // It writes its lease anew once a second, and the other would have taken it twice meanwhile.
    for count in 1..=60 {
        client.wait_for_count(client.count().max(count));
        assert!(!hasty.is_active());
    }
    assert!(holder.is_active());
    assert_eq!(holder.metric("tickcast_cluster_epoch"), epoch);
}

/// NATS and its origin have lost everything; only an edge knows where the channels are.
#[test]
fn nothing_is_accepted_that_nobody_takes() {
    let _machine = beside_others();
    let mut nats = Nats::start();
    let mut origin = Node::origin(&nats, &NONE);
    let edge = Node::edge(&nats, &[]);
    [&origin, &edge].into_iter().for_each(Node::wait_until_ready);
    let channels: Vec<_> = (0..8).map(|n| format!("desk-{n}")).collect();
    for channel in &channels {
        (0..5).for_each(|n| edge.say(channel, &format!("before {n}")));
    }
    origin.kill();
    nats.kill();
    nats.empty();
    nats.restart();
    origin.restart();
    let clients: Vec<_> = channels.iter().map(|channel| Witness::join(&edge, channel)).collect();
    wait_until("the origin", || origin.is_active());
    for (channel, client) in channels.iter().zip(&clients) {
        let mut tried = 0;
        wait_until("a publication that is accepted", || {
            tried += 1;
            let answer = edge.publish(channel, "text/plain", format!("after {tried}").as_bytes());
            assert!(answer.status == 200 || answer.status == 503, "{}", answer.text());
            answer.status == 200
        });
        let accepted = format!("after {tried}").into_bytes();
        client.wait_for("what was accepted", |heard| heard.iter().find(|heard| heard.payload == accepted).map(drop));
    }
}
