//! Orders to push: each goes from the given name to its addresses, and to the one that takes what is pushed.
//!
//! ```text
//!              names              all are asked what they are
//!  order ──> LookingUp ──────────────> Asking ──── a node ───> Slices, or Rows where it is in no cluster
//!                ^                        │                       │
//!                │                        ├── the Python program ─│──> Rows
//!                │                        └── all silent ──> Rows │ to one, then the next
//!                └── Resting <── falls silent ────────────────────┘
//! ```
//!
//! An order for an address ends with its outcome. An order for a name stands: if the target falls silent, the name is
//! looked up again, for some ten minutes.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

use tracing::{info, warn};

use super::addresses::{as_sent_by, is_ourselves};
use super::challenge::Introduction;
use super::rounds::Rounds;
use crate::cluster_io::{canonical, usable};
use rmbd_cluster::legacy::Added;
use rmbd_names::{HostPort, Lookup};
use rmbd_proto::legacy::PeerOrder;
use rmbd_store::SketchIndex;

/// Largest number of names that are looked up at once. A resolver may take half a minute for each.
const LOOKUPS_MAX: usize = 8;
/// Largest number of addresses of one order: it must not aim traffic at many.
const ADDRESSES_MAX: usize = 8;
/// Time between two look-ups while no address takes what the order pushes.
const REST: Duration = Duration::from_secs(15);
/// Number of look-ups in a row after which an order is given up.
const LOOKS_MAX: u32 = 40;
/// Number of rounds without an answer after which a node's name is looked up again.
const SILENT_ROUNDS: u32 = 10;

#[derive(Debug)]
pub(super) struct Order {
    number: u64,
    name: HostPort,
    from: SocketAddr,
    /// The target as it was given.
    words: String,
    /// The addresses that have been asked what they are.
    asked: Vec<SocketAddr>,
    /// The addresses that did not answer: there may be a Python program that starts later.
    silent: VecDeque<SocketAddr>,
    /// The reason why the latest address cannot be used.
    refused: Option<String>,
    state: State,
    /// Number of look-ups since an address of the order last answered.
    looks: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    LookingUp,
    Asking,
    /// Rows are pushed to this address.
    Rows(SocketAddr),
    /// Everything is pushed to a node's cluster address.
    Slices {
        target: SocketAddr,
        silent_rounds: u32,
    },
    Resting {
        until: Duration,
    },
}

/// The way in which an order is carried out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pushed {
    /// The target is a member, which has everything already.
    Member,
    Rows(SocketAddr),
    Slices(SocketAddr),
}

impl Rounds {
    pub(super) fn order(&mut self, from: SocketAddr, order: PeerOrder<'_>) {
        let words = format!("{}:{}", String::from_utf8_lossy(order.host), order.port);
        let name = match judge(order) {
            Ok(name) => name,
            Err(reason) => return self.record(from, words, Err(reason)),
        };
        // The new order replaces the one for the same target.
        self.orders
            .retain(|order| order.name != name || order.is_under_way());
        if self.orders.len() >= self.peers.max_peers() {
            let reason = "as many targets as --max-peers allows are being asked what they are, or stand; try again";
            return self.record(from, words, Err(reason.to_owned()));
        }
        self.orders_given += 1;
        self.look_up(Order {
            number: self.orders_given,
            name,
            from,
            words,
            asked: Vec::new(),
            silent: VecDeque::new(),
            refused: None,
            state: State::LookingUp,
            looks: 0,
        });
    }

    /// Looks an order's name up on a thread of its own, so that a slow resolver delays nothing else, not even the end
    /// of the process.
    fn look_up(&mut self, mut order: Order) {
        if let Some(address) = order.name.literal() {
            return self.take_addresses(order, Ok(vec![address]));
        }
        let looking = self.orders.iter();
        if looking
            .filter(|order| order.state == State::LookingUp)
            .count()
            >= LOOKUPS_MAX
        {
            let reason = format!("{LOOKUPS_MAX} names are being looked up already; try again");
            return self.give_up(order, reason);
        }
        let (found, number) = (self.found.clone(), order.number);
        let done = move |lookup| {
            let _ = found.send((number, lookup));
        };
        match self.lookups.begin(&order.name, done) {
            Ok(()) => {
                order.state = State::LookingUp;
                self.orders.push(order);
            }
            Err(error) => {
                let reason = format!("cannot look up {}: {error}", order.name);
                self.give_up(order, reason);
            }
        }
    }

