"""The JSON of an explanation."""

from __future__ import annotations

import math
from collections.abc import Sequence

import msgspec
import numpy as np
import numpy.typing as npt

from sentinel.api.routes.decision_detail import FoundDecision, RecordedVoid
from sentinel.domain import ModelGone, Outcome, SentinelError, id_for_display
from sentinel.features.plan.definition_hashes import matching_columns
from sentinel.features.plan.plan import Plan
from sentinel.ledger.lookup import decision_in
from sentinel.log.entries import FLAG_EXPIRED_EVENT, FLAG_LATE_EVENT
from sentinel.models.plans import find_plan, union_path
from sentinel.scoring.attribution import Reproduced, decider_of, reproduce
from sentinel.scoring.past_models import Found
from sentinel.scoring.past_policies import PastPolicies, PolicyLines, lines_for
from sentinel.scoring.runtime import ScoringRuntime
from sentinel.scoring.serving_model import ServingModel


class Contribution(msgspec.Struct, kw_only=True):
    """What one feature added to the score.

    Attributes:
        feature: Name in the plan.
        value: As it was served; null where it was unknown.
        contribution: Exact Shapley value in `Explanation.unit`; above 0: towards fraud.
        words: The value in a sentence.
    """

    feature: str
    value: float | None
    contribution: float
    words: str


class Reproduction(msgspec.Struct, kw_only=True):
    """Whether the attribution is that of the recorded decision.

    Attributes:
        exact: Whether all of the following hold.
        score, probability, reasons: Whether these have, bit for bit, the values that the log has.
        reasons_recorded: Whether the log has reasons to compare with; they can be switched off.
        sum: Whether base value and contributions add up to the recorded score, up to rounding.
        sum_error: By how much they miss it.
        problem: What is wrong, and what to do; null if nothing is.
    """

    exact: bool
    score: bool
    probability: bool
    reasons: bool
    reasons_recorded: bool
    sum: bool
    sum_error: float
    problem: str | None


class Explanation(msgspec.Struct, kw_only=True):
    """The whole attribution of a decision, made again by the model that decided.

    Attributes:
        transaction_id: Of the payment.
        sequence: Its place in the log.
        event_time_us, received_at_us: When it happened and arrived, microseconds UTC.
        amount_minor: In minor units of the base currency.
        decision, base_decision: What was done, and the same before the control group.
        fraud_probability: Calibrated, as recorded.
        is_fraud: Whether it reached the fraud line.
        degraded: True where feature state could not be read.
        role: ``champion``, or the role of the experiment whose model decided.
        model_name, model_version: The model that decided.
        model_found: Where it was: ``memory``, ``folder``, or ``registry`` if it was fetched.
        plan_hash: The plan of the vector.
        unit: Of base value, score and contributions: ``log-odds``, or ``probability`` of a forest.
        base_value: The score that the model expects of a payment of which nothing is known.
        score: Raw, as recorded; base value and contributions add up to it.
        features: Contributions of all features, the largest in size first.
        policy: What the probability was held against.
        reproduced: Whether all this is what was recorded.
        void: Null if the payment was not declared void.
        notes: What else has to be known to read it, in sentences.
    """

    transaction_id: str | int
    sequence: int
    event_time_us: int
    received_at_us: int
    amount_minor: int
    decision: Outcome
    base_decision: Outcome
    fraud_probability: float
    is_fraud: bool
    degraded: bool
    role: str
    model_name: str
    model_version: str
    model_found: str
    plan_hash: str
    unit: str
    base_value: float
    score: float
    features: list[Contribution]
    policy: PolicyLines
    reproduced: Reproduction
    void: RecordedVoid | None
    notes: list[str]


def explanation_json(
    runtime: ScoringRuntime,
    policies: PastPolicies,
    found: FoundDecision,
    void: RecordedVoid | None,
    models: Found,
    champions: Sequence[ServingModel] = (),
) -> bytes:
    """The JSON of an `Explanation`. It may take a second: not for the event loop.

    Args:
        runtime: Has the plan and the policy in charge.
        policies: Find the one that ruled.
        found: The decision.
        void: That it was declared void.
        models: The model that decided, and where it was.
        champions: The champion of that time, if another one decided and it is at hand.

    Raises:
        ModelGone: The plan of the vector is kept nowhere any more.
    """
    model = models.model
    assert model is not None
    group, decided, row = found.group, found.decided, found.row
    decider = decider_of(decided, row)
    decision = decision_in(decided, group.first_sequence, row)
    columns = _columns(runtime, decided.plan_hash, model.plan)
    again = reproduce(model, decided, [row], columns)
    transaction = found.transaction
    return msgspec.json.encode(
        Explanation(
            transaction_id=id_for_display(transaction.transaction_id),
            sequence=decision.sequence,
            event_time_us=transaction.event_time_us,
            received_at_us=max(transaction.received_at_us, group.floor_us),
            amount_minor=transaction.amount_minor,
            decision=decision.outcome,
            base_decision=decision.base_outcome or decision.outcome,
            fraud_probability=decision.fraud_probability,
            is_fraud=decision.is_fraud,
            degraded=decision.degraded,
            role=decider.role,
            model_name=decider.name,
            model_version=decider.version,
            model_found=models.where,
            plan_hash=decision.plan_hash,
            unit=model.unit,
            base_value=model.base_value,
            score=decision.score,
            features=_contributions(model, again),
            policy=_lines(runtime, policies, found, model, champions),
            reproduced=_reproduction(again, decider.name, decider.version),
            void=void,
            notes=_notes(found, void, again),
        )
    )


