"""The compact format, version 1, as a client needs it.

The server's documentation of ``wire::compact`` describes it byte by byte.
"""

from __future__ import annotations

import struct
from typing import NamedTuple, Optional

from ._answers import Answer, Bounds, Count, Hit, Info

KEY_BYTES_MAX = 1024
DATAGRAM_BYTES = 1400
REPLY_BYTES_MAX = 1400
REPLY_HEAD_BYTES = 9
AMPLIFICATION_MAX = 3
ONCE_WINDOW = 1024
ONCE_RETRY_S_MAX = 120
WEIGHT_MAX = 2**64 - 1

ADD, ADD_WEIGHT, COUNT, HIT, BOUNDS, INFO = 1, 2, 3, 4, 5, 6

COOKIE_BYTES_MAX = 16
COOKIE_FIELD_BYTES_MAX = 1 + COOKIE_BYTES_MAX

ANSWER_BYTES = {ADD: 0, ADD_WEIGHT: 0, COUNT: 9, HIT: 9, BOUNDS: 25, INFO: 92}
"""Bytes of an operation's answer; of the longest one, for an info."""

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
)
"""Names of the problems by their code."""

WRONG_BOOT = PROBLEMS.index("wrong_boot")
SEQUENCE_TOO_OLD = PROBLEMS.index("sequence_too_old")
ONCE_TABLE_FULL = PROBLEMS.index("once_table_full")
ADDRESS_UNPROVEN = PROBLEMS.index("address_unproven")
ONCE_NETWORK_FULL = PROBLEMS.index("once_network_full")
BUSY = PROBLEMS.index("busy")
REQUEST_TOO_HEAVY = PROBLEMS.index("request_too_heavy")
_WHOLE = (ADDRESS_UNPROVEN, ONCE_NETWORK_FULL, BUSY, REQUEST_TOO_HEAVY)
_LAST_WHOLE = SEQUENCE_TOO_OLD
_COOKIE, _LATER = 7, range(8, 0x40)

_HEADER = struct.Struct("<BBI")
_ONCE = struct.Struct("<QQ")
_REPLY = struct.Struct("<BBIHB")
_U64 = struct.Struct("<Q")
_BOUNDS = struct.Struct("<QQQ")
_INFO = struct.Struct("<QQQIBBB")

_FLAG_ACKNOWLEDGE, _FLAG_ONCE, _FLAG_TOKEN, _FLAG_COOKIE = 1, 2, 4, 8
_FLAG_REPEATED = 1
_INCOMPLETE, _OVER_LIMIT = 0x80, 0x40


def problem_name(code: int) -> str:
    """The name of a code, ``unknown`` if there is none."""
    return PROBLEMS[code] if 0 < code < len(PROBLEMS) else "unknown"


def stops_whole_request(code: int, done: int) -> bool:
    """Whether a code stops a request before its first operation."""
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
            elif datagram[at] in _LATER:
                _, at = _read_field(datagram, at + 1)
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
        estimate, lower, total_weight = _BOUNDS.unpack_from(datagram, at)
        return Bounds(estimate, lower, total_weight, incomplete), at + 24
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
        hash={1: "xxh3", 2: "fnv"}.get(family, "unknown"),
        version=version.decode("utf-8", "replace"),
        cluster_port=int.from_bytes(port, "little") if len(port) == 2 else 0,
        cookie=cookie,
        writer=int.from_bytes(writer, "little") if len(writer) == 8 else 0,
    )
