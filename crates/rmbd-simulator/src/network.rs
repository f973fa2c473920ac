//! A simulated network that loses, doubles, delays and damages datagrams as a seed says.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

use rmbd_proto::Boot;

use super::faults::Faults;
use super::random::Random;

/// The place of a host: its number, from which its address follows.
pub type Place = usize;

const PORT: u16 = 8001;
/// Number of datagrams that are kept to be sent once more, much later.
const TAPE: usize = 64;
/// The first place of clients.
pub const CLIENTS_FROM: Place = 50_000;

pub fn address(place: Place) -> SocketAddr {
    ([10, 0, (place >> 8) as u8, place as u8], PORT).into()
}

pub fn place(address: SocketAddr) -> Option<Place> {
    let SocketAddr::V4(v4) = address else {
        return None;
    };
    match (v4.ip().octets(), v4.port()) {
        ([10, 0, high, low], PORT) => Some((usize::from(high) << 8) | usize::from(low)),
        _ => None,
    }
}

/// The weather of the network: shares of datagrams that are harmed, and how long datagrams take.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Weather {
    pub loss: f64,
    pub doubling: f64,
    /// Share of datagrams that are held back for up to [`held_back`](Self::held_back), so that later ones overtake
    /// them.
    pub reordering: f64,
    /// Share of datagrams that are damaged: flipped bits, cut or grown ends, two datagrams in one.
    pub corruption: f64,
    /// Share of old datagrams that come again, sometimes to another node.
    pub replaying: f64,
    pub delay: (Duration, Duration),
    pub held_back: Duration,
}

impl Weather {
    /// Weather in which everything arrives, soon and in order.
    pub const CLEAR: Self = Self {
        loss: 0.0,
        doubling: 0.0,
        reordering: 0.0,
        corruption: 0.0,
        replaying: 0.0,
        delay: (Duration::from_micros(200), Duration::from_micros(200)),
        held_back: Duration::ZERO,
    };

    pub fn lossy(loss: f64) -> Self {
        Self {
            loss,
            ..Self::CLEAR
        }
    }

    /// Random weather, from drizzle to storm.
    pub fn random(random: &mut Random) -> Self {
        let mut share = |most: f64| {
            if random.chance(0.5) {
                random.share() * most
            } else {
                0.0
            }
        };
        let (loss, doubling, reordering) = (share(0.4), share(0.3), share(0.3));
        let (corruption, replaying) = (share(0.1), share(0.1));
        let least = random.time(Duration::from_micros(50), Duration::from_millis(40));
        Self {
            loss,
            doubling,
            reordering,
            corruption,
            replaying,
            delay: (least, random.time(least, least * 3)),
            held_back: random.time(Duration::from_millis(5), Duration::from_secs(3)),
        }
    }
}

/// A datagram on its way. If it comes from a client's place or goes to one, it uses the data port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Datagram {
    pub from: Place,
    pub to: Place,
    /// The boot of the sender.
    pub sender: Boot,
    pub bytes: Vec<u8>,
}

impl Datagram {
    pub fn is_of_client(&self) -> bool {
        self.from >= CLIENTS_FROM || self.to >= CLIENTS_FROM
    }
}

#[derive(Debug)]
pub struct Network {
    pub weather: Weather,
    pub faults: Faults,
    /// Weather of single directions, which replaces the general one.
    links: BTreeMap<(Place, Place), Weather>,
    cuts: BTreeSet<(Place, Place)>,
    /// Places that no datagram reaches by mistake. A node with the key and the geometry is let in by every node that
    /// gets its announcement, so a misdirected announcement would join clusters that must stay apart.
    pub aloof: BTreeSet<Place>,
    tape: Vec<Datagram>,
    /// A sample of all datagrams, including those of nodes that are gone.
    archive: Vec<Datagram>,
    random: Random,
}

