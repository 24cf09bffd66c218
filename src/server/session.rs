//! One WebSocket client after its handshake: its socket, what it said, what it is to be sent.
//! Visited by the writer task of its shard; does nothing by itself and owns no timer and no task.

use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::disconnect::Disconnect;
use super::outbox::{Batch, Outbox};
use super::reader::{Event, Reader};
use super::seat::Seat;

/// Reads of one client before others get their turn.
const MAX_READS: usize = 4;

/// What a connection must do: any byte stream, encrypted or not. `poll_write_vectored` should be
/// real where there is one.
pub trait Connection: AsyncRead + AsyncWrite + Unpin + Send + 'static {}

impl<S: AsyncRead + AsyncWrite + Unpin + Send + 'static> Connection for S {}

/// A connection on its way from the handshake to a shard.
#[derive(Debug)]
pub(super) struct Arrival<S> {
    pub(super) io: S,
    /// What the client sent right behind its request.
    pub(super) received: Bytes,
    pub(super) seat: Seat,
    pub(super) peer: SocketAddr,
}

/// One client.
#[derive(Debug)]
pub(super) struct Session<S> {
    io: S,
    peer: SocketAddr,
    since: Instant,
    seat: Seat,
    waker: Waker,
    outbox: Outbox,
    reader: Reader,
    /// The last Ping sent, and the last that a Pong has answered.
    pinged: u32,
    answered: u32,
    end: Option<Disconnect>,
    /// A visit has found the end.
    lingers: bool,
    /// This side has said that nothing more comes.
    shut_down: bool,
    /// The peer has, or the socket failed.
    at_eof: bool,
    /// The peer has sent its Close.
    peer_closed: bool,
    /// For the log: what the subscriber had lost when it left.
    dropped: u64,
}

/// What a visit found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Visit {
    /// The session goes on.
    Open,
    /// It was closed from this side since the last visit, and now waits for the peer.
    Closed,
    /// It still waits.
    Closing,
    /// It is over.
    Over,
}

impl<S: Connection> Session<S> {
    pub(super) fn new(io: S, peer: SocketAddr, seat: Seat, max_message: usize) -> Self {
        Self {
            io,
            peer,
            since: Instant::now(),
            waker: seat.subscriber().map_or_else(|| Waker::noop().clone(), |subscriber| subscriber.waker()),
            seat,
            outbox: Outbox::default(),
            reader: Reader::new(max_message),
            pinged: 0,
            answered: 0,
            end: None,
            lingers: false,
            shut_down: false,
            at_eof: false,
            peer_closed: false,
            dropped: 0,
        }
    }

    /// Queues a Ping; returns its number.
    pub(super) fn ping(&mut self) -> Option<u32> {
        self.end.is_none().then(|| {
            self.pinged += 1;
            self.outbox.ping(self.pinged);
            self.pinged
        })
    }

    /// Whether a Pong came since Ping number `ping`.
    pub(super) fn has_answered(&self, ping: u32) -> bool {
        self.answered >= ping
    }

    /// Ends the session from this side: leaves its channels, and a Close goes out before anything
    /// that still waits.
    pub(super) fn close(&mut self, end: Disconnect) {
        if self.end.is_none() {
            self.end = Some(end);
            if let Some((code, text)) = end.close() {
                self.outbox.close(code, text);
            }
            self.leave();
        }
    }

    /// Ends the session once the client has been sent what its ring holds.
    pub(super) fn drain(&mut self, end: Disconnect) {
        if let Some((code, text)) = end.close() {
            self.outbox.close_when_drained(code, text);
        }
    }

    /// Since when the client is there.
    pub(super) fn since(&self) -> Instant {
        self.since
    }

    /// Why the session ended, if it has.
    pub(super) fn end(&self) -> Option<Disconnect> {
        self.end
    }

    /// Marks the session for a visit.
    pub(super) fn mark(&self) {
        self.waker.wake_by_ref();
    }

