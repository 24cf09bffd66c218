//! Clients that write down all they hear.

use std::collections::BTreeMap;
use std::net::{Shutdown, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::nodes::Node;
use super::support::PATIENCE;
use super::support::client::{BINARY, CLOSE, Client, PING, PONG, TEXT};

/// How long a message takes from an origin to a client at most, on one machine.
const ON_ITS_WAY: Duration = Duration::from_millis(50);

/// A message, and when it came.
#[derive(Clone, Debug)]
pub(super) struct Heard {
    pub(super) at: Instant,
    pub(super) first: u8,
    pub(super) payload: Vec<u8>,
}

impl Heard {
    /// The number in a snapshot of the market.
    pub(super) fn seq(&self) -> u64 {
        let text = String::from_utf8_lossy(&self.payload);
        let value: serde_json::Value = serde_json::from_slice(&self.payload).unwrap_or_else(|_| panic!("JSON: {text}"));
        value["seq"].as_u64().unwrap_or_else(|| panic!("no seq in {text}"))
    }

    pub(super) fn text(&self) -> String {
        String::from_utf8_lossy(&self.payload).into_owned()
    }
}

#[derive(Default)]
struct Book {
    heard: Vec<Heard>,
    pings: usize,
    /// Why it hears no more.
    end: Option<String>,
}

#[derive(Default)]
struct Shared {
    book: Mutex<Book>,
    news: Condvar,
}

impl Shared {
    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A client of a channel of a node, until it is dropped. It answers Pings.
pub(super) struct Witness {
    shared: Arc<Shared>,
    stream: TcpStream,
    thread: Option<JoinHandle<()>>,
}

impl Witness {
    pub(super) fn join(node: &Node, channel: &str) -> Self {
        let client = Client::connect(node.address, channel);
        let stream = client.stream.try_clone().expect("another handle");
        let shared = Arc::<Shared>::default();
        let thread = std::thread::spawn({
            let shared = Arc::clone(&shared);
            move || listen(client, &shared)
        });
        Self { shared, stream, thread: Some(thread) }
    }

    /// All that came so far.
    pub(super) fn heard(&self) -> Vec<Heard> {
        self.shared.book().heard.clone()
    }

    pub(super) fn count(&self) -> usize {
        self.shared.book().heard.len()
    }

    pub(super) fn pings(&self) -> usize {
        self.shared.book().pings
    }

    /// Whether it is still connected.
    pub(super) fn is_there(&self) -> bool {
        self.shared.book().end.is_none()
    }

    /// Waits until `find` finds what it looks for in all that came.
    pub(super) fn wait_for<T>(&self, what: &str, mut find: impl FnMut(&[Heard]) -> Option<T>) -> T {
        let deadline = Instant::now() + PATIENCE;
        let mut book = self.shared.book();
        loop {
            if let Some(found) = find(&book.heard) {
                return found;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            let tail: Vec<_> = book.heard.iter().rev().take(3).map(Heard::text).collect();
            assert!(book.end.is_none(), "{what}: the client was ended: {:?}; the last: {tail:?}", book.end);
            assert!(!left.is_zero(), "{what} did not come; {} messages did, the last: {tail:?}", book.heard.len());
            book = self.shared.news.wait_timeout(book, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    pub(super) fn wait_for_count(&self, count: usize) -> Vec<Heard> {
        self.wait_for(&format!("message number {count}"), |heard| heard.get(..count).map(<[_]>::to_vec))
    }

    /// Waits for the first message that comes later than `moment`, and than what was on its way by then, and is newer
    /// than all before it; returns how much later.
    pub(super) fn wait_for_news(&self, moment: Instant) -> Duration {
        self.wait_for("anything new", |heard| {
            let later = heard.iter().position(|heard| heard.at > moment + ON_ITS_WAY)?;
            let before = heard[..later].last().map_or(0, Heard::seq);
            heard[later..].iter().find(|heard| heard.seq() > before).map(|heard| heard.at - moment)
        })
    }

    /// Waits for a snapshot of the market with this number or a higher one.
    pub(super) fn wait_for_seq(&self, seq: u64) {
        self.wait_for(&format!("seq {seq}"), |heard| heard.last().filter(|last| last.seq() >= seq).map(drop));
    }

    /// The snapshots of the market by number, which must rise, and how many numbers are missing between them.
    pub(super) fn audit(&self) -> (BTreeMap<u64, Vec<u8>>, u64) {
        let heard = self.heard();
        let seqs: Vec<_> = heard.iter().map(Heard::seq).collect();
        let wrong = seqs.windows(2).find(|pair| pair[0] >= pair[1]);
        assert!(wrong.is_none(), "repeated or out of order: {wrong:?}");
        let holes = seqs.windows(2).map(|pair| pair[1] - pair[0] - 1).sum();
        (heard.iter().map(Heard::seq).zip(heard.iter().map(|heard| heard.payload.clone())).collect(), holes)
    }
}

impl Drop for Witness {
    fn drop(&mut self) {
        let _ = self.stream.shutdown(Shutdown::Both);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn listen(mut client: Client, shared: &Shared) {
    // The end, whatever it is, is written down: somebody waits.
    struct End<'a>(&'a Shared, String);
    impl Drop for End<'_> {
        fn drop(&mut self) {
            self.0.book().end = Some(std::mem::take(&mut self.1));
            self.0.news.notify_all();
        }
    }
    let mut end = End(shared, "silence".into());
    loop {
        match client.try_read() {
            Some((first @ (TEXT | BINARY), payload)) => {
                shared.book().heard.push(Heard { at: Instant::now(), first, payload });
            }
            Some((PING, payload)) => {
                shared.book().pings += 1;
                client.send(PONG, &payload);
            }
            Some((CLOSE, payload)) => {
                end.1 = format!("closed: {:?}", String::from_utf8_lossy(payload.get(2..).unwrap_or_default()));
                return;
            }
            other => {
                end.1 = format!("ended: {other:?}");
                return;
            }
        }
        shared.news.notify_all();
    }
}

/// That all have seen the same bytes under each number, whoever saw what.
pub(super) fn assert_same_bytes<'a>(witnesses: impl IntoIterator<Item = &'a Witness>) {
    let mut all = BTreeMap::new();
    for witness in witnesses {
        for (seq, payload) in witness.audit().0 {
            let known = all.entry(seq).or_insert_with(|| payload.clone());
            let texts = (String::from_utf8_lossy(known), String::from_utf8_lossy(&payload));
            assert_eq!(texts.0, texts.1, "two messages with the number {seq}");
        }
    }
}
