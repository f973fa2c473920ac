//! Each number once: a sliding window over the numbers of a channel.
//!
//! RFC 4303, 3.4.3 (what the window means, and that it moves only after authentication), with the ring
//! of RFC 6479, which clears whole words in place of shifting bits:
//!
//! ```text
//! number / 64 picks the word, modulo WORDS; number % 64 the bit
//!
//!     too old  |<-- WINDOW numbers: seen or new -->| top |  new
//! ```
//!
//! One word more than the window has bits for: the word of `top` is filled bit by bit, while the oldest
//! numbers of the window still stand in the word before it.

/// How far behind the highest number a number may come: at 10 000 datagrams a second, 0.4 s.
pub const WINDOW: u64 = 4096;

const WORD_BITS: u64 = u64::BITS as u64;
const WORDS: usize = (WINDOW / WORD_BITS) as usize + 1;

/// The numbers that came lately.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Window {
    /// The highest number that was marked; 0 before any.
    top: u64,
    seen: [u64; WORDS],
}

/// The reason for which a number is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stale {
    /// Seen before.
    Replay,
    /// Below the window, so that nobody knows; or 0, which is never sent.
    TooOld,
}

impl Window {
    pub(super) const fn new() -> Self {
        Self {
            top: 0,
            seen: [0; WORDS],
        }
    }

    /// Whether `number` is new. Changes nothing: ask before the tag is checked, mark after it.
    pub(super) const fn check(&self, number: u64) -> Result<(), Stale> {
        if number == 0 {
            return Err(Stale::TooOld);
        }
        if number > self.top {
            return Ok(());
        }
        if self.top - number >= WINDOW {
            return Err(Stale::TooOld);
        }
        if self.seen[word(number)] & bit(number) != 0 {
            return Err(Stale::Replay);
        }
        Ok(())
    }

    /// Marks `number` as seen. It must be authentic and have passed [`Self::check`].
    pub(super) fn mark(&mut self, number: u64) {
        if number > self.top {
            let (from, to) = (self.top / WORD_BITS, number / WORD_BITS);
            // A jump of more words than there are clears each once.
            for step in 1..=(to - from).min(WORDS as u64) {
                self.seen[word_of_index(from + step)] = 0;
            }
            self.top = number;
        }
        self.seen[word(number)] |= bit(number);
    }
}

const fn word(number: u64) -> usize {
    word_of_index(number / WORD_BITS)
}

const fn word_of_index(index: u64) -> usize {
    (index % WORDS as u64) as usize
}

const fn bit(number: u64) -> u64 {
    1 << (number % WORD_BITS)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    /// The same by its definition.
    #[derive(Default)]
    struct Oracle {
        seen: HashSet<u64>,
        top: u64,
    }

    impl Oracle {
        fn take(&mut self, number: u64) -> Result<(), Stale> {
            if number == 0 || u128::from(number) + u128::from(WINDOW) <= u128::from(self.top) {
                return Err(Stale::TooOld);
            }
            if !self.seen.insert(number) {
                return Err(Stale::Replay);
            }
            self.top = self.top.max(number);
            Ok(())
        }
    }

    fn take(window: &mut Window, number: u64) -> Result<(), Stale> {
        window.check(number)?;
        window.mark(number);
        Ok(())
    }

    /// Where the next number lies, from the highest one so far.
    #[derive(Debug, Clone, Copy)]
    enum Step {
        Ahead(u64),
        Behind(u64),
        At(u64),
    }

    impl Step {
        fn number(self, top: u64) -> u64 {
            match self {
                Self::Ahead(by) => top.saturating_add(by),
                Self::Behind(by) => top.saturating_sub(by),
                Self::At(number) => number,
            }
        }
    }

    fn steps() -> impl Strategy<Value = Step> {
        let round = WORDS as u64 * WORD_BITS;
        prop_oneof![
            8 => (0..4_u64).prop_map(Step::Ahead),
            8 => (0..200_u64).prop_map(Step::Behind),
            4 => (0..=WINDOW + 200).prop_map(Step::Behind),
            4 => (WINDOW - 70..=WINDOW + 70).prop_map(Step::Behind),
            4 => (0..=WINDOW + 200).prop_map(Step::Ahead),
            2 => (round - 70..=2 * round + 70).prop_map(Step::Ahead),
            1 => (0..300_u64).prop_map(Step::At),
            1 => (0..WINDOW).prop_map(|below| Step::At(u64::MAX - below)),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(512))]
        #[test]
        fn takes_what_the_definition_takes(steps in prop::collection::vec(steps(), 1..400)) {
            let (mut window, mut oracle) = (Window::new(), Oracle::default());
            for step in steps {
                let number = step.number(oracle.top);
                prop_assert_eq!(take(&mut window, number), oracle.take(number), "{}", number);
            }
        }
    }

    #[test]
    fn the_whole_window_may_come_backwards_and_each_number_once() {
        let mut window = Window::new();
        let top = 3 * WINDOW + 17;
        for number in (top - WINDOW + 1..=top).rev() {
            assert_eq!(take(&mut window, number), Ok(()), "{number}");
        }
        for number in top - WINDOW + 1..=top {
            assert_eq!(take(&mut window, number), Err(Stale::Replay), "{number}");
        }
        assert_eq!(take(&mut window, top - WINDOW), Err(Stale::TooOld));
    }

    #[test]
    fn a_check_changes_nothing() {
        let mut window = Window::new();
        window.mark(5);
        let before = window.clone();
        for number in [0, 5, 6, 1_000_000, u64::MAX] {
            let _ = window.check(number);
        }
        assert_eq!(window, before);
    }

    #[test]
    fn zero_is_never_new() {
        assert_eq!(Window::new().check(0), Err(Stale::TooOld));
    }
}
