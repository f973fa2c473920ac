"""The client for asyncio."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Iterable, Mapping
from typing import Any, Optional, Union, cast, overload

from . import _questions, _wire
from ._addresses import Addresses, checked_timeout, host_and_port, text
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
from ._batches import Batch, Operation, fits, in_batches, listed_all, refuses_client
from ._client import Adds
from ._errors import NoAnswer, NobodyThere, Restarted, RmbdError
from ._exchange import BOOT_TRUSTED_S, SHARES, WINDOW, RoundTrip, Sends, refused
from ._names import sketch_number
from ._questions import Duration, Key, Limit, OnFailure, Question


class AsyncClient:
    """A client of one server for asyncio. Tasks of one event loop share it; their calls go out side by side.

    A weight counts exactly once: what the network loses is sent again with the same sequence, which the node
    applies once. An error's ``uncertain`` tells whether the weights may have been added. A call that is
    cancelled may still be counted.

    The first address of the server's name that answers is used. After a call that ended in silence the name is
    looked up again, by a thread, and the next address is tried.
    """

    def __init__(
        self, server: Union[str, tuple[str, int]] = "127.0.0.1:8000", *, timeout: float = 3.0
    ) -> None:
        """A client of the server at ``host:port``; nothing is looked up or sent yet.

        A request is sent again and again for ``timeout`` seconds (at most 120) before a call fails.
        """
        self._server = host_and_port(server)
        self._timeout = checked_timeout(timeout)
        self._addresses: Optional[Addresses] = None
        self._connection: Optional[_Connection] = None
        self._connecting: Optional[asyncio.Lock] = None
        self._is_suspect = False

    def sketch(
        self,
        name: str,
        *,
        deadline: Optional[Duration] = None,
        on_failure: Optional[OnFailure] = None,
    ) -> AsyncSketch:
        """A sketch by its name, for calls about it. Nothing is sent: a node that has no such sketch refuses them.

        Its calls wait no longer than ``deadline`` for an answer. Verdicts are then given by nobody, as
        ``on_failure`` says: ``open`` allows, ``closed`` does not, and without it the call raises its error.
        """
        _questions.checked_on_failure(on_failure)
        return AsyncSketch(self, sketch_number(name), _questions.seconds(deadline), on_failure)

    async def add(self, key: Key, weight: int = 1) -> None:
        """Adds a weight to a key; 0 changes nothing."""
        await self.sketch("default").add(key, weight)

    async def add_many(self, adds: Adds) -> int:
        """``AsyncSketch.add_many``, of the sketch that every node has."""
        return await self.sketch("default").add_many(adds)

    async def count(self, key: Key) -> Count:
        """How often a key was added: approximately, and never too low for what arrived."""
        return await self.sketch("default").count(key)

    async def count_many(self, keys: Iterable[Key]) -> list[Count]:
        """``count`` of many keys, in their order."""
        return await self.sketch("default").count_many(keys)

    async def hit(self, key: Key, weight: int = 1, *, limit: int) -> Hit:
        """Adds a weight to a key, then tells whether it was added at most ``limit`` times, over all time. A
        weight of 0 only looks. ``AsyncSketch.hit`` does it within a window.
        """
        question = _questions.hit(key, self._weight(weight), limit)
        return cast(Hit, await self._ask(question))

    async def count_bounds(self, key: Key) -> Bounds:
        """A key's estimate, likely and certain bounds of it, and N."""
        return await self.sketch("default").count_bounds(key)

    async def limits(
        self,
        limits: Iterable[Limit],
        *,
        take: bool = False,
        bound: bool = False,
        exactly_once: bool = True,
        deadline: Optional[Duration] = None,
        on_failure: Optional[OnFailure] = None,
    ) -> Verdict:
        """``AsyncSketch.limits``, of the sketches that the limits name."""
        sketch = self.sketch("default", deadline=deadline, on_failure=on_failure)
        return await sketch.limits(limits, take=take, bound=bound, exactly_once=exactly_once)

    async def hit_by_name(
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
        question = _questions.hit_by_name(limit, key, self._weight(weight))
        return await self._verdict(question, _questions.seconds(deadline), on_failure)

    async def pardon(self, limit: str, key: Key, duration: Duration) -> int:
        """Forgives a key for some time what it has in the window of a limit of the node's own; the weight that
        is forgiven. The node does it only for clients that it trusts.
        """
        return cast(Pardon, await self._ask(_questions.pardon(limit, key, duration))).credit

    async def top(self, k: Optional[int] = 10, window: Optional[Duration] = None) -> Top:
        """``AsyncSketch.top``, of the sketch that every node has."""
        return await self.sketch("default").top(k, window)

    async def sketches(self) -> list[SketchInfo]:
        """All sketches of the node, with the windows that they keep."""
        listed: list[SketchInfo] = []
        while True:
            part = await self._ask(Question(_wire.sketches(len(listed))))
            if listed_all(listed, cast(Sketches, part)):
                return listed

    async def info(self) -> Info:
        """What the server is."""
        return cast(Info, await self._ask(Question(_wire.info())))

    async def close(self) -> None:
        """Closes the socket: calls that are under way fail. A later call opens another one."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close(RmbdError("the client was closed"))

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    # --- How ---

    @property
    def _weight_max(self) -> int:
        info = None if self._connection is None else self._connection.info
        return _wire.WEIGHT_MAX if info is None else info.weight_max

    def _weight(self, weight: int) -> int:
        return _questions.checked_weight(weight, self._weight_max)

    async def _verdict(
        self, question: Question, deadline: Optional[float], on_failure: Optional[OnFailure]
    ) -> Verdict:
        try:
            return cast(Verdict, await self._ask(question, deadline))
        except (RmbdError, OSError) as error:
            return _questions.by_nobody(on_failure, error)

    async def _ask(self, question: Question, deadline: Optional[float] = None) -> Optional[Answer]:
        sends = Sends(question.sketch, question.adds, question.once)
        return (await self._ask_all([question.encoded], sends, deadline))[0]

    async def _ask_all(
        self, encoded: list[bytes], sends: Sends, deadline: Optional[float]
    ) -> list[Optional[Answer]]:
        """Asks all, side by side; raises the first error after all have ended."""
        answers: list[Optional[Answer]] = [None] * len(encoded)
        batches = in_batches(Operation(one, at) for at, one in enumerate(encoded))
        asked = asyncio.gather(
            *(self._settle(batch, sends, answers) for batch in batches), return_exceptions=True
        )
        try:
            outcomes = await asyncio.wait_for(asked, deadline)
        except asyncio.TimeoutError:
            self._is_suspect = True
            at = self._addresses or "{}:{}".format(*self._server)
            raise NoAnswer(at, deadline or 0.0, sends.adds) from None
        for outcome in outcomes:
            if isinstance(outcome, BaseException):
                raise outcome
        return answers

    async def _settle(self, batch: Batch, sends: Sends, answers: list[Optional[Answer]]) -> None:
        try:
            connection = await self._connect()
            await connection.settle(batch, sends, answers)
        except (NoAnswer, NobodyThere):
            self._is_suspect = True
            raise

    async def _connect(self) -> _Connection:
        """The connection, to an address that answers where there are several."""
        if self._connection is not None and not self._is_suspect:
            return self._connection
        if self._connecting is None:
            self._connecting = asyncio.Lock()
        async with self._connecting:
            if self._connection is None or self._is_suspect:
                await self._connect_anew()
        assert self._connection is not None
        return self._connection

    async def _connect_anew(self) -> None:
        loop = asyncio.get_running_loop()
        if self._addresses is None:
            self._addresses = await loop.run_in_executor(None, Addresses, *self._server)
        elif self._is_suspect:
            self._addresses.again()
            if not await loop.run_in_executor(None, self._addresses.next):
                # There is no other one: perhaps it is back.
                self._is_suspect = False
                if self._connection is not None:
                    return
        else:
            await loop.run_in_executor(None, self._addresses.forget)
        while True:
            connection = await _Connection.open(self._addresses, self._timeout)
            if not self._addresses.has_others():
                break
            if await connection.answers(self._timeout / SHARES):
                break
            connection.close(NoAnswer(self._addresses, self._timeout / SHARES, False))
            if not await loop.run_in_executor(None, self._addresses.next):
                raise NoAnswer(self._addresses, self._timeout, False)
        if self._connection is not None:
            # What is under way there ends there: an add must not be sent to another node.
            self._connection.close_when_idle()
        self._connection = connection
        self._is_suspect = False


class AsyncSketch:
    """One sketch of a client's server; ``AsyncClient.sketch`` makes it."""

    def __init__(
        self,
        client: AsyncClient,
        number: int,
        deadline: Optional[float],
        on_failure: Optional[OnFailure],
    ) -> None:
        self._client = client
        self._number = number
        self._deadline = deadline
        self._on_failure = on_failure

    async def add(self, key: Key, weight: int = 1) -> None:
        """Adds a weight to a key; 0 changes nothing."""
        question = _questions.add(key, self._client._weight(weight), self._number)
        await self._client._ask(question, self._deadline)

    async def add_many(self, adds: Adds) -> int:
        """Adds weights to keys, from a mapping (such as a ``Counter``) or pairs; how many there were.

        All are taken before the first is sent. An error's ``uncertain`` tells whether some may have been added;
        others of them may have been, too.
        """
        pairs = cast(
            "Iterable[tuple[Key, int]]", adds.items() if isinstance(adds, Mapping) else adds
        )
        weight = self._client._weight
        encoded = [_questions.add(key, weight(n), self._number).encoded for key, n in pairs]
        sends = Sends(self._number, adds=True, once=True)
        try:
            await self._client._ask_all(encoded, sends, self._deadline)
        except RmbdError as error:
            error.uncertain = True
            raise
        return len(encoded)

    @overload
    async def count(self, key: Key) -> Count: ...

    @overload
    async def count(self, key: Key, window: Duration, *, smooth: bool = False) -> WindowCount: ...

    async def count(
        self, key: Key, window: Optional[Duration] = None, *, smooth: bool = False
    ) -> Union[Count, WindowCount]:
        """How often a key was added: within the last ``window`` (such as ``60s``), or over all time.

        In a window it is never too low for what was received there; with ``smooth`` the oldest step of time
        counts by the part of it that is left in the window. A window that the sketch does not keep is refused.
        """
        if window is None:
            return (await self.count_many([key]))[0]
        question = _questions.count_in(key, window, smooth, self._number)
        return cast(WindowCount, await self._client._ask(question, self._deadline))

    async def count_many(self, keys: Iterable[Key]) -> list[Count]:
        """How often many keys were added over all time, in their order."""
        encoded = [_questions.count(key, self._number).encoded for key in keys]
        answers = await self._client._ask_all(encoded, Sends(self._number), self._deadline)
        return cast("list[Count]", answers)

    async def count_bounds(self, key: Key) -> Bounds:
        """A key's estimate, likely and certain bounds of it, and N."""
        question = _questions.bounds(key, self._number)
        return cast(Bounds, await self._client._ask(question, self._deadline))

    async def hit(
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
        return await self.limits([one], bound=bound, exactly_once=exactly_once)

    async def take(
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
        return await self.limits([one], take=True, bound=bound, exactly_once=exactly_once)

    async def limits(
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
        question = _questions.limits(
            limits,
            self._number,
            client._weight_max,
            take=take,
            bound=bound,
            exactly_once=exactly_once,
        )
        return await client._verdict(question, self._deadline, self._on_failure)

    async def top(self, k: Optional[int] = 10, window: Optional[Duration] = None) -> Top:
        """The largest keys, at most ``k`` of them (``None`` is the whole list), as the node listed them within the
        last second or so: of all time, or in a ``window`` that the sketch keeps as a whole (such as ``60s``).

        A sketch that lists no keys, and a window that it does not keep, are refused.
        """
        listed = _questions.top(k, window)
        while True:
            question = Question(listed.encoded(), self._number)
            part = cast(TopPart, await self._client._ask(question, self._deadline))
            whole = listed.take(part)
            if whole is not None:
                return whole


class _Connection(asyncio.DatagramProtocol):
    """A socket that hears one address, and what is under way there. It is an exactly-once client of its own."""

    def __init__(self, addresses: Addresses, timeout: float) -> None:
        self._server = addresses.server
        self._timeout = timeout
        self._transport: Optional[asyncio.DatagramTransport] = None
        self._loop = asyncio.get_running_loop()
        self._client = secrets.randbits(64)
        self._next_id = secrets.randbits(32)
        self._sequence = 0
        self._sequences: set[int] = set()
        """Those without a reply."""
        self._waiting: dict[int, tuple[Batch, asyncio.Future[_wire.Reply], float]] = {}
        """Batch, its reply, and when the copy was sent, by the copy's id."""
        self._places = asyncio.Semaphore(WINDOW)
        self._landed = asyncio.Event()
        self._learning = asyncio.Lock()
        self._settling = 0
        self._ends = False
        self._has_heard = False
        self._heard_at = self._loop.time() - BOOT_TRUSTED_S
        self._round_trip = RoundTrip()
        self._cookie = b""
        self._is_known = False
        self.info: Optional[Info] = None

    @classmethod
    async def open(cls, addresses: Addresses, timeout: float) -> _Connection:
        """A connection to the present address."""
        loop = asyncio.get_running_loop()
        _, connection = await loop.create_datagram_endpoint(
            lambda: cls(addresses, timeout),
            remote_addr=addresses.server[:2],
            family=addresses.family,
        )
        return connection

    def close(self, error: Exception) -> None:
        """What is under way fails."""
        self._fail(error)
        if self._transport is not None:
            self._transport.close()
            self._transport = None

    def close_when_idle(self) -> None:
        """What is under way ends first."""
        self._ends = True
        self._end()

    async def answers(self, seconds: float) -> bool:
        """Whether somebody answers within so many seconds."""
        try:
            await asyncio.wait_for(self._learn_boot(), seconds)
        except (asyncio.TimeoutError, RmbdError, OSError):
            return False
        return True

    async def settle(self, batch: Batch, sends: Sends, answers: list[Optional[Answer]]) -> None:
        """Sends a batch until it is answered; raises what stopped it."""
        self._settling += 1
        try:
            if sends.once:
                await self._learn_boot()
            async with self._places:
                await self._fly(batch, sends, answers)
        finally:
            self._settling -= 1
            self._end()

    async def _fly(self, batch: Batch, sends: Sends, answers: list[Optional[Answer]]) -> None:
        if sends.once:
            await self._wait_for_window()
            assert self.info is not None
            batch.boot, batch.sequence = self.info.boot, self._sequence
            self._sequence += 1
            self._sequences.add(batch.sequence)
        batch.first_sent = self._loop.time()
        try:
            reply = await self._replied(batch, sends)
        finally:
            for request_id in batch.ids:
                self._waiting.pop(request_id, None)
            if batch.sequence is not None:
                self._sequences.discard(batch.sequence)
                self._landed.set()
        self._take(batch, sends, reply, answers)

    async def _wait_for_window(self) -> None:
        """The node forgets sequences that are too far behind the newest."""
        while self._sequences and self._sequence - min(self._sequences) >= _wire.ONCE_WINDOW:
            self._landed.clear()
            await self._landed.wait()

    async def _replied(self, batch: Batch, sends: Sends) -> _wire.Reply:
        backoff = 0
        until = batch.first_sent + self._timeout
        while True:
            future: asyncio.Future[_wire.Reply] = self._loop.create_future()
            self._send(batch, sends, future)
            patience = min(self._round_trip.patience(backoff), until - self._loop.time())
            try:
                reply = await asyncio.wait_for(future, max(0.0, patience))
            except asyncio.TimeoutError:
                reply = None
            if reply is not None and reply.code == _wire.ADDRESS_UNPROVEN:
                self._shows(reply.cookie or b"")
                if not batch.sent_back:
                    batch.sent_back = True
                    continue
            elif reply is not None and reply.code != _wire.BUSY:
                return reply
            now = self._loop.time()
            if now >= until:
                if batch.sent_back:
                    raise refused(text(self._server), _wire.ADDRESS_UNPROVEN, sends.adds)
                raise NoAnswer(text(self._server), self._timeout, sends.adds)
            if reply is not None:
                # Not as fast as the network lets it.
                await asyncio.sleep(min(self._round_trip.patience(backoff), until - now))
            backoff += 1

    def _send(self, batch: Batch, sends: Sends, future: asyncio.Future[_wire.Reply]) -> None:
        if self._transport is None or self._transport.is_closing():
            raise RmbdError("the client was closed")
        request_id = self._next_id
        self._next_id = (self._next_id + 1) & 0xFFFFFFFF
        for earlier in batch.ids:
            # A late reply to an earlier copy is as good.
            _, _, sent_at = self._waiting[earlier]
            self._waiting[earlier] = (batch, future, sent_at)
        batch.ids.append(request_id)
        self._waiting[request_id] = (batch, future, self._loop.time())
        once = cookie = None
        if batch.sequence is not None:
            once = _wire.Once(batch.boot, self._client, batch.sequence)
            if self._cookie and not self._is_known:
                cookie = self._cookie
        datagram = _wire.header(request_id, once, sketch=sends.sketch, cookie=cookie)
        datagram += b"".join([operation.bytes for operation in batch.operations])
        answer_bytes = sum(operation.answer_bytes for operation in batch.operations)
        self._transport.sendto(
            datagram.ljust(_wire.padded_bytes(len(datagram), answer_bytes), b"\0")
        )

    def _take(
        self, batch: Batch, sends: Sends, reply: _wire.Reply, answers: list[Optional[Answer]]
    ) -> None:
        if batch.sequence is not None and not refuses_client(reply.code):
            self._is_known = True
        if _wire.stops_whole_request(reply.code, reply.done, sends.sketch):
            if reply.code == _wire.WRONG_BOOT:
                if self.info is not None and self.info.boot == batch.boot:
                    self.info = None
                raise Restarted(text(self._server))
            is_known = reply.code < len(_wire.PROBLEMS) and reply.code != _wire.SEQUENCE_TOO_OLD
            uncertain = sends.adds and (not is_known or len(batch.ids) > 1)
            raise refused(text(self._server), reply.code, uncertain)
        given = iter(reply.answers)
        for operation in batch.operations[: reply.done]:
            answers[operation.position] = next(given) if operation.answer_bytes else None
        if reply.code:
            raise refused(text(self._server), reply.code, uncertain=False)

    async def _learn_boot(self) -> None:
        async with self._learning:
            is_stale = self._loop.time() - self._heard_at >= BOOT_TRUSTED_S
            if self.info is None or is_stale:
                answers: list[Optional[Answer]] = [None]
                await self._fly(Batch([Operation(_wire.info(), 0)]), Sends(), answers)
                self.info = cast(Info, answers[0])
                self._shows(self.info.cookie)

    def _shows(self, cookie: bytes) -> None:
        self._cookie = cookie if len(cookie) <= _wire.COOKIE_BYTES_MAX else b""
        self._is_known = False

    def _fail(self, error: Exception) -> None:
        for _, future, _ in list(self._waiting.values()):
            if not future.done():
                future.set_exception(error)

    def _end(self) -> None:
        if self._ends and not self._settling:
            self.close(RmbdError("the client was closed"))

    # What the transport calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The socket is there."""
        self._transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, addr: Any) -> None:
        """Takes a reply; what is none to something under way is ignored."""
        reply = _wire.read_reply(data)
        waiting = None if reply is None else self._waiting.get(reply.id)
        if reply is None or waiting is None:
            return
        batch, future, sent_at = waiting
        if future.done() or not fits(batch, reply):
            return
        self._has_heard = True
        self._heard_at = self._loop.time()
        self._round_trip.measured(self._heard_at - sent_at)
        future.set_result(reply)

    def error_received(self, exc: Exception) -> None:
        """Nobody listens there: a server that answered before may be on its way back."""
        if isinstance(exc, ConnectionRefusedError) and not self._has_heard:
            self._fail(NobodyThere(text(self._server)))
