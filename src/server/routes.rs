//! Who answers which request, and the answers that are a few lines.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{self, HeaderValue};
use hyper::{Method, Request, Response, StatusCode, Version};
use percent_encoding::percent_decode_str;
use tokio::time::Instant;

use super::access::{self, Denial, Grant, Wanted};
use super::admission::Refusal;
use super::handshake::{self, Guest, Served};
use super::{Context, exposition, page, proxy, publish, stats};
use crate::fanout::{Channel, Kind};

/// A whole answer.
pub(super) type Reply = Response<Full<Bytes>>;

const JSON: &str = "application/json";
const TEXT: &str = "text/plain; charset=utf-8";

/// How long a request for a snapshot that is known to be outdated waits for a fresh one.
const REFRESH: Duration = Duration::from_millis(250);
const LOOK_AGAIN: Duration = Duration::from_millis(2);

/// Answers one request.
pub(super) async fn answer(request: Request<Incoming>, context: Arc<Context>, guest: Arc<Guest>) -> Served {
    if let Some(reply) = object(&request, &context, &guest) {
        return Ok(reply);
    }
    let path = request.uri().path().to_owned();
    let tail = path.strip_prefix('/').unwrap_or("*");
    let (first, rest) = tail.split_once('/').map_or((tail, None), |(first, rest)| (first, Some(rest)));
    let post = first == "publish";
    let known = match rest {
        Some(_) => matches!(first, "ws" | "publish" | "snapshot"),
        None => matches!(first, "" | "healthz" | "readyz" | "metrics" | "stats" | "channels"),
    };
    if !known {
        return Ok(error(StatusCode::NOT_FOUND, &format!("no such path: {path}; the page is at /")));
    }
    let allow = if post { "POST" } else { "GET, HEAD" };
    if !matches!((request.method(), post), (&Method::GET | &Method::HEAD, false) | (&Method::POST, true)) {
        let reason = format!("method {} is not allowed here: use {allow}", request.method());
        let mut reply = error(StatusCode::METHOD_NOT_ALLOWED, &reason);
        reply.headers_mut().insert(header::ALLOW, HeaderValue::from_static(allow));
        return Ok(reply);
    }
    let head = request.method() == Method::HEAD;
    // A name that is not UTF-8 names no channel, decoded or not.
    let rest = rest.map(|name| percent_decode_str(name).decode_utf8_lossy().into_owned());
    let rest = rest.as_deref();
    let wanted = match (first, rest) {
        ("ws" | "snapshot", Some(name)) => Wanted::Receive(name),
        ("publish", Some(name)) => Wanted::Publish(name),
        ("stats" | "channels", None) => Wanted::Stats,
        ("metrics", None) => Wanted::Metrics,
        _ => Wanted::Nothing,
    };
    let shared = context.access.shared_with(request.headers()).filter(|_| !post);
    let mut reply = match context.access.decide(wanted, &request) {
        Ok(grant) => dispatch(request, (first, rest), &grant, &context, &guest).await,
        Err(denial) => deny(denial, &context, &guest),
    };
    if let Some(origin) = shared {
        access::share(reply.headers_mut(), origin);
    }
    if context.is_draining() && reply.status() != StatusCode::SWITCHING_PROTOCOLS {
        reply.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    if head {
        // The length is that of the answer to GET (RFC 9110 section 9.3.2).
        let length = hyper::body::Body::size_hint(reply.body()).exact().unwrap_or(0);
        reply.headers_mut().insert(header::CONTENT_LENGTH, length.into());
        *reply.body_mut() = Full::default();
    }
    Ok(reply)
}

/// Answers a request that may be made.
async fn dispatch(
    request: Request<Incoming>,
    target: (&str, Option<&str>),
    grant: &Grant,
    context: &Context,
    guest: &Guest,
) -> Reply {
    match target {
        ("publish", Some(name)) => publish::answer(request, context, name).await,
        ("ws", Some(name)) => match context.hub.get(name) {
            Some(_) if context.is_closed_to_clients() => draining(),
            Some(channel) => handshake::upgrade(request, &channel, context, guest, grant.expires).await,
            None => no_channel(name),
        },
        ("snapshot", Some(name)) => match context.hub.get(name) {
            Some(channel) => snapshot(&channel).await,
            None => no_channel(name),
        },
        ("metrics", None) => reply(StatusCode::OK, exposition::CONTENT_TYPE, exposition::render(&context.hub)),
        ("stats", None) => reply(StatusCode::OK, JSON, stats::stats(context, grant)),
        ("channels", None) => reply(StatusCode::OK, JSON, stats::channels(context, grant)),
        ("healthz", None) => reply(StatusCode::OK, TEXT, "ok\n"),
        ("readyz", None) => ready(context),
        _ => page::answer(),
    }
}

/// Tells somebody who was not let in why, and counts that.
fn deny(denial: Denial, context: &Context, guest: &Guest) -> Reply {
    tracing::debug!(client = %guest.ticket.client(), "refused: {}", denial.reason);
    context.hub.metrics().refused.add(denial.label);
    let mut reply = error(denial.status, &denial.reason);
    if let Some(challenge) = denial.challenge {
        reply.headers_mut().insert(header::WWW_AUTHENTICATE, challenge);
    }
    reply
}

/// What no request may lack: a client that may have one more connection, and one host that it names
/// (RFC 9112 section 3.2).
fn object(request: &Request<Incoming>, context: &Context, guest: &Guest) -> Option<Reply> {
    if guest.ticket.is_of_proxy()
        && let Some(client) = proxy::forwarded_for(request.headers(), &context.config.limits)
        && let Err(refusal) = guest.ticket.speak_for(client)
    {
        return Some(refused(refusal));
    }
    let hosts = request.headers().get_all(header::HOST).iter().count();
    match (request.version(), hosts) {
        (_, 1) | (Version::HTTP_10, 0) => None,
        _ => Some(error(StatusCode::BAD_REQUEST, "bad request: `Host` is required, once")),
    }
}

/// The answer to what is over a limit.
pub(super) fn refused(refusal: Refusal) -> Reply {
    let mut reply = error(refusal.status(), refusal.text());
    retry_after(&mut reply, refusal);
    reply
}

/// Says when it is worth trying again.
pub(super) fn retry_after(reply: &mut Reply, refusal: Refusal) {
    reply.headers_mut().insert(header::RETRY_AFTER, refusal.retry_after().as_secs().into());
}

/// A whole answer.
pub(super) fn reply(status: StatusCode, content_type: &'static str, body: impl Into<Bytes>) -> Reply {
    let mut reply = Response::new(Full::new(body.into()));
    *reply.status_mut() = status;
    let headers = reply.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    reply
}

/// A JSON answer.
pub(super) fn json(status: StatusCode, body: &serde_json::Value) -> Reply {
    reply(status, JSON, format!("{body}\n"))
}

/// An answer that says what is wrong.
pub(super) fn error(status: StatusCode, reason: &str) -> Reply {
    json(status, &serde_json::json!({ "error": reason }))
}

fn no_channel(name: &str) -> Reply {
    let reason = format!("no channel {name:?}; /channels lists them, and POST /publish/NAME creates one");
    error(StatusCode::NOT_FOUND, &reason)
}

fn ready(context: &Context) -> Reply {
    if context.is_draining() {
        reply(StatusCode::SERVICE_UNAVAILABLE, TEXT, "shutting down\n")
    } else if !context.is_ready() {
        reply(StatusCode::SERVICE_UNAVAILABLE, TEXT, "the source has not produced a snapshot yet\n")
    } else if let Some(trouble) = context.hub.metrics().source.trouble() {
        reply(StatusCode::SERVICE_UNAVAILABLE, TEXT, format!("{trouble}\n"))
    } else {
        reply(StatusCode::OK, TEXT, "ready\n")
    }
}

/// The answer to what is not begun any more.
pub(super) fn draining() -> Reply {
    error(StatusCode::SERVICE_UNAVAILABLE, "the server is shutting down")
}

/// The last message. If its publisher knows a newer state and only waits for somebody to want it,
/// this does, for a moment: it looks again and again, so that publishing need not tell it.
async fn snapshot(channel: &Channel) -> Reply {
    let deadline = Instant::now() + REFRESH;
    let stale = channel.seq();
    while channel.is_stale() && channel.seq() == stale && Instant::now() < deadline {
        channel.ask();
        tokio::time::sleep(LOOK_AGAIN).await;
    }
    let Some(frame) = channel.last().await else {
        let reason = format!("channel {:?} has no message yet", channel.name());
        return error(StatusCode::NOT_FOUND, &reason);
    };
    let payload = frame.payload();
    let content_type = match (frame.kind(), payload.trim_ascii_start().first()) {
        (Kind::Binary, _) => "application/octet-stream",
        (Kind::Text, Some(b'{' | b'[')) => JSON,
        (Kind::Text, _) => TEXT,
    };
    reply(StatusCode::OK, content_type, payload)
}
