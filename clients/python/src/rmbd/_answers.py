"""What a node answers."""

from __future__ import annotations

from typing import NamedTuple, Union


class Count(NamedTuple):
    """How often a key was added."""

    estimate: int
    """Never too low for what arrived, and is known at the node."""
    incomplete: bool
    """The truth may be larger: the estimate rests on full cells."""


class Hit(NamedTuple):
    """A key after a hit."""

    estimate: int
    """How often the key was added, this hit included."""
    allowed: bool
    """The estimate is not above the limit."""
    incomplete: bool
    """The truth may be larger."""


class Bounds(NamedTuple):
    """A key's estimate, and how good it is."""

    estimate: int
    """The upper bound."""
    lower: int
    """The truth is at least this, with the sketch's confidence."""
    total_weight: int
    """N, the total weight that the estimate rests on."""
    incomplete: bool
    """The truth may be larger than the estimate."""


class Info(NamedTuple):
    """What a node is."""

    boot: int
    """A random number of the node's present start."""
    fingerprint: int
    """Equal where width, depth, hash and its seed are."""
    width: int
    """Columns a row."""
    depth: int
    """Rows."""
    weight_max: int
    """The largest weight of one add or hit."""
    hash: str
    """``xxh3``, ``fnv``, or ``unknown``."""
    version: str
    """The program's version."""
    cluster_port: int = 0
    """UDP port where it hears other nodes, on the address that answered; 0 is nowhere."""
    cookie: bytes = b""
    """Shows to the server that this machine receives at its address; the client uses it."""
    writer: int = 0
    """Who writes what it counts, as the cluster knows it; 0 where the node does not tell."""


Answer = Union[Count, Hit, Bounds, Info]
