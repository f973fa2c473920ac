"""The largest keys, asked for by both clients."""

from __future__ import annotations

import asyncio
import unittest

from rmbd import AsyncClient, Client, Refused, TopKey
from rmbd._answers import TopPart
from rmbd._batches import TopList

from .support import NaiveNode


def part(edition: int, estimates: list[int], complete_above: int = 3, listed: int = 4) -> TopPart:
    return TopPart(
        edition=edition,
        age_ms=250,
        complete_above=complete_above,
        total_weight=100,
        listed=listed,
        incomplete=False,
        redacted=False,
        keys=[TopKey(b"k", estimate, 0) for estimate in estimates],
    )


class Parts(unittest.TestCase):
    def test_a_list_is_put_together_of_its_parts(self) -> None:
        listed = TopList(None, 0)
        self.assertIsNone(listed.take(part(1, [9, 8])))
        self.assertIsNone(listed.take(part(1, [7])))
        top = listed.take(part(1, [6]))
        assert top is not None
        self.assertEqual([key.estimate for key in top.keys], [9, 8, 7, 6])
        self.assertEqual((top.complete_above, top.age, top.mixed), (3, 0.25, False))

    def test_who_sees_less_knows_less(self) -> None:
        for most, above in ((0, None), (1, 9), (2, 8), (4, 3), (9, 3)):
            top = TopList(most, 0).take(part(1, [9, 8, 7, 6][:most]))
            assert top is not None
            self.assertEqual(top.complete_above, above, most)
        early = TopList(None, 0).take(part(0, [], complete_above=2**64 - 1, listed=0))
        assert early is not None
        self.assertEqual((early.complete_above, early.age), (None, None))

    def test_a_list_that_changes_is_asked_for_again_but_not_for_ever(self) -> None:
        listed = TopList(None, 0)
        self.assertIsNone(listed.take(part(1, [9, 8, 7])))
        self.assertIsNone(listed.take(part(2, [6])), "it begins again")
        top = listed.take(part(2, [9, 8, 7, 6]))
        assert top is not None
        self.assertFalse(top.mixed)
        listed, top = TopList(None, 0), None
        for edition in range(1, 100):
            top = listed.take(part(edition, [9], complete_above=100 - edition))
            if top is not None:
                break
        assert top is not None
        self.assertTrue(top.mixed)
        self.assertEqual(len(top.keys), 4)
        shorter = TopList(None, 0)
        shorter._tries = 4
        self.assertIsNone(shorter.take(part(1, [9, 8])))
        top = shorter.take(part(2, [], listed=1))
        assert top is not None
        self.assertEqual(len(top.keys), 2)


class Calls(unittest.TestCase):
    names = [bytes((n,)) * (n * n % 1025) for n in range(1, 60)]

    def test_every_call(self) -> None:
        with NaiveNode() as node, Client(node.address, timeout=30) as client:
            logins = client.sketch("logins")
            self.assertEqual(logins.top().keys, [])
            for weight, name in enumerate(self.names, start=1):
                logins.add(name, weight)
            # Names of up to 1 024 bytes make many parts of it.
            whole = logins.top(None)
            self.assertEqual([key.key for key in whole.keys], self.names[::-1])
            self.assertEqual([key.estimate for key in whole.keys], list(range(59, 0, -1)))
            self.assertEqual((whole.complete_above, whole.listed, whole.mixed), (3, 59, False))
            self.assertEqual(whole.total_weight, sum(range(60)))
            ten = logins.top(window="60s")
            self.assertEqual([key.key for key in ten.keys], [None] * 10)
            self.assertEqual((ten.redacted, ten.complete_above), (True, 50))
            node.changes = 1
            self.assertTrue(logins.top(None).mixed)
            for problem, call in (
                ("no_top_list", lambda: client.sketch("pages").top()),
                ("unknown_window", lambda: client.top(window="5s")),
                ("unknown_sketch", lambda: client.sketch("none").top()),
            ):
                with self.assertRaises(Refused) as raised:
                    call()
                self.assertEqual(raised.exception.problem, problem)
            with self.assertRaises(ValueError):
                client.top(-1)

    def test_asyncio(self) -> None:
        async def run(address: tuple[str, int]) -> None:
            async with AsyncClient(address, timeout=30) as client:
                logins = client.sketch("logins")
                await logins.add_many(zip(self.names, range(1, 60)))
                whole = await logins.top(None)
                self.assertEqual([key.key for key in whole.keys], self.names[::-1])
                self.assertEqual(len((await client.top(3)).keys), 3)
                with self.assertRaises(Refused):
                    await client.top(window="5s")

        with NaiveNode() as node:
            asyncio.run(run(node.address))


if __name__ == "__main__":
    unittest.main()
