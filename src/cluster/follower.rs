//! What every node does: takes messages from the bus and fans them out here.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use async_nats::{Message as Carried, Subscriber};
use futures_util::StreamExt;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::Shared;
use super::last::{self, Loaded};
use super::wire::{self, Beat, Seen, Stamp};
use crate::fanout::{Channel, Kind, Message};

/// At most one log line, and one word to the origin, in this time.
const QUIET: Duration = Duration::from_secs(1);

/// Channels of which it is remembered when they were last spoken of.
const MAX_CORRECTED: usize = 1_024;

/// Somebody waits until the last messages have been read once more.
pub(super) type Reload = oneshot::Sender<()>;

/// The only task of a node that publishes in its hub.
pub(super) struct Follower {
    shared: Arc<Shared>,
    reloads: mpsc::Receiver<Reload>,
    /// Where to tell of channels in which an origin has published whose reign is over.
    intruded: mpsc::Sender<String>,
    /// And which attempt to load tells them: one that has begun after they asked.
    waiting: Vec<(u64, Reload)>,
    said: Option<Instant>,
    /// When it was last told how far this node is in a channel.
    corrected: HashMap<String, Instant>,
}

impl Follower {
    pub(super) fn new(shared: Arc<Shared>, reloads: mpsc::Receiver<Reload>, intruded: mpsc::Sender<String>) -> Self {
        Self { shared, reloads, intruded, waiting: Vec::new(), said: None, corrected: HashMap::new() }
    }

    /// Runs until dropped. Live messages first, then the last ones: whatever comes twice is known by its number.
    ///
    /// Over a new connection nothing is taken until it is known whose reign it is. What an origin has said whose reign
    /// was over meanwhile may be on its way for as long as its machine, or the network, has kept it.
    pub(super) async fn run(mut self) {
        let mut live = self.subscribe(self.shared.subjects.channels()).await;
        let mut beats = self.subscribe(self.shared.subjects.beats()).await;
        let mut connections = self.shared.bus.connections();
        connections.mark_changed();
        let mut loading = JoinSet::new();
        let (sender, mut loaded) = mpsc::channel(64);
        let (reign, mut reign_known) = mpsc::channel(1);
        let (mut attempt, mut connection, mut knows_reign) = (0_u64, 0_u64, false);
        let (mut once_more, mut asked) = (false, false);
        loop {
            tokio::select! {
                biased;
                Ok(()) = connections.changed() => {
                    let new = *connections.borrow_and_update();
                    if new == connection && !loading.is_empty() && !asked {
                        // Something has been lost, perhaps after it was read: once more when this is through.
                        once_more = true;
                        continue;
                    }
                    knows_reign &= new == connection;
                    (connection, once_more, asked) = (new, false, false);
                    // What an earlier one has still to bring is brought by this one too.
                    loading.abort_all();
                    attempt += 1;
                    let shared = Arc::clone(&self.shared);
                    loading.spawn(last::load(shared, attempt, reign.clone(), sender.clone()));
                }
                Some(_) = loading.join_next() => if loading.is_empty() && once_more {
                    connections.mark_changed();
                },
                Some(of) = reign_known.recv() => knows_reign |= of == attempt,
                Some(reload) = self.reloads.recv() => {
                    self.waiting.push((attempt + 1, reload));
                    asked = true;
                    connections.mark_changed();
                }
                Some(beat) = beats.next() => self.hear(&beat),
                message = live.next(), if knows_reign => match message {
                    Some(message) => self.take(&message, false).await,
                    // The task that keeps the connection has died.
                    None => return,
                },
                // After what has come live: of two messages of a channel the older one, if it is there, goes first.
                Some(loaded) = loaded.recv() => match loaded {
                    Loaded::Message(message) => self.take(&message, true).await,
                    Loaded::All(of) if of < attempt => {}
                    Loaded::All(of) => {
                        self.shared.status.loaded.store(true, Ordering::Release);
                        for (_, waiting) in self.waiting.extract_if(.., |(wanted, _)| *wanted <= of) {
                            // Who asked may have given up.
                            let _ = waiting.send(());
                        }
                    }
                },
            }
            // A bus that never has to be waited for must not keep the thread.
            tokio::task::consume_budget().await;
        }
    }

    /// Asks for `subject`, which is repeated by itself on every new connection.
    async fn subscribe(&self, subject: String) -> Subscriber {
        loop {
            match self.shared.bus.client.subscribe(subject.clone()).await {
                Ok(subscriber) => return subscriber,
                // Only if the task that keeps the connection has died.
                Err(error) => {
                    tracing::error!("cannot subscribe to {subject}: {error}");
                    tokio::time::sleep(QUIET).await;
                }
            }
        }
    }

