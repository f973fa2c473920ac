//! Clients and folders of earlier releases, as recordings, with whole nodes of today.
//!
//! A recording of a client has its requests (`>`) and what the node replied (`<`), under the name of each call (`=`).
//! `{boot}` and `{cookie}` stand for what the node had told in its info. Replies are compared by the rules of the
//! first release: an answer from 06 on may have grown at its end, and what each start has otherwise is left out.

use std::collections::BTreeMap;
use std::fs;
use std::net::{SocketAddr, UdpSocket};
use std::path::Path;
use std::thread::JoinHandle;
use std::time::Duration;

use rmbd::config::{Amount, IoChoice, LimitConfig, LimitVerdict, NodeConfig, WindowConfig};
use rmbd::node::Node;
use rmbd_client::{Client, ClientOptions, Limit, Limits, TopQuestion, Window};
use rmbd_proto::compact;
use rmbd_testkit::hex::{hex, unhex};
use rmbd_testkit::releases::{self, Recording, lines};

use crate::support::{PATIENCE, client_of, config, receive};

const HOUR: Duration = Duration::from_secs(3_600);

/// What recordings rest on, so that it stays as it is.
fn recorded_config() -> NodeConfig {
    let limit = LimitConfig {
        name: "by-user".parse().unwrap(),
        sketch: "default".parse().unwrap(),
        keys: "*".parse().unwrap(),
        amounts: vec![Amount {
            count: 5,
            window_ms: 3_600_000,
        }],
        cost: 1,
        verdict: LimitVerdict::Take,
        overrides: Vec::new(),
        exempt: Vec::new(),
        shadow: false,
    };
    let window = WindowConfig {
        span_ms: 3_600_000,
        step_ms: Some(300_000),
        width: None,
    };
    NodeConfig {
        windows: vec![window],
        limits: vec![limit],
        top: Some(10),
        ..config(IoChoice::Auto)
    }
}

