//! The check of which loads are possible.

use std::time::Duration;

use rmbd_proto::SketchNumber;
use rmbd_proto::compact::{ONCE_RETRY_S_MAX, ONCE_WINDOW};
use rmbd_sketch::MAX_WEIGHT;
use thiserror::Error;

use super::format::Format;
use super::keys::KeySpec;
use super::load::{Load, SOCKETS_MAX, THREADS_MAX, WAITING_MAX};
use super::mode::Mode;
use crate::record::Pace;

/// The error for a load that is not possible. Nothing was sent.
#[derive(Debug, Clone, PartialEq, Error)]
pub enum LoadError {
    /// A number is out of its range.
    #[error("{option} {value} is not possible: use {least} to {most}")]
    Range {
        /// The option on the command line.
        option: &'static str,
        /// The given value.
        value: usize,
        /// The least possible value.
        least: usize,
        /// The largest possible value.
        most: usize,
    },
    /// The rate is no number above 0.
    #[error(
        "a rate of {0} messages a second is not possible: use a number above 0, such as 50000/s"
    )]
    Rate(f64),
    /// A time is zero or too long.
    #[error("{option} must be above 0 and at most a day")]
    Time {
        /// The option on the command line.
        option: &'static str,
    },
    /// More requests could wait for an answer than there is room for.
    #[error(
        "at this rate and --timeout up to {waiting} requests could wait for an answer, of which \
         {WAITING_MAX} are kept at most: use a shorter --timeout or a lower --rate"
    )]
    Waiting {
        /// Number of these requests.
        waiting: u64,
    },
    /// Hits are asked for in the legacy format.
    #[error("the legacy format has no hits: use --format compact")]
    HitsAreCompact,
    /// A window or a sketch is named in the legacy format.
    #[error("the legacy format has no windows and no sketches with names: use --format compact")]
    WindowsAreCompact,
    /// Hot keys are to change where none are hot, or where nothing tells when.
    #[error(
        "--hot-change moves the hot ranks of --keys zipf:S:N by the plan of --rate: use it with both"
    )]
    HotChange,
    /// A server has no such sketch, or no such window.
    #[error("{server}: {why}")]
    RefusedByServer {
        /// Address of the server.
        server: String,
        /// The reason in words.
        why: String,
    },
    /// The sockets cannot be spread over several servers evenly.
    #[error(
        "{sockets} sockets of {threads} threads do not spread over {servers} servers evenly: use a multiple of {} for --sockets",
        threads * servers
    )]
    SocketsOfServers {
        /// Number of sockets.
        sockets: usize,
        /// Number of threads.
        threads: usize,
        /// Number of servers.
        servers: usize,
    },
    /// Exactly once is asked for with several servers.
    #[error(
        "--exactly-once is for one server, whose start every request names: give --server once"
    )]
    OnceServer,
    /// A weight is given for legacy messages.
    #[error("the legacy format has no weights: use --format compact, or leave --weight out")]
    WeightsAreCompact,
    /// A weight is given where nothing is added.
    #[error(
        "counts have no weight: leave --weight out, or add too with --mode add, mix:R or hit:LIMIT"
    )]
    NothingToWeigh,
    /// Exactly once is asked for with something that excludes it.
    #[error("--exactly-once is for {what}: {instead}")]
    OnceIsFor {
        /// What exactly once is possible for.
        what: &'static str,
        /// What to do instead.
        instead: &'static str,
    },
    /// Exactly once is asked for with a longer time than nodes remember clients.
    #[error(
        "--exactly-once repeats for at most {ONCE_RETRY_S_MAX} s, as nodes may forget a client after that: use a shorter --timeout"
    )]
    OnceTimeout,
    /// Exactly once is asked for with more requests than a node tells apart.
    #[error(
        "--outstanding {requests} is up to {datagrams} datagrams for each of {sockets} sockets, and nodes tell {ONCE_WINDOW} of a client apart: use less, a larger --pack, or more --sockets"
    )]
    OnceWindow {
        /// Number of messages.
        requests: usize,
        /// Number of datagrams for each socket.
        datagrams: usize,
        /// Number of sockets.
        sockets: usize,
    },
    /// The weight is above the node's limit.
    #[error(
        "the node takes weights of at most {most}, not {weight}: use a smaller --weight, or start the node with --max-weight {weight}"
    )]
    WeightOfNode {
        /// The given weight.
        weight: u32,
        /// The largest weight that the node takes.
        most: u32,
    },
    /// The format cannot carry a key.
    #[error(
        "the {} format carries keys of at most {most} bytes, and one has {bytes}: open the keys for the format of the load",
        format.name()
    )]
    KeyTooLong {
        /// The format of the load.
        format: Format,
        /// Length of the longest key in bytes.
        bytes: usize,
        /// Length of the longest possible key in bytes.
        most: usize,
    },
    /// A closed loop has too few requests to keep every socket busy.
    #[error(
        "--outstanding {requests} is less than one for each of {sockets} sockets: use more, or fewer --sockets"
    )]
    Outstanding {
        /// Number of requests.
        requests: usize,
        /// Number of sockets.
        sockets: usize,
    },
}

const DAY: Duration = Duration::from_secs(24 * 3600);

impl Load {
    /// Checks the load as a whole.
    ///
    /// # Errors
    /// Fails with [`LoadError`].
    pub fn check(&self) -> Result<(), LoadError> {
        if self.format == Format::Legacy && self.mode.hit_share() > 0.0 {
            return Err(LoadError::HitsAreCompact);
        }
        if self.format == Format::Legacy && self.names_sketch_or_window() {
            return Err(LoadError::WindowsAreCompact);
        }
        self.check_hot_change()?;
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
            // This excludes NaN and infinity, too.
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
        in_range("--weight", self.weight as usize, 1, MAX_WEIGHT as usize)?;
        match (self.weight, self.format, self.mode) {
            (1, _, _) => Ok(()),
            (_, Format::Legacy, _) => Err(LoadError::WeightsAreCompact),
            (_, _, Mode::Count | Mode::CountIn { .. }) => Err(LoadError::NothingToWeigh),
            _ => Ok(()),
        }
    }

    /// Whether the load needs a sketch or a window that a server may lack.
    pub(crate) fn names_sketch_or_window(&self) -> bool {
        self.mode.window_ms().is_some() || self.sketch.number() != SketchNumber::DEFAULT
    }

    fn check_hot_change(&self) -> Result<(), LoadError> {
        let Some(every) = self.hot_change else {
            return Ok(());
        };
        above_zero("--hot-change", every)?;
        let is_at_a_rate = matches!(self.pace, Pace::Rate { .. });
        let is_zipf = matches!(self.keys.spec(), KeySpec::Zipf { .. });
        match is_at_a_rate && is_zipf {
            true => Ok(()),
            false => Err(LoadError::HotChange),
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

    /// Checks that the load spreads over this many servers evenly.
    ///
    /// # Errors
    /// Fails with [`LoadError::SocketsOfServers`] or [`LoadError::OnceServer`].
    pub(crate) fn check_servers(&self, servers: usize) -> Result<(), LoadError> {
        let (sockets, threads) = (self.sockets, self.threads);
        if servers > 1 && self.exactly_once {
            return Err(LoadError::OnceServer);
        }
        match servers > 1 && !sockets.is_multiple_of(threads * servers) {
            false => Ok(()),
            true => Err(LoadError::SocketsOfServers {
                sockets,
                threads,
                servers,
            }),
        }
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
