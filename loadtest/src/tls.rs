//! TLS of a client: whom it trusts, for all connections to one host.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring};
use rustls::{ClientConfig, ClientConnection, DigitallySignedStruct, RootCertStore, SignatureScheme};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

use crate::wire::url::Url;

/// Whose certificates are good.
#[derive(Clone, Debug, Default)]
pub(crate) struct Trust {
    /// Authorities in PEM; without them those of the system.
    pub(crate) ca: Option<PathBuf>,
    /// Any certificate, from anybody.
    pub(crate) insecure: bool,
}

/// What all connections to one host share.
#[derive(Clone)]
pub(crate) struct Client {
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Client {
    /// For connections to `url`; nothing if they are not encrypted. No session is resumed: each
    /// connection is to cost what that of another client costs.
    ///
    /// # Errors
    /// What is wrong with the authorities, or the host.
    pub(crate) fn new(url: &Url, trust: &Trust) -> Result<Option<Self>, String> {
        if !url.is_secure() {
            return Ok(None);
        }
        let name = ServerName::try_from(url.host().to_owned());
        let name = name.map_err(|_| format!("{url}: no certificate can be for this host"))?;
        let provider = Arc::new(ring::default_provider());
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider)).with_safe_default_protocol_versions();
        let builder = builder.map_err(|error| format!("cannot set up TLS: {error}"))?;
        let mut config = if trust.insecure {
            builder.dangerous().with_custom_certificate_verifier(Arc::new(Anybody(provider))).with_no_client_auth()
        } else {
            builder.with_root_certificates(trust.roots()?).with_no_client_auth()
        };
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        config.resumption = Resumption::disabled();
        Ok(Some(Self { config: Arc::new(config), name }))
    }

    /// One connection, before its handshake.
    ///
    /// # Errors
    /// There is no randomness to be had.
    pub(crate) fn begin(&self) -> std::io::Result<ClientConnection> {
        ClientConnection::new(Arc::clone(&self.config), self.name.clone()).map_err(|error| failed(&error))
    }
}

impl Trust {
    fn roots(&self) -> Result<RootCertStore, String> {
        let mut roots = RootCertStore::empty();
        let Some(path) = &self.ca else {
            let found = rustls_native_certs::load_native_certs();
            roots.add_parsable_certificates(found.certs);
            let none = "the system has no certificates of authorities: name some with --ca, or trust with --insecure";
            return if roots.is_empty() { Err(none.to_owned()) } else { Ok(roots) };
        };
        let fail = |reason: String| format!("--ca {}: {reason}", path.display());
        let read = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
        for certificate in read.map_err(|error| fail(format!("cannot be read as PEM: {error}")))? {
            roots.add(certificate).map_err(|error| fail(error.to_string()))?;
        }
        if roots.is_empty() {
            return Err(fail("no certificate in it, expected PEM with -----BEGIN CERTIFICATE-----".to_owned()));
        }
        Ok(roots)
    }
}

/// An error of TLS in words, with what can be done about it.
pub(crate) fn failed(error: &rustls::Error) -> std::io::Error {
    let hint = match error {
        rustls::Error::InvalidCertificate(_) => " (see --ca and --insecure)",
        rustls::Error::InvalidMessage(_) => " (is this a plain port?)",
        _ => "",
    };
    std::io::Error::new(std::io::ErrorKind::InvalidData, format!("TLS: {error}{hint}"))
}

/// Takes any certificate. The handshake is checked as ever, so that it costs the same.
#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(message, cert, signed, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, cert, signed, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
