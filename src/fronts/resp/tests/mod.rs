//! A data thread's desk without sockets: pipelines, pieces, passwords and limits.
#![allow(clippy::unwrap_used)]

mod generated;

use rmbd_io::Stop;
use rmbd_proto::Boot;
use rmbd_sketch::{Geometry, HashFamily, MAX_WEIGHT, Weight};
use rmbd_store::once::{BootChain, OnceTable};
use rmbd_store::{
    NamedSketch, Registry, Replica, ReplicaOptions, ToldKey, ToldList, ToldLists, WindowPlan,
};

use super::*;
use crate::config::{NodeConfig, RespConfig};
use crate::engine::{Engine, EngineOptions};
use crate::fronts::datagrams::ClientPort;
use crate::shared::{LimitsInForce, Shared};
use rmbd_io::REPLIES_FULL_BYTES;
use rmbd_proto::resp::{INLINE_BYTES_MAX, WORD_BYTES_MAX};
use rmbd_testkit::redis::command;

const HERE: &str = "127.0.0.1:9";
const THERE: &str = "192.0.2.7:9";

/// A data thread of a node with the sketches `default`, which keeps a minute, and `other`, which lists its keys.
struct Thread(RespHandler);

fn engine() -> Engine {
    let (geometry, family) = (
        Geometry::new(1 << 17, 4).unwrap(),
        HashFamily::Xxh3 { seed: 1 },
    );
    let default = Replica::try_open(ReplicaOptions {
        windows: vec![WindowPlan::new(60_000, None, None, geometry, family).unwrap()],
        ..ReplicaOptions::new(geometry, family)
    });
    let other = Replica::try_open(ReplicaOptions {
        top: 3,
        ..ReplicaOptions::new(geometry, family)
    });
    let sketches = [("default", default), ("other", other)];
    let sketches = sketches
        .map(|(name, replica)| NamedSketch::new(name.parse().unwrap(), Arc::new(replica.unwrap())));
    let options = EngineOptions {
        boot: Boot(7),
        earlier: BootChain::default(),
        max_weight: Weight::MAX,
        once: Arc::new(OnceTable::new(1, &[7; 32])),
    };
    Engine::new(Registry::new(sketches.into()).unwrap(), &options)
}

impl Thread {
    fn new(config: &NodeConfig) -> Self {
        let limits = Arc::new(LimitsInForce::new(&[]));
        let stop = Stop::new().unwrap();
        let shared = Shared::since(std::time::Instant::now(), engine(), limits, stop);
        let port = Arc::new(ClientPort::new(config, Arc::new(shared), None, 0));
        let port = RespPort::new(config, HERE.parse().unwrap(), port).unwrap();
        let socket = rmbd_io::bind_group(
            "127.0.0.1:0".parse().unwrap(),
            1,
            rmbd_io::SocketOptions {
                receive_buffer_bytes: 1 << 16,
            },
        );
        let observed = ObservedThread::new(socket.unwrap().remove(0));
        let mut handler = RespHandler::new(Arc::new(port), Arc::new(observed));
        assert!(handler.opened(0, HERE.parse().unwrap()));
        Self(handler)
    }

    fn open() -> Self {
        Self::new(&NodeConfig::at("127.0.0.1:0"))
    }

    /// The replies to bytes of which all must be taken.
    fn send(&mut self, bytes: &[u8]) -> (String, Then) {
        let mut out = Vec::new();
        let taken = self.0.received(0, bytes, &mut StreamReplies::new(&mut out));
        if taken.then != Then::End {
            assert_eq!(
                taken.bytes,
                bytes.len(),
                "{:?}",
                String::from_utf8_lossy(bytes)
            );
        }
        let text = out.iter().map(|&byte| char::from(byte)).collect();
        (text, taken.then)
    }

    /// The reply to one inline command.
    fn ask(&mut self, line: &str) -> String {
        self.send(format!("{line}\r\n").as_bytes()).0
    }
}

