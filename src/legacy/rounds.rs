//! The task for legacy peers. It takes the rows that come in, sends rows in rounds, and handles the answers to
//! challenges.

use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::MissedTickBehavior;
use tracing::{info, warn};

use super::challenge::{Challenges, Conclusion, Heard, Introduction};
use super::members::Members;
use super::orders::{Order, Pushed};
use super::peers::LegacyPeers;
use crate::cluster_io::SharedCluster;
use crate::fronts::datagrams::{ClientPort, Parcel, is_probe_answer};
use crate::shared::Shared;
use rmbd_cluster::legacy::ROUND;
use rmbd_names::{Lookup, Lookups};
use rmbd_proto::compact::is_reply;
use rmbd_proto::legacy::{self, Dialect, Message, SyncRow};

/// Number of parcels that are taken before other tasks get their turn on this thread.
const PARCELS_A_TURN: usize = 256;
/// Number of rounds between two questions to an address that did not answer: it may be a node of ours by now.
const ASK_AGAIN_ROUNDS: u64 = 10;
/// A peer that has sent no row for this time is not asked.
const ROWS_RECENT: Duration = Duration::from_secs(10);

/// The part of the legacy protocol that data threads leave to the control thread.
pub(crate) struct Rounds {
    pub(super) shared: Arc<Shared>,
    /// The client port, where rare messages come from and rows go out.
    pub(super) port: Arc<ClientPort>,
    pub(super) peers: Arc<LegacyPeers>,
    /// The cluster; `None` if the node is in none.
    pub(super) cluster: Option<Arc<SharedCluster>>,
    pub(super) lookups: Lookups,
    /// The row that is being sent, kept for its memory.
    row: Vec<u64>,
    datagram: Vec<u8>,
    rounds: u64,
    pub(super) challenges: Challenges,
    pub(super) orders: Vec<Order>,
    pub(super) orders_given: u64,
    pub(super) members: Members,
    /// The sender for look-ups, each with the number of its order.
    pub(super) found: mpsc::UnboundedSender<(u64, Lookup)>,
    lookups_done: mpsc::UnboundedReceiver<(u64, Lookup)>,
}

impl Rounds {
    /// A task that looks up the names of orders by `lookups`.
    pub(crate) fn new(
        port: Arc<ClientPort>,
        peers: Arc<LegacyPeers>,
        cluster: Option<Arc<SharedCluster>>,
        lookups: Lookups,
    ) -> Self {
        let (found, lookups_done) = mpsc::unbounded_channel();
        Self {
            shared: Arc::clone(port.shared()),
            port,
            peers,
            cluster,
            lookups,
            row: Vec::new(),
            datagram: Vec::new(),
            rounds: 0,
            challenges: Challenges::new(),
            orders: Vec::new(),
            orders_given: 0,
            members: Members::default(),
            found,
            lookups_done,
        }
    }

    /// Runs until it is told to end, when no data thread hands over any more, and then takes the last messages.
    /// `each_round` is called at the beginning of each round.
    pub(crate) async fn run(
        mut self,
        leave: impl Future<Output = ()>,
        mut each_round: impl FnMut(),
    ) {
        let port = Arc::clone(&self.port);
        let mut leave = pin!(leave);
        let mut rounds = tokio::time::interval(ROUND);
        rounds.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let due = self.challenges.next();
            tokio::select! {
                () = &mut leave => return self.take_parcels().await,
                () = port.rare().arrived() => self.take_parcels().await,
                Some((order, lookup)) = self.lookups_done.recv() => self.looked_up(order, lookup),
                _ = rounds.tick() => {
                    each_round();
                    self.round();
                }
                () = until(port.shared(), due) => {
                    // Messages that have come meanwhile are heard first, since one may be an answer.
                    self.take_parcels().await;
                    self.ask_and_decide();
                }
            }
            // Data threads hand over only what is awaited.
            port.await_answers(self.challenges.is_waiting());
        }
    }

    async fn take_parcels(&mut self) {
        let port = Arc::clone(&self.port);
        let mut taken = 0;
        while let Some(parcel) = port.rare().take() {
            self.take(&parcel);
            port.rare().put_back(parcel);
            taken += 1;
            if taken % PARCELS_A_TURN == 0 {
                tokio::task::yield_now().await;
            }
        }
    }

    fn take(&mut self, parcel: &Parcel) {
        let (from, datagram) = (parcel.from(), parcel.datagram());
        if datagram.first().is_some_and(|&first| is_reply(first)) {
            return self.hear(from, datagram);
        }
        if is_probe_answer(datagram) {
            if let Some(conclusion) = self.challenges.counted(from, datagram) {
                self.decide(from, conclusion);
            }
            return;
        }
        // A data thread has parsed it already, so there is one message and no error.
        match legacy::messages(datagram, self.port.layout()).next() {
            Some(Ok(Message::Sync(row))) => self.merge(from, row),
            Some(Ok(Message::Peer(order))) => self.order(from, order),
            Some(Ok(Message::Ack)) => {
                let now = self.shared.now();
                let mut peers = self.peers.lock();
                if !peers.pushes.ack(from, now) {
                    return peers.refuse("ack_of_nobody");
                }
                let is_proven = peers.pushes.is_proven(from);
                drop(peers);
                self.rows_acked(from);
                if !is_proven {
                    // The address was silent when it was asked, and is alive now.
                    self.challenges.identify_by_ack(now, from);
                }
            }
            _ => {}
        }
    }

    fn round(&mut self) {
        self.rounds += 1;
        self.follow_cluster();
        self.push_rows();
        self.ask_again();
        self.ask_and_decide();
        self.follow_orders();
    }
}

