//! Nodes of a cluster, each a real process that may be killed, stopped and started again.

use std::ops::{Deref, DerefMut};
use std::time::{Duration, Instant};

use super::nats::Nats;
use super::support::{PATIENCE, Server, command, wait_until};

/// What every node of a test is told.
const COMMON: [&str; 10] = [
    "--listen",
    "127.0.0.1:0",
    "--broadcast-interval",
    "50ms",
    "--heartbeat-interval",
    "1s",
    "--drain-timeout",
    "1s",
    "--workers",
    "2",
];
/// A small market that never rests.
pub(super) const SIM: [&str; 6] = ["--source", "sim", "--sim-symbols", "3", "--sim-rate", "200"];
/// Nothing but what is published.
pub(super) const NONE: [&str; 2] = ["--source", "none"];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Condition {
    Runs,
    Stopped,
    Dead,
}

/// A server that is part of a cluster.
pub(super) struct Node {
    server: Server,
    arguments: Vec<String>,
    condition: Condition,
}

impl Node {
    pub(super) fn start(arguments: &[&str]) -> Self {
        // Every flag has a value, and may stand once.
        let is_set = |flag: &str| arguments.chunks(2).any(|pair| pair[0] == flag);
        let common = COMMON.chunks(2).filter(|pair| !is_set(pair[0])).flatten();
        let arguments: Vec<_> = common.chain(arguments).map(|&argument| argument.to_owned()).collect();
        Self { server: spawn(&arguments), arguments, condition: Condition::Runs }
    }

    pub(super) fn origin(nats: &Nats, arguments: &[&str]) -> Self {
        Self::start(&[&["--cluster-url", &nats.url(), "--cluster-role", "origin"], arguments].concat())
    }

    pub(super) fn edge(nats: &Nats, arguments: &[&str]) -> Self {
        Self::start(&[&["--cluster-url", &nats.url()], arguments].concat())
    }

    pub(super) fn kill(&mut self) {
        self.signal("-KILL");
        self.condition = Condition::Dead;
        self.wait();
    }

    /// Ends it as a supervisor does, without waiting for the end.
    pub(super) fn terminate(&mut self) {
        self.signal("-TERM");
        self.condition = Condition::Dead;
    }

    pub(super) fn stop(&mut self) {
        self.signal("-STOP");
        self.condition = Condition::Stopped;
    }

    pub(super) fn go_on(&mut self) {
        self.signal("-CONT");
        self.condition = Condition::Runs;
    }

    /// The same again, on another port.
    pub(super) fn restart(&mut self) {
        assert_eq!(self.condition, Condition::Dead);
        self.server = spawn(&self.arguments);
        self.condition = Condition::Runs;
    }

    pub(super) fn runs(&self) -> bool {
        self.condition == Condition::Runs
    }

    pub(super) fn is_ready(&self) -> bool {
        self.get("/readyz").status == 200
    }

    pub(super) fn wait_until_ready(&self) {
        let start = Instant::now();
        while !self.is_ready() {
            let (ready, stats) = (self.get("/readyz"), self.get("/stats"));
            assert!(start.elapsed() < PATIENCE, "not ready: {} {}", ready.text(), stats.text());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Waits until it says that it is not ready, and returns why.
    pub(super) fn wait_until_not_ready(&self) -> String {
        let mut why = None;
        wait_until("a node that is not ready", || {
            let answer = self.get("/readyz");
            why = (answer.status == 503).then(|| answer.text());
            why.is_some()
        });
        why.unwrap_or_default()
    }

    pub(super) fn is_active(&self) -> bool {
        self.metric("tickcast_cluster_active") == 1
    }

    /// The number of a channel's last message; 0 without one.
    pub(super) fn seq(&self, channel: &str) -> u64 {
        let stats = self.get("/channels").json();
        let channels = stats["channels"].as_array().expect("a list");
        channels
            .iter()
            .find(|other| other["name"] == channel)
            .map_or(0, |found| found["seq"].as_u64().expect("a number"))
    }

    /// Messages that its clients have not got: missed by the node, or dropped for a client.
    pub(super) fn losses(&self) -> u64 {
        self.metrics(["tickcast_cluster_missed_total", "tickcast_frames_dropped_total"]).iter().sum()
    }
}

fn spawn(arguments: &[String]) -> Server {
    Server::spawn(command(&arguments.iter().map(String::as_str).collect::<Vec<_>>()))
}

impl Deref for Node {
    type Target = Server;

    fn deref(&self) -> &Server {
        &self.server
    }
}

impl DerefMut for Node {
    fn deref_mut(&mut self) -> &mut Server {
        &mut self.server
    }
}

/// NATS, origins and edges.
pub(super) struct Cluster {
    pub(super) nats: Nats,
    pub(super) origins: Vec<Node>,
    pub(super) edges: Vec<Node>,
}

impl Cluster {
    /// Two origins with the arguments of a source, and edges; all are ready.
    pub(super) fn start(edges: usize, source: &[&str]) -> Self {
        Self::with_common(&[], edges, source)
    }

    /// The same with arguments for all of them.
    pub(super) fn with_common(common: &[&str], edges: usize, source: &[&str]) -> Self {
        let nats = Nats::start();
        let origins = (0..2).map(|_| Node::origin(&nats, &[common, source].concat())).collect();
        let edges = (0..edges).map(|_| Node::edge(&nats, common)).collect();
        let cluster = Self { nats, origins, edges };
        cluster.all().for_each(Node::wait_until_ready);
        cluster
    }

    /// All that run.
    pub(super) fn all(&self) -> impl Iterator<Item = &Node> {
        self.origins.iter().chain(&self.edges).filter(|node| node.runs())
    }

    /// Waits until one of the nodes that run is active, and only one; returns which of the origins.
    pub(super) fn active(&self) -> usize {
        let mut active = Vec::new();
        wait_until("exactly one active origin", || {
            active =
                (0..self.origins.len()).filter(|&n| self.origins[n].runs() && self.origins[n].is_active()).collect();
            active.len() == 1
        });
        assert!(self.edges.iter().filter(|edge| edge.runs()).all(|edge| !edge.is_active()));
        active[0]
    }

    /// The active origin and the other.
    pub(super) fn active_and_standby(&self) -> (&Node, &Node) {
        let active = self.active();
        (&self.origins[active], &self.origins[1 - active])
    }
}
