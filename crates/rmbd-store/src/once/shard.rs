//! A part of the table: a hash table with chains, and a list of its clients ordered by when they were heard of.
//!
//! ```text
//!   oldest                        oldest_live                   newest
//!     v   not live any more: their     v       each holds a place     v
//!    [a] ── memory is whoever's ──── [f] ── [g] ── [h] ── [i] ────── [z]
//! ```

use super::places::{Network, Places};
use super::{Admission, IDLE_LIMIT, WINDOW};

/// Words of 64 bits in a window.
const WORDS: usize = (WINDOW / 64) as usize;

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
    applied: [u64; WORDS],
    /// Bits as in `applied`: whether a verdict of that sequence is known, and whether it admitted.
    decided: [u64; WORDS],
    admitted: [u64; WORDS],
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

    fn client(&mut self, request: &Request) -> Option<&mut Client> {
        let place = self.find(request.client, self.head(request.hash))?;
        Some(&mut self.entries[place as usize])
    }

    /// Number of clients that are remembered.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.entries.len()
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
        let head = self.head(request.hash);
        let mut client = Client {
            id: request.client,
            network,
            is_live: true,
            head,
            next_in_chain: self.heads[head as usize],
            newer: NOWHERE,
            older: NOWHERE,
            heard_ms: request.now_ms,
            highest: request.sequence,
            applied: [0; WORDS],
            decided: [0; WORDS],
            admitted: [0; WORDS],
        };
        let admission = client.mark(request.sequence);
        match self.entries.get_mut(place as usize) {
            Some(entry) => *entry = client,
            None => self.entries.push(client),
        }
        self.heads[head as usize] = place;
        self.link_newest(place);
        admission
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
        let before = self.newest;
        match self.entries.get_mut(before as usize) {
            Some(client) => client.newer = place,
            None => self.oldest = place,
        }
        if self.oldest_live == NOWHERE {
            self.oldest_live = place;
        }
        let client = &mut self.entries[place as usize];
        (client.newer, client.older) = (NOWHERE, before);
        self.newest = place;
    }
}

impl Client {
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
