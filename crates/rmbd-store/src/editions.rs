//! A value that changes rarely, and that sessions look at with each request.

use std::sync::atomic::{AtomicU64, Ordering::Acquire, Ordering::Release};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The newest edition of a value. A session looks with each request whether there is another one, which costs the load
/// of a number that hardly ever changes. Earlier editions are kept while somebody has them, so that whoever changes the
/// value frees them, and no session does.
#[derive(Debug, Default)]
pub struct Editions<T> {
    /// Counts the changes.
    number: AtomicU64,
    kept: Mutex<Kept<T>>,
}

#[derive(Debug, Default)]
struct Kept<T> {
    value: Arc<T>,
    /// Those that somebody had at the last change.
    earlier: Vec<Arc<T>>,
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
        Arc::clone(&self.lock().value)
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
        let mut kept = self.lock();
        let value = change(&kept.value)?;
        let before = std::mem::replace(&mut kept.value, value);
        kept.earlier.push(before);
        // References to earlier ones only go: new ones are made of the newest.
        kept.earlier.retain(|it| Arc::strong_count(it) > 1);
        // Release: whoever sees the number finds the value behind the lock.
        self.number.fetch_add(1, Release);
        Ok(())
    }

    /// Number of earlier editions that are kept.
    #[cfg(test)]
    pub(crate) fn earlier(&self) -> usize {
        self.lock().earlier.len()
    }

    fn lock(&self) -> MutexGuard<'_, Kept<T>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
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

    #[test]
    fn whoever_changes_the_value_frees_what_nobody_has() {
        let (editions, mut seen) = (Editions::<u64>::default(), Seen::default());
        let more = |value: &u64| Ok::<_, Infallible>(Arc::new(value + 1));
        let first = Arc::downgrade(seen.current(&editions));
        for _ in 0..3 {
            editions.change(more).unwrap();
        }
        let kept = || editions.earlier();
        assert_eq!(kept(), 1, "what nobody has seen is gone");
        assert_eq!(**seen.current(&editions), 3);
        assert_eq!(first.strong_count(), 1, "who looks frees nothing");
        editions.change(more).unwrap();
        assert_eq!((first.strong_count(), kept()), (0, 1));
    }
}