/// A call of a client, with its name, and what it is to be told by a node that has had the calls before.
type Call = (&'static str, fn(&mut Client));

/// All calls, in the order in which they are recorded. Later releases add to them, and change none.
const CALLS: [Call; 10] = [
    ("info", |client| {
        assert_eq!(client.info().unwrap().width, 4_096);
    }),
    ("add", |client| client.add("apple", 3).unwrap()),
    ("count", |client| {
        assert_eq!(client.count("apple").unwrap().estimate, 3);
    }),
    ("hit", |client| {
        let hit = client.hit("apple", 1, 3).unwrap();
        assert_eq!((hit.estimate, hit.allowed), (4, false));
    }),
    ("bounds", |client| {
        let bounds = client.count_bounds("apple").unwrap();
        assert_eq!((bounds.estimate, bounds.total_weight), (4, 4));
    }),
    ("count in a window", |client| {
        let count = client.count_in("apple", Window::bound(HOUR)).unwrap();
        assert_eq!(count.estimate, 4);
    }),
    ("limits that take", |client| {
        let limits = Limits::take([Limit::new("pear", 2, HOUR).weight(2)]);
        let verdict = client.limits(&limits).unwrap();
        assert!(verdict.allowed && verdict.estimate == 2 && verdict.remaining == 0);
    }),
    ("hit by name", |client| {
        let verdict = client.hit_by_name("by-user", "fig", 2).unwrap();
        assert!(verdict.allowed && verdict.remaining == 3);
    }),
    ("pardon", |client| {
        assert_eq!(client.pardon("by-user", "fig", HOUR).unwrap(), 2);
    }),
    ("sketches", |client| {
        let sketches = client.sketches().unwrap();
        assert_eq!((sketches.len(), sketches[0].windows.len()), (1, 1));
    }),
];

/// A responder of which each request is answered by `answer`.
struct Responder {
    address: SocketAddr,
    thread: Option<JoinHandle<()>>,
}

impl Responder {
    fn start(mut answer: impl FnMut(&[u8]) -> Option<Vec<u8>> + Send + 'static) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap();
        let thread = std::thread::spawn(move || {
            let mut datagram = [0; 2_048];
            loop {
                let (len, from) = socket.recv_from(&mut datagram).unwrap();
                if len == 0 {
                    return;
                }
                if let Some(reply) = answer(&datagram[..len]) {
                    socket.send_to(&reply, from).unwrap();
                }
            }
        });
        Self {
            address,
            thread: Some(thread),
        }
    }

    fn client(&self) -> Client {
        let options = ClientOptions {
            timeout: PATIENCE,
            ..ClientOptions::default()
        };
        Client::connect(self.address, options).unwrap()
    }
}

impl Drop for Responder {
    fn drop(&mut self) {
        let stop = UdpSocket::bind("127.0.0.1:0").unwrap();
        stop.send_to(&[], self.address).unwrap();
        let ended = self.thread.take().unwrap().join();
        assert!(ended.is_ok() || std::thread::panicking());
    }
}

/// The answers of a reply by the rules of the first release: each with its code and its content.
fn answers(reply: &[u8]) -> Vec<(u8, &[u8])> {
    let mut rest = &reply[9..];
    let mut answers = Vec::new();
    while let [code, content @ ..] = rest {
        let (length, from) = match (code & 0x3f, content) {
            (3 | 4, _) => (8, 0),
            (5, _) => (40, 0),
            (_, [low, high, ..]) if low & 0x80 != 0 => {
                (usize::from(low & 0x7f) | usize::from(*high) << 7, 2)
            }
            (_, content) => (content[0].into(), 1),
        };
        answers.push((*code, &content[from..from + length]));
        rest = &content[from + length..];
    }
    answers
}

/// Whether each start and moment has another byte at this place of an answer.
fn varies(code: u8, at: usize) -> bool {
    match code {
        // Boot; version, port, cookie and writer.
        6 => !(8..30).contains(&at),
        // What is likely rests on samples.
        5 => (8..24).contains(&at),
        // Covered, retry-after.
        8 => (9..13).contains(&at),
        9 | 11 => (18..26).contains(&at),
        _ => false,
    }
}

/// Boot and cookie that an info tells; the cookie with its length.
fn told_by_info(reply: &[u8]) -> Option<(&[u8], &[u8])> {
    let (_, info) = answers(reply).into_iter().find(|(code, _)| *code == 6)?;
    let cookie = &info[31 + usize::from(info[30]) + 2..];
    Some((&info[..8], &cookie[..1 + usize::from(cookie[0])]))
}

/// The boot and the cookie of a node, as texts that stand in requests.
#[derive(Default, Clone)]
struct Told(Option<[String; 2]>);

impl Told {
    fn hear(&mut self, reply: &[u8]) {
        if let Some((boot, cookie)) = told_by_info(reply) {
            self.0 = Some([hex(boot), hex(cookie)]);
        }
    }

    fn marked(&self, request: &[u8]) -> String {
        let text = hex(request);
        match &self.0 {
            Some([boot, cookie]) => text.replace(boot, "{boot}").replace(cookie, "{cookie}"),
            None => text,
        }
    }

    fn unmarked(&self, text: &str) -> Vec<u8> {
        match &self.0 {
            Some([boot, cookie]) => {
                unhex(&text.replace("{boot}", boot).replace("{cookie}", cookie))
            }
            None => unhex(text),
        }
    }
}

/// Records what a client of today and a node of today say.
fn record_client() -> String {
    let node = Node::start(recorded_config()).unwrap();
    let socket = client_of(&node);
    let said = std::sync::Arc::new(std::sync::Mutex::new(String::new()));
    let mut told = Told::default();
    let tap = {
        let said = std::sync::Arc::clone(&said);
        Responder::start(move |request| {
            socket.send(request).unwrap();
            let reply = receive(&socket);
            told.hear(&reply);
            *said.lock().unwrap() += &format!("> {}\n< {}\n", told.marked(request), hex(&reply));
            Some(reply)
        })
    };
    let mut client = tap.client();
    *said.lock().unwrap() = format!(
        "# A client of rmbd {}: its calls, each with the requests and what the node replied.\n\
         # tests/node/releases.rs wrote this, and says what the marks mean.\n",
        env!("CARGO_PKG_VERSION"),
    );
    for (name, call) in CALLS {
        *said.lock().unwrap() += &format!("= {name}\n");
        call(&mut client);
    }
    drop(client);
    drop(tap);
    said.lock().unwrap().clone()
}

/// A client of then asks a node of today.
fn ask_as_then(recording: &Recording) {
    let node = Node::start(recorded_config()).unwrap();
    let socket = client_of(&node);
    let (mut told, mut reply, mut call) = (Told::default(), Vec::new(), "");
    for line in lines(&recording.text) {
        match line.split_at(2) {
            ("= ", name) => call = name,
            ("> ", request) => {
                socket.send(&told.unmarked(request)).unwrap();
                reply = receive(&socket);
                told.hear(&reply);
            }
            (_, then) => {
                let then = unhex(then);
                let context = format!("{}, {call}: {then:x?}, now {reply:x?}", recording.version);
                assert_eq!(reply[..9], then[..9], "{context}");
                let (now, then) = (answers(&reply), answers(&then));
                assert_eq!(now.len(), then.len(), "{context}");
                for ((code, now), (code_then, then)) in now.into_iter().zip(then) {
                    assert_eq!(code, code_then, "{context}");
                    for (at, byte) in then.iter().enumerate() {
                        assert!(varies(code, at) || now.get(at) == Some(byte), "{context}");
                    }
                }
            }
        }
    }
}

/// A client of today asks a node of then.
fn answer_as_then(recording: &Recording) {
    let mut replies: BTreeMap<String, Vec<Vec<u8>>> = BTreeMap::new();
    let (mut kind, mut told) = (String::new(), Told::default());
    let mut requests = Vec::new();
    for line in lines(&recording.text) {
        match line.split_at(2) {
            ("> ", request) => requests.push(request.to_owned()),
            ("< ", reply) => {
                let reply = unhex(reply);
                told.hear(&reply);
                kind.clone_from(&kind_of(&told.unmarked(&requests[requests.len() - 1])));
                replies.entry(kind.clone()).or_default().push(reply);
            }
            _ => {}
        }
    }
    let node = Responder::start(move |request| {
        let replies = replies.get_mut(&kind_of(request))?;
        let mut reply = replies[0].clone();
        if replies.len() > 1 {
            replies.remove(0);
        }
        reply[2..6].copy_from_slice(&request[2..6]);
        Some(reply)
    });
    let mut client = node.client();
    let recorded: Vec<&str> = lines(&recording.text)
        .filter_map(|line| line.strip_prefix("= "))
        .collect();
    for name in recorded {
        let (_, call) = CALLS.iter().find(|(of, _)| *of == name).unwrap();
        call(&mut client);
    }
}

/// What kind of operation a request begins with.
fn kind_of(request: &[u8]) -> String {
    let request = compact::request(request).unwrap();
    let operation = request.operations().next().unwrap().unwrap();
    format!("{:?}", std::mem::discriminant(&operation))
}

#[test]
fn clients_and_nodes_of_earlier_releases_are_understood() {
    let mut recordings = vec![releases::keep("client.txt", record_client())];
    recordings.extend(releases::all("client.txt"));
    for recording in &recordings {
        ask_as_then(recording);
        answer_as_then(recording);
    }
}

/// A node of which this is the data folder.
fn node_in(folder: &Path) -> Node {
    let mut config = recorded_config();
    config.cluster.data_dir = Some(folder.to_owned());
    Node::start(config).unwrap()
}

/// The names that a node lists.
fn names(node: &Node) -> Vec<Option<Vec<u8>>> {
    let options = ClientOptions::default();
    let mut client = Client::connect(node.udp_addr(), options).unwrap();
    let top = client.top(TopQuestion::ALL).unwrap();
    top.keys.into_iter().map(|key| key.name).collect()
}

/// Waits until a node lists the one key; `meanwhile` is done again and again.
fn wait_for_name(node: &Node, meanwhile: impl Fn()) {
    let start = std::time::Instant::now();
    while names(node) != [Some(b"apple".to_vec())] {
        assert!(start.elapsed() < PATIENCE, "{:?}", names(node));
        meanwhile();
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// The files of a folder, and what its node had counted.
fn record_folder() -> String {
    let folder = tempfile::tempdir().unwrap();
    let node = node_in(folder.path());
    wait_for_name(&node, || node.add(b"apple", 3).unwrap());
    let count = node.estimate(b"apple").count;
    node.stop().unwrap();
    let mut text = format!(
        "# The folder of a node of rmbd {} that came to a clean end: its files, and the count of `apple`.\n\
         # tests/node/releases.rs wrote this.\ncount {count}\n",
        env!("CARGO_PKG_VERSION"),
    );
    for name in ["node_id", "snapshot", "clean_end"] {
        let bytes = fs::read(folder.path().join(name)).unwrap();
        text += &format!("{name} {}\n", hex(&bytes));
    }
    text
}

#[test]
fn folders_of_earlier_releases_are_taken_over() {
    let mut recordings = vec![releases::keep("folder.txt", record_folder())];
    recordings.extend(releases::all("folder.txt"));
    for recording in &recordings {
        let folder = tempfile::tempdir().unwrap();
        let mut count = 0;
        for line in lines(&recording.text) {
            match line.split_once(' ').unwrap() {
                ("count", text) => count = text.parse().unwrap(),
                (name, bytes) => fs::write(folder.path().join(name), unhex(bytes)).unwrap(),
            }
        }
        let node = node_in(folder.path());
        let version = &recording.version;
        assert_eq!(node.estimate(b"apple").count, count, "{version}");
        let status = node.status();
        let loaded = status.snapshot_files.loaded.unwrap();
        assert!(loaded.is_resumed && loaded.skipped.is_empty(), "{version}");
        wait_for_name(&node, || {});
    }
}
