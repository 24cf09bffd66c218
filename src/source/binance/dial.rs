//! From a URL to an open WebSocket connection: TCP, TLS, the opening handshake.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use fastwebsockets::handshake::generate_key;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, lookup_host};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::url::StreamUrl;

/// Longest answer to the opening handshake, and most header lines in it.
const MAX_ANSWER: usize = 16 << 10;
const MAX_HEADERS: usize = 64;
/// What RFC 6455 section 1.3 has a server put behind the key.
const ACCEPT_SUFFIX: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
/// Longest wait that a server's `Retry-After` asks for and gets: the exchange counts connections over five minutes.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(300);

/// A connection over TCP, encrypted or not.
pub(super) trait Socket: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Socket for S {}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub(super) enum DialError {
    #[error("cannot connect to {0}: {1}")]
    Connect(String, io::Error),
    #[error("no TLS connection: {0}")]
    Tls(String),
    #[error("no {what} within {} s", after.as_secs_f64())]
    Timeout { what: &'static str, after: Duration },
    #[error("the feed answered {status} instead of 101{}", retry_after.map_or(String::new(), |after| {
        format!(" and asks to wait {} s", after.as_secs())
    }))]
    Status { status: u16, retry_after: Option<Duration> },
    #[error("the answer is not one to a WebSocket handshake: {0}")]
    Handshake(String),
}

impl DialError {
    /// The label under which what follows is counted.
    pub(super) fn reason(&self) -> &'static str {
        match self {
            Self::Connect(..) => "connect",
            Self::Tls(_) => "tls",
            Self::Timeout { .. } => "timeout",
            Self::Status { .. } => "status",
            Self::Handshake(_) => "handshake",
        }
    }

    /// How long the server wants to be left alone.
    pub(super) fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Status { retry_after, .. } => *retry_after,
            _ => None,
        }
    }
}

/// Opens connections to one URL.
pub(super) struct Dialer {
    url: StreamUrl,
    /// `None`: not encrypted.
    tls: Option<(TlsConnector, ServerName<'static>)>,
    /// Longest time for each of its steps.
    step: Duration,
}

impl Dialer {
    /// Trusts the bundled roots, and those in the PEM file `ca`.
    pub(super) fn new(url: StreamUrl, ca: Option<&Path>, step: Duration) -> io::Result<Self> {
        let tls = match url.secure {
            true => Some((TlsConnector::from(Arc::new(trust(ca)?)), server_name(&url)?)),
            false => None,
        };
        Ok(Self { url, tls, step })
    }

    pub(super) fn url(&self) -> &StreamUrl {
        &self.url
    }

    pub(super) async fn dial(&self) -> Result<Box<dyn Socket>, DialError> {
        let tcp = self.connect().await?;
        let mut socket: Box<dyn Socket> = match &self.tls {
            None => Box::new(tcp),
            Some((connector, name)) => {
                let encrypted = self.within("TLS handshake", connector.connect(name.clone(), tcp)).await?;
                Box::new(encrypted.map_err(|error| DialError::Tls(hint(&error)))?)
            }
        };
        self.within("answer to the WebSocket handshake", shake_hands(&mut socket, &self.url)).await??;
        Ok(socket)
    }

    async fn connect(&self) -> Result<TcpStream, DialError> {
        let StreamUrl { host, port, authority, .. } = &self.url;
        let failed = |error| DialError::Connect(authority.clone(), error);
        let addresses = self.within("answer from DNS", lookup_host((&**host, *port))).await?.map_err(failed)?;
        let mut last = DialError::Connect(authority.clone(), io::Error::other("the name has no address"));
        for address in addresses {
            match self.within("TCP connection", TcpStream::connect(address)).await {
                Ok(Ok(stream)) => {
                    // Pongs go out at once.
                    stream.set_nodelay(true).map_err(failed)?;
                    return Ok(stream);
                }
                Ok(Err(error)) => last = failed(error),
                Err(late) => last = late,
            }
        }
        Err(last)
    }

