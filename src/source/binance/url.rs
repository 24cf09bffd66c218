//! The address of a live feed.

use std::fmt;
use std::str::FromStr;

use hyper::Uri;

/// What completes "expected …" when somebody wrote something else.
const EXPECTED: &str = "binance:URL with a ws:// or wss:// URL that has a host, such as \
                        binance:wss://stream.binance.com:9443/stream?streams=btcusdt@trade/btcusdt@bookTicker";

/// Where a live feed is: `ws://` or `wss://`, a host, and what is asked for there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamUrl {
    text: String,
    /// Whether the connection is encrypted.
    pub(super) secure: bool,
    /// Without the brackets of an IPv6 address.
    pub(super) host: String,
    pub(super) port: u16,
    /// Host and port as they were written, for the `Host` header.
    pub(super) authority: String,
    /// Path and query.
    pub(super) target: String,
}

impl FromStr for StreamUrl {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parse = || -> Option<Self> {
            let uri: Uri = text.parse().ok()?;
            let secure = match uri.scheme_str()? {
                "ws" => false,
                "wss" => true,
                _ => return None,
            };
            let authority = uri.authority()?;
            let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
            // A port that is none, or a user: neither is what was meant.
            let is_plain = authority.as_str().rsplit(']').next()?.contains(':') == authority.port().is_some();
            let port = authority.port_u16().unwrap_or(if secure { 443 } else { 80 });
            if host.is_empty() || port == 0 || !is_plain || authority.as_str().contains('@') {
                return None;
            }
            let target = uri.path_and_query().map_or("/", |target| target.as_str()).to_owned();
            Some(Self { text: text.to_owned(), secure, host, port, authority: authority.to_string(), target })
        };
        parse().ok_or_else(|| EXPECTED.to_owned())
    }
}

impl fmt::Display for StreamUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_says_where_and_what() {
        for (text, secure, host, port, authority, target) in [
            (
                "wss://stream.binance.com:9443/stream?streams=btcusdt@trade/ethusdt@bookTicker",
                true,
                "stream.binance.com",
                9443,
                "stream.binance.com:9443",
                "/stream?streams=btcusdt@trade/ethusdt@bookTicker",
            ),
            (
                "wss://fstream.binance.com/public/stream?streams=a@b",
                true,
                "fstream.binance.com",
                443,
                "fstream.binance.com",
                "/public/stream?streams=a@b",
            ),
            ("ws://[::1]:8080", false, "::1", 8080, "[::1]:8080", "/"),
            ("ws://localhost/", false, "localhost", 80, "localhost", "/"),
        ] {
            let url: StreamUrl = text.parse().expect("valid");
            assert_eq!((url.secure, &*url.host, url.port), (secure, host, port), "{text}");
            assert_eq!((&*url.authority, &*url.target, url.to_string()), (authority, target, text.to_owned()));
        }
    }

    #[test]
    fn what_is_no_such_url_is_refused() {
        for text in [
            "",
            "stream.binance.com",
            "http://stream.binance.com/",
            "wss://",
            "wss:///stream",
            "wss://:443/",
            "ws://h:0/",
            "ws://h:70000/",
            "ws://h:x/",
            "ws://h:/",
            "ws://me@h/",
            "wss://h /",
            "ws://h/\r\nx: y",
            "/stream?streams=a",
        ] {
            assert!(text.parse::<StreamUrl>().is_err(), "{text:?}");
        }
    }
}
