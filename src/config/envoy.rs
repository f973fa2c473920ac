//! The part of a configuration for Envoy's rate limit service ([`EnvoyConfig`]), the files of its rules, and the sketch
//! that counts for them.

use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;
use thiserror::Error;

use super::{
    AddressError, ConfigError, HostPort, NodeConfig, SketchConfig, SketchWish, WindowConfig,
    span_text,
};
use rmbd_rules::{FILE_BYTES_MAX, FILES_MAX, Rules, RulesError, RulesFile, Unit};

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
    texts: Vec<(String, String)>,
    rules: Arc<Rules>,
}

/// Rules are what their files say.
impl PartialEq for RuleFiles {
    fn eq(&self, other: &Self) -> bool {
        self.texts == other.texts
    }
}

/// Why there are no rules. Those before, if there were any, stay as they are.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum RuleFilesError {
    /// A file or a folder cannot be read.
    #[error("--limits: can't read {}: {problem}", path.display())]
    Unreadable {
        /// Its path.
        path: PathBuf,
        /// The system's error, or why it is not read.
        problem: String,
    },
    /// A folder has no file of rules.
    #[error("--limits: the folder {} has neither *.yaml nor *.yml: name another, or leave it out", path.display())]
    Empty {
        /// Its path.
        path: PathBuf,
    },
    /// There are too many files.
    #[error(
        "--limits: {files} files of rules are above the limit of {FILES_MAX}: put several domains together"
    )]
    TooMany {
        /// Number of files.
        files: usize,
    },
    /// A file is wrong.
    #[error("--limits: {0}")]
    Rules(#[from] RulesError),
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
    /// [`RuleFilesError`] names the file, and the line where there is one.
    pub fn read(address: Option<String>, limits: Vec<PathBuf>) -> Result<Self, RuleFilesError> {
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
        Ok(Self::read(options.envoy, options.limits)?)
    }
}

impl RuleFiles {
    /// Reads files, and the files `*.yaml` and `*.yml` of folders in the order of their names.
    ///
    /// # Errors
    /// [`RuleFilesError`] names the file, and the line where there is one.
    pub fn read(paths: &[PathBuf]) -> Result<Self, RuleFilesError> {
        let mut files = Vec::new();
        for path in paths {
            add_files(path, &mut files)?;
        }
        if files.len() > FILES_MAX {
            return Err(RuleFilesError::TooMany { files: files.len() });
        }
        let texts = files.iter().map(|path| {
            let text = text(path).map_err(|error| unreadable(path, &error))?;
            Ok((path.display().to_string(), text))
        });
        Ok(Self::of(texts.collect::<Result<_, RuleFilesError>>()?)?)
    }

    /// Rules of texts, each with the name of its file.
    pub(crate) fn of(texts: Vec<(String, String)>) -> Result<Self, RulesError> {
        let files: Vec<_> = texts
            .iter()
            .map(|(name, text)| RulesFile { name, text })
            .collect();
        let rules = Arc::new(Rules::read(&files)?);
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

/// The file of a path, or those of a folder.
fn add_files(path: &Path, files: &mut Vec<PathBuf>) -> Result<(), RuleFilesError> {
    let about = fs::metadata(path).map_err(|error| unreadable(path, &error))?;
    if !about.is_dir() {
        files.push(path.to_owned());
        return Ok(());
    }
    let mut found = rule_files_of(path).map_err(|error| unreadable(path, &error))?;
    if found.is_empty() {
        return Err(RuleFilesError::Empty { path: path.into() });
    }
    found.sort();
    files.append(&mut found);
    Ok(())
}

/// Hidden files are left out: a folder that a ConfigMap is mounted to has hidden copies.
fn rule_files_of(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let extension = path.extension().and_then(|it| it.to_str());
        let name = path.file_name().map(|it| it.as_encoded_bytes());
        let is_hidden = name.is_some_and(|name| name.starts_with(b"."));
        if matches!(extension, Some("yaml" | "yml")) && !is_hidden {
            files.push(path);
        }
    }
    Ok(files)
}

fn text(path: &Path) -> io::Result<String> {
    let file = fs::File::open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("it is no regular file"));
    }
    let mut text = String::new();
    file.take(FILE_BYTES_MAX as u64 + 1)
        .read_to_string(&mut text)?;
    Ok(text)
}

fn unreadable(path: &Path, error: &io::Error) -> RuleFilesError {
    RuleFilesError::Unreadable {
        path: path.to_owned(),
        problem: error.to_string(),
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
    /// counts for them, in a window that slides for each unit of time; SIGHUP reads them again; repeat it or use commas
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
    fn a_folder_is_its_visible_yaml_files_in_order() {
        let folder = new_folder("order");
        for name in ["b.yaml", "a.yml", ".c.yaml", "d.txt"] {
            let text = RULES.replace("edge", &name[..1]);
            fs::write(folder.join(name), text).unwrap();
        }
        let read = RuleFiles::read(std::slice::from_ref(&folder)).unwrap();
        let names: Vec<_> = read.texts.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names.len(), 2, "{names:?}");
        assert!(names[0].ends_with("a.yml") && names[1].ends_with("b.yaml"));
        assert!(read.are_given());
        fs::remove_dir_all(&folder).unwrap();
        for (path, words) in [
            (folder.as_path(), "can't read"),
            (Path::new("/dev/zero"), "no regular file"),
        ] {
            let error = RuleFiles::read(&[path.into()]).unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
        }
        fs::create_dir(&folder).unwrap();
        let error = RuleFiles::read(std::slice::from_ref(&folder)).unwrap_err();
        assert!(
            error.to_string().contains("neither *.yaml nor *.yml"),
            "{error}"
        );
        fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn a_node_with_rules_has_a_sketch_with_their_windows() {
        let folder = new_folder("sketch");
        let path = folder.join("edge.yaml");
        fs::write(&path, RULES).unwrap();
        let envoy = EnvoyConfig::read(None, vec![path]).unwrap();
        fs::remove_dir_all(&folder).unwrap();
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

    /// A folder of this test.
    fn new_folder(name: &str) -> PathBuf {
        let name = format!("rmbd-envoy-{name}-{}", std::process::id());
        let folder = std::env::temp_dir().join(name);
        fs::create_dir_all(&folder).unwrap();
        folder
    }
}
