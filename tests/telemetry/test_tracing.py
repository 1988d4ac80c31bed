"""Traces that nobody receives: decisions go on, memory stays bounded, nothing else is loaded."""

from __future__ import annotations

import subprocess
import sys
import time

import pytest

from sentinel.telemetry.request_ids import CallersIds
from sentinel.telemetry.tracing import TRACES_WAITING, Span, Trace, TraceWriter
from testkit.otlp import OtlpReceiver
from testkit.ports import free_port


def trace() -> Trace:
    now = time.perf_counter_ns()
    return Trace(Span("decide", now, now), (Span("wait", now, now),), CallersIds("r-1"), {})


def test_a_collector_that_is_away_holds_nobody_up(caplog: pytest.LogCaptureFixture) -> None:
    writer = TraceWriter(f"http://127.0.0.1:{free_port()}", "test")
    writer._sender.write = lambda _: time.sleep(0.2)  # type: ignore[assignment, method-assign]
    began = time.perf_counter()
    for _ in range(TRACES_WAITING + 100):
        writer.take(trace())
    assert time.perf_counter() - began < 1
    assert 90 <= writer.dropped <= 100
    assert caplog.text.count("Traces come faster") == 1


def test_a_trace_that_cannot_be_sent_ends_with_the_process(
    caplog: pytest.LogCaptureFixture,
) -> None:
    writer = TraceWriter(f"http://127.0.0.1:{free_port()}", "test")
    writer.take(trace())
    began = time.perf_counter()
    writer.close()
    assert time.perf_counter() - began < 12


def test_an_id_that_reads_as_a_negative_number_spoils_no_other_trace() -> None:
    receiver = OtlpReceiver()
    try:
        writer = TraceWriter(receiver.url, "test")
        now = time.perf_counter_ns()
        for request_id in ("-" + "1" * 31, "e" * 32):
            writer.take(Trace(Span("decide", now, now), (), CallersIds(request_id), {}))
        writer.close()
        assert len(receiver.of_trace("e" * 32, 1)) == 1
        assert len(receiver.spans) == 2
    finally:
        receiver.close()


def test_serving_loads_no_sdk_and_no_exporter() -> None:
    """FastAPI loads OpenTelemetry's API, which does nothing by itself."""
    script = (
        "import sys, sentinel.api.server, sentinel.scoring.tellers\n"
        "sys.exit(any(f'opentelemetry.{part}' in sys.modules for part in ('sdk', 'exporter')))\n"
    )
    assert subprocess.run([sys.executable, "-c", script], timeout=120).returncode == 0
