//! Tests of sketches, windows and limits as a program around a node uses them, without the network.

use std::time::Duration;

use rmbd::config::{IoChoice, LimitConfig, LimitVerdict, NodeConfig, SketchWish};
use rmbd::engine::{Refusal, Verdict};
use rmbd::node::{AddError, AskError, Node};
use rmbd_client::{Client, ClientOptions, Window};
use rmbd_proto::SketchName;
use rmbd_store::Reading;

use crate::support::{PATIENCE, config};

const MINUTE: Duration = Duration::from_secs(60);

/// A node with a sketch `logins` that keeps a minute by 5 s, and a limit of 5 a minute in it.
fn node() -> Node {
    let config = config(IoChoice::Mmsg);
    let wish: SketchWish = "name=logins,width=65536,depth=4,windows=60s/5s"
        .parse()
        .unwrap();
    Node::start(NodeConfig {
        sketches: vec![wish.plan(config.family).unwrap()],
        limits: vec![LimitConfig {
            name: "five".parse().unwrap(),
            sketch: "logins".parse().unwrap(),
            keys: "*".parse().unwrap(),
            amounts: vec!["5/60s".parse().unwrap()],
            cost: 1,
            verdict: LimitVerdict::Take,
            overrides: vec![],
            exempt: vec![],
            shadow: false,
        }],
        max_weight: 1_000,
        ..config
    })
    .unwrap()
}

#[test]
fn sketches_are_apart_and_shared_with_clients() {
    let node = node();
    let logins = node.sketch("logins").unwrap();
    logins.add(b"a", 7).unwrap();
    node.add(b"a", 1).unwrap();
    assert_eq!(logins.estimate(b"a").count, 7);
    assert_eq!(node.estimate(b"a").count, 1);
    assert_eq!(node.sketch("default").unwrap().estimate(b"a").count, 1);
    let own: Vec<(u32, bool, u64)> = (node.status().cluster.slices.iter())
        .map(|slice| (slice.sketch, slice.own, slice.weight))
        .collect();
    let number = "logins".parse::<SketchName>().unwrap().number().0;
    assert_eq!(own, [(0, true, 1), (number, true, 7)]);
    let options = ClientOptions {
        timeout: PATIENCE,
        ..ClientOptions::default()
    };
    let mut client = Client::connect(node.udp_addr(), options).unwrap();
    let mut remote = client.sketch("logins").unwrap();
    remote.add("a", 2).unwrap();
    assert_eq!(remote.count("a").unwrap().estimate, 9);
    let window = Window::bound(MINUTE);
    let counts = remote.count_many_in(&["a", "b"], window).unwrap();
    let counts: Vec<_> = counts.iter().map(|count| count.estimate).collect();
    assert_eq!(counts, [9, 0]);
    let counts = remote.count_many(&["b", "a"]).unwrap();
    assert_eq!(counts[1].estimate, 9);
    assert_eq!(logins.estimate(b"a").count, 9);
    let (hit, verdict) = logins.hit(b"a", 1, 9).unwrap();
    assert_eq!((hit.count, verdict), (10, Verdict::Over));
    let unknown = node.sketch("login").unwrap_err();
    assert_eq!(
        unknown.to_string(),
        "the node has no sketch \"login\", it has default, logins"
    );
    node.stop().unwrap();
}

#[test]
fn counts_in_windows() {
    let node = node();
    let logins = node.sketch("logins").unwrap();
    logins.add(b"a", 7).unwrap();
    for span in [MINUTE, Duration::from_secs(5), Duration::ZERO] {
        for reading in [Reading::Bound, Reading::Smooth] {
            let estimate = logins.estimate_in(b"a", span, reading).unwrap();
            assert_eq!(estimate.count, 7);
            assert!(!estimate.overflowed);
            // The node has not been there for so long.
            assert_eq!(estimate.incomplete, !span.is_zero());
        }
    }
    for span in [Duration::from_nanos(1), MINUTE * 2, Duration::MAX] {
        let unknown = logins.estimate_in(b"a", span, Reading::Bound).unwrap_err();
        assert!(unknown.to_string().contains("possible are"), "{unknown}");
    }
    node.stop().unwrap();
}

#[test]
fn limits_take_and_count() {
    let node = node();
    let logins = node.sketch("logins").unwrap();
    for n in 1..=4_u64 {
        let counted = logins.hit_in(b"counts", 1, 2, MINUTE).unwrap();
        assert_eq!((counted.estimate, counted.is_over), (n, n > 2));
        let taken = logins.take(b"takes", 1, 2, MINUTE).unwrap();
        assert_eq!((taken.estimate, taken.is_over), (n.min(2), n > 2));
        assert_eq!(taken.remaining, 2_u64.saturating_sub(n));
        let wait = taken.retry_after.unwrap();
        assert_eq!(wait > Duration::ZERO, taken.is_over, "{wait:?}");
    }
    let never = logins.take(b"k", 3, 2, Duration::ZERO).unwrap();
    assert_eq!((never.is_over, never.retry_after), (true, None));
    assert_eq!(logins.estimate(b"k").count, 0);
    let error = logins.take(b"k", 1_001, 2, MINUTE).unwrap_err();
    assert!(matches!(error, AskError::Weight(_)), "{error}");
    let error = logins.take(b"k", 1, 2, MINUTE * 2).unwrap_err();
    assert!(matches!(error, AskError::Window(_)), "{error}");
    let error = logins.add(b"k", 1_001).unwrap_err();
    assert!(matches!(error, AddError::Weight(_)), "{error}");
    node.stop().unwrap();
}

#[test]
fn limits_by_their_names() {
    let node = node();
    let within = (0..8).filter(|_| !node.hit_by_name("five", b"a", 1).unwrap().is_over);
    assert_eq!(within.count(), 5);
    assert_eq!(node.sketch("logins").unwrap().estimate(b"a").count, 5);
    let error = node.hit_by_name("six", b"a", 1).unwrap_err();
    assert_eq!(error, AskError::Refused(Refusal::UnknownLimit));
    let status = node.status();
    assert_eq!((status.limits[0].asked, status.limits[0].over), (8, 3));
    node.stop().unwrap();
}

/// Threads that take at once are let through one after another, since they share the node's session.
#[test]
fn threads_take_no_more_than_there_is() {
    let node = node();
    let logins = node.sketch("logins").unwrap();
    let taken: usize = std::thread::scope(|scope| {
        let takers = (0..4).map(|_| {
            scope.spawn(move || {
                let takes = (0..50).map(|_| logins.take(b"shared", 1, 30, MINUTE).unwrap());
                takes.filter(|taken| !taken.is_over).count()
            })
        });
        let takers: Vec<_> = takers.collect();
        takers.into_iter().map(|taker| taker.join().unwrap()).sum()
    });
    assert_eq!(taken, 30);
    node.stop().unwrap();
}
