//! Thousands of clients in a few threads. Each stays connected to some edge whatever happens, and checks what it
//! gets: numbers that rise, no message twice on one connection, none older after another, the same bytes for
//! everybody.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::support::client::{PING, PONG, TEXT, frame, handshake_request};
use super::support::wait_until;

/// Between two looks at every socket: far below the time between two messages.
const ROUND: Duration = Duration::from_millis(20);
/// Between two attempts of one client to connect.
const RETRY: Duration = Duration::from_millis(100);
const THREADS: usize = 3;

/// One life of an edge: where it listens.
#[derive(Clone, Copy, Debug)]
pub(super) struct Life {
    pub(super) number: usize,
    pub(super) address: SocketAddr,
}

/// The edges as a balancer knows them: those that live.
#[derive(Default)]
pub(super) struct Edges(Mutex<Vec<Life>>);

impl Edges {
    pub(super) fn add(&self, life: Life) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(life);
    }

    pub(super) fn remove(&self, number: usize) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).retain(|life| life.number != number);
    }

    fn pick(&self, n: usize) -> Option<Life> {
        let lives = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        (!lives.is_empty()).then(|| lives[n % lives.len()])
    }
}

/// What clients have found out.
#[derive(Debug, Default)]
pub(super) struct Findings {
    /// What must not be.
    pub(super) wrong: Vec<String>,
    /// Hashes of messages by number.
    bytes: HashMap<u64, u64>,
    /// Most numbers that one client missed on one connection, by life of its edge.
    pub(super) worst_holes: HashMap<usize, u64>,
    pub(super) messages: u64,
    pub(super) connections: u64,
}

impl Findings {
    fn add(&mut self, other: Self) {
        self.wrong.extend(other.wrong);
        for (seq, hash) in other.bytes {
            self.compare(seq, hash);
        }
        for (life, holes) in other.worst_holes {
            self.holes(life, holes);
        }
        self.messages += other.messages;
        self.connections += other.connections;
    }

    fn compare(&mut self, seq: u64, hash: u64) {
        if *self.bytes.entry(seq).or_insert(hash) != hash {
            self.wrong.push(format!("two messages with the number {seq}"));
        }
    }

    fn holes(&mut self, life: usize, holes: u64) {
        let worst = self.worst_holes.entry(life).or_default();
        *worst = holes.max(*worst);
    }
}

struct Shared {
    edges: Edges,
    over: AtomicBool,
    /// The last number each client has got.
    newest: Vec<AtomicU64>,
}

/// All of them.
pub(super) struct Crowd {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<Findings>>,
}

impl Crowd {
    pub(super) fn gather(clients: usize, lives: &[Life]) -> Self {
        let newest = (0..clients).map(|_| AtomicU64::new(0)).collect();
        let shared = Arc::new(Shared { edges: Edges::default(), over: AtomicBool::new(false), newest });
        lives.iter().for_each(|life| shared.edges.add(*life));
        let threads = (0..THREADS).map(|thread| {
            let shared = Arc::clone(&shared);
            std::thread::spawn(move || attend(&shared, thread))
        });
        Self { threads: threads.collect(), shared }
    }

    pub(super) fn edges(&self) -> &Edges {
        &self.shared.edges
    }

    /// Waits until everybody has this message or a later one; returns how long that took.
    pub(super) fn wait_until_all_have(&self, seq: u64) -> Duration {
        let start = Instant::now();
        wait_until(&format!("number {seq} at every client"), || {
            self.threads.iter().for_each(|thread| assert!(!thread.is_finished(), "a thread of clients has died"));
            self.shared.newest.iter().all(|newest| newest.load(Ordering::Relaxed) >= seq)
        });
        start.elapsed()
    }

    pub(super) fn end(mut self) -> Findings {
        self.shared.over.store(true, Ordering::Relaxed);
        let mut findings = Findings::default();
        for thread in self.threads.drain(..) {
            findings.add(thread.join().expect("no panic"));
        }
        findings
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        self.shared.over.store(true, Ordering::Relaxed);
    }
}

/// A client, connected or not.
struct Member {
    connection: Option<Connection>,
    /// Not before this it tries to connect again.
    retry: Instant,
    attempts: usize,
    newest: u64,
}

struct Connection {
    stream: TcpStream,
    life: usize,
    /// What came and is not a whole frame, or a whole answer, yet.
    bytes: Vec<u8>,
    is_open: bool,
    has_first: bool,
    holes: u64,
}

