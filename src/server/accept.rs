//! Where a server's connections come from: the door that callers and tests may replace.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use super::session::Connection;
use crate::metrics::Metrics;

/// A source of connections. [`Listener`](super::Listener) is the one over TCP.
///
/// Taking a connection in and preparing it are two steps, so that a peer that dawdles holds up
/// nobody else: the first is done in turn, the second on the connection's own task and against the
/// clock of the handshake.
pub trait Accept: Send + Sync + 'static {
    /// What arrived and is not prepared yet.
    type Incoming: Send + 'static;
    /// What a session writes to and reads from.
    type Stream: Connection;

    /// Told once, before anything is accepted: where to count what does not become a connection.
    fn count_in(&mut self, metrics: &Arc<Metrics>) {
        let _ = metrics;
    }

    /// The next connection, and the address it comes from. Failures are waited out, without spinning.
    ///
    /// # Cancel safety
    /// Must be cancel safe: nothing may be lost if the future is dropped.
    fn accept(&self) -> impl Future<Output = (Self::Incoming, SocketAddr)> + Send;

    /// Prepares a connection. Returns the stream, and the address of the client if it is another than
    /// that of the peer: one that a proxy vouches for. Best done when the peer has said something, so that
    /// the silent ones of a crowd hold no buffers.
    ///
    /// # Errors
    /// The peer is gone, or did not keep to what must come before the request.
    fn open(
        incoming: Self::Incoming,
    ) -> impl Future<Output = io::Result<(Self::Stream, Option<SocketAddr>)>> + Send + 'static;

    /// Where it listens.
    ///
    /// # Errors
    /// The system does not say.
    fn local_addr(&self) -> io::Result<SocketAddr>;
}