// Rows that come in and go out.
impl Rounds {
    fn merge(&mut self, from: SocketAddr, row: SyncRow<'_>) {
        let now = self.shared.now();
        let mut peers = self.peers.lock();
        if self.members.counts(&peers, from) {
            if let Some(received) = peers.received.get_mut(&from) {
                // The time is noted, so that the peer is asked again: it may start again as another program.
                received.last_row = now;
            }
            return peers.refuse("row_of_a_member");
        }
        let merged = peers.rows.merge(from, row.row, row.counters());
        let is_first = !peers.received.contains_key(&from);
        match merged {
            Ok(outcome) => peers.note_row(from, outcome, now),
            Err(error) => return peers.note_refused_row(from, &error),
        }
        drop(peers);
        self.send(&legacy::ACK, from);
        if is_first {
            self.challenges.ask(now, from);
            self.ask_and_decide();
        }
    }

    /// Whether rows may be pushed. Before the first sync, the counts of earlier starts of this node are not here. Rows
    /// without them would look as if everything had been counted anew.
    fn may_push_rows(&self) -> bool {
        let cluster = self.cluster.as_ref();
        cluster.is_none_or(|cluster| cluster.lock().is_ready())
    }

    /// Sends rows to one peer, ahead of the round.
    pub(super) fn push_at_once(&mut self, peer: SocketAddr) {
        if !self.may_push_rows() {
            return;
        }
        let mut due = Vec::new();
        let now = self.shared.now();
        (self.peers.lock().pushes).begin(peer, now, |row| due.push(row));
        for row in due {
            self.encode(row, self.port.layout().dialect);
            self.send(&self.datagram, peer);
        }
    }

    fn push_rows(&mut self) {
        if !self.may_push_rows() {
            return;
        }
        let mut due = Vec::new();
        let now = self.shared.now();
        let silent = (self.peers.lock().pushes).round(now, |to, row| due.push((row, to)));
        for peer in silent {
            info!(%peer, "no ack for too long; not pushing to it any more");
            self.rows_unacked(peer);
        }
        // Rows are sorted, so that each is read and encoded once, however many peers get it.
        due.sort_unstable();
        let mut encoded = None;
        for (row, to) in due {
            if encoded != Some(row) {
                self.encode(row, self.port.layout().dialect);
                encoded = Some(row);
            }
            self.send(&self.datagram, to);
        }
    }

    fn encode(&mut self, row: usize, dialect: Dialect) {
        match &self.cluster {
            // The row includes what earlier starts of this node counted.
            Some(cluster) => cluster.lock().slices().read_own_row(row, &mut self.row),
            None => self.shared.replica().read_own_row(row, &mut self.row),
        }
        // The depth is far below 2^16.
        legacy::encode_sync(row as u16, &self.row, dialect, &mut self.datagram);
    }

    /// Sends a datagram. If the kernel does not take it now, it is sent again in the next round.
    fn send(&self, datagram: &[u8], to: SocketAddr) {
        self.port.send_to(datagram, to);
    }
}

