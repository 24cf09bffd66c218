//! From an accepted connection to requests answered or a WebSocket session.

use std::convert::Infallible;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{self, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode, Version};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::watch;
use tokio::time::Instant;

use super::access::select_subprotocol;
use super::admission::{Refusal, Telling, Ticket};
use super::patience::Patience;
use super::routes::{self, Reply, error};
use super::seat::{Seat, Seats};
use super::session::{Arrival, Connection};
use super::writer::{Entrance, Phase};
use super::{Accept, Context};
use crate::fanout::{Channel, Membership};
use crate::metrics::Gauge;

/// Largest request head, and piece of a body read at a time.
const HTTP_BUFFER: usize = 16 << 10;
/// Lines a request head may have.
const MAX_HEADERS: usize = 100;
/// A request refused before its body was read: how long, and how much of it, is still read so that
/// the client gets to see the answer instead of a reset.
const LINGER: Duration = Duration::from_secs(2);
const LINGER_BYTES: u64 = 64 << 20;

/// How long a request may be on its way when the server begins to drain.
const LAST_CALL: Duration = Duration::from_millis(500);
/// How soon it is looked again whether an answer under way when the server began to drain is done.
const LOOK_AGAIN: Duration = Duration::from_millis(20);
/// How long somebody who is not let in may take to hear why.
const TURN_AWAY: Duration = Duration::from_secs(2);

/// One connection, before it is a session.
#[derive(Debug)]
pub(super) struct Guest {
    pub(super) ticket: Ticket,
    /// Requests that are being answered.
    answering: Gauge,
    /// Where it will sit if it is answered with 101, and until when. One request of a connection is
    /// the last.
    seat: OnceLock<(Seat, Membership, Option<Instant>)>,
}

/// Waits until the peer says something, then serves it. When thousands connect at once, only those
/// that are being answered have buffers, and little is left behind when all are sessions.
pub(super) async fn begin<L: Accept>(
    incoming: L::Incoming,
    ticket: Ticket,
    context: Arc<Context>,
    entrances: Arc<[Arc<Entrance<L::Stream>>]>,
    mut phase: watch::Receiver<Phase>,
) {
    let deadline = Instant::now() + context.config.handshake_timeout;
    let opened = L::open(incoming);
    tokio::pin!(opened);
    let opened = tokio::select! {
        biased;
        opened = &mut opened => opened,
        () = tokio::time::sleep_until(deadline) => return,
        _ = phase.changed() => {
            phase.mark_changed();
            match tokio::time::timeout(LAST_CALL, opened).await {
                Ok(opened) => opened,
                Err(_) => return,
            }
        }
    };
    match opened {
        Ok((stream, client)) => match client.map_or(Ok(()), |client| ticket.set_client(client.ip())) {
            Ok(()) => Box::pin(serve(stream, ticket, deadline, context, entrances, phase)).await,
            Err(refusal) => tell(stream, refusal).await,
        },
        Err(error) => tracing::debug!(peer = %ticket.client(), "connection ended before its request: {error}"),
    }
}

/// Tells somebody who is not let in why, without reading what they ask for.
pub(super) async fn turn_away<L: Accept>(incoming: L::Incoming, refusal: Refusal, _telling: Telling) {
    let told = async {
        if let Ok((stream, _)) = L::open(incoming).await {
            tell(stream, refusal).await;
        }
    };
    // Who takes longer goes without.
    let _ = tokio::time::timeout(TURN_AWAY, told).await;
}

async fn tell(mut io: impl Connection, refusal: Refusal) {
    let body = format!("{}\n", serde_json::json!({ "error": refusal.text() }));
    let (status, length, wait) = (refusal.status(), body.len(), refusal.retry_after().as_secs());
    let answer = format!(
        "HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\
         retry-after: {wait}\r\nconnection: close\r\n\r\n{body}"
    );
    let told = async {
        io.write_all(answer.as_bytes()).await?;
        io.shutdown().await?;
        // The request, which would otherwise turn the answer into a reset.
        tokio::io::copy(&mut io.take(HTTP_BUFFER as u64), &mut tokio::io::sink()).await
    };
    // Who does not take it goes without.
    let _ = tokio::time::timeout(TURN_AWAY, told).await;
}

