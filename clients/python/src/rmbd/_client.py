"""The client of the compact format."""

from __future__ import annotations

import os
import secrets
import socket
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Optional, Union, cast, overload

from . import _questions, _wire
from ._addresses import Addresses, checked_timeout, host_and_port
from ._answers import (
    Answer,
    Bounds,
    Count,
    Hit,
    Info,
    Pardon,
    Sketches,
    SketchInfo,
    Top,
    TopPart,
    Verdict,
    WindowCount,
)
from ._batches import Batch, Operation, in_batches, listed_all
from ._errors import AddsFailed, AddsReport, RmbdError
from ._exchange import BOOT_TRUSTED_S, Exchange, Outcome, RoundTrip, Sends
from ._names import sketch_number
from ._questions import Duration, Key, Limit, OnFailure, Question

Adds = Union[Mapping[bytes, int], Mapping[str, int], Mapping[Key, int], Iterable[tuple[Key, int]]]
"""Keys and their weights: pairs, or a mapping such as a ``Counter``."""


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
        host, port = host_and_port(server)
        self._timeout = checked_timeout(timeout)
        self._lock = threading.RLock()
        self._is_busy = False
        self._addresses = Addresses(host, port)
        self._is_closed = False
        self._socket: Optional[socket.socket] = None
        self._info: Optional[Info]
        self._round_trip: RoundTrip
        self._until: Optional[float]
        """When the present call ends, if that is before the timeout."""
        self._begin_anew()

    @property
    def server(self) -> tuple[Any, ...]:
        """The server's address; another one after a call in which the one before did not answer."""
        return cast("tuple[Any, ...]", self._addresses.server)

    def sketch(
        self,
        name: str,
        *,
        deadline: Optional[Duration] = None,
        on_failure: Optional[OnFailure] = None,
    ) -> Sketch:
        """A sketch by its name, for calls about it. Nothing is sent: a node that has no such sketch refuses them.

        Its calls wait no longer than ``deadline`` for an answer. Verdicts are then given by nobody, as
        ``on_failure`` says: ``open`` allows, ``closed`` does not, and without it the call raises its error.
        """
        _questions.checked_on_failure(on_failure)
        return Sketch(self, sketch_number(name), _questions.seconds(deadline), on_failure)

    def add(self, key: Key, weight: int = 1) -> None:
        """Adds a weight to a key; 0 changes nothing."""
        self.sketch("default").add(key, weight)

    def add_many(self, adds: Adds) -> int:
        """Adds weights to keys, from a mapping (such as a ``Counter``) or pairs; how many there were.

        ``AddsFailed.report`` says which adds are confirmed, uncertain, and not done.
        """
        return self.sketch("default").add_many(adds)

    def count(self, key: Key) -> Count:
        """How often a key was added: approximately, and never too low for what arrived."""
        return self.count_many([key])[0]

    def count_many(self, keys: Iterable[Key]) -> list[Count]:
        """``count`` of many keys, in their order."""
        return self.sketch("default").count_many(keys)

    def hit(self, key: Key, weight: int = 1, *, limit: int) -> Hit:
        """Adds a weight to a key, then tells whether it was added at most ``limit`` times, over all
        time. A weight of 0 only looks. ``Sketch.hit`` does it within a window.
        """
        with self._turn():
            question = _questions.hit(key, self._weight(weight), limit)
            return cast(Hit, self._ask(question))

    def count_bounds(self, key: Key) -> Bounds:
        """A key's estimate, likely and certain bounds of it, and N."""
        return self.sketch("default").count_bounds(key)

    def limits(
        self,
        limits: Iterable[Limit],
        *,
        take: bool = False,
        bound: bool = False,
        exactly_once: bool = True,
        deadline: Optional[Duration] = None,
        on_failure: Optional[OnFailure] = None,
    ) -> Verdict:
        """``Sketch.limits``, of the sketches that the limits name."""
        sketch = self.sketch("default", deadline=deadline, on_failure=on_failure)
        return sketch.limits(limits, take=take, bound=bound, exactly_once=exactly_once)

    def hit_by_name(
        self,
        limit: str,
        key: Key,
        weight: int = 1,
        *,
        deadline: Optional[Duration] = None,
        on_failure: Optional[OnFailure] = None,
    ) -> Verdict:
        """Adds a weight to a key as a limit of the node's own says, and tells whether that is within it.

        The limit names the sketch, how much is allowed within which time, and whether it only takes what is
        within. A name that the node does not know is refused.
        """
        _questions.checked_on_failure(on_failure)
        with self._turn(_questions.seconds(deadline)):
            question = _questions.hit_by_name(limit, key, self._weight(weight))
            return self._verdict(question, on_failure)

    def pardon(self, limit: str, key: Key, duration: Duration) -> int:
        """Forgives a key for some time what it has in the window of a limit of the node's own; the weight that
        is forgiven. The node does it only for clients that it trusts.
        """
        with self._turn():
            return cast(Pardon, self._ask(_questions.pardon(limit, key, duration))).credit

    def top(self, k: Optional[int] = 10, window: Optional[Duration] = None) -> Top:
        """``Sketch.top``, of the sketch that every node has."""
        return self.sketch("default").top(k, window)

    def sketches(self) -> list[SketchInfo]:
        """All sketches of the node, with the windows that they keep."""
        listed: list[SketchInfo] = []
        with self._turn():
            while True:
                question = Question(_wire.sketches(len(listed)))
                if listed_all(listed, cast(Sketches, self._ask(question))):
                    return listed

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
    def _turn(self, deadline: Optional[float] = None) -> Iterator[None]:
        """One call at a time, which has so many seconds, the wait for its turn included."""
        until = None if deadline is None else time.monotonic() + deadline
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
            self._until = until
            try:
                yield
            finally:
                self._is_busy = False
                self._until = None

    def _ask_info(self) -> Info:
        return cast(Info, self._ask(Question(_wire.info())))

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
            self._round_trip = RoundTrip()
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
        self._info = None
        self._cookie = b""
        """Shows to the node that we receive at our address, until it knows this client."""
        self._is_known = False
        self._heard_at = -BOOT_TRUSTED_S
        self._arrived_at = 0.0
        self._has_heard = False
        self._is_suspect = False
        """The last call ended in silence: the next one looks the name up first."""
        self._round_trip = RoundTrip()
        self._until = None

    @property
    def _weight_max(self) -> int:
        return _wire.WEIGHT_MAX if self._info is None else self._info.weight_max

    def _weight(self, weight: int) -> int:
        return _questions.checked_weight(weight, self._weight_max)

    def _verdict(self, question: Question, on_failure: Optional[OnFailure]) -> Verdict:
        try:
            return cast(Verdict, self._ask(question))
        except (RmbdError, OSError) as error:
            return _questions.by_nobody(on_failure, error)

    def _ask(self, question: Question) -> Optional[Answer]:
        sends = Sends(question.sketch, question.adds, question.once)
        return self._ask_all([question.encoded], sends)[0]

    def _ask_all(self, encoded: list[bytes], sends: Sends) -> list[Optional[Answer]]:
        answers: list[Optional[Answer]] = [None] * len(encoded)
        errors: list[RmbdError] = []

        def outcome(position: int, answer: Optional[Answer], error: Optional[RmbdError]) -> None:
            if error is not None:
                errors.append(error)
            answers[position] = answer

        operations = (Operation(one, at) for at, one in enumerate(encoded))
        self._exchange(in_batches(operations), outcome, sends)
        if errors:
            raise errors[0]
        return answers

    def _exchange(self, batches: Iterator[Batch], outcome: Outcome, sends: Sends) -> None:
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
        if sends.once:
            self._learn_boot()
        Exchange(self, batches, outcome, sends).run()

    def _learn_boot(self) -> None:
        is_stale = time.monotonic() - self._heard_at >= BOOT_TRUSTED_S
        if self._info is None or is_stale:
            self._info = self._ask_info()
            self._shows(self._info.cookie)

    def _shows(self, cookie: bytes) -> None:
        """From now on, until the node is seen to know this client."""
        self._cookie = cookie if len(cookie) <= _wire.COOKIE_BYTES_MAX else b""
        self._is_known = False

    def _measured(self, round_trip: float) -> None:
        self._heard_at = time.monotonic()
        self._has_heard = True
        self._addresses.heard()
        self._round_trip.measured(round_trip)