impl Network {
    pub fn new(seed: u64) -> Self {
        Self {
            weather: Weather::CLEAR,
            faults: Faults::default(),
            links: BTreeMap::new(),
            cuts: BTreeSet::new(),
            aloof: BTreeSet::new(),
            tape: Vec::new(),
            archive: Vec::new(),
            random: Random::stream(seed, "network"),
        }
    }

    /// Cuts the way from one place to the other. The way back is cut separately.
    pub fn cut_one_way(&mut self, from: Place, to: Place) {
        self.cuts.insert((from, to));
    }

    pub fn cut(&mut self, a: Place, b: Place) {
        self.cut_one_way(a, b);
        self.cut_one_way(b, a);
    }

    pub fn heal_all(&mut self) {
        self.cuts.clear();
    }

    pub fn is_cut(&self, from: Place, to: Place) -> bool {
        self.cuts.contains(&(from, to))
    }

    pub fn has_cuts(&self) -> bool {
        !self.cuts.is_empty()
    }

    pub fn set_link(&mut self, from: Place, to: Place, weather: Weather) {
        self.links.insert((from, to), weather);
    }

    pub fn clear_links(&mut self) {
        self.links.clear();
    }

    /// Old datagrams that may come again.
    pub fn tape(&self) -> &[Datagram] {
        &self.tape
    }

    /// Old datagrams, including those of nodes that are gone.
    pub fn archive(&self) -> &[Datagram] {
        &self.archive
    }

    /// Forgets the old datagrams of all nodes but these.
    pub fn forget_others(&mut self, boots: &[Boot]) {
        self.tape
            .retain(|datagram| boots.contains(&datagram.sender));
    }

    /// Sends a datagram: calls `deliver` with each copy and the time that it takes.
    pub fn send(&mut self, datagram: Datagram, mut deliver: impl FnMut(Duration, Datagram)) {
        self.faults.sent += 1;
        let link = self.links.get(&(datagram.from, datagram.to));
        let weather = link.copied().unwrap_or(self.weather);
        // A client's request that comes again is the same as a doubled one. Requests have no seal that would reveal
        // damage.
        let weather = if datagram.is_of_client() {
            Weather {
                corruption: 0.0,
                replaying: 0.0,
                ..weather
            }
        } else {
            self.record(&datagram);
            weather
        };
        if self.random.chance(weather.replaying) {
            let again = self.replayed();
            self.pass(again, weather, &mut deliver);
        }
        if self.random.chance(weather.doubling) {
            self.faults.doubled += 1;
            self.pass(datagram.clone(), weather, &mut deliver);
        }
        self.pass(datagram, weather, &mut deliver);
    }

    fn pass(
        &mut self,
        mut datagram: Datagram,
        weather: Weather,
        deliver: &mut impl FnMut(Duration, Datagram),
    ) {
        if self.is_cut(datagram.from, datagram.to) {
            self.faults.cut += 1;
            return;
        }
        if self.random.chance(weather.loss) {
            self.faults.lost += 1;
            return;
        }
        if self.random.chance(weather.corruption) {
            self.corrupt(&mut datagram.bytes);
        }
        let mut delay = self.random.time(weather.delay.0, weather.delay.1);
        if self.random.chance(weather.reordering) {
            self.faults.held_back += 1;
            delay += self.random.time(Duration::ZERO, weather.held_back);
        }
        deliver(delay, datagram);
    }

    /// Keeps a sample of all datagrams that were ever sent (a reservoir of fixed size, in which old ones stay long).
    fn record(&mut self, datagram: &Datagram) {
        let is_kept = self.random.chance(0.05);
        for tape in [&mut self.tape, &mut self.archive] {
            if tape.len() < TAPE {
                tape.push(datagram.clone());
            } else if is_kept {
                let at = self.random.below(TAPE);
                tape[at] = datagram.clone();
            }
        }
    }

