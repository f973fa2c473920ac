//! What a message does: one session, which one message at a time asks.

use std::sync::Arc;
use std::time::Instant;

use super::question::{Limit, Problem, Question, Terms, shown};
use crate::config::span_text;
use crate::engine::{Admitted, Answer, LimitPart, LimitParts, LimitsAnswer, Refusal};
use crate::fronts::own_session::OwnSession;
use crate::shared::Shared;
use crate::status::{PublishedFront, Tally};
use rmbd_store::{Reading, SketchIndex};

/// The session of HAProxy, and what it has done.
pub(super) struct Desk {
    own: OwnSession<()>,
}

impl Desk {
    pub(super) fn new(shared: &Shared, published: Arc<PublishedFront>) -> Self {
        Self {
            own: OwnSession::new(shared, published),
        }
    }

    /// Does what is asked. What it has added everybody sees then.
    pub(super) fn ask(
        &mut self,
        shared: &Shared,
        question: &Question<'_>,
    ) -> Result<LimitsAnswer, Problem> {
        let mut told = None;
        let mut answer = |(), answer: Answer| told = Some(answer);
        let outcome = match question.limit {
            Limit::Named(name) => self.check(shared, name, question, &mut answer),
            Limit::Inline(terms) => self.keep(shared, &terms, question, &mut answer),
        };
        self.own.session.finish(&mut answer);
        outcome?;
        match told {
            Some(Answer::Limits(told) | Answer::NamedLimit(told)) => Ok(told),
            // A question that was taken is answered.
            _ => Err(Problem::BUSY),
        }
    }

    fn check(
        &mut self,
        shared: &Shared,
        name: &[u8],
        question: &Question<'_>,
        answer: &mut impl FnMut((), Answer),
    ) -> Result<(), Problem> {
        let limits = shared.engine().limits();
        let rule = limits.find(name).map(|limit| &limit.rule);
        let unknown = || Problem::refused(format!("there is no limit {} here", shown(name)));
        let rule = rule.ok_or_else(unknown)?;
        let weight = question.weight.saturating_mul(rule.cost.into());
        self.provide(rule.sketch, weight)?;
        let (named, admitted) = ((name, &*question.key), Admitted::to(rule.sketch));
        let weight = question.weight;
        let asked =
            (self.own.session).hit_by_name(admitted, named, weight, || shared.now(), (), answer);
        asked.map_err(Problem::of)
    }

    fn keep(
        &mut self,
        shared: &Shared,
        terms: &Terms<'_>,
        question: &Question<'_>,
        answer: &mut impl FnMut((), Answer),
    ) -> Result<(), Problem> {
        let Terms {
            sketch,
            limit,
            window_ms,
            takes,
        } = *terms;
        let found = shared.engine().registry().by_name(sketch);
        let unknown = || Problem::refused(format!("there is no sketch {} here", shown(sketch)));
        let sketch = found.ok_or_else(unknown)?;
        self.provide(sketch, question.weight)?;
        let now = || shared.now();
        let window = self
            .own
            .session
            .window(sketch, window_ms, Reading::Smooth, now);
        let window = window.map_err(|refusal| match refusal {
            Refusal::UnknownWindow => {
                let window = span_text(window_ms);
                Problem::refused(format!("the sketch keeps no window of {window}"))
            }
            other => Problem::of(other),
        })?;
        let mut parts = LimitParts::default();
        // One part fits.
        let _ = parts.push(LimitPart {
            sketch,
            key: &question.key,
            weight: self
                .own
                .session
                .weigh(question.weight)
                .map_err(Problem::of)?,
            limit,
            window,
            credit: 0,
        });
        let asked = (self.own.session).limits(Admitted::to(sketch), &parts, takes, (), answer);
        asked.map_err(Problem::of)
    }

    /// Makes sure that so much may be added.
    fn provide(&mut self, sketch: SketchIndex, weight: u64) -> Result<(), Problem> {
        self.own.session.weigh(weight).map_err(Problem::of)?;
        let provided = self.own.session.provide(sketch, weight, || weight);
        provided.map_err(Problem::of)
    }

    /// Notes how long a question took.
    pub(super) fn note_time(&self, since: Instant) {
        self.own.note_time(since);
    }

    /// Counts what happened.
    pub(super) fn note(&mut self, count: impl FnOnce(&mut Tally)) {
        self.own.note(count);
    }
}
