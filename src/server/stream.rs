//! What a TCP connection is to those who read and write it: plain or encrypted.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

/// Slices of one vectored write; who has more writes again.
const MAX_SLICES: usize = 64;

/// A connection over TCP.
///
/// An encrypted one takes bytes that its socket does not: `poll_flush` must be called until it is
/// ready, when the waker of the last write says so.
#[derive(Debug)]
pub struct Stream(Kind);

#[derive(Debug)]
enum Kind {
    Plain(TcpStream),
    /// In a box: it is over a kilobyte.
    Tls(Box<TlsStream<TcpStream>>),
}

impl Stream {
    pub(super) fn plain(stream: TcpStream) -> Self {
        Self(Kind::Plain(stream))
    }

    pub(super) fn tls(stream: TlsStream<TcpStream>) -> Self {
        Self(Kind::Tls(Box::new(stream)))
    }
}

impl AsyncRead for Stream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match &mut self.0 {
            Kind::Plain(stream) => Pin::new(stream).poll_read(cx, buffer),
            Kind::Tls(stream) => match Pin::new(stream).poll_read(cx, buffer) {
                // The end without a farewell. Whether something is missing, HTTP and WebSocket tell themselves.
                Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::UnexpectedEof => Poll::Ready(Ok(())),
                read => read,
            },
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match &mut self.0 {
            Kind::Plain(stream) => Pin::new(stream).poll_write(cx, bytes),
            Kind::Tls(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match &mut self.0 {
            Kind::Plain(stream) => Pin::new(stream).poll_write_vectored(cx, slices),
            Kind::Tls(stream) => write_all_slices(Pin::new(stream), cx, slices),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.0 {
            Kind::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Kind::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.0 {
            Kind::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Kind::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}

/// Writes until nothing is left or the stream takes no more. The stream encrypts a record and writes it;
/// whoever called would take the first one for all that the socket takes.
fn write_all_slices(
    mut stream: Pin<&mut impl AsyncWrite>,
    cx: &mut Context<'_>,
    slices: &[IoSlice<'_>],
) -> Poll<io::Result<usize>> {
    let mut left = [IoSlice::new(&[]); MAX_SLICES];
    let len = slices.len().min(MAX_SLICES);
    left[..len].copy_from_slice(&slices[..len]);
    let mut left = &mut left[..len];
    let mut total = 0;
    loop {
        match stream.as_mut().poll_write_vectored(cx, left) {
            Poll::Ready(Ok(written)) if written > 0 => {
                total += written;
                IoSlice::advance_slices(&mut left, written);
                if left.is_empty() {
                    return Poll::Ready(Ok(total));
                }
            }
            // What was written is said first; the rest comes again.
            _ if total > 0 => return Poll::Ready(Ok(total)),
            other => return other,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use super::*;
    use crate::server::fake::Fake;

    #[test]
    fn all_slices_are_written_as_far_as_the_stream_goes() {
        for seed in 0..50 {
            let io = Fake::new(seed);
            let bytes: Vec<u8> = (0..200).collect();
            let slices: Vec<_> = bytes.chunks(7).map(IoSlice::new).collect();
            let cx = &mut Context::from_waker(Waker::noop());
            let mut write = || write_all_slices(Pin::new(&mut io.clone()), cx, &slices);
            assert!(write().is_pending(), "no room");
            io.open(150);
            assert!(matches!(write(), Poll::Ready(Ok(150))), "seed {seed}: all that there is room for");
            assert_eq!(io.wire().written, bytes[..150]);
            io.open(usize::MAX);
            assert!(matches!(write(), Poll::Ready(Ok(200))));
            io.fail();
            assert!(matches!(write(), Poll::Ready(Err(_))));
        }
    }
}
