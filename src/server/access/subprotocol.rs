//! Subprotocols of a handshake: one may carry the token, one is answered.
//!
//! A browser lets a page set nothing else in a handshake but these and the URL. It gives the connection up
//! when it has offered some and the server selects none, so one is selected. Which one is the publisher's
//! and its clients' affair, as the messages are; the token is only repeated if there is nothing else.

use hyper::header::{HeaderMap, HeaderValue, SEC_WEBSOCKET_PROTOCOL};

const BEARER: &str = "bearer.";
/// Preferred, wherever it stands.
const OWN: &str = "tickcast";

fn offered(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    let values = headers.get_all(SEC_WEBSOCKET_PROTOCOL).into_iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).map(str::trim).filter(|name| !name.is_empty())
}

/// The token among the subprotocols.
pub(super) fn token(headers: &HeaderMap) -> Option<&str> {
    offered(headers).find_map(|name| name.strip_prefix(BEARER))
}

/// The subprotocol to answer with; `None` if none was offered.
pub(in crate::server) fn select(headers: &HeaderMap) -> Option<HeaderValue> {
    let rank = |name: &&str| (*name != OWN, name.starts_with(BEARER));
    // The first of the best.
    HeaderValue::from_str(offered(headers).min_by_key(rank)?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_token_is_repeated_only_if_it_is_all_there_is() {
        for (offered, token_in, selected) in [
            (vec![], None, None),
            (vec![""], None, None),
            (vec!["tickcast, bearer.x"], Some("x"), Some("tickcast")),
            (vec!["bearer.x", "other,tickcast"], Some("x"), Some("tickcast")),
            (vec!["bearer.x, other", "third"], Some("x"), Some("other")),
            (vec!["bearer.x"], Some("x"), Some("bearer.x")),
            (vec!["a,b"], None, Some("a")),
        ] {
            let mut headers = HeaderMap::new();
            for value in &offered {
                headers.append(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(value));
            }
            assert_eq!(token(&headers), token_in, "{offered:?}");
            assert_eq!(
                select(&headers).as_ref().map(HeaderValue::as_bytes),
                selected.map(str::as_bytes),
                "{offered:?}"
            );
        }
    }
}
