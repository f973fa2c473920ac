"""Bytes as the server's own tests have them."""

from __future__ import annotations

import unittest
from typing import Any, Callable

from rmbd import Bounds, Count, Hit, Info, Verdict, WindowCount, _legacy, _wire
from rmbd._answers import Pardon, Sketches, SketchInfo, TopKey, TopPart, Window

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
        "window": lambda: _wire.window(key, described["window_ms"], smooth=described["smooth"]),
        "limits": lambda: _wire.limits(
            [part(one) for one in described["parts"]],
            take=described["take"],
            bound=described["bound"],
        ),
        "sketches": lambda: _wire.sketches(described["first"]),
        "hit_by_name": lambda: _wire.hit_by_name(
            described["name"].encode(), key, described["weight"]
        ),
        "pardon": lambda: _wire.pardon(described["name"].encode(), key, described["for_ms"]),
        "top": lambda: _wire.top(described["window_ms"], described["first"], described["most"]),
    }
    return encoded[described["op"]]()


def part(described: dict[str, Any]) -> _wire.Part:
    return _wire.Part(**{**described, "key": bytes.fromhex(described["key"])})


def verdict(fields: dict[str, Any]) -> Verdict:
    shadow = fields.pop("shadow", False)
    retry_after_ms = fields.pop("retry_after_ms")
    return Verdict(
        allowed=shadow or not fields["over"],
        retry_after=None if retry_after_ms == 2**32 - 1 else retry_after_ms / 1000,
        covered=fields.pop("covered_ms") / 1000,
        shadow=shadow,
        **fields,
    )


def sketches(fields: dict[str, Any]) -> Sketches:
    listed = []
    for entry in fields["entries"]:
        windows = tuple(
            Window(one["span_ms"] / 1000, one["step_ms"] / 1000, one["width"])
            for one in entry["windows"]
        )
        listed.append(SketchInfo(**{**entry, "windows": windows}))
    return Sketches(fields["total"], listed)


def top(fields: dict[str, Any]) -> TopPart:
    keys = [
        TopKey(
            None if one["name"] is None else bytes.fromhex(one["name"]),
            one["estimate"],
            one["certain"],
        )
        for one in fields.pop("entries")
    ]
    return TopPart(keys=keys, **fields)


def answer(described: dict[str, Any]) -> object:
    fields = dict(described)
    kind = fields.pop("answer")
    if kind in ("limits", "hit_by_name"):
        return verdict(fields)
    if kind == "sketches":
        return sketches(fields)
    if kind == "top":
        return top(fields)
    if kind == "pardon":
        return Pardon(**fields)
    if kind == "window":
        return WindowCount(covered=fields.pop("covered_ms") / 1000, **fields)
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
                for length in (0, 5, 28):
                    head = bytes((first, 0, 0, 0, 0, 0, 0, 0, 0, tag, length))
                    _wire.read_reply(head + bytes(30))


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
