//! `[tls]`: encryption on the port itself.

use std::path::PathBuf;
use std::time::Duration;

use super::keys::{DAY, key, path, seconds};
use super::{Key, value};

/// Where the certificate is. Both paths or neither; without them the port is plain.
#[derive(Clone, Debug, PartialEq)]
pub struct TlsConfig {
    /// Certificates in PEM: the server's own, then those between it and the root.
    pub cert: Option<PathBuf>,
    /// The private key of the first of them in PEM, not encrypted.
    pub key: Option<PathBuf>,
    /// From the first byte of a peer to the end of the TLS handshake. It is part of
    /// [`handshake_timeout`](super::Config::handshake_timeout), which also bounds the wait for that byte.
    pub handshake_timeout: Duration,
}

impl Default for TlsConfig {
    fn default() -> Self {
        Self { cert: None, key: None, handshake_timeout: Duration::from_secs(5) }
    }
}

impl TlsConfig {
    /// Whether anything asks for encryption.
    pub fn is_enabled(&self) -> bool {
        self.cert.is_some() || self.key.is_some()
    }
}

pub(super) const KEYS: &[Key] = &[
    key!(
        "tls.cert",
        "TICKCAST_TLS_CERT",
        "tls-cert",
        "FILE",
        "PEM file with the server's certificate and those up to its root, read again on SIGHUP; empty = no TLS",
        tls.cert,
        value::path,
        path
    ),
    key!(
        "tls.key",
        "TICKCAST_TLS_KEY",
        "tls-key",
        "FILE",
        "PEM file with the private key of that certificate",
        tls.key,
        value::path,
        path
    ),
    key!(
        "tls.handshake_timeout",
        "TICKCAST_TLS_HANDSHAKE_TIMEOUT",
        "tls-handshake-timeout",
        "DURATION",
        "From the first byte of a peer to the end of the TLS handshake",
        tls.handshake_timeout,
        |raw| value::seconds(raw, 0.001, DAY),
        seconds
    ),
];
