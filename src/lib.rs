//! tickcast gets the same market data to very many screens at once, fresh, without ever letting one
//! slow screen hurt another.
//!
//! The crate is the engine; the server of the same name is its first user.
//!
//! ```text
//! source ─▶ market state ─▶ snapshot ─▶ frame ─▶ hub ─▶ ring ─▶ writer ─▶ socket
//!   lines     one task       JSON,       head +   read    one a   one a      one write for
//!   decoded   owns it        once        payload  w/o     shard,  shard      all that a
//!                                        once     lock    one a   sleeps     client has not
//!                                                         lagging on Notify  had
//!                                                         client
//! accept ─▶ handshake ─▶ register ─▶ reader and heartbeat ─▶ deregister
//! ```
//!
//! * [`fanout`]: hub, channels, rings, shards. Knows neither sockets nor markets.
//! * [`market`] and [`source`]: what is published on the channel `market`. Know no sockets.
//! * [`server`]: HTTP and WebSocket around a hub.
//! * [`config`], [`metrics`]: what can be set, what is counted.
//!
//! # Guarantees
//! * A message is serialised and framed once; every client is sent the same bytes.
//! * A client gets a channel's last message first, then every later one, in order, none twice, but
//!   for those its full ring gave up: the oldest, counted, and visible as a gap in `seq`.
//! * Publishing takes no lock, waits for nobody and does nothing per client. It is mutex-free, not
//!   lock-free in the strict sense; [`fanout`] says where a stalled thread can be felt.
//!
//! # Embedding
//! ```
//! use tickcast::fanout::{Hub, Message};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let hub = Hub::default();
//! let channel = hub.channel("market")?;
//! channel.publish(Message::text("{\"price\":1}"))?;
//! let mut subscription = hub.subscribe(&channel);
//! assert_eq!(subscription.recv().await.payload(), "{\"price\":1}");
//! # Ok(())
//! # }
//! ```
//! With a [`Server`] around the hub the same message reaches every WebSocket client of
//! `/ws/market`; `examples/embedded.rs` has the whole program.

pub mod cluster;
pub mod config;
pub mod fanout;
pub mod market;
pub mod metrics;
pub mod server;
pub mod source;

pub use config::Config;
pub use fanout::{Channel, Hub, Message};
pub use server::Server;
