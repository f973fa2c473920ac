//! The part of a configuration for Envoy's rate limit service ([`EnvoyConfig`]), the files of its rules, and the
//! sketch that counts for them.

use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use thiserror::Error;

use super::{
    AddressError, ConfigError, HostPort, NodeConfig, RulesFilesError, RulesText, SketchConfig,
    SketchWish, WindowConfig, read_rules_texts, span_text, understand,
};
use rmbd_rules::{Rules, RulesError, Unit};

/// The name of the sketch that counts for rules.
pub const ENVOY_SKETCH: &str = "envoy";

/// The configuration of a node for Envoy's rate limit service.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct EnvoyConfig {
    /// The address as `HOST:PORT`; port 0 takes a free port. `None` is off.
    pub address: Option<String>,
    /// Files of rules, and folders of such files.
    pub limits: Vec<PathBuf>,
    /// What stood in them.
    pub rules: RuleFiles,
}

/// Files of rules as they were read. They can change while the node runs.
#[derive(Debug, Clone, Default)]
pub struct RuleFiles {
    texts: Vec<RulesText>,
    rules: Arc<Rules>,
}

/// Rules are what their files say.
impl PartialEq for RuleFiles {
    fn eq(&self, other: &Self) -> bool {
        self.texts == other.texts
    }
}

/// A unit of time in which rules count, and for which the sketch that runs keeps no window.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error(
    "rules count by the {unit}, for which the sketch {ENVOY_SKETCH} keeps no window: give it windows={windows}, or leave \
     it to the node"
)]
pub struct NoWindow {
    unit: Unit,
    windows: String,
}

impl EnvoyConfig {
    /// Reads the rules of such a node.
    ///
    /// # Errors
    /// [`RulesFilesError`] names the file, and the line where there is one.
    pub fn read(address: Option<String>, limits: Vec<PathBuf>) -> Result<Self, RulesFilesError> {
        Ok(Self {
            address,
            rules: RuleFiles::read(&limits)?,
            limits,
        })
    }

    pub(super) fn from_options(options: EnvoyOptions) -> Result<Self, ConfigError> {
        if options.envoy.is_some() && options.limits.is_empty() {
            return Err(ConfigError::EnvoyWithoutLimits);
        }
        let read = Self::read(options.envoy, options.limits);
        read.map_err(|error| ConfigError::Rules {
            problem: error.to_string(),
        })
    }
}

impl RuleFiles {
    /// Reads files, and the files `*.yaml` and `*.yml` of folders in the order of their names.
    ///
    /// # Errors
    /// [`RulesFilesError`] names the file, and the line where there is one.
    pub fn read(paths: &[PathBuf]) -> Result<Self, RulesFilesError> {
        Ok(Self::of(read_rules_texts(paths)?)?)
    }

    /// Rules of these texts.
    ///
    /// # Errors
    /// The first thing that is wrong with any of them.
    pub fn of(texts: Vec<RulesText>) -> Result<Self, RulesError> {
        let rules = Arc::new(understand(&texts)?);
        Ok(Self { texts, rules })
    }

    /// The rules.
    #[must_use]
    pub fn rules(&self) -> &Arc<Rules> {
        &self.rules
    }

    /// Whether there is a file.
    #[must_use]
    pub fn are_given(&self) -> bool {
        !self.texts.is_empty()
    }

    /// Checks that a sketch of these keeps a window for each unit of time.
    ///
    /// # Errors
    /// [`NoWindow`] names the first unit without.
    pub fn fit(&self, sketches: &[SketchConfig]) -> Result<(), NoWindow> {
        let mut sketches = sketches.iter();
        let sketch = sketches.find(|sketch| sketch.name.as_str() == ENVOY_SKETCH);
        let windows = sketch.map_or(&[][..], |sketch| &sketch.windows);
        let lacks = |unit: &Unit| !windows.iter().any(|it| it.covers(unit.window_ms()));
        let Some(unit) = self.rules.units().find(lacks) else {
            return Ok(());
        };
        let there = windows.iter().map(|window| window.span_ms());
        let lacking = self.rules.units().filter(lacks).map(Unit::window_ms);
        let all: Vec<_> = there.chain(lacking).map(span_text).collect();
        let windows = all.join("+");
        Err(NoWindow { unit, windows })
    }
}

