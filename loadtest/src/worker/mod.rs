//! A worker: one thread, one epoll, a share of the connections.
//!
//! It does what the coordinator says ([`Command`]) and hands over its measurements when asked
//! ([`Reply`]). Sockets are edge-triggered and read into one buffer of the thread; a connection owns
//! some 350 bytes and no buffer. Clients of a slow kind are read by the clock instead.

mod connection;
mod meter;
mod stream;
mod timers;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use mio::event::Event;
use mio::{Events, Interest, Poll, Token, Waker};

use self::connection::{Connection, End, Progress, State};
pub(crate) use self::meter::Counting;
use self::meter::Meter;
use self::timers::Timers;
use crate::probe::Schedule;
use crate::stats::Interval;
use crate::tls;
use crate::wire::handshake::Request;
use crate::wire::template::TimeUnit;

/// What one read takes: as much as the fastest core's second cache holds beside everything else.
const BUFFER: usize = 64 << 10;
/// Sockets looked at in one turn.
const EVENTS: usize = 1_024;
/// How often slow clients read.
pub(crate) const SLOW_TICK: Duration = Duration::from_millis(100);
/// How long the server's end is waited for when everything is over.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);
/// What a worker holds for a connection from the start.
pub(crate) const CONNECTION_BYTES: usize = size_of::<Connection>();
const WAKE: Token = Token(usize::MAX);

/// Nanoseconds since the epoch, by the clock that stamps messages.
pub(crate) fn wall() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos() as u64)
}

/// What a worker has to know from the start.
#[derive(Clone, Debug)]
pub(crate) struct Setup {
    pub(crate) address: SocketAddr,
    /// If the connections are encrypted.
    pub(crate) tls: Option<tls::Client>,
    pub(crate) request: Request,
    /// Addresses to connect from, in turn; empty = the system's choice.
    pub(crate) sources: Vec<IpAddr>,
    pub(crate) connections: usize,
    /// How many other workers have before.
    pub(crate) before: usize,
    /// Share of them that reads slowly when told to.
    pub(crate) slow_share: f64,
    pub(crate) time_field: String,
    pub(crate) number_field: String,
    pub(crate) unit: TimeUnit,
    pub(crate) own_publisher: bool,
    pub(crate) connect_timeout: Duration,
}

/// What the coordinator says.
#[derive(Debug)]
pub(crate) enum Command {
    /// Open all connections, evenly over this time.
    Connect(Duration),
    /// What counts from now on.
    Count(Counting),
    /// Hand over what was measured.
    Report,
    /// Hand over what was measured, and say how far the clients are.
    Review,
    /// So many random clients leave, and return at once.
    Leave(usize),
    /// All drop at once, and return at once.
    Storm,
    /// Slow clients may read so many bytes a second from now on, or freely.
    Slow(Option<u64>),
    /// Close everything and end.
    Stop,
}

/// What a worker answers to [`Command::Report`] and [`Command::Review`].
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) worker: usize,
    /// What was measured, and whether it counts.
    pub(crate) pieces: Vec<(bool, Interval)>,
    /// Nanoseconds on a processor, and waiting for one.
    pub(crate) ran: u64,
    pub(crate) waited: u64,
    /// Highest number of each open client that may read, if it has one; only in a review.
    pub(crate) highest: Vec<Option<u64>>,
    /// Connections open.
    pub(crate) open: usize,
    /// Connections on their way, or not begun.
    pub(crate) pending: usize,
}

pub(crate) struct Worker {
    number: usize,
    setup: Setup,
    poll: Poll,
    connections: Vec<Connection>,
    meter: Meter,
    timers: Timers,
    /// Connections with more to read than one turn allows.
    again: Vec<usize>,
    open: usize,
    pending: usize,
    /// Bytes a second of the slow clients, while they are slow.
    slow_rate: Option<u64>,
    /// Bytes they may read, less than one.
    slow_credit: f64,
    schedule: Schedule,
    replies: Sender<Reply>,
    stopping: bool,
}

impl Worker {
    /// A worker and the way to wake it.
    ///
    /// # Errors
    /// The system's, if there is no epoll to be had.
    pub(crate) fn new(number: usize, setup: Setup, replies: Sender<Reply>) -> std::io::Result<(Self, Arc<Waker>)> {
        let poll = Poll::new()?;
        let waker = Arc::new(Waker::new(poll.registry(), WAKE)?);
        let slow_up_to = |at: usize| (at as f64 * setup.slow_share) as usize;
        let slow = |at: usize| slow_up_to(setup.before + at) != slow_up_to(setup.before + at + 1);
        let connections = (0..setup.connections).map(|at| {
            let mut connection = Connection::default();
            connection.client.slow = slow(at);
            connection
        });
        let worker = Self {
            number,
            poll,
            connections: connections.collect(),
            meter: Meter::new(&setup.time_field, &setup.number_field, setup.unit, setup.own_publisher),
            timers: Timers::default(),
            again: Vec::new(),
            open: 0,
            pending: setup.connections,
            slow_rate: None,
            slow_credit: 0.0,
            schedule: Schedule::default(),
            replies,
            stopping: false,
            setup,
        };
        Ok((worker, waker))
    }

