//! What a message means for the figures.
//!
//! Measurements are cut where they have to be: at the first message of the measurement, known by its
//! time, and not when the coordinator's word happens to arrive. So the meter hands over up to two
//! pieces at once, the one before the cut and the one behind it.

use crate::sequence::{Arrival, Tracker};
use crate::spread::Sightings;
use crate::stats::{Interval, Received};
use crate::wire::fields::{MAX_FIELDS, Number, Paths};
use crate::wire::template::{SENT_FIELD, TimeUnit};

/// Staleness is counted in thousandths, so that one message is more than a histogram's resolution.
const STALENESS_SCALE: u64 = 1_000;

/// What counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Counting {
    /// Nothing yet.
    No,
    /// Messages of this time and later, in nanoseconds since the epoch, once they come.
    From(u64),
    /// Everything that is received.
    All,
}

/// What the meter needs to know of a connection.
#[derive(Debug, Default)]
pub(crate) struct Client {
    pub(crate) tracker: Tracker,
    /// Whether it reads slowly.
    pub(crate) slow: bool,
    /// Whether it has received nothing yet.
    pub(crate) fresh: bool,
    /// Whether no message of it had a time yet.
    pub(crate) untimed: bool,
    /// Whether it was there before and left.
    pub(crate) returning: bool,
    /// When it left (a storm) or began to connect, nanoseconds since the epoch.
    pub(crate) since: u64,
    /// When it began to connect.
    pub(crate) began: u64,
    /// Messages received once, and holes, that count.
    pub(crate) accounted: i64,
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
    counting: Counting,
    /// A cut still to come: the time of the first message behind it.
    cut: Option<u64>,
    /// What was measured before the cut, since the last report.
    before: Option<(bool, Interval)>,
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
            counting: Counting::No,
            cut: None,
            before: None,
            interval: Interval::default(),
            sightings: Sightings::default(),
            newest: 0,
            last_message: 0,
        }
    }

    /// Counts like this from now on, or from the first message of that time on.
    pub(crate) fn count(&mut self, counting: Counting, now: u64) {
        match counting {
            Counting::From(floor) => {
                // What was measured until here ends here, and not with the first message of what comes.
                self.switch(Counting::No, now);
                // Messages carry their time to the microsecond at least, cut.
                self.cut = Some(floor / 1_000 * 1_000);
            }
            counting => self.switch(counting, now),
        }
    }

    /// Everything measured since the last call, in pieces, and whether each counts.
    pub(crate) fn take(&mut self, now: u64) -> Vec<(bool, Interval)> {
        if let Some(floor) = self.cut.filter(|floor| *floor <= now) {
            self.switch(Counting::From(floor), floor);
        }
        self.note_silence(now);
        let mut pieces: Vec<_> = self.before.take().into_iter().collect();
        pieces.push(self.close());
        pieces
    }

    /// A client is gone: what it has received is no longer waited for.
    pub(crate) fn forget(&mut self, client: &mut Client) {
        let gone = std::mem::take(&mut client.accounted);
        self.interval.accounted = self.interval.accounted.saturating_sub(gone);
    }

    fn switch(&mut self, counting: Counting, now: u64) {
        self.cut = None;
        self.note_silence(now);
        let piece = self.close();
        match &mut self.before {
            // Two cuts between two reports: what was in between is of no measurement.
            Some((counts, before)) => {
                *counts = false;
                before.merge(&piece.1);
            }
            before => *before = Some(piece),
        }
        self.counting = counting;
        // Silence before the measurement is not of it.
        self.last_message = now;
    }

    fn close(&mut self) -> (bool, Interval) {
        let mut interval = std::mem::take(&mut self.interval);
        interval.sightings = self.sightings.take();
        interval.last_message = self.last_message;
        (self.counting != Counting::No, interval)
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
        if let Some(floor) = self.cut
            && time.map_or(now >= floor, |time| time >= floor)
        {
            self.switch(Counting::From(floor), floor);
        }
        self.note_silence(now);
        self.last_message = self.last_message.max(now);
        if std::mem::take(&mut client.fresh) {
            self.interval.first_message.record(now.saturating_sub(client.since));
            self.interval.returned += u64::from(client.returning);
        }
        if time.is_some_and(|time| time < self.began) {
            return;
        }
        let counts = match self.counting {
            Counting::No => false,
            Counting::From(floor) => time.is_none_or(|time| time >= floor),
            Counting::All => true,
        };
        // Without a fraction, or it is no number of a message.
        let number = values[1].filter(|number| number.nanos == 0).map(|number| number.whole);
        let arrival = number.map(|number| client.tracker.arrive(number, counts));
        let received = if client.slow { &mut self.interval.slow } else { &mut self.interval.free };
        if let Some(arrival) = arrival {
            let more = judge(received, arrival, counts);
            client.accounted = client.accounted.saturating_add(more);
            self.interval.accounted = self.interval.accounted.saturating_add(more);
        }
        // What is shown of the warm-up is not measured, but it is shown.
        if !counts && self.counting != Counting::No {
            return;
        }
        received.messages += 1;
        received.binary += u64::from(message.binary);
        received.payload_bytes += message.length;
        let retained = self.time(client, time, &message);
        if let Some(number) = number {
            self.newest = self.newest.max(number);
            if client.slow {
                let behind = self.newest.saturating_sub(number);
                self.interval.slow.staleness.record(behind.saturating_mul(STALENESS_SCALE));
            }
        }
        if let Some(key) = number.or(time)
            && !client.slow
            && !retained
            && arrival != Some(Arrival::Repeat)
        {
            self.sightings.note(key, now);
        }
    }

    /// Notes how late a message is; returns whether it is one that was kept for newcomers.
    fn time(&mut self, client: &mut Client, time: Option<u64>, message: &Message) -> bool {
        let sent = message.values[2].and_then(|number| self.nanos(number));
        let received = if client.slow { &mut self.interval.slow } else { &mut self.interval.free };
        let Some(time) = time else {
            received.untimed += u64::from(self.timed);
            return false;
        };
        // What a server kept for whoever comes was not late.
        let retained = std::mem::take(&mut client.untimed) && time < client.began;
        if retained {
            received.retained += 1;
        } else if time > message.now {
            received.future += 1;
        } else {
            received.delivery.record(message.now - time);
            if let Some(sent) = sent {
                received.uncorrected.record(message.now.saturating_sub(sent));
            }
        }
        retained
    }
}

/// Counts an arrival; returns by how much more is accounted for.
fn judge(received: &mut Received, arrival: Arrival, counts: bool) -> i64 {
    let skipped = |skipped: u64| i64::try_from(skipped).unwrap_or(i64::MAX);
    let holes = match arrival {
        Arrival::Next(gap) | Arrival::Earlier(gap) if counts => skipped(gap),
        // A hole that was counted is none, whatever the time of what fills it.
        Arrival::Late(true) => -1,
        _ => 0,
    };
    received.holes = received.holes.saturating_add(holes);
    if !counts {
        return holes;
    }
    received.numbered += 1;
    received.disorder += u64::from(matches!(arrival, Arrival::Late(_) | Arrival::Earlier(_)));
    received.repeats += u64::from(arrival == Arrival::Repeat);
    received.restarts += u64::from(arrival == Arrival::Restart);
    holes.saturating_add(i64::from(arrival != Arrival::Repeat))
}
