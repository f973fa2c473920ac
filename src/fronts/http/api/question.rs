//! What a request means: each of its items, checked as far as it can be before anything is done.

use std::borrow::Cow;
use std::time::Duration;

use super::problem::{Kind, Problem};
use super::request::{Asked, HowToRead, Item, LIMITS_MAX, Limits, Request, Span};
use crate::engine::limits::{Amount, Applies};
use crate::engine::{Allowed, Engine, LimitPart, LimitParts, NamedLimits, Refusal, Session};
use rmbd_proto::compact::KEY_BYTES_MAX;
use rmbd_store::{Reading, SketchIndex, WindowQuestion};

/// What is done with each item.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Operation {
    Add,
    Count,
    /// Adds, and says whether that is within the limits.
    Hit,
    /// Adds where that is within the limits.
    Take,
}

/// An item that is understood.
#[derive(Debug)]
pub(super) enum Question<'q> {
    Add {
        key: &'q [u8],
        weight: Allowed,
        weighs: u64,
    },
    Count {
        key: &'q [u8],
        window: Option<WindowQuestion>,
    },
    Keep(Box<Keep<'q>>),
    ByName(Box<ByName<'q>>),
}

/// Limits that stand in the request.
#[derive(Debug)]
pub(super) struct Keep<'q> {
    pub(super) parts: LimitParts<'q>,
    pub(super) said: SaidLimits<'q>,
    /// The sketch and the weight of each.
    weights: [(SketchIndex, u64); LIMITS_MAX],
}

/// A limit of the node.
#[derive(Debug)]
pub(super) struct ByName<'q> {
    pub(super) name: &'q str,
    pub(super) key: &'q [u8],
    pub(super) weight: u64,
    pub(super) said: SaidLimits<'q>,
    sketch: SketchIndex,
    weighs: u64,
}

/// The limits of an item, as its answer names them.
#[derive(Debug, Clone, Copy)]
pub(super) struct SaidLimits<'q> {
    all: [SaidLimit<'q>; LIMITS_MAX],
    count: usize,
}

/// One of them.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct SaidLimit<'q> {
    pub(super) key: &'q [u8],
    pub(super) limit: u64,
    /// Milliseconds; 0 is all time.
    pub(super) window_ms: u64,
}

/// What requests are understood by.
pub(super) struct Reader<'e, T: Copy> {
    pub(super) engine: &'e Engine,
    pub(super) session: &'e Session<T>,
    pub(super) limits: &'e NamedLimits,
    pub(super) operation: Operation,
    /// The sketch that the path names.
    pub(super) sketch: SketchIndex,
    pub(super) now: Duration,
}

/// What is said about an item, there or around it.
#[derive(Debug, Clone, Copy, Default)]
struct Said<'q> {
    key: Option<&'q [u8]>,
    weight: Option<u64>,
    window: Option<Span>,
    reading: Option<HowToRead>,
    limit: Option<u64>,
    sketch: Option<&'q str>,
    limit_name: Option<&'q str>,
}

impl Operation {
    pub(super) const ALL: [Self; 4] = [Self::Add, Self::Count, Self::Hit, Self::Take];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Add => "add",
            Self::Count => "count",
            Self::Hit => "hit",
            Self::Take => "take",
        }
    }

    /// Whether it changes counts.
    pub(super) fn adds(self) -> bool {
        self != Self::Count
    }
}

impl<'q> SaidLimits<'q> {
    fn new() -> Self {
        Self {
            all: [SaidLimit::default(); LIMITS_MAX],
            count: 0,
        }
    }

    fn push(&mut self, limit: SaidLimit<'q>) {
        if let Some(place) = self.all.get_mut(self.count) {
            *place = limit;
            self.count += 1;
        }
    }

    pub(super) fn iter(&self) -> impl ExactSizeIterator<Item = &SaidLimit<'q>> {
        self.all[..self.count].iter()
    }

    pub(super) fn get(&self, at: usize) -> Option<&SaidLimit<'q>> {
        self.all[..self.count].get(at)
    }
}

impl Question<'_> {
    /// What it may add to which sketch.
    pub(super) fn weights(&self, sketch: SketchIndex) -> impl Iterator<Item = (SketchIndex, u64)> {
        let (one, several) = match self {
            Self::Add { weighs, .. } => (Some((sketch, *weighs)), &[][..]),
            Self::Count { .. } => (None, &[][..]),
            Self::Keep(keep) => (None, &keep.weights[..keep.said.count]),
            Self::ByName(by) => (Some((by.sketch, by.weighs)), &[][..]),
        };
        one.into_iter().chain(several.iter().copied())
    }
}