    pub(super) fn looked_up(&mut self, number: u64, found: Lookup) {
        if let Some(order) = self.take_order(|order| order.number == number) {
            self.take_addresses(order, found);
        }
    }

    /// Asks the addresses of an order what they are, before anything is pushed to one.
    fn take_addresses(&mut self, mut order: Order, found: Lookup) {
        let ours = self.port.address();
        let found = match found {
            Ok(found) => usable(ours, &found),
            Err(error) => return self.give_up(order, error.to_string()),
        };
        if found.is_empty() {
            let reason = format!("{} has no address that {ours} can send to", order.name.host);
            return self.give_up(order, reason);
        }
        (order.refused, order.silent) = (None, VecDeque::new());
        order.asked.clear();
        for peer in found {
            let peer = as_sent_by(ours, peer);
            match self.may_push_to(peer) {
                Ok(()) if order.asked.len() < ADDRESSES_MAX => order.asked.push(peer),
                Ok(()) => {}
                Err(reason) => order.refused = order.refused.or(Some(reason)),
            }
        }
        let is_known = |peer: &&SocketAddr| self.peers.lock().pushes.is_known(**peer);
        let known = order.asked.iter().find(is_known).copied();
        if let Some(peer) = known {
            let outcome = self.push_rows_to(peer, false);
            return self.settle(order, outcome);
        }
        if order.asked.is_empty() {
            let reason = order.refused.take();
            return self.give_up(order, reason.unwrap_or_default());
        }
        let now = self.shared.now();
        for &peer in &order.asked {
            self.challenges.identify(now, peer);
        }
        order.state = State::Asking;
        self.orders.push(order);
        self.ask_and_decide();
    }

    fn may_push_to(&self, peer: SocketAddr) -> Result<(), String> {
        if is_ourselves(peer, self.port.address()) {
            return Err(OURSELVES.to_owned());
        }
        if !self.port.may_use(peer.ip()) {
            return Err("its acks would be refused: it is not on the --allow list".to_owned());
        }
        Ok(())
    }

    /// Handles the answer of a node that was asked. Returns whether it was asked for an order.
    pub(super) fn order_answered(&mut self, from: SocketAddr, told: Introduction) -> bool {
        let mut was_asked = false;
        while let Some(mut order) = self.take_order(|order| order.is_asking(from)) {
            was_asked = true;
            order.asked.retain(|&asked| asked != from);
            match self.push_to_node(from, told) {
                Err(reason) if order.has_others() => {
                    order.refused = Some(reason);
                    self.go_on(order);
                }
                outcome => self.settle_for_good(order, outcome),
            }
        }
        was_asked
    }

    /// Handles an address that has not said what it is: it is the Python program, or it was silent.
    pub(super) fn order_decided(&mut self, of: SocketAddr, is_proven: bool) {
        while let Some(mut order) = self.take_order(|order| order.is_asking(of)) {
            order.asked.retain(|&asked| asked != of);
            if !is_proven {
                order.silent.push_back(of);
                self.go_on(order);
                continue;
            }
            match self.push_rows_to(of, true) {
                Err(reason) if order.has_others() => {
                    order.refused = Some(reason);
                    self.go_on(order);
                }
                outcome => self.settle_for_good(order, outcome),
            }
        }
    }

    /// Ends an order with an outcome; the other addresses of the name are not needed.
    fn settle_for_good(&mut self, mut order: Order, outcome: Result<(String, Pushed), String>) {
        order.silent.clear();
        order.looks = 0;
        self.settle(order, outcome);
    }

    /// Waits for the addresses that have been asked; then pushes rows to those that stayed silent.
    fn go_on(&mut self, mut order: Order) {
        if !order.asked.is_empty() {
            return self.orders.push(order);
        }
        match order.silent.pop_front() {
            Some(peer) => {
                let outcome = self.push_rows_to(peer, false);
                self.settle(order, outcome);
            }
            None => {
                let reason = order.refused.take().unwrap_or_default();
                self.give_up(order, reason);
            }
        }
    }

