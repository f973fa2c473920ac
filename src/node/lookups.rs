//! Names looked up for a node: with its resolver, on threads of its crew.

use std::io;
use std::time::Duration;

use super::crew::{Crew, Part};
use crate::names::{HostPort, Lookup, Resolver, Work, look_up_by, look_up_within_by};

/// Cloned for all of a node who look up.
#[derive(Clone)]
pub(crate) struct Lookups {
    crew: Crew,
    resolver: Resolver,
}

impl Lookups {
    pub(crate) fn new(crew: Crew, resolver: Resolver) -> Self {
        Self { crew, resolver }
    }

    /// With a crew that nobody hears of.
    #[cfg(test)]
    #[allow(clippy::unwrap_used)]
    pub(crate) fn of(resolver: Resolver) -> Self {
        Self::new(Crew::new().unwrap().0, resolver)
    }

    /// Looks a name up on a thread of its own: a slow resolver holds up nothing else, and not the end of
    /// the process either.
    ///
    /// # Errors
    /// No thread; `done` is dropped.
    pub(crate) fn begin(
        &self,
        part: Part,
        name: &HostPort,
        done: impl FnOnce(Lookup) + Send + 'static,
    ) -> io::Result<()> {
        let done = |found: Vec<Lookup>| {
            if let Some(found) = found.into_iter().next() {
                done(found);
            }
        };
        look_up_by(
            |work| self.start(part, work),
            &self.resolver,
            vec![name.clone()],
            done,
        )
    }

    /// Looks a name up, waiting `patience` at most.
    pub(crate) fn within(&self, part: Part, name: &HostPort, patience: Duration) -> Lookup {
        let start = |work| self.start(part, work);
        look_up_within_by(start, &self.resolver, name, patience)
    }

    fn start(&self, part: Part, work: Work) -> io::Result<()> {
        let thread = self.crew.thread(part, "rmbd-names".to_owned(), work);
        thread.map(drop)
    }
}
