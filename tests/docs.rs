//! Tests of the README and of `docs/`: pages are found, links lead somewhere, readers find what they came for, and what
//! the pages show is what happens.
//!
//! A block of the kind `console` has commands behind `$ `, and below each what it prints, where `...` stands for
//! anything. All blocks of a page run in one folder, one after the other. A line that ends with `&` starts something; a
//! node takes the place of all others, if one has its address. `<!-- file: NAME -->` before a block writes it to the
//! folder, and `<!-- not run: why -->` leaves it out.

#![allow(missing_docs, clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rmbd_testkit::required::skip;
use rmbd_testkit::tree::files_below;
use rustix::process::{Pid, Signal, kill_process, kill_process_group};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");
const PROGRAM: &str = env!("CARGO_BIN_EXE_rmbd");
/// How long a node may take to be ready, and a look to show what is wanted.
const PATIENCE: Duration = Duration::from_secs(60);
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// What stands for anything in a page.
const ANYTHING: &str = "...";

// Pages and their links.

#[test]
fn every_page_is_at_most_two_links_from_the_readme() {
    let near = pages_by_links(2);
    for page in files_below(&Path::new(ROOT).join("docs"), ".md") {
        assert!(near.contains(&page), "{} is too far", page.display());
    }
}

#[test]
fn every_link_and_anchor_leads_somewhere() {
    let mut anchors = 0;
    for page in files_below(Path::new(ROOT), ".md") {
        for target in links(&read(&page)) {
            if target.contains("://") {
                continue;
            }
            let (file, anchor) = target.split_once('#').unwrap_or((&target, ""));
            let there = match file {
                "" => page.clone(),
                file => page.parent().unwrap().join(file),
            };
            let place = format!("{} links to {target}", page.display());
            assert!(there.exists(), "{place}");
            if !anchor.is_empty() {
                anchors += 1;
                let known = headings(&read(&there));
                assert!(known.contains(anchor), "{place}, of {known:?}");
            }
        }
    }
    assert!(anchors > 100, "{anchors}");
}

/// Readers of ten kinds, with a question, and what must stand on a page for them to have the answer.
#[test]
fn ten_readers_find_their_answers() {
    let readers: [(&str, &str, &[&str]); 10] = [
        (
            "somebody who writes a web service: how do I refuse the 101st request in a minute?",
            "docs/limit-a-rate.md",
            &[
                "api.take(request.address, limit=100, window=\"60s\")",
                "Retry-After",
            ],
        ),
        (
            "somebody on call: datagrams are dropped, what now?",
            "docs/operations.md",
            &["### The kernel drops datagrams", "net.core.rmem_max"],
        ),
        (
            "somebody who plans machines: how much memory, and how many bytes between nodes?",
            "docs/operations.md",
            &["rmbd size --events", "width = 4405"],
        ),
        (
            "somebody with RedisBloom: what becomes of CMS.MERGE, and of EXPIRE?",
            "docs/from-redisbloom.md",
            &["`CMS.MERGE` | refused", "`EXPIRE` | refused in words"],
        ),
        (
            "somebody with Envoy: what does the cluster for the rate limit service look like?",
            "docs/envoy-without-redis.md",
            &["rate_limit_service", "http2_protocol_options"],
        ),
        (
            "somebody under attack: who sends most in the last minute?",
            "docs/find-who-floods.md",
            &["rmbd top -k 2 --window 60s", "complete above"],
        ),
        (
            "somebody who counts views: how many were there in the last hour?",
            "docs/count-views.md",
            &["--window 1h", "windows=1h/5m@65536+1d/1h@65536"],
        ),
        (
            "somebody who reviews security: who is believed, and what can a flood do?",
            "docs/promises.md",
            &[
                "Whoever has the cluster's key is believed",
                "Forged addresses take no places",
            ],
        ),
        (
            "somebody who chooses: when should I not take it?",
            "docs/compared.md",
            &["## When you should not take rmbd", "You bill by the count"],
        ),
        (
            "somebody who wants to change the code: what has a change to have?",
            "CONTRIBUTING.md",
            &["Tests of the kind", ".ci/run"],
        ),
    ];
    let near = pages_by_links(2);
    for (question, page, answers) in readers {
        let page = Path::new(ROOT).join(page);
        assert!(near.contains(&page), "{question}: {}", page.display());
        let text = read(&page);
        for answer in answers {
            assert!(text.contains(answer), "{question}: {answer}");
        }
    }
}

