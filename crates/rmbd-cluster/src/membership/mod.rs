//! Membership says who is in the cluster: SWIM (Das, Gupta, Motivala 2002) by [`foca`], as a state machine.
//!
//! Every node probes another one each second and passes news on; who does not answer, directly or by
//! way of others, is suspected, and after some seconds down. foca does this; around it, here:
//!
//! - **Joining by address.** An announcement is addressed to *whoever is there*; its receiver takes it
//!   for itself. The way to a node (a service's name, a port mapping) need not be its own address.
//! - **Claims to an address.** Of two members at one address the greater claim stands
//!   ([`Member::beats`]). A process that learns of a claim to its address that beats its own is
//!   either told of a dead one's (the clock jumped back in between) or of a stranger's with the same
//!   `--advertise`; it outbids the claim. It learns of it from whatever is sent to the dead one, and
//!   from the answer to its first announcement: who knows of a greater claim announces itself to that.
//! - **Coming back.** A message to an earlier process at our address is answered by an announcement,
//!   so a restarted node is known again at once, `--join` or not. Whoever is down is asked now and then
//!   whether it is back, also by a node that knows nobody who is up: partitions heal.
//! - **Moving.** A process that is reached at another address from now on ([`Membership::move_to`]) has a new
//!   identity there, with the same boot, and says itself that the old one is down. Of two members with one
//!   boot only the one with the greater claim is shown.
//! - **Standstill.** While a process is stopped, its time does not pass: it does not wake to declare
//!   everybody down.
//! - **Bounds.** foca trusts its input. What is read is judged before: a message is refused whole, or
//!   loses the updates that there is no room for; what makes us change or answer is rationed.
//!
//! ```
//! use std::time::Duration;
//! use rmbd_cluster::membership::{Member, Membership, MembershipEvent, MembershipOptions};
//! use rmbd_proto::Boot;
//!
//! let node = |number, port| Member {
//!     node: number, boot: Boot(number), started_ms: 1, renewals: 0,
//!     address: ([127, 0, 0, 1], port).into(), client_port: 0,
//! };
//! let (a, b) = (node(1, 8001), node(2, 8002));
//! let mut one = Membership::new(a, 1, MembershipOptions::default());
//! let mut two = Membership::new(b, 2, MembershipOptions::default());
//! one.join(Duration::ZERO, b.address);
//! let announcement = one.poll_transmit().expect("an announcement");
//! assert_eq!((announcement.to, announcement.to_boot), (b.address, None));
//! two.handle(Duration::ZERO, &announcement.message)?;
//! assert_eq!(two.poll_event(), Some(MembershipEvent::Up(a)));
//! # Ok::<(), rmbd_cluster::membership::MembershipError>(())
//! ```

mod datagram;
mod effects;
mod member;
mod options;
#[cfg(test)]
mod tests;
mod timers;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use foca::{Foca, Header, Message, NoCustomBroadcast, PostcardCodec, Runtime, State};
use rand::rngs::ChaCha8Rng;
use rand::seq::{IteratorRandom, SliceRandom};
use rand::{RngExt, SeedableRng};

use datagram::{Datagram, Update};
use effects::Effects;
pub use member::Member;
pub use options::MembershipOptions;
use timers::Task;

use rmbd_pace::{Rate, TokenBucket};
use rmbd_proto::Boot;

/// Outbidding claims to our address, and coming back after we were declared down. Two processes that both
/// advertise one address would otherwise outbid each other at network speed.
const DEFENCES: Rate = Rate { burst: 8, per_s: 1 };
/// Announcements in answer to messages that were meant for somebody else at an address, and answers
/// to those that are suspected.
const INTRODUCTIONS: Rate = Rate {
    burst: 64,
    per_s: 32,
};
/// A message holds only some members of a large cluster, at random. After one that brought new ones, more are asked for
/// until another does: this many times as many as would hold all, so that one member of 400 is missed, ...
const ASKS_A_CLUSTER: usize = 6;
/// ... and no fewer than this.
const ASKS_AFTER_NEWS: usize = 8;
/// An update takes 57 bytes at most (IPv6, no small numbers), and foca guesses how many fit.
const BYTES_PER_MEMBER_MAX: usize = 2 * 57;
/// News that waits to be passed on, per member that may be known: with more, no news is taken.
const NEWS_PER_MEMBER: usize = 2;
/// The first and two more, each to three members: leaving must not depend on one datagram.
const LEAVE_REPEATS: usize = 2;

