//! Which adds a thread looks at.
//!
//! To read all cells of a key behind each add would cost as much as the add. So a thread looks at one unit of weight in
//! so many, drawn at random: *each unit is looked at with the same chance, whatever came before*. Keys that come often
//! are looked at often. All lists of a thread share its looks, and the one that wants most of them says how many there
//! are.

/// Looks that a key gets while as much is added to it as the slack. That it is without any has a chance of e^-20, which
/// is 2 * 10^-9.
const LOOKS: u64 = 20;

/// The looks of one thread.
#[derive(Debug)]
pub(super) struct Looks {
    /// Weight that is not looked at from now on; below 0 where an add is to be looked at.
    unseen: i64,
    /// One unit of weight in so many is looked at.
    every: u64,
    random: Random,
}

/// What may be added to a key above a threshold before it is looked at.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Slack(u64);

/// Random numbers that nobody can tell who does not know the seed (splitmix64: Steele, Lea & Flood 2014).
#[derive(Debug)]
struct Random(u64);

impl Looks {
    /// Each add is looked at.
    pub(super) fn new(seed: u64) -> Self {
        Self {
            unseen: 0,
            every: 1,
            random: Random(seed),
        }
    }

    /// Whether an add of this weight is looked at. Each unit of weight is with the same chance, whatever came before.
    #[inline]
    pub(super) fn sees(&mut self, weight: u64) -> bool {
        // Weights are small.
        self.unseen -= weight as i64;
        self.unseen < 0
    }

    /// Whether the add at hand is looked at.
    pub(super) fn are_due(&self) -> bool {
        self.unseen < 0
    }

    /// The add at hand was looked at, if it was to be. From now on one unit in `every` is, 1 at least.
    pub(super) fn go_on(&mut self, every: u64) {
        // How long ago the last look was does not matter to the next one. So where more of them are wanted, it may be
        // drawn anew; where fewer are, it comes once more as it was drawn.
        if self.unseen < 0 || every < self.every {
            self.unseen = match every {
                1 => 0,
                every => self.random.gap(every),
            };
            self.every = every;
        }
    }
}

impl Slack {
    /// At most so much.
    pub(super) fn at_most(weight: u64) -> Self {
        match weight / LOOKS {
            0 | 1 => Self(0),
            every => Self(every * LOOKS),
        }
    }

    pub(super) fn weight(self) -> u64 {
        self.0
    }

    /// One unit of weight in so many is to be looked at.
    pub(super) fn look_every(self) -> u64 {
        (self.0 / LOOKS).max(1)
    }
}

impl Random {
    /// A weight that no look falls into, where one unit in `every` is looked at.
    fn gap(&mut self, every: u64) -> i64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^= mixed >> 31;
        // From 0 on and below 1, in steps of 2^-53; at the least one it is infinite, and `as` clamps.
        let uniform = (mixed >> 11) as f64 / (1_u64 << 53) as f64;
        (-uniform.ln() * every as f64) as i64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Gaps are as long as they should be, and long ones as rare.
    #[test]
    fn one_unit_in_so_many_is_looked_at() {
        let mut random = Random(7);
        for every in [2, 100, 1 << 20] {
            let gaps: Vec<i64> = (0..100_000).map(|_| random.gap(every)).collect();
            let mean = gaps.iter().sum::<i64>() as f64 / gaps.len() as f64;
            let expected = 1.0 / (1.0 / every as f64).exp_m1();
            assert!((mean / expected - 1.0).abs() < 0.02, "{every}: {mean}");
            let long = gaps.iter().filter(|&&gap| gap >= 5 * every as i64).count();
            let share = long as f64 / gaps.len() as f64;
            assert!(share > 0.005 && share < 0.0085, "{every}: {share}");
        }
    }

    /// Also where the share changes all the time.
    #[test]
    fn looks_are_as_many_as_are_wanted() {
        let mut looks = Looks::new(7);
        let (mut seen, mut expected) = (0_u64, 0.0);
        for number in 0..1_000_000_u64 {
            let every = [5, 50, 500][(number / 1_000 % 3) as usize];
            seen += u64::from(looks.sees(1));
            looks.go_on(every);
            expected -= (-1.0 / every as f64).exp_m1();
        }
        let ratio = seen as f64 / expected;
        // A gap that was drawn before fewer were wanted comes as it was drawn.
        assert!((0.97..1.05).contains(&ratio), "{ratio}");
    }

    #[test]
    fn where_little_counts_each_add_is_looked_at() {
        for weight in 0..2 * LOOKS {
            let slack = Slack::at_most(weight);
            assert_eq!((slack.look_every(), slack.weight()), (1, 0));
        }
        let slack = Slack::at_most(5_000);
        assert_eq!((slack.look_every(), slack.weight()), (250, 5_000));
        let mut looks = Looks::new(7);
        for _ in 0..100 {
            assert!(looks.sees(1));
            looks.go_on(1);
        }
    }
}