impl<T: Copy> Reader<'_, T> {
    /// All items of a request.
    pub(super) fn questions<'q>(
        &self,
        request: &'q Request<'_>,
    ) -> Result<Vec<Question<'q>>, Problem> {
        let outer = request.said();
        let limits = request.limits.as_ref();
        let Some(items) = &request.items else {
            return Ok(vec![self.question(outer, limits)?]);
        };
        let item = |(at, item): (usize, &'q Item<'_>)| {
            let question = self.question(item.said().or(outer), item.limits.as_ref().or(limits));
            question.map_err(|problem| problem.of_item(at))
        };
        items.0.iter().enumerate().map(item).collect()
    }

    fn question<'q>(
        &self,
        said: Said<'q>,
        limits: Option<&'q Limits<'_>>,
    ) -> Result<Question<'q>, Problem> {
        match self.operation {
            Operation::Add => {
                self.lets(said.has_limits() || limits.is_some(), "key and weight")?;
                let (weight, weighs) = self.weight(said)?;
                let key = said.key()?;
                Ok(Question::Add {
                    key,
                    weight,
                    weighs,
                })
            }
            Operation::Count => {
                let has_others = said.weight.is_some()
                    || said.limit.is_some()
                    || said.sketch.is_some()
                    || said.limit_name.is_some()
                    || limits.is_some();
                self.lets(has_others, "key, window and reading")?;
                let window = self.window(self.sketch, said, Reading::Bound)?;
                let key = said.key()?;
                Ok(Question::Count { key, window })
            }
            Operation::Hit | Operation::Take => match (said.limit_name, limits) {
                (Some(name), None) => self.by_name(said, name),
                (None, limits) => self.keep(said, limits),
                (Some(_), Some(_)) => {
                    Err(malformed("give limits, or limit_name, which has its own"))
                }
            },
        }
    }

    /// Refuses what the operation does not know.
    fn lets(&self, has_others: bool, known: &str) -> Result<(), Problem> {
        match has_others {
            false => Ok(()),
            true => Err(malformed(format!(
                "{} takes {known} only",
                self.operation.name()
            ))),
        }
    }

    fn keep<'q>(
        &self,
        outer: Said<'q>,
        limits: Option<&'q Limits<'_>>,
    ) -> Result<Question<'q>, Problem> {
        let mut keep = Keep {
            parts: LimitParts::default(),
            said: SaidLimits::new(),
            weights: [(SketchIndex::DEFAULT, 0); LIMITS_MAX],
        };
        match limits {
            None => self.part(outer, &mut keep)?,
            Some(limits) => {
                for one in &limits.0 {
                    let said = one.said().or(outer);
                    if said.limit_name.is_some() {
                        return Err(malformed("limit_name stands beside limits, not in them"));
                    }
                    self.part(said, &mut keep)?;
                }
            }
        }
        Ok(Question::Keep(Box::new(keep)))
    }

    fn part<'q>(&self, said: Said<'q>, keep: &mut Keep<'q>) -> Result<(), Problem> {
        let limit = said.limit.ok_or_else(|| {
            malformed(
                "no limit: give limit, the largest estimate that is allowed, and window, or the limit_name of one of the \
                 node",
            )
        })?;
        let sketch = match said.sketch {
            None => self.sketch,
            Some(name) => find(self.engine, name)?,
        };
        let (weight, weighs) = self.weight(said)?;
        let key = said.key()?;
        let window_ms = said.window.map_or(0, |Span(ms)| ms);
        let window = self.window(sketch, said, Reading::Smooth)?;
        let part = LimitPart {
            sketch,
            key,
            weight,
            limit,
            window,
            credit: 0,
        };
        // A list has no more than there is room for.
        let _ = keep.parts.push(part);
        keep.weights[keep.said.count] = (sketch, weighs);
        keep.said.push(SaidLimit {
            key,
            limit,
            window_ms,
        });
        Ok(())
    }

    fn by_name<'q>(&self, said: Said<'q>, name: &'q str) -> Result<Question<'q>, Problem> {
        if said.has_own_terms() {
            return Err(malformed(
                "limit_name has limit, window, reading and sketch of its own: leave these out",
            ));
        }
        if self.operation == Operation::Take {
            return Err(malformed(
                "a limit with a name says itself whether a hit that is over it is added: POST it to hit",
            ));
        }
        let weight = said.weight.unwrap_or(1);
        self.hit_by_name(name, said.key()?, weight)
    }

    /// A hit by the name of a limit.
    pub(super) fn hit_by_name<'q>(
        &self,
        name: &'q str,
        key: &'q [u8],
        weight: u64,
    ) -> Result<Question<'q>, Problem> {
        let rule = self.limits.find(name.as_bytes()).map(|limit| &limit.rule);
        let rule = rule.ok_or(Refusal::UnknownLimit)?;
        let weighs = weight.saturating_mul(rule.cost.into());
        self.session.weigh(weighs)?;
        let mut said = SaidLimits::new();
        if let Applies::Amounts(amounts) = rule.applies_to(key) {
            for &Amount { limit, window_ms } in amounts {
                said.push(SaidLimit {
                    key,
                    limit,
                    window_ms,
                });
            }
        }
        Ok(Question::ByName(Box::new(ByName {
            name,
            key,
            weight,
            said,
            sketch: rule.sketch,
            weighs,
        })))
    }

    fn weight(&self, said: Said<'_>) -> Result<(Allowed, u64), Problem> {
        let weight = said.weight.unwrap_or(1);
        Ok((self.session.weigh(weight)?, weight))
    }

    fn window(
        &self,
        sketch: SketchIndex,
        said: Said<'_>,
        usual: Reading,
    ) -> Result<Option<WindowQuestion>, Problem> {
        let Some(Span(window_ms)) = said.window else {
            return match said.reading {
                None => Ok(None),
                Some(_) => Err(malformed(
                    "reading is how a window is read: give window, too",
                )),
            };
        };
        let reading = match said.reading {
            None => usual,
            Some(HowToRead::Bound) => Reading::Bound,
            Some(HowToRead::Smooth) => Reading::Smooth,
        };
        let window = self.session.window(sketch, window_ms, reading, || self.now);
        window.map_err(|refusal| match refusal {
            Refusal::UnknownWindow => unknown_window(self.engine, sketch, window_ms),
            other => other.into(),
        })
    }
}

