//! The chain of boots whose requests a table knows: those of earlier starts, through clean ends.
//!
//! Its byte format, version 1, stands beside a saved table. The newest boot comes first; none is 0, and none comes
//! twice.
//!
//! ```text
//!   0         1            3
//! +---------+------------+----------------
//! | version | boots, u16 | boots, u64 each
//! | 01      |            |
//! +---------+------------+----------------
//! ```

use rmbd_proto::Boot;

/// Number of boots that a chain may have. A client that is never silent for long goes on with the boot that it was
/// told first, so that all of them may be named at any time: these last for three years of an end a day. To look for
/// one among them costs ten comparisons, and all of them take 8 KiB beside a saved table.
pub const BOOTS_MAX: usize = 1024;

const VERSION: u8 = 1;

/// Earlier boots of a node, of which it still knows what was applied: the table came back after each of them.
///
/// ```
/// use rmbd_proto::Boot;
/// use rmbd_store::once::BootChain;
///
/// let mut chain = BootChain::default();
/// chain.push(Boot(1));
/// chain.push(Boot(2));
/// assert_eq!(chain.newest_first(), [Boot(2), Boot(1)]);
/// assert_eq!(BootChain::read(&chain.write())?, chain);
/// # Ok::<(), rmbd_store::once::ChainMalformed>(())
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BootChain {
    newest_first: Vec<Boot>,
    /// The same ones by number: a datagram may name any boot, and is not to cost a walk.
    by_number: Vec<Boot>,
}

/// Why bytes are no chain of boots.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ChainMalformed {
    /// It is of another version of the format.
    #[error(
        "a chain of boots has version {version}, and {VERSION} is known here; none of them was taken over: start \
         with the program that wrote it, or without the clients of earlier starts"
    )]
    UnknownVersion {
        /// What it says.
        version: u8,
    },
    /// Its length is not that of its boots, or not possible.
    #[error(
        "a chain of {boots} boots has {bytes} bytes; none of them was taken over: start without the clients of \
         earlier starts"
    )]
    Length {
        /// The boots that it tells of.
        boots: usize,
        /// Bytes of the chain.
        bytes: usize,
    },
    /// A boot is 0, or there twice.
    #[error(
        "a chain of boots has {boot} twice, or it is none; none of them was taken over: start without the clients \
         of earlier starts"
    )]
    Boot {
        /// That one.
        boot: Boot,
    },
}

impl BootChain {
    /// Puts a boot in front. The oldest one goes where there are [`BOOTS_MAX`]. A boot that is there already moves to
    /// the front, and 0, which is no boot, is left out.
    pub fn push(&mut self, boot: Boot) {
        if boot == Boot(0) {
            return;
        }
        self.newest_first.retain(|&earlier| earlier != boot);
        self.newest_first.truncate(BOOTS_MAX - 1);
        self.newest_first.insert(0, boot);
        self.sort();
    }

    /// Whether a boot is in the chain.
    #[inline]
    #[must_use]
    pub fn contains(&self, boot: Boot) -> bool {
        self.by_number.binary_search(&boot).is_ok()
    }

    /// All boots, at most [`BOOTS_MAX`].
    #[must_use]
    pub fn newest_first(&self) -> &[Boot] {
        &self.newest_first
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.newest_first.is_empty()
    }

    /// Its bytes: 3, and 8 for each boot.
    #[must_use]
    pub fn write(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(3 + 8 * self.newest_first.len());
        out.push(VERSION);
        // At most 1 024.
        out.extend((self.newest_first.len() as u16).to_le_bytes());
        let boots = self.newest_first.iter();
        boots.for_each(|boot| out.extend(boot.0.to_le_bytes()));
        out
    }

    /// Reads a chain: any bytes.
    ///
    /// # Errors
    /// [`ChainMalformed`] where it is none.
    pub fn read(bytes: &[u8]) -> Result<Self, ChainMalformed> {
        let length = |boots| ChainMalformed::Length {
            boots,
            bytes: bytes.len(),
        };
        let (&version, rest) = bytes.split_first().ok_or_else(|| length(0))?;
        if version != VERSION {
            return Err(ChainMalformed::UnknownVersion { version });
        }
        let (&boots, rest) = rest.split_first_chunk().ok_or_else(|| length(0))?;
        let boots = usize::from(u16::from_le_bytes(boots));
        let (numbers, behind) = rest.as_chunks();
        if boots > BOOTS_MAX || numbers.len() != boots || !behind.is_empty() {
            return Err(length(boots));
        }
        let numbers = numbers.iter().map(|&number| u64::from_le_bytes(number));
        let mut chain = Self {
            newest_first: numbers.map(Boot).collect(),
            by_number: Vec::new(),
        };
        chain.sort();
        match chain.impossible() {
            Some(boot) => Err(ChainMalformed::Boot { boot }),
            None => Ok(chain),
        }
    }

