"""Watching over a deployment: the monitor's process, what it looks for, and where the follower of
the registry tells how it does.
"""

from __future__ import annotations

from pydantic import BaseModel, Field


class MonitorSettings(BaseModel):
    host: str = Field(
        "127.0.0.1", description="Address that the monitor serves `/metrics` and `/healthz` on."
    )
    port: int = Field(8600, description="Port of the monitor.", ge=1, le=65535)
    parity_hours: float = Field(
        6.0,
        description="Hours between two samples of served rows that are recomputed from the log. "
        "Where a sample takes long, pauses are longer: samples take 2 % of a processor at most. "
        "0: no samples.",
        ge=0,
    )


class FollowerSettings(BaseModel):
    host: str = Field(
        "127.0.0.1",
        description="Address that `sentinel follow` serves `/metrics` and `/healthz` on.",
    )
    port: int = Field(0, description="Its port; 0: it serves neither.", ge=0, le=65535)
