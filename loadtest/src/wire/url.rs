//! `ws://HOST:PORT/PATH` and `http://HOST:PORT/PATH`, and both with an `s`.

use std::fmt;
use std::net::{SocketAddr, ToSocketAddrs};

/// What would have been right; completes "expected …".
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum UrlError {
    /// Another scheme, or none.
    #[error("a URL such as {0}://127.0.0.1:8080/PATH")]
    Scheme(&'static str),
    /// Host, port or path.
    #[error("a URL such as {0}://127.0.0.1:8080/PATH with {1}")]
    Part(&'static str, &'static str),
}

/// An address in its parts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Url {
    scheme: &'static str,
    is_secure: bool,
    /// Without the brackets of an IPv6 address.
    host: String,
    port: u16,
    /// Path and query, from the slash.
    pub(crate) path: String,
}

impl Url {
    /// Reads a URL of `scheme`, `ws` or `http`, or of the same with an `s`. The default port is 80, or 443.
    ///
    /// # Errors
    /// What is wrong with it, and what would be right.
    pub(crate) fn parse(text: &str, scheme: &'static str) -> Result<Self, UrlError> {
        let (found, rest) = text.split_once("://").unwrap_or(("", text));
        let (plain, is_secure) = match found.strip_suffix(['s', 'S']) {
            Some(plain) if plain.eq_ignore_ascii_case(scheme) => (plain, true),
            _ => (found, false),
        };
        if !plain.eq_ignore_ascii_case(scheme) {
            return Err(UrlError::Scheme(scheme));
        }
        let fail = |reason| UrlError::Part(scheme, reason);
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at(end);
        let path = path.split('#').next().unwrap_or_default();
        if path.bytes().any(|byte| byte <= b' ' || byte == 0x7f || !byte.is_ascii()) {
            return Err(fail("a path of printable ASCII, the rest percent-encoded"));
        }
        let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
        if authority.contains('@') {
            return Err(fail("no user and password; there is --header 'Authorization: …'"));
        }
        let (host, port) = match authority.strip_prefix('[') {
            Some(v6) => v6.split_once(']').ok_or_else(|| fail("a bracket that closes the IPv6 address"))?,
            None => authority.split_at(authority.find(':').unwrap_or(authority.len())),
        };
        if host.is_empty() {
            return Err(fail("a host"));
        }
        let port = match port.strip_prefix(':') {
            None if port.is_empty() && is_secure => 443,
            None if port.is_empty() => 80,
            Some(port) => port.parse().ok().filter(|port| *port > 0).ok_or_else(|| fail("a port from 1 to 65535"))?,
            None => return Err(fail("a colon and a port behind the address")),
        };
        Ok(Self { scheme, is_secure, host: host.to_owned(), port, path })
    }

    /// Whether it is encrypted.
    pub(crate) fn is_secure(&self) -> bool {
        self.is_secure
    }

    /// Name or address of the host.
    pub(crate) fn host(&self) -> &str {
        &self.host
    }

    /// What goes into the `Host` header.
    pub(crate) fn authority(&self) -> String {
        let bracket = self.host.contains(':');
        if bracket { format!("[{}]:{}", self.host, self.port) } else { format!("{}:{}", self.host, self.port) }
    }

    /// The first address of the host, IPv4 before IPv6 where there are both.
    ///
    /// # Errors
    /// The system's, if the name cannot be resolved.
    pub(crate) fn resolve(&self) -> std::io::Result<SocketAddr> {
        let mut all: Vec<_> = (self.host.as_str(), self.port).to_socket_addrs()?.collect();
        all.sort_by_key(SocketAddr::is_ipv6);
        all.first().copied().ok_or_else(|| std::io::Error::other("the name has no address"))
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}://{}{}", self.scheme, if self.is_secure { "s" } else { "" }, self.authority(), self.path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_a_url() {
        let url = Url::parse("ws://localhost:9000/ws/market?token=a#x", "ws").expect("a URL");
        assert_eq!((url.authority().as_str(), url.path.as_str()), ("localhost:9000", "/ws/market?token=a"));
        let url = Url::parse("WS://[::1]?x", "ws").expect("a URL");
        assert_eq!((url.authority().as_str(), url.path.as_str()), ("[::1]:80", "/?x"));
        assert_eq!(url.to_string(), "ws://[::1]:80/?x");
        assert!(!url.is_secure());
        let url = Url::parse("wss://host/x", "ws").expect("a URL");
        assert_eq!((url.to_string().as_str(), url.is_secure()), ("wss://host:443/x", true));
        assert!(Url::parse("HTTPS://host:8443/x", "http").expect("a URL").is_secure());
    }

    #[test]
    fn what_is_wrong_is_named() {
        let said = |text: &str| Url::parse(text, "ws").expect_err(text).to_string();
        assert!(said("wsss://host/").contains("ws://127.0.0.1:8080/PATH"));
        assert!(said("https://host/").contains("ws://127.0.0.1:8080/PATH"));
        assert!(said("http://host/").contains("ws://127.0.0.1:8080/PATH"));
        assert!(said("host:80").contains("ws://127.0.0.1:8080/PATH"));
        assert!(said("ws://:80/").contains("with a host"));
        assert!(said("ws://host:0/").contains("a port from 1"));
        assert!(said("ws://host:99999/").contains("a port from 1"));
        assert!(said("ws://[::1/").contains("bracket"));
        assert!(said("ws://a:b@host/").contains("--header"));
        assert!(said("ws://host/a b").contains("percent-encoded"));
    }
}
