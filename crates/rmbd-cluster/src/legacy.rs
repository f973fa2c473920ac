//! Pushing our own rows to legacy peers, as the Python program does it: every round, every row, to
//! every peer; a peer that stays silent is forgotten.
//!
//! One thing differs: until a peer is *proven*, by whoever knows more of it than an ack tells, it gets one row
//! a round, the next one each time. A `peer` message can name anybody, and must not aim more at a stranger than
//! it took to send it; and a node of ours, whose rows would be counted twice, acknowledges rows as well.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

/// Time between rounds, the Python program's.
pub const ROUND: Duration = Duration::from_millis(500);

/// Whom we push to. Time is a [`Duration`] since any fixed moment.
#[derive(Debug)]
pub struct Pushes {
    depth: usize,
    grace_rounds: u32,
    max_peers: usize,
    peers: BTreeMap<SocketAddr, Push>,
}

/// Where we stand with one peer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Push {
    /// When a row was last sent to it.
    pub last_send: Option<Duration>,
    /// When it last acknowledged one.
    pub last_ack: Option<Duration>,
    /// Rows sent.
    pub rows_sent: u64,
    /// Acks received.
    pub rows_acked: u64,
    /// Rounds sent to it since its last ack.
    silent_rounds: u32,
    /// It gets all rows.
    is_proven: bool,
    /// The row that it gets next while it is not.
    next_row: usize,
}

/// The outcome of an order to push to somebody.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Added {
    /// From the next round on.
    New,
    /// We did already; its silence is forgiven.
    Known,
}

/// As many peers as are allowed are pushed to; nothing has changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{max_peers} peers are pushed to already")]
pub struct TooManyPeers {
    /// The limit.
    pub max_peers: usize,
}

impl Pushes {
    /// Nobody yet. `depth` is the sketch's number of rows; a peer that has not acknowledged anything
    /// in `grace_rounds` rounds (at least 1) is forgotten.
    pub fn new(depth: usize, grace_rounds: u32, max_peers: usize) -> Self {
        Self {
            depth,
            grace_rounds: grace_rounds.max(1),
            max_peers,
            peers: BTreeMap::new(),
        }
    }

    /// Pushes to `peer` from the next round on.
    ///
    /// # Errors
    /// [`TooManyPeers`].
    pub fn add(&mut self, peer: SocketAddr) -> Result<Added, TooManyPeers> {
        if let Some(known) = self.peers.get_mut(&peer) {
            known.silent_rounds = 0;
            return Ok(Added::Known);
        }
        if self.peers.len() >= self.max_peers {
            return Err(TooManyPeers {
                max_peers: self.max_peers,
            });
        }
        self.peers.insert(peer, Push::default());
        Ok(Added::New)
    }

    /// Whether `peer` is pushed to.
    #[must_use]
    pub fn is_known(&self, peer: SocketAddr) -> bool {
        self.peers.contains_key(&peer)
    }

    /// From now on `peer` gets all rows; whether that is new. It is for nobody whom we do not push to.
    pub fn prove(&mut self, peer: SocketAddr) -> bool {
        let known = self.peers.get_mut(&peer);
        known.is_some_and(|push| !std::mem::replace(&mut push.is_proven, true))
    }

    /// Whether `peer` gets all rows.
    #[must_use]
    pub fn is_proven(&self, peer: SocketAddr) -> bool {
        self.peers.get(&peer).is_some_and(|push| push.is_proven)
    }

    /// A round for one peer, ahead of the next one for all.
    pub fn begin(&mut self, peer: SocketAddr, now: Duration, mut send: impl FnMut(usize)) {
        if let Some(push) = self.peers.get_mut(&peer) {
            push.send(self.depth, now, &mut send);
        }
    }

    /// Pushes to `peer` no more.
    pub fn remove(&mut self, peer: SocketAddr) {
        self.peers.remove(&peer);
    }

    /// Takes an ack; false where it comes from nobody that we push to.
    pub fn ack(&mut self, from: SocketAddr, now: Duration) -> bool {
        let Some(peer) = self.peers.get_mut(&from) else {
            return false;
        };
        peer.last_ack = Some(now);
        peer.rows_acked += 1;
        peer.silent_rounds = 0;
        true
    }

    /// One round: `send(peer, row)` for every row that is due. Returns the peers that were forgotten
    /// because they stayed silent.
    pub fn round(
        &mut self,
        now: Duration,
        mut send: impl FnMut(SocketAddr, usize),
    ) -> Vec<SocketAddr> {
        let grace_rounds = self.grace_rounds;
        let silent: Vec<SocketAddr> = self
            .peers
            .extract_if(.., |_, peer| peer.silent_rounds >= grace_rounds)
            .map(|(address, _)| address)
            .collect();
        for (&address, peer) in &mut self.peers {
            peer.send(self.depth, now, &mut |row| send(address, row));
        }
        silent
    }

