"""Both clients and a node that is started again at its port, which the kernel refuses meanwhile."""

from __future__ import annotations

import asyncio
import unittest
from unittest import mock

from rmbd import AddsFailed, AsyncClient, Client, Limit, NoAnswer, Restarted
from rmbd._exchange import Exchange

from .support import End, NaiveNode

EVERY_CALL = (
    End(1),  # Info; an add, with which the node ends.
    End(1),  # The repeat; an add.
    End(1),  # The repeat; a count.
    End(2),  # The repeat; two takes.
    End(1),  # The repeat; a take.
    End(2),  # The repeat; a take that asks for no sequence, which is answered; info.
)
ADDS = 50_000
CLEAN_ENDS = (End(100), End(20), End(150))


class Blocking(unittest.TestCase):
    def test_every_call_is_answered_after_a_clean_end(self) -> None:
        with NaiveNode(ends=EVERY_CALL) as node, Client(node.address, timeout=30) as client:
            client.add("a")
            client.add("a", 2)
            self.assertEqual(client.count("a").estimate, 3)
            take = [Limit("t", 2)]
            taken = [client.limits(take, take=True).allowed for _ in range(3)]
            self.assertEqual(taken, [True, True, False])
            again = client.limits([Limit("u", 2)], take=True, exactly_once=False)
            self.assertTrue(again.allowed)
            client.info()
            check_every_call(self, node)

    def test_adds_under_way_at_clean_ends_are_acknowledged(self) -> None:
        with NaiveNode(ends=CLEAN_ENDS) as node, Client(node.address, timeout=30) as client:
            self.assertEqual(client.add_many((f"key {n:09}", 1) for n in range(ADDS)), ADDS)
            check_stream(self, node)

    def test_adds_under_way_at_a_crash_are_uncertain(self) -> None:
        ends = (End(50), End(100, is_clean=False))
        with NaiveNode(ends=ends) as node, Client(node.address, timeout=30) as client:
            with self.assertRaises(AddsFailed) as failed:
                client.add_many((f"key {n:09}", 1) for n in range(ADDS))
            self.assertIsInstance(failed.exception.__cause__, Restarted)
            self.assertTrue(failed.exception.uncertain)
            # It is not lost for ever.
            client.add("afterwards")
            self.assertEqual(node.counts[b"afterwards"], 1)
            self.assertLessEqual(max(node.counts.values()), 1)

    def test_who_waits_for_a_node_does_not_spin(self) -> None:
        with NaiveNode() as node, Client(node.address, timeout=0.6) as client:
            client.add("a")
            node.is_silent = True
            looks = 0
            wait = Exchange._wait

            def counted(exchange: Exchange) -> None:
                nonlocal looks
                looks += 1
                wait(exchange)

            with mock.patch.object(Exchange, "_wait", counted), self.assertRaises(NoAnswer):
                client.add("a")
            self.assertLess(looks, 100)


class Asynchronous(unittest.TestCase):
    def test_every_call_is_answered_after_a_clean_end(self) -> None:
        async def run(node: NaiveNode) -> None:
            async with AsyncClient(node.address, timeout=30) as client:
                await client.add("a")
                await client.add("a", 2)
                self.assertEqual((await client.count("a")).estimate, 3)
                for allowed in (True, True, False):
                    verdict = await client.limits([Limit("t", 2)], take=True)
                    self.assertEqual(verdict.allowed, allowed)
                limits = [Limit("u", 2)]
                again = await client.limits(limits, take=True, exactly_once=False)
                self.assertTrue(again.allowed)
                await client.info()

        with NaiveNode(ends=EVERY_CALL) as node:
            asyncio.run(run(node))
            check_every_call(self, node)

    def test_adds_under_way_at_clean_ends_are_acknowledged(self) -> None:
        async def run(node: NaiveNode) -> None:
            async with AsyncClient(node.address, timeout=30) as client:
                added = await client.add_many((f"key {n:09}", 1) for n in range(ADDS))
                self.assertEqual(added, ADDS)

        with NaiveNode(ends=CLEAN_ENDS) as node:
            asyncio.run(run(node))
            check_stream(self, node)

    def test_adds_under_way_at_a_crash_are_uncertain(self) -> None:
        async def run(node: NaiveNode) -> None:
            async with AsyncClient(node.address, timeout=30) as client:
                with self.assertRaises(Restarted) as restarted:
                    await client.add_many((f"key {n:09}", 1) for n in range(ADDS))
                self.assertTrue(restarted.exception.uncertain)
                await client.add("afterwards")

        with NaiveNode(ends=(End(50), End(100, is_clean=False))) as node:
            asyncio.run(run(node))
            self.assertEqual(node.counts[b"afterwards"], 1)
            self.assertLessEqual(max(node.counts.values()), 1)


def check_every_call(test: unittest.TestCase, node: NaiveNode) -> None:
    test.assertEqual(node.counts, {b"a": 3, b"t": 2, b"u": 1})
    test.assertGreaterEqual(node.repeats, 4)
    check_ends(test, node)


def check_stream(test: unittest.TestCase, node: NaiveNode) -> None:
    test.assertEqual(sum(node.counts.values()), ADDS)
    test.assertEqual(max(node.counts.values()), 1)
    test.assertGreaterEqual(node.repeats, 3)
    check_ends(test, node)


def check_ends(test: unittest.TestCase, node: NaiveNode) -> None:
    """All ends came, the client named earlier boots, and stayed the same client."""
    test.assertEqual(node.ends, [])
    test.assertGreater(node.named_earlier, 0)
    test.assertEqual(len(node.clients_seen), 1)


if __name__ == "__main__":
    unittest.main()
