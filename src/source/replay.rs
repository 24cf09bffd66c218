//! A recorded feed, played with the recorded gaps.
//!
//! A capture has one message a line: `<receive time, nanoseconds since the epoch> <raw JSON>`,
//! plain or compressed with zstd (told by its magic number).

use std::fs::File;
use std::io::{self, BufRead, BufReader, Cursor, Read};
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

use super::lines::{Chunk, Lines, read_on_thread};
use super::{Next, Rejections};
use crate::config::ReplayConfig;

/// The capture that ships with the project; `data/README.md` says where it is from.
static BUNDLED: &[u8] = include_bytes!("../../data/binance-20240808-1m.log.zst");
/// First bytes of a zstd frame (RFC 8878, section 3.1.1).
const ZSTD_MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];
/// Input read at a time.
const BUFFER: usize = 64 << 10;
/// A jump of receive times that is not waited for: the capture was cut there, or a time is wrong.
const MAX_GAP: u64 = 86_400 * 1_000_000_000;
/// Lines handed over at a time, so that a replay that never waits lets others run.
const MAX_BATCH: usize = 256;

/// A capture being played.
#[derive(Debug)]
pub struct Replay {
    chunks: mpsc::Receiver<Chunk>,
    name: String,
    speed: f64,
    /// Lines read and not yet due, and how many of them are done.
    lines: Lines,
    done: usize,
    /// When the first line was played, and its receive time.
    start: Option<(Instant, u64)>,
    /// The receive time of the line before.
    before: u64,
    /// Whether this pass had a line with a receive time; a capture without any ends the replay.
    fruitful: bool,
}

impl Replay {
    /// Opens a capture, or the bundled one, and begins reading ahead.
    ///
    /// # Errors
    /// The file cannot be opened.
    pub fn open(path: Option<&Path>, config: &ReplayConfig) -> io::Result<Self> {
        let name = path.map_or("the bundled capture".to_owned(), |path| path.display().to_string());
        let path = path.map(PathBuf::from);
        let mut opened = Some(open_capture(path.as_deref())?);
        let looped = config.looped;
        let open = move || match opened.take() {
            Some(capture) => Ok(Some(capture)),
            None if looped => open_capture(path.as_deref()).map(Some),
            None => Ok(None),
        };
        let chunks = read_on_thread("replay", open)?;
        let lines = Lines::default();
        Ok(Self { chunks, name, speed: config.speed, lines, done: 0, start: None, before: 0, fruitful: false })
    }

    /// The lines that are due, without their receive times.
    ///
    /// # Cancel safety
    /// Cancel safe: lines are taken only when they are returned.
    pub async fn next(&mut self, due: &mut Lines, rejections: &mut Rejections) -> Next {
        loop {
            due.clear();
            let wait = self.take_due(due, rejections);
            if !due.is_empty() {
                return Next::Lines;
            }
            if let Some(until) = wait {
                sleep_until(until).await;
                continue;
            }
            match self.chunks.recv().await {
                Some(Chunk::Lines(lines)) => (self.lines, self.done) = (lines, 0),
                Some(Chunk::TooLong) => rejections.count("too_long", "a line of more than 1 MiB"),
                Some(Chunk::Restarted) if self.fruitful => {
                    (self.start, self.fruitful) = (None, false);
                    return Next::Restarted;
                }
                Some(Chunk::Restarted) => {
                    tracing::error!("{} has no line `<nanoseconds> <JSON>`; the replay ends", self.name);
                    return Next::Ended;
                }
                Some(Chunk::Failed(reason)) => {
                    tracing::error!("cannot read {} any further: {reason}", self.name);
                    return Next::Ended;
                }
                None => return Next::Ended,
            }
        }
    }

    /// Moves what is due to `due`; if nothing is, says until when the next line waits.
    fn take_due(&mut self, due: &mut Lines, rejections: &mut Rejections) -> Option<Instant> {
        let now = Instant::now();
        while let Some(line) = self.lines.get(self.done) {
            if let Some((received, message)) = split_receive_time(line) {
                self.fruitful = true;
                if received.abs_diff(self.before) > MAX_GAP {
                    self.start = None;
                }
                self.before = received;
                let (start, first) = *self.start.get_or_insert((now, received));
                let at = match self.speed {
                    0.0 => now,
                    speed => start + scaled(received.saturating_sub(first), speed),
                };
                if at > now {
                    return Some(at);
                }
                due.push(message);
            } else {
                rejections.count("timestamp", "a line of a capture begins with its receive time in nanoseconds");
            }
            self.done += 1;
            if due.len() == MAX_BATCH {
                break;
            }
        }
        None
    }
}

fn split_receive_time(line: &[u8]) -> Option<(u64, &[u8])> {
    let space = memchr::memchr(b' ', line)?;
    let digits = &line[..space];
    let received = digits.iter().all(u8::is_ascii_digit).then_some(digits)?;
    Some((std::str::from_utf8(received).ok()?.parse().ok()?, &line[space + 1..]))
}

/// `nanos` at `speed`, at most a century: a timer takes no more.
fn scaled(nanos: u64, speed: f64) -> Duration {
    const CENTURY: f64 = 3.2e9;
    Duration::from_secs_f64((nanos as f64 / 1e9 / speed).min(CENTURY))
}

fn open_capture(path: Option<&Path>) -> io::Result<Box<dyn BufRead + Send>> {
    let mut raw: Box<dyn Read + Send> = match path {
        Some(path) => Box::new(File::open(path)?),
        None => Box::new(BUNDLED),
    };
    let mut magic = Vec::with_capacity(ZSTD_MAGIC.len());
    raw.by_ref().take(ZSTD_MAGIC.len() as u64).read_to_end(&mut magic)?;
    let compressed = magic == ZSTD_MAGIC;
    let raw = Cursor::new(magic).chain(raw);
    Ok(match compressed {
        true => Box::new(BufReader::with_capacity(BUFFER, zstd::Decoder::new(raw)?)),
        false => Box::new(BufReader::with_capacity(BUFFER, raw)),
    })
}
