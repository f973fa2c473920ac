"""Sketches, windows and limits, with both clients, against a node in this process."""

from __future__ import annotations

import asyncio
import socket
import time
import unittest
from datetime import timedelta
from typing import Any, Callable, cast

from rmbd import (
    AsyncClient,
    Client,
    KeyTooLong,
    Limit,
    NoAnswer,
    NobodyThere,
    OnFailure,
    Refused,
    Restarted,
)
from rmbd._names import sketch_number
from rmbd._questions import milliseconds

from .support import NaiveNode, named

BY_NOBODY: tuple[tuple[OnFailure, bool], ...] = (("open", True), ("closed", False))
LOGINS = sketch_number("logins")


class Durations(unittest.TestCase):
    def test_all_forms(self) -> None:
        for duration, ms in (
            (None, 0),
            (0, 0),
            ("500ms", 500),
            ("60s", 60_000),
            ("1.5s", 1_500),
            (" 5m ", 300_000),
            ("1h", 3_600_000),
            ("7d", 604_800_000),
            (60, 60_000),
            (0.1, 100),
            (0.0001, 1),
            (timedelta(minutes=2), 120_000),
        ):
            self.assertEqual(milliseconds(duration), ms, duration)
        for bad in ("", "60", "s", "-1s", "1w", "1h30m", "\u0661s", -1, float("inf"), float("nan")):
            with self.assertRaises(ValueError, msg=bad):
                milliseconds(bad)


