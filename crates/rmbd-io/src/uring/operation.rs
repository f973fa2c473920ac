//! The kinds of operations that a ring does for a loop.

use super::super::replies::BURSTS;

/// The purpose of an operation. The kernel keeps 64 bits with each operation and returns them with each of its
/// completions (`user_data`, io_uring(7)). The kind is in the highest byte. The rest is a number, for kinds of which
/// several operations may be under way.
///
/// A new kind needs one variant with its tag here, and one arm in `Loop::complete`. Numbers use few of their 56 bits.
/// If the numbers of a kind can mean something else before the last completion has come, a generation must stand above
/// them; no kind needs one today: a connection's number is given again only when its operations have ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Operation {
    /// Receives trains, with one completion for each, until the kernel ends it.
    Receive,
    /// Sends one burst of replies.
    Send {
        /// The burst's index, below [`BURSTS`].
        burst: usize,
    },
    /// Waits for the stop signal.
    AwaitStop,
    /// Ends all other operations.
    CancelAll,
    /// Accepts connections, with one completion for each, until the kernel ends it.
    Accept,
    /// Receives from one connection, with a completion for each buffer, until the kernel ends it.
    StreamReceive {
        /// The connection's number.
        connection: u32,
    },
    /// Ends the receiving from one connection.
    CancelReceive {
        /// The connection's number.
        connection: u32,
    },
    /// Sends replies on one connection.
    StreamSend {
        /// The connection's number.
        connection: u32,
    },
    /// Waits for a tick.
    Tick,
    /// Waits for a question whether the loop comes round.
    AwaitQuestion,
}

const TAG_SHIFT: u32 = 56;
const NUMBER_MASK: u64 = (1 << TAG_SHIFT) - 1;

/// No tag is zero, since an operation without `user_data` has zero.
const RECEIVE: u64 = 1;
const SEND: u64 = 2;
const AWAIT_STOP: u64 = 3;
const CANCEL_ALL: u64 = 4;
const ACCEPT: u64 = 5;
const STREAM_RECEIVE: u64 = 6;
const CANCEL_RECEIVE: u64 = 7;
const STREAM_SEND: u64 = 8;
const TICK: u64 = 9;
const AWAIT_QUESTION: u64 = 10;

impl Operation {
    pub(super) fn to_user_data(self) -> u64 {
        let (tag, number) = match self {
            Self::Receive => (RECEIVE, 0),
            Self::Send { burst } => (SEND, burst as u64),
            Self::AwaitStop => (AWAIT_STOP, 0),
            Self::CancelAll => (CANCEL_ALL, 0),
            Self::Accept => (ACCEPT, 0),
            Self::StreamReceive { connection } => (STREAM_RECEIVE, connection.into()),
            Self::CancelReceive { connection } => (CANCEL_RECEIVE, connection.into()),
            Self::StreamSend { connection } => (STREAM_SEND, connection.into()),
            Self::Tick => (TICK, 0),
            Self::AwaitQuestion => (AWAIT_QUESTION, 0),
        };
        tag << TAG_SHIFT | number
    }

    /// The operation with this `user_data`; `None` if there is no such operation.
    pub(super) fn from_user_data(user_data: u64) -> Option<Self> {
        let (tag, number) = (user_data >> TAG_SHIFT, user_data & NUMBER_MASK);
        let connection = u32::try_from(number).ok();
        match (tag, number) {
            (RECEIVE, 0) => Some(Self::Receive),
            (SEND, burst) if burst < BURSTS as u64 => Some(Self::Send {
                burst: burst as usize,
            }),
            (AWAIT_STOP, 0) => Some(Self::AwaitStop),
            (CANCEL_ALL, 0) => Some(Self::CancelAll),
            (ACCEPT, 0) => Some(Self::Accept),
            (STREAM_RECEIVE, _) => connection.map(|connection| Self::StreamReceive { connection }),
            (CANCEL_RECEIVE, _) => connection.map(|connection| Self::CancelReceive { connection }),
            (STREAM_SEND, _) => connection.map(|connection| Self::StreamSend { connection }),
            (TICK, 0) => Some(Self::Tick),
            (AWAIT_QUESTION, 0) => Some(Self::AwaitQuestion),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    /// All that are tried.
    const CONNECTIONS: [u32; 5] = [0, 1, BURSTS as u32 - 1, BURSTS as u32, u32::MAX];

    fn all() -> Vec<Operation> {
        let sends = (0..BURSTS).map(|burst| Operation::Send { burst });
        let others = [
            Operation::Receive,
            Operation::AwaitStop,
            Operation::CancelAll,
            Operation::Accept,
            Operation::Tick,
            Operation::AwaitQuestion,
        ];
        let of_connections = CONNECTIONS.into_iter().flat_map(|connection| {
            [
                Operation::StreamReceive { connection },
                Operation::CancelReceive { connection },
                Operation::StreamSend { connection },
            ]
        });
        sends.chain(others).chain(of_connections).collect()
    }

    #[test]
    fn every_operation_survives_the_round_trip_and_is_unlike_the_others() {
        let mut seen = HashSet::new();
        for operation in all() {
            let user_data = operation.to_user_data();
            assert_eq!(Operation::from_user_data(user_data), Some(operation));
            assert!(seen.insert(user_data), "{operation:?} is not alone");
        }
    }

    #[test]
    fn what_no_operation_has_is_none() {
        let known: HashSet<u64> = all().iter().map(|it| it.to_user_data()).collect();
        let mut numbers = CONNECTIONS.map(u64::from).to_vec();
        numbers.extend([1 << 32, NUMBER_MASK]);
        for tag in 0..=255 {
            for &number in &numbers {
                let user_data = tag << TAG_SHIFT | number;
                let found = Operation::from_user_data(user_data);
                assert_eq!(
                    found.is_some(),
                    known.contains(&user_data),
                    "{user_data:#x}"
                );
            }
        }
    }
}
