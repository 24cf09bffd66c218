//! HTTP/1.1 as far as the baselines need it, apart from I/O: a request out of the bytes received so far.
//!
//! A body needs a `Content-Length`. What is refused ends the connection; everything else keeps it, and
//! requests may be pipelined.

use std::ops::Range;

use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

/// Largest body.
const MAX_BODY: usize = 16 << 20;
/// Largest head that is waited for.
const MAX_HEAD: usize = 16 << 10;
const MAX_HEADERS: usize = 64;

/// Asks a client that waits for it to send its body.
pub const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// What the bytes received so far amount to.
#[derive(Debug, PartialEq, Eq)]
pub enum Parsed {
    /// Not yet a request; the client may be waiting for [`CONTINUE`].
    Partial {
        /// Whether it is.
        expects_continue: bool,
    },
    /// A request with its body.
    Whole(Request),
}

/// A request, as positions in the bytes it was found in.
#[derive(Debug, PartialEq, Eq)]
pub struct Request {
    /// What is asked for.
    pub route: Route,
    /// Where the body is; the next request begins where it ends.
    pub body: Range<usize>,
    /// Whether the connection stays after the answer.
    pub keep_alive: bool,
}

/// What is asked for.
#[derive(Debug, PartialEq, Eq)]
pub enum Route {
    /// `GET /ws/{channel}` with an upgrade.
    Stream {
        /// The answer to its `Sec-WebSocket-Key`.
        accept: String,
    },
    /// `POST /publish/{channel}`.
    Publish {
        /// A Binary frame instead of Text.
        binary: bool,
    },
    /// `GET /healthz`.
    Health,
    /// `GET /stats`.
    Stats,
}

/// Why a request is not served. It is answered, and the connection ends.
#[derive(Debug, PartialEq, Eq)]
pub struct Refusal {
    status: &'static str,
    reason: &'static str,
}

/// The refusal of a Text message that is not UTF-8.
pub const NOT_UTF8: Refusal = bad("the message is not UTF-8");

const fn bad(reason: &'static str) -> Refusal {
    Refusal { status: "400 Bad Request", reason }
}

impl Refusal {
    /// The whole answer.
    pub fn answer(&self) -> String {
        answer(self.status, false, &format!("{{\"error\":\"{}\"}}\n", self.reason))
    }
}

/// The answer to a publication.
pub fn published(subscribers: usize, keep_alive: bool) -> String {
    answer("200 OK", keep_alive, &format!("{{\"published\":1,\"subscribers\":{subscribers}}}\n"))
}

/// The answer to [`Route::Stats`].
pub fn stats(dropped: u64, keep_alive: bool) -> String {
    answer("200 OK", keep_alive, &format!("{{\"dropped\":{dropped}}}\n"))
}

/// The answer to [`Route::Health`].
pub fn healthy(keep_alive: bool) -> String {
    answer("200 OK", keep_alive, "{\"status\":\"ok\"}\n")
}

/// The answer to [`Route::Stream`]; frames follow it.
pub fn switching(accept: &str) -> String {
    format!(
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Accept: {accept}\r\n\r\n"
    )
}

fn answer(status: &str, keep_alive: bool, body: &str) -> String {
    let connection = if keep_alive { "keep-alive" } else { "close" };
    let length = body.len();
    format!(
        "HTTP/1.1 {status}\r\nConnection: {connection}\r\nContent-Type: application/json\r\n\
         Content-Length: {length}\r\n\r\n{body}"
    )
}

