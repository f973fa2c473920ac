//! The progress of a run: one line that changes on a terminal, and elsewhere a plain line each second. Both go to
//! standard error; standard output has only the table.

use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use rmbd_console as console;

use crate::flight::Totals;
use crate::output::{seconds, thousands};
use crate::run::Event;

/// Time between two plain lines.
const LINE_EVERY: Duration = Duration::from_secs(1);
/// Time over which a rate is a mean.
const RATE_OVER: Duration = Duration::from_millis(500);

/// The display of a run's progress.
pub(crate) struct Live {
    bar: Option<ProgressBar>,
    name: String,
    planned: Duration,
    /// The time and totals that the latest rate was made from.
    rated: (Duration, Totals),
    rate: f64,
    last_line: Instant,
}

impl Live {
    /// A display on standard error, in the form that suits it.
    #[must_use]
    pub(crate) fn new() -> Self {
        let bar = console::is_watched().then(|| {
            let bar =
                ProgressBar::with_draw_target(Some(0), ProgressDrawTarget::stderr_with_hz(10));
            bar.set_style(style());
            bar
        });
        Self {
            bar,
            name: String::new(),
            planned: Duration::ZERO,
            rated: (Duration::ZERO, Totals::default()),
            rate: 0.0,
            last_line: Instant::now(),
        }
    }

    /// Shows an event.
    pub(crate) fn show(&mut self, event: Event<'_>) {
        match event {
            Event::Part { name, planned } => self.part(name, planned),
            Event::Progress { elapsed, totals } => self.progress(elapsed, totals),
            Event::Doing(what) => self.doing(what),
        }
    }

    /// Removes the line that changes.
    pub(crate) fn end(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }

    fn part(&mut self, name: &str, planned: Duration) {
        name.clone_into(&mut self.name);
        self.planned = planned;
        self.rated = (Duration::ZERO, Totals::default());
        self.rate = 0.0;
        self.last_line = Instant::now();
        match &self.bar {
            Some(bar) => {
                bar.set_length(milliseconds(planned));
                bar.set_position(0);
                bar.set_message(self.name.clone());
            }
            None => line(&format!("{name}, {}", seconds(planned.as_secs_f64()))),
        }
    }

    fn progress(&mut self, elapsed: Duration, totals: Totals) {
        let (since, before) = self.rated;
        if elapsed >= since + RATE_OVER {
            let sent = totals.messages.saturating_sub(before.messages) as f64;
            self.rate = sent / (elapsed - since).as_secs_f64();
            self.rated = (elapsed, totals);
        }
        let text = self.text(totals);
        match &self.bar {
            Some(bar) => {
                bar.set_position(milliseconds(elapsed.min(self.planned)));
                bar.set_message(text);
            }
            None if self.last_line.elapsed() >= LINE_EVERY => {
                self.last_line = Instant::now();
                line(&format!("{:>6.1} s  {text}", elapsed.as_secs_f64()));
            }
            None => {}
        }
    }

    fn text(&self, totals: Totals) -> String {
        let mut text = format!("{}: {}/s sent", self.name, thousands(self.rate));
        if totals.answered + totals.timed_out > 0 {
            text.push_str(&format!(", {} answered", thousands(totals.answered as f64)));
        }
        if totals.timed_out > 0 {
            text.push_str(&format!(
                ", {} timed out",
                thousands(totals.timed_out as f64)
            ));
        }
        text
    }

    fn doing(&self, what: &str) {
        match &self.bar {
            Some(bar) => bar.set_message(format!("{what} ...")),
            None => line(&format!("{what} ...")),
        }
    }
}

impl Default for Live {
    fn default() -> Self {
        Self::new()
    }
}

fn style() -> ProgressStyle {
    ProgressStyle::with_template("{bar:24} {elapsed} {msg}")
        .unwrap_or_else(|_| ProgressStyle::default_bar())
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn line(text: &str) {
    console::note(text);
}
