//! Both clients and a node that is started again at its port, which the kernel refuses meanwhile: all requests are
//! repeated until it is back.

#![allow(missing_docs, clippy::unwrap_used)]
#![cfg(feature = "tokio")]

use std::collections::{HashMap, HashSet};
use std::net::{SocketAddr, UdpSocket};
use std::thread::JoinHandle;
use std::time::Duration;

use rmbd_client::{
    AddsReport, AsyncClient, Client, ClientError, ClientOptions, Fate, Limit, Limits, Server,
};
use rmbd_names::Resolver;
use rmbd_proto::compact::{
    self, COUNT_ANSWER_BYTES, HASH_XXH3, LIMITS_ANSWER_BYTES, Once, Operation, Problem,
    REPLY_HEAD_BYTES, ReplyHead, Verdict,
};
use rmbd_proto::{Boot, Writer};
use rmbd_testkit::held_port::HeldPort;

/// Nothing waits this long when all is well.
const OPTIONS: ClientOptions = ClientOptions {
    timeout: Duration::from_secs(30),
    linger: Duration::ZERO,
};
/// Long enough for some repeats to be refused.
const DOWN: Duration = Duration::from_millis(100);

/// How a node ends, behind so many requests of the present start.
#[derive(Debug, Clone, Copy)]
enum End {
    /// With a table that comes back.
    Clean(u64),
    Crash(u64),
}

/// A node in this process that is started again as its plan says. The request that it ends with is applied, and has
/// no reply.
struct Node {
    address: SocketAddr,
    stop: UdpSocket,
    thread: JoinHandle<State>,
}

/// What it counts, exactly. It remembers all requests for ever.
#[derive(Debug, Default)]
struct State {
    boot: u64,
    /// Boots that requests may name.
    known: HashSet<Boot>,
    seen: HashMap<(u64, u64), Option<bool>>,
    counts: HashMap<Vec<u8>, u64>,
    repeats: u64,
    named_earlier: u64,
    clients: HashSet<u64>,
}

impl Node {
    fn start(plan: &'static [End]) -> Self {
        let port = HeldPort::new();
        let address = port.address();
        let stop = UdpSocket::bind("127.0.0.1:0").unwrap();
        let stopper = stop.local_addr().unwrap();
        let first = port.open();
        let thread = std::thread::spawn(move || {
            let mut state = State::default();
            state.begin();
            let mut socket = Some(first);
            for end in plan {
                let (End::Clean(requests) | End::Crash(requests)) = *end;
                let socket = socket.take().unwrap_or_else(|| port.open());
                for n in 0..=requests {
                    if !state.serve(&socket, stopper, n < requests) {
                        return state;
                    }
                }
                drop(socket);
                std::thread::sleep(DOWN);
                if let End::Crash(_) = end {
                    state.known.clear();
                    state.seen.clear();
                }
                state.begin();
            }
            let socket = socket.take().unwrap_or_else(|| port.open());
            while state.serve(&socket, stopper, true) {}
            state
        });
        Self {
            address,
            stop,
            thread,
        }
    }

    /// The node by its address, or by a name.
    fn servers(&self) -> [Server; 2] {
        let address = self.address;
        let resolver = Resolver::new(move |_| Ok(vec![address]));
        let by_name = Server::from("counts.internal:7").resolved_by(resolver);
        [address.into(), by_name]
    }

    fn stop(self) -> State {
        self.stop.send_to(&[], self.address).unwrap();
        self.thread.join().unwrap()
    }
}

impl State {
    fn begin(&mut self) {
        self.boot += 1;
        self.known.insert(Boot(self.boot));
    }

    /// Serves the next request; false where the node is to stop.
    fn serve(&mut self, socket: &UdpSocket, stopper: SocketAddr, replies: bool) -> bool {
        let mut datagram = [0; 2048];
        let (len, from) = socket.recv_from(&mut datagram).unwrap();
        if from == stopper {
            return false;
        }
        let reply = self.reply(&datagram[..len]);
        if replies {
            // A client that is gone does not matter.
            let _ = socket.send_to(&reply, from);
        }
        true
    }

    fn reply(&mut self, datagram: &[u8]) -> Vec<u8> {
        let request = compact::request(datagram).unwrap();
        let mut head = ReplyHead {
            id: request.id,
            ..ReplyHead::default()
        };
        let mut reply = vec![0; REPLY_HEAD_BYTES];
        match request.once.map(|once| self.admit(once)).transpose() {
            Err(problem) => head.code = problem.code(),
            Ok(repeated) => {
                head.repeated = repeated == Some(true);
                let sequence = request.once.map(|once| (once.client, once.sequence));
                for operation in request.operations() {
                    let answer = self.answer(operation.unwrap(), head.repeated, sequence);
                    reply.extend(answer);
                    head.done += 1;
                }
            }
        }
        compact::write_reply_head(head, reply.first_chunk_mut().unwrap());
        reply
    }

