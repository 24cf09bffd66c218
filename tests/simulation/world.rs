//! The simulation: one event after the other, and between two of them the server does what it does.

use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use fastrand::Rng;
use tickcast::fanout::{Channel, Hub, Message};

use super::agenda::{Agenda, Event, Millis, Published, Shared, Way};
use super::audit::Audit;
use super::client::{Client, Heard, next_read};
use super::door::Door;
use super::flow::{Flow, LAST_TIMEOUT};
use super::persona::{Farewell, Fault, Manners};
use super::wire::{Line, Stream};

/// Time between two looks at everything.
const CHECK: Millis = 500;
/// How long a client waits for the other side to end a connection that it wants ended.
const FAREWELL: Millis = 10_000;

/// A channel's publisher.
#[derive(Debug)]
pub(crate) struct Publisher {
    pub(crate) channel: Channel,
    pub(crate) rng: Rng,
    pub(crate) every: Millis,
    pub(crate) smallest: usize,
    pub(crate) largest: usize,
    /// Messages of which somebody still holds the frame.
    pub(crate) alive: Vec<usize>,
}

#[derive(Debug)]
pub(crate) struct World {
    pub(crate) hub: Hub,
    pub(crate) shared: Shared,
    pub(crate) door: Door,
    pub(crate) rng: Rng,
    pub(crate) clients: Vec<Client>,
    pub(crate) publishers: Vec<Publisher>,
    pub(crate) lines: Vec<Line>,
    /// What the clients of connections that are over were told, by wire.
    pub(crate) past: Vec<Option<Heard>>,
    /// Wires whose server has not let go of them, and what it did with the others.
    pub(crate) live: Vec<usize>,
    pub(crate) retired: Retired,
    pub(crate) next_check: Millis,
    /// From then on nothing happens to anybody, and nobody comes.
    pub(crate) calm_from: Millis,
    pub(crate) publish_until: Millis,
    /// Clients that had to have a message by a certain time, and had.
    pub(crate) verified: u64,
}

/// Sums over connections that are over.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Retired {
    pub(crate) whole: u64,
    pub(crate) bytes: u64,
}

impl World {
    /// Lets everything happen up to `until`, that included.
    pub(crate) async fn run(&mut self, until: Millis) {
        let wake = Arc::clone(&self.shared.lock().wake);
        loop {
            let now = self.shared.lock().clock();
            if now >= self.next_check {
                self.check();
                self.next_check = now + CHECK;
            }
            while let Some((now, event)) = self.pop() {
                self.happen(now, event);
            }
            let instant = {
                let mut agenda = self.shared.lock();
                assert!(agenda.violations.is_empty(), "{:#?}", agenda.violations);
                if now >= until {
                    return;
                }
                let next = agenda.next().unwrap_or(Millis::MAX).min(self.next_check).min(until);
                agenda.sleeps_until = next;
                agenda.instant(next)
            };
            tokio::select! {
                biased;
                () = tokio::time::sleep_until(instant) => {}
                () = wake.notified() => {}
            }
        }
    }

    fn pop(&self) -> Option<(Millis, Event)> {
        let mut agenda = self.shared.lock();
        // Whatever is scheduled while it does not sleep, it will see.
        agenda.sleeps_until = 0;
        agenda.pop()
    }

    fn schedule(&self, at: Millis, event: Event) {
        self.shared.lock().schedule(at, event);
    }

    fn happen(&mut self, now: Millis, event: Event) {
        match event {
            Event::Arrive(wire, way) => self.arrive(wire, way),
            Event::Join(id) => self.join(now, id),
            Event::Read(id) => self.read(now, id),
            Event::Speak(id) => {
                self.clients[id].speak(&self.shared);
                let pause = self.clients[id].rng.u64(500..20_000);
                self.schedule(now + pause, event);
            }
            Event::Fault(id) => self.fault(now, id),
            Event::Heal(id, number) => self.heal(now, id, number),
            Event::Verify(id, number, seq) => self.verify(now, id, number, seq),
            Event::Leave(wire) => {
                let id = self.lines[wire].lock().client;
                if self.clients[id].call.as_ref().is_some_and(|call| call.wire == wire) {
                    self.hang_up(id, false);
                }
            }
            Event::Publish(channel) => self.publish(now, channel),
            Event::Partition(group, duration) => {
                let ids = (0..self.clients.len()).filter(|id| id % 8 == group);
                ids.for_each(|id| self.partition(now, id, duration));
            }
            Event::Pause(duration) => self.pause(now, duration),
        }
    }

