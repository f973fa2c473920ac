//! Writing frames.

use std::ops::RangeInclusive;

use super::aged::write_ages;
use super::frame::{
    ABOUT, ACK, AGED_GROUPS, ASKS, BUCKETS, BUCKETS_ASKED, CATALOGUE, CATALOGUE_ASKED, CELLS,
    COMPLETE, CONTACT, CONTACT_ANSWERED, DIGEST, DIGEST_ASKED, GROUP_HASHES, GROUP_HASHES_ASKED,
    GROUPS, HAS_NEXT, HISTORY, LINES_ASKED, MEMBERSHIP, NOT_HELD, PARDON_SUMS, PARDONS,
    PARDONS_ASKED, PULL, SECTIONS, SECTIONS_ASKED, SIBLINGS, SKETCH_ASKED, SKETCH_SUMS, TOP,
    TOP_ASKED, TOP_OFFERED, TOP_SUM, WANTED,
};
use super::pardons::{write_pardon, write_sums};
use super::top::{Fitting, write_version};
use super::{
    AgedGroupsWriter, CatalogueLine, CellsWriter, DigestEntry, FRAME_HEAD_BYTES, Fold,
    GroupsWriter, MARKS_MAX, PARDON_BUCKETS, PardonEntry, Purpose, SIBLING_BUCKETS,
    SKETCHES_TOLD_MAX, SiblingsEntry, SketchEntry, SketchSum, SliceId, TopEntry, TopHead,
    TopVersion, gap_after, write_entry, write_slice,
};
use crate::{SketchNumber, Writer, varint};

/// The outcome of writing a frame with a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Listed {
    /// There was no room for the frame's beginning, so it is not known whether there was anything to list.
    NoRoom,
    /// The frame was left out, because there was nothing to list or no room for the first item.
    Nothing,
    /// The frame was written and lists something.
    Some,
}

/// Appends frames to a datagram whose length stays within a limit.
///
/// Each call returns whether there was room; if there was none, it has written nothing.
#[derive(Debug)]
pub struct FrameWriter<'o> {
    out: &'o mut Vec<u8>,
    limit: usize,
}

impl<'o> FrameWriter<'o> {
    /// Appends to `out`, whose length stays at most `limit`; the limit itself is at most 65 535.
    #[must_use]
    pub fn new(out: &'o mut Vec<u8>, limit: usize) -> Self {
        Self { out, limit }
    }

    /// Bytes that are left, frame heads included.
    #[must_use]
    pub fn room(&self) -> usize {
        self.limit.saturating_sub(self.out.len())
    }

    /// Writes which packets of the receiver's channel have arrived. Ranges that do not fit, or no longer descend
    /// towards 0, are left out.
    pub fn ack(
        &mut self,
        channel: u64,
        newest_first: impl IntoIterator<Item = RangeInclusive<u64>>,
    ) -> bool {
        self.frame(ACK, |out, limit| {
            out.extend(channel.to_le_bytes());
            let mut below: Option<u64> = None;
            for range in newest_first {
                let (first, last) = range.into_inner();
                let number = match below {
                    None => last,
                    Some(below) => below.saturating_sub(last).saturating_sub(2),
                };
                let bytes = varint::bytes(number) + varint::bytes(last - first);
                if out.len() + bytes > limit {
                    break;
                }
                varint::write(number, out);
                varint::write(last - first, out);
                below = Some(first);
            }
        })
    }

