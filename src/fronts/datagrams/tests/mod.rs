//! A data thread's desk: first contact from addresses that no socket of a test could have, and restarts.
#![allow(clippy::unwrap_used)]

mod restart;
mod top;

use std::collections::{HashMap, HashSet};

use proptest::prelude::*;

use super::*;
use crate::config::NodeConfig;
use crate::engine::{EngineOptions, REQUEST_WEIGHT_MAX};
use crate::shared::{LimitsInForce, Shared};
use rmbd_io::Stop;
use rmbd_proto::compact::{
    Answer, COUNT_ANSWER_BYTES, Header, LimitPart, Limits, Once, Operation, Problem, Reply,
    RequestWriter, reply, reply_bytes_max,
};
use rmbd_proto::legacy::Dialect;
use rmbd_proto::{Boot, SketchNumber};
use rmbd_sketch::{Geometry, HashFamily, MAX_WEIGHT, Weight};
use rmbd_store::once::{BootChain, CLIENTS_MAX, COOKIE_BYTES, IDLE_LIMIT, OnceTable};
use rmbd_store::{Registry, Replica, Slices};
use rmbd_testkit::random::random;

const BOOT: Boot = Boot(77);
const KEY: &[u8] = b"the only key";

fn port(boot: Boot, earlier: BootChain, once: OnceTable) -> ClientPort {
    let config = NodeConfig {
        geometry: Geometry::new(64, 1).unwrap(),
        ..NodeConfig::at("127.0.0.1:0")
    };
    let family = HashFamily::Xxh3 { seed: 1 };
    let replica = Replica::try_new(config.geometry, family, 1).unwrap();
    let options = EngineOptions {
        boot,
        earlier,
        max_weight: Weight::MAX,
        once: Arc::new(once),
    };
    let shared = Shared::new(
        Registry::of_default(Arc::new(replica)),
        &options,
        Arc::new(LimitsInForce::new(&[])),
        Stop::new().unwrap(),
    );
    ClientPort::new(&config, Arc::new(shared), None, 0)
}

/// A data thread without a socket, at a time of its own.
struct Thread {
    port: ClientPort,
    desk: Desk,
    writer: RequestWriter,
    now: Duration,
}

impl Thread {
    fn new() -> Self {
        let once = OnceTable::new(CLIENTS_MAX, &[7; 32]);
        let port = port(BOOT, BootChain::default(), once);
        Self::of(port, Duration::from_secs(10_000))
    }

    fn of(port: ClientPort, now: Duration) -> Self {
        Self {
            desk: Desk::new(&port),
            port,
            writer: RequestWriter::new(1400),
            now,
        }
    }

    /// The reply to a datagram from there.
    fn ask(&mut self, from: IpAddr, datagram: &[u8]) -> Vec<u8> {
        self.desk.begin(from);
        self.desk.now = Some(self.now);
        self.desk.datagram(&self.port, datagram, (from, 9).into());
        self.desk.finish();
        let [reply] = &self.desk.answers.take()[..] else {
            panic!("one reply to {datagram:x?}");
        };
        assert!(
            reply.len() <= reply_bytes_max(datagram.len()),
            "{datagram:x?}"
        );
        reply.clone()
    }

    /// The code of the reply to one add, and the cookie that came with it.
    fn add(&mut self, from: IpAddr, client: u64, sequence: u64, cookie: Option<&[u8]>) -> AddReply {
        let once = Some(Once {
            boot: BOOT,
            client,
            sequence,
        });
        let header = Header {
            once,
            cookie,
            ..Header::default()
        };
        self.writer.start(&header).unwrap();
        self.writer.add(KEY, 1).unwrap();
        let datagram = self.writer.finish().to_vec();
        told(&reply(&self.ask(from, &datagram)).unwrap())
    }

    /// The same, of as many adds as there are weights.
    fn add_all(
        &mut self,
        from: IpAddr,
        sequence: u64,
        weights: &[u32],
        cookie: Option<&[u8]>,
    ) -> AddReply {
        let once = Some(Once {
            boot: BOOT,
            client: 1,
            sequence,
        });
        let header = Header {
            once,
            cookie,
            ..Header::default()
        };
        let mut writer = RequestWriter::new(60_000);
        writer.start(&header).unwrap();
        for &weight in weights {
            writer.add(KEY, weight.into()).unwrap();
        }
        let datagram = writer.finish().to_vec();
        let answer = self.ask(from, &datagram);
        let reply = reply(&answer).unwrap();
        let done = usize::from(reply.head.done);
        let cookie = match reply.answers().next() {
            Some(Ok(Answer::Cookie(cookie))) => cookie.to_vec(),
            _ => Vec::new(),
        };
        let problem = reply.head.problem().map(Option::unwrap);
        assert_eq!(done, if problem.is_none() { weights.len() } else { 0 });
        AddReply {
            problem,
            repeated: reply.head.repeated,
            cookie,
        }
    }

