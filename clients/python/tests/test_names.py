"""Servers by name: what it leads to is wrong, or changes. And threads that share a client."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import unittest
from collections.abc import Iterator
from typing import Any, Callable, Optional, Union
from unittest import mock

from rmbd import AddsFailed, Client, LookupFailed, NoAnswer, NobodyThere, RmbdClient

from .support import NaiveNode
from .test_node import RMBD_BIN, Node

Address = tuple[str, int]
AnyClient = Union[Client, RmbdClient]
NAME = ("counts.internal", 7)


class Name:
    """A name in a hosts database of the test's own."""

    def __init__(self, *addresses: Address) -> None:
        self.addresses: Optional[tuple[Address, ...]] = addresses
        self.look_ups = 0

    def lead_to(self, *addresses: Address) -> None:
        self.addresses = addresses

    def look_up(self, host: Any, port: Any, **_: Any) -> list[Any]:
        assert (host, port) == NAME
        self.look_ups += 1
        if self.addresses is None:
            raise socket.gaierror(socket.EAI_AGAIN, "try again")
        return [(socket.AF_INET, socket.SOCK_DGRAM, 17, "", at) for at in self.addresses]

    @contextlib.contextmanager
    def known(self) -> Iterator[Name]:
        with mock.patch("socket.getaddrinfo", self.look_up):
            yield self


