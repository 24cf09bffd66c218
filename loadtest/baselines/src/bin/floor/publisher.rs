//! A connection that speaks HTTP: a publisher, or somebody who is about to be a client.

use std::io::{self, ErrorKind, Read, Write};

use mio::net::TcpStream;

/// What a connection may keep for its next request.
const KEPT_BUFFER: usize = 256 << 10;

pub(crate) struct Publisher {
    pub(crate) stream: TcpStream,
    pub(crate) received: Vec<u8>,
    /// Answers that the socket has not taken.
    pub(crate) unsent: Vec<u8>,
    /// The client has been told to send its body.
    pub(crate) continued: bool,
    /// The connection ends with the last answer.
    pub(crate) ends: bool,
}

impl Publisher {
    pub(crate) fn new(stream: TcpStream) -> Self {
        Self { stream, received: Vec::new(), unsent: Vec::new(), continued: false, ends: false }
    }

    pub(crate) fn answer(&mut self, answer: &[u8]) {
        self.unsent.extend_from_slice(answer);
    }

    /// Forgets a request of `length` bytes.
    pub(crate) fn consume(&mut self, length: usize) {
        self.received.drain(..length);
        if self.received.len() < KEPT_BUFFER {
            self.received.shrink_to(KEPT_BUFFER);
        }
        self.continued = false;
    }

    /// Returns whether everything is sent.
    pub(crate) fn flush(&mut self) -> io::Result<bool> {
        while !self.unsent.is_empty() {
            match self.stream.write(&self.unsent) {
                Ok(sent) => drop(self.unsent.drain(..sent)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }

    /// Returns whether something has come.
    ///
    /// # Errors
    /// The connection has ended.
    pub(crate) fn receive(&mut self, scratch: &mut [u8]) -> io::Result<bool> {
        match self.stream.read(scratch) {
            Ok(0) => Err(ErrorKind::UnexpectedEof.into()),
            Ok(received) => {
                self.received.extend_from_slice(&scratch[..received]);
                Ok(true)
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(false),
            Err(error) => Err(error),
        }
    }
}