    /// Publishes a message here, if it is new.
    async fn take(&mut self, carried: &Carried, loaded: bool) {
        let taken = self.place(carried, loaded).and_then(|(channel, stamp)| {
            let behind = stamp.seq <= channel.seq();
            if behind && !loaded && !stamp.again {
                self.correct(channel.name(), stamp.seq);
                return Err("repeat");
            }
            Ok((channel, stamp, behind))
        });
        let taken = match taken {
            Ok((_, _, true)) => return,
            Ok((channel, stamp, false)) => message(carried, stamp.kind).map(|message| (channel, stamp, message)),
            Err(reason) => Err(reason),
        };
        match taken {
            Ok((channel, stamp, message)) => self.relay(&channel, stamp, message, loaded).await,
            Err(reason) => {
                self.shared.status.ignored.add(reason);
                if self.may_speak() {
                    tracing::warn!(reason, subject = %carried.subject, "ignored a message of the cluster");
                }
            }
        }
    }

    /// The channel and the stamp of a message of this reign.
    fn place(&mut self, carried: &Carried, loaded: bool) -> Result<(Channel, Stamp), &'static str> {
        let name = self.shared.subjects.channel_of(&carried.subject).ok_or("malformed")?;
        let stamp = Stamp::read(carried.headers.as_ref()).ok_or("malformed")?;
        if !self.shared.status.is_current(stamp.epoch) {
            // If nobody is there to hear it, or very many come at once, the next message tells as well.
            let _ = self.intruded.try_send(name.to_owned());
            if !loaded {
                self.correct(name, stamp.seq);
            }
            return Err("epoch");
        }
        let channel = self.shared.hub.channel(name).map_err(|_| "channel")?;
        Ok((channel, stamp))
    }

    async fn relay(&self, channel: &Channel, stamp: Stamp, message: Message, loaded: bool) {
        let status = &self.shared.status;
        // A node that has just come has missed nothing.
        if channel.seq() > 0 {
            status.missed.add(stamp.seq - channel.seq() - 1);
        }
        while channel.relay(message.clone(), stamp.seq).is_err() {
            tokio::task::yield_now().await;
        }
        status.take();
        if !stamp.again && !loaded {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            status.transit.observe(now.saturating_sub(Duration::from_micros(stamp.micros)));
        }
    }

    /// Tells an origin that is behind where this node is. Either it was asleep and is over, or it has started with
    /// nothing, and nothing it publishes would ever be taken here.
    fn correct(&mut self, channel: &str, seq: u64) {
        let here = self.shared.hub.get(channel).map_or(0, |channel| channel.seq());
        if seq < here && self.may_correct(channel) {
            let seen = Seen { epoch: self.shared.status.epoch(), channel: channel.to_owned(), seq: here };
            let (client, subject) = (self.shared.bus.client.clone(), self.shared.subjects.numbers());
            tokio::spawn(async move { client.publish(subject, wire::to_json(&seen)).await });
        }
    }

    fn hear(&mut self, carried: &Carried) {
        let beat = serde_json::from_slice::<Beat>(&carried.payload).ok().filter(|beat| beat.epoch < wire::MAX_EPOCH);
        let Some(beat) = beat else {
            self.shared.status.ignored.add("malformed");
            return;
        };
        if self.shared.status.is_current(beat.epoch) {
            self.shared.status.hear(beat.node, beat.trouble);
        }
    }

    fn may_speak(&mut self) -> bool {
        is_time(&mut self.said)
    }

    fn may_correct(&mut self, channel: &str) -> bool {
        if self.corrected.len() >= MAX_CORRECTED {
            self.corrected.clear();
        }
        let mut last = self.corrected.get(channel).copied();
        let may = is_time(&mut last);
        self.corrected.extend(last.filter(|_| may).map(|now| (channel.to_owned(), now)));
        may
    }
}

/// Whether the last time is long enough ago; then this is the last time.
pub(super) fn is_time(last: &mut Option<Instant>) -> bool {
    let is_time = last.is_none_or(|last| last.elapsed() >= QUIET);
    if is_time {
        *last = Some(Instant::now());
    }
    is_time
}

fn message(carried: &Carried, kind: Kind) -> Result<Message, &'static str> {
    match kind {
        Kind::Text => Message::text_from_utf8(&carried.payload).map_err(|_| "malformed"),
        Kind::Binary => Ok(Message::binary(&carried.payload)),
    }
}
