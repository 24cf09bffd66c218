//! Which origin is the active one: a lease in a key-value bucket of JetStream.
//!
//! Whoever holds it writes it anew a few times in its duration, each time only if nobody else has written
//! since (compare and set by revision). An origin that has seen the same revision for a whole duration
//! takes it. No two clocks are compared: each side measures from what it has seen or done itself, and the holder from
//! before it wrote, so it has stopped before another begins. A holder that was asleep meanwhile finds out
//! when it looks at its clock; what it had handed over before is told from its epoch, which the next holder's exceeds.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use async_nats::jetstream::context::KeyValueErrorKind;
use async_nats::jetstream::kv::{self, Operation, Store};
use async_nats::jetstream::stream;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};

use super::{Shared, bus, last, wire};

const KEY: &str = "origin";
/// Looked at and written so many times in its duration.
const LOOKS: u32 = 10;
const WRITES: u32 = 4;
/// The longest time between two, and between two beats, however long the lease is.
const LONGEST_PACE: Duration = Duration::from_secs(1);
/// No lease is longer.
const LONGEST: Duration = Duration::from_secs(3_600);
/// Between two attempts to reach JetStream.
const PAUSE: Duration = Duration::from_millis(250);

/// What stands in the bucket.
#[derive(Debug, Serialize, Deserialize)]
struct Record {
    node: String,
    epoch: u64,
    /// How long its holder counts on it, in seconds.
    #[serde(default)]
    seconds: f64,
}

impl Record {
    /// How long the others wait: as long as the holder counts on it, however they are configured.
    fn patience(&self, own: Duration) -> Duration {
        Duration::try_from_secs_f64(self.seconds).map_or(own, |recorded| own.max(recorded.min(LONGEST)))
    }
}

/// A lease that is held.
#[derive(Debug)]
pub(super) struct Lease {
    store: Store,
    node: String,
    duration: Duration,
    epoch: u64,
    revision: u64,
    /// Until when nobody else can have it.
    until: Instant,
}

impl Lease {
    /// Waits until the lease is this node's. Tries for ever.
    pub(super) async fn acquire(shared: &Arc<Shared>) -> Self {
        let mut connections = shared.bus.connections();
        let mut told = false;
        loop {
            // What was asked over a connection that is gone is not answered any more.
            connections.mark_unchanged();
            let campaign = tokio::select! {
                campaign = Self::campaign(shared) => campaign,
                () = bus::replaced(&mut connections) => continue,
            };
            // Whatever fails, all begins again: the server may have come back with nothing.
            match campaign {
                Ok(lease) => return lease,
                Err(error) if shared.status.is_connected() && !told => {
                    tracing::warn!("cannot ask JetStream who the active origin is: {error}");
                    told = true;
                }
                Err(_) => {}
            }
            // At once when there is a connection.
            let _ = timeout(PAUSE, bus::replaced(&mut connections)).await;
        }
    }

    async fn campaign(shared: &Arc<Shared>) -> Result<Self, async_nats::Error> {
        let jetstream = shared.jetstream();
        last::keep(shared, &jetstream).await?;
        jetstream.get_or_create_stream(bucket_of(shared)).await?;
        let store = jetstream.get_key_value(shared.subjects.bucket()).await?;
        let duration = shared.config.lease;
        let mut seen: Option<(u64, Instant)> = None;
        loop {
            let looked = Instant::now();
            let entry = store.entry(KEY).await?;
            let record = entry.as_ref().and_then(|entry| serde_json::from_slice::<Record>(&entry.value).ok());
            let revision = entry.as_ref().map_or(0, |entry| entry.revision);
            let is_free = entry.as_ref().is_none_or(|entry| entry.operation != Operation::Put);
            // Its own, from before it lost sight of it.
            let is_mine = record.as_ref().is_some_and(|record| record.node == shared.identity);
            let patience = record.as_ref().map_or(duration, |record| record.patience(duration));
            let since = match seen {
                Some((same, since)) if same == revision => since,
                _ => seen.insert((revision, Instant::now())).1,
            };
            if is_free || is_mine || since.elapsed() >= patience {
                let recorded = record.map(|record| record.epoch).filter(|epoch| *epoch < wire::MAX_EPOCH);
                let known = shared.status.epoch().max(recorded.unwrap_or(0));
                let seconds = duration.as_secs_f64();
                let record = Record { node: shared.identity.clone(), epoch: known + 1, seconds };
                // Somebody else may be quicker; then the revision is another one, and the wait begins again.
                if let Ok(revision) = store.update(KEY, wire::to_json(&record), revision).await {
                    // Revisions rise as long as the bucket lives, epochs even if it does not.
                    let epoch = record.epoch.max(revision);
                    let until = looked + duration;
                    return Ok(Self { store, node: record.node, duration, epoch, revision, until });
                }
            }
            sleep((duration / LOOKS).min(LONGEST_PACE)).await;
        }
    }

