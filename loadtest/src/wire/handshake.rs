//! The opening handshake of a client (RFC 6455 section 4.1).

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sha1::{Digest, Sha1};

use super::shown;
use super::url::Url;

/// An answer may not be longer than this before it is given up.
pub(crate) const MAX_HEAD: usize = 16 << 10;
/// Headers a server may send.
const MAX_HEADERS: usize = 64;
/// How much of an error's body is shown.
const SHOWN_BODY: usize = 200;

/// Random bytes that the answer has to prove it has seen.
pub(crate) type Key = [u8; 16];

/// What the answer says so far.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// Not all of it is there.
    Partial,
    /// A WebSocket; the head was this long.
    Accepted(usize),
    /// Something else, in words.
    Refused(String),
}

/// The request with everything but the key, which differs.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    before: String,
    after: String,
}

impl Request {
    /// A request for `url` with additional `headers`, each `Name: value`.
    pub(crate) fn new(url: &Url, headers: &[String]) -> Self {
        let before = format!(
            "GET {} HTTP/1.1\r\nHost: {}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
             Sec-WebSocket-Key: ",
            url.path,
            url.authority()
        );
        let mut after = format!("\r\nUser-Agent: loadtest/{}\r\n", env!("CARGO_PKG_VERSION"));
        for header in headers {
            after.push_str(header.trim());
            after.push_str("\r\n");
        }
        after.push_str("\r\n");
        Self { before, after }
    }

    /// Its bytes.
    pub(crate) fn bytes(&self, key: &Key) -> Vec<u8> {
        [self.before.as_bytes(), STANDARD.encode(key).as_bytes(), self.after.as_bytes()].concat()
    }
}

/// Reads the server's answer to a request with `key`.
pub(crate) fn read_answer(bytes: &[u8], key: &Key) -> Answer {
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut response = httparse::Response::new(&mut headers);
    let length = match response.parse(bytes) {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) if bytes.len() < MAX_HEAD => return Answer::Partial,
        Ok(httparse::Status::Partial) => return Answer::Refused(format!("the answer's head is over {MAX_HEAD} bytes")),
        Err(error) => return Answer::Refused(format!("the answer is not HTTP: {error}")),
    };
    let code = response.code.unwrap_or_default();
    if code != 101 {
        let reason = response.reason.unwrap_or_default();
        let body = String::from_utf8_lossy(&bytes[length..]);
        let body = shown(&body, SHOWN_BODY);
        let body = if body.is_empty() { body } else { format!(": {body}") };
        return Answer::Refused(format!("HTTP {code} {reason} instead of 101{body}"));
    }
    let value = |name: &str| {
        let header = response.headers.iter().find(|header| header.name.eq_ignore_ascii_case(name));
        header.and_then(|header| std::str::from_utf8(header.value).ok()).map(str::trim)
    };
    if !value("upgrade").is_some_and(|value| value.eq_ignore_ascii_case("websocket")) {
        return Answer::Refused("101 without `Upgrade: websocket`".to_owned());
    }
    let tokens = |value: &str| value.split(',').any(|token| token.trim().eq_ignore_ascii_case("upgrade"));
    if !value("connection").is_some_and(tokens) {
        return Answer::Refused("101 without `Connection: Upgrade`".to_owned());
    }
    if value("sec-websocket-accept") != Some(&accept(key)) {
        return Answer::Refused("101 with a wrong Sec-WebSocket-Accept".to_owned());
    }
    if let Some(extension) = value("sec-websocket-extensions").filter(|value| !value.is_empty()) {
        return Answer::Refused(format!("101 with an extension nobody asked for: {extension}"));
    }
    Answer::Accepted(length)
}

/// What a server has to make of a key (RFC 6455 section 4.2.2).
fn accept(key: &Key) -> String {
    let mut hash = Sha1::new();
    hash.update(STANDARD.encode(key));
    hash.update(b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11");
    STANDARD.encode(hash.finalize())
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &Key = b"the sample nonce";

    fn answer(head: &str) -> Answer {
        read_answer(head.as_bytes(), KEY)
    }

    #[test]
    fn the_sample_of_the_rfc_is_accepted() {
        let url = Url::parse("ws://host/ws/market", "ws").expect("a URL");
        let request = Request::new(&url, &["Authorization: Bearer x".to_owned()]).bytes(KEY);
        let request = String::from_utf8(request).expect("ASCII");
        assert!(request.starts_with("GET /ws/market HTTP/1.1\r\nHost: host:80\r\n"), "{request}");
        assert!(request.contains("Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"), "{request}");
        assert!(request.ends_with("Authorization: Bearer x\r\n\r\n"), "{request}");
        let good = "HTTP/1.1 101 Switching Protocols\r\nupgrade: WebSocket\r\nConnection: keep-alive, Upgrade\r\n\
                    Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";
        assert_eq!(read_answer(&[good.as_bytes(), b"\x81\x01x"].concat(), KEY), Answer::Accepted(good.len()));
        assert_eq!(answer(&good[..good.len() - 1]), Answer::Partial);
        let wrong = good.replace("s3pP", "aaaa");
        assert_eq!(answer(&wrong), Answer::Refused("101 with a wrong Sec-WebSocket-Accept".to_owned()));
    }

    #[test]
    fn other_answers_are_told_in_words() {
        let refused = |text: &str, part: &str| match answer(text) {
            Answer::Refused(reason) => assert!(reason.contains(part), "{reason}"),
            other => panic!("{other:?}"),
        };
        refused("HTTP/1.1 404 Not Found\r\nContent-Length: 9\r\n\r\n{\"error\"}", "HTTP 404 Not Found instead of 101");
        refused("HTTP/1.1 404 Not Found\r\nContent-Length: 9\r\n\r\n\x1b[2J", "\\u{1b}[2J");
        refused("SSH-2.0-OpenSSH_9\r\n", "not HTTP");
        refused("HTTP/1.1 101 X\r\nConnection: Upgrade\r\n\r\n", "without `Upgrade");
        refused("HTTP/1.1 101 X\r\nUpgrade: websocket\r\n\r\n", "without `Connection");
        let endless = "HTTP/1.1 200 OK\r\nX: ".to_owned() + &"x".repeat(MAX_HEAD);
        refused(&endless, "over 16384 bytes");
    }
}
