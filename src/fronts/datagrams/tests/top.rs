//! The largest keys, to whoever may see their names and to all others.

use super::*;
use rmbd_proto::compact::{KEY_BYTES_MAX, REPLY_BYTES_MAX, TopHead};
use rmbd_sketch::KeyHash;
use rmbd_store::{ReplicaOptions, TOP_MAX, ToldKey, ToldList, ToldLists, WindowPlan};

const WINDOW_MS: u64 = 60_000;
const HERE: &str = "127.0.0.1";
const LISTED: &str = "10.1.2.3";
const STRANGER: &str = "10.2.0.1";

/// A thread of a node whose only sketch lists so many keys.
fn thread(top: usize) -> Thread {
    let config = NodeConfig {
        geometry: Geometry::new(64, 1).unwrap(),
        show_keys: vec!["10.1.0.0/16".parse().unwrap()],
        ..NodeConfig::at("127.0.0.1:0")
    };
    let (geometry, family) = (config.geometry, HashFamily::Xxh3 { seed: 1 });
    let replica = Replica::try_open(ReplicaOptions {
        top,
        windows: vec![WindowPlan::new(WINDOW_MS, None, None, geometry, family).unwrap()],
        ..ReplicaOptions::new(geometry, family)
    });
    let options = EngineOptions {
        boot: BOOT,
        earlier: BootChain::default(),
        max_weight: Weight::MAX,
        once: Arc::new(OnceTable::new(1, &[7; 32])),
    };
    let shared = Shared::new(
        Registry::of_default(Arc::new(replica.unwrap())),
        &options,
        Arc::new(LimitsInForce::new(&[])),
        Stop::new().unwrap(),
    );
    let port = ClientPort::new(&config, Arc::new(shared), None, 0);
    Thread::of(port, Duration::from_secs(10_000))
}

/// Bytes that a key's name has, of all kinds: the longest, none, and one with control characters.
fn name(n: u64) -> Option<Box<[u8]>> {
    let bytes = match n % 4 {
        0 => vec![n as u8; KEY_BYTES_MAX],
        1 => Vec::new(),
        2 => b"\x1b[2J\0\xff\n".to_vec(),
        _ => return None,
    };
    Some(bytes.into())
}

fn list(span_ms: Option<u64>, keys: u64) -> ToldList {
    let key = |n: u64| ToldKey {
        hash: KeyHash::of_halves([n; 2]),
        name: name(n),
        estimate: u64::MAX - n,
        certain: u64::MAX - 2 * n,
        by_node: vec![(1, 2)],
    };
    ToldList {
        span_ms,
        keys: (0..keys).map(key).collect(),
        total_weight: u64::MAX,
        complete_above: 5,
        is_incomplete: span_ms.is_some(),
    }
}

impl Thread {
    fn tell(&self, made: Duration, keys: u64) {
        let told = ToldLists {
            made,
            lists: vec![list(None, keys), list(Some(WINDOW_MS), keys)],
        };
        self.port
            .shared()
            .engine()
            .top()
            .tell(SketchIndex::DEFAULT, told);
    }

    /// A part of a list: what holds for all of it, and its entries.
    fn top(&mut self, from: &str, window_ms: u64, first: u64, most: u64) -> Result<Part, Problem> {
        self.writer.start(&Header::default()).unwrap();
        self.writer.top(window_ms, first, most).unwrap();
        let datagram = self.writer.finish().to_vec();
        self.top_of(from, &datagram)
    }

    fn top_of(&mut self, from: &str, datagram: &[u8]) -> Result<Part, Problem> {
        let reply = self.ask(from.parse().unwrap(), datagram);
        let reply = compact_reply(&reply);
        if let Some(problem) = reply.head.problem() {
            return Err(problem.unwrap());
        }
        let answers: Vec<_> = reply.answers().map(Result::unwrap).collect();
        let [Answer::Top(top)] = answers[..] else {
            panic!("{answers:?}");
        };
        let entries = top.entries();
        let entries = entries.map(|it| (it.estimate, it.certain, it.name.map(Box::from)));
        Ok((top.head, entries.collect()))
    }
}

