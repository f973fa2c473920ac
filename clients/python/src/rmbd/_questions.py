"""What may be asked of a node, for both clients: how it is encoded, and what holds where nobody answers."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta
from typing import Literal, NamedTuple, Optional, Union

from . import _wire
from ._answers import Verdict
from ._batches import TopList
from ._errors import KeyTooLong, LookupFailed, NoAnswer, NobodyThere, Restarted, WeightTooLarge
from ._names import sketch_number

Key = Union[bytes, str]
"""A key: bytes, or text that is sent as UTF-8."""

Duration = Union[str, int, float, timedelta]
"""Seconds, a ``timedelta``, or a text such as ``500ms``, ``60s``, ``5m``, ``1h`` or ``7d``."""

OnFailure = Literal["open", "closed"]
"""What is given where no node answers in time: ``open`` allows, ``closed`` does not."""

_DURATION = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ms|s|m|h|d)", re.ASCII)
_UNITS_MS = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}

_SILENCE = (NoAnswer, NobodyThere, Restarted, LookupFailed, OSError)
"""Errors that say that nobody has answered. A refusal is none: that is an answer."""


@dataclass(frozen=True)
class Limit:
    """One limit of several that are asked about together: of which key how much may come within which time."""

    key: Key
    limit: int
    """The largest estimate that is within it."""
    window: Optional[Duration] = None
    """``None`` is all time."""
    weight: int = 1
    """What the call adds to the key; 0 only looks."""
    sketch: Optional[str] = None
    """Where it is counted; ``None`` is the sketch of the call."""


class Question(NamedTuple):
    """An operation, and how it is sent."""

    encoded: bytes
    sketch: int = 0
    adds: bool = False
    once: bool = False
    """Its weight counts exactly once."""


def milliseconds(duration: Optional[Duration]) -> int:
    """A duration in whole milliseconds, rounded up; ``None`` and 0 are 0, which is all time in a window."""
    if duration is None:
        return 0
    if isinstance(duration, str):
        parsed = _DURATION.fullmatch(duration.strip())
        if parsed is None:
            raise ValueError(f"{duration!r} is no duration such as 500ms, 60s, 5m, 1h or 7d")
        ms = float(parsed[1]) * _UNITS_MS[parsed[2]]
    elif isinstance(duration, timedelta):
        ms = duration / timedelta(milliseconds=1)
    else:
        ms = duration * 1000
    if not 0 <= ms < _wire.WEIGHT_MAX:
        raise ValueError(f"{duration!r} is no duration: it is below 0 or too long")
    # A sum of floats may be a little above what was meant.
    return math.ceil(round(ms, 6))


def seconds(duration: Optional[Duration]) -> Optional[float]:
    """A deadline in seconds; ``None`` where there is none."""
    return None if duration is None else milliseconds(duration) / 1000


def key_bytes(key: Key) -> bytes:
    """A key as it is sent."""
    encoded = key.encode() if isinstance(key, str) else bytes(key)
    if len(encoded) > _wire.KEY_BYTES_MAX:
        raise KeyTooLong(len(encoded), _wire.KEY_BYTES_MAX)
    return encoded


def checked_weight(weight: int, weight_max: int) -> int:
    """A weight that the node takes."""
    if not 0 <= weight <= weight_max:
        raise WeightTooLarge(weight, weight_max)
    return weight


def checked_limit(limit: int) -> int:
    """A limit that the format carries."""
    if not 0 <= limit <= _wire.WEIGHT_MAX:
        raise ValueError("a limit is from 0 to 2^64 - 1")
    return limit


def add(key: Key, weight: int, sketch: int) -> Question:
    """An add, of a weight that was checked."""
    return Question(_wire.add(key_bytes(key), weight), sketch, adds=True, once=True)


def count(key: Key, sketch: int) -> Question:
    """A count over all time."""
    return Question(_wire.count(key_bytes(key)), sketch)


def count_in(key: Key, window: Duration, smooth: bool, sketch: int) -> Question:
    """A count in a window."""
    encoded = _wire.window(key_bytes(key), milliseconds(window), smooth=smooth)
    return Question(encoded, sketch)


def bounds(key: Key, sketch: int) -> Question:
    """Bounds."""
    return Question(_wire.bounds(key_bytes(key)), sketch)


def hit(key: Key, weight: int, limit: int) -> Question:
    """A hit over all time, of a weight that was checked."""
    encoded = _wire.hit(key_bytes(key), weight, checked_limit(limit))
    return Question(encoded, adds=weight > 0, once=weight > 0)


def limits(
    asked: Iterable[Limit],
    sketch: int,
    weight_max: int,
    *,
    take: bool,
    bound: bool,
    exactly_once: bool,
) -> Question:
    """One to eight limits; ``sketch`` is that of those that name none."""
    parts = [
        _wire.Part(
            sketch if one.sketch is None else sketch_number(one.sketch),
            key_bytes(one.key),
            checked_weight(one.weight, weight_max),
            checked_limit(one.limit),
            milliseconds(one.window),
        )
        for one in asked
    ]
    if not 1 <= len(parts) <= _wire.LIMIT_PARTS_MAX:
        raise ValueError(f"{len(parts)} limits: one call has 1 to {_wire.LIMIT_PARTS_MAX}")
    encoded = _wire.limits(parts, take=take, bound=bound)
    if len(encoded) > _wire.DATAGRAM_BYTES - _wire.HEADER_BYTES_MAX:
        raise ValueError("the limits do not fit a datagram together: send hashes of the long keys")
    adds = any(part.weight for part in parts)
    return Question(encoded, adds=adds, once=adds and exactly_once)


def hit_by_name(limit: str, key: Key, weight: int) -> Question:
    """A hit by the name of a limit, of a weight that was checked."""
    encoded = _wire.hit_by_name(_limit_name(limit), key_bytes(key), weight)
    return Question(encoded, adds=weight > 0, once=weight > 0)


def pardon(limit: str, key: Key, duration: Duration) -> Question:
    """A pardon."""
    return Question(_wire.pardon(_limit_name(limit), key_bytes(key), milliseconds(duration)))


def top(k: Optional[int], window: Optional[Duration]) -> TopList:
    """The largest keys, of all time or in a window."""
    if k is not None and k < 0:
        raise ValueError(f"k={k}: ask for a number of keys, or for all with None")
    return TopList(k, milliseconds(window))


def checked_on_failure(on_failure: Optional[str]) -> None:
    """Tells a word that is none of the two, before it would be missed."""
    if on_failure not in (None, "open", "closed"):
        raise ValueError(f"on_failure is 'open', 'closed' or None, not {on_failure!r}")


def by_nobody(on_failure: Optional[OnFailure], error: Exception) -> Verdict:
    """The verdict where nobody has answered; raises the error where there is none for it."""
    if on_failure is None or not isinstance(error, _SILENCE):
        raise error
    return Verdict(
        allowed=on_failure == "open",
        over=False,
        part=0,
        estimate=0,
        remaining=0,
        retry_after=None,
        covered=0.0,
        incomplete=True,
        unsure=True,
        overflowed=False,
        decided=False,
    )


def _limit_name(name: str) -> bytes:
    encoded = name.encode()
    if len(encoded) > _wire.LIMIT_NAME_BYTES_MAX:
        raise ValueError(f"a limit's name of {len(encoded)} bytes: at most 255 are possible")
    return encoded