    fn total_weight(&self) -> u64 {
        self.port.shared().replica().total_weight()
    }
}

#[derive(Debug, PartialEq)]
struct AddReply {
    problem: Option<Problem>,
    repeated: bool,
    cookie: Vec<u8>,
}

fn told(reply: &Reply<'_>) -> AddReply {
    let cookie = match reply.answers().next() {
        Some(Ok(Answer::Cookie(cookie))) => cookie.to_vec(),
        None => Vec::new(),
        other => panic!("{other:?}"),
    };
    let problem = reply.head.problem().map(Option::unwrap);
    assert_eq!(u16::from(problem.is_none()), reply.head.done);
    AddReply {
        problem,
        repeated: reply.head.repeated,
        cookie,
    }
}

fn applied(repeated: bool) -> AddReply {
    AddReply {
        problem: None,
        repeated,
        cookie: Vec::new(),
    }
}

/// The attack as it was: 65 536 datagrams of 24 bytes, each of another client at another address.
#[test]
fn forged_first_contacts_leave_the_table_empty_and_a_new_client_gets_in() {
    let mut thread = Thread::new();
    let honest = IpAddr::from([198, 51, 100, 7]);
    for n in 0..CLIENTS_MAX as u32 {
        let forged = Ipv4Addr::from_bits(n.wrapping_mul(0x9e37_79b9)).into();
        let mut datagram = vec![0xc1, 2, 1, 2, 3, 4, 0];
        datagram.extend(BOOT.0.to_le_bytes());
        datagram.extend(u64::from(n).to_le_bytes());
        datagram.push(1);
        assert_eq!(datagram.len(), 24);
        let reply_bytes = thread.ask(forged, &datagram);
        let told = told(&reply(&reply_bytes).unwrap());
        assert_eq!(told.problem, Some(Problem::AddressUnproven));
    }
    assert_eq!(thread.port.shared().engine().once().clients(), 0);
    let asked = thread.add(honest, 1, 1, None);
    assert_eq!(asked.problem, Some(Problem::AddressUnproven));
    assert_eq!(thread.total_weight(), 0);
    assert_eq!(
        thread.add(honest, 1, 1, Some(&asked.cookie)),
        applied(false)
    );
    assert_eq!(thread.add(honest, 1, 1, None), applied(true));
    assert_eq!(thread.add(honest, 1, 2, None), applied(false));
    assert_eq!(
        (
            thread.total_weight(),
            thread.port.shared().engine().once().clients()
        ),
        (2, 1)
    );
}

#[test]
fn one_network_of_real_addresses_does_not_keep_others_out() {
    let mut thread = Thread::new();
    let mut refused = None;
    for n in 0..CLIENTS_MAX as u64 {
        let from = IpAddr::from([203, 0, 113, n as u8]);
        let cookie = thread
            .port
            .shared()
            .engine()
            .once()
            .cookie(from, thread.now);
        let told = thread.add(from, n, 1, Some(&cookie));
        if told.problem.is_some() {
            refused = told.problem;
            break;
        }
    }
    assert_eq!(refused, Some(Problem::OnceNetworkFull));
    let held = thread.port.shared().engine().once().clients();
    assert!(held <= CLIENTS_MAX / 5 + 1, "{held}");
    for n in 0..1000_u64 {
        let from = IpAddr::from([198, 51, n as u8, 7]);
        let cookie = thread.add(from, u64::MAX - n, 1, None).cookie;
        assert_eq!(
            thread.add(from, u64::MAX - n, 1, Some(&cookie)),
            applied(false)
        );
    }
}

/// Weights of a request, which follow from its number: some are more than a node takes in one request.
fn weights(sequence: u64) -> Vec<u32> {
    let mut state = sequence;
    let count = 1 + random(&mut state) % [4, 200, 1_500][(sequence % 3) as usize];
    let heaviest = [1, 1_000, MAX_WEIGHT, MAX_WEIGHT][(random(&mut state) % 4) as usize];
    (0..count)
        .map(|_| (random(&mut state) % u64::from(heaviest + 1)) as u32)
        .collect()
}

