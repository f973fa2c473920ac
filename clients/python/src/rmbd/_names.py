"""Names of sketches, and the numbers that stand for them in messages."""

from __future__ import annotations

import re

NAME = re.compile(r"[a-z0-9._-]{1,64}", re.ASCII)
"""What a sketch may be called."""

DEFAULT = "default"
"""The sketch that every node has."""

_MASK = (1 << 64) - 1
_PRIME64 = 0x9E3779B185EBCA87, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9
_PRIME_MX1, _PRIME_MX2 = 0x165667919E3779F9, 0x9FB21C651E98DF25

_SECRET = bytes.fromhex(
    "b8fe6c3923a44bbe7c01812cf721ad1c"
    "ded46de9839097db7240a4a4b7b3671f"
    "cb79e64eccc0e578825ad07dccff7221"
    "b8084674f743248ee03590e6813a264c"
    "3c2852bb91c300cb88d0658b1b532ea3"
    "71644897a20df94e3819ef46a9deacd8"
)
"""The beginning of XXH3's own secret, as far as short inputs need it."""


def sketch_number(name: str) -> int:
    """The number of a name: 0 for ``default``, and else the first 32 bits of the name's XXH3-64."""
    if NAME.fullmatch(name) is None:
        raise ValueError(
            f"{name!r} is no name of a sketch: 1 to 64 characters of a to z, 0 to 9, '.', '_' and '-'"
        )
    return 0 if name == DEFAULT else xxh3_64(name.encode()) >> 32


def xxh3_64(data: bytes) -> int:
    """XXH3-64 with seed 0 of 1 to 64 bytes, which is all that names have."""
    if not 1 <= len(data) <= 64:
        raise ValueError("only 1 to 64 bytes are hashed here")
    if len(data) <= 3:
        return _up_to_3(data)
    if len(data) <= 8:
        return _up_to_8(data)
    if len(data) <= 16:
        return _up_to_16(data)
    return _up_to_64(data)


def _up_to_3(data: bytes) -> int:
    first, middle, last = data[0], data[len(data) >> 1], data[-1]
    combined = first << 16 | middle << 24 | last | len(data) << 8
    value = combined ^ _u32(_SECRET, 0) ^ _u32(_SECRET, 4)
    value = (value ^ value >> 33) * _PRIME64[1] & _MASK
    value = (value ^ value >> 29) * _PRIME64[2] & _MASK
    return value ^ value >> 32


def _up_to_8(data: bytes) -> int:
    value = _u32(data, len(data) - 4) + (_u32(data, 0) << 32)
    value ^= _u64(_SECRET, 8) ^ _u64(_SECRET, 16)
    value ^= _rotated(value, 49) ^ _rotated(value, 24)
    value = value * _PRIME_MX2 & _MASK
    value ^= (value >> 35) + len(data)
    value = value * _PRIME_MX2 & _MASK
    return value ^ value >> 28


def _up_to_16(data: bytes) -> int:
    low = _u64(data, 0) ^ _u64(_SECRET, 24) ^ _u64(_SECRET, 32)
    high = _u64(data, len(data) - 8) ^ _u64(_SECRET, 40) ^ _u64(_SECRET, 48)
    swapped = int.from_bytes(low.to_bytes(8, "little"), "big")
    return _avalanche(len(data) + swapped + high + _folded(low, high))


def _up_to_64(data: bytes) -> int:
    total = len(data) * _PRIME64[0]
    if len(data) > 32:
        total += _mixed(data, 16, 32) + _mixed(data, len(data) - 32, 48)
    total += _mixed(data, 0, 0) + _mixed(data, len(data) - 16, 16)
    return _avalanche(total)


def _mixed(data: bytes, at: int, secret_at: int) -> int:
    low = _u64(data, at) ^ _u64(_SECRET, secret_at)
    high = _u64(data, at + 8) ^ _u64(_SECRET, secret_at + 8)
    return _folded(low, high)


def _folded(one: int, other: int) -> int:
    product = one * other
    return product & _MASK ^ product >> 64


def _avalanche(value: int) -> int:
    value &= _MASK
    value = (value ^ value >> 37) * _PRIME_MX1 & _MASK
    return value ^ value >> 32


def _rotated(value: int, bits: int) -> int:
    return (value << bits | value >> 64 - bits) & _MASK


def _u32(data: bytes, at: int) -> int:
    return int.from_bytes(data[at : at + 4], "little")


def _u64(data: bytes, at: int) -> int:
    return int.from_bytes(data[at : at + 8], "little")
