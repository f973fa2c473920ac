//! Tests of nodes that answer for each other: joining, leaving, coming back, strangers, and one-way pushes.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::path::PathBuf;

use rmbd::config::{ClusterChoice, ClusterConfig, HostPort, IoChoice, NodeConfig};
use rmbd::node::{Node, NodeError};
use rmbd::status::{Detail, MemberStatus, OtherSketch, Status};
use rmbd_client::{Client, ClientOptions};
use rmbd_proto::compact::{
    self, HASH_XXH3, Info, REPLY_HEAD_BYTES, ReplyHead, encode_info, is_request, write_reply_head,
};
use rmbd_proto::legacy::{ACK, Dialect, encode_peer, encode_sync};
use rmbd_proto::{Boot, Writer};
use rmbd_sketch::{Geometry, HashFamily};

use crate::support::{BACKENDS, PATIENCE, client_of, config, wait_for};
use rmbd_testkit::proxy::{Harm, Proxy};

/// The configuration of a node that joins these, with short rounds.
fn member(io: IoChoice, seeds: &[&Node]) -> NodeConfig {
    let address = |node: &&Node| host_port(node.cluster_addr().unwrap());
    NodeConfig {
        cluster: ClusterConfig {
            gossip_interval_ms: 50,
            ..ClusterConfig::joining(seeds.iter().map(address))
        },
        ..config(io)
    }
}

fn host_port(address: SocketAddr) -> HostPort {
    address.to_string().parse().unwrap()
}

fn alive(status: &Status) -> usize {
    let members = status.cluster.members.iter();
    members.filter(|member| member.state == "alive").count()
}

fn wait_for_members(nodes: &[&Node]) {
    for node in nodes {
        wait_for(node, "members", |status| alive(status) + 1 == nodes.len());
    }
}

/// Waits until every node answers `count` for the key.
fn wait_for_count(nodes: &[&Node], key: &str, count: u64) {
    for node in nodes {
        wait_for(node, &format!("{key} = {count}"), |_| {
            node.estimate(key.as_bytes()).count == count
        });
    }
}

/// Waits for some rounds, in which an error would show.
fn rounds_pass(node: &Node) {
    let now = node.status().cluster.rounds;
    wait_for(node, "rounds", |status| status.cluster.rounds > now + 6);
}

fn get(node: &Node, path: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(node.http_addr().unwrap()).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    )
    .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let code = answer.split(' ').nth(1).unwrap().parse().unwrap();
    (code, answer.split_once("\r\n\r\n").unwrap().1.to_owned())
}

/// A folder that is removed after the test.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let name = format!("rmbd-cluster-{}-{name}", std::process::id());
        let path = std::env::temp_dir().join(name);
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[test]
fn three_nodes_join_and_count_together() {
    for io in BACKENDS {
        let a = Node::start(member(io, &[])).unwrap();
        let b = Node::start(member(io, &[&a])).unwrap();
        // The node knows only a, and hears of b from it.
        let c = Node::start(member(io, &[&a])).unwrap();
        let nodes = [&a, &b, &c];
        wait_for_members(&nodes);
        for (node, times) in [(&a, 1), (&b, 10), (&c, 100)] {
            let mut client = Client::connect(node.udp_addr(), ClientOptions::default()).unwrap();
            client.add("apple", times).unwrap();
        }
        wait_for_count(&nodes, "apple", 111);
        // The state stays so.
        rounds_pass(&a);
        wait_for_count(&nodes, "apple", 111);

        let equal = |status: &Status| {
            let members = &status.cluster.members;
            members.iter().all(|member| member.lag_versions == 0)
        };
        let status = wait_for(&a, "no lag", equal);
        let cluster = &status.cluster;
        assert!(cluster.enabled && status.is_ready() && !cluster.sealed);
        assert_eq!(cluster.address, cluster.advertised);
        assert_eq!(cluster.address, a.cluster_addr().map(|at| at.to_string()));
        let weights: Vec<u64> = cluster.slices.iter().map(|slice| slice.weight).collect();
        assert_eq!((weights.len(), weights.iter().sum()), (3, 111));
        assert!(cluster.slices[0].own && cluster.slices[0].weight == 1);
        assert!(cluster.datagrams_sent > 0 && cluster.bytes_sent["pushes"] > 0);
        assert!(cluster.convergence_age_s.is_some());

        let (code, body) = get(&b, "/detail?key=%61pple");
        let detail: Detail = serde_json::from_str(&body).unwrap();
        assert_eq!((code, detail.count, detail.origins.len()), (200, 111, 3));
        let own = &detail.origins[0];
        assert!(own.own && own.count == 10);
        assert_eq!(own.node.as_deref(), Some(&*b.status().cluster.node));
        let (_, body) = get(&b, "/detail?sketch=default&window=60s&key=apple");
        let detail: Detail = serde_json::from_str(&body).unwrap();
        // What the others counted before b came may be told as older than the window.
        let window = detail.window.unwrap();
        assert!((10..=111).contains(&window.bound) && window.smooth <= window.bound);
        assert_eq!((window.span_ms, window.error), (60_000, 0), "{window:?}");
        let (_, metrics) = get(&c, "/metrics");
        assert!(metrics.contains("rmbd_cluster_members{state=\"alive\"} 2\n"));
        assert!(metrics.contains("rmbd_cluster_slices 3\n"));
    }
}