class Blocking(unittest.TestCase):
    def test_every_call(self) -> None:
        with NaiveNode() as node, Client(node.address, timeout=30) as client:
            logins = client.sketch("logins")
            logins.add("a", 3)
            self.assertEqual(logins.add_many({"a": 1, "b": 2}), 2)
            self.assertEqual((client.count("a").estimate, logins.count("a").estimate), (0, 4))
            self.assertEqual([one.estimate for one in logins.count_many(["a", "b"])], [4, 2])
            self.assertEqual(logins.count_bounds("b").estimate, 2)
            counted = logins.count("a", "60s")
            self.assertEqual(
                (counted.estimate, counted.covered, counted.incomplete), (4, 60.0, False)
            )
            self.assertTrue(logins.count("a", window=60, smooth=True).incomplete)
            hits = [logins.hit("10.0.0.7", limit=2, window="60s") for _ in range(4)]
            self.assertEqual([one.allowed for one in hits], [True, True, False, False])
            self.assertEqual([one.estimate for one in hits], [1, 2, 3, 4])
            self.assertEqual([one.remaining for one in hits], [1, 0, 0, 0])
            self.assertEqual([one.retry_after for one in hits], [0.0, 0.0, 1.5, 1.5])
            takes = [logins.take("10.0.0.8", limit=2) for _ in range(4)]
            self.assertEqual([one.allowed for one in takes], [True, True, False, False])
            self.assertEqual(takes[3].retry_after, None)
            self.assertEqual(logins.count("10.0.0.8").estimate, 2)
            self.assertFalse(takes[0].unsure)
            self.assertTrue(logins.take("x", limit=1, bound=True, exactly_once=False).unsure)

            both = [Limit("a", 10, "60s"), Limit("p", 7, "60s", weight=4, sketch="pages")]
            verdict = logins.limits(both, take=True)
            self.assertEqual((verdict.allowed, verdict.part, verdict.remaining), (True, 1, 3))
            verdict = client.limits([Limit("a", 9, sketch="logins"), both[1]], take=True)
            self.assertEqual((verdict.allowed, verdict.part), (False, 1))
            self.assertEqual(client.sketch("pages").count("p").estimate, 4)

            for _ in range(6):
                verdict = client.hit_by_name("logins-a-minute", "n")
            self.assertEqual((verdict.allowed, verdict.over, verdict.shadow), (True, True, True))
            self.assertEqual(client.pardon("logins-a-minute", "key", "1s"), 1003)
            listed = client.sketches()
            self.assertEqual([one.name for one in listed], list(node.sketches.values()))
            self.assertEqual(listed[1].windows, ((60.0, 1.0, 1 << 16),))

    def test_refusals_and_what_is_not_sent(self) -> None:
        with NaiveNode() as node, Client(node.address, timeout=30) as client:
            for name, call in (
                ("unknown_sketch", lambda: client.sketch("none").add("a")),
                ("unknown_sketch", lambda: client.limits([Limit("a", 1, sketch="none")])),
                ("unknown_window", lambda: client.sketch("logins").count("a", "1s")),
                ("unknown_limit", lambda: client.hit_by_name("none", "a", on_failure="open")),
                ("not_trusted_to_pardon", lambda: client.pardon("none", "a", "1s")),
            ):
                with self.assertRaises(Refused) as raised:
                    call()
                self.assertEqual(raised.exception.problem, name)
                self.assertFalse(raised.exception.uncertain)
            unsendable: tuple[Callable[[], object], ...] = (
                lambda: client.limits([]),
                lambda: client.limits([Limit("a", 1)] * 9),
                lambda: client.limits([Limit("k" * 700, 1)] * 2),
                lambda: client.limits([Limit("a", -1)]),
                lambda: client.hit_by_name("n" * 256, "a"),
                lambda: client.sketch("Logins"),
                lambda: client.sketch("logins", on_failure=cast(OnFailure, "opne")),
            )
            for refused in unsendable:
                with self.assertRaises(ValueError):
                    refused()
            with self.assertRaises(KeyTooLong):
                client.sketch("logins", on_failure="open").take("k" * 1025, limit=1)

    def test_takes_through_harm_are_taken_once(self) -> None:
        for seed in range(3):
            node = NaiveNode(seed, lost=0.15, doubled=0.05)
            with self.subTest(seed=seed), node, Client(node.address, timeout=30) as client:
                logins = client.sketch("logins")
                takes = [logins.take("k", limit=20, window="60s").allowed for _ in range(60)]
                self.assertEqual(takes, [True] * 20 + [False] * 40)
                self.assertEqual(node.counts, {named(LOGINS, b"k"): 20})

    def test_where_nobody_answers_the_caller_has_said_what_holds(self) -> None:
        with NaiveNode() as node, Client(node.address, timeout=30) as client:
            client.add("a")
            node.is_silent = True
            logins = client.sketch("logins", deadline="50ms")
            start = time.monotonic()
            with self.assertRaises(NoAnswer) as raised:
                logins.take("k", limit=1)
            self.assertTrue(raised.exception.uncertain)
            with self.assertRaises(NoAnswer) as raised:
                logins.count("k")
            self.assertFalse(raised.exception.uncertain)
            for on_failure, allowed in BY_NOBODY:
                sketch = client.sketch("logins", deadline=0.05, on_failure=on_failure)
                for verdict in (
                    sketch.take("k", limit=1),
                    sketch.hit("k", limit=1, exactly_once=False),
                    client.hit_by_name("n", "k", deadline=0.05, on_failure=on_failure),
                ):
                    self.assertEqual((verdict.allowed, verdict.decided), (allowed, False))
            self.assertLess(time.monotonic() - start, 20)
            node.is_silent = False
            self.assertTrue(client.sketch("logins").take("j", limit=1).decided)