    fn admit(&mut self, once: Once) -> Result<bool, Problem> {
        if !self.known.contains(&once.boot) {
            return Err(Problem::WrongBoot);
        }
        self.named_earlier += u64::from(once.boot != Boot(self.boot));
        self.clients.insert(once.client);
        let sequence = (once.client, once.sequence);
        let repeated = self.seen.contains_key(&sequence);
        self.seen.entry(sequence).or_default();
        self.repeats += u64::from(repeated);
        Ok(repeated)
    }

    fn answer(
        &mut self,
        operation: Operation<'_>,
        repeated: bool,
        sequence: Option<(u64, u64)>,
    ) -> Vec<u8> {
        match operation {
            Operation::Add { key, weight } => {
                if !repeated {
                    *self.counts.entry(key.to_vec()).or_default() += weight;
                }
                Vec::new()
            }
            Operation::Count { key } => {
                let mut out = [0; COUNT_ANSWER_BYTES];
                compact::write_count_answer(self.count(key), false, &mut out);
                out.to_vec()
            }
            Operation::Limits(limits) => {
                let part = limits.parts().next().unwrap();
                let before = sequence.and_then(|sequence| self.seen[&sequence]);
                let estimate = self.count(part.key);
                let over = before.unwrap_or(estimate + part.weight > part.limit);
                if !over && !repeated {
                    *self.counts.entry(part.key.to_vec()).or_default() += part.weight;
                }
                if let Some(sequence) = sequence {
                    self.seen.insert(sequence, Some(over));
                }
                let verdict = Verdict {
                    over,
                    estimate,
                    ..Verdict::default()
                };
                let mut out = [0; LIMITS_ANSWER_BYTES];
                compact::write_limits_answer(&verdict, &mut out);
                out.to_vec()
            }
            Operation::Info => compact::encode_info(&compact::Info {
                boot: Boot(self.boot),
                fingerprint: 0,
                width: 1,
                max_weight: 1 << 20,
                depth: 1,
                hash: HASH_XXH3,
                version: b"",
                cluster_port: 0,
                cookie: b"",
                writer: Writer(0),
            }),
            other => panic!("{other:?}"),
        }
    }

    fn count(&self, key: &[u8]) -> u64 {
        self.counts.get(key).copied().unwrap_or_default()
    }

    fn total(&self) -> u64 {
        self.counts.values().sum()
    }
}

fn runtime() -> tokio::runtime::Runtime {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.enable_all().build().unwrap()
}

fn key(n: u64) -> [u8; 16] {
    [n.to_le_bytes(), [7; 8]].as_flattened().try_into().unwrap()
}

/// The same calls of both clients, each through an end of the node: `$wait` is `.await` or nothing.
macro_rules! every_call {
    ($client:expr $(, $wait:tt)?) => {{
        let mut client = $client;
        // Info, and the first add: the node ends with it.
        client.add("a", 1)$(.$wait)?.unwrap();
        client.add("a", 2)$(.$wait)?.unwrap();
        assert_eq!(client.count("a")$(.$wait)?.unwrap().estimate, 3);
        // Two get what they ask for, the third one does not; the node ends with the second and the third.
        for allowed in [true, true, false] {
            let take = Limits::take([Limit::new("t", 2, Duration::ZERO)]);
            assert_eq!(client.limits(&take)$(.$wait)?.unwrap().allowed, allowed);
        }
        // A take that does not ask for exactly-once.
        let take = Limits::take([Limit::new("u", 2, Duration::ZERO)]).repeatable();
        assert!(client.limits(&take)$(.$wait)?.unwrap().allowed);
        client.info()$(.$wait)?.unwrap();
    }};
}

/// What is sent first, and what is repeated: all requests of which the last is not answered.
const EVERY_CALL: &[End] = &[
    End::Clean(1), // info; add
    End::Clean(1), // the repeat; add
    End::Clean(1), // the repeat; count
    End::Clean(2), // the repeat; take; take
    End::Clean(1), // the repeat; take
    End::Clean(2), // the repeat; take without a sequence, which is answered; info
];

