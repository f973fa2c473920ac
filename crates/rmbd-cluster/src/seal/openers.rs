//! The receiving ends of all channels, and what strangers may cost.
//!
//! The checks that cost least come first: version, number, and only then the cipher. A datagram
//! of a known channel costs one pass of the cipher, genuine or not. One of an unknown channel costs a key
//! derivation and a pass for each key of the ring, so these are budgeted; while a flood eats the budget,
//! known channels go on and new ones wait. Only a datagram that opened enters its channel.
//!
//! The owner of the socket can do better than that: [`Openers::known`] says which channels are known, and which of
//! these somebody else sends on, too, so that each kind has a queue of its own.

use std::collections::BTreeMap;
use std::time::Duration;

use aws_lc_rs::aead::{Aad, LessSafeKey};

use super::contest::Contest;
use super::replay::{Stale, Window};
use super::{Channel, HEADER_BYTES, Header, KeyRing, TAG_BYTES, VERSION, nonce};
use rmbd_pace::{Rate, TokenBucket};

/// How long a channel must have been silent before another may take its place. Members that live speak
/// every round, many times in this.
pub const IDLE: Duration = Duration::from_secs(60);

/// Limits of [`Openers`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OpenersOptions {
    /// Channels that are remembered, at least 1; each takes about 1.5 kB once it is used.
    pub max_channels: usize,
    /// Keys that are tried on datagrams of unknown channels in a second; at least one datagram is. A second's worth is
    /// saved up.
    pub unknown_keys_per_s: u32,
}

impl Default for OpenersOptions {
    /// A thousand members that have restarted three times within [`IDLE`]; strangers cost less than 2 %
    /// of one processor (0.8 us for a key, `benches/seal.rs`). Where there is one key, as many datagrams of strangers
    /// are tried as a node reads in a flood: so a newcomer's chance there is as good as it can be.
    fn default() -> Self {
        Self {
            max_channels: 4096,
            unknown_keys_per_s: 20_000,
        }
    }
}

/// Opens what comes in, on all channels.
#[derive(Debug)]
pub struct Openers {
    keys: KeyRing,
    unknown_keys_per_s: u32,
    max_channels: usize,
    known: BTreeMap<Channel, Known>,
    unknown: TokenBucket,
    changes: u64,
    /// Where datagrams of unknown channels are opened: a failed try wipes its output, and the next key
    /// needs the datagram as it came.
    scratch: Vec<u8>,
}

/// A channel that has sent something authentic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KnownChannel {
    /// The channel.
    pub channel: Channel,
    /// When something authentic came on it last.
    pub last_use: Duration,
    /// So much was refused on it lately that somebody else must be sending, who has seen what its owner sends.
    pub is_contested: bool,
}

/// A datagram that opened: authentic, and for the first time.
#[derive(Debug, PartialEq, Eq)]
pub struct Opened<'d> {
    /// The channel that it came on.
    pub channel: Channel,
    /// Its number on the channel, from 1 on.
    pub number: u64,
    /// The index of the key that its sender seals with, in the ring: an old key must stay while this is its index.
    pub key_index: usize,
    /// The payload that was sealed.
    pub payload: &'d [u8],
}

/// The reason for which a datagram was not opened. No channel, window or key has changed; its bytes may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum OpenError {
    /// Too short for a header and a tag.
    #[error("shorter than a header and a tag: no datagram of a cluster")]
    Short,
    /// Another version (or kind) of the format.
    #[error("another version of the format: update the older one of the two nodes")]
    Version,
    /// No key opens it: another cluster's, damaged, or made up.
    #[error("no key opens it: give all nodes the same key file, or it is damaged or forged")]
    Forged,
    /// The number was there before.
    #[error("came before: doubled by the network, or replayed")]
    Replay,
    /// So late that nobody knows whether it came before.
    #[error("older than the replay window")]
    TooOld,
    /// Authentic, but there is no room for its channel.
    #[error("as many channels as are allowed have been used within a minute: raise the limit")]
    TooManyChannels,
    /// It is of an unknown channel, while too many of those came.
    #[error("too many datagrams of unknown channels a second: this one was not tried")]
    Budget,
}

impl OpenError {
    /// All reasons; each stands at its [`Self::index`].
    pub const ALL: [Self; 7] = [
        Self::Short,
        Self::Version,
        Self::Forged,
        Self::Replay,
        Self::TooOld,
        Self::TooManyChannels,
        Self::Budget,
    ];

