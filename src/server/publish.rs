//! Messages published over HTTP.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::body::{Body, Incoming};
use hyper::{Request, StatusCode, header};
use serde::de::IgnoredAny;
use serde_json::json;
use tokio::time::Instant;

use super::routes::{Reply, error, json as json_reply, retry_after};
use super::{Context, admission};
use crate::cluster::PublishError;
use crate::fanout::{Channel, ChannelError, Message, Published};

/// Longest wait for the writers between two batches of a stream. They never wait for a client, so
/// it only matters if they are gone.
const MAX_PACE: Duration = Duration::from_secs(1);

/// When there may be an active origin again.
const ORIGIN_RETRY: Duration = Duration::from_secs(1);

/// Slowest body that is waited for beyond the patience, in bytes per second.
const MIN_RATE: f64 = 16_384.0;
/// What is reserved for a body because it was announced; more only as it comes.
const FIRST_BUFFER: usize = 64 << 10;

/// Why a publication was refused, and what had gone out before.
#[derive(Debug)]
struct Refusal {
    status: StatusCode,
    reason: String,
    line: Option<u64>,
    /// When it is worth trying again, if it is.
    retry_after: Option<Duration>,
}

impl Refusal {
    fn new(status: StatusCode, reason: impl Into<String>) -> Self {
        Self { status, reason: reason.into(), line: None, retry_after: None }
    }

    fn over(limit: admission::Refusal) -> Self {
        Self { retry_after: Some(limit.retry_after()), ..Self::new(limit.status(), limit.text()) }
    }

    fn at_line(self, line: u64) -> Self {
        Self { line: Some(line), ..self }
    }

    fn reply(self, progress: &Progress) -> Reply {
        let mut reply = match self.line {
            None => error(self.status, &self.reason),
            Some(line) => {
                let body = json!({
                    "error": format!("line {line}: {}", self.reason),
                    "line": line,
                    "published": progress.published,
                    "subscribers": progress.subscribers,
                });
                json_reply(self.status, &body)
            }
        };
        if let Some(after) = self.retry_after {
            retry_after(&mut reply, after);
        }
        reply
    }
}

#[derive(Clone, Copy, Debug)]
enum Format {
    Json,
    Text,
    Binary,
    Lines,
}

/// How far a request has come.
#[derive(Debug, Default)]
struct Progress {
    published: u64,
    subscribers: usize,
}

/// Answers `POST /publish/{name}`.
pub(super) async fn answer(request: Request<Incoming>, context: &Context, name: &str) -> Reply {
    let mut progress = Progress::default();
    match publish(request, context, name, &mut progress).await {
        Ok(()) => {
            let body = json!({ "published": progress.published, "subscribers": progress.subscribers });
            json_reply(StatusCode::OK, &body)
        }
        Err(refusal) => refusal.reply(&progress),
    }
}

async fn publish(
    request: Request<Incoming>,
    context: &Context,
    name: &str,
    progress: &mut Progress,
) -> Result<(), Refusal> {
    let format = format_of(&request)?;
    refuse_if_draining(context)?;
    let limit = context.config.publish.max_body_size;
    if let Format::Lines = format {
        progress.subscribers = context.hub.get(name).map_or(0, |channel| channel.subscribers());
        let mut way = Way::new(context, name);
        let published = lines(request.into_body(), &mut way, limit, progress).await;
        way.arrive().await;
        return published;
    }
    let body = whole(request.into_body(), limit, context.config.handshake_timeout).await?;
    let message = check(format, body)?;
    refuse_if_draining(context)?;
    if context.publications.spend().is_err() {
        return Err(Refusal::over(context.admission.refuse(admission::Refusal::PublishRate)));
    }
    let mut way = Way::new(context, name);
    way.publish(message, progress).await?;
    way.arrive().await;
    Ok(())
}

fn format_of(request: &Request<Incoming>) -> Result<Format, Refusal> {
    let value = request.headers().get(header::CONTENT_TYPE);
    let name = value.and_then(|value| value.to_str().ok()).unwrap_or_default();
    match name.split(';').next().unwrap_or_default().trim().to_ascii_lowercase().as_str() {
        "application/json" => Ok(Format::Json),
        "text/plain" => Ok(Format::Text),
        "application/octet-stream" => Ok(Format::Binary),
        "application/x-ndjson" => Ok(Format::Lines),
        _ => Err(Refusal::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            format!(
                "content type {name:?} is not supported: use application/json, text/plain, \
                 application/octet-stream or application/x-ndjson"
            ),
        )),
    }
}