#[test]
fn an_end_that_is_asked_for_loses_nothing_and_is_announced() {
    for io in BACKENDS {
        let a = Node::start(member(io, &[])).unwrap();
        let b = Node::start(member(io, &[&a])).unwrap();
        wait_for_members(&[&a, &b]);
        let client = client_of(&b);
        // The add is not acknowledged, and perhaps not even read when the end comes.
        let add = rmbd_proto::legacy::encode_add(b"last");
        for _ in 0..500 {
            client.send(&add).unwrap();
        }
        b.add(b"last", 1_000).unwrap();
        let last = b.stop().unwrap();
        assert_eq!((last.messages.add, last.ready), (500, false));
        assert_eq!(a.estimate(b"last").count, 1_500, "{io}");
        let left = |status: &Status| alive(status) == 0;
        wait_for(&a, "the good-bye", left);
        rounds_pass(&a);
        assert_eq!(a.estimate(b"last").count, 1_500, "what it counted stays");
    }
}

#[test]
fn a_node_that_comes_back_is_the_same_and_counts_what_it_had_counted() {
    for io in BACKENDS {
        let folder = Folder::new(&format!("back-{io}"));
        let stable = |seeds: &[&Node]| {
            let mut config = member(io, seeds);
            config.cluster.data_dir = Some(folder.0.join("data"));
            config
        };
        let a = Node::start(member(io, &[])).unwrap();
        let b = Node::start(stable(&[&a])).unwrap();
        // No other node may have the same id meanwhile.
        let error = Node::start(stable(&[&a])).map(drop).unwrap_err();
        assert!(matches!(error, NodeError::DataDir(_)), "{error}");
        wait_for_members(&[&a, &b]);
        b.add(b"key", 5).unwrap();
        wait_for_count(&[&a], "key", 5);
        let before = b.stop().unwrap().cluster;

        let b = Node::start(stable(&[&a])).unwrap();
        let after = b.status().cluster;
        assert_eq!(after.node, before.node);
        assert_ne!(after.boot, before.boot);
        wait_for_count(&[&a, &b], "key", 5);
        b.add(b"key", 2).unwrap();
        wait_for_count(&[&a, &b], "key", 7);
        rounds_pass(&a);
        wait_for_count(&[&a, &b], "key", 7);
        let (_, body) = get(&a, "/detail?key=key");
        let detail: Detail = serde_json::from_str(&body).unwrap();
        let of_b = detail.origins.iter().find(|origin| !origin.own).unwrap();
        // It had ended in order, and so went on with its slice.
        assert_eq!((of_b.slices, of_b.count), (1, 7));
    }
}

