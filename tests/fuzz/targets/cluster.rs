//! Targets for the messages between nodes of a cluster, and for key files.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::time::Duration;

use rmbd_cluster::membership::{Member, Membership, MembershipDatagram, MembershipOptions};
use rmbd_cluster::seal::{
    Channel, HEADER_BYTES, KeyFileError, KeyRing, Openers, OpenersOptions, Sealer,
};
use rmbd_proto::cluster::{
    self, AgedGroup, CatalogueLine, DigestEntry, Frame, PardonEntry, Purpose, SliceId, TopEntry,
    TopName, TopVersion,
};
use rmbd_proto::{Boot, SketchNumber};

/// The reader that copies nothing must see the same as one by the format's description. The first two bytes are the
/// number of cells of sketch 0 (65 535 stands for the largest number); sketch 1 has 300, and no other sketch exists.
/// The rest is the payload.
pub fn payload(input: &[u8]) {
    let &[low, high, ref payload @ ..] = input else {
        return;
    };
    let cells = match u16::from_le_bytes([low, high]) {
        u16::MAX => u32::MAX,
        cells => cells.into(),
    };
    assert_eq!(ours(payload, cells), naive(payload, cells));
}

/// A slice as sketch, node and writer.
type Slice = [u64; 3];

/// The place of a line in a catalogue: sketch and number.
type Line = (u64, u64);

/// Number of cells of sketch 1.
const SECOND_CELLS: u32 = 300;

/// A cell as index and value.
type Cell = (u64, u64);

/// A group's number, its cells, and the folded cells of all marks.
type NaiveAged = (u64, Vec<Cell>, Vec<u64>);

/// A pardon's limit, key, numbers (count, giver, left and kept) and credits.
type NaivePardon = (u64, Vec<u8>, [u64; 4], Vec<u64>);

/// Versions from and to, whether it is complete, weight, and bounds of a list of largest keys.
type NaiveTopHead = (u64, u64, bool, u64, Vec<(u64, u64)>);

/// Place, version, form, key, lists, and what is certain.
type NaiveTopEntry = (u64, u64, u8, Vec<u8>, u64, u64);

#[derive(Debug, PartialEq)]
enum Seen {
    NoHead,
    Head(u64, u64, SocketAddr),
    Ack(u64, Vec<(u64, u64)>),
    Cells(Slice, Vec<Cell>),
    Groups(Slice, u64, Vec<(u64, Vec<Cell>)>),
    AgedGroups(Slice, u64, u64, Vec<u64>, Vec<NaiveAged>),
    Complete(Slice, u64, u64),
    Digest(Vec<(Slice, u64, u64)>),
    DigestAsked,
    SectionsAsked(Slice, u64),
    Sections(Slice, u64, u64, Vec<u64>),
    GroupHashesAsked(Slice, u64),
    GroupHashes(Slice, u64, u64, Vec<u64>),
    Pull(Slice, Vec<(u64, u64)>),
    Membership(Vec<u8>),
    CatalogueAsked(Line),
    Catalogue(Line, Option<Line>, Vec<(Slice, u64, u64)>),
    Contact(u8),
    ContactAnswered(u8),
    NotHeld(Slice),
    About(bool, u64, u64, u64, Vec<(u64, u64)>),
    SketchSums(Vec<(u64, u64)>),
    SketchAsked(u64),
    Wanted(Slice),
    Siblings(Vec<(Slice, u64, u64)>),
    BucketsAsked(Slice),
    Buckets(Slice, Vec<u64>),
    LinesAsked(Slice, u64, u64),
    Pardons(Vec<NaivePardon>),
    PardonSums(Vec<(u64, u64)>),
    PardonsAsked(u64),
    TopSum(u64),
    History(u64),
    TopOffered(Vec<(Slice, u64, u64)>),
    TopAsked(Vec<(Slice, u64, u64)>),
    Top(Slice, NaiveTopHead, Vec<NaiveTopEntry>),
    UnknownSketch(Slice),
    Malformed(u8),
}

