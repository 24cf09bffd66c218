//! What must be true: now and then while the simulation runs, and at its end.

use super::agenda::Millis;
use super::audit::digest;
use super::client::Heard;
use super::world::World;

/// What was counted, in all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) pushed: u64,
    pub(crate) sent: u64,
    pub(crate) dropped: u64,
    pub(crate) discarded: u64,
}

/// What a simulation amounted to. The same seed gives the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Summary {
    pub(crate) counts: Counts,
    pub(crate) connections: u64,
    /// Until the server shut down, as the digest.
    pub(crate) killed: u64,
    pub(crate) gaps: u64,
    /// Frames sent and never read.
    pub(crate) lost: u64,
    pub(crate) verified: u64,
    /// Of who sent and read what, and when, until the server shut down.
    pub(crate) digest: u64,
}

impl World {
    pub(crate) fn counts(&self) -> Counts {
        let mut counts = Counts { sent: self.hub.metrics().sent().0, ..Counts::default() };
        for channel in self.hub.channels() {
            counts.pushed += channel.counters().pushed.get();
            counts.dropped += channel.counters().dropped.get();
            counts.discarded += channel.counters().discarded.get();
        }
        counts
    }

    /// Looks at everything. What was published before this moment has had its time.
    pub(crate) fn check(&mut self) {
        let mut agenda = self.shared.lock();
        let now = agenda.now();
        let (mut may_queue, mut whole, mut bytes) = (0, 0, 0);
        let mut begun = vec![0; self.publishers.len()];
        let mut violations = Vec::new();
        drop(agenda);
        self.live.retain(|wire| {
            let line = self.lines[*wire].lock();
            let (audit, agenda) = (&line.audit, self.shared.lock());
            if audit.dropped_at.is_some() {
                self.retired.whole += audit.whole;
                self.retired.bytes += audit.bytes;
                return false;
            }
            violations.extend(audit.check_idle(&agenda, now).err().map(|what| format!("wire {wire}: {what}")));
            may_queue += audit.may_queue(&agenda);
            (whole, bytes) = (whole + audit.whole, bytes + audit.bytes);
            begun[self.clients[line.client].channel] += usize::from(audit.is_in_message());
            true
        });
        let (counts, sent) = (self.counts(), self.hub.metrics().sent());
        if sent != (self.retired.whole + whole, self.retired.bytes + bytes) {
            let (frames, bytes) = (self.retired.whole + whole, self.retired.bytes + bytes);
            violations.push(format!("{sent:?} counted as sent, and sockets took {frames} and {bytes}"));
        }
        let queued = i128::from(counts.pushed) - i128::from(counts.sent + counts.dropped + counts.discarded);
        if !(0..=i128::from(may_queue)).contains(&queued) {
            violations.push(format!("{queued} frames queued, and {may_queue} may be: {counts:?}"));
        }
        agenda = self.shared.lock();
        for (channel, publisher) in self.publishers.iter_mut().enumerate() {
            let published = &agenda.published[channel];
            publisher.alive.retain(|message| !published[*message].payload.is_unique());
            let (alive, most) = (publisher.alive.len(), agenda.rules.ring as usize + 1 + begun[channel]);
            if alive > most {
                violations.push(format!("{alive} frames of channel {channel} are alive, and {most} may be"));
            }
        }
        violations.into_iter().for_each(|what| agenda.violate(&what));
    }

    /// Nothing has happened for a while: everybody who is there has had everything, and only the dead are gone.
    pub(crate) fn check_calm(&self) {
        let queued = self.counts();
        assert_eq!(queued.pushed, queued.sent + queued.dropped + queued.discarded, "something waits: {queued:?}");
        for client in &self.clients {
            let Some(call) = client.call.as_ref().filter(|call| call.heard.is_open && !call.is_mute) else {
                continue;
            };
            let newest = self.shared.lock().newest(client.channel);
            let (wire, audit) = (call.wire, &call.lock().audit);
            if audit.is_open() && audit.close.is_none() {
                assert_eq!(call.heard.last, newest, "client {} of wire {wire}: {:?}", client.id, client.persona);
            }
        }
        let agenda = self.shared.lock();
        let disconnects = self.hub.metrics().disconnects.get();
        let count = |reason| disconnects.get(reason).copied().unwrap_or(0);
        let counted = count("heartbeat") + count("stalled") + count("slow");
        let killed = agenda.killed..=agenda.killed + agenda.maybe_killed;
        assert!(killed.contains(&counted), "{counted} counted as killed, and {killed:?} were");
    }

