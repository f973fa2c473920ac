//! The rare messages' way from the data threads to the control thread: bounded, lock-free, and
//! without allocation on the data threads' side.

use std::net::{Ipv4Addr, SocketAddr};

use crossbeam_queue::ArrayQueue;
use tokio::sync::Notify;

/// Memory for parcels under way, at most about this much.
const QUEUE_BYTES: usize = 4 << 20;
/// Parcels at least and at most: some hundred peers' rows of one round, and no more.
const PARCELS_MIN: usize = 64;
const PARCELS_MAX: usize = 4096;

/// A datagram and who sent it.
#[derive(Debug)]
pub(crate) struct Parcel {
    from: SocketAddr,
    bytes: Box<[u8]>,
    len: usize,
}

impl Parcel {
    pub(crate) fn from(&self) -> SocketAddr {
        self.from
    }

    pub(crate) fn datagram(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

/// A fixed set of parcels goes round: from the empty ones to the full ones and back.
#[derive(Debug)]
pub(crate) struct HandOff {
    empty: ArrayQueue<Parcel>,
    full: ArrayQueue<Parcel>,
    arrived: Notify,
}

impl HandOff {
    /// For datagrams of at most `datagram_bytes` bytes.
    pub(crate) fn new(datagram_bytes: usize) -> Self {
        let parcels = (QUEUE_BYTES / datagram_bytes.max(1)).clamp(PARCELS_MIN, PARCELS_MAX);
        let hand_off = Self {
            empty: ArrayQueue::new(parcels),
            full: ArrayQueue::new(parcels),
            arrived: Notify::new(),
        };
        for _ in 0..parcels {
            hand_off.put_back(Parcel {
                from: SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)),
                bytes: vec![0; datagram_bytes].into_boxed_slice(),
                len: 0,
            });
        }
        hand_off
    }

    /// Copies a datagram; false where it is too long or all parcels are under way. Nothing is
    /// handed off then.
    pub(crate) fn offer(&self, from: SocketAddr, datagram: &[u8]) -> bool {
        let Some(mut parcel) = self.empty.pop() else {
            return false;
        };
        let Some(room) = parcel.bytes.get_mut(..datagram.len()) else {
            self.put_back(parcel);
            return false;
        };
        room.copy_from_slice(datagram);
        parcel.len = datagram.len();
        parcel.from = from;
        // Never full: there are exactly as many places as parcels.
        let placed = self.full.push(parcel).is_ok();
        self.arrived.notify_one();
        placed
    }

    /// Waits until something was offered since the last wait.
    pub(crate) async fn arrived(&self) {
        self.arrived.notified().await;
    }

    /// The oldest parcel; to be [put back](Self::put_back).
    pub(crate) fn take(&self) -> Option<Parcel> {
        self.full.pop()
    }

    pub(crate) fn put_back(&self, parcel: Parcel) {
        // Never full, as above; if it were, a parcel less would go round.
        let _ = self.empty.push(parcel);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn sender(port: u16) -> SocketAddr {
        ([127, 0, 0, 1], port).into()
    }

    #[test]
    fn parcels_arrive_whole_and_in_order() {
        let hand_off = HandOff::new(8);
        assert!(hand_off.offer(sender(1), b"one"));
        assert!(hand_off.offer(sender(2), b"fulllong"));
        for (port, bytes) in [(1, &b"one"[..]), (2, b"fulllong")] {
            let parcel = hand_off.take().unwrap();
            assert_eq!((parcel.from(), parcel.datagram()), (sender(port), bytes));
            hand_off.put_back(parcel);
        }
        assert!(hand_off.take().is_none());
    }

    #[test]
    fn what_does_not_fit_is_refused_and_room_comes_back() {
        let hand_off = HandOff::new(QUEUE_BYTES);
        assert!(!hand_off.offer(sender(1), &vec![0; QUEUE_BYTES + 1]));
        for _ in 0..PARCELS_MIN {
            assert!(hand_off.offer(sender(1), b"x"));
        }
        assert!(!hand_off.offer(sender(1), b"one too many"));
        hand_off.put_back(hand_off.take().unwrap());
        assert!(hand_off.offer(sender(1), b"y"));
    }

    #[tokio::test(flavor = "current_thread")]
    async fn an_offer_wakes_who_waits() {
        let hand_off = std::sync::Arc::new(HandOff::new(8));
        let offering = std::sync::Arc::clone(&hand_off);
        let thread = std::thread::spawn(move || offering.offer(sender(1), b"x"));
        hand_off.arrived().await;
        assert!(thread.join().unwrap());
        assert!(hand_off.take().is_some());
    }
}
