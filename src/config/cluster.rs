//! `[cluster]`: many machines, with NATS between them.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use async_nats::ServerAddr;

use super::keys::{HOUR, key, quoted, seconds};
use super::secret::HIDDEN;
use super::value::{Expected, Raw, show_list};
use super::{Key, Secret, secret, value};

/// Which servers carry the messages, and this node's part. Without a URL there is no cluster.
#[derive(Clone, Debug, PartialEq)]
pub struct ClusterConfig {
    /// NATS servers, any of which will do.
    pub url: Vec<NatsUrl>,
    /// What the subjects begin with: messages of a channel go to `SUBJECT.CHANNEL`.
    pub subject: String,
    /// This node's part.
    pub role: Role,
    /// What the node calls itself; empty = host name and process number.
    pub name: String,
    /// File with a NATS JWT and its key (`.creds`).
    pub credentials: Option<PathBuf>,
    /// User name, together with `password`.
    pub user: String,
    /// Password, together with `user`.
    pub password: Vec<Secret>,
    /// Token, instead of a user.
    pub token: Vec<Secret>,
    /// PEM file with roots to trust, instead of the system's.
    pub ca: Option<PathBuf>,
    /// PEM file with this node's certificate, if the servers ask for one.
    pub cert: Option<PathBuf>,
    /// PEM file with its key.
    pub key: Option<PathBuf>,
    /// How long an origin that has fallen silent keeps the other one waiting.
    pub lease: Duration,
    /// How many servers keep each last message and the lease.
    pub replicas: usize,
    /// How long somebody who publishes waits for an active origin.
    pub publish_timeout: Duration,
}

/// What a node of a cluster does. Both serve clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Runs the source; one origin at a time numbers and publishes.
    Origin,
    /// Serves what an origin publishes.
    Edge,
}

/// Where a NATS server is. What it prints has no password.
#[derive(Clone, PartialEq, Eq)]
pub struct NatsUrl(ServerAddr);

impl fmt::Debug for NatsUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl NatsUrl {
    pub(crate) fn address(&self) -> &ServerAddr {
        &self.0
    }

    /// User and password, if it has any.
    pub(crate) fn user(&self) -> Option<(String, String)> {
        let decoded = |text: &str| percent_encoding::percent_decode_str(text).decode_utf8_lossy().into_owned();
        Some((decoded(self.0.username()?), decoded(self.0.password().unwrap_or_default())))
    }
}

impl FromStr for NatsUrl {
    type Err = Expected;

    fn from_str(text: &str) -> Result<Self, Expected> {
        let expected = || "nats://HOST:PORT or tls://HOST:PORT".to_owned();
        let address: ServerAddr = text.parse().map_err(|_| expected())?;
        let known = matches!(address.scheme(), "nats" | "tls") && !address.host().is_empty();
        if address.username() == Some(HIDDEN) {
            return Err(format!("the user and password: {HIDDEN} is what check-config shows instead"));
        }
        known.then_some(Self(address)).ok_or_else(expected)
    }
}

impl fmt::Display for NatsUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let who = if self.0.has_user_pass() { format!("{HIDDEN}@") } else { String::new() };
        let host = self.0.host();
        let (open, close) = if host.contains(':') && !host.starts_with('[') { ("[", "]") } else { ("", "") };
        write!(f, "{}://{who}{open}{host}{close}:{}", self.0.scheme(), self.0.port())
    }
}

impl Default for ClusterConfig {
    fn default() -> Self {
        Self {
            url: Vec::new(),
            subject: "tickcast".to_owned(),
            role: Role::Edge,
            name: String::new(),
            credentials: None,
            user: String::new(),
            password: Vec::new(),
            token: Vec::new(),
            ca: None,
            cert: None,
            key: None,
            lease: Duration::from_millis(1_500),
            replicas: 1,
            publish_timeout: Duration::from_secs(2),
        }
    }
}

impl ClusterConfig {
    /// Whether this node is part of a cluster.
    pub fn is_enabled(&self) -> bool {
        !self.url.is_empty()
    }

    /// What does not go together.
    ///
    /// # Errors
    /// Says which keys, and what would be right.
    pub fn check(&self) -> Result<(), String> {
        let wrong = |text: &str| Err(format!("[cluster]: {text}"));
        if self.cert.is_some() != self.key.is_some() {
            return wrong("`cert` and `key` belong together: set both or neither");
        }
        if self.user.is_empty() != self.password.is_empty() {
            return wrong("`user` and `password` belong together: set both or neither");
        }
        let in_url = self.url.iter().any(|url| url.0.has_user_pass());
        let ways = [self.credentials.is_some(), !self.user.is_empty(), !self.token.is_empty(), in_url];
        if ways.iter().filter(|way| **way).count() > 1 {
            return wrong("one of `credentials`, `user`, `token` and a user in `url` says who the node is: set one");
        }
        for path in [&self.credentials, &self.ca, &self.cert, &self.key].into_iter().flatten() {
            std::fs::File::open(path).map_err(|error| format!("[cluster]: cannot read {}: {error}", path.display()))?;
        }
        Ok(())
    }

    /// Whether this node only serves what others publish, and has no use of a source.
    pub fn is_edge(&self) -> bool {
        self.is_enabled() && self.role == Role::Edge
    }
}

