"""One call of the blocking client: its datagrams, the replies to them, and what is lost."""

from __future__ import annotations

import errno
import socket
import time
from collections import deque
from collections.abc import Iterator
from typing import TYPE_CHECKING, Callable, NamedTuple, Optional

from . import _wire
from ._answers import Answer
from ._batches import Batch, fits, refuses_client
from ._errors import NoAnswer, NobodyThere, NoPlace, Refused, Restarted, RmbdError

if TYPE_CHECKING:
    from ._client import Client

WINDOW = 32
"""Datagrams under way: what a receive buffer of Linux' default size takes, with room for others."""
_PATIENCE_FIRST_S, _PATIENCE_MIN_S, _PATIENCE_MAX_S = 0.1, 0.01, 1.0
BOOT_TRUSTED_S = 10.0
"""After so much silence the node may have been started again: its boot is asked for before adding."""
_REORDERING_MAX = 8
"""Replies to so many later datagrams mean that one is lost."""
_ABOUT_THE_PEER = {
    errno.ECONNREFUSED,
    errno.EHOSTUNREACH,
    errno.ENETUNREACH,
    errno.ENETDOWN,
    errno.EPERM,
}
"""Errors of a socket that tell of the other side, or of the way there."""
SHARES = 3
"""Shares of the timeout that each address of a name has before the next one is tried."""

Outcome = Callable[[int, Optional[Answer], Optional[RmbdError]], None]
"""Takes what became of an operation, by its position in the call."""


class Sends(NamedTuple):
    """How the operations of a call are sent."""

    sketch: int = 0
    adds: bool = False
    once: bool = False


