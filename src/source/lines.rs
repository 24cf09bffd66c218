//! Lines: batches of them, and a thread that reads them from whatever blocks.

use std::io::{self, BufRead};

use tokio::sync::mpsc;

/// Longest line read; longer ones are skipped. The largest message recorded is 35 KB.
const MAX_LINE: usize = 1 << 20;
/// Batches read ahead of the consumer, of about one input buffer each.
const READ_AHEAD: usize = 4;

/// A batch of lines in one buffer.
#[derive(Debug, Default)]
pub struct Lines {
    bytes: Vec<u8>,
    ends: Vec<usize>,
    connection: Option<u64>,
}

impl Lines {
    /// No lines yet, and those to come are from the feed's connection `number`.
    pub fn of_connection(number: u64) -> Self {
        Self { connection: Some(number), ..Self::default() }
    }

    /// Which of a live feed's connections has brought them, counted from 1; `None` if they are not live.
    pub fn connection(&self) -> Option<u64> {
        self.connection
    }

    /// Adds one line, without its end.
    pub fn push(&mut self, line: &[u8]) {
        self.bytes.extend_from_slice(line);
        self.ends.push(self.bytes.len());
    }

    /// How many lines.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// How many bytes they have together.
    pub fn bytes(&self) -> usize {
        self.bytes.len()
    }

    /// Forgets all lines, keeps the buffer.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.ends.clear();
    }

    /// Line number `n`, from 0.
    pub fn get(&self, n: usize) -> Option<&[u8]> {
        let end = *self.ends.get(n)?;
        let start = n.checked_sub(1).map_or(0, |before| self.ends[before]);
        Some(&self.bytes[start..end])
    }

    /// The lines, to be parsed in place.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut [u8]> {
        let mut rest = &mut self.bytes[..];
        let mut start = 0;
        self.ends.iter().map(move |&end| {
            let (line, after) = std::mem::take(&mut rest).split_at_mut(end - start);
            (rest, start) = (after, end);
            line
        })
    }
}

/// What a reading thread hands over.
#[derive(Debug)]
pub(super) enum Chunk {
    /// Lines that are not blank.
    Lines(Lines),
    /// A line longer than [`MAX_LINE`] was skipped.
    TooLong,
    /// The input ended and was opened again.
    Restarted,
    /// The input cannot be read on.
    Failed(String),
}

/// Reads inputs from `open` on a thread of its own, one after the other, until it returns `None`,
/// the input fails, or the receiver is gone. A thread rather than the runtime's blocking pool,
/// because a read of standard input cannot be cancelled and must not hold up shutdown.
pub(super) fn read_on_thread<R: BufRead>(
    name: &str,
    mut open: impl FnMut() -> io::Result<Option<R>> + Send + 'static,
) -> io::Result<mpsc::Receiver<Chunk>> {
    let (sender, receiver) = mpsc::channel(READ_AHEAD);
    let read_all = move || {
        let mut first = true;
        loop {
            let read = open().and_then(|input| match input {
                Some(_) if !first && sender.blocking_send(Chunk::Restarted).is_err() => Ok(false),
                Some(input) => read_lines(input, &sender),
                None => Ok(false),
            });
            first = false;
            match read {
                Ok(true) => {}
                Ok(false) => return,
                Err(error) => {
                    // The receiver may be gone; then nobody wants to know.
                    let _ = sender.blocking_send(Chunk::Failed(error.to_string()));
                    return;
                }
            }
        }
    };
    std::thread::Builder::new().name(name.to_owned()).spawn(read_all)?;
    Ok(receiver)
}

/// Sends the lines of `input`, whatever of it is there at a time. False: the receiver is gone.
fn read_lines(mut input: impl BufRead, sender: &mpsc::Sender<Chunk>) -> io::Result<bool> {
    let mut splitter = Splitter::default();
    loop {
        let bytes = input.fill_buf()?;
        let read = bytes.len();
        let mut lines = Lines::default();
        let whole = splitter.split(bytes, &mut lines);
        input.consume(read);
        if !whole && sender.blocking_send(Chunk::TooLong).is_err() {
            return Ok(false);
        }
        if !lines.is_empty() && sender.blocking_send(Chunk::Lines(lines)).is_err() {
            return Ok(false);
        }
        if read == 0 {
            return Ok(true);
        }
    }
}

/// Cuts what is read into lines, whatever of it is there at a time.
#[derive(Debug, Default)]
pub(super) struct Splitter {
    /// The line that is not whole.
    carry: Vec<u8>,
}

impl Splitter {
    /// Adds the lines that `bytes` complete, unless blank; no bytes are the end of the input. False:
    /// at least one was too long, and is left out.
    pub(super) fn split(&mut self, bytes: &[u8], lines: &mut Lines) -> bool {
        let mut whole = true;
        let mut rest = bytes;
        while let Some(end) = memchr::memchr(b'\n', rest) {
            whole &= self.take(&rest[..end], lines);
            rest = &rest[end + 1..];
        }
        if bytes.is_empty() && !self.carry.is_empty() {
            whole &= self.take(b"", lines);
        }
        let room = (MAX_LINE + 1).saturating_sub(self.carry.len());
        self.carry.extend_from_slice(&rest[..rest.len().min(room)]);
        whole
    }

    /// Adds the line that begins with what is kept and ends with `end`. False: it is too long.
    fn take(&mut self, end: &[u8], lines: &mut Lines) -> bool {
        if self.carry.len() + end.len() > MAX_LINE {
            self.carry.clear();
            return false;
        }
        let line = if self.carry.is_empty() {
            end
        } else {
            self.carry.extend_from_slice(end);
            &self.carry[..]
        };
        let line = line.trim_ascii();
        if !line.is_empty() {
            lines.push(line);
        }
        self.carry.clear();
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(input: &[u8], buffer: usize) -> (Vec<String>, usize) {
        let input = input.to_vec();
        let mut once = Some(());
        let open =
            move || Ok(once.take().map(|()| io::BufReader::with_capacity(buffer, io::Cursor::new(input.clone()))));
        let mut chunks = read_on_thread("test", open).expect("a thread");
        let (mut lines, mut too_long) = (Vec::new(), 0);
        while let Some(chunk) = chunks.blocking_recv() {
            match chunk {
                Chunk::Lines(mut batch) => {
                    lines.extend(batch.iter_mut().map(|line| String::from_utf8_lossy(line).into_owned()));
                }
                Chunk::TooLong => too_long += 1,
                other => panic!("{other:?}"),
            }
        }
        (lines, too_long)
    }

    #[test]
    fn lines_come_whole_whatever_the_buffer() {
        for buffer in [1, 2, 3, 7, 64] {
            let (lines, too_long) = read(b"one\n\n  two\r\nthree\n \nfour", buffer);
            assert_eq!((lines, too_long), (vec!["one".into(), "two".into(), "three".into(), "four".into()], 0));
        }
    }

    #[test]
    fn a_line_too_long_is_skipped_and_the_next_is_read() {
        let mut input = vec![b'x'; MAX_LINE + 1];
        input.extend_from_slice(b"\nafter\n");
        assert_eq!(read(&input, 8 << 10), (vec!["after".into()], 1));
        let (lines, too_long) = read(&input[1..], 8 << 10);
        assert_eq!((lines.len(), too_long), (2, 0));
    }
}