class Sketch:
    """One sketch of a client's server; ``Client.sketch`` makes it. Threads may share it, as they may the client."""

    def __init__(
        self,
        client: Client,
        number: int,
        deadline: Optional[float],
        on_failure: Optional[OnFailure],
    ) -> None:
        self._client = client
        self._number = number
        self._deadline = deadline
        self._on_failure = on_failure

    def add(self, key: Key, weight: int = 1) -> None:
        """Adds a weight to a key; 0 changes nothing."""
        client = self._client
        with client._turn(self._deadline):
            client._ask(_questions.add(key, client._weight(weight), self._number))

    def add_many(self, adds: Adds) -> int:
        """Adds weights to keys, from a mapping (such as a ``Counter``) or pairs; how many there were.

        ``AddsFailed.report`` says which adds are confirmed, uncertain, and not done.
        """
        client, sends = self._client, Sends(self._number, adds=True, once=True)
        pairs = cast(
            "Iterable[tuple[Key, int]]", adds.items() if isinstance(adds, Mapping) else adds
        )
        report = AddsReport()
        errors: list[Exception] = []

        def operations() -> Iterator[Operation]:
            try:
                for key, weight in pairs:
                    encoded = _questions.add(key, client._weight(weight), self._number).encoded
                    report.taken += 1
                    yield Operation(encoded, report.taken - 1)
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
            with client._turn(self._deadline):
                client._exchange(in_batches(operations()), outcome, sends)
        except (RmbdError, OSError) as error:
            errors.insert(0, error)
        if not errors:
            return report.confirmed
        report.uncertain = _ranges(uncertain)
        # What was taken and still waited for its datagram to fill: the last ones.
        not_added.extend(range(report.confirmed + len(uncertain) + len(not_added), report.taken))
        report.not_added = _ranges(not_added)
        raise AddsFailed(report, errors[0]) from errors[0]

    @overload
    def count(self, key: Key) -> Count: ...

    @overload
    def count(self, key: Key, window: Duration, *, smooth: bool = False) -> WindowCount: ...

    def count(
        self, key: Key, window: Optional[Duration] = None, *, smooth: bool = False
    ) -> Union[Count, WindowCount]:
        """How often a key was added: within the last ``window`` (such as ``60s``), or over all time.

        In a window it is never too low for what was received there; with ``smooth`` the oldest step of time
        counts by the part of it that is left in the window. A window that the sketch does not keep is refused.
        """
        if window is None:
            return self.count_many([key])[0]
        with self._client._turn(self._deadline):
            question = _questions.count_in(key, window, smooth, self._number)
            return cast(WindowCount, self._client._ask(question))

    def count_many(self, keys: Iterable[Key]) -> list[Count]:
        """How often many keys were added over all time, in their order."""
        encoded = [_questions.count(key, self._number).encoded for key in keys]
        with self._client._turn(self._deadline):
            answers = self._client._ask_all(encoded, Sends(self._number))
            return cast("list[Count]", answers)

    def count_bounds(self, key: Key) -> Bounds:
        """A key's estimate, likely and certain bounds of it, and N."""
        with self._client._turn(self._deadline):
            return cast(Bounds, self._client._ask(_questions.bounds(key, self._number)))

    def hit(
        self,
        key: Key,
        weight: int = 1,
        *,
        limit: int,
        window: Optional[Duration] = None,
        bound: bool = False,
        exactly_once: bool = True,
    ) -> Verdict:
        """Adds a weight to a key, then tells whether at most ``limit`` came within ``window`` (such as ``60s``).

        It is added also where that is too much. A weight of 0 only looks.
        """
        one = Limit(key, limit, window, weight)
        return self.limits([one], bound=bound, exactly_once=exactly_once)

    def take(
        self,
        key: Key,
        weight: int = 1,
        *,
        limit: int,
        window: Optional[Duration] = None,
        bound: bool = False,
        exactly_once: bool = True,
    ) -> Verdict:
        """Adds a weight to a key only if at most ``limit`` come within ``window`` with it, and tells whether it
        did: what is refused consumes nothing.
        """
        one = Limit(key, limit, window, weight)
        return self.limits([one], take=True, bound=bound, exactly_once=exactly_once)

    def limits(
        self,
        limits: Iterable[Limit],
        *,
        take: bool = False,
        bound: bool = False,
        exactly_once: bool = True,
    ) -> Verdict:
        """One to eight limits in one request. With ``take`` their weights are added only if all are within.

        Windows are smooth, or never too low with ``bound``. A key that several limits name is added once.
        Without ``exactly_once`` a weight may count twice where a reply is lost, and the node need not remember
        this client.
        """
        client = self._client
        with client._turn(self._deadline):
            question = _questions.limits(
                limits,
                self._number,
                client._weight_max,
                take=take,
                bound=bound,
                exactly_once=exactly_once,
            )
            return client._verdict(question, self._on_failure)

    def top(self, k: Optional[int] = 10, window: Optional[Duration] = None) -> Top:
        """The largest keys, at most ``k`` of them (``None`` is the whole list), as the node listed them within the
        last second or so: of all time, or in a ``window`` that the sketch keeps as a whole (such as ``60s``).

        A sketch that lists no keys, and a window that it does not keep, are refused.
        """
        client, listed = self._client, _questions.top(k, window)
        with client._turn(self._deadline):
            while True:
                question = Question(listed.encoded(), self._number)
                whole = listed.take(cast(TopPart, client._ask(question)))
                if whole is not None:
                    return whole


def _ranges(positions: Iterable[int]) -> list[range]:
    """Adjoining positions as ranges, in order."""
    ranges: list[range] = []
    for position in sorted(positions):
        if ranges and ranges[-1].stop == position:
            ranges[-1] = range(ranges[-1].start, position + 1)
        else:
            ranges.append(range(position, position + 1))
    return ranges
