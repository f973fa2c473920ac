"""The compact format, version 1, as a client needs it.

The documentation of the crate ``rmbd-proto``, module ``compact``, describes it byte by byte.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import NamedTuple, Optional

from ._answers import (
    Answer,
    Bounds,
    Count,
    Hit,
    Info,
    Pardon,
    Sketches,
    SketchInfo,
    TopKey,
    TopPart,
    Verdict,
    Window,
    WindowCount,
)

KEY_BYTES_MAX = 1024
DATAGRAM_BYTES = 1400
REPLY_BYTES_MAX = 1400
REPLY_HEAD_BYTES = 9
AMPLIFICATION_MAX = 3
ONCE_WINDOW = 1024
ONCE_RETRY_S_MAX = 120
WEIGHT_MAX = 2**64 - 1

ADD, ADD_WEIGHT, COUNT, HIT, BOUNDS, INFO = 1, 2, 3, 4, 5, 6
WINDOW, LIMITS, SKETCHES, HIT_BY_NAME, PARDON, TOP = 8, 9, 10, 11, 12, 13

COOKIE_BYTES_MAX = 16
COOKIE_FIELD_BYTES_MAX = 1 + COOKIE_BYTES_MAX
HEADER_BYTES_MAX = 6 + 5 + 16 + 10 + COOKIE_FIELD_BYTES_MAX
"""Bytes before the operations: id, sketch, once, and cookie."""

ANSWER_BYTES = {
    ADD: 0,
    ADD_WEIGHT: 0,
    COUNT: 9,
    HIT: 9,
    BOUNDS: 41,
    INFO: 92,
    WINDOW: 15,
    LIMITS: 28,
    SKETCHES: REPLY_BYTES_MAX - REPLY_HEAD_BYTES,
    HIT_BY_NAME: 28,
    PARDON: 10,
    TOP: REPLY_BYTES_MAX - REPLY_HEAD_BYTES,
}
"""Bytes of an operation's answer; of the longest one, where there are several. Lists take a whole reply."""

LIMIT_PARTS_MAX = 8
LIMIT_NAME_BYTES_MAX = 255
RETRY_NEVER_MS = 2**32 - 1

PROBLEMS = (
    "",
    "short",
    "unknown_version",
    "unknown_flags",
    "header",
    "unknown_sketch",
    "wrong_boot",
    "once_table_full",
    "sequence_too_old",
    "unknown_operation",
    "cut_off",
    "varint",
    "key_too_long",
    "weight_too_large",
    "unknown_window",
    "reply_too_large",
    "address_unproven",
    "once_network_full",
    "busy",
    "request_too_heavy",
    "unknown_limit",
    "limit_parts",
    "not_trusted_to_pardon",
    "takes_once",
    "no_top_list",
)
"""Names of the problems by their code."""

UNKNOWN_SKETCH = PROBLEMS.index("unknown_sketch")
WRONG_BOOT = PROBLEMS.index("wrong_boot")
SEQUENCE_TOO_OLD = PROBLEMS.index("sequence_too_old")
ONCE_TABLE_FULL = PROBLEMS.index("once_table_full")
ADDRESS_UNPROVEN = PROBLEMS.index("address_unproven")
ONCE_NETWORK_FULL = PROBLEMS.index("once_network_full")
BUSY = PROBLEMS.index("busy")
REQUEST_TOO_HEAVY = PROBLEMS.index("request_too_heavy")
_WHOLE = (ADDRESS_UNPROVEN, ONCE_NETWORK_FULL, BUSY, REQUEST_TOO_HEAVY)
_LAST_WHOLE = SEQUENCE_TOO_OLD
_COOKIE, _WITH_LENGTH = 7, range(8, 0x40)

_HEADER = struct.Struct("<BBI")
_ONCE = struct.Struct("<QQ")
_REPLY = struct.Struct("<BBIHB")
_U64 = struct.Struct("<Q")
_BOUNDS = struct.Struct("<QQQQQ")
_INFO = struct.Struct("<QQQIBBB")
_WINDOW = struct.Struct("<BQI")
_VERDICT = struct.Struct("<BBQQII")
_U32 = struct.Struct("<I")
_TOP = struct.Struct("<BQIQQ")

