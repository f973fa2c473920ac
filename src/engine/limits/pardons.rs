//! Pardons: keys that are forgiven for a while what they have in the windows of a limit.
//!
//! Counts cannot be taken back, so a pardon is a credit: what the windows held when it was given counts no more
//! towards the limit, as long as the pardon lasts. There are few, an operator gives them, and they go by themselves.

use std::time::Duration;

use super::editions::{Editions, Seen};
use super::rule::AMOUNTS_MAX;

/// Largest number of pardons at the same time: they are meant for mistakes, and each hit by name looks among them.
pub const PARDONS_MAX: usize = 1_024;

/// What each amount of a limit is forgiven, in the order of the amounts.
pub(in crate::engine) type Credits = [u64; AMOUNTS_MAX];

/// One pardon.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Pardon {
    limit: Box<[u8]>,
    key: Box<[u8]>,
    until: Duration,
    credits: Credits,
}

/// All pardons, which any thread may give and every session looks at.
#[derive(Debug, Default)]
pub(in crate::engine) struct Pardons(Editions<Vec<Pardon>>);

/// A session's view of [`Pardons`].
#[derive(Debug, Default)]
pub(in crate::engine) struct PardonView(Seen<Vec<Pardon>>);

impl Pardons {
    /// Gives a pardon, in the place of one before of the same limit and key. Those that are over go. It is false
    /// where there are [`PARDONS_MAX`] others.
    #[must_use]
    pub(in crate::engine) fn give(
        &self,
        (limit, key): (&[u8], &[u8]),
        credits: Credits,
        until: Duration,
        now: Duration,
    ) -> bool {
        let given = self.0.change(|pardons| {
            let is_kept = |it: &&Pardon| it.until > now && (&*it.limit, &*it.key) != (limit, key);
            let mut all: Vec<Pardon> = pardons.iter().filter(is_kept).cloned().collect();
            if all.len() >= PARDONS_MAX {
                return Err(());
            }
            all.push(Pardon {
                limit: limit.into(),
                key: key.into(),
                until,
                credits,
            });
            all.sort_by(|a, b| (&a.limit, &a.key).cmp(&(&b.limit, &b.key)));
            Ok(all.into())
        });
        given.is_ok()
    }
}

impl PardonView {
    /// What a key is forgiven now.
    pub(in crate::engine) fn credits(
        &mut self,
        pardons: &Pardons,
        (limit, key): (&[u8], &[u8]),
        now: Duration,
    ) -> Credits {
        let pardons = self.0.current(&pardons.0);
        let by_name = |it: &Pardon| (&*it.limit, &*it.key).cmp(&(limit, key));
        let found = pardons.binary_search_by(by_name).ok();
        let pardon = found.map(|at| &pardons[at]);
        pardon
            .filter(|pardon| pardon.until > now)
            .map_or([0; AMOUNTS_MAX], |pardon| pardon.credits)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn credits(credit: u64) -> Credits {
        [credit; AMOUNTS_MAX]
    }

    #[test]
    fn a_pardon_is_for_its_limit_and_key_and_ends() {
        let (pardons, mut view) = (Pardons::default(), PardonView::default());
        let mut seen = |of: (&[u8], &[u8]), at| view.credits(&pardons, of, SECOND * at)[0];
        assert_eq!(seen((b"api", b"alice"), 0), 0);
        assert!(pardons.give((b"api", b"alice"), credits(7), SECOND * 60, SECOND));
        assert_eq!(seen((b"api", b"alice"), 1), 7);
        for other in [(&b"api"[..], &b"bob"[..]), (b"login", b"alice")] {
            assert_eq!(seen(other, 1), 0);
        }
        assert_eq!(
            (seen((b"api", b"alice"), 59), seen((b"api", b"alice"), 60)),
            (7, 0)
        );
        // Another one takes the place of the first.
        assert!(pardons.give((b"api", b"alice"), credits(9), SECOND * 90, SECOND));
        assert_eq!(seen((b"api", b"alice"), 70), 9);
    }

    #[test]
    fn there_are_few_and_those_that_are_over_make_room() {
        let pardons = Pardons::default();
        for n in 0..PARDONS_MAX as u64 {
            let until = SECOND * if n == 0 { 10 } else { 60 };
            assert!(pardons.give((b"api", &n.to_le_bytes()), credits(1), until, SECOND));
        }
        let full = pardons.give((b"api", b"one more"), credits(1), SECOND * 60, SECOND);
        assert!(!full);
        assert!(pardons.give((b"api", b"one more"), credits(1), SECOND * 60, SECOND * 20));
    }
}
