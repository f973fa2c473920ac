//! The end of a slice, and that of a file.

use super::MalformedBlock;
use crate::cluster::SliceId;
use crate::reader::Reader;
use crate::{SketchNumber, Writer, varint};

/// All groups of a slice stand before this.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SliceBlock {
    /// The slice.
    pub slice: SliceId,
    /// The version until which it is complete.
    pub version: u64,
    /// What was added to it, as far as it was known.
    pub weight: u64,
}

impl SliceBlock {
    /// Appends the content of its block.
    pub fn write(&self, out: &mut Vec<u8>) {
        write_slice(&self.slice, out);
        varint::write(self.version, out);
        varint::write(self.weight, out);
    }

    /// Reads the content of its block.
    ///
    /// # Errors
    /// [`MalformedBlock`].
    pub fn read(content: &[u8]) -> Result<Self, MalformedBlock> {
        let mut reader = Reader::new(content);
        Ok(Self {
            slice: read_slice(&mut reader)?,
            version: reader.varint()?,
            weight: reader.varint()?,
        })
    }
}

/// Appends the content of an end behind so many blocks.
pub fn write_end(blocks: u64, out: &mut Vec<u8>) {
    varint::write(blocks, out);
}

/// Reads the content of an end: how many blocks stand before it.
///
/// # Errors
/// [`MalformedBlock`].
pub fn read_end(content: &[u8]) -> Result<u64, MalformedBlock> {
    Ok(Reader::new(content).varint()?)
}

pub(super) fn write_slice(slice: &SliceId, out: &mut Vec<u8>) {
    out.extend(slice.sketch.0.to_le_bytes());
    out.extend(slice.node.to_le_bytes());
    out.extend(slice.writer.0.to_le_bytes());
}

pub(super) fn read_slice(reader: &mut Reader<'_>) -> Result<SliceId, MalformedBlock> {
    Ok(SliceId {
        sketch: SketchNumber(reader.u32()?),
        node: reader.u64()?,
        writer: Writer(reader.u64()?),
    })
}
