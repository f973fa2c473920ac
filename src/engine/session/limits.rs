//! Several limits in one request: all are kept, or nothing is taken.

use std::sync::Arc;
use std::time::Duration;

use super::{Asked, Session, into};
use crate::engine::answer::{OneLimit, Question};
use crate::engine::limits::{AMOUNTS_MAX, Amount, Applies, LimitsAnswer, Part, Rule, decide};
use crate::engine::{Admitted, Allowed, Answer, Refusal, Turn};
use rmbd_sketch::Weight;
use rmbd_store::{Batch, Credits, Looked, Reading, SketchIndex, Terms, WindowQuestion};

/// The largest number of limits in one request.
const PARTS_MAX: usize = AMOUNTS_MAX;
/// A pardon has as many credits as a limit has amounts.
const _: Credits = [0; AMOUNTS_MAX];

/// One limit of a request, and the key that it is for.
#[derive(Debug, Clone, Copy)]
pub struct LimitPart<'a> {
    /// The sketch that counts it.
    pub sketch: SketchIndex,
    /// Any bytes.
    pub key: &'a [u8],
    /// What is added to the key. Where several parts name a key, the largest of their weights is added, once.
    pub weight: Allowed,
    /// The largest estimate that is within the limit.
    pub limit: u64,
    /// The window; `None` is all time.
    pub window: Option<WindowQuestion>,
    /// What the key is forgiven: it does not count towards the limit. 0 is nothing.
    pub credit: u64,
}

/// The limits of one request, at most 8. This allocates nothing.
#[derive(Debug, Default)]
pub struct LimitParts<'a> {
    parts: [Option<LimitPart<'a>>; PARTS_MAX],
    count: usize,
}

/// A key of a request, looked up.
#[derive(Debug, Clone, Copy)]
struct KeyOfParts {
    sketch: SketchIndex,
    /// What is added to it: the largest weight of its parts.
    weight: Weight,
    looked: Looked,
}

/// The keys of a request, each once, and which part has which.
#[derive(Debug, Default)]
struct Keys {
    keys: [Option<KeyOfParts>; PARTS_MAX],
    of_parts: [u8; PARTS_MAX],
}

impl<'a> LimitParts<'a> {
    /// Puts a limit behind those before; false where there are 8 already.
    #[must_use]
    pub fn push(&mut self, part: LimitPart<'a>) -> bool {
        let place = self.parts.get_mut(self.count);
        let has_room = place.is_some();
        if let Some(place) = place {
            *place = Some(part);
            self.count += 1;
        }
        has_room
    }

    fn iter(&self) -> impl Iterator<Item = &LimitPart<'a>> {
        self.parts.iter().flatten()
    }

    /// The limit of a request that has one.
    fn one(&self) -> Option<&LimitPart<'a>> {
        self.get(0).filter(|_| self.count == 1)
    }

    fn get(&self, at: usize) -> Option<&LimitPart<'a>> {
        self.parts.get(at)?.as_ref()
    }
}

impl Keys {
    fn iter(&self) -> impl Iterator<Item = &KeyOfParts> {
        self.keys.iter().flatten()
    }

    fn add_nothing(&mut self) {
        for key in self.keys.iter_mut().flatten() {
            key.weight = Weight::ZERO;
        }
    }

    fn of_part(&self, part: usize) -> Option<&KeyOfParts> {
        let at = self.of_parts.get(part)?;
        self.keys.get(usize::from(*at))?.as_ref()
    }
}

impl<T: Copy> Session<T> {
    /// Asks whether all limits are kept, and adds the weights: always, or, if it `takes`, only where they are. A
    /// repeat adds nothing, and gets the verdict of the first time where it takes. Several threads may each take at the
    /// same moment, and pass a limit together.
    ///
    /// # Errors
    /// [`Refusal::Exhausted`], [`Refusal::Undecided`]; nothing was added or asked.
    pub fn limits(
        &mut self,
        admitted: Admitted,
        parts: &LimitParts<'_>,
        takes: bool,
        token: T,
        answer: &mut impl FnMut(T, Answer),
    ) -> Result<(), Refusal> {
        match parts.one() {
            Some(part) if admitted.turn == Turn::First => {
                self.keep_one(admitted, part, (takes, None), token, answer)?;
            }
            _ => {
                let told = self.keep(admitted, parts, takes, answer)?;
                answer(token, Answer::Limits(told));
            }
        }
        self.tally.limits += 1;
        Ok(())
    }

