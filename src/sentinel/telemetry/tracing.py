"""Traces for OpenTelemetry: sent by OTLP over HTTP, from a thread of their own.

Needs the extra ``otel`` of the package, and loads nothing of it unless traces are wanted. A process
hands finished traces over; where they come faster than they can be sent, they are dropped and
counted.
"""

from __future__ import annotations

import logging
import queue
import re
import threading
import time
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from sentinel.domain import ConfigurationError
from sentinel.telemetry.request_ids import CallersIds

log = logging.getLogger(__name__)

TRACES_WAITING: Final = 1_024
"""Traces that wait to be sent; beyond it new ones are dropped."""
_TRACE_ID: Final = re.compile("[0-9a-fA-F]{32}")
_SENT_SECONDS: Final = 1.0
"""A trace is sent so long after it is finished at the latest."""


class Span(NamedTuple):
    """A stretch of time with a name; both ends by `time.perf_counter_ns`."""

    name: str
    began_ns: int
    ended_ns: int


class Trace(NamedTuple):
    """What a request went through.

    Attributes:
        whole: From its arrival to its answer.
        stages: What happened in between.
        ids: What its caller calls it.
        attributes: Further facts, none of them a value of a payment.
    """

    whole: Span
    stages: tuple[Span, ...]
    ids: CallersIds
    attributes: Mapping[str, str | int | bool]


class TraceWriter:
    """Takes traces, and sends them from a thread.

    Args:
        endpoint: Where OTLP is received, such as ``http://collector:4318``.
        service: Name of this process.

    Attributes:
        dropped: Traces that there was no room for.

    Raises:
        ConfigurationError: The extra is not installed.
    """

    def __init__(self, endpoint: str, service: str) -> None:
        self.dropped = 0
        self._sender = _Sender(f"{endpoint.rstrip('/')}/v1/traces", service)
        self._queue: queue.SimpleQueue[Trace | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="traces", daemon=True)
        self._thread.start()

    def take(self, trace: Trace) -> None:
        """Have a trace sent. Does not wait."""
        if self._queue.qsize() >= TRACES_WAITING:
            if not self.dropped:
                log.warning(
                    "Traces come faster than they can be sent; some are dropped. Lower "
                    "traces.requests, or look at the collector."
                )
            self.dropped += 1
        else:
            self._queue.put(trace)

    def close(self) -> None:
        """Send what waits. Waits for it, some seconds at most."""
        self._queue.put(None)
        self._thread.join(timeout=10)

    def _run(self) -> None:
        while (trace := self._queue.get()) is not None:
            try:
                self._sender.write(trace)
            except Exception:
                log.exception("A trace could not be written.")
        self._sender.close()


class _Sender:
    """OpenTelemetry's SDK. Only the thread of a `TraceWriter` writes."""

    def __init__(self, url: str, service: str) -> None:
        try:
            from opentelemetry import trace
            from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
            from opentelemetry.sdk.resources import Resource
            from opentelemetry.sdk.trace import TracerProvider
            from opentelemetry.sdk.trace.export import BatchSpanProcessor
            from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
        except ModuleNotFoundError as error:
            raise ConfigurationError(
                f"traces.endpoint is set and {error.name} is not installed. Install "
                "sentinel-fraud[otel], or leave the setting empty."
            ) from None

        class Ids(RandomIdGenerator):
            """Gives a trace the id of its request where that is one."""

            next = 0

            def generate_trace_id(self) -> int:
                return self.next or super().generate_trace_id()

        self._api = trace
        self._ids = Ids()
        self._provider = TracerProvider(
            resource=Resource.create({"service.name": service}), id_generator=self._ids
        )
        exporter = OTLPSpanExporter(endpoint=url)
        self._provider.add_span_processor(
            BatchSpanProcessor(exporter, schedule_delay_millis=_SENT_SECONDS * 1_000)
        )
        self._tracer = self._provider.get_tracer("sentinel")

    def write(self, trace: Trace) -> None:
        """Make the spans of a trace; they are sent in batches."""
        api, to_clock = self._api, time.time_ns() - time.perf_counter_ns()
        ids = trace.ids
        self._ids.next = _trace_number(ids.request_id)
        whole = self._tracer.start_span(
            trace.whole.name,
            context=self._parent(ids),
            kind=api.SpanKind.SERVER,
            attributes={"sentinel.request_id": ids.request_id, **trace.attributes},
            start_time=trace.whole.began_ns + to_clock,
        )
        inside = api.set_span_in_context(whole)
        for stage in trace.stages:
            span = self._tracer.start_span(
                stage.name, context=inside, start_time=stage.began_ns + to_clock
            )
            span.end(stage.ended_ns + to_clock)
        whole.end(trace.whole.ended_ns + to_clock)

    def _parent(self, ids: CallersIds) -> Any:
        """The span of the caller; None if it told of none."""
        api = self._api
        if not ids.trace_id:
            return None
        flags = api.TraceFlags(api.TraceFlags.SAMPLED)
        context = api.SpanContext(int(ids.trace_id, 16), int(ids.span_id, 16), True, flags)
        return api.set_span_in_context(api.NonRecordingSpan(context))

    def close(self) -> None:
        self._provider.shutdown()


def _trace_number(request_id: str) -> int:
    """The id of a trace; 0 if a random one is to be taken.

    >>> _trace_number("0000000000000000000000000000000f"), _trace_number("shop-17")
    (15, 0)
    >>> _trace_number("-1111111111111111111111111111111")
    0
    """
    return int(request_id, 16) if _TRACE_ID.fullmatch(request_id) else 0