/// How a member is seen from here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MemberState {
    /// It answers, or somebody said so.
    Alive,
    /// It does not answer; it has some seconds to object.
    Suspect,
    /// It did not object, or has left.
    Down,
}

/// A change of membership. If nobody polls them, the oldest of more than 1 024 are lost;
/// [`Membership::members`] always tells the truth.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MembershipEvent {
    /// A member is alive that was unknown or down.
    Up(Member),
    /// A member that was up left, or was declared down.
    Down(Member),
    /// A member that is up does not answer.
    Suspected(Member),
    /// A suspected member answered.
    Trusted(Member),
    /// There is another identity at the same address: the process was restarted (another boot) or
    /// came back after having been declared down (same boot). If the old one was up, then so is the
    /// new one and no `Up` follows; if it was down, an `Up` of the new one follows. If the new one is
    /// known only to be down, a `Down` of it follows where the old one was up.
    Renamed {
        /// The one before.
        old: Member,
        /// The one that is known from now on.
        new: Member,
    },
    /// We had been declared down, or our address was claimed: this is our new identity, with the
    /// same node, boot and address.
    Rejoined(Member),
    /// Somebody else claims our address, with a greater claim than ours had: an earlier process, if
    /// it happens once after a start; another one with the same `--advertise`, if it goes on.
    AddressClaimed {
        /// The claim.
        by: Member,
    },
}

/// A message that is to be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MembershipDatagram {
    /// Where to.
    pub to: SocketAddr,
    /// The start that it is meant for; `None`: whoever is there.
    pub to_boot: Option<Boot>,
    /// The message, for [`Membership::handle`] of the other end.
    pub message: Vec<u8>,
}

/// A message was not taken: nothing has changed, but that its sender is known to be alive where the
/// message was well-formed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum MembershipError {
    /// Longer than any message of ours.
    #[error(
        "a membership message of {bytes} bytes, more than the {max_bytes} that a node sends: ignored; are all nodes the same version?"
    )]
    TooLong {
        /// Its length.
        bytes: usize,
        /// [`MembershipOptions::max_bytes`].
        max_bytes: usize,
    },
    /// Not a message, or one that names a member that cannot be.
    #[error("a membership message that makes no sense: ignored; are all nodes the same version?")]
    Malformed,
    /// Not for this address.
    #[error(
        "a membership message for another address than ours: ignored; do two nodes advertise addresses that lead to one?"
    )]
    NotForUs,
    /// No room for its sender.
    #[error(
        "a message of a new member, while {max_members} are known and none is down: ignored; a cluster is at most that many nodes"
    )]
    TooManyMembers {
        /// [`MembershipOptions::max_members`].
        max_members: usize,
    },
}

/// One node's view of who is in the cluster. Time is a [`Duration`] since any fixed moment; what
/// goes back or leaps is harmless. The same seed and calls give the same messages.
pub struct Membership {
    foca: Foca<Member, PostcardCodec, ChaCha8Rng, NoCustomBroadcast>,
    effects: Effects,
    options: MembershipOptions,
    rng: ChaCha8Rng,
    /// How long we stood still, in all: our own time is that much behind.
    stood_still: Duration,
    /// So many nodes foca believes the cluster to have.
    configured_for: usize,
    suspects: BTreeMap<SocketAddr, Member>,
    defences: TokenBucket,
    introductions: TokenBucket,
    asks: usize,
    has_left: bool,
}

