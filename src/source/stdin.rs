//! Standard input, one message a line.
//!
//! A pipe is read by the task that wants its lines, as a socket is: a thread that reads would have to
//! wake it for every line, which takes about as long as everything else between the source and the
//! socket. A file is always ready and a terminal may be shared, so those keep a thread.

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::os::unix::fs::FileTypeExt;
use std::path::Path;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncReadExt, ReadBuf};
use tokio::net::unix::pipe;
use tokio::runtime::Handle;
use tokio::sync::mpsc;

use super::lines::{Chunk, Lines, Splitter, read_on_thread};
use super::{Next, Rejections};

/// Read at a time: what standard input's own buffer holds.
const BUFFER: usize = 8 << 10;
const TOO_LONG: &str = "a line of more than 1 MiB";
const FAILED: &str = "cannot read standard input any further";

/// Lines of standard input, or of another input.
#[derive(Debug)]
pub struct Stdin(Input);

#[derive(Debug)]
enum Input {
    Polled(Polled),
    OnThread(mpsc::Receiver<Chunk>),
}

impl Stdin {
    /// Lines of another input, read whenever the next ones are wanted.
    pub fn from_reader(reader: impl AsyncRead + Send + Sync + Unpin + 'static) -> Self {
        let (buffer, splitter) = (vec![0; BUFFER].into(), Splitter::default());
        Self(Input::Polled(Polled { reader: Box::new(reader), buffer, splitter, ended: false }))
    }

    pub(super) fn open() -> io::Result<Self> {
        if let Ok(pipe) = Pipe::open(Path::new("/dev/stdin")) {
            return Ok(Self::from_reader(pipe));
        }
        let mut once = Some(());
        let chunks = read_on_thread("stdin", move || Ok(once.take().map(|()| io::stdin().lock())))?;
        Ok(Self(Input::OnThread(chunks)))
    }

    /// # Cancel safety
    /// Cancel safe: no line is lost.
    pub(super) async fn next(&mut self, lines: &mut Lines, rejections: &mut Rejections) -> Next {
        match &mut self.0 {
            Input::Polled(polled) => polled.next(lines, rejections).await,
            Input::OnThread(chunks) => receive(chunks, lines, rejections).await,
        }
    }
}

async fn receive(chunks: &mut mpsc::Receiver<Chunk>, lines: &mut Lines, rejections: &mut Rejections) -> Next {
    loop {
        match chunks.recv().await {
            Some(Chunk::Lines(read)) => {
                *lines = read;
                return Next::Lines;
            }
            Some(Chunk::TooLong) => rejections.count("too_long", TOO_LONG),
            Some(Chunk::Failed(reason)) => {
                tracing::error!("{FAILED}: {reason}");
                return Next::Ended;
            }
            Some(Chunk::Restarted) | None => return Next::Ended,
        }
    }
}

/// An input that is read by the task that wants its lines.
struct Polled {
    reader: Box<dyn AsyncRead + Send + Sync + Unpin>,
    buffer: Box<[u8]>,
    splitter: Splitter,
    ended: bool,
}

impl Polled {
    async fn next(&mut self, lines: &mut Lines, rejections: &mut Rejections) -> Next {
        lines.clear();
        while !self.ended {
            match self.reader.read(&mut self.buffer).await {
                Ok(read) => {
                    self.ended = read == 0;
                    if !self.splitter.split(&self.buffer[..read], lines) {
                        rejections.count("too_long", TOO_LONG);
                    }
                    if !lines.is_empty() {
                        return Next::Lines;
                    }
                }
                Err(error) => {
                    self.ended = true;
                    tracing::error!("{FAILED}: {error}");
                }
            }
        }
        Next::Ended
    }
}

impl fmt::Debug for Polled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Polled").field("ended", &self.ended).finish_non_exhaustive()
    }
}

/// A pipe that somebody else may hold too, opened once more: this one never blocks, and theirs stays as
/// it is.
#[derive(Debug)]
pub struct Pipe {
    pipe: pipe::Receiver,
    /// The same, until a writer has been seen. When the last one has gone before a pipe is opened,
    /// Linux does not tell who waits for something to read; who reads finds what is left, and the end.
    unseen: Option<File>,
}

impl Pipe {
    /// Opens the pipe at `path`, to be read by the runtime that this is called in.
    ///
    /// # Errors
    /// There is no pipe, it may not be opened, or this is outside of a runtime.
    pub fn open(path: &Path) -> io::Result<Self> {
        // Opening what is not a pipe may have effects.
        if !std::fs::metadata(path)?.file_type().is_fifo() || Handle::try_current().is_err() {
            return Err(io::ErrorKind::Unsupported.into());
        }
        let pipe = pipe::OpenOptions::new().open_receiver(path)?;
        let unseen = Some(File::from(pipe.as_fd().try_clone_to_owned()?));
        Ok(Self { pipe, unseen })
    }
}

impl AsyncRead for Pipe {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if let Some(mut file) = self.unseen.as_ref() {
            match file.read(buffer.initialize_unfilled()) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.unseen = None,
                read => return Poll::Ready(read.map(|read| buffer.advance(read))),
            }
        }
        Pin::new(&mut self.pipe).poll_read(cx, buffer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::os::fd::AsRawFd;
    use std::sync::Arc;

    async fn rest(stdin: &mut Stdin) -> Vec<String> {
        let (mut rejections, mut lines, mut all) = (Rejections::new(Arc::default()), Lines::default(), Vec::new());
        while stdin.next(&mut lines, &mut rejections).await == Next::Lines {
            all.extend(lines.iter_mut().map(|line| String::from_utf8_lossy(line).into_owned()));
        }
        all
    }

    fn open(pipe: &io::PipeReader) -> Stdin {
        let path = format!("/dev/fd/{}", pipe.as_raw_fd());
        Stdin::from_reader(Pipe::open(path.as_ref()).expect("a pipe"))
    }

    #[tokio::test]
    async fn a_pipe_is_read_to_its_end_whenever_its_writer_goes() {
        let (reader, mut writer) = io::pipe().expect("a pipe");
        let mut stdin = open(&reader);
        let late = tokio::spawn(async move { rest(&mut stdin).await });
        tokio::task::yield_now().await;
        writer.write_all(b"one\ntwo\nrest").expect("room");
        tokio::task::yield_now().await;
        drop(writer);
        assert_eq!(late.await.expect("no panic"), ["one", "two", "rest"]);

        for text in ["one\nrest", ""] {
            let (reader, mut writer) = io::pipe().expect("a pipe");
            writer.write_all(text.as_bytes()).expect("room");
            drop(writer);
            assert!(rest(&mut open(&reader)).await.into_iter().eq(text.lines()), "{text:?}");
        }
    }

    #[tokio::test]
    async fn opening_a_pipe_again_leaves_the_first_as_it_is() {
        let (mut reader, mut writer) = io::pipe().expect("a pipe");
        let _opened = open(&reader);
        let thread = std::thread::spawn(move || reader.read(&mut [0; 8]));
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        assert!(!thread.is_finished(), "it blocks");
        writer.write_all(b"x").expect("room");
        assert_eq!(thread.join().expect("no panic").expect("read"), 1);
    }

    #[tokio::test]
    async fn what_is_not_a_pipe_is_not_opened() {
        assert!(Pipe::open(Path::new("/dev/null")).is_err());
    }
}
