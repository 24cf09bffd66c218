//! What the server hands to one connection, checked at the moment it does: here no network blurs anything.

use super::agenda::{Agenda, Millis, Rules};
use super::frames::{CLOSE, Frames, Item, PING, TEXT, number};

/// From the end of the time for a Pong to the verdict, and how long a closed session waits for its peer:
/// `GRACE` and `LINGER` of the server's `heartbeat.rs`.
const GRACE: Millis = 20;
const LINGER: Millis = 2_000;
/// What a client is given when the verdict comes late; of the same place.
const REPRIEVE: Millis = 500;
/// Timers fire up to a millisecond late, and one deadline may be made of several.
const SLACK: Millis = 5;
/// What a client is told that is ended, by `disconnect.rs`.
const HEARTBEAT: &str = "heartbeat timeout";
const STALLED: &str = "write timeout";
const SLOW: &str = "slow consumer";

/// One connection, as its server should see it.
#[derive(Debug)]
pub(crate) struct Audit {
    wire: usize,
    channel: usize,
    frames: Frames,
    pub(crate) accepted_at: Millis,
    /// When it was answered with 101, and how many messages had been published.
    pub(crate) opened_at: Option<Millis>,
    pub(crate) joined: u64,
    /// The last message, and how many whole ones.
    pub(crate) last: u64,
    pub(crate) whole: u64,
    pub(crate) gaps: u64,
    /// After the answer.
    pub(crate) bytes: u64,
    /// Since when the socket takes bytes, and whether it does.
    pub(crate) writable_at: Millis,
    pub(crate) is_blocked: bool,
    blocked_at: Millis,
    /// When it last took bytes, and when all that there was.
    took_at: Millis,
    clear_at: Millis,
    pinged_at: Option<Millis>,
    told: Option<&'static str>,
    pub(crate) ponged_at: Option<Millis>,
    pub(crate) close: Option<(u16, Millis)>,
    /// When the client's Close, its end or its reset came.
    pub(crate) leaves_at: Option<Millis>,
    pub(crate) dropped_at: Option<Millis>,
    /// Of everything, with its time.
    pub(crate) digest: u64,
}

impl Audit {
    pub(crate) fn new(wire: usize, channel: usize, now: Millis) -> Self {
        Self {
            wire,
            channel,
            frames: Frames::default(),
            accepted_at: now,
            opened_at: None,
            joined: 0,
            last: 0,
            whole: 0,
            gaps: 0,
            bytes: 0,
            writable_at: now,
            is_blocked: false,
            blocked_at: 0,
            took_at: now,
            clear_at: now,
            pinged_at: None,
            told: None,
            ponged_at: None,
            close: None,
            leaves_at: None,
            dropped_at: None,
            digest: digest(0, wire as u64),
        }
    }

    /// The socket takes nothing.
    pub(crate) fn block(&mut self, agenda: &Agenda) {
        if !std::mem::replace(&mut self.is_blocked, true) {
            self.blocked_at = agenda.now();
        }
    }

    /// The socket took these, and with them all that there was, or not.
    pub(crate) fn take(&mut self, bytes: &[u8], is_all: bool, agenda: &mut Agenda) {
        let now = agenda.now();
        let mut frames = std::mem::take(&mut self.frames);
        let was_open = self.opened_at.is_some();
        let taken = frames.feed(bytes, now, &mut |item| self.check(&item, agenda, now));
        self.frames = frames;
        self.took_at = now;
        if is_all && self.last == agenda.newest(self.channel) {
            self.clear_at = now;
        }
        // The answer goes out before anything else, in a write of its own.
        self.bytes += if was_open { bytes.len() as u64 } else { 0 };
        if let Err(what) = taken {
            agenda.violate(&format!("wire {}: {what}", self.wire));
        }
    }