fn refuse_if_draining(context: &Context) -> Result<(), Refusal> {
    match context.is_draining() {
        true => Err(shutting_down()),
        false => Ok(()),
    }
}

fn shutting_down() -> Refusal {
    Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "the server is shutting down")
}

fn channel(context: &Context, name: &str) -> Result<Channel, Refusal> {
    context.hub.channel(name).map_err(|error| match error {
        ChannelError::InvalidName(_) => Refusal::new(StatusCode::BAD_REQUEST, error.to_string()),
        ChannelError::TooMany(_) => Refusal::over(context.admission.refuse(admission::Refusal::Channels)),
    })
}

fn too_large(limit: usize) -> Refusal {
    Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, format!("a message may have {limit} bytes at most"))
}

/// The whole body, unless it is too large or comes too slowly: `patience` for all of it, and longer
/// only as far as it keeps up [`MIN_RATE`].
async fn whole(mut body: Incoming, limit: usize, patience: Duration) -> Result<Bytes, Refusal> {
    let announced = body.size_hint().lower();
    if announced > limit as u64 {
        return Err(too_large(limit));
    }
    let start = Instant::now();
    let mut whole = BytesMut::with_capacity((announced as usize).min(FIRST_BUFFER));
    loop {
        let deadline = start + patience + Duration::from_secs_f64(whole.len() as f64 / MIN_RATE);
        let piece = tokio::time::timeout_at(deadline, next_piece(&mut body)).await.map_err(|_| {
            let reason =
                format!("only {} bytes of the body came in {:.1} s", whole.len(), start.elapsed().as_secs_f64());
            Refusal::new(StatusCode::REQUEST_TIMEOUT, reason)
        })??;
        match piece {
            None => return Ok(whole.freeze()),
            Some(piece) if whole.len() + piece.len() > limit => return Err(too_large(limit)),
            Some(piece) => whole.extend_from_slice(&piece),
        }
    }
}

async fn next_piece(body: &mut Incoming) -> Result<Option<Bytes>, Refusal> {
    loop {
        match body.frame().await {
            None => return Ok(None),
            Some(Ok(frame)) => {
                if let Ok(piece) = frame.into_data() {
                    return Ok(Some(piece));
                }
            }
            Some(Err(error)) => {
                return Err(Refusal::new(StatusCode::BAD_REQUEST, format!("the body broke off: {error}")));
            }
        }
    }
}

/// Checks that `bytes` are what their type says; they go out as they are.
fn check(format: Format, bytes: Bytes) -> Result<Message, Refusal> {
    let bad = |reason: String| Refusal::new(StatusCode::BAD_REQUEST, reason);
    if let Format::Binary = format {
        return Ok(Message::binary(bytes));
    }
    if let Format::Json | Format::Lines = format {
        // Checked without building anything: no number is converted, no depth is a recursion.
        let text = std::str::from_utf8(&bytes).map_err(|error| bad(format!("not UTF-8: {error}")))?;
        serde_json::from_str::<IgnoredAny>(text).map_err(|error| bad(format!("not JSON: {error}")))?;
    }
    Message::text_from_utf8(bytes).map_err(|error| bad(format!("not UTF-8: {error}")))
}

/// How the messages of one request get to the channel: in this process, or through the cluster.
struct Way<'a> {
    context: &'a Context,
    name: &'a str,
    /// There from the first message, with how many the channel had accepted when the writers were last waited for.
    channel: Option<(Channel, u64)>,
    /// The last number that the cluster has given.
    given: Option<u64>,
}

impl<'a> Way<'a> {
    fn new(context: &'a Context, name: &'a str) -> Self {
        Self { context, name, channel: None, given: None }
    }

    async fn publish(&mut self, message: Message, progress: &mut Progress) -> Result<(), Refusal> {
        if let Some(gateway) = self.context.cluster.get() {
            let given = gateway.publish(self.name, &message).await;
            self.given = Some(given.map_err(|error| not_published(self.context, &error))?);
            progress.subscribers = self.context.hub.get(self.name).map_or(0, |channel| channel.subscribers());
        } else {
            let (channel, _) = match &mut self.channel {
                Some(there) => there,
                None => {
                    let channel = channel(self.context, self.name)?;
                    let accepted = channel.accepted();
                    self.channel.insert((channel, accepted))
                }
            };
            progress.subscribers = send(channel, message).await.subscribers;
        }
        progress.published += 1;
        Ok(())
    }

