//! A client: a strict reader of frames that answers Pings, as long as it does.

use std::collections::VecDeque;

use fastrand::Rng;

use super::agenda::{Agenda, Event, Millis, Shared};
use super::audit::digest;
use super::frames::{CLOSE, Frames, Item, PING, PONG, TEXT, masked, number};
use super::persona::{Manners, Persona};
use super::wire::{Line, Wire};

/// Until a pause of the server is forgotten.
const AFTER_PAUSE: Millis = 1_000;
/// A window may be small, and timers late.
const SLACK: Millis = 5;

/// One client, over all its connections.
#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) id: usize,
    pub(crate) channel: usize,
    pub(crate) persona: Persona,
    /// Decides what happens to it, and how it reads; apart, because how much it reads at a time may vary.
    pub(crate) rng: Rng,
    pub(crate) ears: Rng,
    pub(crate) call: Option<Call>,
    /// Reads nothing until then.
    pub(crate) stalls_until: Millis,
    /// The number of its last fault.
    pub(crate) fault: u64,
}

/// One connection, as its client sees it.
#[derive(Debug)]
pub(crate) struct Call {
    pub(crate) wire: usize,
    line: Line,
    frames: Frames,
    pub(crate) heard: Heard,
    /// Nothing has happened to it.
    pub(crate) is_pristine: bool,
    /// Answers no Pings.
    pub(crate) is_mute: bool,
    said_close: bool,
}

/// What it has been told.
#[derive(Clone, Debug, Default)]
pub(crate) struct Heard {
    pub(crate) is_open: bool,
    pub(crate) last: u64,
    pub(crate) messages: u64,
    pub(crate) close: Option<u16>,
    pub(crate) slowest: Millis,
    /// Its own Pings that were not answered.
    pings: VecDeque<u64>,
    pub(crate) digest: u64,
}

impl Client {
    pub(crate) fn connect(&mut self, wire: usize, line: Line, shared: &Shared) {
        let request = format!(
            "GET /ws/{} HTTP/1.1\r\nHost: simulated\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
            channel_name(self.channel)
        );
        let said = match self.persona.manners {
            Manners::Request => &request[..],
            Manners::Silence => "",
            Manners::HalfRequest => &request[..request.len() / 2],
        };
        if !said.is_empty() {
            line.lock().say(said.into(), shared);
        }
        let frames = Frames::default();
        let heard = Heard::default();
        self.call = Some(Call { wire, line, frames, heard, is_pristine: true, is_mute: false, said_close: false });
    }

    /// Reads what there is, up to `most` bytes.
    pub(crate) fn hear(&mut self, mut most: usize, shared: &Shared) {
        let now = shared.lock().now();
        let Some(call) = self.call.as_mut().filter(|_| now >= self.stalls_until) else {
            return;
        };
        let line = call.line.clone();
        let mut wire = line.lock();
        let mut hear = Hear { channel: self.channel, now, rng: &mut self.ears, shared };
        while most > 0 {
            let piece = if self.persona.splits { hear.rng.usize(1..=64) } else { usize::MAX };
            let Some(bytes) = wire.hear(most.min(piece), shared) else { break };
            most -= bytes.len();
            if let Err(what) = call.take(&bytes, &mut wire, &mut hear) {
                shared.lock().violate(&format!("client {} of wire {}: {what}", self.id, call.wire));
            }
        }
        if call.is_pristine && self.persona.is_prompt() {
            let most = self.persona.link.latency + self.persona.link.jitter + SLACK;
            if call.heard.slowest > most {
                let what = format!("client {}, {most} ms away, was told after {} ms", self.id, call.heard.slowest);
                shared.lock().violate(&what);
            }
        }
    }

    /// Says something that need not be said.
    pub(crate) fn speak(&mut self, shared: &Shared) {
        let Some(call) = self.call.as_mut().filter(|call| call.heard.is_open && !call.said_close) else {
            return;
        };
        let ping = self.rng.u64(..);
        let mask = self.rng.u32(..).to_be_bytes();
        let mut wire = call.line.lock();
        if self.rng.bool() {
            wire.say(masked(TEXT, b"whatever", mask), shared);
        } else if wire.say(masked(PING, &ping.to_be_bytes(), mask), shared).is_some() {
            call.heard.pings.push_back(ping);
        }
    }