/// Weight beyond what may be added until a pass, which comes at some time: a request is applied as a whole, and once,
/// or it is told to come again and nothing of it was.
#[test]
fn a_busy_node_does_nothing_by_half_and_nothing_twice() {
    for seed in 0..4 {
        let mut thread = Thread::new();
        let mut slices =
            Slices::try_new(Arc::clone(thread.port.shared().engine().replica())).unwrap();
        let from = IpAddr::from([198, 51, 100, 7]);
        let first = thread.add_all(from, 0, &[], None);
        let cookie = first.cookie;
        let (mut state, mut added) = (seed, 0_u64);
        let (mut applied_ones, mut waiting) = (HashSet::new(), Vec::new());
        let mut told_to_wait = 0;
        let mut next = 1;
        for step in 0..1_500 {
            let is_over = step > 1_200;
            if is_over || random(&mut state).is_multiple_of(40) {
                slices.publish(usize::MAX);
            }
            let sequence = match random(&mut state) % 4 {
                0 if next > 1 => next - 1 - random(&mut state) % next.min(20).min(next - 1),
                1 if !waiting.is_empty() => waiting[0],
                _ if is_over => waiting.first().copied().unwrap_or(next - 1),
                _ => {
                    next += 1;
                    next - 1
                }
            };
            let weights = weights(sequence);
            let sum: u64 = weights.iter().copied().map(u64::from).sum();
            let told = thread.add_all(from, sequence, &weights, Some(&cookie));
            let is_known = applied_ones.contains(&sequence);
            match told.problem {
                None => {
                    assert_eq!(told.repeated, is_known, "seed {seed}, {sequence}");
                    assert!(
                        is_known || sum <= REQUEST_WEIGHT_MAX,
                        "seed {seed}, {sequence}"
                    );
                    added += if is_known { 0 } else { sum };
                    applied_ones.insert(sequence);
                    waiting.retain(|&one| one != sequence);
                }
                Some(Problem::Busy) => {
                    told_to_wait += 1;
                    if !is_known && !waiting.contains(&sequence) {
                        waiting.push(sequence);
                    }
                }
                Some(Problem::RequestTooHeavy) => assert!(sum > REQUEST_WEIGHT_MAX),
                other => panic!("seed {seed}: {other:?}"),
            }
            assert_eq!(thread.total_weight(), added, "seed {seed}, step {step}");
        }
        assert!(
            waiting.is_empty() && told_to_wait > 20,
            "seed {seed}: {told_to_wait}"
        );
        assert_eq!(thread.port.shared().replica().estimate(KEY).count, added);
        assert!(added > 1 << 33, "seed {seed}: {added}");
    }
}

#[test]
fn info_has_a_cookie_for_who_asked() {
    let mut thread = Thread::new();
    let [one, other] = [[192, 0, 2, 1], [192, 0, 2, 2]].map(IpAddr::from);
    let mut cookies = Vec::new();
    for from in [one, other] {
        thread.writer.start(&Header::default()).unwrap();
        thread.writer.info().unwrap();
        let datagram = thread.writer.finish().to_vec();
        let answer = thread.ask(from, &datagram);
        let Some(Ok(Answer::Info(info))) = reply(&answer).unwrap().answers().next() else {
            panic!("{answer:x?}");
        };
        assert_eq!(info.boot, BOOT);
        cookies.push(info.cookie.to_vec());
    }
    let unproven = Some(Problem::AddressUnproven);
    assert_eq!(thread.add(one, 1, 1, Some(&cookies[1])).problem, unproven);
    assert_eq!(thread.add(other, 1, 1, Some(&cookies[1])), applied(false));
    assert_eq!(thread.add(one, 2, 1, Some(&cookies[0])), applied(false));
}

/// Where a datagram comes from: two networks, each address of one in both its forms.
fn address() -> impl Strategy<Value = IpAddr> {
    (0..3_u8, 0..3_u8).prop_map(|(kind, host)| {
        let v4 = Ipv4Addr::new(192, 0, 2, host);
        match kind {
            0 => v4.into(),
            1 => v4.to_ipv6_mapped().into(),
            _ => [0x2001, 0xdb8, 0, 0, 0, 0, 0, u16::from(host)].into(),
        }
    })
}

#[derive(Debug, Clone)]
enum Shown {
    Nothing,
    /// The latest that came to this address ...
    Got,
    /// ... or to any other one.
    GotElsewhere(prop::sample::Index),
    Garbage(Vec<u8>),
}

fn shown() -> impl Strategy<Value = Shown> {
    prop_oneof![
        2 => Just(Shown::Nothing),
        6 => Just(Shown::Got),
        2 => any::<prop::sample::Index>().prop_map(Shown::GotElsewhere),
        1 => prop::collection::vec(any::<u8>(), 0..=16).prop_map(Shown::Garbage),
    ]
}

