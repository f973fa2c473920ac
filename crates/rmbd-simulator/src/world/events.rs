//! Events of the world, and what each does.

use std::hash::{DefaultHasher, Hasher};
use std::net::SocketAddr;
use std::time::Duration;

use rmbd_proto::{Boot, SketchNumber};

use super::super::machine::Machine;
use super::super::network::{CLIENTS_FROM, Datagram, Place, address, place};
use super::process::Process;
use super::windows::Ledger;
use super::{DATAGRAM_BYTES_MAX, World};

/// Resolution of a timer: a node that asks to be woken at once sleeps this long.
const GRAIN: Duration = Duration::from_micros(100);
/// Largest number of datagrams that a node may send in one go, and of wakes in a row that did nothing. More is a
/// fault.
const BURST_MAX: usize = 100_000;
const IDLE_WAKES_MAX: usize = 200;
/// Bounds of the time for which a flooded node does not read.
const DEAF: (Duration, Duration) = (Duration::from_millis(5), Duration::from_millis(200));
/// Number of datagrams that a flood leaves room for in a socket's buffer.
const FLOOD_LEAVES: usize = 8;

/// Time between two look-ups of a node's seeds.
pub(super) const LOOK_FOR_SEEDS: Duration = Duration::from_secs(2);

pub(super) enum Event {
    Deliver(Datagram),
    Wake { place: Place, boot: Boot },
    LookForSeeds { place: Place, boot: Boot },
    Resume { place: Place, boot: Boot },
    Hear { place: Place, boot: Boot },
    Tick { client: usize },
    Save { place: Place, boot: Boot },
    Start { place: Place },
}

impl<M: Machine> World<M> {
    pub fn run_for(&mut self, time: Duration) {
        let until = self.now + time;
        while let Some((at, event)) = self.queue.pop_until(until) {
            self.now = at;
            self.events += 1;
            self.happen(event);
        }
        self.now = until;
    }

