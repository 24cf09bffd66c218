//! The server: HTTP and WebSocket on one port, around a hub.
//!
//! ```text
//! Listener ─ accept ─▶ handshake (hyper, one task a connection) ─▶ routes ─▶ an answer
//!                          │ 101
//!                          ▼
//!            Seat ─▶ Entrance ─▶ Writer (one task a shard) ─ serves ─▶ Session, one a client
//!                                     ▲                          ├─ lent frames: one write
//!                     marks from the  │                          ├─ Outbox: what was not taken
//!                     hub and sockets ┘                          └─ Reader: what the client says
//! ```
//!
//! A session owns its socket and is served by one task only, so nothing in it is shared and a
//! stream of any kind, encrypted or not, fits. Timers: one a shard.

mod accept;
mod access;
mod admission;
mod allowance;
mod budget;
mod clients;
mod disconnect;
mod drain;
#[cfg(feature = "echo")]
mod echo;
mod exposition;
#[cfg(test)]
mod fake;
mod handshake;
mod heartbeat;
mod listener;
mod outbox;
mod page;
mod patience;
mod proxy;
mod publish;
mod reader;
mod routes;
mod seat;
mod session;
mod stats;
mod stream;
mod tls;
mod utf8;
mod writer;

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;

pub use accept::Accept;
use access::Access;
pub use access::{AllowedOrigin, PublicKey};
use admission::Admission;
use budget::Budget;
pub use disconnect::Disconnect;
use drain::Farewell;
pub use drain::Shutdown;
pub use listener::{BindError, Incoming, Listener};
pub use reader::{Event, Reader};
use seat::Seats;
pub use session::Connection;
use stats::Rates;
pub use stream::Stream;
pub use tls::{Certificates, TlsError};
use writer::{Entrance, Phase, Writer};

use crate::cluster::Gateway;
use crate::config::{Config, Publishing};
use crate::fanout::{ChannelError, Hub, Shard};
use crate::source::SourceKind;

/// Connections that are still accepted when the server begins to drain: as many as the kernel holds.
const LAST_CALL: usize = 4_096;

/// The channel that is there from the start.
pub const MARKET: &str = "market";

/// A server that listens and does not serve yet.
#[derive(Debug)]
pub struct Server<L = Listener> {
    listener: L,
    context: Arc<Context>,
    phase: watch::Sender<Phase>,
    shards: Shards,
}

/// What every connection sees.
#[derive(Debug)]
struct Context {
    config: Config,
    hub: Hub,
    access: Access,
    rates: Arc<Rates>,
    phase: watch::Receiver<Phase>,
    seats: Vec<Arc<Seats>>,
    admission: Arc<Admission>,
    /// What may be published over HTTP.
    publications: Budget,
    /// Where it is published, if that is not here.
    cluster: OnceLock<Gateway>,
}

impl Context {
    fn is_draining(&self) -> bool {
        *self.phase.borrow() != Phase::Serving
    }

    /// Whether who comes is told to go elsewhere. When another server takes over, who came to this one
    /// before it stopped listening is let in, and told to come back like everybody else.
    fn is_closed_to_clients(&self) -> bool {
        match *self.phase.borrow() {
            Phase::Serving => false,
            Phase::Draining(farewell) => farewell.how == Shutdown::GoingAway,
            Phase::Closing(_) => true,
        }
    }

    /// Waits until the server drains.
    async fn drains(&self) {
        // If the server is gone altogether, it drains as well.
        let _ = self.phase.clone().wait_for(|phase| *phase != Phase::Serving).await;
    }

    /// Why nobody should be sent here, if there is a reason.
    fn trouble(&self) -> Option<String> {
        let cluster = self.cluster.get().and_then(|gateway| gateway.status().trouble());
        cluster.or_else(|| source_trouble(&self.config, &self.hub))
    }
}

/// What is wrong with the source of a server or an origin, if anything.
pub fn source_trouble(config: &Config, hub: &Hub) -> Option<String> {
    let metrics = hub.metrics();
    if config.cluster.is_edge() || config.source == SourceKind::None {
        None
    } else if metrics.snapshots.get() == 0 {
        Some("the source has not produced a snapshot yet".to_owned())
    } else {
        metrics.source.trouble()
    }
}

impl Server {
    /// Listens as `config` says and serves `hub`, in which it makes the channel `market`. Of
    /// `config`, the source only says what to wait for before the server is ready; opening it is
    /// the caller's.
    ///
    /// # Errors
    /// The address cannot be listened on, the certificate cannot be used, or the hub takes no channel.
    ///
    /// # Panics
    /// Outside a tokio runtime with I/O and time enabled.
    pub fn bind(config: Config, hub: Hub) -> Result<Self, BindError> {
        let listener = Listener::bind(&config)?;
        Ok(Self::with_listener(listener, config, hub)?)
    }

    /// The certificate it shows, to be read again when it is renewed; `None` without TLS.
    pub fn certificates(&self) -> Option<Certificates> {
        self.listener.certificates()
    }
}

