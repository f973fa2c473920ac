//! A load: the messages of a phase, their pace and their sockets.

use std::time::Duration;

use rmbd_proto::SketchName;
use rmbd_proto::legacy::MESSAGE_BYTES;

use super::form::Form;
use super::format::{DATAGRAM_BYTES, Format};
use super::keys::{KeySet, change_stride};
use super::mode::{Mode, Reading};
use crate::output::thousands;
use crate::record::{self, Pace};

/// Largest UDP payload over IPv4 in bytes: 65 535 - 20 (IP) - 8 (UDP).
pub(crate) const TRAIN_BYTES_MAX: usize = 65_507;
/// Largest number of datagrams in one send of the kernel (`UDP_MAX_SEGMENTS`, 64 before Linux 6.9).
pub(crate) const SEGMENTS_MAX: usize = 64;
/// Number of messages in the largest legacy datagram.
pub(super) const PACK_MAX: usize = TRAIN_BYTES_MAX / MESSAGE_BYTES;
/// Largest number of sending threads. Each has its buffers, and some have a receiver.
pub(super) const THREADS_MAX: usize = 256;
/// Largest number of sockets. More than this need a higher `ulimit -n`.
pub(super) const SOCKETS_MAX: usize = 4096;
/// Largest number of requests that may wait for an answer at once, over all sockets. Each costs 33 bytes.
pub(super) const WAITING_MAX: usize = 1 << 23;

/// Default duration of a load.
pub(crate) const DEFAULT_DURATION: Duration = Duration::from_secs(10);
/// Default duration of the warm-up.
pub(crate) const DEFAULT_WARMUP: Duration = Duration::from_secs(1);

/// A load: what is sent, when, over which sockets, and for how long.
#[derive(Debug, Clone)]
pub struct Load {
    /// The name that people read: `adds, flood`.
    pub name: String,
    /// The kinds of messages.
    pub mode: Mode,
    /// The format of the messages.
    pub format: Format,
    /// Weight of each add and each hit: 1 to [`MAX_WEIGHT`](rmbd_sketch::MAX_WEIGHT); 1 in the legacy format.
    pub weight: u32,
    /// Whether requests name their client and sequence, are repeated until they are acknowledged, and count once. It
    /// is for adds of the compact format in a closed loop only.
    pub exactly_once: bool,
    /// The rule for the time at which the next message leaves.
    pub pace: Pace,
    /// The keys that are sent.
    pub keys: KeySet,
    /// Seed of keys, gaps and the order of adds and counts.
    pub seed: u64,
    /// Duration of the measured part.
    pub duration: Duration,
    /// Duration of the warm-up with the same load, which is in no figure.
    pub warmup: Duration,
    /// Number of messages after which the measured part ends even if its time is not over.
    pub messages: Option<u64>,
    /// Number of messages in a datagram, 1 to [`pack_max`](Self::pack_max). If the keys of compact messages vary in
    /// length, a datagram has as many as fit, which may be fewer.
    pub pack: usize,
    /// Whether many datagrams leave in one system call (`UDP_SEGMENT`).
    pub gso: bool,
    /// Number of sending threads.
    pub threads: usize,
    /// Number of sockets over all threads, at least one for each.
    pub sockets: usize,
    /// Time after which a request counts as unanswered, from when it was really sent.
    pub timeout: Duration,
    /// Whether senders spin until the next planned time instead of sleeping. That is precise, and each needs a CPU of
    /// its own.
    pub spin: bool,
    /// The sketch that is added to and counted in; another than `default` is compact only.
    pub sketch: SketchName,
    /// The reading of windows. `None` is smooth for hits, as those of clients are, and bound for counts.
    pub reading: Option<Reading>,
    /// Time after which the hot ranks of a Zipf stream go to other keys, again and again. It is for a load at a rate,
    /// whose plan tells how many messages this time has.
    pub hot_change: Option<Duration>,
    /// A single pause of all senders. It shows that response times are honest about a generator that is late.
    pub hold_up: Option<HoldUp>,
}

/// A pause of the senders that was not planned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HoldUp {
    /// The start of the pause, from the start of the measured part.
    pub after: Duration,
    /// The length of the pause.
    pub lasting: Duration,
}

