"""HTTP/1.1 for payments without a task, a scope or a message for each; uvicorn for the rest.

A request for `/predict` or `/predict/batch` that says how long its body is goes from the socket to
the scorer in one call, and its answer back in one write. Clients send the same head again and
again, but for the length, so each head is parsed once (by the parser uvicorn uses) and remembered.
Whatever is out of the ordinary (another route or method, a chunked body, HTTP/1.0, `Expect`,
`Connection: close`, a malformed head, a body too large) is handed to uvicorn's own protocol as it
came, and answered by the ASGI application.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any, Final

import httptools
from uvicorn.config import Config
from uvicorn.protocols.http.flow_control import HIGH_WATER_LIMIT
from uvicorn.protocols.http.httptools_impl import (
    STATUS_LINE,
    HttpToolsProtocol,
)
from uvicorn.server import ServerState

from sentinel.access.principals import Principal
from sentinel.api.door import PAYMENT, PAYMENTS, Door, read_dry_run
from sentinel.api.problems import ProblemRenderer
from sentinel.api.routes.payments import Intake
from sentinel.domain import SentinelError

_HEADS_KEPT: Final = 4096
_LONGEST_HEAD_KEPT: Final = 4096
_END_OF_HEAD: Final = b"\r\n\r\n"
_OK: Final = STATUS_LINE[200]


@dataclass(frozen=True, slots=True)
class Head:
    """What the head of a request for a decision says.

    Attributes:
        path: "/predict" or "/predict/batch".
        length: Bytes of the body.
        dry_run: Score only.
        principal: Who sent it.
    """

    path: str
    length: int
    dry_run: bool
    principal: Principal


class _Reader:
    """Collects what httptools finds in a head."""

    def __init__(self) -> None:
        self.url = b""
        self.headers: list[tuple[bytes, bytes]] = []

    def on_url(self, url: bytes) -> None:
        self.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name.lower(), value))


class FastPath:
    """What all connections for payments share: the intake, and the heads seen so far.

    Args:
        intake: Takes payments.
        door: Refuses what may not come in.
        problems: Renders errors.
    """

    def __init__(self, intake: Intake, door: Door, problems: ProblemRenderer) -> None:
        self.intake = intake
        self._door = door
        self._problems = problems
        self._heads: dict[bytes, Head] = {}
        self._date: list[tuple[bytes, bytes]] | None = None
        self._start = b""
        # A head stands for who sent it, so it is good as long as the key that it carries.
        door.gatekeeper.forget.append(self._heads.clear)

    def protocol(
        self, config: Config, server_state: ServerState, app_state: dict[str, Any], **options: Any
    ) -> PaymentProtocol:
        """A protocol for a new connection; what uvicorn calls."""
        return PaymentProtocol(self, config, server_state, app_state, **options)

    def head(self, text: bytes) -> Head | None:
        """What a head says; None if uvicorn is to read it.

        Args:
            text: Up to the empty line, without the line ends before it.
        """
        try:
            return self._heads[text]
        except KeyError:
            pass
        found = self._read(text)
        # What uvicorn reads is not remembered: a flood of refused keys must not push others out.
        if found is not None and len(text) <= _LONGEST_HEAD_KEPT:
            if len(self._heads) >= _HEADS_KEPT:
                self._heads.clear()
            self._heads[text] = found
        return found

    def start_of_answer(self, default_headers: list[tuple[bytes, bytes]]) -> bytes:
        """The head of a 200 up to the length; uvicorn replaces the list when the second ends."""
        if default_headers is not self._date:
            self._date = default_headers
            self._start = _head(200, [*default_headers, (b"content-type", b"application/json")])
            self._start += b"content-length: "
        return self._start

    def problem(
        self, path: str, error: Exception, default_headers: list[tuple[bytes, bytes]], close: bool
    ) -> bytes:
        """The whole answer to a request that failed."""
        problem = self._problems.render(error, "POST", path)
        headers = [*default_headers, *problem.headers]
        if close:
            headers.append((b"connection", b"close"))
        return _head(problem.status, headers) + b"\r\n" + problem.body

    def _read(self, text: bytes) -> Head | None:
        # All line ends as they should be: then the head ends where we think it does.
        lines = text.count(b"\r\n")
        if not text.startswith(b"POST /predict") or not (
            lines == text.count(b"\n") == text.count(b"\r")
        ):
            return None
        reader = _Reader()
        parser: Any = httptools.HttpRequestParser(reader)
        try:
            parser.feed_data(text + _END_OF_HEAD)
            url: Any = httptools.parse_url(reader.url)
            dry_run = read_dry_run(url.query or b"")
        except (httptools.HttpParserError, httptools.HttpParserUpgrade, SentinelError):
            return None
        path = url.path.decode("latin-1")
        lengths = [value for name, value in reader.headers if name == b"content-length"]
        special = {b"transfer-encoding", b"expect", b"upgrade", b"content-encoding"}
        if (
            path not in (PAYMENT, PAYMENTS)
            or url.schema is not None
            or parser.get_method() != b"POST"
            or parser.get_http_version() != "1.1"
            or not parser.should_keep_alive()
            or parser.should_upgrade()
            or len(lengths) != 1
            or not lengths[0].isdigit()
            or any(name in special for name, _ in reader.headers)
        ):
            return None
        length = int(lengths[0])
        if not 0 < length <= self._door.limit_of(path):
            return None
        try:
            principal = self._door.admit("POST", path, url.query or b"", reader.headers)
        except SentinelError:
            return None  # the application says why
        assert principal is not None  # payments are open to nobody
        return Head(path=path, length=length, dry_run=dry_run, principal=principal)


class PaymentProtocol(HttpToolsProtocol):
    """One connection. Payments are answered one after the other, in the order they came in.

    Between two requests either this class or uvicorn's reads the next one; neither is interrupted.
    """

    def __init__(
        self,
        fast_path: FastPath,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        **options: Any,
    ) -> None:
        super().__init__(config, server_state, app_state, **options)
        self._fast_path = fast_path
        self._rest: bytes | bytearray = b""
        self._missing = 0
        self._head: Head | None = None
        self._ordinary = False
        self._begun = 0
        self._lost = False
        self._closing = False
        self._reading = False
        self._last_answer = 0.0
        self._idle_timer: asyncio.TimerHandle | None = None

    # What comes in.

    def data_received(self, data: bytes) -> None:
        if self._ordinary:
            self._pass_on(data)
        elif self._missing > len(data):  # one that is still coming in
            self._rest += data
            self._missing -= len(data)
        elif self._head is not None or self.flow.write_paused:  # one at a time
            self._missing = 0
            self._rest += data
            if len(self._rest) > HIGH_WATER_LIMIT:
                self.flow.pause_reading()
        else:
            self._missing = 0
            if self._rest:
                self._rest += data
                data = bytes(self._rest)
            self._read(data)

    def _read(self, data: bytes) -> None:
        """Take requests off the data until one has to wait."""
        self._reading = True
        while data:
            end = data.find(_END_OF_HEAD)
            head = self._fast_path.head(data[:end]) if end > 0 else None
            if head is None:
                self._rest = b""
                self._pass_on(data)
                break
            end += len(_END_OF_HEAD)
            missing = end + head.length - len(data)
            if missing > 0:
                self._rest = bytearray(data)
                self._missing = missing
                break
            body = data[end : end + head.length]
            data = data[end + head.length :] if missing else b""
            self._rest = data
            self._take(head, body)
            if self._head is not None or self._lost or self.flow.write_paused:
                break
        self._reading = False

    def _take(self, head: Head, body: bytes) -> None:
        if self.timeout_keep_alive_task is not None:
            self._unset_keepalive_if_required()
        self._head = head
        intake = self._fast_path.intake
        try:
            if head.path == PAYMENT:
                answer = intake.predict(body, head.dry_run, self, head.principal)
                if answer is not None:
                    self.answered(answer)
            else:
                intake.predict_batch(body, head.dry_run, self, head.principal)
        except Exception as error:  # noqa: BLE001 -- the client is told, the log, too
            self.failed(error)

    # What goes out; see `Receiver`.

    def answered(self, body: bytes) -> None:
        if self._lost:
            return
        start = self._fast_path.start_of_answer(self.server_state.default_headers)
        end = b"\r\nconnection: close\r\n\r\n" if self._closing else _END_OF_HEAD
        self._send(b"%b%d%b%b" % (start, len(body), end, body))

    def failed(self, error: Exception) -> None:
        if self._lost or self._head is None:
            return
        self._send(
            self._fast_path.problem(
                self._head.path, error, self.server_state.default_headers, self._closing
            )
        )

    def _send(self, answer: bytes) -> None:
        self._head = None
        self.server_state.total_requests += 1
        self.transport.write(answer)
        if self._closing:
            self._lost = True
            self.transport.close()
            return
        self._last_answer = self.loop.time()
        if self._idle_timer is None:
            self._idle_timer = self.loop.call_later(self.timeout_keep_alive, self._end_if_idle)
        if self._rest and not self._reading:
            self._go_on()

    def _go_on(self) -> None:
        """Read what came in meanwhile."""
        if not self.flow.write_paused:
            self.flow.resume_reading()
            self._read(bytes(self._rest))

    def _end_if_idle(self) -> None:
        """One timer a connection, not one a request: it looks when it was needed last."""
        self._idle_timer = None
        if self._lost or self._ordinary:
            return
        left = self._last_answer + self.timeout_keep_alive - self.loop.time()
        if self._head is None and not self._rest and left <= 0:
            self.transport.close()
        else:
            self._idle_timer = self.loop.call_later(max(left, 1.0), self._end_if_idle)

    # Between this class and uvicorn's.

    def _pass_on(self, data: bytes) -> None:
        self._ordinary = True
        super().data_received(data)
        self._take_back()

    def _take_back(self) -> None:
        """Read the next request here again, if uvicorn is through with all it got."""
        cycle: Any = self.cycle  # None before the first request, whatever its annotation says
        if self._begun == 0 and not self.pipeline and (cycle is None or cycle.response_complete):
            self._ordinary = False

    def on_message_begin(self) -> None:
        self._begun += 1
        super().on_message_begin()

    def on_message_complete(self) -> None:
        self._begun -= 1
        super().on_message_complete()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._last_answer = self.loop.time()
        self._take_back()

    # The connection.

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._rest and self._head is None and not self._missing and not self._ordinary:
            self._go_on()

    def shutdown(self) -> None:
        """End the connection, after the answer that is on its way."""
        if self._head is not None or self._missing:
            self._closing = True
        else:
            super().shutdown()

    def connection_lost(self, exc: Exception | None) -> None:
        self._lost = True
        self._rest = b""
        if self._idle_timer is not None:
            self._idle_timer.cancel()
        super().connection_lost(exc)


def _head(status: int, headers: list[tuple[bytes, bytes]]) -> bytes:
    return STATUS_LINE[status] + b"".join(b"%b: %b\r\n" % header for header in headers)