    /// Says Close, and waits for the answer.
    pub(crate) fn close(&mut self, shared: &Shared) {
        let mask = self.rng.u32(..).to_be_bytes();
        if let Some(call) = self.call.as_mut().filter(|call| call.heard.is_open) {
            call.say_close(1000, mask, &mut call.line.clone().lock(), shared);
        }
    }
}

impl Call {
    pub(crate) fn lock(&self) -> std::sync::MutexGuard<'_, Wire> {
        self.line.lock()
    }

    /// Whether it hangs up: nothing comes any more.
    pub(crate) fn is_over(&self) -> bool {
        let wire = self.line.lock();
        wire.client_gone || (wire.down.has_ended() && (wire.down.unread() == 0 || wire.down.was_reset()))
    }

    fn say_close(&mut self, code: u16, mask: [u8; 4], wire: &mut Wire, shared: &Shared) {
        if !self.said_close && !self.is_mute {
            wire.close = wire.say(masked(CLOSE, &code.to_be_bytes(), mask), shared);
            self.said_close = wire.close.is_some();
        }
    }

    fn take(&mut self, bytes: &[u8], wire: &mut Wire, hear: &mut Hear<'_>) -> Result<(), String> {
        let mut frames = std::mem::take(&mut self.frames);
        let taken = frames.feed(bytes, hear.now, &mut |item| match item {
            Item::Answer(answer) => {
                self.heard.is_open = answer.starts_with("HTTP/1.1 101 ");
                Ok(())
            }
            Item::Frame { opcode: TEXT, payload, .. } => self.message(payload, &hear.shared.lock(), hear),
            Item::Frame { opcode: CLOSE, payload, .. } => {
                let code = payload.first_chunk().map(|code| u16::from_be_bytes(*code));
                let code = code.ok_or("a Close without a code, which nobody said")?;
                self.heard.close = Some(code);
                self.say_close(code, hear.mask(), wire, hear.shared);
                Ok(())
            }
            Item::Frame { opcode: PING, payload, .. } => {
                if !self.is_mute && !self.said_close {
                    let pong = wire.say(masked(PONG, payload, hear.mask()), hear.shared);
                    wire.pongs.extend(pong);
                }
                Ok(())
            }
            Item::Frame { payload, .. } => {
                let ping = payload.try_into().ok().map(u64::from_be_bytes);
                if ping.is_none() || ping != self.heard.pings.pop_front() {
                    return Err("a Pong that answers nothing".to_owned());
                }
                Ok(())
            }
        });
        self.frames = frames;
        taken
    }

    fn message(&mut self, payload: &[u8], agenda: &Agenda, hear: &Hear<'_>) -> Result<(), String> {
        let seq = number(payload).ok_or("a message without its number")?;
        if seq <= self.heard.last {
            return Err(format!("message {seq} after {}", self.heard.last));
        }
        let published = &agenda.published[hear.channel][seq as usize - 1];
        if published.payload != payload {
            return Err(format!("message {seq} is not as it was published"));
        }
        // The first one was published before it came, and what has piled up in a pause may be more than a
        // window.
        if self.heard.messages > 0 && published.at > agenda.resumed_at() + AFTER_PAUSE {
            self.heard.slowest = self.heard.slowest.max(hear.now - published.at);
        }
        (self.heard.last, self.heard.messages) = (seq, self.heard.messages + 1);
        self.heard.digest = digest(digest(self.heard.digest, seq), hear.now);
        Ok(())
    }
}

/// What hearing needs.
struct Hear<'a> {
    channel: usize,
    now: Millis,
    rng: &'a mut Rng,
    shared: &'a Shared,
}

impl Hear<'_> {
    fn mask(&mut self) -> [u8; 4] {
        self.rng.u32(..).to_be_bytes()
    }
}

/// The path segment of a channel.
pub(crate) fn channel_name(channel: usize) -> String {
    format!("channel-{channel}")
}

/// A client's reads are spread over time.
pub(crate) fn next_read(now: Millis, id: usize) -> (Millis, Event) {
    (now + 100, Event::Read(id))
}
