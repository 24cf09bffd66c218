//! `[auth]`: who may do what.

use std::time::Duration;

use super::Key;
use super::keys::{HOUR, key, quoted, seconds};
use super::secret::{self, Secret};
use super::value::{self, Expected, Raw, show_list};
use crate::server::{AllowedOrigin, PublicKey};

/// Who may do what. By default every program that reaches the server may receive, only those on the same
/// machine may publish, and no page from elsewhere may do either.
#[derive(Clone, Debug, PartialEq)]
pub struct AuthConfig {
    /// Pages from where may use the server, besides those from its own host.
    pub allowed_origins: Vec<AllowedOrigin>,
    /// Tokens that receive: `/ws`, `/snapshot`, and `/channels` and `/stats` unless these have their own.
    pub tokens: Vec<Secret>,
    /// Tokens that publish.
    pub publish_tokens: Vec<Secret>,
    /// Tokens for `/channels` and `/stats`; if there are any, those of `tokens` do not do.
    pub stats_tokens: Vec<Secret>,
    /// Tokens for `/metrics`.
    pub metrics_tokens: Vec<Secret>,
    /// Whether anybody may publish without a token where publishing has none, from other machines too.
    pub open_publishing: bool,
    /// Secrets of JWTs signed with HS256.
    pub jwt_secret: Vec<Secret>,
    /// Keys of JWTs signed with RS256 or EdDSA, as each key's own kind says.
    pub jwt_public_key: Vec<PublicKey>,
    /// One of these must be in a JWT's `aud`; none: `aud` is not looked at.
    pub jwt_audience: Vec<String>,
    /// One of these must be a JWT's `iss`; none: `iss` is not looked at.
    pub jwt_issuer: Vec<String>,
    /// Clocks may differ by this much when `exp` and `nbf` are looked at.
    pub jwt_leeway: Duration,
    /// The claim that lists the channels a JWT may receive; without it, all.
    pub jwt_channels_claim: String,
    /// The claim that lists the channels a JWT may publish on; without it, none.
    pub jwt_publish_claim: String,
}

impl Default for AuthConfig {
    fn default() -> Self {
        Self {
            allowed_origins: Vec::new(),
            tokens: Vec::new(),
            publish_tokens: Vec::new(),
            stats_tokens: Vec::new(),
            metrics_tokens: Vec::new(),
            open_publishing: false,
            jwt_secret: Vec::new(),
            jwt_public_key: Vec::new(),
            jwt_audience: Vec::new(),
            jwt_issuer: Vec::new(),
            jwt_leeway: Duration::from_secs(5),
            jwt_channels_claim: "channels".to_owned(),
            jwt_publish_claim: "publish".to_owned(),
        }
    }
}

/// Who may publish over HTTP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Publishing {
    /// Everybody who reaches the server.
    Everybody,
    /// Those with a token.
    WithToken,
    /// Nobody.
    Off,
}

/// Below this many characters a token may be guessed.
const GOOD_TOKEN: usize = 16;
/// As long as the hash (RFC 7518 section 3.2).
const GOOD_JWT_SECRET: usize = 32;

impl AuthConfig {
    /// What should be better: for the log.
    pub fn advice(&self) -> Vec<String> {
        let is_short = |secrets: &[Secret], good| secrets.iter().any(|secret| secret.expose().len() < good);
        let keys = [
            ("auth.tokens", &self.tokens, GOOD_TOKEN),
            ("auth.publish_tokens", &self.publish_tokens, GOOD_TOKEN),
            ("auth.stats_tokens", &self.stats_tokens, GOOD_TOKEN),
            ("auth.metrics_tokens", &self.metrics_tokens, GOOD_TOKEN),
            ("auth.jwt_secret", &self.jwt_secret, GOOD_JWT_SECRET),
        ];
        let short = keys.into_iter().filter(|(_, secrets, good)| is_short(secrets, *good));
        short
            .map(|(key, _, good)| {
                format!("{key} has one of less than {good} characters; `openssl rand -hex 32` makes a good one")
            })
            .collect()
    }

    /// Who may publish over HTTP. Without a token for it, everybody on a server that `is_local`, which only
    /// programs on the same machine reach, a proxy among them; else nobody.
    pub fn publishing(&self, is_local: bool) -> Publishing {
        if !self.publish_tokens.is_empty() {
            Publishing::WithToken
        } else if self.open_publishing {
            Publishing::Everybody
        } else if self.has_jwt() {
            Publishing::WithToken
        } else if is_local {
            Publishing::Everybody
        } else {
            Publishing::Off
        }
    }

    /// Whether JWTs are accepted.
    pub fn has_jwt(&self) -> bool {
        !self.jwt_secret.is_empty() || !self.jwt_public_key.is_empty()
    }
}

