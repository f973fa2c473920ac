use std::time::Duration;

use rmbd::node::Node;
use rmbd_client::{AsyncClient, ClientOptions};
use rmbd_client::{ClientError, Fate};
use tokio::runtime::Runtime;

use crate::{OPTIONS, impatient, key, node};
use rmbd_testkit::proxy::{Harm, Proxy};

const SEED: u64 = 0xA51C;

fn run<F: Future>(test: impl FnOnce(Node) -> F) -> F::Output {
    runtime().block_on(test(node()))
}

fn runtime() -> Runtime {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.enable_all().build().unwrap()
}

#[test]
fn every_call() {
    run(async |node| {
        let client = AsyncClient::connect(node.udp_addr(), OPTIONS)
            .await
            .unwrap();
        client.add("apple", 1).await.unwrap();
        let adds = client.add_many([("apple", 2), ("pear", 9)]).await;
        assert_eq!(adds.unwrap(), 2);
        let counts = client.count_many(&["pear", "apple"]).await.unwrap();
        assert_eq!((counts[0].estimate, counts[1].estimate), (9, 3));
        assert!(client.hit("apple", 1, 4).await.unwrap().allowed);
        assert!(!client.hit("apple", 1, 4).await.unwrap().allowed);
        assert_eq!(client.count("apple").await.unwrap().estimate, 5);
        assert_eq!(client.count_bounds("pear").await.unwrap().total_weight, 14);
        assert_eq!(client.info().await.unwrap().width, 1 << 16);
        assert_eq!(client.server(), node.udp_addr());
        let long = client.add([0; 1025], 1).await.unwrap_err();
        assert!(matches!(long, ClientError::KeyTooLong { bytes: 1025 }));
        node.stop().unwrap();
    });
}

#[test]
fn many_tasks_share_datagrams_through_a_harmful_network() {
    const TASKS: u64 = 200;
    const HITS: u64 = 20;
    for linger_ms in [0, 2] {
        run(async |node| {
            let proxy = Proxy::both_ways(node.udp_addr(), Harm::A_TENTH_LOST, SEED);
            let options = ClientOptions {
                linger: Duration::from_millis(linger_ms),
                ..OPTIONS
            };
            let client = AsyncClient::connect(proxy.address(), options)
                .await
                .unwrap();
            let tasks: Vec<_> = (0..TASKS)
                .map(|task| {
                    let client = client.clone();
                    tokio::spawn(async move {
                        for n in 1..=HITS {
                            let hit = client.hit(key(task), 1, HITS - 1).await.unwrap();
                            assert_eq!((hit.estimate, hit.allowed), (n, n < HITS));
                        }
                    })
                })
                .collect();
            for task in tasks {
                task.await.unwrap();
            }
            let total = TASKS * HITS;
            let before = node.status();
            assert!(before.datagrams.received < total, "{:?}", before.datagrams);
            let adds = (0..100_000).map(|n| (key(n % 500), 2));
            assert_eq!(client.add_many(adds).await.unwrap(), 100_000);
            let keys: Vec<_> = (0..500).map(key).collect();
            let counts = client.count_many(&keys).await.unwrap();
            let sum: u64 = counts.iter().map(|count| count.estimate).sum();
            assert_eq!(sum, total + 200_000);
            drop(proxy);
            let status = node.stop().unwrap();
            assert_eq!(status.sketch.total_weight, total + 200_000);
            assert!(status.compact.repeats > 0);
        });
    }
}

#[test]
fn errors_say_what_is_known() {
    run(async |node| {
        let proxy = Proxy::both_ways(node.udp_addr(), Harm::A_TENTH_LOST, SEED);
        let client = AsyncClient::connect(proxy.address(), impatient())
            .await
            .unwrap();
        client.add("a", 1).await.unwrap();
        proxy.close();
        let error = client.add("a", 1).await.unwrap_err();
        assert_eq!(error.fate(), Fate::Uncertain, "{error}");
        let error = client.add_many((0..90_000).map(|n| (key(n), 1))).await;
        let Err(ClientError::Adds { report, .. }) = error else {
            panic!("{error:?}");
        };
        assert_eq!(report.confirmed, 0);
        let ranges = report.uncertain.iter().chain(&report.not_added);
        let named: u64 = ranges.map(|range| range.end - range.start).sum();
        assert_eq!(named, report.taken);
        proxy.open();
        client.add("a", 1).await.unwrap();
        drop(proxy);
        node.stop().unwrap();
    });
}

#[test]
fn nobody_there_is_said_at_once() {
    run(async |node| {
        let nobody = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = nobody.local_addr().unwrap();
        nobody.connect(address).unwrap();
        let client = AsyncClient::connect(address, OPTIONS).await.unwrap();
        let error = client.hit("a", 1, 1).await.unwrap_err();
        assert!(matches!(error, ClientError::Refused { .. }), "{error}");
        node.stop().unwrap();
    });
}

#[test]
fn what_was_asked_for_is_sent_after_the_last_clone_is_gone() {
    run(async |node| {
        let client = AsyncClient::connect(node.udp_addr(), OPTIONS)
            .await
            .unwrap();
        let call = {
            let client = client.clone();
            tokio::spawn(async move { client.add("a", 3).await })
        };
        // The question was handed over, and has no answer yet.
        tokio::task::yield_now().await;
        drop(client);
        call.await.unwrap().unwrap();
        assert_eq!(node.stop().unwrap().sketch.total_weight, 3);
    });
}

#[test]
fn a_call_outlives_its_runtime_with_an_error() {
    let node = node();
    let runtime = runtime();
    let client = runtime.block_on(AsyncClient::connect(node.udp_addr(), OPTIONS));
    let client = client.unwrap();
    runtime.shutdown_background();
    let other = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    let error = other.block_on(client.add("a", 1)).unwrap_err();
    assert!(matches!(error, ClientError::Closed), "{error}");
    node.stop().unwrap();
}
