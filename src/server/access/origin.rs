//! Where a page comes from (RFC 6454), and whether pages from there may use the server.

use std::fmt;
use std::str::FromStr;

use hyper::header::{HOST, HeaderMap, HeaderValue, ORIGIN};
use hyper::{Request, Uri};

/// Scheme, host and port of a page, in lower case; the port is the scheme's own if none is written.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Origin {
    scheme: String,
    host: String,
    port: Option<u16>,
}

impl Origin {
    /// Reads `scheme://host[:port]`. Everything else, `null` above all, is no origin.
    fn parse(text: &str) -> Option<Self> {
        let (scheme, authority) = text.split_once("://")?;
        let scheme = scheme.to_ascii_lowercase();
        let letters = scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte));
        let (host, port) = split_authority(authority)?;
        let port = port.or_else(|| default_port(&scheme));
        (letters && scheme.starts_with(|first: char| first.is_ascii_alphabetic())).then(|| Self {
            scheme,
            host: host.to_ascii_lowercase(),
            port,
        })
    }

    /// Whether a request to `host` of such a page stays where the page came from. What the scheme was
    /// outside is not known here, as TLS may end at a proxy; without a port it is the page's.
    fn is_at(&self, host: &str) -> bool {
        split_authority(host).is_some_and(|(host, port)| {
            host.eq_ignore_ascii_case(&self.host) && port.or_else(|| default_port(&self.scheme)) == self.port
        })
    }
}

fn default_port(scheme: &str) -> Option<u16> {
    match scheme {
        "http" | "ws" => Some(80),
        "https" | "wss" => Some(443),
        _ => None,
    }
}

/// Host, with the brackets of an IPv6 address, and port.
fn split_authority(text: &str) -> Option<(&str, Option<u16>)> {
    let end = match text.find(']') {
        Some(bracket) if text.starts_with('[') => bracket + 1,
        _ => text.find(':').unwrap_or(text.len()),
    };
    let (host, rest) = text.split_at(end);
    let good = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~[]:".contains(&byte);
    if host.is_empty() || !host.bytes().all(good) {
        return None;
    }
    match rest.strip_prefix(':') {
        None => rest.is_empty().then_some((host, None)),
        // `+80` is a number to Rust.
        Some(port) if port.bytes().all(|byte| byte.is_ascii_digit()) => Some((host, Some(port.parse().ok()?))),
        Some(_) => None,
    }
}

/// Pages that may use the server wherever it is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AllowedOrigin(Option<Origin>);

impl FromStr for AllowedOrigin {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "*" {
            return Ok(Self(None));
        }
        let expected = || "an origin without a path such as https://app.example.com or http://localhost:3000, or *";
        Origin::parse(text).map(|origin| Self(Some(origin))).ok_or_else(|| expected().to_owned())
    }
}

impl fmt::Display for AllowedOrigin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            None => f.write_str("*"),
            Some(Origin { scheme, host, port }) => match port.filter(|_| *port != default_port(scheme)) {
                Some(port) => write!(f, "{scheme}://{host}:{port}"),
                None => write!(f, "{scheme}://{host}"),
            },
        }
    }
}

/// All of them.
#[derive(Debug)]
pub(super) struct Origins {
    all: bool,
    listed: Vec<Origin>,
}

impl Origins {
    pub(super) fn new(allowed: &[AllowedOrigin]) -> Self {
        Self {
            all: allowed.contains(&AllowedOrigin(None)),
            listed: allowed.iter().filter_map(|allowed| allowed.0.clone()).collect(),
        }
    }

    /// Whether the page behind a request, if there is one, may use the server. Programs other than browsers
    /// say nothing and may: what keeps them out is a token.
    pub(super) fn admit<B>(&self, request: &Request<B>) -> bool {
        let headers = request.headers();
        let named = Uri::authority(request.uri()).map(|authority| authority.as_str());
        let host = named.or_else(|| headers.get(HOST)?.to_str().ok());
        headers.get_all(ORIGIN).iter().all(|value| {
            let origin = value.to_str().ok().and_then(Origin::parse);
            let same = || origin.as_ref().zip(host).is_some_and(|(origin, host)| origin.is_at(host));
            self.all || same() || origin.as_ref().is_some_and(|origin| self.listed.contains(origin))
        })
    }

