//! What a request does: one session, which one request at a time asks.

use std::sync::Arc;
use std::time::Duration;

use super::problem::Problem;
use super::question::{Operation, Question};
use crate::engine::{Admitted, Answer, Refusal};
use crate::fronts::own_session::OwnSession;
use crate::shared::Shared;
use crate::status::{PublishedFront, Tally};
use rmbd_store::SketchIndex;

/// The session of HTTP, and what it has done.
pub(super) struct Desk {
    pub(super) own: OwnSession<usize>,
    answers: Vec<Option<Answer>>,
}

impl Desk {
    pub(super) fn new(shared: &Shared, published: Arc<PublishedFront>) -> Self {
        Self {
            own: OwnSession::new(shared, published),
            answers: Vec::new(),
        }
    }

    /// Does all that is asked, in its order, and returns the answers in the order of the questions. What does not
    /// answer has none. All of it is done, or nothing.
    pub(super) fn perform(
        &mut self,
        operation: Operation,
        sketch: SketchIndex,
        questions: &[Question<'_>],
        now: Duration,
    ) -> Result<&[Option<Answer>], Problem> {
        self.provide(sketch, questions)?;
        self.answers.clear();
        self.answers.resize(questions.len(), None);
        let outcome = self.ask_all(operation, sketch, questions, now);
        self.finish();
        outcome?;
        Ok(&self.answers)
    }

    /// Makes sure that all may be added.
    fn provide(&mut self, sketch: SketchIndex, questions: &[Question<'_>]) -> Result<(), Refusal> {
        let mut sums: Vec<(SketchIndex, u64)> = Vec::new();
        let weights = questions.iter().flat_map(|it| it.weights(sketch));
        for (sketch, weight) in weights {
            match sums.iter_mut().find(|(it, _)| *it == sketch) {
                Some((_, sum)) => *sum = sum.saturating_add(weight),
                None => sums.push((sketch, weight)),
            }
        }
        sums.into_iter()
            .try_for_each(|(sketch, sum)| self.own.session.provide(sketch, sum, || sum))
    }

    fn ask_all(
        &mut self,
        operation: Operation,
        sketch: SketchIndex,
        questions: &[Question<'_>],
        now: Duration,
    ) -> Result<(), Refusal> {
        let (session, answers) = (&mut self.own.session, &mut self.answers);
        let mut answer = |at: usize, told: Answer| {
            if let Some(place) = answers.get_mut(at) {
                *place = Some(told);
            }
        };
        let admitted = Admitted::to(sketch);
        for (at, question) in questions.iter().enumerate() {
            match question {
                Question::Add { key, weight, .. } => {
                    session.add(admitted, key, *weight, &mut answer)?;
                }
                Question::Count { key, window: None } => {
                    session.count(sketch, key, at, &mut answer);
                }
                Question::Count { key, window } => {
                    session.count_in(sketch, key, *window, at, &mut answer);
                }
                Question::Keep(keep) => {
                    let takes = operation == Operation::Take;
                    session.limits(admitted, &keep.parts, takes, at, &mut answer)?;
                }
                Question::ByName(by) => {
                    let named = (by.name.as_bytes(), by.key);
                    session.hit_by_name(admitted, named, by.weight, || now, at, &mut answer)?;
                }
            }
        }
        Ok(())
    }

    /// Answers what waits, and shows everybody what was added.
    pub(super) fn finish(&mut self) {
        let answers = &mut self.answers;
        self.own.session.finish(&mut |at, told| {
            if let Some(place) = answers.get_mut(at) {
                *place = Some(told);
            }
        });
    }

    #[cfg(test)]
    pub(super) fn published(&self) -> &Arc<PublishedFront> {
        self.own.published()
    }

    /// Counts a request.
    pub(super) fn note(&mut self, count: impl FnOnce(&mut Tally)) {
        self.own.note(count);
    }
}
