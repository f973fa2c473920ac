//! What a phase of a run sends, and how.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use rmbd::sketch::MAX_WEIGHT;
use rmbd::wire::compact::{ONCE_RETRY_S_MAX, ONCE_WINDOW};
use rmbd::wire::legacy::MESSAGE_BYTES;
use thiserror::Error;

use crate::plan::format::{DATAGRAM_BYTES, Form, Format};
use crate::plan::keys::KeySet;
use crate::record::{self, Pace};

/// The largest UDP payload over IPv4: 65 535 - 20 (IP) - 8 (UDP).
pub(crate) const TRAIN_BYTES_MAX: usize = 65_507;
/// The kernel's limit of datagrams in one send (`UDP_MAX_SEGMENTS`, 64 before Linux 6.9).
pub(crate) const SEGMENTS_MAX: usize = 64;
/// Messages in the largest legacy datagram.
pub const PACK_MAX: usize = TRAIN_BYTES_MAX / MESSAGE_BYTES;
/// Sending threads at most; each has its buffers, and some its receiver.
pub const THREADS_MAX: usize = 256;
/// Sockets at most; more than this need `ulimit -n` raised.
pub const SOCKETS_MAX: usize = 4096;
/// Requests that may wait for an answer at once, over all sockets. Each costs 33 bytes.
pub const WAITING_MAX: usize = 1 << 23;

/// The largest weight: what nodes take unless they are told otherwise (`--max-weight`).
pub const WEIGHT_MAX: u32 = MAX_WEIGHT;

/// A load: what is sent, when, over what, and for how long.
#[derive(Debug, Clone)]
pub struct Load {
    /// What a person calls it: `adds, flood`.
    pub name: String,
    /// What is asked for.
    pub mode: Mode,
    /// How it is written.
    pub format: Format,
    /// Of each add and each hit: 1 to [`WEIGHT_MAX`]; 1 in the legacy format.
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

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Mode {
    /// Adds only.
    Add,
    /// Counts only.
    Count,
    /// Both, at random: this share are counts. Above 0 and below 1.
    Mix(f64),
    /// Hits: add, and say whether that is within a limit of all time. Compact only.
    Hit {
        /// The largest estimate that is within it.
        limit: u64,
    },
}

/// Limit of hits if nothing is said.
pub const DEFAULT_LIMIT: u64 = 100;

impl Mode {
    /// Share of counts: 0 to 1.
    #[must_use]
    pub fn count_share(self) -> f64 {
        match self {
            Self::Add | Self::Hit { .. } => 0.0,
            Self::Count => 1.0,
            Self::Mix(share) => share,
        }
    }

    /// Share of hits: 0 or 1.
    #[must_use]
    pub fn hit_share(self) -> f64 {
        match self {
            Self::Hit { .. } => 1.0,
            _ => 0.0,
        }
    }

    /// `adds`, `counts`, both, or `hits`.
    #[must_use]
    pub fn describe(self) -> String {
        match self {
            Self::Add => "adds".to_owned(),
            Self::Count => "counts".to_owned(),
            Self::Mix(share) => format!("adds and {:.1} % counts", share * 100.0),
            Self::Hit { .. } => "hits".to_owned(),
        }
    }
}

/// A text that is no mode.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error(
    "not a mode: use add, count, mix:R with the share R of counts, above 0 and below 1, such as mix:0.1, or hit:LIMIT, such as hit:100"
)]
pub struct UnknownMode;

impl FromStr for Mode {
    type Err = UnknownMode;

