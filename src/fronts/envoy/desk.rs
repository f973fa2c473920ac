//! What a request does: one session, which one request at a time asks.

use std::sync::Arc;

use super::question::{Asked, Question};
use crate::engine::{Admitted, Answer, LimitParts, Refusal};
use crate::fronts::own_session::OwnSession;
use crate::shared::Shared;
use crate::status::{PublishedFront, Tally};
use rmbd_envoy::Undecided;
use rmbd_store::SketchIndex;

/// The session of the rate limit service, and what it has done.
pub(super) struct Desk {
    pub(super) own: OwnSession<usize>,
}

impl Desk {
    pub(super) fn new(shared: &Shared, published: Arc<PublishedFront>) -> Self {
        Self {
            own: OwnSession::new(shared, published),
        }
    }

    /// Asks all questions that a count decides, in their order, and puts the answers beside them. All of it is done,
    /// or nothing.
    pub(super) fn perform(
        &mut self,
        sketch: SketchIndex,
        asked: &mut Asked<'_>,
    ) -> Result<(), Undecided> {
        let Asked {
            questions, keys, ..
        } = asked;
        let hits = questions.iter().filter_map(Question::taken);
        let hits = hits.fold(0, u64::saturating_add);
        self.own
            .session
            .provide(sketch, hits, || hits)
            .map_err(undecided)?;
        let outcome = self.ask_all(sketch, questions, keys);
        // Answers of those that were asked come in any case, so that none waits for the next request.
        self.own
            .session
            .finish(&mut |at, told| tell(questions, at, told));
        outcome.map_err(undecided)
    }

    fn ask_all(
        &mut self,
        sketch: SketchIndex,
        questions: &mut [Question<'_>],
        keys: &[u8],
    ) -> Result<(), Refusal> {
        for at in 0..questions.len() {
            let part = questions.get(at).and_then(|it| it.part(sketch, keys));
            let Some(part) = part else {
                continue;
            };
            let mut parts = LimitParts::default();
            // One part fits.
            let _ = parts.push(part);
            let mut answer = |at, told| tell(questions, at, told);
            (self.own.session).limits(Admitted::to(sketch), &parts, true, at, &mut answer)?;
        }
        Ok(())
    }

    /// Shows everybody what was added.
    pub(super) fn finish(&mut self) {
        self.own.session.finish(&mut |_, _| {});
    }

    /// Counts something.
    pub(super) fn note(&mut self, count: impl FnOnce(&mut Tally)) {
        self.own.note(count);
    }
}

fn tell(questions: &mut [Question<'_>], at: usize, told: Answer) {
    if let (Some(question), Answer::Limits(told)) = (questions.get_mut(at), told) {
        question.tell(&told);
    }
}

fn undecided(refusal: Refusal) -> Undecided {
    match refusal {
        Refusal::TooHeavy => Undecided::Invalid(
            "all hits of a request together are above 2^29: send several requests".to_owned(),
        ),
        _ => Undecided::Unavailable(
            "the node takes no more until its next pass over the cells: ask again".to_owned(),
        ),
    }
}
