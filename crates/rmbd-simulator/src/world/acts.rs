//! Actions on running processes.

use std::time::Duration;

use rmbd_proto::{Boot, SketchNumber};
use rmbd_store::Reading;

use super::super::machine::{Machine, SketchSpec};
use super::super::network::{Datagram, Place, Weather, address};
use super::World;
use super::disks::raise_truth;
use super::events::Event;

impl<M: Machine> World<M> {
    /// Makes a process stand still. Datagrams that come meanwhile wait in its socket.
    pub fn pause(&mut self, place: Place, time: Duration) {
        let until = self.now + time;
        let Some(process) = &mut self.hosts[place].process else {
            return;
        };
        process.paused_until = Some(until);
        let boot = process.setup.boot;
        self.network.faults.pauses += 1;
        self.tell(|| format!("{place} pauses for {time:?}"));
        self.queue.push(until, Event::Resume { place, boot });
    }

    /// Lets strangers flood a node's cluster port. The node reads only now and then, and its datagrams share the
    /// socket's buffer with the flood.
    pub fn flood(&mut self, place: Place, time: Duration) {
        let now = self.now;
        let Some(process) = &mut self.hosts[place].process else {
            return;
        };
        process.flooded_until = Some(now + time);
        process.is_deaf = true;
        let boot = process.setup.boot;
        self.network.faults.floods += 1;
        self.tell(|| format!("{place} is flooded for {time:?}"));
        self.queue.push(now, Event::Hear { place, boot });
    }

    pub fn jump_clock(&mut self, place: Place, ahead: Duration, behind: Duration) {
        let Some(process) = &mut self.hosts[place].process else {
            return;
        };
        self.ledger.jumped(self.now);
        process.clock.ahead += ahead;
        process.clock.behind += behind;
        // The time that the node sleeps for is measured by the clock that jumped.
        process.wake_at = None;
        self.network.faults.clock_jumps += 1;
        self.tell(|| format!("{place}'s clock jumps ahead {ahead:?}, back {behind:?}"));
        self.settle(place);
    }

    pub fn jump_wall_clock(&mut self, place: Place, behind: Duration) {
        self.hosts[place].wall_behind += behind;
        self.network.faults.wall_clock_jumps += 1;
    }

    pub fn push_to(&mut self, place: Place, target: Place) {
        self.network.faults.one_way_peers += 1;
        self.tell(|| format!("{place} is told to push to {target}"));
        if let Some(process) = &mut self.hosts[place].process {
            // A node that pushes one way has met the receiver.
            process.has_met = true;
        }
        self.with(place, |machine, clock| {
            machine.push_to(clock, address(target));
        });
    }

    /// Gives a host other keys, and the process that runs there, too.
    pub fn set_keys(&mut self, place: Place, keys: &[u8]) {
        self.tell(|| format!("{place} gets the keys {keys:?}"));
        self.hosts[place].keys = keys.to_vec();
        self.with(place, |machine, clock| machine.set_keys(clock, keys));
    }

    pub fn join(&mut self, place: Place, seed: Place) {
        self.tell(|| format!("{place} is told to join {seed}"));
        if !self.hosts[place].seeds.contains(&seed) {
            self.hosts[place].seeds.push(seed);
        }
        let seed = address(self.resolve(seed));
        self.with(place, |machine, clock| machine.join(clock, seed));
    }

    fn with(&mut self, place: Place, act: impl FnOnce(&mut M, Duration)) {
        let now = self.now;
        if let Some(process) = &mut self.hosts[place].process {
            let clock = process.clock(now);
            act(&mut process.machine, clock);
            self.settle(place);
        }
    }

    /// Adds to one of the checked keys in the default sketch.
    pub fn add(&mut self, place: Place, key: usize, weight: u32) {
        self.add_to(place, SketchNumber::DEFAULT, key, weight);
    }

