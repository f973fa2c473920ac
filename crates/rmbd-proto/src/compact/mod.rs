//! The compact format, version 1: many short operations in one request datagram, and at most one
//! reply datagram for it.
//!
//! An add of a key of 16 bytes takes 18 bytes, so that 77 of them fit 1 400 bytes. All integers are
//! little-endian (`u16`, `u32`, `u64`) or *varints*: unsigned LEB128 of at most 64 bits, in the
//! shortest form (7 bits a byte, least significant first, the top bit set on all bytes but the last,
//! which is not 0 unless it is the only one). A *key* is its length as a varint, 0 to 1 024, and as
//! many bytes of any values.
//!
//! # A request
//!
//! ```text
//!   0      1       2              6          6 + s        ...           ...         ...
//! +------+-------+--------------+----------+------------+-------------+-----------+------------
//! | C1   | flags | id, u32      | sketch,  | token      | once        | cookie    | operations,
//! |      |       |              | varint   | if flag 4  | if flag 2   | if flag 8 | back to back
//! +------+-------+--------------+----------+------------+-------------+-----------+------------
//!
//!   token, cookie:  length, u8 | bytes
//!   once:           boot, u64 | client, u64 | sequence, varint
//! ```
//!
//! - The first byte is `C` and the version; types of the legacy protocol are 00 to 04.
//! - Flags: 1 *acknowledge* (reply even where no operation asks), 2 *once*, 4 *token*, 8 *cookie*. Others are 0.
//! - The id is the client's to choose; the reply echoes it.
//! - The sketch is a number below 2^32, which follows from a name
//!   ([`SketchName::number`](crate::SketchName::number)); 0 is `default`, which every node has.
//! - The token is reserved for the authentication of clients; a node reads over it today.
//! - The cookie is for exactly once, below; elsewhere, and where it is not needed, a node reads over it.
//!
//! | byte | operation | after it | what it does | its answer |
//! |---|---|---|---|---|
//! | `00` | padding | | nothing, and counts as no operation | |
//! | `01` | add | key | adds 1 | |
//! | `02` | add weight | key, weight varint | adds the weight; 0 changes nothing | |
//! | `03` | count | key | | count |
//! | `04` | hit | key, weight, limit, window: varints | adds the weight (0 only looks), then counts | count, and whether it is within the limit |
//! | `05` | bounds | key | | estimate, likely estimate, likely lower bound, certain lower bound, N |
//! | `06` | info | | | what the node is |
//! | `08` | count in a window | key, window varint, flags u8: 1 *smooth* | | estimate, and how much time it covers |
//! | `09` | limits | flags u8: 1 *take*, 2 *bound*; number of parts u8, 1 to 8; of each part: sketch varint, key, weight, limit, window varints | adds the weights: always, or (*take*) only if all parts are within their limits | verdict |
//! | `0a` | sketches | first varint | | the node's sketches from this position of their list on |
//! | `0b` | hit by the name of a limit | name, key, weight varint | adds the weight as the node's own limit of this name says | verdict |
//! | `0c` | pardon | name of a limit, key, for varint | forgives the key for so many ms what it has in the limit's window, in the whole cluster | what is forgiven |
//! | `0d` | top | window, first, most: varints | | at most so many of the sketch's largest keys, from this position of their list on |
//!
//! Windows are in milliseconds, and 0 is all time. A node answers windows that are a multiple of the step of one that
//! its sketch keeps, up to that one's span; it refuses others ([`Problem::UnknownWindow`]), and `sketches` tells which
//! it keeps. *Bound* is never below what was received within the window; *smooth* weights the oldest step by what is
//! left of it. A count in a window is a bound unless it asks otherwise; limits and hits are smooth unless they do.
//!
//! A sketch lists its largest keys of all time, and those of each whole window that it keeps: `top` of any other window
//! is refused ([`Problem::UnknownWindow`]), and so is every `top` of a sketch that lists none ([`Problem::NoTopList`]).
//!
//! A weight above the node's limit (which `info` tells) is refused. The name of a limit is its length u8 and as many
//! bytes. The sketch of the header is that of all operations but `09`, whose parts name their own, and of `0a` to `0c`,
//! which need none. Flags of an operation that are not said here are 0 ([`Problem::UnknownOperation`]).
//!
//! A once-request has at most one operation `09` that takes, or `0b` ([`Problem::TakesOnce`]): the node remembers its
//! verdict with the sequence, and a repeat is told the same.
//!
//! ```text
//!   C1 01 2a 00 00 00 00 | 01 03 'a' 'b' 'c' | 02 01 'x' e8 07 | 03 03 'a' 'b' 'c'
//!   acknowledge, id 42     add "abc"           add "x" 1000      count "abc"
//! ```
//!
//! # A reply
//!
//! ```text
//!   0      1       2              6           8      9
//! +------+-------+--------------+-----------+------+---------------------------------------
//! | D1   | flags | id, u32      | done, u16 | code | answers, in the order of their operations
//! +------+-------+--------------+-----------+------+---------------------------------------
//! ```
//!
//! - Flags: 1 *repeated* (this once-request was applied before: its weights were not added again).
//! - Code: 0, or the [`Problem`] that stopped the request. `done` operations before it were applied
//!   and answered, so that the one with index `done` is the one at fault; nothing after it was
//!   looked at. (A key, a weight or a limit that is at fault stops the request in the same way.)
//!
//! An answer begins with its operation's byte; 80 is added to it where the count is *incomplete* (the node has no
//! room for something that others counted, so that all together may have more), and 40 where a hit is over its limit.
//!
//! | byte | answer | after it | bytes |
//! |---|---|---|---|
//! | `03`, `83` | count | estimate, u64 | 9 |
//! | `04`, `44`, `84`, `c4` | hit | estimate, u64 | 9 |
//! | `05`, `85` | bounds | estimate, likely estimate, likely lower bound, certain lower bound, N: u64 each | 41 |
//! | `06` | info | length u8 of what follows: boot u64, fingerprint u64, width u64, max weight u32, depth u8, hash u8 (1 xxh3, 2 fnv), length u8 and text of the program's version, cluster port u16 (0 is none), length u8 and bytes of a cookie for the address that asked, writer u64: the name by which the cluster knows who writes what the node counts (an info may end before any of these three) | 61 to 92 |
//! | `07` | cookie | length u8 of what follows: a cookie for the address that asked. No operation asks for it: it stands alone in the reply with [`Problem::AddressUnproven`] | 18 |
//! | `08` | count in a window | length 13, flags u8 (1 incomplete, 2 overflowed), estimate u64, covered ms u32 | 15 |
//! | `09` | limits | length 26, flags u8 (1 over, 2 incomplete, 4 unsure, 8 overflowed), part u8, estimate u64, remaining u64, retry-after ms u32 (0 if within, 2^32-1 never), covered ms u32 | 28 |
//! | `0a` | sketches | length varint of what follows: total varint, entries | 3 and more |
//! | `0b` | hit by the name of a limit | as `09`, with flag 16: in shadow mode, over and admitted | 28 |
//! | `0c` | pardon | length 8, credit u64 | 10 |
//! | `0d` | top | length varint of what follows: flags u8 (1 incomplete, 2 redacted), edition u64, age ms u32, complete above u64, N u64, listed varint, entries | 32 and more |
//! | `0e` to `3f` | of later versions | length varint and as many bytes, which a client skips | |
//!
//! The likely ones of bounds rest on errors that the node sampled; where it has no sample that is young enough, the
//! likely estimate is the estimate, and the likely lower bound the certain one.
//!
//! The answers from `08` on may grow at their end. *Overflowed* is a window whose weight passed 2^32: its estimate may
//! be too low. The part of a verdict is the position of the one that decided: the one that is over with the longest
//! retry-after, else the one with the least remaining.
//!
//! An entry of the list of sketches is its length as a varint, and then: number u32, name (length u8 and bytes),
//! fingerprint u64, width varint, depth u8, hash u8, number of windows varint, and of each window span ms, step ms,
//! width: varints. An entry may grow at its end. A list has as many entries as fit into the reply; total says how many
//! there are.
//!
//! An entry of the largest keys is its length as a varint, and then: estimate varint, certain varint, the length of its
//! name plus one as a varint (0 where the name is not told), and the name. An entry may grow at its end. The truth is
//! at most the estimate, and at least what is certain. A list has as many entries as fit into the reply; *listed* says
//! how many keys it has, those with the largest estimates first. Every key of which more was counted than *complete
//! above* says is in the list (2^64-1: nothing is known). The node makes its lists anew about twice a second: parts of
//! different *editions* are of different lists. *Redacted* is a list for somebody who may not see names.
//!
//! **When there is a reply**: if the request has the flag acknowledge or once, if an operation up to
//! the one that stopped it (included) may have an answer, or if the request was stopped by its header.
//! Requests of less than 6 bytes have no id and never get one.
//!
//! **How long it is**: at most 3 times the request (a forged address gets little) and at most
//! 1 400 bytes (no fragments). An operation whose answer would not fit stops the request with
//! [`Problem::ReplyTooLarge`]. A client that wants more room pads its request; [`RequestWriter`] does.
//!
//! # Exactly once
//!
//! A client that repeats a request because no reply came does not know whether the request or the reply
//! was lost. With the flag *once* its weights count once however often it comes: the node remembers
//! for each client (a random number that the client draws) which sequences it has applied, within a
//! window of the last [`ONCE_WINDOW`] sequences. A repeat gets the same kind of reply, flagged
//! *repeated*, and its counts are answered afresh. What the client keeps to:
//!
//! - Sequences go up by one from one request to the next. Another content is another sequence.
//! - No more than [`ONCE_WINDOW`] of them between the oldest without a reply and the newest; one that
//!   fell out of the window is refused ([`Problem::SequenceTooOld`]).
//! - A reply to a request that it has a reply to already says nothing, whatever it says: a late double
//!   of the request may have left the window.
//! - It repeats for no longer than [`ONCE_RETRY_S_MAX`]; after that the node may forget the client.
//! - Boot is the node's present one, from `info`, when the request is sent first; all repeats name the same one.
//!   A node that ended cleanly and was started again has another boot, and may remember what it had applied
//!   before: then it takes requests that name earlier boots as if it had never ended. Otherwise it refuses what
//!   names another boot ([`Problem::WrongBoot`]): whether the request had been applied before is then
//!   *uncertain*, which a client says rather than adding twice.
//! - While a node is started again nobody listens at its port. That its host says so (`ECONNREFUSED`) is no more
//!   than silence to a client that the node has answered before: it goes on repeating.
//!
//! **First contact.** A node remembers a new client only once it knows that somebody receives at its address,
//! so that forged addresses do not fill its table. What proves that is a *cookie*, at most [`COOKIE_BYTES_MAX`]
//! bytes that the node has sent there: in the answer to `info`, or with [`Problem::AddressUnproven`], which says
//! that nothing was applied and that the same request, of the same sequence, is to come again with this cookie.
//!
//! ```text
//!   client                                  node
//!     | -- info ----------------------------> |
//!     | <------ boot, cookie ---------------- |    no cookie was kept: it follows from the address
//!     | -- once, cookie, adds --------------> |    and the time, under a secret of the node
//!     | <------ done ------------------------ |    the client is known from here on,
//!     | -- once, adds ----------------------> |    also at another port or address, and is not asked
//! ```
//!
//! A cookie is good for one to two minutes, for the IP address that it was sent to, and any port. Until a
//! once-request of its was answered by anything but that problem, a client puts its latest cookie into all
//! of them; later it need not. Cookies have no meaning to clients.
//!
//! # How it grows
//!
//! - First byte, flags and id stay where they are in all versions, and so do the reply's first nine
//!   bytes: who cannot read the rest can answer, and be understood.
//! - A node refuses a version or a flag that it does not know as a whole ([`Problem::UnknownVersion`],
//!   [`Problem::UnknownFlags`]), with nothing applied. An operation that it does not know stops the
//!   request there ([`Problem::UnknownOperation`]), since nobody can tell where the next one begins.
//! - New operations take new bytes, new problems take new codes. A client reads a code that it does not
//!   know as a refusal, ignores reply flags that it does not know, and skips what an info has beyond what
//!   it knows, and answers from `08` on. But for those and a cookie, a node sends nothing that the request did
//!   not ask for.
//!
//! Nothing in here panics on any bytes, and reading copies nothing and allocates nothing.

