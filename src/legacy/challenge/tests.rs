use std::collections::BTreeMap;

use super::*;
use crate::fronts::datagrams::is_probe_answer;
use rmbd_proto::compact::{
    Info, REPLY_HEAD_BYTES, ReplyHead, encode_info, is_request, write_reply_head,
};
use rmbd_proto::legacy::{Dialect, Layout, Message, messages, write_reply_count, write_reply_key};

use rmbd_testkit::random::Random;

const TOLD: Introduction = Introduction {
    boot: Boot(5),
    writer: Writer(55),
    fingerprint: 6,
    cluster_port: 10,
};
const MS: Duration = Duration::from_millis(1);

fn peer(port: u16) -> SocketAddr {
    ([127, 0, 0, 1], port).into()
}

fn reply_to(question: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0; REPLY_HEAD_BYTES];
    let head = ReplyHead {
        id: u32::from_le_bytes(question[2..6].try_into().unwrap()),
        done: 1,
        ..ReplyHead::default()
    };
    write_reply_head(head, bytes.first_chunk_mut().unwrap());
    bytes.extend(encode_info(&Info {
        boot: TOLD.boot,
        fingerprint: TOLD.fingerprint,
        width: 7,
        max_weight: 8,
        depth: 9,
        hash: 1,
        version: b"1",
        cluster_port: TOLD.cluster_port,
        cookie: b"",
        writer: TOLD.writer,
    }));
    bytes
}

