#![allow(clippy::unwrap_used)]

use std::collections::HashSet;
use std::time::Duration;

use proptest::prelude::*;
use rmbd_testkit::hex::unhex;
use serde::Deserialize;

use super::openers::accepts;
use super::*;

const CHANNEL: Channel = Channel {
    boot: Boot(11),
    id: 22,
};
const START: Duration = Duration::from_secs(1000);
/// So many that no test meets the budget unless it wants to.
const ENDLESS: OpenersOptions = OpenersOptions {
    max_channels: 64,
    unknown_keys_per_s: u32::MAX,
};

/// A ring of keys that consist of one byte each.
fn ring(keys: &[u8]) -> KeyRing {
    let lines = keys.iter().map(|&key| generate_key_text([key; 32]) + "\n");
    KeyRing::parse(&lines.collect::<String>()).unwrap()
}

fn sealer(keys: &[u8], channel: Channel) -> Sealer {
    Sealer::new(&ring(keys), channel)
}

fn openers(keys: &[u8], options: OpenersOptions) -> Openers {
    Openers::new(ring(keys), options)
}

fn seal(sealer: &mut Sealer, payload: &[u8]) -> Vec<u8> {
    let mut datagram = vec![0xaa; HEADER_BYTES];
    datagram.extend_from_slice(payload);
    sealer.seal(&mut datagram).unwrap();
    datagram
}

/// Opens a copy; the number.
fn open(openers: &mut Openers, now: Duration, datagram: &[u8]) -> Result<u64, OpenError> {
    let mut datagram = datagram.to_vec();
    openers.open(now, &mut datagram).map(|opened| opened.number)
}

fn channel(id: u64) -> Channel {
    Channel { boot: Boot(11), id }
}

#[derive(Deserialize)]
struct Vectors {
    datagrams: Vec<Vector>,
}

/// As another implementation sealed it.
#[derive(Deserialize)]
struct Vector {
    name: String,
    key: String,
    boot: u64,
    channel: u64,
    number: u64,
    payload: String,
    channel_key: String,
    datagram: String,
}

fn vectors() -> Vec<Vector> {
    let text = include_str!("../../../../tests/data/cluster_seal_vectors.json");
    serde_json::from_str::<Vectors>(text).unwrap().datagrams
}

impl Vector {
    fn keys(&self) -> KeyRing {
        KeyRing::parse(&self.key).unwrap()
    }

    fn channel(&self) -> Channel {
        Channel {
            boot: Boot(self.boot),
            id: self.channel,
        }
    }
}

#[test]
fn another_implementation_derives_and_seals_the_same() {
    let vectors = vectors();
    assert!(vectors.len() >= 7);
    for vector in vectors {
        let (name, keys) = (&vector.name, vector.keys());
        let key = keys.channel_key_bytes(0, vector.channel());
        assert_eq!(key[..], unhex(&vector.channel_key), "{name}");

        let mut sealer = Sealer::new(&keys, vector.channel());
        sealer.skip_to(vector.number - 1);
        let payload = unhex(&vector.payload);
        let mut datagram = seal(&mut sealer, &payload);
        assert_eq!(datagram, unhex(&vector.datagram), "{name}");

        let mut openers = Openers::new(keys, ENDLESS);
        let opened = openers.open(START, &mut datagram).unwrap();
        let expected = Opened {
            channel: vector.channel(),
            number: vector.number,
            key_index: 0,
            payload: &payload,
        };
        assert_eq!(opened, expected, "{name}");
    }
}

#[test]
fn the_public_ring_is_the_one_that_everybody_has() {
    let vector = vectors().pop().unwrap();
    assert_eq!(vector.name, "the public key");
    let mut openers = Openers::new(KeyRing::public(), ENDLESS);
    assert_eq!(
        open(&mut openers, START, &unhex(&vector.datagram)),
        Ok(vector.number)
    );
    assert!(KeyRing::public().is_public());
    assert!(!ring(&[1]).is_public());
}

/// Each change of one bit, each shorter one, and a longer one.
fn spoiled(datagram: &[u8]) -> impl Iterator<Item = Vec<u8>> + '_ {
    let flipped = (0..datagram.len() * 8).map(|bit| {
        let mut copy = datagram.to_vec();
        copy[bit / 8] ^= 1 << (bit % 8);
        copy
    });
    let shorter = (0..datagram.len()).map(|bytes| datagram[..bytes].to_vec());
    let longer = std::iter::once([datagram, &[0]].concat());
    flipped.chain(shorter).chain(longer)
}