/// Tokens of letters, digits, `_` and `-`, with dots between them: a subject without wildcards that can
/// also name a stream when its dots are dashes.
fn subject(raw: Raw<'_>) -> Result<String, Expected> {
    let token =
        |token: &str| !token.is_empty() && token.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-".contains(&b));
    // What another cluster's own subjects end in.
    let taken = |text: &str| ["-publish", "-origin", "-numbers"].iter().any(|end| text.ends_with(end));
    let text = raw.text().filter(|text| text.len() <= 64 && text.split('.').all(token) && !taken(text));
    text.map(str::to_owned).ok_or_else(|| {
        "a subject such as tickcast or prod.tickcast, without wildcards, that does not end in -publish, -origin or -numbers"
            .to_owned()
    })
}

fn text(raw: Raw<'_>) -> Result<String, Expected> {
    let printable = |text: &&str| text.len() <= 128 && text.bytes().all(|byte| byte.is_ascii_graphic());
    raw.text().filter(printable).map(str::to_owned).ok_or_else(|| "printable ASCII without spaces".to_owned())
}

fn one_secret(raw: Raw<'_>) -> Result<Vec<Secret>, Expected> {
    let secrets = secret::secrets(raw)?;
    if secrets.len() > 1 { Err("one secret".to_owned()) } else { Ok(secrets) }
}

fn show_path(path: &Option<PathBuf>) -> String {
    quoted(&path.as_deref().unwrap_or("".as_ref()).display())
}

const ROLES: &[(&str, Role)] = &[("origin", Role::Origin), ("edge", Role::Edge)];

/// A key that holds one secret.
macro_rules! secret {
    ($file:literal, $env:literal, $flag:literal, $help:literal, $($field:ident).+) => {
        Key {
            secret: true,
            ..key!($file, $env, $flag, "SECRET", $help, $($field).+, one_secret, |v: &[Secret]| secret::show(v))
        }
    };
}

/// A key that names a file.
macro_rules! file {
    ($file:literal, $env:literal, $flag:literal, $help:literal, $($field:ident).+) => {
        key!($file, $env, $flag, "FILE", $help, $($field).+, value::path, show_path)
    };
}

pub(super) const KEYS: &[Key] = &[
    key!(
        "cluster.url",
        "TICKCAST_CLUSTER_URL",
        "cluster-url",
        "URLS",
        "NATS servers between the nodes of a cluster: nats://HOST:PORT or tls://…, any of several; empty = no cluster",
        cluster.url,
        |raw| value::list(raw, str::parse),
        |v: &[NatsUrl]| show_list(v)
    ),
    key!(
        "cluster.subject",
        "TICKCAST_CLUSTER_SUBJECT",
        "cluster-subject",
        "SUBJECT",
        "What the cluster's subjects begin with; a channel's messages go to SUBJECT.CHANNEL",
        cluster.subject,
        subject,
        |v: &String| quoted(v)
    ),
    key!(
        "cluster.role",
        "TICKCAST_CLUSTER_ROLE",
        "cluster-role",
        "ROLE",
        "origin = runs the source, one of them at a time publishes; edge = serves what is published",
        cluster.role,
        |raw| value::word(raw, ROLES),
        |v: &Role| quoted(&format!("{v:?}").to_lowercase())
    ),
    key!(
        "cluster.name",
        "TICKCAST_CLUSTER_NAME",
        "cluster-name",
        "NAME",
        "What the node calls itself to the others; empty = host name and process number",
        cluster.name,
        text,
        |v: &String| quoted(v)
    ),
    file!(
        "cluster.credentials",
        "TICKCAST_CLUSTER_CREDENTIALS",
        "cluster-credentials",
        "NATS credentials file (.creds); empty = none",
        cluster.credentials
    ),
    key!(
        "cluster.user",
        "TICKCAST_CLUSTER_USER",
        "cluster-user",
        "NAME",
        "NATS user; empty = none",
        cluster.user,
        text,
        |v: &String| quoted(v)
    ),
    secret!(
        "cluster.password",
        "TICKCAST_CLUSTER_PASSWORD",
        "cluster-password",
        "That user's password, or file:PATH",
        cluster.password
    ),
    secret!(
        "cluster.token",
        "TICKCAST_CLUSTER_TOKEN",
        "cluster-token",
        "NATS token, or file:PATH, where there is no user",
        cluster.token
    ),
    file!(
        "cluster.ca",
        "TICKCAST_CLUSTER_CA",
        "cluster-ca",
        "PEM file with the roots that the NATS servers' certificates come from; empty = the system's",
        cluster.ca
    ),
    file!(
        "cluster.cert",
        "TICKCAST_CLUSTER_CERT",
        "cluster-cert",
        "PEM file with the certificate that this node shows the NATS servers; empty = none",
        cluster.cert
    ),
    file!(
        "cluster.key",
        "TICKCAST_CLUSTER_KEY",
        "cluster-key",
        "PEM file with the private key of that certificate",
        cluster.key
    ),
    key!(
        "cluster.lease",
        "TICKCAST_CLUSTER_LEASE",
        "cluster-lease",
        "DURATION",
        "How long the active origin may be silent before the other one takes over",
        cluster.lease,
        |raw| value::seconds(raw, 0.5, HOUR),
        seconds
    ),
    key!(
        "cluster.replicas",
        "TICKCAST_CLUSTER_REPLICAS",
        "cluster-replicas",
        "N",
        "How many NATS servers keep each channel's last message and the lease",
        cluster.replicas,
        |raw| value::integer(raw, 1, 5).map(|n| n as usize),
        usize::to_string
    ),
    key!(
        "cluster.publish_timeout",
        "TICKCAST_CLUSTER_PUBLISH_TIMEOUT",
        "cluster-publish-timeout",
        "DURATION",
        "How long a publication waits for an active origin to take it",
        cluster.publish_timeout,
        |raw| value::seconds(raw, 0.01, HOUR),
        seconds
    ),
];
