"""What processes say of themselves: their logs, and the traces of requests."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, Field


class LogSettings(BaseModel):
    format: Literal["text", "json"] = Field(
        "text",
        description="Lines to read at a terminal, or a JSON object a line for a log store. "
        "[docs/logs.md](logs.md) has the fields.",
    )
    level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="Least level of Sentinel's own lines; others' begin at `warning`."
    )
    requests: float = Field(
        0.0,
        description="Share of the scoring API's requests that get a line when they are answered; "
        "0: none, 1: all.",
        ge=0,
        le=1,
    )


class TraceSettings(BaseModel):
    endpoint: str = Field(
        "",
        description="Where an OpenTelemetry collector receives OTLP over HTTP, such as "
        "`http://collector:4318`; empty: no traces. Needs the extra `otel`.",
    )
    requests: float = Field(
        0.01,
        description="Share of the payments that are traced, beside those whose callers say in "
        "`traceparent` that they record theirs.",
        ge=0,
        le=1,
    )