    fn settle(&mut self, mut order: Order, outcome: Result<(String, Pushed), String>) {
        let (detail, pushed) = match outcome {
            Ok(done) => done,
            Err(reason) => return self.give_up(order, reason),
        };
        self.record(order.from, order.words.clone(), Ok(detail));
        order.state = match pushed {
            Pushed::Member => return,
            Pushed::Rows(peer) => State::Rows(peer),
            Pushed::Slices(target) => State::Slices {
                target,
                silent_rounds: 0,
            },
        };
        if order.name.literal().is_none() {
            self.orders.push(order);
        }
    }

    /// Gives an order up. It ends if no address has taken it; else it waits.
    fn give_up(&mut self, mut order: Order, reason: String) {
        if order.looks == 0 {
            return self.record(order.from, order.words, Err(reason));
        }
        let until = self.shared.now() + REST;
        order.state = State::Resting { until };
        if order.looks < LOOKS_MAX {
            self.orders.push(order);
        } else {
            self.record(order.from, order.words, Err(reason));
        }
    }

    fn look_again(&mut self, mut order: Order) {
        order.looks += 1;
        self.look_up(order);
    }

    /// Handles a target that takes no more: it may be at another address now.
    fn fall_silent(&mut self, order: Order) {
        if !order.silent.is_empty() {
            self.go_on(order);
        } else if order.looks == 0 {
            info!(target = %order.words, "peer: nobody answers there any more; the name is looked up again");
            self.look_again(order);
        } else {
            self.give_up(order, "nobody answers there".to_owned());
        }
    }

    /// Notes that rows to a peer were acknowledged.
    pub(super) fn rows_acked(&mut self, by: SocketAddr) {
        let mut orders = self.orders.iter_mut();
        if let Some(order) = orders.find(|order| order.state == State::Rows(by)) {
            order.looks = 0;
            order.silent.clear();
        }
    }

    /// Notes that no rows go to a peer any more.
    pub(super) fn rows_unacked(&mut self, by: SocketAddr) {
        while let Some(order) = self.take_order(|order| order.state == State::Rows(by)) {
            self.fall_silent(order);
        }
    }

    /// Notes that a peer that rows went to is a node.
    pub(super) fn rows_converted(&mut self, peer: SocketAddr, pushed: Option<Pushed>) {
        while let Some(mut order) = self.take_order(|order| order.state == State::Rows(peer)) {
            if let Some(Pushed::Slices(target)) = pushed {
                order.state = State::Slices {
                    target,
                    silent_rounds: 0,
                };
                self.orders.push(order);
                return;
            }
        }
    }

    /// Follows the standing orders; it is called once a round.
    pub(super) fn follow_orders(&mut self) {
        let now = self.shared.now();
        let members = &self.members;
        for order in &mut self.orders {
            if let State::Slices {
                target,
                silent_rounds,
            } = &mut order.state
            {
                let is_heard = members.is_heard(*target);
                *silent_rounds = if is_heard { 0 } else { *silent_rounds + 1 };
            }
        }
        self.orders.retain(|order| {
            let State::Slices { target, .. } = order.state else {
                return true;
            };
            // A member has everything, and the cluster knows the rest about it.
            !members.has_address(target)
        });
        while let Some(order) = self.take_order(Order::is_silent) {
            self.fall_silent(order);
        }
        while let Some(order) = self.take_order(|order| order.is_rested(now)) {
            self.look_again(order);
        }
    }

    fn take_order(&mut self, wanted: impl Fn(&Order) -> bool) -> Option<Order> {
        let at = self.orders.iter().position(wanted)?;
        Some(self.orders.remove(at))
    }

    /// Pushes rows to an address that has not said that it is a node of ours. A member at that address gets
    /// everything anyway.
    fn push_rows_to(
        &mut self,
        peer: SocketAddr,
        is_proven: bool,
    ) -> Result<(String, Pushed), String> {
        if self.members.is_client_address(peer) {
            return Ok((MEMBER.to_owned(), Pushed::Member));
        }
        Ok((self.push_legacy(peer, is_proven)?, Pushed::Rows(peer)))
    }