    /// Works until told to stop.
    ///
    /// # Errors
    /// The system's, if polling fails.
    pub(crate) fn run(mut self, commands: &Receiver<Command>) -> std::io::Result<()> {
        let mut events = Events::with_capacity(EVENTS);
        let mut room = vec![0; BUFFER];
        self.schedule = Schedule::of_this_thread();
        let mut woke = wall();
        loop {
            let all_seen = events.iter().count() < EVENTS;
            match self.poll.poll(&mut events, self.timeout()) {
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                result => result?,
            }
            // Sockets that did not fit into the last turn have been waiting since.
            if all_seen {
                woke = wall();
            }
            for at in std::mem::take(&mut self.again) {
                self.connections[at].again = false;
                // To the very end: what the poll had to say of it has been said.
                self.read(at, &mut room, true, woke);
            }
            for event in events.iter().filter(|event| event.token() != WAKE) {
                self.ready(event, &mut room, woke);
            }
            while let Ok(command) = commands.try_recv() {
                self.obey(&command, &mut room);
            }
            self.fire(&mut room);
            if self.stopping && (self.open == 0 || self.timers.stop_is_due(wall())) {
                return Ok(());
            }
        }
    }

    fn timeout(&self) -> Option<Duration> {
        if self.again.is_empty() { self.timers.next(wall()) } else { Some(Duration::ZERO) }
    }

    fn obey(&mut self, command: &Command, room: &mut [u8]) {
        match *command {
            Command::Connect(over) => self.timers.ramp(wall(), over, self.connections.len()),
            Command::Count(counting) => {
                self.connections.iter_mut().for_each(|connection| connection.client.accounted = 0);
                self.meter.count(counting, wall());
            }
            Command::Report => self.report(Vec::new()),
            Command::Review => {
                let open = self.connections.iter().filter(|c| c.state == State::Open && !c.client.slow);
                self.report(open.map(|connection| connection.client.tracker.highest()).collect());
            }
            Command::Leave(count) => self.leave(count),
            Command::Storm => self.storm(),
            Command::Slow(rate) => {
                self.slow_rate = rate;
                self.timers.slow(wall(), rate.is_some());
                if rate.is_none() {
                    let slow = (0..self.connections.len()).filter(|at| self.connections[*at].client.slow);
                    slow.collect::<Vec<_>>().into_iter().for_each(|at| self.read(at, room, true, wall()));
                }
            }
            Command::Stop => self.stop(),
        }
    }

    fn report(&mut self, highest: Vec<Option<u64>>) {
        let pieces = self.meter.take(wall());
        let (ran, waited) = self.schedule.since_last();
        let (worker, open, pending) = (self.number, self.open, self.pending);
        let reply = Reply { worker, pieces, ran, waited, highest, open, pending };
        // Without a coordinator there is nobody to tell, and Stop is next.
        let _ = self.replies.send(reply);
    }

    fn ready(&mut self, event: &Event, room: &mut [u8], woke: u64) {
        let at = event.token().0;
        let Some(connection) = self.connections.get_mut(at).filter(|connection| connection.stream.is_some()) else {
            return;
        };
        if (event.is_writable() || event.is_error())
            && let Err(end) = connection.writable(&self.setup.request)
        {
            return self.end(at, end);
        }
        if event.is_readable() || event.is_read_closed() || event.is_error() {
            let paced = self.slow_rate.is_some() && connection.client.slow && connection.state == State::Open;
            if !paced {
                self.read(at, room, event.is_read_closed(), woke);
            }
        }
    }

    fn read(&mut self, at: usize, room: &mut [u8], drain: bool, woke: u64) {
        let connection = &mut self.connections[at];
        let before = connection.state;
        let result = connection.read(room, drain, woke, &mut self.meter);
        if before == State::Handshaking && self.connections[at].state == State::Open {
            self.pending -= 1;
            self.open += 1;
        }
        match result {
            Ok(Progress::Drained) => {}
            Ok(Progress::More) => {
                if !std::mem::replace(&mut self.connections[at].again, true) {
                    self.again.push(at);
                }
            }
            Err(end) => self.end(at, end),
        }
    }

