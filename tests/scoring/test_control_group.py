"""What the control group did stands in the log, and an answer stays what it was."""

from __future__ import annotations

import asyncio

import msgspec
import numpy as np

from sentinel.domain import Outcome, Transaction
from sentinel.ledger.export_tables import decisions_table
from sentinel.ledger.lookup import decision_in
from sentinel.log.entries import GroupKind, decode_decisions
from sentinel.models.thresholds import Thresholds
from sentinel.policy.exploration import ControlGroup, ExplorationKey
from sentinel.policy.ruling import Policy
from sentinel.scoring.runtime import ScoringRuntime
from sentinel.scoring.scorer import Scorer
from sentinel.settings import Settings
from tests.scoring.one_scorer import decide, made, payment, settings, within

__all__ = ["made", "settings"]  # fixtures

EVERYTHING_IS_STOPPED = Thresholds(fraud=0.5, review=0.0, decline=0.0)
KEY = ExplorationKey(b"0123456789abcdef")
SHARE = 0.05


def test_the_log_says_what_would_have_been_decided_and_with_which_probability(
    settings: Settings,
) -> None:
    async def claim(runtime: ScoringRuntime) -> list[tuple[Transaction, bytes]]:
        scorer = runtime.writer.scorer
        policy = Policy(EVERYTHING_IS_STOPPED, control=ControlGroup(share=SHARE))
        runtime.writer.take_over(Scorer(scorer.state, scorer.panel, policy, KEY))
        sent = [payment(runtime, f"p{n}") for n in range(400)]
        sent = [msgspec.structs.replace(t, customer_id=f"c{n}") for n, t in enumerate(sent)]
        answers = await asyncio.gather(*(decide(runtime, t) for t in sent))
        # A payment that comes again gets the answer that it had, not another draw.
        assert [await decide(runtime, t) for t in sent] == answers
        # Who asks what would be decided learns nothing of the draws.
        peeked = runtime.writer.scorer.peek(sent)
        assert peeked.control is None
        assert (peeked.flags & 3 == 2).all()
        return list(zip(sent, answers, strict=True))

    answers = within(settings, claim)
    passed = {t.transaction_id for t, _ in answers if KEY.draw(t) < SHARE}
    assert 5 <= len(passed) <= 40
    from sentinel.ledger.sqlite import SqliteLedger

    with SqliteLedger.open_reader(settings.ledger_path) as ledger:
        groups = [group for group in ledger.groups(0) if group.kind == GroupKind.DECISIONS]
    decisions = [
        decision_in(decode_decisions(group.payload), group.first_sequence, row)
        for group in groups
        for row in range(group.entries)
    ]
    assert len(decisions) == len(answers)
    for decision in decisions:
        assert decision.base_outcome == Outcome.DECLINE
        assert decision.eligible
        assert decision.explored == (decision.transaction_id in passed)
        assert decision.outcome == (Outcome.APPROVE if decision.explored else Outcome.DECLINE)
        assert decision.propensity == np.float32(SHARE if decision.explored else 1 - SHARE)
        assert decision.control_share == SHARE
    said = {t.transaction_id: msgspec.json.decode(answer)["decision"] for t, answer in answers}
    assert {name for name, outcome in said.items() if outcome == "approve"} == passed
    table = decisions_table(groups)
    assert table is not None
    exported = table.select(["transaction_id", "outcome", "base_outcome", "eligible"]).to_pylist()
    assert {row["transaction_id"] for row in exported if row["outcome"] == "approve"} == passed
    assert all(row["eligible"] and row["base_outcome"] == "decline" for row in exported)
