//! One connection to the exchange, from the first packet to the last: a task that reads it and hands on
//! what it brings.

use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;

use fastwebsockets::{Frame, OpCode, Payload, Role, WebSocket, WebSocketError};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, Sleep, sleep, timeout};

use super::Timing;
use super::dial::{DialError, Dialer, Socket};
use crate::source::Lines;

/// Largest message, fragments together; the exchange's largest are some 100 KB.
const MAX_MESSAGE: usize = 16 << 20;
/// Messages, and bytes of them, that are handed on together when whoever applies them is behind; then the
/// socket is not read, which tells the exchange.
const MAX_BATCH: usize = 256;
const MAX_BATCH_BYTES: usize = 256 << 10;
/// A notice is short; longer messages are not searched for one.
const MAX_NOTICE: usize = 256;
const NOTICE: &[u8] = b"serverShutdown";
const NORMAL_CLOSURE: u16 = 1000;

/// What becomes of a connection.
#[derive(Debug)]
pub(super) enum Event {
    /// The handshake is done.
    Opened,
    /// The first message has come.
    Delivers,
    /// The exchange announces that it will end the connection.
    Notice,
    /// Nothing more will come.
    Ended(End),
}

/// Why a connection has ended.
#[derive(Debug, thiserror::Error)]
pub(super) enum End {
    #[error(transparent)]
    Dial(#[from] DialError),
    #[error("no message for {0} s")]
    Stale(f64),
    #[error("the exchange closed the connection: code {0} {1:?}")]
    Closed(u16, String),
    #[error("the connection ended without a Close")]
    Cut,
    #[error("the connection failed: {0}")]
    Failed(io::Error),
    #[error("the exchange broke the WebSocket protocol: {0}")]
    Protocol(String),
    #[error("a message of more than {} MiB", MAX_MESSAGE >> 20)]
    TooBig,
    #[error("not needed any more")]
    Left,
}

impl End {
    /// The label under which what follows is counted.
    pub(super) fn reason(&self) -> &'static str {
        match self {
            Self::Dial(error) => error.reason(),
            Self::Stale(_) => "stale",
            Self::Closed(..) => "closed",
            Self::Cut => "cut",
            Self::Failed(_) => "failed",
            Self::Protocol(_) => "protocol",
            Self::TooBig => "too_big",
            Self::Left => "left",
        }
    }
}

impl From<WebSocketError> for End {
    fn from(error: WebSocketError) -> Self {
        match error {
            WebSocketError::UnexpectedEOF => Self::Cut,
            // An encrypted connection that ends without a farewell of TLS.
            WebSocketError::IoError(error) if error.kind() == io::ErrorKind::UnexpectedEof => Self::Cut,
            WebSocketError::IoError(error) => Self::Failed(error),
            WebSocketError::FrameTooLarge => Self::TooBig,
            other => Self::Protocol(other.to_string()),
        }
    }
}

/// What a connection needs.
pub(super) struct Connection {
    /// Counts the connections of this feed.
    pub(super) number: u64,
    pub(super) dialer: Arc<Dialer>,
    pub(super) timing: Timing,
    pub(super) events: mpsc::Sender<(u64, Event)>,
    pub(super) batches: mpsc::Sender<Lines>,
}

impl Connection {
    /// Connects and reads until there is nothing more to read, or until `leave` says, or is dropped because,
    /// the connection is not needed any more.
    pub(super) async fn run(self, leave: oneshot::Receiver<()>) {
        let end = match self.dialer.dial().await {
            Ok(socket) => {
                self.tell(Event::Opened).await;
                self.listen(socket, leave).await
            }
            Err(error) => error.into(),
        };
        self.tell(Event::Ended(end)).await;
    }

    async fn tell(&self, event: Event) {
        // Without a supervisor there is nobody to tell.
        let _ = self.events.send((self.number, event)).await;
    }

    async fn listen(&self, socket: Box<dyn Socket>, leave: oneshot::Receiver<()>) -> End {
        let mut websocket = WebSocket::after_handshake(socket, Role::Client);
        websocket.set_auto_close(false);
        websocket.set_auto_pong(false);
        // fastwebsockets refuses what is as large as its bound.
        websocket.set_max_message_size(MAX_MESSAGE + 1);
        let overlap = self.timing.overlap;
        let mut left = pin!(async move {
            // Dropped: nobody reads what comes. Told: what the other connection has just missed may still come.
            if leave.await.is_ok() {
                sleep(overlap).await;
            }
        });
        let mut inbox = Inbox::new(self);
        let end = loop {
            let frame = match inbox.next_frame(&mut websocket, left.as_mut()).await {
                Ok(frame) => frame,
                Err(end) => break end,
            };
            if let Err(end) = inbox.take(frame, &mut websocket).await {
                break end;
            }
        };
        inbox.flush().await;
        let farewell = match &end {
            End::Left => Some(Frame::close(NORMAL_CLOSURE, b"")),
            End::Closed(code, _) => Some(Frame::close(*code, b"")),
            _ => None,
        };
        if let Some(farewell) = farewell {
            // It is a courtesy.
            let _ = timeout(self.timing.step, send(&mut websocket, farewell)).await;
        }
        end
    }
}

/// What one connection has brought and nobody has taken.
struct Inbox<'a> {
    connection: &'a Connection,
    batch: Lines,
    /// The beginning of a message whose end has not come.
    partial: Option<Vec<u8>>,
    /// When the last message came.
    heard: Instant,
    watchdog: Pin<Box<Sleep>>,
    delivers: bool,
}