type Part = (TopHead, Vec<(u64, u64, Option<Box<[u8]>>)>);

fn compact_reply(bytes: &[u8]) -> Reply<'_> {
    reply(bytes).unwrap()
}

#[test]
fn a_list_comes_in_parts_whatever_its_names_are() {
    let mut thread = thread(TOP_MAX);
    thread.tell(Duration::from_secs(9_999), TOP_MAX as u64);
    for (from, window_ms, shows) in [
        (HERE, 0, true),
        (LISTED, WINDOW_MS, true),
        (STRANGER, 0, false),
    ] {
        let mut got = Vec::new();
        while got.len() < TOP_MAX {
            let (head, part) = thread
                .top(from, window_ms, got.len() as u64, 1_000)
                .unwrap();
            assert!(!part.is_empty());
            let expected = TopHead {
                incomplete: window_ms > 0,
                redacted: !shows,
                edition: 9_999_000_000,
                age_ms: 1_000,
                // The list is as long as it may be, so others may have as much as its last one.
                complete_above: u64::MAX - 999,
                total_weight: u64::MAX,
                listed: 1_000,
            };
            assert_eq!(head, expected);
            got.extend(part);
        }
        let expected = (0..1_000).map(|n| {
            let name = name(n).filter(|_| shows);
            (u64::MAX - n, u64::MAX - 2 * n, name)
        });
        assert!(got.into_iter().eq(expected), "{from}");
    }
}

#[test]
fn a_part_begins_and_ends_where_it_is_asked_to() {
    let mut thread = thread(10);
    thread.tell(Duration::from_secs(9_999), 9);
    for (first, most, expected) in [
        (0, 2, 0..2),
        (8, 10, 8..9),
        (9, 10, 9..9),
        (u64::MAX, u64::MAX, 0..0),
        (3, 0, 3..3),
    ] {
        let (head, part) = thread.top(STRANGER, 0, first, most).unwrap();
        let estimates = part.iter().map(|(estimate, ..)| u64::MAX - estimate);
        assert!(estimates.eq(expected), "{first} {most}");
        assert_eq!((head.listed, head.complete_above), (9, 5));
    }
    // Where others are told, the next part is of another edition.
    thread.tell(Duration::from_secs(10_000), 8);
    let (head, _) = thread.top(HERE, 0, 0, 1).unwrap();
    assert_eq!(
        (head.edition, head.age_ms, head.listed),
        (10_000_000_000, 0, 8)
    );
}

#[test]
fn what_there_is_no_list_of_is_refused_or_not_made_yet() {
    let mut without = thread(0);
    assert_eq!(without.top(HERE, 0, 0, 10), Err(Problem::NoTopList));
    let mut thread = thread(10);
    let (head, part) = thread.top(HERE, 0, 0, 10).unwrap();
    assert_eq!(
        (head.edition, head.complete_above, part.len()),
        (0, u64::MAX, 0)
    );
    for window_ms in [1, WINDOW_MS - 1, WINDOW_MS / 2, u64::MAX] {
        let refused = thread.top(HERE, window_ms, 0, 10);
        assert_eq!(refused, Err(Problem::UnknownWindow));
    }
}

/// As short as can be, without padding.
#[test]
fn an_answer_without_what_was_asked_for_is_none() {
    let mut thread = thread(10);
    thread.tell(Duration::from_secs(9_999), 9);
    let operation = b"\xc1\0\0\0\0\0\0\x0d\0\0\x0a";
    let mut told = 0;
    for padding in 0..600 {
        let datagram = [&operation[..], &vec![0; padding]].concat();
        // `ask` checks that it is at most three times as long.
        match thread.top_of(HERE, &datagram) {
            Ok((_, part)) => {
                assert!(!part.is_empty());
                told += 1;
            }
            Err(problem) => {
                assert_eq!((problem, told), (Problem::ReplyTooLarge, 0));
                assert!(reply_bytes_max(datagram.len()) < REPLY_BYTES_MAX);
            }
        }
    }
    assert!(told > 100);
}