    fn check(&mut self, item: &Item<'_>, agenda: &Agenda, now: Millis) -> Result<(), String> {
        match *item {
            Item::Answer(answer) => {
                if answer.starts_with("HTTP/1.1 101 ") {
                    (self.opened_at, self.joined) = (Some(now), agenda.newest(self.channel));
                }
                Ok(())
            }
            Item::Frame { opcode: TEXT, payload, began } => self.message(payload, began, now, agenda),
            Item::Frame { opcode: CLOSE, payload, .. } => {
                let code = payload.first_chunk().map_or(1005, |code| u16::from_be_bytes(*code));
                self.close = Some((code, now));
                let reasons = [HEARTBEAT, STALLED, SLOW];
                self.told = reasons.into_iter().find(|reason| payload.get(2..) == Some(reason.as_bytes()));
                if self.told.is_some() { self.judge(agenda, now) } else { Ok(()) }
            }
            Item::Frame { opcode, .. } => {
                if opcode == PING {
                    self.pinged_at = Some(now);
                }
                Ok(())
            }
        }
    }

    fn message(&mut self, payload: &[u8], began: Millis, now: Millis, agenda: &Agenda) -> Result<(), String> {
        let seq = number(payload).ok_or("a message without its number")?;
        let published = seq.checked_sub(1).and_then(|index| agenda.published[self.channel].get(index as usize));
        let published = published.ok_or_else(|| format!("message {seq} was never published"))?;
        if published.payload != payload {
            return Err(format!("message {seq} is not as it was published"));
        }
        let next = if self.whole == 0 { self.joined.max(1) } else { self.last + 1 };
        if seq < next {
            return Err(format!("message {seq} after {}, joined at {}", self.last, self.joined));
        }
        if seq > next {
            self.gap(next, seq, began, agenda)?;
        }
        let opened = self.opened_at.unwrap_or(Millis::MAX);
        let due = published.at.max(self.writable_at).max(opened).max(agenda.resumed_at());
        if now > due + 1 {
            return Err(format!("message {seq} could go at {due}, and went {} ms later", now - due));
        }
        (self.last, self.whole) = (seq, self.whole + 1);
        self.digest = digest(digest(self.digest, seq), now);
        Ok(())
    }

    /// `next` to `seq` were left out. A ring gives up its oldest, and only when it is full: so what comes
    /// first after a gap is the oldest of as many as a ring holds. What is published in the same
    /// millisecond may be in it or not.
    fn gap(&mut self, next: u64, seq: u64, began: Millis, agenda: &Agenda) -> Result<(), String> {
        let ring = agenda.rules.ring;
        if self.whole == 0 {
            return Err(format!("the first message is {seq} instead of {next}"));
        }
        let (before, at) = (agenda.known_before(self.channel, began), agenda.newest_at(self.channel, began));
        if seq + ring > at + 1 {
            return Err(format!("{next} gave way, though the ring had room: {seq} came next, {at} was the newest"));
        }
        if seq + ring < before + 1 {
            return Err(format!("{seq} was kept for a newer one: {before} was the newest"));
        }
        self.gaps += seq - next;
        Ok(())
    }

    pub(crate) fn is_open(&self) -> bool {
        self.opened_at.is_some() && self.dropped_at.is_none()
    }

    /// A message is in the hands of the server that it has begun to send.
    pub(crate) fn is_in_message(&self) -> bool {
        self.is_open() && self.frames.is_in_message()
    }

    /// It takes part in its channel.
    fn is_member(&self) -> bool {
        self.is_open() && self.close.is_none() && self.leaves_at.is_none()
    }

    /// Frames that may wait for it: what its ring holds, and one begun. The rest of that still goes to who
    /// leaves.
    pub(crate) fn may_queue(&self, agenda: &Agenda) -> u64 {
        let begun = u64::from(self.is_in_message());
        if !self.is_member() {
            return begun;
        }
        let owed = agenda.newest(self.channel) - self.last.max(self.joined.saturating_sub(1));
        owed.min(agenda.rules.ring + begun)
    }