fn ours(payload: &[u8], cells: u32) -> Vec<Seen> {
    let Some((head, rest)) = cluster::head(payload) else {
        return vec![Seen::NoHead];
    };
    let mut seen = vec![Seen::Head(head.to_boot.0, head.node, head.address)];
    let cells_of = |sketch| match sketch {
        SketchNumber(0) => Some(cells),
        SketchNumber(1) => Some(SECOND_CELLS),
        SketchNumber(_) => None,
    };
    let mut frames = cluster::frames(rest, cells_of);
    seen.extend(frames.by_ref().map(|frame| match frame {
        Ok(frame) => our_frame(frame),
        Err(malformed) => Seen::Malformed(malformed.kind),
    }));
    assert_eq!((frames.next(), frames.unread()), (None, 0));
    seen
}

fn our_frame(frame: Frame<'_>) -> Seen {
    match frame {
        Frame::Ack { channel, ranges } => {
            Seen::Ack(channel, all(ranges.map(|range| range.into_inner())))
        }
        Frame::Cells { slice, cells } => Seen::Cells(our_slice(slice), all(cells.map(our_cell))),
        Frame::Groups {
            slice,
            version,
            mut groups,
        } => {
            let (mut seen, mut cells) = (Vec::new(), Vec::new());
            while let Some(group) = groups.next_group(&mut cells) {
                let cells = cells.iter().copied().map(our_cell).collect();
                seen.push((group.into(), cells));
            }
            assert_eq!((groups.next_group(&mut cells), cells), (None, vec![]));
            Seen::Groups(our_slice(slice), version, seen)
        }
        Frame::AgedGroups {
            slice,
            version,
            mut groups,
        } => {
            let (mut seen, mut group) = (Vec::new(), AgedGroup::default());
            while let Some(number) = groups.next_group(&mut group) {
                let cells = group.cells.iter().copied().map(our_cell).collect();
                seen.push((number.into(), cells, group.increments.clone()));
            }
            assert_eq!(groups.next_group(&mut group), None);
            assert_eq!(group, AgedGroup::default());
            let (fold, ages) = (groups.fold().cells() as u64, all(groups.ages()));
            assert_eq!(groups.marks(), ages.len());
            Seen::AgedGroups(our_slice(slice), version, fold, ages, seen)
        }
        Frame::Complete {
            slice,
            base,
            version,
        } => Seen::Complete(our_slice(slice), base, version),
        Frame::Digest { entries } => Seen::Digest(all(entries.map(our_entry))),
        Frame::CatalogueAsked { first } => Seen::CatalogueAsked(our_line(first)),
        Frame::Catalogue {
            first,
            next,
            entries,
        } => {
            let lines = all(entries.map(our_entry));
            Seen::Catalogue(our_line(first), next.map(our_line), lines)
        }
        Frame::SketchSums { sums } => {
            Seen::SketchSums(all(sums.map(|sum| (sum.sketch.0.into(), sum.sum))))
        }
        Frame::SketchAsked { sketch } => Seen::SketchAsked(sketch.0.into()),
        Frame::Contact { purpose } => Seen::Contact(our_purpose(purpose)),
        Frame::ContactAnswered { purpose } => Seen::ContactAnswered(our_purpose(purpose)),
        Frame::NotHeld { slice } => Seen::NotHeld(our_slice(slice)),
        Frame::About {
            asks,
            writer,
            total,
            first,
            sketches,
        } => {
            let sketches = sketches.map(|sketch| (sketch.number.0.into(), sketch.fingerprint));
            Seen::About(asks, writer.0, total.into(), first.into(), all(sketches))
        }
        Frame::Wanted { slice } => Seen::Wanted(our_slice(slice)),
        Frame::Siblings { entries } => {
            let entries = entries.map(|entry| (our_slice(entry.slice), entry.count, entry.sum));
            Seen::Siblings(all(entries))
        }
        Frame::BucketsAsked { slice } => Seen::BucketsAsked(our_slice(slice)),
        Frame::Buckets { slice, sums } => Seen::Buckets(our_slice(slice), all(sums)),
        Frame::LinesAsked {
            slice,
            buckets,
            first,
        } => Seen::LinesAsked(our_slice(slice), buckets, first.0),
        Frame::Pardons { entries } => Seen::Pardons(all(entries.map(our_pardon))),
        Frame::PardonSums { sums } => {
            Seen::PardonSums(all(sums.map(|(bucket, sum)| (bucket as u64, sum))))
        }
        Frame::PardonsAsked { buckets } => Seen::PardonsAsked(buckets.into()),
        Frame::TopSum { sum } => Seen::TopSum(sum),
        Frame::History { known_ms } => Seen::History(known_ms),
        Frame::TopOffered { lists } => Seen::TopOffered(all(lists.map(our_top_version))),
        Frame::TopAsked { lists } => Seen::TopAsked(all(lists.map(our_top_version))),
        Frame::Top { slice, list } => {
            let head = list.head();
            let bounds = head.bounds.iter().map(|bound| (bound.span_ms, bound.above));
            let bounds = bounds.collect();
            let head = (head.from, head.to, head.is_complete, head.weight, bounds);
            Seen::Top(
                our_slice(slice),
                head,
                all(list.entries().map(our_top_entry)),
            )
        }
        Frame::UnknownSketch { slice } => Seen::UnknownSketch(our_slice(slice)),
        Frame::DigestAsked => Seen::DigestAsked,
        Frame::SectionsAsked { slice, first } => {
            Seen::SectionsAsked(our_slice(slice), first.into())
        }
        Frame::Sections {
            slice,
            version,
            first,
            hashes,
        } => Seen::Sections(our_slice(slice), version, first.into(), all(hashes)),
        Frame::GroupHashesAsked { slice, section } => {
            Seen::GroupHashesAsked(our_slice(slice), section.into())
        }
        Frame::GroupHashes {
            slice,
            version,
            section,
            hashes,
        } => Seen::GroupHashes(our_slice(slice), version, section.into(), all(hashes)),
        Frame::Pull { slice, groups } => {
            let ranges = groups.map(|range| (*range.start(), u64::from(*range.end())));
            let ranges = ranges.map(our_cell);
            Seen::Pull(our_slice(slice), all(ranges))
        }
        Frame::Membership { message } => Seen::Membership(message.to_vec()),
    }
}

