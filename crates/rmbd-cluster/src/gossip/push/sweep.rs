//! Pushing our own slice to one peer: from what it has to what we have published.
//!
//! ```text
//!   version      told  <=  base  <=  target  <=  published
//!                 |         |          |
//!                 |         |          the sweep under way brings it here
//!                 |         all until here has arrived
//!                 it has been told so, and has said that it heard
//! ```
//!
//! A sweep goes once over the cells that changed since `base`. What is lost on the way is sent again as
//! it is *then*: nothing that was sent is kept. It ends when everything has arrived.

use super::flight::Piece;
use super::own_slice::{OwnSliceWriter, Span};

/// Where a peer stands with our own slice.
#[derive(Debug)]
pub(super) struct Push {
    /// Cells of the slice.
    cells: u32,
    told: u64,
    base: u64,
    /// The peer has no room for our slice, and is not pushed to.
    is_refused: bool,
    sweep: Option<Sweep>,
    /// A [`Piece::Complete`] has to be sent.
    tell: bool,
}

#[derive(Debug)]
struct Sweep {
    /// The version that it brings the peer to.
    target: u64,
    /// The next cell to look at, up to `cells`.
    cursor: u32,
    /// Cells of the slice.
    cells: u32,
    /// Ranges that were lost on the way.
    lost: Vec<(u32, u32)>,
    /// Pieces that were sent and have neither arrived nor been lost.
    under_way: usize,
}

impl Push {
    /// The peer has nothing yet. The slice has so many cells.
    pub(super) fn new(cells: u32) -> Self {
        Self {
            cells,
            told: 0,
            base: 0,
            is_refused: false,
            sweep: None,
            tell: false,
        }
    }

    /// Begins a sweep where none is under way and there is something new.
    pub(super) fn begin(&mut self, published: u64) {
        if self.sweep.is_none() && published > self.base && !self.is_refused {
            self.sweep = Some(Sweep {
                target: published,
                cursor: 0,
                cells: self.cells,
                lost: Vec::new(),
                under_way: 0,
            });
        }
    }

    /// All that is published has arrived, and the peer knows it.
    pub(super) fn is_done(&self, published: u64) -> bool {
        self.told >= published
    }

    /// The peer has no room for our slice: nothing of it is there, whatever it has acknowledged.
    pub(super) fn refuse(&mut self) {
        *self = Self {
            is_refused: true,
            ..Self::new(self.cells)
        };
    }

    /// The peer has room again: it gets everything from the beginning.
    pub(super) fn want(&mut self) {
        self.is_refused = false;
    }

    /// The version until which all has arrived.
    pub(super) fn base(&self) -> u64 {
        self.base
    }

    /// The version that it has all of, and has said so.
    pub(super) fn told(&self) -> u64 {
        self.told
    }

    pub(super) fn is_refused(&self) -> bool {
        self.is_refused
    }

    /// Something may be sent now.
    pub(super) fn has_more(&self) -> bool {
        let sweep = self.sweep.as_ref();
        self.tell || sweep.is_some_and(|sweep| sweep.next_range().is_some())
    }

    /// The peer says itself what it has. While a sweep is under way, that tells nothing new.
    pub(super) fn heard(&mut self, version: u64, published: u64) {
        let version = version.min(published);
        if self.sweep.is_none() && version > self.told {
            self.told = version;
            self.base = self.base.max(version);
            self.tell &= self.base > self.told;
        }
    }

    /// Writes what comes next as one frame, and says what it was. `None`: nothing, or no room.
    pub(super) fn write(&mut self, own: &mut OwnSliceWriter<'_, '_>) -> Option<Piece> {
        if self.tell {
            if !own.write_complete(self.told, self.base) {
                return None;
            }
            self.tell = false;
            return Some(Piece::Complete { version: self.base });
        }
        let base = self.base;
        let sweep = self.sweep.as_mut()?;
        let piece = sweep.write(base, own);
        if piece.is_none() {
            self.finish();
        }
        piece
    }

    pub(super) fn arrived(&mut self, piece: Piece) {
        match piece {
            Piece::Range { .. } => {
                if let Some(sweep) = &mut self.sweep {
                    sweep.under_way = sweep.under_way.saturating_sub(1);
                }
                self.finish();
            }
            Piece::Complete { version } => {
                self.told = self.told.max(version.min(self.base));
                self.tell &= self.told < self.base;
            }
        }
    }

    pub(super) fn lost(&mut self, piece: Piece) {
        match piece {
            Piece::Range { from, to } => {
                if let Some(sweep) = &mut self.sweep {
                    sweep.under_way = sweep.under_way.saturating_sub(1);
                    sweep.lost.push((from, to));
                }
            }
            Piece::Complete { .. } => self.tell = self.told < self.base,
        }
    }

