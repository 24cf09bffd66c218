//! The market: updates in, snapshots out. Knows no sockets; publishes on a channel of the hub.
//!
//! One task owns the state, so there is nothing to lock: [`Publisher`] takes lines from a
//! [`Feed`](crate::source::Feed), applies them to the [`MarketState`] and decides when a snapshot is
//! due. Prices and sizes are decimals from end to end; no figure passes through binary floats.

mod outlet;
mod publisher;
mod recency;
mod snapshot;
mod state;
mod update;

pub use outlet::Outlet;
pub use publisher::Publisher;
pub use recency::Recency;
pub use snapshot::SnapshotWriter;
pub use state::{ApplyError, MAX_SYMBOLS, MarketState, Session, Symbol};
pub use update::{Change, Update};