#[test]
fn who_has_another_key_is_refused_and_who_has_another_sketch_exchanges_nothing() {
    let folder = Folder::new("strangers");
    let key_file = |name: &str, key: &str| {
        let path = folder.0.join(name);
        std::fs::write(&path, key.repeat(32)).unwrap();
        Some(path)
    };
    let (ours, theirs) = (key_file("ours", "ab"), key_file("theirs", "cd"));
    let sealed = |seeds: &[&Node]| {
        let mut config = member(IoChoice::Auto, seeds);
        config.cluster.key_file.clone_from(&ours);
        config
    };
    let a = Node::start(sealed(&[])).unwrap();
    assert!(a.status().cluster.sealed);
    let other_key = {
        let mut config = sealed(&[&a]);
        config.cluster.key_file = theirs;
        config
    };
    let no_key = member(IoChoice::Auto, &[&a]);
    let other_width = NodeConfig {
        geometry: Geometry::new(1 << 11, 4).unwrap(),
        ..sealed(&[&a])
    };
    let other_seed = NodeConfig {
        family: HashFamily::Xxh3 { seed: 7 },
        ..sealed(&[&a])
    };
    for (stranger, reason) in [(other_key, "forged"), (no_key, "forged")] {
        let before = a.status().cluster.refused.get(reason).copied();
        let stranger = Node::start(stranger).unwrap();
        stranger.add(b"key", 9).unwrap();
        let refused = |status: &Status| {
            let count = status.cluster.refused.get(reason).copied();
            count.unwrap_or(0) >= before.unwrap_or(0) + 2
        };
        wait_for(&a, reason, refused);
        let cluster = a.status().cluster;
        assert_eq!((cluster.members.len(), cluster.slices.len()), (0, 1));
        assert_eq!(a.estimate(b"key").count, 0);
        drop(stranger);
    }
    // A node with the key is a member, even with another sketch; nothing of the sketch is exchanged.
    for other in [other_width, other_seed] {
        let other = Node::start(other).unwrap();
        other.add(b"key", 9).unwrap();
        wait_for_members(&[&a, &other]);
        for (node, theirs) in [(&a, &other), (&other, &a)] {
            let is_named = |status: &Status| {
                let up = |member: &&MemberStatus| member.state == "alive";
                let mut members = status.cluster.members.iter().filter(up);
                members.all(|member| !member.other_sketches.is_empty())
            };
            let status = wait_for(node, "the other sketch", is_named);
            let mut members = status.cluster.members.iter();
            let member = members.rfind(|member| member.state == "alive");
            let member = member.unwrap();
            let expected = OtherSketch {
                sketch: 0,
                fingerprint: Some(theirs.status().compact.fingerprint),
            };
            assert_eq!(member.other_sketches, [expected]);
            assert_eq!(member.writer, Some(theirs.status().cluster.writer));
            assert_eq!(status.cluster.slices.len(), 1);
            wait_for(node, "as ready as it will be", Status::is_ready);
            let (code, body) = get(node, "/readyz");
            assert_eq!(code, 200);
            assert!(
                body.contains("of another sketch") && body.contains("width, depth, hash"),
                "{body}"
            );
        }
        assert_eq!(
            (a.estimate(b"key").count, other.estimate(b"key").count),
            (0, 9)
        );
        other.stop().unwrap();
    }
    let friend = Node::start(sealed(&[&a])).unwrap();
    wait_for_members(&[&a, &friend]);
}

#[test]
fn readiness_waits_for_the_first_sync_or_its_time() {
    // Nobody answers at this address.
    let silent = UdpSocket::bind("127.0.0.1:0").unwrap();
    let seed = host_port(silent.local_addr().unwrap());
    let lone = Node::start(NodeConfig {
        cluster: ClusterConfig::joining([seed]),
        ..config(IoChoice::Auto)
    })
    .unwrap();
    let (code, body) = get(&lone, "/readyz");
    assert_eq!(code, 503);
    assert!(
        body.contains("no member that --join names has answered"),
        "{body}"
    );
    assert!(!lone.status().is_ready() && lone.status().ready);
    // The node serves all the same.
    let mut client = Client::connect(lone.udp_addr(), ClientOptions::default()).unwrap();
    client.add("key", 1).unwrap();

    let a = Node::start(member(IoChoice::Auto, &[])).unwrap();
    assert_eq!(get(&a, "/readyz"), (200, "ready\n".to_owned()));
    let b = Node::start(member(IoChoice::Auto, &[&a])).unwrap();
    wait_for(&b, "its first sync", Status::is_ready);
    assert!(b.status().uptime_s < 9.0, "not by the limit");
    wait_for(&lone, "the limit", Status::is_ready);
    let (code, body) = get(&lone, "/readyz");
    assert_eq!(code, 200);
    assert!(
        body.contains("but without the cluster: no member"),
        "{body}"
    );
}