/// The sketch of this name.
pub(super) fn find(engine: &Engine, name: &str) -> Result<SketchIndex, Problem> {
    engine.registry().by_name(name).ok_or_else(|| {
        let shown: String = name.chars().take(64).collect();
        let detail = format!("there is no sketch {shown:?}: /status names those that there are");
        Problem::new(Kind::UnknownSketch, detail)
    })
}

fn unknown_window(engine: &Engine, sketch: SketchIndex, window_ms: u64) -> Problem {
    let plans = engine.registry().replica(sketch).window_plans();
    let kept: Vec<_> = plans
        .map(|plan| format!("{} ms in steps of {} ms", plan.span_ms(), plan.step_ms()))
        .collect();
    let kept = match kept.is_empty() {
        true => "it keeps none".to_owned(),
        false => format!("it keeps {}", kept.join(", ")),
    };
    let name = &engine.registry().named(sketch).name;
    let detail = format!(
        "{window_ms} ms is no whole number of steps of a window that the sketch {name} keeps: {kept}"
    );
    Problem::new(Kind::UnknownWindow, detail)
}

pub(super) fn malformed(detail: impl Into<Cow<'static, str>>) -> Problem {
    Problem::new(Kind::Malformed, detail)
}

/// A key that is not too long.
pub(super) fn checked_key(key: &[u8]) -> Result<&[u8], Problem> {
    if key.len() <= KEY_BYTES_MAX {
        return Ok(key);
    }
    let detail = format!(
        "a key has at most {KEY_BYTES_MAX} bytes, not {}: hash longer ones",
        key.len()
    );
    Err(Problem::new(Kind::KeyTooLong, detail))
}

impl<Items, Limits> Asked<'_, Items, Limits> {
    fn said(&self) -> Said<'_> {
        Said {
            key: self.key.as_ref().map(|key| &*key.0),
            weight: self.weight,
            window: self.window,
            reading: self.reading,
            limit: self.limit,
            sketch: self.sketch.as_deref(),
            limit_name: self.limit_name.as_deref(),
        }
    }
}

impl<'q> Said<'q> {
    /// What is said here, and else what is said around it.
    fn or(self, outer: Self) -> Self {
        Self {
            key: self.key.or(outer.key),
            weight: self.weight.or(outer.weight),
            window: self.window.or(outer.window),
            reading: self.reading.or(outer.reading),
            limit: self.limit.or(outer.limit),
            sketch: self.sketch.or(outer.sketch),
            limit_name: self.limit_name.or(outer.limit_name),
        }
    }

    fn key(self) -> Result<&'q [u8], Problem> {
        let key = self.key.ok_or_else(|| {
            malformed("no key: give key, or items that have one, such as {\"key\":\"a\"}")
        })?;
        checked_key(key)
    }

    fn has_own_terms(self) -> bool {
        let Self {
            window,
            reading,
            limit,
            sketch,
            ..
        } = self;
        window.is_some() || reading.is_some() || limit.is_some() || sketch.is_some()
    }

    fn has_limits(self) -> bool {
        self.has_own_terms() || self.limit_name.is_some()
    }
}