    /// Waits, for a moment, until what went through the cluster is here: whoever asks next finds it.
    async fn arrive(&self) {
        if let (Some(gateway), Some(given)) = (self.context.cluster.get(), self.given) {
            gateway.arrives(self.name, given).await;
        }
    }

    /// Waits for the writers every so many messages of the channel, those of other requests included. Through
    /// the cluster the answers keep the pace.
    async fn pace(&mut self, burst: u64) {
        let Some((channel, seen)) = &mut self.channel else { return };
        if channel.accepted() - *seen >= burst {
            let _ = tokio::time::timeout(MAX_PACE, channel.offered()).await;
            *seen = channel.accepted();
        }
    }
}

fn not_published(context: &Context, error: &PublishError) -> Refusal {
    let reason = error.to_string();
    match error {
        PublishError::Unavailable(_) => {
            Refusal { retry_after: Some(ORIGIN_RETRY), ..Refusal::new(StatusCode::SERVICE_UNAVAILABLE, reason) }
        }
        PublishError::TooMany(_) => Refusal::over(context.admission.refuse(admission::Refusal::Channels)),
        PublishError::TooLarge(_) => Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, reason),
        PublishError::Refused(_) => Refusal::new(StatusCode::BAD_REQUEST, reason),
    }
}

async fn send(channel: &Channel, message: Message) -> Published {
    loop {
        match channel.publish(message.clone()) {
            Ok(published) => return published,
            Err(_) => tokio::task::yield_now().await,
        }
    }
}

/// Publishes each line as it arrives.
///
/// A stream comes as fast as the network brings it, which is faster than any number of sockets can
/// be written to. Every so many messages of the channel, its own or those of other streams, it waits
/// until the writers have seen them, so that a client loses lines only if its own socket does not
/// take them.
async fn lines(mut body: Incoming, way: &mut Way<'_>, limit: usize, progress: &mut Progress) -> Result<(), Refusal> {
    let context = way.context;
    // Streams that run together may each have begun a burst when they come to wait: two of these
    // still leave half of the ring.
    let burst = (context.config.ws.queue_size as u64 / 4).max(1);
    let mut number = 0;
    let mut carry = BytesMut::new();
    loop {
        let piece = tokio::select! {
            piece = next_piece(&mut body) => piece,
            () = context.drains() => Err(shutting_down()),
        };
        let piece = piece.map_err(|refusal| refusal.at_line(number + 1))?;
        let at_end = piece.is_none();
        let searched = carry.len();
        carry.extend_from_slice(&piece.unwrap_or_default());
        let mut from = searched;
        loop {
            let line = match memchr::memchr(b'\n', &carry[from..]) {
                Some(end) => carry.split_to(from + end + 1).freeze(),
                None if at_end && !carry.is_empty() => carry.split().freeze(),
                None => break,
            };
            from = 0;
            number += 1;
            refuse_if_draining(context).map_err(|refusal| refusal.at_line(number))?;
            let line = without_end(&line);
            if line.len() > limit {
                return Err(too_large(limit).at_line(number));
            }
            if line.trim_ascii().is_empty() {
                continue;
            }
            let message = check(Format::Lines, line).map_err(|refusal| refusal.at_line(number))?;
            while let Err(wait) = context.publications.spend() {
                tokio::select! {
                    () = tokio::time::sleep(wait) => {}
                    () = context.drains() => return Err(shutting_down().at_line(number)),
                }
            }
            way.publish(message, progress).await.map_err(|refusal| refusal.at_line(number))?;
            way.pace(burst).await;
        }
        // The end of the line may still be a carriage return.
        if carry.len() > limit + 1 {
            return Err(too_large(limit).at_line(number + 1));
        }
        if at_end {
            return Ok(());
        }
    }
}

/// A line without its end, `\n` or `\r\n`; nothing else is taken from it.
fn without_end(line: &Bytes) -> Bytes {
    let text = line.strip_suffix(b"\n").unwrap_or(line);
    line.slice_ref(text.strip_suffix(b"\r").unwrap_or(text))
}