    /// Whom nothing ails: they will be sent everything and a Close. Their wires, and whether the Close
    /// cannot but arrive.
    pub(crate) fn healthy(&self, now: Millis) -> Vec<(usize, bool)> {
        let healthy = |client: &super::client::Client| {
            let call = client.call.as_ref()?;
            let wire = call.lock();
            let (audit, persona) = (&wire.audit, &client.persona);
            let goes_on = audit.goes_on(&self.shared.lock());
            let is_well = client.stalls_until <= now && wire.cut_until <= now && !audit.is_blocked && !call.is_mute;
            let is_healthy = goes_on && is_well && persona.allowance.is_none();
            is_healthy.then_some((call.wire, persona.is_prompt()))
        };
        self.clients.iter().filter_map(healthy).collect()
    }

    /// The server is gone, and what was under way has arrived.
    pub(crate) fn check_end(&mut self, healthy: &[(usize, bool)], close_code: u16) -> Summary {
        for client in &mut self.clients {
            if let Some(call) = client.call.take() {
                self.past[call.wire] = Some(call.heard);
            }
        }
        for (wire, arrives) in healthy {
            let (audit_close, last) = {
                let line = self.lines[*wire].lock();
                (line.audit.close, line.audit.last)
            };
            let heard = self.past[*wire].as_ref().expect("a call");
            assert!(audit_close.is_some_and(|(code, _)| code == close_code), "wire {wire}: {audit_close:?}");
            if *arrives {
                assert_eq!(heard.close, audit_close.map(|(code, _)| code), "wire {wire}");
                assert_eq!(heard.last, last, "wire {wire}");
                assert_eq!(last, self.shared.lock().newest(self.clients[self.lines[*wire].lock().client].channel));
            }
        }
        let summary = self.account();
        let metrics = self.hub.metrics();
        let Summary { counts, connections, .. } = summary;
        assert_eq!(counts.pushed, counts.sent + counts.dropped + counts.discarded, "{counts:?}");
        assert_eq!(connections, metrics.connections_total.get());
        assert_eq!(connections, metrics.disconnects.get().values().sum::<u64>(), "{:?}", metrics.disconnects.get());
        assert_eq!((metrics.open_connections.get(), metrics.handshakes.get()), (0, 0));
        assert!(self.hub.channels().iter().all(|channel| channel.subscribers() == 0));
        assert!(summary.gaps <= counts.dropped, "{} left out, and {} dropped", summary.gaps, counts.dropped);
        summary
    }

    /// Of who sent and read what, and when.
    pub(crate) fn digest(&self) -> u64 {
        let mut heard: Vec<_> = self.past.iter().map(|heard| heard.as_ref().map_or(0, |heard| heard.digest)).collect();
        for call in self.clients.iter().filter_map(|client| client.call.as_ref()) {
            heard[call.wire] = call.heard.digest;
        }
        let pairs = self.lines.iter().zip(heard);
        pairs.fold(0, |sum, (line, heard)| digest(digest(sum, line.lock().audit.digest), heard))
    }

    /// Adds up what the server sent and what the clients read.
    fn account(&self) -> Summary {
        let (counts, verified) = (self.counts(), self.verified);
        let mut summary = Summary { counts, connections: 0, killed: 0, gaps: 0, lost: 0, verified, digest: 0 };
        let mut read = 0;
        for (line, heard) in self.lines.iter().zip(&self.past) {
            let wire = line.lock();
            let audit = &wire.audit;
            let nothing = Heard::default();
            let heard = heard.as_ref().unwrap_or(&nothing);
            assert!(audit.dropped_at.is_some(), "the server holds on to a connection");
            assert!(heard.messages <= audit.whole, "more read than sent");
            if !wire.is_lossy && wire.down.held() == 0 {
                assert_eq!(heard.messages, audit.whole, "nothing was cut, and something is missing");
            }
            read += heard.messages;
            summary.lost += audit.whole - heard.messages;
            summary.connections += u64::from(audit.opened_at.is_some());
            summary.gaps += audit.gaps;
        }
        assert_eq!(read + summary.lost, counts.sent, "sent is what was read, and what was cut off");
        summary
    }
}
