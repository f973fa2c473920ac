"""The client against a node in this process, through harm."""

from __future__ import annotations

import os
import socket
import time
import unittest
from collections import Counter

from rmbd import (
    AddsFailed,
    Client,
    KeyTooLong,
    NoAnswer,
    NobodyThere,
    NoPlace,
    Refused,
    Restarted,
    WeightTooLarge,
)

from .support import NaiveNode


class Calls(unittest.TestCase):
    def test_every_call(self) -> None:
        with NaiveNode() as node, Client(node.address, timeout=30) as client:
            client.add("apple")
            client.add(b"apple", 2)
            client.add("nothing", 0)
            self.assertEqual(client.add_many(Counter(["pear", "plum", "pear"])), 2)
            self.assertEqual(client.add_many([("pear", 10)]), 1)
            counts = client.count_many(["apple", b"pear", "none"])
            self.assertEqual([count.estimate for count in counts], [3, 12, 0])
            self.assertEqual(client.count("plum"), (1, False))
            self.assertEqual(client.count_many([]), [])
            self.assertEqual(client.add_many({}), 0)
            self.assertEqual(client.hit("apple", limit=4), (4, True, False))
            self.assertEqual(client.hit("apple", limit=4), (5, False, False))
            self.assertEqual(client.hit("apple", 0, limit=5), (5, True, False))
            self.assertEqual(client.count_bounds("pear").total_weight, 18)
            info = client.info()
            self.assertEqual((info.width, info.depth, info.hash), (100, 4, "xxh3"))
            self.assertEqual((info.weight_max, info.version), (1 << 20, "1.2.3"))

    def test_long_lists_keep_their_order(self) -> None:
        with NaiveNode() as node, Client(f"127.0.0.1:{node.address[1]}", timeout=30) as client:
            keys = [bytes((n % 256,)) * (n % 1025) for n in range(3000)]
            client.add_many((key, n) for n, key in enumerate(keys))
            truth: Counter[bytes] = Counter()
            for n, key in enumerate(keys):
                truth[key] += n
            counts = client.count_many(keys)
            self.assertEqual([count.estimate for count in counts], [truth[key] for key in keys])

    def test_weights_count_exactly_once_through_harm(self) -> None:
        for seed in range(3):
            node = NaiveNode(seed, lost=0.1, doubled=0.05)
            with self.subTest(seed=seed), node, Client(node.address, timeout=30) as client:
                adds = [(f"key {n % 997:012}", 1 + n % 3) for n in range(50_000)]
                self.assertEqual(client.add_many(adds), 50_000)
                self.assertEqual(sum(node.counts.values()), sum(weight for _, weight in adds))
                for n in range(50):
                    self.assertEqual(client.hit("hit", limit=25), (n + 1, n < 25, False))
                keys = [f"key {n:012}" for n in range(997)]
                counted = sum(count.estimate for count in client.count_many(keys))
                self.assertEqual(counted, sum(weight for _, weight in adds))
                self.assertGreater(node.repeats, 20)

    def test_processes_are_different_clients(self) -> None:
        with NaiveNode() as node, Client(node.address, timeout=30) as client:
            client.add("a")
            child = os.fork()
            if not child:
                try:
                    client.add("a")
                    os._exit(0)
                finally:
                    os._exit(1)
            self.assertEqual(os.waitpid(child, 0)[1], 0)
            client.add("a")
            self.assertEqual(client.count("a").estimate, 3)