    fn from_str(text: &str) -> Result<Self, UnknownMode> {
        match text {
            "add" => Ok(Self::Add),
            "count" => Ok(Self::Count),
            "hit" => Ok(Self::Hit {
                limit: DEFAULT_LIMIT,
            }),
            _ => {
                if let Some(limit) = text.strip_prefix("hit:") {
                    let limit = limit.parse().map_err(|_| UnknownMode)?;
                    return Ok(Self::Hit { limit });
                }
                let share = text.strip_prefix("mix:").ok_or(UnknownMode)?;
                let share: f64 = share.parse().map_err(|_| UnknownMode)?;
                // Excludes NaN too.
                let inside = share > 0.0 && share < 1.0;
                inside.then_some(Self::Mix(share)).ok_or(UnknownMode)
            }
        }
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Add => f.write_str("add"),
            Self::Count => f.write_str("count"),
            Self::Mix(share) => write!(f, "mix:{share}"),
            Self::Hit { limit } => write!(f, "hit:{limit}"),
        }
    }
}

/// A load that cannot be. Nothing was sent.
#[derive(Debug, Clone, PartialEq, Error)]
pub enum LoadError {
    /// A number out of its range.
    #[error("{option} {value} is not possible: use {least} to {most}")]
    Range {
        /// As on the command line.
        option: &'static str,
        /// What was given.
        value: usize,
        /// The least.
        least: usize,
        /// The most.
        most: usize,
    },
    /// A rate that is none.
    #[error(
        "a rate of {0} messages a second is not possible: use a number above 0, such as 50000/s"
    )]
    Rate(f64),
    /// No time, or too much.
    #[error("{option} must be above 0 and at most a day")]
    Time {
        /// As on the command line.
        option: &'static str,
    },
    /// More unanswered requests than there is room for.
    #[error(
        "at this rate and --timeout up to {waiting} requests could wait for an answer, of which \
         {WAITING_MAX} are kept at most: use a shorter --timeout or a lower --rate"
    )]
    Waiting {
        /// How many.
        waiting: u64,
    },
    /// Hits as legacy messages.
    #[error("the legacy format has no hits: use --format compact")]
    HitsAreCompact,
    /// A weight in legacy messages.
    #[error("the legacy format has no weights: use --format compact, or leave --weight out")]
    WeightsAreCompact,
    /// A weight of nothing.
    #[error(
        "counts have no weight: leave --weight out, or add too with --mode add, mix:R or hit:LIMIT"
    )]
    NothingToWeigh,
    /// Exactly once, and something that cannot be.
    #[error("--exactly-once is for {what}: {instead}")]
    OnceIsFor {
        /// What it is for.
        what: &'static str,
        /// What to do.
        instead: &'static str,
    },
    /// Exactly once, for longer than a node remembers.
    #[error(
        "--exactly-once repeats for at most {ONCE_RETRY_S_MAX} s, as nodes may forget a client after that: use a shorter --timeout"
    )]
    OnceTimeout,
    /// Exactly once, with more requests than a node tells apart.
    #[error(
        "--outstanding {requests} is up to {datagrams} datagrams for each of {sockets} sockets, and nodes tell {ONCE_WINDOW} of a client apart: use less, a larger --pack, or more --sockets"
    )]
    OnceWindow {
        /// Messages.
        requests: usize,
        /// In so many datagrams a socket.
        datagrams: usize,
        /// Sockets.
        sockets: usize,
    },
    /// More than the node takes.
    #[error(
        "the node takes weights of at most {most}, not {weight}: use a smaller --weight, or start the node with --max-weight {weight}"
    )]
    WeightOfNode {
        /// What was given.
        weight: u32,
        /// The most that the node takes.
        most: u32,
    },
    /// A key that the format cannot carry.
    #[error(
        "the {} format carries keys of at most {most} bytes, and one has {bytes}: open the keys for the format of the load",
        format.name()
    )]
    KeyTooLong {
        /// Of the load.
        format: Format,
        /// Bytes of the longest key.
        bytes: usize,
        /// Bytes of the longest that it carries.
        most: usize,
    },
    /// A closed loop that cannot keep every thread busy.
    #[error(
        "--outstanding {requests} is less than one for each of {sockets} sockets: use more, or fewer --sockets"
    )]
    Outstanding {
        /// Requests.
        requests: usize,
        /// Sockets.
        sockets: usize,
    },
}

