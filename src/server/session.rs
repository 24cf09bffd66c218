//! One WebSocket client after its handshake: its socket, what it said, what it is to be sent.
//! Served by the writer task of its shard; does nothing by itself and owns no timer and no task.

use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant as Moment;

use super::admission::Ticket;
use super::allowance::{Allowance, Said};
use super::disconnect::Disconnect;
use super::heartbeat::SessionId;
use super::outbox::{Ledger, Outbox, send_lent};
use super::reader::{Event, Reader};
use super::seat::Seat;
use crate::config::WsConfig;
use crate::fanout::{Frame, Membership, Place};
use crate::metrics::ShardCounters;

/// Reads of one client before others get their turn.
const MAX_READS: usize = 4;
/// Reads of one client after the end, so that a message under way does not reset the connection before the
/// client has seen its Close: a few milliseconds of work, and 16 MiB at most. What comes beyond them stays in
/// the kernel, which takes no more of the client, until the socket is dropped.
const MAX_LINGER_READS: u16 = 1_024;

/// What a connection must do: any byte stream, encrypted or not. `poll_write_vectored` should be
/// real where there is one. It may take bytes and hold them back, a bounded number, if it wakes the
/// waker of the write when it can go on: then it is flushed.
pub trait Connection: AsyncRead + AsyncWrite + Unpin + Send + 'static {}

impl<S: AsyncRead + AsyncWrite + Unpin + Send + 'static> Connection for S {}

/// A connection on its way from the handshake to a shard.
#[derive(Debug)]
pub(super) struct Arrival<S> {
    pub(super) io: S,
    /// What the client sent right behind its request.
    pub(super) received: Bytes,
    pub(super) seat: Seat,
    pub(super) membership: Membership,
    pub(super) ticket: Ticket,
    /// When the client has to go, if its token says so.
    pub(super) expires: Option<tokio::time::Instant>,
}

/// What the clients of one writer task share.
#[derive(Debug)]
pub(super) struct Desk<'a> {
    pub(super) counters: &'a ShardCounters,
    /// Lent to one client's reads at a time.
    pub(super) scratch: &'a mut [u8],
    /// Counts what is read of them.
    pub(super) bytes_read: &'a mut u64,
    /// Frames a lagging client's ring holds.
    pub(super) queue_size: usize,
    /// How much a client may say.
    pub(super) allowance: Allowance,
}

/// One client. What it has only now and then is in boxes, so that ten thousand idle ones are small.
#[derive(Debug)]
pub(super) struct Session<S> {
    io: S,
    waker: Waker,
    /// What its socket has not taken.
    outbox: Option<Box<Outbox>>,
    since: Instant,
    /// Why the session ended, if it has.
    end: Option<Disconnect>,
    /// Where it stands in the shard's rounds, until it leaves its channel.
    pub(super) place: Option<Place>,
    /// In the middle of what the client says.
    reader: Option<Box<Reader>>,
    /// See [`SessionId`].
    number: u32,
    seat: Seat,
    ticket: Ticket,
    /// The last Ping sent, and the last that a Pong has answered.
    pinged: u32,
    answered: u32,
    /// Somebody looks from time to time whether it still lags.
    is_watched: bool,
    /// A visit has found the end.
    lingers: bool,
    /// This side has said that nothing more comes.
    shut_down: bool,
    /// The peer has, or the socket failed.
    at_eof: bool,
    /// The peer has sent its Close.
    peer_closed: bool,
    said: Said,
    /// The last visit did not find the end of what the peer has sent.
    unread: bool,
    /// Reads after the end.
    linger_reads: u16,
    /// What is sent back.
    #[cfg(feature = "echo")]
    echo: super::echo::Echo,
    /// Frames that gave way to newer ones, for the log.
    dropped: u64,
}

/// What a visit found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Visit {
    /// The session goes on.
    Open,
    /// It goes on, and something waits that its socket does not take; not said again until
    /// [`Session::check_lag`] has found nothing.
    Lags,
    /// It was closed from this side since the last visit, and now waits for the peer.
    Closed,
    /// It still waits.
    Closing,
    /// It is over.
    Over,
}

impl<S: Connection> Session<S> {
    pub(super) fn new(io: S, ticket: Ticket, seat: Seat, number: u32) -> Self {
        Self {
            io,
            waker: seat.waker(),
            outbox: None,
            since: Instant::now(),
            end: None,
            place: None,
            reader: None,
            number,
            seat,
            ticket,
            pinged: 0,
            answered: 0,
            is_watched: false,
            lingers: false,
            shut_down: false,
            at_eof: false,
            peer_closed: false,
            said: Said::default(),
            unread: false,
            linger_reads: 0,
            #[cfg(feature = "echo")]
            echo: Default::default(),
            dropped: 0,
        }
    }

