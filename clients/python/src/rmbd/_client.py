"""The client of the compact format."""

from __future__ import annotations

import os
import secrets
import socket
import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Callable, Optional, Union, cast

from . import _wire
from ._addresses import Addresses
from ._answers import Answer, Bounds, Count, Hit, Info
from ._errors import (
    AddsFailed,
    AddsReport,
    KeyTooLong,
    NoAnswer,
    NoPlace,
    NobodyThere,
    Refused,
    Restarted,
    RmbdError,
    WeightTooLarge,
)

Key = Union[bytes, str]
"""A key: bytes, or text that is sent as UTF-8."""

Adds = Union[Mapping[bytes, int], Mapping[str, int], Mapping[Key, int], Iterable[tuple[Key, int]]]
"""Keys and their weights: pairs, or a mapping such as a ``Counter``."""

_WINDOW = 32
"""Datagrams under way: what a receive buffer of Linux' default size takes, with room for others."""
_REORDERING_MAX = 8
"""Replies to so many later datagrams mean that one is lost."""
_PATIENCE_FIRST_S, _PATIENCE_MIN_S, _PATIENCE_MAX_S = 0.1, 0.01, 1.0
_BOOT_TRUSTED_S = 10.0
"""After so much silence the node may have been started again: its boot is asked for before adding."""
_SHARES = 3
"""Shares of the timeout that each address of a name has before the next one is tried."""
_HEADER_BYTES_MAX = 7 + 16 + 10 + _wire.COOKIE_FIELD_BYTES_MAX


class _Operation:
    """One operation, and where its outcome belongs."""

    __slots__ = ("answer_bytes", "bytes", "position")

    def __init__(self, encoded: bytes, position: int) -> None:
        self.bytes = encoded
        self.position = position
        self.answer_bytes = _wire.ANSWER_BYTES[encoded[0]]


class _Batch:
    """A datagram's worth of operations."""

    __slots__ = (
        "boot",
        "first_sent",
        "ids",
        "operations",
        "sent_back",
        "sequence",
        "under_way",
    )

    def __init__(self, operations: list[_Operation]) -> None:
        self.operations = operations
        self.sequence: Optional[int] = None
        self.boot = 0
        self.first_sent = 0.0
        self.ids: list[int] = []
        self.under_way = -1
        self.sent_back = False
        """Once: it goes again at once the first time only."""


Outcome = Callable[[int, Optional[Answer], Optional[RmbdError]], None]