/// Looks after every third client until it is over.
fn attend(shared: &Shared, thread: usize) -> Findings {
    let mut findings = Findings::default();
    let start = Instant::now();
    let ids = (thread..shared.newest.len()).step_by(THREADS);
    let mut members: Vec<_> = ids.clone().map(|id| Member::new(start, id)).collect();
    let mut buffer = vec![0; 64 << 10];
    while !shared.over.load(Ordering::Relaxed) {
        let now = Instant::now();
        for (member, id) in members.iter_mut().zip(ids.clone()) {
            if let Some(connection) = &mut member.connection {
                if let Err(error) = connection.take(&mut buffer, &mut member.newest, &mut findings) {
                    findings.holes(connection.life, connection.holes);
                    if error.kind() == ErrorKind::InvalidData {
                        findings.wrong.push(error.to_string());
                    }
                    member.connection = None;
                    member.retry = now + RETRY;
                }
                shared.newest[id].store(member.newest, Ordering::Relaxed);
            } else if member.retry <= now {
                member.connect(&shared.edges, &mut findings);
            }
        }
        std::thread::sleep(ROUND.saturating_sub(now.elapsed()));
    }
    for connection in members.iter().filter_map(|member| member.connection.as_ref()) {
        findings.holes(connection.life, connection.holes);
    }
    findings
}

impl Member {
    fn new(start: Instant, id: usize) -> Self {
        Self { connection: None, retry: start, attempts: id, newest: 0 }
    }

    fn connect(&mut self, edges: &Edges, findings: &mut Findings) {
        self.attempts += 1;
        self.retry = Instant::now() + RETRY;
        let Some(life) = edges.pick(self.attempts) else { return };
        let connected = TcpStream::connect_timeout(&life.address, Duration::from_secs(1)).and_then(|mut stream| {
            stream.write_all(handshake_request(life.address, "/ws/market").as_bytes())?;
            stream.set_nonblocking(true)?;
            Ok(stream)
        });
        let Ok(stream) = connected else { return };
        findings.connections += 1;
        let (life, bytes) = (life.number, Vec::new());
        self.connection = Some(Connection { stream, life, bytes, is_open: false, has_first: false, holes: 0 });
    }
}

impl Connection {
    /// Takes what has come. An error is the end of the connection, and of kind `InvalidData` if the edge did
    /// what it must not do.
    fn take(&mut self, buffer: &mut [u8], newest: &mut u64, findings: &mut Findings) -> std::io::Result<()> {
        loop {
            match self.stream.read(buffer) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(length) => self.bytes.extend_from_slice(&buffer[..length]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
            if !self.is_open {
                let Some(end) = self.bytes.windows(4).position(|bytes| bytes == b"\r\n\r\n") else { continue };
                if !self.bytes.starts_with(b"HTTP/1.1 101 ") {
                    return Err(ErrorKind::ConnectionRefused.into());
                }
                self.bytes.drain(..end + 4);
                self.is_open = true;
            }
            let mut at = 0;
            while let Some((first, payload, length)) = split(&self.bytes[at..]) {
                match first {
                    TEXT => {
                        let payload = payload.to_vec();
                        self.audit(&payload, newest, findings)?;
                    }
                    PING => (&self.stream).write_all(&frame(PONG, payload))?,
                    // A Close, which is the end.
                    _ => return Err(ErrorKind::ConnectionAborted.into()),
                }
                at += length;
            }
            self.bytes.drain(..at);
        }
    }

    /// A message: its number, and its bytes.
    fn audit(&mut self, payload: &[u8], newest: &mut u64, findings: &mut Findings) -> std::io::Result<()> {
        let wrong = |what: String| std::io::Error::new(ErrorKind::InvalidData, what);
        let text = || String::from_utf8_lossy(payload).chars().take(80).collect::<String>();
        let seq = seq(payload).ok_or_else(|| wrong(format!("no number in {:?}", text())))?;
        // The first may be the one that came last over an earlier connection.
        let is_news = seq > *newest || (seq == *newest && !self.has_first);
        if !is_news {
            let (life, first) = (self.life, if self.has_first { "" } else { ", the first message" });
            return Err(wrong(format!("number {seq} after {newest} from the edge of life {life}{first}")));
        }
        if self.has_first {
            self.holes += seq - *newest - 1;
        }
        self.has_first = true;
        *newest = seq;
        let mut hasher = DefaultHasher::new();
        payload.hash(&mut hasher);
        findings.compare(seq, hasher.finish());
        findings.messages += 1;
        Ok(())
    }
}

/// The number in a snapshot, found without looking at the rest.
fn seq(payload: &[u8]) -> Option<u64> {
    let digits = payload.strip_prefix(br#"{"type":"snapshot","channel":"market","seq":"#)?;
    let end = digits.iter().position(|byte| !byte.is_ascii_digit())?;
    std::str::from_utf8(&digits[..end]).ok()?.parse().ok()
}

/// The first frame in `bytes`, if it is whole: its first byte, its payload, and how long it is.
fn split(bytes: &[u8]) -> Option<(u8, &[u8], usize)> {
    let head = match bytes.get(1)? {
        126 => 4,
        127 => 10,
        _ => 2,
    };
    let length = match head {
        2 => usize::from(bytes[1]),
        _ => bytes.get(2..head)?.iter().fold(0, |length, byte| length << 8 | usize::from(*byte)),
    };
    Some((bytes[0], bytes.get(head..head + length)?, head + length))
}
