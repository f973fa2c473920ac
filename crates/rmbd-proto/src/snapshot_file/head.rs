//! The head of a file.

use super::MalformedBlock;
use crate::reader::Reader;
use crate::varint;
use crate::{Boot, Writer};

/// The number of this format.
pub const FORMAT: u16 = 1;
/// The longest version of a program that is told.
const PROGRAM_BYTES_MAX: usize = 64;

/// What a file is, and when it was begun.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FileHead {
    /// The number of its format.
    pub format: u16,
    /// The number of the file, random.
    pub file: u64,
    /// The node that wrote it, and (below) its start and the writer of its own slices.
    pub node: u64,
    /// See [`node`](Self::node).
    pub boot: Boot,
    /// See [`node`](Self::node).
    pub writer: Writer,
    /// What the node's own clock showed when the file was begun, in nanoseconds; and what the other clocks did.
    pub time_ns: i64,
    /// Milliseconds since 1970.
    pub wall_ms: u64,
    /// Nanoseconds since the machine booted, suspended time included.
    pub since_boot_ns: u64,
    /// The id of that boot of the machine; 0 if it is not known.
    pub machine_boot: u128,
    /// The version of the program.
    pub program: String,
}

impl FileHead {
    /// Appends the content of its block.
    pub fn write(&self, out: &mut Vec<u8>) {
        out.extend(self.format.to_le_bytes());
        for number in [self.file, self.node, self.boot.0, self.writer.0] {
            out.extend(number.to_le_bytes());
        }
        out.extend(self.time_ns.to_le_bytes());
        out.extend(self.wall_ms.to_le_bytes());
        out.extend(self.since_boot_ns.to_le_bytes());
        out.extend(self.machine_boot.to_le_bytes());
        let program = self.program.as_bytes();
        let program = &program[..program.len().min(PROGRAM_BYTES_MAX)];
        varint::write(program.len() as u64, out);
        out.extend(program);
    }

    /// Reads the content of its block. Of a later format only what stands before the time is read, and the rest is 0.
    ///
    /// # Errors
    /// [`MalformedBlock`].
    pub fn read(content: &[u8]) -> Result<Self, MalformedBlock> {
        let mut reader = Reader::new(content);
        let mut head = Self {
            format: reader.u16()?,
            file: reader.u64()?,
            node: reader.u64()?,
            boot: Boot(reader.u64()?),
            writer: Writer(reader.u64()?),
            time_ns: 0,
            wall_ms: 0,
            since_boot_ns: 0,
            machine_boot: 0,
            program: String::new(),
        };
        if head.format > FORMAT {
            return Ok(head);
        }
        head.time_ns = i64::from_le_bytes(reader.array()?);
        head.wall_ms = reader.u64()?;
        head.since_boot_ns = reader.u64()?;
        head.machine_boot = u128::from_le_bytes(reader.array()?);
        head.program = String::from_utf8_lossy(reader.long_field()?).into_owned();
        Ok(head)
    }
}