    /// A connection is over.
    fn end(&mut self, at: usize, end: End) {
        let connection = &mut self.connections[at];
        let (was, slow, returning) = (connection.state, connection.client.slow, connection.client.returning);
        connection.drop_stream();
        self.meter.forget(&mut connection.client);
        match was {
            State::Open | State::Closing => self.open -= 1,
            _ => self.pending -= 1,
        }
        let interval = &mut self.meter.interval;
        match end {
            End::Closed => {}
            End::Lost(reason) => {
                interval.disconnects.add(&reason, 1);
                interval.slow_disconnects += u64::from(slow);
            }
            End::NotConnected(reason) => {
                interval.connect_errors.add(&reason, 1);
                // Who was there before wants to be back.
                if returning && !self.stopping {
                    self.pending += 1;
                    self.timers.retry(wall(), at);
                }
            }
        }
    }

    fn connect(&mut self, at: usize) {
        let now = wall();
        let sources = &self.setup.sources;
        let source = (!sources.is_empty()).then(|| sources[at % sources.len()]);
        let connection = &mut self.connections[at];
        let begun = connection.connect(self.setup.address, source, self.setup.tls.as_ref(), now);
        let registered = begun.and_then(|()| match &mut connection.stream {
            Some(stream) => {
                let interest = Interest::READABLE | Interest::WRITABLE;
                self.poll.registry().register(stream.socket(), Token(at), interest)
            }
            None => Ok(()),
        });
        match registered {
            Ok(()) => self.timers.deadline(now, self.setup.connect_timeout, at, connection.generation),
            Err(error) => self.end(at, End::NotConnected(connection::describe(&error))),
        }
    }

    /// Everything whose time has come.
    fn fire(&mut self, room: &mut [u8]) {
        let now = wall();
        while let Some(at) = self.timers.due_connect(now) {
            self.connect(at);
        }
        while let Some(at) = self.timers.due_retry(now) {
            self.connect(at);
        }
        while let Some((at, generation)) = self.timers.due_deadline(now) {
            let connection = &self.connections[at];
            let waiting = matches!(connection.state, State::Connecting | State::Handshaking);
            if waiting && connection.generation == generation {
                let seconds = self.setup.connect_timeout.as_secs_f64();
                self.end(at, End::NotConnected(format!("no WebSocket within {seconds} s")));
            }
        }
        if self.timers.slow_is_due(now) {
            self.read_slowly(room);
        }
    }

    fn read_slowly(&mut self, room: &mut [u8]) {
        self.slow_credit += self.slow_rate.unwrap_or(0) as f64 * SLOW_TICK.as_secs_f64();
        let budget = self.slow_credit as usize;
        self.slow_credit -= budget as f64;
        let woke = wall();
        for at in 0..self.connections.len() {
            let mut left = budget;
            while left > 0 && self.connections[at].client.slow && self.connections[at].state == State::Open {
                let take = left.min(room.len());
                match self.connections[at].read_once(&mut room[..take], woke, &mut self.meter) {
                    Ok(Some((length, _))) => left -= length,
                    Ok(None) => break,
                    Err(end) => self.end(at, end),
                }
            }
        }
    }

    fn leave(&mut self, count: usize) {
        let mut left = count.min(self.open);
        let total = self.connections.len();
        let from = fastrand::usize(..total.max(1));
        for at in (0..total).map(|step| (from + step) % total) {
            if left == 0 {
                return;
            }
            if self.connections[at].state == State::Open {
                self.connections[at].close();
                self.reconnect(at, 0);
                self.meter.interval.left += 1;
                left -= 1;
            }
        }
    }

    fn storm(&mut self) {
        let now = wall();
        let open: Vec<_> =
            (0..self.connections.len()).filter(|at| self.connections[*at].state == State::Open).collect();
        // Everybody is gone before the first one is back.
        open.iter().for_each(|at| self.connections[*at].drop_stream());
        open.into_iter().for_each(|at| self.reconnect(at, now));
    }

    /// Connects an open client anew; `since` is when it left, 0 = it does not matter.
    fn reconnect(&mut self, at: usize, since: u64) {
        let client = &mut self.connections[at].client;
        client.returning = true;
        client.since = since;
        self.meter.forget(&mut self.connections[at].client);
        self.connections[at].drop_stream();
        self.open -= 1;
        self.pending += 1;
        self.connect(at);
    }

    fn stop(&mut self) {
        self.stopping = true;
        self.timers.stop(wall(), CLOSE_TIMEOUT);
        self.connections.iter_mut().for_each(Connection::close);
        self.open = self.connections.iter().filter(|connection| connection.state == State::Closing).count();
    }
}
