//! What a request asks: for each descriptor its limit, its key and its hits.

use std::ops::Range;
use std::time::Duration;

use super::book::Book;
use super::without_limit;
use crate::engine::{Allowed, Engine, LimitPart, LimitsAnswer, Session};
use rmbd_envoy::{
    Code, DescriptorStatus, Override, RateLimit, RateLimitDescriptor, RateLimitRequest, Undecided,
    Unit,
};
use rmbd_rules::{
    Amount, COUNTER_KEY_BYTES_MAX, Descriptor, Entry, RuleIndex, Unit as RuleUnit, counter_key,
};
use rmbd_store::{Reading, SketchIndex, WindowQuestion};

/// The questions of a request.
#[derive(Debug)]
pub(super) struct Asked<'b> {
    /// One for each descriptor.
    pub(super) questions: Vec<Question<'b>>,
    /// The keys of all of them, one behind the other.
    pub(super) keys: Vec<u8>,
    pub(super) is_domain_known: bool,
    /// Number of descriptors with their own limit.
    pub(super) overrides: u64,
    /// Number of those whose unit has no window here.
    pub(super) overrides_without_window: u64,
}

/// What is asked of a descriptor.
#[derive(Debug)]
pub(super) enum Question<'b> {
    /// Nothing limits it.
    Free,
    /// Its rule lets all of it pass.
    Unlimited { rule: RuleIndex },
    /// A count decides.
    Limited(Box<Limited<'b>>),
}

/// A descriptor with a limit.
#[derive(Debug)]
pub(super) struct Limited<'b> {
    /// Its rule; `None` where it brings its limit.
    pub(super) rule: Option<RuleIndex>,
    /// The place of its key among all keys.
    pub(super) key: Range<usize>,
    /// How much it takes.
    pub(super) hits: u64,
    /// What it asks the session for; `None` where its hits are more than the limit in any case, and more than is
    /// taken at once.
    weight: Option<Allowed>,
    requests: u32,
    unit: RuleUnit,
    window: WindowQuestion,
    name: &'b str,
    is_shadow: bool,
    told: Told,
}

/// What a count has decided.
#[derive(Debug, Clone, Copy, Default)]
struct Told {
    is_over: bool,
    estimate: u64,
    remaining: u64,
    wait: Option<Duration>,
}

/// What a request is read with.
pub(super) struct Reader<'a> {
    pub(super) engine: &'a Engine,
    /// The sketch that counts; without it there are no rules.
    pub(super) sketch: Option<SketchIndex>,
    pub(super) session: &'a Session<usize>,
    pub(super) now: Duration,
}

