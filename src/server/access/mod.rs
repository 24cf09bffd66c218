//! Who may do what: decided once for each request, before it is looked at any further.
//!
//! A browser says which page asks (`Origin`), and pages from elsewhere are refused, token or not: the
//! browser may hold what opens this server, a cookie of a proxy or just its place in the network. Then each
//! endpoint has a gate: open, shut, or for those with a token, which is one of a list or a JWT.
//!
//! Nothing here waits, logs or keeps a token. Where nothing is configured nothing is computed.

mod jwt;
mod key;
mod origin;
mod subprotocol;
mod token;

use hyper::header::{self, HeaderMap, HeaderValue};
use hyper::{Request, StatusCode};
use tokio::time::Instant;

use crate::config::{AuthConfig, Publishing};
use jwt::Jwt;
pub use key::PublicKey;
pub use origin::AllowedOrigin;
use origin::Origins;
pub(super) use subprotocol::select as select_subprotocol;
use token::{Patterns, Tokens};

/// What a request is about to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wanted<'a> {
    /// See what is no secret: the page, whether the server is alive.
    Nothing,
    /// Receive the messages of a channel.
    Receive(&'a str),
    /// Publish on a channel.
    Publish(&'a str),
    /// See the figures of channels and of the server.
    Stats,
    /// See the metrics.
    Metrics,
}

/// What somebody who was let in may do.
#[derive(Clone, Debug, Default)]
pub(super) struct Grant {
    /// The channels it may know of; `None` is all.
    channels: Option<Patterns>,
    /// When a session that it let in has to end.
    pub(super) expires: Option<Instant>,
}

impl Grant {
    /// Whether the channel may be known of.
    pub(super) fn covers(&self, channel: &str) -> bool {
        self.channels.as_ref().is_none_or(|patterns| patterns.cover(channel))
    }
}

/// Why somebody was not let in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Denial {
    /// The label under which it is counted.
    pub(super) label: &'static str,
    pub(super) status: StatusCode,
    pub(super) reason: String,
    /// What `WWW-Authenticate` says.
    pub(super) challenge: Option<HeaderValue>,
}

/// Who gets through to an endpoint.
#[derive(Debug)]
enum Gate {
    Open,
    Shut,
    /// Those with one of the tokens; with a JWT too, if that is so.
    Tokens(Tokens, bool),
}

/// All gates.
#[derive(Debug)]
pub(super) struct Access {
    origins: Origins,
    jwt: Jwt,
    receive: Gate,
    publish: Gate,
    stats: Gate,
    metrics: Gate,
}

impl Access {
    /// `publishing` is that of `auth` where the server listens.
    pub(super) fn new(auth: &AuthConfig, publishing: Publishing) -> Self {
        let jwt = auth.has_jwt();
        let gate = |secrets: &[_], jwt: bool| match Tokens::new(secrets) {
            tokens if tokens.is_empty() && !jwt => Gate::Open,
            tokens => Gate::Tokens(tokens, jwt),
        };
        let publish = match publishing {
            Publishing::Everybody => Gate::Open,
            Publishing::WithToken => gate(&auth.publish_tokens, jwt),
            Publishing::Off => Gate::Shut,
        };
        let stats = match auth.stats_tokens.is_empty() {
            true => gate(&auth.tokens, jwt),
            false => gate(&auth.stats_tokens, false),
        };
        Self {
            origins: Origins::new(&auth.allowed_origins),
            jwt: Jwt::new(auth),
            receive: gate(&auth.tokens, jwt),
            publish,
            stats,
            metrics: gate(&auth.metrics_tokens, false),
        }
    }

    /// Decides about one request.
    ///
    /// # Errors
    /// The answer to who is not let in.
    pub(super) fn decide<B>(&self, wanted: Wanted<'_>, request: &Request<B>) -> Result<Grant, Denial> {
        let gate = match wanted {
            Wanted::Nothing => return Ok(Grant::default()),
            Wanted::Receive(_) => &self.receive,
            Wanted::Publish(_) => &self.publish,
            Wanted::Stats => &self.stats,
            Wanted::Metrics => &self.metrics,
        };
        if !self.origins.admit(request) {
            return Err(foreign());
        }
        match gate {
            Gate::Open => Ok(Grant::default()),
            Gate::Shut => Err(shut()),
            Gate::Tokens(tokens, jwt) => {
                let token = token::of(request).ok_or_else(missing)?;
                match tokens.contain(&token) {
                    true => Ok(Grant::default()),
                    false if *jwt => self.admit_jwt(wanted, &token),
                    false => Err(invalid("the token is not one of those that open this")),
                }
            }
        }
    }

    fn admit_jwt(&self, wanted: Wanted<'_>, token: &[u8]) -> Result<Grant, Denial> {
        let claims = self.jwt.check(token).map_err(invalid)?;
        let (channel, lets, verb, claim) = match wanted {
            Wanted::Receive(channel) => (channel, claims.receives(channel), "receive", self.jwt.channels_claim()),
            Wanted::Publish(channel) => (channel, claims.publishes(channel), "publish on", self.jwt.publish_claim()),
            _ => ("", true, "", ""),
        };
        match lets {
            true => Ok(Grant { channels: claims.channels, expires: claims.expires }),
            false => Err(not_covered(channel, verb, claim)),
        }
    }