/// Serves one connection until it ends or becomes a session of one of `entrances`; the first request's
/// head must be there by `deadline`.
///
/// Everything here is gone once a session begins: hyper's buffers, the timer and this task.
async fn serve<S: Connection>(
    io: S,
    ticket: Ticket,
    deadline: Instant,
    context: Arc<Context>,
    entrances: Arc<[Arc<Entrance<S>>]>,
    mut phase: watch::Receiver<Phase>,
) {
    let guest = Arc::new(Guest { ticket, answering: Gauge::default(), seat: OnceLock::new() });
    let service = {
        let (context, guest) = (Arc::clone(&context), Arc::clone(&guest));
        service_fn(move |request| {
            guest.ticket.arrive();
            guest.answering.up();
            let answer = routes::answer(request, Arc::clone(&context), Arc::clone(&guest));
            let guest = Arc::clone(&guest);
            Box::pin(async move {
                let answer = answer.await;
                guest.answering.down();
                answer
            })
        })
    };
    let mut connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(context.config.handshake_timeout)
        .max_buf_size(HTTP_BUFFER)
        .max_headers(MAX_HEADERS)
        // Who has said everything may stop sending and still gets the answer.
        .half_close(true)
        .serve_connection(TokioIo::new(Patience::new(io, context.config.handshake_timeout)), service);
    let (mut drains, mut judged) = (false, false);
    let overdue = tokio::time::sleep_until(deadline);
    tokio::pin!(overdue);
    let ended = loop {
        tokio::select! {
            ended = std::future::poll_fn(|cx| connection.poll_without_shutdown(cx)) => break ended,
            () = &mut overdue, if !judged => {
                if !guest.ticket.has_arrived() {
                    break Ok(());
                }
                judged = !drains || guest.answering.get() == 0;
                if !judged {
                    // hyper would add `Connection: close` to a 101; any other answer has it by now.
                    overdue.as_mut().reset(Instant::now() + LOOK_AGAIN);
                } else if drains {
                    std::pin::Pin::new(&mut connection).graceful_shutdown();
                }
            }
            _ = phase.changed(), if !drains => {
                (drains, judged) = (true, false);
                // Without a request yet, hyper would close it at once.
                let grace = if guest.ticket.has_arrived() { Duration::ZERO } else { LAST_CALL };
                overdue.as_mut().reset(Instant::now() + grace);
            }
        }
    };
    let sound = ended.is_ok();
    if let Err(error) = ended {
        tracing::debug!(client = %guest.ticket.client(), "connection ended: {error}");
    }
    let parts = connection.into_parts();
    let mut io = parts.io.into_inner().into_inner();
    // The service held the other reference.
    drop(parts.service);
    // Nobody else has it. Without a seat, the ticket is kept until the connection has lingered.
    let Some(Guest { ticket, seat, .. }) = Arc::into_inner(guest) else { return };
    // If it failed, the answer to the handshake may have gone out in part.
    match seat.into_inner().filter(|_| sound) {
        Some((seat, membership, expires)) => {
            // A copy, usually empty: the original would keep hyper's whole buffer.
            let received = Bytes::copy_from_slice(&parts.read_buf);
            entrances[seat.index()].admit(Arrival { io, received, seat, membership, ticket, expires });
        }
        None => {
            // Whatever fails here, the peer is gone. TLS says goodbye, and waits until that is taken.
            let _ = tokio::time::timeout(LINGER, io.shutdown()).await;
            if !drains {
                let mut rest = io.take(LINGER_BYTES);
                let _ = tokio::time::timeout(LINGER, tokio::io::copy(&mut rest, &mut tokio::io::sink())).await;
            }
            drop(ticket);
        }
    }
}

