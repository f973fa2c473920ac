//! Tests of what is shipped for Prometheus and Grafana, with a real Prometheus that scrapes real nodes.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use rmbd_client::{TopQuestion, Window};
use rmbd_testkit::required::skip;
use rmbd_testkit::streams::{Kind, PATIENCE, Which};
use serde_json::Value;

use crate::kept::Scratch;
use crate::nodes::{Node, PROGRAM, loopback, wait_until};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");
const RULES: &str = "deploy/prometheus/rmbd.rules.yml";
const RULES_TEST: &str = "deploy/prometheus/rmbd.rules_test.yml";
const DASHBOARD: &str = "deploy/grafana/rmbd.json";

/// Time between two scrapes.
const SCRAPE_EVERY_S: u64 = 1;
/// What Grafana puts in the place of `$__rate_interval`: four scrapes.
const RATE_INTERVAL: &str = "4s";
/// Short, so that keys are soon audited for all of it.
const WINDOW: Window = Window::smooth(Duration::from_secs(2));
const CONFIG: &str = "[[sketch]]\nname = 'default'\nwindow = [{ span = '2s', step = '500ms' }]\n\
                      [[limit]]\nname = 'api'\namounts = ['100/2s']\n";
const MISSING: &str = "prometheus and promtool: apt-get install prometheus";

fn read(path: &str) -> String {
    fs::read_to_string(Path::new(ROOT).join(path)).unwrap()
}

/// Values of a field of YAML that has one on each line.
fn values_of<'t>(text: &'t str, field: &str) -> Vec<&'t str> {
    let lines = text.lines().map(|line| line.trim_start_matches([' ', '-']));
    lines
        .filter_map(|line| line.strip_prefix(field)?.strip_prefix(": "))
        .collect()
}

/// Each alert is tested by promtool, and names a paragraph that says what to do.
#[test]
fn rules_ring_when_they_should() {
    let told = Command::new("promtool")
        .args(["test", "rules", RULES_TEST])
        .current_dir(ROOT)
        .output();
    let Ok(told) = told else {
        return skip(MISSING);
    };
    assert!(told.status.success(), "{told:?}");
    let (rules, tests) = (read(RULES), read(RULES_TEST));
    let alerts = values_of(&rules, "alert");
    assert_eq!(values_of(&tests, "name"), alerts);
    let runbooks = values_of(&rules, "runbook");
    assert_eq!(runbooks.len(), alerts.len());
    for runbook in runbooks {
        let (file, anchor) = runbook.split_once('#').unwrap();
        assert_eq!(file, "docs/operations.md");
        let page = fs::read_to_string(Path::new(ROOT).join(file)).unwrap();
        let mut headings = page.lines().filter(|line| line.starts_with('#'));
        assert!(headings.any(|it| anchor_of(it) == anchor), "{runbook}");
    }
}

/// The anchor that renderers of Markdown give to a heading.
fn anchor_of(heading: &str) -> String {
    let text = heading.trim_start_matches('#').trim().to_lowercase();
    let kept = text
        .chars()
        .filter(|c| c.is_alphanumeric() || " -_".contains(*c));
    kept.map(|c| if c == ' ' { '-' } else { c }).collect()
}

/// A Prometheus that is ended when dropped.
struct Prometheus {
    child: Child,
    address: SocketAddr,
}

impl Prometheus {
    /// Scrapes nodes by jobs, and evaluates the rules.
    fn start(scratch: &Scratch, jobs: &[(&str, &[&Node])]) -> Option<Self> {
        let address = SocketAddr::from((loopback(), 9_090));
        let mut config = format!(
            "global: {{scrape_interval: {SCRAPE_EVERY_S}s, evaluation_interval: {SCRAPE_EVERY_S}s}}\n\
             rule_files: [{ROOT}/{RULES}]\nscrape_configs:\n"
        );
        for (job, nodes) in jobs {
            let targets: Vec<String> = nodes.iter().map(|node| format!("'{}'", node.udp)).collect();
            let targets = targets.join(", ");
            config +=
                &format!("- {{job_name: {job}, static_configs: [{{targets: [{targets}]}}]}}\n");
        }
        let file = scratch.path("prometheus.yml");
        fs::write(&file, config).unwrap();
        let storage = scratch.path("prometheus");
        let mut command = Command::new("prometheus");
        command.arg(format!("--config.file={}", file.display()));
        command.arg(format!("--storage.tsdb.path={}", storage.display()));
        command.arg(format!("--web.listen-address={address}"));
        command.stdin(Stdio::null()).stdout(Stdio::null());
        let child = command.stderr(Stdio::null()).spawn().ok()?;
        let prometheus = Self { child, address };
        let agent = agent();
        let ready = format!("http://{address}/-/ready");
        wait_until("a Prometheus", || agent.get(&ready).call().is_ok());
        Some(prometheus)
    }