#[test]
fn a_pipeline_is_answered_in_order_across_sketches() {
    let mut thread = Thread::open();
    let (replies, then) = thread.send(
        b"CMS.INCRBY default a 5 b 7 a 1\r\nPING\r\nCMS.INCRBY other a 2\r\nCMS.QUERY default a\r\n\
          CMS.QUERY other a\r\nRMBD.TAKE default a 1 6 60s\r\nCMS.INFO default\r\nCMS.QUERY default a\r\n\r\nNOPE\r\n",
    );
    assert_eq!(then, Then::More);
    assert_eq!(
        replies,
        "*3\r\n:5\r\n:7\r\n:6\r\n+PONG\r\n*1\r\n:2\r\n*1\r\n:6\r\n*1\r\n:2\r\n*4\r\n:0\r\n:6\r\n:0\r\n:60000\r\n\
         *6\r\n+width\r\n:131072\r\n+depth\r\n:4\r\n+count\r\n:13\r\n*1\r\n:6\r\n\
         -ERR unknown command 'NOPE', with args beginning with: \r\n"
            .replace(":60000", &waited(&replies))
    );
}

/// How long a refused take is to wait, as it was told.
fn waited(replies: &str) -> String {
    let mut verdict = replies.split("*4\r\n").nth(1).unwrap().split("\r\n");
    let wait = verdict.nth(3).unwrap();
    let ms: u64 = wait[1..].parse().unwrap();
    assert!((1..=65_000).contains(&ms), "{ms}");
    wait.to_owned()
}

#[test]
fn nothing_is_added_by_a_command_that_is_wrong_somewhere() {
    let mut thread = Thread::open();
    let key = "k".repeat(1_025);
    for (line, reply) in [
        (
            "CMS.INCRBY default a 1 b x".to_owned(),
            "-CMS: Cannot parse number",
        ),
        (
            "CMS.INCRBY default a 1 b -1".into(),
            "-CMS: Number cannot be negative",
        ),
        (
            format!("CMS.INCRBY default a 1 b {}", MAX_WEIGHT + 1),
            "-CMS: Number is above 1048576, the largest that is taken here",
        ),
        (
            format!("CMS.INCRBY default a 1 {key} 1"),
            "-ERR an item has at most 1024 bytes",
        ),
        (
            format!("CMS.QUERY default a {key}"),
            "-ERR an item has at most 1024 bytes",
        ),
        (
            format!("TOPK.ADD other a {key}"),
            "-ERR an item has at most 1024 bytes",
        ),
        (
            format!("CL.THROTTLE {key} 1 1 60"),
            "-ERR an item has at most 1024 bytes",
        ),
        (
            format!("RMBD.HIT default a {} 1 0", MAX_WEIGHT + 1),
            "-ERR the weight is above 1048576, the largest that is taken here",
        ),
        (
            "RMBD.HIT default a 1 1 61s".into(),
            "-ERR the sketch default keeps no window of 61s: start the node with --sketch name=default,windows=1m+61s",
        ),
        (
            "RMBD.HIT default a 1 1 x".into(),
            "-ERR the window is not a length of time in whole milliseconds: write a number and ms, s, m, h or d, such as 60s, or 0 for all time",
        ),
        (
            "RMBD.HIT nope a 1 1 0".into(),
            "-ERR there is no sketch of this name",
        ),
        (
            "RMBD.HIT default a -1 1 0".into(),
            "-ERR value is not an integer or out of range",
        ),
    ] {
        assert_eq!(thread.ask(&line), format!("{reply}\r\n"), "{line}");
    }
    assert_eq!(thread.ask("CMS.QUERY default a b"), "*2\r\n:0\r\n:0\r\n");
    assert_eq!(thread.ask("CMS.QUERY other a"), "*1\r\n:0\r\n");
}

