"""Bytes as the server's own tests have them."""

from __future__ import annotations

import unittest
from typing import Any, Callable

from rmbd import Bounds, Count, Hit, Info, _legacy, _wire

from .support import vectors


def operation(described: dict[str, Any]) -> bytes:
    key = bytes.fromhex(described.get("key", ""))
    encoded: dict[str, Callable[[], bytes]] = {
        "add": lambda: _wire.add(key, 1),
        "add_weight": lambda: (
            bytes((2,)) + _wire.add(key, 2)[1:-1] + _wire.varint(described["weight"])
        ),
        "count": lambda: _wire.count(key),
        "hit": lambda: _wire.hit(
            key, described["weight"], described["limit"], described["window_ms"]
        ),
        "bounds": lambda: _wire.bounds(key),
        "info": _wire.info,
        "padding": lambda: bytes(described.get("bytes", 1)),
    }
    return encoded[described["op"]]()


def answer(described: dict[str, Any]) -> object:
    fields = dict(described)
    kind = fields.pop("answer")
    if kind == "hit":
        fields["allowed"] = fields.pop("within")
    if kind == "info":
        fields["weight_max"] = fields.pop("max_weight")
        fields["cookie"] = bytes.fromhex(fields["cookie"])
    return {"count": Count, "hit": Hit, "bounds": Bounds, "info": Info}[kind](**fields)


class CompactVectors(unittest.TestCase):
    def test_requests(self) -> None:
        requests = vectors("compact")["requests"]
        self.assertGreater(len(requests), 20)
        for request in requests:
            with self.subTest(request["name"]):
                once = request.get("once")
                token, cookie = request.get("token"), request.get("cookie")
                written = _wire.header(
                    request["id"],
                    _wire.Once(**once) if once else None,
                    acknowledge=request["acknowledge"],
                    sketch=request["sketch"],
                    token=None if token is None else bytes.fromhex(token),
                    cookie=None if cookie is None else bytes.fromhex(cookie),
                )
                written += b"".join(map(operation, request["operations"]))
                expected = bytes.fromhex(request["bytes"])
                # Padding is the writer's own.
                self.assertEqual(written, expected[: len(written)])
                self.assertEqual(expected[len(written) :].strip(b"\0"), b"")

    def test_replies(self) -> None:
        replies = vectors("compact")["replies"]
        self.assertGreater(len(replies), 20)
        for reply in replies:
            with self.subTest(reply["name"]):
                datagram = bytes.fromhex(reply["bytes"])
                read = _wire.read_reply(datagram)
                assert read is not None
                problem = reply["problem"]
                self.assertEqual(
                    (read.id, read.repeated, read.done),
                    (reply["id"], reply["repeated"], reply["done"]),
                )
                self.assertEqual(read.code, _wire.PROBLEMS.index(problem) if problem else 0)
                cookies = [a["cookie"] for a in reply["answers"] if a["answer"] == "cookie"]
                self.assertEqual([read.cookie.hex()] if read.cookie else [], cookies)
                answers = [a for a in reply["answers"] if a["answer"] != "cookie"]
                self.assertEqual(read.answers, list(map(answer, answers)))
                # Cut anywhere it is no reply, or one with fewer answers; nothing else happens.
                for length in range(len(datagram)):
                    cut = _wire.read_reply(datagram[:length])
                    if cut is not None:
                        self.assertLessEqual(len(cut.answers), len(read.answers))
                        if "of_a_later_node" not in reply:
                            is_less = (cut.answers, cut.cookie) != (read.answers, read.cookie)
                            self.assertTrue(is_less)

    def test_problems_are_numbered_as_the_servers(self) -> None:
        for number, reply in enumerate(
            (r for r in vectors("compact")["replies"] if r["name"].startswith("stopped: ")), start=1
        ):
            self.assertEqual(_wire.problem_name(number), reply["problem"])
        self.assertEqual(_wire.problem_name(200), "unknown")

    def test_any_bytes_are_read_without_harm(self) -> None:
        for first in range(256):
            for tag in range(256):
                _wire.read_reply(bytes((first, 0, 0, 0, 0, 0, 0, 0, 0, tag)) + bytes(30))


class LegacyVectors(unittest.TestCase):
    def test_messages(self) -> None:
        for message in vectors("legacy")["messages"]:
            key = bytes.fromhex(message["stored_key"])
            packed = _legacy._pascal(key)
            self.assertEqual((b"\0" + packed).hex(), message["add"])
            self.assertEqual((b"\1" + packed).hex(), message["count"])
            for reply in message["count_reply"]:
                for dialect in ("native", "network"):
                    if dialect not in reply:
                        continue
                    datagram = bytes.fromhex(reply[dialect])
                    layout = _legacy._REPLIES[len(datagram)]
                    self.assertEqual(layout.unpack(datagram), (key, reply["count"]))

    def test_peers(self) -> None:
        for peer in vectors("legacy")["peer"]:
            message = b"\3" + _legacy._pascal(peer["host"].encode())
            packed = message + _legacy._PORTS["native"].pack(peer["port"])
            self.assertEqual(packed.hex(), peer["native_H"])


if __name__ == "__main__":
    unittest.main()