fn word(raw: Raw<'_>) -> Result<String, Expected> {
    let text = raw.text().filter(|text| !text.is_empty());
    text.map(str::to_owned).ok_or_else(|| "text that is not empty".to_owned())
}

fn words(raw: Raw<'_>) -> Result<Vec<String>, Expected> {
    value::list(raw, |item| Ok(item.to_owned()))
}

/// A key that holds secrets.
macro_rules! secrets {
    ($file:literal, $env:literal, $flag:literal, $help:literal, $($field:ident).+) => {
        Key {
            secret: true,
            ..key!($file, $env, $flag, "SECRETS", $help, $($field).+, secret::secrets, |v: &[Secret]| secret::show(v))
        }
    };
}

pub(super) const KEYS: &[Key] = &[
    key!(
        "auth.allowed_origins",
        "TICKCAST_AUTH_ALLOWED_ORIGINS",
        "auth-allowed-origins",
        "ORIGINS",
        "Pages from where may use the server, besides its own host: https://app.example.com, …, or * for all",
        auth.allowed_origins,
        |raw| value::list(raw, str::parse),
        |v: &[AllowedOrigin]| show_list(v)
    ),
    secrets!(
        "auth.tokens",
        "TICKCAST_AUTH_TOKENS",
        "auth-tokens",
        "Tokens that receive; file:PATH has one a line, and nobody sees it in `ps`",
        auth.tokens
    ),
    secrets!(
        "auth.publish_tokens",
        "TICKCAST_AUTH_PUBLISH_TOKENS",
        "auth-publish-tokens",
        "Tokens that publish, or file:PATH",
        auth.publish_tokens
    ),
    secrets!(
        "auth.stats_tokens",
        "TICKCAST_AUTH_STATS_TOKENS",
        "auth-stats-tokens",
        "Tokens for /stats and /channels, or file:PATH; none = as for receiving",
        auth.stats_tokens
    ),
    secrets!(
        "auth.metrics_tokens",
        "TICKCAST_AUTH_METRICS_TOKENS",
        "auth-metrics-tokens",
        "Tokens for /metrics, or file:PATH; none = open",
        auth.metrics_tokens
    ),
    key!(
        "auth.open_publishing",
        "TICKCAST_AUTH_OPEN_PUBLISHING",
        "auth-open-publishing",
        "BOOL",
        "Let everybody publish where auth.publish_tokens is empty, from other machines too",
        auth.open_publishing,
        value::boolean,
        bool::to_string
    ),
    secrets!(
        "auth.jwt_secret",
        "TICKCAST_AUTH_JWT_SECRET",
        "auth-jwt-secret",
        "Secret of JWTs signed with HS256, or file:PATH; several while one replaces another",
        auth.jwt_secret
    ),
    key!(
        "auth.jwt_public_key",
        "TICKCAST_AUTH_JWT_PUBLIC_KEY",
        "auth-jwt-public-key",
        "FILES",
        "PEM file with the public key of JWTs signed with RS256 or EdDSA; several while one replaces another",
        auth.jwt_public_key,
        |raw| value::list(raw, |path| PublicKey::read(path.as_ref())),
        |v: &[PublicKey]| show_list(v)
    ),
    key!(
        "auth.jwt_audience",
        "TICKCAST_AUTH_JWT_AUDIENCE",
        "auth-jwt-audience",
        "NAMES",
        "One of these must be in a JWT's `aud`; none = not looked at",
        auth.jwt_audience,
        words,
        |v: &[String]| show_list(v)
    ),
    key!(
        "auth.jwt_issuer",
        "TICKCAST_AUTH_JWT_ISSUER",
        "auth-jwt-issuer",
        "NAMES",
        "One of these must be a JWT's `iss`; none = not looked at",
        auth.jwt_issuer,
        words,
        |v: &[String]| show_list(v)
    ),
    key!(
        "auth.jwt_leeway",
        "TICKCAST_AUTH_JWT_LEEWAY",
        "auth-jwt-leeway",
        "DURATION",
        "How far clocks may differ when a JWT's `exp` and `nbf` are looked at",
        auth.jwt_leeway,
        |raw| value::seconds(raw, 0.0, HOUR),
        seconds
    ),
    key!(
        "auth.jwt_channels_claim",
        "TICKCAST_AUTH_JWT_CHANNELS_CLAIM",
        "auth-jwt-channels-claim",
        "NAME",
        "Claim with the channels a JWT may receive; a JWT without it may receive all",
        auth.jwt_channels_claim,
        word,
        quoted
    ),
    key!(
        "auth.jwt_publish_claim",
        "TICKCAST_AUTH_JWT_PUBLISH_CLAIM",
        "auth-jwt-publish-claim",
        "NAME",
        "Claim with the channels a JWT may publish on; a JWT without it may publish on none",
        auth.jwt_publish_claim,
        word,
        quoted
    ),
];
