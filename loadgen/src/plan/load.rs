//! A load: the messages of a phase, their pace and their sockets.

use std::time::Duration;

use rmbd_proto::legacy::MESSAGE_BYTES;

use super::form::Form;
use super::format::{DATAGRAM_BYTES, Format};
use super::keys::KeySet;
use super::mode::Mode;
use crate::output::thousands;
use crate::record::{self, Pace};

/// The largest UDP payload over IPv4: 65 535 - 20 (IP) - 8 (UDP).
pub(crate) const TRAIN_BYTES_MAX: usize = 65_507;
/// The kernel's limit of datagrams in one send (`UDP_MAX_SEGMENTS`, 64 before Linux 6.9).
pub(crate) const SEGMENTS_MAX: usize = 64;
/// Messages in the largest legacy datagram.
pub(super) const PACK_MAX: usize = TRAIN_BYTES_MAX / MESSAGE_BYTES;
/// Sending threads at most; each has its buffers, and some its receiver.
pub(super) const THREADS_MAX: usize = 256;
/// Sockets at most; more than this need `ulimit -n` raised.
pub(super) const SOCKETS_MAX: usize = 4096;
/// Requests that may wait for an answer at once, over all sockets. Each costs 33 bytes.
pub(super) const WAITING_MAX: usize = 1 << 23;

/// How long a load lasts if nothing is said.
pub(crate) const DEFAULT_DURATION: Duration = Duration::from_secs(10);
/// Its warm-up.
pub(crate) const DEFAULT_WARMUP: Duration = Duration::from_secs(1);

/// A load: what is sent, when, over what, and for how long.
#[derive(Debug, Clone)]
pub struct Load {
    /// The name that people read: `adds, flood`.
    pub name: String,
    /// Which messages.
    pub mode: Mode,
    /// The format of the messages.
    pub format: Format,
    /// Weight of each add and each hit: 1 to [`MAX_WEIGHT`](rmbd_sketch::MAX_WEIGHT); 1 in the legacy format.
    pub weight: u32,
    /// Requests say which client and sequence they are, are sent again until they are acknowledged, and
    /// count once. Adds of the compact format in a closed loop only.
    pub exactly_once: bool,
    /// When the next message leaves.
    pub pace: Pace,
    /// Which keys.
    pub keys: KeySet,
    /// Seed of keys, gaps and the order of adds and counts.
    pub seed: u64,
    /// Seconds of the measured part.
    pub duration: Duration,
    /// Before it, with the same load, in no figure.
    pub warmup: Duration,
    /// Messages after which the measured part ends even if the time is not over.
    pub messages: Option<u64>,
    /// Messages a datagram, 1 to [`pack_max`](Self::pack_max). Of compact messages whose keys vary in
    /// length there may be less in one, as many as fit.
    pub pack: usize,
    /// Many datagrams in one system call (`UDP_SEGMENT`).
    pub gso: bool,
    /// Sending threads.
    pub threads: usize,
    /// Sockets over all threads, at least one each.
    pub sockets: usize,
    /// After how long a request counts as unanswered, from when it was really sent.
    pub timeout: Duration,
    /// Senders spin until the next planned time instead of sleeping: precise, and each needs a
    /// CPU of its own.
    pub spin: bool,
    /// Keeps all senders from sending for a while, once: what shows that the response time is
    /// honest about a generator that is late.
    pub hold_up: Option<HoldUp>,
}

/// A pause of the senders that was not planned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HoldUp {
    /// When, from the start of the measured part.
    pub after: Duration,
    /// For how long.
    pub lasting: Duration,
}

impl Load {
    /// Adds of weight 1 of these keys, one in each datagram, as fast as one thread with one socket sends them,
    /// for 10 s after 1 s of warm-up. Set what is to be otherwise.
    #[must_use]
    pub fn new(keys: KeySet, format: Format) -> Self {
        Self {
            name: String::new(),
            mode: Mode::Add,
            format,
            weight: 1,
            exactly_once: false,
            pace: Pace::Flood,
            keys,
            seed: 1,
            duration: DEFAULT_DURATION,
            warmup: DEFAULT_WARMUP,
            messages: None,
            pack: 1,
            gso: true,
            threads: 1,
            sockets: 1,
            timeout: Duration::from_secs(1),
            spin: false,
            hold_up: None,
        }
    }

    /// The same with so many messages a datagram, and with a name that says what is sent. If no number is given, a
    /// flood has as many as fit, and any other load has one.
    #[must_use]
    pub(crate) fn packed(mut self, pack: Option<usize>) -> Self {
        self.pack = match (pack, self.pace) {
            (Some(messages), _) => messages,
            (None, Pace::Flood) => self.full_datagram(),
            (None, _) => 1,
        };
        self.name = self.usual_name();
        self
    }

