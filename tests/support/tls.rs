//! Certificates made on the spot, and streams that trust them.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned, SupportedProtocolVersion};

use super::client::Client;
use super::http::{Answer, connect, read_answer};

/// An authority, and files of certificates that it has issued; they are gone with it.
pub struct Authority {
    key: KeyPair,
    params: CertificateParams,
    root: rcgen::Certificate,
    directory: PathBuf,
}

impl Authority {
    pub fn new() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let name = format!("tickcast-tls-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let directory = std::env::temp_dir().join(name);
        fs::create_dir(&directory).expect("a directory");
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.distinguished_name.push(DnType::CommonName, "authority of a test");
        let key = KeyPair::generate().expect("a key");
        let root = params.self_signed(&key).expect("a certificate");
        let authority = Self { key, params, root, directory };
        fs::write(authority.path("ca.pem"), authority.root.pem()).expect("written");
        authority
    }

    /// A file of its directory.
    pub fn path(&self, name: &str) -> String {
        self.directory.join(name).to_str().expect("UTF-8").to_owned()
    }

    /// Writes another certificate for 127.0.0.1, and its key, to `cert.pem` and `key.pem`.
    pub fn issue(&self) {
        let mut params = CertificateParams::new(["localhost".to_owned(), "127.0.0.1".to_owned()]).expect("names");
        params.use_authority_key_identifier_extension = true;
        let key = KeyPair::generate().expect("a key");
        let cert = params.signed_by(&key, &Issuer::from_params(&self.params, &self.key)).expect("a certificate");
        fs::write(self.path("cert.pem"), cert.pem()).expect("written");
        fs::write(self.path("key.pem"), key.serialize_pem()).expect("written");
    }

    /// Flags of a server that shows what was issued.
    pub fn flags(&self) -> [String; 4] {
        ["--tls-cert".into(), self.path("cert.pem"), "--tls-key".into(), self.path("key.pem")]
    }

    /// Of clients that trust it.
    pub fn config(&self, versions: &[&'static SupportedProtocolVersion]) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        roots.add(self.root.der().clone()).expect("an authority");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider).with_protocol_versions(versions).expect("versions");
        let mut config = builder.with_root_certificates(roots).with_no_client_auth();
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Arc::new(config)
    }
}

impl Drop for Authority {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.directory);
    }
}

pub type Secure = StreamOwned<ClientConnection, TcpStream>;

/// A stream that begins its handshake when it is used.
pub fn secure(config: &Arc<ClientConfig>, stream: TcpStream) -> Secure {
    let name = "127.0.0.1".try_into().expect("a name");
    StreamOwned::new(ClientConnection::new(Arc::clone(config), name).expect("a configuration"), stream)
}

/// A WebSocket client of a channel.
pub fn join(config: &Arc<ClientConfig>, address: SocketAddr, channel: &str) -> Client<Secure> {
    Client::over(secure(config, connect(address)), address, channel)
}

/// One request on a connection of its own.
pub fn request(config: &Arc<ClientConfig>, address: SocketAddr, head: &str, body: &[u8]) -> Answer {
    let mut stream = secure(config, connect(address));
    let length = body.len();
    let head = format!("{head} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\ncontent-length: {length}\r\n");
    let kind = "content-type: application/x-ndjson\r\n\r\n";
    stream.write_all(&[head.as_bytes(), kind.as_bytes(), body].concat()).expect("sent");
    let answer = read_answer(&mut stream, false);
    // It says goodbye: an end without that would be an error.
    assert_eq!(stream.read(&mut [0]).expect("a clean end"), 0);
    answer
}