class Exchange:
    """One call's batches and what is under way of them.

    Every copy of a batch that is sent has a request id of its own, so that a reply tells which copy it
    answers, and a second reply to a batch finds nothing.
    """

    def __init__(
        self,
        client: Client,
        batches: Iterator[Batch],
        outcome: Outcome,
        sends: Sends,
    ) -> None:
        self._client = client
        self._batches = batches
        self._outcome = outcome
        self._sends = sends
        self._once = sends.once
        self._again: deque[Batch] = deque()
        """Lost."""
        self._flying: dict[int, Batch] = {}
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
        is_silent = since is not None and since + client._timeout / SHARES <= now
        is_refused, self._is_refused = self._is_refused, False
        self._is_held = self._is_held and (is_silent or is_refused)
        if not (is_silent or is_refused) or now < self._pause_until:
            return
        if self._may_not_move():
            self._is_held = self._once
            return
        if client._move_on():
            self._resume()
        elif is_refused and not client._has_heard:
            raise NobodyThere(client._addresses)
        else:
            client._addresses.again()
            self._pause_until = now + client._timeout / SHARES

    def _may_not_move(self) -> bool:
        """An add is under way, of which only this node knows whether it was applied."""
        return any(batch.sequence is not None for batch in self._flying.values())

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
        while len(self._sent) < WINDOW:
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

    def _send(self, batch: Batch) -> None:
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
        datagram = _wire.header(request_id, once, sketch=self._sends.sketch, cookie=cookie)
        datagram += b"".join([operation.bytes for operation in batch.operations])
        answer_bytes = sum(operation.answer_bytes for operation in batch.operations)
        datagram = datagram.ljust(_wire.padded_bytes(len(datagram), answer_bytes), b"\0")
        try:
            self._socket.send(datagram)
        except BlockingIOError:
            # It counts as lost.
            pass
        except OSError as error:
            self._excuse(error)

    def _excuse(self, error: OSError) -> None:
        """A server that answered before may be on its way back, or elsewhere: what says that it is not there is no
        more than silence.
        """
        is_refusal = isinstance(error, ConnectionRefusedError)
        is_away = self._client._has_heard and error.errno in _ABOUT_THE_PEER
        if not (is_refusal or is_away):
            raise error
        self._is_refused = True

    def _wait(self) -> None:
        """Takes replies, after waiting for the first one."""
        if not self._flying:
            return
        oldest = next(iter(self._flying.values())).first_sent
        until = oldest + self._client._timeout
        if self._sent:
            until = min(until, self._sent[0][2] + self._client._round_trip.patience(self._backoff))
        since = self._silent_since()
        if self._client._until is not None:
            until = min(until, self._client._until)
        if since is not None and not self._may_not_move():
            until = min(until, max(since + self._client._timeout / SHARES, self._pause_until))
        # 0 is not to wait at all.
        self._socket.settimeout(max(0.0, until - time.monotonic()))
        while True:
            try:
                datagram = self._socket.recv(2048)
            except (BlockingIOError, TimeoutError, socket.timeout):
                break
            except OSError as error:
                self._excuse(error)
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
        if not fits(batch, reply):
            return
        if reply.code == _wire.ADDRESS_UNPROVEN:
            self._take_back(batch, copy, reply.cookie or b"")
            return
        if reply.code == _wire.BUSY:
            # As if it had been lost: it goes again, and more slowly.
            self._client._heard_at = time.monotonic()
            return
        if batch.sequence is not None and not refuses_client(reply.code):
            self._client._is_known = True
        self._client._measured(time.monotonic() - sent_at)
        self._backoff = 0
        self._replied_max = max(self._replied_max, number)
        self._land(first)
        if _wire.stops_whole_request(reply.code, reply.done, self._sends.sketch):
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

    def _take_back(self, batch: Batch, copy: tuple[int, int, float], cookie: bytes) -> None:
        """It was not applied, and goes again with this cookie, and the same sequence."""
        self._client._heard_at = time.monotonic()
        self._client._has_heard = True
        self._client._shows(cookie)
        # Later ones go when they count as lost: not as fast as the network lets them.
        if batch.under_way == copy[1] and copy in self._sent and not batch.sent_back:
            batch.sent_back = True
            self._sent.remove(copy)
            self._again.append(batch)

    def _fail_whole(self, batch: Batch, code: int) -> None:
        """It may have been applied in an earlier boot, or another copy of it may."""
        adds = self._sends.adds
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
        return refused(self._client.server, code, uncertain)

    def _fail(self, batch: Batch, error: RmbdError) -> None:
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
        patience = self._client._round_trip.patience(self._backoff)
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
            until = oldest.first_sent + self._client._timeout
            if self._client._until is not None:
                until = min(until, self._client._until)
            if until <= now:
                uncertain = self._sends.adds
                if oldest.sent_back:
                    raise self._refused(_wire.ADDRESS_UNPROVEN, uncertain)
                raise NoAnswer(self._client._addresses, until - oldest.first_sent, uncertain)

    def _abandon(self, error: Exception) -> None:
        """What was sent and has no reply may have been applied."""
        abandoned = RmbdError(f"given up: {error}")
        abandoned.uncertain = self._sends.adds
        for batch in self._flying.values():
            self._fail(batch, abandoned)


class RoundTrip:
    """How long a reply may take, by the replies that came (RFC 6298)."""

    def __init__(self) -> None:
        self._measured: Optional[tuple[float, float]] = None

    def patience(self, backoff: int) -> float:
        """In seconds, doubled so many times."""
        patience = _PATIENCE_FIRST_S
        if self._measured is not None:
            smoothed, variation = self._measured
            patience = max(smoothed + 4 * variation, _PATIENCE_MIN_S)
        return min(patience * (1 << min(backoff, 16)), _PATIENCE_MAX_S)

    def measured(self, round_trip: float) -> None:
        """A reply came after so many seconds."""
        if self._measured is None:
            self._measured = (round_trip, round_trip / 2)
            return
        smoothed, variation = self._measured
        self._measured = (
            smoothed * 7 / 8 + round_trip / 8,
            variation * 3 / 4 + abs(smoothed - round_trip) / 4,
        )


def refused(server: object, code: int, uncertain: bool) -> Refused:
    """The error that tells a refusal."""
    has_no_place = code in (_wire.ONCE_TABLE_FULL, _wire.ONCE_NETWORK_FULL)
    kind = NoPlace if has_no_place else Refused
    return kind(server, code, _wire.problem_name(code), uncertain)
