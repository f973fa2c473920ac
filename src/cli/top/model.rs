//! What the full screen of `rmbd top` knows, and what keys change in it.

use std::collections::VecDeque;

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyEventKind, KeyModifiers};

use crate::status::Status;
use rmbd_client::Top;

/// How many looks at the rate of adds are kept: as many as a wide screen can show.
const RATES_KEPT: usize = 240;
/// Longest text to filter by, in characters.
const FILTER_MAX: usize = 200;

/// What the server is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Question {
    pub(super) sketch: String,
    /// Milliseconds of the window; 0 is all time.
    pub(super) window_ms: u64,
}

/// What one look at the server brought.
#[derive(Debug)]
pub(super) struct Look {
    pub(super) question: Question,
    pub(super) top: Result<Top, String>,
    pub(super) status: Result<Box<Status>, String>,
}

/// What is to be done after a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    Nothing,
    /// Another list is wanted.
    Ask,
    Quit,
}

/// Rates by the second, where two looks are there.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Rates {
    pub(super) adds: f64,
    pub(super) counts: f64,
    pub(super) hits: f64,
    pub(super) over: f64,
}

/// All that is shown.
#[derive(Debug)]
pub(super) struct Model {
    /// The server as it was typed.
    pub(super) server: String,
    pub(super) question: Question,
    pub(super) filter: String,
    /// Whether keys go into the filter.
    pub(super) is_typing: bool,
    pub(super) has_colors: bool,
    /// How many keys are shown at most; `None` is as many as there is room for.
    pub(super) keys: Option<usize>,
    pub(super) top: Option<Result<Top, String>>,
    pub(super) status: Option<Box<Status>>,
    /// Why the status is missing or old.
    pub(super) status_error: Option<String>,
    pub(super) rates: Option<Rates>,
    /// Adds a second, the latest last.
    pub(super) history: VecDeque<u64>,
}

impl Model {
    pub(super) fn new(server: String, question: Question, has_colors: bool) -> Self {
        Self {
            server,
            question,
            filter: String::new(),
            is_typing: false,
            has_colors,
            keys: None,
            top: None,
            status: None,
            status_error: None,
            rates: None,
            history: VecDeque::new(),
        }
    }

    /// Takes over what a look brought. A list that is no longer asked for is left.
    pub(super) fn take(&mut self, look: Look) {
        if look.question == self.question {
            self.top = Some(look.top);
        }
        match look.status {
            Ok(status) => {
                self.rates = self
                    .status
                    .as_ref()
                    .and_then(|before| rates(before, &status));
                if let Some(rates) = self.rates {
                    self.history.push_back(rates.adds as u64);
                }
                while self.history.len() > RATES_KEPT {
                    self.history.pop_front();
                }
                self.status = Some(status);
                self.status_error = None;
            }
            Err(error) => self.status_error = Some(error),
        }
    }

    /// Does what a key says.
    pub(super) fn press(&mut self, key: KeyEvent) -> Next {
        if key.kind == KeyEventKind::Release {
            return Next::Nothing;
        }
        let is_control = key.modifiers.contains(KeyModifiers::CONTROL);
        if is_control && matches!(key.code, KeyCode::Char('c' | 'd')) {
            return Next::Quit;
        }
        if self.is_typing {
            self.type_key(key.code);
            return Next::Nothing;
        }
        match key.code {
            KeyCode::Char('q') => Next::Quit,
            KeyCode::Char('/') => {
                self.is_typing = true;
                Next::Nothing
            }
            KeyCode::Esc => {
                self.filter.clear();
                Next::Nothing
            }
            KeyCode::Left => self.move_window(-1),
            KeyCode::Right => self.move_window(1),
            KeyCode::Up => self.move_sketch(-1),
            KeyCode::Down => self.move_sketch(1),
            _ => Next::Nothing,
        }
    }

    fn type_key(&mut self, code: KeyCode) {
        match code {
            KeyCode::Enter => self.is_typing = false,
            KeyCode::Esc => {
                self.is_typing = false;
                self.filter.clear();
            }
            KeyCode::Backspace => drop(self.filter.pop()),
            KeyCode::Char(c) if self.filter.chars().count() < FILTER_MAX => self.filter.push(c),
            _ => {}
        }
    }

    /// Goes to another sketch, round the end. It begins with all time.
    fn move_sketch(&mut self, by: isize) -> Next {
        let names: Vec<_> = self.sketches().map(|(name, _)| name.to_owned()).collect();
        let Some(at) = names.iter().position(|name| *name == self.question.sketch) else {
            return Next::Nothing;
        };
        let sketch = names[moved(at, by, names.len())].clone();
        self.ask(Question {
            sketch,
            window_ms: 0,
        })
    }

    /// Goes to another window of the sketch, round the end.
    fn move_window(&mut self, by: isize) -> Next {
        let spans_ms = self.windows();
        let at = spans_ms
            .iter()
            .position(|ms| *ms == self.question.window_ms);
        let window_ms = spans_ms[moved(at.unwrap_or(0), by, spans_ms.len())];
        self.ask(Question {
            window_ms,
            ..self.question.clone()
        })
    }

    fn ask(&mut self, question: Question) -> Next {
        if question == self.question {
            return Next::Nothing;
        }
        self.question = question;
        self.top = None;
        Next::Ask
    }

    /// The names of the sketches with their windows, as far as they are known.
    fn sketches(&self) -> impl Iterator<Item = (&str, Vec<u64>)> {
        let sketches = self.status.iter().flat_map(|status| &status.sketches);
        sketches.map(|it| (&*it.name, it.windows.iter().map(|w| w.span_ms).collect()))
    }

    /// All time, and the windows of the sketch that is shown.
    pub(super) fn windows(&self) -> Vec<u64> {
        let mut sketches = self.sketches();
        let shown = sketches.find(|(name, _)| *name == self.question.sketch);
        let windows = shown.map(|(_, windows)| windows).unwrap_or_default();
        std::iter::once(0).chain(windows).collect()
    }
}

/// The place that is so many steps further, round the end of a list of this length, which is not empty.
fn moved(at: usize, by: isize, length: usize) -> usize {
    (at as isize + by).rem_euclid(length.max(1) as isize) as usize
}

/// The rates between two looks; `None` where the node was started again between them.
fn rates(before: &Status, now: &Status) -> Option<Rates> {
    let seconds = now.uptime_s - before.uptime_s;
    if seconds <= 0.0 || now.messages.add < before.messages.add {
        return None;
    }
    let rate = |of: fn(&Status) -> u64| of(now).saturating_sub(of(before)) as f64 / seconds;
    Some(Rates {
        adds: rate(|it| it.messages.add),
        counts: rate(|it| it.messages.count + it.messages.bounds + it.messages.window),
        hits: rate(|it| it.messages.hit + it.messages.limits + it.messages.hit_by_name),
        over: rate(|it| it.limits.iter().map(|limit| limit.over).sum()),
    })
}
