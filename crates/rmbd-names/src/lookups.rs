//! Look-ups on threads that the program starts itself.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use super::thread::{look_up_by, look_up_within_by};
use super::{HostPort, Lookup, Resolver, Work};

/// A function that starts a thread for one look-up.
type StartThread = dyn Fn(Work) -> io::Result<()> + Send + Sync;

/// Looks names up with one resolver. Its owner starts the threads, for instance to notice how they end.
#[derive(Clone)]
pub struct Lookups {
    resolver: Resolver,
    start: Arc<StartThread>,
}

impl Lookups {
    /// Makes look-ups that call `start` once each; `start` must run the work on a thread of its own.
    pub fn new(
        resolver: Resolver,
        start: impl Fn(Work) -> io::Result<()> + Send + Sync + 'static,
    ) -> Self {
        let start = Arc::new(start);
        Self { resolver, start }
    }

    /// Looks a name up. A slow resolver delays nothing else, not even the end of the process.
    ///
    /// # Errors
    /// Fails if there is no thread, or if too many look-ups are under way; `done` is dropped then.
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

    /// Looks a name up, and waits for `patience` at most.
    ///
    /// # Errors
    /// The resolver's error; no thread; or no answer in time.
    pub fn within(&self, name: &HostPort, patience: Duration) -> Lookup {
        look_up_within_by(&*self.start, &self.resolver, name, patience)
    }
}
