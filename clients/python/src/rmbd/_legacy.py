"""The original Python program's protocol."""

from __future__ import annotations

import socket
import struct
import time
from typing import Any, Union

from ._errors import KeyTooLong, NoAnswer, NobodyThere

_ADD, _COUNT, _PEER = b"\x00", b"\x01", b"\x03"
_KEY_BYTES_MAX = 139
_PASCAL = struct.Struct("140p")
_REPLIES = {152: struct.Struct("<140p4xQ"), 144: struct.Struct("!140pL")}
"""An answer tells by its length what kind of server it comes from."""
_PORTS = {"native": struct.Struct("<H"), "network": struct.Struct("!H")}
_TRIES = 3


class RmbdClient:
    """As the original program's class: ``RmbdClient((b"localhost", 8000))``.

    Adds are not acknowledged and carry no weight; `Client` does better where the server is rmbd. A
    count is asked for again if no answer comes, which the original does not.
    """

    def __init__(
        self,
        server: tuple[Union[bytes, str], int],
        *,
        timeout: float = 3.0,
        dialect: str = "native",
    ) -> None:
        """A client of the server at (host, port); nothing is sent yet.

        ``dialect`` is the server's, ``native`` or ``network``: how the port stands in a peer message.
        """
        if dialect not in _PORTS:
            raise ValueError("a dialect is native or network")
        host, port = server
        self._port = _PORTS[dialect]
        self._timeout = timeout
        name = host.decode() if isinstance(host, bytes) else host
        found = socket.getaddrinfo(name, port, type=socket.SOCK_DGRAM)
        # The original listens on IPv4 only.
        found.sort(key=lambda address: address[0] != socket.AF_INET)
        self.server: tuple[Any, ...] = found[0][4]
        self._socket = socket.socket(found[0][0], socket.SOCK_DGRAM)
        self._socket.connect(self.server)

    def add(self, key: bytes) -> None:
        """Adds 1 to a key, and waits for nothing: whether it arrived is not known."""
        self._send(_ADD + _pascal(key))

    def count(self, key: bytes) -> int:
        """How often a key was added, approximately."""
        message = _COUNT + _pascal(key)
        for _ in range(_TRIES):
            self._send(message)
            deadline = time.monotonic() + self._timeout / _TRIES
            while (left := deadline - time.monotonic()) > 0:
                self._socket.settimeout(left)
                try:
                    answer = self._socket.recv(2048)
                except (TimeoutError, socket.timeout):
                    break
                except ConnectionRefusedError:
                    raise NobodyThere(self.server) from None
                layout = _REPLIES.get(len(answer))
                if layout is not None:
                    answered, count = layout.unpack(answer)
                    if answered == key:
                        return int(count)
        raise NoAnswer(self.server, self._timeout, uncertain=False)

    def peer(self, peer: tuple[Union[bytes, str], int]) -> None:
        """Orders the server to push its rows to another one; there is no answer."""
        host, port = peer
        name = host if isinstance(host, bytes) else host.encode()
        self._send(_PEER + _pascal(name) + self._port.pack(port))

    def close(self) -> None:
        """Closes the socket."""
        self._socket.close()

    def __enter__(self) -> RmbdClient:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _send(self, message: bytes) -> None:
        try:
            self._socket.send(message)
        except ConnectionRefusedError:
            # That is about the message before; this one was not sent.
            raise NobodyThere(self.server) from None


def _pascal(text: bytes) -> bytes:
    """A longer one would be cut to another key."""
    if len(text) > _KEY_BYTES_MAX:
        raise KeyTooLong(len(text), _KEY_BYTES_MAX)
    return _PASCAL.pack(text)
