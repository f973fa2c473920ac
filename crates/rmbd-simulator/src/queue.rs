//! The queue of events in virtual time.

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;
use std::time::Duration;

/// Events in the order of their times; events of the same time come in the order in which they were put.
#[derive(Debug)]
pub struct Queue<E> {
    heap: BinaryHeap<Reverse<Entry<E>>>,
    entered: u64,
}

#[derive(Debug)]
struct Entry<E> {
    at: Duration,
    number: u64,
    event: E,
}

impl<E> Default for Queue<E> {
    fn default() -> Self {
        Self::new()
    }
}

impl<E> Queue<E> {
    pub fn new() -> Self {
        Self {
            heap: BinaryHeap::new(),
            entered: 0,
        }
    }

    pub fn push(&mut self, at: Duration, event: E) {
        self.entered += 1;
        let number = self.entered;
        self.heap.push(Reverse(Entry { at, number, event }));
    }

    /// The next event, if it comes no later than `until`.
    pub fn pop_until(&mut self, until: Duration) -> Option<(Duration, E)> {
        let Reverse(next) = self.heap.peek()?;
        if next.at > until {
            return None;
        }
        self.heap
            .pop()
            .map(|Reverse(entry)| (entry.at, entry.event))
    }

    pub fn retain(&mut self, mut keep: impl FnMut(&E) -> bool) {
        self.heap.retain(|Reverse(entry)| keep(&entry.event));
    }
}

impl<E> Ord for Entry<E> {
    fn cmp(&self, other: &Self) -> Ordering {
        (self.at, self.number).cmp(&(other.at, other.number))
    }
}

impl<E> PartialOrd for Entry<E> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<E> PartialEq for Entry<E> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl<E> Eq for Entry<E> {}

#[test]
fn events_come_in_the_order_of_time_then_of_entry() {
    let mut queue = Queue::new();
    for (at_ms, event) in [(5, 'c'), (1, 'a'), (5, 'd'), (2, 'b'), (9, 'e')] {
        queue.push(Duration::from_millis(at_ms), event);
    }
    queue.retain(|&event| event != 'd');
    queue.push(Duration::from_millis(5), 'x');
    let mut seen = String::new();
    while let Some((_, event)) = queue.pop_until(Duration::from_millis(8)) {
        seen.push(event);
    }
    assert_eq!(seen, "abcx");
}