impl Reader<'_> {
    /// Finds the limits of all descriptors.
    ///
    /// # Errors
    /// [`Undecided::Invalid`]: a key is too long, or hits are too many.
    pub(super) fn read<'b>(
        &self,
        book: &'b Book,
        request: &RateLimitRequest,
    ) -> Result<Asked<'b>, Undecided> {
        let all: Vec<Vec<Entry<'_>>> = request.descriptors.iter().map(entries).collect();
        let own: Vec<Option<OwnLimit>> = (request.descriptors.iter())
            .map(|it| self.own(it))
            .collect();
        let descriptors: Vec<_> = all
            .iter()
            .zip(&own)
            .map(|(entries, own)| Descriptor {
                has_own_limit: matches!(own, Some(OwnLimit::Here(..))),
                ..Descriptor::new(entries)
            })
            .collect();
        let met = book.rules.of_request(&request.domain, &descriptors);
        let is_domain_known = met.is_domain_known();
        let mut asked = Asked {
            questions: Vec::with_capacity(all.len()),
            keys: Vec::new(),
            is_domain_known,
            overrides: own.iter().flatten().count() as u64,
            overrides_without_window: own
                .iter()
                .filter(|it| **it == Some(OwnLimit::Unknown))
                .count() as u64,
        };
        let each = request.descriptors.iter().zip(&descriptors).zip(&own);
        for (((descriptor, entries), own), rule) in each.zip(met.rules()) {
            let hits = hits(request, descriptor);
            let found = match own {
                Some(OwnLimit::Here(limit, unit)) if is_domain_known => {
                    Found::Own(limit.requests_per_unit, *unit)
                }
                _ => Found::of(book, *rule),
            };
            let question = match found {
                Found::Nothing => Question::Free,
                Found::Unlimited(rule) => Question::Unlimited { rule },
                Found::Own(requests, unit) => {
                    let key = asked.key(&request.domain, entries.entries)?;
                    self.limited(None, (requests, unit), hits, key, ("", false))?
                }
                Found::Rule(index, requests, unit) => {
                    let key = asked.key(&request.domain, entries.entries)?;
                    let rule = &book.rules[index];
                    let name = rule.name.as_deref().unwrap_or_default();
                    let named = (name, rule.is_shadow);
                    self.limited(Some(index), (requests, unit), hits, key, named)?
                }
            };
            asked.questions.push(question);
        }
        Ok(asked)
    }

    /// The limit that a descriptor brings.
    fn own(&self, descriptor: &RateLimitDescriptor) -> Option<OwnLimit> {
        let limit = descriptor.limit?;
        let unit = rule_unit(limit.unit()).filter(|unit| self.window(*unit).is_some());
        Some(unit.map_or(OwnLimit::Unknown, |unit| OwnLimit::Here(limit, unit)))
    }

    fn window(&self, unit: RuleUnit) -> Option<WindowQuestion> {
        let window = self
            .session
            .window(self.sketch?, unit.window_ms(), Reading::Smooth, || self.now);
        window.ok().flatten()
    }

    fn limited<'b>(
        &self,
        rule: Option<RuleIndex>,
        (requests, unit): (u32, RuleUnit),
        hits: u64,
        key: Range<usize>,
        (name, is_shadow): (&'b str, bool),
    ) -> Result<Question<'b>, Undecided> {
        let weight = self.session.weigh(hits).ok();
        if weight.is_none() && hits <= requests.into() {
            let most = self.engine.max_weight().get();
            return Err(Undecided::Invalid(format!(
                "hits_addend {hits} is above {most}, the most that is taken at once here (--max-weight)"
            )));
        }
        // A reload that needs another window was refused, so that it is there.
        let Some(window) = self.window(unit) else {
            return Ok(Question::Free);
        };
        Ok(Question::Limited(Box::new(Limited {
            rule,
            key,
            hits,
            weight,
            requests,
            unit,
            window,
            name,
            is_shadow,
            // Where nothing is asked, it is over for ever.
            told: Told {
                is_over: true,
                ..Told::default()
            },
        })))
    }
}

/// A limit that a descriptor brings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum OwnLimit {
    Here(Override, RuleUnit),
    /// Its unit has no window here.
    Unknown,
}

/// What limits a descriptor.
enum Found {
    Nothing,
    Unlimited(RuleIndex),
    Own(u32, RuleUnit),
    Rule(RuleIndex, u32, RuleUnit),
}

impl Found {
    fn of(book: &Book, rule: Option<RuleIndex>) -> Self {
        let Some(index) = rule else {
            return Self::Nothing;
        };
        match book.rules[index].amount {
            Amount::Unlimited => Self::Unlimited(index),
            Amount::PerUnit { requests, unit } => Self::Rule(index, requests, unit),
        }
    }
}

impl Asked<'_> {
    /// Writes a descriptor's key behind those before.
    fn key(&mut self, domain: &str, entries: &[Entry<'_>]) -> Result<Range<usize>, Undecided> {
        let mut key = Vec::new();
        counter_key(domain, entries, &mut key);
        if key.len() > COUNTER_KEY_BYTES_MAX {
            return Err(Undecided::Invalid(format!(
                "the key of a descriptor has {} bytes, above the limit of {COUNTER_KEY_BYTES_MAX}: shorten its values",
                key.len()
            )));
        }
        let start = self.keys.len();
        self.keys.extend_from_slice(&key);
        Ok(start..self.keys.len())
    }
}

