//! The lists of the largest keys: in numbers, as a status shows them, and with names, as `/top` does.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::{JsonKey, hex};
use crate::engine::{Engine, Refusal, TopAnswer};
use rmbd_proto::SketchName;
use rmbd_store::{NamedSketch, Replica, SketchIndex, ToldKey, ToldLists, TopBoard};

/// The lists of a sketch's largest keys, in numbers. Only `/top` tells keys.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct TopStatus {
    /// Number of keys that a list has at most; 0 is no lists.
    pub most: u64,
    /// Bytes of what the lists need.
    pub memory_bytes: u64,
    /// Seconds since the lists were made; `None` where there are none.
    pub age_s: Option<f64>,
    /// The list of all time first, then those of the windows.
    pub lists: Vec<TopListStatus>,
}

/// A list in numbers.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct TopListStatus {
    /// Milliseconds of its window; 0 is all time.
    pub window_ms: u64,
    /// Number of keys.
    pub keys: u64,
    /// Number of keys of which the names are known.
    pub named: u64,
    /// Every key of which more was counted is in the list; `None` if nothing is known.
    pub complete_above: Option<u64>,
    /// Sum of what was certainly added to the keys of the list.
    pub certain: u64,
    /// N: sum of all weights that were counted (in the window) when the list was made.
    pub total_weight: u64,
}

/// A question for the largest keys.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TopQuestion {
    /// The sketch; `None` is `default`.
    pub sketch: Option<SketchName>,
    /// Milliseconds of the window; `None` is all time.
    pub window_ms: Option<u64>,
    /// How many keys are wanted at most; `None` is the whole list.
    pub most: Option<usize>,
    /// Whether the parts of each node are wanted, too.
    pub detail: bool,
}

/// Why there is no list.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum TopError {
    /// There is no sketch of this name.
    #[error("there is no sketch {0}: /status names those that there are")]
    UnknownSketch(SketchName),
    /// The sketch keeps no such window as a whole.
    #[error(
        "the sketch {sketch} keeps no window of {window_ms} ms, of which there would be a list: there is one of all \
         time{kept}"
    )]
    UnknownWindow {
        /// The sketch.
        sketch: String,
        /// Milliseconds of the window that was asked for.
        window_ms: u64,
        /// The windows that have a list, in words.
        kept: String,
    },
    /// The sketch lists none of its keys.
    #[error(
        "the sketch {sketch} lists no keys: start the node with --top 100, or give the sketch top=100 (with --hash \
         xxh3, or at most 4 rows)"
    )]
    NoList {
        /// The sketch.
        sketch: String,
    },
}

/// The largest keys of a sketch: the JSON of `/top`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct TopDocument {
    /// Name of the sketch.
    pub sketch: String,
    /// Milliseconds of the window; 0 is all time.
    pub window_ms: u64,
    /// Seconds since the list was made; `None` if none is made yet.
    pub age_s: Option<f64>,
    /// Every key of which more was counted is in `keys`; `None` if nothing is known.
    pub complete_above: Option<u64>,
    /// N: sum of all weights that were counted (in the window) when the list was made.
    pub total_weight: u64,
    /// Number of keys that the node lists; `keys` may be less.
    pub listed: u64,
    /// Whether counts of other nodes are missing here for want of room.
    pub incomplete: bool,
    /// Whether names are left out, since whoever asked may not see them.
    pub redacted: bool,
    /// The keys, those with the largest counts first.
    pub keys: Vec<TopKeyDocument>,
}

/// A key of a list.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct TopKeyDocument {
    /// Its position, from 1.
    pub rank: u64,
    /// The key, as a member `key`, or `key_base64` if it is no UTF-8; neither where its name is not known or not told.
    #[serde(flatten)]
    pub key: Option<JsonKey<'static>>,
    /// Its count: never below the truth for what has arrived.
    pub count: u64,
    /// What certainly was added to it: never above the truth.
    pub certain: u64,
    /// The parts of what is certain, if they were asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by_node: Option<Vec<TopPart>>,
}

/// One node's part of what is certain of a key.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TopPart {
    /// Id of the node, 16 hexadecimal digits.
    pub node: String,
    /// The part.
    pub certain: u64,
}