fn count_reply_to(question: &[u8], dialect: Dialect) -> Vec<u8> {
    let layout = Layout {
        dialect,
        width: 100,
        depth: 10,
    };
    let Some(Ok(Message::Count { key })) = messages(question, layout).next() else {
        panic!("no count: {question:?}");
    };
    let mut bytes = vec![0; dialect.reply_bytes()];
    write_reply_key(key, dialect, &mut bytes);
    write_reply_count(3, dialect, &mut bytes);
    bytes
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum AskedProgram {
    Ours,
    Python(Dialect),
    Nobody,
}

impl AskedProgram {
    fn answer(self, datagram: &[u8]) -> Option<Vec<u8>> {
        match (self, is_request(datagram[0])) {
            (Self::Nobody, _) | (Self::Python(_), true) => None,
            (Self::Ours, true) => Some(reply_to(datagram)),
            (Self::Ours, false) => Some(count_reply_to(datagram, Dialect::Native)),
            (Self::Python(dialect), false) => Some(count_reply_to(datagram, dialect)),
        }
    }
}

/// The behaviour of the network in each direction: datagrams take a time and stay in order, and some are lost.
#[derive(Debug, Clone, Copy)]
struct Network {
    delay: Duration,
    /// The most by which a datagram takes longer than the one before, in milliseconds.
    jitter_ms: u64,
    lost_percent: u64,
}

/// The results in the end, and when they came.
#[derive(Debug, Default)]
struct Found {
    conclusion: Option<(Conclusion, Duration)>,
    told: Option<Duration>,
    sent_bytes: usize,
}

/// Identifies a target in virtual time, and listens as long as the real code does.
fn identify(target: AskedProgram, network: Network, seed: u64) -> Found {
    let (mut challenges, mut random) = (Challenges::new(), Random(seed));
    let mut found = Found::default();
    // Datagrams under way, by their arrival and the order of sending.
    let mut under_way: BTreeMap<(Duration, u64), (bool, Vec<u8>)> = BTreeMap::new();
    let (mut numbers, mut latest) = (0, [Duration::ZERO; 2]);
    challenges.identify(Duration::ZERO, peer(1));
    loop {
        let arrival = under_way.first_key_value().map(|(&(at, _), _)| at);
        // As on the control thread, datagrams that have come are heard first.
        let wakes = challenges.next();
        let Some(now) = [arrival, wakes].into_iter().flatten().min() else {
            return found;
        };
        let mut to_send = Vec::new();
        let mut conclusions = Vec::new();
        if arrival == Some(now) {
            let (_, (is_question, datagram)) = under_way.pop_first().unwrap();
            if is_question {
                to_send.extend(target.answer(&datagram).map(|answer| (false, answer)));
            } else if is_probe_answer(&datagram) {
                conclusions.extend(challenges.counted(peer(1), &datagram));
            } else if let Heard::Introduced(told) = challenges.answer(now, peer(1), &datagram) {
                assert_eq!(told, TOLD);
                assert!(found.told.is_none(), "told once");
                found.told = Some(now);
            }
        } else {
            let due = challenges.due(now, |_, bytes| to_send.push((true, bytes.to_vec())));
            conclusions.extend(due.into_iter().map(|(_, conclusion)| conclusion));
        }
        for conclusion in conclusions {
            assert!(
                found.conclusion.is_none() && found.told.is_none(),
                "{found:?}"
            );
            found.conclusion = Some((conclusion, now));
        }
        for (is_question, datagram) in to_send {
            found.sent_bytes += if is_question { datagram.len() } else { 0 };
            if random.below(100) < network.lost_percent {
                continue;
            }
            let jitter = MS * random.below(network.jitter_ms + 1) as u32;
            let way = &mut latest[usize::from(is_question)];
            *way = (*way).max(now + network.delay + jitter);
            numbers += 1;
            under_way.insert((*way, numbers), (is_question, datagram));
        }
    }
}

fn quick(delay: Duration) -> Network {
    Network {
        delay,
        jitter_ms: 0,
        lost_percent: 0,
    }
}

#[test]
fn who_answers_nothing_is_asked_five_times_and_given_up_after_700_ms() {
    let found = identify(AskedProgram::Nobody, quick(MS), 0);
    assert_eq!(found.conclusion, Some((Conclusion::Silent, MS * 700)));
    assert_eq!(found.told, None);
    // A stranger gets no more bytes than about a row of the Python program, 809.
    assert!(found.sent_bytes < 900, "{}", found.sent_bytes);
}

#[test]
fn a_python_instance_is_known_by_its_last_count_in_either_dialect() {
    for dialect in [Dialect::Native, Dialect::Network] {
        for delay_ms in 0..250 {
            let found = identify(AskedProgram::Python(dialect), quick(MS * delay_ms), 0);
            let expected = MS * (200 + 2 * delay_ms);
            assert_eq!(found.conclusion, Some((Conclusion::NotOurs, expected)));
        }
    }
}

#[test]
fn a_python_instance_is_known_within_a_second_where_datagrams_get_lost() {
    let mut silent = 0;
    for seed in 0..1_000 {
        let network = Network {
            delay: MS,
            jitter_ms: 100,
            lost_percent: 20,
        };
        let found = identify(AskedProgram::Python(Dialect::Native), network, seed);
        let (conclusion, at) = found.conclusion.unwrap();
        assert!(at <= MS * 700, "seed {seed}: {at:?}");
        silent += u64::from(conclusion == Conclusion::Silent);
    }
    // All five pairs lost something in 0.6 % of the runs.
    assert!(silent < 20, "{silent}");
}

/// Delay alone, however long, never makes a node of ours count as the Python program.
#[test]
fn a_node_of_ours_is_never_taken_for_python_because_it_is_late() {
    for seed in 0..1_000 {
        let mut random = Random(seed);
        let network = Network {
            delay: MS * random.below(13_000) as u32,
            jitter_ms: random.below(1_000),
            lost_percent: 0,
        };
        let found = identify(AskedProgram::Ours, network, seed);
        let told = found.told.unwrap();
        match found.conclusion {
            None => assert!(told <= MS * 700, "seed {seed}"),
            Some((conclusion, at)) => {
                assert_eq!(conclusion, Conclusion::Silent, "seed {seed}, {network:?}");
                assert!(at == MS * 700 && told >= at, "seed {seed}");
            }
        }
    }
}

/// Loss makes a node of ours count as the Python program only if it takes an answer of each of the five pairs, and
/// leaves some count. Three questions within a second and a half would make mistakes eight times as often.
#[test]
fn a_node_of_ours_is_hardly_ever_taken_for_python_because_answers_get_lost() {
    let mistakes = |lost_percent| {
        let network = Network {
            delay: MS,
            jitter_ms: 20,
            lost_percent,
        };
        let found = (0..2_000).map(|seed| identify(AskedProgram::Ours, network, seed));
        found.filter(|found| found.conclusion.is_some()).count()
    };
    // 0.36^5 of them are 12, and 0.0199^5 none.
    assert!(mistakes(20) < 30);
    assert_eq!(mistakes(1), 0);
}

#[test]
fn an_answer_counts_once_from_who_was_asked_and_to_what_was_asked() {
    let mut challenges = Challenges::new();
    let mut question = Vec::new();
    challenges.ask(Duration::ZERO, peer(1));
    let conclusions = challenges.due(Duration::ZERO, |to, bytes| {
        assert_eq!(to, peer(1));
        question = bytes.to_vec();
    });
    assert!(conclusions.is_empty());
    let good = reply_to(&question);
    // The question is large enough for its answer: an attacker who fakes a sender gains little.
    assert!(question.len() * 3 >= good.len());
    let mut other_id = good.clone();
    other_id[2] ^= 1;
    let mut answer = |at: Duration, from, bytes: &[u8]| challenges.answer(at, from, bytes);
    assert_eq!(answer(MS, peer(2), &good), Heard::Nobody);
    assert_eq!(answer(MS, peer(1), &other_id), Heard::Nobody);
    for end in 0..good.len() {
        assert_eq!(answer(MS, peer(1), &good[..end]), Heard::Nobody);
    }
    assert_eq!(answer(MS, peer(1), &good), Heard::Introduced(TOLD));
    // The answers to the other questions may still come.
    assert_eq!(answer(MS * 1_900, peer(1), &good), Heard::Again);
    assert!(challenges.is_waiting());
    let is_silent = |_: SocketAddr, _: &[u8]| panic!("it has answered");
    assert!(challenges.due(MS * 2_001, is_silent).is_empty());
    assert!(!challenges.is_waiting());
    assert_eq!(challenges.answer(MS * 2_001, peer(1), &good), Heard::Nobody);
    // At another time it is another question.
    challenges.ask(MS * 2_001, peer(1));
    challenges.due(MS * 2_001, |_, bytes| assert_ne!(bytes, question));
}

#[test]
fn who_is_only_asked_again_is_not_counted_at_and_has_no_verdict() {
    let mut challenges = Challenges::new();
    challenges.ask(Duration::ZERO, peer(1));
    let mut sent = Vec::new();
    while let Some(now) = challenges.next().filter(|&now| now < MS * 1_000) {
        let conclusions = challenges.due(now, |_, bytes| sent.push(bytes.to_vec()));
        assert!(conclusions.is_empty());
        challenges.ask(now, peer(1));
        if sent.len() > TRIES_AT.len() {
            break;
        }
    }
    assert!(
        sent.iter()
            .all(|bytes| *bytes == sent[0] && is_request(bytes[0]))
    );
    // A repeated question has the same number: an answer to either is valid.
    assert_eq!(sent.len(), TRIES_AT.len() + 1);
    assert_eq!(
        challenges.answer(MS, peer(1), &reply_to(&sent[0])),
        Heard::Introduced(TOLD)
    );
}

#[test]
fn an_ack_is_a_sign_of_life_and_no_proof() {
    let mut challenges = Challenges::new();
    challenges.identify_by_ack(Duration::ZERO, peer(1));
    let mut conclusions = Vec::new();
    while conclusions.is_empty() {
        let now = challenges.next().unwrap();
        assert!(now <= MS * 700);
        conclusions = challenges.due(now, |_, _| ());
    }
    assert_eq!(conclusions, [(peer(1), Conclusion::NotOurs)]);
    assert_eq!(challenges.next(), Some(LISTEN));
}

/// A thread that is held up asks late, and does not decide before it has asked and waited.
#[test]
fn being_held_up_is_no_silence() {
    let mut challenges = Challenges::new();
    challenges.identify(Duration::ZERO, peer(1));
    let mut sent = 0;
    let late = MS * 5_000;
    assert!(challenges.due(late, |_, _| sent += 1).is_empty());
    assert_eq!(sent, 2 * TRIES_AT.len());
    assert_eq!(challenges.next(), Some(late + PATIENCE));
}

#[test]
fn what_is_listened_to_is_bounded() {
    let mut challenges = Challenges::new();
    for port in 1..=1_200 {
        let start = MS * u32::from(port);
        challenges.identify(start, peer(port));
        for step in [0, 25, 50, 100, 200, 700] {
            challenges.due(start + MS * step, |_, _| ());
        }
    }
    assert!(challenges.asked.len() <= DECIDED_MAX + 1);
    assert!(challenges.asked.contains_key(&peer(1_200)));
}