/// Answers a request for a channel's stream (RFC 6455 section 4.2). If it is answered with 101, the
/// connection becomes a session once that answer is sent, until `expires` at the longest.
pub(super) async fn upgrade(
    mut request: Request<Incoming>,
    channel: &Channel,
    context: &Context,
    guest: &Guest,
    expires: Option<Instant>,
) -> Reply {
    let subprotocol = select_subprotocol(request.headers());
    let response = check(&request).and_then(|()| {
        fastwebsockets::upgrade::upgrade(&mut request)
            .map_err(|error| (StatusCode::BAD_REQUEST, format!("bad handshake: {error}")))
    });
    let seated = match response {
        Ok((response, _)) => match Seats::take(&context.seats, channel).await {
            Some(seat) => Ok((response, seat)),
            None => Err((StatusCode::SERVICE_UNAVAILABLE, "too many connections".to_owned())),
        },
        Err(refusal) => Err(refusal),
    };
    match seated {
        Ok((response, (seat, membership))) => {
            // Nobody else sets it: after 101 hyper hands the socket back.
            let _ = guest.seat.set((seat, membership, expires));
            let (mut head, _) = response.into_parts();
            head.headers.extend(subprotocol.map(|name| (header::SEC_WEBSOCKET_PROTOCOL, name)));
            Response::from_parts(head, Full::new(Bytes::new()))
        }
        Err((status, reason)) => {
            let mut reply = error(status, &reason);
            if status == StatusCode::UPGRADE_REQUIRED {
                let headers = reply.headers_mut();
                headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
                headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
                headers.insert(header::SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
            }
            reply
        }
    }
}

/// Checks the client's opening handshake (RFC 6455 section 4.2.1).
fn check(request: &Request<Incoming>) -> Result<(), (StatusCode, String)> {
    let bad = |reason: &str| Err((StatusCode::BAD_REQUEST, format!("bad handshake: {reason}")));
    let headers = request.headers();
    if !hyper::body::Body::is_end_stream(request.body()) {
        return bad("a handshake has no body");
    }
    let has_token = |name: header::HeaderName, token: &str| {
        headers
            .get_all(name)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .any(|value| value.split(',').any(|part| part.trim().eq_ignore_ascii_case(token)))
    };
    if !has_token(header::UPGRADE, "websocket") {
        let reason = "this is a WebSocket endpoint: send `Upgrade: websocket`";
        return Err((StatusCode::UPGRADE_REQUIRED, reason.to_owned()));
    }
    if request.method() != Method::GET || request.version() != Version::HTTP_11 {
        return bad("a GET of HTTP/1.1 is required");
    }
    if !has_token(header::CONNECTION, "upgrade") {
        return bad("`Connection` does not list `Upgrade`");
    }
    if headers.get(header::SEC_WEBSOCKET_VERSION).map(HeaderValue::as_bytes) != Some(b"13") {
        let reason = "`Sec-WebSocket-Version: 13` is required";
        return Err((StatusCode::UPGRADE_REQUIRED, reason.to_owned()));
    }
    let mut keys = headers.get_all(header::SEC_WEBSOCKET_KEY).iter();
    let is_key = |key: &HeaderValue| {
        let base64 = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/');
        matches!(key.as_bytes(), [digits @ .., b'=', b'='] if digits.len() == 22 && digits.iter().all(base64))
    };
    match (keys.next(), keys.next()) {
        (Some(key), None) if is_key(key) => Ok(()),
        (None, _) => bad("`Sec-WebSocket-Key` is missing"),
        _ => bad("`Sec-WebSocket-Key` must be 16 bytes in base64, once"),
    }
}

/// A reply that cannot fail: failures are replies too.
pub(super) type Served = Result<Reply, Infallible>;