    /// Adds to `key` as the limit of this name says, and answers whether it is kept.
    ///
    /// # Errors
    /// [`Refusal::UnknownLimit`], [`Refusal::WeightTooLarge`], [`Refusal::UnknownWindow`] where the limit's sketch
    /// keeps no such window, and like [`limits`](Self::limits).
    pub fn hit_by_name(
        &mut self,
        admitted: Admitted,
        (name, key): (&[u8], &[u8]),
        weight: u64,
        now: impl FnOnce() -> Duration,
        token: T,
        answer: &mut impl FnMut(T, Answer),
    ) -> Result<(), Refusal> {
        self.look_at_limits(answer);
        let place = self.named.place(name).ok_or(Refusal::UnknownLimit)?;
        let limit = self.named.at(place).ok_or(Refusal::UnknownLimit)?;
        let rule = &limit.rule;
        let weight = self.weigh(weight.saturating_mul(rule.cost.into()))?;
        match rule.applies_to(key) {
            Applies::Nothing => answer(token, Answer::NamedLimit(LimitsAnswer::NO_LIMIT)),
            Applies::Amounts(amounts) => {
                let now = now();
                let credits = self
                    .pardons
                    .credits(&self.engine.pardons, (limit.number, key), now);
                let parts = self.parts_of(rule, (amounts, &credits), key, weight, now)?;
                let takes = rule.takes && !rule.is_shadow;
                match parts.one() {
                    Some(part) if admitted.turn == Turn::First => {
                        self.keep_one(admitted, part, (takes, Some((place, now))), token, answer)?;
                    }
                    _ => {
                        let mut told = self.keep(admitted, &parts, takes, answer)?;
                        let decisive = parts.get(told.part.into());
                        if let Some(limit) = self.named.at(place) {
                            limit.note(&mut told, decisive.map_or(0, |part| part.limit));
                            self.denier.note(key, limit, told.is_over, now);
                        }
                        answer(token, Answer::NamedLimit(told));
                    }
                }
            }
        }
        self.tally.hit_by_name += 1;
        Ok(())
    }

    /// Forgives a key for a while what it has in the windows of the limit of this name now: here at once, and on other
    /// nodes of the cluster when they are told. Returns the most that any of them is forgiven. This allocates: it is an
    /// operator's order.
    ///
    /// # Errors
    /// [`Refusal::UnknownLimit`], [`Refusal::UnknownWindow`], [`Refusal::TooManyPardons`]; nothing has changed then.
    pub fn pardon(
        &mut self,
        (name, key): (&[u8], &[u8]),
        time: Duration,
        now: Duration,
        answer: &mut impl FnMut(T, Answer),
    ) -> Result<u64, Refusal> {
        let limits = Arc::clone(self.limits.current(&self.engine.limits));
        let limit = limits.find(name).ok_or(Refusal::UnknownLimit)?;
        let mut credits = Credits::default();
        if let Applies::Amounts(amounts) = limit.rule.applies_to(key) {
            let amounts = (amounts, &credits);
            let parts = self.parts_of(&limit.rule, amounts, key, Allowed::ONE, now)?;
            let keys = self.look_up(&parts, answer);
            let read = self.read(&parts, &keys);
            for (credit, part) in credits.iter_mut().zip(&read[..parts.count]) {
                *credit = part.estimate;
            }
        }
        let given = (self.engine.pardons).give((limit.number, key), credits, time, now);
        // No front takes keys that are too long for a pardon.
        given.map_err(|_| Refusal::TooManyPardons)?;
        self.tally.pardon += 1;
        Ok(credits.into_iter().max().unwrap_or_default())
    }

    /// Makes sure that one [`hit_by_name`](Self::hit_by_name) may add all that it may weigh.
    ///
    /// # Errors
    /// [`Refusal::Exhausted`]: not until the next pass over the cells.
    pub fn provide_named(&mut self, name: &[u8]) -> Result<(), Refusal> {
        let limits = self.limits.current(&self.engine.limits);
        if let Some(sketch) = limits.find(name).map(|limit| limit.rule.sketch) {
            self.batches.of(sketch).provide(self.max_weight.into())?;
        }
        Ok(())
    }

