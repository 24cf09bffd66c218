//! The publisher's connection, plain or encrypted: one thread writes, another reads.

use std::io::{self, ErrorKind, Read, Write};
use std::mem::MaybeUninit;
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustls::ClientConnection;
use socket2::SockRef;

use crate::tls;

/// Encrypted bytes read at a time; answers are short.
const CIPHERTEXT: usize = 4 << 10;

/// A clone is the same connection, for the other thread.
#[derive(Clone, Debug)]
pub(super) struct Stream {
    socket: Arc<TcpStream>,
    /// Held while something is encrypted or decrypted, never while the socket is waited for.
    tls: Option<Arc<Mutex<ClientConnection>>>,
}

impl Stream {
    pub(super) fn connect(address: &SocketAddr, tls: Option<&tls::Client>, timeout: Duration) -> io::Result<Self> {
        let mut socket = TcpStream::connect_timeout(address, timeout)?;
        socket.set_nodelay(true)?;
        socket.set_read_timeout(Some(timeout))?;
        let tls = match tls {
            None => None,
            Some(client) => {
                let mut session = client.begin()?;
                session.set_buffer_limit(None);
                while session.is_handshaking() {
                    session.complete_io(&mut socket).map_err(explain)?;
                }
                Some(Arc::new(Mutex::new(session)))
            }
        };
        Ok(Self { socket: Arc::new(socket), tls })
    }

    pub(super) fn shutdown(&self) {
        let _ = self.socket.shutdown(Shutdown::Both);
    }

    /// Whether something has come, which may be the end, while nothing was expected and nobody reads.
    pub(super) fn has_something(&self) -> bool {
        let Some(tls) = &self.tls else {
            let flags = libc::MSG_PEEK | libc::MSG_DONTWAIT;
            let peeked = SockRef::from(&*self.socket).recv_with_flags(&mut [MaybeUninit::uninit()], flags);
            return !peeked.is_err_and(|error| error.kind() == ErrorKind::WouldBlock);
        };
        let mut bytes = [0; CIPHERTEXT];
        loop {
            match self.read_now(&mut bytes) {
                Ok(0) => return true,
                // Tickets of TLS 1.3 come when the server likes, and are no answer.
                Ok(read) => match feed(&mut lock(tls), &bytes[..read]) {
                    Ok(false) => {}
                    Ok(true) | Err(_) => return true,
                },
                Err(error) => return error.kind() != ErrorKind::WouldBlock,
            }
        }
    }

    /// Reads what is there, without waiting.
    fn read_now(&self, room: &mut [u8]) -> io::Result<usize> {
        self.socket.set_nonblocking(true)?;
        let read = (&*self.socket).read(room);
        self.socket.set_nonblocking(false)?;
        read
    }
}

fn lock(session: &Mutex<ClientConnection>) -> MutexGuard<'_, ClientConnection> {
    session.lock().unwrap_or_else(PoisonError::into_inner)
}

fn explain(error: io::Error) -> io::Error {
    match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
        Some(tls) => tls::failed(tls),
        None => error,
    }
}

/// Decrypts; returns whether there is something to read, or the other side has ended.
fn feed(session: &mut ClientConnection, mut bytes: &[u8]) -> io::Result<bool> {
    let mut is_there = false;
    while !bytes.is_empty() {
        session.read_tls(&mut bytes)?;
        let state = session.process_new_packets().map_err(|error| tls::failed(&error))?;
        is_there |= state.plaintext_bytes_to_read() > 0 || state.peer_has_closed();
    }
    Ok(is_there)
}

impl Read for Stream {
    fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
        let Some(tls) = &self.tls else { return (&*self.socket).read(room) };
        loop {
            match lock(tls).reader().read(room) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                result => return result,
            }
            let mut bytes = [0; CIPHERTEXT];
            let read = (&*self.socket).read(&mut bytes)?;
            if read == 0 {
                return Ok(0);
            }
            feed(&mut lock(tls), &bytes[..read])?;
        }
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let Some(tls) = &self.tls else { return (&*self.socket).write(bytes) };
        let mut encrypted = Vec::new();
        {
            let mut session = lock(tls);
            session.writer().write_all(bytes)?;
            while session.wants_write() {
                session.write_tls(&mut encrypted)?;
            }
        }
        (&*self.socket).write_all(&encrypted)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
