//! Tests of `rmbd config` and `rmbd limits`: what they print.
#![allow(clippy::unwrap_used)]

use std::path::PathBuf;

use serde_json::{Value, json};

use super::*;
use crate::config::read;

const FILE: &str = "width = 4096
[[sketch]]
name = 'logins'
width = 1024
depth = 2
top = 5
[[sketch.window]]
span = '1h'
step = '5m'
width = 256
[[limit]]
name = 'api'
amounts = ['100/60s', '10/5s']
exempt = ['127.0.0.1']
overrides = [{ key = 'premium-*', amounts = ['1000/60s'] }]
[[limit]]
name = 'by-hour'
sketch = 'logins'
keys = 'ip:*'
amounts = ['5/1h']
verdict = 'count'
cost = 2
shadow = true
";

/// A file that is removed at the end.
struct Written(PathBuf);

impl Written {
    fn new(name: &str) -> Self {
        let name = format!("rmbd-{name}-{}.toml", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::write(&path, FILE).unwrap();
        Self(path)
    }

    /// What a command line prints, in which `FILE` is the file.
    fn run(&self, line: &str) -> String {
        let path = self.0.to_str().unwrap();
        let line = format!("rmbd {}", line.replace("FILE", path));
        let words: Vec<OsString> = line.split(' ').map(OsString::from).collect();
        let command = read(&words, |cli: Cli| Ok(cli.command.unwrap())).unwrap();
        let mut output = Vec::new();
        let streams = Streams::to(&mut output);
        run(&command, streams).unwrap();
        String::from_utf8(output).unwrap().replace(path, "FILE")
    }

    fn json(&self, line: &str) -> Value {
        serde_json::from_str(&self.run(line)).unwrap()
    }
}

impl Drop for Written {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

const LIMITS: &str = "\
LIMIT    SKETCH   KEYS          AMOUNTS        COST  VERDICT
api      default  *             100/1m, 10/5s  1     take
                  127.0.0.1/32  exempt
                  premium-*     1000/1m
by-hour  logins   ip:*          5/1h           2     count, shadow
";

#[test]
fn a_good_file_is_told_as_what_it_makes() {
    let file = Written::new("check");
    let expected = "\
sketch     default 4x4096, 448 KiB
window     default 1m by 5s, 4x4096, 896 KiB
top        default the 100 largest keys
sketch     logins 2x1024, 50 KiB
window     logins 1h by 5m, 2x256, 28 KiB
top        logins the 5 largest keys
memory     1.4 MiB for all sketches and windows
limits     2
";
    assert_eq!(file.run("config check FILE"), expected);
    assert_eq!(file.run("limits check FILE"), LIMITS);
    assert_eq!(file.run("limits show --config FILE"), LIMITS);
}

#[test]
fn what_is_in_force_is_shown_with_where_it_comes_from() {
    let file = Written::new("show");
    let text = file.run("config show 127.0.0.1:9 --config FILE --sketch name=x,windows=none,top=0");
    for line in [
        "KEY                 VALUE                  FROM",
        "address             127.0.0.1:9            flag",
        "width               4096                   FILE:1:1",
        "depth               4                      default",
        "threads             automatic              default",
        "trust               none                   default",
        "log                 info                   default",
        "sketch     default 4x4096, 448 KiB, from default",
        "sketch     x 4x1048576, 96 MiB, from flag",
        "sketch     logins 2x1024, 50 KiB, from FILE:2:1",
        "window     logins 1h by 5m, 2x256, 28 KiB",
        "top        default the 100 largest keys",
        "top        x none",
        "top                 100                    default",
        "show-keys           none                   default",
    ] {
        assert!(text.lines().any(|it| it == line), "{line}\n{text}");
    }
    assert!(text.ends_with(LIMITS), "{text}");
}

#[test]
fn json_has_it_all() {
    let file = Written::new("json");
    let shown = file.json("config show --json --config FILE --cluster off --http off");
    assert_eq!(
        shown["settings"]["width"],
        json!({ "value": 4096, "from": "FILE:1:1" })
    );
    assert_eq!(
        shown["settings"]["http"],
        json!({ "value": "off", "from": "flag" })
    );
    assert_eq!(
        shown["settings"]["threads"],
        json!({ "value": null, "from": "default" })
    );
    assert_eq!(shown["sketches"][0]["memory_bytes"], 3 * 65_536);
    let logins = &shown["sketches"][1];
    assert_eq!(
        (&logins["name"], &logins["number"]),
        (&json!("logins"), &json!(0x9910_95a9_u32))
    );
    let window =
        json!({ "span_ms": 3_600_000, "step_ms": 300_000, "width": 256, "memory_bytes": 28_672 });
    assert_eq!(
        (&logins["windows"], &logins["top"]),
        (&json!([window]), &json!(5))
    );
    let limits = file.json("limits check FILE --json");
    assert_eq!(shown["limits"], limits);
    let of_key = json!({ "key": "premium-*", "amounts": [{ "count": 1000, "window_ms": 60_000 }] });
    assert_eq!(limits[0]["overrides"], json!([of_key]));
    assert_eq!(limits[0]["exempt"], json!([{ "network": "127.0.0.1/32" }]));
    assert_eq!(
        (&limits[1]["verdict"], &limits[1]["shadow"]),
        (&json!("count"), &json!(true))
    );
}
