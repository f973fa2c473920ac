"""What a node answers."""

from __future__ import annotations

from typing import NamedTuple, Optional, Union


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
    likely_estimate: int
    """The estimate less the median of the errors that the node sampled: too high about as often as too low."""
    likely_lower: int
    """The estimate less the largest error that is likely. Of keys that were chosen without the sketch's seed, the
    truth is at least this for the share of the sketch's confidence: 98.2 % where it has 4 rows."""
    certain_lower: int
    """The truth is at least this, with the sketch's confidence, whatever was added."""
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


class WindowCount(NamedTuple):
    """How often a key was added within a window."""

    estimate: int
    """Never more than the estimate over all time. Asked for without ``smooth`` it is never too low for what
    arrived at the node within the window."""
    incomplete: bool
    """All nodes together may have more: something that others counted is not here, or the node has not been
    here for the whole window."""
    overflowed: bool
    """More than 2^32 came within the window: the estimate may be too low."""
    covered: float
    """Seconds that the estimate covers."""


class Verdict(NamedTuple):
    """Whether something is within its limits. The numbers are those of one limit, which ``part`` names."""

    allowed: bool
    """It is within all limits. In shadow mode it is allowed all the same, and where nobody answered it is
    what ``on_failure`` says."""
    over: bool
    """At least one of the limits is passed. A ``take`` has added nothing then."""
    part: int
    """Position of the limit that decided: the one that is over for longest, else the one with the least
    remaining."""
    estimate: int
    """How often its key was added within its window, with what this call has added."""
    remaining: int
    """How much more would be within that limit; 2**64 - 1 where no limit holds for the key."""
    retry_after: Optional[float]
    """Seconds until the same weight would be within; 0.0 where it is, ``None`` where no waiting helps."""
    covered: float
    """Seconds that the estimate covers."""
    incomplete: bool
    """All nodes together may have more."""
    unsure: bool
    """What other nodes have not told yet may change the verdict."""
    overflowed: bool
    """More than 2^32 came within the window: the estimate may be too low."""
    shadow: bool = False
    """The limit is in shadow mode: this was over, and admitted all the same."""
    decided: bool = True
    """A node has decided. Otherwise nobody has answered in time, ``allowed`` is what ``on_failure`` says, and
    all else says nothing."""


class Pardon(NamedTuple):
    """What was forgiven to a key."""

    credit: int
    """The weight that the limit does not count for the time that was asked for."""


class Window(NamedTuple):
    """A window that a sketch keeps: it answers all multiples of its step up to its span."""

    span: float
    """Seconds."""
    step: float
    """Seconds."""
    width: int
    """Columns a row of its snapshots."""


class SketchInfo(NamedTuple):
    """A sketch of a node."""

    name: str
    number: int
    """Stands for the name in messages, and follows from it."""
    fingerprint: int
    """Equal where width, depth, hash and its seed are."""
    width: int
    """Columns a row."""
    depth: int
    """Rows."""
    hash: str
    """``xxh3``, ``fnv``, or ``unknown``."""
    windows: tuple[Window, ...]
    """The windows that it keeps."""


class Sketches(NamedTuple):
    """A part of the list of a node's sketches."""

    total: int
    """How many the node has."""
    sketches: list[SketchInfo]
    """As many as fitted."""


class TopKey(NamedTuple):
    """One of the largest keys of a sketch."""

    key: Optional[bytes]
    """``None`` if the node does not know its name, or does not show it."""
    estimate: int
    """Never below the truth for what arrived, and is known at the node."""
    certain: int
    """What certainly was added to it: never above the truth."""


class Top(NamedTuple):
    """The largest keys of a sketch, as the node listed them."""

    keys: list[TopKey]
    """Those with the largest estimates first."""
    complete_above: Optional[int]
    """Every key of which more than this was counted is in ``keys``; ``None`` if nothing is known."""
    total_weight: int
    """N: all weight that was counted (in the window) when the list was made, of all keys."""
    listed: int
    """How many keys the node lists; it may be more than were asked for."""
    age: Optional[float]
    """Seconds since the list was made; ``None`` if none is made yet, as in the first second of a node."""
    incomplete: bool
    """All nodes together may have more: something that others counted is not here, or the node has not been
    here for the whole window."""
    redacted: bool
    """The node shows this client no names (its ``--show-keys``)."""
    mixed: bool
    """The node made other lists faster than all parts of one came: a key may be here twice, or lack."""


class TopPart(NamedTuple):
    """A part of a list of the largest keys."""

    edition: int
    age_ms: int
    complete_above: int
    total_weight: int
    listed: int
    incomplete: bool
    redacted: bool
    keys: list[TopKey]
    """As many as fitted."""


Answer = Union[Count, Hit, Bounds, Info, WindowCount, Verdict, Pardon, Sketches, TopPart]