#[test]
fn spoiled_datagrams_are_refused_and_change_nothing() {
    for keys in [&[1][..], &[3, 2, 1]] {
        let mut sealer = sealer(&[1], CHANNEL);
        let mut openers = openers(keys, ENDLESS);
        // The first one meets an unknown channel, the others a known one.
        for number in 1..=3 {
            let payload = [number as u8; 40];
            let genuine = seal(&mut sealer, &payload);
            let before = openers.snapshot();
            for mut spoiled in spoiled(&genuine) {
                let refused = openers.open(START, &mut spoiled);
                assert!(refused.is_err(), "{spoiled:x?}");
                assert_eq!(openers.snapshot(), before);
            }
            let mut genuine = genuine;
            let opened = openers.open(START, &mut genuine).unwrap();
            assert_eq!((opened.number, opened.payload), (number, &payload[..]));
        }
    }
}

#[test]
fn a_refusal_names_its_reason() {
    let mut openers = openers(&[1], ENDLESS);
    let genuine = seal(&mut sealer(&[1], CHANNEL), b"payload");
    let mut refusal = |at: usize, value: u8| {
        let mut copy = genuine.clone();
        copy[at] = value;
        open(&mut openers, START, &copy).unwrap_err()
    };
    assert_eq!(refusal(0, 0), OpenError::Version);
    assert_eq!(refusal(0, VERSION + 1), OpenError::Version);
    assert_eq!(refusal(1, 1), OpenError::Version);
    assert_eq!(refusal(2, 0x99), OpenError::Forged);
    assert_eq!(refusal(10, 0x99), OpenError::Forged);
    assert_eq!(refusal(HEADER_BYTES, 0), OpenError::Forged);
    assert_eq!(open(&mut openers, START, &[]), Err(OpenError::Short));
    let short = &genuine[..HEADER_BYTES + TAG_BYTES - 1];
    assert_eq!(open(&mut openers, START, short), Err(OpenError::Short));
    assert_eq!(open(&mut openers, START, &[9]), Err(OpenError::Version));

    let mut zero = Header::read(genuine.first_chunk().unwrap());
    zero.number = 0;
    let zero = [&zero.write()[..], &genuine[HEADER_BYTES..]].concat();
    assert_eq!(open(&mut openers, START, &zero), Err(OpenError::TooOld));
}

#[test]
fn this_version_and_the_one_before_are_accepted() {
    let accepted = |ours| (0..=255).filter(move |&theirs| accepts(ours, theirs));
    assert!(accepted(1).eq([1]));
    assert!(accepted(2).eq([1, 2]));
    assert!(accepted(255).eq([254, 255]));
}

#[test]
fn reasons_stand_at_their_index_and_have_names_of_their_own() {
    let names: HashSet<_> = OpenError::ALL.map(OpenError::name).into();
    assert_eq!(names.len(), OpenError::ALL.len());
    for (index, refused) in OpenError::ALL.into_iter().enumerate() {
        assert_eq!(refused.index(), index);
        let is_label = |c: char| c.is_ascii_lowercase() || c == '_';
        assert!(refused.name().chars().all(is_label));
    }
}

#[test]
fn a_number_is_taken_once_and_in_any_order_within_the_window() {
    let mut sealer = sealer(&[1], CHANNEL);
    let mut openers = openers(&[1], ENDLESS);
    let count = REPLAY_WINDOW as usize + 1;
    let datagrams: Vec<_> = (0..count).map(|_| seal(&mut sealer, b"x")).collect();
    // The first of them is one too old.
    for (at, datagram) in datagrams.iter().enumerate().rev() {
        let expected = if at == 0 {
            Err(OpenError::TooOld)
        } else {
            Ok(at as u64 + 1)
        };
        assert_eq!(open(&mut openers, START, datagram), expected);
    }
    for datagram in &datagrams[1..] {
        assert_eq!(open(&mut openers, START, datagram), Err(OpenError::Replay));
    }
}

#[test]
fn a_forged_high_number_does_not_move_the_window() {
    let mut sealer = sealer(&[1], CHANNEL);
    let mut openers = openers(&[1], ENDLESS);
    let (first, second) = (seal(&mut sealer, b"1"), seal(&mut sealer, b"2"));
    assert_eq!(open(&mut openers, START, &second), Ok(2));
    let mut forged = first.clone();
    forged[18..26].copy_from_slice(&u64::MAX.to_le_bytes());
    assert_eq!(open(&mut openers, START, &forged), Err(OpenError::Forged));
    assert_eq!(open(&mut openers, START, &first), Ok(1));
}

