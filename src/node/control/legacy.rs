//! Legacy peers, and orders to push: rows in, rows out, and the question whether a peer is not a
//! node of ours, for which there are better ways.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::MissedTickBehavior;
use tracing::{info, warn};

use super::addresses::{canonical, is_ourselves, resolve};
use super::challenge::{Challenges, Heard, Told, Verdict, is_probe_answer};
use super::once::OnceWatch;
use crate::cluster::legacy::{Added, ROUND};
use crate::cluster::membership::MemberState;
use crate::node::crew::{Leave, Part};
use crate::node::hand_off::Parcel;
use crate::node::shared::{Legacy, Shared};
use crate::replica::{MergeError, RowMerged};
use crate::wire::compact::is_reply;
use crate::wire::legacy::{self, Dialect, Message, PeerOrder, SyncRow};

/// Parcels taken before others get their turn on this thread.
const PARCELS_A_TURN: usize = 256;
/// Names looked up at once; a resolver may take half a minute for each.
const LOOKUPS_MAX: usize = 8;
/// Rounds from one question to the next to who did not answer: it may be a node of ours by now.
const ASK_AGAIN_ROUNDS: u64 = 10;
/// A peer that has sent no row for so long is not asked.
const ROWS_RECENT: Duration = Duration::from_secs(10);

/// The legacy protocol's part that is not the data threads'.
pub(super) struct Rounds {
    shared: Arc<Shared>,
    /// The row being sent, kept for its memory.
    row: Vec<u32>,
    datagram: Vec<u8>,
    rounds: u64,
    challenges: Challenges,
    once: OnceWatch,
    /// Orders whose targets are being asked what they are: who gave them, and in which words.
    asked: BTreeMap<SocketAddr, (SocketAddr, String)>,
    members: Members,
    lookups: usize,
    found: mpsc::UnboundedSender<Lookup>,
    lookups_done: mpsc::UnboundedReceiver<Lookup>,
}

/// What of the cluster matters here, as of the latest round.
#[derive(Debug, Default)]
struct Members {
    /// Client addresses of the nodes that are up.
    clients: BTreeSet<SocketAddr>,
    /// Starts of nodes that are up.
    boots: BTreeSet<u64>,
    /// Starts that slices are known of.
    counted: BTreeSet<u64>,
}

/// A `peer` order whose name has been looked up.
struct Lookup {
    from: SocketAddr,
    target: String,
    result: Result<SocketAddr, String>,
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
            asked: BTreeMap::new(),
            members: Members::default(),
            lookups: 0,
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
                Some(lookup) = self.lookups_done.recv() => {
                    self.lookups -= 1;
                    self.consider(lookup);
                }
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
                if !legacy.pushes.is_proven(from) {
                    drop(legacy);
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
        let merged = legacy
            .rows
            .merge(self.shared.replica(), from, row.row, row.counters());
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
    fn push_at_once(&mut self, peer: SocketAddr) {
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
        self.shared.replica().read_own_row(row, &mut self.row);
        // The depth is far below 2^16.
        legacy::encode_sync(row as u16, &self.row, dialect, &mut self.datagram);
    }

    /// What the kernel does not take now is sent again with the next round.
    fn send(&self, datagram: &[u8], to: SocketAddr) {
        send(&self.shared, datagram, to);
    }
}

// Orders.
impl Rounds {
    fn order(&mut self, from: SocketAddr, order: PeerOrder<'_>) {
        let target = format!("{}:{}", String::from_utf8_lossy(order.host), order.port);
        match judge(order) {
            Ok(host_and_port) => self.look_up(from, target, host_and_port),
            Err(reason) => self.record(from, target, Err(reason)),
        }
    }

