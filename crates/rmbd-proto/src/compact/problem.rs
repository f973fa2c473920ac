//! Why a request was stopped.

use thiserror::Error;

/// Why a request was stopped, whole or at an operation. Operations before that hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Error)]
pub enum Problem {
    /// Too short for an id; nobody is told.
    #[error("a request of less than 6 bytes: nothing was applied")]
    Short,
    /// A version that the node does not know.
    #[error(
        "the node does not know this version of the format: nothing was applied, use version 1"
    )]
    UnknownVersion,
    /// A flag that the node does not know.
    #[error("the node does not know one of the flags: nothing was applied, leave it out")]
    UnknownFlags,
    /// The header is cut off, or has a number that is none.
    #[error("the header is cut off or malformed: nothing was applied")]
    Header,
    /// A sketch that the node does not have.
    #[error(
        "the node does not have this sketch: nothing that is for it was applied, use one that `sketches` lists, or \
         `default`"
    )]
    UnknownSketch,
    /// Once, for another boot of the node, of which it does not know what it had applied.
    #[error(
        "the node was started again: nothing was applied now, and whether it had been before is \
         uncertain; ask for its new boot"
    )]
    WrongBoot,
    /// Once, from a new client, and the table of clients is full of live ones.
    #[error(
        "the node's table of exactly-once clients is full: nothing was applied, try again in some \
         minutes or without exactly-once, or let the node take fewer clients"
    )]
    OnceTableFull,
    /// Once, with a sequence that fell out of the client's window.
    #[error(
        "the sequence is too old: nothing was applied now, and whether it had been before is \
         uncertain; keep less requests under way"
    )]
    SequenceTooOld,
    /// An operation that the node does not know, or a flag of one.
    #[error(
        "the node does not know this operation, or a flag of it: it and those after it were not applied"
    )]
    UnknownOperation,
    /// The datagram ends within an operation.
    #[error("the operation is cut off: it was not applied")]
    CutOff,
    /// A varint of more than 64 bits, or not in its shortest form.
    #[error(
        "a varint of more than 64 bits or not in its shortest form: the operation and those after it \
         were not applied"
    )]
    Varint,
    /// A key above [`KEY_BYTES_MAX`](super::KEY_BYTES_MAX).
    #[error(
        "a key of more than 1024 bytes: the operation and those after it were not applied, send a \
         hash of such keys"
    )]
    KeyTooLong,
    /// A weight above the node's limit.
    #[error(
        "a weight above the node's limit: the operation and those after it were not applied, split \
         the weight (`info` tells the limit)"
    )]
    WeightTooLarge,
    /// A window that no kept one covers.
    #[error(
        "the node keeps no window of which this is a part: the operation and those after it were not applied, use a \
         multiple of a kept window's step up to its span (`sketches` tells which it keeps), or 0 for all time"
    )]
    UnknownWindow,
    /// The answer would make the reply too long.
    #[error(
        "the reply would be longer than 1400 bytes or 3 times the request: the operation and those \
         after it were not applied, pad the request or ask less at once"
    )]
    ReplyTooLarge,
    /// Once, from a client that the node does not know, without a good cookie. The reply has one.
    #[error(
        "the node does not know this client yet, nor that it receives at its address: nothing was applied, \
         send the same request with the cookie of this reply"
    )]
    AddressUnproven,
    /// Once, from a new client, and its network has as many clients as one may.
    #[error(
        "the client's network (IPv4 /24, IPv6 /48) has as many exactly-once clients at the node as one \
         may while others want places: nothing was applied, use one client for many adds, try again in some \
         minutes, or go without exactly-once"
    )]
    OnceNetworkFull,
    /// More weight came than the node can take over at once.
    #[error(
        "more weight is coming than the node can take over: nothing of the request was applied, send the same \
         one again in a moment"
    )]
    Busy,
    /// All weights of a request together are above what it may have.
    #[error(
        "all weights of the request together are above 2^29: nothing of it was applied, send several requests"
    )]
    RequestTooHeavy,
    /// The name of a limit that the node does not have.
    #[error(
        "the node has no limit of this name: the operation and those after it were not applied, use a name that the \
         node's configuration has"
    )]
    UnknownLimit,
    /// An operation with no limit, or more than [`LIMIT_PARTS_MAX`](super::LIMIT_PARTS_MAX).
    #[error(
        "an operation with no limit, or more than 8: it and those after it were not applied, split it"
    )]
    LimitParts,
    /// A pardon from somebody whom the node does not trust.
    #[error(
        "the node takes a pardon only from its own machine, or from a network of --trust: the operation and those \
         after it were not applied"
    )]
    NotTrusted,
    /// Once, with more than one operation that takes.
    #[error(
        "more than one operation that takes in an exactly-once request, for which one verdict is remembered: the \
         operation and those after it were not applied, send several requests"
    )]
    TakesOnce,
    /// A question for the largest keys of a sketch that lists none.
    #[error(
        "the sketch lists no keys: the operation and those after it were not applied, give the sketch a `top` in the \
         node's configuration (xxh3, or fnv with at most 4 rows)"
    )]
    NoTopList,
}

