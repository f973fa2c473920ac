#![allow(clippy::unwrap_used)]

use rmbd_proto::Boot;
use rmbd_proto::compact::{self, Header, Once, RequestWriter};

use super::*;
use crate::closed::once::patience::PATIENCE_FIRST_NS;
use crate::plan::Window;
use crate::plan::testing::load;

const MS: u64 = 1_000_000;
const TIMEOUT_NS: u64 = 1000 * MS;

struct Bench {
    times: Times,
    report: SenderReport,
    train: Train,
}

impl Bench {
    fn new() -> Self {
        let window = Window::new(0, &load("add", "uniform:9"));
        Self {
            times: Times::new(window, 1),
            report: SenderReport::new(&window, 1),
            train: Train::new(Some(1400), 64),
        }
    }

    fn acknowledge(&mut self, lane: &mut Lane<'_>, id: u32, now_ns: u64) -> u64 {
        let head = ReplyHead {
            id,
            done: 3,
            ..ReplyHead::default()
        };
        lane.settle(head, now_ns, &mut self.times, &mut self.report)
    }

    /// Number of requests that are repeated, and of adds that are given up.
    fn look(&mut self, lane: &mut Lane<'_>, now_ns: u64) -> (usize, u64) {
        self.train.clear();
        let given_up = lane.look(now_ns, TIMEOUT_NS, &mut self.train, &mut self.times);
        (self.train.datagrams().len(), given_up)
    }
}

fn connection() -> Connection {
    let anybody = "127.0.0.1:9".parse().unwrap();
    Connection::open(&[anybody], 0, &load("add", "uniform:9")).unwrap()
}

/// Sends this many requests of three adds at that time.
fn send(lane: &mut Lane<'_>, requests: u64, now_ns: u64) {
    let first = lane.next;
    for _ in 0..requests {
        lane.put(b"a request", 3, now_ns);
    }
    assert_eq!(lane.launched(first, requests as usize, now_ns), 0);
}

#[test]
fn acknowledgements_settle_their_requests_once_even_where_ids_wrap() {
    let connection = connection();
    let (mut lane, mut bench) = (Lane::new(&connection), Bench::new());
    let first = (1 << 32) - 2;
    (lane.next, lane.oldest) = (first, first);
    send(&mut lane, 5, MS);
    for id in [u32::MAX, 1, 0, u32::MAX - 1] {
        assert_eq!(bench.acknowledge(&mut lane, id, 2 * MS), 3);
        assert_eq!(bench.acknowledge(&mut lane, id, 2 * MS), 0, "again");
    }
    assert_eq!(lane.next - lane.oldest, 1);
    assert_eq!(bench.times.answers.unexpected, 0);
    // This sequence was never sent.
    assert_eq!(bench.acknowledge(&mut lane, 3, 2 * MS), 0);
    assert_eq!(bench.times.answers.unexpected, 1);
    assert_eq!(bench.acknowledge(&mut lane, 2, 2 * MS), 3);
    assert!(lane.is_settled());
    assert_eq!(bench.times.once.acknowledged, 15);
    assert_eq!(bench.times.service.len(), 5);
}

#[test]
fn what_is_overdue_goes_again_ever_later_and_is_given_up_at_the_timeout() {
    let connection = connection();
    let (mut lane, mut bench) = (Lane::new(&connection), Bench::new());
    send(&mut lane, 2, 0);
    assert_eq!(lane.due_ns, PATIENCE_FIRST_NS);
    assert_eq!(bench.look(&mut lane, 99 * MS), (0, 0));
    assert_eq!(bench.look(&mut lane, 100 * MS), (2, 0));
    assert_eq!(bench.train.datagrams().next().unwrap()[..9], *b"a request");
    assert_eq!(bench.look(&mut lane, 299 * MS), (0, 0));
    assert_eq!(bench.acknowledge(&mut lane, 0, 299 * MS), 3);
    assert_eq!(bench.look(&mut lane, 300 * MS), (1, 0));
    assert_eq!(lane.due_ns, 700 * MS);
    assert_eq!(bench.look(&mut lane, TIMEOUT_NS), (0, 3));
    assert!(lane.is_settled());
    let once = bench.times.once;
    assert_eq!((once.acknowledged, once.uncertain), (3, 3));
    let answers = bench.times.answers;
    assert_eq!((answers.answered, answers.timed_out), (1, 1));
    // The time counts from the first copy on, although the second was answered.
    assert!(bench.times.service.max() >= 298 * MS);
    // A later acknowledgement changes nothing: the request was counted as uncertain.
    assert_eq!(bench.acknowledge(&mut lane, 1, TIMEOUT_NS), 0);
    assert_eq!(bench.times.once.acknowledged, 3);
}

