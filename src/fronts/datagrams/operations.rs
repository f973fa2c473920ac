//! What a data thread does for each operation of the compact format, and how the answer is written.
//!
//! A new operation takes a place in [`Desk::apply`], and, where its answer comes later, one in
//! [`Answers::fill_compact`].

use std::time::Duration;

use super::answers::{Answers, ReplySlot};
use super::compact::problem;
use super::{ClientPort, Desk};
use crate::engine::{
    Admitted, Answer, Bounds, Limit, LimitPart, LimitParts, LimitsAnswer, TopAnswer, Verdict,
};
use crate::shared::Asks;
use rmbd_proto::compact::{
    self, BOUNDS_ANSWER_BYTES, BoundsAnswer, COUNT_ANSWER_BYTES, HASH_FNV, HASH_XXH3,
    INFO_BEHIND_COOKIE_BYTES, Info, LIMITS_ANSWER_BYTES, Limits, Operation, PARDON_ANSWER_BYTES,
    Problem, RETRY_NEVER_MS, SketchEntry, SketchWindow, SketchesWriter, TopEntry, TopHead,
    TopWriter, WINDOW_ANSWER_BYTES, WindowAnswer,
};
use rmbd_sketch::HashFamily;
use rmbd_store::{Estimate, NamedSketch, Reading, SketchIndex, WindowQuestion, once};

impl Desk {
    /// Does one operation, and keeps a place in the reply where it has an answer.
    #[inline(always)]
    pub(super) fn apply(
        &mut self,
        port: &ClientPort,
        operation: Operation<'_>,
        admitted: Admitted,
    ) -> Result<(), Problem> {
        let sketch = admitted.sketch;
        match operation {
            Operation::Add { key, weight } => {
                let weight = self.session.weigh(weight).map_err(problem)?;
                let added = self.add(admitted, key, weight);
                added.map_err(|exhausted| problem(exhausted.into()))?;
            }
            Operation::Count { key } => {
                let at = self.reserve(COUNT_ANSWER_BYTES)?;
                self.count(sketch, key, ReplySlot::Compact { at });
            }
            Operation::Hit {
                key,
                weight,
                limit,
                window_ms,
            } => {
                let weight = self.session.weigh(weight).map_err(problem)?;
                let limit = Limit::of_window(limit, self.window(port, sketch, window_ms, true)?);
                let at = self.reserve(COUNT_ANSWER_BYTES)?;
                let (session, mut answer) = self.parts();
                let slot = ReplySlot::Compact { at };
                let hit = session.hit(admitted, key, weight, limit, slot, &mut answer);
                hit.map_err(|exhausted| problem(exhausted.into()))?;
            }
            Operation::Bounds { key } => {
                let at = self.reserve(BOUNDS_ANSWER_BYTES)?;
                let (session, mut answer) = self.parts();
                session.bounds(sketch, key, ReplySlot::Compact { at }, &mut answer);
            }
            Operation::Info => self.tell_info(port, sketch)?,
            Operation::Sketches { first } => self.tell_sketches(port, first)?,
            Operation::Window {
                key,
                window_ms,
                smooth,
            } => {
                let window = self.window(port, sketch, window_ms, smooth)?;
                let at = self.reserve(WINDOW_ANSWER_BYTES)?;
                let (session, mut answer) = self.parts();
                session.count_in(sketch, key, window, ReplySlot::Compact { at }, &mut answer);
            }
            Operation::Limits(limits) => self.keep(port, &limits, admitted)?,
            Operation::HitByName { name, key, weight } => {
                self.hit_by_name(port, (name, key), weight, admitted)?;
            }
            Operation::Pardon { name, key, for_ms } => {
                self.pardon(port, (name, key), Duration::from_millis(for_ms))?;
            }
            Operation::Top {
                window_ms,
                first,
                most,
            } => self.tell_top(port, sketch, window_ms, (first, most))?,
        }
        Ok(())
    }
}

impl Desk {
    /// A question about a window; `None` is all time.
    fn window(
        &mut self,
        port: &ClientPort,
        sketch: SketchIndex,
        window_ms: u64,
        is_smooth: bool,
    ) -> Result<Option<WindowQuestion>, Problem> {
        let reading = if is_smooth {
            Reading::Smooth
        } else {
            Reading::Bound
        };
        // The clock is read once for a train, and before any snapshot is.
        let now = if window_ms > 0 {
            self.now(port)
        } else {
            Duration::ZERO
        };
        let window = self.session.window(sketch, window_ms, reading, || now);
        window.map_err(problem)
    }

    /// Several limits in one operation.
    fn keep(
        &mut self,
        port: &ClientPort,
        limits: &Limits<'_>,
        admitted: Admitted,
    ) -> Result<(), Problem> {
        let mut parts = LimitParts::default();
        for part in limits.parts() {
            let sketch = self.session.open(part.sketch).map_err(problem)?;
            let part = LimitPart {
                sketch,
                key: part.key,
                weight: self.session.weigh(part.weight).map_err(problem)?,
                limit: part.limit,
                window: self.window(port, sketch, part.window_ms, !limits.bound)?,
                credit: 0,
            };
            if !parts.push(part) {
                return Err(Problem::LimitParts);
            }
        }
        let at = self.reserve(LIMITS_ANSWER_BYTES)?;
        let (session, mut answer) = self.parts();
        let slot = ReplySlot::Compact { at };
        let kept = session.limits(admitted, &parts, limits.take, slot, &mut answer);
        kept.map_err(problem)
    }