impl TopStatus {
    pub(crate) fn of(
        board: &TopBoard,
        sketch: SketchIndex,
        replica: &Replica,
        now: Duration,
    ) -> Self {
        let told = board.lists(sketch);
        let spans = [0].into_iter();
        let spans = spans.chain(replica.window_plans().map(|plan| plan.span_ms()));
        let list = |window_ms| TopListStatus::of(&told, replica, window_ms);
        Self {
            most: replica.top() as u64,
            memory_bytes: replica.top_memory_bytes(),
            age_s: age_s(&told, now),
            lists: spans.filter_map(list).collect(),
        }
    }
}

impl TopListStatus {
    fn of(told: &ToldLists, replica: &Replica, window_ms: u64) -> Option<Self> {
        let answer = TopAnswer::find(told, replica, window_ms).ok()?;
        answer.made?;
        let keys = &answer.list.keys;
        let certain = keys.iter().map(|key| key.certain);
        Some(Self {
            window_ms,
            keys: keys.len() as u64,
            named: keys.iter().filter(|key| key.name.is_some()).count() as u64,
            complete_above: known(answer.complete_above(usize::MAX)),
            certain: certain.fold(0, u64::saturating_add),
            total_weight: answer.list.total_weight,
        })
    }
}

impl TopQuestion {
    /// The answer of an engine, to somebody who may see names or not.
    pub(crate) fn answer(
        &self,
        engine: &Engine,
        shows_keys: bool,
        now: Duration,
    ) -> Result<TopDocument, TopError> {
        let (index, named) = self.find(engine)?;
        let told = engine.top().lists(index);
        let window_ms = self.window_ms.unwrap_or_default();
        let answer = TopAnswer::find(&told, &named.replica, window_ms);
        let answer = answer.map_err(|refusal| refused(refusal, named, window_ms))?;
        let most = self.most.unwrap_or(usize::MAX);
        let keys = answer.first(most).iter().zip(1..);
        Ok(TopDocument {
            sketch: named.name.to_string(),
            window_ms,
            age_s: answer.made.map(|_| answer.age(now).as_secs_f64()),
            complete_above: known(answer.complete_above(most)),
            total_weight: answer.list.total_weight,
            listed: answer.list.keys.len() as u64,
            incomplete: answer.list.is_incomplete,
            redacted: !shows_keys,
            keys: keys
                .map(|(key, rank)| self.document(key, rank, shows_keys))
                .collect(),
        })
    }

    fn find<'e>(&self, engine: &'e Engine) -> Result<(SketchIndex, &'e NamedSketch), TopError> {
        let registry = engine.registry();
        let index = match &self.sketch {
            None => SketchIndex::DEFAULT,
            Some(name) => registry
                .by_name(name.as_str())
                .ok_or_else(|| TopError::UnknownSketch(name.clone()))?,
        };
        Ok((index, registry.named(index)))
    }

    fn document(&self, key: &ToldKey, rank: u64, shows_keys: bool) -> TopKeyDocument {
        let name = key.name.as_ref().filter(|_| shows_keys);
        let parts = key.by_node.iter().map(|&(node, certain)| TopPart {
            node: hex(node),
            certain,
        });
        TopKeyDocument {
            rank,
            key: name.map(|name| JsonKey::from(name.to_vec())),
            count: key.estimate,
            certain: key.certain,
            by_node: self.detail.then(|| parts.collect()),
        }
    }
}

fn refused(refusal: Refusal, named: &NamedSketch, window_ms: u64) -> TopError {
    let sketch = named.name.to_string();
    match refusal {
        Refusal::UnknownWindow => {
            let kept = named.replica.window_plans().map(|plan| plan.span_ms());
            let kept: String = kept.map(|span_ms| format!(", {span_ms} ms")).collect();
            TopError::UnknownWindow {
                sketch,
                window_ms,
                kept,
            }
        }
        _ => TopError::NoList { sketch },
    }
}

fn age_s(told: &ToldLists, now: Duration) -> Option<f64> {
    let is_made = !told.lists.is_empty();
    is_made.then(|| now.saturating_sub(told.made).as_secs_f64())
}

fn known(complete_above: u64) -> Option<u64> {
    (complete_above < u64::MAX).then_some(complete_above)
}
