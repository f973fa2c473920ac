//! A sketch, and the marks of its slices.

use super::MalformedBlock;
use crate::reader::Reader;
use crate::{SketchNumber, varint};

/// A sketch that the node has, and marks, the oldest first, as times of the node's clock in nanoseconds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SketchBlock {
    /// The sketch's number.
    pub number: SketchNumber,
    /// What tells that two sketches count alike: geometry and hash.
    pub fingerprint: u64,
    /// Number of its cells.
    pub cells: u32,
    /// Its name.
    pub name: String,
    /// When the marks were read.
    pub time_ns: i64,
    /// Marks of our own slice, with versions.
    pub own_marks: Vec<(i64, u64)>,
    /// Marks that learnt slices share.
    pub learnt_marks: Vec<i64>,
}

impl SketchBlock {
    /// Appends the content of its block.
    pub fn write(&self, out: &mut Vec<u8>) {
        out.extend(self.number.0.to_le_bytes());
        out.extend(self.fingerprint.to_le_bytes());
        out.extend(self.cells.to_le_bytes());
        varint::write(self.name.len() as u64, out);
        out.extend(self.name.as_bytes());
        out.extend(self.time_ns.to_le_bytes());
        varint::write(self.own_marks.len() as u64, out);
        for &(at, version) in &self.own_marks {
            varint::write(before(self.time_ns, at), out);
            varint::write(version, out);
        }
        varint::write(self.learnt_marks.len() as u64, out);
        for &at in &self.learnt_marks {
            varint::write(before(self.time_ns, at), out);
        }
    }

    /// Reads the content of its block.
    ///
    /// # Errors
    /// [`MalformedBlock`].
    pub fn read(content: &[u8]) -> Result<Self, MalformedBlock> {
        let mut reader = Reader::new(content);
        let number = SketchNumber(reader.u32()?);
        let (fingerprint, cells) = (reader.u64()?, reader.u32()?);
        let name = String::from_utf8(reader.long_field()?.to_vec()).map_err(|_| MalformedBlock)?;
        let time_ns = i64::from_le_bytes(reader.array()?);
        // Each mark takes a byte at least, so the lists are no longer than the block.
        let (mut own_marks, mut learnt_marks) = (Vec::new(), Vec::new());
        for _ in 0..reader.varint()? {
            let at = earlier(time_ns, reader.varint()?)?;
            own_marks.push((at, reader.varint()?));
        }
        for _ in 0..reader.varint()? {
            learnt_marks.push(earlier(time_ns, reader.varint()?)?);
        }
        Ok(Self {
            number,
            fingerprint,
            cells,
            name,
            time_ns,
            own_marks,
            learnt_marks,
        })
    }
}

/// How long before `time_ns` a mark was made; 0 if it is later.
pub(super) fn before(time_ns: i64, at: i64) -> u64 {
    u64::try_from(i128::from(time_ns) - i128::from(at)).unwrap_or(0)
}

pub(super) fn earlier(time_ns: i64, by_ns: u64) -> Result<i64, MalformedBlock> {
    let at = i128::from(time_ns) - i128::from(by_ns);
    i64::try_from(at).map_err(|_| MalformedBlock)
}