    /// Whoever may order this node to push may also pardon.
    fn pardon(
        &mut self,
        port: &ClientPort,
        named: (&[u8], &[u8]),
        time: Duration,
    ) -> Result<(), Problem> {
        if !self.access.current(port.access()).is_trusted(self.from) {
            return Err(Problem::NotTrusted);
        }
        let at = self.reserve(PARDON_ANSWER_BYTES)?;
        let now = self.now(port);
        let credit = {
            let (session, mut answer) = self.parts();
            session.pardon(named, time, now, &mut answer)
        };
        let credit = credit.map_err(problem)?;
        self.answers
            .write_at(at, |out| compact::write_pardon_answer(credit, out));
        Ok(())
    }

    fn hit_by_name(
        &mut self,
        port: &ClientPort,
        named: (&[u8], &[u8]),
        weight: u64,
        admitted: Admitted,
    ) -> Result<(), Problem> {
        let at = self.reserve(LIMITS_ANSWER_BYTES)?;
        let now = self.now(port);
        let (session, mut answer) = self.parts();
        let slot = ReplySlot::Compact { at };
        let hit = session.hit_by_name(admitted, named, weight, || now, slot, &mut answer);
        hit.map_err(problem)
    }
}

/// How the format says it.
fn verdict_of(told: &LimitsAnswer) -> compact::Verdict {
    let wait_ms = |wait: Duration| {
        // Rounded up, and below the number that says never.
        let ms = wait.as_nanos().div_ceil(1_000_000);
        u32::try_from(ms).map_or(RETRY_NEVER_MS - 1, |ms| ms.min(RETRY_NEVER_MS - 1))
    };
    compact::Verdict {
        over: told.is_over,
        incomplete: told.incomplete,
        unsure: told.unsure,
        overflowed: told.overflowed,
        shadow: told.is_shadow,
        part: told.part,
        estimate: told.estimate,
        remaining: told.remaining,
        retry_after_ms: told.retry_after.map_or(RETRY_NEVER_MS, wait_ms),
        covered_ms: told.covered_ms,
    }
}

/// How the format says it.
fn bounds_of(bounds: &Bounds) -> BoundsAnswer {
    BoundsAnswer {
        estimate: bounds.estimate.count,
        incomplete: bounds.estimate.incomplete,
        likely_estimate: bounds.likely_estimate,
        likely_lower: bounds.likely_lower,
        certain_lower: bounds.certain_lower,
        total_weight: bounds.total_weight,
    }
}

impl Answers {
    /// Writes an answer at the place that was kept for it.
    #[inline]
    pub(super) fn fill_compact(&mut self, at: usize, answer: Answer) {
        let Estimate {
            count, incomplete, ..
        } = answer.estimate();
        match answer {
            Answer::Count(_) => {
                self.write_at(at, |out| {
                    compact::write_count_answer(count, incomplete, out);
                });
            }
            Answer::Hit { verdict, .. } => {
                let within = verdict == Verdict::Within;
                self.write_at(at, |out| {
                    compact::write_hit_answer(count, incomplete, within, out);
                });
            }
            Answer::Window(estimate) => {
                let answer = WindowAnswer {
                    estimate: count,
                    incomplete,
                    overflowed: estimate.overflowed,
                    covered_ms: estimate.covered_ms,
                };
                self.write_at(at, |out| compact::write_window_answer(&answer, out));
            }
            Answer::Limits(limits) => {
                let verdict = verdict_of(&limits);
                self.write_at(at, |out| compact::write_limits_answer(&verdict, out));
            }
            Answer::NamedLimit(limits) => {
                let verdict = verdict_of(&limits);
                self.write_at(at, |out| compact::write_hit_by_name_answer(&verdict, out));
            }
            Answer::Bounds(bounds) => {
                let answer = bounds_of(&bounds);
                self.write_at(at, |out| compact::write_bounds_answer(&answer, out));
            }
        }
    }
}

impl Desk {
    /// The answer was written down at the start; only the cookie in it is new.
    fn tell_info(&mut self, port: &ClientPort, sketch: SketchIndex) -> Result<(), Problem> {
        let at = self.reserve(self.infos[sketch.get()].len())?;
        // Counts the question.
        self.session.info(sketch);
        let now = self.now(port);
        let cookie = self.session.cookie(self.from, now);
        let info = &mut self.infos[sketch.get()];
        let behind = info.len().saturating_sub(INFO_BEHIND_COOKIE_BYTES);
        if let Some(out) = info[..behind].last_chunk_mut() {
            *out = cookie;
        }
        self.answers.write(at, info);
        Ok(())
    }
}

