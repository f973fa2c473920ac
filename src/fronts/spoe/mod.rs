//! HAProxy's offload protocol, SPOE, so that HAProxy asks before it lets a request pass. It sends messages with
//! arguments, and is answered with variables, of which its configuration makes what it likes.
//!
//! ```text
//!  bytes ──> Dialogue ──> proto: Frame ──> Question ──> Desk: Session ──┐
//!  bytes <── connections <── AckWriter <── variables <──────────────────┘
//! ```
//!
//! The messages, by their names (anything may follow behind a `-`, since HAProxy wants each name once):
//!
//! | message | arguments | what it does |
//! |---|---|---|
//! | `rmbd-check` | `limit` (a name), `key`, `weight` | a hit of a limit of the node's configuration |
//! | `rmbd-hit` | `key`, `limit` (a number), `window`, `sketch`, `weight` | adds, and says whether that is within the limit |
//! | `rmbd-take` | as `rmbd-hit` | adds where that is within the limit |
//!
//! `weight` is 1, `sketch` is `default`, and `window` is all time where they are left out. A key is a text, any
//! bytes, a number or an address, which counts like its text. Two arguments say how to answer: `as` is put before the
//! names of the variables, and `fail` says what is `allowed` where there is no verdict: `closed`, nothing, where it
//! is left out, or `open`, everything.
//!
//! | variable, in the transaction | value |
//! |---|---|
//! | `allowed` | whether the request may pass: it is within the limit, or the limit is a shadow |
//! | `over` | whether it is over the limit |
//! | `estimate` | the key's estimate at the limit that decided |
//! | `remaining` | what may still be added; none where there is no limit for the key |
//! | `retry_after_ms` | how long to wait: 0 where it is allowed; none where no wait helps |
//! | `error` | why there is no verdict; none where there is one |
//!
//! Where messages of one notification have the same variables, one that is not allowed is not replaced by a later
//! one. A message that is not understood changes nothing, and the others of its notification are done all the same.
//!
//! All of it runs on the thread that awaits [`serve`], which is the one of HTTP.

mod agent;
mod connections;
mod desk;
mod dialogue;
mod question;
#[cfg(test)]
mod tests;
mod variables;

pub(crate) use self::agent::Agent;
pub(crate) use self::connections::{CONNECTION_BYTES_MAX, CONNECTIONS_MAX, serve};

/// Bytes of the largest frame that is taken: what HAProxy takes itself where its buffers are as large as usual
/// (`tune.bufsize`, 16 KiB), which is much more than some arguments need.
const FRAME_BYTES_MAX: usize = 16 << 10;
