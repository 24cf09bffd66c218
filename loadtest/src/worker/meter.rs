//! What a message means for the figures.

use crate::sequence::{Arrival, Tracker};
use crate::spread::Sightings;
use crate::stats::{Interval, Received};
use crate::wire::fields::{MAX_FIELDS, Number, Paths};
use crate::wire::template::{SENT_FIELD, TimeUnit};

/// Staleness is counted in thousandths, so that one message is more than a histogram's resolution.
const STALENESS_SCALE: u64 = 1_000;

/// What the meter needs to know of a connection.
#[derive(Debug, Default)]
pub(crate) struct Client {
    pub(crate) tracker: Tracker,
    /// Whether it reads slowly.
    pub(crate) slow: bool,
    /// Whether it has received nothing yet.
    pub(crate) fresh: bool,
    /// Whether it was there before and left.
    pub(crate) returning: bool,
    /// When it left (a storm) or began to connect, nanoseconds since the epoch.
    pub(crate) since: u64,
    /// When it began to connect.
    pub(crate) began: u64,
}

/// One message, read to its end.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Message {
    pub(crate) values: [Option<Number>; MAX_FIELDS],
    pub(crate) length: u64,
    pub(crate) binary: bool,
    /// When its last byte was read, nanoseconds since the epoch.
    pub(crate) now: u64,
}

/// One worker's measurements.
#[derive(Debug)]
pub(crate) struct Meter {
    pub(crate) paths: Paths,
    unit: TimeUnit,
    timed: bool,
    /// When the run of an own publisher began: what is older is left from another run.
    began: u64,
    /// Messages of a time before this one do not count: they belong to what was before the measurement.
    floor: u64,
    pub(crate) interval: Interval,
    sightings: Sightings,
    newest: u64,
    last_message: u64,
}

impl Meter {
    /// Looks for the time and the number under these names; an empty name is not looked for.
    pub(crate) fn new(time: &str, number: &str, unit: TimeUnit, own_publisher: bool) -> Self {
        let sent = if own_publisher { SENT_FIELD } else { "" };
        Self {
            paths: Paths::new(&[time, number, sent]),
            unit,
            timed: !time.is_empty(),
            began: if own_publisher { super::wall() } else { 0 },
            floor: 0,
            interval: Interval::default(),
            sightings: Sightings::default(),
            newest: 0,
            last_message: 0,
        }
    }

    /// Only messages of this time or later count, and silence before it does not.
    pub(crate) fn begin(&mut self, floor: u64) {
        self.floor = floor;
        self.last_message = floor;
    }

    /// Everything since the last call.
    pub(crate) fn take(&mut self, now: u64) -> Interval {
        self.note_silence(now);
        let mut interval = std::mem::take(&mut self.interval);
        interval.sightings = self.sightings.take();
        interval.last_message = self.last_message;
        interval.newest = self.newest;
        interval
    }

    /// Silence before now counts, even if it is not over.
    fn note_silence(&mut self, now: u64) {
        if self.last_message > 0 {
            self.interval.silence = self.interval.silence.max(now.saturating_sub(self.last_message));
        }
    }

    fn nanos(&self, number: Number) -> Option<u64> {
        let unit = self.unit.nanos();
        let part = u64::from(number.nanos) * unit / 1_000_000_000;
        number.whole.checked_mul(unit)?.checked_add(part)
    }

    /// A client has received a message.
    pub(crate) fn receive(&mut self, client: &mut Client, message: Message) {
        let Message { values, now, .. } = message;
        let time = values[0].and_then(|number| self.nanos(number));
        let sent = values[2].and_then(|number| self.nanos(number));
        let fresh = std::mem::take(&mut client.fresh);
        self.note_silence(now);
        self.last_message = now;
        if fresh {
            self.interval.first_message.record(now.saturating_sub(client.since));
            self.interval.returned += u64::from(client.returning);
        }
        if time.is_some_and(|time| time < self.began) {
            return;
        }
        // Without a fraction, or it is no number of a message.
        let number = values[1].filter(|number| number.nanos == 0).map(|number| number.whole);
        let arrival = number.map(|number| client.tracker.arrive(number));
        if time.is_some_and(|time| time < self.floor) {
            return;
        }
        // What a server kept for whoever comes was not late.
        let retained = fresh && time.is_some_and(|time| time < client.began);
        let received = if client.slow { &mut self.interval.slow } else { &mut self.interval.free };
        received.messages += 1;
        received.binary += u64::from(message.binary);
        received.payload_bytes += message.length;
        if let (Some(number), Some(arrival)) = (number, arrival) {
            judge(received, arrival);
            self.newest = self.newest.max(number);
            if client.slow {
                received.staleness.record((self.newest - number).saturating_mul(STALENESS_SCALE));
            }
        }
        match time {
            None => received.untimed += u64::from(self.timed),
            Some(_) if retained => received.retained += 1,
            Some(time) if time > now => received.future += 1,
            Some(time) => {
                received.delivery.record(now - time);
                if let Some(sent) = sent {
                    received.uncorrected.record(now.saturating_sub(sent));
                }
            }
        }
        if let Some(key) = number.or(time)
            && !retained
            && !client.slow
            && arrival != Some(Arrival::Repeat)
        {
            self.sightings.note(key, now);
        }
    }
}

fn judge(received: &mut Received, arrival: Arrival) {
    received.numbered += 1;
    match arrival {
        Arrival::Next(skipped) => received.holes += skipped as i64,
        Arrival::Late => {
            received.holes -= 1;
            received.disorder += 1;
        }
        Arrival::Earlier(skipped) => {
            received.holes += skipped as i64;
            received.disorder += 1;
        }
        Arrival::Repeat => received.repeats += 1,
    }
}
