//! Whom a proxy speaks for: the PROXY protocol before the request, or `X-Forwarded-For` in it.

use std::io;
use std::net::{IpAddr, SocketAddr};

use hyper::HeaderMap;
use ppp::{HeaderResult, PartialResult, v1, v2};
use tokio::io::{AsyncRead, AsyncReadExt};

use crate::config::LimitsConfig;

/// Longest header that is read: the addresses of version 2 with room for extensions, TLS among them.
const MAX_HEADER: usize = 2 << 10;
/// Longest header of version 1, its end included.
const MAX_LINE: usize = 107;

/// Reads a PROXY protocol header, version 1 or 2, and nothing behind it. `None` if the proxy speaks for
/// itself (`LOCAL`) or does not know.
///
/// Source: <https://www.haproxy.org/download/3.0/doc/proxy-protocol.txt>, section 2.
///
/// # Errors
/// There is no such header, or the peer is gone.
pub(super) async fn read_header(io: &mut (impl AsyncRead + Unpin)) -> io::Result<Option<SocketAddr>> {
    let bad = |reason: String| io::Error::new(io::ErrorKind::InvalidData, format!("PROXY protocol: {reason}"));
    let mut header = Vec::new();
    while header.len() < MAX_HEADER {
        // Byte by byte: what comes behind belongs to somebody else. A header is short.
        header.push(io.read_u8().await?);
        // Version 1 is a line.
        if header[0] == b'P' && !header.ends_with(b"\n") && header.len() < MAX_LINE {
            continue;
        }
        let parsed = HeaderResult::parse(&header);
        if header[0] != b'P' && parsed.is_incomplete() {
            continue;
        }
        return match parsed {
            HeaderResult::V1(Ok(header)) => Ok(match header.addresses {
                v1::Addresses::Tcp4(it) => Some((it.source_address, it.source_port).into()),
                v1::Addresses::Tcp6(it) => Some((it.source_address, it.source_port).into()),
                v1::Addresses::Unknown => None,
            }),
            HeaderResult::V2(Ok(header)) => Ok(match header.addresses {
                _ if header.command == v2::Command::Local => None,
                v2::Addresses::IPv4(it) => Some((it.source_address, it.source_port).into()),
                v2::Addresses::IPv6(it) => Some((it.source_address, it.source_port).into()),
                v2::Addresses::Unix(_) | v2::Addresses::Unspecified => None,
            }),
            HeaderResult::V1(Err(error)) => Err(bad(error.to_string())),
            HeaderResult::V2(Err(error)) => Err(bad(error.to_string())),
        };
    }
    Err(bad(format!("the header is longer than {MAX_HEADER} bytes")))
}

/// The client of a request that came by a trusted proxy: the last address in `X-Forwarded-For` that is
/// not a trusted proxy itself. What stands before it anybody may have written.
pub(super) fn forwarded_for(headers: &HeaderMap, limits: &LimitsConfig) -> Option<IpAddr> {
    let values: Vec<_> = headers.get_all("x-forwarded-for").iter().filter_map(|value| value.to_str().ok()).collect();
    let addresses = values.iter().rev().flat_map(|value| value.rsplit(','));
    let mut client = None;
    for address in addresses {
        let address = address.trim();
        // Some proxies add the port, and brackets with it.
        let parsed = address.parse::<IpAddr>().or_else(|_| address.parse::<SocketAddr>().map(|it| it.ip())).ok()?;
        client = Some(parsed);
        if !limits.is_trusted(parsed) {
            break;
        }
    }
    client
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn read(mut bytes: &[u8]) -> (Result<Option<SocketAddr>, String>, Vec<u8>) {
        let result = read_header(&mut bytes).await.map_err(|error| error.to_string());
        (result, bytes.to_vec())
    }

    #[tokio::test]
    async fn either_version_is_read_and_nothing_behind_it() {
        let client = Some("203.0.113.9:56324".parse().expect("an address"));
        let (result, rest) = read(b"PROXY TCP4 203.0.113.9 192.0.2.1 56324 443\r\nGET / HTTP/1.1\r\n").await;
        assert_eq!((result, &*rest), (Ok(client), &b"GET / HTTP/1.1\r\n"[..]));
        let (result, _) = read(b"PROXY TCP6 2001:db8::1 2001:db8::2 1 2\r\n").await;
        assert_eq!(result, Ok(Some("[2001:db8::1]:1".parse().expect("an address"))));
        assert_eq!(read(b"PROXY UNKNOWN\r\nx").await, (Ok(None), b"x".to_vec()));

        let signature = b"\r\n\r\n\0\r\nQUIT\n";
        let addresses = [203, 0, 113, 9, 192, 0, 2, 1, 0xdc, 0x04, 0x01, 0xbb];
        let extension = [0x04, 0, 1, 0];
        let second = [&signature[..], &[0x21, 0x11, 0, 16], &addresses, &extension, b"rest"].concat();
        assert_eq!(read(&second).await, (Ok(client), b"rest".to_vec()));
        let local = [&signature[..], &[0x20, 0x00, 0, 0], b"rest"].concat();
        assert_eq!(read(&local).await, (Ok(None), b"rest".to_vec()));
    }

    #[tokio::test]
    async fn what_is_none_is_refused() {
        for bytes in [
            b"GET / HTTP/1.1\r\nHost: x\r\n\r\n".to_vec(),
            b"PROXY TCP4 x y 1 2\r\n".to_vec(),
            b"PROXY TCP4 203.0.113.9".to_vec(),
            [b'P'; 4_000].to_vec(),
            [&b"PROXY "[..], &[b'x'; 4_000]].concat(),
            [&b"\r\n\r\n\0\r\nQUIT\n"[..], &[0x21, 0x11, 0xff, 0xff], &[0; 70_000]].concat(),
        ] {
            let (result, _) = read(&bytes).await;
            assert!(result.is_err(), "{result:?} of {:?}", String::from_utf8_lossy(&bytes[..bytes.len().min(40)]));
        }
    }

    #[test]
    fn the_last_address_that_is_not_a_proxy_is_the_client() {
        let trusted = vec!["10.0.0.0/8".parse().expect("a network")];
        let limits = LimitsConfig { trusted_proxies: trusted, ..LimitsConfig::default() };
        let client = |values: &[&str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append("x-forwarded-for", value.parse().expect("a value"));
            }
            forwarded_for(&headers, &limits).map(|address| address.to_string())
        };
        assert_eq!(client(&[]), None);
        assert_eq!(client(&["203.0.113.9"]).as_deref(), Some("203.0.113.9"));
        assert_eq!(client(&["1.1.1.1, 203.0.113.9, 10.0.0.2"]).as_deref(), Some("203.0.113.9"), "1.1.1.1 is made up");
        assert_eq!(client(&["1.1.1.1", "203.0.113.9:80,10.1.1.1"]).as_deref(), Some("203.0.113.9"));
        assert_eq!(client(&["[2001:db8::1]:5"]).as_deref(), Some("2001:db8::1"));
        assert_eq!(client(&["10.0.0.3, 10.0.0.2"]).as_deref(), Some("10.0.0.3"));
        assert_eq!(client(&["203.0.113.9, unknown"]), None);
    }
}