    /// The origin to name in an answer, if it is allowed by name or all are.
    pub(super) fn shared_with(&self, headers: &HeaderMap) -> Option<HeaderValue> {
        if !self.all && self.listed.is_empty() {
            return None;
        }
        let value = headers.get(ORIGIN)?;
        let listed = || self.listed.contains(&Origin::parse(value.to_str().ok()?)?).then(|| value.clone());
        if self.all { Some(HeaderValue::from_static("*")) } else { listed() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origins(allowed: &[&str]) -> Origins {
        Origins::new(&allowed.iter().map(|text| text.parse().expect("an origin")).collect::<Vec<_>>())
    }

    fn admits(allowed: &[&str], host: &str, origin: &str) -> bool {
        let request = Request::get("/").header(HOST, host).header(ORIGIN, origin).body(()).expect("a request");
        origins(allowed).admit(&request)
    }

    #[test]
    fn a_page_of_the_same_host_is_not_foreign() {
        for (host, origin) in [
            ("localhost:8080", "http://localhost:8080"),
            ("localhost:8080", "https://localhost:8080"),
            ("LocalHost:8080", "HTTP://LOCALHOST:8080"),
            ("app.example.com", "https://app.example.com"),
            ("app.example.com", "http://app.example.com"),
            ("app.example.com:443", "https://app.example.com"),
            ("app.example.com:80", "http://app.example.com"),
            ("app.example.com", "https://app.example.com:443"),
            ("[::1]:8080", "http://[::1]:8080"),
            ("[::1]", "http://[::1]"),
        ] {
            assert!(admits(&[], host, origin), "{origin} at {host}");
        }
        for (host, origin) in [
            ("localhost:8080", "http://localhost:3000"),
            ("localhost:8080", "http://localhost"),
            ("localhost:8080", "http://127.0.0.1:8080"),
            ("app.example.com", "https://app.example.com.evil.com"),
            ("app.example.com", "https://evil-app.example.com"),
            ("app.example.com", "https://app.example.com:8443"),
            ("app.example.com:80", "https://app.example.com"),
            ("app.example.com", "https://user@app.example.com"),
            ("app.example.com", "https://app.example.com/"),
            ("app.example.com", "app.example.com"),
            ("app.example.com", "null"),
            ("app.example.com", ""),
            ("app.example.com", "https://app.example.com:+443"),
            ("app.example.com", "https://app.example.com https://evil.com"),
            ("null", "null"),
            ("", "null"),
            ("", "https://"),
            ("[::1]:8080", "http://[::1]8080"),
        ] {
            assert!(!admits(&[], host, origin), "{origin} at {host}");
        }
    }

    #[test]
    fn listed_pages_may_come_from_elsewhere() {
        let allowed = ["https://App.example.com", "http://localhost:3000", "capacitor://localhost"];
        for (origin, good) in [
            ("https://app.example.com", true),
            ("HTTPS://APP.EXAMPLE.COM:443", true),
            ("http://localhost:3000", true),
            ("capacitor://localhost", true),
            ("http://app.example.com", false),
            ("https://app.example.com:8443", false),
            ("https://x.app.example.com", false),
            ("null", false),
            ("http://127.0.0.1:8080", true),
        ] {
            assert_eq!(admits(&allowed, "127.0.0.1:8080", origin), good, "{origin}");
            assert!(admits(&["*"], "127.0.0.1:8080", origin), "{origin}");
        }
        let shown: Vec<_> =
            allowed.iter().map(|text| text.parse::<AllowedOrigin>().expect("one").to_string()).collect();
        assert_eq!(shown, ["https://app.example.com", "http://localhost:3000", "capacitor://localhost"]);
        for wrong in ["null", "app.example.com", "https://a.b/", "https://*.a.b", "https://a.b:x", "://a", "1:://a"] {
            assert!(wrong.parse::<AllowedOrigin>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn only_pages_that_are_named_are_shown_answers() {
        let shared = |allowed: &[&str], origin: Option<&'static str>| {
            let mut headers = HeaderMap::new();
            headers.extend(origin.map(|origin| (ORIGIN, HeaderValue::from_static(origin))));
            origins(allowed).shared_with(&headers).map(|value| value.to_str().expect("ASCII").to_owned())
        };
        assert_eq!(shared(&["https://a.b"], Some("https://a.b")).as_deref(), Some("https://a.b"));
        assert_eq!(shared(&["*"], Some("null")).as_deref(), Some("*"));
        for (allowed, origin) in
            [(vec![], Some("https://a.b")), (vec!["https://a.b"], Some("https://c.d")), (vec!["*"], None)]
        {
            assert_eq!(shared(&allowed, origin), None);
        }
    }

    #[test]
    fn a_request_without_a_page_is_admitted() {
        assert!(origins(&[]).admit(&Request::get("/").body(()).expect("a request")));
        // All of several must be good.
        let request = Request::get("/").header(HOST, "a.b").header(ORIGIN, "http://a.b").header(ORIGIN, "http://c.d");
        assert!(!origins(&[]).admit(&request.body(()).expect("a request")));
    }
}
