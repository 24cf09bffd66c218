//! A socket of a client that does not wait, plain or encrypted.

use std::cell::RefCell;
use std::io::{self, ErrorKind, Read, Write};
use std::net::Shutdown;

use mio::net::TcpStream;
use rustls::ClientConnection;

use crate::tls;

/// Encrypted bytes read at a time, into one buffer of the thread.
const CIPHERTEXT: usize = 48 << 10;
/// What a read may decrypt beyond what it takes from the socket: a record that had begun
/// (RFC 8446 section 5.1).
const RECORD: usize = 16 << 10;

thread_local! {
    static BUFFER: RefCell<Box<[u8]>> = RefCell::new(vec![0; CIPHERTEXT].into());
}

#[derive(Debug)]
pub(super) enum Stream {
    Plain(TcpStream),
    Tls(Box<Tls>),
}

#[derive(Debug)]
pub(super) struct Tls {
    socket: TcpStream,
    session: ClientConnection,
}

impl Stream {
    pub(super) fn new(socket: TcpStream, tls: Option<&tls::Client>) -> io::Result<Self> {
        Ok(match tls {
            None => Self::Plain(socket),
            Some(client) => Self::Tls(Box::new(Tls { socket, session: client.begin()? })),
        })
    }

    /// What the poll looks at.
    pub(super) fn socket(&mut self) -> &mut TcpStream {
        match self {
            Self::Plain(socket) => socket,
            Self::Tls(tls) => &mut tls.socket,
        }
    }

    /// Reads what there is room for; how much, 0 at the end, and whether there may be more already.
    pub(super) fn read(&mut self, room: &mut [u8]) -> io::Result<(usize, bool)> {
        match self {
            Self::Plain(socket) => socket.read(room).map(|length| (length, length == room.len())),
            Self::Tls(tls) => tls.read(room),
        }
    }

    /// Sends what the socket takes, and at most a little that it takes later, after a `flush`.
    pub(super) fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(socket) => socket.write(bytes),
            Self::Tls(tls) => {
                let written = tls.session.writer().write(bytes)?;
                tls.flush()?;
                if written > 0 { Ok(written) } else { Err(ErrorKind::WouldBlock.into()) }
            }
        }
    }

    /// Sends what is encrypted, as far as the socket goes.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(_) => Ok(()),
            Self::Tls(tls) => tls.flush(),
        }
    }

    /// Says that nothing more comes.
    pub(super) fn end(&mut self) {
        if let Self::Tls(tls) = self {
            tls.session.send_close_notify();
            // Whoever has closed its socket needs no farewell.
            let _ = tls.flush();
        }
        let _ = self.socket().shutdown(Shutdown::Write);
    }
}

impl Tls {
    fn read(&mut self, room: &mut [u8]) -> io::Result<(usize, bool)> {
        let left = self.take(room)?;
        if left > 0 {
            return Ok((left, true));
        }
        let asked = if room.len() > 2 * RECORD { room.len() - RECORD } else { room.len().min(RECORD / 4) };
        BUFFER.with_borrow_mut(|buffer| {
            let buffer = &mut buffer[..asked.min(CIPHERTEXT)];
            loop {
                let read = self.socket.read(buffer)?;
                if read == 0 {
                    return Ok((0, false));
                }
                let (mut length, mut rest) = (0, &buffer[..read]);
                while !rest.is_empty() {
                    self.session.read_tls(&mut rest)?;
                    if let Err(error) = self.session.process_new_packets() {
                        // The other side is told why, if it listens.
                        let _ = self.flush();
                        return Err(tls::failed(&error));
                    }
                    length += self.take(&mut room[length..])?;
                }
                // Steps of the handshake.
                self.flush()?;
                let is_closed = self.session.process_new_packets().is_ok_and(|state| state.peer_has_closed());
                if length > 0 || is_closed {
                    return Ok((length, read == buffer.len() || length == room.len()));
                }
            }
        })
    }

    /// Takes what is decrypted.
    fn take(&mut self, room: &mut [u8]) -> io::Result<usize> {
        let mut length = 0;
        while length < room.len() {
            match self.session.reader().read(&mut room[length..]) {
                Ok(0) => break,
                Ok(read) => length += read,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        Ok(length)
    }

    fn flush(&mut self) -> io::Result<()> {
        while self.session.wants_write() {
            match self.session.write_tls(&mut self.socket) {
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}
