//! Exactly once: which requests of which clients have been applied.
//!
//! Each client numbers its requests. The table keeps, for each of a bounded number of clients, the
//! highest number (*sequence*) that came and one bit for each of the [`WINDOW`] sequences up to it:
//!
//! ```text
//!   too old to tell  |<------------- WINDOW ------------>|  ahead: moves the window
//!   ... 39   40   41 | 42   43   44   ...   1063   1064  1065 | 1066 ...
//!                    |  x         x           x      x    x   |      x: applied
//!                                                       highest
//! ```
//!
//! A client that has not been heard of for longer than [`IDLE_LIMIT`] has given up on all that it
//! had under way, and what the network still held of it is gone; so nothing of it can come twice any
//! more. It is remembered as long as nobody needs its memory, and holds no *place* any more. Others are
//! *live*, hold one each, and keep it whatever comes: a full table refuses new clients.
//!
//! **Places are for those who exist.** A client that the table does not know gets one only with a
//! [cookie](OnceTable::cookie): 16 bytes that the node has sent to the client's address a moment ago, so that
//! whoever shows them can receive there (RFC 9000, 8.1, and WireGuard's paper, 5.3, do the same). Who has no
//! cookie costs the table nothing. A client that is known is never asked, whatever its address: its repeats
//! must not depend on a cookie's age, and behind an address translation its port and address change.
//!
//! **And for many.** A network (IPv4 /24, IPv6 /48) gets a place only while it holds fewer than a quarter of
//! those that are free. Alone it can have a fifth of all, the next one a fifth of the rest, and so on: each
//! leaves the others more than it takes itself, and as long as there is a free place, somebody new gets it.
//! (As in Choudhury and Hahne, "Dynamic queue length thresholds for shared-memory packet switches", 1998.)
//!
//! Any thread may ask, since a client's datagrams reach another thread when its port changes. The
//! table is cut into 64 parts with a lock each, which is held for some ten nanoseconds once a
//! datagram; nobody can aim at a part, since a keyed hash chooses it. Parts have room for more than their
//! share, so that none is full before the table is. All memory is reserved at the start, and touched as
//! clients come.

mod cookie;
mod places;
mod shard;
#[cfg(test)]
mod tests;

use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use self::cookie::Cookies;
pub use self::cookie::{COOKIE_BYTES, COOKIE_SECRET_BYTES};
pub use self::places::Network;
use self::places::Places;
use self::shard::{Request, Shard};

/// Sequences of a client that can be told apart.
pub const WINDOW: u64 = 1024;

/// How long a client may repeat a request.
pub const RETRY_LIMIT: Duration = Duration::from_secs(120);

/// How long a silent client keeps its place: it repeats a request for
/// [`RETRY_LIMIT`] at most, a datagram lives
/// for another 120 s at most (RFC 9293, 3.4.1), and a minute is for clocks that run apart. Longer would
/// keep places for short-lived clients: 65 536 places at 300 s serve some 200 new ones a second.
pub const IDLE_LIMIT: Duration = Duration::from_secs(RETRY_LIMIT.as_secs() + 120 + 60);

/// Clients that have a place at the same time: some 12 MiB if all places are taken.
pub const CLIENTS_MAX: usize = 1 << 16;

/// Parts of the table: with more than there are cores, two threads seldom want the same one.
const SHARDS: usize = 64;

/// Clients whose places are taken back before a lock is let go: some microseconds.
const LAPSE_AT_ONCE: usize = 64;

/// The decision about a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admission {
    /// Apply it. It is marked as applied, so the caller must.
    New,
    /// It was applied before: do not add its weights again.
    Repeat,
    /// Out of the client's window: nobody knows.
    TooOld,
    /// A new client that has not shown a cookie of its address: send it one.
    Unproven,
    /// A new client, and its network holds as many places as one may.
    NetworkFull,
    /// A new client, and there is no place for it.
    Full,
}

/// The client that asks.
#[derive(Debug, Clone, Copy)]
pub struct Caller<'a> {
    /// The client's number.
    pub client: u64,
    /// Where its datagram says that it is.
    pub ip: IpAddr,
    /// What it shows for that: any bytes.
    pub cookie: Option<&'a [u8]>,
}

