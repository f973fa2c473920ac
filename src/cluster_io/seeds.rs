//! The names of other nodes (`--join`) and of this node (`--advertise`), and their look-ups.
//!
//! Names are looked up at the start, and every two seconds while the node is alone. They are looked up less and less
//! often while a node that a name leads to is not met, at once after a member went down, and every minute when all is
//! well. So a group of nodes that fell apart because a name leads elsewhere finds together again.

use std::hash::{BuildHasher, RandomState};
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::sync::mpsc;
use tracing::{info, warn};

use super::ClusterError;
use super::addresses::usable;
use rmbd_names::{HostPort, Lookup, Lookups};

/// Time between two look-ups while no other node is known, and at first while a node is missing.
const SOON: Duration = Duration::from_secs(2);
/// Time between two look-ups while a node has been missing for long.
const LATER: Duration = Duration::from_secs(15);
/// Time between two look-ups while all nodes are met that the names lead to.
const STEADY: Duration = Duration::from_secs(60);
/// Largest number of addresses of all names together. A headless service has one for each node, and some are enough.
const ADDRESSES_MAX: usize = 64;

pub(crate) struct Seeds {
    join: Vec<SeedName>,
    advertise: Option<SeedName>,
    lookups: Lookups,
    /// The socket's address. An address that it cannot send to is no seed.
    ours: SocketAddr,
    complaint: String,
    next: Duration,
    looked_at: Duration,
    wait: Duration,
    /// Varies the times, so that nodes that were started together do not go on asking together.
    random: RandomState,
    looks: u64,
    send: mpsc::UnboundedSender<(Whose, Lookup)>,
    found: mpsc::UnboundedReceiver<(Whose, Lookup)>,
}

/// What is missing of the nodes that the names lead to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lack {
    /// All nodes are missing: this node is alone.
    Everybody,
    /// A node is missing, or an address that a name should lead to.
    Somebody,
    Nobody,
}

#[derive(Debug, Clone, Copy)]
enum Whose {
    Join(usize),
    Advertise,
}

#[derive(Debug)]
struct SeedName {
    name: HostPort,
    option: &'static str,
    /// The addresses that the name gave when it last gave any.
    addresses: Vec<SocketAddr>,
    /// The error of the latest look-up, which is logged once.
    error: Option<String>,
    is_looking: bool,
}

impl Seeds {
    pub(crate) fn new(
        join: &[HostPort],
        advertise: Option<&HostPort>,
        lookups: Lookups,
        ours: SocketAddr,
    ) -> Self {
        let (send, found) = mpsc::unbounded_channel();
        let join = join.iter().map(|name| SeedName::new(name, "--join", ours));
        Self {
            join: join.collect(),
            advertise: advertise.map(|name| SeedName::new(name, "--advertise", ours)),
            lookups,
            ours,
            complaint: String::new(),
            next: Duration::ZERO,
            looked_at: Duration::ZERO,
            wait: SOON,
            random: RandomState::new(),
            looks: 0,
            send,
            found,
        }
    }

    /// The time of the next look-up; `None` if there is nothing to look up.
    pub(super) fn next(&self) -> Option<Duration> {
        let has_names = !self.join.is_empty() || self.advertise.is_some();
        has_names.then_some(self.next)
    }

    pub(super) fn is_due(&self, now: Duration) -> bool {
        self.next().is_some_and(|next| next <= now)
    }

    /// Looks all names up, each on a thread of its own, so that a slow resolver delays nothing else: no other name,
    /// and not the end of the process. The previous addresses stay valid until then.
    pub(super) fn look_up(&mut self, now: Duration, lack: Lack) {
        self.looked_at = now;
        self.looks += 1;
        self.wait = match lack {
            Lack::Everybody => SOON,
            Lack::Somebody => (self.wait * 2).min(LATER),
            Lack::Nobody => STEADY,
        };
        self.next = now + self.jitter(self.wait);
        let join = self.join.iter_mut().enumerate();
        let join = join.map(|(index, name)| (Whose::Join(index), name));
        let advertise = self.advertise.iter_mut();
        let advertise = advertise.map(|name| (Whose::Advertise, name));
        for (whose, name) in join.chain(advertise) {
            name.look_up(whose, &self.lookups, &self.send);
        }
    }

    /// Looks names up soon, because a member went: a node that comes back may have another address.
    pub(super) fn hurry(&mut self, now: Duration) {
        self.wait = SOON;
        self.next = self.next.min(now.max(self.looked_at + SOON));
    }

    /// Waits until a name was looked up.
    pub(super) async fn found(&mut self) {
        // The channel never closes, since `send` is a sender.
        let Some((whose, lookup)) = self.found.recv().await else {
            return;
        };
        let name = match whose {
            Whose::Join(index) => self.join.get_mut(index),
            Whose::Advertise => self.advertise.as_mut(),
        };
        if let Some(name) = name {
            name.take(lookup, self.ours);
        }
    }

