//! The floor's only thread: accepts, reads requests, sends.

use std::io::{self, ErrorKind};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use baselines::http::{self, Parsed, Request, Route};
use bytes::Bytes;
use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};
use signal_hook::consts::{SIGINT, SIGTERM};

use crate::client::{Client, Sent};
use crate::frame;
use crate::publisher::Publisher;

const LISTENER: Token = Token(usize::MAX);
const SIGNAL: Token = Token(usize::MAX - 1);

/// How long to wait when there are no descriptors left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
const SCRATCH: usize = 64 << 10;

pub(crate) struct Server {
    poll: Poll,
    listener: TcpListener,
    /// Readable once a signal has come; here so that it stays open.
    _signal: mio::net::UnixStream,
    /// By token.
    slots: Vec<Slot>,
    free: Vec<usize>,
    /// Connections that have more to say and will not be reported again.
    unfinished: Vec<usize>,
    /// Somebody waits who could not be accepted.
    starved: bool,
    scratch: Box<[u8]>,
    dropped: u64,
}

#[derive(Default)]
enum Slot {
    #[default]
    Free,
    Publisher(Box<Publisher>),
    Client(Client),
}

impl Server {
    pub(crate) fn new(listener: std::net::TcpListener) -> io::Result<Self> {
        let poll = Poll::new()?;
        let mut listener = TcpListener::from_std(listener);
        poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
        let (signal, end) = UnixStream::pair()?;
        signal.set_nonblocking(true)?;
        let mut signal = mio::net::UnixStream::from_std(signal);
        poll.registry().register(&mut signal, SIGNAL, Interest::READABLE)?;
        signal_hook::low_level::pipe::register(SIGTERM, end.try_clone()?)?;
        signal_hook::low_level::pipe::register(SIGINT, end)?;
        Ok(Self {
            poll,
            listener,
            _signal: signal,
            slots: Vec::new(),
            free: Vec::new(),
            unfinished: Vec::new(),
            starved: false,
            scratch: vec![0; SCRATCH].into(),
            dropped: 0,
        })
    }

    /// Serves until SIGTERM or SIGINT.
    pub(crate) fn run(mut self) -> io::Result<()> {
        let mut events = Events::with_capacity(1024);
        loop {
            let timeout = match (self.unfinished.is_empty(), self.starved) {
                (false, _) => Some(Duration::ZERO),
                (true, true) => Some(ACCEPT_PAUSE),
                (true, false) => None,
            };
            match self.poll.poll(&mut events, timeout) {
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                polled => polled?,
            }
            let unfinished = std::mem::take(&mut self.unfinished);
            let mut accepting = self.starved;
            for event in &events {
                match event.token() {
                    SIGNAL => return Ok(()),
                    LISTENER => accepting = true,
                    Token(index) => self.visit(index),
                }
            }
            for index in unfinished {
                self.visit(index);
            }
            // Last, so that no slot is given away while there are events of who had it before.
            if accepting {
                self.accept();
            }
        }
    }

