"""Golden vectors, and a node in this process that can lose, double and forget."""

from __future__ import annotations

import json
import random
import socket
import threading
from pathlib import Path
from typing import Any, Optional

from rmbd import _wire

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


class NaiveNode:
    """Counts exactly over a loopback socket that does harm to datagrams in both directions."""

    def __init__(self, seed: int = 0, lost: float = 0.0, doubled: float = 0.0) -> None:
        self.random = random.Random(seed)
        self.lost, self.doubled = lost, doubled
        self.boot = 1
        self.weight_max = 1 << 20
        self.is_full = False
        self.clients: set[int] = set()
        self.epoch = 0
        self.sent_back = 0
        self.shown = 0
        self.is_silent = False
        self.counts: dict[bytes, int] = {}
        self.seen: set[tuple[int, int]] = set()
        self.repeats = 0
        self.requests = 0
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind(("127.0.0.1", 0))
        self.address: tuple[str, int] = self.socket.getsockname()
        self.thread = threading.Thread(target=self._run)

    def __enter__(self) -> NaiveNode:
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stop:
            stop.sendto(b"", self.address)
        self.thread.join()
        self.socket.close()

    def restart(self) -> None:
        """Forgets everything."""
        self.boot += 1
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
                for _ in range(self._copies()):
                    self.socket.sendto(reply, client)

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
        assert sketch == 0 and flags in (1, 3, 11) and len(datagram) <= 1400
        answers, done = b"", 0
        code, repeated = 0, False
        if flags & 2:
            boot, client, sequence = reader.number(8), reader.number(8), reader.varint()
            cookie = reader.take(reader.number(1)) if flags & 8 else None
            self.shown += cookie is not None
            if boot != self.boot:
                code = _wire.PROBLEMS.index("wrong_boot")
            elif self.is_full:
                code = _wire.PROBLEMS.index("once_table_full")
            elif client not in self.clients and cookie != self._cookie():
                self.sent_back += 1
                code = _wire.PROBLEMS.index("address_unproven")
                answers = bytes((7, 16)) + self._cookie()
            else:
                self.clients.add(client)
                repeated = (client, sequence) in self.seen
                self.repeats += repeated
                self.seen.add((client, sequence))
        while not code and reader.at < len(datagram):
            answer = self._perform(reader, repeated)
            if answer is None:
                code = _wire.PROBLEMS.index("weight_too_large")
            elif answer != b"padding":
                answers += answer
                done += 1
        head = bytes((0xD1, repeated)) + request_id.to_bytes(4, "little")
        reply = head + done.to_bytes(2, "little") + bytes((code,)) + answers
        assert len(reply) <= min(1400, 3 * len(datagram))
        return reply

    def _cookie(self) -> bytes:
        return bytes((self.epoch % 256,)) * 16

    def _perform(self, reader: Reader, repeated: bool) -> Optional[bytes]:
        kind = reader.number(1)
        if kind == 0:
            return b"padding"
        if kind == _wire.INFO:
            fields = self.boot.to_bytes(8, "little") + bytes(8) + (100).to_bytes(8, "little")
            fields += self.weight_max.to_bytes(4, "little") + bytes((4, 1, 5)) + b"1.2.3"
            fields += bytes((0, 0, 16)) + self._cookie()
            return bytes((_wire.INFO, len(fields))) + fields
        key = reader.take(reader.varint())
        weight = 1 if kind == _wire.ADD else 0
        limit = 0
        if kind in (_wire.ADD_WEIGHT, _wire.HIT):
            weight = reader.varint()
        if kind == _wire.HIT:
            limit = reader.varint()
            assert reader.varint() == 0
        if weight > self.weight_max:
            return None
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
            return bytes((kind,)) + number + number + total
        return b""
