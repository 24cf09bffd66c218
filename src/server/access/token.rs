//! Tokens: where a request has its own, and whether it is one of a list.

use std::borrow::Cow;

use hyper::Request;
use hyper::header;
use percent_encoding::percent_decode_str;
use ring::digest::{SHA256, SHA256_OUTPUT_LEN, digest};
use subtle::{Choice, ConstantTimeEq};

use super::subprotocol;
use crate::config::Secret;

type Hash = [u8; SHA256_OUTPUT_LEN];

/// The tokens that open a gate, as hashes: how long a comparison takes says nothing about any of them,
/// their lengths included.
#[derive(Debug)]
pub(super) struct Tokens(Vec<Hash>);

impl Tokens {
    pub(super) fn new(secrets: &[Secret]) -> Self {
        Self(secrets.iter().map(|secret| hash(secret.expose().as_bytes())).collect())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Compares with every one, whichever is found.
    pub(super) fn contain(&self, token: &[u8]) -> bool {
        let token = hash(token);
        let found = self.0.iter().fold(Choice::from(0), |found, one| found | one.as_slice().ct_eq(&token));
        found.into()
    }
}

fn hash(text: &[u8]) -> Hash {
    let mut hash = [0; SHA256_OUTPUT_LEN];
    hash.copy_from_slice(digest(&SHA256, text).as_ref());
    hash
}

/// The token of a request: in `Authorization`, else as a subprotocol, else in the query.
pub(super) fn of<B>(request: &Request<B>) -> Option<Cow<'_, [u8]>> {
    let authorization = request.headers().get_all(header::AUTHORIZATION);
    let bearer = authorization.iter().find_map(|value| match value.as_bytes().split_at_checked(7) {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case(b"bearer ") => Some(token.trim_ascii()),
        // A proxy's own, perhaps.
        _ => None,
    });
    let token = bearer.or_else(|| subprotocol::token(request.headers()).map(str::as_bytes)).map(Cow::Borrowed);
    let query = || {
        let pairs = request.uri().query()?.split('&');
        let text = pairs.filter_map(|pair| pair.strip_prefix("token=")).next()?;
        Some(percent_decode_str(text).into())
    };
    token.or_else(query).filter(|token| !token.is_empty())
}

/// The channels that a claim lists: names, or beginnings of names followed by `*`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Patterns(Vec<String>);

impl Patterns {
    /// Reads a claim: an array of texts, or a text with spaces between them. What is neither lists nothing.
    pub(super) fn read(claim: &serde_json::Value) -> Self {
        let texts: Vec<&str> = match claim {
            serde_json::Value::String(text) => text.split_whitespace().collect(),
            serde_json::Value::Array(items) => items.iter().filter_map(serde_json::Value::as_str).collect(),
            _ => Vec::new(),
        };
        Self(texts.into_iter().map(str::to_owned).collect())
    }

    pub(super) fn cover(&self, channel: &str) -> bool {
        self.0.iter().any(|pattern| match pattern.strip_suffix('*') {
            Some(beginning) => channel.starts_with(beginning),
            None => pattern == channel,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn found(uri: &str, headers: &[(&str, &str)]) -> Option<String> {
        let request = headers.iter().fold(Request::get(uri), |request, (name, value)| request.header(*name, *value));
        let request = request.body(()).expect("a request");
        of(&request).map(|token| String::from_utf8(token.into_owned()).expect("UTF-8"))
    }

    #[test]
    fn a_token_stands_in_one_of_three_places() {
        let bearer = ("authorization", "Bearer one");
        let subprotocol = ("sec-websocket-protocol", "tickcast, bearer.two");
        assert_eq!(found("/?token=three", &[bearer, subprotocol]).as_deref(), Some("one"));
        assert_eq!(found("/?token=three", &[subprotocol]).as_deref(), Some("two"));
        assert_eq!(found("/?a=b&token=th%2Bre+e&token=x", &[]).as_deref(), Some("th+re+e"));
        assert_eq!(found("/", &[("authorization", "bEARER  one ")]).as_deref(), Some("one"));
        assert_eq!(found("/?token=three", &[("authorization", "Basic eDp5")]).as_deref(), Some("three"));
        for uri in ["/", "/?token", "/?token=", "/?mytoken=x"] {
            assert_eq!(found(uri, &[("authorization", "Bearer")]), None, "{uri}");
        }
    }

    #[test]
    fn a_list_has_its_tokens_and_no_others() {
        let tokens = Tokens::new(&["one".into(), "two".into()]);
        assert!(tokens.contain(b"one") && tokens.contain(b"two"));
        for other in [b"".as_slice(), b"on", b"one ", b"One", b"onetwo", b"one,two"] {
            assert!(!tokens.contain(other));
        }
        assert!(!format!("{tokens:?}").contains("one"));
    }

    #[test]
    fn patterns_are_names_and_beginnings() {
        for (claim, covered, others) in [
            (json!(["market", "fx.*"]), vec!["market", "fx.eurusd", "fx."], vec!["fx", "market2", "Market", "f"]),
            (json!("market fx.*"), vec!["market", "fx.a"], vec!["market fx.*"]),
            (json!("*"), vec!["market", "a"], vec![]),
            (json!([]), vec![], vec!["market", ""]),
            (json!(null), vec![], vec!["market"]),
            (json!(["a*b", 1, {"market": true}]), vec![], vec!["acb", "1", "market"]),
            (json!({"market": true}), vec![], vec!["market"]),
        ] {
            let patterns = Patterns::read(&claim);
            assert!(covered.iter().all(|name| patterns.cover(name)), "{claim}");
            assert!(!others.iter().any(|name| patterns.cover(name)), "{claim}");
        }
    }
}