    /// The number of this reign.
    pub(super) fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Until when it is held for certain.
    pub(super) fn until(&self) -> Instant {
        self.until
    }

    /// When it is to be written again.
    pub(super) fn interval(&self) -> Duration {
        (self.duration / WRITES).min(LONGEST_PACE)
    }

    /// Writes it anew again and again, and says until when it is held; returns when it is not any more.
    pub(super) async fn keep(&mut self, until: &watch::Sender<Instant>) {
        loop {
            sleep(self.interval()).await;
            let mut renewed = self.renew().await;
            // Perhaps it was written and not heard of: then the entry tells whose it is, and it is written at once.
            if renewed == Renewed::Behind && self.find_own().await {
                renewed = self.renew().await;
            }
            if renewed == Renewed::Behind || Instant::now() >= self.until {
                return;
            }
            until.send_replace(self.until);
        }
    }

    async fn renew(&mut self) -> Renewed {
        let started = Instant::now();
        let record = Record { node: self.node.clone(), epoch: self.epoch, seconds: self.duration.as_secs_f64() };
        let written = timeout(self.interval(), self.store.update(KEY, wire::to_json(&record), self.revision)).await;
        match written {
            Ok(Ok(revision)) => {
                self.revision = revision;
                self.until = started + self.duration;
                Renewed::Written
            }
            Ok(Err(error)) if error.kind() == kv::UpdateErrorKind::WrongLastRevision => Renewed::Behind,
            _ => Renewed::Unknown,
        }
    }

    /// Whether what stands there is this reign's own, written when no answer came.
    async fn find_own(&mut self) -> bool {
        let entry = timeout(self.interval(), self.store.entry(KEY)).await;
        let Ok(Ok(Some(entry))) = entry else { return false };
        let record = serde_json::from_slice::<Record>(&entry.value);
        let own = record.is_ok_and(|record| record.node == self.node && record.epoch == self.epoch);
        if own {
            self.revision = entry.revision;
        }
        own
    }

    /// Gives it up, so that nobody has to wait for its end.
    pub(super) async fn release(mut self) {
        // Perhaps it was being written anew, and the answer has not been heard. If that fails too, it ends by itself.
        if !self.delete().await && self.find_own().await {
            self.delete().await;
        }
    }

    async fn delete(&self) -> bool {
        let delete = self.store.delete_expect_revision(KEY, Some(self.revision));
        timeout(self.interval(), delete).await.is_ok_and(|deleted| deleted.is_ok())
    }
}

/// What came of writing a lease anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Renewed {
    Written,
    /// Something else stands there than was written last.
    Behind,
    /// There was no answer.
    Unknown,
}

/// The epoch of the last reign that has begun; 0 before the first.
///
/// # Errors
/// JetStream does not say.
pub(super) async fn epoch(shared: &Shared) -> Result<u64, async_nats::Error> {
    let store = match shared.jetstream().get_key_value(shared.subjects.bucket()).await {
        Ok(store) => store,
        Err(error) if error.kind() == KeyValueErrorKind::GetBucket && shared.status.is_connected() => return Ok(0),
        Err(error) => return Err(error.into()),
    };
    let entry = store.entry(KEY).await?;
    let record = entry.and_then(|entry| serde_json::from_slice::<Record>(&entry.value).ok());
    Ok(record.map_or(0, |record| record.epoch))
}

/// A key-value bucket, made as the stream that it is (NATS, ADR-8 "JetStream based Key-Value Stores"): what
/// the client's own way of making one asks the server first is answered otherwise by versions before 2.10.
fn bucket_of(shared: &Shared) -> stream::Config {
    let bucket = shared.subjects.bucket();
    stream::Config {
        name: format!("KV_{bucket}"),
        description: Some("the active origin of tickcast".to_owned()),
        subjects: vec![format!("$KV.{bucket}.>")],
        max_messages_per_subject: 1,
        num_replicas: shared.config.replicas,
        storage: stream::StorageType::File,
        discard: stream::DiscardPolicy::New,
        allow_rollup: true,
        deny_delete: true,
        allow_direct: true,
        ..stream::Config::default()
    }
}

/// A node is the active origin as long as this lives.
#[derive(Debug)]
pub(super) struct Crown(Arc<Shared>);

impl Crown {
    pub(super) fn put_on(shared: &Arc<Shared>) -> Self {
        shared.status.active.store(true, Ordering::Release);
        Self(Arc::clone(shared))
    }
}

impl Drop for Crown {
    fn drop(&mut self) {
        self.0.status.active.store(false, Ordering::Release);
    }
}
