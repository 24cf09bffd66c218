//! The listening socket, and the options of every socket it accepts.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

#[cfg(not(target_os = "linux"))]
use socket2::SockRef;
use socket2::{Domain, Protocol, Socket, TcpKeepalive, Type};
use tokio::net::{TcpListener, TcpStream};

use super::accept::Accept;
use super::proxy;
use super::stream::Stream;
use super::tls::{Certificates, Terminator, TlsError};
use crate::config::{Config, LimitsConfig};
use crate::metrics::Metrics;

/// Connections the kernel completes before they are accepted. The kernel caps it at
/// `net.core.somaxconn`, 4096 by default; a whole fleet that reconnects at once needs it.
const BACKLOG: i32 = 4096;
/// Pause after a failure to accept, such as no descriptor being left; without it the loop would
/// spin, since the connection stays in the backlog.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// How often it is said that connections cannot be accepted.
const SAY_AGAIN: Duration = Duration::from_secs(5);

/// A publisher that streams may be silent for long; one that has vanished is noticed by the kernel.
/// WebSocket clients have the heartbeat.
const KEEPALIVE_TIME: Duration = Duration::from_secs(60);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(15);

/// Why the server could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// The address cannot be listened on.
    #[error("cannot listen on {address}: {error}{hint}")]
    Listen {
        /// Which address.
        address: SocketAddr,
        /// The system's word for it.
        error: io::Error,
        /// What would help, if that is known.
        hint: &'static str,
    },
    /// The certificate cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The channel `market` cannot be made.
    #[error(transparent)]
    Channel(#[from] crate::fanout::ChannelError),
}

/// Accepts connections over TCP, plain or with TLS, and sets their options.
#[derive(Debug)]
pub struct Listener {
    inner: TcpListener,
    limits: LimitsConfig,
    trouble: Mutex<Trouble>,
    tls: Option<Arc<Terminator>>,
    #[cfg(not(target_os = "linux"))]
    write_buffer: usize,
}

/// Connections cannot be accepted.
#[derive(Debug, Default)]
struct Trouble {
    /// Not before then is it tried again.
    until: Option<Instant>,
    /// When that was said.
    said: Option<Instant>,
}

/// A connection that was accepted.
#[derive(Debug)]
pub struct Incoming {
    stream: TcpStream,
    /// Its peer begins with a PROXY protocol header.
    is_proxied: bool,
    /// The connection is encrypted.
    tls: Option<Arc<Terminator>>,
}

impl Listener {
    /// Listens as `config` says.
    ///
    /// # Errors
    /// The address cannot be listened on, or the certificate cannot be used.
    ///
    /// # Panics
    /// Outside a tokio runtime with I/O enabled.
    pub fn bind(config: &Config) -> Result<Self, BindError> {
        let tls = Terminator::load(&config.tls)?;
        let address = config.listen;
        let listen = || {
            let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
            socket.set_reuse_address(true)?;
            #[cfg(unix)]
            socket.set_reuse_port(config.reuse_port)?;
            socket.bind(&address.into())?;
            Self::over(socket, config, tls)
        };
        listen().map_err(|error| {
            let hint = match error.kind() {
                io::ErrorKind::AddrInUse => {
                    "; another program listens there: stop it or choose another port (0 picks one)"
                }
                io::ErrorKind::PermissionDenied => "; ports below 1024 need a privilege",
                io::ErrorKind::AddrNotAvailable => "; this machine has no such address",
                _ => "",
            };
            BindError::Listen { address, error, hint }
        })
    }

    /// Takes over a socket that is bound already, whether it listens or not.
    ///
    /// # Errors
    /// It is none that can listen, or the certificate cannot be used.
    ///
    /// # Panics
    /// Outside a tokio runtime with I/O enabled.
    pub fn from_std(socket: std::net::TcpListener, config: &Config) -> Result<Self, BindError> {
        let address = socket.local_addr().unwrap_or(config.listen);
        let tls = Terminator::load(&config.tls)?;
        Self::over(socket.into(), config, tls).map_err(|error| BindError::Listen { address, error, hint: "" })
    }

    fn over(socket: Socket, config: &Config, tls: Option<Terminator>) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        // Linux hands the listener's options down to what it accepts (inet_csk_clone_lock).
        #[cfg(target_os = "linux")]
        set_options(&socket, config.ws.write_buffer)?;
        socket.listen(BACKLOG)?;
        Ok(Self {
            inner: TcpListener::from_std(socket.into())?,
            limits: config.limits.clone(),
            trouble: Mutex::default(),
            tls: tls.map(Arc::new),
            #[cfg(not(target_os = "linux"))]
            write_buffer: config.ws.write_buffer,
        })
    }

    fn trouble(&self) -> MutexGuard<'_, Trouble> {
        // Two moments: nothing is ever half done.
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The certificate it shows, to be read again when it is renewed; `None` without TLS.
    pub fn certificates(&self) -> Option<Certificates> {
        self.tls.as_ref().map(|tls| tls.certificates.clone())
    }
}

