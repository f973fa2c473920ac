"""Operations on their way into datagrams, and what a reply to them means, for both clients."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Optional

from . import _wire
from ._answers import (
    Bounds,
    Count,
    Hit,
    Info,
    Pardon,
    Sketches,
    SketchInfo,
    Top,
    TopKey,
    TopPart,
    Verdict,
    WindowCount,
)
from ._errors import RmbdError

_KINDS = {
    _wire.COUNT: Count,
    _wire.HIT: Hit,
    _wire.BOUNDS: Bounds,
    _wire.INFO: Info,
    _wire.WINDOW: WindowCount,
    _wire.LIMITS: Verdict,
    _wire.SKETCHES: Sketches,
    _wire.HIT_BY_NAME: Verdict,
    _wire.PARDON: Pardon,
    _wire.TOP: TopPart,
}
"""What answers an operation."""

_SKETCHES_MAX = 1 << 16
"""Sketches of the longest list: far more than a node has."""


_TOP_TRIES = 4
"""How often a list of keys is asked for from its beginning on, since the node made another one meanwhile."""
_TOP_MAX = 1 << 16
"""Keys of the longest list that is taken: far more than a node lists."""


class Operation:
    """One operation, and where its outcome belongs."""

    __slots__ = ("answer_bytes", "bytes", "position")

    def __init__(self, encoded: bytes, position: int) -> None:
        self.bytes = encoded
        self.position = position
        self.answer_bytes = _wire.ANSWER_BYTES[encoded[0]]


class Batch:
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

    def __init__(self, operations: list[Operation]) -> None:
        self.operations = operations
        self.sequence: Optional[int] = None
        self.boot = 0
        self.first_sent = 0.0
        self.ids: list[int] = []
        self.under_way = -1
        self.sent_back = False
        """Once: it goes again at once the first time only."""


def fits(batch: Batch, reply: _wire.Reply) -> bool:
    """Whether a reply has the answers that the operations ask for."""
    total = len(batch.operations)
    if reply.code == _wire.ADDRESS_UNPROVEN:
        return batch.sequence is not None and reply.done == 0 and reply.cookie is not None
    if reply.cookie is not None:
        return False
    if reply.done > total or (reply.done == total) != (reply.code == 0):
        return False
    asked = [o.bytes[0] for o in batch.operations[: reply.done] if o.answer_bytes]
    return len(asked) == len(reply.answers) and all(
        isinstance(answer, _KINDS[kind]) for kind, answer in zip(asked, reply.answers)
    )


def refuses_client(code: int) -> bool:
    """Whether a code says that the node does not know the client, or may not."""
    known = (0, _wire.SEQUENCE_TOO_OLD)
    return _wire.stops_whole_request(code, 0) and code not in known


def in_batches(operations: Iterable[Operation]) -> Iterator[Batch]:
    """Operations that share a datagram, which nor its reply are too long."""
    open_batch: list[Operation] = []
    size, answer_bytes = _wire.HEADER_BYTES_MAX, 0
    for operation in operations:
        size += len(operation.bytes)
        answer_bytes += operation.answer_bytes
        reply_bytes = _wire.REPLY_HEAD_BYTES + answer_bytes
        if open_batch and (size > _wire.DATAGRAM_BYTES or reply_bytes > _wire.REPLY_BYTES_MAX):
            yield Batch(open_batch)
            open_batch = []
            size = _wire.HEADER_BYTES_MAX + len(operation.bytes)
            answer_bytes = operation.answer_bytes
        open_batch.append(operation)
    if open_batch:
        yield Batch(open_batch)


def listed_all(listed: list[SketchInfo], part: Sketches) -> bool:
    """Takes the next part of a list of sketches; whether that was the last one."""
    listed.extend(part.sketches)
    if len(listed) >= min(part.total, _SKETCHES_MAX):
        return True
    if not part.sketches:
        raise RmbdError(
            f"the server lists {len(listed)} of {part.total} sketches: its list changes, or one has more "
            "windows than a reply can name; ask again"
        )
    return False


class TopList:
    """A list of the largest keys, out of its parts."""

    def __init__(self, most: Optional[int], window_ms: int) -> None:
        self._most = _TOP_MAX if most is None else min(most, _TOP_MAX)
        self._window_ms = window_ms
        self._keys: list[TopKey] = []
        self._head: Optional[TopPart] = None
        self._tries = 1
        self._is_mixed = False

    def encoded(self) -> bytes:
        """Asks for the next part."""
        first = len(self._keys)
        return _wire.top(self._window_ms, first, self._most - first)

    def take(self, part: TopPart) -> Optional[Top]:
        """Takes the next part; the whole list if that was the last one."""
        head = self._head
        if self._keys and head is not None and head.edition != part.edition:
            if self._tries < _TOP_TRIES:
                self._tries += 1
                self._keys.clear()
                return None
            self._is_mixed = True
            part = part._replace(
                complete_above=max(part.complete_above, head.complete_above),
                incomplete=part.incomplete or head.incomplete,
            )
        self._head = part
        self._keys.extend(part.keys[: self._most - len(self._keys)])
        if part.keys and len(self._keys) < min(part.listed, self._most):
            return None
        return self._whole(part)

    def _whole(self, head: TopPart) -> Top:
        above = head.complete_above
        if len(self._keys) < head.listed:
            # Of those that are not here one may have as much as the last that is.
            last = self._keys[-1].estimate if self._keys else _wire.WEIGHT_MAX
            above = max(head.complete_above, last)
        return Top(
            keys=self._keys,
            complete_above=None if above == _wire.WEIGHT_MAX else above,
            total_weight=head.total_weight,
            listed=head.listed,
            age=head.age_ms / 1000 if head.edition else None,
            incomplete=head.incomplete,
            redacted=head.redacted,
            mixed=self._is_mixed,
        )