#[test]
fn what_is_not_held_for_want_of_room_is_said() {
    let a = Node::start(member(IoChoice::Auto, &[])).unwrap();
    let mut small = member(IoChoice::Auto, &[&a]);
    small.cluster.max_origins = 1;
    let b = Node::start(small).unwrap();
    let c = Node::start(member(IoChoice::Auto, &[&a])).unwrap();
    wait_for_members(&[&a, &b, &c]);
    a.add(b"key", 1).unwrap();
    c.add(b"key", 1).unwrap();
    wait_for_count(&[&a, &c], "key", 2);
    let status = wait_for(&b, "a refused slice", |status| {
        !status.cluster.slices_refused.is_empty()
    });
    assert_eq!(b.estimate(b"key").count, 1);
    wait_for(&b, "as ready as it will be", Status::is_ready);
    let (code, body) = get(&b, "/readyz");
    assert_eq!(code, 200);
    assert!(body.contains("--max-origins"), "{body}");
    let missing = &status.cluster.slices_refused[0];
    assert!(body.contains(missing), "{body} does not name {missing}");
}

#[test]
fn no_cluster_is_said_with_its_reason() {
    let node = Node::start(NodeConfig {
        cluster: ClusterConfig {
            address: ClusterChoice::Off,
            ..ClusterConfig::default()
        },
        ..config(IoChoice::Auto)
    })
    .unwrap();
    assert_eq!(node.cluster_addr(), None);
    let cluster = node.status().cluster;
    assert_eq!(cluster.off_because.as_deref(), Some("--cluster off"));
    assert!(node.status().is_ready() && !cluster.enabled);
    // A wildcard without a key serves, too.
    let wildcard = Node::start(NodeConfig {
        address: "0.0.0.0:0".into(),
        ..config(IoChoice::Auto)
    })
    .unwrap();
    let reason = wildcard.status().cluster.off_because.unwrap();
    assert!(
        reason.contains("alone") && reason.contains("key"),
        "{reason}"
    );
}

/// Members reach each other on a wildcard of both families, a wildcard of IPv4, and loopback.
#[test]
fn members_reach_each_other_through_every_kind_of_socket() {
    let at = |address: &str, seeds: &[&Node]| {
        let mut config = member(IoChoice::Auto, &[]);
        config.cluster.address = ClusterChoice::At(address.into());
        config.cluster.insecure = true;
        config.cluster.advertise = Some("127.0.0.1:0".parse().unwrap());
        let port = |seed: &&Node| seed.cluster_addr().unwrap().port();
        let reached = |seed: &&Node| host_port(([127, 0, 0, 1], port(seed)).into());
        config.cluster.join = seeds.iter().map(reached).collect();
        config
    };
    let a = Node::start(at("[::]:0", &[])).unwrap();
    let b = Node::start(at("0.0.0.0:0", &[&a])).unwrap();
    let c = Node::start(at("127.0.0.1:0", &[&a])).unwrap();
    let nodes = [&a, &b, &c];
    wait_for_members(&nodes);
    for (weight, node) in [1, 10, 100].into_iter().zip(nodes) {
        node.add(b"key", weight).unwrap();
    }
    wait_for_count(&nodes, "key", 111);
}

