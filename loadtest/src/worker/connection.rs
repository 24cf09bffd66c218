//! One connection: connect, handshake, read, close. Holds no buffer while nothing is under way.

use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr};

use mio::net::TcpStream;
use socket2::{Domain, Protocol, Socket, Type};

use super::meter::{Client, Message, Meter};
use super::stream::Stream;
use crate::tls;
use crate::wire;
use crate::wire::fields::Scanner;
use crate::wire::frame::{self, Decoder, Event};
use crate::wire::handshake::{self, Answer, Key, Request};

/// Reads in a row from one connection before it is another's turn.
const MAX_READS: usize = 8;
/// Pongs that may wait to be written.
const MAX_OUTGOING: usize = 4 << 10;
/// Longest reason of a Close (RFC 6455 section 5.5).
const MAX_REASON: usize = 123;
const PONG: u8 = 0x0a;
const CLOSE: u8 = 0x08;

/// How far a connection is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum State {
    #[default]
    Closed,
    Connecting,
    Handshaking,
    Open,
    /// A Close was sent, and the server's end is waited for.
    Closing,
}

/// Why a connection is over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// It did not become a WebSocket.
    NotConnected(String),
    /// The server or the network ended it.
    Lost(String),
    /// The harness did.
    Closed,
}

/// What a read came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Progress {
    /// Nothing more to read until the poll says so.
    Drained,
    /// There is more, and it is another's turn.
    More,
}

#[derive(Debug, Default)]
pub(crate) struct Connection {
    pub(super) stream: Option<Stream>,
    pub(crate) state: State,
    pub(crate) client: Client,
    /// Whether it is to be read again in the next turn.
    pub(crate) again: bool,
    /// Told apart from earlier connections in the same place.
    pub(crate) generation: u32,
    decoder: Decoder,
    scanner: Scanner,
    /// Payload of the message under way.
    length: u64,
    /// What could not be written yet.
    outgoing: Vec<u8>,
    /// Key and answer, while shaking hands.
    handshake: Option<Box<(Key, Vec<u8>)>>,
}

impl Connection {
    /// Begins to connect to `address`, from `source` if there is a choice.
    pub(crate) fn connect(
        &mut self,
        address: SocketAddr,
        source: Option<IpAddr>,
        tls: Option<&tls::Client>,
        now: u64,
    ) -> io::Result<()> {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
        socket.set_nonblocking(true)?;
        socket.set_tcp_nodelay(true)?;
        if let Some(source) = source {
            socket.bind(&SocketAddr::new(source, 0).into())?;
        }
        match socket.connect(&address.into()) {
            // Not yet connected, which the poll will tell.
            Err(error) if error.raw_os_error() == Some(libc::EINPROGRESS) => {}
            result => result?,
        }
        self.stream = Some(Stream::new(TcpStream::from_std(socket.into()), tls)?);
        self.state = State::Connecting;
        self.generation = self.generation.wrapping_add(1);
        self.decoder = Decoder::default();
        let Client { slow, returning, since, .. } = self.client;
        let since = if since > 0 { since } else { now };
        self.client = Client { slow, returning, since, began: now, fresh: true, untimed: true, ..Client::default() };
        Ok(())
    }

    /// The socket became writable.
    pub(crate) fn writable(&mut self, request: &Request) -> Result<(), End> {
        if self.state == State::Connecting {
            let Some(stream) = self.stream.as_mut().map(Stream::socket) else { return Ok(()) };
            match stream.take_error() {
                Ok(None) => {}
                Ok(Some(error)) | Err(error) => return Err(End::NotConnected(describe(&error))),
            }
            match stream.peer_addr() {
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::NotConnected => return Ok(()),
                Err(error) => return Err(End::NotConnected(describe(&error))),
            }
            let key: Key = fastrand::u128(..).to_ne_bytes();
            self.outgoing = request.bytes(&key);
            self.handshake = Some(Box::new((key, Vec::new())));
            self.state = State::Handshaking;
        }
        self.flush()
    }

