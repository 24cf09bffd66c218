//! TLS: the certificate, when it is read again, and the handshake.
//!
//! Versions 1.2 and 1.3 by rustls. A reload replaces everything that handshakes use, the keys of tickets
//! too: whoever was there stays, whoever comes sees the new certificate and resumes nothing older.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::server::ServerSessionMemoryCache;
use rustls_pki_types::pem::{self, PemObject};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::config::TlsConfig;
use crate::metrics::Metrics;

/// The first byte of a TLS connection: a record of the handshake (RFC 8446 section 5.1).
const HANDSHAKE_RECORD: u8 = 22;
/// Bytes of one client that may be encrypted and not taken by its socket: one full record
/// (RFC 8446 section 5.1). What is encrypted is this client's own memory and cannot give way to anything
/// newer, so no more than that; with less, large messages would go out in smaller records.
const MAX_ENCRYPTED: usize = 16 << 10;
/// Sessions of TLS 1.2 clients without tickets that may be resumed; a few hundred bytes each.
const SESSIONS: usize = 1_024;
/// How long, and how much, is read of a request that was not encrypted, so that its sender gets to
/// see the answer instead of a reset.
const LINGER: Duration = Duration::from_secs(2);
const LINGER_BYTES: u64 = 16 << 10;

const PLAIN_BODY: &str = "{\"error\":\"this is a TLS port: use https:// or wss://\"}\n";

/// Why there is no certificate to serve with.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// Only one of the two paths is set.
    #[error("`{given}` is set and `{missing}` is not: TLS needs both, a plain port neither")]
    Incomplete {
        /// The key that is set.
        given: &'static str,
        /// The key that is not.
        missing: &'static str,
    },
    /// A file cannot be read, or is not what it should be.
    #[error("`{key}` = {path:?}: {reason}")]
    File {
        /// The configuration key.
        key: &'static str,
        /// Which file.
        path: PathBuf,
        /// What is wrong with it, and what would be right.
        reason: String,
    },
    /// The two files do not belong together.
    #[error(
        "the private key in {key:?} is not that of the first certificate in {cert:?}: the server's own \
         certificate comes first, those of its authority behind it"
    )]
    Mismatch {
        /// The certificates.
        cert: PathBuf,
        /// The key.
        key: PathBuf,
    },
    /// The cryptography does not work, which is no fault of the files.
    #[error("cannot set up TLS: {0}")]
    Setup(String),
}

/// The certificate a server shows, and the key to it. A clone is another handle on the same.
#[derive(Clone, Debug)]
pub struct Certificates(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    cert: PathBuf,
    key: PathBuf,
    /// What handshakes use from now on; those that have begun keep theirs.
    current: ArcSwap<ServerConfig>,
}

impl Certificates {
    /// Reads the files that `config` names; `None` if it names none.
    ///
    /// # Errors
    /// Only one of them is named, or they cannot be used.
    pub fn load(config: &TlsConfig) -> Result<Option<Self>, TlsError> {
        let (cert, key) = match (&config.cert, &config.key) {
            (None, None) => return Ok(None),
            (Some(cert), Some(key)) => (cert.clone(), key.clone()),
            (Some(_), None) => return Err(TlsError::Incomplete { given: "tls.cert", missing: "tls.key" }),
            (None, Some(_)) => return Err(TlsError::Incomplete { given: "tls.key", missing: "tls.cert" }),
        };
        let current = ArcSwap::new(read(&cert, &key)?);
        Ok(Some(Self(Arc::new(Inner { cert, key, current }))))
    }

    /// Reads the same files again, for all handshakes from then on. Reads from the disk: not for a
    /// thread that must not wait.
    ///
    /// # Errors
    /// They cannot be used; then the certificate stays what it was.
    pub fn reload(&self) -> Result<(), TlsError> {
        self.0.current.store(read(&self.0.cert, &self.0.key)?);
        Ok(())
    }

    /// Where the certificate is.
    pub fn path(&self) -> &Path {
        &self.0.cert
    }
}

