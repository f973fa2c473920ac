//! A part of a phase: its warm-up, or its measured part.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use rmbd_proto::Boot;

use super::clock::Clock;
use super::connection::Connection;
use crate::judge::{Chosen, Diary, Ledger};
use crate::plan::{Load, Window};
use crate::record::Pace;

/// Longest sleep, after which a thread notices that it is to end.
const NAP: Duration = Duration::from_millis(20);

/// The data that all threads of a part share.
pub(crate) struct Part<'a> {
    pub(crate) load: &'a Load,
    /// The ledger of a load of hits.
    pub(crate) ledger: Option<&'a Ledger>,
    /// The keys of which diaries are kept, in a load with windows.
    pub(crate) chosen: Option<&'a Chosen>,
    /// Number of servers that the load goes to.
    pub(crate) nodes: usize,
    /// The boot of the node, for adds that count exactly once.
    pub(crate) boot: Option<Boot>,
    pub(crate) clock: Clock<'a>,
    pub(crate) window: Window,
    pub(crate) stop: &'a AtomicBool,
}

impl<'a> Part<'a> {
    /// A diary for the thread that sends or receives on these connections.
    pub(crate) fn diary(&self, connections: &[Connection]) -> Option<Diary<'a>> {
        let first = connections.first()?;
        let diary = |chosen| {
            Diary::new(
                chosen,
                self.load,
                &self.window,
                first.number,
                connections.len(),
            )
        };
        self.chosen.map(diary)
    }

    pub(crate) fn is_stopped(&self) -> bool {
        // Relaxed: nothing else is published with it.
        self.stop.load(Ordering::Relaxed)
    }

    pub(crate) fn now_ns(&self) -> u64 {
        self.clock.now_ns()
    }

    /// Sleeps until the measured part begins.
    pub(crate) fn wait_for_start(&self) {
        loop {
            let wait_ns = self.window.start_ns.saturating_sub(self.now_ns());
            if wait_ns == 0 || self.is_stopped() {
                return;
            }
            thread::sleep(Duration::from_nanos(wait_ns).min(NAP));
        }
    }

    /// Number of messages that one of the threads may send.
    pub(crate) fn messages_of(&self, thread: usize) -> u64 {
        let messages = self.load.messages;
        messages.map_or(u64::MAX, |messages| self.dealt(messages, thread))
    }

    /// Number of messages of one thread that may be on their way in a closed loop, at least 1.
    pub(crate) fn outstanding_of(&self, thread: usize) -> u64 {
        match self.load.pace {
            Pace::Outstanding { requests } => self.dealt(requests as u64, thread),
            Pace::Flood | Pace::Rate { .. } => 0,
        }
    }

    /// The share of a thread in a number for all threads together.
    fn dealt(&self, all: u64, thread: usize) -> u64 {
        let threads = self.load.threads as u64;
        all / threads + u64::from((thread as u64) < all % threads)
    }
}