    /// A boot that is 0, or there twice.
    fn impossible(&self) -> Option<Boot> {
        let mut before = Boot(0);
        let mut boots = self.by_number.iter().copied();
        boots.find(|&boot| boot == std::mem::replace(&mut before, boot))
    }

    fn sort(&mut self) {
        self.by_number.clone_from(&self.newest_first);
        self.by_number.sort_unstable();
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn boots(numbers: impl IntoIterator<Item = u64>) -> BootChain {
        let mut chain = BootChain::default();
        numbers
            .into_iter()
            .for_each(|number| chain.push(Boot(number)));
        chain
    }

    #[test]
    fn the_newest_come_first_and_the_oldest_go() {
        let last = BOOTS_MAX as u64 + 10;
        let mut chain = boots(1..=last);
        assert_eq!(chain.newest_first().len(), BOOTS_MAX);
        assert_eq!(chain.newest_first()[0], Boot(last));
        for number in 0..=last + 1 {
            assert_eq!(
                chain.contains(Boot(number)),
                (11..=last).contains(&number),
                "{number}"
            );
        }
        assert_eq!(BootChain::read(&chain.write()), Ok(chain.clone()));
        chain.push(Boot(50));
        chain.push(Boot(0));
        assert_eq!(chain.newest_first()[..2], [Boot(50), Boot(last)]);
        assert_eq!(chain.newest_first().len(), BOOTS_MAX);
        assert!(!chain.contains(Boot(0)));
    }

    /// Two boots, written by hand from the description of the format.
    #[test]
    fn bytes_are_what_the_page_says() {
        let golden = b"\x01\x02\x00\x02\0\0\0\0\0\0\x80\x01\0\0\0\0\0\0\0";
        let chain = boots([1, 1 << 63 | 2]);
        assert_eq!(chain.write(), golden);
        assert_eq!(BootChain::read(golden), Ok(chain));
        assert_eq!(BootChain::default().write(), b"\x01\0\0");
    }

    #[test]
    fn what_is_no_chain_is_refused() {
        let good = boots([7, 8, 9]).write();
        for end in 0..good.len() {
            assert!(BootChain::read(&good[..end]).is_err(), "{end}");
        }
        assert!(BootChain::read(&[&good[..], &[0]].concat()).is_err());
        let version = ChainMalformed::UnknownVersion { version: 2 };
        assert_eq!(BootChain::read(&[2, 0, 0]), Err(version));
        let twice = b"\x01\x02\0\x07\0\0\0\0\0\0\0\x07\0\0\0\0\0\0\0";
        let boot = Boot(7);
        assert_eq!(BootChain::read(twice), Err(ChainMalformed::Boot { boot }));
        let none = b"\x01\x01\0\0\0\0\0\0\0\0\0";
        let boot = Boot(0);
        assert_eq!(BootChain::read(none), Err(ChainMalformed::Boot { boot }));
        let mut long = boots(1..=BOOTS_MAX as u64).write();
        long.extend([0xff; 8]);
        long[1..3].copy_from_slice(&(BOOTS_MAX as u16 + 1).to_le_bytes());
        assert!(matches!(
            BootChain::read(&long),
            Err(ChainMalformed::Length { .. })
        ));
    }

    proptest! {
        /// Whatever the bytes: nothing panics, and what is read is written as it was.
        #[test]
        fn no_bytes_panic(
            head in prop::sample::select(vec![0_u8, 1, 1, 1, 2]),
            count in 0..5_u16,
            mut rest in prop::collection::vec(any::<u8>(), 0..50),
            fits in any::<bool>(),
        ) {
            if fits {
                rest.resize(usize::from(count) * 8, 7);
            }
            let bytes = [&[head][..], &count.to_le_bytes(), &rest].concat();
            if let Ok(chain) = BootChain::read(&bytes) {
                prop_assert_eq!(chain.write(), bytes);
            }
        }
    }
}
