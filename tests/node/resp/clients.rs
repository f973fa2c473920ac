//! Clients that others wrote.

use std::process::{Command, Output};

use super::{resp_config, start};
use crate::support::BACKENDS;
use rmbd::config::{NodeConfig, RespConfig};
use rmbd::node::Node;
use rmbd_testkit::required;

const REDIS_PY: &str = "Python's redis: pip install redis";
const NODE_JS: &str = "ioredis and redis for Node.js: npm install -g ioredis@5 redis@5";
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

/// What people write with ioredis and node-redis. The latter speaks both versions of the protocol.
const NODE_JS_SCRIPT: &str = r#"
const assert = require("node:assert");
const [port, password] = [Number(process.argv[1]), process.argv[2] || undefined];

async function ioredis() {
    const Redis = require("ioredis");
    const redis = new Redis({ port, password, connectionName: "tests", lazyConnect: true });
    await redis.connect();
    assert.equal(await redis.ping(), "PONG");
    assert.deepEqual(await redis.call("CMS.INCRBY", "default", "io", 3, "iob", 4), [3, 4]);
    assert.deepEqual(await redis.call("CMS.QUERY", "default", "io", "nobody"), [3, 0]);
    const pipeline = redis.pipeline();
    for (let n = 0; n < 200; n++) pipeline.call("CMS.INCRBY", "default", "io", 1);
    pipeline.call("RMBD.TAKE", "default", "iot", 1, 1, 0);
    pipeline.call("RMBD.TAKE", "default", "iot", 1, 1, 0);
    const replies = await pipeline.exec();
    assert.ok(replies.every(([error]) => error === null), String(replies));
    assert.deepEqual(replies.slice(0, 200).map(([, reply]) => reply[0]), [...Array(200).keys()].map(n => n + 4));
    assert.equal(replies[200][1][0], 1);
    assert.equal(replies[201][1][0], 0);
    await assert.rejects(redis.del("default"), /not possible/);
    await assert.rejects(redis.call("CMS.QUERY", "nope", "a"), { message: "CMS: key does not exist" });
    await redis.quit();
}

async function nodeRedis(RESP) {
    const { createClient } = require("redis");
    const client = createClient({ socket: { port }, password, RESP, name: "tests" });
    client.on("error", error => { throw error; });
    await client.connect();
    const key = "node" + RESP;
    assert.deepEqual(await client.cms.incrBy("default", [
        { item: key, incrementBy: 3 }, { item: key + "b", incrementBy: 4 },
    ]), [3, 4]);
    assert.deepEqual(await client.cms.query("default", [key, "nobody"]), [3, 0]);
    assert.equal((await client.cms.info("default")).width, 4096);
    // What is asked in one turn goes in one pipeline.
    const asked = [...Array(200)].map(() => client.cms.incrBy("default", { item: key, incrementBy: 1 }));
    assert.deepEqual((await Promise.all(asked)).map(([count]) => count), [...Array(200).keys()].map(n => n + 4));
    assert.deepEqual(await client.topK.add("t", ["x", "y"]), [null, null]);
    assert.equal((await client.topK.info("t")).k, 3);
    assert.equal(await client.exists("default"), 1);
    await assert.rejects(client.del("default"), /not possible/);
    await client.close();
}

(async () => {
    await ioredis();
    await nodeRedis(2);
    await nodeRedis(3);
    console.log("all well");
})();
"#;

fn run_script(node: &Node, password: &str) {
    let port = node.resp_addr().unwrap().port().to_string();
    let script = Command::new("python3")
        .args(["-c", SCRIPT, &port, password])
        .output();
    expect_all_well(&script.unwrap());
}

fn expect_all_well(output: &Output) {
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
fn clients_of_node_js_count() {
    let folder = Command::new("npm").args(["root", "-g"]).output();
    let folder = folder.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
    let folder = folder.unwrap_or_default();
    let node_js = |words: &[&str]| {
        let mut node_js = Command::new("node");
        node_js.env("NODE_PATH", &folder).args(words).output()
    };
    let there = node_js(&["-e", "require('ioredis'); require('redis')"]);
    if !there.is_ok_and(|output| output.status.success()) {
        return required::skip(NODE_JS);
    }
    for io in BACKENDS {
        let node = start(io);
        let port = node.resp_addr().unwrap().port().to_string();
        expect_all_well(&node_js(&["-e", NODE_JS_SCRIPT, "--", &port]).unwrap());
    }
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