    pub(super) fn id(&self) -> SessionId {
        SessionId { slot: self.seat.slot() as u32, number: self.number }
    }

    /// Queues a Ping; returns its number.
    pub(super) fn ping(&mut self) -> Option<u32> {
        self.end.is_none().then(|| {
            self.pinged += 1;
            self.outbox.get_or_insert_default().ping(self.pinged);
            self.pinged
        })
    }

    /// Whether a Pong came since Ping number `ping`.
    pub(super) fn has_answered(&self, ping: u32) -> bool {
        self.answered >= ping
    }

    /// Ends the session from this side: a Close goes out before anything that still waits.
    pub(super) fn close(&mut self, end: Disconnect) {
        if self.end.is_none() {
            self.end = Some(end);
            if end.close().is_some() {
                let outbox = self.outbox.get_or_insert_default();
                #[cfg(not(feature = "echo"))]
                outbox.close(end);
                // What came before the end goes back before the Close.
                #[cfg(feature = "echo")]
                outbox.close_when_drained(end);
            }
        }
    }

    /// Ends the session once the client has been sent what waits for it.
    pub(super) fn drain(&mut self, end: Disconnect) {
        self.outbox.get_or_insert_default().close_when_drained(end);
    }

    /// Whether the client lags for longer than it may, and if not, when to look again, if at all. It is
    /// to be visited before, so that what its socket takes by now counts.
    ///
    /// # Errors
    /// It does.
    pub(super) fn check_lag(&mut self, now: Moment, config: &WsConfig) -> Result<Option<Moment>, Disconnect> {
        let Some(outbox) = self.outbox.as_ref().filter(|_| self.end.is_none()) else {
            self.is_watched = false;
            return Ok(None);
        };
        let ends = [
            (outbox.progress(), config.write_timeout, Disconnect::Stalled),
            (outbox.since(), config.evict_after, Disconnect::Slow),
        ];
        let mut next = None;
        for (since, limit, end) in ends.into_iter().filter(|(_, limit, _)| !limit.is_zero()) {
            let at = since + limit;
            if at <= now {
                return Err(end);
            }
            next = Some(next.map_or(at, |next: Moment| next.min(at)));
        }
        Ok(next)
    }

    /// Why the session ended, if it has.
    pub(super) fn end(&self) -> Option<Disconnect> {
        self.end
    }

