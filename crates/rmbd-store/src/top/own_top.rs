//! The list of our own slice, as others are told of it.

use std::cmp::Reverse;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use rmbd_proto::cluster::TopBound;
use rmbd_sketch::KeyHash;

use super::slice_top::{SliceTop, SliceTopKey};

/// What is certain of a key is told again when it has grown by 1 in this many, or when nothing is added any more.
const GROWN_SHARE: u64 = 64;

/// One list of what was counted here, as it is to be told.
#[derive(Debug, Clone)]
pub(super) struct Found {
    pub(super) span_ms: u64,
    /// Every key of which more was counted is among the keys.
    pub(super) above: u64,
    pub(super) keys: Vec<FoundKey>,
}

/// A key of one list.
#[derive(Debug, Clone)]
pub(super) struct FoundKey {
    pub(super) hash: KeyHash,
    pub(super) name: Option<Arc<[u8]>>,
    /// At least what was counted of it in our slice.
    pub(super) estimate: u64,
    /// At most what was.
    pub(super) certain: u64,
}

/// A key of all lists.
#[derive(Debug)]
struct Row {
    name: Option<Arc<[u8]>>,
    /// Its best place in a list.
    rank: usize,
    lists: u64,
    certain: u64,
    /// Its estimates, by the numbers of the lists.
    estimates: Vec<(usize, u64)>,
}

/// Tells other lists in the place of those before, which were made after so much `weight` was counted. Where there are
/// more keys than may be told, those with the largest estimates are, and what the lists are complete above is raised.
pub(super) fn tell(top: &mut SliceTop, weight: u64, found: &[Found]) {
    let is_at_rest = weight == top.weight();
    let mut bounds: Vec<TopBound> = (found.iter())
        .map(|list| TopBound {
            span_ms: list.span_ms,
            above: list.above,
        })
        .collect();
    let mut rows: Vec<(KeyHash, Row)> = rows(found).into_iter().collect();
    rows.sort_unstable_by_key(|(hash, row)| (row.rank, *hash));
    let most = told(&rows);
    for (_, row) in rows.drain(most..) {
        for (list, estimate) in row.estimates {
            bounds[list].above = bounds[list].above.max(estimate);
        }
    }
    let stay: HashSet<KeyHash> = rows.iter().map(|(hash, _)| *hash).collect();
    top.retain(|hash| stay.contains(&hash));
    for (hash, row) in rows {
        let before = top.key(hash);
        let told = before.map_or(0, |key| key.certain);
        let is_told =
            before.is_some() && !is_at_rest && row.certain < told + told / GROWN_SHARE + 1;
        // It was certain once, so it is.
        let certain = if is_told { told } else { row.certain.max(told) };
        let name = row.name.or_else(|| before.and_then(|key| key.name.clone()));
        top.put(SliceTopKey {
            hash,
            name,
            lists: row.lists,
            certain,
        });
    }
    top.set_bounds(weight, bounds);
}

fn rows(found: &[Found]) -> HashMap<KeyHash, Row> {
    let mut rows: HashMap<KeyHash, Row> = HashMap::new();
    for (number, list) in found.iter().enumerate() {
        let mut keys: Vec<&FoundKey> = list.keys.iter().collect();
        keys.sort_unstable_by_key(|key| (Reverse(key.estimate), key.hash));
        for (rank, key) in keys.into_iter().enumerate() {
            let row = rows.entry(key.hash).or_insert_with(|| Row {
                name: None,
                rank,
                lists: 0,
                certain: 0,
                estimates: Vec::new(),
            });
            if row.name.is_none() {
                row.name.clone_from(&key.name);
            }
            row.rank = row.rank.min(rank);
            row.lists |= 1 << number;
            row.certain = row.certain.max(key.certain);
            row.estimates.push((number, key.estimate));
        }
    }
    rows
}

/// The number of rows, from the first one on, that are few enough.
fn told(rows: &[(KeyHash, Row)]) -> usize {
    let mut names_bytes = 0;
    let is_too_much = |at: &usize| {
        let (_, row) = &rows[*at];
        names_bytes += row.name.as_ref().map_or(0, |name| name.len());
        !SliceTop::have_room(at + 1, names_bytes)
    };
    (0..rows.len()).find(is_too_much).unwrap_or(rows.len())
}