#[test]
fn limits_are_kept_and_told() {
    let mut thread = Thread::open();
    assert_eq!(
        thread.ask("RMBD.HIT default h 3 2 0"),
        "*4\r\n:0\r\n:3\r\n:0\r\n:-1\r\n"
    );
    assert_eq!(
        thread.ask("RMBD.TAKE default t 2 3 0"),
        "*4\r\n:1\r\n:2\r\n:1\r\n:0\r\n"
    );
    assert_eq!(
        thread.ask("RMBD.TAKE default t 2 3 0"),
        "*4\r\n:0\r\n:2\r\n:1\r\n:-1\r\n"
    );
    assert_eq!(
        thread.ask("RMBD.TAKE default t 0 3 60s"),
        "*4\r\n:1\r\n:2\r\n:1\r\n:0\r\n"
    );
    // As a redis-cell would say it of a limit of 2 a minute.
    assert_eq!(
        thread.ask("CL.THROTTLE c 5 2 60 0"),
        "*5\r\n:0\r\n:2\r\n:2\r\n:-1\r\n:0\r\n"
    );
    assert_eq!(
        thread.ask("CL.THROTTLE c 5 2 60"),
        "*5\r\n:0\r\n:2\r\n:1\r\n:-1\r\n:60\r\n"
    );
    assert_eq!(
        thread.ask("CL.THROTTLE c 5 2 60"),
        "*5\r\n:0\r\n:2\r\n:0\r\n:-1\r\n:60\r\n"
    );
    let refused = thread.ask("CL.THROTTLE c 5 2 60");
    let numbers: Vec<i64> = refused
        .split("\r\n:")
        .skip(1)
        .map(|n| n.trim().parse().unwrap())
        .collect();
    assert_eq!(
        (numbers[0], numbers[1], numbers[2], numbers[4]),
        (1, 2, 0, 60)
    );
    assert!((1..=65).contains(&numbers[3]), "{refused}");
    // More than there ever is room for.
    assert_eq!(
        thread.ask("CL.THROTTLE d 5 2 60 3"),
        "*5\r\n:1\r\n:2\r\n:2\r\n:-1\r\n:0\r\n"
    );
    for (line, reply) in [
        (
            "CL.THROTTLE c 5 2 61",
            "-ERR the sketch default keeps no window of 61s: start the node with --sketch name=default,windows=1m+61s",
        ),
        (
            "CL.THROTTLE c 5 0 60",
            "-Cell error: Zero rates are not supported",
        ),
        (
            "CL.THROTTLE c 5 2 0",
            "-Cell error: Zero rates are not supported",
        ),
        (
            "CL.THROTTLE c x 2 60",
            "-Cell error: Couldn't parse as integer: x",
        ),
        (
            "CL.THROTTLE c 5 2 60 -1",
            "-Cell error: Negative numbers are not supported",
        ),
        (
            "CL.THROTTLE c 5 2",
            "-Cell error: Usage: cl.throttle <key> <max_burst> <count per period> <period> [<quantity>]",
        ),
    ] {
        assert_eq!(thread.ask(line), format!("{reply}\r\n"));
    }
}

#[test]
fn a_list_of_keys_is_for_who_may_see_them() {
    let mut thread = Thread::open();
    let shared = Arc::clone(thread.0.port.shared());
    let own = shared.engine().registry().sketches()[1].replica.own();
    let key = |name: Option<&[u8]>, estimate| ToldKey {
        hash: own.hash(name.unwrap_or(b"untold")).unwrap(),
        name: name.map(Into::into),
        estimate,
        certain: 0,
        by_node: Vec::new(),
    };
    assert_eq!(thread.ask("TOPK.LIST other"), "*0\r\n");
    let told = ToldLists {
        made: Duration::ZERO,
        lists: vec![ToldList {
            span_ms: None,
            keys: vec![key(Some(b"a\0\xff"), 9), key(None, 8), key(Some(b"b"), 7)],
            total_weight: 24,
            complete_above: 0,
            is_incomplete: false,
        }],
    };
    let other = shared.engine().registry().by_name("other").unwrap();
    shared.engine().top().tell(other, told);
    assert_eq!(
        thread.ask("TOPK.LIST other"),
        "*2\r\n$3\r\na\0\u{ff}\r\n$1\r\nb\r\n"
    );
    assert_eq!(
        thread.ask("topk.list other withcount"),
        "*4\r\n$3\r\na\0\u{ff}\r\n:9\r\n$1\r\nb\r\n:7\r\n"
    );
    assert_eq!(
        thread.ask("TOPK.QUERY other b untold c"),
        "*3\r\n:1\r\n:1\r\n:0\r\n"
    );
    assert_eq!(
        thread.ask("TOPK.LIST default"),
        "-TopK: key does not exist\r\n"
    );
    thread.0.opened(0, THERE.parse().unwrap());
    assert_eq!(
        thread.ask("TOPK.LIST other"),
        "-NOPERM this address may not see keys: name it with --show-keys\r\n"
    );
    assert_eq!(thread.ask("TOPK.QUERY other b"), "*1\r\n:1\r\n");
}

