"""HTTP/1.1 from the socket on: payments without a task, a scope or a message for each.

Every request is read here, by one reader (`heads.py`, `incoming.py`): where it ends is decided
once, whatever answers it. A payment (`/predict`, `/predict/batch`) goes from the socket to the
scorer in one call, and its answer back in one write (`payment_heads.py`, `answers.py`). Any other
request goes to the ASGI application when it is complete, in uvicorn's cycle of a request and its
answer.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any, Final

from uvicorn.config import Config
from uvicorn.protocols.http.flow_control import HIGH_WATER_LIMIT, FlowControl
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle
from uvicorn.protocols.utils import get_remote_addr
from uvicorn.server import ServerState

from sentinel.api.answers import too_slow
from sentinel.api.application_call import call_of
from sentinel.api.chunks import ChunkedBody
from sentinel.api.connections import Wait
from sentinel.api.door import PAYMENT
from sentinel.api.fast_path import FastPath
from sentinel.api.heads import CHUNKED, END_OF_HEAD, MOST_HEAD_BYTES, Head, check_beginning
from sentinel.api.incoming import IncomingRequest
from sentinel.api.payment_heads import PaymentHead
from sentinel.api.problems import ProblemError, rate_headers, status_of
from sentinel.api.request_log import RequestLog
from sentinel.domain import SentinelError
from sentinel.telemetry.request_ids import NO_IDS, CallersIds

MOST_DISCARDED: Final = 33_554_432
"""Bytes that a refused client may still send, so that it comes to read the answer."""
FULL_READ_BYTES: Final = 256_000
"""What uvloop reads at once. A read of so many bytes says that there are more."""
_CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"


def protocols_of(fast_path: FastPath) -> Callable[..., PaymentProtocol]:
    """What uvicorn calls for each new connection.

    Args:
        fast_path: What the connections share.
    """

    def protocol(
        config: Config, server_state: ServerState, app_state: dict[str, Any], **_options: Any
    ) -> PaymentProtocol:
        return PaymentProtocol(fast_path, config, server_state, app_state)

    return protocol


class PaymentProtocol(asyncio.Protocol):
    """One connection. Requests are answered one after the other, in the order they came in.

    Attributes:
        held: Bytes that it keeps; `Connections.hold` writes it.
    """

    __slots__ = (
        "_answers",
        "_app_state",
        "_began_ns",
        "_closing",
        "_config",
        "_cycle",
        "_discarded",
        "_fast_path",
        "_flow",
        "_head",
        "_heads",
        "_incoming",
        "_loop",
        "_over",
        "_own",
        "_payments",
        "_reading",
        "_request_id",
        "_rest",
        "_server_state",
        "_shared",
        "_transport",
        "_unsent",
        "_wait",
        "held",
    )

    _transport: asyncio.Transport
    _flow: FlowControl

    def __init__(
        self,
        fast_path: FastPath,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
    ) -> None:
        self._config = config
        self._app_state = app_state
        self._server_state = server_state
        self._loop = asyncio.get_running_loop()
        self._fast_path = fast_path
        self._heads = fast_path.heads
        self._answers = fast_path.answers
        self._shared = fast_path.connections
        self.held = 0
        self._own = ""
        self._payments = True
        # What has come in and is not read yet; a request of which the body is coming in.
        self._rest = b""
        self._incoming: IncomingRequest | None = None
        # What is being answered.
        self._head: Head | PaymentHead | None = None
        self._cycle: RequestResponseCycle | None = None
        self._request_id = ""
        self._began_ns = 0
        self._unsent = 0
        self._wait: Wait | None = None
        self._reading = False
        self._closing = False
        """The connection ends with the answer that is on its way."""
        self._over = False
        """Nothing is answered any more."""
        self._discarded = 0

    # The connection.

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self._transport = transport
        self._flow = FlowControl(transport)
        self._server_state.connections.add(self)  # type: ignore[arg-type]
        address = transport.get_extra_info("sockname") or ("", 0)
        self._own = str(address[0])
        self._payments = address[1] != self._fast_path.admin_port
        problem = self._shared.opened()
        if problem is None:
            self._wait_for(self._shared.silent)
        elif self._shared.can_answer:
            self._refuse(problem)
        else:
            self._over = True
            transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self._over = True
        self._forget()
        self._shared.closed(self)
        self._server_state.connections.discard(self)
        if self._cycle is not None:
            self._cycle.disconnected = True
            self._cycle.message_event.set()
        self._flow.resume_writing()

    def shutdown(self) -> None:
        """End the connection, after the answer that is on its way; uvicorn's server calls it."""
        if self._head is None and self._incoming is None:
            self._end()
            return
        self._closing = True
        if self._cycle is not None:
            self._cycle.keep_alive = False

    def pause_writing(self) -> None:
        self._flow.pause_writing()
        self._unsent = self._transport.get_write_buffer_size()
        self._shared.reader.begin(self, self._loop.time())
        self._hold()

    def resume_writing(self) -> None:
        self._flow.resume_writing()
        self._unsent = 0
        self._shared.reader.end(self)
        if self._over:
            self._wait_for(self._shared.ending)
            return
        self._hold()
        if self._rest and self._head is None and self._incoming is None:
            self._go_on()

    @property
    def busy(self) -> bool:
        """Whether a request is being answered."""
        return self._head is not None

    @property
    def waits_for_more(self) -> bool:
        """Whether a part of a request has come in."""
        return bool(self._rest) or self._incoming is not None

    # What comes in.

    def data_received(self, data: bytes) -> None:
        if len(data) >= FULL_READ_BYTES:
            # The loop would read up to 32 times so much before anybody else has a turn.
            self._flow.pause_reading()
            self._loop.call_soon(self._read_on)
        if self._incoming is not None:
            self._take_rest(self._incoming, data)
        elif self._head is not None or self._flow.write_paused or self._over:
            self._put_off(data)
        else:
            self._read(self._rest + data if self._rest else data)

    def _put_off(self, data: bytes) -> None:
        """Keep what came before an answer is out, and throw away what a refused client sends."""
        if self._over:
            self._discarded += len(data)
            if self._discarded > MOST_DISCARDED:
                self._transport.abort()
                return
            self._flow.pause_reading()
            self._shared.discard_later(self)
            return
        self._rest += data
        self._hold()
        if len(self._rest) > HIGH_WATER_LIMIT or self._shared.full:
            self._flow.pause_reading()

    def _read_on(self) -> None:
        """Read on after a full read, unless what came has to be answered first."""
        if not self._over and len(self._rest) <= HIGH_WATER_LIMIT:
            self._flow.resume_reading()

    def discard(self) -> None:
        """See `Watched`."""
        if not self._transport.is_closing():
            self._flow.resume_reading()

    def _read(self, data: bytes) -> None:
        """Take requests off the data until one has to wait."""
        self._reading = True
        self._rest = b""
        try:
            while data:
                end = data.find(END_OF_HEAD)
                if end < 0 or end > MOST_HEAD_BYTES:
                    self._wait_for_head(data)
                    break
                head = self._heads.read(data[:end], self._own, self._payments)
                first = end + len(END_OF_HEAD)
                last = first + head.length
                if last > len(data) or head.length == CHUNKED:
                    self._begin_body(head, data[:end], data[first:])
                    break
                body = data[first:last]
                self._rest = data = data[last:]
                self._take(head, body)
                if self._head is not None or self._over or self._flow.write_paused:
                    break
        except (ProblemError, SentinelError) as error:
            self._refuse(error)
        self._reading = False
        if self._rest or self.held:
            self._hold()

    def _wait_for_head(self, data: bytes) -> None:
        check_beginning(data)
        self._rest = data
        if self._wait is not self._shared.head:
            self._wait_for(self._shared.head)

    def _begin_body(self, head: Head | PaymentHead, text: bytes, data: bytes) -> None:
        """Wait for the rest of a body, if it comes from one who may send it."""
        if self._answers.requests is not None:
            self._began_ns = time.perf_counter_ns()
        if isinstance(head, Head):
            try:
                self._fast_path.door.admit(head.method, head.path, head.query, head.fields)
            except SentinelError as error:
                self._refuse(error, head)
                return
        chunks = None
        if head.length == CHUNKED:
            chunks = ChunkedBody(self._fast_path.door.limit_of(head.path))
        incoming = IncomingRequest(head, text, chunks)
        self._incoming = incoming
        self._wait_for(self._shared.body)
        if isinstance(head, Head) and head.expects and not data:
            self._transport.write(_CONTINUE)
        self._take_rest(incoming, data)

    def _take_rest(self, incoming: IncomingRequest, data: bytes) -> None:
        """Take what may be the end of a body."""
        try:
            complete = incoming.take(data)
        except ProblemError as problem:
            self._refuse(problem)
            return
        if not complete:
            self._hold()
            return
        head = incoming.head
        if isinstance(head, PaymentHead):  # who sent it may have lost the key meanwhile
            head = self._heads.read(incoming.text, self._own, self._payments)
        self._forget()
        self._rest = incoming.rest
        self._take(head, incoming.body)
        if incoming.rest or self.held:
            self._hold()

    def _take(self, head: Head | PaymentHead, body: bytes) -> None:
        """Have a complete request answered."""
        if self._wait is not None:
            self._wait.end(self)
            self._wait = None
        self._head = head
        self._request_id = ""
        if isinstance(head, Head):
            self._ask(head, body)
            return
        if self._answers.requests is not None:
            self._began_ns = time.perf_counter_ns()
        if head.close:
            self._closing = True
        intake = self._fast_path.intake
        try:
            if head.limited:
                payments = int(head.path == PAYMENT)
                self._fast_path.rates.spend(
                    head.principal, self._peer(), requests=1, payments=payments
                )
            if head.path == PAYMENT:
                answer = intake.predict(body, head.dry_run, self, head.principal)
                if answer is not None:
                    self.answered(answer)
            else:
                intake.predict_batch(body, head.dry_run, self, head.principal)
        except Exception as error:  # noqa: BLE001 -- the client is told, the log, too
            self.failed(error)

    def _ask(self, head: Head, body: bytes) -> None:
        """Have the ASGI application answer."""
        cycle = call_of(
            head,
            body,
            self._transport,
            self._flow,
            self._config,
            self._app_state,
            headers=self._answers.headers(self._server_state.default_headers),
            keep_alive=not (head.close or self._closing),
            answered=self._asgi_answered,
        )
        self._cycle = cycle
        task = self._loop.create_task(cycle.run_asgi(self._config.loaded_app))
        self._server_state.tasks.add(task)
        task.add_done_callback(self._server_state.tasks.discard)

    # What goes out; see `Receiver`.

    @property
    def ids(self) -> CallersIds:
        head = self._head
        if not isinstance(head, PaymentHead):
            return NO_IDS
        return head.ids if head.ids.request_id else CallersIds(self.request_id)

    @property
    def request_id(self) -> str:
        """The id of the request that is being answered; made when it is first asked for."""
        if not self._request_id:
            head = self._head
            given = head.ids.request_id if isinstance(head, PaymentHead) else ""
            self._request_id = given or self._answers.request_ids.make()
        return self._request_id

    def answered(self, body: bytes) -> None:
        if self._over:
            return
        start = self._answers.start(self._server_state.default_headers)
        known = self.request_id.encode()
        end = b"\r\nconnection: close\r\n\r\n" if self._closing else END_OF_HEAD
        head = self._head
        assert head is not None  # of what is answered
        self._fast_path.counts[head.path] += 1
        if isinstance(head, PaymentHead) and head.limited:
            left = rate_headers(self._fast_path.rates.left(head.principal, self._peer()))
            end = b"".join(b"\r\n%b: %b" % header for header in left) + end
        if self._answers.requests is not None:
            self._tell(self._answers.requests, 200)
        self._send(b"%b%b\r\ncontent-length: %d%b%b" % (start, known, len(body), end, body))

    def failed(self, error: Exception) -> None:
        if self._over or self._head is None:
            return
        if self._answers.requests is not None:
            self._tell(self._answers.requests, status_of(error))
        self._send(
            self._answers.problem(
                error,
                self._server_state.default_headers,
                method="POST",
                path=self._head.path,
                request_id=self.request_id,
                close=self._closing,
            )
        )

    def _tell(self, requests: RequestLog, status: int) -> None:
        head, seconds = self._head, (time.perf_counter_ns() - self._began_ns) / 1e9
        if isinstance(head, PaymentHead):
            requests.answered(self.request_id, "POST", head.path, status, seconds, head.principal)

    def _asgi_answered(self) -> None:
        self._cycle = None
        self._closing |= self._transport.is_closing()
        self._send(b"")

    def _send(self, answer: bytes) -> None:
        self._head = None
        self._server_state.total_requests += 1
        self._transport.write(answer)
        if self._closing:
            self._end()
            return
        self._wait = idle = self._shared.idle
        idle.since[self] = self._loop.time()
        if self._rest and not self._reading:
            self._go_on()

    def _go_on(self) -> None:
        """Read what came in meanwhile."""
        if not self._flow.write_paused:
            self._flow.resume_reading()
            self._read(self._rest)

    def _peer(self) -> str:
        """The address of the client."""
        address = get_remote_addr(self._transport)
        return address[0] if address else ""

    # The end.

    def run_out(self, wait: Wait) -> None:
        """See `Watched`."""
        shared = self._shared
        if wait in (shared.silent, shared.idle):
            self._end()
        elif wait is shared.head:
            self._refuse(too_slow("head", wait.seconds))
        elif wait is shared.body:
            self._refuse(too_slow("body", wait.seconds))
        else:
            self._transport.abort()

    def make_room(self, problem: ProblemError) -> None:
        """See `Watched`."""
        if self._rest or self._incoming is not None:
            self._refuse(problem)
        elif self._unsent:
            self._over = True
            self._shared.release(self)
            self._transport.abort()
        else:
            self._end()

    def _refuse(self, error: Exception, head: Head | PaymentHead | None = None) -> None:
        """Answer with an error, and end the connection when the client has read it.

        What the client still sends is read until then: bytes that nobody reads would reset the
        connection, and the answer would be lost.

        Args:
            error: Why.
            head: Of the request; None for that of the body that is awaited, if there is one.
        """
        if head is None and self._incoming is not None:
            head = self._incoming.head
        seconds = (time.perf_counter_ns() - self._began_ns) / 1e9
        default_headers = self._server_state.default_headers
        answer = self._answers.refusal(error, default_headers, head, seconds)
        self._over = True
        self._forget()
        self._shared.release(self)
        self._transport.write(answer)
        self._transport.write_eof()
        self._flow.resume_reading()
        self._wait_for(self._shared.ending)

    def _end(self) -> None:
        """End the connection when the client has read what is on its way."""
        self._over = True
        self._forget()
        self._shared.release(self)
        self._transport.close()
        late = self._transport.get_write_buffer_size() > 0
        self._wait_for(self._shared.reader if late else self._shared.ending)

    def _wait_for(self, wait: Wait) -> None:
        if self._wait is not None:
            self._wait.end(self)
        self._wait = wait
        wait.begin(self, self._loop.time())

    def _forget(self) -> None:
        """Keep nothing of what came in."""
        self._rest = b""
        self._incoming = None

    def _hold(self) -> None:
        """Say how many bytes are kept here."""
        if self._over:
            return
        held = len(self._rest) + self._unsent
        if self._incoming is not None:
            held += self._incoming.held
        coming_in = self._incoming is not None or (self._head is None and not self._unsent)
        self._shared.hold(self, held, coming_in=coming_in)