    /// Ends the sweep where everything has been sent and has arrived.
    fn finish(&mut self) {
        let is_over = |sweep: &mut Sweep| sweep.next_range().is_none() && sweep.under_way == 0;
        if let Some(sweep) = self.sweep.take_if(is_over) {
            self.base = sweep.target;
            self.tell = true;
        }
    }
}

impl Sweep {
    /// `None`: nothing is left, or there is no room, and the range stays as it is.
    fn write(&mut self, base: u64, own: &mut OwnSliceWriter<'_, '_>) -> Option<Piece> {
        while let Some((from, to)) = self.next_range() {
            let reached = own.write_span(Span { base, from, to })?;
            self.advance(from, to, reached.end);
            if reached.has_any {
                self.under_way += 1;
                return Some(Piece::Range {
                    from,
                    to: reached.end,
                });
            }
        }
        None
    }

    fn next_range(&self) -> Option<(u32, u32)> {
        let rest = (self.cursor, self.cells);
        let lost = self.lost.last().copied();
        lost.or_else(|| (self.cursor < self.cells).then_some(rest))
    }

    fn advance(&mut self, from: u32, to: u32, reached: u32) {
        if self.lost.last() == Some(&(from, to)) {
            self.lost.pop();
            if reached < to {
                self.lost.push((reached, to));
            }
        } else {
            self.cursor = reached;
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Arc;
    use std::time::Duration;

    use super::*;
    use rmbd_proto::Writer;
    use rmbd_proto::cluster::{Frame, FrameWriter, SliceId, frames};
    use rmbd_sketch::{Geometry, HashFamily, Weight};
    use rmbd_store::{Replica, ReplicaLimits, Slices};

    const OWN: SliceId = SliceId::of(1, Writer(9));
    const CELLS: u32 = 2 * 3_000;

    fn with_adds(keys: u32) -> Slices {
        let limits = ReplicaLimits {
            max_peers: 2,
            max_origins: 8,
            max_memory_bytes: u64::MAX,
        };
        let geometry = Geometry::new(CELLS as u64 / 2, 2).unwrap();
        let family = HashFamily::Xxh3 { seed: 7 };
        let replica = Arc::new(Replica::try_with(geometry, family, OWN, limits).unwrap());
        for key in 0..keys {
            replica.add(&key.to_le_bytes(), Weight::ONE).unwrap();
        }
        let mut slices = Slices::try_new(replica).unwrap();
        slices.publish(usize::MAX);
        slices
    }

    /// Every room that something else may have left in a datagram, the next datagrams empty or as full.
    #[test]
    fn however_little_room_there_is_nothing_is_left_out() {
        // A few cells, and so many that whole groups are sent.
        for keys in [7, 2_900] {
            let slices = with_adds(keys);
            let cells = || slices.cells(&OWN).unwrap();
            for room in 0..90 {
                let mut push = Push::new(CELLS);
                push.begin(slices.own_version());
                let mut held = BTreeMap::new();
                let (mut under_way, mut datagrams) = (Vec::new(), 0);
                while push.has_more() {
                    assert!(!push.tell, "before all has arrived");
                    let limit = if datagrams % 2 == 0 { room } else { 1_100 };
                    datagrams += 1;
                    assert!(datagrams < 10_000, "no progress with {room} bytes");
                    let mut bytes = Vec::new();
                    let mut writer = FrameWriter::new(&mut bytes, limit);
                    let piece = push.write(&mut OwnSliceWriter::new(
                        Duration::ZERO,
                        &slices,
                        &mut writer,
                    ));
                    assert_eq!(piece.is_some(), !bytes.is_empty());
                    // The first to be sent are lost, and sent again.
                    match piece {
                        Some(piece) if datagrams < 8 => push.lost(piece),
                        Some(piece) => {
                            take(&bytes, &mut held);
                            under_way.push(piece);
                        }
                        None => {}
                    }
                }
                assert!(push.base == 0, "nothing was acknowledged");
                under_way.into_iter().for_each(|piece| push.arrived(piece));
                assert_eq!(push.base, slices.own_version());
                let written = (0..CELLS).map(|cell| (cell, cells().get(cell)));
                assert!(written.filter(|&(_, value)| value > 0).eq(held));
            }
        }
    }

    fn take(bytes: &[u8], held: &mut BTreeMap<u32, u64>) {
        for frame in frames(bytes, |_| Some(CELLS)) {
            match frame.unwrap() {
                Frame::Cells { cells, .. } => held.extend(cells),
                Frame::Groups { mut groups, .. } => {
                    let mut cells = Vec::new();
                    while groups.next_group(&mut cells).is_some() {
                        held.extend(cells.iter().copied());
                    }
                }
                other => panic!("{other:?}"),
            }
        }
    }
}
