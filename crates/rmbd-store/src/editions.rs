//! A value that changes rarely, and that sessions look at with each request.

use std::sync::atomic::{AtomicU64, Ordering::Acquire, Ordering::Release};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The newest edition of a value. A session looks with each request whether there is another one, which costs the load
/// of a number that hardly ever changes.
#[derive(Debug, Default)]
pub struct Editions<T> {
    /// Counts the changes.
    number: AtomicU64,
    value: Mutex<Arc<T>>,
}

/// The edition that a session has seen. It is looked at in place, so that nobody counts references for each request.
#[derive(Debug)]
pub struct Seen<T> {
    number: u64,
    /// `None` before the first look.
    value: Option<Arc<T>>,
}

impl<T> Editions<T> {
    /// The value as it is now.
    #[must_use]
    pub fn get(&self) -> Arc<T> {
        Arc::clone(&self.lock())
    }

    /// The number of changes. Whoever sees a number finds the value of that change, or of a later one.
    #[must_use]
    pub fn number(&self) -> u64 {
        self.number.load(Acquire)
    }

    /// Puts what `change` makes of the value into its place.
    ///
    /// # Errors
    /// That of `change`; the value stays.
    pub fn change<E>(&self, change: impl FnOnce(&T) -> Result<Arc<T>, E>) -> Result<(), E> {
        let mut value = self.lock();
        *value = change(&value)?;
        // Release: whoever sees the number finds the value behind the lock.
        self.number.fetch_add(1, Release);
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, Arc<T>> {
        self.value.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> Seen<T> {
    /// The value as it was at some moment of this call, or a little before.
    pub fn current(&mut self, editions: &Editions<T>) -> &Arc<T> {
        let number = editions.number();
        if number != self.number {
            self.number = number;
            self.value = None;
        }
        // No thread waits here for another one but for the moment in which it changes a value.
        self.value.get_or_insert_with(|| editions.get())
    }
}

impl<T> Default for Seen<T> {
    fn default() -> Self {
        Self {
            number: 0,
            value: None,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::convert::Infallible;

    use super::*;

    #[test]
    fn who_looks_sees_the_newest_edition() {
        let (editions, mut seen) = (Editions::<u64>::default(), Seen::default());
        assert_eq!(**seen.current(&editions), 0);
        for n in 1..4 {
            let more = |value: &u64| Ok::<_, Infallible>(Arc::new(value + n));
            editions.change(more).unwrap();
        }
        assert_eq!((*editions.get(), editions.number()), (6, 3));
        assert_eq!(**seen.current(&editions), 6);
        assert_eq!(editions.change(|_| Err("no room")), Err("no room"));
        assert_eq!(**seen.current(&editions), 6);
    }
}
