"""Both clients against a real node; skipped where ``RMBD_BIN`` names no binary."""

from __future__ import annotations

import asyncio
import os
import subprocess
import time
import unittest

from rmbd import AsyncClient, Client, KeyTooLong, Limit, Refused, RmbdClient

RMBD_BIN = os.environ.get("RMBD_BIN", "")


class Node:
    """A running ``rmbd`` on a free port."""

    def __init__(self, *options: str) -> None:
        environment = {k: v for k, v in os.environ.items() if not k.startswith("RMBD_")}
        self.process = subprocess.Popen(
            [RMBD_BIN, "127.0.0.1:0", "--threads", "1", *options],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environment,
            text=True,
        )
        assert self.process.stdout is not None
        ready = self.process.stdout.readline().split()
        fields = dict(word.split("=", 1) for word in ready if "=" in word)
        self.address = fields["udp"]
        host, port = self.address.rsplit(":", 1)
        self.pair = (host.encode(), int(port))

    def __enter__(self) -> Node:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.terminate()
        self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()


@unittest.skipUnless(RMBD_BIN, "RMBD_BIN names no rmbd binary")
class RealNode(unittest.TestCase):
    def test_compact(self) -> None:
        with Node() as node, Client(node.address, timeout=30) as client:
            adds = [(f"key {n % 1000}", 2) for n in range(100_000)]
            self.assertEqual(client.add_many(adds), 100_000)
            counts = client.count_many([f"key {n}" for n in range(1000)])
            self.assertEqual(sum(count.estimate for count in counts), 200_000)
            self.assertEqual(client.count_bounds("key 7").total_weight, 200_000)
            self.assertTrue(client.hit("10.0.0.7", limit=1).allowed)
            self.assertFalse(client.hit("10.0.0.7", limit=1).allowed)
            info = client.info()
            self.assertEqual((info.width, info.depth, info.hash), (1 << 20, 4, "xxh3"))
            stranger = Client(node.address, timeout=30)
            with stranger, self.assertRaises(Refused) as raised:
                stranger.hit("a", 10**9, limit=1)
            self.assertEqual(raised.exception.problem, "weight_too_large")

    def test_sketches_and_limits(self) -> None:
        with Node("--sketch", "name=logins,windows=60s/5s") as node:
            with Client(node.address, timeout=30) as client:
                logins = client.sketch("logins")
                logins.add("a", 3)
                self.assertEqual(logins.count("a", window="60s").estimate, 3)
                self.assertEqual(client.count("a").estimate, 0)
                takes = [logins.take("k", limit=2, window="60s").allowed for _ in range(4)]
                self.assertEqual(takes, [True, True, False, False])
                hits = [logins.hit("h", limit=2, window="60s").estimate for _ in range(4)]
                self.assertEqual(hits, [1, 2, 3, 4])
                both = [Limit("k", 9, "60s", sketch="logins"), Limit("n", 1)]
                verdicts = [client.limits(both, take=True) for _ in range(2)]
                self.assertEqual([one.allowed for one in verdicts], [True, False])
                listed = {one.name: one for one in client.sketches()}
                self.assertEqual(set(listed), {"default", "logins"})
                window = listed["logins"].windows[0]
                self.assertEqual((window.span, window.step), (60.0, 5.0))
                for name, call in (
                    ("unknown_sketch", lambda: client.sketch("none").count("a").estimate),
                    ("unknown_window", lambda: logins.count("a", "7ms").estimate),
                    ("unknown_limit", lambda: client.hit_by_name("none", "a").estimate),
                ):
                    with self.assertRaises(Refused) as raised:
                        call()
                    self.assertEqual(raised.exception.problem, name)

    def test_largest_keys(self) -> None:
        options = ("--top", "3", "--sketch", "name=plain,top=0", "--hash", "xxh3")
        with Node(*options) as node, Client(node.address, timeout=30) as client:
            end = time.monotonic() + 30
            while True:
                client.add_many({b"apple": 5, b"\xff\x00": 3, b"": 1})
                top = client.top()
                if [key.key for key in top.keys] == [b"apple", b"\xff\x00", b""]:
                    break
                self.assertLess(time.monotonic(), end, top)
                time.sleep(0.1)
            self.assertFalse(top.redacted or top.mixed)
            self.assertTrue(all(key.certain <= key.estimate for key in top.keys))
            self.assertLessEqual(top.keys[0].estimate, top.total_weight)
            self.assertEqual(len(client.sketch("default").top(2, window="60s").keys), 2)
            for problem, call in (
                ("no_top_list", lambda: client.sketch("plain").top()),
                ("unknown_window", lambda: client.top(window="5s")),
            ):
                with self.assertRaises(Refused) as raised:
                    call()
                self.assertEqual(raised.exception.problem, problem)

    def test_asyncio(self) -> None:
        async def run(address: str) -> None:
            async with AsyncClient(address, timeout=30) as client:
                logins = client.sketch("logins")
                await logins.add_many((f"key {n % 100}", 1) for n in range(10_000))
                counts = await logins.count_many(f"key {n}" for n in range(100))
                self.assertEqual({one.estimate for one in counts}, {100})
                takes = [logins.take("k", limit=20, window="60s") for _ in range(50)]
                verdicts = await asyncio.gather(*takes)
                self.assertEqual(sum(one.allowed for one in verdicts), 20)

        with Node("--sketch", "name=logins,windows=60s/5s") as node:
            asyncio.run(run(node.address))

    def test_legacy(self) -> None:
        for dialect in ("native", "network"):
            options = ("--compat", "--dialect", dialect)
            with self.subTest(dialect), Node(*options) as one, Node(*options) as two:
                c = RmbdClient(one.pair, timeout=30, dialect=dialect)
                d = RmbdClient(two.pair, timeout=30, dialect=dialect)
                with c, d:
                    c.peer(two.pair)
                    d.peer(one.pair)
                    c.add(b"abc")
                    d.add(b"abc")
                    self.wait_for(c, 2)
                    self.wait_for(d, 2)
                    with self.assertRaises(KeyTooLong):
                        c.add(b"k" * 140)

    def wait_for(self, client: RmbdClient, count: int) -> None:
        """Rows are pushed every half second."""
        end = time.monotonic() + 30
        while client.count(b"abc") != count:
            self.assertLess(time.monotonic(), end)
            time.sleep(0.01)


if __name__ == "__main__":
    unittest.main()
