//! What is in force, key by key.

use serde_json::{Value, json};

use super::sketches::default_top;
use super::{
    ClusterChoice, ClusterConfig, EnvoyConfig, HttpChoice, NodeConfig, Origins, RespConfig, Source,
    span_text,
};
use rmbd_sketch::HashFamily;

/// The value that is in force for a key.
#[derive(Debug, Clone, PartialEq)]
pub struct Setting {
    /// The key: the long name of the option.
    pub key: &'static str,
    /// The value; null where it follows from the machine or from other settings.
    pub value: Value,
}

impl NodeConfig {
    /// What is in force for each key of a node but `log`, which is the program's, and `sketch`, of which
    /// [`all_sketches`](Self::all_sketches) tells.
    #[must_use]
    pub fn settings(&self) -> Vec<Setting> {
        let Self {
            address,
            geometry,
            family,
            dialect,
            threads,
            io,
            busy_poll_us,
            receive_buffer_bytes,
            trust,
            show_keys,
            allow,
            http,
            http_hosts,
            http_token_file,
            http_check,
            max_weight,
            max_peers,
            peer_grace_rounds,
            resp,
            spoe,
            envoy,
            cluster,
            top,
            windows: _,
            sketches: _,
            limits: _,
            resolver: _,
        } = self;
        let is_compat = *family == HashFamily::Fnv
            && (geometry.width() as u64, geometry.depth() as u64) == super::COMPAT_GEOMETRY;
        let seed = match family {
            HashFamily::Xxh3 { seed } => json!(format!("{seed:#x}")),
            HashFamily::Fnv => Value::Null,
        };
        let http = match http {
            HttpChoice::SameAsUdp => Value::Null,
            HttpChoice::Off => json!("off"),
            HttpChoice::At(address) => json!(address),
        };
        let mut settings = vec![
            ("address", json!(address)),
            ("width", json!(geometry.width())),
            ("depth", json!(geometry.depth())),
            ("epsilon", json!(geometry.epsilon())),
            ("confidence", json!(geometry.confidence())),
            ("hash", json!(family.name())),
            ("seed", seed),
            ("compat", json!(is_compat)),
            ("dialect", json!(dialect.to_string())),
            ("threads", json!(threads)),
            ("io", json!(io.to_string())),
            ("busy-poll", json!(busy_poll_us)),
            ("receive-buffer", json!(receive_buffer_bytes)),
            ("trust", json!(trust)),
            ("show-keys", json!(show_keys)),
            ("allow", json!(allow)),
            ("http", http),
            ("http-host", json!(http_hosts)),
            ("http-token-file", json!(http_token_file)),
            ("http-check", json!(http_check)),
            ("max-weight", json!(max_weight)),
            ("max-peers", json!(max_peers)),
            ("peer-grace", json!(peer_grace_rounds)),
            (
                "top",
                json!(top.unwrap_or_else(|| default_top(*family, *geometry))),
            ),
        ];
        settings.extend(of_resp(resp));
        settings.push(("spoe", json!(spoe)));
        settings.extend(of_envoy(envoy));
        settings.extend(of_cluster(cluster));
        let setting = |(key, value)| Setting { key, value };
        settings.into_iter().map(setting).collect()
    }
}

fn of_resp(resp: &RespConfig) -> [(&'static str, Value); 4] {
    let RespConfig {
        address,
        password_file,
        connections,
        idle_ms,
    } = resp;
    let idle = match idle_ms {
        0 => json!(0),
        ms => json!(span_text(*ms)),
    };
    [
        ("resp", json!(address)),
        ("resp-password-file", json!(password_file)),
        ("resp-connections", json!(connections)),
        ("resp-idle", idle),
    ]
}

fn of_envoy(envoy: &EnvoyConfig) -> [(&'static str, Value); 2] {
    let EnvoyConfig {
        address,
        limits,
        rules: _,
    } = envoy;
    [("envoy", json!(address)), ("limits", json!(limits))]
}

fn of_cluster(cluster: &ClusterConfig) -> [(&'static str, Value); 11] {
    let ClusterConfig {
        address,
        join,
        advertise,
        key_file,
        insecure,
        data_dir,
        snapshot_interval_ms,
        gossip_interval_ms,
        gossip_rate_bytes_per_s,
        max_origins,
        max_memory_bytes,
    } = cluster;
    let address = match address {
        ClusterChoice::NextPort => Value::Null,
        ClusterChoice::Off => json!("off"),
        ClusterChoice::At(address) => json!(address),
    };
    let seeds: Vec<_> = join.iter().map(ToString::to_string).collect();
    let advertise = advertise.as_ref().map(ToString::to_string);
    let interval = match data_dir {
        Some(_) => json!(span_text(*snapshot_interval_ms)),
        None => Value::Null,
    };
    [
        ("join", json!(seeds)),
        ("cluster", address),
        ("advertise", json!(advertise)),
        ("cluster-key-file", json!(key_file)),
        ("insecure-cluster", json!(insecure)),
        ("data-dir", json!(data_dir)),
        ("snapshot-interval", interval),
        ("gossip-interval", json!(gossip_interval_ms)),
        ("gossip-rate", json!(gossip_rate_bytes_per_s)),
        ("max-origins", json!(max_origins)),
        ("max-memory", json!(max_memory_bytes)),
    ]
}

/// Keys from which a value follows where its own key is not given.
const FOLLOWS: &[(&str, &[&str])] = &[
    ("width", &["epsilon", "confidence", "compat"]),
    ("depth", &["epsilon", "confidence", "compat"]),
    ("epsilon", &["width", "depth", "compat"]),
    ("confidence", &["width", "depth", "compat"]),
    ("hash", &["compat", "seed"]),
    ("seed", &["hash", "compat"]),
];

impl Origins {
    /// Where the value that is in force for a key comes from, also if it follows from another key.
    #[must_use]
    pub fn of_setting(&self, key: &str) -> Source {
        let own = self.of(key);
        let follows = FOLLOWS.iter().find(|(it, _)| *it == key);
        let others = follows.map_or(&[][..], |(_, others)| others);
        let others = others.iter().map(|other| self.of(other));
        std::iter::once(own)
            .chain(others)
            .find(|source| *source != Source::Default)
            .unwrap_or(Source::Default)
    }
}
