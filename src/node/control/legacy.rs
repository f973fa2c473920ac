//! Legacy peers, and orders to push: rows in, rows out, and the question whether a peer is not a
//! node of ours, for which there are better ways.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::MissedTickBehavior;
use tracing::{info, warn};

use super::addresses::canonical;
use super::challenge::{Challenges, Heard, Told, Verdict, is_probe_answer};
use super::once::OnceWatch;
use super::orders::{Order, Pushed};
use crate::cluster::legacy::ROUND;
use crate::cluster::membership::MemberState;
use crate::names::Lookup;
use crate::node::crew::Leave;
use crate::node::hand_off::Parcel;
use crate::node::shared::{Legacy, Shared};
use crate::replica::{MergeError, NoMemory, RowMerged};
use crate::wire::compact::is_reply;
use crate::wire::legacy::{self, Dialect, Message, SyncRow};
use crate::wire::{Boot, Writer};

/// Parcels taken before others get their turn on this thread.
const PARCELS_A_TURN: usize = 256;
/// Rounds from one question to the next to who did not answer: it may be a node of ours by now.
const ASK_AGAIN_ROUNDS: u64 = 10;
/// A peer that has sent no row for so long is not asked.
const ROWS_RECENT: Duration = Duration::from_secs(10);

/// The legacy protocol's part that is not the data threads'.
pub(super) struct Rounds {
    pub(super) shared: Arc<Shared>,
    /// The row being sent, kept for its memory.
    row: Vec<u64>,
    datagram: Vec<u8>,
    rounds: u64,
    pub(super) challenges: Challenges,
    once: OnceWatch,
    pub(super) orders: Vec<Order>,
    pub(super) orders_given: u64,
    pub(super) members: Members,
    /// Look-ups by the number of their order.
    pub(super) found: mpsc::UnboundedSender<(u64, Lookup)>,
    lookups_done: mpsc::UnboundedReceiver<(u64, Lookup)>,
}

/// What of the cluster matters here, as of the latest round.
#[derive(Debug, Default)]
pub(super) struct Members {
    /// Client addresses of the nodes that are up.
    clients: BTreeSet<SocketAddr>,
    /// Cluster addresses of the nodes that are up.
    pub(super) addresses: BTreeSet<SocketAddr>,
    /// Starts of nodes that are up.
    pub(super) boots: BTreeSet<Boot>,
    /// Cluster addresses of those that are pushed to one way, and answer.
    one_way: BTreeSet<SocketAddr>,
    /// Writers that slices are known of.
    counted: BTreeSet<Writer>,
}

impl Rounds {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        let (found, lookups_done) = mpsc::unbounded_channel();
        Self {
            shared,
            row: Vec::new(),
            datagram: Vec::new(),
            rounds: 0,
            challenges: Challenges::new(),
            once: OnceWatch::default(),
            orders: Vec::new(),
            orders_given: 0,
            members: Members::default(),
            found,
            lookups_done,
        }
    }

    /// Runs until it is told to end, when no data thread hands over any more; then takes the last.
    pub(super) async fn run(mut self, mut leave: Leave) {
        let shared = Arc::clone(&self.shared);
        let mut rounds = tokio::time::interval(ROUND);
        rounds.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let due = self.challenges.next();
            tokio::select! {
                () = leave.asked() => return self.take_parcels().await,
                () = shared.hand_off().arrived() => self.take_parcels().await,
                Some((order, lookup)) = self.lookups_done.recv() => self.looked_up(order, lookup),
                _ = rounds.tick() => self.round(),
                () = until(&shared, due) => {
                    // What has come meanwhile is heard first: it may be an answer.
                    self.take_parcels().await;
                    self.ask_and_decide();
                }
            }
            // Only what is awaited is handed over.
            shared.await_answers(self.challenges.is_waiting());
        }
    }

    async fn take_parcels(&mut self) {
        let shared = Arc::clone(&self.shared);
        let mut taken = 0;
        while let Some(parcel) = shared.hand_off().take() {
            self.take(&parcel);
            shared.hand_off().put_back(parcel);
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
            if let Some(verdict) = self.challenges.counted(from, datagram) {
                self.decide(from, verdict);
            }
            return;
        }
        // A data thread has understood it already, so there is one message, and no error.
        match legacy::messages(datagram, self.shared.layout()).next() {
            Some(Ok(Message::Sync(row))) => self.merge(from, row),
            Some(Ok(Message::Peer(order))) => self.order(from, order),
            Some(Ok(Message::Ack)) => {
                let now = self.shared.now();
                let mut legacy = self.shared.legacy();
                if !legacy.pushes.ack(from, now) {
                    return legacy.refuse("ack_of_nobody");
                }
                let is_proven = legacy.pushes.is_proven(from);
                drop(legacy);
                self.rows_acked(from);
                if !is_proven {
                    // It was silent when it was asked, and is alive now.
                    self.challenges.identify_by_ack(now, from);
                }
            }
            _ => {}
        }
    }

    fn round(&mut self) {
        self.rounds += 1;
        self.once.round(&self.shared);
        self.follow_cluster();
        self.push_rows();
        self.ask_again();
        self.ask_and_decide();
        self.follow_orders();
    }
}