    /// Names are looked up on a thread of their own: a slow resolver holds up nothing else, and
    /// not the end of the process either.
    fn look_up(&mut self, from: SocketAddr, target: String, host_and_port: (String, u16)) {
        if self.lookups >= LOOKUPS_MAX {
            let reason = format!("{LOOKUPS_MAX} names are being looked up already; try again");
            return self.record(from, target, Err(reason));
        }
        let (found, ours) = (self.found.clone(), self.shared.udp());
        let lookup = {
            let target = target.clone();
            move || {
                let result = resolve(&host_and_port, ours);
                let _ = found.send(Lookup {
                    from,
                    target,
                    result,
                });
            }
        };
        let crew = self.shared.crew();
        match crew.thread(Part::PeerLookup, "rmbd-lookup".to_owned(), lookup) {
            Ok(_) => self.lookups += 1,
            Err(error) => {
                let reason = format!("no thread to look the name up: {error}");
                self.record(from, target, Err(reason));
            }
        }
    }

    /// An order for an address. Before anything is pushed there, it is asked what it is.
    fn consider(&mut self, lookup: Lookup) {
        let Lookup {
            from,
            target,
            result,
        } = lookup;
        let peer = match result.and_then(|peer| self.may_push_to(peer)) {
            Ok(peer) => peer,
            Err(reason) => return self.record(from, target, Err(reason)),
        };
        let is_known = self.shared.legacy().pushes.is_known(peer);
        if is_known {
            let outcome = self.push_legacy(peer, false);
            return self.record(from, target, outcome);
        }
        if self.asked.len() >= self.shared.max_peers() {
            let reason =
                "as many targets as --max-peers allows are being asked what they are; try again"
                    .to_owned();
            return self.record(from, target, Err(reason));
        }
        self.asked.insert(peer, (from, target));
        self.challenges.identify(self.shared.now(), peer);
        self.ask_and_decide();
    }

    fn may_push_to(&self, peer: SocketAddr) -> Result<SocketAddr, String> {
        if is_ourselves(peer, self.shared.udp()) {
            return Err(OURSELVES.to_owned());
        }
        if !self.shared.access().may_use(peer.ip()) {
            return Err("its acks would be refused: it is not on the --allow list".to_owned());
        }
        Ok(peer)
    }

    /// To an instance of the Python program, or to a node of ours that is in no cluster; or perhaps to one,
    /// until more is known.
    fn push_legacy(&mut self, peer: SocketAddr, is_proven: bool) -> Result<String, String> {
        let dialect = self.shared.layout().dialect;
        let (width, width_max) = (self.shared.layout().width, dialect.max_sync_width());
        if width > width_max {
            return Err(format!(
                "it does not answer as a node of a cluster does, and a row of {width} counters does not fit a datagram: \
                 legacy peers need a width of at most {width_max} (start both ends with --compat or a smaller -x)"
            ));
        }
        let added = self.shared.legacy().pushes.add(peer);
        let added = added.map_err(|error| error.to_string())?;
        if is_proven {
            self.shared.legacy().pushes.prove(peer);
        }
        Ok(match added {
            Added::New => {
                self.push_at_once(peer);
                format!("pushing to {peer} from now on")
            }
            Added::Known => format!("pushing to {peer} already"),
        })
    }

    fn record(&self, from: SocketAddr, target: String, outcome: Result<String, String>) {
        let mut legacy = self.shared.legacy();
        match &outcome {
            Ok(detail) => info!(%from, %target, "peer: {detail}"),
            Err(reason) => {
                legacy.refuse("peer_order");
                warn!(%from, %target, "peer refused: {reason}");
            }
        }
        let accepted = outcome.is_ok();
        let detail = outcome.unwrap_or_else(|reason| reason);
        legacy.orders.record(from, target, accepted, detail);
    }
}

const OURSELVES: &str = "that is this node's own address";
const MEMBER: &str = "it is a member of the cluster already, and has everything";

// Peers that turn out to be nodes of ours.
impl Rounds {
    fn ask_and_decide(&mut self) {
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
        if let Some((from, words)) = self.asked.remove(&target) {
            self.follow_cluster();
            let outcome = match self.members.clients.contains(&canonical(target)) {
                true => Ok(MEMBER.to_owned()),
                false => self.push_legacy(target, is_proven),
            };
            return self.record(from, words, outcome);
        }
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
            received.boot = Some(told.boot);
        }
        self.follow_cluster();
        if let Some((giver, words)) = self.asked.remove(&from) {
            let outcome = self.push_to_node(from, told);
            self.record(giver, words, outcome);
        } else if self.shared.legacy().pushes.is_known(from) {
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
        match self.push_to_node(peer, told) {
            Ok(detail) => info!(%peer, "no more rows: {detail}"),
            Err(reason) => warn!(%peer, "no more rows: {reason}"),
        }
    }

