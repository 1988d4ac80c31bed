"""A server in between that breaks the connection, as a failing network or machine does."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def cutting_relay(to: int, cut_after: int) -> Iterator[int]:
    """Passes everything on to a server until so many bytes were sent to it, then is gone for good.

    Args:
        to: Port of the server.
        cut_after: Bytes that clients may send in all.
    """
    listening = socket.create_server(("127.0.0.1", 0))
    left = [cut_after]

    def gone() -> None:
        with contextlib.suppress(OSError):
            listening.shutdown(socket.SHUT_RDWR)
        listening.close()

    def pass_on(client: socket.socket) -> None:
        with client, socket.create_connection(("127.0.0.1", to)) as server:
            back = threading.Thread(target=copy, args=(server, client), daemon=True)
            back.start()
            while data := receive(client):
                left[0] -= len(data)
                if left[0] < 0:
                    gone()
                    break
                server.sendall(data)
            for end in (client, server):
                with contextlib.suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)

    def accept() -> None:
        while left[0] >= 0:
            try:
                client, _ = listening.accept()
            except OSError:
                return
            threading.Thread(target=pass_on, args=(client,), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield listening.getsockname()[1]
    finally:
        left[0] = -1
        gone()


def copy(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := receive(source):
            target.sendall(data)


def receive(connection: socket.socket) -> bytes:
    try:
        return connection.recv(65_536)
    except OSError:
        return b""
