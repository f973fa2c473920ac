//! One thread's way into the sketches.

mod limits;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

pub use self::limits::{LimitPart, LimitParts};
use super::answer::{Answer, Question};
use super::batches::Batches;
use super::denied::Denier;
use super::limits::LimitView;
use super::{
    Admitted, Allowed, Engine, Info, Limit, MadeCookie, NamedLimits, Numbered, REQUEST_WEIGHT_MAX,
    Refusal, TopAnswer, Turn,
};
use rmbd_sketch::{Exhausted, Weight};
use rmbd_store::once::{Admission, COOKIE_BYTES, OnceTable};
use rmbd_store::{
    Batch, Estimate, PardonView, Reading, Replica, SketchIndex, SketchNumber, TopView,
    WindowQuestion,
};

/// One thread's way into the sketches. It allocates when it is made, and never again. Its calls, in the order in
/// which a request makes them:
///
/// 1. [`open`](Self::open) says which sketch the request is about,
/// 2. [`provide`](Self::provide) for all weights of the request, so that it is not refused in its middle,
/// 3. [`admit`](Self::admit) where it asks for exactly-once: the [`Turn`] that comes of it goes with each operation.
///    All other requests have [`Turn::First`],
/// 4. for each operation [`weigh`](Self::weigh) and [`window`](Self::window), which refuse what is not taken, then
///    [`add`](Self::add), [`hit`](Self::hit), [`count`](Self::count), [`bounds`](Self::bounds),
///    [`info`](Self::info) or [`top`](Self::top),
/// 5. [`finish`](Self::finish), before anybody is told that something was done. Many requests may share one.
///
/// Operations are applied in their order: an answer has in it all of its key before, and nothing behind it. Each
/// question carries a token, by which the asker knows the answer; answers come in the order of the questions, in the
/// same call or a later one, at the latest in `finish`. Times come from the caller, since any fixed moment.
///
/// ```
/// use std::sync::Arc;
///
/// use rmbd::engine::{Admitted, Answer, Engine, EngineOptions, Limit, Session, Verdict};
/// use rmbd_store::once::{BootChain, OnceTable};
/// use rmbd_store::{Registry, Replica};
/// use rmbd_sketch::{Geometry, HashFamily, Weight};
/// use rmbd_proto::{Boot, SketchNumber};
///
/// let replica = Replica::try_new(Geometry::DEFAULT, HashFamily::Xxh3 { seed: 7 }, 8)?;
/// let options = EngineOptions {
///     boot: Boot(1),
///     earlier: BootChain::default(),
///     max_weight: Weight::MAX,
///     once: Arc::new(OnceTable::new(1000, &[7; 32])),
/// };
/// let engine = Arc::new(Engine::new(Registry::of_default(Arc::new(replica)), &options));
/// let mut session = Session::new(engine);
/// let mut verdicts = Vec::new();
/// let mut answer = |token: &'static str, answer| {
///     if let Answer::Hit { verdict, .. } = answer {
///         verdicts.push((token, verdict));
///     }
/// };
/// let sketch = session.open(SketchNumber::DEFAULT)?;
/// let admitted = Admitted::to(sketch);
/// let (weight, limit) = (session.weigh(2)?, Limit::total(3));
/// session.hit(admitted, b"key", weight, limit, "one", &mut answer)?;
/// session.hit(admitted, b"key", weight, limit, "two", &mut answer)?;
/// session.finish(&mut answer);
/// assert_eq!(verdicts, [("one", Verdict::Within), ("two", Verdict::Over)]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Session<T: Copy> {
    engine: Arc<Engine>,
    batches: Batches<Asked<T>>,
    max_weight: Weight,
    tally: Tally,
    cookie: Option<MadeCookie>,
    limits: LimitView,
    /// The limits with names of the hits that wait.
    named: Arc<NamedLimits>,
    denier: Denier,
    pardons: PardonView,
    top: TopView,
}

