//! Tables that are saved, and come back in another start.

use std::sync::Arc;

use super::super::saved::{PieceWriter, SavedClient, WORDS};
use super::*;

fn table_of(clients: usize) -> Arc<OnceTable> {
    Arc::new(OnceTable::new(clients, &SECRET))
}

/// The table in another start, whose clock shows `now`, after `elapsed`.
fn restarted(
    table: &Arc<OnceTable>,
    then: Duration,
    now: Duration,
    elapsed: Duration,
) -> Arc<OnceTable> {
    let next = OnceTable::with_shards(table.clients_max(), &SECRET, table.shards.len());
    let next = Arc::new(next);
    for piece in table.save(then) {
        assert!(piece.len() <= PIECE_BYTES_MAX);
        assert!(!next.came_back());
        next.restore(&piece, now, elapsed).unwrap();
    }
    assert!(next.came_back());
    next.check();
    next
}

impl OnceTable {
    /// Checks that all parts are whole, and that their live clients are those that hold places.
    fn check(&self) {
        let live: usize = self.shards.iter().map(|shard| lock(shard).check()).sum();
        assert_eq!(live, self.clients());
    }
}

fn saved(id: u64, age_ms: u64) -> SavedClient {
    SavedClient {
        id,
        network: Network::of(home(id)),
        age_ms,
        highest: id,
        applied: [0; WORDS],
        decided: [0; WORDS],
        admitted: [0; WORDS],
    }
}

/// A piece of these clients.
fn piece(number: u32, clients: &[SavedClient], is_last: bool) -> Vec<u8> {
    let mut writer = PieceWriter::new(number);
    clients.iter().for_each(|client| writer.push(client));
    writer.finish(is_last)
}

/// Two clients, written by hand from the description of the format.
const GOLDEN: &[&[u8]] = &[
    b"\x01\x01\0\0\0\0\x02\0\0\0",
    // Client 7 of 192.0.2.0/24, heard of 1 500 ms ago, has used the sequences 0 to 64, ...
    b"\x07\0\0\0\0\0\0\0\x02\0\xc0\0\0\0\0\0\xdc\x05\0\0\0\0\0\0\x40\0\0\0\0\0\0\0",
    b"\x03\0\x01\0\x01\0\0\0\0\0\0\0",
    // ... and was given a verdict about 3, which it was refused, and 64.
    b"\x03\0\0\0\x08\0\0\0\0\0\0\0\x01\0\0\0\0\0\0\0",
    b"\x02\0\0\0\x01\0\0\0\0\0\0\0",
    // Client 2^63 + 1 of 2001:db8:1::/48 was heard of just now. It has used 1 000 000 alone, of word 9.
    b"\x01\0\0\0\0\0\0\x80\x01\0\xb8\x0d\x01\x20\x01\0\0\0\0\0\0\0\0\0\x40\x42\x0f\0\0\0\0\0",
    b"\0\x02\0\0\x01\0\0\0\0\0\0\0",
    b"\0\0\0\0",
    b"\0\0\0\0",
];

#[test]
fn bytes_are_what_the_page_says() {
    let golden = GOLDEN.concat();
    let table = table_of(10);
    let (one, other) = (
        [192, 0, 2, 77].into(),
        [0x2001, 0xdb8, 1, 9, 0, 0, 0, 1].into(),
    );
    let then = Duration::from_millis(8_500);
    for sequence in 0..65 {
        assert_eq!(admit_from(&table, one, 7, sequence, then), Admission::New);
    }
    table.decide(7, 3, true);
    table.decide(7, 3, false);
    table.decide(7, 64, true);
    let id = (1 << 63) + 1;
    assert_eq!(
        admit_from(&table, other, id, 1_000_000, at(10)),
        Admission::New
    );
    assert_eq!(table.save(at(10)).collect::<Vec<_>>(), [&golden[..]]);

    let next = table_of(10);
    let restored = next.restore(&golden, at(0), at(0)).unwrap();
    let all = Restored {
        live: 2,
        ..Restored::default()
    };
    assert_eq!((restored, next.clients()), (all, 2));
    assert_eq!(next.save(at(0)).collect::<Vec<_>>(), [golden]);
    assert_eq!(
        (next.verdict(7, 3), next.verdict(7, 64)),
        (Some(false), Some(true))
    );
    assert_eq!(next.verdict(7, 4), None);
    assert_eq!(admit(&next, 7, 64, at(0)), Admission::Repeat);
    assert_eq!(admit(&next, 7, 65, at(0)), Admission::New);
    assert_eq!(admit(&next, id, 1_000_000, at(0)), Admission::Repeat);
    assert_eq!(admit(&next, id, 999_999, at(0)), Admission::New);
    assert_eq!(
        admit(&next, id, 1_000_000 - WINDOW, at(0)),
        Admission::TooOld
    );
}