/// The README and all pages that so many links lead to.
fn pages_by_links(links_max: usize) -> BTreeSet<PathBuf> {
    let mut near = BTreeSet::from([Path::new(ROOT).join("README.md")]);
    for _ in 0..links_max {
        for page in near.clone() {
            let folder = page.parent().unwrap();
            let links = links(&read(&page)).into_iter();
            let files = links.map(|link| link.split('#').next().unwrap().to_owned());
            let files = files.filter(|file| file.ends_with(".md") && !file.contains("://"));
            near.extend(files.map(|file| folder.join(file).canonicalize().unwrap()));
        }
    }
    near
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The targets of links, outside of blocks.
fn links(text: &str) -> Vec<String> {
    let prose = prose(text);
    let targets = prose.split("](").skip(1);
    let targets = targets.filter_map(|rest| rest.split(')').next());
    targets.map(str::to_owned).collect()
}

/// A text without its blocks.
fn prose(text: &str) -> String {
    let mut is_block = false;
    let lines = text.lines().filter(|line| {
        let is_fence = line.trim_start().starts_with("```");
        is_block ^= is_fence;
        !is_block && !is_fence
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// The anchors of the headings of a text.
fn headings(text: &str) -> BTreeSet<String> {
    let prose = prose(text);
    let headings = prose.lines().filter(|line| line.starts_with('#'));
    let anchor = |heading: &str| {
        let text = heading.trim_start_matches('#').trim().to_lowercase();
        let kept = text
            .chars()
            .filter(|c| c.is_alphanumeric() || " -_".contains(*c));
        kept.map(|c| if c == ' ' { '-' } else { c }).collect()
    };
    headings.map(anchor).collect()
}

/// A panel that is changed, new or gone is noticed here.
#[test]
fn the_table_of_the_dashboard_is_what_is_shipped() {
    let dashboard = read(&Path::new(ROOT).join("deploy/grafana/rmbd.json"));
    let dashboard: serde_json::Value = serde_json::from_str(&dashboard).unwrap();
    let panels = dashboard["panels"].as_array().unwrap().iter();
    let shipped = panels.map(|panel| {
        let title = panel["title"].as_str().unwrap();
        let targets = panel["targets"].as_array().into_iter().flatten();
        let queries = targets.map(|it| format!("`{}`", it["expr"].as_str().unwrap()));
        let queries: Vec<String> = queries.collect();
        match panel["type"] == "row" {
            true => format!("## {title}"),
            false => {
                let shows = panel["description"].as_str().unwrap();
                assert!(shows.len() > 5, "{title}");
                format!("| {title} | {} | {shows} | ", queries.join("<br>"))
            }
        }
    });
    let page = read(&Path::new(ROOT).join("docs/dashboard.md"));
    let told = page.lines().filter(|line| {
        let is_head = line.starts_with("| panel |") || line.starts_with("|---");
        line.starts_with("## ") || line.starts_with('|') && !is_head
    });
    let mut told = told.peekable();
    assert!(told.peek().is_some());
    let (mut rows, mut cures) = (Vec::new(), Vec::new());
    for line in told {
        // The last column is what people do, of which the dashboard knows nothing.
        let cure = line.strip_suffix(" |").and_then(|it| it.rfind(" | "));
        rows.push(cure.map_or(line, |at| &line[..at + 3]).to_owned());
        cures.extend(cure.map(|at| line[at + 3..].len()));
    }
    assert_eq!(rows, shipped.collect::<Vec<_>>());
    assert!(cures.iter().all(|length| *length > 20), "{cures:?}");
}

// Blocks.

/// Pages that have blocks to run.
fn pages() -> Vec<PathBuf> {
    let root = Path::new(ROOT);
    let mut pages = files_below(&root.join("docs"), ".md");
    pages.extend(["README.md", "CONTRIBUTING.md", "SECURITY.md"].map(|name| root.join(name)));
    pages.sort();
    pages
}

/// What a comment says of the block below it.
#[derive(Debug, Clone, PartialEq)]
enum Mark {
    File(String),
    NotRun(String),
}

#[derive(Debug)]
struct Block {
    kind: String,
    mark: Option<Mark>,
    /// The number of its first line.
    line: usize,
    text: String,
}

fn blocks(text: &str) -> Vec<Block> {
    let (mut blocks, mut mark, mut open) = (Vec::new(), None, None::<Block>);
    for (number, line) in text.lines().enumerate() {
        let said = line
            .strip_prefix("<!-- ")
            .and_then(|it| it.strip_suffix(" -->"));
        match (&mut open, line.strip_prefix("```")) {
            (Some(_), Some(_)) => blocks.extend(open.take()),
            (Some(block), None) => block.text += &format!("{line}\n"),
            (None, Some(kind)) => {
                open = Some(Block {
                    kind: kind.to_owned(),
                    mark: mark.take(),
                    line: number + 2,
                    text: String::new(),
                });
            }
            (None, None) => match said.and_then(|said| said.split_once(": ")) {
                Some(("file", name)) => mark = Some(Mark::File(name.to_owned())),
                Some(("not run", why)) => mark = Some(Mark::NotRun(why.to_owned())),
                // Other comments say nothing of it, and text ends what was said.
                _ if said.is_none() => mark = None,
                _ => {}
            },
        }
    }
    assert!(open.is_none(), "a block has no end");
    blocks
}

/// A new block that is not run is noticed here.
#[test]
fn blocks_that_are_not_run_are_counted_and_have_reasons() {
    let (mut counts, mut run) = (BTreeMap::new(), 0);
    for page in pages() {
        for block in blocks(&read(&page)) {
            if block.kind != "console" {
                assert!(
                    !matches!(block.mark, Some(Mark::NotRun(_))),
                    "{}:{}: only console blocks are run",
                    page.display(),
                    block.line
                );
                continue;
            }
            match block.mark {
                Some(Mark::NotRun(why)) => {
                    assert!(why.len() > 20, "{why}");
                    let name = page
                        .strip_prefix(ROOT)
                        .unwrap()
                        .to_str()
                        .unwrap()
                        .to_owned();
                    *counts.entry(name).or_insert(0) += 1;
                }
                _ => run += 1,
            }
        }
    }
    let wanted = [
        ("CONTRIBUTING.md", 1),
        ("README.md", 2),
        ("docs/envoy-without-redis.md", 2),
        ("docs/install.md", 1),
        ("docs/measure.md", 2),
        ("docs/operations.md", 1),
        ("docs/release.md", 1),
    ];
    let wanted = wanted.map(|(name, count)| (name.to_owned(), count));
    assert_eq!(counts, BTreeMap::from(wanted));
    assert!(run >= 30, "{run}");
}

#[test]
fn console_blocks_print_what_they_show() {
    std::thread::scope(|scope| {
        let mut running = Vec::new();
        for (number, page) in pages().into_iter().enumerate() {
            let text = read(&page);
            let blocks = blocks(&text);
            let is_run = |block: &&Block| block.kind == "console" && block.mark.is_none();
            let Some(missing) = blocks.iter().filter(is_run).find_map(missing_program) else {
                running.push(scope.spawn(move || run_page(&page, number as u8 + 1, blocks)));
                continue;
            };
            skip(format!("{}: {missing} is not installed", page.display()));
        }
        let wrong: Vec<String> = running
            .into_iter()
            .flat_map(|page| page.join().unwrap())
            .collect();
        assert!(wrong.is_empty(), "\n{}", wrong.join("\n\n"));
    });
}

/// A program that a block needs and that is not here.
fn missing_program(block: &Block) -> Option<&'static str> {
    let needed = ["awk", "curl", "redis-cli"];
    needed.into_iter().find(|name| {
        let names =
            |line: &str| line.starts_with("$ ") && line.split(' ').any(|word| word == *name);
        let is_here = || {
            let look = format!("command -v {name}");
            let found = Command::new("sh")
                .args(["-c", &look])
                .stdout(Stdio::null())
                .status();
            found.unwrap().success()
        };
        block.text.lines().any(names) && !is_here()
    })
}

/// Runs the blocks of a page, and tells where it shows something else than what happens.
fn run_page(path: &Path, number: u8, blocks: Vec<Block>) -> Vec<String> {
    let name = path.strip_prefix(ROOT).unwrap().display().to_string();
    let is_run = |block: &Block| block.kind == "console" && block.mark.is_none();
    if !blocks.iter().any(is_run) {
        return Vec::new();
    }
    let mut page = Page::new(number);
    let mut wrong = Vec::new();
    for block in blocks {
        match block.mark {
            Some(Mark::File(file)) => page.write(&file, &block.text),
            Some(Mark::NotRun(_)) => {}
            None if block.kind == "console" => {
                for (line, shown) in commands(&block.text) {
                    if let Err(problem) = page.run(line, &shown) {
                        wrong.push(format!("{name}:{}: $ {line}\n{problem}", block.line));
                    }
                }
            }
            None => {}
        }
    }
    wrong
}

/// The commands of a block, each with what it shows.
fn commands(text: &str) -> Vec<(&str, String)> {
    let mut commands: Vec<(&str, String)> = Vec::new();
    for line in text.lines() {
        match (line.strip_prefix("$ "), commands.last_mut()) {
            (Some(command), _) => commands.push((command, String::new())),
            (None, Some((_, shown))) => *shown += &format!("{line}\n"),
            (None, None) => panic!("a console block begins with `$ `, not with {line:?}"),
        }
    }
    commands
}

/// A page that is played. What it has started ends before its folder goes.
struct Page {
    /// What stands in place of 127.0.0.1, so that all ports are free.
    address: String,
    /// In the order in which they were started.
    nodes: Vec<Node>,
    /// What else goes on.
    others: Vec<Group>,
    folder: tempfile::TempDir,
}

/// A shell with all that it has started.
struct Group(Child);

struct Node {
    address: String,
    child: Child,
    /// Its ready line.
    ready: String,
}

impl Page {
    /// A page with a node, as somebody has who has read the README.
    fn new(number: u8) -> Self {
        let [.., high, low] = std::process::id().to_be_bytes();
        // The range is apart from those of the other tests.
        let address = format!("127.{}.{low}.{number}", 184 + high % 16);
        let mut page = Self {
            address,
            nodes: Vec::new(),
            others: Vec::new(),
            folder: tempfile::tempdir().unwrap(),
        };
        page.start("rmbd 127.0.0.1:8000").unwrap();
        page
    }

    /// A text of the page as it is meant here.
    fn here(&self, text: &str) -> String {
        let ours = format!("{}:", self.address);
        text.replace("127.0.0.1:", &ours)
            .replace("localhost:", &ours)
    }

    fn write(&self, file: &str, text: &str) {
        let path = self.folder.path().join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, self.here(text)).unwrap();
    }

    fn command(&self, line: &str) -> Command {
        let mut command = Command::new("bash");
        command.args(["-c", &self.here(line)]);
        command.current_dir(self.folder.path()).stdin(Stdio::null());
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("RMBD_") {
                command.env_remove(name);
            }
        }
        let programs = Path::new(PROGRAM).parent().unwrap().display();
        let path = std::env::var("PATH").unwrap_or_default();
        command.env("PATH", format!("{programs}:{path}"));
        command.env("RMBD_SERVER", format!("{}:8000", self.address));
        command.env("RMBD_ADDRESS", format!("{}:8000", self.address));
        // The machine may be busy.
        command.env("RMBD_TIMEOUT_MS", "30000");
        command
    }

    /// Runs a command, and says what is not as it is shown.
    fn run(&mut self, line: &str, shown: &str) -> Result<(), String> {
        match line.strip_suffix(" &") {
            Some(node) if node.starts_with("rmbd ") => return self.start(node),
            Some(other) => {
                self.others.push(Group::of(&mut self.command(other)));
                return Ok(());
            }
            None => {}
        }
        let mut line = line.to_owned();
        for (number, node) in self.nodes.iter().enumerate() {
            let job = format!("kill -HUP %{}", number + 1);
            line = line.replace(&job, &format!("kill -HUP {}", node.child.id()));
        }
        let start = Instant::now();
        loop {
            let (code, printed) = self.printed(&line);
            let is_told = match code {
                0 => true,
                3 => line.starts_with("rmbd hit"),
                _ => shown.contains("error:"),
            };
            if is_told && is_like(shown, &printed) {
                return Ok(());
            }
            if !is_look(&line) || start.elapsed() > PATIENCE {
                return Err(format!(
                    "-- shown\n{shown}-- printed, code {code}\n{printed}"
                ));
            }
            std::thread::sleep(LOOK_EVERY);
        }
    }

    /// The exit code of a command, and what it prints.
    fn printed(&self, line: &str) -> (i32, String) {
        let both = format!("exec 2>&1; {line}");
        let output = self.command(&both).output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).replace('\r', "");
        let text = text.replace(&format!("{}:", self.address), "127.0.0.1:");
        // These say for a minute that the node is young.
        let lines = text.lines().filter(|line| !line.starts_with("note: "));
        let text = lines.map(|line| format!("{line}\n")).collect();
        (output.status.code().unwrap_or(-1), text)
    }

    /// Starts a node, in place of all others if one has its address, and waits until it is ready.
    fn start(&mut self, line: &str) -> Result<(), String> {
        let words = line.split(' ').skip(1);
        let address = words.clone().find(|word| word.starts_with("127.0.0.1:"));
        let address = address.unwrap_or("127.0.0.1:8000").to_owned();
        // What others of an earlier block have counted would come back to it.
        if self.nodes.iter().any(|node| node.address == address) {
            self.nodes.drain(..).for_each(Node::end);
        }
        let mut command = self.command(&format!("exec {line}"));
        let said = self.folder.path().join(".log");
        command.stderr(fs::File::create(&said).unwrap());
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut first = String::new();
        let mut output = BufReader::new(child.stdout.take().unwrap());
        output.read_line(&mut first).unwrap();
        // Nothing else is printed, and the end of this pipe ends nothing.
        let is_ready = first.starts_with("rmbd ready ");
        let problem = format!("{line}: {first}{}", read(&said));
        self.nodes.push(Node {
            address,
            child,
            ready: first,
        });
        is_ready.then_some(()).ok_or(problem)
    }
}