/// How often a session did what. These numbers only ever grow; each has a line of the same name in the table of
/// counters (`status/counters.rs`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// Keys added.
    pub add: u64,
    /// Keys counted.
    pub count: u64,
    /// Keys added and counted.
    pub hit: u64,
    /// Keys counted with bounds.
    pub bounds: u64,
    /// Questions what this engine is.
    pub info: u64,
    /// Questions for the list of sketches.
    pub sketches: u64,
    /// Keys counted in a window.
    pub window: u64,
    /// Requests with limits of the asker's.
    pub limits: u64,
    /// Hits by the name of a limit of the node's.
    pub hit_by_name: u64,
    /// Pardons.
    pub pardon: u64,
    /// Questions for the largest keys.
    pub top: u64,
    /// Requests that had been applied before.
    pub repeats: u64,
}

/// What waits for an estimate.
#[derive(Debug, Clone, Copy)]
struct Asked<T> {
    question: Question,
    token: T,
}

impl<T: Copy> Session<T> {
    /// A session that has done nothing yet.
    #[must_use]
    pub fn new(engine: Arc<Engine>) -> Self {
        Self::with(engine, Batch::new)
    }

    /// As [`new`](Self::new), for whoever adds seldom: see [`Batch::sharing`].
    #[must_use]
    pub fn sharing(engine: Arc<Engine>) -> Self {
        Self::with(engine, Batch::sharing)
    }

    /// As [`new`](Self::new), with batches that work in this way.
    #[cfg(test)]
    pub(in crate::engine) fn with_way(engine: Arc<Engine>, way: rmbd_store::Way) -> Self {
        Self::with(engine, |replica| Batch::with_way(replica, way))
    }

    fn with(engine: Arc<Engine>, batch: impl Fn(Arc<Replica>) -> Batch<Asked<T>>) -> Self {
        let others = engine.registry.sketches().iter().skip(1);
        let others = others.map(|sketch| batch(Arc::clone(&sketch.replica)));
        let default = batch(Arc::clone(engine.replica()));
        Self {
            batches: Batches::new(default, others),
            max_weight: engine.max_weight,
            top: TopView::of(&engine.top),
            denier: Denier::new(&engine.denied),
            named: engine.limits(),
            engine,
            tally: Tally::default(),
            cookie: None,
            limits: LimitView::default(),
            pardons: PardonView::default(),
        }
    }

    /// The largest weight that it takes.
    #[must_use]
    pub fn max_weight(&self) -> Weight {
        self.max_weight
    }

    /// What it has done so far.
    #[must_use]
    pub fn tally(&self) -> &Tally {
        &self.tally
    }

    /// The sketch of this number, for the calls of a request.
    ///
    /// # Errors
    /// [`Refusal::UnknownSketch`].
    #[inline]
    pub fn open(&self, number: SketchNumber) -> Result<SketchIndex, Refusal> {
        let sketch = self.engine.registry.find(number);
        sketch.ok_or(Refusal::UnknownSketch)
    }

    /// Makes sure that all weights of a request may be added before the next [`finish`](Self::finish), however much
    /// others add meanwhile. They are at most `bound` together; `sum`, which says how much, is asked only where so much
    /// is not there in plenty.
    ///
    /// # Errors
    /// [`Refusal::Exhausted`]: not until the next pass over the cells. [`Refusal::TooHeavy`]: they are above
    /// [`REQUEST_WEIGHT_MAX`].
    #[inline]
    pub fn provide(
        &mut self,
        sketch: SketchIndex,
        bound: u64,
        sum: impl FnOnce() -> u64,
    ) -> Result<(), Refusal> {
        let batch = self.batches.of(sketch);
        if batch.provide_of_plenty(bound) {
            return Ok(());
        }
        let sum = sum();
        if sum > REQUEST_WEIGHT_MAX {
            return Err(Refusal::TooHeavy);
        }
        Ok(batch.provide(sum)?)
    }