fn our_slice(slice: SliceId) -> Slice {
    [slice.sketch.0.into(), slice.node, slice.writer.0]
}

fn our_line(line: CatalogueLine) -> Line {
    (line.sketch.0.into(), line.line.into())
}

fn our_entry(entry: DigestEntry) -> (Slice, u64, u64) {
    (our_slice(entry.slice), entry.version, entry.root)
}

fn our_pardon(pardon: PardonEntry<'_>) -> NaivePardon {
    let numbers = [pardon.count, pardon.giver.0, pardon.left_ms, pardon.kept_ms];
    let credits = pardon.credits.to_vec();
    (pardon.limit.0, pardon.key.to_vec(), numbers, credits)
}

fn our_top_version(list: TopVersion) -> (Slice, u64, u64) {
    (our_slice(list.slice), list.version, list.complete)
}

fn our_top_entry(entry: TopEntry<'_>) -> NaiveTopEntry {
    let (form, key) = match entry.key {
        TopName::Gone => (0, Vec::new()),
        TopName::Hash(halves) => (1, halves.map(u64::to_le_bytes).concat()),
        TopName::Name(name) => (2, name.to_vec()),
        TopName::AsBefore => (3, Vec::new()),
    };
    let (place, changed) = (entry.place.into(), entry.changed);
    (place, changed, form, key, entry.lists, entry.certain)
}

fn our_purpose(purpose: Purpose) -> u8 {
    match purpose {
        Purpose::Membership => 0,
        Purpose::OneWay => 1,
    }
}

fn our_cell((index, value): (u32, u64)) -> Cell {
    (index.into(), value)
}

/// Reads a list to its end, and checks that nothing comes after it.
fn all<T: std::fmt::Debug + PartialEq>(mut list: impl Iterator<Item = T>) -> Vec<T> {
    let all = list.by_ref().collect();
    for _ in 0..3 {
        assert_eq!(list.next(), None);
    }
    all
}

/// A reader that reads one byte after the other, and computes numbers as sums of their bits. It returns `None` for
/// anything that breaks off or breaks a rule.
struct Naive<'a> {
    bytes: &'a [u8],
    at: usize,
}