    /// Pushes rows to a Python program, to a node of ours that is in no cluster, or to an address that may be one,
    /// until more is known.
    fn push_legacy(&mut self, peer: SocketAddr, is_proven: bool) -> Result<String, String> {
        let dialect = self.port.layout().dialect;
        let (width, width_max) = (self.port.layout().width, dialect.max_sync_width());
        if width > width_max {
            return Err(format!(
                "it does not answer as a node of a cluster does, and a row of {width} counters does not fit a datagram: \
                 legacy peers need a width of at most {width_max} (start both ends with --compat or a smaller -x)"
            ));
        }
        let added = self.peers.lock().pushes.add(peer);
        let added = added.map_err(|error| {
            format!("{error}: raise --max-peers, or wait until one falls silent")
        })?;
        if is_proven {
            self.peers.lock().pushes.prove(peer);
        }
        Ok(match added {
            Added::New => {
                self.push_at_once(peer);
                format!("pushing to {peer} from now on")
            }
            Added::Known => format!("pushing to {peer} already"),
        })
    }

    pub(super) fn push_to_node(
        &mut self,
        peer: SocketAddr,
        told: Introduction,
    ) -> Result<(String, Pushed), String> {
        if told.boot == self.shared.engine().boot() {
            return Err(OURSELVES.to_owned());
        }
        if told.fingerprint != self.shared.engine().info(SketchIndex::DEFAULT).fingerprint {
            return Err(
                "it has another sketch: width, depth, hash and --seed must be the same at both ends"
                    .to_owned(),
            );
        }
        if self.members.has_boot(told.boot) {
            return Ok((MEMBER.to_owned(), Pushed::Member));
        }
        match &self.cluster {
            Some(cluster) if told.cluster_port != 0 => {
                let target = SocketAddr::new(peer.ip(), told.cluster_port);
                let target = canonical(target);
                cluster.push_to(self.shared.now(), target);
                let detail = format!(
                    "pushing everything known here to the node at {target} from now on, one way"
                );
                Ok((detail, Pushed::Slices(target)))
            }
            _ => Ok((self.push_legacy(peer, true)?, Pushed::Rows(peer))),
        }
    }

    fn record(&self, from: SocketAddr, target: String, outcome: Result<String, String>) {
        let mut peers = self.peers.lock();
        match &outcome {
            Ok(detail) => info!(%from, %target, "peer: {detail}"),
            Err(reason) => {
                peers.refuse("peer_order");
                warn!(%from, %target, "peer refused: {reason}");
            }
        }
        let accepted = outcome.is_ok();
        let detail = outcome.unwrap_or_else(|reason| reason);
        peers.orders.record(from, target, accepted, detail);
    }
}

const OURSELVES: &str = "that is this node's own address";
const MEMBER: &str = "it is a member of the cluster already, and has everything";

impl Order {
    fn is_under_way(&self) -> bool {
        matches!(self.state, State::LookingUp | State::Asking)
    }

    fn is_asking(&self, whom: SocketAddr) -> bool {
        self.state == State::Asking && self.asked.contains(&whom)
    }

    /// Whether another address of the order may still take it.
    fn has_others(&self) -> bool {
        !(self.asked.is_empty() && self.silent.is_empty())
    }

    fn is_silent(&self) -> bool {
        matches!(self.state, State::Slices { silent_rounds, .. } if silent_rounds >= SILENT_ROUNDS)
    }

    fn is_rested(&self, now: Duration) -> bool {
        matches!(self.state, State::Resting { until } if until <= now)
    }
}

/// Checks an order, before its name is looked up.
fn judge(order: PeerOrder<'_>) -> Result<HostPort, String> {
    let host = std::str::from_utf8(order.host).map_err(|_| "the host is not UTF-8".to_owned())?;
    if host.is_empty() {
        return Err("the host is empty".to_owned());
    }
    let port = u16::try_from(order.port).ok().filter(|&port| port > 0);
    let port = port.ok_or_else(|| format!("{} is not a port (1 to 65535)", order.port))?;
    let host = host.to_owned();
    Ok(HostPort { host, port })
}
