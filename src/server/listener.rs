//! The listening socket, and the options of every socket it accepts.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

#[cfg(not(target_os = "linux"))]
use socket2::SockRef;
use socket2::{Domain, Protocol, Socket, TcpKeepalive, Type};
use tokio::net::{TcpListener, TcpStream};

/// Connections the kernel completes before they are accepted. The kernel caps it at
/// `net.core.somaxconn`, 4096 by default; a whole fleet that reconnects at once needs it.
const BACKLOG: i32 = 4096;
/// Pause after a failure to accept, such as no descriptor being left; without it the loop would
/// spin, since the connection stays in the backlog.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

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
    /// The channel `market` cannot be made.
    #[error(transparent)]
    Channel(#[from] crate::fanout::ChannelError),
}

/// Accepts connections and sets their options.
#[derive(Debug)]
pub(super) struct Listener {
    inner: TcpListener,
    #[cfg(not(target_os = "linux"))]
    write_buffer: usize,
}

impl Listener {
    pub(super) fn bind(address: SocketAddr, write_buffer: usize) -> Result<Self, BindError> {
        let listen = || {
            let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
            socket.set_reuse_address(true)?;
            socket.set_nonblocking(true)?;
            socket.bind(&address.into())?;
            // Linux hands the listener's options down to what it accepts (inet_csk_clone_lock).
            #[cfg(target_os = "linux")]
            set_options(&socket, write_buffer)?;
            socket.listen(BACKLOG)?;
            TcpListener::from_std(socket.into())
        };
        let inner = listen().map_err(|error| {
            let hint = match error.kind() {
                io::ErrorKind::AddrInUse => {
                    "; another program listens there: stop it or choose another port (0 picks one)"
                }
                io::ErrorKind::PermissionDenied => "; ports below 1024 need a privilege",
                io::ErrorKind::AddrNotAvailable => "; this machine has no such address",
                _ => "",
            };
            BindError::Listen { address, error, hint }
        })?;
        Ok(Self {
            inner,
            #[cfg(not(target_os = "linux"))]
            write_buffer,
        })
    }

    pub(super) fn local_addr(&self) -> io::Result<SocketAddr> {
        self.inner.local_addr()
    }

    /// The next connection. Failures are logged and waited out.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub(super) async fn accept(&self) -> (TcpStream, SocketAddr) {
        loop {
            match self.inner.accept().await {
                #[cfg(target_os = "linux")]
                Ok(accepted) => return accepted,
                #[cfg(not(target_os = "linux"))]
                Ok((stream, peer)) => match set_options(&SockRef::from(&stream), self.write_buffer) {
                    Ok(()) => return (stream, peer),
                    // The peer has already gone.
                    Err(error) => tracing::debug!(%peer, "cannot set socket options: {error}"),
                },
                Err(error) => {
                    tracing::warn!("cannot accept a connection: {error}");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }
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
        let listener = Listener::bind(([127, 0, 0, 1], 0).into(), 64 << 10).expect("a free port");
        let address = listener.local_addr().expect("bound");
        let (_client, (stream, _)) = tokio::join!(TcpStream::connect(address), listener.accept());
        let socket = SockRef::from(&stream);
        assert!(socket.tcp_nodelay().expect("a socket"));
        assert!(socket.keepalive().expect("a socket"));
        assert_eq!(socket.tcp_keepalive_time().expect("a socket"), KEEPALIVE_TIME);
        #[cfg(target_os = "linux")]
        assert_eq!(socket.tcp_notsent_lowat().expect("a socket"), 32 << 10);
    }
}
