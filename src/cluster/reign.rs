//! The active origin: gives numbers to what its source and others publish, and puts it on the bus.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use async_nats::connection::State;
use async_nats::{Message as Carried, Subscriber};
use bytes::Bytes;
use futures_util::StreamExt;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};

use super::follower::{Reload, is_time};
use super::intake::Intake;
use super::lease::{Crown, Lease};
use super::wire::{self, Answer, Beat, Seen, Stamp};
use super::{Shared, bus, last};
use crate::fanout::{ChannelError, Kind, Message};
use crate::server::MARKET;

/// An origin that has not read where the channels are in this time lets another one try.
const CATCH_UP: Duration = Duration::from_secs(5);

/// What an origin's task needs.
#[derive(Debug)]
pub(super) struct Origin {
    pub(super) shared: Arc<Shared>,
    pub(super) intake: Intake,
    pub(super) reloads: mpsc::Sender<Reload>,
    /// Channels in which an origin has published whose reign is over.
    pub(super) intruded: mpsc::Receiver<String>,
    /// Completes, or is dropped, when the node leaves.
    pub(super) leave: oneshot::Receiver<()>,
}

impl Origin {
    /// Reigns whenever it can, until the node leaves.
    pub(super) async fn run(mut self) {
        let mut numbers = HashMap::new();
        loop {
            let mut lease = tokio::select! {
                lease = Lease::acquire(&self.shared) => lease,
                _ = &mut self.leave => return,
            };
            tracing::info!(epoch = lease.epoch(), "this node is the active origin");
            let (until, held) = watch::channel(lease.until());
            let reign = Reign::new(&self.shared, &lease, held, &mut numbers);
            let end = tokio::select! {
                () = lease.keep(&until) => End::Lost,
                end = reign.run(&self.intake, &self.reloads, &mut self.intruded) => end,
                _ = &mut self.leave => End::Leaves,
            };
            match end {
                End::Lost => tracing::warn!(epoch = lease.epoch(), "this node is not the active origin any more"),
                End::Leaves => return lease.release().await,
                End::Unable => {
                    tracing::error!("cannot read from JetStream where the channels are; leaving it to another origin");
                    let pause = self.shared.config.lease;
                    lease.release().await;
                    tokio::select! {
                        () = tokio::time::sleep(pause) => {}
                        _ = &mut self.leave => return,
                    }
                }
            }
        }
    }
}

/// Why a reign is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// The lease is another's, or a later epoch is needed.
    Lost,
    /// The node goes.
    Leaves,
    /// This node cannot find out where to begin.
    Unable,
}

/// A message on the bus, and its number.
#[derive(Clone, Debug)]
struct Last {
    seq: u64,
    kind: Kind,
    payload: Bytes,
}

/// Why a message could not be put on the bus.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Failure {
    /// Perhaps another origin is active.
    NotHeld,
    NotConnected,
    TooBig,
    /// The bus does not take it; its number is used up.
    Stuck,
}

impl Failure {
    fn reason(self) -> &'static str {
        match self {
            Self::NotHeld => "lease",
            Self::NotConnected => "disconnected",
            Self::TooBig => "too_big",
            Self::Stuck => "stuck",
        }
    }
}

struct Reign<'a> {
    shared: &'a Arc<Shared>,
    epoch: u64,
    /// Between two beats, and the longest wait for the bus to take a message.
    pace: Duration,
    /// Until when the lease is held for certain.
    held: watch::Receiver<Instant>,
    /// The last number that this node has given in each channel, in this reign or one before: what it numbered
    /// may have come to some and not to others, and no number is given twice.
    numbers: &'a mut HashMap<String, u64>,
    /// What this reign has published last in each channel.
    published: HashMap<String, Last>,
    /// When it was last said that a message is too big.
    said: Option<Instant>,
}

impl<'a> Reign<'a> {
    fn new(
        shared: &'a Arc<Shared>,
        lease: &Lease,
        held: watch::Receiver<Instant>,
        numbers: &'a mut HashMap<String, u64>,
    ) -> Self {
        Self {
            shared,
            epoch: lease.epoch(),
            pace: lease.interval(),
            held,
            numbers,
            published: HashMap::new(),
            said: None,
        }
    }