impl<'a> Inbox<'a> {
    fn new(connection: &'a Connection) -> Self {
        let watchdog = Box::pin(sleep(connection.timing.stale_after));
        let (batch, heard) = (Lines::of_connection(connection.number), Instant::now());
        Self { connection, batch, partial: None, heard, watchdog, delivers: false }
    }

    /// The next frame; meanwhile what has come is handed on as soon as there is room for it.
    async fn next_frame(
        &mut self,
        websocket: &mut WebSocket<Box<dyn Socket>>,
        mut left: Pin<&mut impl Future<Output = ()>>,
    ) -> Result<Frame<'static>, End> {
        // Not cancel safe: polled until it is done, or given up with the connection.
        let mut read = pin!(websocket.read_frame());
        loop {
            tokio::select! {
                biased;
                read = &mut read => return Ok(read?),
                permit = self.connection.batches.reserve(), if !self.batch.is_empty() => match permit {
                    Ok(permit) => {
                        let empty = Lines::of_connection(self.connection.number);
                        permit.send(std::mem::replace(&mut self.batch, empty));
                    }
                    Err(_) => return Err(End::Left),
                },
                () = left.as_mut() => return Err(End::Left),
                () = self.watchdog.as_mut() => {
                    let due = self.heard + self.connection.timing.stale_after;
                    if due <= Instant::now() {
                        return Err(End::Stale(self.connection.timing.stale_after.as_secs_f64()));
                    }
                    self.watchdog.as_mut().reset(due);
                }
            }
        }
    }

    async fn take(&mut self, frame: Frame<'_>, websocket: &mut WebSocket<Box<dyn Socket>>) -> Result<(), End> {
        match frame.opcode {
            OpCode::Text | OpCode::Binary if self.partial.is_some() => {
                return Err(End::Protocol("a new message inside a fragmented one".to_owned()));
            }
            OpCode::Text | OpCode::Binary if frame.fin => self.message(&frame.payload).await,
            OpCode::Text | OpCode::Binary => self.partial = Some(frame.payload.to_vec()),
            OpCode::Continuation => {
                let Some(mut message) = self.partial.take() else {
                    return Err(End::Protocol("a continuation without a message".to_owned()));
                };
                if message.len() + frame.payload.len() > MAX_MESSAGE {
                    return Err(End::TooBig);
                }
                message.extend_from_slice(&frame.payload);
                match frame.fin {
                    true => self.message(&message).await,
                    false => self.partial = Some(message),
                }
            }
            // The exchange wants its own payload back. It says that the connection lives, not that the market does.
            OpCode::Ping => {
                let pong = send(websocket, Frame::pong(Payload::Borrowed(&frame.payload)));
                let sent = timeout(self.connection.timing.step, pong).await;
                sent.map_err(|_| End::Failed(io::ErrorKind::TimedOut.into()))??;
            }
            OpCode::Pong => {}
            OpCode::Close => {
                let (code, text) = frame.payload.split_first_chunk().unwrap_or((&[0x03, 0xe8], b""));
                return Err(End::Closed(u16::from_be_bytes(*code), String::from_utf8_lossy(text).into_owned()));
            }
        }
        Ok(())
    }

    async fn message(&mut self, message: &[u8]) {
        if is_notice(message) {
            return self.connection.tell(Event::Notice).await;
        }
        self.batch.push(message);
        if !std::mem::replace(&mut self.delivers, true) {
            self.connection.tell(Event::Delivers).await;
        }
        if self.batch.len() >= MAX_BATCH || self.batch.bytes() >= MAX_BATCH_BYTES {
            self.flush().await;
        }
        self.heard = Instant::now();
    }

    /// Waits until what has come is handed on.
    async fn flush(&mut self) {
        if !self.batch.is_empty() {
            let batch = std::mem::replace(&mut self.batch, Lines::of_connection(self.connection.number));
            // Without a receiver nobody wants it.
            let _ = self.connection.batches.send(batch).await;
        }
    }
}

async fn send(websocket: &mut WebSocket<Box<dyn Socket>>, frame: Frame<'_>) -> Result<(), WebSocketError> {
    websocket.write_frame(frame).await?;
    websocket.flush().await
}

/// Whether the exchange says that it is about to end the connection: `{"e":"serverShutdown",…}`, bare or in
/// the envelope of a combined stream or of an event.
fn is_notice(message: &[u8]) -> bool {
    if message.len() > MAX_NOTICE || memchr::memmem::find(message, NOTICE).is_none() {
        return false;
    }
    let Ok(message) = serde_json::from_slice::<serde_json::Value>(message) else { return false };
    let inner = ["data", "event"].iter().find_map(|key| message.get(key)).unwrap_or(&message);
    inner.get("e").is_some_and(|kind| kind == "serverShutdown")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_notice_is_told_from_what_only_looks_like_one() {
        for (message, expected) in [
            (r#"{"e":"serverShutdown","E":1770123456789}"#, true),
            (r#"{"stream":"!","data":{"e":"serverShutdown","E":1770123456789}}"#, true),
            (r#"{"event":{"e":"serverShutdown","E":1770123456789}}"#, true),
            (r#"{"e":"trade","s":"serverShutdown"}"#, false),
            (r#"{"e":"serverShutdown""#, false),
            ("", false),
        ] {
            assert_eq!(is_notice(message.as_bytes()), expected, "{message}");
        }
    }
}
