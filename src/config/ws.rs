//! `[ws]`: WebSocket clients.

use std::time::Duration;

use super::keys::{DAY, GIB, HOUR, bytes, key, seconds};
use super::{Key, value};

/// What WebSocket clients get and what they may do.
#[derive(Clone, Debug, PartialEq)]
pub struct WsConfig {
    /// Time between snapshots; zero publishes as soon as something changed and the writers are
    /// ready for it.
    pub broadcast_interval: Duration,
    /// Time between Pings to one client; zero sends none.
    pub heartbeat_interval: Duration,
    /// How long after a Ping a Pong may come.
    pub heartbeat_timeout: Duration,
    /// How long a client's socket may take nothing although something waits, before the client is ended
    /// with 1008; zero leaves that to the heartbeat. Frees what a client that has vanished holds.
    pub write_timeout: Duration,
    /// How long a client may lag without interruption before it is ended with 1008; zero lets it lag
    /// for ever, losing the oldest frames. For users who would rather reconnect than see gaps.
    pub evict_after: Duration,
    /// Frames a client's ring holds. Higher smooths longer stalls without loss, lower keeps what a
    /// slow client reads newer; 16 bytes each for every client that lags.
    pub queue_size: usize,
    /// What the kernel may hold unsent for one client, on top of the ring. Lower keeps a slow
    /// client fresher and the server smaller, higher helps throughput over long distances.
    pub write_buffer: usize,
    /// Largest message a client may send, fragments together; larger ones end it with 1009.
    pub max_message_size: usize,
}

impl Default for WsConfig {
    fn default() -> Self {
        Self {
            broadcast_interval: Duration::from_secs(1),
            heartbeat_interval: Duration::from_secs(30),
            heartbeat_timeout: Duration::from_secs(10),
            write_timeout: Duration::from_secs(60),
            evict_after: Duration::ZERO,
            queue_size: 50,
            write_buffer: 64 << 10,
            max_message_size: 64 << 10,
        }
    }
}

pub(super) const KEYS: &[Key] = &[
    key!(
        "ws.broadcast_interval",
        "WS_BROADCAST_INTERVAL",
        "broadcast-interval",
        "DURATION",
        "Time between snapshots; 0 = as soon as something changed",
        ws.broadcast_interval,
        |raw| value::seconds(raw, 0.0, DAY),
        seconds
    ),
    key!(
        "ws.heartbeat_interval",
        "WS_HEARTBEAT_INTERVAL",
        "heartbeat-interval",
        "DURATION",
        "Time between Ping frames to one client; 0 = no heartbeat",
        ws.heartbeat_interval,
        |raw| value::seconds_or_zero(raw, 0.1, HOUR),
        seconds
    ),
    key!(
        "ws.heartbeat_timeout",
        "WS_HEARTBEAT_TIMEOUT",
        "heartbeat-timeout",
        "DURATION",
        "How long to wait for a Pong before the client is closed with 1008",
        ws.heartbeat_timeout,
        |raw| value::seconds(raw, 0.001, HOUR),
        seconds
    ),
    key!(
        "ws.write_timeout",
        "WS_WRITE_TIMEOUT",
        "write-timeout",
        "DURATION",
        "How long a client may take nothing of what waits for it before it is closed with 1008; 0 = for ever",
        ws.write_timeout,
        |raw| value::seconds_or_zero(raw, 0.001, HOUR),
        seconds
    ),
    key!(
        "ws.evict_after",
        "WS_EVICT_AFTER",
        "evict-after",
        "DURATION",
        "How long a client may lag without interruption before it is closed with 1008 `slow consumer`; 0 = for ever",
        ws.evict_after,
        |raw| value::seconds_or_zero(raw, 0.001, DAY),
        seconds
    ),
    key!(
        "ws.queue_size",
        "WS_QUEUE_SIZE",
        "queue-size",
        "FRAMES",
        "Frames a client's ring holds; the oldest is dropped when it is full",
        ws.queue_size,
        |raw| value::integer(raw, 1, 65_536).map(|n| n as usize),
        usize::to_string
    ),
    key!(
        "ws.write_buffer",
        "WS_WRITE_BUFFER",
        "write-buffer",
        "SIZE",
        "Bound on the bytes the kernel may hold unsent for one client",
        ws.write_buffer,
        |raw| value::size(raw, 4 << 10, GIB),
        bytes
    ),
    key!(
        "ws.max_message_size",
        "WS_MAX_MESSAGE_SIZE",
        "max-message-size",
        "SIZE",
        "Largest message a client may send, fragments together",
        ws.max_message_size,
        |raw| value::size(raw, 1, GIB),
        bytes
    ),
];