mod answer;
mod content;
mod info;
mod limits;
mod operation;
mod parse;
mod problem;
mod reply;
mod sketches;
#[cfg(test)]
mod tests;
mod top;
mod write;

pub use self::answer::{
    Answer, BOUNDS_ANSWER_BYTES, BoundsAnswer, COOKIE_ANSWER_BYTES_MAX, COUNT_ANSWER_BYTES,
    PARDON_ANSWER_BYTES, WINDOW_ANSWER_BYTES, WindowAnswer, encode_cookie, write_bounds_answer,
    write_count_answer, write_hit_answer, write_pardon_answer, write_window_answer,
};
pub use self::info::{
    HASH_FNV, HASH_XXH3, INFO_ANSWER_BYTES_MAX, INFO_BEHIND_COOKIE_BYTES, Info,
    VERSION_TEXT_BYTES_MAX, encode_info,
};
pub use self::limits::{
    LIMIT_PARTS_MAX, LIMITS_ANSWER_BYTES, LimitPart, LimitParts, Limits, RETRY_NEVER_MS, Verdict,
    write_hit_by_name_answer, write_limits_answer,
};
pub use self::operation::Operation;
pub use self::parse::{Once, Operations, Rejected, Request, Stopped, operations, request};
pub use self::problem::Problem;
pub use self::reply::{Answers, Reply, ReplyHead, ReplyMalformed, reply, write_reply_head};
pub use self::sketches::{
    SketchEntries, SketchEntry, SketchWindow, SketchWindows, Sketches, SketchesWriter,
};
pub use self::top::{Top, TopEntries, TopEntry, TopHead, TopWriter};
pub use self::write::{
    Header, RequestWriter, WriteError, boot_at, write_with_cookie, write_with_sequence,
};

