//! The table of clients that makes requests count exactly once: it knows which requests have been applied.
//!
//! Each client numbers its requests; such a number is a *sequence*. For each client, up to a fixed number of clients,
//! the table keeps the highest sequence that came, and one bit for each of the [`WINDOW`] sequences up to it:
//!
//! ```text
//!   too old to tell  |<------------- WINDOW ------------>|  ahead: moves the window
//!   ... 39   40   41 | 42   43   44   ...   1063   1064  1065 | 1066 ...
//!                    |  x         x           x      x    x   |      x: applied
//!                                                       highest
//! ```
//!
//! A request that takes something within a limit has a verdict. It is kept with the sequence, as long as that is in the
//! window, so that a repeat gets the same one.
//!
//! A client that was silent for longer than [`IDLE_LIMIT`] has given up all requests that were under way, and the
//! network has lost what it still held of them. So none of its requests can come twice any more. The client is
//! remembered as long as nobody needs its memory, and holds no *place* any more. Other clients are *live*, hold one
//! place each, and keep it whatever comes: a full table refuses new clients.
//!
//! **Places are for clients that exist.** A client that the table does not know gets a place only with a
//! [cookie](OnceTable::cookie): 16 bytes that the node has sent to the client's address a moment ago. A client that
//! shows them can receive at that address (RFC 9000, 8.1, and WireGuard's paper, 5.3, do the same). A client without
//! a cookie costs the table nothing. A known client is never asked for one, whatever its address: its repeats must
//! not depend on a cookie's age, and its port and address change behind an address translation.
//!
//! **Places are for many networks.** A network (IPv4 /24, IPv6 /48) gets a place only while it holds fewer than a
//! quarter of the free ones. Alone it can have a fifth of all, the next one a fifth of the rest, and so on. Each
//! leaves the others more than it takes itself, and while a place is free, a client of a new network gets it. (The
//! rule is that of Choudhury and Hahne, "Dynamic queue length thresholds for shared-memory packet switches", 1998.)
//!
//! Any thread may ask, since a client's datagrams reach another thread when its port changes. The table is cut into
//! 64 parts with a lock each, which is held for some ten nanoseconds once a datagram. A keyed hash chooses the part,
//! so nobody can aim at one. Parts have room for more than their share, so that none is full before the table is. All
//! memory is reserved at the start, and touched as clients come.
//!
//! **A clean restart forgets nobody.** At a clean end the table is [saved](OnceTable::save) in [pieces](SavedPiece),
//! beside the [chain](BootChain) of the boots that it knows the requests of. The next start
//! [takes it back](OnceTable::restore), and goes on taking requests that name one of these boots, if all of it
//! [came back](OnceTable::came_back). A crash leaves no such table: what was applied after one was saved would be
//! applied twice.

mod chain;
mod cookie;
mod places;
mod restart;
mod saved;
mod shard;
#[cfg(test)]
mod tests;

use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

pub use self::chain::{BOOTS_MAX, BootChain, ChainMalformed};
use self::cookie::Cookies;
pub use self::cookie::{COOKIE_BYTES, COOKIE_SECRET_BYTES};
pub use self::places::Network;
use self::places::Places;
use self::restart::Return;
pub use self::restart::{RestoreError, Restored, SavedPieces};
pub use self::saved::{PIECE_BYTES_MAX, PieceMalformed, SavedPiece};
use self::shard::{Request, Shard};

/// Number of sequences of a client that the table can tell apart.
pub const WINDOW: u64 = 1024;

/// How long a client may repeat a request.
pub const RETRY_LIMIT: Duration = Duration::from_secs(120);

/// How long a silent client keeps its place. It repeats a request for [`RETRY_LIMIT`] at most, a datagram lives for
/// another 120 s at most (RFC 9293, 3.4.1), and a minute is for clocks that run apart. A longer limit would keep
/// places for short-lived clients: 65 536 places at 300 s serve some 200 new clients a second.
pub const IDLE_LIMIT: Duration = Duration::from_secs(RETRY_LIMIT.as_secs() + 120 + 60);

/// Number of clients that have a place at the same time. All of them take some 28 MiB.
pub const CLIENTS_MAX: usize = 1 << 16;

/// Number of parts of the table. With more parts than cores, two threads seldom want the same one.
const SHARDS: usize = 64;

/// Number of clients whose places are taken back before a lock is released, which takes some microseconds.
const LAPSE_AT_ONCE: usize = 64;

/// What the table's clock shows at the callers' moment zero, which is about the start of the process: clients of an
/// earlier start were heard of before that. It is 35 years.
const CLOCK_START_MS: u64 = 1 << 40;

