//! The largest keys of a whole node, asked for by both clients.

use std::time::{Duration, Instant};

use rmbd::config::NodeConfig;
use rmbd::node::Node;
use rmbd_client::{AsyncClient, Client, ClientError, KEY_BYTES_MAX, Top, TopQuestion};
use rmbd_proto::compact::Problem;

use crate::{OPTIONS, config};

/// The longest time that anything may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);
const MINUTE: Duration = Duration::from_secs(60);

fn node(top: usize) -> Node {
    Node::start(NodeConfig {
        top: Some(top),
        ..config()
    })
    .unwrap()
}

/// Adds keys again and again until a list of them is as `wanted`.
fn wait_for(
    client: &mut Client,
    keys: &[(Vec<u8>, u64)],
    question: TopQuestion,
    wanted: impl Fn(&Top) -> bool,
) -> Top {
    let start = Instant::now();
    loop {
        let adds = keys.iter().map(|(key, weight)| (key, *weight));
        client.add_many(adds).unwrap();
        let top = client.top(question).unwrap();
        if wanted(&top) {
            return top;
        }
        assert!(start.elapsed() < PATIENCE, "{} keys", top.keys.len());
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn the_largest_keys_have_their_names_of_all_time_and_in_a_window() {
    let node = node(4);
    let mut client = Client::connect(node.udp_addr(), OPTIONS).unwrap();
    let keys = [
        (b"apple".to_vec(), 9),
        (b"\xff\0\n".to_vec(), 5),
        (Vec::new(), 2),
    ];
    let names = |top: &Top| -> Vec<_> { top.keys.iter().map(|key| key.name.clone()).collect() };
    let expected: Vec<_> = keys.iter().map(|(key, _)| Some(key.clone())).collect();
    for question in [TopQuestion::ALL, TopQuestion::first(9).within(MINUTE)] {
        let top = wait_for(&mut client, &keys, question, |top| names(top) == expected);
        assert!(top.keys.iter().all(|key| key.certain <= key.estimate));
        assert!(top.keys.is_sorted_by(|a, b| a.estimate >= b.estimate));
        assert!(top.age.is_some() && !top.redacted && !top.mixed);
        assert_eq!((top.listed, top.complete_above), (3, Some(0)));
        let sum: u64 = top.keys.iter().map(|key| key.estimate).sum();
        // What was added while the list was made is in some of it.
        assert!(top.total_weight > 0 && sum > 0);
    }
    let two = client.top(TopQuestion::first(2)).unwrap();
    assert_eq!((two.keys.len(), two.listed), (2, 3));
    assert_eq!(two.complete_above, Some(two.keys[1].estimate));
    let refused = |error: ClientError| match error {
        ClientError::Problem { problem, .. } => problem,
        other => panic!("{other}"),
    };
    let odd = TopQuestion::ALL.within(Duration::from_secs(7));
    let error = client.top(odd).unwrap_err();
    assert_eq!(refused(error), Problem::UnknownWindow);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    runtime.unwrap().block_on(async {
        let client = AsyncClient::connect(node.udp_addr(), OPTIONS)
            .await
            .unwrap();
        let top = client.top(TopQuestion::ALL).await.unwrap();
        assert_eq!(names(&top), expected);
        let error = client.top(odd).await.unwrap_err();
        assert_eq!(refused(error), Problem::UnknownWindow);
    });
    assert!(node.stop().unwrap().messages.top > 3);
    let none = self::node(0);
    let mut client = Client::connect(none.udp_addr(), OPTIONS).unwrap();
    let error = client.top(TopQuestion::ALL).unwrap_err();
    assert_eq!(refused(error), Problem::NoTopList);
}

#[test]
fn ten_thousand_of_the_longest_keys_come_a_datagram_at_a_time() {
    let node = node(1_000);
    let mut client = Client::connect(node.udp_addr(), OPTIONS).unwrap();
    let key = |n: u64| {
        let mut key = vec![n as u8; KEY_BYTES_MAX];
        key[..8].copy_from_slice(&n.to_le_bytes());
        (key, n)
    };
    let keys: Vec<_> = (0..10_000).map(key).collect();
    let top = wait_for(&mut client, &keys, TopQuestion::ALL, |top| {
        let named = top.keys.iter().filter(|key| key.name.is_some());
        top.keys.len() == 1_000 && named.count() > 100
    });
    for key in top.keys.iter().filter_map(|key| key.name.as_ref()) {
        assert_eq!(key.len(), KEY_BYTES_MAX);
        let number = u64::from_le_bytes(*key.first_chunk().unwrap());
        assert_eq!(key[8..], vec![number as u8; KEY_BYTES_MAX - 8]);
    }
    node.stop().unwrap();
}