impl Desk {
    /// Writes as many sketches as fit, from position `first` on.
    fn tell_sketches(&mut self, port: &ClientPort, first: u64) -> Result<(), Problem> {
        self.session.sketches();
        let registry = port.shared().engine().registry();
        let told = self.answers.write_rest(|room| {
            let total = registry.sketches().len() as u64;
            let mut writer = SketchesWriter::new(room, total)?;
            let first = usize::try_from(first).unwrap_or(usize::MAX);
            let fits = |writer: &mut SketchesWriter<'_>, sketch| {
                let (entry, windows) = entry_of(sketch);
                writer.push(&entry, windows)
            };
            let mut wanted = registry.sketches().iter().skip(first).peekable();
            let asks = wanted.peek().is_some();
            let mut has_any = false;
            while wanted
                .next()
                .is_some_and(|sketch| fits(&mut writer, sketch))
            {
                has_any = true;
            }
            // An answer without the entry that was asked for would be asked for again and again.
            (has_any || !asks).then(|| writer.finish())
        });
        told.ok_or(Problem::ReplyTooLarge)
    }
}

impl Desk {
    /// Writes as many of the largest keys as fit, at most so many, from position `first` on.
    fn tell_top(
        &mut self,
        port: &ClientPort,
        sketch: SketchIndex,
        window_ms: u64,
        (first, most): (u64, u64),
    ) -> Result<(), Problem> {
        let now = self.now(port);
        let access = self.access.current(port.access());
        let is_redacted = !access.may_see_keys(self.from, Asks::Himself);
        let told = self.session.top(sketch, window_ms).map_err(problem)?;
        let head = head_of(&told, is_redacted, now);
        let [first, most] = [first, most].map(|it| usize::try_from(it).unwrap_or(usize::MAX));
        let written = self.answers.write_rest(|room| {
            let mut writer = TopWriter::new(room, &head)?;
            let mut wanted = told.list.keys.iter().skip(first).take(most);
            let (asks, mut has_any) = (wanted.len() > 0, false);
            while wanted.next().is_some_and(|key| {
                let name = key.name.as_deref().filter(|_| !is_redacted);
                writer.push(&TopEntry {
                    estimate: key.estimate,
                    certain: key.certain,
                    name,
                })
            }) {
                has_any = true;
            }
            // As with sketches, an answer without the entry that was asked for would be asked for again and again.
            (has_any || !asks).then(|| writer.finish())
        });
        written.ok_or(Problem::ReplyTooLarge)
    }
}

/// What is told of a whole list.
fn head_of(told: &TopAnswer<'_>, redacted: bool, now: Duration) -> TopHead {
    TopHead {
        incomplete: told.list.is_incomplete,
        redacted,
        edition: told.edition(),
        age_ms: u32::try_from(told.age(now).as_millis()).unwrap_or(u32::MAX),
        complete_above: told.complete_above(usize::MAX),
        total_weight: told.list.total_weight,
        listed: told.list.keys.len() as u64,
    }
}

/// What is told of a sketch, and of its windows.
fn entry_of(
    sketch: &NamedSketch,
) -> (
    SketchEntry<'_>,
    impl Iterator<Item = SketchWindow> + Clone + '_,
) {
    let own = sketch.replica.own();
    let (geometry, family) = (own.geometry(), own.family());
    let entry = SketchEntry {
        number: sketch.name.number(),
        name: sketch.name.as_str().as_bytes(),
        fingerprint: sketch.fingerprint(),
        width: geometry.width() as u64,
        // At most 32.
        depth: geometry.depth() as u8,
        hash: hash_code(family),
    };
    let windows = sketch.replica.window_plans().map(|plan| SketchWindow {
        span_ms: plan.span_ms(),
        step_ms: plan.step_ms(),
        width: plan.width() as u64,
    });
    (entry, windows)
}

const fn hash_code(family: HashFamily) -> u8 {
    match family {
        HashFamily::Xxh3 { .. } => HASH_XXH3,
        HashFamily::Fnv => HASH_FNV,
    }
}

/// The answer to info for each sketch, which stays the same, but for the cookie.
pub(super) fn encode_infos(port: &ClientPort) -> Box<[Box<[u8]>]> {
    let sketches = port.shared().engine().registry().iter();
    sketches
        .map(|(sketch, _)| encode_info(port, sketch))
        .collect()
}

fn encode_info(port: &ClientPort, sketch: SketchIndex) -> Box<[u8]> {
    let engine = port.shared().engine().info(sketch);
    let info = Info {
        boot: engine.boot,
        fingerprint: engine.fingerprint,
        width: engine.geometry.width() as u64,
        max_weight: engine.max_weight.get(),
        // At most 32.
        depth: engine.geometry.depth() as u8,
        hash: hash_code(engine.family),
        version: env!("CARGO_PKG_VERSION").as_bytes(),
        cluster_port: port.cluster_port(),
        cookie: &[0; once::COOKIE_BYTES],
        writer: port.shared().replica().own_slice().writer,
    };
    compact::encode_info(&info).into_boxed_slice()
}