impl NodeConfig {
    /// The node with rules, and with a sketch that counts for them, unless it has one of this name.
    ///
    /// # Errors
    /// Fails if its own sketch of this name lacks a window, or the other sketch is not possible.
    pub fn with_envoy(mut self, envoy: EnvoyConfig) -> Result<Self, ConfigError> {
        let has_sketch = (self.sketches.iter()).any(|it| it.name.as_str() == ENVOY_SKETCH);
        if envoy.rules.are_given() && !has_sketch {
            let windows = envoy.rules.rules.units().map(|unit| WindowConfig {
                span_ms: unit.window_ms(),
                step_ms: None,
                width: None,
            });
            let wish = SketchWish {
                windows: Some(windows.collect()),
                top: self.top,
                ..SketchWish::named(ENVOY_SKETCH.parse().map_err(super::SketchError::from)?)
            };
            self.sketches.push(wish.plan(self.family)?);
        }
        envoy.rules.fit(&self.sketches)?;
        Ok(Self { envoy, ..self })
    }
}

/// A node's options for Envoy's rate limit service.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct EnvoyOptions {
    /// Where to serve Envoy's rate limit service, gRPC without TLS [default: nowhere]; beyond loopback it takes
    /// --allow, and it takes --limits
    #[arg(long, value_name = "HOST:PORT", env = "RMBD_ENVOY", value_parser = address)]
    pub envoy: Option<String>,

    /// Rules of Envoy's rate limit service: a YAML file of it, or a folder of *.yaml and *.yml; the sketch `envoy`
    /// counts for them, in a window that slides for each unit of time; SIGHUP reads them again; repeat it or use
    /// commas
    #[arg(
        long,
        value_name = "DIR|FILE",
        env = "RMBD_LIMITS",
        value_delimiter = ','
    )]
    pub limits: Vec<PathBuf>,
}

fn address(text: &str) -> Result<String, AddressError> {
    text.parse::<HostPort>().map(|_| text.to_owned())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const RULES: &str = "domain: edge\ndescriptors:\n  - key: user\n    \
                         rate_limit: { unit: minute, requests_per_unit: 2 }\n";

    #[test]
    fn a_node_with_rules_has_a_sketch_with_their_windows() {
        let text = RulesText {
            name: "edge.yaml".to_owned(),
            text: RULES.to_owned(),
        };
        let envoy = EnvoyConfig {
            rules: RuleFiles::of(vec![text]).unwrap(),
            ..EnvoyConfig::default()
        };
        let config = NodeConfig::default().with_envoy(envoy.clone()).unwrap();
        let [sketch] = config.sketches.as_slice() else {
            panic!("{:?}", config.sketches);
        };
        assert_eq!(sketch.name.as_str(), ENVOY_SKETCH);
        let spans: Vec<_> = sketch.windows.iter().map(|it| it.span_ms()).collect();
        assert_eq!(spans, [60_000]);
        let own = |windows: &str| {
            let wish: SketchWish = format!("name=envoy,windows={windows}").parse().unwrap();
            let config = NodeConfig::default();
            NodeConfig {
                sketches: vec![wish.plan(config.family).unwrap()],
                ..config
            }
        };
        assert_eq!(
            own("1h/1m")
                .with_envoy(envoy.clone())
                .unwrap()
                .sketches
                .len(),
            1
        );
        let error = own("1s").with_envoy(envoy).unwrap_err().to_string();
        assert!(
            error.contains("by the minute") && error.contains("windows=1s+1m"),
            "{error}"
        );
        let none = NodeConfig::default().with_envoy(EnvoyConfig::default());
        assert!(none.unwrap().sketches.is_empty());
    }
}
