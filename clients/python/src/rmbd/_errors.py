"""What can go wrong, and what is then known."""

from __future__ import annotations

from dataclasses import dataclass, field


class RmbdError(Exception):
    """Any failure of this package."""

    uncertain: bool = False
    """Whether the weights of the call may have been added all the same (or may be within the next two
    minutes). If not, they were not, and adding them again counts them once."""


class LookupFailed(RmbdError, OSError):
    """The server's name cannot be looked up. Nothing was sent."""

    def __init__(self, name: str, cause: Exception) -> None:
        super().__init__(f"cannot look up {name}: {cause}")


class NoAnswer(RmbdError):
    """No reply in time, however often it was asked for."""

    def __init__(self, server: object, timeout_s: float, uncertain: bool) -> None:
        self.uncertain = uncertain
        super().__init__(
            f"no answer from {server} for {timeout_s:g} s; {_fate(uncertain)}: is the server up, does "
            "--allow there admit this machine, does a firewall drop UDP? (A server that speaks only "
            "the original Python program's protocol stays silent, too: use RmbdClient)"
        )


class NobodyThere(RmbdError):
    """The server's machine says that nobody listens there, and nobody ever answered."""

    def __init__(self, server: object) -> None:
        super().__init__(f"no server at {server}; start one with `rmbd`")


class Restarted(RmbdError):
    """The node was started again while a request was under way, and does not know what it had applied before."""

    uncertain = True

    def __init__(self, server: object) -> None:
        super().__init__(
            f"{server} was started again and does not know what it had applied before: "
            "what it had counted may be gone unless its peers know it; "
            "whether the weights under way had been added is uncertain, and they were not sent again"
        )


class Refused(RmbdError):
    """The node refused."""

    def __init__(self, server: object, code: int, problem: str, uncertain: bool) -> None:
        self.code = code
        """The code of the reply."""
        self.problem = problem
        """The problem's name, ``unknown`` if this version does not know it."""
        self.uncertain = uncertain
        super().__init__(f"{server} refused: {problem} (code {code}); {_fate(uncertain)}")


class NoPlace(Refused):
    """The server remembers as many exactly-once clients as it can, or as one network may have."""

    def __init__(self, server: object, code: int, problem: str, uncertain: bool) -> None:
        super().__init__(server, code, problem, uncertain)
        self.args = (
            f"{self}. Use one client for many adds, rather than one for each, try again in some minutes, or "
            "ask the server's operator for --allow, which says who may use it",
        )


class KeyTooLong(RmbdError, ValueError):
    """A key that the format does not carry. Nothing was sent."""

    def __init__(self, key_bytes: int, key_bytes_max: int) -> None:
        super().__init__(
            f"a key of {key_bytes} bytes was not sent: at most {key_bytes_max} are possible, send a "
            "hash of it"
        )


class WeightTooLarge(RmbdError, ValueError):
    """A weight that the node would refuse. Nothing was sent."""

    def __init__(self, weight: int, weight_max: int) -> None:
        super().__init__(
            f"a weight of {weight} was not sent: weights are from 0 to {weight_max}, split it"
        )


@dataclass
class AddsReport:
    """What became of many adds. Positions are those of the call, from 0."""

    confirmed: int = 0
    """How many are counted, as the node says."""
    uncertain: list[range] = field(default_factory=list)
    """Which ones may have been added."""
    not_added: list[range] = field(default_factory=list)
    """Which ones were not added."""
    taken: int = 0
    """How many were taken; those from this position on were not looked at."""


class AddsFailed(RmbdError):
    """Adding many ended early; the cause is ``__cause__``."""

    def __init__(self, report: AddsReport, cause: Exception) -> None:
        self.report = report
        """What became of each of them."""
        self.uncertain = bool(report.uncertain)
        super().__init__(
            f"{cause}; of all: {report.confirmed} adds are confirmed, "
            f"{sum(map(len, report.uncertain))} uncertain (adding them again may count them twice), "
            f"{sum(map(len, report.not_added))} were not added"
        )


def _fate(uncertain: bool) -> str:
    if uncertain:
        return "whether the weight was added is uncertain, and adding it again may count it twice"
    return "nothing was added by this call"
