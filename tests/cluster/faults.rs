//! One fault after another, with thousands of clients: each time everybody is live again soon, and at the end
//! nobody has got anything twice, late or out of order.

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

use super::crowd::{Crowd, Life};
use super::nodes::{Cluster, Node, SIM};
use super::takeover::SOON;
use super::witness::Witness;
use super::{alone, say};

const CLIENTS: usize = 3_000;
const EDGES: usize = 3;
/// How long the active origin stands still: longer than any lease.
const STANDSTILL: Duration = Duration::from_secs(10);

/// The cluster, its crowd, and one witness at each edge that lives.
struct Scene {
    cluster: Cluster,
    crowd: Crowd,
    witnesses: HashMap<usize, Witness>,
    /// The number of each edge's life.
    lives: Vec<usize>,
    next_life: usize,
    /// What the edges of lives that are over had counted as missed or dropped.
    losses: BTreeMap<usize, u64>,
    table: Vec<String>,
}

impl Scene {
    fn begin() -> Self {
        // Ten messages a second, small ones, and heartbeats that do not count beside them.
        let pace = ["--broadcast-interval", "100ms", "--heartbeat-interval", "10s"];
        let cluster = Cluster::with_common(&pace, EDGES, &SIM);
        let lives: Vec<_> = (0..EDGES).collect();
        let known: Vec<_> = lives.iter().map(|&n| Life { number: n, address: cluster.edges[n].address }).collect();
        let crowd = Crowd::gather(CLIENTS, &known);
        let witnesses = lives.iter().map(|&n| (n, Witness::join(&cluster.edges[n], "market"))).collect();
        let (losses, table) = (BTreeMap::new(), Vec::new());
        let scene = Self { cluster, crowd, witnesses, lives, next_life: EDGES, losses, table };
        let took = scene.everybody_is_live();
        say(&format!("{CLIENTS} clients at {EDGES} edges after {:.1} s more", took.as_secs_f64()));
        scene
    }

    /// Waits until every client has something newer than what there is; returns how long that took.
    fn everybody_is_live(&self) -> Duration {
        let edges = self.cluster.edges.iter().filter(|edge| edge.runs());
        let newest = edges.map(|edge| edge.seq("market")).max().expect("an edge");
        self.crowd.wait_until_all_have(newest + 1)
    }

    /// How long after `moment` the last witness had news.
    fn live_again(&self, moment: Instant) -> Duration {
        self.witnesses.values().map(|witness| witness.wait_for_news(moment)).max().expect("a witness")
    }

    /// What there is to say about a fault that has ended at `end`; then waits for the whole crowd.
    fn note(&mut self, fault: &str, end: Instant, mut holes: u64) {
        let live = self.live_again(end);
        let crowd = self.everybody_is_live();
        holes = self.holes() - holes;
        let (live, crowd) = (live.as_secs_f64(), crowd.as_secs_f64());
        self.table.push(format!("{fault:<38} {live:>8.2} {crowd:>8.2} {holes:>6}"));
        assert!(live < SOON.as_secs_f64(), "{}", self.table.join("\n"));
    }

    fn holes(&self) -> u64 {
        self.witnesses.values().map(|witness| witness.audit().1).sum()
    }

    fn kill_an_edge(&mut self) {
        let life = self.lives[0];
        self.losses.insert(life, self.cluster.edges[0].losses());
        self.witnesses.remove(&life);
        self.crowd.edges().remove(life);
        let holes = self.holes();
        let killed = Instant::now();
        self.cluster.edges[0].kill();
        self.note("kill -9 of an edge", killed, holes);
        let holes = self.holes();
        let started = Instant::now();
        self.cluster.edges[0].restart();
        self.cluster.edges[0].wait_until_ready();
        (self.lives[0], self.next_life) = (self.next_life, self.next_life + 1);
        let life = Life { number: self.lives[0], address: self.cluster.edges[0].address };
        self.crowd.edges().add(life);
        self.witnesses.insert(life.number, Witness::join(&self.cluster.edges[0], "market"));
        self.note("  its return", started, holes);
    }

    fn kill_the_active_origin(&mut self) {
        let (holes, active) = (self.holes(), self.cluster.active());
        let killed = Instant::now();
        self.cluster.origins[active].kill();
        self.note("kill -9 of the active origin", killed, holes);
        assert_eq!(self.cluster.active(), 1 - active);
        let holes = self.holes();
        let started = Instant::now();
        self.cluster.origins[active].restart();
        self.cluster.origins[active].wait_until_ready();
        self.note("  its return as the standby", started, holes);
        assert_eq!(self.cluster.active(), 1 - active);
    }

    fn kill_nats(&mut self) {
        let holes = self.holes();
        self.cluster.nats.kill();
        for node in self.cluster.all() {
            node.wait_until_not_ready();
        }
        self.cluster.nats.restart();
        self.note("return of NATS after kill -9", Instant::now(), holes);
        self.cluster.all().for_each(Node::wait_until_ready);
        self.cluster.active();
    }

    fn stop_the_active_origin(&mut self) {
        let (holes, active) = (self.holes(), self.cluster.active());
        let stopped = Instant::now();
        self.cluster.origins[active].stop();
        self.note("SIGSTOP of the active origin", stopped, holes);
        assert_eq!(self.cluster.active(), 1 - active);
        std::thread::sleep(STANDSTILL.saturating_sub(stopped.elapsed()));
        let holes = self.holes();
        self.cluster.origins[active].go_on();
        self.note("  its SIGCONT ten seconds later", Instant::now(), holes);
        assert_eq!(self.cluster.active(), 1 - active);
    }

    /// That no client has found anything wrong, nor more holes than its edge knows of.
    fn end(mut self) {
        let Self { cluster, crowd, witnesses, lives, losses, table, .. } = &mut self;
        for (&life, edge) in lives.iter().zip(&cluster.edges) {
            losses.insert(life, edge.losses());
        }
        super::witness::assert_same_bytes(witnesses.values());
        let crowd = std::mem::replace(crowd, Crowd::gather(0, &[]));
        let findings = crowd.end();
        say(&format!("{:<38} {:>8} {:>8} {:>6}\n{}", "fault", "seconds", "+ crowd", "holes", table.join("\n")));
        let (messages, connections) = (findings.messages, findings.connections);
        say(&format!("{messages} messages over {connections} connections; most holes of one client at each edge:"));
        for (life, counted) in losses.iter() {
            let worst = findings.worst_holes.get(life).copied().unwrap_or_default();
            say(&format!("  life {life}: {worst}, missed and dropped {counted}"));
            assert!(worst <= *counted, "more holes than losses");
        }
        let some: Vec<_> = findings.wrong.iter().take(10).collect();
        assert!(some.is_empty(), "{} times wrong, such as {some:#?}", findings.wrong.len());
    }
}

#[test]
fn nobody_of_a_crowd_notices_more_than_a_pause() {
    let _machine = alone();
    rlimit::increase_nofile_limit(u64::MAX).expect("a descriptor for every client");
    let begin = Instant::now();
    let mut scene = Scene::begin();
    scene.kill_an_edge();
    scene.kill_the_active_origin();
    scene.kill_nats();
    scene.stop_the_active_origin();
    scene.end();
    say(&format!("all of it in {:.0} s", begin.elapsed().as_secs_f64()));
}
