//! JSON Web Tokens (RFC 7519), signed with HS256, RS256 or EdDSA.
//!
//! A key says which algorithm it is good for, never a token: one with another `alg`, `none` above all, is
//! checked against no key. `exp` is required; a token for ever is one of `auth.tokens`, which can be taken off
//! its list.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use jsonwebtoken::crypto::{CryptoProvider, JwtVerifier, KeyUtils};
use jsonwebtoken::errors::{ErrorKind, Result, new_error};
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use ring::{hmac, signature as signed};
use serde_json::{Map, Value};
use tokio::time::Instant;

use super::token::Patterns;
use crate::config::AuthConfig;

/// Keys, and what tokens must say.
#[derive(Debug)]
pub(super) struct Jwt {
    keys: Vec<(DecodingKey, Validation)>,
    leeway: Duration,
    channels_claim: String,
    publish_claim: String,
}

/// What a good token says.
#[derive(Clone, Debug)]
pub(super) struct Claims {
    /// What it may receive; `None` is all.
    pub(super) channels: Option<Patterns>,
    publish: Option<Patterns>,
    pub(super) expires: Option<Instant>,
}

impl Claims {
    pub(super) fn receives(&self, channel: &str) -> bool {
        self.channels.as_ref().is_none_or(|patterns| patterns.cover(channel))
    }

    pub(super) fn publishes(&self, channel: &str) -> bool {
        self.publish.as_ref().is_some_and(|patterns| patterns.cover(channel))
    }
}

impl Jwt {
    pub(super) fn new(auth: &AuthConfig) -> Self {
        if auth.has_jwt() {
            // If the program around has a provider already, that one checks as well.
            let _ = PROVIDER.install_default();
        }
        let secrets = auth
            .jwt_secret
            .iter()
            .map(|secret| (DecodingKey::from_secret(secret.expose().as_bytes()), validation(auth, Algorithm::HS256)));
        let public = auth.jwt_public_key.iter().map(|key| (key.decoding_key(), validation(auth, key.algorithm())));
        Self {
            keys: secrets.chain(public).collect(),
            leeway: auth.jwt_leeway,
            channels_claim: auth.jwt_channels_claim.clone(),
            publish_claim: auth.jwt_publish_claim.clone(),
        }
    }

    pub(super) fn channels_claim(&self) -> &str {
        &self.channels_claim
    }

    pub(super) fn publish_claim(&self) -> &str {
        &self.publish_claim
    }

    /// Checks signature and claims.
    ///
    /// # Errors
    /// What is wrong; what a token claims is only looked at if a key has signed it.
    pub(super) fn check(&self, token: &[u8]) -> std::result::Result<Claims, &'static str> {
        for (key, validation) in &self.keys {
            match jsonwebtoken::decode::<Map<String, Value>>(token, key, validation) {
                Ok(data) if data.header.crit.is_some() => return Err("the token has `crit`, which is not supported"),
                Ok(data) => return Ok(self.claims(&data.claims)),
                Err(error) => match error.kind() {
                    ErrorKind::ExpiredSignature => return Err("the token has expired"),
                    ErrorKind::ImmatureSignature => return Err("the token is not valid yet"),
                    ErrorKind::InvalidAudience => return Err("the token is for another audience"),
                    ErrorKind::InvalidIssuer => return Err("the token is of another issuer"),
                    ErrorKind::MissingRequiredClaim(claim) if claim == "exp" => {
                        return Err("the token lacks `exp`, a time in seconds since 1970");
                    }
                    ErrorKind::MissingRequiredClaim(claim) if claim == "aud" => return Err("the token lacks `aud`"),
                    ErrorKind::MissingRequiredClaim(_) => return Err("the token lacks `iss`"),
                    ErrorKind::InvalidClaimFormat(_) => return Err("the token's `nbf` is not a time"),
                    _ => {}
                },
            }
        }
        Err("the token is neither one of those that open this nor a JWT that a configured key has signed with its \
             own algorithm")
    }

    fn claims(&self, claims: &Map<String, Value>) -> Claims {
        let end = claims.get("exp").and_then(Value::as_f64).and_then(|exp| Duration::try_from_secs_f64(exp).ok());
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let left = end.map(|end| end.saturating_add(self.leeway).saturating_sub(since_epoch));
        Claims {
            channels: claims.get(&self.channels_claim).map(Patterns::read),
            publish: claims.get(&self.publish_claim).map(Patterns::read),
            // One that is too far off for the clock does not come.
            expires: left.and_then(|left| Instant::now().checked_add(left)),
        }
    }
}

fn validation(auth: &AuthConfig, algorithm: Algorithm) -> Validation {
    let mut validation = Validation::new(algorithm);
    let mut required = vec!["exp"];
    validation.validate_nbf = true;
    validation.leeway = auth.jwt_leeway.as_secs();
    validation.validate_aud = !auth.jwt_audience.is_empty();
    if validation.validate_aud {
        validation.set_audience(&auth.jwt_audience);
        required.push("aud");
    }
    if !auth.jwt_issuer.is_empty() {
        validation.set_issuer(&auth.jwt_issuer);
        required.push("iss");
    }
    validation.set_required_spec_claims(&required);
    validation
}

/// Checks signatures with ring, which TLS uses as well. Nothing is signed.
static PROVIDER: CryptoProvider = CryptoProvider {
    signer_factory: |_, _| Err(new_error(ErrorKind::UnsupportedAlgorithm)),
    verifier_factory: verifier,
    key_utils: KeyUtils::new_unimplemented(),
};

fn verifier(algorithm: &Algorithm, key: &DecodingKey) -> Result<Box<dyn JwtVerifier>> {
    if key.family() != algorithm.family() {
        return Err(new_error(ErrorKind::InvalidAlgorithm));
    }
    let bytes = key.try_get_as_bytes()?;
    let public = |kind| Check::Public(signed::UnparsedPublicKey::new(kind, bytes.to_vec()));
    let check = match algorithm {
        Algorithm::HS256 => Check::Secret(hmac::Key::new(hmac::HMAC_SHA256, bytes)),
        Algorithm::RS256 => public(&signed::RSA_PKCS1_2048_8192_SHA256),
        Algorithm::EdDSA => public(&signed::ED25519),
        _ => return Err(new_error(ErrorKind::UnsupportedAlgorithm)),
    };
    Ok(Box::new(Verifier { algorithm: *algorithm, check }))
}

struct Verifier {
    algorithm: Algorithm,
    check: Check,
}

enum Check {
    Secret(hmac::Key),
    Public(signed::UnparsedPublicKey<Vec<u8>>),
}

impl signature::Verifier<Vec<u8>> for Verifier {
    fn verify(&self, message: &[u8], signature: &Vec<u8>) -> std::result::Result<(), signature::Error> {
        let checked = match &self.check {
            // In constant time.
            Check::Secret(key) => hmac::verify(key, message, signature),
            Check::Public(key) => key.verify(message, signature),
        };
        checked.map_err(|_| signature::Error::new())
    }
}

impl JwtVerifier for Verifier {
    fn algorithm(&self) -> Algorithm {
        self.algorithm
    }
}
