//! A line of our digest: what we have of one slice, or of all others of its node together.

use rmbd_proto::cluster::{DIGEST_LINE_BYTES_MAX, FRAME_HEAD_BYTES, FrameWriter, SliceId};
use rmbd_store::Slices;

/// The subject of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DigestLine {
    /// One slice.
    Slice(SliceId),
    /// All others of its node.
    Siblings(SliceId),
}

impl DigestLine {
    /// Writes all of these, or nothing where they might not all fit.
    pub(super) fn write_all(lines: &[Self], slices: &Slices, writer: &mut FrameWriter<'_>) -> bool {
        if writer.room() < 2 * FRAME_HEAD_BYTES + lines.len() * DIGEST_LINE_BYTES_MAX {
            return false;
        }
        let of_slices = lines.iter().filter_map(|line| match line {
            Self::Slice(slice) => Some(slices.digest(slice)),
            Self::Siblings(_) => None,
        });
        let of_siblings = lines.iter().filter_map(|line| match line {
            Self::Slice(_) => None,
            Self::Siblings(slice) => Some(slices.siblings(slice)),
        });
        let (mut of_slices, mut of_siblings) = (of_slices.peekable(), of_siblings.peekable());
        let mut written = 0;
        if of_slices.peek().is_some() {
            written += writer.digest(of_slices);
        }
        if of_siblings.peek().is_some() {
            written += writer.siblings(of_siblings);
        }
        written == lines.len()
    }
}