#[test]
fn numbers_never_repeat_and_equal_payloads_look_different() {
    let mut looks = HashSet::new();
    for id in 0..4 {
        let mut sealer = sealer(&[1], channel(id));
        for number in 1..=500 {
            let mut datagram = vec![0; HEADER_BYTES + 16];
            assert_eq!(sealer.seal(&mut datagram), Ok(number));
            assert!(looks.insert(datagram[HEADER_BYTES..].to_vec()));
        }
    }
}

#[test]
fn a_channel_ends_before_its_key_is_worn_out() {
    let mut sealer = sealer(&[1], CHANNEL);
    sealer.skip_to(MESSAGES_MAX - 1);
    let mut datagram = vec![0; HEADER_BYTES];
    assert_eq!(sealer.seal(&mut datagram), Ok(MESSAGES_MAX));
    let mut next = vec![7; HEADER_BYTES + 3];
    for _ in 0..3 {
        assert_eq!(sealer.seal(&mut next), Err(SealError::Exhausted));
    }
    assert_eq!(next, [7; HEADER_BYTES + 3], "it can go out on another one");
}

#[test]
fn a_buffer_without_room_for_the_header_takes_no_number() {
    let mut sealer = sealer(&[1], CHANNEL);
    for bytes in 0..HEADER_BYTES {
        let mut datagram = vec![0; bytes];
        let refused = sealer.seal(&mut datagram);
        assert_eq!(refused, Err(SealError::NoHeader { bytes }));
        assert_eq!(datagram.len(), bytes);
    }
    assert_eq!(sealer.seal(&mut vec![0; HEADER_BYTES]), Ok(1));
}

#[test]
fn a_buffer_with_room_for_the_tag_stays_where_it_is() {
    let mut datagram = Vec::with_capacity(1200);
    datagram.resize(1200 - TAG_BYTES, 0);
    let place = datagram.as_ptr();
    sealer(&[1], CHANNEL).seal(&mut datagram).unwrap();
    assert_eq!((datagram.len(), datagram.as_ptr()), (1200, place));
}

/// A datagram of a channel of its own that no key opens.
fn forged(id: u64) -> Vec<u8> {
    seal(&mut sealer(&[66], channel(id)), b"let me in")
}

#[test]
fn a_flood_of_strangers_is_tried_so_many_times_a_second() {
    let options = OpenersOptions {
        max_channels: 64,
        unknown_keys_per_s: 30,
    };
    let mut openers = openers(&[1, 2, 3], options);
    let mut member = sealer(&[2], channel(1));
    assert_eq!(open(&mut openers, START, &seal(&mut member, b"")), Ok(1));

    let mut tried = 0;
    for id in 1000..1100 {
        match open(&mut openers, START, &forged(id)) {
            Err(OpenError::Forged) => tried += 1,
            refused => assert_eq!(refused, Err(OpenError::Budget)),
        }
    }
    assert_eq!(
        tried, 9,
        "three keys are tried on each; one let the member in"
    );

    let newcomer = seal(&mut sealer(&[1], channel(2)), b"");
    assert_eq!(open(&mut openers, START, &newcomer), Err(OpenError::Budget));
    assert_eq!(open(&mut openers, START, &seal(&mut member, b"")), Ok(2));
    let later = START + Duration::from_millis(100);
    assert_eq!(open(&mut openers, later, &newcomer), Ok(1));
}

#[test]
fn what_is_cheap_to_refuse_does_not_use_up_the_budget() {
    let options = OpenersOptions {
        max_channels: 64,
        unknown_keys_per_s: 2,
    };
    let mut openers = openers(&[1], options);
    let mut member = sealer(&[1], channel(1));
    let first = seal(&mut member, b"");
    assert_eq!(open(&mut openers, START, &first), Ok(1));
    let mut forged_number = seal(&mut member, b"");
    forged_number[HEADER_BYTES] ^= 1;
    let mut stranger = seal(&mut sealer(&[1], channel(3)), b"");
    stranger[0] = VERSION + 1;
    for _ in 0..10 {
        assert_eq!(open(&mut openers, START, &first), Err(OpenError::Replay));
        let refused = open(&mut openers, START, &forged_number);
        assert_eq!(refused, Err(OpenError::Forged));
        let refused = open(&mut openers, START, &stranger);
        assert_eq!(refused, Err(OpenError::Version));
    }
    assert_eq!(
        open(&mut openers, START, &forged(9)),
        Err(OpenError::Forged)
    );
    assert_eq!(
        open(&mut openers, START, &forged(9)),
        Err(OpenError::Budget)
    );
}