    /// What a page from elsewhere has to be told so that its browser shows it the answer; only for pages
    /// that are allowed by name.
    pub(super) fn shared_with(&self, headers: &HeaderMap) -> Option<HeaderValue> {
        self.origins.shared_with(headers)
    }
}

/// Lets the browser show an answer to the page that asked for it.
pub(super) fn share(headers: &mut HeaderMap, origin: HeaderValue) {
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    headers.insert(header::VARY, HeaderValue::from_static("Origin"));
}

fn foreign() -> Denial {
    Denial {
        label: "origin",
        status: StatusCode::FORBIDDEN,
        reason: "pages from this origin may not use this server: auth.allowed_origins lists those that may, besides \
                 pages from the host that the request names in `Host`"
            .to_owned(),
        challenge: None,
    }
}

fn shut() -> Denial {
    Denial {
        label: "token",
        status: StatusCode::FORBIDDEN,
        reason: "publishing is off: the server listens for other machines and has no token for publishing; set \
                 auth.publish_tokens, or auth.open_publishing = true to let everybody publish"
            .to_owned(),
        challenge: None,
    }
}

fn missing() -> Denial {
    Denial {
        label: "token",
        status: StatusCode::UNAUTHORIZED,
        reason: "a token is required: send `Authorization: Bearer TOKEN`, `?token=TOKEN` or, for a WebSocket, the \
                 subprotocol `bearer.TOKEN`"
            .to_owned(),
        challenge: Some(HeaderValue::from_static("Bearer realm=\"tickcast\"")),
    }
}

fn invalid(reason: &'static str) -> Denial {
    let challenge = format!("Bearer realm=\"tickcast\", error=\"invalid_token\", error_description=\"{reason}\"");
    Denial {
        label: "token",
        status: StatusCode::UNAUTHORIZED,
        reason: reason.to_owned(),
        challenge: HeaderValue::try_from(challenge).ok(),
    }
}

fn not_covered(channel: &str, verb: &str, claim: &str) -> Denial {
    Denial {
        label: "channel",
        status: StatusCode::FORBIDDEN,
        reason: format!("the token may not {verb} {channel:?}: its claim {claim:?} does not list that channel"),
        challenge: Some(HeaderValue::from_static("Bearer realm=\"tickcast\", error=\"insufficient_scope\"")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn access_at(is_local: bool, change: impl FnOnce(&mut AuthConfig)) -> Access {
        let mut auth = AuthConfig::default();
        change(&mut auth);
        Access::new(&auth, auth.publishing(is_local))
    }

    fn access(change: impl FnOnce(&mut AuthConfig)) -> Access {
        access_at(true, change)
    }

    fn status(access: &Access, wanted: Wanted<'_>, uri: &str) -> u16 {
        let request = Request::get(uri).body(()).expect("a request");
        access.decide(wanted, &request).map_or_else(|denial| denial.status.as_u16(), |_| 200)
    }

    const ALL: [Wanted<'static>; 5] =
        [Wanted::Nothing, Wanted::Receive("a"), Wanted::Publish("a"), Wanted::Stats, Wanted::Metrics];

    #[test]
    fn each_gate_has_its_tokens() {
        let statuses = |access: &Access, uri| ALL.map(|wanted| status(access, wanted, uri));
        let open = access(|_| {});
        assert_eq!(statuses(&open, "/"), [200; 5]);
        let received = access(|auth| auth.tokens = vec!["r".into()]);
        assert_eq!(statuses(&received, "/"), [200, 401, 200, 401, 200]);
        assert_eq!(statuses(&received, "/?token=r"), [200; 5]);
        assert_eq!(statuses(&received, "/?token=x"), [200, 401, 200, 401, 200]);
        let all = access(|auth| {
            auth.tokens = vec!["r".into()];
            auth.publish_tokens = vec!["p".into()];
            auth.stats_tokens = vec!["s".into()];
            auth.metrics_tokens = vec!["m".into()];
            auth.open_publishing = true;
        });
        assert_eq!(statuses(&all, "/?token=r"), [200, 200, 401, 401, 401]);
        assert_eq!(statuses(&all, "/?token=p"), [200, 401, 200, 401, 401]);
        assert_eq!(statuses(&all, "/?token=s"), [200, 401, 401, 200, 401]);
        assert_eq!(statuses(&all, "/?token=m"), [200, 401, 401, 401, 200]);
        let signed = access(|auth| auth.jwt_secret = vec!["secret".into()]);
        assert_eq!(statuses(&signed, "/"), [200, 401, 401, 401, 200]);
    }

    #[test]
    fn publishing_is_off_where_others_reach_it() {
        let publish = |access: &Access, uri| status(access, Wanted::Publish("a"), uri);
        assert_eq!(publish(&access_at(false, |_| {}), "/"), 403);
        assert_eq!(publish(&access_at(false, |auth| auth.open_publishing = true), "/"), 200);
        let with_token = access_at(false, |auth| auth.publish_tokens = vec!["p".into()]);
        assert_eq!((publish(&with_token, "/"), publish(&with_token, "/?token=p")), (401, 200));
    }
}
