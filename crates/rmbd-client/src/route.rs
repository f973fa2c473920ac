//! Which of a server's addresses a client uses, and when it goes to the next: no socket, no clock.
//!
//! An address that refuses, or stays silent while something is under way, is in trouble until it replies. Then
//! the name is looked up again, on a thread, and the next address tried that has not been in vain since the
//! last reply; where all have, after a pause, again from the first. What must not be repeated elsewhere
//! (adds that are under way) keeps the client where it is until that is settled.

use std::fmt;
use std::net::SocketAddr;
use std::sync::mpsc;
use std::time::Duration;

use super::server::Server;
use rmbd_names::{Lookup, LookupError, look_up_on_thread};

/// Shares of the timeout that each address has before the next one is tried.
const SHARES: u32 = 3;
/// Between two looks at whether a look-up is over.
const LOOK_STEP: Duration = Duration::from_millis(5);

#[derive(Debug)]
pub(super) struct Route {
    server: Server,
    /// Of the latest look-up that found any.
    addresses: Vec<SocketAddr>,
    at: SocketAddr,
    /// Those that were left since the last reply.
    left: Vec<SocketAddr>,
    patience: Duration,
    trouble: Option<Trouble>,
    lookup: LookupState,
    lookup_error: Option<LookupError>,
    has_heard: bool,
    /// Of all that were left since the last reply, and where we are.
    all_refused: bool,
    /// All were in vain, and that was said: what comes next begins anew.
    has_given_up: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Trouble {
    Now,
    /// All addresses were in vain; once more from then on.
    Until(Duration),
}

#[derive(Debug)]
enum LookupState {
    Due,
    UnderWay(mpsc::Receiver<Lookup>),
    Done,
}

/// The next step of a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// Go on at this address.
    Stay,
    /// The same, and come again soon: a look-up is under way.
    Await,
    /// Go to another one.
    Move(SocketAddr),
    /// Nobody listens at any of them, and nobody ever answered.
    GiveUp,
}

impl Route {
    /// `at` is one of `addresses`, which are the server's.
    pub(super) fn new(
        server: Server,
        addresses: Vec<SocketAddr>,
        at: SocketAddr,
        timeout: Duration,
    ) -> Self {
        Self {
            server,
            addresses,
            at,
            left: Vec::new(),
            patience: timeout / SHARES,
            trouble: None,
            lookup: LookupState::Due,
            lookup_error: None,
            has_heard: false,
            all_refused: true,
            has_given_up: false,
        }
    }

    /// One address, and nothing to look up.
    pub(super) fn only(address: SocketAddr, timeout: Duration) -> Self {
        Self::new(address.into(), vec![address], address, timeout)
    }

    pub(super) fn at(&self) -> SocketAddr {
        self.at
    }

    /// For how long an address may stay silent.
    pub(super) fn patience(&self) -> Duration {
        self.patience
    }

    /// Whether there is, or may come, another address.
    pub(super) fn may_change(&self) -> bool {
        self.addresses.len() > 1 || self.server.name().is_some()
    }

    /// A reply came.
    pub(super) fn heard(&mut self) {
        self.has_heard = true;
        self.all_refused = true;
        self.trouble = None;
        self.left.clear();
        self.lookup_error = None;
        if matches!(self.lookup, LookupState::Done) {
            self.lookup = LookupState::Due;
        }
    }

    /// Nobody listens at the address, or it cannot be sent to.
    pub(super) fn refused(&mut self) {
        self.begin_anew();
        self.trouble = self.trouble.or(Some(Trouble::Now));
    }

    /// Nothing has come from the address for its patience.
    pub(super) fn silent(&mut self) {
        self.begin_anew();
        self.all_refused = false;
        self.trouble = self.trouble.or(Some(Trouble::Now));
    }

    /// Whether the address is in trouble: what must not be repeated should not go there.
    pub(super) fn is_in_trouble(&self) -> bool {
        self.trouble.is_some() && self.may_change()
    }

    /// Somebody asks anew: no pause holds that up.
    #[cfg(feature = "legacy")]
    pub(super) fn hurry(&mut self) {
        if let Some(Trouble::Until(until)) = &mut self.trouble {
            *until = Duration::ZERO;
        }
    }

