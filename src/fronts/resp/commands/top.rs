//! `TOPK.*`: the largest keys of a sketch that lists them.

use super::{Call, Outcome, Refused, Then, check_key, is, wrong_arity};
use crate::engine::Refusal;
use crate::shared::Asks;
use rmbd_proto::resp::{Command, integer};
use rmbd_store::SketchIndex;

const NO_KEY: &str = "TopK: key does not exist";
/// The largest increment, as in Redis.
const INCREMENT_MAX: i64 = 100_000;
/// The blanks are those of Redis.
const WRONG_INCREMENT: &str = "TopK: increment must be an integer greater or equal to 0                            \
     and smaller or equal to 100,000";

impl Call<'_> {
    /// The sketch of this name, if it lists its largest keys.
    fn listing(&self, name: &[u8]) -> Result<SketchIndex, Refused> {
        let sketch = self.sketch(name, NO_KEY)?;
        match self.port.sketch(sketch).replica.top() {
            0 => Err(NO_KEY.into()),
            _ => Ok(sketch),
        }
    }

    /// Adds to keys; nothing is ever pushed out of a list by that.
    fn add_all<'w>(
        &mut self,
        sketch: SketchIndex,
        items: impl ExactSizeIterator<Item = (&'w [u8], u64)> + Clone,
    ) -> Outcome {
        self.provide(sketch, items.clone().map(|(_, weight)| weight).sum())?;
        let mut reply = self.reply();
        reply.array(items.len());
        (0..items.len()).for_each(|_| reply.null());
        for (item, weight) in items {
            self.add(sketch, item, weight);
        }
        Ok(Then::More)
    }
}

/// `TOPK.ADD key item [item ...]`.
pub(super) fn add(call: &mut Call<'_>, command: Command<'_>) -> Outcome {
    let sketch = call.listing(command.word(1))?;
    let items = command.iter().skip(2);
    items.clone().try_for_each(check_key)?;
    call.add_all(sketch, items.map(|item| (item, 1)))
}

/// `TOPK.INCRBY key item increment [item increment ...]`.
pub(super) fn increase(call: &mut Call<'_>, command: Command<'_>) -> Outcome {
    if !command.len().is_multiple_of(2) {
        return Err(wrong_arity("topk.incrby"));
    }
    let sketch = call.listing(command.word(1))?;
    let most = i64::try_from(call.weight_max()).unwrap_or(i64::MAX);
    let pairs = (command.len() - 2) / 2;
    for pair in 0..pairs {
        check_key(command.word(2 + 2 * pair))?;
        integer(command.word(3 + 2 * pair))
            .filter(|increment| (0..=INCREMENT_MAX.min(most)).contains(increment))
            .ok_or(WRONG_INCREMENT)?;
    }
    let item = |pair: usize| {
        let increment = integer(command.word(3 + 2 * pair));
        (
            command.word(2 + 2 * pair),
            increment.map_or(0, i64::unsigned_abs),
        )
    };
    call.add_all(sketch, (0..pairs).map(item))
}

/// `TOPK.LIST key [WITHCOUNT]`.
pub(super) fn list(call: &mut Call<'_>, command: Command<'_>) -> Outcome {
    let has_counts = match command.len() {
        2 => false,
        3 if is(command.word(2), "withcount") => true,
        3 => return Err(b"WITHCOUNT keyword expected".to_vec()),
        _ => return Err(wrong_arity("topk.list")),
    };
    let sketch = call.listing(command.word(1))?;
    let access = call.desk.access.current(call.port.access());
    if !access.may_see_keys(call.client.from, Asks::Himself) {
        return Err(b"NOPERM this address may not see keys: name it with --show-keys".to_vec());
    }
    let (desk, version) = (&mut *call.desk, call.client.version);
    let told = desk.session.top(sketch, 0).map_err(no_list)?;
    // Keys that nobody has told the name of yet are left out, like empty places.
    let named = told.list.keys.iter();
    let named = named.filter_map(|key| Some((key.name.as_deref()?, key.estimate)));
    let mut reply = desk.answers.reply(version);
    reply.array(named.clone().count() << u32::from(has_counts));
    for (name, estimate) in named {
        reply.bulk(name);
        if has_counts {
            reply.integer(estimate);
        }
    }
    Ok(Then::More)
}

/// `TOPK.QUERY key item [item ...]`: whether they are in the list.
pub(super) fn query(call: &mut Call<'_>, command: Command<'_>) -> Outcome {
    let sketch = call.listing(command.word(1))?;
    let (desk, version) = (&mut *call.desk, call.client.version);
    let told = desk.session.top(sketch, 0).map_err(no_list)?;
    let own = call.port.sketch(sketch).replica.own();
    let items = command.iter().skip(2);
    let mut reply = desk.answers.reply(version);
    reply.array(items.len());
    for item in items {
        let hash = own.hash(item);
        let is_listed = hash.is_some_and(|hash| told.list.keys.iter().any(|key| key.hash == hash));
        reply.boolean(is_listed);
    }
    Ok(Then::More)
}

/// `TOPK.COUNT key item [item ...]`.
pub(super) fn count(call: &mut Call<'_>, command: Command<'_>) -> Outcome {
    let sketch = call.listing(command.word(1))?;
    call.count_all(sketch, command)
}

/// `TOPK.INFO key`.
pub(super) fn info(call: &mut Call<'_>, command: Command<'_>) -> Outcome {
    let sketch = call.listing(command.word(1))?;
    let geometry = call.desk.session.info(sketch).geometry;
    let most = call.port.sketch(sketch).replica.top();
    let mut reply = call.reply();
    reply.map(4);
    reply.simple("k");
    reply.integer(most as u64);
    reply.simple("width");
    reply.integer(geometry.width() as u64);
    reply.simple("depth");
    reply.integer(geometry.depth() as u64);
    reply.simple("decay");
    // Nothing decays.
    reply.double("1");
    Ok(Then::More)
}

/// `TOPK.RESERVE key k [width depth decay]`.
pub(super) fn reserve(call: &mut Call<'_>, command: Command<'_>) -> Outcome {
    if ![3, 6].contains(&command.len()) {
        return Err(wrong_arity("topk.reserve"));
    }
    call.sketch(command.word(1), super::counts::CONFIGURED)?;
    Err(b"TopK: key already exists".to_vec())
}

fn no_list(refusal: Refusal) -> Refused {
    format!("ERR {refusal}").into()
}