fn naive(payload: &[u8], cells: u32) -> Vec<Seen> {
    let mut naive = Naive {
        bytes: payload,
        at: 0,
    };
    let Some(head) = naive.head() else {
        return vec![Seen::NoHead];
    };
    let mut seen = vec![head];
    while let Some(kind) = naive.byte() {
        let Some(body) = naive.body() else {
            seen.push(Seen::Malformed(kind));
            break;
        };
        let mut body = Naive {
            bytes: &body,
            at: 0,
        };
        if !matches!(kind, 1..=24 | 30..=39) || body.is_of_a_later_purpose(kind) {
            continue;
        }
        let Some(frame) = body.frame(kind, cells.into()) else {
            seen.push(Seen::Malformed(kind));
            break;
        };
        seen.push(frame);
    }
    seen
}

impl Naive<'_> {
    fn byte(&mut self) -> Option<u8> {
        self.at += 1;
        self.bytes.get(self.at - 1).copied()
    }

    fn fixed(&mut self, bytes: u32) -> Option<u64> {
        let mut value = 0;
        for place in 0..bytes {
            value += u64::from(self.byte()?) * 256_u64.pow(place);
        }
        Some(value)
    }

    fn varint(&mut self) -> Option<u64> {
        let mut value = 0_u128;
        for place in 0..10 {
            let byte = self.byte()?;
            value += u128::from(byte % 128) * 128_u128.pow(place);
            if byte < 128 {
                let is_shortest = place == 0 || byte > 0;
                return u64::try_from(value).ok().filter(|_| is_shortest);
            }
        }
        None
    }

    /// Reads a number of 32 bits.
    fn small(&mut self) -> Option<u64> {
        self.varint().filter(|&number| number < 1 << 32)
    }

    fn head(&mut self) -> Option<Seen> {
        let (to_boot, node) = (self.fixed(8)?, self.fixed(8)?);
        let mut ip = [0_u8; 16];
        let family = self.byte()?;
        let bytes = match family {
            4 => 4,
            6 => 16,
            _ => return None,
        };
        for byte in &mut ip[..bytes] {
            *byte = self.byte()?;
        }
        let port = self.fixed(2)? as u16;
        let address = match family {
            4 => SocketAddrV4::new(Ipv4Addr::new(ip[0], ip[1], ip[2], ip[3]), port).into(),
            _ => SocketAddrV6::new(Ipv6Addr::from(ip), port, 0, 0).into(),
        };
        Some(Seen::Head(to_boot, node, address))
    }

    fn body(&mut self) -> Option<Vec<u8>> {
        let length = self.fixed(2)?;
        (0..length).map(|_| self.byte()).collect()
    }

    fn slice(&mut self) -> Option<Slice> {
        Some([self.small()?, self.fixed(8)?, self.fixed(8)?])
    }

    /// Reads an entry with its length, and returns its content.
    fn entry(&mut self) -> Option<Vec<u8>> {
        let length = self.byte()?;
        (0..length).map(|_| self.byte()).collect()
    }

    fn is_of_a_later_purpose(&self, kind: u8) -> bool {
        (kind == 15 || kind == 16) && self.bytes.first().is_some_and(|&purpose| purpose > 1)
    }

    fn frame(&mut self, kind: u8, cells: u64) -> Option<Seen> {
        let is_of_a_slice = matches!(kind, 2..=4 | 7..=11 | 17 | 20..=24 | 38);
        let mut start = Naive {
            bytes: self.bytes,
            at: self.at,
        };
        let cells = match is_of_a_slice.then(|| start.slice()) {
            None | Some(Some([0, ..])) => cells,
            Some(None) => return None,
            Some(Some([1, ..])) => SECOND_CELLS.into(),
            Some(Some(slice)) => return Some(Seen::UnknownSketch(slice)),
        };
        Some(match kind {
            1 => Seen::Ack(self.fixed(8)?, self.ranges_down()),
            2 => Seen::Cells(self.slice()?, self.cells(u64::MAX, cells).0),
            3 => Seen::Groups(self.slice()?, self.varint()?, self.groups(cells)),
            4 => Seen::Complete(self.slice()?, self.varint()?, self.varint()?),
            5 => Seen::Digest(self.entries()),
            6 => Seen::DigestAsked,
            7 => Seen::SectionsAsked(self.slice()?, self.small()?),
            8 => Seen::Sections(self.slice()?, self.varint()?, self.small()?, self.hashes()),
            9 => Seen::GroupHashesAsked(self.slice()?, self.small()?),
            10 => Seen::GroupHashes(self.slice()?, self.varint()?, self.small()?, self.hashes()),
            11 => Seen::Pull(self.slice()?, self.ranges_up()),
            12 => Seen::Membership(self.bytes.to_vec()),
            13 => Seen::CatalogueAsked(self.line()?),
            14 => {
                let first = self.line()?;
                let has_next = self.byte()? % 2 == 1;
                let next = if has_next { Some(self.line()?) } else { None };
                Seen::Catalogue(first, next, self.entries())
            }
            30 => Seen::SketchSums(self.list(Self::sketch)),
            31 => Seen::SketchAsked(self.small()?),
            32 => Seen::Pardons(self.list(Self::pardon)),
            33 => {
                let buckets = self.fixed(4)?;
                let mut told = (0..32).filter(|bucket| buckets / 2_u64.pow(*bucket) % 2 == 1);
                Seen::PardonSums(self.list(|naive| {
                    let bucket = told.next()?;
                    Some((bucket.into(), naive.fixed(8)?))
                }))
            }
            34 => Seen::PardonsAsked(self.fixed(4)?),
            35 => Seen::TopSum(self.fixed(8)?),
            36 => Seen::TopOffered(self.top_versions()),
            37 => Seen::TopAsked(self.top_versions()),
            39 => Seen::History(self.varint()?),
            38 => {
                let slice = self.slice()?;
                let (from, to, weight) = (self.varint()?, self.varint()?, self.varint()?);
                let is_complete = self.byte()? % 2 == 1;
                let bytes = self.long()?;
                let mut bounds = Naive {
                    bytes: &bytes,
                    at: 0,
                };
                let mut bounds = bounds.list(|naive| Some((naive.varint()?, naive.varint()?)));
                bounds.truncate(33);
                let head = (from, to, is_complete, weight, bounds);
                Seen::Top(slice, head, self.list(Self::top_entry))
            }
            15 => Seen::Contact(self.byte().filter(|&byte| byte < 2)?),
            16 => Seen::ContactAnswered(self.byte().filter(|&byte| byte < 2)?),
            17 => Seen::NotHeld(self.slice()?),
            19 => Seen::Siblings(self.entries()),
            20 => Seen::BucketsAsked(self.slice()?),
            21 => Seen::Buckets(self.slice()?, self.hashes()),
            22 => Seen::LinesAsked(self.slice()?, self.fixed(8)?, self.fixed(8)?),
            23 => Seen::Wanted(self.slice()?),
            24 => self.aged_groups(cells)?,
            _ => {
                let (flags, writer) = (self.byte()?, self.fixed(8)?);
                let (total, first, count) = (self.small()?, self.small()?, self.varint()?);
                let mut sketches = self.list(Self::sketch);
                sketches.truncate(usize::try_from(count).unwrap_or(usize::MAX));
                Seen::About(flags % 2 == 1, writer, total, first, sketches)
            }
        })
    }

    /// Reads items until one breaks off or breaks a rule.
    fn list<T>(&mut self, mut item: impl FnMut(&mut Self) -> Option<T>) -> Vec<T> {
        let mut items = Vec::new();
        while let Some(item) = item(self) {
            items.push(item);
        }
        items
    }

    fn entries(&mut self) -> Vec<(Slice, u64, u64)> {
        self.list(|naive| {
            let bytes = naive.entry()?;
            let mut line = Naive {
                bytes: &bytes,
                at: 0,
            };
            Some((line.slice()?, line.varint()?, line.fixed(8)?))
        })
    }

    fn line(&mut self) -> Option<Line> {
        Some((self.small()?, self.small()?))
    }

    fn sketch(&mut self) -> Option<(u64, u64)> {
        let bytes = self.entry()?;
        let mut entry = Naive {
            bytes: &bytes,
            at: 0,
        };
        Some((entry.small()?, entry.fixed(8)?))
    }

    /// Reads a length as a varint, and as many bytes.
    fn long(&mut self) -> Option<Vec<u8>> {
        let length = self.varint()?;
        let left = self.bytes.len().checked_sub(self.at)?;
        (length <= left as u64).then(|| (0..length).map_while(|_| self.byte()).collect())
    }

    fn pardon(&mut self) -> Option<NaivePardon> {
        let bytes = self.long()?;
        let mut entry = Naive {
            bytes: &bytes,
            at: 0,
        };
        let limit = entry.fixed(8)?;
        let key = entry.long().filter(|key| key.len() <= 1024)?;
        let (count, giver) = (entry.varint()?, entry.fixed(8)?);
        let numbers = [count, giver, entry.varint()?, entry.varint()?];
        let told = entry.byte()?.min(8);
        let mut credits = Vec::new();
        for at in 0..8 {
            credits.push(if at < told { entry.varint()? } else { 0 });
        }
        Some((limit, key, numbers, credits))
    }

    fn top_versions(&mut self) -> Vec<(Slice, u64, u64)> {
        self.list(|naive| {
            let bytes = naive.entry()?;
            let mut line = Naive {
                bytes: &bytes,
                at: 0,
            };
            Some((line.slice()?, line.varint()?, line.varint()?))
        })
    }

    fn top_entry(&mut self) -> Option<NaiveTopEntry> {
        let bytes = self.long()?;
        let mut entry = Naive {
            bytes: &bytes,
            at: 0,
        };
        let place = entry.varint().filter(|&place| place < 8192)?;
        let (changed, form) = (entry.varint()?, entry.byte()?);
        let key = match form {
            0 | 3 => Vec::new(),
            1 => (0..16).map(|_| entry.byte()).collect::<Option<_>>()?,
            2 => entry.long().filter(|name| name.len() <= 1024)?,
            _ => return None,
        };
        let (lists, certain) = match form {
            0 => (0, 0),
            _ => (entry.varint()?, entry.varint()?),
        };
        Some((place, changed, form, key, lists, certain))
    }

    fn hashes(&mut self) -> Vec<u64> {
        self.list(|naive| naive.fixed(8))
    }

    /// Reads ranges. Numbers too large for their place show in 128 bits.
    fn ranges_down(&mut self) -> Vec<(u64, u64)> {
        let mut before = None;
        self.list(|naive| {
            let number = i128::from(naive.varint()?);
            let last = before.map_or(number, |first: i128| first - 1 - (number + 1));
            let first = last - i128::from(naive.varint()?);
            before = Some(first);
            Some((u64::try_from(first).ok()?, u64::try_from(last).ok()?))
        })
    }

    fn ranges_up(&mut self) -> Vec<(u64, u64)> {
        let mut next = 0;
        self.list(|naive| {
            let first = next + u128::from(naive.varint()?);
            let last = first + u128::from(naive.small()?);
            next = last + 1;
            (last < 1 << 32).then_some((first as u64, last as u64))
        })
    }

    /// Reads at most `count` cells, all below `end`. Also returns whether there were as many.
    fn cells(&mut self, count: u64, end: u64) -> (Vec<Cell>, bool) {
        let (mut next, mut left) = (0, count);
        let cells = self.list(|naive| {
            left = left.checked_sub(1)?;
            let index = next + u128::from(naive.varint()?);
            let value = naive.varint().filter(|&value| value < 1 << 63)?;
            next = index + 1;
            (index < end.into()).then_some((index as u64, value))
        });
        let is_all = cells.len() as u64 == count;
        (cells, is_all)
    }

    fn groups(&mut self, cells: u64) -> Vec<(u64, Vec<Cell>)> {
        let mut next = 0;
        self.list(|naive| {
            let group = next + u128::from(naive.varint()?);
            next = group + 1;
            let first = u64::try_from(group * 128).ok().filter(|&at| at < cells)?;
            let inside = naive.group((cells - first).min(128))?;
            let whole = inside.iter().map(|&(at, value)| (first + at, value));
            Some((group as u64, whole.collect()))
        })
    }

    fn aged_groups(&mut self, cells: u64) -> Option<Seen> {
        let (slice, version) = (self.slice()?, self.varint()?);
        let fold = [1_u64, 2, 4, 8, 16, 32, 64, 128]
            .get(usize::from(self.byte()?))
            .copied()?;
        let marks = self.byte().filter(|&marks| marks <= 64)?;
        let (mut ages, mut age) = (Vec::new(), 0_u128);
        for _ in 0..marks {
            age += u128::from(self.varint()?);
            ages.push(u64::try_from(age).ok()?);
        }
        let mut next = 0;
        let groups = self.list(|naive| {
            let group = next + u128::from(naive.varint()?);
            next = group + 1;
            let first = u64::try_from(group * 128).ok().filter(|&at| at < cells)?;
            let size = (cells - first).min(128);
            let inside = naive.group(size)?;
            let whole = inside.iter().map(|&(at, value)| (first + at, value));
            let folded = size.div_ceil(fold);
            let mut increments = Vec::new();
            for _ in 0..marks {
                let grown = naive.group(folded)?;
                let of = |at| grown.iter().filter(move |cell| cell.0 == at);
                increments.extend((0..folded).map(|at| of(at).map(|cell| cell.1).sum::<u64>()));
            }
            Some((group as u64, whole.collect(), increments))
        });
        Some(Seen::AgedGroups(slice, version, fold, ages, groups))
    }

    /// Reads a group's cells that are not 0, by their positions in the group.
    fn group(&mut self, cells: u64) -> Option<Vec<Cell>> {
        let form = self.byte()?;
        if form == 255 {
            let count = self.varint()?;
            let (cells, is_all) = self.cells(count, cells);
            let is_right = is_all && cells.iter().all(|&(_, value)| value > 0);
            return is_right.then_some(cells);
        }
        if form > 63 {
            return None;
        }
        let form = usize::from(form);
        let mut bits = Vec::new();
        while bits.len() < form * cells as usize {
            let byte = self.byte()?;
            bits.extend((0..8).map(|bit| byte >> bit & 1 == 1));
        }
        let value = |at: usize| -> u64 {
            (0..form)
                .map(|bit| u64::from(bits[at * form + bit]) << bit)
                .sum()
        };
        let values = (0..cells).map(|at| (at, value(at as usize)));
        Some(values.filter(|&(_, value)| value > 0).collect())
    }
}

