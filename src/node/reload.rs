//! Reading the configuration again while the node runs: limits, rules, the lists of who may do what, the cluster's
//! keys and the log filter are taken over, everything else waits for a restart.

use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;

use tracing::{Level, enabled, info, warn};

use super::bind::warn_of_an_open_port;
use crate::cluster_io::{SharedCluster, read_keys};
use crate::config::{ENVOY_SKETCH, LimitConfig, NodeConfig, RuleFiles, SketchConfig, SketchError};
use crate::fronts::datagrams::ClientPort;
use crate::shared::{Access, LimitsInForce};
use rmbd_cluster::seal::KeyRing;

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

/// The parts of a node that serves of which a reload changes something.
pub(super) struct Running {
    pub(super) port: Arc<ClientPort>,
    pub(super) cluster: Option<Arc<SharedCluster>>,
    /// Others than this host reach a front that would not be there without a list of --allow.
    pub(super) needs_list: bool,
}

/// Keys of the lists of who may do what.
const OF_ACCESS: [&str; 3] = ["allow", "trust", "show-keys"];

/// Takes over what a reload changes.
pub(super) struct Reloader {
    how: Reload,
    /// What the node was started with.
    started: NodeConfig,
    limits: Arc<LimitsInForce>,
    /// The rules that were taken over last.
    rules: RuleFiles,
}

impl Reloader {
    pub(super) fn new(how: Reload, started: &NodeConfig, limits: Arc<LimitsInForce>) -> Self {
        Self {
            how,
            started: started.clone(),
            limits,
            rules: started.envoy.rules.clone(),
        }
    }

    /// Reads the configuration again. If it is wrong, everything stays as it is. What a node takes over only while it
    /// serves waits, where none is `running` yet.
    pub(super) fn reload(&mut self, signal: &str, running: Option<&Running>) {
        let Reread { config, log } = match (self.how.read)() {
            Ok(reread) => reread,
            Err(error) => {
                warn!(
                    "{signal}: the configuration is wrong, and everything stays as it is: {error}"
                );
                return;
            }
        };
        let mut news = self.take_limits(signal, &config.limits);
        news.extend(self.take_rules(signal, &config.envoy.rules));
        news.extend(running.and_then(|running| take_access(signal, &config, running)));
        let key_file = self.key_file(&config);
        news.extend(running.and_then(|running| take_keys(signal, key_file, running)));
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
        let mut waiting = waiting(&self.started, &config);
        waiting.retain(|key| running.is_none() || !OF_ACCESS.contains(key));
        if !waiting.is_empty() {
            warn!(
                "{signal}: these changes need a restart: {}",
                waiting.join(", ")
            );
        }
    }

    /// Puts limits in force, and says what is new. They are checked against the sketches that run, which are not always
    /// those of the file. If one does not fit, all stay as they were.
    fn take_limits(&self, signal: &str, limits: &[LimitConfig]) -> Vec<String> {
        let sketches = self.started.all_sketches().unwrap_or_default();
        let misfit = limits.iter().find_map(|limit| limit.fits(&sketches).err());
        if let Some(misfit) = misfit {
            warn!("{signal}: all limits stay as they are, these need a restart: {misfit}");
            return Vec::new();
        }
        let before = self.limits.replace(limits);
        limits_news(&before, limits)
    }

    /// Puts rules in force, and says so. If one counts in a unit for which no window runs, all stay as they were.
    fn take_rules(&mut self, signal: &str, rules: &RuleFiles) -> Option<String> {
        if *rules == self.rules {
            return None;
        }
        let sketches = self.started.all_sketches().unwrap_or_default();
        if let Err(misfit) = rules.fit(&sketches) {
            warn!("{signal}: all rules stay as they are, these need a restart: {misfit}");
            return None;
        }
        self.limits.replace_rules(rules);
        self.rules = rules.clone();
        let (domains, all) = (rules.rules().domains().len(), rules.rules().len());
        Some(format!("rules: {all} in domains: {domains}"))
    }

    /// The file of keys, where that is still the one with which the node was started.
    fn key_file<'c>(&self, now: &'c NodeConfig) -> Option<&'c Path> {
        let file = now.cluster.key_file.as_deref()?;
        (self.started.cluster.key_file.as_deref() == Some(file)).then_some(file)
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

/// Puts the lists of who may do what in force, and says which are others. Where one would open what must not be open,
/// all stay as they were.
fn take_access(signal: &str, config: &NodeConfig, running: &Running) -> Option<String> {
    let (before, after) = (running.port.access().get(), Access::of(config));
    let news = after.news(&before)?;
    if running.needs_list && config.allow.is_empty() {
        warn!(
            "{signal}: {news} stay as they are: --spoe, --envoy and, without a password, --resp need a list of --allow \
             where others reach them"
        );
        return None;
    }
    after.replace(running.port.access());
    warn_of_an_open_port(config, running.port.address());
    Some(news)
}

