//! The modules of `src/fanout`, with `sync` exchanged.

#[path = "../../../src/fanout/audience.rs"]
mod audience;
#[path = "../../../src/fanout/channel.rs"]
mod channel;
#[path = "../../../src/fanout/frame.rs"]
mod frame;
#[path = "../../../src/fanout/hub.rs"]
mod hub;
#[path = "../../../src/fanout/lane.rs"]
mod lane;
#[path = "../../../src/fanout/membership.rs"]
mod membership;
#[path = "models/mod.rs"]
pub mod models;
#[path = "../../../src/fanout/numbers.rs"]
mod numbers;
#[path = "../../../src/fanout/ring.rs"]
mod ring;
#[path = "../../../src/fanout/rounds.rs"]
mod rounds;
#[path = "../../../src/fanout/shard.rs"]
mod shard;
#[path = "../../../src/fanout/slots.rs"]
mod slots;
#[path = "../../../src/fanout/subscription.rs"]
mod subscription;
#[path = "sync.rs"]
mod sync;
#[path = "../../../src/fanout/turn.rs"]
mod turn;

pub use channel::{Busy, Channel, Published};
pub use frame::{Frame, Kind, Message};
pub use hub::{ChannelError, Hub, HubConfig, MAX_CHANNEL_NAME};
pub use membership::Membership;
pub use ring::Ring;
pub use rounds::{Delivery, Place, Rounds};
pub use shard::Shard;
pub use subscription::Subscription;