    fn accept(&mut self) {
        self.starved = false;
        loop {
            match self.listener.accept() {
                // If it cannot be set up, the peer has gone already.
                Ok((stream, _)) => drop(self.admit(stream)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                // The peer has given up; there may be others.
                Err(error) if error.kind() == ErrorKind::ConnectionAborted => {}
                Err(_) => {
                    self.starved = true;
                    return;
                }
            }
        }
    }

    fn admit(&mut self, mut stream: TcpStream) -> io::Result<()> {
        stream.set_nodelay(true)?;
        let index = self.free.last().copied().unwrap_or(self.slots.len());
        // The kernel reports a socket as writable only after it was found full.
        self.poll.registry().register(&mut stream, Token(index), Interest::READABLE | Interest::WRITABLE)?;
        let slot = Slot::Publisher(Box::new(Publisher::new(stream)));
        if self.free.pop().is_some() {
            self.slots[index] = slot;
        } else {
            self.slots.push(slot);
        }
        Ok(())
    }

    /// Does what there is to do for a connection, up to one request or one read of a client: everybody gets
    /// a turn between two publications.
    fn visit(&mut self, index: usize) {
        let visited = match std::mem::take(&mut self.slots[index]) {
            // Visited a second time in this round, and gone since.
            Slot::Free => return,
            Slot::Client(client) => self.visit_client(index, client),
            Slot::Publisher(publisher) => self.visit_publisher(index, publisher),
        };
        match visited {
            Ok(slot @ (Slot::Client(_) | Slot::Publisher(_))) => self.slots[index] = slot,
            Ok(Slot::Free) | Err(_) => self.free.push(index),
        }
    }

    fn visit_client(&mut self, index: usize, mut client: Client) -> io::Result<Slot> {
        if client.visit(&mut self.scratch)? {
            self.unfinished.push(index);
        }
        Ok(Slot::Client(client))
    }

    fn visit_publisher(&mut self, index: usize, mut publisher: Box<Publisher>) -> io::Result<Slot> {
        let mut served = false;
        while publisher.flush()? {
            if publisher.ends {
                publisher.stream.shutdown(Shutdown::Write)?;
                return Ok(Slot::Free);
            }
            match http::parse(&publisher.received) {
                Ok(Parsed::Whole(_)) if served => {
                    self.unfinished.push(index);
                    break;
                }
                Ok(Parsed::Whole(request)) => {
                    served = true;
                    if let Route::Stream { accept } = &request.route {
                        return self.upgrade(index, *publisher, accept, request.body.end);
                    }
                    self.serve(&mut publisher, &request);
                }
                Ok(Parsed::Partial { expects_continue: true }) if !publisher.continued => {
                    publisher.continued = true;
                    publisher.answer(http::CONTINUE);
                }
                Ok(Parsed::Partial { .. }) => {
                    if !publisher.receive(&mut self.scratch)? {
                        break;
                    }
                }
                Err(refusal) => {
                    publisher.ends = true;
                    publisher.answer(refusal.answer().as_bytes());
                }
            }
        }
        Ok(Slot::Publisher(publisher))
    }

    fn upgrade(&mut self, index: usize, publisher: Publisher, accept: &str, request: usize) -> io::Result<Slot> {
        let answer = http::switching(accept).into_bytes();
        let client = Client::new(publisher.stream, answer, &publisher.received[request..])?;
        // It has not been read to its end.
        self.unfinished.push(index);
        Ok(Slot::Client(client))
    }

    fn serve(&mut self, publisher: &mut Publisher, request: &Request) {
        let keep_alive = request.keep_alive;
        publisher.ends = !keep_alive;
        let answer = match request.route {
            Route::Publish { binary } => match frame::message(&publisher.received[request.body.clone()], binary) {
                Some(frame) => http::published(self.publish(&frame), keep_alive),
                None => {
                    publisher.ends = true;
                    http::NOT_UTF8.answer()
                }
            },
            Route::Stats => http::stats(self.dropped, keep_alive),
            // A stream is not served but becomes a client.
            Route::Health | Route::Stream { .. } => http::healthy(keep_alive),
        };
        publisher.consume(request.body.end);
        publisher.answer(answer.as_bytes());
    }

    /// Sends a frame to every client and returns how many there are.
    fn publish(&mut self, frame: &Bytes) -> usize {
        let mut clients = 0;
        for index in 0..self.slots.len() {
            let Slot::Client(client) = &mut self.slots[index] else { continue };
            clients += 1;
            match client.send(frame) {
                Ok(Sent::Taken) => {}
                Ok(Sent::Dropped) => self.dropped += 1,
                Ok(Sent::Leaving) => clients -= 1,
                Err(_) => {
                    clients -= 1;
                    self.slots[index] = Slot::Free;
                    self.free.push(index);
                }
            }
        }
        clients
    }
}
