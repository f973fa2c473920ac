//! Trains: datagrams that one sender sent in a row, as the kernel joins them.

use std::net::SocketAddr;

/// One or more datagrams of one sender, back to back. All have one size but the last, which may be shorter
/// (`UDP_GRO`, udp(7)).
#[derive(Debug, Clone, Copy)]
pub struct Train<'a> {
    bytes: &'a [u8],
    segment_bytes: usize,
    from: SocketAddr,
}

impl<'a> Train<'a> {
    /// A train of datagrams of `segment_bytes` each. With `None` or 0 the bytes are one datagram.
    pub fn new(bytes: &'a [u8], segment_bytes: Option<usize>, from: SocketAddr) -> Self {
        let whole = bytes.len().max(1);
        let segment_bytes = segment_bytes.filter(|&n| n > 0).unwrap_or(whole);
        Self {
            bytes,
            segment_bytes,
            from,
        }
    }

    /// The address of the sender.
    pub fn from(&self) -> SocketAddr {
        self.from
    }

    /// The datagrams in order. There is at least one, since an empty datagram is one, too.
    pub fn datagrams(&self) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        let empty = self.bytes.is_empty().then_some(self.bytes);
        self.bytes.chunks(self.segment_bytes).chain(empty)
    }
}

/// A train as the kernel delivered it.
#[derive(Debug, Clone, Copy)]
pub struct RawTrain<'a> {
    /// The sender's address in the kernel's layout, for [`RawAddress::from_kernel`](super::RawAddress::from_kernel).
    pub name: &'a [u8],
    /// The control messages, for [`ControlMessages::parse`](super::ControlMessages::parse).
    pub control: &'a [u8],
    /// The datagrams, back to back.
    pub payload: &'a [u8],
    /// Whether the payload was cut for want of room.
    pub truncated: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(bytes: &[u8], segment_bytes: Option<usize>) -> Vec<&[u8]> {
        let from = SocketAddr::from(([127, 0, 0, 1], 1));
        Train::new(bytes, segment_bytes, from).datagrams().collect()
    }

    #[test]
    fn trains_come_apart_as_they_were_sent() {
        assert_eq!(split(b"aabbc", Some(2)), [&b"aa"[..], b"bb", b"c"]);
        assert_eq!(split(b"aabb", None), [b"aabb"]);
        assert_eq!(split(b"aabb", Some(0)), [b"aabb"]);
        assert_eq!(split(b"aa", Some(9)), [b"aa"]);
        assert_eq!(split(b"", None), [b""]);
        assert_eq!(split(b"", Some(5)), [b""]);
    }
}
