//! What a data thread does for each operation of the compact format, and how the answer is written.
//!
//! A new operation takes a place in [`Desk::apply`], and, where its answer comes later, one in
//! [`Answers::fill_compact`].

use super::answers::{Answers, ReplySlot};
use super::compact::problem;
use super::{ClientPort, Desk};
use crate::engine::{Admitted, Answer, Bounds, Verdict};
use rmbd_proto::compact::{
    self, BOUNDS_ANSWER_BYTES, COUNT_ANSWER_BYTES, HASH_FNV, HASH_XXH3, INFO_BEHIND_COOKIE_BYTES,
    Info, Operation, Problem, SketchEntry, SketchWindow, SketchesWriter,
};
use rmbd_sketch::HashFamily;
use rmbd_store::{Estimate, NamedSketch, SketchIndex, once};

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
                let limit = self.session.limit(limit, window_ms).map_err(problem)?;
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
            Operation::Window { .. }
            | Operation::Limits(_)
            | Operation::HitByName { .. }
            | Operation::Pardon { .. } => return Err(Problem::UnknownOperation),
        }
        Ok(())
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
            Answer::Bounds(Bounds {
                lower,
                total_weight,
                ..
            }) => self.write_at(at, |out| {
                compact::write_bounds_answer(count, incomplete, lower, total_weight, out);
            }),
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