    /// Reads what the client sent and sends what waits, as far as the socket goes.
    pub(super) fn visit(&mut self, scratch: &mut [u8], batch: &mut Batch<'_>) -> Visit {
        // Lent out for the visit, which is cheaper than another reference.
        let waker = std::mem::replace(&mut self.waker, Waker::noop().clone());
        let visit = self.read_and_send(&mut Context::from_waker(&waker), scratch, batch);
        self.waker = waker;
        visit
    }

    fn read_and_send(&mut self, cx: &mut Context<'_>, scratch: &mut [u8], batch: &mut Batch<'_>) -> Visit {
        self.read(cx, scratch);
        let congested = self.outbox.is_congested();
        let flushed = self.outbox.poll_flush(cx, Pin::new(&mut self.io), self.seat.subscriber(), batch);
        if let Poll::Ready(Err(error)) = flushed {
            self.end.get_or_insert(Disconnect::Io(error.kind()));
            return Visit::Over;
        }
        if congested && !self.outbox.is_congested() {
            cx.waker().wake_by_ref();
        }
        if self.outbox.is_closed() {
            self.end.get_or_insert(Disconnect::Shutdown);
            self.leave();
            if !self.shut_down && Pin::new(&mut self.io).poll_shutdown(cx).is_ready() {
                self.shut_down = true;
            }
        }
        match self.end {
            _ if self.at_eof => Visit::Over,
            // Both have said Close: the server ends the connection (RFC 6455 section 7.1.1).
            _ if self.peer_closed && self.shut_down => Visit::Over,
            None => Visit::Open,
            Some(_) if std::mem::replace(&mut self.lingers, true) => Visit::Closing,
            Some(_) => Visit::Closed,
        }
    }

    fn read(&mut self, cx: &mut Context<'_>, scratch: &mut [u8]) {
        for reads in 0.. {
            if self.at_eof || self.outbox.is_congested() {
                return;
            }
            if reads == MAX_READS {
                cx.waker().wake_by_ref();
                return;
            }
            let mut buffer = ReadBuf::new(scratch);
            match Pin::new(&mut self.io).poll_read(cx, &mut buffer) {
                Poll::Pending => return,
                Poll::Ready(Ok(())) if buffer.filled().is_empty() => {
                    self.at_eof = true;
                    self.end.get_or_insert(Disconnect::Gone);
                }
                Poll::Ready(Ok(())) => self.receive(buffer.filled_mut()),
                Poll::Ready(Err(error)) => {
                    self.at_eof = true;
                    self.end.get_or_insert(Disconnect::Io(error.kind()));
                }
            }
        }
    }

    /// Takes in bytes of the client; after the end they mean nothing.
    pub(super) fn receive(&mut self, bytes: &mut [u8]) {
        if matches!(self.end, Some(end) if end != Disconnect::Shutdown) {
            return;
        }
        let Self { reader, outbox, answered, pinged, .. } = self;
        let mut closed = None;
        let read = reader.feed(bytes, &mut |event| match event {
            Event::Data { .. } => {}
            Event::Ping(payload) => outbox.pong(payload),
            Event::Pong => *answered = *pinged,
            Event::Close(code) => closed = Some(Disconnect::Closed(code)),
        });
        self.peer_closed |= closed.is_some();
        if let Some(end) = read.err().or(closed) {
            self.close(end);
        }
    }

    fn leave(&mut self) {
        self.dropped = self.seat.leave_channels().unwrap_or(self.dropped);
    }

    /// Ends the session for good: counts what it leaves behind, logs, and drops the socket.
    pub(super) fn finish(mut self) {
        self.outbox.discard();
        self.leave();
        let end = self.end.unwrap_or(Disconnect::Gone);
        tracing::debug!(
            peer = %self.peer,
            reason = end.reason(),
            seconds = self.since.elapsed().as_secs_f64(),
            dropped = self.dropped,
            "client disconnected: {end}"
        );
    }
}