    async fn within<T>(&self, what: &'static str, step: impl Future<Output = T>) -> Result<T, DialError> {
        timeout(self.step, step).await.map_err(|_| DialError::Timeout { what, after: self.step })
    }
}

/// The roots that a server's certificate may come from.
fn trust(ca: Option<&Path>) -> io::Result<ClientConfig> {
    let mut roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
    if let Some(path) = ca {
        let wrong = |reason: String| io::Error::other(format!("`source.ca` = {path:?}: {reason}"));
        let text = std::fs::read(path).map_err(|error| wrong(error.to_string()))?;
        let before = roots.len();
        for certificate in CertificateDer::pem_slice_iter(&text) {
            let certificate = certificate.map_err(|error| wrong(format!("not PEM: {error}")))?;
            roots.add(certificate).map_err(|error| wrong(format!("not a root certificate: {error}")))?;
        }
        if roots.len() == before {
            return Err(wrong("no certificate in it; PEM blocks `BEGIN CERTIFICATE` are expected".to_owned()));
        }
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let mut config = builder.map_err(io::Error::other)?.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

fn server_name(url: &StreamUrl) -> io::Result<ServerName<'static>> {
    let name = ServerName::try_from(url.host.clone());
    name.map_err(|_| io::Error::other(format!("{:?} is no name that a certificate could have", url.host)))
}

fn hint(error: &io::Error) -> String {
    let unknown = error.to_string().contains("UnknownIssuer");
    let hint = if unknown { "; `source.ca` may name a file with further roots" } else { "" };
    format!("{error}{hint}")
}

/// The client's side of the opening handshake (RFC 6455 section 4.1). fastwebsockets' own does not look at
/// `Sec-WebSocket-Accept`, writes to stderr, and does not say what was answered instead.
async fn shake_hands(socket: &mut (impl Socket + ?Sized), url: &StreamUrl) -> Result<(), DialError> {
    let broken = |error: io::Error| DialError::Handshake(error.to_string());
    let key = generate_key();
    let request = format!(
        "GET {} HTTP/1.1\r\nHost: {}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: {key}\r\n\
         Sec-WebSocket-Version: 13\r\nUser-Agent: tickcast/{}\r\n\r\n",
        url.target,
        url.authority,
        env!("CARGO_PKG_VERSION"),
    );
    socket.write_all(request.as_bytes()).await.map_err(broken)?;
    socket.flush().await.map_err(broken)?;
    // Byte by byte, once a connection: frames may follow at once, and are not this function's.
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        if answer.len() == MAX_ANSWER {
            return Err(DialError::Handshake(format!("its head has more than {MAX_ANSWER} bytes")));
        }
        answer.push(socket.read_u8().await.map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => DialError::Handshake("the connection ended".to_owned()),
            _ => broken(error),
        })?);
    }
    check(&answer, &key)
}

fn check(answer: &[u8], key: &str) -> Result<(), DialError> {
    let wrong = |what: &str| DialError::Handshake(what.to_owned());
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut response = httparse::Response::new(&mut headers);
    response.parse(answer).map_err(|error| DialError::Handshake(error.to_string()))?;
    let all = |name: &str| {
        let named = response.headers.iter().filter(move |header| header.name.eq_ignore_ascii_case(name));
        named.filter_map(|header| std::str::from_utf8(header.value).ok()).collect::<Vec<_>>().join(",")
    };
    let has = |name: &str, word: &str| all(name).split(',').any(|part| part.trim().eq_ignore_ascii_case(word));
    let status = response.code.unwrap_or_default();
    if status != 101 {
        let seconds = all("retry-after").trim().parse().ok();
        let retry_after = seconds.map(|seconds| Duration::from_secs(seconds).min(MAX_RETRY_AFTER));
        return Err(DialError::Status { status, retry_after });
    }
    if !has("upgrade", "websocket") || !has("connection", "upgrade") {
        return Err(wrong("101 without an upgrade to WebSocket"));
    }
    if all("sec-websocket-accept") != accept(key) {
        return Err(wrong("`Sec-WebSocket-Accept` does not belong to the key that was sent"));
    }
    if !all("sec-websocket-extensions").is_empty() || !all("sec-websocket-protocol").is_empty() {
        return Err(wrong("an extension or a subprotocol that was not asked for"));
    }
    Ok(())
}

fn accept(key: &str) -> String {
    let text = format!("{key}{ACCEPT_SUFFIX}");
    STANDARD.encode(ring::digest::digest(&ring::digest::SHA1_FOR_LEGACY_USE_ONLY, text.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
    const GOOD: &str = "HTTP/1.1 101 Switching Protocols\r\nupgrade: WebSocket\r\nConnection: keep-alive, Upgrade\r\n\
                        Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";

    #[test]
    fn only_an_answer_to_this_handshake_will_do() {
        assert!(check(GOOD.as_bytes(), KEY).is_ok());
        for (part, instead, reason) in [
            ("101", "302", "status"),
            ("upgrade: WebSocket", "upgrade: h2c", "handshake"),
            ("keep-alive, Upgrade", "close", "handshake"),
            ("s3pP", "S3pP", "handshake"),
            ("\r\n\r\n", "\r\nSec-WebSocket-Extensions: permessage-deflate\r\n\r\n", "handshake"),
            ("HTTP/1.1", "SSH-2.0", "handshake"),
        ] {
            let answer = GOOD.replace(part, instead);
            assert_eq!(check(answer.as_bytes(), KEY).map_err(|error| error.reason()), Err(reason), "{answer}");
        }
    }

    #[test]
    fn a_server_that_asks_for_patience_gets_some() {
        for (header, expected) in [("7", Some(7)), ("86400", Some(300)), ("soon", None)] {
            let answer = format!("HTTP/1.1 429 Too Many Requests\r\nRetry-After: {header}\r\n\r\n");
            let error = check(answer.as_bytes(), KEY).expect_err("not 101");
            assert_eq!(error.retry_after(), expected.map(Duration::from_secs));
        }
    }
}