/// Each node is reached through a lossy network of its own.
#[test]
fn a_network_that_loses_a_fifth_makes_no_difference_in_the_end() {
    const SEED: u64 = 0x5eed_0002;
    let mut proxies: Vec<Proxy> = Vec::new();
    let mut nodes = Vec::new();
    for number in 0..3 {
        let proxy = Proxy::one_way(Harm::A_FIFTH_LOST, SEED + number);
        let mut config = member(IoChoice::Auto, &[]);
        config.cluster.advertise = Some(host_port(proxy.address()));
        let seeds = proxies.iter().map(|proxy| host_port(proxy.address()));
        config.cluster.join = seeds.take(1).collect();
        let node = Node::start(config).unwrap();
        proxy.lead_to(node.cluster_addr().unwrap());
        proxies.push(proxy);
        nodes.push(node);
    }
    let nodes: Vec<&Node> = nodes.iter().collect();
    for node in &nodes {
        wait_for(node, "members", |status| status.cluster.members.len() == 2);
    }
    for round in 0..20_u32 {
        for (number, node) in nodes.iter().enumerate() {
            for key in 0..200_u32 {
                let key = format!("key {}", (key * 7 + round) % 500);
                node.add(key.as_bytes(), 1 + number as u32).unwrap();
            }
        }
        rounds_pass(nodes[0]);
    }
    // A slice's weight is that of its fullest row: only equal roots show that all rows are there.
    let slices = |status: &Status| {
        let slices = status.cluster.slices.iter();
        let mut slices: Vec<_> = slices
            .map(|slice| (slice.node.clone(), slice.weight, slice.root.clone()))
            .collect();
        slices.sort();
        slices
    };
    let all = 20 * 200;
    for node in &nodes {
        wait_for(node, &format!("all weights, seed {SEED:#x}"), |status| {
            let slices_here = slices(status);
            let total: u64 = slices_here.iter().map(|(_, weight, _)| weight).sum();
            let mut others = nodes.iter().map(|other| slices(&other.status()));
            total == all * (1 + 2 + 3) && others.all(|there| there == slices_here)
        });
    }
    for key in 0..500 {
        let key = format!("key {key}");
        let counts = nodes.iter().map(|node| node.estimate(key.as_bytes()));
        let counts: Vec<_> = counts.collect();
        assert!(
            counts.iter().all(|count| *count == counts[0]),
            "{key}: {counts:?}"
        );
    }
    assert!(proxies.iter().all(|proxy| proxy.counts().lost > 20));
    assert!(nodes.iter().any(|node| node.status().cluster.resends > 0));
}

#[test]
fn a_flood_of_strangers_costs_little_and_changes_nothing() {
    let a = Node::start(member(IoChoice::Auto, &[])).unwrap();
    let b = Node::start(member(IoChoice::Auto, &[&a])).unwrap();
    wait_for_members(&[&a, &b]);
    let stranger = UdpSocket::bind("127.0.0.1:0").unwrap();
    let target = a.cluster_addr().unwrap();
    let mut random = 0x5eed_u64;
    let mut sent = 0_u64;
    let paused = |status: &Status| status.cluster.flood_pauses > 20;
    while !paused(&a.status()) {
        for _ in 0..2_000 {
            random = random
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            let len = (random >> 33) as usize % 1_300;
            let noise = (0..len).map(|at| (random >> (at % 57)) as u8);
            // The first byte is a version that does not exist.
            let datagram: Vec<u8> = noise.map(|byte| byte | 0x80).collect();
            stranger.send_to(&datagram, target).unwrap();
            sent += 1;
        }
        assert!(sent < 10_000_000, "never paused: {:?}", a.status().cluster);
    }
    // Members are heard in between or after.
    b.add(b"key", 3).unwrap();
    wait_for_count(&[&a, &b], "key", 3);
    // Each datagram was refused, or dropped because its queue, which is not the members', was full.
    let of_others = |status: &Status| {
        let queues = status.cluster.queues.iter();
        let others = queues.filter(|queue| queue.name == "others");
        let came = others.map(|queue| queue.refused + queue.dropped_by_kernel);
        came.sum::<u64>() == sent
    };
    let cluster = wait_for(&a, "all of the flood", of_others).cluster;
    for queue in cluster.queues.iter().filter(|queue| queue.name != "others") {
        assert_eq!(
            (queue.refused, queue.dropped_by_kernel),
            (0, 0),
            "{queue:?}"
        );
    }
    assert_eq!((cluster.members.len(), cluster.slices.len()), (1, 2));
}

