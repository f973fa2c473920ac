//! Adding many keys.

use super::{Client, ClientError, MESSAGES_PER_DATAGRAM, WINDOW_DATAGRAMS, checked};
use rmbd_proto::legacy::{MESSAGE_BYTES, encode_add};

/// Adds many keys, nine to a datagram, and waits for the server after every burst of 288.
///
/// *Confirmed* is an add when the server answered a count that was sent after it: on loopback it
/// is then counted; on a network, a datagram that the network dropped before is not.
///
/// What was pushed last is sent by [`Self::flush`] or [`Self::finish`], not when this is dropped.
#[must_use = "the last keys are sent by `finish`"]
#[derive(Debug)]
pub struct Adder<'c> {
    client: &'c mut Client,
    /// Whole messages that were not sent yet, always fewer than a datagram's.
    unsent: Vec<u8>,
    /// Datagrams of the open burst.
    sent_datagrams: usize,
    /// Adds of the open burst.
    sent: u64,
    confirmed: u64,
}

impl<'c> Adder<'c> {
    pub(super) fn new(client: &'c mut Client) -> Self {
        Self {
            client,
            unsent: Vec::with_capacity(MESSAGES_PER_DATAGRAM * MESSAGE_BYTES),
            sent_datagrams: 0,
            sent: 0,
            confirmed: 0,
        }
    }

    /// Adds a key: now, or together with the next ones.
    ///
    /// # Errors
    /// [`ClientError::KeyTooLong`] changes nothing, and one may go on. After
    /// [`ClientError::Adds`] the keys that are not sent yet are dropped, as it says.
    pub fn push(&mut self, key: &[u8]) -> Result<(), ClientError> {
        self.unsent.extend_from_slice(&encode_add(checked(key)?));
        if self.unsent.len() == MESSAGES_PER_DATAGRAM * MESSAGE_BYTES {
            self.send()?;
        }
        if self.sent_datagrams == WINDOW_DATAGRAMS {
            self.confirm()?;
        }
        Ok(())
    }

    /// Sends what is left and waits until the server has read all; how many adds are confirmed.
    ///
    /// # Errors
    /// [`ClientError::Adds`].
    pub fn flush(&mut self) -> Result<u64, ClientError> {
        if !self.unsent.is_empty() {
            self.send()?;
        }
        if self.sent > 0 {
            self.confirm()?;
        }
        Ok(self.confirmed)
    }

    /// [`Self::flush`], at the end.
    ///
    /// # Errors
    /// [`ClientError::Adds`].
    pub fn finish(mut self) -> Result<u64, ClientError> {
        self.flush()
    }

    fn send(&mut self) -> Result<(), ClientError> {
        if let Err(source) = self.client.send(&self.unsent) {
            return Err(self.broken(source));
        }
        self.sent += (self.unsent.len() / MESSAGE_BYTES) as u64;
        self.sent_datagrams += 1;
        self.unsent.clear();
        Ok(())
    }

    fn confirm(&mut self) -> Result<(), ClientError> {
        // In a datagram of its own: the Python program understands a single message only, and with
        // a single key this is one.
        if let Err(source) = self.client.close_burst() {
            return Err(self.broken(source));
        }
        self.confirmed += self.sent;
        self.sent = 0;
        self.sent_datagrams = 0;
        Ok(())
    }

    fn broken(&mut self, source: ClientError) -> ClientError {
        self.unsent.clear();
        self.sent_datagrams = 0;
        ClientError::Adds {
            confirmed: self.confirmed,
            uncertain: std::mem::take(&mut self.sent),
            source: Box::new(source),
        }
    }
}