    /// The addresses of the names of `--join`, each once.
    pub(super) fn addresses(&self) -> Vec<SocketAddr> {
        let mut addresses = Vec::new();
        for &address in self.join.iter().flat_map(|name| &name.addresses) {
            if addresses.len() < ADDRESSES_MAX && !addresses.contains(&address) {
                addresses.push(address);
            }
        }
        addresses
    }

    /// The addresses of the name of `--advertise`.
    pub(super) fn advertised(&self) -> &[SocketAddr] {
        let name = self.advertise.as_ref();
        name.map_or(&[], |name| &name.addresses)
    }

    pub(super) fn has_advertise(&self) -> bool {
        self.advertise.is_some()
    }

    /// Logs, once, that no address of `--advertise` can be used.
    pub(super) fn complain(&mut self, error: &ClusterError) {
        let complaint = error.to_string();
        if self.complaint != complaint {
            warn!("{complaint}");
            self.complaint = complaint;
        }
    }

    /// What is missing, if `missing` addresses are not met.
    pub(super) fn lack(&self, missing: usize, is_alone: bool) -> Lack {
        let mut names = self.join.iter().chain(&self.advertise);
        if is_alone && !self.join.is_empty() {
            Lack::Everybody
        } else if missing > 0 || names.any(|name| name.addresses.is_empty() || name.error.is_some())
        {
            Lack::Somebody
        } else {
            Lack::Nobody
        }
    }

    /// A time from three quarters of `wait` to five quarters.
    fn jitter(&self, wait: Duration) -> Duration {
        let share = (self.random.hash_one(self.looks) % 1_000) as u32;
        wait * 3 / 4 + wait / 2 * share / 1_000
    }
}

impl SeedName {
    fn new(name: &HostPort, option: &'static str, ours: SocketAddr) -> Self {
        let mut new = Self {
            name: name.clone(),
            option,
            addresses: Vec::new(),
            error: None,
            is_looking: false,
        };
        if let Some(address) = name.literal() {
            new.take(Ok(vec![address]), ours);
        }
        new
    }

    fn look_up(
        &mut self,
        whose: Whose,
        lookups: &Lookups,
        send: &mpsc::UnboundedSender<(Whose, Lookup)>,
    ) {
        if self.is_looking || self.name.literal().is_some() {
            return;
        }
        let send = send.clone();
        let done = move |lookup| {
            let _ = send.send((whose, lookup));
        };
        match lookups.begin(&self.name, done) {
            Ok(()) => self.is_looking = true,
            // The system has no thread for the look-up.
            Err(error) if error.kind() == ErrorKind::WouldBlock => self.fail(format!(
                "no thread to look {} up: {error}. If it lasts, raise the limit of processes (RLIMIT_NPROC, ulimit -u)",
                self.name
            )),
            Err(error) => self.fail(format!("cannot look up {}: {error}", self.name)),
        }
    }

    fn take(&mut self, lookup: Lookup, ours: SocketAddr) {
        self.is_looking = false;
        let found = lookup.map_err(|error| error.to_string());
        let found = found.and_then(|found| {
            let usable = usable(ours, &found);
            match usable.is_empty() && self.option == "--join" {
                true => Err(format!(
                    "{} has no address that {ours} can send to",
                    self.name
                )),
                // The addresses are of another family. The advertised address is checked when it is chosen.
                false if usable.is_empty() => Ok(found),
                false => Ok(usable),
            }
        });
        match found {
            Ok(addresses) => self.lead_to(addresses),
            Err(error) => self.fail(error),
        }
    }

    fn lead_to(&mut self, addresses: Vec<SocketAddr>) {
        let is_news = self.error.take().is_some() || !self.addresses.is_empty();
        let mut before = std::mem::replace(&mut self.addresses, addresses);
        let mut now = self.addresses.clone();
        // Many resolvers give addresses in another order each time.
        before.sort_unstable();
        now.sort_unstable();
        if is_news && before != now {
            info!(
                "{} of {} leads to {:?} now",
                self.name, self.option, self.addresses
            );
        }
    }

