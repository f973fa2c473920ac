//! Reading the configuration again while the node runs: limits and the log filter are taken over, everything else
//! waits for a restart.

use std::fmt::Write as _;
use std::sync::Arc;

use tracing::{Level, enabled, info, warn};

use crate::config::{LimitConfig, NodeConfig};
use crate::shared::LimitsInForce;

/// A function that sets the filter of the log; the error is its text.
pub type SetLog = dyn Fn(&str) -> Result<(), String> + Send;

/// How a node that is a program reads its configuration again.
pub struct Reload {
    /// The filter of the log that the program started with.
    pub log: String,
    /// Reads flags, variables and the file again; the error is its text.
    pub read: Box<dyn Fn() -> Result<Reread, String> + Send>,
    /// Sets the filter of the log.
    pub set_log: Box<SetLog>,
}

/// A configuration that was read again.
#[derive(Debug)]
pub struct Reread {
    /// The node's configuration.
    pub config: NodeConfig,
    /// The filter of the log.
    pub log: String,
}

impl std::fmt::Debug for Reload {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reload").finish_non_exhaustive()
    }
}

/// Takes over what a reload changes.
pub(super) struct Reloader {
    how: Reload,
    /// What the node was started with.
    started: NodeConfig,
    limits: Arc<LimitsInForce>,
}

impl Reloader {
    pub(super) fn new(how: Reload, started: &NodeConfig, limits: Arc<LimitsInForce>) -> Self {
        Self {
            how,
            started: started.clone(),
            limits,
        }
    }

    /// Reads the configuration again. If it is wrong, everything stays as it is.
    pub(super) fn reload(&mut self, signal: &str) {
        let Reread { config, log } = match (self.how.read)() {
            Ok(reread) => reread,
            Err(error) => {
                warn!(
                    "{signal}: the configuration is wrong, and everything stays as it is: {error}"
                );
                return;
            }
        };
        let before = self.limits.replace(&config.limits);
        let mut news = limits_news(&before, &config.limits);
        if log != self.how.log {
            news.push(format!("the log filter is {log:?}"));
        }
        // A filter that is stricter than the one before would keep the line back, and one that is not may show it.
        let is_heard = enabled!(Level::INFO);
        if is_heard {
            say(signal, &news);
        }
        self.set_log(signal, log);
        if !is_heard {
            say(signal, &news);
        }
        let waiting = waiting(&self.started, &config);
        if !waiting.is_empty() {
            warn!(
                "{signal}: these changes need a restart: {}",
                waiting.join(", ")
            );
        }
    }

    fn set_log(&mut self, signal: &str, filter: String) {
        if filter == self.how.log {
            return;
        }
        match (self.how.set_log)(&filter) {
            Ok(()) => self.how.log = filter,
            Err(error) => warn!("{signal}: the log filter stays {:?}: {error}", self.how.log),
        }
    }
}

fn say(signal: &str, news: &[String]) {
    match news.is_empty() {
        true => info!("{signal}: limits and the log filter are as they were"),
        false => info!("{signal}: {}", news.join("; ")),
    }
}

/// What differs between two lists of limits, in words.
fn limits_news(before: &[LimitConfig], after: &[LimitConfig]) -> Vec<String> {
    let lacks = |limits: &[LimitConfig], limit: &LimitConfig| {
        limits.iter().all(|other| other.name != limit.name)
    };
    let new = after.iter().filter(|limit| lacks(before, limit));
    let gone = before.iter().filter(|limit| lacks(after, limit));
    let changed = after
        .iter()
        .filter(|limit| !lacks(before, limit) && !before.contains(limit));
    let news = [
        ("new limits", names(new)),
        ("changed limits", names(changed)),
        ("limits that are gone", names(gone)),
    ];
    let news = news.into_iter().filter(|(_, names)| !names.is_empty());
    news.map(|(what, names)| format!("{what}: {names}"))
        .collect()
}

/// Names for one line of the log; of many the first are named.
fn names<'l>(limits: impl Iterator<Item = &'l LimitConfig>) -> String {
    const NAMED_MAX: usize = 16;
    let names: Vec<_> = limits.map(|limit| limit.name.as_str()).collect();
    let mut text = names[..names.len().min(NAMED_MAX)].join(", ");
    if names.len() > NAMED_MAX {
        // Writing to a string cannot fail.
        let _ = write!(text, " and {} more", names.len() - NAMED_MAX);
    }
    text
}

/// Keys of what differs, and cannot change while a node runs.
fn waiting(started: &NodeConfig, now: &NodeConfig) -> Vec<&'static str> {
    let pairs = started.settings().into_iter().zip(now.settings());
    let keys = pairs.filter_map(|(was, is)| (was != is).then_some(was.key));
    let sketches = started.all_sketches() != now.all_sketches();
    keys.chain(sketches.then_some("sketch")).collect()
}