    /// The amounts of a limit, for a key.
    fn parts_of<'k>(
        &self,
        rule: &Rule,
        (amounts, credits): (&[Amount], &Credits),
        key: &'k [u8],
        weight: Allowed,
        now: Duration,
    ) -> Result<LimitParts<'k>, Refusal> {
        let (sketch, mut parts) = (rule.sketch, LimitParts::default());
        for (&Amount { limit, window_ms }, &credit) in amounts.iter().zip(credits) {
            let part = LimitPart {
                sketch,
                key,
                weight,
                limit,
                window: self.window(sketch, window_ms, Reading::Smooth, || now)?,
                credit,
            };
            // A rule has no more amounts than a request has parts.
            let _ = parts.push(part);
        }
        Ok(parts)
    }

    /// Looks whether there are other limits with names. What waits for an answer is judged by those before.
    fn look_at_limits(&mut self, answer: &mut impl FnMut(T, Answer)) {
        let limits = self.limits.current(&self.engine.limits);
        if !Arc::ptr_eq(limits, &self.named) {
            self.batches.drain(&mut into(
                &self.named,
                &mut self.denier,
                &self.engine.once,
                answer,
            ));
            self.named = Arc::clone(limits);
        }
    }

    /// Asks one limit for the first time, and answers when its key's cells have come.
    fn keep_one(
        &mut self,
        admitted: Admitted,
        part: &LimitPart<'_>,
        (takes, named): (bool, Option<(u32, Duration)>),
        token: T,
        answer: &mut impl FnMut(T, Answer),
    ) -> Result<(), Refusal> {
        let (Allowed(weight), limit, credit) = (part.weight, part.limit, part.credit);
        let terms = Terms {
            limit,
            credit,
            takes,
        };
        if named.is_some() && !self.denier.has_room() {
            self.batches.drain(&mut into(
                &self.named,
                &mut self.denier,
                &self.engine.once,
                answer,
            ));
        }
        let named = named.map(|(place, now)| (place, self.denier.wait(part.key, now)));
        let question = Question::Limit(OneLimit {
            weight,
            terms,
            named,
            once: admitted.once.filter(|_| takes),
        });
        let asked = Asked { question, token };
        let batch = self.batches.of(part.sketch);
        let taken = batch.take(
            part.key,
            (weight, &terms),
            part.window.as_ref(),
            asked,
            &mut into(&self.named, &mut self.denier, &self.engine.once, answer),
        );
        if let (Err(_), Some((_, key))) = (taken, named) {
            self.denier.forget(key);
        }
        Ok(taken?)
    }

    /// Asks all limits at once.
    pub(in crate::engine) fn keep(
        &mut self,
        admitted: Admitted,
        parts: &LimitParts<'_>,
        takes: bool,
        answer: &mut impl FnMut(T, Answer),
    ) -> Result<LimitsAnswer, Refusal> {
        let before = self.verdict_before(admitted, takes, answer)?;
        let mut keys = self.look_up(parts, answer);
        match (admitted.turn, before) {
            (Turn::First, _) => self.provide_all(&keys)?,
            // It was refused, and would have to be added yet.
            (Turn::Repeat, Some(false)) => {}
            // The estimates have it already.
            (Turn::Repeat, _) => keys.add_nothing(),
        }
        let read = self.read(parts, &keys);
        let mut told = decide(&read[..parts.count], takes, |at| {
            self.wait(parts.get(at)?, keys.of_part(at)?)
        });
        if let Some(admits) = before {
            told.repeat(admits);
            return Ok(told);
        }
        self.judge(parts, &keys, &read);
        if !(takes && told.is_over) {
            for key in keys.iter() {
                let batch = self.batches.of(key.sketch);
                batch.add_looked(&key.looked, key.weight)?;
            }
            self.note_limits(parts, &keys, &read);
        }
        if let (Some((client, sequence)), true) = (admitted.once, takes) {
            self.engine.once.decide(client, sequence, !told.is_over);
        }
        Ok(told)
    }

    /// The verdict of the first time, where this is a repeat of what takes.
    fn verdict_before(
        &mut self,
        admitted: Admitted,
        takes: bool,
        answer: &mut impl FnMut(T, Answer),
    ) -> Result<Option<bool>, Refusal> {
        let (Turn::Repeat, Some((client, sequence)), true) = (admitted.turn, admitted.once, takes)
        else {
            return Ok(None);
        };
        if self.engine.once.verdict(client, sequence).is_none() {
            // It may wait here for its cells.
            let batches = &mut self.batches;
            batches.drain(&mut into(
                &self.named,
                &mut self.denier,
                &self.engine.once,
                answer,
            ));
        }
        let verdict = self.engine.once.verdict(client, sequence);
        verdict.map(Some).ok_or(Refusal::Undecided)
    }

    /// Looks up each key of the parts, once. Adds of it that wait are made.
    fn look_up(&mut self, parts: &LimitParts<'_>, answer: &mut impl FnMut(T, Answer)) -> Keys {
        let mut keys = Keys::default();
        let mut count = 0;
        for (at, part) in parts.iter().enumerate() {
            let weight = part.weight.0;
            let mut before = parts.iter().take(at);
            let same = before.position(|it| (it.sketch, it.key) == (part.sketch, part.key));
            if let Some(same) = same {
                keys.of_parts[at] = keys.of_parts[same];
                if let Some(key) = &mut keys.keys[usize::from(keys.of_parts[same])] {
                    key.weight = key.weight.max(weight);
                    let looked = key.looked;
                    self.prefetch(part, &looked);
                }
                continue;
            }
            let batch = self.batches.of(part.sketch);
            let looked = batch.look(
                part.key,
                &mut into(&self.named, &mut self.denier, &self.engine.once, answer),
            );
            self.prefetch(part, &looked);
            keys.of_parts[at] = count;
            keys.keys[usize::from(count)] = Some(KeyOfParts {
                sketch: part.sketch,
                weight,
                looked,
            });
            count += 1;
        }
        keys
    }

    /// Starts to fetch what the estimate of a part reads.
    fn prefetch(&mut self, part: &LimitPart<'_>, looked: &Looked) {
        if let Some(question) = &part.window {
            self.batches.of(part.sketch).prefetch_in(looked, question);
        }
    }

    /// Makes sure that the weights of all keys may be added.
    fn provide_all(&mut self, keys: &Keys) -> Result<(), Refusal> {
        for key in keys.iter() {
            let same = keys.iter().filter(|it| it.sketch == key.sketch);
            let sum = same.map(|it| u64::from(it.weight)).sum();
            self.batches.of(key.sketch).provide(sum)?;
        }
        Ok(())
    }

    /// Reads the estimates of all parts.
    fn read(&mut self, parts: &LimitParts<'_>, keys: &Keys) -> [Part; PARTS_MAX] {
        let mut read = [Part::default(); PARTS_MAX];
        for (at, (read, part)) in read.iter_mut().zip(parts.iter()).enumerate() {
            if let Some(key) = keys.of_part(at) {
                *read = read_part(self.batches.of(part.sketch), part, key);
            }
        }
        read
    }

    /// Verdicts on keys that are audited are judged, each part by itself.
    fn judge(&mut self, parts: &LimitParts<'_>, keys: &Keys, read: &[Part; PARTS_MAX]) {
        for (at, (part, read)) in parts.iter().zip(read).enumerate() {
            if part.window.is_none()
                && let Some(key) = keys.of_part(at)
            {
                let passes = |estimate| Part { estimate, ..*read }.is_over();
                let batch = self.batches.of(part.sketch);
                batch.judge(&key.looked, read.estimate, passes);
            }
        }
    }

    /// Others may have to know at once what was added. What a key is forgiven counts here as it does for the verdict.
    fn note_limits(&mut self, parts: &LimitParts<'_>, keys: &Keys, read: &[Part; PARTS_MAX]) {
        for (at, (part, read)) in parts.iter().zip(read).enumerate() {
            if let Some(key) = keys.of_part(at) {
                let batch = self.batches.of(part.sketch);
                let estimate = read.estimate.saturating_add(key.weight.into());
                batch.note_limit(&key.looked, estimate, part.limit);
            }
        }
    }

    fn wait(&mut self, part: &LimitPart<'_>, key: &KeyOfParts) -> Option<Duration> {
        let batch = self.batches.of(part.sketch);
        let limit = part.limit.saturating_add(part.credit);
        batch.retry_after(&key.looked, part.window.as_ref()?, key.weight, limit)
    }
}

fn read_part<T: Copy>(batch: &mut Batch<Asked<T>>, part: &LimitPart<'_>, key: &KeyOfParts) -> Part {
    let estimate = match &part.window {
        Some(question) => batch.estimate_in(&key.looked, question),
        None => batch.estimate(&key.looked),
    };
    let mut read = Part {
        estimate: estimate.count.saturating_sub(part.credit),
        // What is added to the key, whichever part says it: all of it counts towards each.
        weight: key.weight.into(),
        limit: part.limit,
        error: 0,
        incomplete: estimate.incomplete,
        overflowed: estimate.overflowed,
        covered_ms: estimate.covered_ms,
    };
    // Only then is the error asked for, and N lies in tables that nothing else of a request looks at.
    if read.is_over() {
        read.error = match &part.window {
            Some(question) => batch.replica().error_in(question),
            None => batch.replica().error(),
        };
    }
    read
}