class Client:
    """A blocking client of one server. Every call waits for the answers.

    A weight counts exactly once: what the network loses is sent again with the same sequence, which the
    node applies once. An error's ``uncertain`` tells whether the weights may have been added.

    Where an address refuses, or stays silent for a third of the timeout, the name is looked up again and the
    next address is tried; but an add that may have been applied is never sent to another one.

    Threads may share a client: their calls take turns. After ``os.fork`` each process goes on as a client of
    its own.
    """

    def __init__(
        self, server: Union[str, tuple[str, int]] = "127.0.0.1:8000", *, timeout: float = 3.0
    ) -> None:
        """A client of the server at ``host:port``, which is looked up; nothing is sent yet.

        A request is sent again and again for ``timeout`` seconds (at most 120) before a call fails.
        """
        if isinstance(server, str):
            host, _, port = server.rpartition(":")
            if not host or not port.isdecimal():
                raise ValueError(f"{server!r} is not HOST:PORT, such as 127.0.0.1:8000")
            server = (host.strip("[]"), int(port))
        if not timeout > 0:
            raise ValueError("the timeout must be above 0 s")
        self._timeout = min(timeout, float(_wire.ONCE_RETRY_S_MAX))
        self._lock = threading.RLock()
        self._is_busy = False
        self._addresses = Addresses(server[0], server[1])
        self._is_closed = False
        self._socket: Optional[socket.socket] = None
        self._begin_anew()

    @property
    def server(self) -> tuple[Any, ...]:
        """The server's address; another one after a call in which the one before did not answer."""
        return cast("tuple[Any, ...]", self._addresses.server)

    def add(self, key: Key, weight: int = 1) -> None:
        """Adds a weight to a key; 0 changes nothing."""
        with self._turn():
            self._ask_all([_wire.add(_key(key), self._weight(weight))], once=True)

    def add_many(self, adds: Adds) -> int:
        """Adds weights to keys, from a mapping (such as a ``Counter``) or pairs; how many there were.

        ``AddsFailed.report`` says which adds are confirmed, uncertain, and not done.
        """
        pairs = cast(
            "Iterable[tuple[Key, int]]", adds.items() if isinstance(adds, Mapping) else adds
        )
        report = AddsReport()
        errors: list[Exception] = []

        def operations() -> Iterator[_Operation]:
            try:
                for key, weight in pairs:
                    encoded = _wire.add(_key(key), self._weight(weight))
                    report.taken += 1
                    yield _Operation(encoded, report.taken - 1)
            except Exception as error:  # A key's, a weight's, or the iterable's own.
                # What was taken before is finished first.
                errors.append(error)

        uncertain: list[int] = []
        not_added: list[int] = []

        def outcome(position: int, _: Optional[Answer], error: Optional[RmbdError]) -> None:
            if error is None:
                report.confirmed += 1
            elif error.uncertain:
                uncertain.append(position)
            else:
                not_added.append(position)

        try:
            with self._turn():
                self._exchange(_batches(operations()), outcome, once=True)
        except (RmbdError, OSError) as error:
            errors.insert(0, error)
        if not errors:
            return report.confirmed
        report.uncertain = _ranges(uncertain)
        # What was taken and still waited for its datagram to fill: the last ones.
        not_added.extend(range(report.confirmed + len(uncertain) + len(not_added), report.taken))
        report.not_added = _ranges(not_added)
        raise AddsFailed(report, errors[0]) from errors[0]

    def count(self, key: Key) -> Count:
        """How often a key was added: approximately, and never too low for what arrived."""
        return self.count_many([key])[0]

    def count_many(self, keys: Iterable[Key]) -> list[Count]:
        """``count`` of many keys, in their order."""
        encoded = [_wire.count(_key(key)) for key in keys]
        with self._turn():
            return cast("list[Count]", self._ask_all(encoded, once=False))

    def hit(self, key: Key, weight: int = 1, *, limit: int) -> Hit:
        """Adds a weight to a key, then tells whether it was added at most ``limit`` times, over all
        time. A weight of 0 only looks.
        """
        if not 0 <= limit <= _wire.WEIGHT_MAX:
            raise ValueError("a limit is from 0 to 2^64 - 1")
        with self._turn():
            encoded = _wire.hit(_key(key), self._weight(weight), limit)
            return cast(Hit, self._ask_all([encoded], once=weight > 0)[0])

    def count_bounds(self, key: Key) -> Bounds:
        """A key's estimate, a lower bound, and N."""
        with self._turn():
            return cast(Bounds, self._ask_all([_wire.bounds(_key(key))], once=False)[0])

    def info(self) -> Info:
        """What the server is."""
        with self._turn():
            return self._ask_info()

    def close(self) -> None:
        """Closes the socket, after the call of another thread; a later call looks the name up anew and
        opens another one.
        """
        with self._turn():
            self._close_socket()
            self._is_closed = True

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # --- How ---

    @contextmanager
    def _turn(self) -> Iterator[None]:
        """One call at a time."""
        if self._process != os.getpid():
            # Who held it stayed in the other process.
            self._lock = threading.RLock()
            self._is_busy = False
            self._begin_anew()
        with self._lock:
            if self._is_busy:
                raise RuntimeError(
                    "a call of this client is under way in this thread: what it iterates over uses the same "
                    "client; make a list first, or use another client there"
                )
            self._is_busy = True
            try:
                yield
            finally:
                self._is_busy = False

    def _ask_info(self) -> Info:
        return cast(Info, self._ask_all([_wire.info()], once=False)[0])

    def _close_socket(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _open_socket(self) -> None:
        self._close_socket()
        self._socket = self._addresses.open()
        self._socket.setblocking(False)
        self._arrived_at = time.monotonic()

    def _move_on(self) -> bool:
        """Goes to another address, after a look-up; False where there is none that was not in vain."""
        while self._addresses.next():
            try:
                self._open_socket()
            except OSError:
                # No way there, such as of the other family.
                continue
            self._info = None
            # What another node gave is no use there.
            self._shows(b"")
            self._round_trip = None
            return True
        return False

    def _begin_anew(self) -> None:
        """Becomes another client: its numbers must not be another process's."""
        self._close_socket()
        self._process = os.getpid()
        self._client = secrets.randbits(64)
        self._sequence = 0
        self._next_copy = 0
        self._first_id = secrets.randbits(32)
        self._info: Optional[Info] = None
        self._cookie = b""
        """Shows to the node that we receive at our address, until it knows this client."""
        self._is_known = False
        self._heard_at = -_BOOT_TRUSTED_S
        self._arrived_at = 0.0
        self._has_heard = False
        self._is_suspect = False
        """The last call ended in silence: the next one looks the name up first."""
        self._round_trip: Optional[tuple[float, float]] = None

    def _weight(self, weight: int) -> int:
        weight_max = _wire.WEIGHT_MAX if self._info is None else self._info.weight_max
        if not 0 <= weight <= weight_max:
            raise WeightTooLarge(weight, weight_max)
        return weight

    def _ask_all(self, encoded: list[bytes], *, once: bool) -> list[Optional[Answer]]:
        answers: list[Optional[Answer]] = [None] * len(encoded)
        errors: list[RmbdError] = []

        def outcome(position: int, answer: Optional[Answer], error: Optional[RmbdError]) -> None:
            if error is not None:
                errors.append(error)
            answers[position] = answer

        operations = (_Operation(one, at) for at, one in enumerate(encoded))
        self._exchange(_batches(operations), outcome, once=once)
        if errors:
            raise errors[0]
        return answers

    def _exchange(self, batches: Iterator[_Batch], outcome: Outcome, *, once: bool) -> None:
        """Sends batches and waits for their replies; the first failure ends it."""
        if self._is_closed:
            self._addresses.forget()
            self._is_closed = False
            self._info = None
        if self._socket is None:
            self._open_socket()
        if self._is_suspect:
            self._is_suspect = False
            self._addresses.again()
            self._move_on()
        if once:
            self._learn_boot()
        _Exchange(self, batches, outcome, once).run()

    def _learn_boot(self) -> None:
        is_stale = time.monotonic() - self._heard_at >= _BOOT_TRUSTED_S
        if self._info is None or is_stale:
            self._info = self._ask_info()
            self._shows(self._info.cookie)

    def _shows(self, cookie: bytes) -> None:
        """From now on, until the node is seen to know this client."""
        self._cookie = cookie if len(cookie) <= _wire.COOKIE_BYTES_MAX else b""
        self._is_known = False

    def _patience(self, backoff: int) -> float:
        """How long a reply may take (RFC 6298)."""
        patience = _PATIENCE_FIRST_S
        if self._round_trip is not None:
            smoothed, variation = self._round_trip
            patience = max(smoothed + 4 * variation, _PATIENCE_MIN_S)
        return min(patience * (1 << min(backoff, 16)), _PATIENCE_MAX_S)

    def _measured(self, round_trip: float) -> None:
        self._heard_at = time.monotonic()
        self._has_heard = True
        self._addresses.heard()
        if self._round_trip is None:
            self._round_trip = (round_trip, round_trip / 2)
        else:
            smoothed, variation = self._round_trip
            self._round_trip = (
                smoothed * 7 / 8 + round_trip / 8,
                variation * 3 / 4 + abs(smoothed - round_trip) / 4,
            )


class _Exchange:
    """One call's batches and what is under way of them.

    Every copy of a batch that is sent has a request id of its own, so that a reply tells which copy it
    answers, and a second reply to a batch finds nothing.
    """

    def __init__(
        self,
        client: Client,
        batches: Iterator[_Batch],
        outcome: Outcome,
        once: bool,
    ) -> None:
        self._client = client
        self._batches = batches
        self._outcome = outcome
        self._once = once
        self._again: deque[_Batch] = deque()
        """Lost."""
        self._flying: dict[int, _Batch] = {}
        """By the number of the first copy."""
        self._copies: dict[int, tuple[int, int, float]] = {}
        """First copy, own number and time by id."""
        self._sent: deque[tuple[int, int, float]] = deque()
        """The same of the copies under way, oldest first."""
        self._replied_max = -1
        self._backoff = 0
        self._is_done = False
        self._is_refused = False
        self._is_held = False
        """The address is in trouble: nothing more is added there."""
        self._pause_until = 0.0

    @property
    def _socket(self) -> socket.socket:
        assert self._client._socket is not None
        return self._client._socket

    def run(self) -> None:
        """Until there is nothing left."""
        try:
            while self._fill() or self._flying or self._again:
                self._wait()
                self._follow_addresses()
                self._find_lost()
        except (RmbdError, OSError) as error:
            self._client._is_suspect = isinstance(error, (NoAnswer, NobodyThere))
            self._abandon(error)
            raise

    def _silent_since(self) -> Optional[float]:
        """Since when the address owes a reply."""
        if not self._flying:
            return None
        oldest = next(iter(self._flying.values())).first_sent
        return max(oldest, self._client._heard_at, self._client._arrived_at)

    def _follow_addresses(self) -> None:
        """Goes to another address where this one does not answer, unless an add is under way."""
        client, now = self._client, time.monotonic()
        since = self._silent_since()
        is_silent = since is not None and since + client._timeout / _SHARES <= now
        is_refused, self._is_refused = self._is_refused, False
        self._is_held = self._is_held and (is_silent or is_refused)
        if not (is_silent or is_refused) or now < self._pause_until:
            return
        if any(batch.sequence is not None for batch in self._flying.values()):
            self._is_held = self._once
            return
        if client._move_on():
            self._resume()
        elif is_refused and not client._has_heard:
            raise NobodyThere(client._addresses)
        else:
            client._addresses.again()
            self._pause_until = now + client._timeout / _SHARES

    def _resume(self) -> None:
        """What only asks is asked again, elsewhere; what was never sent has to know the boot there."""
        for batch in self._flying.values():
            batch.ids = []
            batch.under_way = -1
        # Lost ones are among those that fly.
        self._again = deque(self._flying.values())
        self._flying, self._copies = {}, {}
        self._sent.clear()
        self._replied_max = -1
        self._backoff = 0
        self._is_held = False
        if self._once:
            self._client._learn_boot()

    def _fill(self) -> bool:
        """Sends what may be sent; whether anything was."""
        sent = False
        while len(self._sent) < _WINDOW:
            if self._again:
                batch = self._again.popleft()
            elif self._is_done or self._is_held or self._leaves_window():
                break
            else:
                following = next(self._batches, None)
                if following is None:
                    self._is_done = True
                    break
                batch = following
            self._send(batch)
            sent = True
        return sent

    def _leaves_window(self) -> bool:
        """The node forgets sequences that are too far behind the newest."""
        if not self._once or not self._flying:
            return False
        oldest = min(batch.sequence or 0 for batch in self._flying.values())
        return self._client._sequence - oldest >= _wire.ONCE_WINDOW

    def _send(self, batch: _Batch) -> None:
        client = self._client
        now = time.monotonic()
        number = client._next_copy
        client._next_copy += 1
        request_id = (client._first_id + number) & 0xFFFFFFFF
        if not batch.ids:
            batch.first_sent = batch.first_sent or now
            if self._once and client._info is not None:
                batch.boot = client._info.boot
                batch.sequence = client._sequence
                client._sequence += 1
        first = number if not batch.ids else self._copies[batch.ids[0]][0]
        batch.ids.append(request_id)
        batch.under_way = number
        self._flying[first] = batch
        copy = (first, number, now)
        self._copies[request_id] = copy
        self._sent.append(copy)
        once = cookie = None
        if batch.sequence is not None:
            once = _wire.Once(batch.boot, client._client, batch.sequence)
            if client._cookie and not client._is_known:
                cookie = client._cookie
        datagram = _wire.header(request_id, once, cookie=cookie)
        datagram += b"".join([operation.bytes for operation in batch.operations])
        answer_bytes = sum(operation.answer_bytes for operation in batch.operations)
        datagram = datagram.ljust(_wire.padded_bytes(len(datagram), answer_bytes), b"\0")
        try:
            self._socket.send(datagram)
        except BlockingIOError:
            # It counts as lost.
            pass
        except ConnectionRefusedError:
            # A server that answered before may be on its way back, or elsewhere.
            self._is_refused = True

    def _wait(self) -> None:
        """Takes replies, after waiting for the first one."""
        if not self._flying:
            return
        oldest = next(iter(self._flying.values())).first_sent
        until = oldest + self._client._timeout
        if self._sent:
            until = min(until, self._sent[0][2] + self._client._patience(self._backoff))
        since = self._silent_since()
        if since is not None:
            until = min(until, max(since + self._client._timeout / _SHARES, self._pause_until))
        # 0 is not to wait at all.
        self._socket.settimeout(max(0.0, until - time.monotonic()))
        while True:
            try:
                datagram = self._socket.recv(2048)
            except (BlockingIOError, TimeoutError, socket.timeout):
                break
            except ConnectionRefusedError:
                self._is_refused = True
            else:
                reply = _wire.read_reply(datagram)
                if reply is not None:
                    self._receive(reply)
            self._socket.settimeout(0.0)
        self._socket.settimeout(0.0)

    def _receive(self, reply: _wire.Reply) -> None:
        copy = self._copies.get(reply.id)
        if copy is None:
            return
        first, number, sent_at = copy
        batch = self._flying[first]
        if not _fits(batch, reply):
            return
        if reply.code == _wire.ADDRESS_UNPROVEN:
            self._take_back(batch, copy, reply.cookie or b"")
            return
        if reply.code == _wire.BUSY:
            # As if it had been lost: it goes again, and more slowly.
            self._client._heard_at = time.monotonic()
            return
        if batch.sequence is not None and not _refuses_client(reply.code):
            self._client._is_known = True
        self._client._measured(time.monotonic() - sent_at)
        self._backoff = 0
        self._replied_max = max(self._replied_max, number)
        self._land(first)
        if _wire.stops_whole_request(reply.code, reply.done):
            self._fail_whole(batch, reply.code)
            return
        answers = iter(reply.answers)
        for operation in batch.operations[: reply.done]:
            answer = next(answers) if operation.answer_bytes else None
            self._outcome(operation.position, answer, None)
        if reply.code:
            error = self._refused(reply.code, uncertain=False)
            # Nobody looked at what stands behind it.
            for operation in batch.operations[reply.done :]:
                self._outcome(operation.position, None, error)
            raise error

    def _take_back(self, batch: _Batch, copy: tuple[int, int, float], cookie: bytes) -> None:
        """It was not applied, and goes again with this cookie, and the same sequence."""
        self._client._heard_at = time.monotonic()
        self._client._has_heard = True
        self._client._shows(cookie)
        # Later ones go when they count as lost: not as fast as the network lets them.
        if batch.under_way == copy[1] and copy in self._sent and not batch.sent_back:
            batch.sent_back = True
            self._sent.remove(copy)
            self._again.append(batch)

    def _fail_whole(self, batch: _Batch, code: int) -> None:
        """It may have been applied in an earlier boot, or another copy of it may."""
        adds = batch.sequence is not None
        if code == _wire.WRONG_BOOT:
            info = self._client._info
            if info is not None and info.boot == batch.boot:
                self._client._info = None
            error: RmbdError = Restarted(self._client.server)
        else:
            is_known = code < len(_wire.PROBLEMS) and code != _wire.SEQUENCE_TOO_OLD
            error = self._refused(code, adds and (not is_known or len(batch.ids) > 1))
        self._fail(batch, error)
        raise error

    def _refused(self, code: int, uncertain: bool) -> Refused:
        has_no_place = code in (_wire.ONCE_TABLE_FULL, _wire.ONCE_NETWORK_FULL)
        return (NoPlace if has_no_place else Refused)(self._client.server, code, _wire.problem_name(code), uncertain)

    def _fail(self, batch: _Batch, error: RmbdError) -> None:
        for operation in batch.operations:
            self._outcome(operation.position, None, error)

    def _land(self, first: int) -> None:
        """Takes a batch out, and what was under way of it."""
        batch = self._flying.pop(first)
        for request_id in batch.ids:
            del self._copies[request_id]
        if batch in self._again:
            self._again.remove(batch)
        for copy in self._sent:
            if copy[1] == batch.under_way:
                self._sent.remove(copy)
                break

    def _find_lost(self) -> None:
        """Copies that were overtaken or waited for long enough are lost."""
        now = time.monotonic()
        patience = self._client._patience(self._backoff)
        ran_out = False
        while self._sent:
            first, number, sent_at = self._sent[0]
            is_late = sent_at + patience <= now
            if number + _REORDERING_MAX > self._replied_max and not is_late:
                break
            ran_out |= is_late
            self._sent.popleft()
            self._again.append(self._flying[first])
        self._backoff += ran_out
        if self._flying:
            oldest = next(iter(self._flying.values()))
            if oldest.first_sent + self._client._timeout <= now:
                uncertain = oldest.sequence is not None
                if oldest.sent_back:
                    raise self._refused(_wire.ADDRESS_UNPROVEN, uncertain)
                raise NoAnswer(self._client._addresses, self._client._timeout, uncertain)

    def _abandon(self, error: Exception) -> None:
        """What was sent and has no reply may have been applied."""
        abandoned = RmbdError(f"given up: {error}")
        abandoned.uncertain = self._once
        for batch in self._flying.values():
            self._fail(batch, abandoned)


def _fits(batch: _Batch, reply: _wire.Reply) -> bool:
    """Whether a reply has the answers that the operations ask for."""
    total = len(batch.operations)
    if reply.code == _wire.ADDRESS_UNPROVEN:
        return batch.sequence is not None and reply.done == 0 and reply.cookie is not None
    if reply.cookie is not None:
        return False
    if reply.done > total or (reply.done == total) != (reply.code == 0):
        return False
    asked = [o.bytes[0] for o in batch.operations[: reply.done] if o.answer_bytes]
    kinds = {
        _wire.COUNT: Count,
        _wire.HIT: Hit,
        _wire.BOUNDS: Bounds,
        _wire.INFO: Info,
    }
    return len(asked) == len(reply.answers) and all(
        isinstance(answer, kinds[kind]) for kind, answer in zip(asked, reply.answers)
    )


def _refuses_client(code: int) -> bool:
    """Whether a code says that the node does not know the client, or may not."""
    known = (0, _wire.SEQUENCE_TOO_OLD)
    return _wire.stops_whole_request(code, 0) and code not in known


def _batches(operations: Iterable[_Operation]) -> Iterator[_Batch]:
    """Operations that share a datagram, which nor its reply are too long."""
    open_batch: list[_Operation] = []
    size, answer_bytes = _HEADER_BYTES_MAX, 0
    for operation in operations:
        size += len(operation.bytes)
        answer_bytes += operation.answer_bytes
        reply_bytes = _wire.REPLY_HEAD_BYTES + answer_bytes
        if open_batch and (size > _wire.DATAGRAM_BYTES or reply_bytes > _wire.REPLY_BYTES_MAX):
            yield _Batch(open_batch)
            open_batch = []
            size = _HEADER_BYTES_MAX + len(operation.bytes)
            answer_bytes = operation.answer_bytes
        open_batch.append(operation)
    if open_batch:
        yield _Batch(open_batch)


def _key(key: Key) -> bytes:
    encoded = key.encode() if isinstance(key, str) else bytes(key)
    if len(encoded) > _wire.KEY_BYTES_MAX:
        raise KeyTooLong(len(encoded), _wire.KEY_BYTES_MAX)
    return encoded


def _ranges(positions: Iterable[int]) -> list[range]:
    """Adjoining positions as ranges, in order."""
    ranges: list[range] = []
    for position in sorted(positions):
        if ranges and ranges[-1].stop == position:
            ranges[-1] = range(ranges[-1].start, position + 1)
        else:
            ranges.append(range(position, position + 1))
    return ranges