#[test]
fn the_oldest_request_holds_the_window() {
    let connection = connection();
    let (mut lane, mut bench) = (Lane::new(&connection), Bench::new());
    send(&mut lane, ONCE_WINDOW, 0);
    assert!(!lane.has_room());
    for id in 1..ONCE_WINDOW as u32 {
        bench.acknowledge(&mut lane, id, MS);
    }
    assert!(!lane.has_room());
    bench.acknowledge(&mut lane, 0, MS);
    assert!(lane.has_room() && lane.is_settled());
}

#[test]
fn a_refusal_is_uncertain_and_a_reply_that_does_not_fit_is_none() {
    let connection = connection();
    let (mut lane, mut bench) = (Lane::new(&connection), Bench::new());
    send(&mut lane, 2, 0);
    let mut reply = |lane: &mut Lane<'_>, id, done, code| {
        let head = ReplyHead {
            id,
            done,
            code,
            ..ReplyHead::default()
        };
        lane.settle(head, MS, &mut bench.times, &mut bench.report)
    };
    assert_eq!(reply(&mut lane, 0, 2, 0), 0);
    assert_eq!(reply(&mut lane, 0, 0, 77), 3);
    assert_eq!(reply(&mut lane, 1, 3, 0), 3);
    let once = bench.times.once;
    assert_eq!((once.acknowledged, once.uncertain), (3, 3));
    assert_eq!(bench.report.refused, Some(77));
}

#[test]
fn what_is_sent_back_goes_again_at_once_with_the_cookie_and_later_ones_without() {
    let connection = connection();
    let (mut lane, mut bench) = (Lane::new(&connection), Bench::new());
    let mut writer = RequestWriter::new(100);
    let mut put = |lane: &mut Lane<'_>, sequence| {
        let once = Once {
            boot: Boot(1),
            client: 2,
            sequence,
        };
        let header = Header {
            id: sequence as u32,
            once: Some(once),
            ..Header::default()
        };
        writer.start(&header).unwrap();
        writer.add(b"a", 1).unwrap();
        lane.put(writer.finish(), 3, 0);
        lane.launched(sequence, 1, 0);
    };
    let shown = |lane: &mut Lane<'_>, sequence| {
        let copy = compact::request(lane.copy(sequence)).unwrap();
        assert_eq!(copy.once.unwrap().sequence, sequence);
        copy.cookie.map(<[u8]>::to_vec)
    };
    (0..3).for_each(|sequence| put(&mut lane, sequence));
    assert_eq!(shown(&mut lane, 0), None);
    for id in [0, 1, 1, 77] {
        let head = ReplyHead {
            id,
            code: Problem::AddressUnproven.code(),
            ..ReplyHead::default()
        };
        let mut datagram = [0; 9].to_vec();
        compact::write_reply_head(head, datagram.first_chunk_mut().unwrap());
        datagram.extend(compact::encode_cookie(&[id as u8; 16]));
        let reply = compact::reply(&datagram).unwrap();
        let settled = lane.hear(&reply, MS, &mut bench.times, &mut bench.report);
        assert_eq!(settled, 0);
    }
    assert_eq!(bench.look(&mut lane, MS), (2, 0), "two of three, once");
    assert_eq!(shown(&mut lane, 2), Some(vec![77; 16]), "the latest");
    assert_eq!(bench.look(&mut lane, 2 * MS), (0, 0));
    assert_eq!(bench.acknowledge(&mut lane, 0, 2 * MS), 3);
    assert_eq!(shown(&mut lane, 2), None, "known");
    assert_eq!(bench.times.once.uncertain, 0);
    assert_eq!(bench.times.answers.unexpected, 0);
}

#[test]
fn what_never_left_is_no_request() {
    let connection = connection();
    let mut lane = Lane::new(&connection);
    for _ in 0..4 {
        lane.put(b"a request", 3, 0);
    }
    assert_eq!(lane.launched(0, 1, MS), 9);
    assert_eq!((lane.next, lane.adds(0..1)), (1, 3));
}
