//! Telling other members of pardons: what is given here at once, everything else where two find that they differ.
//!
//! The [`PardonBook`] says which pardon of a key holds; here is said who is told of which. A pardon that was given here
//! goes to every live member with the next call of the cluster's *wake*, unacknowledged. Each round one member after
//! the other gets the sums of our buckets, as long as there are pardons, and one that comes up gets them at once. Where
//! sums differ, both tell each other the pardons of these buckets. So what was lost, or given while nodes were apart or
//! not there yet, comes within some rounds from anybody.
//!
//! 1 000 pardons of short keys take some 50 KiB to each member once, and then 263 bytes a round.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use rmbd_proto::Boot;
use rmbd_proto::cluster::{FrameWriter, PARDON_BUCKETS, PardonEntries, PardonSums};
use rmbd_store::{PARDONS_MAX, Pardon, PardonBook};

/// Most bytes of pardons that go to one member in a round, but for the rest of a datagram: all of them where keys are
/// short, and little beside counts.
const BYTES_A_ROUND: usize = 64 << 10;

/// The pardons of this node, as far as others are told of them.
#[derive(Debug)]
pub(crate) struct PardonGossip {
    book: Arc<PardonBook>,
    /// The edition of the book that was looked through for pardons that were given here.
    edition: u64,
    /// The highest count of those.
    given: u64,
}

/// What two members are to do about their pardons, a bit for each bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Differences {
    /// What we have in these buckets is to be told.
    pub(crate) tell: u32,
    /// They are to be asked for.
    pub(crate) ask: u32,
}

/// Pardons that wait to go to one member. What is told of them is read when it is written.
#[derive(Debug, Default)]
pub(crate) struct PardonQueue {
    waiting: VecDeque<Arc<Pardon>>,
    bytes_of_round: usize,
}

impl PardonGossip {
    /// None are known.
    pub(crate) fn new(me: Boot) -> Self {
        Self::of(Arc::new(PardonBook::new(me)))
    }

    /// Those of a book.
    pub(crate) fn of(book: Arc<PardonBook>) -> Self {
        Self {
            book,
            edition: 0,
            given: 0,
        }
    }

    /// Those that were given here since the last call.
    pub(crate) fn take_given(&mut self) -> Vec<Arc<Pardon>> {
        let edition = self.book.edition();
        if edition == self.edition {
            return Vec::new();
        }
        self.edition = edition;
        let (me, before) = (self.book.giver(), self.given);
        let pardons = self.book.pardons();
        let is_fresh = |it: &&Arc<Pardon>| it.giver() == me && it.count() > before;
        let fresh: Vec<_> = pardons.all().filter(is_fresh).cloned().collect();
        let counts = fresh.iter().map(|it| it.count());
        self.given = counts.max().unwrap_or(before);
        fresh
    }

    /// The sums of all buckets; `None` where there are no pardons.
    pub(crate) fn sums(&self, now: Duration) -> Option<Box<[u64; PARDON_BUCKETS]>> {
        let sums = self.book.pardons().sums(now);
        sums.iter().any(|&sum| sum != 0).then(|| Box::new(sums))
    }

    /// Compares our sums with those of a member.
    pub(crate) fn compare(&self, now: Duration, theirs: PardonSums<'_>) -> Differences {
        let ours = self.book.pardons().sums(now);
        let mut all = [0; PARDON_BUCKETS];
        theirs.for_each(|(bucket, sum)| all[bucket] = sum);
        let differing = (0..).zip(ours.iter().zip(&all));
        let differing = differing.filter(|(_, (ours, theirs))| ours != theirs);
        let mut differences = Differences { tell: 0, ask: 0 };
        for (bucket, (&ours, &theirs)) in differing {
            differences.tell |= u32::from(ours != 0) << bucket;
            differences.ask |= u32::from(theirs != 0) << bucket;
        }
        differences
    }

    /// Puts our pardons of some buckets in the queue of a member that lacks some of them.
    pub(crate) fn tell(&self, now: Duration, buckets: u32, queue: &mut PardonQueue) {
        if buckets != 0 {
            queue.push_buckets(self.book.pardons().told(now), buckets);
        }
    }

    /// Takes what a member tells; returns how many were not taken.
    pub(crate) fn merge(&self, now: Duration, entries: PardonEntries<'_>) -> u64 {
        self.book.merge(entries, now)
    }
}

impl PardonQueue {
    /// Adds a pardon, as long as no more wait than may be in force.
    pub(crate) fn push(&mut self, pardon: &Arc<Pardon>) {
        if self.waiting.len() < PARDONS_MAX {
            self.waiting.push_back(Arc::clone(pardon));
        }
    }