/// Looks for a request at the beginning of `received`.
///
/// # Errors
/// A request that is not served.
pub fn parse(received: &[u8]) -> Result<Parsed, Refusal> {
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut request = httparse::Request::new(&mut headers);
    let head = match request.parse(received) {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) if received.len() < MAX_HEAD => {
            return Ok(Parsed::Partial { expects_continue: false });
        }
        Ok(httparse::Status::Partial) | Err(httparse::Error::TooManyHeaders) => {
            return Err(Refusal { status: "431 Request Header Fields Too Large", reason: "the head is too large" });
        }
        Err(_) => return Err(bad("this is not HTTP/1.1")),
    };
    let fields = Fields::read(&request)?;
    let route = fields.route(request.method.unwrap_or_default(), request.path.unwrap_or_default())?;
    let body = head..head + fields.content_length.unwrap_or(0);
    if received.len() < body.end {
        return Ok(Parsed::Partial { expects_continue: fields.expects_continue });
    }
    Ok(Parsed::Whole(Request { route, body, keep_alive: fields.keep_alive }))
}

/// The header fields that matter.
#[derive(Default)]
struct Fields<'a> {
    content_length: Option<usize>,
    keep_alive: bool,
    upgrades: bool,
    websocket: bool,
    binary: bool,
    expects_continue: bool,
    version: &'a [u8],
    key: &'a [u8],
}

impl<'a> Fields<'a> {
    fn read(request: &httparse::Request<'_, 'a>) -> Result<Self, Refusal> {
        let is = |value: &[u8], expected: &str| value.trim_ascii().eq_ignore_ascii_case(expected.as_bytes());
        let lists = |value: &[u8], token: &str| value.split(|byte| *byte == b',').any(|part| is(part, token));
        let recent = request.version == Some(1);
        let mut fields = Self { keep_alive: recent, ..Self::default() };
        for &httparse::Header { name, value } in &*request.headers {
            match name {
                _ if name.eq_ignore_ascii_case("content-length") => {
                    let length = content_length(value)?;
                    if fields.content_length.is_some_and(|other| other != length) {
                        return Err(bad("two values of Content-Length"));
                    }
                    fields.content_length = Some(length);
                }
                _ if name.eq_ignore_ascii_case("transfer-encoding") => {
                    return Err(Refusal { status: "411 Length Required", reason: "a body needs a Content-Length" });
                }
                _ if name.eq_ignore_ascii_case("connection") => {
                    fields.upgrades |= lists(value, "upgrade");
                    fields.keep_alive = (fields.keep_alive || lists(value, "keep-alive")) && !lists(value, "close");
                }
                _ if name.eq_ignore_ascii_case("upgrade") => fields.websocket |= lists(value, "websocket"),
                _ if name.eq_ignore_ascii_case("expect") => {
                    fields.expects_continue = recent && is(value, "100-continue");
                }
                _ if name.eq_ignore_ascii_case("content-type") => {
                    let essence = value.split(|byte| *byte == b';').next().unwrap_or_default();
                    fields.binary = is(essence, "application/octet-stream");
                }
                _ if name.eq_ignore_ascii_case("sec-websocket-version") => fields.version = value.trim_ascii(),
                _ if name.eq_ignore_ascii_case("sec-websocket-key") => fields.key = value.trim_ascii(),
                _ => {}
            }
        }
        Ok(fields)
    }

    fn route(&self, method: &str, path: &str) -> Result<Route, Refusal> {
        let path = path.split('?').next().unwrap_or_default();
        let names_channel = |prefix| path.strip_prefix(prefix).is_some_and(|name| !name.is_empty());
        match method {
            "POST" if names_channel("/publish/") && self.content_length.is_none() => {
                Err(Refusal { status: "411 Length Required", reason: "a body needs a Content-Length" })
            }
            "POST" if names_channel("/publish/") => Ok(Route::Publish { binary: self.binary }),
            "GET" if names_channel("/ws/") => self.stream(),
            "GET" if path == "/healthz" => Ok(Route::Health),
            "GET" if path == "/stats" => Ok(Route::Stats),
            _ => Err(Refusal { status: "404 Not Found", reason: "there is nothing here" }),
        }
    }