impl Membership {
    /// Alone, as `me`, which must be [plausible](Member::is_plausible) or nobody will listen: where its
    /// address is not known yet, [`move_to`](Self::move_to) comes before all else.
    pub fn new(me: Member, seed: u64, options: MembershipOptions) -> Self {
        let me = me.as_on_the_wire();
        let options = options.in_range();
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let config = options.config(1);
        Self {
            foca: Foca::new(me, config, rng.fork(), PostcardCodec),
            effects: Effects::new(me.address),
            options,
            rng,
            stood_still: Duration::ZERO,
            configured_for: 1,
            suspects: BTreeMap::new(),
            defences: TokenBucket::new(DEFENCES, Duration::ZERO),
            introductions: TokenBucket::new(INTRODUCTIONS, Duration::ZERO),
            asks: 0,
            has_left: false,
        }
    }

    /// Announces us to whoever is at `seed`, whatever its own address. To be repeated while
    /// [`is_alone`](Self::is_alone): a datagram can get lost, or nobody be there. Ourselves there is
    /// harmless.
    pub fn join(&mut self, now: Duration, seed: SocketAddr) {
        self.advance(now);
        if !self.has_left {
            self.announce_to(Member::anyone(seed));
        }
    }

    /// We are reached at another address from now on: others learn of it from us, and that nobody is at
    /// the old one. Nothing happens where it is no address that a member can have, or ours already.
    pub fn move_to(&mut self, now: Duration, address: SocketAddr) {
        self.advance(now);
        let me = *self.me();
        let moved = Member {
            address,
            ..me.outbidding(&me)
        }
        .as_on_the_wire();
        if self.has_left || moved.address == me.address || !moved.is_plausible() {
            return;
        }
        self.effects.own_address = moved.address;
        if me.is_plausible() {
            self.effects.report(MembershipEvent::Rejoined(moved));
        }
        self.change_identity(moved);
    }

    /// This node is another start from now on, at the same address: whoever knew the one before takes this one in its
    /// place. We know whom we knew.
    pub fn begin_again(&mut self, now: Duration, boot: Boot) {
        self.advance(now);
        let me = *self.me();
        let other = Member {
            boot,
            ..me.outbidding(&me)
        };
        if !self.has_left {
            self.change_identity(other);
        }
    }

    /// Announces us to whoever has answered from `address`, naming who is said to be there: a process that comes
    /// back with a clock behind learns so that its address is claimed.
    pub fn meet(&mut self, now: Duration, address: SocketAddr) {
        self.advance(now);
        if !self.has_left {
            let claim = self.at(address).map(|member| *member.id());
            self.announce_to(claim.unwrap_or_else(|| Member::anyone(address)));
        }
    }

    /// Takes a message from the network. What was already ours, or came too late, is `Ok`.
    ///
    /// # Errors
    /// [`MembershipError`]; the message was ignored.
    pub fn handle(&mut self, now: Duration, bytes: &[u8]) -> Result<(), MembershipError> {
        self.advance(now);
        if bytes.len() > self.options.max_bytes {
            return Err(MembershipError::TooLong {
                bytes: bytes.len(),
                max_bytes: self.options.max_bytes,
            });
        }
        let datagram = Datagram::read(bytes)?;
        if self.has_left {
            return Ok(());
        }
        self.defend_address(&datagram);
        let taken = self.take(datagram);
        self.settle();
        taken
    }

    /// Does what is due.
    pub fn wake(&mut self, now: Duration) {
        self.advance(now);
        let mut has_woken = false;
        while let Some(task) = self.effects.timers.pop_due(self.effects.now) {
            self.run(task);
            has_woken = true;
        }
        if has_woken {
            self.settle();
        }
    }

    /// When [`wake`](Self::wake) is due.
    pub fn next_wake(&self) -> Option<Duration> {
        let next = self.effects.timers.next()?;
        Some(next.saturating_add(self.stood_still))
    }

    /// Tells others that we go, and takes no further part. Call it again to say it again.
    pub fn leave(&mut self, now: Duration) {
        self.advance(now);
        if !self.has_left {
            self.has_left = true;
            let config = self.options.config_leaving(self.configured_for);
            ignore(self.foca.set_config(config));
            ignore(self.foca.leave_cluster(&mut self.effects));
            self.effects.timers.clear();
        }
        for _ in 0..LEAVE_REPEATS {
            ignore(self.foca.gossip(&mut self.effects));
        }
    }