// --- peer, between nodes of ours ---

fn order(to: &Node, target: SocketAddr) -> String {
    let before = to
        .status()
        .peer_orders
        .last()
        .map_or(0, |order| order.number);
    let order = encode_peer(&target.ip().to_string(), target.port(), Dialect::Native).unwrap();
    client_of(to).send(&order).unwrap();
    let latest = |status: &Status| status.peer_orders.last().cloned();
    let decided = |status: &Status| latest(status).is_some_and(|order| order.number > before);
    let order = latest(&wait_for(to, "a decision", decided)).unwrap();
    assert!(order.accepted, "{order:?}");
    order.detail
}

#[test]
fn a_peer_order_between_nodes_of_ours_pushes_one_way_at_any_width() {
    for io in BACKENDS {
        let wide = |seeds: &[&Node]| NodeConfig {
            // The row is far too wide for the legacy protocol.
            geometry: Geometry::new(1 << 16, 2).unwrap(),
            ..member(io, seeds)
        };
        let (a, b) = (
            Node::start(wide(&[])).unwrap(),
            Node::start(wide(&[])).unwrap(),
        );
        a.add(b"key", 3).unwrap();
        b.add(b"key", 50).unwrap();
        let detail = order(&a, b.udp_addr());
        assert!(detail.contains("one way"), "{detail}");
        wait_for_count(&[&b], "key", 53);
        a.add(b"key", 1).unwrap();
        wait_for_count(&[&b], "key", 54);
        rounds_pass(&a);
        assert_eq!(a.estimate(b"key").count, 4, "nothing comes back");
        let status = a.status();
        assert_eq!((status.cluster.one_way.len(), status.peers.len()), (1, 0));

        // A third node joins a, and b learns of it through a; b joins, too. Nothing is counted twice.
        let c = Node::start(wide(&[&a])).unwrap();
        c.add(b"key", 600).unwrap();
        wait_for_count(&[&a, &c], "key", 604);
        wait_for_count(&[&b], "key", 654);
        let node = b.status().cluster.node;
        drop(b);
        let b = Node::start(wide(&[&a])).unwrap();
        assert_ne!(b.status().cluster.node, node);
        wait_for_members(&[&a, &b, &c]);
        b.add(b"key", 7_000).unwrap();
        wait_for_count(&[&a, &b, &c], "key", 7_604);
        let detail = order(&a, b.udp_addr());
        assert!(detail.contains("member of the cluster already"), "{detail}");
        rounds_pass(&a);
        wait_for_count(&[&a, &b, &c], "key", 7_604);
    }
}

/// A made-up program at a port that sends rows, and says of itself what a test wants.
struct Impostor {
    socket: UdpSocket,
    boot: Boot,
    writer: Writer,
    fingerprint: u64,
    cluster_port: u16,
}

impl Impostor {
    /// An impostor that claims to be `node`.
    fn of(node: &Node) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        let compact = node.status().compact;
        let number = |digits: &str| u64::from_str_radix(digits, 16).unwrap();
        Self {
            socket,
            boot: Boot(number(&compact.boot)),
            writer: Writer(number(&node.status().cluster.writer)),
            fingerprint: number(&compact.fingerprint),
            cluster_port: node.cluster_addr().unwrap().port(),
        }
    }

    fn address(&self) -> SocketAddr {
        self.socket.local_addr().unwrap()
    }

    /// The next datagram, and its sender.
    fn receive(&self) -> (Vec<u8>, SocketAddr) {
        let mut buffer = [0; 2048];
        let (len, from) = self.socket.recv_from(&mut buffer).unwrap();
        (buffer[..len].to_vec(), from)
    }

    fn answer(&self, question: &[u8], from: SocketAddr) {
        let request = compact::request(question).unwrap();
        let mut reply = vec![0; REPLY_HEAD_BYTES];
        let head = ReplyHead {
            id: request.id,
            done: 1,
            ..ReplyHead::default()
        };
        write_reply_head(head, reply.first_chunk_mut().unwrap());
        reply.extend(encode_info(&Info {
            boot: self.boot,
            fingerprint: self.fingerprint,
            width: 1 << 12,
            max_weight: 1,
            depth: 4,
            hash: HASH_XXH3,
            version: b"9",
            cluster_port: self.cluster_port,
            cookie: b"",
            writer: self.writer,
        }));
        self.socket.send_to(&reply, from).unwrap();
    }
}

