//! What must not be delivered, said on the bus by anybody: counted, and nothing else.

use std::time::{Duration, Instant};

use super::beside_others;
use super::bus::{Bus, Seen};
use super::nodes::{Cluster, NONE, Node};
use super::support::wait_until;
use super::witness::{Heard, Witness};

fn ignored(node: &Node, reason: &str) -> u64 {
    node.metric(&format!("tickcast_cluster_ignored_total{{reason=\"{reason}\"}}"))
}

/// Publishes by hand, and waits until every node has ignored it for this reason.
struct Hand<'a> {
    cluster: &'a Cluster,
    bus: Bus,
}

impl Hand<'_> {
    fn ignored(&mut self, reason: &str, subject: &str, header: &[u8], payload: &[u8]) {
        let before: Vec<_> = self.cluster.edges.iter().map(|node| ignored(node, reason)).collect();
        self.bus.publish(subject, header, payload);
        self.bus.flush();
        let what = format!("{reason}: {subject} {}", String::from_utf8_lossy(header));
        wait_until(&what, || self.cluster.edges.iter().zip(&before).all(|(node, n)| ignored(node, reason) > *n));
    }
}

fn header(words: &str) -> Vec<u8> {
    format!("Tickcast: {words}").into_bytes()
}

/// A cluster in which two messages were published in `desk`; the last one as it went over the bus.
fn published() -> (Cluster, Bus, Seen) {
    let cluster = Cluster::start(2, &NONE);
    let mut bus = Bus::connect(cluster.nats.address());
    bus.subscribe("tickcast.desk");
    cluster.edges[0].say("desk", "one");
    cluster.edges[0].say("desk", "two");
    let seen = loop {
        let seen = bus.next();
        if seen.payload == b"two" {
            break seen;
        }
    };
    wait_until("a publication", || cluster.all().all(|node| node.get("/snapshot/desk").text() == "two"));
    (cluster, bus, seen)
}

#[test]
fn a_message_carries_its_bytes_and_one_header() {
    let _machine = beside_others();
    let (cluster, _, seen) = published();
    let words = seen.words();
    assert_eq!(seen.epoch(), cluster.edges[0].metric("tickcast_cluster_epoch"));
    assert_eq!((seen.seq(), words[2]), (2, "text"));
    let micros = words[3].parse::<u128>().expect("microseconds");
    let clock = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("a clock").as_micros();
    assert!(clock.abs_diff(micros) < 60_000_000, "{micros} at {clock}");
}

#[test]
fn what_is_old_or_wrong_is_counted_and_not_delivered() {
    let _machine = beside_others();
    let (cluster, bus, seen) = published();
    let clients: Vec<_> = cluster.all().map(|node| Witness::join(node, "desk")).collect();
    clients.iter().for_each(|client| drop(client.wait_for_count(1)));
    let (epoch, seq) = (seen.epoch(), seen.seq());
    let mut hand = Hand { cluster: &cluster, bus };
    hand.ignored("repeat", "tickcast.desk", &header(&format!("{epoch} {seq} text 1")), b"bad");
    hand.ignored("repeat", "tickcast.desk", &header(&format!("{epoch} {} text 1", seq - 1)), b"bad");
    // That is said for those who lack it, and nothing wrong.
    hand.bus.publish("tickcast.desk", &header(&format!("{epoch} {seq} text 1 again")), b"bad");
    hand.ignored("epoch", "tickcast.desk", &header(&format!("{} {} text 1", epoch - 1, seq + 10)), b"bad");
    for words in [
        String::new(),
        "x".into(),
        format!("{epoch}"),
        format!("{epoch} {}", seq + 1),
        format!("{epoch} {} text", seq + 1),
        format!("{epoch} {} text yesterday", seq + 1),
        format!("{epoch} {} audio 1", seq + 1),
        format!("{epoch} -1 text 1"),
        format!("{epoch} 0 text 1"),
        format!("{epoch} 99999999999999999999999 text 1"),
        format!("99999999999999999999999 {} text 1", seq + 1),
        format!("{epoch} {} text 1 again and again", seq + 1),
        format!("0x1 {} text 1", seq + 1),
    ] {
        hand.ignored("malformed", "tickcast.desk", &header(&words), b"bad");
    }
    hand.ignored("malformed", "tickcast.desk", b"Other: header", b"bad");
    hand.ignored("malformed", "tickcast.desk", &header(&format!("{epoch} {} text 1", seq + 1)), b"\xff\xfe");
    hand.ignored("channel", "tickcast.b@d", &header(&format!("{epoch} 1 text 1")), b"bad");
    hand.ignored("channel", &format!("tickcast.{}", "x".repeat(65)), &header(&format!("{epoch} 1 text 1")), b"bad");
    hand.ignored("channel", "tickcast.\u{e4}", &header(&format!("{epoch} 1 text 1")), b"bad");
    untouched(&cluster, &clients);
}