_FLAG_ACKNOWLEDGE, _FLAG_ONCE, _FLAG_TOKEN, _FLAG_COOKIE = 1, 2, 4, 8
_FLAG_REPEATED = 1
_INCOMPLETE, _OVER_LIMIT = 0x80, 0x40
_SMOOTH = 1
_TAKE, _BOUND = 1, 2
_HASHES = {1: "xxh3", 2: "fnv"}


def problem_name(code: int) -> str:
    """The name of a code, ``unknown`` if there is none."""
    return PROBLEMS[code] if 0 < code < len(PROBLEMS) else "unknown"


def stops_whole_request(code: int, done: int, sketch: int = 0) -> bool:
    """Whether a code stops a request for this sketch before its first operation."""
    if code == UNKNOWN_SKETCH:
        # Every node has the default one: it is that of a limit.
        return sketch != 0
    if code < len(PROBLEMS):
        return 0 < code <= _LAST_WHOLE or code in _WHOLE
    return done == 0


def varint(value: int) -> bytes:
    """Unsigned LEB128."""
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def add(key: bytes, weight: int) -> bytes:
    """An add; without its weight where that is 1."""
    if weight == 1:
        return bytes((ADD,)) + varint(len(key)) + key
    return bytes((ADD_WEIGHT,)) + varint(len(key)) + key + varint(weight)


def count(key: bytes) -> bytes:
    """A count."""
    return bytes((COUNT,)) + varint(len(key)) + key


def hit(key: bytes, weight: int, limit: int, window_ms: int = 0) -> bytes:
    """A hit."""
    numbers = varint(weight) + varint(limit) + varint(window_ms)
    return bytes((HIT,)) + varint(len(key)) + key + numbers


def bounds(key: bytes) -> bytes:
    """Bounds."""
    return bytes((BOUNDS,)) + varint(len(key)) + key


def info() -> bytes:
    """An info."""
    return bytes((INFO,))


def window(key: bytes, window_ms: int, *, smooth: bool = False) -> bytes:
    """A count in a window."""
    flags = bytes((_SMOOTH if smooth else 0,))
    return bytes((WINDOW,)) + varint(len(key)) + key + varint(window_ms) + flags


class Part(NamedTuple):
    """One limit of several, as it goes over the wire."""

    sketch: int
    key: bytes
    weight: int
    limit: int
    window_ms: int


def limits(parts: Sequence[Part], *, take: bool = False, bound: bool = False) -> bytes:
    """One to eight limits."""
    flags = (_TAKE if take else 0) | (_BOUND if bound else 0)
    out = bytes((LIMITS, flags, len(parts)))
    for part in parts:
        out += varint(part.sketch) + varint(len(part.key)) + part.key
        out += varint(part.weight) + varint(part.limit) + varint(part.window_ms)
    return out


def sketches(first: int) -> bytes:
    """Sketches, from a position of their list on."""
    return bytes((SKETCHES,)) + varint(first)


def hit_by_name(name: bytes, key: bytes, weight: int) -> bytes:
    """A hit by the name of a limit."""
    return bytes((HIT_BY_NAME, len(name))) + name + varint(len(key)) + key + varint(weight)


def pardon(name: bytes, key: bytes, for_ms: int) -> bytes:
    """A pardon."""
    return bytes((PARDON, len(name))) + name + varint(len(key)) + key + varint(for_ms)


def top(window_ms: int, first: int, most: int) -> bytes:
    """The largest keys, at most so many, from a position of their list on."""
    return bytes((TOP,)) + varint(window_ms) + varint(first) + varint(most)


class Once(NamedTuple):
    """Which request of which client this is, for which start of the node."""

    boot: int
    client: int
    sequence: int


def header(
    request_id: int,
    once: Optional[Once] = None,
    *,
    acknowledge: bool = True,
    sketch: int = 0,
    token: Optional[bytes] = None,
    cookie: Optional[bytes] = None,
) -> bytes:
    """What stands before the operations."""
    flags = (
        (_FLAG_ACKNOWLEDGE if acknowledge else 0)
        | (_FLAG_ONCE if once is not None else 0)
        | (_FLAG_TOKEN if token is not None else 0)
        | (_FLAG_COOKIE if cookie is not None else 0)
    )
    out = _HEADER.pack(0xC1, flags, request_id) + varint(sketch)
    if token is not None:
        out += bytes((len(token),)) + token
    if once is not None:
        out += _ONCE.pack(once.boot, once.client) + varint(once.sequence)
    if cookie is not None:
        out += bytes((len(cookie),)) + cookie
    return out