fn small() -> OpenersOptions {
    OpenersOptions {
        max_channels: 2,
        ..ENDLESS
    }
}

#[test]
fn a_full_table_gives_away_the_place_that_has_been_idle_longest() {
    let mut openers = openers(&[1], small());
    let mut members: Vec<_> = (0..3).map(|id| sealer(&[1], channel(id))).collect();
    let mut speak = |openers: &mut Openers, id: usize, now| {
        let datagram = seal(&mut members[id], b"");
        open(openers, now, &datagram).map(|_| openers.channels())
    };
    let second = Duration::from_secs(1);
    assert_eq!(speak(&mut openers, 0, START), Ok(1));
    assert_eq!(speak(&mut openers, 1, START), Ok(2));
    assert_eq!(speak(&mut openers, 0, START + second), Ok(2));

    let almost = START + IDLE - Duration::from_nanos(1);
    let full = Err(OpenError::TooManyChannels);
    assert_eq!(speak(&mut openers, 2, almost), full);
    assert_eq!(speak(&mut openers, 2, START + IDLE), Ok(2));
    let channels: Vec<_> = openers.snapshot().iter().map(|known| known.0.id).collect();
    assert_eq!(channels, [0, 2], "1 was silent for longer than 0");
    assert_eq!(speak(&mut openers, 1, START + IDLE), full);
}

#[test]
fn only_genuine_datagrams_take_a_place_or_keep_one() {
    let mut openers = openers(&[1], small());
    let mut datagrams = Vec::new();
    for id in 0..2 {
        datagrams.push(seal(&mut sealer(&[1], channel(id)), b""));
        open(&mut openers, START, &datagrams[id as usize]).unwrap();
    }
    let before = openers.snapshot();
    let later = START + 2 * IDLE;
    for id in 10..100 {
        assert_eq!(
            open(&mut openers, later, &forged(id)),
            Err(OpenError::Forged)
        );
    }
    for datagram in &mut datagrams {
        assert_eq!(open(&mut openers, later, datagram), Err(OpenError::Replay));
        datagram[18] = 2; // another number, so that its tag is wrong
        assert_eq!(open(&mut openers, later, datagram), Err(OpenError::Forged));
    }
    assert_eq!(openers.snapshot(), before);
}

#[test]
fn nodes_in_the_midst_of_a_rotation_understand_each_other() {
    let (old, new) = (1, 2);
    // Who seals, who opens, and with which key of the opener's ring.
    let cases: [(&[u8], &[u8], Option<usize>); 9] = [
        (&[old], &[old, new], Some(0)),
        (&[old, new], &[old], Some(0)),
        (&[old, new], &[new, old], Some(1)),
        (&[new, old], &[old, new], Some(1)),
        (&[new, old], &[new], Some(0)),
        (&[new], &[new, old], Some(0)),
        (&[new, old], &[old], None),
        (&[new], &[old], None),
        (&[old], &[new], None),
    ];
    for (theirs, ours, expected) in cases {
        let mut sealer = sealer(theirs, CHANNEL);
        let mut openers = openers(ours, ENDLESS);
        for _ in 0..3 {
            let mut datagram = seal(&mut sealer, b"counts");
            let opened = openers.open(START, &mut datagram);
            let key_index = opened.map(|opened| opened.key_index).ok();
            assert_eq!(key_index, expected, "{theirs:?} to {ours:?}");
        }
    }
}

/// Each ring after each other one: what a ring opens is what it would open from the start, but for numbers that came
/// before, which are taken from nobody again.
#[test]
fn a_ring_that_takes_the_place_of_another_opens_what_it_would_open_alone() {
    let rings: [&[u8]; 7] = [&[1], &[2], &[1, 2], &[2, 1], &[1, 2, 3], &[3, 1], &[3]];
    for before in rings {
        for after in rings {
            let mut openers = openers(before, ENDLESS);
            let mut sealers: Vec<_> = (1..=3_u8)
                .map(|key| {
                    sealer(
                        &[key],
                        Channel {
                            id: key.into(),
                            ..CHANNEL
                        },
                    )
                })
                .collect();
            let first: Vec<_> = sealers
                .iter_mut()
                .map(|sealer| seal(sealer, b"1"))
                .collect();
            for datagram in &first {
                let _ = open(&mut openers, START, datagram);
            }
            openers.set_keys(START, ring(after));
            for ((key, sealer), first) in (1..).zip(&mut sealers).zip(&first) {
                let mut datagram = seal(sealer, b"2");
                let opened = openers.open(START, &mut datagram);
                let index = after.iter().position(|&other| other == key);
                let opened = opened.map(|opened| opened.key_index).ok();
                assert_eq!(opened, index, "{before:?} then {after:?}: {key}");
                if before.contains(&key) && after.contains(&key) {
                    let again = open(&mut openers, START, first);
                    assert_eq!(again, Err(OpenError::Replay), "{before:?} then {after:?}");
                }
            }
        }
    }
}