impl Accept for Listener {
    type Incoming = Incoming;
    type Stream = Stream;

    fn count_in(&mut self, metrics: &Arc<Metrics>) {
        // Nothing was accepted yet, so nobody else has it.
        if let Some(tls) = self.tls.as_mut().and_then(Arc::get_mut) {
            tls.metrics = Arc::clone(metrics);
        }
    }

    async fn accept(&self) -> (Incoming, SocketAddr) {
        loop {
            // Whoever drops this future and begins again waits as long.
            let until = self.trouble().until;
            if let Some(until) = until {
                tokio::time::sleep_until(until.into()).await;
                self.trouble().until = None;
            }
            match self.inner.accept().await {
                Ok((stream, peer)) => {
                    #[cfg(not(target_os = "linux"))]
                    if let Err(error) = set_options(&SockRef::from(&stream), self.write_buffer) {
                        // The peer has already gone.
                        tracing::debug!(%peer, "cannot set socket options: {error}");
                        continue;
                    }
                    let is_proxied = self.limits.proxy_protocol && self.limits.is_trusted(peer.ip());
                    return (Incoming { stream, is_proxied, tls: self.tls.clone() }, peer);
                }
                // Of one connection, which is gone; the next may be fine.
                Err(error) if is_of_connection(&error) => tracing::debug!("a connection was not accepted: {error}"),
                Err(error) => {
                    let mut trouble = self.trouble();
                    trouble.until = Some(Instant::now() + ACCEPT_PAUSE);
                    if trouble.said.is_none_or(|said| said.elapsed() >= SAY_AGAIN) {
                        trouble.said = Some(Instant::now());
                        tracing::warn!("cannot accept connections: {error}; those waiting are taken when that is over");
                    }
                }
            }
        }
    }

    async fn open(incoming: Incoming) -> io::Result<(Stream, Option<SocketAddr>)> {
        let Incoming { mut stream, is_proxied, tls } = incoming;
        // Not `readable`: that may be said of a socket with nothing to read.
        stream.peek(&mut [0]).await?;
        let client = if is_proxied { Box::pin(proxy::read_header(&mut stream)).await? } else { None };
        let stream = match tls {
            // In a box, gone with the handshake: the others of a crowd hold no room for it.
            Some(tls) => Stream::tls(Box::pin(tls.shake_hands(stream)).await?),
            None => Stream::plain(stream),
        };
        Ok((stream, client))
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.inner.local_addr()
    }
}

/// Whether a failure to accept says something about one connection only (accept(2): errors of the
/// network are passed on from the new socket).
fn is_of_connection(error: &io::Error) -> bool {
    use io::ErrorKind as Kind;
    matches!(error.kind(), Kind::ConnectionAborted | Kind::ConnectionReset | Kind::ConnectionRefused)
}

fn set_options(socket: &Socket, write_buffer: usize) -> io::Result<()> {
    socket.set_tcp_nodelay(true)?;
    let keepalive = TcpKeepalive::new().with_time(KEEPALIVE_TIME).with_interval(KEEPALIVE_INTERVAL);
    socket.set_tcp_keepalive(&keepalive)?;
    // The kernel looks at the mark only when it begins a new segment, and a segment holds up to
    // 64 KiB: half the bound keeps what is unsent below it, or at one segment.
    #[cfg(target_os = "linux")]
    socket.set_tcp_notsent_lowat(u32::try_from(write_buffer / 2).unwrap_or(u32::MAX))?;
    // Elsewhere the send buffer bounds what is unsent and what is unacknowledged together.
    #[cfg(not(target_os = "linux"))]
    socket.set_send_buffer_size(write_buffer)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use socket2::SockRef;

    #[tokio::test]
    async fn what_is_accepted_has_the_options() {
        let config = Config { listen: ([127, 0, 0, 1], 0).into(), ..Config::default() };
        let listener = Listener::bind(&config).expect("a free port");
        let address = listener.local_addr().expect("bound");
        let (_client, (Incoming { stream, .. }, _)) = tokio::join!(TcpStream::connect(address), listener.accept());
        let socket = SockRef::from(&stream);
        assert!(socket.tcp_nodelay().expect("a socket"));
        assert!(socket.keepalive().expect("a socket"));
        assert_eq!(socket.tcp_keepalive_time().expect("a socket"), KEEPALIVE_TIME);
        #[cfg(target_os = "linux")]
        assert_eq!(socket.tcp_notsent_lowat().expect("a socket"), 32 << 10);
    }
}
