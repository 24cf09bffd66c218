//! The engine: one message in, one shared frame out to every subscriber. Knows neither sockets nor
//! markets.
//!
//! ```text
//! Channel::publish ─ turn ─ Frame (head + payload, once)
//!        │ one reference each                 wake, once a shard
//!        ├─▶ Ring ─┐                                │
//!        ├─▶ Ring ─┼─ slots marked ready ──▶ Shard ─┴─▶ its owner: pop, write
//!        └─▶ Ring ─┘
//! ```
//!
//! # Invariants
//! * A channel's messages are numbered from 1 and pushed in that order to everybody. A subscriber
//!   that joins gets the last message first and then every later one, because joins take turns
//!   with publications ([`Channel`]).
//! * A frame pushed is, later, exactly one of: sent, dropped for a newer one, discarded because its
//!   subscriber left; until then it is queued.
//! * A slot whose ring has a frame is marked, or its owner is about to look at it: pushes come
//!   before the mark, and taking the mark comes before popping.
//!
//! # What waits, and what does not
//! Publishing reads the sets of subscribers through `ArcSwap` and takes no lock: it is mutex-free.
//! It is not lock-free in the strict sense: the rings and the turn make others spin while a thread
//! is stalled in the middle of an operation, and waking a writer that sleeps takes the mutex inside
//! tokio's `Notify`, once per shard and sleep. Joining and leaving take a turn like publishing,
//! and change a set in it.
//! Who may lag: any subscriber. Who may wait: nobody.

mod audience;
mod channel;
mod frame;
mod hub;
mod ring;
mod shard;
mod subscriber;
mod turn;

pub use channel::{Busy, Channel, Published};
pub use frame::{Frame, Kind, Message};
use hub::SETS;
pub use hub::{ChannelError, Hub, HubConfig, MAX_CHANNEL_NAME};
pub use ring::Ring;
pub use shard::Shard;
pub use subscriber::{Subscriber, Subscription};