    /// What its API says, or why it says nothing.
    fn ask(&self, path: &str, query: &str) -> Result<Value, String> {
        let url = format!("http://{}/api/v1/{path}", self.address);
        let response = agent().get(url).query("query", query).call();
        let mut response = response.map_err(|error| format!("{query}: {error}"))?;
        let text = response.body_mut().read_to_string().unwrap();
        let mut answer: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(answer["status"], "success", "{query}: {text}");
        Ok(answer["data"].take())
    }

    /// Number of series that a query yields.
    fn series(&self, query: &str) -> Result<usize, String> {
        let data = self.ask("query", query)?;
        Ok(data["result"].as_array().unwrap().len())
    }

    /// The expressions of its rules.
    fn rules(&self) -> Vec<(String, String)> {
        let data = self.ask("rules", "").unwrap();
        let groups = data["groups"].as_array().unwrap().iter();
        let rules = groups.flat_map(|group| group["rules"].as_array().unwrap());
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        rules
            .map(|rule| {
                assert_ne!(rule["health"], "err", "{rule}");
                (text(&rule["name"]), text(&rule["query"]))
            })
            .collect()
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn agent() -> ureq::Agent {
    let config = ureq::Agent::config_builder()
        .timeout_global(Some(PATIENCE / 4))
        .proxy(None)
        .build();
    config.new_agent()
}

/// All queries of the dashboard, with the titles of their panels. `instance` is the pattern of the nodes that are
/// chosen.
fn dashboard(instance: &str) -> Vec<(String, String)> {
    let dashboard: Value = serde_json::from_str(&read(DASHBOARD)).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    let of_panels = panels.iter().flat_map(|panel| {
        let targets = panel["targets"].as_array().into_iter().flatten();
        targets.map(|target| (&panel["title"], &target["expr"]))
    });
    let variables = dashboard["templating"]["list"].as_array().unwrap();
    // label_values(QUERY, label): what the choices of a variable are made of.
    let of_variables = variables.iter().filter(|it| it["type"] == "query");
    let of_variables = of_variables.map(|it| (&it["name"], &it["definition"]));
    let asked = of_panels.chain(of_variables);
    asked
        .map(|(title, query)| {
            let query = query.as_str().unwrap();
            let values = query.strip_prefix("label_values(");
            let query = values.map_or(query, |it| it.rsplit_once(',').unwrap().0);
            let query = query
                .replace("$__rate_interval", RATE_INTERVAL)
                .replace("$instance", instance)
                .replace("$sketch", ".+");
            assert!(
                !query.contains('$'),
                "a variable that nothing is known of: {query}"
            );
            (title.as_str().unwrap().to_owned(), query)
        })
        .collect()
}

/// What an alert compares, without what it is compared with.
fn compared(query: &str) -> &str {
    let ends = [" > ", " == ", " < "].map(|by| query.rfind(by));
    let end = ends.into_iter().flatten().max().expect(query);
    let with = query[end..].split_whitespace().nth(1).unwrap();
    assert!(with.parse::<f64>().is_ok(), "{query}");
    &query[..end]
}

/// A little of each operation, at each node, until it is over.
fn load(nodes: &[Node], is_over: &AtomicBool) {
    let mut clients: Vec<_> = nodes.iter().map(Node::client).collect();
    // One of 64 is audited.
    for client in &mut clients {
        let many = (0..2_000).map(|number| (format!("one of many {number}"), 1));
        client.add_many(many).unwrap();
    }
    let agent = agent();
    for round in 0_u64.. {
        if is_over.load(Relaxed) {
            return;
        }
        for (client, node) in clients.iter_mut().zip(nodes) {
            let key = format!("key {}", round % 50);
            let mut sketch = client.default_sketch();
            sketch.add(&key, 1).unwrap();
            sketch.count(&key).unwrap();
            sketch.count_bounds(&key).unwrap();
            sketch.count_in(&key, WINDOW).unwrap();
            sketch.hit(&key, 1, 1_000_000).unwrap();
            sketch.take(&key, 1, 1_000, WINDOW).unwrap();
            sketch.hit_by_name("api", &key, 1).unwrap();
            sketch.top(TopQuestion::first(3)).unwrap();
            if round % 10 == 0 {
                let url = format!("http://{}/v1/default/count", node.udp);
                let body = serde_json::json!({"key": key}).to_string();
                let request = agent.post(url).header("Content-Type", "application/json");
                request.send(&body).unwrap();
            }
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Three nodes of a cluster under light load: each query of the dashboard and of the rules finds something, and no
/// alert rings. On a node without windows, limits and a cluster none fails.
#[test]
fn all_queries_of_dashboard_and_rules_find_data() {
    let scratch = Scratch::new("prometheus");
    let config = scratch.path("rmbd.toml");
    fs::write(&config, CONFIG).unwrap();
    let mut nodes: Vec<Node> = Vec::new();
    for number in 0..3 {
        let folder = scratch.path(&format!("node{number}"));
        let mut words = [
            "--config",
            config.to_str().unwrap(),
            "--snapshot-interval",
            "1s",
        ]
        .to_vec();
        words.extend(["--data-dir", folder.to_str().unwrap()]);
        let seed = nodes
            .first()
            .map(|first| SocketAddr::new(first.udp.ip(), 8_001).to_string());
        words.extend(seed.iter().flat_map(|seed| ["--join", seed]));
        let node = Node::start_with(Which::Out, Kind::Read, &words);
        wait_until("a node that serves", || node.get("/readyz").is_some());
        nodes.push(node);
    }
    let words = ["--sketch", "name=default,windows=none", "--cluster", "off"];
    let plain = Node::start_by(&[PROGRAM], Which::Out, Kind::Read, &words);
    wait_until("a node that serves", || plain.get("/readyz").is_some());
    let of_cluster: Vec<&Node> = nodes.iter().collect();
    let jobs: [(&str, &[&Node]); 2] = [("rmbd", &of_cluster), ("plain", &[&plain])];
    let Some(prometheus) = Prometheus::start(&scratch, &jobs) else {
        return skip(MISSING);
    };
    nodes.iter().for_each(|node| node.wait_for_members(2));
    send_stray(&nodes[0]);
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| load(&nodes, &is_over));
        let _ends = AtEnd(&is_over);
        let chosen: Vec<String> = nodes.iter().map(|node| node.udp.to_string()).collect();
        let mut asked = dashboard(&chosen.join("|"));
        assert!(asked.len() > 40, "{}", asked.len());
        wait_until("rules", || !prometheus.rules().is_empty());
        let rules = prometheus.rules().into_iter();
        asked.extend(rules.map(|(name, query)| (name, compared(&query).to_owned())));
        for (title, query) in &asked {
            wait_until(&format!("data of {title}: {query}"), || {
                prometheus.series(query).unwrap() > 0
            });
        }
        let alerts = prometheus.ask("alerts", "").unwrap();
        for alert in alerts["alerts"].as_array().unwrap() {
            assert_ne!(alert["state"], "firing", "{alert}");
        }
        for (title, query) in dashboard(&plain.udp.to_string()) {
            let found = prometheus.series(&query);
            assert!(found.is_ok(), "{title}: {found:?}");
        }
    });
}

/// Sends something that the cluster refuses.
fn send_stray(node: &Node) {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let to = SocketAddr::new(node.udp.ip(), 8_001);
    socket.send_to(b"nothing that is known", to).unwrap();
}

/// Ends the load also where an assertion fails.
struct AtEnd<'a>(&'a AtomicBool);

impl Drop for AtEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, Relaxed);
    }
}