/// The decision about a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admission {
    /// The request is new: apply it. It is marked as applied, so the caller must apply it.
    New,
    /// It was applied before: do not add its weights again.
    Repeat,
    /// The request is too old for the client's window: nobody knows whether it was applied.
    TooOld,
    /// The client is new and has shown no cookie of its address: send it one.
    Unproven,
    /// The client is new, and its network holds as many places as one may.
    NetworkFull,
    /// The client is new, and there is no place for it.
    Full,
}

/// The client that asks.
#[derive(Debug, Clone, Copy)]
pub struct Caller<'a> {
    /// The client's number.
    pub client: u64,
    /// The address that the client's datagram came from.
    pub ip: IpAddr,
    /// The cookie that the client shows for that address: any bytes.
    pub cookie: Option<&'a [u8]>,
}

/// The table of clients, shared by all threads.
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
    /// Chooses a client's part and place. Clients choose their numbers and must not choose these, too: the standard
    /// library's hash is keyed by the system's randomness for that purpose.
    hash: RandomState,
    places: Places,
    cookies: Cookies,
    /// How much of a saved table has come back.
    back: Return,
}

impl OnceTable {
    /// A table for `clients` clients, at least one. Cookies are made with the secret, which is to be drawn for each
    /// start.
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
            back: Return::default(),
        }
    }

    /// Asks for request `sequence` of a client. With the answer [`Admission::New`] the request is marked as applied;
    /// the other answers to a new client change nothing. Of several threads that ask at once, one gets that answer.
    ///
    /// `now` is the time since any fixed moment.
    #[inline]
    pub fn admit(&self, caller: Caller<'_>, sequence: u64, now: Duration) -> Admission {
        let request = self.request(caller.client, sequence, now);
        let known = self.shard(request.hash).admit_known(&request, &self.places);
        known.unwrap_or_else(|| self.admit_stranger(caller, &request, now))
    }

    /// Admits a client that is not known. The cookie is checked without the lock.
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

    /// The cookie that a client at this address is to show, for one to two minutes from now.
    #[must_use]
    pub fn cookie(&self, ip: IpAddr, now: Duration) -> [u8; COOKIE_BYTES] {
        self.cookies.fresh(ip, now)
    }

    /// Takes back the places of all clients that are not live any more. Each new client takes back some, so this is
    /// only needed now and then, to keep the count of live clients exact.
    pub fn lapse(&self, now: Duration) {
        let now_ms = clock_ms(now);
        for shard in &self.shards {
            while lock(shard).lapse(LAPSE_AT_ONCE, now_ms, &self.places) == LAPSE_AT_ONCE {}
        }
    }

    /// Number of places that are held, one by each live client.
    #[must_use]
    pub fn clients(&self) -> usize {
        self.places.held() as usize
    }

    /// Number of all places.
    #[must_use]
    pub fn clients_max(&self) -> usize {
        self.places.max() as usize
    }

    /// The network of the client that was refused a place last.
    #[must_use]
    pub fn refused_last(&self) -> Option<Network> {
        self.places.refused_last()
    }

    /// Notes the verdict about a request that was admitted as [`Admission::New`]: a repeat of it gets the same one.
    pub fn decide(&self, client: u64, sequence: u64, admits: bool) {
        let request = self.request(client, sequence, Duration::ZERO);
        self.shard(request.hash).decide(&request, admits);
    }

    /// The verdict about a request that was admitted before. `None` where there is none yet, since another thread is
    /// about to make it.
    #[must_use]
    pub fn verdict(&self, client: u64, sequence: u64) -> Option<bool> {
        let request = self.request(client, sequence, Duration::ZERO);
        self.shard(request.hash).verdict(&request)
    }

    fn request(&self, client: u64, sequence: u64, now: Duration) -> Request {
        Request {
            client,
            hash: self.hash.hash_one(client),
            sequence,
            now_ms: clock_ms(now),
        }
    }

    #[inline]
    fn shard(&self, hash: u64) -> MutexGuard<'_, Shard> {
        // The upper half of the hash chooses the part, the lower one the place in it.
        lock(&self.shards[(hash >> 32) as usize % self.shards.len()])
    }
}

/// What the table's clock shows. It counts whole milliseconds, of which 2^64 last.
#[inline]
fn clock_ms(now: Duration) -> u64 {
    CLOCK_START_MS.saturating_add(now.as_millis() as u64)
}

/// Number of clients that a part can hold: its share, and six standard deviations of what chance gives it more. With
/// 64 parts, one part of a full table overflows less than once in ten million starts.
fn shard_room(clients: usize, shards: usize) -> usize {
    let share = clients.div_ceil(shards);
    (share + 6 * share.isqrt()).min(clients)
}

/// Locks a part. Nothing panics while a lock is held; if something did, at worst a client's window would be lost.
fn lock(shard: &Mutex<Shard>) -> MutexGuard<'_, Shard> {
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}
