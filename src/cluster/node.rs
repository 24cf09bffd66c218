//! A node: its tasks, and the way in for what is published on it.

use std::sync::Arc;
use std::time::Duration;

use async_nats::{HeaderMap, RequestErrorKind};
use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use super::bus::Bus;
use super::follower::Follower;
use super::reign::Origin;
use super::wire::{self, Answer, Subjects};
use super::{Intake, JoinError, Shared, SourceTrouble, Status};
use crate::config::{ClusterConfig, Role};
use crate::fanout::{Hub, Message, check_name};

/// Between two questions for an active origin.
const PAUSE: Duration = Duration::from_millis(100);
/// Longest wait for a message that is published to come back.
const RETURN: Duration = Duration::from_millis(250);
/// Channels that wait to be put right at most.
const INTRUDED: usize = 1_024;
/// How long giving up the lease may take.
const LEAVE: Duration = Duration::from_secs(1);

/// This process as a part of a cluster. Dropping it ends its tasks; the hub keeps what it has.
#[derive(Debug)]
pub struct Node {
    shared: Arc<Shared>,
    tasks: JoinSet<()>,
    origin: JoinSet<()>,
    leave: Option<oneshot::Sender<()>>,
    intake: Option<Intake>,
}

/// Why a message was not published.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PublishError {
    /// No origin took it in time. It may be published all the same if one was about to when time was up.
    #[error("no active origin has taken it: {0}")]
    Unavailable(String),
    /// It is longer than what the bus carries.
    #[error("a message may have {0} bytes at most: NATS carries no more (max_payload)")]
    TooLarge(usize),
    /// There are as many channels as there may be.
    #[error("{0}")]
    TooMany(String),
    /// It cannot be published whoever is asked.
    #[error("{0}")]
    Refused(String),
}

impl Node {
    /// Makes this process a node, which publishes in `hub` what comes from the bus. On an origin, `source`
    /// says what is wrong with what it publishes. Returns at once, whether or not the bus is there.
    ///
    /// # Errors
    /// The credentials or certificates cannot be used.
    pub async fn join(config: &ClusterConfig, hub: &Hub, source: Box<SourceTrouble>) -> Result<Self, JoinError> {
        let name = if config.name.is_empty() { default_name() } else { config.name.clone() };
        let identity = format!("{name}/{:08x}", fastrand::u32(..));
        let status = Arc::new(Status::new(name, config.role, config.lease));
        let bus = Bus::connect(config, &status).await?;
        let (config, hub, subjects) = (config.clone(), hub.clone(), Subjects::new(&config.subject));
        let shared = Arc::new(Shared { config, hub, subjects, status, bus, identity, source });
        let (reloads, reload_orders) = mpsc::channel(1);
        let (intruded, intruded_channels) = mpsc::channel(INTRUDED);
        let mut tasks = JoinSet::new();
        tasks.spawn(Follower::new(Arc::clone(&shared), reload_orders, intruded).run());
        let mut node = Self { shared, tasks, origin: JoinSet::new(), leave: None, intake: None };
        if node.shared.config.role == Role::Origin {
            let (leave, left) = oneshot::channel();
            let intake = Intake::new();
            let shared = Arc::clone(&node.shared);
            let origin = Origin { shared, intake: intake.clone(), reloads, intruded: intruded_channels, leave: left };
            node.origin.spawn(origin.run());
            (node.leave, node.intake) = (Some(leave), Some(intake));
        }
        Ok(node)
    }

    /// Where an origin's publisher of snapshots publishes; `None` on an edge.
    pub fn intake(&self) -> Option<Intake> {
        self.intake.clone()
    }

    /// How it is doing.
    pub fn status(&self) -> &Arc<Status> {
        &self.shared.status
    }

    /// The way in for messages, for as many tasks as want it.
    pub fn gateway(&self) -> Gateway {
        Gateway(Arc::clone(&self.shared))
    }

    /// Stops publishing, and gives up the lease if it has it, so that another origin goes on at once. What comes from
    /// the bus is still served.
    pub async fn leave(&mut self) {
        if let Some(leave) = self.leave.take() {
            // If the task is gone, there is nothing to give up.
            let _ = leave.send(());
            let _ = tokio::time::timeout(LEAVE, self.origin.join_next()).await;
        }
    }

