//! A part of the table: a hash table with chains, and a list of its clients ordered by when they were heard of.
//!
//! ```text
//!   oldest                        oldest_live                   newest
//!     v   not live any more: their     v       each holds a place     v
//!    [a] ── memory is whoever's ──── [f] ── [g] ── [h] ── [i] ────── [z]
//! ```

use super::places::{Network, Places};
use super::saved::{Bits, SavedClient, WORDS};
use super::{Admission, IDLE_LIMIT, WINDOW};

/// The number that stands for no place.
const NOWHERE: u32 = u32::MAX;

/// Number of places that a new client takes back besides the one that it takes, so that old clients go faster than
/// new ones come.
const LAPSE_A_NEWCOMER: usize = 2;

/// One request to the table.
#[derive(Debug, Clone, Copy)]
pub(super) struct Request {
    pub(super) client: u64,
    pub(super) hash: u64,
    pub(super) sequence: u64,
    pub(super) now_ms: u64,
}

/// One part. Links are places in `entries`, which is filled to its capacity and then reused.
#[derive(Debug)]
pub(super) struct Shard {
    /// The first entry of each chain.
    heads: Box<[u32]>,
    entries: Vec<Client>,
    /// The client that was heard of last, and (below) the one that was heard of longest ago.
    newest: u32,
    oldest: u32,
    oldest_live: u32,
}

#[derive(Debug, Clone)]
struct Client {
    id: u64,
    /// The network that the client was in when it came.
    network: Network,
    /// Whether the client holds a place.
    is_live: bool,
    /// The chain that the client is in.
    head: u32,
    next_in_chain: u32,
    newer: u32,
    older: u32,
    heard_ms: u64,
    highest: u64,
    /// Bit s % 64 of word s / 64 % WORDS tells whether sequence s was applied.
    applied: Bits,
    /// Bits as in `applied`: whether a verdict of that sequence is known, and whether it admitted.
    decided: Bits,
    admitted: Bits,
}

/// What became of a client that a save had.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Taken {
    /// It holds a place.
    Live,
    /// It holds none, and is remembered while its memory is not needed.
    Remembered,
    /// It was not live, and there is no memory for it.
    Forgotten,
    /// It has a right to a place, and there is none; or it is here already.
    Refused,
}

impl Shard {
    pub(super) fn new(clients: usize) -> Self {
        Self {
            heads: vec![NOWHERE; clients.next_power_of_two()].into_boxed_slice(),
            entries: Vec::with_capacity(clients),
            newest: NOWHERE,
            oldest: NOWHERE,
            oldest_live: NOWHERE,
        }
    }

    /// Admits a request of a known client; `None` if the client is not known.
    #[inline]
    pub(super) fn admit_known(&mut self, request: &Request, places: &Places) -> Option<Admission> {
        let place = self.find(request.client, self.head(request.hash))?;
        if !self.entries[place as usize].is_live
            && let Err(full) = places.take(self.entries[place as usize].network)
        {
            return Some(full);
        }
        self.unlink_age(place);
        self.link_newest(place);
        let client = &mut self.entries[place as usize];
        client.is_live = true;
        // Threads read the clock before they wait for the lock, so a later thread may bring an earlier time.
        client.heard_ms = client.heard_ms.max(request.now_ms);
        Some(client.mark(request.sequence))
    }

    /// Admits a request of a client that has shown a good cookie.
    pub(super) fn admit_stranger(
        &mut self,
        request: &Request,
        network: Network,
        places: &Places,
    ) -> Admission {
        // Another thread may have been faster.
        if let Some(admission) = self.admit_known(request, places) {
            return admission;
        }
        self.lapse(LAPSE_A_NEWCOMER, request.now_ms, places);
        if let Err(full) = places.take(network) {
            return full;
        }
        let Some(place) = self.vacate() else {
            places.give_back(network);
            return Admission::Full;
        };
        self.settle(place, request, network)
    }

    /// Takes back the places of at most `at_most` clients that are not live any more. Returns of how many.
    pub(super) fn lapse(&mut self, at_most: usize, now_ms: u64, places: &Places) -> usize {
        let mut lapsed = 0;
        while lapsed < at_most
            && let Some(client) = self.entries.get_mut(self.oldest_live as usize)
            && now_ms.saturating_sub(client.heard_ms) > IDLE_LIMIT.as_millis() as u64
        {
            client.is_live = false;
            self.oldest_live = client.newer;
            places.give_back(client.network);
            lapsed += 1;
        }
        lapsed
    }

    /// Notes the verdict about a request of a known client.
    pub(super) fn decide(&mut self, request: &Request, admits: bool) {
        if let Some(client) = self.client(request) {
            client.decide(request.sequence, admits);
        }
    }

    /// The verdict about a request, where it is known.
    pub(super) fn verdict(&mut self, request: &Request) -> Option<bool> {
        self.client(request)?.verdict(request.sequence)
    }

