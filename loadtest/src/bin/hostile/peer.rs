//! One connection: what it sends, and what comes back to its end.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::{Instant, timeout, timeout_at};

use crate::wire;

/// How long a violator may stay, and how long an answer may take.
pub(crate) const PATIENCE: Duration = Duration::from_secs(5);
/// Read at a time.
const PIECE: usize = 16 << 10;
/// An answer's head may not be longer.
const MAX_HEAD: usize = 16 << 10;

/// What became of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum End {
    /// It could not be made.
    Failed,
    /// It was answered with this status instead of 101.
    Status(u16),
    /// A Close with this code; 1005 if it had none.
    Closed(u16),
    /// The server ended it without a word.
    Ended,
    /// The server reset it.
    Reset,
    /// What had to come did not.
    Timeout,
    /// This side left, as planned.
    Left,
}

/// A frame that came; of a data frame only the kind is kept.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Heard {
    pub(crate) first: u8,
    pub(crate) payload: Vec<u8>,
}

#[derive(Debug)]
pub(crate) struct Peer {
    pub(crate) stream: TcpStream,
    inbox: Inbox,
}

/// What has come and was not looked at.
#[derive(Debug, Default)]
pub(crate) struct Inbox {
    bytes: Vec<u8>,
    /// Of a data frame's payload, still to be thrown away.
    skip: usize,
}

fn broken(error: &std::io::Error) -> End {
    match error.kind() {
        ErrorKind::ConnectionReset | ErrorKind::BrokenPipe | ErrorKind::ConnectionAborted => End::Reset,
        _ => End::Ended,
    }
}

impl Peer {
    /// # Errors
    /// [`End::Failed`].
    pub(crate) async fn connect(address: SocketAddr, receive_buffer: Option<u32>) -> Result<Self, End> {
        let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() };
        let socket = socket.map_err(|_| End::Failed)?;
        if let Some(bytes) = receive_buffer {
            socket.set_recv_buffer_size(bytes).map_err(|_| End::Failed)?;
        }
        let connected = timeout(PATIENCE, socket.connect(address)).await;
        let stream = connected.ok().and_then(Result::ok).ok_or(End::Failed)?;
        stream.set_nodelay(true).map_err(|_| End::Failed)?;
        Ok(Self { stream, inbox: Inbox::default() })
    }

    /// # Errors
    /// The connection's end, or [`End::Timeout`].
    pub(crate) async fn send(&mut self, bytes: &[u8]) -> Result<(), End> {
        let sent = timeout(PATIENCE, self.stream.write_all(bytes)).await.map_err(|_| End::Timeout)?;
        sent.map_err(|error| broken(&error))
    }

    /// Sends byte after byte, each in a packet of its own.
    ///
    /// # Errors
    /// See [`Self::send`].
    pub(crate) async fn dribble(&mut self, bytes: &[u8], pause: Duration) -> Result<(), End> {
        for byte in bytes {
            self.send(std::slice::from_ref(byte)).await?;
            tokio::time::sleep(pause).await;
        }
        Ok(())
    }

    /// The status of the answer to a request.
    ///
    /// # Errors
    /// The connection's end, or [`End::Timeout`] at `deadline`.
    pub(crate) async fn status(&mut self, deadline: Instant) -> Result<u16, End> {
        timeout_at(deadline, self.inbox.status(&mut self.stream)).await.map_err(|_| End::Timeout)?
    }

    /// The next control frame.
    ///
    /// # Errors
    /// The connection's end, or [`End::Timeout`] at `deadline`.
    pub(crate) async fn control(&mut self, deadline: Instant) -> Result<Heard, End> {
        timeout_at(deadline, self.inbox.control(&mut self.stream)).await.map_err(|_| End::Timeout)?
    }

    /// Reads on to the end of the connection; [`End::Timeout`] if that is not there by `deadline`.
    pub(crate) async fn end(&mut self, deadline: Instant) -> End {
        timeout_at(deadline, self.inbox.end(&mut self.stream)).await.unwrap_or(End::Timeout)
    }

    /// Sends `chunk` again and again, about `times` times, and reads to the end all the while.
    pub(crate) async fn pour(&mut self, chunk: &[u8], times: usize, pause: Duration, deadline: Instant) -> End {
        let (mut reading, mut writing) = self.stream.split();
        let pour = async {
            for _ in 0..times {
                if writing.write_all(chunk).await.is_err() {
                    break;
                }
                tokio::time::sleep(pause).await;
            }
            // Why, only the other side says.
            std::future::pending::<()>().await;
        };
        tokio::select! {
            end = timeout_at(deadline, self.inbox.end(&mut reading)) => end.unwrap_or(End::Timeout),
            () = pour => End::Timeout,
        }
    }

    /// Leaves with a reset instead of a FIN.
    pub(crate) fn reset(self) {
        // Without it the connection ends another way, which is no harm.
        let _ = socket2::SockRef::from(&self.stream).set_linger(Some(Duration::ZERO));
    }
}

impl Inbox {
    async fn more(&mut self, io: &mut (impl AsyncRead + Unpin)) -> Result<(), End> {
        self.bytes.reserve(PIECE);
        match io.read_buf(&mut self.bytes).await {
            Ok(0) => Err(End::Ended),
            Ok(_) => Ok(()),
            Err(error) => Err(broken(&error)),
        }
    }

    async fn status(&mut self, io: &mut (impl AsyncRead + Unpin)) -> Result<u16, End> {
        let end = loop {
            if let Some(at) = self.bytes.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
                break at + 4;
            }
            if self.bytes.len() > MAX_HEAD {
                return Err(End::Ended);
            }
            self.more(io).await?;
        };
        let head = String::from_utf8_lossy(&self.bytes[..end]).to_lowercase();
        let status = head.split(' ').nth(1).and_then(|word| word.parse().ok()).unwrap_or(0);
        // 101 without the right answer to the key is none.
        let sound = status != 101 || head.contains(&format!("sec-websocket-accept: {}\r\n", wire::ACCEPT));
        self.bytes.drain(..end);
        Ok(if sound { status } else { 0 })
    }

    /// The next control frame; data frames are thrown away.
    async fn control(&mut self, io: &mut (impl AsyncRead + Unpin)) -> Result<Heard, End> {
        loop {
            let skipped = self.skip.min(self.bytes.len());
            self.bytes.drain(..skipped);
            self.skip -= skipped;
            match wire::read_head(&self.bytes).filter(|_| self.skip == 0) {
                Some((first, at, length)) if first & 0x08 == 0 => {
                    self.bytes.drain(..at);
                    self.skip = length;
                }
                Some((first, at, length)) if self.bytes.len() >= at + length => {
                    let payload = self.bytes[at..at + length].to_vec();
                    self.bytes.drain(..at + length);
                    return Ok(Heard { first, payload });
                }
                _ => self.more(io).await?,
            }
        }
    }

    /// The end: of a session its Close, if one came before the connection ended.
    async fn end(&mut self, io: &mut (impl AsyncRead + Unpin)) -> End {
        let mut closed = None;
        loop {
            match self.control(io).await {
                Ok(Heard { first: wire::CLOSE, payload }) => {
                    let code = payload.first_chunk().map_or(1005, |code| u16::from_be_bytes(*code));
                    closed.get_or_insert(End::Closed(code));
                }
                Ok(_) => {}
                Err(end) => return closed.unwrap_or(end),
            }
        }
    }
}
