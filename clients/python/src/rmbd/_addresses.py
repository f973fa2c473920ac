"""A server's name, and the addresses behind it, which are many and change."""

from __future__ import annotations

import socket
from typing import Any, Optional, Union

from . import _wire
from ._errors import LookupFailed


def host_and_port(server: Union[str, tuple[str, int]]) -> tuple[str, int]:
    """The two parts of ``HOST:PORT``, or a pair as it is."""
    if not isinstance(server, str):
        return server
    host, _, port = server.rpartition(":")
    if not host or not port.isdecimal():
        raise ValueError(f"{server!r} is not HOST:PORT, such as 127.0.0.1:8000")
    return host.strip("[]"), int(port)


def checked_timeout(timeout: float) -> float:
    """A timeout that a node remembers a client for."""
    if not timeout > 0:
        raise ValueError("the timeout must be above 0 s")
    return min(timeout, float(_wire.ONCE_RETRY_S_MAX))


class Addresses:
    """Which address of a server is used, and which comes next.

    The name is looked up when this is made, once after all that is known was in vain, and after `forget`.
    """

    def __init__(self, host: str, port: int, *, prefers_v4: bool = False) -> None:
        """Looks the name up; raises `LookupFailed` where nobody knows it."""
        self._host, self._port = host, port
        self._prefers_v4 = prefers_v4
        self._found: list[tuple[int, Any]] = []
        self._left: list[Any] = []
        """Addresses that were in vain since the last reply."""
        self._was_looked_up = False
        self._error: Optional[LookupFailed] = None
        self._look_up()
        self._was_looked_up = False
        self.family, self.server = self._found[0]

    def open(self) -> socket.socket:
        """A socket that hears the present address."""
        opened = socket.socket(self.family, socket.SOCK_DGRAM)
        try:
            opened.connect(self.server)
        except OSError:
            opened.close()
            raise
        return opened

    def heard(self) -> None:
        """The present address has replied."""
        self._left.clear()
        self._was_looked_up = False
        self._error = None

    def next(self) -> bool:
        """Goes to the next address that was not in vain, after a look-up; False where there is none."""
        if not self._was_looked_up:
            try:
                self._look_up()
            except LookupFailed as error:
                self._error = error
            self._was_looked_up = True
        known = [server for _, server in self._found]
        start = known.index(self.server) + 1 if self.server in known else 0
        for family, server in self._found[start:] + self._found[:start]:
            if server != self.server and server not in self._left:
                self._left.append(self.server)
                self.family, self.server = family, server
                return True
        return False

    def has_others(self) -> bool:
        """Whether there are addresses besides the present one."""
        return any(server != self.server for _, server in self._found)

    def again(self) -> None:
        """All were in vain: what comes next begins with the first one."""
        self._left.clear()
        self._was_looked_up = False

    def forget(self) -> None:
        """Looks the name up anew; raises `LookupFailed` where nobody knows it."""
        self.again()
        self._look_up()
        self.family, self.server = self._found[0]
        self._error = None

    def __str__(self) -> str:
        """For an error: the name, all addresses that were tried, and the look-up that failed."""
        tried = ", ".join(text(server) for server in [*self._left, self.server])
        named = tried if self._host == self.server[0] else f"{self._host}:{self._port} (at {tried})"
        return named if self._error is None else f"{named} ({self._error})"

    def _look_up(self) -> None:
        try:
            found = socket.getaddrinfo(self._host, self._port, type=socket.SOCK_DGRAM)
        except (OSError, UnicodeError) as error:
            raise LookupFailed(f"{self._host}:{self._port}", error) from error
        addresses: list[tuple[int, Any]] = []
        for family, _, _, _, server in found:
            if (family, server) not in addresses:
                addresses.append((family, server))
        if self._prefers_v4:
            addresses.sort(key=lambda address: address[0] != socket.AF_INET)
        self._found = addresses


def text(server: Any) -> str:
    """An address as people write it."""
    host, port = server[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
