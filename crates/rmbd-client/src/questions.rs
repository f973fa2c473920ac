//! What may be asked of a node: each question with its answer, for both clients.
//!
//! A new question is the type of its answer, which says how it is made of what the node sends ([`FromAnswer`]), and a
//! method of each client.

use std::time::Duration;

#[cfg(feature = "tokio")]
use super::AsyncClient;
use super::{Client, ClientError, Info};
use rmbd_proto::SketchNumber;
use rmbd_proto::compact::{Answer, Operation};

/// The count of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Count {
    /// Never too low for what arrived, and is known at the node.
    pub estimate: u64,
    /// The node has no room for something that others counted: all together may have more.
    pub incomplete: bool,
}

/// A key after a hit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hit {
    /// How often the key was added, this hit included.
    pub estimate: u64,
    /// The estimate is not above the limit.
    pub allowed: bool,
    /// The node has no room for something that others counted: all together may have more.
    pub incomplete: bool,
}

/// A key's estimate, and how good it is. The certain lower bound is at most the likely one, that at most the likely
/// estimate, and that at most the estimate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// The upper bound.
    pub estimate: u64,
    /// The estimate less the median of the errors that the node sampled: too high about as often as too low.
    pub likely_estimate: u64,
    /// The estimate less the largest error that is likely. Of keys that were chosen without the sketch's seed, the
    /// truth is at least this for the share of the sketch's confidence: 98.2 % where it has 4 rows. Where the node
    /// has no sample of errors, it is the certain one.
    pub likely_lower: u64,
    /// The truth is at least this, with the sketch's confidence, whatever was added.
    pub certain_lower: u64,
    /// N, the total weight that the estimate rests on.
    pub total_weight: u64,
    /// The node has no room for something that others counted: all together may have more.
    pub incomplete: bool,
}

impl Client {
    /// How often a key was added: approximately, and never too low for what arrived.
    ///
    /// # Errors
    /// No answer, a refusal, or a key of more than 1 024 bytes. A count changes nothing.
    pub fn count(&mut self, key: impl AsRef<[u8]>) -> Result<Count, ClientError> {
        let key = key.as_ref();
        self.ask(Operation::Count { key })
    }

    /// [`Self::count`] of many keys, in their order.
    ///
    /// # Errors
    /// As [`Self::count`].
    pub fn count_many<K: AsRef<[u8]>>(&mut self, keys: &[K]) -> Result<Vec<Count>, ClientError> {
        self.ask_all(keys.len(), |at| Operation::Count {
            key: keys[at].as_ref(),
        })
    }

    /// Adds a weight to a key, then tells whether it was added at most `limit` times, over all time.
    /// A weight of 0 only looks.
    ///
    /// # Errors
    /// [`ClientError::fate`] tells whether the weight may have been added.
    pub fn hit(
        &mut self,
        key: impl AsRef<[u8]>,
        weight: u64,
        limit: u64,
    ) -> Result<Hit, ClientError> {
        self.ask(hit(key.as_ref(), weight, limit))
    }

    /// A key's estimate, likely and certain bounds of it, and N.
    ///
    /// # Errors
    /// As [`Self::count`].
    pub fn count_bounds(&mut self, key: impl AsRef<[u8]>) -> Result<Bounds, ClientError> {
        let key = key.as_ref();
        self.ask(Operation::Bounds { key })
    }

    /// What the server is.
    ///
    /// # Errors
    /// No answer, or a refusal.
    pub fn info(&mut self) -> Result<Info, ClientError> {
        self.ask(Operation::Info)
    }
}

#[cfg(feature = "tokio")]
impl AsyncClient {
    /// How often a key was added: approximately, and never too low for what arrived.
    ///
    /// # Errors
    /// No answer, a refusal, or a key of more than 1 024 bytes. A count changes nothing.
    pub async fn count(&self, key: impl AsRef<[u8]>) -> Result<Count, ClientError> {
        let key = key.as_ref();
        self.ask(Operation::Count { key }).await
    }

    /// [`Self::count`] of many keys, in their order.
    ///
    /// # Errors
    /// As [`Self::count`].
    pub async fn count_many<K: AsRef<[u8]>>(&self, keys: &[K]) -> Result<Vec<Count>, ClientError> {
        self.ask_all(keys.len(), |at| Operation::Count {
            key: keys[at].as_ref(),
        })
        .await
    }

