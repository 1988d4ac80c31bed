"""Drift of what models are served: how often an alarm may be false, and what is too small."""

from __future__ import annotations

from pydantic import BaseModel, Field


class DriftSettings(BaseModel):
    false_alarms_per_month: float = Field(
        0.2,
        description="Drift alarms that may be false, on average in a month over all features and "
        "segments together. Half as many take a few dozen more payments to find a change.",
        gt=0,
        le=100,
    )
    smallest_change: float = Field(
        0.05,
        description="Smallest change of a feature's distribution that is looked for, as the share "
        "of payments that have another value (total variation distance).",
        ge=0.01,
        le=0.5,
    )
    reference_days: int = Field(
        90,
        description="Days before the end of a training whose payments become its model's "
        "reference.",
        ge=7,
        le=400,
    )
    anchor_days: float = Field(
        90.0,
        description="Days after which features are held against the reference of the model that "
        "decides. Until then they are held against that of an earlier model, so that changes are "
        "found which are slower than models are replaced.",
        ge=7,
        le=400,
    )
    bins: int = Field(
        17,
        description="Bins of a numeric feature, that of unknown values included.",
        ge=3,
        le=32,
    )
    late_minutes: float = Field(
        15.0,
        description="How long after its end an hour is tested, by the log's clock. Payments that "
        "arrive later still are counted apart and tested nowhere; where a day's payments come in "
        "one file, it is 1440 and more.",
        ge=0,
        le=2880,
    )
    hours_days: float = Field(
        35.0, description="Days for which counts are kept hour by hour; then by the day.", ge=7
    )
    keep_days: float = Field(400.0, description="Days for which counts are kept at all.", ge=30)