    fn push_to_node(&mut self, peer: SocketAddr, told: Told) -> Result<String, String> {
        if told.boot == self.shared.boot() {
            return Err(OURSELVES.to_owned());
        }
        if told.fingerprint != self.shared.fingerprint() {
            return Err(
                "it has another sketch: width, depth, hash and --seed must be the same at both ends"
                    .to_owned(),
            );
        }
        if self.members.boots.contains(&told.boot) {
            return Ok(MEMBER.to_owned());
        }
        let shared = Arc::clone(&self.shared);
        match shared.presence().side() {
            Some(side) if told.cluster_port != 0 => {
                let target = SocketAddr::new(peer.ip(), told.cluster_port);
                let target = canonical(target);
                side.push_to(shared.now(), target);
                Ok(format!(
                    "pushing everything known here to the node at {target} from now on, one way"
                ))
            }
            _ => self.push_legacy(peer, true),
        }
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
            if legacy.rows.forget(shared.replica(), address) {
                info!(peer = %address, "its rows are dropped: it is a node of the cluster, which counts them already");
            }
        }
        let members = &self.members.clients;
        let pushed_to = legacy.pushes.peers().map(|(address, _)| address);
        let pushed_to: Vec<_> = pushed_to
            .filter(|&to| members.contains(&canonical(to)))
            .collect();
        for address in pushed_to {
            legacy.pushes.remove(address);
            info!(peer = %address, "no more rows: it is a member of the cluster now");
        }
    }
}

impl Members {
    fn of(side: &crate::node::gossip::Side, now: Duration) -> Self {
        let cluster = side.cluster();
        let state = cluster.status(now);
        let up = state.members.iter();
        let up = up.filter(|member| member.state != MemberState::Down);
        let (clients, boots) = up
            .map(|up| {
                let ip = up.member.address.ip();
                (SocketAddr::new(ip, up.member.client_port), up.member.boot)
            })
            .unzip();
        let counted = cluster.slices().digests().map(|digest| digest.slice.boot);
        Self {
            clients,
            boots,
            counted: counted.collect(),
        }
    }

    /// Whether what this address sends as rows is in slices that we hold.
    fn counts(&self, legacy: &Legacy, address: SocketAddr) -> bool {
        let boot = legacy
            .received
            .get(&address)
            .and_then(|received| received.boot);
        self.clients.contains(&canonical(address))
            || boot.is_some_and(|boot| self.counted.contains(&boot))
    }
}

/// What can be said of an order before its name is looked up.
fn judge(order: PeerOrder<'_>) -> Result<(String, u16), String> {
    let host = std::str::from_utf8(order.host).map_err(|_| "the host is not UTF-8".to_owned())?;
    if host.is_empty() {
        return Err("the host is empty".to_owned());
    }
    let port = u16::try_from(order.port).ok().filter(|&port| port > 0);
    let port = port.ok_or_else(|| format!("{} is not a port (1 to 65535)", order.port))?;
    Ok((host.to_owned(), port))
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
            warn!(peer = %from, "{error} (said once; /status counts on)");
        }
        self.refuse(reason);
    }
}