const DAY: Duration = Duration::from_secs(24 * 3600);

impl Load {
    /// Checks it as a whole.
    ///
    /// # Errors
    /// [`LoadError`].
    pub fn check(&self) -> Result<(), LoadError> {
        if self.format == Format::Legacy && self.mode.hit_share() > 0.0 {
            return Err(LoadError::HitsAreCompact);
        }
        self.check_weight()?;
        self.check_keys()?;
        in_range("--pack", self.pack, 1, self.pack_max())?;
        in_range("--threads", self.threads, 1, THREADS_MAX)?;
        in_range("--sockets", self.sockets, self.threads, SOCKETS_MAX)?;
        above_zero("--duration", self.duration)?;
        above_zero("--timeout", self.timeout)?;
        if self.warmup > DAY {
            return Err(LoadError::Time { option: "--warmup" });
        }
        match self.pace {
            // Excludes NaN and infinity too.
            Pace::Rate { per_s, .. } if !(per_s > 0.0 && per_s <= 1e12) => {
                return Err(LoadError::Rate(per_s));
            }
            Pace::Outstanding { requests } if requests < self.sockets => {
                let sockets = self.sockets;
                return Err(LoadError::Outstanding { requests, sockets });
            }
            _ => {}
        }
        self.check_once()?;
        let waiting = self.waiting();
        if waiting > WAITING_MAX as u64 {
            return Err(LoadError::Waiting { waiting });
        }
        Ok(())
    }

    fn check_weight(&self) -> Result<(), LoadError> {
        in_range("--weight", self.weight as usize, 1, WEIGHT_MAX as usize)?;
        match (self.weight, self.format, self.mode) {
            (1, _, _) => Ok(()),
            (_, Format::Legacy, _) => Err(LoadError::WeightsAreCompact),
            (_, _, Mode::Count) => Err(LoadError::NothingToWeigh),
            _ => Ok(()),
        }
    }

    fn check_once(&self) -> Result<(), LoadError> {
        if !self.exactly_once {
            return Ok(());
        }
        let is_for = |what, instead| Err(LoadError::OnceIsFor { what, instead });
        if self.format != Format::Compact {
            return is_for(
                "compact messages",
                "use --format compact, the legacy format cannot say which add came again",
            );
        }
        if self.mode != Mode::Add {
            return is_for("adds", "use --mode add");
        }
        let Pace::Outstanding { requests } = self.pace else {
            return is_for(
                "the closed loop",
                "use --outstanding K, since a flood and a rate do not wait for acknowledgements",
            );
        };
        if self.timeout.as_secs_f64() > ONCE_RETRY_S_MAX as f64 {
            return Err(LoadError::OnceTimeout);
        }
        let sockets = self.sockets;
        let datagrams = requests.div_ceil(sockets).div_ceil(self.pack);
        if datagrams > ONCE_WINDOW as usize {
            return Err(LoadError::OnceWindow {
                requests,
                datagrams,
                sockets,
            });
        }
        Ok(())
    }

    fn check_keys(&self) -> Result<(), LoadError> {
        let (format, (_, bytes)) = (self.format, self.keys.key_bytes_range());
        let most = format.key_bytes_max();
        if bytes > most {
            return Err(LoadError::KeyTooLong {
                format,
                bytes,
                most,
            });
        }
        Ok(())
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
    fn waiting(&self) -> u64 {
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

fn in_range(
    option: &'static str,
    value: usize,
    least: usize,
    most: usize,
) -> Result<(), LoadError> {
    if (least..=most).contains(&value) {
        return Ok(());
    }
    Err(LoadError::Range {
        option,
        value,
        least,
        most,
    })
}

fn above_zero(option: &'static str, time: Duration) -> Result<(), LoadError> {
    if time.is_zero() || time > DAY {
        return Err(LoadError::Time { option });
    }
    Ok(())
}