#[test]
fn an_empty_table_is_one_piece() {
    let table = table_of(10);
    let pieces: Vec<_> = table.save(at(0)).collect();
    assert_eq!(pieces, [b"\x01\x01\0\0\0\0\0\0\0\0"]);
    assert!(!table.came_back(), "nothing has come back to it");
    let next = restarted(&table, at(0), at(0), at(0));
    assert_eq!(next.clients(), 0);
}

/// With all networks at their limits: whoever had a place has one.
#[test]
fn a_full_table_comes_back_as_a_whole() {
    let table = table_of(CLIENTS_MAX);
    let mut clients = Vec::new();
    for n in 0..CLIENTS_MAX as u64 {
        // Two heavy networks first, then one for each client.
        let ip = match n {
            0..20_000 => [203, 0, 113, n as u8].into(),
            20_000..40_000 => [0x2001, 0xdb8, 7, 0, 0, 0, 0, n as u16].into(),
            _ => home(n),
        };
        let now = Duration::from_millis(n);
        if admit_from(&table, ip, n, n, now) == Admission::New {
            clients.push((n, ip));
        }
    }
    assert!(clients.len() > CLIENTS_MAX / 2);
    assert_eq!(table.clients(), clients.len());
    let next = restarted(&table, at(70), at(0), at(1));
    assert_eq!(next.clients(), clients.len());
    for &(client, _) in &clients {
        assert_eq!(admit(&next, client, client, at(1)), Admission::Repeat);
        assert_eq!(admit(&next, client, client + 1, at(1)), Admission::New);
    }
    let (heavy, stranger) = ([203, 0, 113, 9].into(), u64::MAX);
    assert_eq!(
        admit_from(&next, heavy, stranger, 1, at(1)),
        Admission::NetworkFull
    );
    next.lapse(at(400));
    assert_eq!(next.clients(), 0);
    next.check();
}

#[test]
fn time_goes_on_while_the_node_is_down() {
    let table = Arc::new(OnceTable::with_shards(3, &SECRET, 1));
    for (client, now) in [(1, 0), (2, 200), (3, 250)] {
        assert_eq!(admit(&table, client, 1, at(now)), Admission::New);
    }
    let limit = IDLE_LIMIT.as_secs();
    // Client 1 was silent for the limit, and one more second.
    for (elapsed, live) in [
        (limit - 250, 3),
        (limit - 249, 2),
        (limit + 1, 0),
        (u64::MAX, 0),
    ] {
        let next = restarted(&table, at(250), at(0), at(elapsed));
        assert_eq!(next.clients(), live, "{elapsed}");
        for client in 1..=3 {
            // Nobody needs their memory.
            assert_eq!(admit(&next, client, 1, at(0)), Admission::Repeat);
        }
        next.check();
    }
    let next = restarted(&table, at(250), at(0), at(limit + 1));
    assert_eq!(admit(&next, 4, 1, at(0)), Admission::New);
    assert_eq!(admit(&next, 2, 1, at(0)), Admission::Repeat);
    let forgotten = Caller {
        client: 1,
        ip: home(1),
        cookie: None,
    };
    assert_eq!(next.admit(forgotten, 1, at(0)), Admission::Unproven);
}

/// What is not known as a whole is not vouched for.
#[test]
fn a_part_is_not_taken_for_the_whole() {
    let first = piece(0, &[saved(1, 9), saved(2, 8)], false);
    let second = piece(1, &[saved(3, 7)], true);
    let restore = |table: &OnceTable, piece: &[u8]| table.restore(piece, at(0), at(0));
    let table = table_of(10);
    let out_of_turn = |expected, found| Err(RestoreError::OutOfTurn { expected, found });
    assert_eq!(restore(&table, &second), out_of_turn(0, 1));
    assert_eq!(table.clients(), 0);
    assert_eq!(restore(&table, &first).unwrap().live, 2);
    assert_eq!(restore(&table, &first), out_of_turn(1, 0));
    let cut = Err(PieceMalformed::CutOff.into());
    assert_eq!(restore(&table, &second[..second.len() - 1]), cut);
    assert_eq!((table.clients(), table.came_back()), (2, false));
    assert_eq!(restore(&table, &second).unwrap().live, 1);
    assert!(table.came_back());
    let after = Err(RestoreError::AfterLast { found: 2 });
    assert_eq!(restore(&table, &piece(2, &[saved(4, 1)], true)), after);
    assert_eq!(table.clients(), 3);

    // There are fewer places, and a client comes twice.
    let table = table_of(2);
    assert_eq!(restore(&table, &first).unwrap().live, 2);
    let refused = Restored {
        refused: 1,
        ..Restored::default()
    };
    assert_eq!(restore(&table, &second), Ok(refused));
    assert_eq!((table.clients(), table.came_back()), (2, false));
    let table = table_of(10);
    let twice = piece(0, &[saved(1, 9), saved(1, 9)], true);
    let one = Restored { live: 1, ..refused };
    assert_eq!(restore(&table, &twice), Ok(one));
    assert!(!table.came_back());
}