// Rows.
impl Rounds {
    fn merge(&mut self, from: SocketAddr, row: SyncRow<'_>) {
        let now = self.shared.now();
        let mut legacy = self.shared.legacy();
        if self.members.counts(&legacy, from) {
            if let Some(received) = legacy.received.get_mut(&from) {
                // So that it is asked again: it may be started again as something else.
                received.last_row = now;
            }
            return legacy.refuse("row_of_a_member");
        }
        let merged = legacy.rows.merge(from, row.row, row.counters());
        let is_first = !legacy.received.contains_key(&from);
        match merged {
            Ok(outcome) => legacy.note_row(from, outcome, now),
            Err(error) => return legacy.note_refused_row(from, &error),
        }
        drop(legacy);
        self.send(&legacy::ACK, from);
        if is_first {
            self.challenges.ask(now, from);
            self.ask_and_decide();
        }
    }

    /// Without the first sync, what earlier starts of this node counted is not here. Rows without it would
    /// look as if everything had been counted anew.
    fn may_push_rows(&self) -> bool {
        let side = self.shared.presence().side();
        side.is_none_or(|side| side.cluster().is_ready())
    }

    /// Rows to one peer, ahead of the round.
    pub(super) fn push_at_once(&mut self, peer: SocketAddr) {
        if !self.may_push_rows() {
            return;
        }
        let shared = Arc::clone(&self.shared);
        let mut due = Vec::new();
        let now = shared.now();
        shared.legacy().pushes.begin(peer, now, |row| due.push(row));
        for row in due {
            self.encode(row, shared.layout().dialect);
            self.send(&self.datagram, peer);
        }
    }

    fn push_rows(&mut self) {
        if !self.may_push_rows() {
            return;
        }
        let shared = Arc::clone(&self.shared);
        let mut due = Vec::new();
        let silent = shared
            .legacy()
            .pushes
            .round(shared.now(), |to, row| due.push((row, to)));
        for peer in silent {
            info!(%peer, "no ack for too long; not pushing to it any more");
            self.rows_unacked(peer);
        }
        // By row: each is read and encoded once, however many peers get it.
        due.sort_unstable();
        let mut encoded = None;
        for (row, to) in due {
            if encoded != Some(row) {
                self.encode(row, shared.layout().dialect);
                encoded = Some(row);
            }
            self.send(&self.datagram, to);
        }
    }

    fn encode(&mut self, row: usize, dialect: Dialect) {
        self.shared.read_own_row(row, &mut self.row);
        // The depth is far below 2^16.
        legacy::encode_sync(row as u16, &self.row, dialect, &mut self.datagram);
    }

    /// What the kernel does not take now is sent again with the next round.
    fn send(&self, datagram: &[u8], to: SocketAddr) {
        send(&self.shared, datagram, to);
    }
}

// Peers that turn out to be nodes of ours.
impl Rounds {
    pub(super) fn ask_and_decide(&mut self) {
        let shared = Arc::clone(&self.shared);
        // Before a question goes: its answer may come before we are back.
        shared.await_answers(self.challenges.is_waiting());
        let verdicts = (self.challenges).due(shared.now(), |to, bytes| send(&shared, bytes, to));
        for (target, verdict) in verdicts {
            self.decide(target, verdict);
        }
    }

    /// It has not said what it is.
    fn decide(&mut self, target: SocketAddr, verdict: Verdict) {
        let is_proven = verdict == Verdict::NotOurs;
        // It may be a member by now.
        self.follow_cluster();
        self.order_decided(target, is_proven);
        if is_proven && self.shared.legacy().pushes.prove(target) {
            self.push_at_once(target);
        }
    }

    /// Who did not answer when rows began to go to it, or to come, may have been started again as
    /// something else, or the network was in the way.
    fn ask_again(&mut self) {
        if !self.rounds.is_multiple_of(ASK_AGAIN_ROUNDS) {
            return;
        }
        let now = self.shared.now();
        let due: Vec<SocketAddr> = {
            let legacy = self.shared.legacy();
            let is_recent = |at: Duration| now.saturating_sub(at) < ROWS_RECENT;
            let received = legacy.received.iter();
            let senders = received.filter(|(_, received)| is_recent(received.last_row));
            let targets = legacy.pushes.peers().map(|(address, _)| address);
            targets
                .chain(senders.map(|(&address, _)| address))
                .collect()
        };
        for address in due {
            self.challenges.ask(now, address);
        }
    }

    /// An answer to "what are you?".
    fn hear(&mut self, from: SocketAddr, datagram: &[u8]) {
        let told = match self.challenges.answer(self.shared.now(), from, datagram) {
            Heard::Told(told) => told,
            Heard::Again => return,
            Heard::Nobody => return self.shared.legacy().refuse("reply_of_nobody"),
        };
        if let Some(received) = self.shared.legacy().received.get_mut(&from) {
            received.writer = Some(told.writer);
        }
        self.follow_cluster();
        if !self.order_answered(from, told) && self.shared.legacy().pushes.is_known(from) {
            self.convert(from, told);
        }
    }