    /// Adds a weight to a key, then tells whether it was added at most `limit` times, over all time.
    /// A weight of 0 only looks.
    ///
    /// # Errors
    /// [`ClientError::fate`] tells whether the weight may have been added.
    pub async fn hit(
        &self,
        key: impl AsRef<[u8]>,
        weight: u64,
        limit: u64,
    ) -> Result<Hit, ClientError> {
        self.ask(hit(key.as_ref(), weight, limit)).await
    }

    /// A key's estimate, likely and certain bounds of it, and N.
    ///
    /// # Errors
    /// As [`Self::count`].
    pub async fn count_bounds(&self, key: impl AsRef<[u8]>) -> Result<Bounds, ClientError> {
        let key = key.as_ref();
        self.ask(Operation::Bounds { key }).await
    }

    /// What the server is.
    ///
    /// # Errors
    /// No answer, or a refusal.
    pub async fn info(&self) -> Result<Info, ClientError> {
        self.ask(Operation::Info).await
    }
}

/// An operation, and how it is asked.
#[derive(Debug, Clone, Copy)]
pub(super) struct Question<'a> {
    pub(super) operation: Operation<'a>,
    pub(super) sketch: SketchNumber,
    /// Its weight counts exactly once.
    pub(super) once: bool,
    /// For how long its caller waits, where that is not the client's timeout.
    pub(super) deadline: Option<Duration>,
}

/// Of the sketch that every node has.
impl<'a> From<Operation<'a>> for Question<'a> {
    fn from(operation: Operation<'a>) -> Self {
        Self {
            operation,
            sketch: SketchNumber::DEFAULT,
            once: true,
            deadline: None,
        }
    }
}

/// A hit over all time.
pub(super) fn hit(key: &[u8], weight: u64, limit: u64) -> Operation<'_> {
    Operation::Hit {
        key,
        weight,
        limit,
        window_ms: 0,
    }
}

/// An answer that outlives its datagram.
pub(super) trait FromAnswer: Sized + Send + 'static {
    /// From what the node has sent, where that is of this kind; an add is answered by nothing. The core lets no answer
    /// through that is not of the kind that was asked for.
    fn from_answer(answer: Option<Answer<'_>>) -> Option<Self>;
}

/// Of an add.
impl FromAnswer for () {
    fn from_answer(_: Option<Answer<'_>>) -> Option<Self> {
        Some(())
    }
}

impl FromAnswer for Count {
    fn from_answer(answer: Option<Answer<'_>>) -> Option<Self> {
        match answer? {
            Answer::Count {
                estimate,
                incomplete,
            } => Some(Self {
                estimate,
                incomplete,
            }),
            _ => None,
        }
    }
}

impl FromAnswer for Hit {
    fn from_answer(answer: Option<Answer<'_>>) -> Option<Self> {
        match answer? {
            Answer::Hit {
                estimate,
                incomplete,
                within,
            } => Some(Self {
                estimate,
                allowed: within,
                incomplete,
            }),
            _ => None,
        }
    }
}

impl FromAnswer for Bounds {
    fn from_answer(answer: Option<Answer<'_>>) -> Option<Self> {
        match answer? {
            Answer::Bounds(bounds) => Some(Self {
                estimate: bounds.estimate,
                likely_estimate: bounds.likely_estimate,
                likely_lower: bounds.likely_lower,
                certain_lower: bounds.certain_lower,
                total_weight: bounds.total_weight,
                incomplete: bounds.incomplete,
            }),
            _ => None,
        }
    }
}

/// The weight that is forgiven.
pub(super) struct Credit(pub(super) u64);

impl FromAnswer for Credit {
    fn from_answer(answer: Option<Answer<'_>>) -> Option<Self> {
        match answer? {
            Answer::Pardon { credit } => Some(Self(credit)),
            _ => None,
        }
    }
}

/// Tasks may move from thread to thread while they wait for answers.
#[cfg(all(test, feature = "tokio"))]
const _: fn(&AsyncClient, &[String]) = |client, keys| {
    fn is_send(_: impl Send) {}
    is_send(client.count(""));
    is_send(client.count_many(keys));
    is_send(client.hit("", 1, 1));
};
