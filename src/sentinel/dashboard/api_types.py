"""What the scoring API answers, as far as the dashboard reads it. Unknown keys are ignored."""

from __future__ import annotations

from typing import Literal

import msgspec

from sentinel.domain import Outcome, Verdict
from sentinel.experiments.guardrails import Reading
from sentinel.experiments.judgement import ExperimentState
from sentinel.experiments.lineup import Experiment, LineUp

HealthStatus = Literal["ok", "degraded", "unavailable"]


class Decision(msgspec.Struct, frozen=True, kw_only=True):
    """One row of ``GET /decisions``."""

    sequence: int
    transaction_id: str | int
    event_time_us: int
    received_at_us: int
    amount_minor: int
    customer_id: str | None = None
    card_id: str | None = None
    merchant_id: str | None = None
    device_id: str | None = None
    ip_address: str | None = None
    fraud_probability: float
    decision: Outcome
    is_fraud: bool
    degraded: bool
    model_version: str
    latency_us: int
    top_reason: str | None = None
    label: Verdict | None = None
    void: bool = False

    @property
    def is_alert(self) -> bool:
        """Whether somebody has to look at it: reviewed or declined."""
        return self.decision is not Outcome.APPROVE


class DecisionsPage(msgspec.Struct, frozen=True, kw_only=True):
    """``GET /decisions``: newest first."""

    decisions: tuple[Decision, ...]
    next_before: int | None = None


class RecordedLabel(msgspec.Struct, frozen=True, kw_only=True):
    """What somebody said of a payment."""

    label_id: str | int
    verdict: Verdict
    origin: str
    received_at_us: int


class DecisionDetail(msgspec.Struct, frozen=True, kw_only=True):
    """Of ``GET /decisions/{id}``: where a decision is, and what was said of it since."""

    sequence: int
    labels: tuple[RecordedLabel, ...] = ()


class Contribution(msgspec.Struct, frozen=True, kw_only=True):
    """What one feature added to a score."""

    feature: str
    value: float | None
    contribution: float
    words: str


class PolicyLines(msgspec.Struct, frozen=True, kw_only=True):
    """What a probability was held against; None where that is not known any more."""

    by: str | None = None
    review: float | None = None
    decline: float | None = None


class Reproduced(msgspec.Struct, frozen=True, kw_only=True):
    """Whether an explanation is of what was recorded."""

    exact: bool
    problem: str | None = None


class Explanation(msgspec.Struct, frozen=True, kw_only=True):
    """``GET /decisions/{id}/explanation``: contributions by size, the largest first."""

    unit: str
    base_value: float
    score: float
    role: str
    model_version: str
    features: tuple[Contribution, ...]
    policy: PolicyLines
    reproduced: Reproduced
    notes: tuple[str, ...] = ()


class Estimate(msgspec.Struct, frozen=True):
    """A measured value with its 95 % confidence interval; None where it could not be measured."""

    value: float | None
    low: float | None = None
    high: float | None = None


class MeasuredOn(msgspec.Struct, frozen=True, kw_only=True):
    """How many held-out payments, and known frauds among them, a model was measured on."""

    payments: int
    frauds: int


class Model(msgspec.Struct, frozen=True, kw_only=True):
    """The model in charge, with the metrics of its evaluation."""

    loaded: bool
    name: str | None = None
    version: str | None = None
    kind: str | None = None
    created_at_us: int | None = None
    metrics: dict[str, Estimate] = {}
    not_measured: dict[str, str] = {}
    measured_on: MeasuredOn | None = None
    refit: str | None = None
    provisional: str | None = None
    signed: str | None = None
    signed_by: str | None = None
    problem: str | None = None


class FeatureStore(msgspec.Struct, frozen=True, kw_only=True):
    """The feature state in the scorer."""

    ready: bool
    plan_hash: str
    features: int
    entities: int
    bytes: int
    sequence: int
    unused_attributes: tuple[str, ...] = ()
    problem: str | None = None


class Ledger(msgspec.Struct, frozen=True, kw_only=True):
    """The log: its last entry, and how far tables and snapshot have come."""

    sequence: int
    indexed_through: int
    snapshot_sequence: int


class Health(msgspec.Struct, frozen=True, kw_only=True):
    """``GET /health``."""

    status: HealthStatus
    uptime_seconds: float
    model: Model
    feature_store: FeatureStore
    ledger: Ledger


class Totals(msgspec.Struct, frozen=True, kw_only=True):
    """Counters of the scorer since it started, from ``GET /metrics``."""

    approve: int = 0
    review: int = 0
    decline: int = 0
    degraded: int = 0
    labels: int = 0
    commit_failures: int = 0

    @property
    def decisions(self) -> int:
        """All decisions."""
        return self.approve + self.review + self.decline


class RunningExperiment(msgspec.Struct, frozen=True, kw_only=True):
    """An experiment of ``GET /experiments``, as the scorer runs it."""

    experiment: Experiment
    share: float
    running: bool
    problem: str | None = None


class Experiments(msgspec.Struct, frozen=True, kw_only=True):
    """``GET /experiments``: those that run."""

    version: int
    experiments: tuple[RunningExperiment, ...]


class LineUps(msgspec.Struct, frozen=True, kw_only=True):
    """``GET /experiments/history``: newest first."""

    versions: tuple[LineUp, ...]


class Promotion(msgspec.Struct, frozen=True, kw_only=True):
    """A promotion that somebody asked for, and how far it is."""

    state: Literal["under way", "done", "failed"]
    by: str
    version: str = ""
    replaced: str | None = None
    problem: str = ""


class JudgedExperiment(msgspec.Struct, frozen=True, kw_only=True):
    """``GET /experiments/{name}``: all that is known of one."""

    here: RunningExperiment | None
    status: ExperimentState | None
    judged_at_us: int | None
    judging: bool
    problem: str
    guardrails: tuple[Reading, ...] = ()
    promotion: Promotion | None = None