    /// All peers that are pushed to, by address.
    pub fn peers(&self) -> impl Iterator<Item = (SocketAddr, &Push)> {
        self.peers.iter().map(|(&address, push)| (address, push))
    }
}

impl Push {
    fn send(&mut self, depth: usize, now: Duration, send: &mut impl FnMut(usize)) {
        for row in self.rows_due(depth) {
            send(row);
            self.rows_sent += 1;
        }
        self.last_send = Some(now);
        self.silent_rounds += 1;
    }

    fn rows_due(&mut self, depth: usize) -> std::ops::Range<usize> {
        if self.is_proven {
            return 0..depth;
        }
        let row = self.next_row;
        self.next_row = (row + 1) % depth;
        row..row + 1
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const DEPTH: usize = 4;

    fn peer(port: u16) -> SocketAddr {
        ([127, 0, 0, 1], port).into()
    }

    fn round(pushes: &mut Pushes, number: u32) -> (Vec<(u16, usize)>, Vec<SocketAddr>) {
        let mut sent = Vec::new();
        let silent = pushes.round(ROUND * number, |to, row| sent.push((to.port(), row)));
        (sent, silent)
    }

    #[test]
    fn one_row_a_round_until_it_is_proven_then_all() {
        let mut pushes = Pushes::new(DEPTH, 99, 8);
        assert!(!pushes.prove(peer(1)));
        assert_eq!(pushes.add(peer(1)), Ok(Added::New));
        for number in 0..5 {
            assert_eq!(round(&mut pushes, number).0, [(1, number as usize % DEPTH)]);
            // A node of ours acknowledges, too.
            assert!(pushes.ack(peer(1), ROUND * number));
        }
        let mut ahead = Vec::new();
        pushes.begin(peer(1), ROUND * 5, |row| ahead.push(row));
        pushes.begin(peer(2), ROUND * 5, |_| panic!("nobody pushes there"));
        assert_eq!(ahead, [1]);
        assert!(pushes.ack(peer(1), ROUND * 6));
        assert!(!pushes.is_proven(peer(1)));
        assert!(pushes.prove(peer(1)) && !pushes.prove(peer(1)));
        assert!(pushes.is_proven(peer(1)) && !pushes.is_proven(peer(2)));
        assert_eq!(round(&mut pushes, 6).0, [(1, 0), (1, 1), (1, 2), (1, 3)]);
        let (_, push) = pushes.peers().next().unwrap();
        assert_eq!((push.rows_sent, push.rows_acked), (10, 6));
        assert_eq!(
            (push.last_send, push.last_ack),
            (Some(ROUND * 6), Some(ROUND * 6))
        );
    }

    #[test]
    fn a_silent_peer_is_forgotten_after_its_grace_and_no_other() {
        let mut pushes = Pushes::new(DEPTH, 3, 8);
        pushes.add(peer(1)).unwrap();
        pushes.add(peer(2)).unwrap();
        for number in 0..3 {
            let (sent, silent) = round(&mut pushes, number);
            assert!(sent.iter().any(|&(port, _)| port == 2));
            assert!(silent.is_empty());
            pushes.ack(peer(1), ROUND * number);
        }
        assert_eq!(round(&mut pushes, 3).1, [peer(2)]);
        assert!(
            !pushes.ack(peer(2), ROUND * 4),
            "an ack of a forgotten peer is nobody's"
        );
        assert_eq!(pushes.peers().count(), 1);
        assert_eq!(pushes.add(peer(2)), Ok(Added::New));
    }

    #[test]
    fn an_order_for_a_known_peer_renews_its_grace() {
        let mut pushes = Pushes::new(DEPTH, 1, 8);
        pushes.add(peer(1)).unwrap();
        for number in 0..5 {
            assert!(round(&mut pushes, number).1.is_empty());
            assert_eq!(pushes.add(peer(1)), Ok(Added::Known));
        }
    }

    #[test]
    fn the_number_of_peers_is_limited() {
        let mut pushes = Pushes::new(DEPTH, 1, 2);
        pushes.add(peer(1)).unwrap();
        pushes.add(peer(2)).unwrap();
        assert_eq!(pushes.add(peer(3)), Err(TooManyPeers { max_peers: 2 }));
        assert_eq!(pushes.add(peer(2)), Ok(Added::Known));
        pushes.remove(peer(1));
        assert!(!pushes.is_known(peer(1)) && pushes.is_known(peer(2)));
        assert_eq!(pushes.add(peer(3)), Ok(Added::New));
    }
}
