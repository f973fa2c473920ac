//! The tables `[[limit]]` of a configuration file.

use std::collections::BTreeSet;

use super::fields::{Fields, Value, parse};
use super::place::{FileError, Place, Places};
use crate::config::SketchConfig;
use crate::config::limits::{
    AMOUNTS_MAX, Amount, EXEMPTIONS_MAX, KeySet, LIMITS_MAX, LimitConfig, LimitOverride,
    OVERRIDES_MAX, cost,
};
use crate::config::span;

pub(in crate::config) const KEYS: [&str; 9] = [
    "name",
    "sketch",
    "keys",
    "amounts",
    "cost",
    "verdict",
    "overrides",
    "exempt",
    "shadow",
];
pub(in crate::config) const OVERRIDE_KEYS: [&str; 3] = ["key", "network", "amounts"];

/// A limit of a file, before its sketch is known.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct LimitWish {
    place: Place,
    limit: LimitConfig,
    /// The times of all its amounts, and of those of its overrides.
    times: Vec<(Place, u64)>,
}

impl LimitWish {
    /// The limit, if its sketch has windows for it.
    pub(crate) fn fit(&self, sketches: &[SketchConfig]) -> Result<LimitConfig, FileError> {
        for (place, window_ms) in &self.times {
            let checked = self.limit.check(*window_ms, sketches);
            checked.map_err(|misfit| FileError::at(place, misfit))?;
        }
        Ok(self.limit.clone())
    }
}

/// Reads the limits. They are few, and have different names.
pub(super) fn read(places: &Places<'_>, tables: &[Value<'_>]) -> Result<Vec<LimitWish>, FileError> {
    check_number(places, tables, LIMITS_MAX, "limits of a node")?;
    let mut limits: Vec<LimitWish> = Vec::with_capacity(tables.len());
    for table in tables {
        let wish = limit(places, table)?;
        let same = |other: &&LimitWish| other.limit.name == wish.limit.name;
        if let Some(other) = limits.iter().find(same) {
            let problem = format!(
                "there are two limits of the name {}: give one of them another name; the other is at {}",
                wish.limit.name, other.place
            );
            return Err(FileError::at(&wish.place, problem));
        }
        limits.push(wish);
    }
    Ok(limits)
}

fn check_number(
    places: &Places<'_>,
    list: &[Value<'_>],
    most: usize,
    what: &str,
) -> Result<(), FileError> {
    match list.get(most) {
        None => Ok(()),
        Some(beyond) => {
            let problem = format!(
                "{} are above the limit of {most} {what}: leave some out",
                list.len()
            );
            Err(places.error(&beyond.span(), problem))
        }
    }
}

fn limit(places: &Places<'_>, table: &Value<'_>) -> Result<LimitWish, FileError> {
    let fields = Fields::of(places, table, "a limit", &KEYS)?;
    let mut times = Vec::new();
    let name = fields.required("name", "\"api\"")?;
    let name = parse(places, "name", name, str::parse)?;
    let amounts = amounts(&fields, &mut times)?;
    let overrides = fields.list("overrides")?.unwrap_or_default();
    check_number(places, overrides, OVERRIDES_MAX, "overrides of a limit")?;
    let overrides = overrides
        .iter()
        .map(|table| of_some(places, table, &mut times))
        .collect::<Result<_, _>>()?;
    let exempt = fields.list("exempt")?.unwrap_or_default();
    check_number(places, exempt, EXEMPTIONS_MAX, "exemptions of a limit")?;
    let exempt = exempt
        .iter()
        .map(|who| parse(places, "exempt", who, str::parse))
        .collect::<Result<_, _>>()?;
    let limit = LimitConfig {
        name,
        sketch: fields.parsed("sketch")?.unwrap_or_default(),
        keys: fields.parsed("keys")?.unwrap_or_default(),
        amounts,
        cost: match fields.value("cost") {
            Some(value) => parse(places, "cost", value, cost)?,
            None => 1,
        },
        verdict: fields.parsed("verdict")?.unwrap_or_default(),
        overrides,
        exempt,
        shadow: fields.flag("shadow")?.unwrap_or_default(),
    };
    Ok(LimitWish {
        place: fields.place(),
        limit,
        times,
    })
}

/// Other amounts for some keys.
fn of_some(
    places: &Places<'_>,
    table: &Value<'_>,
    times: &mut Vec<(Place, u64)>,
) -> Result<LimitOverride, FileError> {
    let fields = Fields::of(places, table, "an override", &OVERRIDE_KEYS)?;
    let who = match (fields.value("key"), fields.value("network")) {
        (Some(key), None) => parse(places, "key", key, str::parse).map(KeySet::Pattern),
        (None, Some(network)) => parse(places, "network", network, KeySet::network),
        _ => {
            let problem =
                "an override has either a key = \"premium-*\" or a network = \"10.0.0.0/8\"";
            Err(places.error(&table.span(), problem))
        }
    };
    Ok(LimitOverride {
        who: who?,
        amounts: amounts(&fields, times)?,
    })
}

/// The amounts of a limit or an override: some, and no two for the same time.
fn amounts(
    fields: &Fields<'_, '_>,
    times: &mut Vec<(Place, u64)>,
) -> Result<Vec<Amount>, FileError> {
    let value = fields.required("amounts", "[\"100/60s\"]")?;
    let list = fields.list("amounts")?.unwrap_or_default();
    if list.is_empty() {
        let problem = "`amounts` is empty: write amounts = [\"100/60s\"]";
        return Err(fields.places.error(&value.span(), problem));
    }
    check_number(fields.places, list, AMOUNTS_MAX, "amounts of a limit")?;
    let mut seen = BTreeSet::new();
    let amount = |value: &Value<'_>| {
        let amount: Amount = parse(fields.places, "amounts", value, str::parse)?;
        if !seen.insert(amount.window_ms) {
            let time = span::text(amount.window_ms);
            let problem = format!("`amounts` has {time} twice: leave out one of them");
            return Err(fields.places.error(&value.span(), problem));
        }
        times.push((fields.places.of(&value.span()), amount.window_ms));
        Ok(amount)
    };
    list.iter().map(amount).collect()
}
