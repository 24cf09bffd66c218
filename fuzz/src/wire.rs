//! A stream in memory for a blocking WebSocket.

use std::io::{self, Read, Write};

/// Gives what it holds, then would block; keeps what is written.
#[derive(Debug)]
pub struct Wire<'a> {
    inbound: &'a [u8],
    outbound: Vec<u8>,
}

impl<'a> Wire<'a> {
    /// A stream that gives `inbound`.
    pub fn new(inbound: &'a [u8]) -> Self {
        Self { inbound, outbound: Vec::new() }
    }

    /// What was written so far.
    pub fn take_written(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.outbound)
    }
}

impl Read for Wire<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.inbound.read(buffer)? {
            0 => Err(io::ErrorKind::WouldBlock.into()),
            read => Ok(read),
        }
    }
}

impl Write for Wire<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.outbound.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