/// The reader of key files must see the same keys as a simple reader of lines. The text may not be UTF-8. A file
/// with one of these keys, written plainly, opens what the ring's first key seals if it is that key. The ring opens
/// what each such file seals.
pub fn key_file(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    let ours = KeyRing::parse(&text);
    let naive = naive_keys(&text);
    assert_eq!(
        ours.as_ref().map(KeyRing::len),
        naive.as_ref().map(Vec::len)
    );
    let (Ok(ring), Ok(keys)) = (ours, naive) else {
        return;
    };
    let plain = |key: &String| KeyRing::parse(key).expect("64 hex digits");
    assert_eq!(opened_by(&ring, &plain(&keys[0])), Some(0));
    for (index, key) in keys.iter().enumerate() {
        assert_eq!(opened_by(&plain(key), &ring), Some(index));
    }
}

/// The number of the key in `opening` that opens what the first key of `sealing` seals.
fn opened_by(sealing: &KeyRing, opening: &KeyRing) -> Option<usize> {
    let mut datagram = vec![0; HEADER_BYTES];
    let channel = Channel {
        boot: Boot(1),
        id: 2,
    };
    let mut openers = Openers::new(opening.clone(), OpenersOptions::default());
    Sealer::new(sealing, channel).seal(&mut datagram).ok()?;
    let opened = openers.open(Duration::ZERO, &mut datagram).ok()?;
    Some(opened.key_index)
}