proptest! {
    /// Whoever comes from wherever with whatever: nothing is applied twice, nothing is lost, and whoever is
    /// asked has got in with the answer.
    #[test]
    fn first_contacts_are_what_a_naive_node_makes_of_them(
        asks in prop::collection::vec(
            (
                address(),
                shown(),
                (0..6_u64, 0..30_u64),
                // Seconds since the one before: epochs pass, and clients are forgotten.
                prop_oneof![20 => 0..20_u64, 1 => IDLE_LIMIT.as_secs() + 1..1000],
            ),
            1..150,
        ),
    ) {
        let mut thread = Thread::new();
        // By address in one form: the latest cookie, and the minute that it came in.
        let mut got: HashMap<IpAddr, (Vec<u8>, u64)> = HashMap::new();
        let mut known = HashSet::new();
        let mut done = HashSet::new();
        for (from, shown, (client, sequence), later_s) in asks {
            thread.now += Duration::from_secs(later_s);
            let minute = thread.now.as_secs() / 60;
            let canonical = from.to_canonical();
            let mut all: Vec<_> = got.clone().into_iter().collect();
            all.sort();
            let found = match &shown {
                Shown::Got => got.get_key_value(&canonical).map(|(ip, got)| (*ip, got.clone())),
                Shown::GotElsewhere(which) if !all.is_empty() => Some(which.get(&all).clone()),
                _ => None,
            };
            let proven = (found.as_ref())
                .is_some_and(|(ip, (_, then))| *ip == canonical && minute - then <= 1);
            let cookie = match shown {
                Shown::Garbage(bytes) => Some(bytes),
                _ => found.map(|(_, (cookie, _))| cookie),
            };
            let told = thread.add(from, client, sequence, cookie.as_deref());
            if known.contains(&client) || proven {
                known.insert(client);
                // All sequences are within a window, and so few clients are never forgotten.
                let is_new = done.insert((client, sequence));
                prop_assert_eq!(told, applied(!is_new));
            } else {
                prop_assert_eq!(told.problem, Some(Problem::AddressUnproven));
                prop_assert_eq!(told.cookie.len(), COOKIE_BYTES);
                got.insert(canonical, (told.cookie, minute));
            }
            prop_assert_eq!(thread.total_weight(), done.len() as u64);
            prop_assert_eq!(thread.port.shared().engine().once().clients() <= known.len(), true);
        }
    }
}

/// Room that was kept for an answer which does not come is given up: what stands there is of an earlier reply.
#[test]
fn an_operation_that_is_not_done_leaves_no_bytes_in_the_reply() {
    let mut thread = Thread::new();
    let other: IpAddr = [192, 0, 2, 9].into();
    let of_many = |thread: &mut Thread, from: IpAddr, last: Operation<'_>| {
        thread.writer.start(&Header::default()).unwrap();
        thread.writer.count(KEY).unwrap();
        thread.writer.operation(last).unwrap();
        let datagram = thread.writer.finish().to_vec();
        thread.ask(from, &datagram)
    };
    let mut parts = Vec::new();
    let part = |window_ms| LimitPart {
        sketch: SketchNumber::DEFAULT,
        key: KEY,
        weight: 1,
        limit: 5,
        window_ms,
    };
    let unknown = Limits::write(true, false, &[part(77)], &mut parts).unwrap();
    let window_ms = 77;
    let refused = [
        Operation::HitByName {
            name: b"none",
            key: KEY,
            weight: 1,
        },
        Operation::Limits(unknown),
        Operation::Window {
            key: KEY,
            window_ms,
            smooth: true,
        },
        Operation::Hit {
            key: KEY,
            weight: u64::MAX,
            limit: 1,
            window_ms: 0,
        },
        Operation::Hit {
            key: KEY,
            weight: 1,
            limit: 1,
            window_ms,
        },
    ];
    for operation in refused {
        // Somebody else's reply stood in the same place.
        of_many(&mut thread, other, Operation::Info);
        let answer = of_many(&mut thread, [192, 0, 2, 7].into(), operation);
        let reply = reply(&answer).unwrap();
        assert!(reply.head.code != 0, "{operation:?}");
        assert_eq!(
            (reply.head.done, reply.answers().count()),
            (1, 1),
            "{operation:?}"
        );
        assert_eq!(
            answer.len(),
            REPLY_HEAD_BYTES + COUNT_ANSWER_BYTES,
            "{operation:?}"
        );
    }
}

#[test]
fn other_lists_hold_from_the_next_datagram_on() {
    let mut thread = Thread::new();
    let from: IpAddr = [192, 0, 2, 1].into();
    let order = legacy::encode_peer("192.0.2.7", 9, Dialect::default()).unwrap();
    let is_taken = |thread: &mut Thread| {
        thread.desk.datagram(&thread.port, &order, (from, 9).into());
        thread.port.rare().take().is_some()
    };
    assert!(!is_taken(&mut thread));
    for is_listed in [true, false, true] {
        let config = NodeConfig {
            trust: is_listed.then(|| from.into()).into_iter().collect(),
            ..NodeConfig::default()
        };
        Access::of(&config).replace(thread.port.access());
        assert_eq!(is_taken(&mut thread), is_listed);
        assert_eq!(thread.port.is_trusted(from), is_listed);
    }
}
