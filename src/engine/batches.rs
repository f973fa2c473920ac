//! A batch for each sketch.

use rmbd_store::{Batch, Estimate, SketchIndex};

/// The batches of one thread, one for each sketch. The one of `default`, which most requests are about, is found
/// without a look at memory elsewhere. Of the others those are remembered that were asked for since the last
/// [`finish`](Self::finish), so that a thread which works on few sketches does not go over all of them.
#[derive(Debug)]
pub(super) struct Batches<T: Copy> {
    default: Batch<T>,
    others: Box<[Batch<T>]>,
    /// A bit for each other sketch of which a batch may hold something.
    touched: [u64; WORDS],
}

/// As many bits as an index has values.
const WORDS: usize = (u8::MAX as usize + 1) / u64::BITS as usize;

impl<T: Copy> Batches<T> {
    /// One batch for each sketch, in the order of the registry; that of `default` comes first.
    pub(super) fn new(default: Batch<T>, others: impl Iterator<Item = Batch<T>>) -> Self {
        Self {
            default,
            others: others.collect(),
            touched: [0; WORDS],
        }
    }

    /// The batch of a sketch of the same registry.
    #[inline(always)]
    pub(super) fn of(&mut self, sketch: SketchIndex) -> &mut Batch<T> {
        if sketch == SketchIndex::DEFAULT {
            return &mut self.default;
        }
        self.of_other(sketch)
    }

    fn of_other(&mut self, sketch: SketchIndex) -> &mut Batch<T> {
        let at = sketch.get() - 1;
        self.touched[at / 64] |= 1 << (at % 64);
        &mut self.others[at]
    }

    /// Answers everything that waits in any batch.
    pub(super) fn drain(&mut self, answer: &mut impl FnMut(T, Estimate)) {
        self.default.drain(answer);
        self.others.iter_mut().for_each(|batch| batch.drain(answer));
    }

    /// Finishes the batch of `default`, and all others that were asked for.
    pub(super) fn finish(&mut self, answer: &mut impl FnMut(T, Estimate)) {
        self.default.finish(answer);
        for (word, touched) in self.touched.iter_mut().enumerate() {
            let mut left = std::mem::take(touched);
            while left > 0 {
                let at = word * 64 + left.trailing_zeros() as usize;
                left &= left - 1;
                self.others[at].finish(answer);
            }
        }
    }
}