    /// The next message to send, and where to.
    pub fn poll_transmit(&mut self) -> Option<MembershipDatagram> {
        self.effects.transmits.pop_front()
    }

    /// The next change.
    pub fn poll_event(&mut self) -> Option<MembershipEvent> {
        self.effects.events.pop_front()
    }

    /// All others that are known, those that are down included, in no particular order. Of a process that
    /// has moved, what it is now.
    pub fn members(&self) -> impl Iterator<Item = (&Member, MemberState)> {
        let mut latest = BTreeMap::new();
        // What we were before we moved is nobody else.
        let me = self.me().boot;
        let others = self.foca.iter_membership_state();
        for update in others.filter(|update| update.id().boot != me) {
            let known = latest.entry(update.id().boot).or_insert(update);
            if update.id().beats(known.id()) {
                *known = update;
            }
        }
        let all = latest.into_values();
        all.map(|member| (member.id(), member.state().into()))
    }

    /// Our own member as it is now; renewals (and, after a claim, the start time) change.
    pub fn me(&self) -> &Member {
        self.foca.identity()
    }

    /// Whether nobody else is up.
    pub fn is_alone(&self) -> bool {
        self.foca.num_members() == 0
    }

    /// The other member with this boot, up or down.
    pub fn find(&self, boot: Boot) -> Option<&Member> {
        self.members()
            .map(|(member, _)| member)
            .find(|member| member.boot == boot)
    }

    fn change_identity(&mut self, identity: Member) {
        if self.me().is_plausible() {
            ignore(self.foca.change_identity(identity, &mut self.effects));
            self.settle();
        } else {
            // Nobody can have heard of us, and nobody could be told of the identity that we had.
            let config = self.options.config(self.configured_for);
            self.foca = Foca::new(identity, config, self.rng.fork(), PostcardCodec);
        }
    }

    /// Brings our own time to `now`. If a timer is overdue by more than a probe period, then we stood
    /// still, and what we did not hear in the meantime tells nothing of the others.
    fn advance(&mut self, now: Duration) {
        if let Some(next) = self.effects.timers.next() {
            let overdue = now.saturating_sub(self.stood_still).saturating_sub(next);
            if overdue > self.options.probe_period {
                self.stood_still += overdue;
            }
        }
        let own = now.saturating_sub(self.stood_still);
        self.effects.now = self.effects.now.max(own);
    }

    /// Outbids the greatest claim to our address that a message knows of, if it beats ours.
    fn defend_address(&mut self, datagram: &Datagram) {
        let me = *self.me();
        let claim = datagram
            .named()
            .filter(|member| member.address == me.address && member.beats(&me))
            .copied()
            .reduce(|one, other| if one.beats(&other) { one } else { other });
        let Some(by) = claim else { return };
        let outbid = me.outbidding(&by);
        if outbid == me || !self.defences.take(self.effects.now) {
            return;
        }
        self.effects.report(MembershipEvent::AddressClaimed { by });
        ignore(self.foca.change_identity(outbid, &mut self.effects));
        self.effects.report(MembershipEvent::Rejoined(outbid));
    }

    /// Hands a message to foca, as far as it may see it.
    fn take(&mut self, mut datagram: Datagram) -> Result<(), MembershipError> {
        let me = *self.me();
        let src = datagram.header.src;
        if src.address == me.address {
            // Our own, or an earlier process's; a greater claim was dealt with.
            return Ok(());
        }
        if let Some(claim) = self.claim_that_beats(&src) {
            self.introduce_to(claim);
            return Ok(());
        }
        if !self.is_for_us(&mut datagram)? {
            // For an earlier process here: its sender should know of us.
            self.introduce_to(src);
            return Ok(());
        }
        if datagram.declares_down(&me) && !self.defences.take(self.effects.now) {
            return Ok(());
        }
        self.make_room(&mut datagram)?;
        self.feed(&datagram)
    }