    /// Waits until a task of the node dies, which is a defect.
    pub async fn died(&mut self) {
        tokio::select! {
            Some(_) = self.tasks.join_next() => {}
            Some(_) = self.origin.join_next(), if self.leave.is_some() => {}
            else => std::future::pending().await,
        }
    }
}

fn default_name() -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let host: String = host.trim().chars().filter(char::is_ascii_graphic).take(64).collect();
    format!("{}-{}", if host.is_empty() { "node" } else { &host }, std::process::id())
}

/// Publishes through the cluster. A clone is another handle on the same.
#[derive(Clone, Debug)]
pub struct Gateway(Arc<Shared>);

impl Gateway {
    /// How the node is doing.
    pub fn status(&self) -> &Arc<Status> {
        &self.0.status
    }

    /// Has the active origin publish `message` in `channel`, and returns its number when it has.
    ///
    /// # Errors
    /// See [`PublishError`].
    ///
    /// # Cancel safety
    /// If cancelled, the message is published or not.
    pub async fn publish(&self, channel: &str, message: &Message) -> Result<u64, PublishError> {
        check_name(channel).map_err(|error| PublishError::Refused(error.to_string()))?;
        if !wire::is_subject(channel) {
            let reason = format!("channel name {channel:?} cannot be used in a cluster: a part between dots is empty");
            return Err(PublishError::Refused(reason));
        }
        let limit = self.0.bus.client.max_payload();
        let payload = message.payload(0);
        if limit > 0 && payload.len() + wire::STAMP > limit {
            return Err(PublishError::TooLarge(limit.saturating_sub(wire::STAMP)));
        }
        let until = Instant::now() + self.0.config.publish_timeout;
        let before = self.0.hub.get(channel).map_or(0, |channel| channel.seq());
        match self.ask(channel, &wire::kind_headers(message.kind()), &payload, until).await? {
            // An origin that has lost everything and does not know yet where the channel is: nobody takes it.
            Answer::Seq(seq) if seq <= before => {
                Err(PublishError::Unavailable("it has just lost its place in the channel".to_owned()))
            }
            Answer::Seq(seq) => Ok(seq),
            Answer::TooBig(limit) => Err(PublishError::TooLarge(limit)),
            Answer::TooMany(reason) => Err(PublishError::TooMany(reason)),
            Answer::Refused(reason) => Err(PublishError::Refused(reason)),
        }
    }

    /// Asks until there is an active origin or time is up. Asks again only if nobody has heard the question.
    async fn ask(
        &self,
        channel: &str,
        headers: &HeaderMap,
        payload: &Bytes,
        until: Instant,
    ) -> Result<Answer, PublishError> {
        let unavailable = |reason: &str| PublishError::Unavailable(reason.to_owned());
        loop {
            if !self.0.status.is_connected() {
                return Err(unavailable("no NATS server is reachable"));
            }
            let request = async_nats::Request::new()
                .headers(headers.clone())
                .payload(payload.clone())
                .timeout(Some(until.saturating_duration_since(Instant::now())));
            let subject = self.0.subjects.publish(channel);
            match self.0.bus.client.send_request(subject, request).await {
                Ok(reply) => {
                    return serde_json::from_slice(&reply.payload)
                        .map_err(|_| unavailable("its answer cannot be understood"));
                }
                Err(error) if error.kind() == RequestErrorKind::NoResponders && Instant::now() + PAUSE < until => {
                    sleep(PAUSE).await;
                }
                Err(error) if error.kind() == RequestErrorKind::NoResponders => {
                    return Err(unavailable("there is none"));
                }
                Err(error) => return Err(unavailable(&error.to_string())),
            }
        }
    }

    /// Waits, for a moment, until a message that is published has come to this node too.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn arrives(&self, channel: &str, seq: u64) {
        let until = Instant::now() + RETURN;
        while self.0.hub.get(channel).is_none_or(|channel| channel.seq() < seq) && Instant::now() < until {
            sleep(Duration::from_millis(1)).await;
        }
    }
}
