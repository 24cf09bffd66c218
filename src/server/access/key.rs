//! Public keys of JWTs, from PEM files.

use std::fmt;
use std::path::{Path, PathBuf};

use jsonwebtoken::{Algorithm, DecodingKey};
use rustls_pki_types::SubjectPublicKeyInfoDer;
use rustls_pki_types::pem::PemObject;

/// The content of an object identifier (RFC 8410 section 3, RFC 3279 section 2.3.1).
const ED25519: &[u8] = &[0x2b, 0x65, 0x70];
const RSA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01];
/// Tags of DER.
const INTEGER: u8 = 0x02;
const BIT_STRING: u8 = 0x03;
const OBJECT_IDENTIFIER: u8 = 0x06;
const SEQUENCE: u8 = 0x30;
/// In bytes. Shorter ones are weak, and longer ones take the time of everybody.
const RSA_MODULUS: std::ops::RangeInclusive<usize> = 256..=1024;

/// A public key, and the one algorithm it is good for.
#[derive(Clone, PartialEq, Eq)]
pub struct PublicKey {
    path: PathBuf,
    algorithm: Algorithm,
    /// Of RSA the modulus and exponent as PKCS #1 has them, of Ed25519 the 32 bytes.
    bytes: Vec<u8>,
}

impl PublicKey {
    /// Reads a PEM file with a `PUBLIC KEY`.
    ///
    /// # Errors
    /// What would have been right, and what is wrong with the file.
    pub fn read(path: &Path) -> Result<Self, String> {
        let (algorithm, bytes) = std::fs::read(path)
            .map_err(|error| error.to_string())
            .and_then(|pem| parse(&pem).map_err(str::to_owned))
            .map_err(|error| {
                format!("a PEM file with the public key of RSA or Ed25519; {}: {error}", path.display())
            })?;
        Ok(Self { path: path.to_owned(), algorithm, bytes })
    }

    pub(super) fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    pub(super) fn decoding_key(&self) -> DecodingKey {
        match self.algorithm {
            Algorithm::EdDSA => DecodingKey::from_ed_der(&self.bytes),
            _ => DecodingKey::from_rsa_der(&self.bytes),
        }
    }
}

/// Where it was read from.
impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.path.display().fmt(f)
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} of {:?}", self.algorithm, self.path)
    }
}

fn parse(pem: &[u8]) -> Result<(Algorithm, Vec<u8>), &'static str> {
    let der = SubjectPublicKeyInfoDer::from_pem_slice(pem)
        .map_err(|_| "no `BEGIN PUBLIC KEY`; `openssl pkey -in PRIVATE -pubout` writes one")?;
    let (kind, bytes) = split(&der).ok_or("the key is not DER")?;
    match kind {
        ED25519 if bytes.len() == 32 => Ok((Algorithm::EdDSA, bytes.to_vec())),
        RSA => match modulus(bytes).is_some_and(|modulus| RSA_MODULUS.contains(&modulus.len())) {
            true => Ok((Algorithm::RS256, bytes.to_vec())),
            false => Err("a key of RSA has 2048 to 8192 bits"),
        },
        _ => Err("the key is neither of RSA nor of Ed25519"),
    }
}

/// Algorithm and key of a `SubjectPublicKeyInfo` (RFC 5280 section 4.1).
fn split(der: &[u8]) -> Option<(&[u8], &[u8])> {
    let mut info = take(&mut { der }, SEQUENCE)?;
    let kind = take(&mut take(&mut info, SEQUENCE)?, OBJECT_IDENTIFIER)?;
    // The first byte counts bits that are not used.
    Some((kind, take(&mut info, BIT_STRING)?.strip_prefix(&[0])?))
}

/// The modulus of a key of RSA (RFC 8017 appendix A.1.1), without leading zeros.
fn modulus(key: &[u8]) -> Option<&[u8]> {
    let number = take(&mut take(&mut { key }, SEQUENCE)?, INTEGER)?;
    Some(number.strip_prefix(&[0]).unwrap_or(number))
}

/// Takes an element of DER with `tag` off the front; its content.
fn take<'a>(rest: &mut &'a [u8], tag: u8) -> Option<&'a [u8]> {
    let after_tag = rest.strip_prefix(&[tag])?;
    let (length, content) = match after_tag {
        [length @ 0..=0x7f, content @ ..] => (usize::from(*length), content),
        [0x81, length, content @ ..] => (usize::from(*length), content),
        [0x82, high, low, content @ ..] => (usize::from(u16::from_be_bytes([*high, *low])), content),
        _ => return None,
    };
    let (content, others) = content.split_at_checked(length)?;
    *rest = others;
    Some(content)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kind_of_a_key_is_its_algorithm() {
        let of = |pem: &[u8]| parse(pem).map(|(algorithm, _)| algorithm);
        let test_key = |name: &str| std::fs::read(format!("tests/access/{name}")).expect("a file");
        assert_eq!(of(&test_key("rsa.pub.pem")), Ok(Algorithm::RS256));
        assert_eq!(of(&test_key("ed25519.pub.pem")), Ok(Algorithm::EdDSA));
        assert!(of(&test_key("rsa1024.pub.pem")).expect_err("short").contains("2048"));
        assert!(of(&test_key("ec.pub.pem")).expect_err("another kind").contains("neither"));
        assert!(of(&test_key("ed25519.pem")).expect_err("private").contains("BEGIN PUBLIC KEY"));
        assert!(
            of(b"-----BEGIN PUBLIC KEY-----\nMAA=\n-----END PUBLIC KEY-----\n").expect_err("empty").contains("DER")
        );
    }
}