    /// Whether it is meant for us; `false` if for an earlier identity at our address. An
    /// announcement to whoever is here is for us, and says so afterwards.
    fn is_for_us(&self, datagram: &mut Datagram) -> Result<bool, MembershipError> {
        let me = *self.me();
        let header = &mut datagram.header;
        let is_address_ours = header.dst.address == me.address;
        if header.message == Message::Announce && (is_address_ours || header.dst.is_anyone()) {
            header.dst = me;
        }
        if header.dst == me {
            Ok(true)
        } else if is_address_ours {
            Ok(false)
        } else {
            Err(MembershipError::NotForUs)
        }
    }

    /// Drops the updates that must not reach foca: claims to our own address, and new members that
    /// there is no room for.
    fn make_room(&mut self, datagram: &mut Datagram) -> Result<(), MembershipError> {
        let me = *self.me();
        let mut strangers = 0;
        let named: Vec<SocketAddr> = datagram.named().map(|member| member.address).collect();
        let sender = foca::Member::alive(datagram.header.src);
        if !self.has_room_for(&sender, &named, &mut strangers) {
            return Err(MembershipError::TooManyMembers {
                max_members: self.options.max_members,
            });
        }
        datagram.updates.retain(|update| {
            let member = update.id();
            *member == me
                || (member.address != me.address
                    && self.has_room_for(update, &named, &mut strangers))
        });
        Ok(())
    }

    /// Whether foca may learn of this. `strangers` counts the new ones of this datagram; who has been
    /// down for longest makes room for who is up, unless the datagram brings it back: it has `named` it.
    fn has_room_for(
        &mut self,
        update: &Update,
        named: &[SocketAddr],
        strangers: &mut usize,
    ) -> bool {
        if self.at(update.id().address).is_some() {
            return true;
        }
        if self.foca.updates_backlog() >= NEWS_PER_MEMBER * self.options.max_members {
            return false;
        }
        *strangers += 1;
        while self.foca.iter_membership_state().len() + *strangers > self.options.max_members {
            let oldest = match update.state() {
                State::Down => None,
                State::Alive | State::Suspect => self.effects.timers.pop_oldest_forget(named),
            };
            let Some(oldest) = oldest else {
                *strangers -= 1;
                return false;
            };
            self.run(oldest);
        }
        true
    }

    fn feed(&mut self, datagram: &Datagram) -> Result<(), MembershipError> {
        let known = self.foca.iter_membership_state().len();
        let bytes = datagram.write()?;
        let fed = self.foca.handle_data(&bytes, &mut self.effects);
        if datagram.header.message == Message::Feed {
            let has_learnt = self.foca.iter_membership_state().len() > known;
            let is_all = bytes.len() + BYTES_PER_MEMBER_MAX < self.options.max_bytes;
            let share = datagram.updates.len().max(1);
            let messages = self.foca.num_members().div_ceil(share);
            let asks = has_learnt.then(|| ASKS_AFTER_NEWS.max(ASKS_A_CLUSTER * messages));
            self.ask_on(asks, is_all);
        }
        self.answer_suspect(&datagram.header.src);
        // foca objects to an indirect probe of ourselves, and does nothing.
        fed.map_err(|_| MembershipError::Malformed)
    }

    /// Asks a random member whom it knows, after somebody told us some; so often in all, where there were new ones.
    fn ask_on(&mut self, asks: Option<usize>, is_all: bool) {
        self.asks = asks.unwrap_or(self.asks);
        if !is_all && self.asks > 0 {
            self.asks -= 1;
            self.ask();
        }
    }

    fn ask(&mut self) {
        let any = self.foca.iter_members().choose(&mut self.rng);
        if let Some(member) = any.map(|member| *member.id()) {
            self.announce_to(member);
        }
    }

    /// Tells a member that talks to us, and is suspected, that it is, so that it can object. foca
    /// leaves that to chance, and forgets that a suspicion should end when it changes identity.
    fn answer_suspect(&mut self, member: &Member) {
        let suspect = self.at(member.address).cloned();
        let Some(suspect) = suspect.filter(|it| it.id() == member && it.state() == State::Suspect)
        else {
            return;
        };
        if !self.introductions.take(self.effects.now) {
            return;
        }
        let header = Header {
            src: *self.me(),
            // Never above the real one, so it says nothing of us.
            src_incarnation: 0,
            dst: *member,
            message: Message::Gossip,
        };
        let updates = vec![suspect];
        if let Ok(bytes) = (Datagram { header, updates }).write() {
            self.effects.send_to(*member, &bytes);
        }
    }

