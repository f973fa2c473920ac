//! The session of a front that one thread serves, with the numbers of what it has done.

use std::sync::Arc;
use std::time::Instant;

use crate::engine::Session;
use crate::shared::Shared;
use crate::status::{PublishedFront, Tally};

/// A session beside those of the data threads, and what it and its front have done.
pub(super) struct OwnSession<T: Copy> {
    pub(super) session: Session<T>,
    tally: Tally,
    published: Arc<PublishedFront>,
}

impl<T: Copy> OwnSession<T> {
    /// `published` is where others read the numbers.
    pub(super) fn new(shared: &Shared, published: Arc<PublishedFront>) -> Self {
        Self {
            session: Session::sharing(Arc::clone(shared.engine())),
            tally: Tally::default(),
            published,
        }
    }

    /// Counts something, and publishes it with what the session has done.
    pub(super) fn note(&mut self, count: impl FnOnce(&mut Tally)) {
        count(&mut self.tally);
        self.tally.take_over(self.session.tally());
        self.published.tally().publish(&self.tally);
    }

    /// Notes how long a request took, from when all of it was read until its answer was made.
    pub(super) fn note_time(&self, since: Instant) {
        self.published.times().record(since.elapsed(), 1);
    }

    #[cfg(test)]
    pub(super) fn published(&self) -> &Arc<PublishedFront> {
        &self.published
    }
}