    /// We push rows to it, and it is a node of ours.
    fn convert(&mut self, peer: SocketAddr, told: Told) {
        if told.cluster_port == 0 || self.shared.presence().side().is_none() {
            if self.shared.legacy().pushes.prove(peer) {
                self.push_at_once(peer);
            }
            return;
        }
        self.shared.legacy().pushes.remove(peer);
        let outcome = self.push_to_node(peer, told);
        match &outcome {
            Ok((detail, _)) => info!(%peer, "no more rows: {detail}"),
            Err(reason) => warn!(%peer, "no more rows: {reason}"),
        }
        self.rows_converted(peer, outcome.ok().map(|(_, pushed)| pushed));
    }

    /// What a node counts comes with its slices; its rows would count it twice. What is known of their
    /// sender stays, so that more of them are refused.
    fn follow_cluster(&mut self) {
        let shared = Arc::clone(&self.shared);
        let Some(side) = shared.presence().side() else {
            return;
        };
        self.members = Members::of(side, shared.now());
        let mut legacy = shared.legacy();
        let counted: Vec<SocketAddr> = (legacy.received.keys().copied())
            .filter(|&address| self.members.counts(&legacy, address))
            .collect();
        for address in counted {
            if legacy.rows.forget(address) {
                info!(peer = %address, "its rows are dropped: it is a node of the cluster, which counts them already");
            }
        }
        let members = &self.members.clients;
        let pushed_to = legacy.pushes.peers().map(|(address, _)| address);
        let pushed_to: Vec<_> = pushed_to
            .filter(|&to| members.contains(&canonical(to)))
            .collect();
        for &address in &pushed_to {
            legacy.pushes.remove(address);
            info!(peer = %address, "no more rows: it is a member of the cluster now");
        }
        drop(legacy);
        for address in pushed_to {
            self.rows_converted(address, Some(Pushed::Member));
        }
    }
}

impl Members {
    fn of(side: &crate::node::gossip::Side, now: Duration) -> Self {
        let cluster = side.cluster();
        let state = cluster.status(now);
        let up = state.members.iter();
        let up = up.filter(|member| member.state != MemberState::Down);
        let mut members = Self::default();
        for up in up {
            let address = up.member.address;
            let client = SocketAddr::new(address.ip(), up.member.client_port);
            members.clients.insert(client);
            members.addresses.insert(address);
            members.boots.insert(up.member.boot);
        }
        let heard = state
            .one_way
            .iter()
            .filter(|target| target.heard_ago.is_some());
        members.one_way = heard.map(|target| target.address).collect();
        let counted = cluster.slices().digests().map(|digest| digest.slice.writer);
        members.counted = counted.collect();
        members
    }

    /// Whether it is where a node that is up serves clients.
    pub(super) fn is_client_address(&self, address: SocketAddr) -> bool {
        self.clients.contains(&canonical(address))
    }

    /// Whether it is pushed to one way, and answers.
    pub(super) fn is_heard(&self, target: SocketAddr) -> bool {
        self.one_way.contains(&target)
    }

    /// Whether what this address sends as rows is in slices that we hold.
    fn counts(&self, legacy: &Legacy, address: SocketAddr) -> bool {
        let writer = legacy
            .received
            .get(&address)
            .and_then(|received| received.writer);
        let is_held = writer.is_some_and(|writer| self.counted.contains(&writer));
        is_held || self.is_client_address(address)
    }
}

/// Sleeps until then, or for ever.
async fn until(shared: &Shared, then: Option<Duration>) {
    match then {
        Some(then) => tokio::time::sleep(then.saturating_sub(shared.now())).await,
        None => std::future::pending().await,
    }
}

fn send(shared: &Shared, datagram: &[u8], to: SocketAddr) {
    if let Some(thread) = shared.threads().first() {
        let _ = thread.socket.send_to(datagram, to);
    }
}

impl Legacy {
    fn note_row(&mut self, from: SocketAddr, outcome: RowMerged, now: Duration) {
        let received = self.received.entry(from).or_default();
        if received.rows == 0 {
            info!(peer = %from, "first row of a legacy peer");
        }
        received.rows += 1;
        received.last_row = now;
        if outcome == RowMerged::Restarted {
            received.restarts += 1;
            info!(peer = %from, "a legacy peer restarted; what it had counted before stays");
        }
    }

    fn note_refused_row(&mut self, from: SocketAddr, error: &MergeError) {
        let reason = match error {
            MergeError::PeerTableFull { .. } => "peer_table_full",
            MergeError::Memory(_) => "no_memory_for_peer",
            MergeError::NoSuchRow { .. } | MergeError::Length { .. } => "row_of_another_geometry",
        };
        if !self.refused.contains_key(reason) {
            let option = match error {
                MergeError::Memory(NoMemory::Limit(_)) => " (--max-memory)",
                _ => "",
            };
            warn!(peer = %from, "{error}{option} (said once; /status counts on)");
        }
        self.refuse(reason);
    }
}