    /// The clients, by when they were heard of (ms), and their places.
    pub(super) fn ages(&self) -> impl Iterator<Item = (u64, u32)> + '_ {
        let places = 0..self.entries.len() as u32;
        self.entries
            .iter()
            .map(|client| client.heard_ms)
            .zip(places)
    }

    /// The client at a place, as it is saved.
    pub(super) fn saved(&self, place: u32, now_ms: u64) -> Option<SavedClient> {
        let client = self.entries.get(place as usize)?;
        Some(SavedClient {
            id: client.id,
            network: client.network,
            age_ms: now_ms.saturating_sub(client.heard_ms),
            highest: client.highest,
            applied: client.applied,
            decided: client.decided,
            // Bits of what is not decided are left from other sequences.
            admitted: std::array::from_fn(|at| client.admitted[at] & client.decided[at]),
        })
    }

    /// Takes in a client that a save had, where its age puts it. A live one keeps its place whatever its network
    /// holds, as it would have without the restart.
    pub(super) fn take_in(
        &mut self,
        saved: &SavedClient,
        hash: u64,
        now_ms: u64,
        places: &Places,
    ) -> Taken {
        let head = self.head(hash);
        if self.find(saved.id, head).is_some() {
            return Taken::Refused;
        }
        let heard_ms = now_ms.saturating_sub(saved.age_ms);
        let is_live = self.would_be_live(heard_ms, now_ms);
        if is_live && !places.hold(saved.network) {
            return Taken::Refused;
        }
        let Some(place) = self.vacate() else {
            if is_live {
                places.give_back(saved.network);
                return Taken::Refused;
            }
            return Taken::Forgotten;
        };
        self.put(place, Client::of(saved, heard_ms, is_live), head);
        self.link(place, self.heard_until(heard_ms));
        if is_live && !self.is_live(self.entries[place as usize].older) {
            self.oldest_live = place;
        }
        match is_live {
            true => Taken::Live,
            false => Taken::Remembered,
        }
    }

    /// Whether a client that was heard of then would be live. Among its neighbours it is as they are, so that all who
    /// are live stand together.
    fn would_be_live(&self, heard_ms: u64, now_ms: u64) -> bool {
        let older = self.heard_until(heard_ms);
        let newer = match self.entries.get(older as usize) {
            Some(client) => client.newer,
            None => self.oldest,
        };
        let is_over = now_ms.saturating_sub(heard_ms) > IDLE_LIMIT.as_millis() as u64;
        self.is_live(older) || ((newer == NOWHERE || self.is_live(newer)) && !is_over)
    }

    fn is_live(&self, place: u32) -> bool {
        let client = self.entries.get(place as usize);
        client.is_some_and(|client| client.is_live)
    }

    /// The latest client that was not heard of after that time. A save has the oldest clients first, so that it is
    /// one of the newest here.
    fn heard_until(&self, heard_ms: u64) -> u32 {
        let mut place = self.newest;
        while let Some(client) = self.entries.get(place as usize)
            && client.heard_ms > heard_ms
        {
            place = client.older;
        }
        place
    }

    fn client(&mut self, request: &Request) -> Option<&mut Client> {
        let place = self.find(request.client, self.head(request.hash))?;
        Some(&mut self.entries[place as usize])
    }

    /// Number of clients that are remembered.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Checks that the list goes both ways in the order of ages, and that the live stand at its end. Returns how many
    /// they are.
    #[cfg(test)]
    pub(super) fn check(&self) -> usize {
        let (mut place, mut before) = (self.oldest, NOWHERE);
        let (mut live, mut listed, mut heard_ms) = (0, 0, 0);
        while let Some(client) = self.entries.get(place as usize) {
            assert_eq!(client.older, before);
            assert!(client.heard_ms >= heard_ms);
            assert!(
                client.is_live || live == 0,
                "all behind a live one are live"
            );
            if client.is_live && live == 0 {
                assert_eq!(self.oldest_live, place);
            }
            live += usize::from(client.is_live);
            (before, place, heard_ms) = (place, client.newer, client.heard_ms);
            listed += 1;
        }
        assert_eq!((self.newest, listed), (before, self.entries.len()));
        assert_eq!(live == 0, self.oldest_live == NOWHERE);
        live
    }

    fn head(&self, hash: u64) -> u32 {
        // The number of chains is a power of two below 2^32.
        hash as u32 & (self.heads.len() - 1) as u32
    }

    fn find(&self, id: u64, head: u32) -> Option<u32> {
        let mut place = self.heads[head as usize];
        while place != NOWHERE {
            let client = &self.entries[place as usize];
            if client.id == id {
                return Some(place);
            }
            place = client.next_in_chain;
        }
        None
    }

    /// Finds memory for one more client: unused memory, or that of the client heard of longest ago if it is not live.
    fn vacate(&mut self) -> Option<u32> {
        if self.entries.len() < self.entries.capacity() {
            return Some(self.entries.len() as u32);
        }
        let place = self.oldest;
        let client = self.entries.get(place as usize)?;
        if client.is_live {
            return None;
        }
        let (head, next) = (client.head as usize, client.next_in_chain);
        if self.heads[head] == place {
            self.heads[head] = next;
        } else {
            let mut before = self.heads[head];
            while self.entries[before as usize].next_in_chain != place {
                before = self.entries[before as usize].next_in_chain;
            }
            self.entries[before as usize].next_in_chain = next;
        }
        self.unlink_age(place);
        Some(place)
    }

    /// Puts a new client at a place.
    fn settle(&mut self, place: u32, request: &Request, network: Network) -> Admission {
        let mut client = Client {
            id: request.client,
            network,
            is_live: true,
            head: NOWHERE,
            next_in_chain: NOWHERE,
            newer: NOWHERE,
            older: NOWHERE,
            heard_ms: request.now_ms,
            highest: request.sequence,
            applied: [0; WORDS],
            decided: [0; WORDS],
            admitted: [0; WORDS],
        };
        let admission = client.mark(request.sequence);
        self.put(place, client, self.head(request.hash));
        self.link_newest(place);
        admission
    }

    /// Writes a client to vacated memory, in front of its chain.
    fn put(&mut self, place: u32, mut client: Client, head: u32) {
        client.head = head;
        client.next_in_chain = self.heads[head as usize];
        match self.entries.get_mut(place as usize) {
            Some(entry) => *entry = client,
            None => self.entries.push(client),
        }
        self.heads[head as usize] = place;
    }

    fn unlink_age(&mut self, place: u32) {
        let (newer, older) = {
            let client = &self.entries[place as usize];
            (client.newer, client.older)
        };
        if self.oldest_live == place {
            self.oldest_live = newer;
        }
        match self.entries.get_mut(newer as usize) {
            Some(client) => client.older = older,
            None => self.newest = older,
        }
        match self.entries.get_mut(older as usize) {
            Some(client) => client.newer = newer,
            None => self.oldest = newer,
        }
    }

    /// Links a client as the newest one; a client that was heard of is live.
    fn link_newest(&mut self, place: u32) {
        self.link(place, self.newest);
        if self.oldest_live == NOWHERE {
            self.oldest_live = place;
        }
    }

    /// Links a client as the next newer one of another; behind nobody it is the oldest.
    fn link(&mut self, place: u32, older: u32) {
        let newer = match self.entries.get_mut(older as usize) {
            Some(client) => std::mem::replace(&mut client.newer, place),
            None => std::mem::replace(&mut self.oldest, place),
        };
        match self.entries.get_mut(newer as usize) {
            Some(client) => client.older = place,
            None => self.newest = place,
        }
        let client = &mut self.entries[place as usize];
        (client.newer, client.older) = (newer, older);
    }
}

