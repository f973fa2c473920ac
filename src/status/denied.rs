//! The keys that limits with names deny, as `/denied` tells them.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::JsonKey;
use crate::engine::limits::NamedLimit;
use crate::engine::{DeniedAnswer, Engine};

/// A question for the keys that are denied most often.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DeniedQuestion {
    /// The name of the limit; `None` is all limits.
    pub limit: Option<String>,
    /// How many keys of each limit are wanted at most; `None` is all that are told.
    pub most: Option<usize>,
}

/// Why there is no list.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum DeniedError {
    /// There is no limit of this name.
    #[error("there is no limit {0:?} here: /status names those that there are")]
    UnknownLimit(String),
}

/// The keys that limits denied most often of late on one node: the JSON of `/denied`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct DeniedDocument {
    /// Whether names are left out, since whoever asked may not see them.
    pub redacted: bool,
    /// The limits that were asked for, in the order of their names.
    pub limits: Vec<DeniedLimitDocument>,
}

/// The keys that a limit denied most often of late.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct DeniedLimitDocument {
    /// Name of the limit.
    pub limit: String,
    /// Whether the limit is a shadow: its denied hits were admitted all the same.
    pub shadow_mode: bool,
    /// Seconds that all numbers cover, 300 to 600 where the node is up for so long.
    pub covered_s: f64,
    /// Number of denied hits of all keys in this time.
    pub denied: u64,
    /// Every key that was denied more often is in `keys`.
    pub complete_above: u64,
    /// Number of keys that the node knows; `keys` may be less.
    pub listed: u64,
    /// The keys, those that were certainly denied most often first; at most 100.
    pub keys: Vec<DeniedKeyDocument>,
}

/// A denied key.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeniedKeyDocument {
    /// Its position, from 1.
    pub rank: u64,
    /// The key, as a member `key`, or `key_base64` if it is no UTF-8; neither where its name is not known or not told.
    #[serde(flatten)]
    pub key: Option<JsonKey<'static>>,
    /// It was denied at least as often.
    pub at_least: u64,
    /// It was denied at most as often.
    pub at_most: u64,
}

impl DeniedQuestion {
    /// The answer of an engine, to somebody who may see names or not.
    pub(crate) fn answer(
        &self,
        engine: &Engine,
        shows_keys: bool,
        now: Duration,
    ) -> Result<DeniedDocument, DeniedError> {
        let (limits, most) = (engine.limits(), self.most.unwrap_or(usize::MAX));
        let asked = limits.iter().filter(|limit| match &self.limit {
            None => true,
            Some(name) => **name == *limit.rule.name,
        });
        let told: Vec<_> = asked
            .filter_map(|limit| {
                let answer = engine.denied(limit.rule.name.as_bytes(), most, now)?;
                Some(DeniedLimitDocument::of(limit, answer, shows_keys))
            })
            .collect();
        if told.is_empty() {
            return self.without_limits(shows_keys);
        }
        Ok(DeniedDocument {
            redacted: !shows_keys,
            limits: told,
        })
    }

    /// The answer of a node without limits.
    pub(crate) fn without_limits(&self, shows_keys: bool) -> Result<DeniedDocument, DeniedError> {
        match &self.limit {
            Some(name) => Err(DeniedError::UnknownLimit(name.clone())),
            None => Ok(DeniedDocument {
                redacted: !shows_keys,
                limits: Vec::new(),
            }),
        }
    }
}

impl DeniedLimitDocument {
    fn of(limit: &NamedLimit, DeniedAnswer { list, covered }: DeniedAnswer, shows: bool) -> Self {
        let keys = list.keys.into_iter().zip(1..);
        let keys = keys.map(|(key, rank)| DeniedKeyDocument {
            rank,
            key: key
                .name
                .filter(|_| shows)
                .map(|name| name.into_vec().into()),
            at_least: key.at_least,
            at_most: key.at_most,
        });
        Self {
            limit: limit.rule.name.to_string(),
            shadow_mode: limit.rule.is_shadow,
            covered_s: covered.as_secs_f64(),
            denied: list.denied,
            complete_above: list.complete_above,
            listed: list.listed as u64,
            keys: keys.collect(),
        }
    }
}