    /// The clock goes on without the server, which does not get the thread before all that happens meanwhile
    /// has happened.
    fn pause(&mut self, now: Millis, duration: Millis) {
        if now < self.shared.lock().clock() {
            return;
        }
        let mut advance = std::pin::pin!(tokio::time::advance(Duration::from_millis(duration)));
        // The clock goes on with the first poll; what is left would be to yield.
        assert!(advance.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
        let mut agenda = self.shared.lock();
        agenda.pause(now);
        self.next_check = self.next_check.max(agenda.clock() + 2);
    }

    fn arrive(&mut self, wire: usize, way: Way) {
        let line = self.lines[wire].clone();
        let mut wire_end = line.lock();
        wire_end.arrive(way, &self.shared);
        let id = wire_end.client;
        drop(wire_end);
        let client = &mut self.clients[id];
        if way == Way::Down && client.call.as_ref().is_some_and(|call| call.wire == wire) {
            if client.persona.allowance.is_none() {
                client.hear(usize::MAX, &self.shared);
            }
            self.end_if_over(id);
        }
    }

    fn end_if_over(&mut self, id: usize) {
        if self.clients[id].call.as_ref().is_some_and(super::client::Call::is_over) {
            self.hang_up(id, false);
        }
    }

    /// The client closes its socket.
    fn hang_up(&mut self, id: usize, resets: bool) {
        let Some(call) = self.clients[id].call.take() else {
            return;
        };
        call.lock().hang_up(resets, &self.shared);
        self.end_call(id, call.wire, call.heard);
    }

    fn end_call(&mut self, id: usize, wire: usize, heard: Heard) {
        self.past[wire] = Some(heard);
        let pause = self.clients[id].rng.u64(100..5_000);
        let at = self.shared.lock().now() + pause;
        self.schedule(at, Event::Join(id));
    }

    fn join(&mut self, now: Millis, id: usize) {
        if now >= self.calm_from {
            return;
        }
        let client = &mut self.clients[id];
        let persona = client.persona;
        let mut flow = |send, receive| Flow::new(persona.link, client.rng.u64(..), send, receive);
        let flows = (flow(persona.send_buffer, persona.receive_buffer), flow(4 << 10, 4 << 10));
        let wire = self.lines.len();
        let audit = Audit::new(wire, client.channel, now);
        let line = Line::new(wire, id, flows, audit, client.rng.fork(), persona.splits);
        self.lines.push(line.clone());
        self.past.push(None);
        self.live.push(wire);
        self.door.knock(Stream::new(line.clone(), self.shared.clone()), id);
        (client.stalls_until, client.fault) = (0, client.fault + 1);
        client.connect(wire, line, &self.shared);
        if persona.allowance.is_some() {
            let (at, event) = next_read(now, id);
            self.schedule(at, event);
        }
    }

    fn read(&mut self, now: Millis, id: usize) {
        let client = &mut self.clients[id];
        if let (Some(allowance), Some(_)) = (client.persona.allowance, &client.call) {
            client.hear(allowance, &self.shared);
            let (at, event) = next_read(now, id);
            self.schedule(at, event);
            self.end_if_over(id);
        }
    }

    fn fault(&mut self, now: Millis, id: usize) {
        let client = &mut self.clients[id];
        let (rng, persona) = (&mut client.rng, client.persona);
        let Some(every) = persona.fault_every.filter(|_| now < self.calm_from) else {
            return;
        };
        let next = now + every / 4 + rng.u64(0..every * 3 / 2);
        self.shared.lock().schedule(next, Event::Fault(id));
        if persona.manners != Manners::Request {
            return;
        }
        let fault = persona.fault(rng);
        let Some(call) = client.call.as_mut().filter(|call| call.heard.is_open) else {
            return;
        };
        call.is_pristine = false;
        client.fault += 1;
        match fault {
            Fault::Stall(duration) => self.stall(now, id, duration),
            Fault::Partition(duration) => self.partition(now, id, duration),
            Fault::Mute => call.is_mute = true,
            Fault::Gone => self.vanish(id),
            Fault::Leave(farewell) => self.leave(now, id, farewell),
        }
    }

    /// Its machine is gone; later another one comes in its place.
    pub(crate) fn vanish(&mut self, id: usize) {
        if let Some(call) = self.clients[id].call.take() {
            call.lock().cut_until = Millis::MAX;
            self.end_call(id, call.wire, call.heard);
        }
    }

    pub(crate) fn stall(&mut self, now: Millis, id: usize, duration: Millis) {
        let client = &mut self.clients[id];
        client.fault += 1;
        client.stalls_until = client.stalls_until.max(now + duration);
        let event = Event::Heal(id, client.fault);
        client.call.iter_mut().for_each(|call| call.is_pristine = false);
        self.schedule(now + duration, event);
    }

    pub(crate) fn partition(&mut self, now: Millis, id: usize, duration: Millis) {
        let client = &mut self.clients[id];
        let Some(call) = &mut client.call else {
            return;
        };
        client.fault += 1;
        call.is_pristine = false;
        let mut wire = call.lock();
        wire.cut_until = wire.cut_until.max(now.saturating_add(duration));
        drop(wire);
        let event = Event::Heal(id, client.fault);
        self.schedule(now.saturating_add(duration), event);
    }

    fn leave(&mut self, now: Millis, id: usize, farewell: Farewell) {
        let client = &mut self.clients[id];
        let Some(call) = &client.call else {
            return;
        };
        self.shared.lock().schedule(now + FAREWELL, Event::Leave(call.wire));
        match farewell {
            Farewell::Close => client.close(&self.shared),
            Farewell::HalfClose => call.lock().half_close(&self.shared),
            Farewell::End => self.hang_up(id, false),
            Farewell::Reset => self.hang_up(id, true),
        }
    }

    fn heal(&mut self, now: Millis, id: usize, number: u64) {
        let client = &mut self.clients[id];
        client.hear(client.persona.allowance.unwrap_or(usize::MAX), &self.shared);
        let client = &self.clients[id];
        if client.fault == number && client.call.is_some() {
            let mut agenda = self.shared.lock();
            // A retransmission may have been put off by as much as the fault lasted.
            let until = now + self.patience(id, &agenda) + LAST_TIMEOUT;
            let newest = agenda.newest(client.channel);
            agenda.schedule(until, Event::Verify(id, number, newest));
        }
        self.end_if_over(id);
    }

    /// How long it may take until a client whom nothing ails has all that was published.
    fn patience(&self, id: usize, agenda: &Agenda) -> Millis {
        let Client { channel, persona, .. } = &self.clients[id];
        persona.patience((agenda.rules.ring as usize + 1) * (self.publishers[*channel].largest + 20))
    }

    fn verify(&mut self, now: Millis, id: usize, number: u64, seq: u64) {
        let mut agenda = self.shared.lock();
        let patience = self.patience(id, &agenda);
        // A partition of several may have come on top: what was under way then waits for a timeout.
        let cut_until = self.clients[id].call.as_ref().map_or(0, |call| call.lock().cut_until);
        let until = patience.saturating_add(agenda.resumed_at().max(if cut_until > 0 {
            cut_until.saturating_add(LAST_TIMEOUT)
        } else {
            0
        }));
        if now < until {
            agenda.schedule(until, Event::Verify(id, number, seq));
            return;
        }
        drop(agenda);
        let client = &self.clients[id];
        let Some(call) = client.call.as_ref().filter(|_| client.fault == number) else {
            return;
        };
        let wire = call.lock();
        let audit = &wire.audit;
        let goes_on = audit.goes_on(&self.shared.lock());
        let heard = call.heard.last;
        drop(wire);
        if goes_on && heard < seq {
            let what = format!("client {id} has {heard} and not {seq}, well after everything was well");
            self.shared.lock().violate(&what);
        }
        self.verified += u64::from(goes_on);
    }

    pub(crate) fn publish(&mut self, now: Millis, channel: usize) {
        let Publisher { channel: stream, rng, every, smallest, largest, alive } = &mut self.publishers[channel];
        if now < self.publish_until {
            let pause = rng.u64(*every / 2..*every * 3 / 2).max(1);
            self.shared.lock().schedule(now + pause, Event::Publish(channel));
        }
        let seq = stream.seq() + 1;
        let filler = rng.alphanumeric().to_string().repeat(rng.usize(*smallest..=*largest));
        stream.publish(Message::text(format!("{seq} {filler}"))).expect("the only publisher");
        let payload = last(stream);
        self.shared.lock().published[channel].push(Published { payload, at: now });
        alive.push(seq as usize - 1);
    }
}

/// The message just published. Looking takes a turn, which is at once.
fn last(channel: &Channel) -> Bytes {
    let mut last = std::pin::pin!(channel.last());
    match last.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(Some(frame)) => frame.payload(),
        other => panic!("just published: {other:?}"),
    }
}