    /// Writes a frame of cells, which `fill` appends. The frame is left out if `fill` appends none, and `fill` is not
    /// called if there is no room for any.
    pub fn cells(&mut self, slice: &SliceId, fill: impl FnOnce(&mut CellsWriter<'_>)) -> Listed {
        self.list(CELLS, slice, |out, limit| {
            let mut writer = CellsWriter {
                out,
                limit,
                before: None,
            };
            fill(&mut writer);
            writer.before.is_some()
        })
    }

    /// Writes a frame of groups, which `fill` appends. The frame is left out if `fill` appends none, and `fill` is not
    /// called if there is no room for any.
    pub fn groups(
        &mut self,
        slice: &SliceId,
        version: u64,
        fill: impl FnOnce(&mut GroupsWriter<'_>),
    ) -> Listed {
        self.list(GROUPS, slice, |out, limit| {
            varint::write(version, out);
            let mut writer = GroupsWriter {
                out,
                limit,
                before: None,
            };
            fill(&mut writer);
            writer.before.is_some()
        })
    }

    /// Writes a frame of aged groups, which `fill` appends. `ages_ms` are the ages of the marks, at most [`MARKS_MAX`],
    /// the youngest first; the increments of the groups are folded by `fold`. The frame is left out if `fill` appends
    /// no group, and `fill` is not called if there is no room for any.
    pub fn aged_groups(
        &mut self,
        slice: &SliceId,
        version: u64,
        (fold, ages_ms): (Fold, &[u64]),
        fill: impl FnOnce(&mut AgedGroupsWriter<'_>),
    ) -> Listed {
        let ages_ms = &ages_ms[..ages_ms.len().min(MARKS_MAX)];
        self.list(AGED_GROUPS, slice, |out, limit| {
            varint::write(version, out);
            out.extend([fold.bits(), ages_ms.len() as u8]);
            write_ages(ages_ms, out);
            let groups = GroupsWriter {
                out,
                limit,
                before: None,
            };
            let mut writer = AgedGroupsWriter {
                groups,
                fold,
                marks: ages_ms.len(),
                packed: Vec::new(),
            };
            fill(&mut writer);
            writer.groups.before.is_some()
        })
    }

    #[allow(missing_docs)]
    pub fn complete(&mut self, slice: &SliceId, base: u64, version: u64) -> bool {
        self.frame(COMPLETE, |out, _| {
            write_slice(slice, out);
            varint::write(base, out);
            varint::write(version, out);
        })
    }

    /// Writes as many entries as fit into a digest, and returns how many.
    pub fn digest(&mut self, entries: impl IntoIterator<Item = DigestEntry>) -> usize {
        let mut written = 0;
        self.frame(DIGEST, |out, limit| {
            written = write_entries(entries, write_line, out, limit);
        });
        written
    }

    /// Writes a page of a catalogue, or nothing where not all of it fits: the lines from `first` on, and the place of
    /// those behind them.
    pub fn catalogue(
        &mut self,
        first: CatalogueLine,
        next: Option<CatalogueLine>,
        entries: &[DigestEntry],
    ) -> bool {
        self.frame(CATALOGUE, |out, _| {
            write_catalogue_line(first, out);
            out.push(if next.is_some() { HAS_NEXT } else { 0 });
            if let Some(next) = next {
                write_catalogue_line(next, out);
            }
            write_entries(entries.iter().copied(), write_line, out, usize::MAX);
        })
    }

    #[allow(missing_docs)]
    pub fn catalogue_asked(&mut self, first: CatalogueLine) -> bool {
        self.frame(CATALOGUE_ASKED, |out, _| write_catalogue_line(first, out))
    }

    /// Writes as many sums of sketches as fit, and returns how many.
    pub fn sketch_sums(&mut self, sums: impl IntoIterator<Item = SketchSum>) -> usize {
        let mut written = 0;
        self.frame(SKETCH_SUMS, |out, limit| {
            let write = |sum: &SketchSum, out: &mut Vec<u8>| {
                varint::write(sum.sketch.0.into(), out);
                out.extend(sum.sum.to_le_bytes());
            };
            written = write_entries(sums, write, out, limit);
        });
        written
    }

    #[allow(missing_docs)]
    pub fn sketch_asked(&mut self, sketch: SketchNumber) -> bool {
        self.frame(SKETCH_ASKED, |out, _| varint::write(sketch.0.into(), out))
    }

    /// Writes an about: the sender's writer, its sketches from number `first` of its list on, and whether the receiver
    /// is asked for its own. At most [`SKETCHES_TOLD_MAX`] sketches are written.
    pub fn about(
        &mut self,
        asks: bool,
        writer: Writer,
        sketches: &[SketchEntry],
        first: u32,
    ) -> bool {
        let told = sketches.get(first as usize..).unwrap_or_default();
        let told = &told[..told.len().min(SKETCHES_TOLD_MAX)];
        self.frame(ABOUT, |out, _| {
            out.push(if asks { ASKS } else { 0 });
            out.extend(writer.0.to_le_bytes());
            varint::write(sketches.len() as u64, out);
            varint::write(first.into(), out);
            varint::write(told.len() as u64, out);
            for sketch in told {
                write_entry(out, |out| {
                    varint::write(sketch.number.0.into(), out);
                    out.extend(sketch.fingerprint.to_le_bytes());
                });
            }
        })
    }

    #[allow(missing_docs)]
    pub fn contact(&mut self, purpose: Purpose) -> bool {
        self.frame(CONTACT, |out, _| out.push(purpose.byte()))
    }

    #[allow(missing_docs)]
    pub fn contact_answered(&mut self, purpose: Purpose) -> bool {
        self.frame(CONTACT_ANSWERED, |out, _| out.push(purpose.byte()))
    }

    #[allow(missing_docs)]
    pub fn not_held(&mut self, slice: &SliceId) -> bool {
        self.frame(NOT_HELD, |out, _| write_slice(slice, out))
    }

    #[allow(missing_docs)]
    pub fn wanted(&mut self, slice: &SliceId) -> bool {
        self.frame(WANTED, |out, _| write_slice(slice, out))
    }

    /// Writes as many lines about siblings as fit, and returns how many.
    pub fn siblings(&mut self, entries: impl IntoIterator<Item = SiblingsEntry>) -> usize {
        let mut written = 0;
        self.frame(SIBLINGS, |out, limit| {
            let write = |entry: &SiblingsEntry, out: &mut Vec<u8>| {
                write_slice(&entry.slice, out);
                varint::write(entry.count, out);
                out.extend(entry.sum.to_le_bytes());
            };
            written = write_entries(entries, write, out, limit);
        });
        written
    }

    #[allow(missing_docs)]
    pub fn buckets_asked(&mut self, slice: &SliceId) -> bool {
        self.frame(BUCKETS_ASKED, |out, _| write_slice(slice, out))
    }

    #[allow(missing_docs)]
    pub fn buckets(&mut self, slice: &SliceId, sums: &[u64; SIBLING_BUCKETS]) -> bool {
        self.frame(BUCKETS, |out, _| {
            write_slice(slice, out);
            write_hashes(sums, out, usize::MAX);
        })
    }

    #[allow(missing_docs)]
    pub fn lines_asked(&mut self, slice: &SliceId, buckets: u64, first: Writer) -> bool {
        self.frame(LINES_ASKED, |out, _| {
            write_slice(slice, out);
            out.extend(buckets.to_le_bytes());
            out.extend(first.0.to_le_bytes());
        })
    }

    #[allow(missing_docs)]
    pub fn digest_asked(&mut self) -> bool {
        self.frame(DIGEST_ASKED, |_, _| {})
    }

    #[allow(missing_docs)]
    pub fn sections_asked(&mut self, slice: &SliceId, first: u32) -> bool {
        self.frame(SECTIONS_ASKED, |out, _| {
            write_slice(slice, out);
            varint::write(first.into(), out);
        })
    }

    /// Writes as many hashes of sections as fit; `hashes` are those from section `first` on.
    pub fn sections(&mut self, slice: &SliceId, version: u64, first: u32, hashes: &[u64]) -> bool {
        self.frame(SECTIONS, |out, limit| {
            write_slice(slice, out);
            varint::write(version, out);
            varint::write(first.into(), out);
            write_hashes(hashes, out, limit);
        })
    }

    #[allow(missing_docs)]
    pub fn group_hashes_asked(&mut self, slice: &SliceId, section: u32) -> bool {
        self.frame(GROUP_HASHES_ASKED, |out, _| {
            write_slice(slice, out);
            varint::write(section.into(), out);
        })
    }

    /// Writes all hashes of a section. They fit into an empty datagram.
    pub fn group_hashes(
        &mut self,
        slice: &SliceId,
        version: u64,
        section: u32,
        hashes: &[u64],
    ) -> bool {
        self.frame(GROUP_HASHES, |out, _| {
            write_slice(slice, out);
            varint::write(version, out);
            varint::write(section.into(), out);
            write_hashes(hashes, out, usize::MAX);
        })
    }

    /// Asks for groups, given ascending. Ranges that do not fit are left out. Returns how many groups were written.
    pub fn pull(&mut self, slice: &SliceId, groups: impl IntoIterator<Item = u32>) -> usize {
        let mut written = 0;
        self.frame(PULL, |out, limit| {
            write_slice(slice, out);
            let mut groups = groups.into_iter().peekable();
            let mut before = None;
            while let Some(first) = groups.next() {
                let mut last = first;
                while groups.next_if_eq(&(last + 1)).is_some() {
                    last += 1;
                }
                let gap = gap_after(before, first);
                let more = u64::from(last - first);
                if out.len() + varint::bytes(gap) + varint::bytes(more) > limit {
                    break;
                }
                varint::write(gap, out);
                varint::write(more, out);
                before = Some(last);
                written += (last - first) as usize + 1;
            }
        });
        written
    }

    /// Writes as many pardons as fit, and returns how many. Into a datagram that is empty fits one at least: none is
    /// longer than [`PARDON_BYTES_MAX`](super::PARDON_BYTES_MAX).
    pub fn pardons<'e>(&mut self, entries: impl IntoIterator<Item = PardonEntry<'e>>) -> usize {
        let start = self.out.len();
        let mut written = 0;
        self.frame(PARDONS, |out, limit| {
            for entry in entries {
                let start = out.len();
                write_pardon(&entry, out);
                if out.len() > limit {
                    out.truncate(start);
                    break;
                }
                written += 1;
            }
        });
        if written == 0 {
            self.out.truncate(start);
        }
        written
    }

    /// Writes the sums of all buckets of pardons; 0 stands for a bucket that has none.
    pub fn pardon_sums(&mut self, sums: &[u64; PARDON_BUCKETS]) -> bool {
        self.frame(PARDON_SUMS, |out, _| write_sums(sums, out))
    }

    #[allow(missing_docs)]
    pub fn pardons_asked(&mut self, buckets: u32) -> bool {
        self.frame(PARDONS_ASKED, |out, _| out.extend(buckets.to_le_bytes()))
    }

    #[allow(missing_docs)]
    pub fn top_sum(&mut self, sum: u64) -> bool {
        self.frame(TOP_SUM, |out, _| out.extend(sum.to_le_bytes()))
    }

    #[allow(missing_docs)]
    pub fn history(&mut self, known_ms: u64) -> bool {
        self.frame(HISTORY, |out, _| varint::write(known_ms, out))
    }

    /// Offers lists of these versions; false where not all of them fit.
    pub fn top_offered(&mut self, lists: &[TopVersion]) -> bool {
        self.frame(TOP_OFFERED, |out, _| {
            lists.iter().for_each(|list| write_version(list, out));
        })
    }

    /// Asks for what has changed of lists since these versions; false where not all of them fit.
    pub fn top_asked(&mut self, lists: &[TopVersion]) -> bool {
        self.frame(TOP_ASKED, |out, _| {
            lists.iter().for_each(|list| write_version(list, out));
        })
    }

    /// Writes what has changed of a slice's list since the version `from` of its head until `to`, or as much of it as
    /// fits. The entries are those that have changed, by the versions in which they have. Returns until where the list
    /// is written, and whether that is all of it; `None` if nothing fits. Into a datagram that is empty fits one entry
    /// at least ([`TOP_LIST_BYTES_MAX`](super::TOP_LIST_BYTES_MAX)).
    pub fn top<'e>(
        &mut self,
        slice: &SliceId,
        head: &TopHead,
        entries: impl Iterator<Item = TopEntry<'e>> + Clone,
    ) -> Option<(u64, bool)> {
        let room = self.room().checked_sub(FRAME_HEAD_BYTES)?;
        let fits = |fitting: &Fitting| fitting.are_all || fitting.until.is_some();
        let mut head = head.clone();
        let mut fitting = Fitting::new(room, &head.bounds, entries.clone());
        if !fits(&fitting) {
            head.bounds.clear();
            fitting = Fitting::new(room, &head.bounds, entries);
            fitting.are_all = false;
        }
        if !fits(&fitting) {
            return None;
        }
        head.is_complete &= fitting.are_all;
        if !fitting.are_all {
            head.to = fitting.until.unwrap_or(head.from);
        }
        let is_written = self.frame(TOP, |out, _| fitting.write(slice, &head, out));
        is_written.then_some((head.to, fitting.are_all))
    }

    #[allow(missing_docs)]
    pub fn membership(&mut self, message: &[u8]) -> bool {
        self.frame(MEMBERSHIP, |out, _| out.extend(message))
    }

    fn list(
        &mut self,
        kind: u8,
        slice: &SliceId,
        fill: impl FnOnce(&mut Vec<u8>, usize) -> bool,
    ) -> Listed {
        let start = self.out.len();
        let mut has_any = false;
        let fits = self.frame(kind, |out, limit| {
            write_slice(slice, out);
            if out.len() <= limit {
                has_any = fill(out, limit);
            }
        });
        if !fits {
            return Listed::NoRoom;
        }
        if !has_any {
            self.out.truncate(start);
            return Listed::Nothing;
        }
        Listed::Some
    }

    /// Writes a frame, or removes it again if it went over the limit.
    fn frame(&mut self, kind: u8, body: impl FnOnce(&mut Vec<u8>, usize)) -> bool {
        let start = self.out.len();
        self.out.extend([kind, 0, 0]);
        body(self.out, self.limit);
        let length = self.out.len() - start - FRAME_HEAD_BYTES;
        let Ok(length) = u16::try_from(length) else {
            self.out.truncate(start);
            return false;
        };
        if self.out.len() > self.limit {
            self.out.truncate(start);
            return false;
        }
        self.out[start + 1..start + FRAME_HEAD_BYTES].copy_from_slice(&length.to_le_bytes());
        true
    }
}

fn write_catalogue_line(place: CatalogueLine, out: &mut Vec<u8>) {
    varint::write(place.sketch.0.into(), out);
    varint::write(place.line.into(), out);
}

/// Appends the line of a digest or a catalogue.
fn write_line(entry: &DigestEntry, out: &mut Vec<u8>) {
    write_slice(&entry.slice, out);
    varint::write(entry.version, out);
    out.extend(entry.root.to_le_bytes());
}

/// Writes as many entries as fit, each with its length, and returns how many.
fn write_entries<T>(
    entries: impl IntoIterator<Item = T>,
    write: impl Fn(&T, &mut Vec<u8>),
    out: &mut Vec<u8>,
    limit: usize,
) -> usize {
    let mut written = 0;
    for entry in entries {
        let start = out.len();
        write_entry(out, |out| write(&entry, out));
        if out.len() > limit {
            out.truncate(start);
            break;
        }
        written += 1;
    }
    written
}

fn write_hashes(hashes: &[u64], out: &mut Vec<u8>, limit: usize) {
    let fit = limit.saturating_sub(out.len()) / 8;
    for hash in &hashes[..hashes.len().min(fit)] {
        out.extend(hash.to_le_bytes());
    }
}