    /// Runs until dropped, or until nothing comes from the bus any more.
    async fn run(
        mut self,
        intake: &Intake,
        reloads: &mpsc::Sender<Reload>,
        intruded: &mut mpsc::Receiver<String>,
    ) -> End {
        let mut connections = self.shared.bus.connections();
        // What there is already is served below.
        connections.mark_unchanged();
        let Some((mut requests, mut numbers)) = self.subscribe().await else { return End::Unable };
        // Where the last reign has ended: numbers go on from there.
        let (reload, reloaded) = oneshot::channel();
        if reloads.send(reload).await.is_err() || !matches!(timeout(CATCH_UP, reloaded).await, Ok(Ok(()))) {
            return End::Unable;
        }
        // Nothing of another reign is taken here from now on.
        self.shared.status.is_current(self.epoch);
        self.again_all().await;
        let _crown = Crown::put_on(self.shared);
        let mut market = intake.listen();
        let mut beats = interval(self.pace);
        beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                message = market.next() => {
                    // Counted and said where it failed.
                    let _ = self.publish(MARKET, &message).await;
                }
                request = requests.next() => match request {
                    Some(request) => self.answer(&request).await,
                    None => return End::Lost,
                },
                Some(name) = intruded.recv() => self.again(&name).await,
                Some(seen) = numbers.next() => self.go_on_from(&seen),
                // Another one reigns by now, or has before the servers lost everything: a later epoch is needed.
                _ = beats.tick() => match self.shared.status.epoch() > self.epoch {
                    true => return End::Lost,
                    false => self.beat().await,
                },
                () = bus::replaced(&mut connections) => {
                    // The server may have lost what it had been given last, or everything.
                    if let Err(error) = last::keep(self.shared, &self.shared.jetstream()).await {
                        tracing::warn!("JetStream does not keep the last messages: {error}");
                    }
                    self.again_all().await;
                }
            }
        }
    }

    async fn subscribe(&self) -> Option<(Subscriber, Subscriber)> {
        let client = &self.shared.bus.client;
        let requests = client.subscribe(self.shared.subjects.publications()).await.ok()?;
        let numbers = client.subscribe(self.shared.subjects.numbers()).await.ok()?;
        Some((requests, numbers))
    }

    /// Numbers a message and puts it on the bus.
    async fn publish(&mut self, channel: &str, message: &Message) -> Result<u64, Failure> {
        let seq = self.seq(channel) + 1;
        let last = Last { seq, kind: message.kind(), payload: message.payload(seq) };
        let result = self.put(channel, &last, false).await;
        match result {
            Ok(()) => self.shared.status.sent.add(1),
            Err(failure) => self.shared.status.lost.add(failure.reason()),
        }
        // The others are over when there is a connection, or another origin.
        if result == Err(Failure::TooBig) && is_time(&mut self.said) {
            let (bytes, limit) = (last.payload.len(), self.shared.bus.client.max_payload());
            tracing::warn!("a message of {bytes} bytes in {channel} is lost: NATS carries {limit} (max_payload)");
        }
        // A number that may be on its way is not given again.
        if matches!(result, Ok(()) | Err(Failure::Stuck)) {
            self.numbers.insert(channel.to_owned(), seq);
            self.published.insert(channel.to_owned(), last);
        }
        result.map(|()| seq)
    }

    /// The last number of `channel`, as far as this node knows.
    fn seq(&self, channel: &str) -> u64 {
        let here = self.shared.hub.get(channel).map_or(0, |channel| channel.seq());
        self.numbers.get(channel).map_or(here, |given| here.max(*given))
    }

    async fn put(&self, channel: &str, last: &Last, again: bool) -> Result<(), Failure> {
        let client = &self.shared.bus.client;
        // Under an older epoch nobody would take it, and whoever published it would be told otherwise.
        if Instant::now() >= *self.held.borrow() || self.shared.status.epoch() > self.epoch {
            return Err(Failure::NotHeld);
        }
        // The client would keep it until there is a connection, and it would come late and all at once.
        if client.connection_state() != State::Connected {
            return Err(Failure::NotConnected);
        }
        if last.payload.len() + wire::STAMP > client.max_payload() {
            return Err(Failure::TooBig);
        }
        let micros = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_micros() as u64;
        let stamp = Stamp { epoch: self.epoch, seq: last.seq, kind: last.kind, micros, again };
        let subject = self.shared.subjects.channel(channel);
        let put = client.publish_with_headers(subject, stamp.headers(), last.payload.clone());
        match timeout(self.pace, put).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) | Err(_) => Err(Failure::Stuck),
        }
    }

    /// Puts every channel's last message on the bus again, so that all have it, of this epoch.
    async fn again_all(&mut self) {
        for channel in self.shared.hub.channels() {
            self.again(channel.name()).await;
        }
    }

    async fn again(&mut self, name: &str) {
        let here = match self.shared.hub.get(name) {
            Some(channel) => channel.last().await,
            None => None,
        };
        let here = here.map(|frame| Last { seq: frame.seq(), kind: frame.kind(), payload: frame.payload() });
        let last = here.into_iter().chain(self.published.get(name).cloned()).max_by_key(|last| last.seq);
        // If it fails there is no bus, and it is done again when there is one.
        if let Some(last) = last {
            let _ = self.put(name, &last, true).await;
        }
    }

    /// Publishes what another node was asked to, and says under which number.
    async fn answer(&mut self, request: &Carried) {
        let Some(reply) = request.reply.clone() else { return };
        let answer = match self.accept(request) {
            Ok((name, message)) => match self.publish(&name, &message).await {
                Ok(seq) => Answer::Seq(seq),
                Err(Failure::TooBig) => {
                    let limit = self.shared.bus.client.max_payload().saturating_sub(wire::STAMP);
                    Answer::TooBig(limit)
                }
                // Nobody is told anything: there may be another origin who does.
                Err(_) => return,
            },
            Err(answer) => answer,
        };
        // If it does not arrive, whoever waits gives up.
        let _ = self.shared.bus.client.publish(reply, wire::to_json(&answer)).await;
    }

    fn accept(&self, request: &Carried) -> Result<(String, Message), Answer> {
        let refuse = |reason: &str| Answer::Refused(reason.to_owned());
        let name = self.shared.subjects.published_in(&request.subject).ok_or_else(|| refuse("no channel"))?;
        let kind = wire::kind_of(request.headers.as_ref()).ok_or_else(|| refuse("neither text nor binary"))?;
        let message = match kind {
            Kind::Text => Message::text_from_utf8(&request.payload).map_err(|error| refuse(&error.to_string()))?,
            Kind::Binary => Message::binary(&request.payload),
        };
        self.shared.hub.channel(name).map_err(|error| match error {
            ChannelError::TooMany(_) => Answer::TooMany(error.to_string()),
            ChannelError::InvalidName(_) => Answer::Refused(error.to_string()),
        })?;
        Ok((name.to_owned(), message))
    }

    /// Some node is further than this one, so it does not take what is published: numbers go on from where it is.
    fn go_on_from(&mut self, carried: &Carried) {
        let Ok(seen) = serde_json::from_slice::<Seen>(&carried.payload) else { return };
        if seen.epoch < wire::MAX_EPOCH {
            self.shared.status.is_current(seen.epoch);
        }
        if seen.seq <= wire::MAX_SEEN
            && self.seq(&seen.channel) < seen.seq
            && self.shared.hub.get(&seen.channel).is_some()
        {
            tracing::warn!(channel = seen.channel, seq = seen.seq, "another node is ahead; going on from there");
            self.numbers.insert(seen.channel, seen.seq);
        }
    }

    async fn beat(&self) {
        if Instant::now() < *self.held.borrow() && self.shared.bus.client.connection_state() == State::Connected {
            let node = self.shared.status.name().to_owned();
            let beat = Beat { epoch: self.epoch, node, trouble: (self.shared.source)() };
            let put = self.shared.bus.client.publish(self.shared.subjects.beats(), wire::to_json(&beat));
            // The next one comes soon.
            let _ = timeout(self.pace, put).await;
        }
    }
}
