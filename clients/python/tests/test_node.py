"""Both clients against a real node; skipped where ``RMBD_BIN`` names no binary."""

from __future__ import annotations

import os
import subprocess
import time
import unittest

from rmbd import Client, KeyTooLong, Refused, RmbdClient

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
