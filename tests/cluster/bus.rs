//! The protocol of NATS by hand: what anybody may say on the bus, and what is said there.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};

use super::support::PATIENCE;

/// A connection to the bus.
pub(super) struct Bus {
    stream: BufReader<TcpStream>,
    /// What came while something else was waited for.
    waiting: VecDeque<Seen>,
}

/// What the server says.
enum Word {
    Message(Seen),
    Pong,
    Other,
}

/// A message that was seen there.
#[derive(Clone, Debug)]
pub(super) struct Seen {
    pub(super) subject: String,
    pub(super) head: String,
    pub(super) payload: Vec<u8>,
}

impl Seen {
    /// The words of the header that every message of a cluster carries.
    pub(super) fn words(&self) -> Vec<&str> {
        let value = self.head.lines().find_map(|line| line.strip_prefix("Tickcast: ")).unwrap_or_default();
        value.split_whitespace().collect()
    }

    pub(super) fn epoch(&self) -> u64 {
        self.number(0)
    }

    pub(super) fn seq(&self) -> u64 {
        self.number(1)
    }

    fn number(&self, index: usize) -> u64 {
        self.words().get(index).and_then(|word| word.parse().ok()).unwrap_or_else(|| panic!("no number in {self:?}"))
    }
}

impl Bus {
    pub(super) fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).expect("nats-server accepts");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        let mut bus = Self { stream: BufReader::new(stream), waiting: VecDeque::new() };
        assert!(bus.line().starts_with("INFO "));
        bus.send(b"CONNECT {\"verbose\":false,\"pedantic\":false,\"headers\":true,\"no_responders\":true}\r\n");
        bus.flush();
        bus
    }

    /// Waits until the server has taken all that was sent.
    pub(super) fn flush(&mut self) {
        self.send(b"PING\r\n");
        loop {
            match self.word() {
                Word::Pong => return,
                Word::Message(seen) => self.waiting.push_back(seen),
                Word::Other => {}
            }
        }
    }

    /// A message with a header block, which is sent as it is behind its version.
    pub(super) fn publish(&mut self, subject: &str, headers: &[u8], payload: &[u8]) {
        let head = [b"NATS/1.0\r\n", headers, b"\r\n\r\n"].concat();
        let (length, total) = (head.len(), head.len() + payload.len());
        self.send(&[format!("HPUB {subject} {length} {total}\r\n").as_bytes(), &head, payload, b"\r\n"].concat());
    }

    /// A message without headers.
    pub(super) fn publish_bare(&mut self, subject: &str, payload: &[u8]) {
        self.send(&[format!("PUB {subject} {}\r\n", payload.len()).as_bytes(), payload, b"\r\n"].concat());
    }

    pub(super) fn subscribe(&mut self, subject: &str) {
        self.send(format!("SUB {subject} 1\r\n").as_bytes());
        self.flush();
    }

    /// The next message of what was subscribed to.
    pub(super) fn next(&mut self) -> Seen {
        if let Some(seen) = self.waiting.pop_front() {
            return seen;
        }
        loop {
            if let Word::Message(seen) = self.word() {
                return seen;
            }
        }
    }

    fn word(&mut self) -> Word {
        let line = self.line();
        let words: Vec<_> = line.split(' ').collect();
        let length = |word: &str| word.parse::<usize>().expect("a length");
        let (head, total) = match (words[0], &words[1..]) {
            ("MSG", [_, _, .., total]) => (0, length(total)),
            ("HMSG", [_, _, .., head, total]) => (length(head), length(total)),
            ("PING", _) => {
                self.send(b"PONG\r\n");
                return Word::Other;
            }
            ("PONG", _) => return Word::Pong,
            ("INFO", _) => return Word::Other,
            _ => panic!("not expected: {line}"),
        };
        let mut bytes = vec![0; total + 2];
        self.stream.read_exact(&mut bytes).expect("a whole message");
        bytes.truncate(total);
        let payload = bytes.split_off(head);
        let head = String::from_utf8_lossy(&bytes).into_owned();
        Word::Message(Seen { subject: words[1].to_owned(), head, payload })
    }

    /// The last message of a subject that the stream keeps.
    pub(super) fn last(&mut self, stream: &str, subject: &str) -> Seen {
        self.send(b"SUB answer 2\r\n");
        let request = format!("{{\"last_by_subj\":{subject:?}}}");
        let api = format!("$JS.API.STREAM.MSG.GET.{stream}");
        self.send(format!("PUB {api} answer {}\r\n{request}\r\n", request.len()).as_bytes());
        let answer = loop {
            match self.word() {
                Word::Message(seen) if seen.subject == "answer" => break seen,
                Word::Message(seen) => self.waiting.push_back(seen),
                Word::Pong | Word::Other => {}
            }
        };
        self.send(b"UNSUB 2\r\n");
        let answer: serde_json::Value = serde_json::from_slice(&answer.payload).expect("JSON");
        let part = |name: &str| {
            let text = answer["message"][name].as_str().unwrap_or_default();
            base64::Engine::decode(&base64::engine::general_purpose::STANDARD, text).expect("base64")
        };
        assert!(answer.get("error").is_none(), "{answer}");
        let head = String::from_utf8_lossy(&part("hdrs")).into_owned();
        Seen { subject: subject.to_owned(), head, payload: part("data") }
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.stream.read_line(&mut line).expect("a line");
        assert!(!line.is_empty(), "nats-server has ended the connection");
        line.trim_end().to_owned()
    }

    fn send(&mut self, bytes: &[u8]) {
        self.stream.get_mut().write_all(bytes).expect("sent");
    }
}