class Failures(unittest.TestCase):
    def test_another_boot_is_uncertain(self) -> None:
        with NaiveNode() as node, Client(node.address, timeout=30) as client:
            client.add("a")
            node.restart()
            with self.assertRaises(Restarted) as raised:
                client.add("a")
            self.assertTrue(raised.exception.uncertain)
            self.assertEqual(node.counts, {})
            client.add("a")
            node.restart()
            with self.assertRaises(AddsFailed) as failed:
                client.add_many((f"key {n:09}", 1) for n in range(100_000))
            report = failed.exception.report
            self.assertEqual(report.confirmed, 0)
            self.assertTrue(failed.exception.uncertain)
            self.assertEqual(node.counts, {})
            named = sum(map(len, report.uncertain + report.not_added))
            self.assertEqual(named, report.taken)
            self.assertEqual(client.add_many([("a", 1)]), 1)

    def test_after_a_silence_the_boot_is_asked_for_again(self) -> None:
        with NaiveNode() as node, Client(node.address, timeout=30) as client:
            client.add("a")
            node.restart()
            client._heard_at -= 10
            client.add("a")
            self.assertEqual(node.counts, {b"a": 1})

    def test_silence(self) -> None:
        with NaiveNode() as node, Client(node.address, timeout=0.2) as client:
            client.add("a")
            node.is_silent = True
            start = time.monotonic()
            with self.assertRaises(NoAnswer) as raised:
                client.add("a")
            self.assertTrue(raised.exception.uncertain)
            self.assertLess(time.monotonic() - start, 20)
            with self.assertRaises(NoAnswer) as raised:
                client.count("a")
            self.assertFalse(raised.exception.uncertain)
            with self.assertRaises(AddsFailed) as failed:
                client.add_many((f"key {n:09}", 1) for n in range(100_000))
            report = failed.exception.report
            self.assertEqual(report.confirmed, 0)
            self.assertGreater(report.taken, 1_000)
            self.assertLess(report.taken, 10_000)
            named = sorted(report.uncertain + report.not_added, key=lambda part: part.start)
            self.assertEqual([n for part in named for n in part], list(range(report.taken)))
            node.is_silent = False
            client.add("a")

    def test_nobody_there(self) -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as held:
            held.bind(("127.0.0.1", 0))
            # The kernel refuses everybody: this socket hears only itself.
            held.connect(held.getsockname())
            with Client(held.getsockname()) as client:
                with self.assertRaises(NobodyThere) as raised:
                    client.add("a")
                self.assertFalse(raised.exception.uncertain)
                with self.assertRaises(AddsFailed) as failed:
                    client.add_many([("a", 1)])
                self.assertFalse(failed.exception.uncertain)

    def test_first_contact_takes_no_round_trip_more(self) -> None:
        with NaiveNode() as node, Client(node.address, timeout=30) as client:
            client.add("a")
            self.assertEqual((node.requests, node.shown, node.sent_back), (2, 1, 0))
            # It is known by now.
            client.add("a")
            self.assertEqual((node.requests, node.shown), (3, 1))

    def test_what_is_sent_back_goes_again_and_counts_once(self) -> None:
        for seed in range(3):
            node = NaiveNode(seed, lost=0.1, doubled=0.05)
            with self.subTest(seed=seed), node, Client(node.address, timeout=30) as client:
                for n in range(30):
                    # The cookie is of another minute, and the node has forgotten the client.
                    if n % 3 == 0:
                        client.info()
                        node.epoch += 1
                        node.clients.clear()
                    adds = [(f"key {m:012}", 1) for m in range(500)]
                    self.assertEqual(client.add_many(adds), 500)
                    self.assertEqual(sum(node.counts.values()), 500 * (n + 1))
                self.assertGreater(node.sent_back, 9)

    def test_a_full_table_refuses(self) -> None:
        with NaiveNode() as node, Client(node.address, timeout=30) as client:
            node.is_full = True
            with self.assertRaises(NoPlace) as raised:
                client.add("a")
            self.assertIsInstance(raised.exception, Refused)
            self.assertEqual(raised.exception.problem, "once_table_full")
            self.assertIn("--allow", str(raised.exception))
            self.assertFalse(raised.exception.uncertain)
            # What only asks needs no place.
            self.assertEqual(client.count("a").estimate, 0)

    def test_bad_keys_and_weights(self) -> None:
        with NaiveNode() as node, Client(node.address, timeout=30) as client:
            for call in (client.add, client.count, client.count_bounds):
                with self.assertRaises(KeyTooLong):
                    call(b"k" * 1025)
            client.add(b"k" * 1024)
            # The first time the node says it, then the client knows.
            node.weight_max = 100
            with self.assertRaises(Refused) as raised:
                client.hit("a", 101, limit=1)
            self.assertEqual(raised.exception.problem, "weight_too_large")
            client._heard_at -= 10
            client.add("a")
            for weight in (101, -1):
                with self.assertRaises(WeightTooLarge):
                    client.add("a", weight)
            with self.assertRaises(AddsFailed) as failed:
                client.add_many([("b", 1), ("b", 1), ("b", 101), ("b", 1)])
            self.assertIsInstance(failed.exception.__cause__, WeightTooLarge)
            report = failed.exception.report
            self.assertEqual((report.confirmed, report.taken), (2, 2))
            self.assertFalse(failed.exception.uncertain)
            self.assertEqual(node.counts[b"b"], 2)
            with self.assertRaises(ValueError):
                client.hit("a", limit=-1)

    def test_addresses(self) -> None:
        for bad in ("localhost", ":8000", "localhost:", "localhost:x"):
            with self.assertRaises(ValueError):
                Client(bad)
        with self.assertRaises(ValueError):
            Client(timeout=0)


if __name__ == "__main__":
    unittest.main()