    fn fail(&mut self, error: String) {
        if self.error.as_ref() != Some(&error) {
            warn!(
                "{}: {error}; it is looked up again and again (said once)",
                self.option
            );
        }
        self.error = Some(error);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;
    use rmbd_names::Resolver;

    fn address(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    fn seeds(join: &[&str], resolver: Resolver) -> Seeds {
        let join: Vec<HostPort> = join.iter().map(|name| name.parse().unwrap()).collect();
        let lookups = Lookups::new(resolver, |work| {
            std::thread::spawn(work);
            Ok(())
        });
        Seeds::new(&join, None, lookups, address("127.0.0.1:1"))
    }

    #[tokio::test(flavor = "current_thread")]
    async fn every_address_of_every_name_is_found_once() {
        let names = [
            "127.0.0.1:7",
            "localhost:7",
            "no.such.host.invalid:7",
            "127.0.0.1:8",
        ];
        let mut seeds = seeds(&names, Resolver::default());
        // Addresses do not wait for a resolver.
        let literals = [address("127.0.0.1:7"), address("127.0.0.1:8")];
        assert_eq!(seeds.addresses(), literals);
        seeds.look_up(Duration::ZERO, Lack::Everybody);
        seeds.found().await;
        seeds.found().await;
        assert_eq!(seeds.addresses(), literals);
        assert!(
            seeds.join[2]
                .error
                .as_ref()
                .unwrap()
                .contains("no.such.host.invalid:7")
        );
        assert_eq!(seeds.lack(0, false), Lack::Somebody);
        assert!(seeds.found.try_recv().is_err(), "there were but two names");
    }

    #[tokio::test(flavor = "current_thread")]
    async fn a_name_is_followed_and_what_it_gave_is_kept_while_nobody_knows_it() {
        let leads_to = Arc::new(Mutex::new(None));
        let resolver = {
            let leads_to = Arc::clone(&leads_to);
            Resolver::new(move |_| {
                let leads_to: Option<&str> = *leads_to.lock().unwrap();
                let known = leads_to.map(|text| vec![address(text)]);
                known.ok_or_else(|| std::io::Error::other("try again"))
            })
        };
        let mut seeds = seeds(&["seed:7"], resolver);
        let mut expected = Vec::new();
        for step in [
            None,
            Some("127.0.0.2:7"),
            Some("127.0.0.3:7"),
            None,
            Some("127.0.0.4:7"),
        ] {
            *leads_to.lock().unwrap() = step;
            seeds.look_up(Duration::ZERO, Lack::Somebody);
            seeds.found().await;
            if let Some(text) = step {
                expected = vec![address(text)];
            }
            assert_eq!(seeds.addresses(), expected);
            assert_eq!(seeds.join[0].error.is_some(), step.is_none());
        }
    }

    #[tokio::test(flavor = "current_thread")]
    async fn looks_are_soon_while_alone_rarer_later_and_soon_again_after_a_departure() {
        let mut seeds = seeds(&["127.0.0.1:7"], Resolver::default());
        let mut now = Duration::from_secs(100);
        assert!(seeds.is_due(now));
        for (lack, wait_s) in [
            (Lack::Everybody, 2),
            (Lack::Everybody, 2),
            (Lack::Somebody, 4),
            (Lack::Somebody, 8),
            (Lack::Somebody, 15),
            (Lack::Somebody, 15),
            (Lack::Nobody, 60),
            (Lack::Nobody, 60),
        ] {
            seeds.look_up(now, lack);
            let wait = seeds.next().unwrap() - now;
            let planned = Duration::from_secs(wait_s);
            assert!(
                wait >= planned * 3 / 4 && wait <= planned * 5 / 4,
                "{lack:?} {wait:?}"
            );
            now += wait;
        }
        seeds.look_up(now, Lack::Nobody);
        seeds.hurry(now + Duration::from_secs(20));
        assert!(seeds.is_due(now + Duration::from_secs(20)));
        // However many members go, the names are looked up once.
        seeds.look_up(now, Lack::Nobody);
        for _ in 0..9 {
            seeds.hurry(now);
        }
        assert_eq!(seeds.next(), Some(now + SOON));
        assert_eq!(self::seeds(&[], Resolver::default()).next(), None);
    }

    #[tokio::test(flavor = "current_thread")]
    async fn a_name_is_looked_up_once_at_a_time() {
        let held = Arc::new(Mutex::new(()));
        let hold = held.lock().unwrap();
        let asked = Arc::new(Mutex::new(0));
        let resolver = {
            let (held, asked) = (Arc::clone(&held), Arc::clone(&asked));
            Resolver::new(move |_| {
                *asked.lock().unwrap() += 1;
                drop(held.lock());
                Ok(vec![address("127.0.0.1:7")])
            })
        };
        let mut seeds = seeds(&["slow:7"], resolver);
        for _ in 0..5 {
            seeds.look_up(Duration::ZERO, Lack::Everybody);
        }
        drop(hold);
        seeds.found().await;
        assert_eq!(*asked.lock().unwrap(), 1);
        seeds.look_up(Duration::ZERO, Lack::Everybody);
        seeds.found().await;
        assert_eq!(*asked.lock().unwrap(), 2);
    }
}