impl Client {
    fn of(saved: &SavedClient, heard_ms: u64, is_live: bool) -> Self {
        Self {
            id: saved.id,
            network: saved.network,
            is_live,
            head: NOWHERE,
            next_in_chain: NOWHERE,
            newer: NOWHERE,
            older: NOWHERE,
            heard_ms,
            highest: saved.highest,
            applied: saved.applied,
            decided: saved.decided,
            admitted: saved.admitted,
        }
    }

    fn mark(&mut self, sequence: u64) -> Admission {
        if sequence > self.highest {
            self.advance(sequence);
        } else if self.highest - sequence >= WINDOW {
            return Admission::TooOld;
        }
        let (word, bit) = place_of(sequence);
        let was_applied = self.applied[word] & bit != 0;
        self.applied[word] |= bit;
        if was_applied {
            Admission::Repeat
        } else {
            Admission::New
        }
    }

    fn decide(&mut self, sequence: u64, admits: bool) {
        if self.remembers(sequence) {
            let (word, bit) = place_of(sequence);
            self.decided[word] |= bit;
            self.admitted[word] &= !bit;
            self.admitted[word] |= if admits { bit } else { 0 };
        }
    }

    fn verdict(&self, sequence: u64) -> Option<bool> {
        let (word, bit) = place_of(sequence);
        let is_known = self.remembers(sequence) && self.decided[word] & bit != 0;
        is_known.then_some(self.admitted[word] & bit != 0)
    }

    /// Whether the bits of a sequence are its own.
    fn remembers(&self, sequence: u64) -> bool {
        sequence <= self.highest && self.highest - sequence < WINDOW
    }

    /// Moves the window on. The bits of sequences that enter it belonged to sequences that leave it.
    fn advance(&mut self, sequence: u64) {
        if sequence - self.highest >= WINDOW {
            self.applied = [0; WORDS];
            self.decided = [0; WORDS];
        } else {
            for entering in self.highest + 1..=sequence {
                let (word, bit) = place_of(entering);
                self.applied[word] &= !bit;
                self.decided[word] &= !bit;
            }
        }
        self.highest = sequence;
    }
}

fn place_of(sequence: u64) -> (usize, u64) {
    let word = (sequence / 64) as usize % WORDS;
    (word, 1 << (sequence % 64))
}