    /// Runs until `done`, which is called every `step`. Returns how long that took, or `None` after `limit`.
    pub fn run_until(
        &mut self,
        step: Duration,
        limit: Duration,
        mut done: impl FnMut(&Self) -> bool,
    ) -> Option<Duration> {
        let start = self.now;
        while !done(self) {
            if self.now - start >= limit {
                return None;
            }
            self.run_for(step);
        }
        Some(self.now - start)
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Deliver(datagram) => self.deliver(datagram),
            Event::Wake { place, boot } => self.wake(place, boot),
            Event::Resume { place, boot } => self.resume(place, boot),
            Event::Hear { place, boot } => self.hear(place, boot),
            Event::LookForSeeds { place, boot } => self.look_for_seeds(place, boot),
            Event::Tick { client } => self.tick(client),
            Event::Save { place, boot } => self.save_some(place, boot),
            Event::Start { place } => {
                self.hosts[place].is_to_start = false;
                if !self.runs(place) {
                    self.start(place);
                }
            }
        }
    }

    fn process_of(&mut self, place: Place, boot: Boot) -> Option<&mut Process<M>> {
        let process = self.hosts.get_mut(place)?.process.as_mut()?;
        (process.setup.boot == boot).then_some(process)
    }

    fn deliver(&mut self, datagram: Datagram) {
        if datagram.to >= CLIENTS_FROM {
            return self.reply(&datagram);
        }
        let to = datagram.to;
        let room = self.terms.socket_datagrams;
        let Some(host) = self.hosts.get_mut(to) else {
            return;
        };
        let Some(process) = &mut host.process else {
            return;
        };
        let is_stopped = process.paused_until.is_some();
        let is_deaf = process.is_deaf && !datagram.is_of_client();
        if is_stopped || is_deaf {
            let room = if is_deaf { room / FLOOD_LEAVES } else { room };
            if process.waiting.len() < room.max(1) {
                process.waiting.push(datagram);
            } else {
                self.network.faults.overflowed += 1;
            }
            return;
        }
        self.take(datagram);
        self.settle(to);
    }

    /// Lets a process read a datagram.
    fn take(&mut self, datagram: Datagram) {
        let now = self.now;
        let Datagram {
            from,
            to,
            mut bytes,
            ..
        } = datagram;
        self.come.insert((to, hash(&bytes)));
        let Some(process) = &mut self.hosts[to].process else {
            return;
        };
        process.bytes_in += bytes.len() as u64;
        let clock = process.clock(now);
        if from < CLIENTS_FROM {
            process.machine.handle(clock, address(from), &mut bytes);
        } else if process.leaving.is_none()
            && let Some(reply) = serve(process, (clock, now), &bytes, &mut self.ledger)
        {
            let sender = process.setup.boot;
            self.send(Datagram {
                from: to,
                to: from,
                sender,
                bytes: reply,
            });
        }
    }

    /// Whether a datagram has come to its receiver.
    pub fn has_come(&self, datagram: &Datagram) -> bool {
        self.come.contains(&(datagram.to, hash(&datagram.bytes)))
    }

    fn take_waiting(&mut self, place: Place) {
        let Some(process) = &mut self.hosts[place].process else {
            return;
        };
        for datagram in std::mem::take(&mut process.waiting) {
            self.take(datagram);
        }
    }

    fn wake(&mut self, place: Place, boot: Boot) {
        let now = self.now;
        let Some(process) = self.process_of(place, boot) else {
            return;
        };
        if process.wake_at != Some(now) || process.paused_until.is_some() {
            return;
        }
        process.wake_at = None;
        let clock = process.clock(now);
        let sent = process.datagrams_out;
        process.machine.wake(clock);
        self.settle(place);
        let Some(process) = self.process_of(place, boot) else {
            return;
        };
        let is_due = process.machine.next_wake(clock) <= clock;
        if is_due && sent == process.datagrams_out {
            process.idle_wakes += 1;
        } else {
            process.idle_wakes = 0;
        }
        if process.idle_wakes == IDLE_WAKES_MAX {
            let what = format!("{place} spins: wakes at once, and sends nothing");
            self.violations.push(what);
        }
    }

    fn resume(&mut self, place: Place, boot: Boot) {
        let now = self.now;
        let Some(process) = self.process_of(place, boot) else {
            return;
        };
        if process.paused_until != Some(now) {
            return;
        }
        process.paused_until = None;
        let clock = process.clock(now);
        process.machine.wake(clock);
        process.wake_at = None;
        self.take_waiting(place);
        self.settle(place);
    }

    /// Lets a flooded node read waiting datagrams for a moment.
    fn hear(&mut self, place: Place, boot: Boot) {
        let now = self.now;
        let deaf = self.random.time(DEAF.0, DEAF.1);
        let Some(process) = self.process_of(place, boot) else {
            return;
        };
        let is_over = process.flooded_until.is_none_or(|until| now >= until);
        if is_over {
            process.flooded_until = None;
            process.is_deaf = false;
        }
        if process.paused_until.is_none() {
            self.take_waiting(place);
            self.settle(place);
        }
        if !is_over {
            self.queue.push(now + deaf, Event::Hear { place, boot });
        }
    }

    /// Tries a seed again if no live member has its address, wherever its name leads now.
    fn look_for_seeds(&mut self, place: Place, boot: Boot) {
        let now = self.now;
        let seeds = self.hosts[place].seeds.clone();
        let seeds: Vec<SocketAddr> = seeds
            .into_iter()
            .map(|seed| address(self.resolve(seed)))
            .collect();
        let Some(process) = self.process_of(place, boot) else {
            return;
        };
        if process.leaving.is_none() && process.paused_until.is_none() {
            let clock = process.clock(now);
            let live = process.machine.live(clock);
            for seed in seeds {
                let is_known = live.iter().any(|&(_, address)| address == seed);
                if !is_known && seed != process.setup.address {
                    process.machine.join(clock, seed);
                }
            }
            self.settle(place);
        }
        self.queue
            .push(now + LOOK_FOR_SEEDS, Event::LookForSeeds { place, boot });
    }

    /// Sends a node's datagrams, and schedules its next wake.
    pub(super) fn settle(&mut self, place: Place) {
        let now = self.now;
        let mut buffer = std::mem::take(&mut self.buffer);
        let mut burst = 0;
        while let Some(process) = &mut self.hosts[place].process {
            if process.paused_until.is_some() {
                break;
            }
            let clock = process.clock(now);
            let Some(to) = process.machine.transmit(clock, &mut buffer) else {
                break;
            };
            process.bytes_out += buffer.len() as u64;
            process.datagrams_out += 1;
            let sender = process.setup.boot;
            self.post(place, to, sender, &buffer);
            burst += 1;
            assert!(burst < BURST_MAX, "{place} does not stop sending");
        }
        self.buffer = buffer;
        self.take_piece(place);
        self.read_log(place);
        self.see_name(place);
        self.watch(place);
        self.end_where_flushed(place);
        self.see_to_wake(place);
    }

    /// Goes on with a snapshot, as a node does after each turn.
    fn take_piece(&mut self, place: Place) {
        let (now, terms) = (self.now, &self.terms);
        let Some(process) = &mut self.hosts[place].process else {
            return;
        };
        let clock = process.clock(now);
        let is_due = (process.machine.next_snapshot()).is_some_and(|due| due <= clock);
        if is_due && process.paused_until.is_none() && process.next_piece <= now {
            process.machine.snapshot(&|| clock, terms.snapshot_cells);
            process.next_piece = now + terms.snapshot_gap;
        }
    }

    fn read_log(&mut self, place: Place) {
        if let Some(process) = &mut self.hosts[place].process {
            for line in process.machine.take_log() {
                self.tell(|| format!("{place} says {line}"));
            }
        }
    }

    fn post(&mut self, from: Place, to: SocketAddr, sender: Boot, bytes: &[u8]) {
        if self.terms.limits_datagrams && bytes.len() > DATAGRAM_BYTES_MAX {
            let what = format!("{from} sends a datagram of {} bytes", bytes.len());
            self.violations.push(what);
        }
        let Some(to) = place(to) else {
            self.violations.push(format!("{from} sends to {to}"));
            return;
        };
        self.send(Datagram {
            from,
            to,
            sender,
            bytes: bytes.to_vec(),
        });
    }

    pub(super) fn send(&mut self, datagram: Datagram) {
        let (now, queue) = (self.now, &mut self.queue);
        self.network.send(datagram, |delay, datagram| {
            queue.push(now + delay, Event::Deliver(datagram));
        });
    }

    fn see_to_wake(&mut self, place: Place) {
        let now = self.now;
        let Some(process) = &mut self.hosts[place].process else {
            return;
        };
        if process.paused_until.is_some() {
            return;
        }
        let clock = process.clock(now);
        let sleep = process.machine.next_wake(clock).saturating_sub(clock);
        let sleep = process.clock.takes(sleep.min(SLEEP_MAX));
        let mut at = now + sleep.max(GRAIN);
        if let Some(due) = process.machine.next_snapshot() {
            let sleep = process
                .clock
                .takes(due.saturating_sub(clock).min(SLEEP_MAX));
            at = at.min((now + sleep.max(GRAIN)).max(process.next_piece));
        }
        if let Some(leaving) = process.leaving {
            at = at.min(leaving.until.max(now));
        }
        if process
            .wake_at
            .is_none_or(|known| known <= now || at < known)
        {
            process.wake_at = Some(at);
            let boot = process.setup.boot;
            self.queue.push(at, Event::Wake { place, boot });
        }
    }
}

/// Serves a client, and notes what that has added.
fn serve<M: Machine>(
    process: &mut Process<M>,
    (clock, now): (Duration, Duration),
    bytes: &[u8],
    ledger: &mut Ledger,
) -> Option<Vec<u8>> {
    let of = |process: &Process<M>| process.machine.own_cells(SketchNumber::DEFAULT);
    let before = of(process);
    let reply = process.machine.serve(clock, bytes);
    let after = of(process);
    let slice = process.slice();
    ledger.note_growth(now, slice, &before, &after);
    process.ledger.note_growth(now, slice, &before, &after);
    reply
}

/// A hash of a datagram's bytes, damage included.
fn hash(bytes: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    hasher.write(bytes);
    hasher.finish()
}

/// A time longer than any history.
const SLEEP_MAX: Duration = Duration::from_hours(1_000);
