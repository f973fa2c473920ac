//! A line of our digest: what we have of one slice, of all others of its node together, or of a whole sketch.

use crate::gossip::sketches::Sketches;
use rmbd_proto::SketchNumber;
use rmbd_proto::cluster::{
    DIGEST_LINE_BYTES_MAX, FRAME_HEAD_BYTES, FrameWriter, SketchSum, SliceId,
};

/// The subject of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DigestLine {
    /// One slice.
    Slice(SliceId),
    /// All others of its node.
    Siblings(SliceId),
    /// All slices of a sketch.
    Sketch(SketchNumber),
}

impl DigestLine {
    /// Writes all of these, or nothing where they might not all fit.
    pub(super) fn write_all(
        lines: &[Self],
        sketches: &Sketches,
        writer: &mut FrameWriter<'_>,
    ) -> bool {
        if writer.room() < 3 * FRAME_HEAD_BYTES + lines.len() * DIGEST_LINE_BYTES_MAX {
            return false;
        }
        let of_slices = lines.iter().filter_map(|line| match line {
            Self::Slice(slice) => Some(sketches.digest(slice)),
            _ => None,
        });
        let of_siblings = lines.iter().filter_map(|line| match line {
            Self::Siblings(slice) => Some(sketches.siblings(slice)),
            _ => None,
        });
        let of_sketches = lines.iter().filter_map(|line| match line {
            &Self::Sketch(sketch) => {
                let sum = sketches.get(sketch).map_or(0, |slices| slices.sum());
                Some(SketchSum { sketch, sum })
            }
            _ => None,
        });
        let (mut of_slices, mut of_siblings) = (of_slices.peekable(), of_siblings.peekable());
        let mut of_sketches = of_sketches.peekable();
        let mut written = 0;
        if of_slices.peek().is_some() {
            written += writer.digest(of_slices);
        }
        if of_siblings.peek().is_some() {
            written += writer.siblings(of_siblings);
        }
        if of_sketches.peek().is_some() {
            written += writer.sketch_sums(of_sketches);
        }
        written == lines.len()
    }
}