def _columns(runtime: ScoringRuntime, plan_hash: str, own: Plan) -> npt.NDArray[np.int64] | None:
    """Where the group's vectors have the features of a model; None if they are its own."""
    if plan_hash == own.hash:
        return None
    served = runtime.writer.scorer.program.plan
    if served.hash != plan_hash:
        found = find_plan(runtime.settings, plan_hash)
        if found is None:
            raise ModelGone(
                f"The vector of this decision is of feature plan {plan_hash}, and the plan of the "
                f"model that decided is {own.hash}. The former is kept nowhere any more: bring "
                f"{union_path(runtime.settings, plan_hash)} back from a backup."
            )
        served = found
    columns = matching_columns(served, own)
    if (columns < 0).any():
        missing = own.feature_names[int(np.argmin(columns))]
        raise ModelGone(
            f"The vector of this decision, of feature plan {plan_hash}, lacks {missing}, which the "
            "model that decided takes."
        )
    return columns


def _contributions(model: ServingModel, again: Reproduced) -> list[Contribution]:
    values = [None if math.isnan(v) else v for v in again.vectors[0].tolist()]
    weights = again.contributions[0]
    order = np.argsort(-np.abs(weights), kind="stable").tolist()
    names, said = model.plan.feature_names, model.sentences(values)
    return [
        Contribution(
            feature=names[i], value=values[i], contribution=float(weights[i]), words=said[i]
        )
        for i in order
    ]


def _lines(
    runtime: ScoringRuntime,
    policies: PastPolicies,
    found: FoundDecision,
    model: ServingModel,
    beside: Sequence[ServingModel],
) -> PolicyLines:
    decided, row = found.decided, found.row
    scorer = runtime.writer.scorer
    ruled = scorer.policy
    others = [one.manifest.thresholds for one in (*beside, *scorer.panel.models)]
    if ruled is None or ruled.hash != decided.policy_hash:
        try:
            ruled = policies.find(decided.policy_hash, [model.manifest.thresholds, *others])
        except SentinelError:  # the store is away: the rest can be told all the same
            ruled = None
    lines = model.manifest.thresholds
    if ruled is not None and decider_of(decided, row).number and ruled.bands in others:
        # The hash is of the champion's policy; a model beside it is held against its own lines.
        ruled = msgspec.structs.replace(ruled, bands=lines)
    decision = decision_in(decided, found.group.first_sequence, row)
    return lines_for(
        ruled,
        decided.policy_hash,
        found.transaction,
        decision.fraud_probability,
        degraded=decision.degraded,
    )


def _reproduction(again: Reproduced, name: str, version: str) -> Reproduction:
    checks = {
        "score": bool(again.same_score[0]),
        "probability": bool(again.same_probability[0]),
        "reasons": bool(again.same_reasons[0]),
        "sum": bool(again.sums[0]),
    }
    wrong = [what for what, holds in checks.items() if not holds]
    problem = None
    if wrong:
        problem = (
            f"THIS IS NOT WHAT WAS RECORDED: what is here as version {version} of {name} gives "
            f"another {' and '.join(wrong)} than the log has. Its folder was replaced, is of "
            "another registry, or this machine computes otherwise than the one that decided. Trust "
            "the recorded reasons in GET /decisions/{id}, and restore the version's folder."
        )
    return Reproduction(
        exact=not wrong,
        **checks,
        reasons_recorded=bool(again.reasons_recorded[0]),
        sum_error=float(again.sum_error[0]),
        problem=problem,
    )


def _notes(found: FoundDecision, void: RecordedVoid | None, again: Reproduced) -> list[str]:
    decided, row = found.decided, found.row
    decision = decision_in(decided, found.group.first_sequence, row)
    flags = int(decided.flag_array()[row])
    notes = []
    if void is not None:
        notes.append(
            "The payment was declared void since: features, labels and training are without it. "
            "The explanation is of the decision as it was made."
        )
    if decision.degraded:
        notes.append(
            "Feature state could not be read, or had no room: what would come from there was "
            "unknown to the model, and the policy of degraded decisions ruled."
        )
    if decision.explored:
        notes.append("The control group let it through, whatever the model said.")
    if decision.rules:
        notes.append(f"Rules fired: {', '.join(decision.rules)}.")
    if flags & (FLAG_LATE_EVENT | FLAG_EXPIRED_EVENT):
        notes.append("The payment came late: its windows end at the newest payment of each entity.")
    if not again.reasons_recorded[0]:
        notes.append("Reasons were switched off, so there are none in the log to compare with.")
    return notes