// Peers that turn out to be nodes of ours.
impl Rounds {
    pub(super) fn ask_and_decide(&mut self) {
        // This comes before a question is sent: its answer may come before this function returns.
        self.port.await_answers(self.challenges.is_waiting());
        let port = &self.port;
        let conclusions =
            (self.challenges).due(self.shared.now(), |to, bytes| port.send_to(bytes, to));
        for (target, conclusion) in conclusions {
            self.decide(target, conclusion);
        }
    }

    /// Decides about a target that has not said what it is.
    fn decide(&mut self, target: SocketAddr, conclusion: Conclusion) {
        let is_proven = conclusion == Conclusion::NotOurs;
        // The target may be a member by now.
        self.follow_cluster();
        self.order_decided(target, is_proven);
        if is_proven && self.peers.lock().pushes.prove(target) {
            self.push_at_once(target);
        }
    }

    /// Asks again the peers that did not answer when rows began to go to them or to come. They may have started again
    /// as another program, or the network was at fault.
    fn ask_again(&mut self) {
        if !self.rounds.is_multiple_of(ASK_AGAIN_ROUNDS) {
            return;
        }
        let now = self.shared.now();
        let due: Vec<SocketAddr> = {
            let peers = self.peers.lock();
            let is_recent = |at: Duration| now.saturating_sub(at) < ROWS_RECENT;
            let received = peers.received.iter();
            let senders = received.filter(|(_, received)| is_recent(received.last_row));
            let targets = peers.pushes.peers().map(|(address, _)| address);
            targets
                .chain(senders.map(|(&address, _)| address))
                .collect()
        };
        for address in due {
            self.challenges.ask(now, address);
        }
    }

    /// Takes an answer to "what are you?".
    fn hear(&mut self, from: SocketAddr, datagram: &[u8]) {
        let told = match self.challenges.answer(self.shared.now(), from, datagram) {
            Heard::Introduced(told) => told,
            Heard::Again => return,
            Heard::Nobody => return self.peers.lock().refuse("reply_of_nobody"),
        };
        if let Some(received) = self.peers.lock().received.get_mut(&from) {
            received.writer = Some(told.writer);
        }
        self.follow_cluster();
        if !self.order_answered(from, told) && self.peers.lock().pushes.is_known(from) {
            self.convert(from, told);
        }
    }

    /// Handles a peer that rows are pushed to, and that is a node of ours.
    fn convert(&mut self, peer: SocketAddr, told: Introduction) {
        if told.cluster_port == 0 || self.cluster.is_none() {
            if self.peers.lock().pushes.prove(peer) {
                self.push_at_once(peer);
            }
            return;
        }
        self.peers.lock().pushes.remove(peer);
        let outcome = self.push_to_node(peer, told);
        match &outcome {
            Ok((detail, _)) => info!(%peer, "no more rows: {detail}"),
            Err(reason) => warn!(%peer, "no more rows: {reason}"),
        }
        self.rows_converted(peer, outcome.ok().map(|(_, pushed)| pushed));
    }

    /// Forgets the rows of members. A node's counts come with its slices, and its rows would count them twice. The
    /// sender stays known, so that more of its rows are refused.
    fn follow_cluster(&mut self) {
        let Some(cluster) = &self.cluster else {
            return;
        };
        self.members = Members::of(cluster, self.shared.now());
        let mut peers = self.peers.lock();
        let counted: Vec<SocketAddr> = (peers.received.keys().copied())
            .filter(|&address| self.members.counts(&peers, address))
            .collect();
        for address in counted {
            if peers.rows.forget(address) {
                info!(peer = %address, "its rows are dropped: it is a node of the cluster, which counts them already");
            }
        }
        let pushed_to = peers.pushes.peers().map(|(address, _)| address);
        let pushed_to: Vec<_> = pushed_to
            .filter(|&to| self.members.is_client_address(to))
            .collect();
        for &address in &pushed_to {
            peers.pushes.remove(address);
            info!(peer = %address, "no more rows: it is a member of the cluster now");
        }
        drop(peers);
        for address in pushed_to {
            self.rows_converted(address, Some(Pushed::Member));
        }
    }
}

/// Sleeps until a time, or for ever if there is none.
async fn until(shared: &Shared, then: Option<Duration>) {
    match then {
        Some(then) => tokio::time::sleep(then.saturating_sub(shared.now())).await,
        None => std::future::pending().await,
    }
}