    /// A label in `snake_case`, the same for ever.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Short => "short",
            Self::Version => "version",
            Self::Forged => "forged",
            Self::Replay => "replay",
            Self::TooOld => "too_old",
            Self::TooManyChannels => "too_many_channels",
            Self::Budget => "budget",
        }
    }

    /// Position in [`Self::ALL`], for arrays of counters.
    #[must_use]
    pub const fn index(self) -> usize {
        match self {
            Self::Short => 0,
            Self::Version => 1,
            Self::Forged => 2,
            Self::Replay => 3,
            Self::TooOld => 4,
            Self::TooManyChannels => 5,
            Self::Budget => 6,
        }
    }
}

impl Openers {
    /// No channel is known yet.
    #[must_use]
    pub fn new(keys: KeyRing, options: OpenersOptions) -> Self {
        let unknown = unknown_rate(&keys, options.unknown_keys_per_s);
        Self {
            keys,
            unknown_keys_per_s: options.unknown_keys_per_s,
            max_channels: options.max_channels.max(1),
            known: BTreeMap::new(),
            unknown: TokenBucket::new(unknown, Duration::ZERO),
            changes: 0,
            scratch: Vec::new(),
        }
    }

    /// Opens with these keys from now on. Channels of keys that are gone are forgotten, and not known again; all others
    /// go on, and no number of them is taken twice.
    pub fn set_keys(&mut self, now: Duration, keys: KeyRing) {
        let places: Vec<_> = (0..self.keys.len())
            .map(|index| self.keys.position_in(&keys, index))
            .collect();
        self.known.retain(|_, known| {
            let place = places.get(known.key_index).copied().flatten();
            known.key_index = place.unwrap_or(known.key_index);
            place.is_some()
        });
        self.unknown = TokenBucket::new(unknown_rate(&keys, self.unknown_keys_per_s), now);
        self.keys = keys;
        self.changes += 1;
    }

    /// Opens a datagram in place, and takes each number of a channel once. Nothing is allocated for a
    /// known channel. `now` is the time since any fixed moment.
    ///
    /// # Errors
    /// [`OpenError`]; the datagram's bytes may then be overwritten.
    pub fn open<'d>(
        &mut self,
        now: Duration,
        datagram: &'d mut [u8],
    ) -> Result<Opened<'d>, OpenError> {
        let mut sealed = Sealed::parse(datagram)?;
        let key_index = match self.known.get_mut(&sealed.header.channel) {
            Some(known) => match known.open(now, &mut sealed) {
                Ok(key_index) => key_index,
                Err(refused) => {
                    self.changes += u64::from(known.contest.refused(now));
                    return Err(refused);
                }
            },
            None => self.open_unknown(now, &mut sealed)?,
        };
        Ok(Opened {
            channel: sealed.header.channel,
            number: sealed.header.number,
            key_index,
            payload: sealed.payload,
        })
    }

    /// Number of channels that are remembered.
    #[must_use]
    pub fn channels(&self) -> usize {
        self.known.len()
    }

    /// The channels that are remembered.
    pub fn known(&self, now: Duration) -> impl Iterator<Item = KnownChannel> {
        self.known
            .iter()
            .map(move |(&channel, known)| KnownChannel {
                channel,
                last_use: known.last_use,
                is_contested: known.contest.is_contested(now),
            })
    }

    /// Grows whenever a channel becomes known, or contested.
    #[must_use]
    pub fn changes(&self) -> u64 {
        self.changes
    }

    fn open_unknown(&mut self, now: Duration, sealed: &mut Sealed) -> Result<usize, OpenError> {
        let mut window = Window::new();
        window.check(sealed.header.number)?;
        if !self.unknown.take(now) {
            return Err(OpenError::Budget);
        }
        let (key_index, key) = self.try_keys(sealed).ok_or(OpenError::Forged)?;
        self.make_room(now)?;
        window.mark(sealed.header.number);
        let known = Known {
            key,
            key_index,
            window,
            last_use: now,
            contest: Contest::default(),
        };
        self.known.insert(sealed.header.channel, known);
        self.changes += 1;
        Ok(key_index)
    }

    fn try_keys(&mut self, sealed: &mut Sealed) -> Option<(usize, LessSafeKey)> {
        let bytes = sealed.payload.len();
        if self.scratch.len() < bytes {
            self.scratch.resize(bytes, 0);
        }
        let plain = &mut self.scratch[..bytes];
        for index in 0..self.keys.len() {
            let key = self.keys.channel_key(index, sealed.header.channel);
            if sealed.open_into(&key, plain) {
                sealed.payload.copy_from_slice(plain);
                return Some((index, key));
            }
        }
        None
    }

    /// Drops the channel that has been silent for longest, where there are too many and it was for
    /// [`IDLE`] at least. Only authentic datagrams get here.
    fn make_room(&mut self, now: Duration) -> Result<(), OpenError> {
        if self.known.len() < self.max_channels {
            return Ok(());
        }
        let longest = self.known.iter().min_by_key(|(_, known)| known.last_use);
        match longest {
            Some((&channel, known)) if now.saturating_sub(known.last_use) >= IDLE => {
                self.known.remove(&channel);
                Ok(())
            }
            _ => Err(OpenError::TooManyChannels),
        }
    }

    /// All state that datagrams can change, but the budget.
    #[cfg(test)]
    pub(super) fn snapshot(&self) -> Vec<(Channel, usize, Window, Duration)> {
        let state = |(&channel, known): (&Channel, &Known)| {
            let window = known.window.clone();
            (channel, known.key_index, window, known.last_use)
        };
        self.known.iter().map(state).collect()
    }
}

