"""What a scorer counts of its decisions is what its log holds."""

from __future__ import annotations

import asyncio
from collections import Counter

import msgspec
import numpy as np
import pytest
from prometheus_client.core import Metric

from sentinel.domain import Transaction
from sentinel.ledger.sqlite import SqliteLedger
from sentinel.log.entries import GroupKind, decode_decisions
from sentinel.models.thresholds import Thresholds
from sentinel.monitoring.metrics import OUTCOME_NAMES
from sentinel.policy.exploration import ControlGroup, ExplorationKey
from sentinel.policy.ruling import Policy
from sentinel.scoring.runtime import ScoringRuntime
from sentinel.scoring.scorer import Scorer
from sentinel.settings import Settings
from testkit.experiments import install_version, run_experiments
from tests.scoring.one_scorer import PLAN, decide, made, payment, settings, within
from tests.scoring.test_roles import AB, NOTHING_PASSES, SHADOW

__all__ = ["made", "settings"]  # fixtures

SECONDS_OLD = 40


@pytest.fixture(scope="module", autouse=True)
def versions(made: Settings) -> None:
    install_version(made, PLAN, "11", lines=NOTHING_PASSES)
    install_version(made, PLAN, "12", verdict="candidate")


def test_decisions_are_counted_by_who_decided_and_the_control_group_by_what_it_costs(
    settings: Settings,
) -> None:
    run_experiments(settings, AB, SHADOW)

    async def claim(runtime: ScoringRuntime) -> list[Metric]:
        before = runtime.writer.scorer
        policy = Policy(Thresholds(fraud=2, review=2, decline=2), control=ControlGroup(share=0.05))
        panel = before.panel.with_lines(lambda _: Policy(NOTHING_PASSES, control=policy.control))
        key = ExplorationKey(b"0123456789abcdef")
        runtime.writer.take_over(Scorer(before.state, panel, policy, key))
        await asyncio.gather(*(decide(runtime, sent(runtime, n)) for n in range(400)))
        return list(runtime.metrics.collect())

    def sent(runtime: ScoringRuntime, n: int) -> Transaction:
        made = payment(runtime, f"p{n}")
        age_us = SECONDS_OLD * 1_000_000
        return msgspec.structs.replace(
            made,
            customer_id=f"C{n}",
            amount_minor=100 + n,
            event_time_us=made.received_at_us - age_us,
        )

    collected = {family.name: family for family in within(settings, claim)}
    decided: Counter[tuple[str, ...]] = Counter()
    eligible, explored, amount, loss = 0, 0, 0, 0.0
    with SqliteLedger.open_reader(settings.ledger_path) as ledger:
        for group in ledger.groups(0):
            if group.kind != GroupKind.DECISIONS:
                continue
            log = decode_decisions(group.payload)
            outcomes = log.flag_array() & 3
            let = outcomes != log.base_outcome_codes()
            for code, decider in zip(outcomes, log.decided_by(), strict=True):
                named = ("champion", "") if decider[1] == "1" else ("challenger", "ab")
                decided[OUTCOME_NAMES[code], decider[1], *named] += 1
            eligible += int(log.columns.eligible_array(len(outcomes)).sum())
            explored += int(let.sum())
            for row in np.flatnonzero(let).tolist():
                amount += log.transactions[row].amount_minor
                loss += log.transactions[row].amount_minor * log.deciding_probabilities()[row]
    counted = {
        tuple(s.labels[name] for name in ("outcome", "version", "role", "experiment")): s.value
        for s in collected["sentinel_decisions"].samples
    }
    assert {labels: n for labels, n in counted.items() if n} == dict(decided)
    assert len(decided) == 3  # the champion approves; the challenger declines, but for some

    def value(name: str, **labels: str) -> float:
        (found,) = (s for s in collected[name].samples if s.labels == labels)
        return found.value

    assert value("sentinel_control_group_eligible") == eligible
    assert value("sentinel_control_group_explored") == explored > 0
    assert value("sentinel_control_group_amount_minor") == amount
    assert value("sentinel_control_group_expected_loss_minor") == pytest.approx(loss)
    night = {"version": "12", "role": "shadow", "experiment": "night"}
    assert value("sentinel_model_scores", **night) == 400
    assert value("sentinel_model_scoring_seconds", **night) > 0
    samples = collected["sentinel_event_age_seconds"].samples
    ages = {s.labels["le"]: s.value for s in samples if "le" in s.labels}
    assert (ages["30.0"], ages["60.0"]) == (0, 400)
    assert value("sentinel_degraded_decisions", reason="no_state") == 0
