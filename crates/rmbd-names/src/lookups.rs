//! Look-ups on threads that somebody else starts.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use super::thread::{look_up_by, look_up_within_by};
use super::{HostPort, Lookup, Resolver, Work};

/// Starts a thread for one look-up.
type StartThread = dyn Fn(Work) -> io::Result<()> + Send + Sync;

/// Looks names up with one resolver, on threads that its owner starts: a program may want to know how its threads end.
#[derive(Clone)]
pub struct Lookups {
    resolver: Resolver,
    start: Arc<StartThread>,
}

impl Lookups {
    /// Every look-up is one call of `start`, which is to run the work on a thread of its own.
    pub fn new(
        resolver: Resolver,
        start: impl Fn(Work) -> io::Result<()> + Send + Sync + 'static,
    ) -> Self {
        let start = Arc::new(start);
        Self { resolver, start }
    }

    /// Looks a name up: a slow resolver holds up nothing else, and not the end of the process either.
    ///
    /// # Errors
    /// No thread, or too many look up already; `done` is dropped.
    pub fn begin(
        &self,
        name: &HostPort,
        done: impl FnOnce(Lookup) + Send + 'static,
    ) -> io::Result<()> {
        let done = |found: Vec<Lookup>| {
            if let Some(found) = found.into_iter().next() {
                done(found);
            }
        };
        look_up_by(&*self.start, &self.resolver, vec![name.clone()], done)
    }

    /// Looks a name up, waiting `patience` at most.
    ///
    /// # Errors
    /// What the resolver said; no thread; or no answer in time.
    pub fn within(&self, name: &HostPort, patience: Duration) -> Lookup {
        look_up_within_by(&*self.start, &self.resolver, name, patience)
    }
}