/// Reads the cluster's keys again, and says whether they are others. If the file is wrong, all stay as they were.
fn take_keys(signal: &str, file: Option<&Path>, running: &Running) -> Option<String> {
    let (file, cluster) = (file?, running.cluster.as_ref()?);
    match read_again(file) {
        Ok(keys) => {
            let (now, all) = (running.port.shared().now(), keys.len());
            let after = keys.clone();
            let before = cluster.set_keys(now, keys)?;
            let first = match after.seals_like(&before) {
                true => "the first as before",
                false => "another one first",
            };
            Some(format!("the cluster's keys: {all}, {first}"))
        }
        Err(error) => {
            warn!("{signal}: the cluster's keys stay as they are: {error}");
            None
        }
    }
}

/// Reading a pipe could hold up the thread that takes signals.
fn read_again(file: &Path) -> Result<KeyRing, String> {
    if std::fs::metadata(file).is_ok_and(|about| !about.is_file()) {
        let file = file.display();
        return Err(format!(
            "{file} is no regular file, which could be read again"
        ));
    }
    read_keys(file).map_err(|error| error.to_string())
}

fn say(signal: &str, news: &[String]) {
    match news.is_empty() {
        true => info!("{signal}: all that a reload changes is as it was"),
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
    // Rules are taken over from wherever they come, if the windows that run are enough for them.
    let keys = keys.filter(|key| *key != "limits");
    let sketches = sketches(started) != sketches(now);
    keys.chain(sketches.then_some("sketch")).collect()
}

/// The sketches without the one that counts for rules, of which it was said already what it lacks.
fn sketches(config: &NodeConfig) -> Result<Vec<SketchConfig>, SketchError> {
    let mut sketches = config.all_sketches()?;
    sketches.retain(|it| it.name.as_str() != ENVOY_SKETCH);
    Ok(sketches)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::sync::Mutex;

    use super::*;
    use crate::config::{Amount, LimitVerdict};

    fn limit(name: &str, count: u64) -> LimitConfig {
        LimitConfig {
            name: name.parse().unwrap(),
            sketch: Default::default(),
            keys: Default::default(),
            amounts: vec![Amount {
                count,
                window_ms: 60_000,
            }],
            cost: 1,
            verdict: LimitVerdict::Take,
            overrides: Vec::new(),
            exempt: Vec::new(),
            shadow: false,
        }
    }

    fn with(limits: &[LimitConfig]) -> NodeConfig {
        NodeConfig {
            limits: limits.to_vec(),
            ..NodeConfig::default()
        }
    }

    #[test]
    fn a_reload_takes_over_limits_and_the_filter_or_nothing() {
        let good = |limits: &[LimitConfig], log: &str| {
            Ok(Reread {
                config: with(limits),
                log: log.to_owned(),
            })
        };
        let (first, second) = ([limit("a", 1)], [limit("a", 2), limit("b", 1)]);
        let later = LimitConfig {
            sketch: "later".parse().unwrap(),
            ..limit("c", 1)
        };
        let readings = Mutex::new(vec![
            good(&[], "bad"),
            good(&[limit("d", 1), later], "warn"),
            Err("a reason".to_owned()),
            good(&second, "warn"),
        ]);
        let filters = Arc::new(Mutex::new(Vec::new()));
        let heard = Arc::clone(&filters);
        let how = Reload {
            log: "info".to_owned(),
            read: Box::new(move || readings.lock().unwrap().pop().unwrap()),
            set_log: Box::new(move |filter| {
                heard.lock().unwrap().push(filter.to_owned());
                match filter {
                    "bad" => Err("refused".to_owned()),
                    _ => Ok(()),
                }
            }),
        };
        let limits = Arc::new(LimitsInForce::new(&first));
        let mut reloader = Reloader::new(how, &with(&first), Arc::clone(&limits));
        reloader.reload("SIGHUP", None);
        assert_eq!(*limits.get(), second);
        assert_eq!(reloader.how.log, "warn");
        reloader.reload("SIGHUP", None);
        assert_eq!(*limits.get(), second, "the reading failed");
        reloader.reload("SIGHUP", None);
        assert_eq!(
            *limits.get(),
            second,
            "one needs a sketch that does not run"
        );
        reloader.reload("SIGHUP", None);
        assert!(limits.get().is_empty());
        assert_eq!(reloader.how.log, "warn", "the filter was refused");
        assert_eq!(*filters.lock().unwrap(), ["warn", "bad"]);
    }

    #[test]
    fn what_changed_is_named() {
        let before = [limit("a", 1), limit("b", 1), limit("c", 1)];
        let after = [limit("b", 2), limit("c", 1), limit("d", 1)];
        let news = limits_news(&before, &after);
        let expected = [
            "new limits: d",
            "changed limits: b",
            "limits that are gone: a",
        ];
        assert_eq!(news, expected);
        let many: Vec<_> = (0..20).map(|i| limit(&format!("l{i}"), 1)).collect();
        let news = limits_news(&[], &many).join("");
        assert!(news.ends_with("l14, l15 and 4 more"), "{news}");
        let changed = NodeConfig {
            threads: Some(2),
            windows: Vec::new(),
            ..with(&before)
        };
        assert_eq!(waiting(&with(&[]), &changed), ["threads", "sketch"]);
    }
}
