"""A server in between that breaks the connection, as a failing network or machine does."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Self


class Relay:
    """Passes everything on to a server until it is told to break.

    Args:
        to: Port of the server.
    """

    def __init__(self, to: int) -> None:
        self._to = to
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listening.getsockname()[1]
        self._left: dict[str, float] = {}
        self._open: set[socket.socket] = set()
        self.mend()

    def cut_after(self, *, sent: float = float("inf"), received: float = float("inf")) -> None:
        """Be gone once clients have sent, or received, so many bytes more in all."""
        self._left = {"sent": sent, "received": received}

    def mend(self) -> None:
        """Be there again."""
        self.cut_after()

    @property
    def broken(self) -> bool:
        return min(self._left.values()) < 0

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listening.close()
        self._drop()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listening.accept()
            except OSError:
                return
            if self.broken:
                client.close()
                continue
            threading.Thread(target=self._pass_on, args=(client,), daemon=True).start()

    def _pass_on(self, client: socket.socket) -> None:
        try:
            server = socket.create_connection(("127.0.0.1", self._to))
        except OSError:
            client.close()
            return
        self._open |= {client, server}
        back = threading.Thread(target=self._copy, args=(server, client, "received"), daemon=True)
        back.start()
        self._copy(client, server, "sent")
        back.join()
        for end in (client, server):
            self._open.discard(end)
            end.close()

    def _copy(self, source: socket.socket, target: socket.socket, way: str) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65_536):
                self._left[way] -= len(data)
                if self.broken:
                    self._drop()
                    return
                target.sendall(data)
        with contextlib.suppress(OSError):
            target.shutdown(socket.SHUT_WR)

    def _drop(self) -> None:
        for end in list(self._open):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)


@contextmanager
def cutting_relay(to: int, cut_after: int) -> Iterator[int]:
    """The port of a relay that is gone for good once so many bytes were sent to it."""
    with Relay(to) as relay:
        relay.cut_after(sent=cut_after)
        yield relay.port