#[test]
fn who_does_not_know_the_password_can_only_show_it() {
    let path = std::env::temp_dir().join(format!("rmbd-resp-{}", std::process::id()));
    std::fs::write(&path, "secret\n").unwrap();
    let config = NodeConfig {
        resp: RespConfig {
            password_file: Some(path.clone()),
            ..RespConfig::default()
        },
        ..NodeConfig::at("127.0.0.1:0")
    };
    let mut thread = Thread::new(&config);
    std::fs::remove_file(&path).unwrap();
    let refused = "-NOAUTH Authentication required.\r\n";
    for line in ["PING", "CMS.QUERY default a", "INFO", "COMMAND"] {
        assert_eq!(thread.ask(line), refused);
    }
    assert!(
        thread
            .ask("HELLO 3")
            .starts_with("-NOAUTH HELLO must be called")
    );
    assert!(thread.ask("AUTH wrong").starts_with("-WRONGPASS"));
    assert!(
        thread
            .ask("HELLO 3 AUTH somebody secret")
            .starts_with("-WRONGPASS")
    );
    assert_eq!(thread.ask("PING"), refused);
    assert!(
        thread
            .ask("HELLO 3 AUTH default secret")
            .starts_with("%7\r\n")
    );
    assert_eq!(thread.ask("CMS.QUERY default a"), "*1\r\n:0\r\n");
    assert_eq!(thread.ask("RESET"), "+RESET\r\n");
    assert_eq!(thread.ask("PING"), refused);
    assert_eq!(thread.ask("AUTH secret"), "+OK\r\n");
    assert_eq!(thread.ask("PING"), "+PONG\r\n");
    // A connection that comes later on the same place knows nothing.
    thread.0.closed(0, Closed::ByClient);
    thread.0.opened(0, HERE.parse().unwrap());
    let (text, then) = thread.send(b"*11\r\n");
    assert_eq!(
        (text.as_str(), then),
        (
            "-ERR Protocol error: unauthenticated multibulk length\r\n",
            Then::End
        )
    );
    thread.0.opened(0, HERE.parse().unwrap());
    let guesses = "AUTH guess\r\n".repeat(20);
    let (text, then) = thread.send(guesses.as_bytes());
    assert_eq!((text.matches("-WRONGPASS").count(), then), (9, Then::End));
    assert_eq!(thread.0.desk.tally.wrong_passwords, 2 + 9);
    assert_eq!(thread.0.desk.tally.protocol_errors, 1);
}

#[test]
fn an_address_beyond_loopback_takes_a_password_or_a_list() {
    let new = |config: &NodeConfig, bound: &str| {
        let limits = Arc::new(LimitsInForce::new(&[]));
        let stop = Stop::new().unwrap();
        let shared = Shared::since(std::time::Instant::now(), engine(), limits, stop);
        let port = Arc::new(ClientPort::new(config, Arc::new(shared), None, 0));
        RespPort::new(config, bound.parse().unwrap(), port)
    };
    let open = NodeConfig::at("127.0.0.1:0");
    for bound in ["0.0.0.0:6379", "192.0.2.1:6379", "[::]:6379"] {
        let error = new(&open, bound).err().unwrap();
        assert!(matches!(error, RespError::Open(_)), "{error}");
        let text = error.to_string();
        assert!(
            text.contains("--allow") && text.contains("--resp-password-file"),
            "{text}"
        );
    }
    for bound in ["127.0.0.1:6379", "[::1]:6379", "127.1.2.3:1"] {
        assert!(new(&open, bound).is_ok(), "{bound}");
    }
    let listed = NodeConfig {
        allow: vec!["10.0.0.0/8".parse().unwrap()],
        ..NodeConfig::at("127.0.0.1:0")
    };
    assert!(new(&listed, "0.0.0.0:6379").is_ok());
    let mut thread = Thread::new(&NodeConfig {
        allow: vec!["127.0.0.0/8".parse().unwrap()],
        ..NodeConfig::at("127.0.0.1:0")
    });
    assert!(!thread.0.opened(1, THERE.parse().unwrap()));
    assert_eq!(thread.0.turned_away(THERE.parse().unwrap()), b"");
    assert_eq!(thread.0.turned_away(HERE.parse().unwrap()), NO_PLACE);
    let tally = &thread.0.desk.tally;
    assert_eq!(
        (
            tally.connections_not_allowed,
            tally.connections_without_place
        ),
        (2, 1)
    );
}