    /// Asks whether a request was applied before. Where it was not it is marked as applied, so all of it must be.
    ///
    /// # Errors
    /// It may not be applied: it means a start whose requests are not known here, is too old to tell, or its client
    /// is new and gets no place (yet: [`Refusal::AddressUnproven`] asks for [`cookie`](Self::cookie)).
    pub fn admit(&mut self, request: Numbered<'_>, now: Duration) -> Result<Turn, Refusal> {
        if request.boot != self.engine.boot && !self.engine.knows_earlier(request.boot) {
            return Err(Refusal::WrongBoot);
        }
        let once = &self.engine.once;
        match once.admit(request.caller, request.sequence, now) {
            Admission::New => Ok(Turn::First),
            Admission::Repeat => {
                self.tally.repeats += 1;
                Ok(Turn::Repeat)
            }
            Admission::TooOld => Err(Refusal::SequenceTooOld),
            Admission::Unproven => Err(Refusal::AddressUnproven),
            Admission::NetworkFull => Err(Refusal::OnceNetworkFull),
            Admission::Full => Err(Refusal::OnceTableFull),
        }
    }

    /// What a new exactly-once client at this address is to show.
    pub fn cookie(&mut self, ip: IpAddr, now: Duration) -> [u8; COOKIE_BYTES] {
        match self.cookie {
            Some(made) if (made.ip, made.now) == (ip, now) => made.bytes,
            _ => {
                let bytes = self.engine.once.cookie(ip, now);
                self.cookie = Some(MadeCookie { ip, now, bytes });
                bytes
            }
        }
    }

    /// A weight, if it is taken.
    ///
    /// # Errors
    /// [`Refusal::WeightTooLarge`].
    #[inline]
    pub fn weigh(&self, weight: u64) -> Result<Allowed, Refusal> {
        let weight = u32::try_from(weight).ok();
        let weight = weight.and_then(|weight| Weight::new(weight).ok());
        weight
            .filter(|&weight| weight <= self.max_weight)
            .map(Allowed)
            .ok_or(Refusal::WeightTooLarge)
    }

    /// A question about the last `window_ms` milliseconds of a sketch; 0 is all time, which needs no question. The
    /// clock is read where there is one.
    ///
    /// # Errors
    /// [`Refusal::UnknownWindow`].
    #[inline]
    pub fn window(
        &self,
        sketch: SketchIndex,
        window_ms: u64,
        reading: Reading,
        now: impl FnOnce() -> Duration,
    ) -> Result<Option<WindowQuestion>, Refusal> {
        if window_ms == 0 {
            return Ok(None);
        }
        let window = self.engine.registry.replica(sketch).find_window(window_ms);
        Ok(Some(WindowQuestion {
            window: window.ok_or(Refusal::UnknownWindow)?,
            reading,
            now: now(),
        }))
    }

    /// Adds `weight` to `key`.
    ///
    /// # Errors
    /// [`Exhausted`], but for what was [provided](Self::provide): nothing was added.
    #[inline(always)]
    pub fn add(
        &mut self,
        admitted: Admitted,
        key: &[u8],
        Allowed(weight): Allowed,
        answer: &mut impl FnMut(T, Answer),
    ) -> Result<(), Exhausted> {
        if admitted.turn == Turn::First {
            let batch = self.batches.of(admitted.sketch);
            batch.add(
                key,
                weight,
                &mut into(&self.named, &mut self.denier, &self.engine.once, answer),
            )?;
            self.tally.add += 1;
        }
        Ok(())
    }

    /// Asks for the estimate of `key`.
    #[inline]
    pub fn count(
        &mut self,
        sketch: SketchIndex,
        key: &[u8],
        token: T,
        answer: &mut impl FnMut(T, Answer),
    ) {
        self.tally.count += 1;
        self.ask(sketch, key, Question::Count, token, answer);
    }

    /// Asks for the estimate of `key` in a window; `None` is all time.
    #[inline]
    pub fn count_in(
        &mut self,
        sketch: SketchIndex,
        key: &[u8],
        window: Option<WindowQuestion>,
        token: T,
        answer: &mut impl FnMut(T, Answer),
    ) {
        self.tally.window += 1;
        let question = Question::Window;
        let Some(window) = window else {
            return self.ask(sketch, key, question, token, answer);
        };
        let batch = self.batches.of(sketch);
        let asked = Asked { question, token };
        batch.count_in(
            key,
            window,
            asked,
            &mut into(&self.named, &mut self.denier, &self.engine.once, answer),
        );
    }