    fn stream(&self) -> Result<Route, Refusal> {
        if !self.websocket || !self.upgrades {
            return Err(Refusal { status: "426 Upgrade Required", reason: "this is a WebSocket endpoint" });
        }
        // 16 bytes in base64 (RFC 6455 section 4.1).
        if self.version != b"13" || self.key.len() != 24 {
            return Err(bad("bad handshake: version 13 and a key of 16 bytes are required"));
        }
        Ok(Route::Stream { accept: derive_accept_key(self.key) })
    }
}

fn content_length(value: &[u8]) -> Result<usize, Refusal> {
    let digits = std::str::from_utf8(value.trim_ascii()).unwrap_or_default();
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(bad("Content-Length is not a number"));
    }
    // More digits than a usize holds are too many bytes as well.
    match digits.parse() {
        Ok(length) if length <= MAX_BODY => Ok(length),
        _ => Err(Refusal { status: "413 Content Too Large", reason: "the body is over 16 MiB" }),
    }
}

#[cfg(test)]
mod tests {
    use super::{Parsed, Route, parse};

    fn status(request: &str) -> &'static str {
        match parse(request.as_bytes()) {
            Err(refusal) => refusal.status,
            Ok(Parsed::Partial { .. }) => "partial",
            Ok(Parsed::Whole(_)) => "whole",
        }
    }

    #[test]
    fn a_request_is_whole_with_its_last_byte() {
        let request = "POST /publish/x HTTP/1.1\r\ncontent-length: 3\r\n\r\nabc";
        for end in 0..request.len() {
            assert_eq!(status(&request[..end]), "partial", "{end}");
        }
        let Ok(Parsed::Whole(whole)) = parse(format!("{request}POST").as_bytes()) else { panic!("whole") };
        assert_eq!(&request[whole.body], "abc");
        assert!(whole.keep_alive);
        assert_eq!(whole.route, Route::Publish { binary: false });
    }

    #[test]
    fn what_is_refused() {
        for (request, expected) in [
            ("\u{1}\u{2}\r\n\r\n", "400 Bad Request"),
            ("GET / HTTP/1.1\r\n\r\n", "404 Not Found"),
            ("POST /publish/ HTTP/1.1\r\ncontent-length: 0\r\n\r\n", "404 Not Found"),
            ("POST /publish/x HTTP/1.1\r\n\r\n", "411 Length Required"),
            ("POST /publish/x HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n", "411 Length Required"),
            ("POST /publish/x HTTP/1.1\r\ncontent-length: +1\r\n\r\n", "400 Bad Request"),
            ("POST /publish/x HTTP/1.1\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n", "400 Bad Request"),
            ("POST /publish/x HTTP/1.1\r\ncontent-length: 16777217\r\n\r\n", "413 Content Too Large"),
            ("POST /publish/x HTTP/1.1\r\ncontent-length: 99999999999999999999999\r\n\r\n", "413 Content Too Large"),
            ("GET /ws/x HTTP/1.1\r\n\r\n", "426 Upgrade Required"),
            ("GET /ws/x HTTP/1.1\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\n", "400 Bad Request"),
        ] {
            assert_eq!(status(request), expected, "{request}");
        }
        assert_eq!(status(&format!("GET /{}", "x".repeat(16 << 10))), "431 Request Header Fields Too Large");
    }

    #[test]
    fn fields_are_read_without_regard_to_case() {
        let request = "GET /ws/a%20b?c HTTP/1.1\r\nUPGRADE: WebSocket\r\nConnection: keep-alive, UPGRADE\r\n\
                       Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
        let Ok(Parsed::Whole(whole)) = parse(request.as_bytes()) else { panic!("whole") };
        // The example of RFC 6455 section 1.3.
        assert_eq!(whole.route, Route::Stream { accept: "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=".to_owned() });
        let request =
            "POST /publish/x HTTP/1.0\r\ncontent-length: 0\r\nContent-Type: Application/Octet-Stream; x\r\n\r\n";
        let Ok(Parsed::Whole(whole)) = parse(request.as_bytes()) else { panic!("whole") };
        assert_eq!(whole.route, Route::Publish { binary: true });
        assert!(!whole.keep_alive);
    }
}
