//! Tokens as an application's own server would sign them.

use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::rand::SystemRandom;
use ring::{hmac, signature};
use rustls_pki_types::PrivatePkcs8KeyDer;
use rustls_pki_types::pem::PemObject;
use serde_json::Value;

pub(super) const SECRET: &str = "a-secret-of-at-least-thirty-two-bytes";

/// Something to sign with.
#[derive(Clone, Copy)]
pub(super) enum Signer<'a> {
    None,
    Hs256(&'a [u8]),
    Rs256,
    EdDsa,
}

/// Where a test key is.
pub(super) fn key(name: &str) -> String {
    format!("{}/tests/access/{name}", env!("CARGO_MANIFEST_DIR"))
}

fn private(name: &str) -> PrivatePkcs8KeyDer<'static> {
    PrivatePkcs8KeyDer::from_pem_file(key(name)).expect("a key")
}

/// Seconds from now on, or before now.
pub(super) fn at(seconds: i64) -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs();
    now as i64 + seconds
}

/// A token with a header of its own.
pub(super) fn sign_with_header(header: &Value, claims: &Value, signer: Signer<'_>) -> String {
    let message = format!("{}.{}", encode(header.to_string()), encode(claims.to_string()));
    let bytes = message.as_bytes();
    let signature = match signer {
        Signer::None => Vec::new(),
        Signer::Hs256(secret) => hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret), bytes).as_ref().to_vec(),
        Signer::Rs256 => {
            let der = private("rsa.pem");
            let pair = signature::RsaKeyPair::from_pkcs8(der.secret_pkcs8_der()).expect("a key");
            let mut signature = vec![0; pair.public().modulus_len()];
            let random = SystemRandom::new();
            pair.sign(&signature::RSA_PKCS1_SHA256, &random, bytes, &mut signature).expect("signed");
            signature
        }
        Signer::EdDsa => {
            let der = private("ed25519.pem");
            let pair = signature::Ed25519KeyPair::from_pkcs8_maybe_unchecked(der.secret_pkcs8_der()).expect("a key");
            pair.sign(bytes).as_ref().to_vec()
        }
    };
    format!("{message}.{}", encode(signature))
}

/// A token with the header that belongs to it.
pub(super) fn sign(claims: &Value, signer: Signer<'_>) -> String {
    let algorithm = match signer {
        Signer::None => "none",
        Signer::Hs256(_) => "HS256",
        Signer::Rs256 => "RS256",
        Signer::EdDsa => "EdDSA",
    };
    sign_with_header(&serde_json::json!({ "alg": algorithm, "typ": "JWT" }), claims, signer)
}

fn encode(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}