    fn flush(&mut self) -> Result<(), End> {
        let Some(stream) = &mut self.stream else { return Ok(()) };
        while !self.outgoing.is_empty() {
            match stream.write(&self.outgoing) {
                Ok(written) => drop(self.outgoing.drain(..written)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(self.failed(&error)),
            }
        }
        self.outgoing = Vec::new();
        stream.flush().map_err(|error| self.failed(&error))
    }

    /// Reads what is there; to the very end with `drain`. `woke` is when the poll returned.
    pub(crate) fn read(&mut self, room: &mut [u8], drain: bool, woke: u64, meter: &mut Meter) -> Result<Progress, End> {
        for _ in 0..MAX_READS {
            // What comes after a short read announces itself.
            match self.read_once(room, woke, meter)? {
                None => return Ok(Progress::Drained),
                Some((_, false)) if !drain => return Ok(Progress::Drained),
                Some(_) => {}
            }
        }
        Ok(Progress::More)
    }

    /// Reads at most as much as there is `room`; returns how much, if there was anything, and whether there
    /// may be more.
    pub(crate) fn read_once(
        &mut self,
        room: &mut [u8],
        woke: u64,
        meter: &mut Meter,
    ) -> Result<Option<(usize, bool)>, End> {
        let Some(stream) = &mut self.stream else { return Ok(None) };
        let (length, more) = loop {
            match stream.read(room) {
                Ok((0, _)) => return Err(self.ended()),
                Ok(read) => break read,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(None),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(self.failed(&error)),
            }
        };
        let now = super::wall();
        meter.interval.own_delay.record(now.saturating_sub(woke));
        self.take(&room[..length], now, meter)?;
        Ok(Some((length, more)))
    }

    fn take(&mut self, bytes: &[u8], now: u64, meter: &mut Meter) -> Result<(), End> {
        match self.state {
            State::Handshaking => self.shake_hands(bytes, now, meter),
            State::Open => self.frames(bytes, now, meter),
            _ => Ok(()),
        }
    }

    fn shake_hands(&mut self, bytes: &[u8], now: u64, meter: &mut Meter) -> Result<(), End> {
        let Some(mut handshake) = self.handshake.take() else { return Ok(()) };
        let (key, head) = &mut *handshake;
        head.extend_from_slice(bytes);
        match handshake::read_answer(head, key) {
            Answer::Partial => {
                self.handshake = Some(handshake);
                Ok(())
            }
            Answer::Refused(reason) => Err(End::NotConnected(reason)),
            Answer::Accepted(length) => {
                self.state = State::Open;
                meter.interval.opened += 1;
                meter.interval.connect.record(now.saturating_sub(self.client.began));
                self.frames(&head[length..], now, meter)
            }
        }
    }

    fn frames(&mut self, bytes: &[u8], now: u64, meter: &mut Meter) -> Result<(), End> {
        if bytes.is_empty() {
            return Ok(());
        }
        let Self { decoder, scanner, length, client, outgoing, .. } = self;
        let mut close = None;
        let mut on = |event: Event<'_>| match event {
            Event::Data { first, last, binary, payload } => {
                if first {
                    scanner.begin(&meter.paths);
                    *length = 0;
                }
                scanner.feed(&meter.paths, payload);
                *length += payload.len() as u64;
                if last {
                    meter.receive(client, Message { values: scanner.values(), length: *length, binary, now });
                }
            }
            Event::Ping(payload) => {
                meter.interval.pings += 1;
                // Not every Ping has to be answered (RFC 6455 section 5.5.3), and who does not read gets no more.
                if outgoing.len() < MAX_OUTGOING {
                    outgoing.extend(frame::client_control(PONG, payload));
                }
            }
            Event::Close(code, reason) if close.is_none() => {
                close = Some((code, wire::shown(&String::from_utf8_lossy(reason), MAX_REASON)));
            }
            Event::Close(..) => {}
        };
        let fed = decoder.feed(bytes, &mut on);
        // Behind the messages: one of them may be the first that counts.
        meter.interval.wire_bytes += bytes.len() as u64;
        if let Err(reason) = fed {
            return Err(End::Lost(format!("protocol error: {reason}")));
        }
        if let Some((code, reason)) = close {
            let payload = code.map(u16::to_be_bytes);
            self.outgoing.extend(frame::client_control(CLOSE, payload.as_ref().map_or(&[], |code| code)));
            // It is over either way.
            let _ = self.flush();
            let code = code.map_or("without a code".to_owned(), |code| code.to_string());
            let space = if reason.is_empty() { "" } else { " " };
            return Err(End::Lost(format!("closed by the server: {code}{space}{reason}")));
        }
        // If that fails, what is still to be read comes first, and the end behind it.
        let _ = self.flush();
        Ok(())
    }

    /// Sends a Close and goes on reading until the server has closed.
    pub(crate) fn close(&mut self) {
        if self.state == State::Open {
            self.outgoing.extend(frame::client_control(CLOSE, &1000_u16.to_be_bytes()));
            let _ = self.flush();
            self.stream.iter_mut().for_each(Stream::end);
            self.state = State::Closing;
        } else {
            self.drop_stream();
        }
    }

    /// Lets go of the socket at once.
    pub(crate) fn drop_stream(&mut self) {
        self.stream = None;
        self.state = State::Closed;
        self.handshake = None;
        self.outgoing = Vec::new();
    }

    fn ended(&self) -> End {
        match self.state {
            State::Connecting | State::Handshaking => {
                End::NotConnected("the server closed the connection during the handshake".to_owned())
            }
            State::Closing | State::Closed => End::Closed,
            State::Open => End::Lost("connection closed without a Close".to_owned()),
        }
    }

    fn failed(&self, error: &io::Error) -> End {
        match self.state {
            State::Connecting | State::Handshaking => End::NotConnected(describe(error)),
            State::Closing | State::Closed => End::Closed,
            State::Open => End::Lost(describe(error)),
        }
    }
}

/// An error of the system in words, with what can be done about it.
pub(crate) fn describe(error: &io::Error) -> String {
    match error.kind() {
        ErrorKind::ConnectionRefused => "connection refused".to_owned(),
        ErrorKind::ConnectionReset => "connection reset".to_owned(),
        ErrorKind::AddrNotAvailable => "no free port left towards this address (see --source-address)".to_owned(),
        _ if error.raw_os_error() == Some(libc::EMFILE) => "too many open files (see ulimit -n)".to_owned(),
        _ => error.to_string(),
    }
}