    /// As a person would call it: `counts at 20 k/s`.
    fn usual_name(&self) -> String {
        let what = match (self.format, self.mode) {
            (Format::Legacy, _) | (_, Mode::Hit { .. }) => self.mode.describe(),
            (Format::Compact, _) => format!("compact {}", self.mode.describe()),
        };
        let what = match self.weight {
            1 => what,
            weight => format!("{what} of weight {weight}"),
        };
        let what = match self.exactly_once {
            false => what,
            true => format!("{what}, exactly once"),
        };
        match self.pace {
            Pace::Flood => format!("{what}, flood"),
            Pace::Rate { per_s, .. } => format!("{what} at {}/s", thousands(per_s)),
            Pace::Outstanding { requests } => format!("{what}, {requests} outstanding"),
        }
    }

    /// Whether any message has an answer.
    #[must_use]
    pub fn asks(&self) -> bool {
        self.mode != Mode::Add || matches!(self.pace, Pace::Outstanding { .. })
    }

    /// Messages a datagram at most. At a rate all of them must fit, since that many are planned at a time.
    #[must_use]
    pub fn pack_max(&self) -> usize {
        let (shortest, longest) = self.keys.key_bytes_range();
        match (self.format, self.pace) {
            (Format::Legacy, _) => PACK_MAX,
            (Format::Compact, Pace::Rate { .. }) => self.form().full_datagram(longest),
            (Format::Compact, _) => self.form().full_datagram(shortest),
        }
    }

    pub(crate) fn form(&self) -> Form {
        Form {
            format: self.format,
            mode: self.mode,
            weight: self.weight,
            exactly_once: self.exactly_once,
        }
    }

    /// Messages of a datagram of about 1 400 bytes, or the most that may be in one.
    #[must_use]
    pub fn full_datagram(&self) -> usize {
        match self.format {
            Format::Legacy => self.form().full_datagram(0),
            Format::Compact => self.pack_max(),
        }
    }

    /// Bytes of the largest datagram; with GSO of all but a train's last.
    pub(crate) fn segment_bytes(&self) -> usize {
        let (_, longest) = self.keys.key_bytes_range();
        let messages = self.pack * self.form().message_bytes(longest);
        match self.format {
            Format::Legacy => messages,
            Format::Compact => (self.form().header_bytes() + messages).min(DATAGRAM_BYTES),
        }
    }

    /// Requests that may wait for an answer at once, over all sockets; 0 where nothing is asked.
    pub(super) fn waiting(&self) -> u64 {
        /// What a flood may have on its way, for each socket.
        const FLOOD: u64 = 1 << 16;
        let asked = match self.pace {
            _ if !self.asks() => return 0,
            Pace::Flood => FLOOD * self.sockets as u64,
            Pace::Outstanding { requests } => 2 * requests as u64,
            Pace::Rate { per_s, .. } => {
                (per_s * self.question_share() * self.timeout.as_secs_f64()) as u64
            }
        };
        // Room for a late burst, and for what has timed out but may be answered yet.
        let train = PACK_MAX.max(self.datagrams_per_train() * self.pack);
        2 * asked + (2 * train * self.sockets) as u64
    }

    /// Share of messages that have an answer.
    fn question_share(&self) -> f64 {
        self.mode.count_share() + self.mode.hit_share()
    }

    /// [`Self::waiting`] of one socket.
    pub(crate) fn waiting_per_socket(&self) -> usize {
        (self.waiting() as usize).div_ceil(self.sockets)
    }

    /// Datagrams that leave in one system call, at most.
    pub(crate) fn datagrams_per_train(&self) -> usize {
        if self.gso {
            (TRAIN_BYTES_MAX / self.segment_bytes()).clamp(1, SEGMENTS_MAX)
        } else {
            1
        }
    }

    /// For the record.
    #[must_use]
    pub fn describe(&self) -> record::Load {
        record::Load {
            count_share: self.mode.count_share(),
            hit_share: self.mode.hit_share(),
            limit: match self.mode {
                Mode::Hit { limit } => Some(limit),
                _ => None,
            },
            weight: self.weight,
            exactly_once: self.exactly_once,
            pace: self.pace,
            format: self.format.name().to_owned(),
            pack: self.pack,
            gso: self.gso,
            threads: self.threads,
            sockets: self.sockets,
            keys: self.keys.spec().to_string(),
            key_bytes: self.keys.key_bytes(),
            seed: self.seed,
            timeout_s: self.timeout.as_secs_f64(),
        }
    }
}