class Asyncio(unittest.TestCase):
    def run_with(self, node: NaiveNode, test: Any, **options: Any) -> None:
        async def run() -> None:
            async with AsyncClient(node.address, timeout=options.get("timeout", 30)) as client:
                await test(client)

        asyncio.run(run())

    def test_every_call(self) -> None:
        async def calls(client: AsyncClient) -> None:
            await client.add("apple", 2)
            self.assertEqual(await client.add_many([("pear", 1), ("pear", 2)]), 2)
            counts = await client.count_many(["apple", "pear"])
            self.assertEqual([one.estimate for one in counts], [2, 3])
            self.assertEqual((await client.count("apple")).estimate, 2)
            self.assertEqual(await client.hit("apple", limit=2), (3, False, False))
            self.assertEqual((await client.count_bounds("pear")).total_weight, 6)
            self.assertEqual((await client.info()).width, 100)
            logins = client.sketch("logins")
            await logins.add("a", 3)
            self.assertEqual((await logins.count("a", "60s")).estimate, 3)
            self.assertTrue((await logins.count("a", 60, smooth=True)).incomplete)
            self.assertEqual((await logins.count_bounds("a")).estimate, 3)
            hits = [await logins.hit("h", limit=1, window="60s") for _ in range(2)]
            self.assertEqual([one.allowed for one in hits], [True, False])
            verdict = await client.limits([Limit("p", 7, "60s", sketch="pages")], take=True)
            self.assertEqual((verdict.allowed, verdict.remaining), (True, 6))
            for _ in range(6):
                verdict = await client.hit_by_name("logins-a-minute", "n")
            self.assertEqual((verdict.allowed, verdict.shadow), (True, True))
            self.assertEqual(await client.pardon("logins-a-minute", "key", "1s"), 1003)
            self.assertEqual(len(await client.sketches()), 43)
            with self.assertRaises(Refused) as raised:
                await client.sketch("none").add("a")
            self.assertEqual(raised.exception.problem, "unknown_sketch")
            with self.assertRaises(ValueError):
                await client.limits([])

        with NaiveNode() as node:
            self.run_with(node, calls)

    def test_tasks_share_a_client_through_harm(self) -> None:
        async def calls(client: AsyncClient) -> None:
            async def task(n: int) -> bool:
                sketch = client.sketch(("logins", "pages")[n % 2])
                await sketch.add(f"key {n}")
                self.assertEqual((await sketch.count(f"key {n}")).estimate, 1)
                return (await sketch.take("shared", limit=30)).allowed

            allowed = await asyncio.gather(*(task(n) for n in range(200)))
            self.assertEqual((sum(allowed[::2]), sum(allowed[1::2])), (30, 30))

        for seed in range(3):
            node = NaiveNode(seed, lost=0.1, doubled=0.05)
            with self.subTest(seed=seed), node:
                self.run_with(node, calls)
                self.assertEqual(sum(node.counts.values()), 200 + 60)
                self.assertGreater(node.repeats, 5)

    def test_long_lists_count_once_through_harm(self) -> None:
        async def calls(client: AsyncClient) -> None:
            keys = [f"key {n:012}" for n in range(20_000)]
            self.assertEqual(await client.add_many((key, 1) for key in keys), 20_000)
            counts = await client.count_many(keys)
            self.assertEqual({one.estimate for one in counts}, {1})

        with NaiveNode(1, lost=0.1, doubled=0.05) as node:
            self.run_with(node, calls)

    def test_failures(self) -> None:
        async def calls(client: AsyncClient) -> None:
            await client.add("a")
            node.restart()
            with self.assertRaises(Restarted):
                await client.add("a")
            await client.add("a")
            self.assertEqual(node.counts, {b"a": 1})
            node.is_silent = True
            with self.assertRaises(NoAnswer) as raised:
                await client.sketch("logins", deadline=0.05).add("a")
            self.assertTrue(raised.exception.uncertain)
            for on_failure, allowed in BY_NOBODY:
                sketch = client.sketch("logins", deadline=0.05, on_failure=on_failure)
                verdict = await sketch.take("k", limit=1)
                self.assertEqual((verdict.allowed, verdict.decided), (allowed, False))
            with self.assertRaises(KeyTooLong):
                await sketch.take("k" * 1025, limit=1)
            with self.assertRaises(NoAnswer) as raised:
                await client.count("a")
            self.assertFalse(raised.exception.uncertain)
            node.is_silent = False
            self.assertEqual((await client.count("a")).estimate, 1)

        with NaiveNode() as node:
            self.run_with(node, calls, timeout=0.3)

    def test_nobody_there(self) -> None:
        async def ask(address: Any) -> None:
            async with AsyncClient(address) as client:
                with self.assertRaises(NobodyThere):
                    await client.count("a")
                with self.assertRaises(NobodyThere):
                    await client.add("a")

        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as held:
            held.bind(("127.0.0.1", 0))
            # The kernel refuses everybody: this socket hears only itself.
            held.connect(held.getsockname())
            asyncio.run(ask(held.getsockname()))


if __name__ == "__main__":
    unittest.main()