    fn introduce_to(&mut self, member: Member) {
        if self.introductions.take(self.effects.now) {
            self.announce_to(member);
        }
    }

    fn announce_to(&mut self, member: Member) {
        ignore(self.foca.announce(member, &mut self.effects));
    }

    fn run(&mut self, task: Task) {
        match task {
            Task::Foca(timer) => ignore(self.foca.handle_timer(timer, &mut self.effects)),
            Task::AnnounceAlone if self.is_alone() => self.announce_alone(),
            Task::AnnounceAlone => {}
            Task::Ask => self.ask(),
        }
    }

    /// foca stops all its timers when nobody is up, also the one that asks those that are down.
    fn announce_alone(&mut self) {
        let mut down: Vec<Member> = self.members().map(|(member, _)| *member).collect();
        let (chosen, _) = down.partial_shuffle(&mut self.rng, options::ANNOUNCE_DOWN_MEMBERS);
        for member in chosen {
            self.announce_to(*member);
        }
    }

    /// After whatever foca did.
    fn settle(&mut self) {
        self.reconnect();
        let members = self.foca.iter_membership_state().len();
        if self.is_alone() && members > 0 {
            let period = self.options.announce_down_period;
            self.set_timer_once(Task::AnnounceAlone, period);
        }
        self.report_suspects();
        self.configure();
    }

    /// With a new identity foca stops all its timers until it hears from somebody; who is up may have
    /// gone in the meantime, so the probes have to go on. No updates, but it looks at its state.
    fn reconnect(&mut self) {
        let looked = self
            .foca
            .apply_many(std::iter::empty(), false, &mut self.effects);
        ignore(looked);
    }

    /// foca tells of no suspicion; it is seen from the states.
    fn report_suspects(&mut self) {
        let is_suspect = |member: &&Update| member.state() == State::Suspect;
        let states = self.foca.iter_membership_state();
        let suspects = states
            .filter(is_suspect)
            .map(|member| (member.id().address, *member.id()))
            .collect();
        let before = std::mem::replace(&mut self.suspects, suspects);
        for (address, member) in &self.suspects {
            if before.get(address) != Some(member) {
                self.effects.report(MembershipEvent::Suspected(*member));
            }
        }
        for (address, member) in before {
            let now = self.at(address).filter(|now| now.id() == &member);
            if now.is_some_and(|now| now.state() == State::Alive) {
                self.effects.report(MembershipEvent::Trusted(member));
            }
        }
    }

    /// Patience and repetition grow with the cluster. Where many start at once, news may miss a node:
    /// it asks, a bit later.
    fn configure(&mut self) {
        let nodes = self.foca.num_members() + 1;
        if nodes > self.configured_for {
            let period = self.options.probe_period;
            let later = self.rng.random_range(period..period * 2);
            self.set_timer_once(Task::Ask, later);
        }
        if nodes != self.configured_for {
            self.configured_for = nodes;
            ignore(self.foca.set_config(self.options.config(nodes)));
        }
    }

    fn set_timer_once(&mut self, task: Task, after: Duration) {
        if !self.effects.timers.is_set(&task) {
            self.effects.set_timer(task, after);
        }
    }

    fn at(&self, address: SocketAddr) -> Option<&Update> {
        self.foca
            .iter_membership_state()
            .find(|member| member.id().address == address)
    }

    fn claim_that_beats(&self, member: &Member) -> Option<Member> {
        let known = self.at(member.address)?.id();
        known.beats(member).then_some(*known)
    }
}

impl From<State> for MemberState {
    fn from(state: State) -> Self {
        match state {
            State::Alive => Self::Alive,
            State::Suspect => Self::Suspect,
            State::Down => Self::Down,
        }
    }
}

/// foca's errors of our own calls: a message longer than `max_bytes` allows (options rule it out), a
/// timer out of order (it recovers with the next probe), a configuration that it does not change.
fn ignore(_: Result<(), foca::Error>) {}