def padded_bytes(request_bytes: int, answer_bytes: int) -> int:
    """Bytes that a request must have so that its reply is at most 3 times as long."""
    if not answer_bytes:
        return request_bytes
    return max(request_bytes, -(-(REPLY_HEAD_BYTES + answer_bytes) // AMPLIFICATION_MAX))


class Reply(NamedTuple):
    """A reply."""

    id: int
    repeated: bool
    done: int
    code: int
    answers: list[Answer]
    cookie: Optional[bytes] = None
    """Comes with ``address_unproven``."""


def read_reply(datagram: bytes) -> Optional[Reply]:
    """Reads a reply; ``None`` if it is none, or an answer of it is not understood."""
    if not REPLY_HEAD_BYTES <= len(datagram) <= REPLY_BYTES_MAX:
        return None
    first, flags, request_id, done, code = _REPLY.unpack_from(datagram)
    if first != 0xD1:
        return None
    answers: list[Answer] = []
    cookie = None
    at = REPLY_HEAD_BYTES
    try:
        while at < len(datagram):
            if datagram[at] == _COOKIE:
                cookie, at = _read_field(datagram, at + 1)
            elif datagram[at] in _WITH_LENGTH:
                content, end = _read_long_field(datagram, at + 1)
                newer = _read_content(datagram[at], content)
                if newer is not None:
                    answers.append(newer)
                at = end
            else:
                answer, at = _read_answer(datagram, at)
                answers.append(answer)
    except (struct.error, ValueError, IndexError):
        return None
    return Reply(request_id, bool(flags & _FLAG_REPEATED), done, code, answers, cookie)


def _read_field(datagram: bytes, at: int) -> tuple[bytes, int]:
    """A length and as many bytes."""
    end = at + 1 + datagram[at]
    if end > len(datagram):
        raise ValueError("cut off")
    return datagram[at + 1 : end], end


def _read_varint(datagram: bytes, at: int) -> tuple[int, int]:
    value = 0
    for place in range(10):
        byte = datagram[at + place]
        value |= (byte & 0x7F) << (7 * place)
        if byte < 0x80:
            if value > WEIGHT_MAX or (place and not byte):
                break
            return value, at + place + 1
    raise ValueError("a number that is none")


def _read_long_field(datagram: bytes, at: int) -> tuple[bytes, int]:
    """A length as a varint and as many bytes."""
    length, start = _read_varint(datagram, at)
    end = start + length
    if end > len(datagram):
        raise ValueError("cut off")
    return datagram[start:end], end


def _read_content(code: int, content: bytes) -> Optional[Answer]:
    """What stands behind a length, and may grow at its end; ``None`` is of a later version."""
    if code == WINDOW:
        flags, estimate, covered_ms = _WINDOW.unpack_from(content)
        return WindowCount(estimate, bool(flags & 1), bool(flags & 2), covered_ms / 1000)
    if code in (LIMITS, HIT_BY_NAME):
        return _read_verdict(content, by_name=code == HIT_BY_NAME)
    if code == SKETCHES:
        return _read_sketches(content)
    if code == PARDON:
        return Pardon(_U64.unpack_from(content)[0])
    if code == TOP:
        return _read_top(content)
    return None


def _read_verdict(content: bytes, *, by_name: bool) -> Verdict:
    flags, part, estimate, remaining, retry_after_ms, covered_ms = _VERDICT.unpack_from(content)
    is_over, is_shadow = bool(flags & 1), by_name and bool(flags & 16)
    return Verdict(
        allowed=not is_over or is_shadow,
        over=is_over,
        part=part,
        estimate=estimate,
        remaining=remaining,
        retry_after=None if retry_after_ms == RETRY_NEVER_MS else retry_after_ms / 1000,
        covered=covered_ms / 1000,
        incomplete=bool(flags & 2),
        unsure=bool(flags & 4),
        overflowed=bool(flags & 8),
        shadow=is_shadow,
    )


def _read_sketches(content: bytes) -> Sketches:
    total, at = _read_varint(content, 0)
    entries = []
    while at < len(content):
        entry, at = _read_long_field(content, at)
        entries.append(_read_sketch(entry))
    return Sketches(total, entries)


def _read_sketch(entry: bytes) -> SketchInfo:
    # What stands behind the windows is of a later version of the format.
    number = _U32.unpack_from(entry)[0]
    name, at = _read_field(entry, 4)
    fingerprint = _U64.unpack_from(entry, at)[0]
    width, at = _read_varint(entry, at + 8)
    depth, family = entry[at], entry[at + 1]
    count, at = _read_varint(entry, at + 2)
    windows = []
    for _ in range(count):
        span_ms, at = _read_varint(entry, at)
        step_ms, at = _read_varint(entry, at)
        columns, at = _read_varint(entry, at)
        windows.append(Window(span_ms / 1000, step_ms / 1000, columns))
    return SketchInfo(
        name=name.decode("utf-8", "replace"),
        number=number,
        fingerprint=fingerprint,
        width=width,
        depth=depth,
        hash=_HASHES.get(family, "unknown"),
        windows=tuple(windows),
    )


def _read_top(content: bytes) -> TopPart:
    flags, edition, age_ms, complete_above, total_weight = _TOP.unpack_from(content)
    listed, at = _read_varint(content, _TOP.size)
    keys = []
    while at < len(content):
        entry, at = _read_long_field(content, at)
        keys.append(_read_top_key(entry))
    return TopPart(
        edition=edition,
        age_ms=age_ms,
        complete_above=complete_above,
        total_weight=total_weight,
        listed=listed,
        incomplete=bool(flags & 1),
        redacted=bool(flags & 2),
        keys=keys,
    )


def _read_top_key(entry: bytes) -> TopKey:
    # What stands behind the name is of a later version of the format.
    estimate, at = _read_varint(entry, 0)
    certain, at = _read_varint(entry, at)
    length, at = _read_varint(entry, at)
    if not length:
        return TopKey(None, estimate, certain)
    end = at + length - 1
    if end > len(entry):
        raise ValueError("cut off")
    return TopKey(entry[at:end], estimate, certain)


def _read_answer(datagram: bytes, at: int) -> tuple[Answer, int]:
    tag = datagram[at]
    at += 1
    incomplete = bool(tag & _INCOMPLETE)
    kind = tag & ~_INCOMPLETE
    if kind == COUNT:
        return Count(_U64.unpack_from(datagram, at)[0], incomplete), at + 8
    if kind & ~_OVER_LIMIT == HIT:
        estimate = _U64.unpack_from(datagram, at)[0]
        return Hit(estimate, not kind & _OVER_LIMIT, incomplete), at + 8
    if kind == BOUNDS:
        return Bounds(*_BOUNDS.unpack_from(datagram, at), incomplete), at + 40
    if kind == INFO and not incomplete:
        end = at + 1 + datagram[at]
        return _read_info(datagram[at + 1 : end], end - at - 1), end
    raise ValueError("an answer that is not known")


def _read_info(fields: bytes, length: int) -> Info:
    # What stands behind the writer is of a later version of the format.
    if len(fields) < length:
        raise ValueError("cut off")
    boot, fingerprint, width, weight_max, depth, family, text = _INFO.unpack_from(fields)
    version = fields[_INFO.size : _INFO.size + text]
    if len(version) < text:
        raise ValueError("cut off")
    # An info may end before these.
    rest = fields[_INFO.size + text :]
    port, cookie = rest[:2], rest[3:]
    writer = b""
    if rest[2:3] and len(cookie) >= rest[2]:
        cookie, writer = cookie[: rest[2]], cookie[rest[2] :][:8]
    else:
        cookie = b""
    return Info(
        boot=boot,
        fingerprint=fingerprint,
        width=width,
        depth=depth,
        weight_max=weight_max,
        hash=_HASHES.get(family, "unknown"),
        version=version.decode("utf-8", "replace"),
        cluster_port=int.from_bytes(port, "little") if len(port) == 2 else 0,
        cookie=cookie,
        writer=int.from_bytes(writer, "little") if len(writer) == 8 else 0,
    )