#[test]
fn replies_that_nobody_reads_stop_the_pipeline_and_it_goes_on_later() {
    let mut thread = Thread::open();
    let pipeline = command::<&[u8]>(&[b"ECHO", &[b'x'; 1_000]]).repeat(1_000);
    let (mut out, mut left, mut rounds) = (Vec::new(), &pipeline[..], 0);
    while !left.is_empty() {
        let mut unread = Vec::new();
        let taken = thread
            .0
            .received(0, left, &mut StreamReplies::new(&mut unread));
        assert!(
            unread.len() < REPLIES_FULL_BYTES + 2_000,
            "{}",
            unread.len()
        );
        left = &left[taken.bytes..];
        assert_eq!(taken.then == Then::Room, !left.is_empty());
        out.extend(unread);
        rounds += 1;
    }
    assert_eq!(rounds, 4);
    assert_eq!(out.len(), 1_000 * 1_009);
}

#[test]
fn what_is_no_command_ends_the_connection_with_one_error() {
    for (bytes, error) in [
        (
            b"PING\r\n*x\r\nPING\r\n".to_vec(),
            "invalid multibulk length",
        ),
        (b"PING\r\n*1\r\n:1\r\n".to_vec(), "expected '$', got ':'"),
        (
            b"PING\r\n*2147483648\r\n".to_vec(),
            "invalid multibulk length",
        ),
        (b"PING\r\n\"\r\n".to_vec(), "unbalanced quotes in request"),
        (
            [b"PING\r\n", &[b'x'; INLINE_BYTES_MAX + 1][..]].concat(),
            "too big inline request",
        ),
        (
            format!("PING\r\n*1\r\n${}\r\n", WORD_BYTES_MAX + 1).into_bytes(),
            "invalid bulk length",
        ),
    ] {
        let (text, then) = Thread::open().send(&bytes);
        assert_eq!(text, format!("+PONG\r\n-ERR Protocol error: {error}\r\n"));
        assert_eq!(then, Then::End);
    }
    let (text, then) = Thread::open().send(b"QUIT\r\nPING\r\n");
    assert_eq!((text.as_str(), then), ("+OK\r\n", Then::End));
}

/// No pass comes here that would give weight back.
#[test]
fn more_weight_than_can_be_taken_over_is_refused_and_not_lost() {
    let mut thread = Thread::open();
    let pair = format!(" k {MAX_WEIGHT}");
    let line = format!("CMS.INCRBY default{}", pair.repeat(256));
    let mut taken = 0_u64;
    loop {
        let reply = thread.ask(&line);
        if !reply.starts_with('*') {
            assert!(reply.starts_with("-TRYAGAIN more weight came"), "{reply}");
            break;
        }
        taken += 256 * u64::from(MAX_WEIGHT);
        assert!(reply.ends_with(&format!(":{taken}\r\n")));
    }
    assert!(taken > 1 << 30, "{taken}");
    assert_eq!(
        thread.ask("CMS.QUERY default k"),
        format!("*1\r\n:{taken}\r\n")
    );
    let too_much = format!("CMS.INCRBY default{}", pair.repeat(600));
    assert!(
        Thread::open()
            .ask(&too_much)
            .starts_with("-ERR all weights of a request")
    );
}

#[test]
fn many_keys_are_one_command_and_many_commands_one_pipeline() {
    let mut thread = Thread::open();
    let keys: Vec<Vec<u8>> = (0..2_000_u32)
        .map(|key| key.to_be_bytes().to_vec())
        .collect();
    let mut words: Vec<&[u8]> = vec![b"CMS.INCRBY", b"default"];
    words.extend(keys.iter().flat_map(|key| [&key[..], b"3"]));
    let (text, _) = thread.send(&command(&words));
    assert!(text == format!("*2000\r\n{}", ":3\r\n".repeat(2_000)));
    let pipeline: Vec<u8> = (keys.iter())
        .flat_map(|key| command::<&[u8]>(&[b"CMS.INCRBY", b"default", key, b"1"]))
        .collect();
    let (text, _) = thread.send(&pipeline);
    assert!(text == "*1\r\n:4\r\n".repeat(2_000));
    assert_eq!(thread.0.desk.tally.commands, 2_001);
}
