//! What a phase sent, found by running its scripts again.

use std::thread;

use crate::plan::{Load, Script};

/// Runs the scripts of a load again, as far as `scripted[part]` messages of each, each on a thread of its own. Each is
/// given to `count`, whose numbers (`places` of them) are added up.
pub(super) fn replay(
    load: &Load,
    scripted: &[u64],
    places: usize,
    count: impl Fn(Script, u64) -> Vec<u64> + Sync,
) -> Vec<u64> {
    let count = &count;
    let parts: Vec<Vec<u64>> = thread::scope(|scope| {
        let handles: Vec<_> = scripted
            .iter()
            .enumerate()
            .map(|(part, &messages)| scope.spawn(move || count(Script::new(load, part), messages)))
            .collect();
        let parts = handles.into_iter().map(|handle| handle.join());
        parts.map(|part| part.unwrap_or_default()).collect()
    });
    let mut sums = vec![0; places];
    for part in parts {
        for (sum, times) in sums.iter_mut().zip(part) {
            *sum += times;
        }
    }
    sums
}
