//! A cursor over untrusted bytes.

use super::varint;
pub(super) use super::varint::ReadError;

/// Bytes that have not been read yet. A value that cannot be read leaves them as they are.
///
/// Each format adds the methods that it alone needs, in its own folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    #[inline]
    pub(super) const fn new(rest: &'a [u8]) -> Self {
        Self { rest }
    }

    /// All bytes that have not been read.
    #[inline]
    pub(super) const fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// Drops all bytes that have not been read.
    #[inline]
    pub(super) const fn end(&mut self) {
        self.rest = &[];
    }

    #[inline]
    pub(super) fn byte(&mut self) -> Result<u8, ReadError> {
        self.array().map(|[byte]| byte)
    }

    #[inline]
    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], ReadError> {
        let split = self.rest.split_first_chunk();
        let (bytes, rest) = split.ok_or(ReadError::CutOff)?;
        self.rest = rest;
        Ok(*bytes)
    }

    #[inline]
    pub(super) fn u16(&mut self) -> Result<u16, ReadError> {
        self.array().map(u16::from_le_bytes)
    }

    #[inline]
    pub(super) fn u32(&mut self) -> Result<u32, ReadError> {
        self.array().map(u32::from_le_bytes)
    }

    #[inline]
    pub(super) fn u64(&mut self) -> Result<u64, ReadError> {
        self.array().map(u64::from_le_bytes)
    }

    #[inline]
    pub(super) fn bytes(&mut self, length: usize) -> Result<&'a [u8], ReadError> {
        let split = self.rest.split_at_checked(length);
        let (bytes, rest) = split.ok_or(ReadError::CutOff)?;
        self.rest = rest;
        Ok(bytes)
    }

    /// Reads a length of one byte, and as many bytes.
    #[inline]
    pub(super) fn field(&mut self) -> Result<&'a [u8], ReadError> {
        let mut reader = *self;
        let length = reader.byte()?;
        let field = reader.bytes(length.into())?;
        *self = reader;
        Ok(field)
    }

    /// Reads a length as a varint, and as many bytes.
    pub(super) fn long_field(&mut self) -> Result<&'a [u8], ReadError> {
        let mut reader = *self;
        let length = reader.varint()?;
        // What does not fit into a `usize` is more than there is.
        let field = reader.bytes(usize::try_from(length).unwrap_or(usize::MAX))?;
        *self = reader;
        Ok(field)
    }

    #[inline]
    pub(super) fn varint(&mut self) -> Result<u64, ReadError> {
        varint::read(&mut self.rest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_is_there_and_takes_nothing_that_is_not_whole() {
        let mut reader = Reader::new(b"\x07\x02\x01\x04\x03\x02\x01\x02ab\x80");
        assert_eq!((reader.byte(), reader.u16()), (Ok(7), Ok(0x0102)));
        assert_eq!(
            (reader.u32(), reader.u64()),
            (Ok(0x0102_0304), Err(ReadError::CutOff))
        );
        assert_eq!(reader.field(), Ok(&b"ab"[..]));
        assert_eq!(
            (reader.varint(), reader.bytes(2)),
            (Err(ReadError::CutOff), Err(ReadError::CutOff))
        );
        assert_eq!((reader.rest(), reader.byte()), (&b"\x80"[..], Ok(0x80)));
        assert_eq!(
            (reader.byte(), reader.bytes(0)),
            (Err(ReadError::CutOff), Ok(&b""[..]))
        );

        let mut reader = Reader::new(b"\x02a");
        assert_eq!(
            (reader.field(), reader.rest()),
            (Err(ReadError::CutOff), &b"\x02a"[..])
        );
        assert_eq!(
            (reader.long_field(), reader.rest()),
            (Err(ReadError::CutOff), &b"\x02a"[..])
        );
        reader.end();
        assert!(reader.rest().is_empty());
        let long = [&[0x80, 1][..], &[7; 129]].concat();
        let mut reader = Reader::new(&long);
        assert_eq!(reader.long_field(), Ok(&[7; 128][..]));
        assert_eq!(reader.rest(), [7]);
    }
}