    /// Adds `weight` to `key`, then asks whether its estimate is within `limit`. A repeat only asks.
    ///
    /// # Errors
    /// [`Exhausted`], but for what was [provided](Self::provide): nothing was added or asked.
    #[inline]
    pub fn hit(
        &mut self,
        admitted: Admitted,
        key: &[u8],
        Allowed(weight): Allowed,
        limit: Limit,
        token: T,
        answer: &mut impl FnMut(T, Answer),
    ) -> Result<(), Exhausted> {
        let weight = match admitted.turn {
            Turn::First => weight,
            Turn::Repeat => Weight::ZERO,
        };
        let question = Question::Hit { limit };
        let asked = Asked { question, token };
        let weighed = (weight, limit.limit);
        let batch = self.batches.of(admitted.sketch);
        match limit.window {
            None => batch.hit(
                key,
                weighed,
                asked,
                &mut into(&self.named, &mut self.denier, &self.engine.once, answer),
            )?,
            Some(window) => {
                batch.hit_in(
                    key,
                    weighed,
                    window,
                    asked,
                    &mut into(&self.named, &mut self.denier, &self.engine.once, answer),
                )?;
            }
        }
        self.tally.hit += 1;
        Ok(())
    }

    /// Asks for all bounds of `key`.
    pub fn bounds(
        &mut self,
        sketch: SketchIndex,
        key: &[u8],
        token: T,
        answer: &mut impl FnMut(T, Answer),
    ) {
        self.tally.bounds += 1;
        let batch = self.batches.of(sketch);
        let waiting = batch.weight(&mut into(
            &self.named,
            &mut self.denier,
            &self.engine.once,
            answer,
        ));
        let replica = batch.replica();
        // What other threads have under way may be in cells already and not in N yet.
        let total_weight = replica.total_weight().saturating_add(waiting);
        let question = Question::bounds(replica, total_weight);
        self.ask(sketch, key, question, token, answer);
    }

    /// What the engine is, for this sketch; it does not change.
    pub fn info(&mut self, sketch: SketchIndex) -> Info {
        self.tally.info += 1;
        self.engine.info(sketch)
    }

    /// Counts a question for the list of sketches, which the [registry](Engine::registry) has.
    pub fn sketches(&mut self) {
        self.tally.sketches += 1;
    }

    /// The largest keys of a sketch, of all time (0) or in a whole window that it keeps, as they were told last.
    ///
    /// # Errors
    /// [`Refusal::NoTopList`], [`Refusal::UnknownWindow`].
    pub fn top(&mut self, sketch: SketchIndex, window_ms: u64) -> Result<TopAnswer<'_>, Refusal> {
        self.tally.top += 1;
        let lists = self.top.lists(&self.engine.top, sketch);
        let replica = self.engine.registry.replica(sketch);
        TopAnswer::find(lists, replica, window_ms)
    }

    /// Answers what was asked, and shows everybody what was added.
    pub fn finish(&mut self, answer: &mut impl FnMut(T, Answer)) {
        self.batches.finish(&mut into(
            &self.named,
            &mut self.denier,
            &self.engine.once,
            answer,
        ));
    }

    /// Asks for the estimate of `key`, of which the answer to `question` is made.
    #[inline]
    fn ask(
        &mut self,
        sketch: SketchIndex,
        key: &[u8],
        question: Question,
        token: T,
        answer: &mut impl FnMut(T, Answer),
    ) {
        let asked = Asked { question, token };
        let batch = self.batches.of(sketch);
        batch.count(
            key,
            asked,
            &mut into(&self.named, &mut self.denier, &self.engine.once, answer),
        );
    }
}

/// What a batch tells of, for whoever waits for answers.
#[inline(always)]
fn into<T>(
    limits: &NamedLimits,
    denier: &mut Denier,
    once: &OnceTable,
    answer: &mut impl FnMut(T, Answer),
) -> impl FnMut(Asked<T>, Estimate) {
    |asked, estimate| {
        let told = asked.question.answer(estimate, limits, denier, once);
        answer(asked.token, told);
    }
}