/// The version of the format that is written here.
pub const VERSION: u8 = 1;
/// Bytes of the longest key.
pub const KEY_BYTES_MAX: usize = 1024;
/// Bytes of the longest token.
pub const TOKEN_BYTES_MAX: usize = 255;
/// Bytes of the longest cookie: as many as any code needs that only has to be hard to guess.
pub const COOKIE_BYTES_MAX: usize = 16;
/// Bytes that the longest cookie takes in a request.
pub const COOKIE_FIELD_BYTES_MAX: usize = 1 + COOKIE_BYTES_MAX;
/// Bytes of the largest reply: fits an Ethernet frame with room for tunnels.
pub const REPLY_BYTES_MAX: usize = 1400;
/// A reply is at most this many times as long as its request.
pub const AMPLIFICATION_MAX: usize = 3;
/// Bytes of a request that nothing can be answered to if there are less: up to the id.
pub const PREFIX_BYTES: usize = 6;
/// Bytes of a reply before its answers.
pub const REPLY_HEAD_BYTES: usize = 9;
/// Sequences of a client that a node can tell apart, the newest included: with full datagrams some
/// 77 000 adds under way, more than a receive buffer takes.
pub const ONCE_WINDOW: u64 = 1024;
/// Seconds after which a client must not repeat a once-request any more. A datagram lives for at most
/// 120 s more in the network (RFC 9293, 3.4.1), and nodes remember a client for longer than both.
pub const ONCE_RETRY_S_MAX: u64 = 120;

