//! Sketches, windows and limits, with both clients and a whole node.

use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use rmbd::config::{NodeConfig, config_of_file};
use rmbd::node::Node;
use rmbd_client::{
    AsyncClient, Client, ClientError, Decided, Fate, Limit, Limits, OnFailure, Window,
};
use rmbd_proto::compact::Problem;
use rmbd_testkit::proxy::{Harm, Proxy};

use crate::{OPTIONS, config, key};

const SEED: u64 = 0x11A17;
const MINUTE: Duration = Duration::from_secs(60);
const CONFIG: &str = "
[[sketch]]
name = 'logins'
width = 65536
[[sketch.window]]
span = '60s'
step = '5s'

[[sketch]]
name = 'pages'
width = 65536

[[limit]]
name = 'five'
sketch = 'logins'
amounts = ['5/60s']

[[limit]]
name = 'watched'
sketch = 'logins'
amounts = ['1/60s']
shadow = true
";

/// A node with two sketches besides the default one, and two limits.
fn node() -> Node {
    static FILES: AtomicU32 = AtomicU32::new(0);
    let number = FILES.fetch_add(1, Ordering::Relaxed);
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("limits-{number}.toml"));
    std::fs::write(&path, CONFIG).unwrap();
    let from_file = config_of_file(path.as_os_str()).unwrap();
    Node::start(NodeConfig {
        sketches: from_file.sketches,
        limits: from_file.limits,
        ..config()
    })
    .unwrap()
}

fn refused(error: &ClientError) -> Option<Problem> {
    match error {
        ClientError::Problem { problem, .. } => Some(*problem),
        _ => None,
    }
}

#[test]
fn every_sketch_counts_for_itself() {
    let node = node();
    let mut client = Client::connect(node.udp_addr(), OPTIONS).unwrap();
    client.add("a", 1).unwrap();
    let mut logins = client.sketch("logins").unwrap();
    logins.add("a", 20).unwrap();
    let mut adder = logins.adder();
    (0..10_000).for_each(|n| adder.push(key(n % 100).as_bytes(), 1).unwrap());
    assert_eq!(adder.finish().unwrap(), 10_000);
    assert_eq!(logins.count("a").unwrap().estimate, 20);
    assert_eq!(logins.count(key(7)).unwrap().estimate, 100);
    assert_eq!(logins.count_bounds("a").unwrap().total_weight, 10_020);
    let counted = logins.count_in("a", Window::bound(MINUTE)).unwrap();
    assert_eq!((counted.estimate, counted.overflowed), (20, false));
    let unknown = logins.count_in("a", Window::bound(Duration::from_millis(7)));
    assert_eq!(refused(&unknown.unwrap_err()), Some(Problem::UnknownWindow));
    assert_eq!(client.count("a").unwrap().estimate, 1);
    let unknown = client.sketch("none").unwrap().add("a", 1).unwrap_err();
    assert_eq!(refused(&unknown), Some(Problem::UnknownSketch));
    assert_eq!(unknown.fate(), Fate::NotAdded);

    let sketches = client.sketches().unwrap();
    let mut names: Vec<_> = sketches.iter().map(|one| one.name.as_str()).collect();
    names.sort_unstable();
    assert_eq!(names, ["default", "logins", "pages"]);
    let logins = sketches.iter().find(|one| one.name == "logins").unwrap();
    assert_eq!((logins.width, logins.windows.len()), (1 << 16, 1));
    assert_eq!(logins.windows[0].span, MINUTE);
    assert_eq!(logins.windows[0].step, Duration::from_secs(5));
    node.stop().unwrap();
}