fn check_every_call(state: &State) {
    assert_eq!((state.count(b"a"), state.count(b"t")), (3, 2));
    assert_eq!(state.count(b"u"), 1);
    assert!(state.boot >= 6 && state.repeats >= 4, "{state:?}");
    // Nothing makes another client of it.
    assert_eq!(state.clients.len(), 1);
}

#[test]
fn every_call_of_the_blocking_client() {
    for which in [0, 1] {
        let node = Node::start(EVERY_CALL);
        let server = node.servers()[which].clone();
        every_call!(Client::connect(server, OPTIONS).unwrap());
        check_every_call(&node.stop());
    }
}

#[test]
#[allow(unused_mut, reason = "the other client changes")]
fn every_call_of_the_client_for_tokio() {
    for which in [0, 1] {
        let node = Node::start(EVERY_CALL);
        let server = node.servers()[which].clone();
        runtime().block_on(async {
            let client = AsyncClient::connect(server, OPTIONS).await.unwrap();
            every_call!(client, await);
        });
        check_every_call(&node.stop());
    }
}

/// Adds of the streams: some thousand datagrams.
const ADDS: u64 = 200_000;
const CLEAN_ENDS: &[End] = &[End::Clean(300), End::Clean(40), End::Clean(500)];

fn check_stream(state: &State) {
    assert_eq!(state.total(), ADDS);
    assert!(state.counts.values().all(|&count| count == 1));
    assert_eq!((state.boot, state.clients.len()), (4, 1));
    assert!(state.repeats >= 3 && state.named_earlier > 0, "{state:?}");
}

#[test]
fn adds_that_are_under_way_at_a_clean_end_are_acknowledged() {
    for which in [0, 1] {
        let node = Node::start(CLEAN_ENDS);
        let server = node.servers()[which].clone();
        let mut client = Client::connect(server, OPTIONS).unwrap();
        let mut adder = client.adder();
        (0..ADDS).for_each(|n| adder.push(&key(n), 1).unwrap());
        assert_eq!(adder.finish().unwrap(), ADDS);
        check_stream(&node.stop());
    }
}

#[test]
fn adds_of_tasks_at_a_clean_end_are_acknowledged() {
    for which in [0, 1] {
        let node = Node::start(CLEAN_ENDS);
        let server = node.servers()[which].clone();
        runtime().block_on(async {
            let client = AsyncClient::connect(server, OPTIONS).await.unwrap();
            let adds = (0..ADDS).map(|n| (key(n), 1));
            assert_eq!(client.add_many(adds).await.unwrap(), ADDS);
        });
        check_stream(&node.stop());
    }
}

/// Checks the report of adds through a crash, behind which nothing is known of what was under way.
fn check_crash(error: &ClientError, state: &State) {
    let ClientError::Adds { report, source } = error else {
        panic!("{error}");
    };
    assert!(matches!(**source, ClientError::Restarted { .. }), "{error}");
    assert_eq!(error.fate(), Fate::Uncertain);
    let AddsReport {
        taken, confirmed, ..
    } = **report;
    let named: u64 = (report.uncertain.iter().chain(&report.not_added))
        .map(|range| range.end - range.start)
        .sum();
    assert_eq!(confirmed + named, taken);
    assert!(state.counts.values().all(|&count| count <= 1));
    let most = confirmed + report.uncertain_adds();
    assert!((confirmed..=most).contains(&state.total()), "{report:?}");
}

#[test]
fn adds_that_are_under_way_at_a_crash_are_uncertain() {
    for which in [0, 1] {
        let node = Node::start(&[End::Clean(100), End::Crash(200)]);
        let server = node.servers()[which].clone();
        let mut client = Client::connect(server, OPTIONS).unwrap();
        let adds = (0..ADDS).map(|n| (key(n), 1));
        let error = client.add_many(adds).unwrap_err();
        // It is not lost for ever.
        client.add("afterwards", 0).unwrap();
        check_crash(&error, &node.stop());
    }
}

#[test]
fn adds_of_tasks_at_a_crash_are_uncertain() {
    for which in [0, 1] {
        let node = Node::start(&[End::Clean(100), End::Crash(200)]);
        let server = node.servers()[which].clone();
        let error = runtime().block_on(async {
            let client = AsyncClient::connect(server, OPTIONS).await.unwrap();
            let adds = (0..ADDS).map(|n| (key(n), 1));
            let error = client.add_many(adds).await.unwrap_err();
            client.add("afterwards", 0).await.unwrap();
            error
        });
        check_crash(&error, &node.stop());
    }
}
