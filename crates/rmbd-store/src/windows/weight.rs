//! N of a window, and the error of its counts.

use super::{Window, WindowQuestion};
use crate::Replica;

impl Replica {
    /// N of a window: an upper bound of all weight that was counted in the time that an answer covers, here and on the
    /// nodes that slices came from.
    #[must_use]
    pub fn weight_in(&self, question: &WindowQuestion) -> u64 {
        let all = self.slices_weight();
        let Some(ring) = self.windows.ring(question.window) else {
            return all;
        };
        // The weight at the beginning of a snapshot, and the number is read before N is: it is too high at most.
        let found = ring.find(question.begins_ns(), question.window.steps());
        found.map_or(all, |found| {
            let before = ring.weight_before(found.number);
            if ring.still_has(found.number) {
                self.slices_weight().saturating_sub(before)
            } else {
                all
            }
        })
    }

    /// By how much an estimate of all time may exceed the truth, with the confidence of the sketch: the whole part of
    /// epsilon * N, since both are whole numbers (Cormode & Muthukrishnan 2005, theorem 1).
    #[must_use]
    pub fn error(&self) -> u64 {
        share(self.own.geometry().epsilon(), self.total_weight())
    }

    /// The same for an estimate in a window: its snapshots have the epsilon of their width, and N is that of the
    /// window.
    #[must_use]
    pub fn error_in(&self, question: &WindowQuestion) -> u64 {
        let epsilon = self.epsilon_of(question.window);
        share(epsilon, self.weight_in(question))
    }

    fn epsilon_of(&self, window: Window) -> f64 {
        let ring = self.windows.ring(window);
        let geometry = ring.map_or_else(|| self.own.geometry(), |ring| ring.plan().geometry());
        geometry.epsilon()
    }
}

/// The whole part of a share of N. `as` clamps what is too large.
fn share(epsilon: f64, weight: u64) -> u64 {
    (epsilon * weight as f64) as u64
}