    /// Adds those of some buckets, but for buckets of which some wait already.
    fn push_buckets<'p>(&mut self, pardons: impl Iterator<Item = &'p Arc<Pardon>>, buckets: u32) {
        let waiting = self.waiting.iter().map(|it| 1_u32 << it.bucket());
        let buckets = buckets & !waiting.fold(0, |all, bucket| all | bucket);
        for pardon in pardons.filter(|it| buckets >> it.bucket() & 1 == 1) {
            self.push(pardon);
        }
    }

    /// As many bytes may go as in a round.
    pub(crate) fn begin_round(&mut self) {
        self.bytes_of_round = 0;
    }

    /// Something may go now.
    pub(crate) fn has_some(&self) -> bool {
        !self.waiting.is_empty() && self.bytes_of_round < BYTES_A_ROUND
    }

    /// Writes as many as fit, and returns their bytes.
    pub(crate) fn write(&mut self, now: Duration, writer: &mut FrameWriter<'_>) -> usize {
        if !self.has_some() {
            return 0;
        }
        let before = writer.room();
        // Those that ended long ago while they waited are not told.
        self.waiting.retain(|it| it.entry(now).is_some());
        let written = writer.pardons(self.waiting.iter().filter_map(|it| it.entry(now)));
        self.waiting.drain(..written);
        let bytes = before - writer.room();
        self.bytes_of_round += bytes;
        bytes
    }

    pub(crate) fn clear(&mut self) {
        self.waiting.clear();
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use rmbd_proto::LimitNumber;
    use rmbd_proto::cluster::{DATAGRAM_BYTES_MAX, Frame, frames};

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn gossip_of(me: u64, keys: impl Iterator<Item = Vec<u8>>) -> PardonGossip {
        let gossip = PardonGossip::new(Boot(me));
        for key in keys {
            let named = (LimitNumber(7), &key[..]);
            gossip
                .book
                .give(named, [1; 8], SECOND * 60, SECOND)
                .unwrap();
        }
        gossip
    }

    /// Compares what one has with the sums of another one.
    fn compare(ours: &PardonGossip, theirs: &PardonGossip) -> Differences {
        let mut out = Vec::new();
        let sums = theirs.sums(SECOND).unwrap_or_default();
        assert!(FrameWriter::new(&mut out, DATAGRAM_BYTES_MAX).pardon_sums(&sums));
        let Some(Ok(Frame::PardonSums { sums })) = frames(&out, |_| None).next() else {
            panic!("another frame");
        };
        ours.compare(SECOND, sums)
    }

    /// Writes datagrams until no more may go; returns how many pardons and bytes went.
    fn drain(queue: &mut PardonQueue) -> (usize, usize) {
        let before = queue.waiting.len();
        let mut bytes = 0;
        while queue.has_some() {
            let mut out = Vec::new();
            bytes += queue.write(SECOND, &mut FrameWriter::new(&mut out, DATAGRAM_BYTES_MAX));
        }
        (before - queue.waiting.len(), bytes)
    }

    #[test]
    fn a_member_gets_so_many_bytes_a_round_and_each_pardon_once() {
        let keys = (0..PARDONS_MAX as u64).map(|n| n.to_le_bytes().repeat(100));
        let (gossip, mut queue) = (gossip_of(1, keys), PardonQueue::default());
        gossip.tell(SECOND, u32::MAX, &mut queue);
        let (mut told, mut rounds) = (0, 0);
        while !queue.waiting.is_empty() {
            // Who asks again is told no more.
            let waiting = queue.waiting.iter().map(|it| 1 << it.bucket());
            let waiting = waiting.fold(0, |all, bucket| all | bucket);
            gossip.tell(SECOND, waiting, &mut queue);
            let (pardons, bytes) = drain(&mut queue);
            assert!(bytes < BYTES_A_ROUND + DATAGRAM_BYTES_MAX, "{bytes}");
            told += pardons;
            rounds += 1;
            queue.begin_round();
        }
        assert_eq!(told, PARDONS_MAX);
        assert!((13..20).contains(&rounds), "{rounds}");
        // What is over for long while it waits is not told.
        gossip.tell(SECOND, u32::MAX, &mut queue);
        let late = queue.write(SECOND * 200, &mut FrameWriter::new(&mut Vec::new(), 1_000));
        assert_eq!((late, queue.waiting.len()), (0, 0));
    }

    #[test]
    fn both_tell_what_differs_and_what_is_given_is_told_once() {
        let key = |n: u8| vec![n; 9];
        let mut one = gossip_of(1, (0..20).map(key));
        let none = gossip_of(2, std::iter::empty());
        assert_eq!(none.sums(SECOND), None);
        let differences = compare(&one, &none);
        assert_eq!((differences.ask, compare(&none, &one).tell), (0, 0));
        assert_eq!(compare(&none, &one).ask, differences.tell);
        assert_eq!(compare(&one, &one), Differences { tell: 0, ask: 0 });
        assert_eq!((one.take_given().len(), one.take_given().len()), (20, 0));
        let again = (LimitNumber(7), &key(3)[..]);
        one.book.give(again, [2; 8], SECOND, SECOND).unwrap();
        let given = one.take_given();
        assert_eq!((given.len(), given[0].count()), (1, 21));
    }
}
