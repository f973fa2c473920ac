"""Golden vectors, and a node in this process that can lose, double and forget."""

from __future__ import annotations

import json
import random
import socket
import threading
import time
from pathlib import Path
from typing import Any, NamedTuple, Optional

from rmbd import _wire
from rmbd._names import sketch_number

DATA = Path(__file__).resolve().parents[3] / "tests" / "data"


def vectors(name: str) -> Any:
    """A committed file of vectors, shared with the server's tests."""
    return json.loads((DATA / f"{name}_vectors.json").read_text())


class Reader:
    """Reads a request as slowly and plainly as can be."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 0

    def take(self, length: int) -> bytes:
        taken = self.data[self.at : self.at + length]
        assert len(taken) == length, "cut off"
        self.at += length
        return taken

    def number(self, length: int) -> int:
        return int.from_bytes(self.take(length), "little")

    def varint(self) -> int:
        value = shift = 0
        while True:
            byte = self.number(1)
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value


class End(NamedTuple):
    """How a node ends, and is started again at the same port; the kernel refuses what comes meanwhile."""

    requests: int
    """Behind so many requests that it replied to; the next one is applied, and has no reply."""
    is_clean: bool = True
    """Nothing is forgotten."""


DOWN_S = 0.1
"""Long enough for some repeats to be refused."""


def socket_at(port: int) -> socket.socket:
    """A socket at a loopback port, which several may share."""
    opened = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    opened.bind(("127.0.0.1", port))
    return opened


class NaiveNode:
    """Counts exactly over a loopback socket that does harm to datagrams in both directions."""

    def __init__(
        self,
        seed: int = 0,
        lost: float = 0.0,
        doubled: float = 0.0,
        ends: tuple[End, ...] = (),
    ) -> None:
        self.random = random.Random(seed)
        self.lost, self.doubled = lost, doubled
        self.ends = list(ends)
        self.replied = 0
        """Since the present start."""
        self.boot = 1
        self.earlier: set[int] = set()
        """Earlier boots, of which it remembers what it applied."""
        self.named_earlier = 0
        self.clients_seen: set[int] = set()
        self.weight_max = 1 << 20
        self.is_full = False
        self.clients: set[int] = set()
        self.epoch = 0
        self.sent_back = 0
        self.shown = 0
        self.is_silent = False
        self.counts: dict[bytes, int] = {}
        self.seen: set[tuple[int, int]] = set()
        self.verdicts: dict[tuple[int, int], bytes] = {}
        """Of once-requests with what takes."""
        names = ["default", "logins", "pages", *(f"sketch-{n:030}" for n in range(40))]
        self.sketches = {sketch_number(name): name for name in names}
        self.room = 0
        self.editions = 1
        self.changes = 0
        """Lists that are made between two parts of one."""
        self.repeats = 0
        self.requests = 0
        # Hears only itself, and keeps the port while the node is down.
        self.holder = socket_at(0)
        self.address: tuple[str, int] = self.holder.getsockname()
        self.holder.connect(self.address)
        self.socket = socket_at(self.address[1])
        self.thread = threading.Thread(target=self._run)

    def __enter__(self) -> NaiveNode:
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stop:
            while self.thread.is_alive():
                # It may be down.
                stop.sendto(b"", self.address)
                self.thread.join(DOWN_S)
        self.socket.close()
        self.holder.close()

    def restart(self) -> None:
        """Forgets everything."""
        self.boot += 1
        self.earlier.clear()
        self.counts.clear()
        self.clients.clear()
        self.seen.clear()

    def _run(self) -> None:
        while True:
            datagram, client = self.socket.recvfrom(2048)
            if not datagram:
                return
            for _ in range(self._copies()):
                reply = self._take(datagram)
                if self.ends and self.replied == self.ends[0].requests:
                    self._end(self.ends.pop(0))
                    break
                self.replied += 1
                for _ in range(self._copies()):
                    self.socket.sendto(reply, client)

    def _end(self, end: End) -> None:
        self.socket.close()
        time.sleep(DOWN_S)
        if end.is_clean:
            self.earlier.add(self.boot)
            self.boot += 1
        else:
            self.restart()
        self.replied = 0
        self.socket = socket_at(self.address[1])

    def _copies(self) -> int:
        fate = self.random.random()
        if self.is_silent or fate < self.lost:
            return 0
        return 2 if fate < self.lost + self.doubled else 1

    def _take(self, datagram: bytes) -> bytes:
        self.requests += 1
        reader = Reader(datagram)
        assert reader.number(1) == 0xC1
        flags, request_id, sketch = reader.number(1), reader.number(4), reader.varint()
        assert flags in (1, 3, 11) and len(datagram) <= 1400
        answers, done = b"", 0
        code, repeated = 0, False
        if flags & 2:
            boot, client, sequence = reader.number(8), reader.number(8), reader.varint()
            cookie = reader.take(reader.number(1)) if flags & 8 else None
            self.shown += cookie is not None
            self.clients_seen.add(client)
            if boot != self.boot and boot not in self.earlier:
                code = _wire.PROBLEMS.index("wrong_boot")
            elif self.is_full:
                code = _wire.PROBLEMS.index("once_table_full")
            elif client not in self.clients and cookie != self._cookie():
                self.sent_back += 1
                code = _wire.PROBLEMS.index("address_unproven")
                answers = bytes((7, 16)) + self._cookie()
            else:
                self.clients.add(client)
                self.named_earlier += boot != self.boot
                repeated = (client, sequence) in self.seen
                self.repeats += repeated
                self.seen.add((client, sequence))
        if not code and sketch not in self.sketches:
            code = _wire.PROBLEMS.index("unknown_sketch")
        while not code and reader.at < len(datagram):
            self.room = min(1400, 3 * len(datagram)) - 9 - len(answers)
            try:
                answer = self._perform(
                    reader, sketch, (client, sequence) if flags & 2 else None, repeated
                )
            except Stopped as stopped:
                code = _wire.PROBLEMS.index(stopped.args[0])
                break
            if answer != b"padding":
                answers += answer
                done += 1
        head = bytes((0xD1, repeated)) + request_id.to_bytes(4, "little")
        reply = head + done.to_bytes(2, "little") + bytes((code,)) + answers
        assert len(reply) <= min(1400, 3 * len(datagram))
        return reply

    def _cookie(self) -> bytes:
        return bytes((self.epoch % 256,)) * 16

    def _perform(
        self, reader: Reader, sketch: int, sequence: Optional[tuple[int, int]], repeated: bool
    ) -> bytes:
        kind = reader.number(1)
        if kind == _wire.LIMITS:
            return self._limits(reader, sequence, repeated)
        if kind == _wire.SKETCHES:
            return self._list(reader.varint())
        if kind == _wire.TOP:
            return self._top(sketch, reader.varint(), reader.varint(), reader.varint())
        if kind == _wire.HIT_BY_NAME:
            name, key = reader.take(reader.number(1)), reader.take(reader.varint())
            if name != b"logins-a-minute":
                raise Stopped("unknown_limit")
            part = _wire.Part(sketch_number("logins"), key, reader.varint(), 5, 60_000)
            verdict = self._judge(True, [part], sequence, repeated)
            # Over in shadow mode is admitted.
            return bytes((kind, 26, 17 if verdict[0] else 0)) + verdict[1:]
        if kind == _wire.PARDON:
            name, key = reader.take(reader.number(1)), reader.take(reader.varint())
            if name != b"logins-a-minute":
                raise Stopped("not_trusted_to_pardon")
            return bytes((kind, 8)) + (reader.varint() + len(key)).to_bytes(8, "little")
        if kind == 0:
            return b"padding"
        if kind == _wire.INFO:
            fields = self.boot.to_bytes(8, "little") + bytes(8) + (100).to_bytes(8, "little")
            fields += self.weight_max.to_bytes(4, "little") + bytes((4, 1, 5)) + b"1.2.3"
            fields += bytes((0, 0, 16)) + self._cookie()
            return bytes((_wire.INFO, len(fields))) + fields
        key = named(sketch, reader.take(reader.varint()))
        if kind == _wire.WINDOW:
            window_ms, flags = reader.varint(), reader.number(1)
            self._check_window(window_ms)
            counted = self.counts.get(key, 0).to_bytes(8, "little")
            return bytes((kind, 13, flags)) + counted + window_ms.to_bytes(4, "little")
        weight = 1 if kind == _wire.ADD else 0
        limit = 0
        if kind in (_wire.ADD_WEIGHT, _wire.HIT):
            weight = reader.varint()
        if kind == _wire.HIT:
            limit = reader.varint()
            assert reader.varint() == 0
        if weight > self.weight_max:
            raise Stopped("weight_too_large")
        if weight and not repeated:
            self.counts[key] = self.counts.get(key, 0) + weight
        count = self.counts.get(key, 0)
        number = count.to_bytes(8, "little")
        if kind == _wire.COUNT:
            return bytes((kind,)) + number
        if kind == _wire.HIT:
            return bytes((kind | (0x40 if count > limit else 0),)) + number
        if kind == _wire.BOUNDS:
            total = sum(self.counts.values()).to_bytes(8, "little")
            return bytes((kind,)) + 4 * number + total
        return b""

    def _limits(self, reader: Reader, sequence: Optional[tuple[int, int]], repeated: bool) -> bytes:
        flags, count = reader.number(1), reader.number(1)
        assert 1 <= count <= 8
        parts = []
        for _ in range(count):
            sketch, key = reader.varint(), reader.take(reader.varint())
            part = _wire.Part(sketch, key, reader.varint(), reader.varint(), reader.varint())
            if sketch not in self.sketches:
                raise Stopped("unknown_sketch")
            self._check_window(part.window_ms)
            parts.append(part)
        verdict = self._judge(bool(flags & 1), parts, sequence, repeated)
        # Unsure says here that it was asked for as a bound.
        said = verdict[0] | (4 if flags & 2 else 0)
        return bytes((_wire.LIMITS, 26, said)) + verdict[1:]

    def _judge(
        self,
        take: bool,
        parts: list[_wire.Part],
        sequence: Optional[tuple[int, int]],
        repeated: bool,
    ) -> bytes:
        if repeated and take and sequence in self.verdicts:
            return self.verdicts[sequence]
        worst, least, over = 0, 2**64, False
        for at, part in enumerate(parts):
            now = self.counts.get(named(part.sketch, part.key), 0)
            now += 0 if repeated else part.weight
            over |= now > part.limit
            left = part.limit - now
            worst, least = (at, left) if left < least else (worst, least)
        if not repeated and not (take and over):
            for part in parts:
                key = named(part.sketch, part.key)
                self.counts[key] = self.counts.get(key, 0) + part.weight
        part = parts[worst]
        estimate = self.counts.get(named(part.sketch, part.key), 0)
        retry_ms = (1500 if part.window_ms else 2**32 - 1) if over else 0
        out = bytes((over, worst)) + estimate.to_bytes(8, "little")
        out += max(0, least).to_bytes(8, "little") + retry_ms.to_bytes(4, "little")
        out += part.window_ms.to_bytes(4, "little")
        if sequence is not None and take:
            self.verdicts[sequence] = out
        return out

    def _list(self, first: int) -> bytes:
        content = _wire.varint(len(self.sketches))
        for number, name in list(self.sketches.items())[first:]:
            entry = number.to_bytes(4, "little") + bytes((len(name),)) + name.encode() + bytes(8)
            entry += _wire.varint(1 << 20) + bytes((4, 1, 1))
            entry += _wire.varint(60_000) + _wire.varint(1_000) + _wire.varint(1 << 16)
            if len(content) + len(entry) + 4 > self.room:
                break
            content += _wire.varint(len(entry)) + entry
        return bytes((_wire.SKETCHES,)) + _wire.varint(len(content)) + content

    def _top(self, sketch: int, window_ms: int, first: int, most: int) -> bytes:
        """Lists what is counted. All that is asked for from ``changes`` on is of another list."""
        self._check_window(window_ms)
        if sketch == sketch_number("pages"):
            raise Stopped("no_top_list")
        of = sketch.to_bytes(4, "little") if sketch else b""
        counts = [(n, key[len(of) :]) for key, n in self.counts.items() if key.startswith(of)]
        counts.sort(reverse=True)
        self.editions += self.changes
        content = bytes((2 if window_ms else 0,)) + self.editions.to_bytes(8, "little")
        content += (250).to_bytes(4, "little") + (3).to_bytes(8, "little")
        content += sum(n for n, _ in counts).to_bytes(8, "little") + _wire.varint(len(counts))
        for n, key in counts[first : first + most]:
            name = b"\0" if window_ms else _wire.varint(len(key) + 1) + key
            entry = _wire.varint(n) + _wire.varint(n // 2) + name
            if len(content) + len(entry) + 5 > self.room:
                break
            content += _wire.varint(len(entry)) + entry
        return bytes((_wire.TOP,)) + _wire.varint(len(content)) + content

    def _check_window(self, window_ms: int) -> None:
        if window_ms not in (0, 60_000):
            raise Stopped("unknown_window")


class Stopped(Exception):
    """A request was stopped by the problem of this name."""


def named(sketch: int, key: bytes) -> bytes:
    """A key of a sketch, among those of all; of the default one it is the key alone."""
    return sketch.to_bytes(4, "little") + key if sketch else key
