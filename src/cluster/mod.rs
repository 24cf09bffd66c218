//! Many machines, with NATS between them.
//!
//! ```text
//!   source ─▶ Publisher ─▶ Intake ─┐                        ┌─▶ Follower ─▶ Hub ─▶ clients   (every node)
//!                                  ├─▶ Reign ─▶ SUBJECT.CHANNEL
//!   POST on any node ─▶ Node ──────┘  (the active origin:   └─▶ JetStream: the last message of each channel
//!         SUBJECT-publish.CHANNEL      numbers, one at a time)
//! ```
//!
//! * **One origin numbers.** Whoever holds the lease puts each message on the bus once, with its
//!   epoch and its number in a header. Every node, that origin too, serves what comes from the bus and nothing
//!   else, so that the bytes and their order are the same everywhere.
//! * **Numbers decide.** A node takes a message only if its number is above the channel's, and its epoch
//!   not below the highest it knows. What comes twice, late, or from an origin that was asleep is nothing new.
//! * **The last message.** A node that comes, or comes back, reads the last message of each channel from
//!   JetStream beside the live ones, in whatever order: numbers decide here too.
//! * **Not asked for.** Nothing is stored but the last message of a channel, and nothing is sent again: what the
//!   bus loses is a hole in the numbers, which clients see and [`Status::missed`] counts.
//!
//! A server without a cluster has none of this: its publisher and its requests publish in the hub.

mod bus;
mod follower;
mod intake;
mod last;
mod lease;
mod node;
mod reign;
mod status;
mod wire;

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use async_nats::jetstream;

use bus::Bus;
pub use intake::Intake;
pub use node::{Gateway, Node, PublishError};
pub use status::Status;
use wire::Subjects;

use crate::config::ClusterConfig;
use crate::fanout::Hub;

/// Why a node could not become part of a cluster. A bus that is not there is no reason.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    /// The file that says who the node is.
    #[error("cannot use the NATS credentials in {path}: {error}")]
    Credentials {
        /// Which.
        path: PathBuf,
        /// What is wrong with it.
        error: io::Error,
    },
    /// The client of the bus refuses what it was given.
    #[error("cannot connect to NATS as [cluster] says: {0}")]
    Connect(String),
}

/// Says what is wrong with an origin's source, if anything.
pub type SourceTrouble = dyn Fn() -> Option<String> + Send + Sync;

/// What the tasks of a node share.
struct Shared {
    config: ClusterConfig,
    hub: Hub,
    subjects: Subjects,
    status: Arc<Status>,
    bus: Bus,
    /// The node's name, and what tells it from another, or an earlier one, of that name.
    identity: String,
    source: Box<SourceTrouble>,
}

impl Shared {
    fn jetstream(&self) -> jetstream::Context {
        jetstream::new(self.bus.client.clone())
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").field("identity", &self.identity).finish_non_exhaustive()
    }
}