    fn replayed(&mut self) -> Datagram {
        self.faults.replayed += 1;
        let at = self.random.below(self.tape.len());
        let mut again = self.tape[at].clone();
        if self.random.chance(0.3) {
            let at = self.random.below(self.tape.len());
            let other = &self.tape[at];
            // The datagram goes to the wrong receiver, or its content comes from the wrong sender.
            let is_aloof = |place| self.aloof.contains(&place);
            if self.random.chance(0.5) && !is_aloof(again.to) && !is_aloof(other.to) {
                again.to = other.to;
            } else {
                again.from = other.from;
            }
            self.faults.misdelivered += 1;
        }
        again
    }

    fn corrupt(&mut self, bytes: &mut Vec<u8>) {
        self.faults.corrupted += 1;
        let random = &mut self.random;
        match random.below(6) {
            0 => bytes.truncate(random.below(bytes.len())),
            1 => bytes.extend((0..random.between(1, 40)).map(|i| i as u8)),
            2 => {
                let at = random.below(self.tape.len());
                let other = &self.tape[at].bytes;
                let from = random.below(bytes.len().min(other.len()));
                bytes.truncate(from);
                bytes.extend_from_slice(&other[from..]);
                // Without this the damaged datagram might be equal to the original.
                bytes.push(0);
            }
            _ => {
                for _ in 0..random.between(1, 4) {
                    let bit = random.below(bytes.len() * 8);
                    if let Some(byte) = bytes.get_mut(bit / 8) {
                        *byte ^= 1 << (bit % 8);
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn send_many(seed: u64, weather: Weather) -> (Faults, Vec<(Duration, Datagram)>) {
        let mut network = Network::new(seed);
        network.weather = weather;
        network.cut_one_way(1, 2);
        let mut delivered = Vec::new();
        for number in 0..2000_u32 {
            let bytes = number.to_le_bytes();
            for (from, to) in [(0, 1), (1, 2), (2, 1)] {
                let datagram = Datagram {
                    from,
                    to,
                    sender: Boot(9),
                    bytes: bytes.to_vec(),
                };
                network.send(datagram, |delay, datagram| {
                    delivered.push((delay, datagram));
                });
            }
        }
        (network.faults, delivered)
    }

    #[test]
    fn clear_weather_delivers_everything_once_and_unchanged_but_over_cuts() {
        let (faults, delivered) = send_many(1, Weather::CLEAR);
        assert_eq!((faults.sent, faults.cut), (6000, 2000));
        assert_eq!(delivered.len(), 4000);
        let sent = |number: u32, at: usize| {
            let (delay, datagram) = &delivered[at];
            assert_eq!(*delay, Weather::CLEAR.delay.0);
            assert_eq!(datagram.bytes, number.to_le_bytes());
        };
        for number in 0..2000 {
            sent(number, number as usize * 2);
            sent(number, number as usize * 2 + 1);
        }
    }

    #[test]
    fn a_storm_does_everything_and_the_same_for_the_same_seed() {
        let storm = Weather {
            loss: 0.2,
            doubling: 0.2,
            reordering: 0.2,
            corruption: 0.2,
            replaying: 0.2,
            delay: (Duration::from_millis(1), Duration::from_millis(2)),
            held_back: Duration::from_secs(1),
        };
        let (faults, delivered) = send_many(7, storm);
        let of_network = &faults.named()[..8];
        assert!(
            of_network.iter().all(|&(_, times)| times > 100),
            "{of_network:?}"
        );
        let wrong_way = |d: &Datagram| (d.from, d.to) == (1, 2);
        assert!(!delivered.iter().any(|(_, datagram)| wrong_way(datagram)));
        assert_eq!(send_many(7, storm), (faults, delivered));
        assert_ne!(send_many(8, storm).0, faults);
    }

    #[test]
    fn addresses_and_places_are_the_same_thing() {
        for number in [0, 1, 99, 255, 256, 1000] {
            assert_eq!(place(address(number)), Some(number));
        }
        assert_eq!(place(([10, 0, 0, 1], 1).into()), None);
    }
}