/// How many datagrams of unknown channels are tried, each with all keys.
fn unknown_rate(keys: &KeyRing, unknown_keys_per_s: u32) -> Rate {
    // At most 8 keys.
    let per_s = (unknown_keys_per_s / keys.len() as u32).max(1);
    Rate {
        burst: per_s.into(),
        per_s: per_s.into(),
    }
}

/// A channel that has sent something authentic.
#[derive(Debug)]
struct Known {
    key: LessSafeKey,
    key_index: usize,
    window: Window,
    last_use: Duration,
    contest: Contest,
}

impl Known {
    /// The window is asked before the cipher, which costs more, and moves after it (RFC 4303, 3.4.3).
    fn open(&mut self, now: Duration, sealed: &mut Sealed) -> Result<usize, OpenError> {
        self.window.check(sealed.header.number)?;
        if !sealed.open_in_place(&self.key) {
            return Err(OpenError::Forged);
        }
        self.window.mark(sealed.header.number);
        self.last_use = now;
        Ok(self.key_index)
    }
}

impl From<Stale> for OpenError {
    fn from(stale: Stale) -> Self {
        match stale {
            Stale::Replay => Self::Replay,
            Stale::TooOld => Self::TooOld,
        }
    }
}

/// The parts of a datagram of our version.
struct Sealed<'d> {
    header: Header,
    aad: &'d [u8; HEADER_BYTES],
    payload: &'d mut [u8],
    tag: &'d [u8; TAG_BYTES],
}

impl<'d> Sealed<'d> {
    fn parse(datagram: &'d mut [u8]) -> Result<Self, OpenError> {
        // First of all, because another version may have another length of header.
        let version = *datagram.first().ok_or(OpenError::Short)?;
        if !accepts(VERSION, version) {
            return Err(OpenError::Version);
        }
        let (aad, rest) = datagram
            .split_first_chunk_mut::<HEADER_BYTES>()
            .ok_or(OpenError::Short)?;
        let (payload, tag) = rest
            .split_last_chunk_mut::<TAG_BYTES>()
            .ok_or(OpenError::Short)?;
        let header = Header::read(aad);
        if header.kind != 0 {
            return Err(OpenError::Version);
        }
        Ok(Self {
            header,
            aad,
            payload,
            tag,
        })
    }

    /// Whether it is authentic; the payload is decrypted then, and overwritten otherwise.
    fn open_in_place(&mut self, key: &LessSafeKey) -> bool {
        let (nonce, aad) = (nonce(self.header.number), Aad::from(self.aad));
        key.open_in_place_separate_tag(nonce, aad, self.tag, self.payload)
            .is_ok()
    }

    /// Whether it is authentic; `plain`, as long as the payload, is overwritten.
    fn open_into(&self, key: &LessSafeKey, plain: &mut [u8]) -> bool {
        let (nonce, aad) = (nonce(self.header.number), Aad::from(self.aad));
        key.open_separate_gather(nonce, aad, self.payload, self.tag, plain)
            .is_ok()
    }
}

/// Whether a node of version `ours` accepts a datagram of version `theirs`: the same or the one before,
/// so that nodes can be updated one after the other.
pub const fn accepts(ours: u8, theirs: u8) -> bool {
    theirs != 0 && (theirs == ours || theirs as u16 + 1 == ours as u16)
}