@contextlib.contextmanager
def bound(*, refuses: bool) -> Iterator[Address]:
    """Where nobody answers, or the kernel refuses everybody: a socket that hears only itself."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as held:
        held.bind(("127.0.0.1", 0))
        if refuses:
            held.connect(held.getsockname())
        yield held.getsockname()


class Names(unittest.TestCase):
    def test_all_addresses_are_tried(self) -> None:
        with NaiveNode() as node, bound(refuses=True) as dead, bound(refuses=False) as mute:
            good = node.address
            for order in ([good], [dead, good], [dead, mute, good], [mute, good], [good, dead]):
                for add in (False, True):
                    with self.subTest(order=order, add=add), Name(*order).known():
                        with Client(NAME, timeout=3) as client:
                            if add:
                                client.add("key")
                            client.count("key")
                            self.assertEqual(client.server, good)

    def test_what_fails_is_named(self) -> None:
        with bound(refuses=True) as one, bound(refuses=True) as other:
            with Name(one, other).known(), Client(NAME) as client:
                for _ in range(2):
                    with self.assertRaises(NobodyThere) as refused:
                        client.count("key")
                text = str(refused.exception)
                for expected in ("counts.internal:7", str(one[1]), str(other[1])):
                    self.assertIn(expected, text)
        name = Name()
        name.addresses = None
        makers: tuple[Callable[[], AnyClient], ...] = (
            lambda: Client(NAME),
            lambda: RmbdClient(NAME),
        )
        for make in makers:
            with name.known(), self.assertRaises(LookupFailed) as failed:
                make()
            self.assertIn("cannot look up counts.internal:7", str(failed.exception))

    def test_a_server_that_moves_is_followed(self) -> None:
        with NaiveNode() as first, NaiveNode() as second:
            with Name(first.address).known() as name, Client(NAME, timeout=3) as client:
                client.add("key", 1)
                name.lead_to(second.address)
                client.count("key")
                self.assertEqual(client.server, first.address, "all is well there")
                first.is_silent = True
                self.assertEqual(client.count("key").estimate, 0)
                self.assertEqual(client.server, second.address)
                client.add("key", 2)
                self.assertEqual(second.counts, {b"key": 2})
                # The resolver fails for a while.
                name.addresses = None
                second.is_silent, first.is_silent = True, False
                with self.assertRaises(NoAnswer) as failed:
                    client.count("key")
                self.assertIn("cannot look up counts.internal:7", str(failed.exception))
                name.lead_to(first.address)
                self.assertEqual(client.count("key").estimate, 1)

    def test_an_uncertain_add_goes_nowhere_else(self) -> None:
        with NaiveNode() as first, NaiveNode() as second:
            with Name(first.address).known() as name, Client(NAME, timeout=1) as client:
                client.add("warm")
                name.lead_to(second.address)
                first.is_silent = True
                with self.assertRaises(NoAnswer) as failed:
                    client.add("doubtful")
                self.assertTrue(failed.exception.uncertain)
                self.assertEqual(second.requests, 0)
                client.add("new")
                self.assertEqual(second.counts, {b"new": 1})
                first.is_silent = False
        with NaiveNode() as first, NaiveNode() as second:
            with Name(first.address).known() as name, Client(NAME, timeout=1) as client:

                def adds() -> Iterator[tuple[str, int]]:
                    for n in range(200_000):
                        if n == 50_000:
                            name.lead_to(second.address)
                            first.is_silent = True
                        yield "key", 1

                with self.assertRaises(AddsFailed) as cut:
                    client.add_many(adds())
                report = cut.exception.report
                uncertain = sum(map(len, report.uncertain))
                self.assertGreater(report.confirmed, 0)
                counted = first.counts[b"key"]
                self.assertLessEqual(counted, report.confirmed + uncertain)
                self.assertEqual(second.counts, {})

    def test_close_looks_up_anew(self) -> None:
        with NaiveNode() as first, NaiveNode() as second:
            with Name(first.address).known() as name, Client(NAME, timeout=30) as client:
                client.add("key")
                name.lead_to(second.address)
                client.close()
                client.add("key")
                self.assertEqual((first.counts, second.counts), ({b"key": 1}, {b"key": 1}))
                client.close()
                name.addresses = None
                with self.assertRaises(LookupFailed):
                    client.count("key")
                name.lead_to(first.address)
                self.assertEqual(client.count("key").estimate, 1)

    def test_the_original_programs_client(self) -> None:
        if not RMBD_BIN:
            self.skipTest("RMBD_BIN names no rmbd binary")
        with Node() as first, Node() as second, bound(refuses=True) as dead:
            one, other = (("127.0.0.1", node.pair[1]) for node in (first, second))
            with Name(dead, one).known() as name, RmbdClient(NAME, timeout=30) as client:
                # An add is not acknowledged: whoever is there has to be found first.
                self.assertEqual(client.count(b"key"), 0)
                client.add(b"key")
                self.assertEqual(client.count(b"key"), 1)
                first.process.terminate()
                first.process.wait()
                name.lead_to(other)
                self.assertEqual(client.count(b"key"), 0)
                client.add(b"key")
                self.assertEqual(client.count(b"key"), 1)
                client.close()
                self.assertEqual(client.count(b"key"), 1)


class Threads(unittest.TestCase):
    def share(self, client: Client, threads: int, calls: int) -> None:
        """Many threads that add, hit and count at the same time."""
        errors: list[BaseException] = []
        start = threading.Barrier(threads)

        def work(number: int) -> None:
            try:
                start.wait()
                for _ in range(calls):
                    client.add("shared")
                    client.add_many([(f"own {number}", 1)] * 3)
                    client.hit("hit", limit=10**9)
                    assert client.count(f"own {number}").estimate % 3 == 0
            except BaseException as error:
                errors.append(error)

        workers = [threading.Thread(target=work, args=(n,)) for n in range(threads)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        self.assertEqual(errors, [])
        counts = client.count_many(["shared", "hit", *(f"own {n}" for n in range(threads))])
        expected = [threads * calls] * 2 + [3 * calls] * threads
        self.assertEqual([count.estimate for count in counts], expected)

    def test_threads_take_turns(self) -> None:
        with NaiveNode(1, lost=0.05, doubled=0.05) as node:
            with Client(node.address, timeout=60) as client:
                self.share(client, threads=8, calls=20)

    @unittest.skipUnless(RMBD_BIN, "RMBD_BIN names no rmbd binary")
    def test_threads_take_turns_at_a_real_node(self) -> None:
        with Node() as node, Client(node.address, timeout=60) as client:
            self.share(client, threads=16, calls=200)

    def test_a_call_within_a_call_is_refused_with_its_cause(self) -> None:
        with NaiveNode() as node, Client(node.address, timeout=30) as client:
            with self.assertRaises(AddsFailed) as failed:
                client.add_many((key, client.count(key).estimate) for key in ("a", "b"))
            self.assertIn("the same client", str(failed.exception))
            self.assertIsInstance(failed.exception.__cause__, RuntimeError)
            client.add("a")
            self.assertEqual(client.count("a").estimate, 1)

    def test_a_fork_while_another_thread_is_in_a_call(self) -> None:
        with NaiveNode() as node, Client(node.address, timeout=30) as client:
            client.add("a")
            inside, go = threading.Event(), threading.Event()

            def slowly() -> Iterator[tuple[str, int]]:
                inside.set()
                go.wait()
                yield "a", 1

            worker = threading.Thread(target=lambda: client.add_many(slowly()))
            worker.start()
            inside.wait()
            child = os.fork()
            if not child:
                try:
                    client.add("a")
                    os._exit(0)
                finally:
                    os._exit(1)
            self.assertEqual(os.waitpid(child, 0)[1], 0)
            go.set()
            worker.join()
            self.assertEqual(client.count("a").estimate, 3)


if __name__ == "__main__":
    unittest.main()