fn read(cert: &Path, key: &Path) -> Result<Arc<ServerConfig>, TlsError> {
    let setup = |error: rustls::Error| TlsError::Setup(error.to_string());
    let in_cert = |reason| TlsError::File { key: "tls.cert", path: cert.to_owned(), reason };
    let in_key = |reason| TlsError::File { key: "tls.key", path: key.to_owned(), reason };
    let chain = CertificateDer::pem_file_iter(cert).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let chain = match chain {
        Ok(chain) if chain.is_empty() => Err(pem::Error::NoItemsFound),
        chain => chain,
    };
    let chain = chain.map_err(|error| in_cert(explain(&error, "-----BEGIN CERTIFICATE-----")))?;
    let private = PrivateKeyDer::from_pem_file(key);
    let expected = "-----BEGIN PRIVATE KEY-----, RSA PRIVATE KEY or EC PRIVATE KEY, not encrypted";
    let private = private.map_err(|error| in_key(explain(&error, expected)))?;
    ring::default_provider()
        .key_provider
        .load_private_key(private.clone_key())
        .map_err(|error| in_key(format!("the key cannot be used: {error}; RSA, ECDSA and Ed25519 can")))?;
    let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(setup)?
        .with_no_client_auth()
        .with_single_cert(chain, private)
        .map_err(|error| match error {
            rustls::Error::InconsistentKeys(_) => TlsError::Mismatch { cert: cert.to_owned(), key: key.to_owned() },
            error => in_cert(format!("the first certificate cannot be used: {error}")),
        })?;
    // A WebSocket begins as a request of HTTP/1.1; a browser would ask for HTTP/2 otherwise.
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    config.ticketer = ring::Ticketer::new().map_err(setup)?;
    config.session_storage = ServerSessionMemoryCache::new(SESSIONS);
    Ok(Arc::new(config))
}

fn explain(error: &pem::Error, expected: &str) -> String {
    match error {
        pem::Error::Io(error) => format!("cannot be read: {error}"),
        pem::Error::NoItemsFound => format!("nothing of that kind in it: expected PEM with {expected}"),
        error => format!("not valid PEM: {error}; expected {expected}"),
    }
}

/// Shakes hands with those who connect.
#[derive(Debug)]
pub(super) struct Terminator {
    pub(super) certificates: Certificates,
    timeout: Duration,
    pub(super) metrics: Arc<Metrics>,
}

impl Terminator {
    /// As `config` says; `None` if it says nothing.
    pub(super) fn load(config: &TlsConfig) -> Result<Option<Self>, TlsError> {
        let with = |certificates| Self { certificates, timeout: config.handshake_timeout, metrics: Arc::default() };
        Ok(Certificates::load(config)?.map(with))
    }

    /// The encrypted stream, once the peer has begun to say something.
    ///
    /// # Errors
    /// It took too long, it is not TLS, or the two do not come to terms. It is counted.
    pub(super) async fn shake_hands(&self, stream: TcpStream) -> io::Result<TlsStream<TcpStream>> {
        let result = tokio::time::timeout(self.timeout, self.try_to(stream)).await;
        let (label, result) = match result {
            Err(_) => ("timeout", Err(io::Error::new(io::ErrorKind::TimedOut, "the TLS handshake took too long"))),
            Ok(Ok(stream)) => ("ok", Ok(stream)),
            Ok(Err(Failure::Plain(stream))) => {
                // Not part of the handshake, which is over.
                let _ = tokio::time::timeout(LINGER, say_that_this_is_tls(stream)).await;
                ("plain", Err(io::Error::new(io::ErrorKind::InvalidData, "not encrypted, on a TLS port")))
            }
            Ok(Err(Failure::Io(error))) => {
                ("failed", Err(io::Error::new(error.kind(), format!("TLS handshake: {error}"))))
            }
            Ok(Err(Failure::Silent)) => return Err(io::ErrorKind::UnexpectedEof.into()),
        };
        self.metrics.tls_handshakes.add(label);
        result
    }

    async fn try_to(&self, stream: TcpStream) -> Result<TlsStream<TcpStream>, Failure> {
        let mut first = [0];
        match stream.peek(&mut first).await? {
            0 => return Err(Failure::Silent),
            _ if first[0] != HANDSHAKE_RECORD => return Err(Failure::Plain(stream)),
            _ => {}
        }
        let acceptor = TlsAcceptor::from(self.certificates.0.current.load_full());
        Ok(acceptor.accept_with(stream, |session| session.set_buffer_limit(Some(MAX_ENCRYPTED))).await?)
    }
}

enum Failure {
    /// The peer has gone without a word, as those who only look whether the port is open do.
    Silent,
    Plain(TcpStream),
    Io(io::Error),
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// Answers somebody who did not encrypt as HTTP would.
async fn say_that_this_is_tls(mut stream: TcpStream) -> io::Result<()> {
    let answer = format!(
        "HTTP/1.1 400 Bad Request\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\
         connection: close\r\n\r\n{PLAIN_BODY}",
        PLAIN_BODY.len()
    );
    stream.write_all(answer.as_bytes()).await?;
    stream.shutdown().await?;
    tokio::io::copy(&mut stream.take(LINGER_BYTES), &mut tokio::io::sink()).await.map(drop)
}
