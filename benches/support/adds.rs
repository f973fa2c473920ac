//! Datagrams with compact adds.

use rmbd_proto::compact::{Header, RequestWriter, WriteError};

use super::keys::Key;

/// Bytes of a datagram at most.
const DATAGRAM_BYTES_MAX: usize = 1_400;

/// Datagrams of one size with adds, back to back; their size.
pub(crate) fn datagrams(keys: &[Key]) -> (Vec<u8>, usize) {
    let mut writer = RequestWriter::new(DATAGRAM_BYTES_MAX);
    let (mut bytes, mut datagram_bytes) = (Vec::new(), 0);
    let mut keys = keys.iter().peekable();
    while keys.peek().is_some() {
        writer.start(&Header::default()).expect("a head fits");
        while let Some(key) = keys.peek() {
            match writer.add(*key, 1) {
                Ok(()) => keys.next(),
                Err(WriteError::Full) => break,
                Err(error) => panic!("{error}"),
            };
        }
        // The last datagram is left out, since it may be shorter.
        let datagram = writer.finish();
        if datagram.len() >= datagram_bytes {
            datagram_bytes = datagram.len();
            bytes.extend_from_slice(datagram);
        }
    }
    (bytes, datagram_bytes)
}
