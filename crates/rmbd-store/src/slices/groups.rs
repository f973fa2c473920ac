//! The cells of a learnt slice, in little memory.
//!
//! ```text
//!    group 7      [ 3 cells, packed in place ]
//!    group 912    [ --> packed bytes         ]      dense, and its writer goes on:
//!    group 1 044  [ --> 128 cells            ]      <- flat, so that it need not be packed each time
//!    ...          all others are zero, and not here
//! ```
//!
//! The packed form is the one of a frame of groups ([`pack_group`]). So a slice costs memory for what was counted in
//! it, and not for what its sketch could hold.

use std::collections::BTreeMap;

use rmbd_proto::cluster::{GROUP_CELLS, pack_group, unpack_group};

/// Packed bytes that fit into an entry itself: enough for a group with few cells that are not 0.
const IN_PLACE_BYTES: usize = 22;
/// Packed bytes from which on a group is dense. Flat, such a group takes less than eight times as much.
const DENSE_BYTES: usize = 64;
/// Bytes of an entry of the map: a number and a [`Group`], in nodes that are three quarters full, and a share of the
/// inner nodes.
const ENTRY_BYTES: u64 = 40;
/// Bytes that the allocator rounds up to and takes for itself.
const ALLOCATION_BYTES: u64 = 16;

/// The form in which a group is kept once something was merged into it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Keep {
    /// The slice's writer goes on: dense groups become flat.
    Flat,
    /// Few changes are expected: all groups are packed.
    Packed,
}

/// All groups of a slice that are not zero.
#[derive(Debug, Default)]
pub(super) struct Groups {
    groups: BTreeMap<u32, Group>,
    bytes: u64,
}

#[derive(Debug, Clone)]
enum Group {
    InPlace {
        length: u8,
        bytes: [u8; IN_PLACE_BYTES],
    },
    Packed(Box<[u8]>),
    Flat(Box<[u32]>),
}

/// A new form of a group, ready to take the place of the old one.
#[derive(Debug)]
pub(super) struct Change {
    number: u32,
    group: Group,
    /// Bytes by which the need for memory grows; negative where it shrinks.
    grown_bytes: u64,
    freed_bytes: u64,
}

impl Change {
    /// Bytes that are needed in addition.
    pub(super) fn grown_bytes(&self) -> u64 {
        self.grown_bytes
    }

    /// Bytes that are needed no more.
    pub(super) fn freed_bytes(&self) -> u64 {
        self.freed_bytes
    }
}

impl Groups {
    /// Bytes that all groups take together.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Puts the cells of a group into `values`, which must be as long as the group.
    pub(super) fn read(&self, number: u32, values: &mut [u64]) {
        match self.groups.get(&number) {
            None => values.fill(0),
            Some(group) => group.read(values),
        }
    }

    /// Appends a group to `out` as [`pack_group`] packs it. Returns false if the group is zero.
    pub(super) fn read_packed(&self, number: u32, out: &mut Vec<u8>) -> bool {
        match self.groups.get(&number) {
            None => return false,
            Some(Group::Flat(values)) => pack_group(&wide(values), out),
            Some(group) => out.extend(group.packed()),
        }
        true
    }

    /// Numbers of all groups that are not zero, in order, from `first` on.
    pub(super) fn numbers_from(&self, first: u32) -> impl Iterator<Item = u32> + '_ {
        self.groups.range(first..).map(|(&number, _)| number)
    }

    /// Prepares to give a group these cells. Nothing has changed yet.
    pub(super) fn prepare(&self, number: u32, values: &[u64], keep: Keep) -> Change {
        let group = Group::of(values, keep);
        let before = self.groups.get(&number).map_or(0, Group::bytes);
        let after = group.bytes();
        Change {
            number,
            group,
            grown_bytes: after.saturating_sub(before),
            freed_bytes: before.saturating_sub(after),
        }
    }

    /// Makes a prepared change. The group must not have changed since it was prepared.
    pub(super) fn commit(&mut self, change: Change) {
        self.bytes += change.grown_bytes;
        self.bytes -= change.freed_bytes.min(self.bytes);
        self.groups.insert(change.number, change.group);
    }

    /// Packs all flat groups. Returns how many bytes that frees.
    pub(super) fn pack(&mut self) -> u64 {
        let mut freed = 0;
        for group in self.groups.values_mut() {
            if let Group::Flat(values) = group {
                let packed = Group::of(&wide(values), Keep::Packed);
                // A group of large values may be larger packed.
                if let Some(less) = group.bytes().checked_sub(packed.bytes()) {
                    freed += less;
                    *group = packed;
                }
            }
        }
        self.bytes -= freed.min(self.bytes);
        freed
    }
}

