//! What somebody with the key says that he should not: it is counted, and changes nothing.

use super::*;
use crate::seal::{Channel, Sealer};
use rmbd_proto::cluster::{
    FrameWriter, GROUP_CELLS, GroupsWriter, Listed, PARDON_BUCKETS, PardonEntry, SIBLING_BUCKETS,
    SiblingsEntry, SketchEntry,
};
use rmbd_store::{LimitNumber, PARDONS_MAX, PardonBook, REFUSED_MAX};

/// Somebody with the key who says what he likes, at an address where nobody listens.
pub(super) struct Liar {
    sealer: Sealer,
    node: u64,
    to_boot: Boot,
}

impl Liar {
    pub(super) fn new(net: &Net, node: u64, boot: u64) -> Self {
        let channel = Channel {
            boot: Boot(boot),
            id: boot,
        };
        Self {
            sealer: Sealer::new(&KeyRing::public(), channel),
            node,
            to_boot: net.nodes[0].cluster.ourselves.boot(),
        }
    }

    /// Says something to the first node, and waits for what comes of it.
    pub(super) fn say(&mut self, net: &mut Net, write: impl FnOnce(&mut FrameWriter<'_>) -> bool) {
        self.say_only(net, write);
        net.run(MS * 200);
    }

    /// Says something as a member.
    pub(super) fn of_member(net: &Net) -> Self {
        let me = net.nodes[1].cluster.me();
        Self::new(net, me.node, me.boot.0)
    }

    /// Says these bytes to the first node, and waits for nothing.
    fn say_bytes(&mut self, net: &mut Net, frames: &[u8]) {
        let mut datagram = self.head();
        datagram.extend(frames);
        self.send(net, datagram);
    }

    fn say_only(&mut self, net: &mut Net, write: impl FnOnce(&mut FrameWriter<'_>) -> bool) {
        let mut datagram = self.head();
        let mut writer = FrameWriter::new(&mut datagram, DATAGRAM_BYTES_MAX - TAG_BYTES);
        assert!(write(&mut writer));
        self.send(net, datagram);
    }

    fn head(&self) -> Vec<u8> {
        let mut datagram = vec![0; HEADER_BYTES];
        Head {
            to_boot: self.to_boot,
            node: self.node,
            address: address(77),
        }
        .write(&mut datagram);
        datagram
    }

    fn send(&mut self, net: &mut Net, mut datagram: Vec<u8>) {
        self.sealer.seal(&mut datagram).unwrap();
        let now = net.now;
        let cluster = &mut net.nodes[0].cluster;
        cluster.handle(now, address(77), &mut datagram);
    }

    fn says_of_itself(&mut self, net: &mut Net, writer: u64, fingerprint: u64) {
        let number = SketchNumber::DEFAULT;
        let entry = SketchEntry {
            number,
            fingerprint,
        };
        self.say(net, |frames| {
            frames.about(true, Writer(writer), &[entry], 0)
        });
    }
}

fn refused(net: &Net, reason: &str) -> u64 {
    let refused = net.nodes[0].cluster.status(net.now).refused;
    refused.get(reason).copied().unwrap_or_default()
}

fn right_fingerprint() -> u64 {
    fingerprint(geometry(), FAMILY)
}

fn one_cell(frames: &mut FrameWriter<'_>, slice: &SliceId) -> bool {
    frames.cells(slice, |cells| assert!(cells.push(3, 1_000))) == Listed::Some
}

fn one_group(frames: &mut FrameWriter<'_>, slice: &SliceId) -> bool {
    frames.groups(slice, 9, |groups| {
        assert!(groups.push(1, &[7; GROUP_CELLS]));
    }) == Listed::Some
}

fn line(slice: SliceId) -> DigestEntry {
    let (version, root) = (9, 99);
    DigestEntry {
        slice,
        version,
        root,
    }
}

/// Everything that there is to be said of a slice.
fn say_all(liar: &mut Liar, net: &mut Net, slice: SliceId) {
    liar.say(net, |frames| one_cell(frames, &slice));
    liar.say(net, |frames| one_group(frames, &slice));
    liar.say(net, |frames| frames.complete(&slice, 0, 9));
    liar.say(net, |frames| frames.digest([line(slice)]) == 1);
    liar.say(net, |frames| frames.sections(&slice, 9, 0, &[1, 2]));
    liar.say(net, |frames| frames.group_hashes(&slice, 9, 0, &[1, 2]));
    liar.say(net, |frames| frames.sections_asked(&slice, 0));
    liar.say(net, |frames| frames.group_hashes_asked(&slice, 0));
    liar.say(net, |frames| frames.pull(&slice, [1, 2, 3]) == 3);
    liar.say(net, |frames| frames.not_held(&slice));
    liar.say(net, |frames| frames.wanted(&slice));
    let (count, sum) = (3, 4);
    let siblings = SiblingsEntry { slice, count, sum };
    liar.say(net, |frames| frames.siblings([siblings]) == 1);
    liar.say(net, |frames| frames.buckets_asked(&slice));
    liar.say(net, |frames| frames.buckets(&slice, &[5; SIBLING_BUCKETS]));
    liar.say(net, |frames| {
        frames.lines_asked(&slice, u64::MAX, Writer(6))
    });
}

/// Nothing is known but what the two nodes have counted.
fn is_unchanged(net: &Net) -> bool {
    let cluster = &net.nodes[0].cluster;
    cluster.slices().learnt().count() == 1
        && cluster.repair.pulls() == 0
        && net.nodes[0].replica.total_weight() == 2
}

fn two_nodes() -> Net {
    let mut net = Net::cluster_of(2, geometry(), 0.0);
    for node in &net.nodes {
        node.replica.add(b"key", 1.into()).unwrap();
    }
    net.until_equal(ROUND * 4);
    net.run(ROUND * 2);
    assert!(is_unchanged(&net));
    net
}

#[test]
fn nothing_is_taken_before_both_know_that_they_have_the_same_sketch() {
    let mut net = two_nodes();
    let slice = SliceId::of(5, Writer(55));
    let mut liar = Liar::new(&net, 5, 500);
    say_all(&mut liar, &mut net, slice);
    assert_eq!(refused(&net, "untold_sketch"), 15);
    assert!(is_unchanged(&net));
    let asked = net.nodes[0].cluster.peers.get(Boot(500)).unwrap();
    assert!(asked.was_asked_about() && !asked.owes_ack());
    // It tells another one.
    liar.says_of_itself(&mut net, 55, right_fingerprint() ^ 1);
    say_all(&mut liar, &mut net, slice);
    assert_eq!(refused(&net, "other_sketch"), 15);
    assert!(is_unchanged(&net));
    let state = net.nodes[0].cluster.status(net.now);
    assert_eq!(state.other_sketch, [address(77)]);
    // What was said first stands; in another start it is right.
    liar.says_of_itself(&mut net, 55, right_fingerprint());
    liar.say(&mut net, |frames| one_cell(frames, &slice));
    assert_eq!(refused(&net, "other_sketch"), 16);
    let mut honest = Liar::new(&net, 5, 501);
    honest.says_of_itself(&mut net, 55, right_fingerprint());
    honest.say(&mut net, |frames| one_cell(frames, &slice));
    assert_eq!(net.nodes[0].cluster.slices().learnt().count(), 2);
}

#[test]
fn what_is_of_a_sketch_that_is_not_there_is_counted() {
    let mut net = two_nodes();
    let mut liar = Liar::new(&net, 5, 500);
    liar.says_of_itself(&mut net, 55, right_fingerprint());
    let slice = SliceId {
        sketch: SketchNumber(9),
        node: 5,
        writer: Writer(55),
    };
    say_all(&mut liar, &mut net, slice);
    assert_eq!(refused(&net, "unknown_sketch"), 15);
    assert!(is_unchanged(&net));
    // What stands behind it is taken.
    let known = SliceId::of(5, Writer(55));
    liar.say(&mut net, |frames| {
        one_cell(frames, &slice) && one_cell(frames, &known)
    });
    assert_eq!(refused(&net, "unknown_sketch"), 16);
    assert_eq!(net.nodes[0].cluster.slices().learnt().count(), 2);
}

/// What a later release adds is skipped, and what stands around it is taken.
#[test]
fn frames_of_later_releases_are_skipped_alone() {
    let mut net = two_nodes();
    let slice = net.nodes[1].replica.own_slice();
    let later = [0xfe, 3, 0, 1, 2, 3];
    let mut frames = later.to_vec();
    let mut writer = FrameWriter::new(&mut frames, DATAGRAM_BYTES_MAX - TAG_BYTES);
    assert!(one_cell(&mut writer, &slice));
    frames.extend(later);
    Liar::of_member(&net).say_bytes(&mut net, &frames);
    let cells = net.nodes[0].cluster.slices().cells(&slice).unwrap();
    assert_eq!(cells.to_vec()[3], 1_000);
    let refused = net.nodes[0].cluster.status(net.now).refused;
    assert_eq!(refused.values().sum::<u64>(), 0, "{refused:?}");
}

#[test]
fn who_claims_to_write_anothers_slices_does_not() {
    let mut net = two_nodes();
    let [ours, theirs] = [0, 1].map(|node: usize| net.nodes[node].replica.own_slice());
    // As ourselves: nothing is exchanged with such a one.
    let mut liar = Liar::new(&net, ours.node, 500);
    liar.says_of_itself(&mut net, ours.writer.0, right_fingerprint());
    assert_eq!(refused(&net, "our_writer"), 1);
    say_all(&mut liar, &mut net, ours);
    assert_eq!(refused(&net, "untold_sketch"), 15);
    // Under its own name it cannot say what only another one's writer says.
    let mut liar = Liar::new(&net, 5, 501);
    liar.says_of_itself(&mut net, 55, right_fingerprint());
    for slice in [ours, theirs, SliceId::of(5, Writer(56))] {
        let before = refused(&net, "not_its_slice");
        liar.say(&mut net, |frames| one_cell(frames, &slice));
        liar.say(&mut net, |frames| frames.complete(&slice, 0, 99));
        assert_eq!(refused(&net, "not_its_slice"), before + 2);
    }
    assert!(is_unchanged(&net));
    // Nor change its name in the middle.
    liar.node = theirs.node;
    liar.says_of_itself(&mut net, theirs.writer.0, right_fingerprint());
    assert_eq!(refused(&net, "other_node"), 1);
    // Nobody is no writer.
    let mut nobody = Liar::new(&net, 6, 502);
    nobody.says_of_itself(&mut net, 0, right_fingerprint());
    assert_eq!(refused(&net, "other_node"), 2);
    assert!(is_unchanged(&net));
}

/// A line that says that somebody has a later version of the first node's slice than it has published.
fn claim_ours(net: &mut Net, liar: &mut Liar) {
    let slice = net.nodes[0].replica.own_slice();
    let version = net.nodes[0].cluster.slices().own_version() + 1_000;
    let root = 99;
    let line = DigestEntry {
        slice,
        version,
        root,
    };
    liar.say(net, |frames| frames.digest([line]) == 1);
}

#[test]
fn who_claims_more_of_our_slices_than_we_have_is_believed_once_and_only_of_an_earlier_starts() {
    let mut net = two_nodes();
    let writer = |net: &Net| net.nodes[0].replica.own_slice().writer;
    let drawn = writer(&net);
    let mut liar = Liar::of_member(&net);
    claim_ours(&mut net, &mut liar);
    liar.says_of_itself(&mut net, drawn.0, right_fingerprint());
    net.run(ROUND * 4);
    assert_eq!(writer(&net), drawn, "nobody else can have drawn it");
    assert_eq!(refused(&net, "later_version_of_ours"), 1);
    // It starts again.
    let disk = net.stop(0);
    let resumed = net.resume(&disk, 900, 0);
    net.nodes.swap(0, resumed);
    net.join(0, 1);
    net.run(ROUND * 6);
    assert!(!net.is_open(0));
    let mut stranger = Liar::new(&net, 5, 500);
    stranger.says_of_itself(&mut net, 55, right_fingerprint());
    claim_ours(&mut net, &mut stranger);
    let mut twin = Liar::new(&net, disk.own.node, 501);
    twin.says_of_itself(&mut net, drawn.0, right_fingerprint());
    net.run(ROUND * 4);
    assert_eq!(net.new_writer(0), None, "they are no members");
    // A member is believed once.
    for _ in 0..20 {
        liar.to_boot = net.nodes[0].cluster.ourselves.boot();
        claim_ours(&mut net, &mut liar);
        let own = net.nodes[0].replica.own_slice();
        liar.says_of_itself(&mut net, own.writer.0, right_fingerprint());
        net.run(ROUND * 4);
    }
    assert!(net.new_writer(0).is_some() && writer(&net) != drawn);
    assert!(refused(&net, "later_version_of_ours") > 10);
    assert_eq!(net.slices_held(0, disk.own.node), 2);
    net.nodes[0].replica.add(b"later", 5.into()).unwrap();
    net.run(ROUND * 20);
    assert_eq!(net.nodes[1].replica.estimate(b"later").count, 5);
}

/// A member that does not say what it has of our slice, and asks for cells of it.
#[test]
fn nobody_gets_cells_of_a_slice_whose_name_is_open() {
    let mut net = two_nodes();
    let disk = net.stop(0);
    let resumed = net.resume(&disk, 900, 0);
    net.nodes.swap(0, resumed);
    net.mute.insert(net.nodes[1].address);
    net.nodes[0].replica.add(b"new", 1.into()).unwrap();
    net.join(0, 1);
    net.run(ROUND * 4);
    let mut liar = Liar::of_member(&net);
    let served = |net: &Net| net.nodes[0].cluster.status(net.now).sent.pulls;
    liar.say(&mut net, |frames| frames.pull(&disk.own, 0..400) == 400);
    assert!(net.is_open(0));
    assert_eq!(served(&net), 0);
    net.mute.clear();
    net.run(ROUND * 4);
    assert!(!net.is_open(0));
    liar.say(&mut net, |frames| frames.pull(&disk.own, 0..400) == 400);
    assert!(served(&net) > 0);
}

/// Pieces that go out while a pass is under way have cells of the next version.
#[test]
fn other_cells_tell_nothing_while_a_pass_is_under_way() {
    let two_calls = Geometry::new(PUBLISH_CELLS as u64 / 2, 4).unwrap();
    let mut net = Net::cluster_of(2, two_calls, 0.0);
    net.nodes[0].replica.add(b"old", 1.into()).unwrap();
    net.run(ROUND * 4);
    let disk = net.stop(0);
    let resumed = net.resume(&disk, 900, 0);
    net.nodes.swap(0, resumed);
    net.join(0, 1);
    net.run(ROUND * 6);
    assert!(!net.is_open(0));
    let mut liar = Liar::of_member(&net);
    for is_passing in [true, false] {
        let node = &mut net.nodes[0];
        node.replica.add(b"new", 1.into()).unwrap();
        net.now = node.cluster.rounds.next();
        node.cluster.wake(net.now);
        assert!(node.cluster.publishing.wanted().next().is_some());
        if !is_passing {
            net.run(ROUND);
        }
        let line = DigestEntry {
            slice: disk.own,
            version: net.nodes[0].cluster.slices().own_version(),
            root: 99,
        };
        liar.say(&mut net, |frames| frames.digest([line]) == 1);
        assert_eq!(net.new_writer(0).is_some(), !is_passing);
    }
}

#[test]
fn what_is_told_of_many_sketches_is_not_kept() {
    let mut net = two_nodes();
    let mut liar = Liar::new(&net, 5, 500);
    let fingerprint = right_fingerprint();
    let sketches: Vec<SketchEntry> = (0..60)
        .map(|number| SketchEntry {
            number: SketchNumber(number),
            fingerprint,
        })
        .collect();
    for _ in 0..3 {
        liar.say(&mut net, |frames| {
            frames.about(true, Writer(55), &sketches, 0)
        });
    }
    let peer = net.nodes[0].cluster.peers.get(Boot(500)).unwrap();
    assert_eq!(peer.about().unwrap().compared(), 1);
    assert!(peer.exchanges(SketchNumber::DEFAULT));
}

/// Sums that nobody can make true are compared ever more seldom, and lines of them are bounded.
#[test]
fn what_is_said_of_siblings_makes_little_work() {
    let mut net = two_nodes();
    let mut liar = Liar::new(&net, 5, 500);
    liar.says_of_itself(&mut net, 55, right_fingerprint());
    let entry = |node| SiblingsEntry {
        slice: SliceId::of(node, Writer(node)),
        count: u64::MAX,
        sum: node,
    };
    for first in (0..60).map(|round| round * 20) {
        liar.say(&mut net, |frames| {
            frames.siblings((first..first + 20).map(entry)) == 20
        });
    }
    let slice = entry(3).slice;
    liar.say(&mut net, |frames| {
        frames.buckets(&slice, &[1; SIBLING_BUCKETS])
    });
    liar.say(&mut net, |frames| {
        frames.lines_asked(&slice, u64::MAX, Writer(6))
    });
    liar.say(&mut net, |frames| frames.wanted(&slice));
    let peer = net.nodes[0].cluster.peers.get(Boot(500)).unwrap();
    assert!(
        peer.has_frames(net.now) || peer.bytes_sent() > 0,
        "it is asked"
    );
    assert!(is_unchanged(&net));
}

/// Told of in digests, by way of siblings, and sent: what a node keeps of them is bounded, and what it does not is
/// counted and said.
#[test]
fn a_hundred_thousand_slices_of_one_member_take_no_more_than_some_hundreds() {
    const SLICES: u64 = 100_000;
    let mut net = two_nodes();
    let mut liar = Liar::new(&net, 5, 500);
    liar.says_of_itself(&mut net, 55, right_fingerprint());
    let memory = |net: &Net| net.nodes[0].replica.memory_bytes();
    let max_origins = net.limits.max_origins;
    let mut after_some = 0;
    for first in (1..=SLICES).step_by(20) {
        let slices = (first..first + 20).map(|writer| SliceId::of(9, Writer(writer)));
        liar.say_only(&mut net, |frames| {
            frames.digest(slices.clone().map(line)) == 20
        });
        liar.say_only(&mut net, |frames| {
            slices.clone().all(|slice| {
                let group =
                    |groups: &mut GroupsWriter<'_>| assert!(groups.push(0, &[1; GROUP_CELLS]));
                frames.groups(&slice, 1, group) == Listed::Some
            })
        });
        if first == 10_001 {
            after_some = memory(&net);
        }
    }
    let cluster = &net.nodes[0].cluster;
    assert_eq!(cluster.slices().learnt().count(), max_origins);
    assert_eq!(cluster.slices().lacking(), REFUSED_MAX);
    assert_eq!(memory(&net), after_some, "memory is flat");
    // One place is the other node's.
    let taken = max_origins as u64 - 1;
    assert_eq!(refused(&net, "too_many_origins"), SLICES - taken);
    assert!(net.nodes[0].replica.is_incomplete());
    assert!(!cluster.status(net.now).slices_missing.is_empty());
    // The others go on as before.
    net.nodes[1].replica.add(b"later", 5.into()).unwrap();
    net.run(ROUND * 4);
    assert!(net.nodes[0].replica.estimate(b"later").count >= 5);
}

fn pardon(key: &[u8]) -> PardonEntry<'_> {
    PardonEntry {
        limit: LimitNumber(7),
        key,
        count: 1,
        giver: Boot(5),
        left_ms: 600_000,
        kept_ms: 660_000,
        credits: [3; 8],
    }
}

/// Gives the first node a book.
fn share_a_book(net: &mut Net) -> Arc<PardonBook> {
    let book = Arc::new(PardonBook::new(net.nodes[0].cluster.me().boot));
    net.nodes[0].cluster.share_pardons(Arc::clone(&book));
    book
}

#[test]
fn who_is_no_member_neither_pardons_nor_is_told() {
    let mut net = two_nodes();
    let book = share_a_book(&mut net);
    let mut liar = Liar::new(&net, 5, 500);
    liar.says_of_itself(&mut net, 55, right_fingerprint());
    liar.say(&mut net, |frames| frames.pardons([pardon(b"alice")]) == 1);
    assert_eq!(book.pardons().all().count(), 0);
    let given = book.give((LimitNumber(7), b"bob"), [1; 8], MS * 60_000, net.now);
    given.unwrap();
    liar.say(&mut net, |frames| frames.pardons_asked(u32::MAX));
    liar.say(&mut net, |frames| frames.pardon_sums(&[9; PARDON_BUCKETS]));
    let peer = net.nodes[0].cluster.peers.get_mut(Boot(500)).unwrap();
    assert!(!peer.pardons_mut().has_some());
    assert_eq!(refused(&net, "pardon_of_no_member"), 3);
    assert!(is_unchanged(&net));
}

#[test]
fn what_members_say_of_pardons_takes_bounded_memory_and_bytes() {
    let mut net = two_nodes();
    let book = share_a_book(&mut net);
    let mut liar = Liar::of_member(&net);
    let keys: Vec<Vec<u8>> = (0..5_000_u64)
        .map(|n| n.to_le_bytes().repeat(100))
        .collect();
    for key in &keys {
        liar.say_only(&mut net, |frames| frames.pardons([pardon(key)]) == 1);
    }
    let taken = book.pardons().all().count();
    assert_eq!(taken, PARDONS_MAX);
    assert_eq!(refused(&net, "pardon_not_taken"), 5_000 - taken as u64);
    // They are asked for again and again, in a round.
    for _ in 0..1_000 {
        liar.say_only(&mut net, |frames| frames.pardons_asked(u32::MAX));
        liar.say_only(&mut net, |frames| frames.pardon_sums(&[9; PARDON_BUCKETS]));
    }
    let sent = |net: &Net| net.nodes[0].cluster.status(net.now).sent.pardons;
    let before = sent(&net);
    net.run(ROUND * 4);
    let told = sent(&net) - before;
    assert!(told > 64 << 10 && told < 6 * (66 << 10), "{told}");
    assert!(is_unchanged(&net));
}

#[test]
fn frames_of_pardons_that_are_cut_or_damaged_are_harmless() {
    let mut net = two_nodes();
    let book = share_a_book(&mut net);
    let mut liar = Liar::of_member(&net);
    let mut frames = Vec::new();
    let mut writer = FrameWriter::new(&mut frames, 1_000);
    assert_eq!(writer.pardons([pardon(b"alice"), pardon(b"bob")]), 2);
    assert!(writer.pardon_sums(&[9; PARDON_BUCKETS]) && writer.pardons_asked(5));
    for cut in 0..frames.len() {
        liar.say_bytes(&mut net, &frames[..cut]);
    }
    for bit in 0..frames.len() * 8 {
        let mut flipped = frames.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        liar.say_bytes(&mut net, &flipped);
    }
    assert!(refused(&net, "malformed") > 0);
    assert!(book.pardons().all().count() <= PARDONS_MAX);
    net.run(ROUND * 2);
    assert!(is_unchanged(&net));
}