    /// What to do now. `may_move`: nothing is under way that must not be repeated elsewhere.
    pub(super) fn step(&mut self, now: Duration, may_move: bool) -> Step {
        match self.trouble {
            None => return Step::Stay,
            Some(Trouble::Until(until)) if now < until => return Step::Stay,
            Some(Trouble::Until(_)) => {
                self.left.clear();
                self.lookup = LookupState::Due;
                self.trouble = Some(Trouble::Now);
            }
            Some(Trouble::Now) => {}
        }
        self.look_up();
        if !may_move {
            return Step::Await;
        }
        if let Some(next) = self.next() {
            self.left.push(self.at);
            self.at = next;
            self.trouble = None;
            return Step::Move(next);
        }
        match self.lookup {
            LookupState::UnderWay(_) => Step::Await,
            _ if self.all_refused && !self.has_heard => {
                self.has_given_up = true;
                self.trouble = None;
                Step::GiveUp
            }
            _ => {
                self.trouble = Some(Trouble::Until(now + self.patience));
                Step::Stay
            }
        }
    }

    /// After a [`Step::Move`] that could not be made.
    pub(super) fn is_unusable(&mut self) {
        self.trouble = Some(Trouble::Now);
    }

    fn begin_anew(&mut self) {
        if std::mem::take(&mut self.has_given_up) {
            self.left.clear();
            self.lookup = LookupState::Due;
            self.all_refused = true;
        }
    }

    /// When [`Self::step`] wants to be called, where nothing else happens before; `silent_since` as the
    /// core has it.
    pub(super) fn next_step(
        &self,
        now: Duration,
        silent_since: Option<Duration>,
    ) -> Option<Duration> {
        match self.trouble {
            _ if !self.may_change() => None,
            Some(Trouble::Now) => Some(now + LOOK_STEP),
            Some(Trouble::Until(until)) => Some(until),
            None => silent_since.map(|since| since + self.patience),
        }
    }

    fn next(&self) -> Option<SocketAddr> {
        let here = self.addresses.iter().position(|&known| known == self.at);
        let (before, behind) = self.addresses.split_at(here.map_or(0, |here| here + 1));
        let mut all = behind.iter().chain(before).copied();
        all.find(|address| *address != self.at && !self.left.contains(address))
    }

    /// Starts a look-up that is due, and takes what one has found.
    fn look_up(&mut self) {
        if let LookupState::Due = self.lookup {
            self.lookup = match self.server.name() {
                None => LookupState::Done,
                Some((name, resolver)) => {
                    let (send, found) = mpsc::channel();
                    let done = move |lookups: Vec<Lookup>| {
                        for lookup in lookups {
                            let _ = send.send(lookup);
                        }
                    };
                    match look_up_on_thread(resolver, vec![name.clone()], done) {
                        Ok(()) => LookupState::UnderWay(found),
                        // As good as a look-up that fails.
                        Err(_) => LookupState::Done,
                    }
                }
            };
        }
        if let LookupState::UnderWay(found) = &self.lookup {
            match found.try_recv() {
                Err(mpsc::TryRecvError::Empty) => return,
                Ok(Ok(addresses)) => {
                    self.addresses = addresses;
                    self.lookup_error = None;
                }
                Ok(Err(error)) => self.lookup_error = Some(error),
                Err(mpsc::TryRecvError::Disconnected) => {}
            }
            self.lookup = LookupState::Done;
        }
    }

    /// For an error: whom was asked.
    pub(super) fn asked(&self) -> Asked {
        let mut tried = self.left.clone();
        tried.push(self.at);
        Asked {
            name: self.server.name().map(|(name, _)| name.to_string()),
            tried,
            lookup: self.lookup_error.clone(),
        }
    }
}

/// Which server was asked, at which of its addresses.
#[derive(Debug, Clone)]
pub struct Asked {
    name: Option<String>,
    tried: Vec<SocketAddr>,
    lookup: Option<LookupError>,
}

impl Asked {
    /// The address that was tried last.
    #[must_use]
    pub fn address(&self) -> Option<SocketAddr> {
        self.tried.last().copied()
    }

    /// All addresses that were tried since the last reply, the last one at the end.
    #[must_use]
    pub fn tried(&self) -> &[SocketAddr] {
        &self.tried
    }

