//! The limits of a configuration, as the engine applies them.

use tracing::warn;

use crate::config::{Amount, LimitConfig, LimitVerdict};
use crate::engine::limits::{self, Override, Rule};
use rmbd_store::Registry;

/// The rules of these limits. One whose sketch or window is not here yet is left out, and the log says so: after a
/// reload it may need a restart.
pub(super) fn rules(limits: &[LimitConfig], registry: &Registry) -> Vec<Rule> {
    let rules = limits.iter().filter_map(|limit| rule(limit, registry));
    rules.collect()
}

fn rule(limit: &LimitConfig, registry: &Registry) -> Option<Rule> {
    let Some(sketch) = registry.by_name(limit.sketch.as_str()) else {
        warn!(
            "the limit {} is not in force: its sketch {} comes with a restart",
            limit.name, limit.sketch
        );
        return None;
    };
    let replica = registry.replica(sketch);
    let of_all = limit.overrides.iter().flat_map(|other| &other.amounts);
    let missing = limit
        .amounts
        .iter()
        .chain(of_all)
        .find(|amount| amount.window_ms > 0 && replica.find_window(amount.window_ms).is_none());
    if let Some(missing) = missing {
        warn!(
            "the limit {} is not in force: the sketch {} keeps no window for {} ms before a restart",
            limit.name, limit.sketch, missing.window_ms
        );
        return None;
    }
    Some(Rule {
        name: limit.name.to_string().into(),
        sketch,
        keys: limit.keys.clone(),
        amounts: amounts(&limit.amounts),
        cost: limit.cost,
        takes: limit.verdict == LimitVerdict::Take,
        overrides: limit
            .overrides
            .iter()
            .map(|other| Override {
                keys: other.who.clone(),
                amounts: amounts(&other.amounts),
            })
            .collect(),
        exempt: limit.exempt.iter().cloned().collect(),
        is_shadow: limit.shadow,
    })
}

fn amounts(amounts: &[Amount]) -> Box<[limits::Amount]> {
    let amounts = amounts.iter().map(|amount| limits::Amount {
        limit: amount.count,
        window_ms: amount.window_ms,
    });
    amounts.collect()
}