/// The clients that are remembered. Shared by all threads.
///
/// ```
/// use std::time::Duration;
/// use rmbd_store::once::{Admission, Caller, OnceTable};
///
/// let table = OnceTable::new(1000, &[7; 32]);
/// let now = Duration::ZERO;
/// let stranger = Caller { client: 0xc11e47, ip: [192, 0, 2, 7].into(), cookie: None };
/// assert_eq!(table.admit(stranger, 1, now), Admission::Unproven);
/// let cookie = table.cookie(stranger.ip, now);
/// let proven = Caller { cookie: Some(&cookie), ..stranger };
/// assert_eq!(table.admit(proven, 1, now), Admission::New);
/// assert_eq!(table.admit(stranger, 1, now), Admission::Repeat);
/// assert_eq!(table.admit(stranger, 2, now), Admission::New);
/// ```
#[derive(Debug)]
pub struct OnceTable {
    shards: Box<[Mutex<Shard>]>,
    /// Clients choose their numbers; where they lie they shall not be able to choose. The standard
    /// library's hash is keyed, by the system's randomness, for that purpose.
    hash: RandomState,
    places: Places,
    cookies: Cookies,
}

impl OnceTable {
    /// A table for `clients` clients, at least one. The secret, of which cookies are made, is to be drawn
    /// for each start.
    #[must_use]
    pub fn new(clients: usize, secret: &[u8; COOKIE_SECRET_BYTES]) -> Self {
        Self::with_shards(clients, secret, SHARDS)
    }

    fn with_shards(clients: usize, secret: &[u8; COOKIE_SECRET_BYTES], shards: usize) -> Self {
        let clients = clients.clamp(1, u32::MAX as usize);
        let room = shard_room(clients, shards);
        Self {
            shards: (0..shards).map(|_| Mutex::new(Shard::new(room))).collect(),
            hash: RandomState::new(),
            places: Places::new(clients as u32),
            cookies: Cookies::new(secret),
        }
    }

    /// Asks for request `sequence` of a client, and marks it as applied where the answer is
    /// [`Admission::New`]; the other answers to a new client change nothing. Of several threads that ask at
    /// once, one gets that answer.
    ///
    /// `now` is the time since any fixed moment.
    #[inline]
    pub fn admit(&self, caller: Caller<'_>, sequence: u64, now: Duration) -> Admission {
        let request = Request {
            client: caller.client,
            hash: self.hash.hash_one(caller.client),
            sequence,
            // Whole milliseconds: 2^64 of them last.
            now_ms: now.as_millis() as u64,
        };
        let known = self.shard(request.hash).admit_known(&request, &self.places);
        known.unwrap_or_else(|| self.admit_stranger(caller, &request, now))
    }

    /// The cookie is looked at without the lock.
    #[cold]
    fn admit_stranger(&self, caller: Caller<'_>, request: &Request, now: Duration) -> Admission {
        let proves = |cookie| self.cookies.prove(cookie, caller.ip, now);
        if !caller.cookie.is_some_and(proves) {
            return Admission::Unproven;
        }
        let network = Network::of(caller.ip);
        self.shard(request.hash)
            .admit_stranger(request, network, &self.places)
    }

    /// What a client at this address is to show, for one to two minutes from now.
    #[must_use]
    pub fn cookie(&self, ip: IpAddr, now: Duration) -> [u8; COOKIE_BYTES] {
        self.cookies.fresh(ip, now)
    }

    /// Takes back the places of all clients that are not live any more. Whoever comes takes back some, so
    /// that this, now and then, only keeps the count of the live exact.
    pub fn lapse(&self, now: Duration) {
        let now_ms = now.as_millis() as u64;
        for shard in &self.shards {
            while lock(shard).lapse(LAPSE_AT_ONCE, now_ms, &self.places) == LAPSE_AT_ONCE {}
        }
    }

    /// Places that are held: one by each live client.
    #[must_use]
    pub fn clients(&self) -> usize {
        self.places.held() as usize
    }

    /// Places that there are.
    #[must_use]
    pub fn clients_max(&self) -> usize {
        self.places.max() as usize
    }

    /// The network of the latest client that was refused a place.
    #[must_use]
    pub fn refused_last(&self) -> Option<Network> {
        self.places.refused_last()
    }

    #[inline]
    fn shard(&self, hash: u64) -> MutexGuard<'_, Shard> {
        // The upper half chooses the part, the lower one the place in it.
        lock(&self.shards[(hash >> 32) as usize % self.shards.len()])
    }
}

/// Clients that a part can hold: its share, and six standard deviations of what chance gives it more (of
/// 64 parts of a full table one overflows less than once in ten million starts).
fn shard_room(clients: usize, shards: usize) -> usize {
    let share = clients.div_ceil(shards);
    (share + 6 * share.isqrt()).min(clients)
}

/// Nothing in here panics while a lock is held; if it did, at worst a client's window would be lost.
fn lock(shard: &Mutex<Shard>) -> MutexGuard<'_, Shard> {
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}
