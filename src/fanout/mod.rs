//! The engine: one message in, one shared frame out to every client. Knows neither sockets nor
//! markets.
//!
//! ```text
//! Channel::publish ─ turn ─ Frame (head + payload, once)
//!      │ one reference a shard                 one a subscription in the process
//!      ├─▶ Lane (ring) ─ mark, wake ─▶ Rounds: the shard's owner lends the frames
//!      ├─▶ Lane (ring) ─ mark, wake ─▶ Rounds  to one client after the other
//!      └─▶ Inbox (ring) ─ wake ─▶ Subscription
//! ```
//!
//! A publication costs a push for each shard, not for each client. The task that owns the shard
//! then goes its [`Rounds`]: to a client that keeps up the frames are lent, for the length of a
//! write; only one whose socket takes no more needs a [`Ring`] of its own to keep them in.
//!
//! # Invariants
//! * A channel's messages are numbered from 1 and pushed in that order to everybody. Who joins gets
//!   the last message first and then every later one, because joins take turns with publications
//!   ([`Channel`]).
//! * A frame owed to a client is, later, exactly one of: sent, dropped for a newer one, discarded
//!   because the client left; until then it is queued. What is dropped on the way to a shard is
//!   counted by the shard's owner, for each client it was owed to.
//! * A lane with a frame in it is marked, or its owner is about to look: pushes come before the
//!   mark, and taking the mark comes before popping.
//!
//! # What waits, and what does not
//! Publishing reads who listens through `ArcSwap` and takes no lock: it is mutex-free. It is not
//! lock-free in the strict sense: the rings and the turn make others spin while a thread is stalled
//! in the middle of an operation, and waking a writer takes the mutex inside tokio's `Notify` if it
//! sleeps; of those that sleep a publication wakes one, which wakes the others (`lane.rs`). Joining
//! and leaving take a turn like publishing.
//! Who may lag: any client. Who may wait: a client that joins, until the operations before its join
//! are done.

mod audience;
mod channel;
mod frame;
mod hub;
mod lane;
mod membership;
mod numbers;
mod ring;
mod rounds;
mod shard;
mod slots;
mod subscription;
mod sync;
mod turn;

pub(crate) use audience::Audience;
pub use channel::{Busy, Channel, Published};
pub use frame::{Frame, Kind, Message};
pub(crate) use hub::check_name;
pub use hub::{ChannelError, Hub, HubConfig, MAX_CHANNEL_NAME};
pub use membership::Membership;
pub use ring::Ring;
pub use rounds::{Delivery, Place, Rounds};
pub use shard::Shard;
pub use subscription::Subscription;