/// The keys in lower case.
fn naive_keys(text: &str) -> Result<Vec<String>, KeyFileError> {
    let mut keys: Vec<(usize, String)> = Vec::new();
    for (at, line) in text.split('\n').enumerate() {
        let line_number = at + 1;
        let mut key: Vec<char> = line.chars().take_while(|&c| c != '#').collect();
        while key.last().is_some_and(|c| c.is_whitespace()) {
            key.pop();
        }
        while key.first().is_some_and(|c| c.is_whitespace()) {
            key.remove(0);
        }
        if key.is_empty() {
            continue;
        }
        if keys.len() == 8 {
            return Err(KeyFileError::TooMany { line: line_number });
        }
        if key.len() != 64 {
            return Err(KeyFileError::Length {
                line: line_number,
                characters: key.len(),
            });
        }
        if let Some(wrong) = key
            .iter()
            .position(|c| !"0123456789abcdefABCDEF".contains(*c))
        {
            return Err(KeyFileError::NotHex {
                line: line_number,
                character: wrong + 1,
            });
        }
        let key: String = key.iter().map(char::to_ascii_lowercase).collect();
        if let Some((first, _)) = keys.iter().find(|(_, known)| *known == key) {
            return Err(KeyFileError::Repeated {
                line: line_number,
                first: *first,
            });
        }
        keys.push((line_number, key));
    }
    match keys.is_empty() {
        true => Err(KeyFileError::Empty),
        false => Ok(keys.into_iter().map(|(_, key)| key).collect()),
    }
}