/// What is delivered next is what is published next, and everybody is still there.
fn untouched(cluster: &Cluster, clients: &[Witness]) {
    let (active, standby) = cluster.active_and_standby();
    for (n, node) in [active, standby, &cluster.edges[0], &cluster.edges[1]].into_iter().enumerate() {
        node.say("desk", &format!("good {n}"));
    }
    for client in clients {
        let texts: Vec<_> = client.wait_for_count(5).iter().map(Heard::text).collect();
        assert_eq!(texts, ["two", "good 0", "good 1", "good 2", "good 3"]);
    }
    for node in cluster.all() {
        assert_eq!(node.get("/readyz").status, 200);
        assert_eq!(node.get("/channels").json()["channels"].as_array().map(Vec::len), Some(2), "desk and market");
    }
}

/// Bytes where no message of a cluster is expected: requests to publish, beats, and other subjects.
#[test]
fn noise_on_every_subject_harms_nobody() {
    let _machine = beside_others();
    let (cluster, mut bus, seen) = published();
    let clients: Vec<_> = cluster.all().map(|node| Witness::join(node, "desk")).collect();
    clients.iter().for_each(|client| drop(client.wait_for_count(1)));
    let subjects = [
        "tickcast",
        "tickcast.a.b",
        "tickcast-origin",
        "tickcast-origin.x",
        "tickcast-publish.desk",
        "tickcast-publish.b@d",
        "tickcast-publish",
        "tickcast-lease",
        "tickcast-numbers",
    ];
    let mut random = fastrand::Rng::with_seed(7);
    for _ in 0..50 {
        for subject in subjects {
            let noise: Vec<u8> = (0..random.usize(0..300)).map(|_| random.u8(..)).collect();
            // A request to publish that is well made would be a publication; so is none of these.
            if !subject.starts_with("tickcast-publish") && subject != "tickcast.a.b" {
                bus.publish_bare(subject, &noise);
            }
            let line: String =
                noise.iter().filter(|byte| byte.is_ascii_graphic()).map(|&byte| char::from(byte)).collect();
            bus.publish(subject, &header(&line), &noise);
        }
    }
    bus.flush();
    untouched(&cluster, &clients);
    assert_eq!(cluster.edges[0].metric("tickcast_cluster_epoch"), seen.epoch());
}

/// What a client of NATS takes for a broken connection. It is the last message of its subject, so it is there again
/// for whoever connects again.
#[test]
fn headers_that_cannot_be_read_pass_by() {
    let _machine = beside_others();
    let (cluster, mut bus, _) = published();
    let clients: Vec<_> = cluster.all().map(|node| Witness::join(node, "desk")).collect();
    clients.iter().for_each(|client| drop(client.wait_for_count(1)));
    for head in [&b"no colon"[..], b"Tickcast: \xff\xfe", b": no name", b"a b: c"] {
        bus.publish("tickcast.desk", head, b"bad");
        bus.publish("tickcast.a.b", head, b"bad");
    }
    bus.flush();
    let mut since = Instant::now();
    wait_until("two seconds without a reconnection", || {
        if cluster.all().any(|node| !node.is_ready()) {
            since = Instant::now();
        }
        since.elapsed() > Duration::from_secs(2)
    });
    untouched(&cluster, &clients);
    let edge = Node::edge(&cluster.nats, &[]);
    edge.wait_until_ready();
    assert_eq!(edge.get("/snapshot/desk").text(), "good 3");
}

/// An epoch that nobody has been given: the origin that is active gets a higher one, and goes on.
#[test]
fn a_cluster_recovers_from_an_epoch_out_of_the_blue() {
    let _machine = beside_others();
    let (cluster, mut bus, seen) = published();
    let client = Witness::join(&cluster.edges[0], "desk");
    client.wait_for_count(1);
    let (epoch, seq) = (seen.epoch(), seen.seq());
    for words in [format!("{epoch} {} text 1", u64::MAX), format!("{} {} text 1", u64::MAX, seq + 1)] {
        bus.publish("tickcast.desk", &header(&words), b"bad");
    }
    // Numbers that cannot be, in what only nodes say.
    let highest = u64::MAX;
    bus.publish_bare("tickcast-origin", format!("{{\"epoch\":{highest},\"node\":\"x\",\"trouble\":null}}").as_bytes());
    bus.publish_bare("tickcast-numbers", format!("{{\"channel\":\"desk\",\"seq\":{highest}}}").as_bytes());
    bus.publish("tickcast.desk", &header(&format!("{} {} text 1", epoch + 5, seq + 1)), b"from nowhere");
    bus.flush();
    client.wait_for_count(2);
    // What the origin still publishes before it has heard of it is nobody's.
    wait_until("an epoch that all know of", || {
        cluster.all().all(|node| node.metric("tickcast_cluster_epoch") >= epoch + 5)
    });
    wait_until("a publication that is taken", || {
        cluster.edges[1].publish("desk", "text/plain", b"three").status == 200
    });
    client.wait_for("what is published", |heard| heard.iter().find(|heard| heard.payload == b"three").map(drop));
    let texts: Vec<_> = client.heard().iter().map(Heard::text).collect();
    assert_eq!(texts[..2], ["two", "from nowhere"]);
    assert!(cluster.all().all(|node| node.metric("tickcast_cluster_epoch") > epoch + 5));
    cluster.all().for_each(Node::wait_until_ready);
}
