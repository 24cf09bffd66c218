//! Lines of an input: the same whatever is read at a time, and little kept. Of a capture, what is played is
//! what follows a receive time.
//!
//! An input is: one byte of settings, one that seeds the pieces, and the text. In it, a byte 1 and the one
//! behind it stand for so many times 16 KiB, as lines that are too long are longer than an input.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tickcast::config::ReplayConfig;
use tickcast::metrics::Metrics;
use tickcast::source::{Feed, Lines, Next, Rejections, Replay, Stdin};
use tokio::io::{AsyncRead, ReadBuf};

use super::pieces::Sizes;
use super::scratch::Scratch;

/// The longest line that is read.
const MAX_LINE: usize = 1 << 20;
/// What a byte behind a byte 1 counts.
const FILL: usize = 16 << 10;
/// Longest text.
const MAX_TEXT: usize = 3 << 20;
/// First bytes of a zstd frame.
const ZSTD_MAGIC: &[u8] = &[0x28, 0xb5, 0x2f, 0xfd];

/// Reads one input.
pub fn run(data: &[u8]) {
    let [settings, seed, text @ ..] = data else { return };
    let text = expand(text);
    let (lines, too_long) = lines(&text);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    let runtime = runtime.expect("a runtime");
    let reader = Pieces { text: text.clone().into(), done: 0, sizes: Sizes::new(*seed, text.len()) };
    let (outcome, allocated) = measure(|| {
        let mut feed = Feed::Stdin(Stdin::from_reader(reader));
        runtime.block_on(drain(&mut feed, &lines))
    });
    assert_eq!(outcome, Outcome { too_long, untimed: 0, lines: lines.len() });
    // The line under way and its copy in the batch, each with the room that a vector grows by.
    assert!(allocated < 6 * MAX_LINE as u64, "{allocated} bytes kept of lines");
    if settings & 1 == 1 && !text.starts_with(ZSTD_MAGIC) {
        let speed = [0.0, 1.0, 1e-6, 1e6][usize::from(settings >> 1 & 3)];
        play(&text, speed, settings & 8 != 0, &lines, too_long, &runtime);
    }
}

/// Plays `text` as a capture: compressed or as it is.
fn play(text: &[u8], speed: f64, compressed: bool, lines: &[&[u8]], too_long: u64, runtime: &tokio::runtime::Runtime) {
    let messages: Vec<&[u8]> = lines.iter().filter_map(|line| message(line)).collect();
    let file = match compressed {
        true => Scratch::new("zst", &zstd::encode_all(text, 1).expect("a vector takes everything")),
        false => Scratch::new("log", text),
    };
    let outcome = runtime.block_on(async {
        let replay =
            Replay::open(Some(file.path()), &ReplayConfig { speed, looped: false }).expect("the file is there");
        drain(&mut Feed::Replay(Box::new(replay)), &messages).await
    });
    let untimed = (lines.len() - messages.len()) as u64;
    assert_eq!(outcome, Outcome { too_long, untimed, lines: messages.len() });
}

/// What came of an input, apart from the lines themselves.
#[derive(Debug, PartialEq, Eq)]
struct Outcome {
    too_long: u64,
    untimed: u64,
    lines: usize,
}

/// Takes everything from `feed`; its lines must be `expected`.
async fn drain(feed: &mut Feed, expected: &[&[u8]]) -> Outcome {
    let metrics = Arc::new(Metrics::default());
    let (mut rejections, mut lines, mut seen) = (Rejections::new(Arc::clone(&metrics)), Lines::default(), 0);
    while feed.next(&mut lines, &mut rejections).await == Next::Lines {
        assert!(!lines.is_empty(), "a batch of nothing");
        for line in lines.iter_mut() {
            // Not printed unless they differ: what is printed would count as kept.
            let same = expected.get(seen).is_some_and(|expected| line == *expected);
            assert!(same, "line {seen} is {:?}", String::from_utf8_lossy(line));
            seen += 1;
        }
    }
    let errors = metrics.source_errors.get();
    let count = |reason| errors.get(reason).copied().unwrap_or(0);
    Outcome { too_long: count("too_long"), untimed: count("timestamp"), lines: seen }
}

/// The lines of `text` that are not blank, and how many are too long.
fn lines(text: &[u8]) -> (Vec<&[u8]>, u64) {
    let (long, lines): (Vec<&[u8]>, Vec<&[u8]>) =
        text.split(|byte| *byte == b'\n').partition(|line| line.len() > MAX_LINE);
    let lines = lines.into_iter().map(<[u8]>::trim_ascii).filter(|line| !line.is_empty());
    (lines.collect(), long.len() as u64)
}

/// What stands behind the receive time, if there is one.
fn message(line: &[u8]) -> Option<&[u8]> {
    let digits = line.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let (time, rest) = line.split_at(digits);
    std::str::from_utf8(time).ok()?.parse::<u64>().ok()?;
    rest.strip_prefix(b" ")
}

/// Puts in what stands for much.
fn expand(text: &[u8]) -> Vec<u8> {
    let mut expanded = Vec::with_capacity(text.len());
    let mut bytes = text.iter();
    while let Some(byte) = bytes.next() {
        match (byte, bytes.as_slice().first()) {
            (1, Some(count)) => {
                bytes.next();
                expanded.resize(expanded.len() + usize::from(*count) * FILL, b'x');
            }
            _ => expanded.push(*byte),
        }
        if expanded.len() > MAX_TEXT {
            expanded.truncate(MAX_TEXT);
            break;
        }
    }
    expanded
}

/// The most that `task` had allocated at a time, beyond what it found.
fn measure<T>(task: impl FnOnce() -> T) -> (T, u64) {
    let mut done = None;
    let counted = allocation_counter::measure(|| done = Some(task()));
    (done.expect("measured once"), counted.bytes_max)
}

/// An input that gives no more than the next size at a time.
struct Pieces {
    text: Arc<[u8]>,
    done: usize,
    sizes: Sizes,
}

impl AsyncRead for Pieces {
    fn poll_read(mut self: Pin<&mut Self>, _: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<std::io::Result<()>> {
        let left = (self.text.len() - self.done).min(buffer.remaining());
        let size = self.sizes.next(left);
        buffer.put_slice(&self.text[self.done..][..size]);
        self.done += size;
        Poll::Ready(Ok(()))
    }
}