/// Largest number of members that the small membership may know.
const MEMBERS_MAX: usize = 4;
/// The longest time that the membership waits for anything.
const FORGET_AFTER: Duration = Duration::from_hours(24);
/// Largest number of messages that a node sends because of one message.
const ANSWERS_MAX: usize = 16;

/// The member that the corpus was recorded for: one of three on the loopback address.
pub fn member(number: u16) -> Member {
    Member {
        node: number.into(),
        boot: Boot(number.into()),
        started_ms: 1,
        renewals: 0,
        address: ([127, 0, 0, 1], 8_000 + number).into(),
        client_port: 0,
    }
}

/// A membership of few members stays bounded, valid and itself, whatever it receives. Input: hundredths of a second
/// that pass (u8), length (u16), message; repeated.
pub fn membership(mut input: &[u8]) {
    let options = MembershipOptions {
        max_members: MEMBERS_MAX,
        forget_after: FORGET_AFTER,
        ..MembershipOptions::default()
    };
    let max_bytes = options.max_bytes;
    let mut node = Membership::new(member(1), 1, options);
    let mut now = Duration::ZERO;
    while let [hundredths, low, high, rest @ ..] = input {
        let length = usize::from(u16::from_le_bytes([*low, *high])).min(rest.len());
        let (message, rest) = rest.split_at(length);
        input = rest;
        now += Duration::from_millis(10) * u32::from(*hundredths);
        node.wake(now);
        drain(&mut node, max_bytes);
        // Other tests check whether the message is taken or refused.
        let _ = node.handle(now, message);
        let answers = drain(&mut node, max_bytes);
        assert!(answers <= ANSWERS_MAX, "{answers}");
        check(&node, now);
    }
}

/// Takes all messages, and returns their number.
fn drain(node: &mut Membership, max_bytes: usize) -> usize {
    let mut messages = 0;
    while let Some(MembershipDatagram { to, message, .. }) = node.poll_transmit() {
        assert!(message.len() <= max_bytes && to != node.me().address);
        messages += 1;
    }
    let mut events = 0;
    while node.poll_event().is_some() {
        events += 1;
    }
    assert!(events < 100, "{events}");
    messages
}

fn check(node: &Membership, now: Duration) {
    let (me, first) = (node.me(), member(1));
    assert_eq!(
        (me.node, me.boot, me.address),
        (first.node, first.boot, first.address)
    );
    let mut addresses: Vec<_> = node.members().map(|(member, _)| member.address).collect();
    assert!(node.members().all(|(member, _)| member.is_plausible()));
    assert!(addresses.len() <= MEMBERS_MAX);
    addresses.push(me.address);
    addresses.sort();
    assert!(addresses.windows(2).all(|pair| pair[0] != pair[1]));
    if let Some(wake) = node.next_wake() {
        assert!(
            (now..=now + FORGET_AFTER).contains(&wake),
            "{wake:?} at {now:?}"
        );
    }
}