    /// The look-up of the server's name that failed meanwhile.
    #[must_use]
    pub fn lookup(&self) -> Option<&LookupError> {
        self.lookup.as_ref()
    }
}

impl From<SocketAddr> for Asked {
    fn from(address: SocketAddr) -> Self {
        Self {
            name: None,
            tried: vec![address],
            lookup: None,
        }
    }
}

impl fmt::Display for Asked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tried: Vec<String> = self.tried.iter().map(SocketAddr::to_string).collect();
        let tried = tried.join(", ");
        match &self.name {
            None => f.write_str(&tried)?,
            Some(name) => write!(f, "{name} (at {tried})")?,
        }
        match &self.lookup {
            None => Ok(()),
            Some(error) => write!(f, " ({error})"),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use rmbd_names::Resolver;

    const TIMEOUT: Duration = Duration::from_secs(3);

    fn address(n: u8) -> SocketAddr {
        ([127, 0, 0, n], 7).into()
    }

    fn all(hosts: &[u8]) -> Vec<SocketAddr> {
        hosts.iter().map(|&n| address(n)).collect()
    }

    /// Of a name that gives this when it is looked up again.
    fn route(known: &[u8], later: Option<&[u8]>) -> Route {
        let later = later.map(all);
        let resolver = Resolver::new(move |_| {
            let known = later.clone();
            known.ok_or_else(|| std::io::Error::other("try again"))
        });
        let server = Server::from("counts.internal:7").resolved_by(resolver);
        Route::new(server, all(known), address(known[0]), TIMEOUT)
    }

    /// The next step that is not to wait for the resolver.
    fn step(route: &mut Route, now: Duration) -> Step {
        loop {
            match route.step(now, true) {
                Step::Await => std::thread::yield_now(),
                other => return other,
            }
        }
    }

    /// Whatever the name gave first and gives then: each address has a try, and no other.
    #[test]
    fn every_address_has_its_try_before_it_is_given_up() {
        let now = Duration::ZERO;
        for known in [&[1][..], &[1, 2], &[1, 2, 3]] {
            for later in [None, Some(&[1][..]), Some(&[4]), Some(&[3, 2, 1, 4])] {
                let mut route = route(known, later);
                let mut tried = vec![route.at()];
                route.refused();
                while let Step::Move(next) = step(&mut route, now) {
                    assert!(!tried.contains(&next), "{known:?} {later:?}: {tried:?}");
                    tried.push(next);
                    route.refused();
                }
                let asked = route.asked();
                assert_eq!(asked.tried(), tried);
                assert_eq!(asked.lookup().is_some(), later.is_none());
                let expected = later.map_or_else(|| all(known), all);
                assert!(
                    expected.iter().all(|address| tried.contains(address)),
                    "{tried:?}"
                );
            }
        }
    }

    #[test]
    fn what_must_not_be_repeated_elsewhere_keeps_it_where_it_is() {
        let mut route = route(&[1, 2], Some(&[2]));
        route.silent();
        for _ in 0..100 {
            assert_eq!(route.step(Duration::ZERO, false), Step::Await);
        }
        assert_eq!(step(&mut route, Duration::ZERO), Step::Move(address(2)));
    }

    #[test]
    fn who_has_ever_answered_is_waited_for_and_asked_for_in_rounds() {
        let mut route = route(&[1, 2], Some(&[1, 2]));
        route.heard();
        let mut now = Duration::ZERO;
        for _ in 0..3 {
            route.refused();
            let Step::Move(_) = step(&mut route, now) else {
                panic!("{route:?}");
            };
            route.refused();
            assert_eq!(step(&mut route, now), Step::Stay, "all were in vain");
            assert_eq!(route.next_step(now, None), Some(now + TIMEOUT / SHARES));
            now += TIMEOUT / SHARES;
        }
    }

    #[test]
    fn an_address_has_nothing_to_look_up() {
        let mut route = Route::only(address(1), TIMEOUT);
        assert!(!route.may_change());
        route.silent();
        assert!(!route.is_in_trouble());
        assert_eq!(route.next_step(Duration::ZERO, Some(Duration::ZERO)), None);
    }
}
