"""The original Python program's protocol."""

from __future__ import annotations

import socket
import struct
import threading
import time
from typing import Any, Optional, Union, cast

from ._addresses import Addresses
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
    count is asked for again if no answer comes, which the original does not, at the next address of the
    name if there is one. Threads may share it: their calls take turns.
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
        # The original listens on IPv4 only.
        self._addresses = Addresses(name, port, prefers_v4=True)
        self._lock = threading.RLock()
        self._socket: Optional[socket.socket] = self._addresses.open()

    @property
    def server(self) -> tuple[Any, ...]:
        """The server's address; another one after a call in which the one before did not answer."""
        return cast("tuple[Any, ...]", self._addresses.server)

    def add(self, key: bytes) -> None:
        """Adds 1 to a key, and waits for nothing: whether it arrived is not known."""
        self._send(_ADD + _pascal(key))

    def count(self, key: bytes) -> int:
        """How often a key was added, approximately."""
        message = _COUNT + _pascal(key)
        with self._lock:
            tries = 0
            while tries < _TRIES:
                try:
                    count = self._ask(message, key)
                except NobodyThere:
                    if not self._move_on():
                        raise
                    # It had no try of its own.
                    continue
                if count is not None:
                    self._addresses.heard()
                    return count
                tries += 1
                self._move_on()
            error = NoAnswer(self._addresses, self._timeout, uncertain=False)
            self._addresses.again()
            raise error

    def _ask(self, message: bytes, key: bytes) -> Optional[int]:
        """One try at the present address."""
        self._send_here(message)
        deadline = time.monotonic() + self._timeout / _TRIES
        opened = self._open()
        while (left := deadline - time.monotonic()) > 0:
            opened.settimeout(left)
            try:
                answer = opened.recv(2048)
            except (TimeoutError, socket.timeout):
                break
            except ConnectionRefusedError:
                raise NobodyThere(self._addresses) from None
            layout = _REPLIES.get(len(answer))
            if layout is not None:
                answered, count = layout.unpack(answer)
                if answered == key:
                    return int(count)
        return None

    def peer(self, peer: tuple[Union[bytes, str], int]) -> None:
        """Orders the server to push its rows to another one; there is no answer."""
        host, port = peer
        name = host if isinstance(host, bytes) else host.encode()
        self._send(_PEER + _pascal(name) + self._port.pack(port))

    def close(self) -> None:
        """Closes the socket; a later call looks the name up anew and opens another one."""
        with self._lock:
            if self._socket is not None:
                self._socket.close()
                self._socket = None

    def __enter__(self) -> RmbdClient:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _open(self) -> socket.socket:
        if self._socket is None:
            self._addresses.forget()
            self._socket = self._addresses.open()
        return self._socket

    def _move_on(self) -> bool:
        """Goes to another address, after a look-up; False where there is none that was not in vain."""
        while self._addresses.next():
            try:
                opened = self._addresses.open()
            except OSError:
                continue
            if self._socket is not None:
                self._socket.close()
            self._socket = opened
            return True
        return False

    def _send(self, message: bytes) -> None:
        """Sends to the first address that does not refuse."""
        with self._lock:
            while True:
                try:
                    return self._send_here(message)
                except NobodyThere:
                    if not self._move_on():
                        self._addresses.again()
                        raise

    def _send_here(self, message: bytes) -> None:
        try:
            self._open().send(message)
        except ConnectionRefusedError:
            # That is about the message before; this one was not sent.
            raise NobodyThere(self._addresses) from None


def _pascal(text: bytes) -> bytes:
    """A longer one would be cut to another key."""
    if len(text) > _KEY_BYTES_MAX:
        raise KeyTooLong(len(text), _KEY_BYTES_MAX)
    return _PASCAL.pack(text)
