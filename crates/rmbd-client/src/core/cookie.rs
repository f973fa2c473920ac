//! The cookie that proves to a node that this client receives at its address.

use super::lane::Batch;
use super::{Copy, Core, Flying, Reason, Sink};
use rmbd_proto::compact::{Answer, COOKIE_BYTES_MAX, Problem, Reply};

/// Bytes that a node has sent; none where it has not.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Cookie {
    bytes: [u8; COOKIE_BYTES_MAX],
    len: usize,
}

impl Cookie {
    /// Of a reply; what is longer than the format allows is none.
    pub(super) fn of(bytes: &[u8]) -> Self {
        let mut cookie = Self::default();
        if let Some(to) = cookie.bytes.get_mut(..bytes.len()) {
            to.copy_from_slice(bytes);
            cookie.len = bytes.len();
        }
        cookie
    }
}

/// What a copy of this batch carries: nothing where the client is known, or nothing is added.
pub(super) fn shown<'c, T>(
    cookie: &'c Cookie,
    is_known: bool,
    batch: &Batch<T>,
) -> Option<&'c [u8]> {
    let is_asked = batch.sequence.is_some() && !is_known && cookie.len > 0;
    is_asked.then_some(&cookie.bytes[..cookie.len])
}

/// The cookie of a reply that sends a request back for want of a good one.
pub(super) fn cookie_of(reply: &Reply<'_>) -> Option<Cookie> {
    if reply.head.code != Problem::AddressUnproven.code() {
        return None;
    }
    match reply.answers().next() {
        Some(Ok(Answer::Cookie(bytes))) => Some(Cookie::of(bytes)),
        _ => None,
    }
}

impl<T> Core<T> {
    /// A copy was sent back, not applied: the batch goes again with this cookie, and the same sequence. Only
    /// the first time at once: who is sent back with what the node has just given to it, such as a client
    /// whose address keeps changing, is not to try as fast as the network lets it.
    pub(super) fn take_back(&mut self, copy: Copy, cookie: Cookie) {
        self.cookie = cookie;
        self.is_known = false;
        // Of a copy that was taken for lost, the next one is on its way, or will be.
        let Some(flying) = (self.flying.get_mut(&copy.flight))
            .filter(|flying| flying.under_way == Some(copy.number))
        else {
            return;
        };
        flying.sent_back += 1;
        if flying.sent_back > 1 {
            return;
        }
        flying.under_way = None;
        if let Ok(at) = (self.sent).binary_search_by_key(&copy.number, |sent| sent.number) {
            self.sent.remove(at);
        }
        self.lost.push_back(copy.flight);
    }
}

impl<T> Flying<T> {
    /// Its time is over. Copies without a reply may have been applied, and so may doubles of those that were
    /// sent back.
    pub(super) fn give_up(self, sink: &mut Sink<'_, T>) {
        let reason = match self.sent_back {
            0 => Reason::Silence,
            _ => Reason::Code(Problem::AddressUnproven.code()),
        };
        self.fail(reason, true, sink);
    }
}
