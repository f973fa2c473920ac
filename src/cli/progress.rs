//! A progress line, for people who wait.

use std::io::Write;
use std::time::{Duration, Instant};

/// Time between two updates of the line, short enough to see it move.
const INTERVAL: Duration = Duration::from_millis(200);
/// Number of keys between two looks at the clock.
const KEYS_A_LOOK: u64 = 4_096;

pub(super) struct Progress<'n> {
    notes: &'n mut dyn Write,
    is_shown: bool,
    started: Instant,
    next: Instant,
    keys: u64,
    has_line: bool,
}

impl<'n> Progress<'n> {
    pub(super) fn new(notes: &'n mut dyn Write, is_shown: bool) -> Self {
        let started = Instant::now();
        Self {
            notes,
            is_shown,
            started,
            next: started + INTERVAL,
            keys: 0,
            has_line: false,
        }
    }

    /// Counts another key.
    #[inline]
    pub(super) fn advance(&mut self, confirmed: impl FnOnce() -> u64) {
        self.keys += 1;
        if self.is_shown && self.keys.is_multiple_of(KEYS_A_LOOK) {
            self.show(confirmed());
        }
    }

    /// Clears the line, to make room for other output.
    pub(super) fn end(&mut self) {
        if self.has_line {
            // An error is ignored: nobody needs this line.
            let _ = self.notes.write_all(b"\r\x1b[K");
        }
    }

    /// Prints how many keys were added, and how that is known.
    pub(super) fn sum_up(&mut self, confirmed: u64, repeated: u64, is_acknowledged: bool) {
        let seconds = self.started.elapsed().as_secs_f64();
        let what = match is_acknowledged {
            true => "acknowledged",
            false => "sent, and the server read on behind them",
        };
        let again = match repeated {
            0 => String::new(),
            1 => "; 1 datagram was sent again".to_owned(),
            more => format!("; {more} datagrams were sent again"),
        };
        // An error is ignored: the keys are counted, whoever reads this.
        let _ = writeln!(
            self.notes,
            "{confirmed} adds were {what} in {seconds:.1} s{again}"
        );
    }

    fn show(&mut self, confirmed: u64) {
        let now = Instant::now();
        if now < self.next {
            return;
        }
        self.next = now + INTERVAL;
        let seconds = (now - self.started).as_secs_f64();
        let millions = confirmed as f64 / 1e6;
        let line = format!(
            "\r{millions:.1} M adds acknowledged, {:.2} M/s\x1b[K",
            millions / seconds
        );
        let _ = (self.notes.write_all(line.as_bytes())).and_then(|()| self.notes.flush());
        self.has_line = true;
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_shown_now_and_then_and_goes() {
        let mut notes = Vec::new();
        let mut progress = Progress::new(&mut notes, true);
        progress.next = progress.started;
        progress.started -= Duration::from_secs(10);
        for _ in 0..3 * KEYS_A_LOOK {
            progress.advance(|| 25_000_000);
        }
        progress.end();
        progress.sum_up(3, 1, true);
        let text = String::from_utf8(notes).unwrap();
        assert_eq!(
            text,
            "\r25.0 M adds acknowledged, 2.50 M/s\x1b[K\r\x1b[K\
             3 adds were acknowledged in 10.0 s; 1 datagram was sent again\n"
        );
    }

    #[test]
    fn nothing_is_shown_where_nobody_looks() {
        let mut notes = Vec::new();
        let mut progress = Progress::new(&mut notes, false);
        progress.next = progress.started;
        for _ in 0..3 * KEYS_A_LOOK {
            progress.advance(|| panic!("nobody asks"));
        }
        progress.end();
        assert!(notes.is_empty());
    }
}
