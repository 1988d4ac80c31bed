"""How payments are scored and decided: limits, the policy, experiments."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, Field, SecretStr


class ScoringSettings(BaseModel):
    reasons: bool = Field(True, description="Give exact reasons with every decision.")
    waiting_payments: int = Field(
        10_000, description="Most single payments that wait for a decision; more get 429.", ge=1
    )
    waiting_batched: int = Field(
        50_000, description="The same for payments of batches. One batch alone may be larger.", ge=1
    )


class PolicySettings(BaseModel):
    degraded: Literal["approve", "review", "decline", "bands"] = Field(
        "approve",
        description="Outcome of a payment whose feature state could not be read. `bands`: by its "
        "probability, against the two lines below.",
    )
    degraded_review: float | None = Field(
        None, description="`bands`: a review from this probability on.", ge=0, le=1
    )
    degraded_decline: float | None = Field(
        None, description="`bands`: a decline from this probability on.", ge=0, le=1
    )
    control_group_secret: SecretStr = Field(
        SecretStr(""),
        description="Key of the draws of the control group; empty: `control_group.secret` in the "
        "workspace, made on first use. Scorers that share a ledger need the same one.",
    )


class ExperimentSettings(BaseModel):
    promote: bool = Field(
        True,
        description="Whether the nightly run makes a challenger champion that was shown to catch "
        "more fraud; `sentinel experiment promote` does it by hand.",
    )
    stop: bool = Field(
        True,
        description="Whether the nightly run ends an experiment whose challenger catches less, or "
        "that cannot be decided in time.",
    )
    hold_promotion: bool = Field(
        True,
        description="Whether a candidate that passes the gate waits while a challenger is judged "
        "against the champion. Without, each new champion begins the comparison anew.",
    )
    most_days: int = Field(
        180,
        description="Days of mature payments that an experiment may take.",
        ge=1,
        le=3_650,
    )