impl Problem {
    /// All problems; each stands at its [`Self::index`].
    pub const ALL: [Self; 24] = [
        Self::Short,
        Self::UnknownVersion,
        Self::UnknownFlags,
        Self::Header,
        Self::UnknownSketch,
        Self::WrongBoot,
        Self::OnceTableFull,
        Self::SequenceTooOld,
        Self::UnknownOperation,
        Self::CutOff,
        Self::Varint,
        Self::KeyTooLong,
        Self::WeightTooLarge,
        Self::UnknownWindow,
        Self::ReplyTooLarge,
        Self::AddressUnproven,
        Self::OnceNetworkFull,
        Self::Busy,
        Self::RequestTooHeavy,
        Self::UnknownLimit,
        Self::LimitParts,
        Self::NotTrusted,
        Self::TakesOnce,
        Self::NoTopList,
    ];

    /// Position in [`Self::ALL`], for arrays of counters.
    #[must_use]
    pub const fn index(self) -> usize {
        self as usize
    }

    /// The code of a reply; 1 to 24, the same for ever.
    #[must_use]
    pub const fn code(self) -> u8 {
        self as u8 + 1
    }

    /// The problem with this code; `None` for 0 and for what is not known here.
    #[must_use]
    pub fn from_code(code: u8) -> Option<Self> {
        let index = usize::from(code).checked_sub(1)?;
        Self::ALL.get(index).copied()
    }

    /// A label in `snake_case`, the same for ever.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Short => "short",
            Self::UnknownVersion => "unknown_version",
            Self::UnknownFlags => "unknown_flags",
            Self::Header => "header",
            Self::UnknownSketch => "unknown_sketch",
            Self::WrongBoot => "wrong_boot",
            Self::OnceTableFull => "once_table_full",
            Self::SequenceTooOld => "sequence_too_old",
            Self::UnknownOperation => "unknown_operation",
            Self::CutOff => "cut_off",
            Self::Varint => "varint",
            Self::KeyTooLong => "key_too_long",
            Self::WeightTooLarge => "weight_too_large",
            Self::UnknownWindow => "unknown_window",
            Self::ReplyTooLarge => "reply_too_large",
            Self::AddressUnproven => "address_unproven",
            Self::OnceNetworkFull => "once_network_full",
            Self::Busy => "busy",
            Self::RequestTooHeavy => "request_too_heavy",
            Self::UnknownLimit => "unknown_limit",
            Self::LimitParts => "limit_parts",
            Self::NotTrusted => "not_trusted_to_pardon",
            Self::TakesOnce => "takes_once",
            Self::NoTopList => "no_top_list",
        }
    }

    /// Whether the bytes were not understood; otherwise they were, and refused.
    #[must_use]
    pub const fn is_malformed(self) -> bool {
        matches!(
            self,
            Self::Short
                | Self::UnknownVersion
                | Self::UnknownFlags
                | Self::Header
                | Self::UnknownOperation
                | Self::CutOff
                | Self::Varint
                | Self::KeyTooLong
                | Self::LimitParts
        )
    }
}
