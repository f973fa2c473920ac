//! `CMS.*`: counts of items in a sketch.

use super::{Call, Outcome, Refused, Then, check_key, wrong_arity};
use rmbd_proto::resp::{Command, integer};

const NO_KEY: &str = "CMS: key does not exist";

/// `CMS.INCRBY key item increment [item increment ...]`.
pub(super) fn increase(call: &mut Call<'_>, command: Command<'_>) -> Outcome {
    if !command.len().is_multiple_of(2) {
        return Err(wrong_arity("cms.incrby"));
    }
    let sketch = call.sketch(command.word(1), NO_KEY)?;
    // All is checked before anything is added.
    let (mut sum, most) = (0_u64, call.weight_max());
    let mut words = command.iter().skip(2);
    while let (Some(item), Some(number)) = (words.next(), words.next()) {
        check_key(item)?;
        sum = sum.saturating_add(weight(number, most)?);
    }
    call.provide(sketch, sum)?;
    call.reply().array((command.len() - 2) / 2);
    let mut words = command.iter().skip(2);
    while let (Some(item), Some(number)) = (words.next(), words.next()) {
        let weight = integer(number).map_or(0, i64::unsigned_abs);
        call.add_and_count(sketch, item, weight);
    }
    Ok(Then::More)
}

/// An increment.
#[inline]
fn weight(number: &[u8], most: u64) -> Result<u64, Refused> {
    let number = integer(number).ok_or("CMS: Cannot parse number")?;
    let weight = u64::try_from(number).map_err(|_| "CMS: Number cannot be negative")?;
    match weight <= most {
        true => Ok(weight),
        false => Err(format!("CMS: Number is above {most}, the largest that is taken here").into()),
    }
}

/// `CMS.QUERY key item [item ...]`.
pub(super) fn query(call: &mut Call<'_>, command: Command<'_>) -> Outcome {
    let sketch = call.sketch(command.word(1), NO_KEY)?;
    call.count_all(sketch, command)
}

/// `CMS.INFO key`.
pub(super) fn info(call: &mut Call<'_>, command: Command<'_>) -> Outcome {
    let sketch = call.sketch(command.word(1), NO_KEY)?;
    // So that the count has all that was added before.
    call.desk.finish(call.out);
    let geometry = call.desk.session.info(sketch).geometry;
    let count = call.port.sketch(sketch).replica.total_weight();
    let mut reply = call.reply();
    reply.map(3);
    reply.simple("width");
    reply.integer(geometry.width() as u64);
    reply.simple("depth");
    reply.integer(geometry.depth() as u64);
    reply.simple("count");
    reply.integer(count);
    Ok(Then::More)
}

/// `CMS.INITBYDIM key width depth` and `CMS.INITBYPROB key error probability`.
pub(super) fn init(call: &mut Call<'_>, command: Command<'_>) -> Outcome {
    let name = command.word(1);
    call.sketch(name, CONFIGURED)?;
    Err(b"CMS: key already exists".to_vec())
}

/// Why no sketch is made.
pub(super) const CONFIGURED: &str = "ERR sketches are not made by clients, so that all memory is known when the node starts: start it with --sketch \
     name=NAME,width=W,depth=D";