#[test]
fn a_sealer_is_succeeded_by_one_with_another_key_and_the_next_numbers() {
    let mut first = sealer(&[1], CHANNEL);
    seal(&mut first, b"");
    let mut next = first.succeeded_by(&ring(&[2, 1]), Channel { id: 7, ..CHANNEL });
    let mut openers = openers(&[1, 2], ENDLESS);
    let datagram = seal(&mut next, b"");
    assert_eq!(open(&mut openers, START, &datagram), Ok(2));
    assert!(ring(&[1, 2]) == ring(&[1, 2]) && ring(&[1, 2]) != ring(&[2, 1]));
}

#[test]
fn a_known_channel_stays_with_its_key() {
    let mut openers = openers(&[1, 2], ENDLESS);
    assert_eq!(
        open(&mut openers, START, &seal(&mut sealer(&[1], CHANNEL), b"")),
        Ok(1)
    );
    let mut other = sealer(&[2], CHANNEL);
    other.skip_to(1);
    let refused = open(&mut openers, START, &seal(&mut other, b""));
    assert_eq!(refused, Err(OpenError::Forged));
}

#[test]
fn a_clock_that_stands_still_or_goes_back_refuses_nobody() {
    let mut openers = openers(&[1], ENDLESS);
    let mut sealer = sealer(&[1], CHANNEL);
    for (at, now) in [START, START, Duration::ZERO, Duration::MAX, START]
        .into_iter()
        .enumerate()
    {
        let datagram = seal(&mut sealer, b"");
        assert_eq!(open(&mut openers, now, &datagram), Ok(at as u64 + 1));
    }
}

#[test]
fn secrets_are_not_shown() {
    let shown = format!(
        "{:?} {:?} {:?}",
        ring(&[171]),
        sealer(&[171], CHANNEL),
        openers(&[171], ENDLESS)
    );
    let channel_key = ring(&[171]).channel_key_bytes(0, CHANNEL);
    for secret in [[171; 32], channel_key] {
        let (decimal, hex) = (format!("{secret:?}"), generate_key_text(secret));
        for part in [&decimal[1..16], &format!("{secret:x?}")[1..12], &hex[..8]] {
            assert!(!shown.contains(part), "{part} in {shown}");
        }
    }
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_open(
        start in prop::collection::vec(any::<u8>(), 0..120),
        is_ours in any::<bool>(),
        known in any::<bool>(),
    ) {
        let mut openers = openers(&[1, 2], ENDLESS);
        open(&mut openers, START, &seal(&mut sealer(&[1], CHANNEL), b"")).unwrap();
        let before = openers.snapshot();
        let mut datagram = start;
        if is_ours && datagram.len() >= HEADER_BYTES {
            datagram[..2].copy_from_slice(&[VERSION, 0]);
        }
        if known && datagram.len() >= HEADER_BYTES {
            datagram[2..10].copy_from_slice(&CHANNEL.boot.0.to_le_bytes());
            datagram[10..18].copy_from_slice(&CHANNEL.id.to_le_bytes());
        }
        prop_assert!(openers.open(START, &mut datagram).is_err());
        prop_assert_eq!(openers.snapshot(), before);
    }

    #[test]
    fn what_was_sealed_opens(
        payloads in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..1500), 1..5),
        key: [u8; 32],
        boot: u64,
        id: u64,
    ) {
        let keys = KeyRing::parse(&generate_key_text(key)).unwrap();
        let channel = Channel { boot: Boot(boot), id };
        let mut sealer = Sealer::new(&keys, channel);
        let mut openers = Openers::new(keys, ENDLESS);
        for (payload, number) in payloads.iter().zip(1..) {
            let mut datagram = seal(&mut sealer, payload);
            prop_assert_eq!(datagram.len(), HEADER_BYTES + payload.len() + TAG_BYTES);
            let opened = openers.open(START, &mut datagram).unwrap();
            prop_assert_eq!(opened, Opened { channel, number, key_index: 0, payload });
        }
    }
}
