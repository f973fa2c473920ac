#![allow(clippy::unwrap_used)]

use std::io::{self, Write};
use std::process::{Command, Stdio};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::queue::{Missing, Queue};

/// A time longer than anything takes. No test passes by waiting for its end.
const PATIENCE: Duration = Duration::from_secs(30);

/// A stream that waits for a permit for each line; the permit says whether the line is taken or refused.
fn gated() -> (Queue, Sender<bool>, Arc<Mutex<String>>) {
    let (permit, permits) = channel();
    let written = Arc::new(Mutex::new(String::new()));
    let sink = Arc::clone(&written);
    let queue = Queue::start(move |bytes| {
        if !permits.recv().unwrap_or(true) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let text = String::from_utf8_lossy(bytes);
        sink.lock().unwrap().push_str(&text);
        Ok(())
    });
    (queue, permit, written)
}

fn line(number: usize) -> Vec<u8> {
    format!("line {number}\n").into_bytes()
}

/// The variable that makes this process the one that panics.
const CHILD: &str = "RMBD_TEST_PANICS";

/// A thread that panics ends, although standard error is full and nobody reads it. The test runs in a process of its
/// own.
#[test]
fn a_panic_waits_for_nobody() {
    if std::env::var_os(CHILD).is_some() {
        super::report_panics();
        let panics = std::thread::spawn(|| panic!("as it should"));
        std::process::exit(if panics.join().is_err() { 7 } else { 8 });
    }
    let (_unread, mut full) = io::pipe().unwrap();
    rustix::io::ioctl_fionbio(&full, true).unwrap();
    while full.write(b".").is_ok() {}
    rustix::io::ioctl_fionbio(&full, false).unwrap();
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "--nocapture", "tests::a_panic_waits_for_nobody"])
        .env(CHILD, "1")
        .stdout(Stdio::null())
        .stderr(full)
        .spawn()
        .unwrap();
    let start = Instant::now();
    let ended = loop {
        match child.try_wait().unwrap() {
            None if start.elapsed() < PATIENCE => std::thread::sleep(Duration::from_millis(5)),
            ended => break ended,
        }
    };
    let _ = child.kill();
    let _ = child.wait();
    assert_eq!(ended.and_then(|status| status.code()), Some(7));
}

#[test]
fn lines_come_in_order_and_a_flush_waits_for_them() {
    let (queue, permit, written) = gated();
    drop(permit);
    for number in 0..100 {
        queue.push(line(number));
    }
    assert!(queue.flush(PATIENCE));
    let expected: Vec<u8> = (0..100).flat_map(line).collect();
    assert_eq!(written.lock().unwrap().as_bytes(), expected);
    assert_eq!(queue.missing(), Missing::default());
}

/// Many long lines go into a stream that takes nothing. Memory stays bounded, and nobody waits.
#[test]
fn what_finds_the_queue_full_is_dropped_counted_and_said() {
    for line_bytes in [10, 1_000, 100_000, 10_000_000] {
        let (queue, permit, written) = gated();
        let pushed = ((1 << 29) / line_bytes as u64).clamp(20, 10_000);
        for _ in 0..pushed {
            queue.push(vec![b'x'; line_bytes]);
        }
        let missing = queue.missing();
        // The stream takes nothing.
        let is_kept = missing.dropped < pushed;
        assert_eq!(queue.flush(Duration::from_millis(5)), !is_kept);
        assert!(
            missing.dropped >= pushed.saturating_sub(4_097),
            "{line_bytes}: {missing:?}"
        );
        let kept = (pushed - missing.dropped) as usize * line_bytes;
        // The line that the writer holds does not wait any more.
        assert!(kept <= (1 << 20) + line_bytes, "{line_bytes}: {kept}");
        drop(permit);
        assert!(queue.flush(PATIENCE));
        queue.push(line(1));
        assert!(queue.flush(PATIENCE));
        let text = written.lock().unwrap();
        let notice = format!("WARN {} lines are missing", missing.dropped);
        assert!(text.contains(&notice), "{line_bytes}: {notice}");
    }
}

#[test]
fn what_is_refused_is_counted_and_said_by_the_next_line() {
    let (queue, permit, written) = gated();
    for take in [true, false, false, true, true, false, true] {
        permit.send(take).unwrap();
        queue.push(line(usize::from(take)));
        assert!(queue.flush(PATIENCE));
    }
    let expected = Missing {
        dropped: 0,
        refused: 3,
    };
    assert_eq!(queue.missing(), expected);
    let text = written.lock().unwrap();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 6, "{text}");
    assert!(lines[1].starts_with("WARN 2 lines are missing"), "{text}");
    assert!(lines[4].starts_with("WARN 3 lines are missing"), "{text}");
}

#[test]
fn many_threads_lose_nothing_that_fits() {
    let (queue, permit, written) = gated();
    drop(permit);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for number in 0..100 {
                    queue.push(line(number));
                }
                assert!(queue.flush(PATIENCE));
            });
        }
    });
    assert_eq!(written.lock().unwrap().lines().count(), 800);
}