impl Load {
    /// A load of adds of weight 1 of these keys, one in each datagram, as fast as one thread with one socket sends
    /// them, for 10 s after 1 s of warm-up. Change the fields that are to be different.
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
            sketch: SketchName::default(),
            reading: None,
            hot_change: None,
            hold_up: None,
        }
    }

    /// The same load with this many messages in a datagram, and with a name that tells what is sent. Without a number,
    /// a flood has as many messages as fit, and any other load has one.
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

    /// The usual name of the load: `counts at 20 k/s`.
    fn usual_name(&self) -> String {
        let what = match (self.format, self.mode) {
            (Format::Legacy, _) => self.mode.describe(),
            _ if self.mode.is_compact() => self.mode.describe(),
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

    /// Largest number of messages in a datagram. At a rate all of them must fit, since that many are planned at a
    /// time.
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
            sketch: self.sketch.number(),
            reading: self.reading(),
        }
    }

    /// The reading of windows.
    #[must_use]
    pub fn reading(&self) -> Reading {
        self.reading.unwrap_or_else(|| self.mode.usual_reading())
    }

    /// Number of messages of each thread between two changes of which keys are hot.
    pub(crate) fn messages_between_changes(&self) -> Option<u64> {
        match (self.hot_change, self.pace) {
            (Some(every), Pace::Rate { per_s, .. }) => {
                Some((per_s * every.as_secs_f64() / self.threads.max(1) as f64) as u64)
            }
            _ => None,
        }
    }

    /// Numbers of the keys that are sent most often, at most `count`. If the hot keys change, each time between two
    /// changes has its share.
    #[must_use]
    pub(crate) fn hottest(&self, count: usize) -> Vec<u64> {
        let Some(every) = self.hot_change.filter(|every| !every.is_zero()) else {
            return self.keys.hottest(count);
        };
        let time = self.warmup + self.duration;
        let changes = (time.as_secs_f64() / every.as_secs_f64()).ceil().max(1.0) as usize;
        let (changes, keys) = (changes.min(count), self.keys.distinct());
        let stride = change_stride(keys);
        let ranks = self.keys.hottest((count / changes.max(1)).max(1));
        let shifts = (0..changes as u64).map(|change| {
            // The product of two numbers of keys may not fit 64 bits.
            (u128::from(change) * u128::from(stride) % u128::from(keys)) as u64
        });
        shifts
            .flat_map(|shift| ranks.iter().map(move |rank| (rank + shift) % keys))
            .collect()
    }

    /// Number of messages in a datagram of about 1 400 bytes, or the largest possible number.
    #[must_use]
    pub fn full_datagram(&self) -> usize {
        match self.format {
            Format::Legacy => self.form().full_datagram(0),
            Format::Compact => self.pack_max(),
        }
    }

    /// Bytes of the largest datagram; with GSO, of all but a train's last one.
    pub(crate) fn segment_bytes(&self) -> usize {
        let (_, longest) = self.keys.key_bytes_range();
        let messages = self.pack * self.form().message_bytes(longest);
        match self.format {
            Format::Legacy => messages,
            Format::Compact => (self.form().header_bytes() + messages).min(DATAGRAM_BYTES),
        }
    }

    /// Number of requests that may wait for an answer at once, over all sockets; 0 if nothing is asked.
    pub(super) fn waiting(&self) -> u64 {
        /// Number of requests that a flood may have on its way, for each socket.
        const FLOOD: u64 = 1 << 16;
        let asked = match self.pace {
            _ if !self.asks() => return 0,
            Pace::Flood => FLOOD * self.sockets as u64,
            Pace::Outstanding { requests } => 2 * requests as u64,
            Pace::Rate { per_s, .. } => {
                (per_s * self.question_share() * self.timeout.as_secs_f64()) as u64
            }
        };
        // There is room for a late burst, and for requests that have timed out and may still be answered.
        let train = PACK_MAX.max(self.datagrams_per_train() * self.pack);
        2 * asked + (2 * train * self.sockets) as u64
    }

    /// Share of messages that have an answer.
    fn question_share(&self) -> f64 {
        self.mode.count_share() + self.mode.hit_share()
    }

    /// [`Self::waiting`] for one socket.
    pub(crate) fn waiting_per_socket(&self) -> usize {
        (self.waiting() as usize).div_ceil(self.sockets)
    }

    /// Largest number of datagrams that leave in one system call.
    pub(crate) fn datagrams_per_train(&self) -> usize {
        if self.gso {
            (TRAIN_BYTES_MAX / self.segment_bytes()).clamp(1, SEGMENTS_MAX)
        } else {
            1
        }
    }

    /// The description of the load for the record.
    #[must_use]
    pub fn describe(&self) -> record::Load {
        record::Load {
            count_share: self.mode.count_share(),
            hit_share: self.mode.hit_share(),
            limit: self.mode.limit(),
            window_ms: self.mode.window_ms(),
            takes: self.mode.takes(),
            bound: self
                .mode
                .window_ms()
                .map(|_| self.reading() == Reading::Bound),
            sketch: Some(self.sketch.to_string()),
            hot_change_s: self.hot_change.map(|every| every.as_secs_f64()),
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
