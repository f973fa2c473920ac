//! Limits: `CL.THROTTLE`, and this program's own `RMBD.HIT` and `RMBD.TAKE`.

use super::super::answers::{Form, TRY_AGAIN};
use super::{Call, Outcome, Refused, Then, check_key};
use crate::config::{parse_span, span_text};
use crate::engine::{Admitted, Answer, LimitPart, LimitParts, Refusal};
use rmbd_proto::resp::{Command, integer};
use rmbd_store::{Reading, SketchIndex};

const USAGE: &str =
    "Cell error: Usage: cl.throttle <key> <max_burst> <count per period> <period> [<quantity>]";

/// A key is to be within a limit.
struct Asked<'k> {
    sketch: SketchIndex,
    key: &'k [u8],
    weight: u64,
    limit: u64,
    window_ms: u64,
    takes: bool,
}

/// `CL.THROTTLE key max_burst count period [quantity]`: takes `quantity` (1) of `key` if that makes at most `count` in
/// the last `period` seconds, by a window of `default`. A window has no burst beyond its limit, so that `max_burst` is
/// only looked at.
pub(super) fn throttle(call: &mut Call<'_>, command: Command<'_>) -> Outcome {
    if ![5, 6].contains(&command.len()) {
        return Err(USAGE.into());
    }
    let number = |at: usize| number(command.word(at));
    let (_, limit, window_s) = (number(2)?, number(3)?, number(4)?);
    let weight = if command.len() > 5 { number(5)? } else { 1 };
    if limit == 0 || window_s == 0 {
        return Err(b"Cell error: Zero rates are not supported".to_vec());
    }
    let asked = Asked {
        sketch: SketchIndex::DEFAULT,
        key: command.word(1),
        weight,
        limit,
        window_ms: window_s.saturating_mul(1_000),
        takes: true,
    };
    call.ask(&asked, Form::Throttle { limit, window_s })
}

/// A number of `CL.THROTTLE`.
fn number(word: &[u8]) -> Result<u64, Refused> {
    let number = integer(word).ok_or_else(|| {
        let mut text = b"Cell error: Couldn't parse as integer: ".to_vec();
        text.extend_from_slice(super::shown(word, super::SHOWN_BYTES_MAX));
        text
    })?;
    u64::try_from(number).map_err(|_| b"Cell error: Negative numbers are not supported".to_vec())
}

/// `RMBD.HIT sketch key weight limit window`: adds, and says whether that is within the limit.
pub(super) fn hit(call: &mut Call<'_>, command: Command<'_>) -> Outcome {
    of_sketch(call, command, false)
}

/// `RMBD.TAKE sketch key weight limit window`: adds only if that is within the limit.
pub(super) fn take(call: &mut Call<'_>, command: Command<'_>) -> Outcome {
    of_sketch(call, command, true)
}

fn of_sketch(call: &mut Call<'_>, command: Command<'_>, takes: bool) -> Outcome {
    let sketch = call
        .port
        .find(command.word(1))
        .ok_or("ERR there is no sketch of this name")?;
    let number = |at: usize| {
        let number = integer(command.word(at)).and_then(|number| u64::try_from(number).ok());
        number.ok_or_else(super::not_an_integer)
    };
    let asked = Asked {
        sketch,
        key: command.word(2),
        weight: number(3)?,
        limit: number(4)?,
        window_ms: window_ms(command.word(5))?,
        takes,
    };
    call.ask(&asked, Form::Verdict)
}

/// A window as people write it, such as `60s`; `0` is all time.
fn window_ms(word: &[u8]) -> Result<u64, Refused> {
    if word == b"0" {
        return Ok(0);
    }
    let text = std::str::from_utf8(word).unwrap_or_default();
    parse_span(text).map_err(|error| format!("ERR the window is {error}, or 0 for all time").into())
}

impl Call<'_> {
    /// The verdict is the next reply.
    fn ask(&mut self, asked: &Asked<'_>, form: Form) -> Outcome {
        check_key(asked.key)?;
        let weight = self.desk.session.weigh(asked.weight).map_err(|_| {
            let most = self.weight_max();
            format!("ERR the weight is above {most}, the largest that is taken here")
        })?;
        let window = self.window(asked)?;
        self.provide(asked.sketch, asked.weight)?;
        let mut parts = LimitParts::default();
        let part = LimitPart {
            sketch: asked.sketch,
            key: asked.key,
            weight,
            limit: asked.limit,
            window,
            credit: 0,
        };
        // One part fits.
        let _ = parts.push(part);
        let (session, answers) = self.parts();
        let slot = answers.await_verdict(form);
        let mut answer = |slot, answer: Answer| answers.fill(slot, &answer);
        let admitted = Admitted::to(asked.sketch);
        if session
            .limits(admitted, &parts, asked.takes, slot, &mut answer)
            .is_err()
        {
            answers.fail_last();
        }
        self.make_room();
        Ok(Then::More)
    }

    fn window(&mut self, asked: &Asked<'_>) -> Result<Option<rmbd_store::WindowQuestion>, Refused> {
        let (sketch, window_ms) = (asked.sketch, asked.window_ms);
        // The clock is read once for all that has come at once, and before any snapshot is.
        let now = match self.desk.now {
            Some(now) => now,
            None if window_ms == 0 => std::time::Duration::ZERO,
            None => *self.desk.now.insert(self.port.shared().now()),
        };
        let window = self
            .desk
            .session
            .window(sketch, window_ms, Reading::Smooth, || now);
        window.map_err(|refusal| match refusal {
            Refusal::UnknownWindow => self.no_window(sketch, window_ms),
            Refusal::Exhausted(_) => TRY_AGAIN.to_vec(),
            refusal => format!("ERR {refusal}").into(),
        })
    }

    /// Names the option that would make the window.
    fn no_window(&self, sketch: SketchIndex, window_ms: u64) -> Refused {
        let sketch = self.port.sketch(sketch);
        let there = sketch
            .replica
            .window_plans()
            .map(|plan| span_text(plan.span_ms()));
        let mut windows: Vec<_> = there.collect();
        windows.push(span_text(window_ms));
        format!(
            "ERR the sketch {name} keeps no window of {window}: start the node with --sketch name={name},windows={all}",
            name = sketch.name.as_str(),
            window = span_text(window_ms),
            all = windows.join("+"),
        )
        .into()
    }
}