impl<L: Accept> Server<L> {
    /// The same over connections of any kind; what `config` says about listening is the caller's. Only if the
    /// listener's address is one of the loopback interface may everybody publish without a token.
    ///
    /// # Errors
    /// The hub takes no channel.
    pub fn with_listener(mut listener: L, config: Config, hub: Hub) -> Result<Self, ChannelError> {
        hub.channel(MARKET)?;
        listener.count_in(hub.metrics());
        let (phase, phase_seen) = watch::channel(Phase::Serving);
        let mut shards = Shards { hub: hub.clone(), shards: Vec::new() };
        let seats = (0..config.workers).map(|_| Arc::new(Seats::new(shards.add()))).collect();
        let access = Access::new(&config.auth, publishing(&listener, &config));
        let admission = Admission::new(config.limits.clone(), Arc::clone(hub.metrics()));
        let publications = Budget::new(config.limits.publish_rate);
        let rates = Arc::default();
        let context = Context {
            config,
            hub,
            access,
            rates,
            phase: phase_seen,
            seats,
            admission,
            publications,
            cluster: OnceLock::new(),
        };
        Ok(Self { listener, context: Arc::new(context), phase, shards })
    }

    /// Has what is published over HTTP go through a cluster, which brings it back to the hub. Only the first
    /// call counts.
    pub fn publish_through(&self, gateway: Gateway) {
        let _ = self.context.cluster.set(gateway);
    }

    /// Who may publish over HTTP, here where it listens.
    pub fn publishing(&self) -> Publishing {
        publishing(&self.listener, &self.context.config)
    }

    /// Where it listens.
    ///
    /// # Errors
    /// The system does not say.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Serves until `shutdown` completes, and says how. Then it stops listening, answers publications
    /// with 503, lets every client read what its ring holds followed by a Close, see [`Shutdown`],
    /// and returns when all are gone or `drain_timeout` is over.
    ///
    /// Dropping the future ends everything at once.
    ///
    /// # Errors
    /// A writer task has died, which is a defect; everything is ended.
    pub async fn run(self, shutdown: impl Future<Output: Into<Shutdown>>) -> Result<(), RunError> {
        // The shards leave the hub when this is over, however it ends.
        let Self { listener, context, phase, shards: _shards } = self;
        let mut writers = JoinSet::new();
        let enter = |seats: &Arc<Seats>| {
            let entrance = Arc::new(Entrance::new(Arc::clone(seats.shard())));
            let writer = Writer::new(context.hub.clone(), Arc::clone(&entrance), &context.config, phase.subscribe());
            writers.spawn(writer.run());
            entrance
        };
        let entrances: Arc<[_]> = context.seats.iter().map(enter).collect();
        let mut sampler = JoinSet::new();
        sampler.spawn(Arc::clone(&context.rates).sample(context.hub.clone()));
        let mut connections = JoinSet::new();
        let begin = |connections: &mut JoinSet<()>, incoming, peer| match context.admission.admit(peer) {
            Ok(ticket) => {
                let (context, entrances) = (Arc::clone(&context), Arc::clone(&entrances));
                connections.spawn(handshake::begin::<L>(incoming, ticket, context, entrances, phase.subscribe()));
            }
            Err(refusal) => {
                if let Some(telling) = context.admission.tell() {
                    connections.spawn(handshake::turn_away::<L>(incoming, refusal, telling));
                }
            }
        };
        let accept = async {
            loop {
                tokio::select! {
                    (incoming, peer) = listener.accept() => begin(&mut connections, incoming, peer),
                    Some(_) = connections.join_next() => {}
                }
            }
        };
        let how = tokio::select! {
            never = accept => never,
            how = shutdown => how.into(),
            _ = writers.join_next() => return Err(RunError),
        };
        // Who waits to be accepted has connected; closing the listener would reset them.
        for _ in 0..LAST_CALL {
            let waiting = tokio::time::timeout(Duration::ZERO, listener.accept());
            let Ok((incoming, peer)) = waiting.await else { break };
            begin(&mut connections, incoming, peer);
        }
        drop(listener);
        let until = Instant::now() + context.config.drain_timeout;
        let farewell = Farewell { how, until };
        phase.send_replace(Phase::Draining(farewell));
        let all_done = async { while connections.join_next().await.is_some() {} };
        // Who is not done in time is cut off.
        let _ = tokio::time::timeout_at(until, all_done).await;
        connections.shutdown().await;
        phase.send_replace(Phase::Closing(farewell));
        while let Some(ended) = writers.join_next().await {
            ended.map_err(|_| RunError)?;
        }
        Ok(())
    }
}

/// A listener that does not say where it listens is not taken for a local one.
fn publishing<L: Accept>(listener: &L, config: &Config) -> Publishing {
    let is_local = listener.local_addr().is_ok_and(|address| address.ip().to_canonical().is_loopback());
    config.auth.publishing(is_local)
}

/// A task of the server has died.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("a writer task of the server has died")]
pub struct RunError;

/// The shards of a server; they leave the hub with it.
#[derive(Debug)]
struct Shards {
    hub: Hub,
    shards: Vec<Arc<Shard>>,
}

impl Shards {
    fn add(&mut self) -> Arc<Shard> {
        let shard = self.hub.add_shard();
        self.shards.push(Arc::clone(&shard));
        shard
    }
}

impl Drop for Shards {
    fn drop(&mut self) {
        self.shards.iter().for_each(|shard| shard.close());
    }
}
