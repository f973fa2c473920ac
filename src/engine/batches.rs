//! A batch for each sketch.

use rmbd_store::{Batch, Estimate, SketchIndex};

/// The batches of one thread, one for each sketch. Those that were asked for since the last
/// [`finish`](Self::finish) are remembered, so that a thread which works on few sketches does not go over all of them.
#[derive(Debug)]
pub(super) struct Batches<T: Copy> {
    batches: Box<[Batch<T>]>,
    /// A bit for each sketch of which a batch may hold something.
    touched: [u64; WORDS],
}

/// As many bits as an index has values.
const WORDS: usize = (u8::MAX as usize + 1) / u64::BITS as usize;

impl<T: Copy> Batches<T> {
    /// One batch for each sketch, in the order of the registry.
    pub(super) fn new(batches: impl Iterator<Item = Batch<T>>) -> Self {
        Self {
            batches: batches.collect(),
            touched: [0; WORDS],
        }
    }

    /// The batch of a sketch of the same registry.
    #[inline(always)]
    pub(super) fn of(&mut self, sketch: SketchIndex) -> &mut Batch<T> {
        let at = sketch.get();
        self.touched[at / 64] |= 1 << (at % 64);
        &mut self.batches[at]
    }

    /// Finishes all batches that were asked for.
    pub(super) fn finish(&mut self, answer: &mut impl FnMut(T, Estimate)) {
        for (word, touched) in self.touched.iter_mut().enumerate() {
            let mut left = std::mem::take(touched);
            while left > 0 {
                let at = word * 64 + left.trailing_zeros() as usize;
                left &= left - 1;
                self.batches[at].finish(answer);
            }
        }
    }
}