// The codes of operations, and of their answers.
/// Fills a request; no operation.
const PADDING: u8 = 0;
const ADD: u8 = 1;
const ADD_WEIGHT: u8 = 2;
const COUNT: u8 = 3;
const HIT: u8 = 4;
const BOUNDS: u8 = 5;
const INFO: u8 = 6;
const WINDOW: u8 = 8;
const LIMITS: u8 = 9;
const SKETCHES: u8 = 0xa;
const HIT_BY_NAME: u8 = 0xb;
const PARDON: u8 = 0xc;
const TOP: u8 = 0xd;

/// The upper half of a request's first byte; the lower one is the version.
const REQUEST: u8 = 0xc0;
/// The upper half of a reply's first byte.
const REPLY: u8 = 0xd0;

const FLAG_ACKNOWLEDGE: u8 = 1;
const FLAG_ONCE: u8 = 2;
const FLAG_TOKEN: u8 = 4;
const FLAG_COOKIE: u8 = 8;
const FLAGS_KNOWN: u8 = FLAG_ACKNOWLEDGE | FLAG_ONCE | FLAG_TOKEN | FLAG_COOKIE;

const FLAG_REPEATED: u8 = 1;

/// Whether a datagram with this first byte is a request in this format, of any version.
///
/// No message of the legacy protocol and no reply begins like it, so that two nodes can never be made
/// to answer each other.
#[inline]
#[must_use]
pub const fn is_request(first: u8) -> bool {
    first & 0xf0 == REQUEST
}

/// Whether a datagram with this first byte is a reply in this format, of any version.
#[inline]
#[must_use]
pub const fn is_reply(first: u8) -> bool {
    first & 0xf0 == REPLY
}

/// The longest reply to a request of so many bytes.
#[inline]
#[must_use]
pub const fn reply_bytes_max(request_bytes: usize) -> usize {
    let by_request = request_bytes.saturating_mul(AMPLIFICATION_MAX);
    if by_request < REPLY_BYTES_MAX {
        by_request
    } else {
        REPLY_BYTES_MAX
    }
}

/// A bit of a flags byte, if it is set.
#[inline]
const fn flag(bit: u8, set: bool) -> u8 {
    if set { bit } else { 0 }
}
