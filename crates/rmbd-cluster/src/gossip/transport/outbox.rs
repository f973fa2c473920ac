//! Seals, paces and counts what goes out.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use rand::Rng;
use rand::rngs::ChaCha12Rng;

use crate::gossip::pacer::Pacer;
use crate::gossip::state::Traffic;
use crate::membership::Member;
use crate::seal::{Channel, HEADER_BYTES, KeyRing, SealError, Sealer, TAG_BYTES};
use rmbd_proto::Boot;
use rmbd_proto::cluster::{DATAGRAM_BYTES_MAX, Head};

/// Where a datagram's frames end: the tag stands behind them.
pub(crate) const PAYLOAD_END: usize = DATAGRAM_BYTES_MAX - TAG_BYTES;
/// A channel that nothing has gone out on for so long is given up.
const IDLE_MAX: Duration = Duration::from_secs(120);

/// The sending end of all channels: one for each address.
#[derive(Debug)]
pub(crate) struct Outbox {
    boot: Boot,
    keys: KeyRing,
    channels: BTreeMap<SocketAddr, OutgoingChannel>,
    channels_max: usize,
    pacer: Pacer,
    sent: Traffic,
}

#[derive(Debug)]
struct OutgoingChannel {
    sealer: Sealer,
    used_at: Duration,
}

/// The reason for which a datagram cannot be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NotSealed {
    /// As many addresses as are allowed have a channel.
    TooManyChannels,
    /// The cipher refuses, which nobody can help.
    Cipher,
}

impl Outbox {
    pub(crate) fn new(boot: Boot, keys: KeyRing, channels_max: usize, pacer: Pacer) -> Self {
        Self {
            boot,
            keys,
            channels: BTreeMap::new(),
            channels_max,
            pacer,
            sent: Traffic::default(),
        }
    }

    /// This node is another start from now on, with channels of its own.
    pub(crate) fn begin_again(&mut self, boot: Boot) {
        self.boot = boot;
        self.channels.clear();
    }

    /// Seals with the first of these keys from now on. Where that is another one, each address gets another channel,
    /// with the numbers behind those of the one before: what is under way there counts as lost, as no ack fits it.
    pub(crate) fn set_keys(&mut self, keys: KeyRing, random: &mut ChaCha12Rng) {
        if !keys.seals_like(&self.keys) {
            for channel in self.channels.values_mut() {
                let fresh = fresh_channel(self.boot, random);
                channel.sealer = channel.sealer.succeeded_by(&keys, fresh);
            }
        }
        self.keys = keys;
    }

    /// Makes `buffer` an empty datagram: room for the seal's header, and who sends to whom. Returns its bytes so far.
    pub(crate) fn start(me: &Member, to_boot: Boot, buffer: &mut Vec<u8>) -> usize {
        buffer.clear();
        buffer.resize(HEADER_BYTES, 0);
        let head = Head {
            to_boot,
            node: me.node,
            address: me.address,
        };
        head.write(buffer);
        buffer.len()
    }

    /// Seals a datagram with the channel of its address, which may be a fresh one; returns its number there.
    pub(crate) fn seal(
        &mut self,
        now: Duration,
        to: SocketAddr,
        buffer: &mut Vec<u8>,
        random: &mut ChaCha12Rng,
    ) -> Result<u64, NotSealed> {
        if !self.channels.contains_key(&to) && self.channels.len() >= self.channels_max {
            return Err(NotSealed::TooManyChannels);
        }
        let mut open = || OutgoingChannel::open(now, self.boot, &self.keys, random);
        let channel = self.channels.entry(to).or_insert_with(&mut open);
        channel.used_at = now;
        let sealed = match channel.sealer.seal(buffer) {
            Err(SealError::Exhausted) => {
                // What was under way on the old channel counts as lost when its acks do not fit.
                *channel = open();
                channel.sealer.seal(buffer)
            }
            sealed => sealed,
        };
        sealed.map_err(|_| NotSealed::Cipher)
    }

    /// Counts a sealed datagram, of `kinds` in its frames, and takes its bytes off what may be sent now.
    pub(crate) fn count(&mut self, datagram: &[u8], overhead: usize, kinds: Traffic) {
        let bytes = datagram.len();
        self.sent.add_kinds(kinds);
        self.sent.datagrams += 1;
        self.sent.bytes += bytes as u64;
        self.sent.overhead += overhead as u64;
        self.pacer.spend(bytes, kinds.has_data());
    }