/// Rows may have come before it was known that their sender is a node whose slices come, too.
#[test]
fn rows_of_a_node_whose_slices_are_held_are_dropped_and_refused() {
    let a = Node::start(member(IoChoice::Auto, &[])).unwrap();
    let b = Node::start(member(IoChoice::Auto, &[&a])).unwrap();
    wait_for_members(&[&a, &b]);
    b.add(b"key", 5).unwrap();
    wait_for_count(&[&a], "key", 5);
    let sender = Impostor::of(&b);
    let push = || {
        let mut bytes = Vec::new();
        for row in 0..4 {
            encode_sync(row, &[9; 1 << 12], Dialect::Native, &mut bytes);
            sender.socket.send_to(&bytes, a.udp_addr()).unwrap();
        }
    };
    push();
    wait_for_count(&[&a], "key", 14);
    // The impostor is asked what it is with the first row, and answers only the second time.
    let mut questions = 0;
    while questions < 2 {
        let (datagram, from) = sender.receive();
        if datagram == ACK {
            continue;
        }
        assert!(is_request(datagram[0]));
        questions += 1;
        if questions == 2 {
            sender.answer(&datagram, from);
        }
    }
    wait_for_count(&[&a], "key", 5);
    push();
    wait_for(&a, "refused rows", |status| {
        status.datagrams.refused.get("row_of_a_member") == Some(&4)
    });
    let (_, body) = get(&a, "/detail?key=key");
    let detail: Detail = serde_json::from_str(&body).unwrap();
    assert_eq!((detail.count, detail.origins.len()), (5, 2), "{detail:?}");
}

/// The network lost the question to the target, so rows went to it.
#[test]
fn a_target_that_says_later_what_it_is_gets_slices_instead_of_rows() {
    let a = Node::start(member(IoChoice::Auto, &[])).unwrap();
    let b = Node::start(member(IoChoice::Auto, &[])).unwrap();
    a.add(b"key", 4).unwrap();
    let target = Impostor::of(&b);
    let message = encode_peer("127.0.0.1", target.address().port(), Dialect::Native).unwrap();
    client_of(&a).send(&message).unwrap();
    let (mut questions, mut rows) = (0, 0);
    while questions < 4 {
        let (datagram, from) = target.receive();
        if !is_request(datagram[0]) {
            rows += 1;
            target.socket.send_to(&ACK, from).unwrap();
            continue;
        }
        questions += 1;
        if questions > 3 {
            assert!(rows > 0, "asked again while rows go");
            target.answer(&datagram, from);
        }
    }
    wait_for(&a, "the change", |status| {
        status.peers.is_empty() && status.cluster.one_way.len() == 1
    });
    wait_for_count(&[&b], "key", 4);
}

#[test]
fn a_target_with_another_sketch_is_refused() {
    let a = Node::start(member(IoChoice::Auto, &[])).unwrap();
    let b = Node::start(NodeConfig {
        family: HashFamily::Xxh3 { seed: 7 },
        ..member(IoChoice::Auto, &[])
    })
    .unwrap();
    let message = encode_peer("127.0.0.1", b.udp_addr().port(), Dialect::Native).unwrap();
    client_of(&a).send(&message).unwrap();
    let status = wait_for(&a, "a decision", |status| !status.peer_orders.is_empty());
    let order = &status.peer_orders[0];
    assert!(
        !order.accepted && order.detail.contains("--seed"),
        "{order:?}"
    );
    assert!(status.peers.is_empty() && status.cluster.one_way.is_empty());
}