#[test]
fn pieces_are_refused_for_each_rule() {
    let golden = GOLDEN.concat();
    for end in 0..golden.len() {
        let error = SavedPiece::read(&golden[..end]).unwrap_err();
        assert_eq!(error, PieceMalformed::CutOff, "{end}");
    }
    let changed = |at: usize, byte: u8| {
        let mut bytes = golden.clone();
        bytes[at] = byte;
        SavedPiece::read(&bytes).unwrap_err()
    };
    assert_eq!(changed(0, 2), PieceMalformed::UnknownVersion { version: 2 });
    for (at, byte, rule) in [
        (1, 3, "there are flags that nobody knows"),
        (6, 1, "there is something behind the last client"),
        // An IPv4 network has 24 bits.
        (21, 1, "a client's network is none"),
        (25, 1, "a client's network is none"),
        // The full word is not used.
        (42, 2, "a word is full and not used"),
        // A word of zeros.
        (46, 0, "a word is not in its shortest form"),
        // The admitted bit of 64 becomes that of 65.
        (78, 2, "a request without a verdict was admitted"),
    ] {
        assert_eq!(changed(at, byte), PieceMalformed::Damaged { rule }, "{at}");
    }
    let long = vec![1; PIECE_BYTES_MAX + 1];
    let bytes = long.len();
    assert_eq!(
        SavedPiece::read(&long).unwrap_err(),
        PieceMalformed::TooLong { bytes }
    );
}

fn any_bits() -> impl Strategy<Value = [u64; WORDS]> {
    prop::array::uniform16(prop_oneof![3 => Just(0), 2 => Just(u64::MAX), 1 => any::<u64>()])
}

fn any_client() -> impl Strategy<Value = SavedClient> {
    let limit_ms = IDLE_LIMIT.as_millis() as u64;
    (
        (0..20_u64, 0..4_u8, 0..3_u8),
        prop_oneof![0..5_000_u64, limit_ms - 50..limit_ms + 50, any::<u64>()],
        any::<u64>(),
        prop::array::uniform3(any_bits()),
    )
        .prop_map(|((id, network, host), age_ms, highest, bits)| {
            let [applied, decided, admitted] = bits;
            SavedClient {
                id,
                network: Network::of(address(network, host, false)),
                age_ms,
                highest,
                applied,
                decided,
                admitted: std::array::from_fn(|at| admitted[at] & decided[at]),
            }
        })
}

/// One step of a node's life.
#[derive(Debug, Clone)]
enum Step {
    /// Client, network and sequence, whether the client has a cookie, and the verdict.
    Ask(u64, u8, u64, bool, Option<bool>),
    /// A verdict is looked at.
    Look(u64, u64),
    /// The node is down for so many ms.
    Restart(u64),
}

fn step() -> impl Strategy<Value = Step> {
    let sequence = || prop_oneof![4 => 0..20_u64, 2 => 0..3000_u64, 1 => any::<u64>()];
    let clients = 0..16_u64;
    let ask = (
        clients.clone(),
        0..4_u8,
        sequence(),
        prop::bool::weighted(0.9),
        any::<Option<bool>>(),
    );
    prop_oneof![
        12 => ask.prop_map(|(client, network, sequence, is_proven, verdict)| {
            Step::Ask(client, network, sequence, is_proven, verdict)
        }),
        4 => (clients, sequence()).prop_map(|(client, sequence)| Step::Look(client, sequence)),
        1 => prop_oneof![0..2_000_u64, 0..400_000_u64].prop_map(Step::Restart),
    ]
}

