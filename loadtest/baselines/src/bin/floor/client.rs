//! A WebSocket client of the floor.

use std::io::{self, ErrorKind, Read, Write};
use std::net::Shutdown;

use bytes::{Buf, Bytes};
use mio::net::TcpStream;

use crate::frame::{CLOSE, Control, Incoming, PONG, frame};

/// Pongs and a Close that wait for a full socket. Of more Pings only the first are answered.
const MAX_CONTROL: usize = 1 << 10;

pub(crate) struct Client {
    stream: TcpStream,
    /// In the way of every further frame. Boxed: next to no client ever has this, and all are walked through.
    unsent: Option<Box<Unsent>>,
    incoming: Incoming,
    /// A Close has been answered: nothing follows it.
    leaving: bool,
}

#[derive(Default)]
struct Unsent {
    /// The rest of a frame that was taken in part.
    frame: Bytes,
    control: Vec<u8>,
}

/// What became of a message for a client.
pub(crate) enum Sent {
    Taken,
    Dropped,
    /// The client has said Close.
    Leaving,
}

impl Client {
    /// A client whose handshake still has `answer` to send, and who has said `received` already.
    pub(crate) fn new(stream: TcpStream, answer: Vec<u8>, received: &[u8]) -> io::Result<Self> {
        let unsent = Unsent { frame: answer.into(), control: Vec::new() };
        let mut client = Self { stream, unsent: Some(Box::new(unsent)), incoming: Incoming::default(), leaving: false };
        client.flush()?;
        client.heed(received)?;
        Ok(client)
    }

    /// Sends a frame, or does not. This is all the floor does for each client and message.
    #[inline]
    pub(crate) fn send(&mut self, frame: &Bytes) -> io::Result<Sent> {
        if self.leaving || self.unsent.is_some() {
            return Ok(if self.leaving { Sent::Leaving } else { Sent::Dropped });
        }
        match self.stream.write(frame) {
            Ok(sent) if sent == frame.len() => Ok(Sent::Taken),
            Ok(sent) => {
                self.unsent = Some(Box::new(Unsent { frame: frame.slice(sent..), control: Vec::new() }));
                // mio says that a socket is writable only after it was not.
                self.flush()?;
                Ok(Sent::Taken)
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(Sent::Dropped),
            Err(error) => Err(error),
        }
    }

    /// Sends what is left and reads what has come. Returns whether there may be more to read.
    ///
    /// # Errors
    /// The client has gone.
    pub(crate) fn visit(&mut self, scratch: &mut [u8]) -> io::Result<bool> {
        self.flush()?;
        match self.stream.read(scratch) {
            Ok(0) => Err(ErrorKind::UnexpectedEof.into()),
            Ok(received) => {
                self.heed(&scratch[..received])?;
                Ok(true)
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn heed(&mut self, received: &[u8]) -> io::Result<()> {
        if self.leaving {
            return Ok(());
        }
        for control in self.incoming.push(received) {
            match control {
                Control::Ping(payload) => self.answer(&frame(PONG, &payload), MAX_CONTROL),
                Control::Close(payload) => {
                    self.leaving = true;
                    self.answer(&frame(CLOSE, &payload), usize::MAX);
                }
            }
        }
        self.flush()
    }

    fn answer(&mut self, bytes: &[u8], limit: usize) {
        let control = &mut self.unsent.get_or_insert_default().control;
        if control.len() + bytes.len() <= limit {
            control.extend_from_slice(bytes);
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        let Some(unsent) = &mut self.unsent else { return Ok(()) };
        while !unsent.frame.is_empty() || !unsent.control.is_empty() {
            if unsent.frame.is_empty() {
                unsent.frame = std::mem::take(&mut unsent.control).into();
            }
            match self.stream.write(&unsent.frame) {
                Ok(sent) => unsent.frame.advance(sent),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        self.unsent = None;
        if self.leaving {
            // The client reads the Close, then the end, and closes: that is noticed like any other end.
            self.stream.shutdown(Shutdown::Write)?;
        }
        Ok(())
    }
}