impl Node {
    /// Tells it to end, and waits for that.
    fn end(mut self) {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, Signal::TERM).unwrap();
        self.child.wait().unwrap();
    }
}

impl Group {
    fn of(command: &mut Command) -> Self {
        Self(command.process_group(0).spawn().unwrap())
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let _ = kill_process_group(Pid::from_child(&self.0), Signal::KILL);
        let _ = self.0.wait();
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Whether a command changes nothing, so that it may be asked again until it shows what others have done.
fn is_look(line: &str) -> bool {
    let looks = [
        "rmbd config",
        "rmbd count",
        "rmbd limits",
        "rmbd members",
        "rmbd sketches",
        "rmbd status",
        "rmbd top",
    ];
    let is_get = line.starts_with("curl ") && !line.contains("--json") && !line.contains(" -d ");
    let is_hit_of_nothing = line.starts_with("rmbd hit") && line.ends_with(" -n 0");
    looks.iter().any(|look| line.starts_with(look))
        || is_hit_of_nothing
        || is_get && !line.contains("/v1/check")
}

/// Whether a text is as it is shown.
fn is_like(shown: &str, printed: &str) -> bool {
    let (shown, printed) = (shown.trim_end(), printed.trim_end());
    let mut parts: Vec<&str> = shown.split(ANYTHING).collect();
    let last = parts.pop().unwrap();
    let Some((first, inner)) = parts.split_first() else {
        return shown == printed;
    };
    let Some(mut rest) = printed.strip_prefix(first) else {
        return false;
    };
    for part in inner {
        // The blank line that `...` alone on a line leaves may be taken by anything, too.
        match rest.find(part.trim_matches('\n')) {
            Some(at) => rest = &rest[at + part.trim_matches('\n').len()..],
            None => return false,
        }
    }
    rest.ends_with(last.trim_start_matches('\n'))
}

// Metrics.

#[test]
fn every_metric_that_the_documentation_names_is_told() {
    // No page has this number.
    let mut page = Page::new(251);
    page.start("rmbd 127.0.0.1:8000 --resp 127.0.0.1:6380")
        .unwrap();
    // How long operations take is told from the first operation on.
    page.run("rmbd add apple", "").unwrap();
    let url = format!("http://{}:8000/metrics", page.address);
    let told = loop {
        let mut told = ureq::get(&url).call().unwrap();
        let told = told.body_mut().read_to_string().unwrap();
        if told.contains("# TYPE rmbd_latency_seconds") {
            break told;
        }
    };
    let mut named = 0;
    // The queries of the dashboard are asked of a real Prometheus (`tests/process/prometheus.rs`).
    let is_read = |path: &PathBuf| !path.ends_with("docs/dashboard.md");
    for path in pages().into_iter().filter(is_read) {
        let text = read(&path);
        let is_part = |c: char| c.is_ascii_lowercase() || "_*".contains(c);
        let words = text
            .split(|c: char| !is_part(c))
            .filter(|word| word.starts_with("rmbd_"));
        // A crate's name stands before `::`, and a star for any end.
        for word in words.filter(|word| *word != "rmbd_client") {
            named += 1;
            let begins = format!(
                "# TYPE {}",
                word.trim_end_matches('*').trim_end_matches("_total")
            );
            assert!(told.contains(&begins), "{}: {word}", path.display());
        }
    }
    assert!(named > 30, "{named}");
}

// `rmbd size`.

/// The line is accepted, and a node with it reserves the memory that was told.
#[test]
fn a_node_of_the_size_that_is_proposed_takes_the_memory_that_is_told() {
    // No page has this number.
    let mut page = Page::new(250);
    for (words, more) in [
        ("--events 100M/day --error 50 --window 60s --nodes 5", ""),
        ("--events 3G --error 20 --confidence 0.99", " --cluster off"),
        (
            "--events 20k/s --error 5 --window 1h --nodes 3 --threads 1",
            "",
        ),
    ] {
        let threads = if words.contains("--threads") {
            ""
        } else {
            " --threads 2"
        };
        let (code, said) = page.printed(&format!("rmbd size {words}{threads}"));
        assert_eq!(code, 0, "{said}");
        let of = |name: &str| {
            let line = said.lines().find_map(|line| line.strip_prefix(name));
            line.unwrap_or_else(|| panic!("no {name} in {said}"))
                .trim()
                .to_owned()
        };
        page.write("size.toml", &of("config"));
        let (code, checked) = page.printed("rmbd config check size.toml");
        assert_eq!(code, 0, "{checked}");
        let threads = if threads.is_empty() {
            " --threads 1"
        } else {
            threads
        };
        let line = format!("rmbd 127.0.0.1:8000 --config size.toml{threads}{more}");
        page.start(&line).unwrap();
        let ready = &page.nodes.last().unwrap().ready;
        let told = of("memory").split(" for ").next().unwrap().replace(' ', "");
        assert!(ready.contains(&format!(" memory={told} ")), "{said}{ready}");
    }
}

/// What is shown is compared with what is printed.
#[test]
fn what_is_shown_is_compared() {
    for (shown, printed) in [
        ("", ""),
        ("2\tapple\n", "2\tapple\n"),
        ("a ... c\n", "a b c\n"),
        ("a...\n", "a\n"),
        ("a...\n", "a b\nc\n"),
        ("...\n", "whatever\n"),
        ("a\n...\nd\n", "a\nb\nc\nd\n"),
        ("in ... s, and ... of it\n", "in 0.6 s, and all of it\n"),
    ] {
        assert!(is_like(shown, printed), "{shown:?} {printed:?}");
    }
    for (shown, printed) in [
        ("", "2\n"),
        ("2\tapple\n", "3\tapple\n"),
        ("2\tapple\n", "2\tapple\n1\tpear\n"),
        ("a ... c\n", "a b d\n"),
        ("a...\n", "b a\n"),
        ("a\n...\nd\n", "a\nb\nc\n"),
        ("in ... s, and ... of it\n", "in 0.6 s\n"),
    ] {
        assert!(!is_like(shown, printed), "{shown:?} {printed:?}");
    }
}