    /// Adds to one of the checked keys; does nothing if no process runs, or takes adds to this sketch there.
    pub fn add_to(&mut self, place: Place, sketch: SketchNumber, key: usize, weight: u32) {
        let Some(process) = &mut self.hosts[place].process else {
            return;
        };
        if process.leaving.is_some() || process.paused_until.is_some() {
            return;
        }
        let Some(&spec) = process.setup.spec(sketch) else {
            return;
        };
        while self.is_too_full_for(place, sketch, key, weight) {
            // A node that is asked for a pass does the same.
            self.with(place, |machine, clock| machine.wake(clock));
        }
        self.note_add(place, spec, (key, weight));
        // Who adds wakes the node where others must know at once.
        self.settle(place);
    }

    /// Takes one of the checked keys in the default sketch, with a limit; returns whether it was let in.
    pub fn take_within(&mut self, place: Place, key: usize, limit: u64, reading: Reading) -> bool {
        let now = self.now;
        let Some(process) = &mut self.hosts[place].process else {
            return false;
        };
        let clock = process.clock(now);
        let takes = (process.machine).take(clock, &self.keys[key], limit, reading);
        if takes {
            let spec = *process.setup.first();
            self.note_add(place, spec, (key, 1));
        }
        self.settle(place);
        takes
    }

    /// Notes what was added to one of the checked keys.
    fn note_add(&mut self, place: Place, spec: SketchSpec, (key, weight): (usize, u32)) {
        let (now, keys) = (self.now, self.keys.len());
        let Some(process) = &mut self.hosts[place].process else {
            return;
        };
        let slice = process.setup.slice_of(spec.number);
        let added = self.added.entry(spec.number);
        let truth = process.truth.entry(spec.number);
        let since = process.since.entry(spec.number);
        for sums in [added, truth, since] {
            sums.or_insert_with(|| vec![0; keys])[key] += u64::from(weight);
        }
        raise_truth(&mut self.truth, slice, &process.truth[&spec.number]);
        let of = (slice, spec);
        self.ledger.note(now, of, &self.keys[key], weight);
        process.ledger.note(now, of, &self.keys[key], weight);
    }

    fn is_too_full_for(
        &mut self,
        place: Place,
        sketch: SketchNumber,
        key: usize,
        weight: u32,
    ) -> bool {
        let process = self.hosts[place].process.as_mut();
        process.is_some_and(|process| !process.machine.add(sketch, &self.keys[key], weight))
    }

    /// Adds keys that are not checked.
    pub fn fill(&mut self, place: Place, keys: impl Iterator<Item = u64>) {
        self.is_filled = true;
        if let Some(process) = &mut self.hosts[place].process {
            let of = (process.slice(), *process.setup.first());
            for key in keys {
                let key = key.to_le_bytes();
                if process.machine.add(SketchNumber::DEFAULT, &key, 1) {
                    self.ledger.note(self.now, of, &key, 1);
                    process.ledger.note(self.now, of, &key, 1);
                }
            }
        }
    }

    /// Delivers bytes to a node that no host has sent.
    pub fn forge(&mut self, from: Place, to: Place, bytes: Vec<u8>) {
        let datagram = Datagram {
            from,
            to,
            sender: Boot(0),
            bytes,
        };
        let at = self.now + Weather::CLEAR.delay.0;
        self.queue.push(at, Event::Deliver(datagram));
    }

    /// Delivers a datagram to every host but those that must not be reached by mistake.
    pub fn misdeliver_to_all(&mut self, datagram: &Datagram) {
        self.network.faults.misdelivered_to_all += 1;
        for place in 0..self.hosts.len() {
            if !self.network.aloof.contains(&place) {
                let again = Datagram {
                    to: place,
                    ..datagram.clone()
                };
                let at = self.now + Weather::CLEAR.delay.0;
                self.queue.push(at, Event::Deliver(again));
            }
        }
    }

    /// Drops datagrams of processes that are gone, and datagrams on ways that are cut.
    pub fn lose_what_cannot_be_under_way(&mut self) {
        let alive: Vec<Boot> = self
            .hosts
            .iter()
            .filter_map(|host| host.process.as_ref().map(|process| process.setup.boot))
            .collect();
        self.network.forget_others(&alive);
        let network = &self.network;
        self.queue.retain(|event| match event {
            Event::Deliver(datagram) => {
                alive.contains(&datagram.sender) && !network.is_cut(datagram.from, datagram.to)
            }
            _ => true,
        });
    }
}