    /// Whether `channel` is the one that seals for an address: acks of an earlier one tell nothing.
    pub(crate) fn is_channel_of(&self, to: SocketAddr, channel: u64) -> bool {
        let ours = self.channels.get(&to);
        ours.is_some_and(|ours| ours.sealer.channel().id == channel)
    }

    /// Gives up channels that were not used for long.
    pub(crate) fn drop_idle(&mut self, now: Duration) {
        self.channels
            .retain(|_, channel| now.saturating_sub(channel.used_at) <= IDLE_MAX);
    }

    /// Whether the rate allows data now.
    pub(crate) fn may_send_data(&mut self, now: Duration) -> bool {
        self.pacer.may_send(now)
    }

    /// When the rate allows data again, as of the last [`may_send_data`](Self::may_send_data).
    pub(crate) fn data_ready_at(&self) -> Duration {
        self.pacer.ready_at()
    }

    /// Traffic that has gone out so far.
    pub(crate) fn sent(&self) -> Traffic {
        self.sent
    }
}

impl OutgoingChannel {
    fn open(now: Duration, boot: Boot, keys: &KeyRing, random: &mut ChaCha12Rng) -> Self {
        Self {
            sealer: Sealer::new(keys, fresh_channel(boot, random)),
            used_at: now,
        }
    }
}

fn fresh_channel(boot: Boot, random: &mut ChaCha12Rng) -> Channel {
    Channel {
        boot,
        id: random.next_u64(),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use rand::SeedableRng;

    use super::*;

    #[test]
    fn each_address_has_a_channel_until_it_is_idle_and_there_are_so_many_at_most() {
        let pacer = Pacer::new(Duration::ZERO, 1 << 20);
        let mut outbox = Outbox::new(Boot(1), KeyRing::public(), 2, pacer);
        let random = &mut ChaCha12Rng::seed_from_u64(1);
        let mut seal = |outbox: &mut Outbox, now, port: u16| {
            let mut buffer = vec![0; HEADER_BYTES];
            outbox.seal(now, ([127, 0, 0, 1], port).into(), &mut buffer, random)
        };
        let second = Duration::from_secs(1);
        assert_eq!(seal(&mut outbox, second, 1), Ok(1));
        assert_eq!(seal(&mut outbox, second, 2), Ok(1));
        assert_eq!(seal(&mut outbox, second * 60, 1), Ok(2));
        assert_eq!(
            seal(&mut outbox, second * 60, 3),
            Err(NotSealed::TooManyChannels)
        );
        outbox.drop_idle(second + IDLE_MAX * 3 / 2);
        assert_eq!(seal(&mut outbox, second * 182, 3), Ok(1));
        assert_eq!(seal(&mut outbox, second * 182, 1), Ok(1), "a fresh one");
    }

    /// A number that is used again would take the place of what is under way with it.
    #[test]
    fn another_key_takes_another_channel_and_no_number_twice() {
        let pacer = Pacer::new(Duration::ZERO, 1 << 20);
        let ring = |text: &str| KeyRing::parse(text).unwrap();
        let (old, new) = ("11".repeat(32), "22".repeat(32));
        let mut outbox = Outbox::new(Boot(1), ring(&old), 2, pacer);
        let random = &mut ChaCha12Rng::seed_from_u64(1);
        let to = ([127, 0, 0, 1], 1).into();
        let channel = |outbox: &Outbox| outbox.channels[&to].sealer.channel().id;
        let seal = |outbox: &mut Outbox, random: &mut ChaCha12Rng| {
            outbox.seal(Duration::ZERO, to, &mut vec![0; HEADER_BYTES], random)
        };
        assert_eq!(seal(&mut outbox, random), Ok(1));
        let first = channel(&outbox);
        outbox.set_keys(ring(&format!("{old}\n{new}")), random);
        assert_eq!(
            (seal(&mut outbox, random), channel(&outbox)),
            (Ok(2), first)
        );
        outbox.set_keys(ring(&format!("{new}\n{old}")), random);
        assert_eq!(seal(&mut outbox, random), Ok(3));
        let second = channel(&outbox);
        assert_ne!(second, first);
        outbox.set_keys(ring(&new), random);
        assert_eq!(
            (seal(&mut outbox, random), channel(&outbox)),
            (Ok(4), second)
        );
    }
}
