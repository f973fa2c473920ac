//! Clients that others wrote.

use std::process::Command;

use super::{resp_config, start};
use crate::support::BACKENDS;
use rmbd::config::{NodeConfig, RespConfig};
use rmbd::node::Node;
use rmbd_testkit::required;

const REDIS_PY: &str = "Python's redis: pip install redis";
const REDIS_CLI: &str = "redis-cli: apt-get install redis-tools";

/// What people write with redis-py, in both versions of the protocol, with and without a pipeline.
const SCRIPT: &str = r#"
import sys, redis
port, password = int(sys.argv[1]), sys.argv[2]
for protocol in (2, 3):
    r = redis.Redis(port=port, protocol=protocol, password=password or None, client_name="tests", decode_responses=True)
    assert r.ping()
    assert r.client_getname() in ("tests", b"tests"), r.client_getname()
    key = "py%d" % protocol
    assert r.cms().incrby("default", [key, key + "b"], [3, 4]) == [3, 4]
    assert r.cms().query("default", key, "nobody") == [3, 0]
    info = r.cms().info("default")
    assert (info["width"] if isinstance(info, dict) else info.width) == 4096, info
    for transaction in (False,):
        pipe = r.pipeline(transaction=transaction)
        for n in range(200):
            pipe.execute_command("CMS.INCRBY", "default", key, 1)
        pipe.execute_command("RMBD.TAKE", "default", key + "t", 1, 1, 0)
        pipe.execute_command("RMBD.TAKE", "default", key + "t", 1, 1, 0)
        replies = pipe.execute()
        assert [int(reply[0]) for reply in replies[:200]] == list(range(4, 204)), replies
        assert replies[200][:2] == [1, 1] and replies[201][0] == 0, replies[200:]
    assert r.topk().add("t", "x", "y") == [None, None]
    assert r.topk().info("t")["k"] == 3
    assert r.type("default") in ("CMSk-TYPE", b"CMSk-TYPE") and r.exists("default", "nope") == 1
    assert r.info()["redis_mode"] == "standalone" and r.info()["loading"] == 0
    for call in (lambda: r.delete("default"), lambda: r.expire("default", 1), lambda: r.flushall()):
        try:
            call()
            raise SystemExit("not refused")
        except redis.ResponseError as error:
            assert "not possible" in str(error), error
    try:
        r.cms().query("nope", "a")
        raise SystemExit("not refused")
    except redis.ResponseError as error:
        assert str(error) == "CMS: key does not exist", error
    r.close()
print("all well")
"#;

fn run_script(node: &Node, password: &str) {
    let port = node.resp_addr().unwrap().port().to_string();
    let output = Command::new("python3")
        .args(["-c", SCRIPT, &port, password])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned()
        + &String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success() && said.contains("all well"),
        "{said}"
    );
}

#[test]
fn redis_py_counts() {
    let there = Command::new("python3")
        .args(["-c", "import redis"])
        .output();
    if !there.is_ok_and(|output| output.status.success()) {
        return required::skip(REDIS_PY);
    }
    for io in BACKENDS {
        run_script(&start(io), "");
    }
    let file = std::env::temp_dir().join(format!("rmbd-resp-password-{}", std::process::id()));
    std::fs::write(&file, "a secret\n").unwrap();
    let node = Node::start(NodeConfig {
        resp: RespConfig {
            password_file: Some(file.clone()),
            ..RespConfig::at("127.0.0.1:0")
        },
        ..resp_config(BACKENDS[0])
    });
    std::fs::remove_file(&file).unwrap();
    run_script(&node.unwrap(), "a secret");
}

#[test]
fn redis_cli_counts() {
    if Command::new("redis-cli").arg("--version").output().is_err() {
        return required::skip(REDIS_CLI);
    }
    let node = start(BACKENDS[0]);
    let port = node.resp_addr().unwrap().port().to_string();
    for (words, expected) in [
        (&["CMS.INCRBY", "default", "a", "2", "b", "3"][..], "2\n3\n"),
        (&["-3", "CMS.QUERY", "default", "a"], "2\n"),
        (
            &["-3", "CMS.INFO", "default"],
            "width 4096\ndepth 4\ncount 5\n",
        ),
        (&["-n", "0", "PING"], "PONG\n"),
        (
            &["CL.THROTTLE", "user", "5", "2", "60"],
            "0\n2\n1\n-1\n60\n",
        ),
    ] {
        let output = Command::new("redis-cli")
            .args(["-p", &port])
            .args(words)
            .output()
            .unwrap();
        assert_eq!(
            String::from_utf8_lossy(&output.stdout),
            expected,
            "{words:?}"
        );
    }
}