#[test]
fn limits_are_kept_together() {
    let node = node();
    let mut client = Client::connect(node.udp_addr(), OPTIONS).unwrap();
    let mut logins = client.sketch("logins").unwrap();
    for n in 1..=4 {
        let counted = logins
            .hit_in("counts", 1, 2, Window::smooth(MINUTE))
            .unwrap();
        assert_eq!((counted.estimate, counted.over), (n, n > 2));
        let taken = logins.take("takes", 1, 2, Window::smooth(MINUTE)).unwrap();
        assert_eq!(
            (taken.allowed, taken.remaining),
            (n <= 2, 2_u64.saturating_sub(n))
        );
        assert_eq!(taken.decided, Decided::ByNode);
        if taken.over {
            let retry_after = taken.retry_after.unwrap();
            assert!(retry_after > Duration::ZERO && retry_after <= 2 * MINUTE);
        }
    }
    assert_eq!(logins.count("takes").unwrap().estimate, 2);
    let never = logins.take("k", 3, 2, Window::ALL_TIME).unwrap();
    assert_eq!((never.over, never.retry_after), (true, None));

    let pages = "pages".parse().unwrap();
    let both = |limit| {
        Limits::take([
            Limit::new("10.0.0.7", 10, MINUTE),
            Limit::new("10.0.0.0/24", limit, MINUTE).of(&pages),
        ])
    };
    assert!(logins.limits(&both(1)).unwrap().allowed);
    let second = logins.limits(&both(1)).unwrap();
    assert_eq!((second.allowed, second.part), (false, 1));
    assert_eq!(logins.count("10.0.0.7").unwrap().estimate, 1);
    assert!(logins.limits(&both(2).repeatable()).unwrap().allowed);
    node.stop().unwrap();
}

#[test]
fn limits_of_the_nodes_own_are_asked_by_their_name() {
    let node = node();
    let mut client = Client::connect(node.udp_addr(), OPTIONS).unwrap();
    let allowed = (0..8).map(|_| client.hit_by_name("five", "10.0.0.7", 1).unwrap().allowed);
    assert_eq!(allowed.filter(|&allowed| allowed).count(), 5);
    client.hit_by_name("watched", "b", 1).unwrap();
    let shadow = client.hit_by_name("watched", "b", 1).unwrap();
    assert_eq!(
        (shadow.allowed, shadow.over, shadow.shadow),
        (true, true, true)
    );
    let unknown = client.hit_by_name("none", "k", 1).unwrap_err();
    assert_eq!(refused(&unknown), Some(Problem::UnknownLimit));
    node.stop().unwrap();
}

#[test]
fn a_key_that_is_pardoned_may_begin_anew() {
    let node = node();
    let mut client = Client::connect(node.udp_addr(), OPTIONS).unwrap();
    for _ in 0..6 {
        client.hit_by_name("five", "10.0.0.7", 1).unwrap();
    }
    // Loopback is trusted.
    assert_eq!(client.pardon("five", "10.0.0.7", MINUTE).unwrap(), 5);
    assert!(client.hit_by_name("five", "10.0.0.7", 1).unwrap().allowed);
    let unknown = client.pardon("none", "k", MINUTE).unwrap_err();
    assert_eq!(refused(&unknown), Some(Problem::UnknownLimit));
    node.stop().unwrap();
}

#[test]
fn as_many_tasks_take_as_the_limit_lets_through_a_harmful_network() {
    let node = node();
    let proxy = Proxy::both_ways(node.udp_addr(), Harm::A_TENTH_LOST, SEED);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let client = AsyncClient::connect(proxy.address(), OPTIONS)
            .await
            .unwrap();
        let tasks = (0..200).map(|n| {
            let sketch = client.sketch(["logins", "pages"][n % 2]).unwrap();
            tokio::spawn(async move {
                sketch.add(key(n as u64), 1).await.unwrap();
                let window = Window::smooth(MINUTE);
                sketch.take("shared", 1, 30, window).await.unwrap().allowed
            })
        });
        let mut allowed = 0;
        for task in tasks.collect::<Vec<_>>() {
            allowed += usize::from(task.await.unwrap());
        }
        assert_eq!(allowed, 2 * 30);
        for name in ["logins", "pages"] {
            let sketch = client.sketch(name).unwrap();
            assert_eq!(sketch.count("shared").await.unwrap().estimate, 30);
        }
    });
    node.stop().unwrap();
}

#[test]
fn a_node_that_is_gone_leaves_the_decision_to_the_caller() {
    let node = node();
    let mut client = Client::connect(node.udp_addr(), OPTIONS).unwrap();
    client.add("a", 1).unwrap();
    node.stop().unwrap();
    for (on_failure, allowed) in [(OnFailure::Open, true), (OnFailure::Closed, false)] {
        let deadline = Duration::from_millis(50);
        let mut logins = client
            .sketch("logins")
            .unwrap()
            .within(deadline)
            .or(on_failure);
        let verdict = logins.take("a", 1, 5, Window::smooth(MINUTE)).unwrap();
        assert_eq!(
            (verdict.allowed, verdict.decided),
            (allowed, Decided::ByNobody)
        );
    }
}