impl Group {
    fn of(values: &[u64], keep: Keep) -> Self {
        let mut packed = Vec::with_capacity(GROUP_CELLS);
        pack_group(values, &mut packed);
        if keep == Keep::Flat
            && packed.len() >= DENSE_BYTES
            && let Some(flat) = narrow(values)
        {
            return Self::Flat(flat);
        }
        if packed.len() > IN_PLACE_BYTES {
            return Self::Packed(packed.into_boxed_slice());
        }
        let mut bytes = [0; IN_PLACE_BYTES];
        bytes[..packed.len()].copy_from_slice(&packed);
        Self::InPlace {
            length: packed.len() as u8,
            bytes,
        }
    }

    fn read(&self, values: &mut [u64]) {
        match self {
            Self::Flat(flat) => {
                for (value, &cell) in values.iter_mut().zip(flat) {
                    *value = cell.into();
                }
            }
            packed => {
                // This node packed the group itself, from as many cells.
                let is_whole = unpack_group(packed.packed(), values);
                debug_assert!(is_whole, "a group of this slice");
            }
        }
    }

    /// The packed bytes; none for a flat group.
    fn packed(&self) -> &[u8] {
        match self {
            Self::InPlace { length, bytes } => &bytes[..usize::from(*length)],
            Self::Packed(bytes) => bytes,
            Self::Flat(_) => &[],
        }
    }

    fn bytes(&self) -> u64 {
        let heap = match self {
            Self::InPlace { .. } => return ENTRY_BYTES,
            Self::Packed(bytes) => bytes.len() as u64,
            Self::Flat(values) => values.len() as u64 * 4,
        };
        ENTRY_BYTES + heap.next_multiple_of(ALLOCATION_BYTES) + ALLOCATION_BYTES
    }
}

/// Flat cells as 64-bit numbers.
fn wide(flat: &[u32]) -> Vec<u64> {
    flat.iter().map(|&cell| cell.into()).collect()
}

/// Cells as 32-bit numbers; `None` if one does not fit, so that the group stays packed.
fn narrow(values: &[u64]) -> Option<Box<[u32]>> {
    values.iter().map(|&value| value.try_into().ok()).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_entry_is_small() {
        assert_eq!(size_of::<Group>(), 24);
    }

    proptest! {
        /// Cells that are put in are read out again, in each form, and the bytes add up.
        #[test]
        fn it_holds_what_it_was_given(
            steps in prop::collection::vec(
                (0..4_u32, 0..GROUP_CELLS, 1..=GROUP_CELLS, any::<u64>(), 1..65_u32, any::<bool>()),
                1..60,
            ),
            cells in 1..=GROUP_CELLS,
        ) {
            let mut groups = Groups::default();
            let mut naive: BTreeMap<u32, Vec<u64>> = BTreeMap::new();
            for (number, first, count, seed, shift, is_flat) in steps {
                let values = naive.entry(number).or_insert_with(|| vec![0; cells]);
                for (at, value) in values.iter_mut().enumerate().skip(first).take(count) {
                    *value = (*value).max(seed.wrapping_mul(at as u64 + 1).checked_shr(shift).unwrap_or(0));
                }
                if values.iter().all(|&value| value == 0) {
                    naive.remove(&number);
                    continue;
                }
                let keep = if is_flat { Keep::Flat } else { Keep::Packed };
                let change = groups.prepare(number, values, keep);
                let (before, grown, freed) = (groups.bytes(), change.grown_bytes(), change.freed_bytes());
                groups.commit(change);
                prop_assert_eq!(groups.bytes(), before + grown - freed);
            }
            let check = |groups: &Groups| {
                let mut values = vec![7; cells];
                for number in 0..4 {
                    groups.read(number, &mut values);
                    let wanted = naive.get(&number).cloned().unwrap_or_else(|| vec![0; cells]);
                    assert_eq!(values, wanted);
                    let mut packed = Vec::new();
                    assert_eq!(groups.read_packed(number, &mut packed), naive.contains_key(&number));
                    if !packed.is_empty() {
                        assert!(unpack_group(&packed, &mut values));
                        assert_eq!(values, wanted);
                    }
                }
                assert!(groups.numbers_from(0).eq(naive.keys().copied()));
                let bytes: u64 = groups.groups.values().map(Group::bytes).sum();
                assert_eq!(groups.bytes(), bytes);
            };
            check(&groups);
            let before = groups.bytes();
            let freed = groups.pack();
            prop_assert_eq!(groups.bytes(), before - freed);
            check(&groups);
        }
    }
}
