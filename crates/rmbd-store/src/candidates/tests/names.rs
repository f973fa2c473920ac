//! Names: they are told when they are wanted, kept once, and forgotten.

use super::*;
use crate::candidates::names::TAGS;

fn names(node: &Node) -> Vec<Option<&[u8]>> {
    let list = node.top.list(usize::MAX);
    list.keys.iter().map(|key| key.name).collect()
}

#[test]
fn a_name_is_known_when_its_key_has_come_again() {
    let mut node = Node::new(SHAPE);
    let mut batch = node.batches(1, Way::Pipelined).remove(0);
    for (round, name) in [None, Some(&b"\xff\0"[..])].into_iter().enumerate() {
        add(&mut batch, b"\xff\0", 3, 3);
        batch.finish(&mut no_answer);
        node.top.update();
        assert_eq!(names(&node), [name], "{round}");
    }
    // A count is enough to tell a name.
    add(&mut batch, b"", 1, 3);
    batch.finish(&mut no_answer);
    node.top.update();
    batch.count(b"", (), &mut no_answer);
    node.top.update();
    assert_eq!(names(&node), [Some(&b"\xff\0"[..]), Some(&b""[..])]);
}

/// A stream that is over before the first look has told the names of its largest keys.
#[test]
fn a_burst_is_named_by_the_first_look() {
    let shape = Shape {
        width: 1 << 12,
        top: 8,
        ..SHAPE
    };
    for way in [Way::Pipelined, Way::Direct] {
        let mut node = Node::new(shape);
        let mut batch = node.batches(1, way).remove(0);
        for round in 0..2_000_u32 {
            for large in 0..3_u8 {
                add(&mut batch, &[large], 1, 3);
            }
            add(&mut batch, &round.to_le_bytes(), 1, 3);
            // As at the end of each train of datagrams: until then the absorber has them.
            if round % 64 == 0 {
                batch.finish(&mut no_answer);
            }
        }
        batch.finish(&mut no_answer);
        node.top.update();
        let list = node.top.list(3);
        let mut named: Vec<_> = list.keys.iter().map(|key| key.name).collect();
        named.sort_unstable();
        assert_eq!(named, [&[0][..], &[1], &[2]].map(Some));
    }
}

/// Keys as long as messages have them, as many as one likes; longer ones have no names.
#[test]
fn ten_thousand_long_keys() {
    let shape = Shape {
        width: 1 << 16,
        top: 100,
        ..SHAPE
    };
    let mut node = Node::new(shape);
    let mut batch = node.batches(1, Way::Pipelined).remove(0);
    let mut truth = Truth::default();
    let mut key = vec![0x2a; 1_024];
    for _ in 0..12 {
        for number in 0..10_000_u32 {
            key[1_020..].copy_from_slice(&number.to_le_bytes());
            add(&mut batch, &key, 1, 3);
            truth.add(&key, 1);
            if number % 1_000 == 0 {
                batch.finish(&mut no_answer);
                node.top.update();
            }
        }
    }
    batch.finish(&mut no_answer);
    for _ in 0..50 {
        add(&mut batch, &[7; 1_025], 1, 3);
    }
    batch.finish(&mut no_answer);
    node.top.update();
    let lists = node.replica.lists.as_ref().unwrap();
    let list = node.top.list(usize::MAX);
    assert!(list.keys.len() >= 192, "{}", list.keys.len());
    assert!(node.top.names.len() <= lists.candidates);
    let long = node.hash(&[7; 1_025]);
    let longest = list.keys.iter().find(|key| key.hash == long).unwrap();
    // It became a candidate when it had come as often as the others.
    assert!(longest.name.is_none() && longest.certain >= 30);
    let named = list.keys.iter().filter(|key| key.name.is_some()).count();
    assert!(named >= 100, "{named}");
    truth.check(&node, &list);
}

/// Names are forgotten when their keys are no candidates any more.
#[test]
fn names_of_small_keys_are_forgotten() {
    let shape = Shape { top: 8, ..SHAPE };
    let mut node = Node::new(shape);
    let mut batch = node.batches(1, Way::Direct).remove(0);
    for round in 1..14_u32 {
        for _ in 0..20 {
            for key in 0..12_u32 {
                let weight = (20 + key) << round;
                add(&mut batch, &(round * 100 + key).to_le_bytes(), weight, 3);
            }
            batch.finish(&mut no_answer);
            node.top.update();
        }
        assert!(node.top.names.len() <= 16, "{}", node.top.names.len());
    }
    let list = node.top.list(8);
    assert!(list.keys.iter().all(|key| key.name.is_some()), "{list:?}");
}

/// Where two names want one place, each gets it in its turn, also if the other one never comes.
#[test]
fn a_key_that_never_comes_again_keeps_no_other_from_being_named() {
    let wanted = Wanted::new(8);
    let hash = |number: u64| KeyHash::of_halves([number << 33, number * TAGS as u64]);
    let keys = [1, 2, 3].map(hash);
    let mut seen = HashMap::new();
    for turn in 0..30 {
        wanted.ask(&keys, turn);
        for key in keys {
            *seen.entry(key).or_insert(0) += u32::from(wanted.has(key));
        }
    }
    assert!(keys.iter().all(|key| seen[key] > 2), "{seen:?}");
    wanted.ask(&[], 7);
    assert!(!keys.iter().any(|&key| wanted.has(key)));
}

/// A full queue loses nothing: what was not told is still wanted.
#[test]
fn a_full_queue_is_tried_again() {
    let shape = Shape { top: 8, ..SHAPE };
    let mut node = Node::new(shape);
    let mut batch = node.batches(1, Way::Direct).remove(0);
    let mut round = |node: &mut Node| {
        for key in 0..16_u8 {
            add(&mut batch, &[key], 1, 3);
        }
        batch.finish(&mut no_answer);
        node.top.update();
        node.top.names.len()
    };
    assert_eq!(round(&mut node), 0);
    // The queue has four places.
    let second = round(&mut node);
    assert!((1..=4).contains(&second), "{second}");
    let mut rounds = 2;
    while round(&mut node) < 16 {
        rounds += 1;
        assert!(rounds < 200, "{:?}", node.top.names.len());
    }
}