    /// Sends frames that are owed to the client, `lost` others before them having given way. What
    /// its socket does not take is kept for it.
    pub(super) fn offer<'a>(
        &mut self,
        mut frames: impl Iterator<Item = &'a Frame> + Clone,
        lost: u64,
        desk: &mut Desk<'_>,
    ) -> Visit {
        self.dropped += lost;
        let keeps_up = self.outbox.is_none() && self.end.is_none();
        if keeps_up {
            let cx = &mut Context::from_waker(&self.waker);
            let ledger = Ledger { counters: desk.counters, since: self.since };
            match send_lent(cx, Pin::new(&mut self.io), &mut frames, ledger) {
                Ok(None) => return Visit::Open,
                Ok(Some(0)) => {}
                Ok(Some(done)) => {
                    let begun = frames.next().map(|frame| Outbox::begun(frame.clone(), done));
                    self.outbox = begun.map(Box::new);
                }
                Err(error) => {
                    frames.for_each(Frame::count_discarded);
                    return self.fail(&error);
                }
            }
        }
        let outbox = self.outbox.get_or_insert_default();
        for frame in frames {
            self.dropped += u64::from(outbox.push(frame.clone(), desk.queue_size));
        }
        // Who has not kept up before is marked when the socket takes more.
        if keeps_up { self.send(desk) } else { Visit::Open }
    }

    /// Reads what the client sent and sends what waits, as far as the socket goes.
    pub(super) fn visit(&mut self, desk: &mut Desk<'_>) -> Visit {
        self.read(desk);
        self.send(desk)
    }

    fn send(&mut self, desk: &Desk<'_>) -> Visit {
        let cx = &mut Context::from_waker(&self.waker);
        if let Some(outbox) = &mut self.outbox {
            let ledger = Ledger { counters: desk.counters, since: self.since };
            let congested = outbox.is_congested();
            let flushed = outbox.poll_flush(cx, Pin::new(&mut self.io), ledger);
            if congested && !outbox.is_congested() {
                self.waker.wake_by_ref();
            }
            if let Some(end) = outbox.closed() {
                self.end.get_or_insert(end);
                if !self.shut_down && Pin::new(&mut self.io).poll_shutdown(cx).is_ready() {
                    self.shut_down = true;
                }
            } else if outbox.is_done() {
                self.outbox = None;
            }
            if let Poll::Ready(Err(error)) = flushed {
                return self.fail(&error);
            }
        }
        // What an encrypted stream took and its socket did not; nothing for a plain one.
        if let Poll::Ready(Err(error)) = Pin::new(&mut self.io).poll_flush(cx) {
            return self.fail(&error);
        }
        match self.end {
            _ if self.at_eof => Visit::Over,
            // Both have said Close: the server ends the connection (RFC 6455 section 7.1.1). But a socket that
            // is dropped with something unread is reset, and the Close may be lost with it.
            _ if self.peer_closed && self.shut_down && !self.unread => Visit::Over,
            None if self.outbox.is_some() && !std::mem::replace(&mut self.is_watched, true) => Visit::Lags,
            None => Visit::Open,
            Some(_) if std::mem::replace(&mut self.lingers, true) => Visit::Closing,
            Some(_) => Visit::Closed,
        }
    }

    fn fail(&mut self, error: &std::io::Error) -> Visit {
        self.end.get_or_insert(Disconnect::Io(error.kind()));
        Visit::Over
    }

    fn read(&mut self, desk: &mut Desk<'_>) {
        self.unread = true;
        for reads in 0.. {
            let is_congested = self.outbox.as_ref().is_some_and(|outbox| outbox.is_congested());
            if self.at_eof || is_congested || self.linger_reads == MAX_LINGER_READS {
                return;
            }
            if reads == MAX_READS {
                self.waker.wake_by_ref();
                return;
            }
            self.linger_reads += u16::from(self.end.is_some());
            let mut buffer = ReadBuf::new(desk.scratch);
            match Pin::new(&mut self.io).poll_read(&mut Context::from_waker(&self.waker), &mut buffer) {
                Poll::Pending => {
                    self.unread = false;
                    return;
                }
                Poll::Ready(Ok(())) if buffer.filled().is_empty() => {
                    self.at_eof = true;
                    self.end.get_or_insert(Disconnect::Gone);
                }
                Poll::Ready(Ok(())) => {
                    *desk.bytes_read += buffer.filled().len() as u64;
                    self.receive(buffer.filled_mut(), desk.allowance);
                }
                Poll::Ready(Err(error)) => {
                    self.at_eof = true;
                    self.end.get_or_insert(Disconnect::Io(error.kind()));
                }
            }
        }
    }

    /// Takes in bytes of the client; after the end they mean nothing.
    pub(super) fn receive(&mut self, bytes: &mut [u8], allowance: Allowance) {
        if bytes.is_empty()
            || matches!(self.end, Some(end) if !matches!(end, Disconnect::Shutdown | Disconnect::Restart))
        {
            return;
        }
        let Self { reader, outbox, answered, pinged, said, .. } = self;
        #[cfg(feature = "echo")]
        let echo = &mut self.echo;
        let mut closed = None;
        let kept = reader.get_or_insert_with(|| Box::new(Reader::new(allowance.max_message)));
        let frames = kept.frames();
        let read = kept.feed(bytes, &mut |event| match event {
            #[cfg(not(feature = "echo"))]
            Event::Data { .. } => {}
            #[cfg(feature = "echo")]
            Event::Data { text, payload, last } => {
                let message = echo.collect(text, payload, last);
                message.into_iter().for_each(|message| outbox.get_or_insert_default().echo(message));
            }
            Event::Ping(payload) => outbox.get_or_insert_default().pong(payload),
            Event::Pong => *answered = *pinged,
            Event::Close(code) => closed = Some(Disconnect::Closed(code)),
        });
        let flood = !said.count(kept.frames().wrapping_sub(frames), &allowance);
        if kept.is_between_messages() {
            *reader = None;
        }
        self.peer_closed |= closed.is_some();
        if let Some(end) = read.err().or(closed).or(flood.then_some(Disconnect::Flood)) {
            self.close(end);
        }
    }

    /// Ends the session for good: counts what it leaves behind, logs, and drops the socket.
    pub(super) fn finish(mut self) {
        // Counted before the peer can see the end.
        self.outbox = None;
        let end = self.end.unwrap_or(Disconnect::Gone);
        tracing::debug!(
            client = %self.ticket.client(),
            reason = end.reason(),
            seconds = self.since.elapsed().as_secs_f64(),
            dropped = self.dropped,
            "client disconnected: {end}"
        );
    }
}

#[cfg(test)]
mod tests;