    /// While the server has nothing to do: what must be true of it then.
    pub(crate) fn check_idle(&self, agenda: &Agenda, now: Millis) -> Result<(), String> {
        let Rules { interval, timeout, handshake, .. } = agenda.rules;
        let newest = agenda.newest(self.channel);
        if self.dropped_at.is_some() {
            return Ok(());
        }
        let Some(opened) = self.opened_at else {
            let until = self.accepted_at + handshake + LINGER + SLACK + agenda.paused_since(self.accepted_at);
            return if now > until { Err("no request, and still there".to_owned()) } else { Ok(()) };
        };
        if self.is_member() && !self.is_blocked && self.last < newest {
            return Err(format!("takes everything, and has {} of {newest}", self.last));
        }
        if let Some(since) = self.leaves_at.or(self.close.map(|(_, at)| at)) {
            let waits = agenda.draining.map_or(0, |_| agenda.rules.drain);
            let until = since + LINGER.max(waits) + SLACK + agenda.paused_since(since);
            return if now > until { Err("over, and still there".to_owned()) } else { Ok(()) };
        }
        let since = self.ponged_at.unwrap_or(0).max(opened);
        if self.may_be_ending(agenda, now) {
            return Ok(());
        }
        let stalls = now.saturating_sub(self.blocked_at.max(self.took_at));
        let Rules { write, .. } = agenda.rules;
        if self.is_blocked && write > 0 && stalls > write + SLACK + agenda.paused_since(self.blocked_at) {
            return Err(format!("takes nothing for {stalls} ms, and still there"));
        }
        let paused = agenda.paused_since(since);
        let late = if paused > 0 { paused + REPRIEVE } else { 0 };
        if now > since + interval + timeout + GRACE + SLACK + late {
            return Err(format!("no Pong since {since}, and still there"));
        }
        Ok(())
    }

    /// The server lets go of it, having been told to go by its client or not.
    pub(crate) fn end(&mut self, agenda: &mut Agenda) {
        let now = agenda.now();
        self.dropped_at = Some(now);
        self.digest = digest(self.digest, now);
        let told = self.told;
        let is_else = self.close.is_some() || agenda.draining.is_some();
        if self.opened_at.is_none() || (told.is_none() && is_else) {
            return;
        }
        if told.is_none()
            && let Some(leaves) = self.leaves_at
        {
            // In the same moment it may have been killed before the server read that it goes, or a Close was
            // on its way.
            agenda.maybe_killed += u64::from(leaves == now || agenda.rules.evict > 0);
            return;
        }
        agenda.killed += 1;
        if told.is_none()
            && let Err(what) = self.judge(agenda, now)
        {
            agenda.violate(&format!("wire {}: {what}", self.wire));
        }
    }

    /// It is killed: whether it may be.
    fn judge(&self, agenda: &Agenda, now: Millis) -> Result<(), String> {
        let Rules { timeout, write, evict, .. } = agenda.rules;
        let asked = now.saturating_sub(timeout + GRACE) + SLACK;
        let ponged = self.ponged_at.filter(|ponged| (asked..now).contains(ponged));
        let may_stall = write > 0 && now + 1 >= self.took_at + write;
        let may_lag = evict > 0 && now + 1 >= self.clear_at + evict;
        let is_right = match self.told {
            Some(HEARTBEAT) => ponged.is_none(),
            Some(STALLED) => may_stall,
            Some(_) => may_lag,
            None => ponged.is_none() || may_stall || (may_lag && now + 1 >= self.clear_at + evict + LINGER),
        };
        let Self { told, took_at, clear_at, pinged_at, .. } = self;
        is_right.then_some(()).ok_or_else(|| {
            format!(
                "killed ({told:?}): asked at {pinged_at:?}, said Pong at {ponged:?}, took something at {took_at} and \
                 everything at {clear_at}"
            )
        })
    }

    /// It may have been evicted, and its socket does not take the Close.
    fn may_be_ending(&self, agenda: &Agenda, now: Millis) -> bool {
        let evict = agenda.rules.evict;
        evict > 0 && self.is_blocked && now + 1 >= self.clear_at + evict
    }

    /// It is there, and nobody has said that it ends.
    pub(crate) fn goes_on(&self, agenda: &Agenda) -> bool {
        self.is_member() && !self.may_be_ending(agenda, agenda.now())
    }
}

/// FNV-1a.
pub(crate) fn digest(hash: u64, value: u64) -> u64 {
    value
        .to_le_bytes()
        .iter()
        .fold(hash ^ 0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}