impl Question<'_> {
    /// What it takes if it is within its limit.
    pub(super) fn taken(&self) -> Option<u64> {
        match self {
            Self::Limited(limited) => limited.weight.map(|_| limited.hits),
            _ => None,
        }
    }

    /// What the session is asked.
    pub(super) fn part<'k>(&self, sketch: SketchIndex, keys: &'k [u8]) -> Option<LimitPart<'k>> {
        let Self::Limited(limited) = self else {
            return None;
        };
        Some(LimitPart {
            sketch,
            key: keys.get(limited.key.clone())?,
            weight: limited.weight?,
            limit: limited.requests.into(),
            window: Some(limited.window),
            credit: 0,
        })
    }

    /// Takes the answer of the session.
    pub(super) fn tell(&mut self, told: &LimitsAnswer) {
        if let Self::Limited(limited) = self {
            limited.told = Told {
                is_over: told.is_over,
                estimate: told.estimate,
                remaining: told.remaining,
                wait: told.retry_after,
            };
        }
    }

    /// What is answered to the descriptor.
    pub(super) fn status(&self) -> DescriptorStatus {
        match self {
            Self::Free => without_limit(),
            Self::Unlimited { .. } => DescriptorStatus {
                limit_remaining: u32::MAX,
                ..without_limit()
            },
            Self::Limited(limited) => limited.status(),
        }
    }
}

impl Limited<'_> {
    /// Whether it is over its limit.
    pub(super) fn is_over(&self) -> bool {
        self.told.is_over
    }

    /// Whether it is near its limit: within it, and above four fifths of it.
    pub(super) fn is_near(&self) -> bool {
        let Told {
            is_over, estimate, ..
        } = self.told;
        !is_over && estimate.saturating_mul(5) > u64::from(self.requests) * 4
    }

    /// Whether it passes although it is over its limit.
    pub(super) fn is_shadow(&self) -> bool {
        self.is_shadow
    }

    fn status(&self) -> DescriptorStatus {
        let told = self.told;
        let unit = Duration::from_millis(self.unit.window_ms());
        let wait = match told.is_over {
            // Proxies read whole seconds, and whoever comes too early waits once more.
            true => told.wait.map_or(unit, whole_seconds),
            false => unit,
        };
        let code = match told.is_over && !self.is_shadow {
            true => Code::OverLimit,
            false => Code::Ok,
        };
        DescriptorStatus {
            current_limit: Some(RateLimit {
                requests_per_unit: self.requests,
                unit: unit_of(self.unit).into(),
                name: self.name.to_owned(),
            }),
            limit_remaining: u32::try_from(told.remaining).unwrap_or(u32::MAX),
            duration_until_reset: Some(wait.into()),
            ..DescriptorStatus::of(code)
        }
    }
}

fn whole_seconds(wait: Duration) -> Duration {
    Duration::from_secs(wait.as_secs() + u64::from(wait.subsec_nanos() > 0))
}

fn entries(descriptor: &RateLimitDescriptor) -> Vec<Entry<'_>> {
    let entries = descriptor.entries.iter();
    let entries = entries.map(|entry| Entry {
        key: &entry.key,
        value: &entry.value,
    });
    entries.collect()
}

/// How much a descriptor weighs: what it says itself, even 0, else what the request says, at least 1.
fn hits(request: &RateLimitRequest, descriptor: &RateLimitDescriptor) -> u64 {
    let own = descriptor.hits_addend.map(|hits| hits.value);
    own.unwrap_or_else(|| request.hits_addend.max(1).into())
}

fn rule_unit(unit: Unit) -> Option<RuleUnit> {
    match unit {
        Unit::Second => Some(RuleUnit::Second),
        Unit::Minute => Some(RuleUnit::Minute),
        Unit::Hour => Some(RuleUnit::Hour),
        Unit::Day => Some(RuleUnit::Day),
        Unit::Week => Some(RuleUnit::Week),
        Unit::Unknown | Unit::Month | Unit::Year => None,
    }
}

fn unit_of(unit: RuleUnit) -> Unit {
    match unit {
        RuleUnit::Second => Unit::Second,
        RuleUnit::Minute => Unit::Minute,
        RuleUnit::Hour => Unit::Hour,
        RuleUnit::Day => Unit::Day,
        RuleUnit::Week => Unit::Week,
    }
}