proptest! {
    /// A naive table that never ends says the same as one that is restarted again and again.
    #[test]
    fn a_restart_changes_no_answer(
        max in 1..12_usize,
        steps in prop::collection::vec(
            // Milliseconds since the step before, never 0, so that ages differ.
            (step(), prop_oneof![8 => 1..50_u64, 1 => 1..400_000_u64]),
            1..300,
        ),
    ) {
        let mut table = Arc::new(OnceTable::with_shards(max, &SECRET, 1));
        let mut naive = Naive { max, clients: Vec::new() };
        // The time since the first start, and since the present one.
        let (mut time, mut now) = (at(0), at(0));
        for (step, later_ms) in steps {
            let later = Duration::from_millis(later_ms);
            (time, now) = (time + later, now + later);
            table.lapse(now);
            match step {
                Step::Ask(client, network, sequence, is_proven, verdict) => {
                    let ip = address(network, 1, false);
                    let cookie = table.cookie(ip, now);
                    let cookie = is_proven.then_some(&cookie[..]);
                    let admission = table.admit(Caller { client, ip, cookie }, sequence, now);
                    let expected = naive.admit(client, network, is_proven, sequence, time);
                    prop_assert_eq!(admission, expected);
                    if let (Admission::New, Some(admits)) = (admission, verdict) {
                        table.decide(client, sequence, admits);
                        naive.client(client).unwrap().verdicts.insert(sequence, admits);
                    }
                }
                Step::Look(client, sequence) => {
                    let verdict = naive.verdict(client, sequence);
                    prop_assert_eq!(table.verdict(client, sequence), verdict);
                }
                Step::Restart(down_ms) => {
                    let elapsed = Duration::from_millis(down_ms);
                    let start = Duration::from_millis(down_ms % 5);
                    table = restarted(&table, now, start, elapsed);
                    (time, now) = (time + elapsed, start);
                }
            }
            prop_assert_eq!(table.clients(), naive.live(time));
        }
    }

    /// Whoever is in them, in whatever order and at whatever times: the parts stay whole, and all places come back.
    #[test]
    fn pieces_of_any_clients_leave_the_table_whole(
        max in 1..12_usize,
        pieces in prop::collection::vec(
            (prop::collection::vec(any_client(), 0..5), 0..400_u64, 0..400_u64),
            1..8,
        ),
    ) {
        let table = OnceTable::with_shards(max, &SECRET, 1);
        let mut there = 0;
        for (number, (clients, now_s, elapsed_s)) in pieces.iter().enumerate() {
            let bytes = piece(number as u32, clients, number + 1 == pieces.len());
            let read = SavedPiece::read(&bytes).unwrap();
            prop_assert_eq!(&read.iter().collect::<Vec<_>>(), clients);
            let restored = table.restore(&bytes, at(*now_s), at(*elapsed_s)).unwrap();
            let Restored { live, remembered, forgotten, refused } = restored;
            prop_assert_eq!(live + remembered + forgotten + refused, clients.len());
            there += live + remembered;
            table.check();
            prop_assert!(table.clients() <= max);
        }
        prop_assert!(lock(&table.shards[0]).len() <= there.min(max));
        for client in 0..30 {
            admit(&table, client, 1, at(500));
            table.check();
        }
        table.lapse(at(10_000));
        table.check();
        prop_assert_eq!(table.clients(), 0);
    }

    /// Damaged pieces, and any bytes behind a head: nothing panics, what is refused changes nothing, and what is not
    /// is in the one form that it is written in.
    #[test]
    fn no_bytes_panic(
        clients in prop::collection::vec(any_client(), 0..4),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0..5_u8), 0..4),
        garbage in prop::option::of(prop::collection::vec(any::<u8>(), 0..100)),
    ) {
        let mut bytes = piece(0, &clients, true);
        for (index, byte, kind) in damage {
            let at = index.index(bytes.len() + 1);
            match (kind, bytes.get_mut(at)) {
                (0, Some(there)) => *there = byte,
                (1, Some(there)) => *there ^= 1 << (byte % 8),
                (2, Some(_)) => drop(bytes.remove(at)),
                (3, _) => bytes.insert(at, byte),
                _ => bytes.truncate(at),
            }
        }
        if let Some(garbage) = garbage {
            bytes.truncate(10);
            bytes.extend(garbage);
        }
        let table = OnceTable::with_shards(5, &SECRET, 1);
        match SavedPiece::read(&bytes) {
            Ok(read) => {
                let clients: Vec<_> = read.iter().collect();
                prop_assert_eq!(clients.len(), read.clients() as usize);
                prop_assert_eq!(&piece(read.number(), &clients, read.is_last()), &bytes);
                let restored = table.restore(&bytes, at(0), at(0));
                prop_assert_eq!(restored.is_ok(), read.number() == 0);
            }
            Err(malformed) => {
                prop_assert_eq!(table.restore(&bytes, at(0), at(0)), Err(malformed.into()));
                prop_assert_eq!(table.clients(), 0);
                prop_assert_eq!(lock(&table.shards[0]).len(), 0);
            }
        }
        table.check();
    }
}
