"""A model with features of its own scores beside the champion, and harms neither it nor anybody."""

from __future__ import annotations

import asyncio
import shutil
from typing import Any

import msgspec
import numpy as np
import pytest

from sentinel.domain import Transaction
from sentinel.experiments.lineup import Experiment
from sentinel.features.plan.definition_hashes import matching_columns
from sentinel.features.plan.functions import AMOUNT
from sentinel.features.plan.parts import Ratio, RequestFeature
from sentinel.features.plan.plan import DAY_US, HOUR_US, Plan
from sentinel.features.plan.union import union_plan
from sentinel.models.plans import find_plan, keep_union, union_path
from sentinel.models.serving import (
    CHAMPION_ROLE,
    ServedModel,
    Serving,
    model_folder,
    write_serving,
)
from sentinel.pipeline.backfill import backfill
from sentinel.pipeline.labelled_payments import labelled_payments, served_over
from sentinel.pipeline.verify import verify
from sentinel.policy.exploration import ControlGroup, ExplorationKey
from sentinel.policy.ruling import Policy
from sentinel.scoring import state_beside
from sentinel.scoring.runtime import ScoringRuntime
from sentinel.scoring.scorer import Scorer
from sentinel.scoring.serving_model import ServingModel
from sentinel.settings import Settings
from testkit.experiments import install_version, run_experiments
from tests.features.plans import aggregate, view
from tests.scoring.one_scorer import PLAN, decide, history, made, settings, within
from tests.scoring.test_roles import NOTHING_PASSES, card, decide_on, groups_of, until

__all__ = ["made", "settings"]  # fixtures

OTHER = Plan(
    (
        view(
            aggregate("count_7d", "count", 7 * DAY_US, HOUR_US),
            aggregate("sum_7d", "sum", 7 * DAY_US, HOUR_US),
            aggregate("shops", "distinct_count", 7 * DAY_US, column="merchant_id", capacity=32),
        ),
    ),
    (RequestFeature("paid", "amount"), RequestFeature("place", "category", "channel", ("pos",))),
    (Ratio("paid_of_7d", AMOUNT, "sum_7d"),),
)
UNION = union_plan(PLAN, OTHER)
NEW = Experiment(name="new", kind="challenger", version="31", share=0.5)
ALIKE = "customer_60min_count"
"""A name that two plans give to different features."""
NAMED = Plan(
    (view(aggregate(ALIKE, "distinct_count", DAY_US, column="merchant_id", capacity=32)),), ()
)
TEXT = Plan((), (RequestFeature("risk", "category", "risk", ("high",)),))


@pytest.fixture(scope="module", autouse=True)
def versions(made: Settings) -> None:
    install_version(made, OTHER, "31", lines=NOTHING_PASSES)
    install_version(made, PLAN, "32")
    install_version(made, TEXT, "33")
    install_version(made, NAMED, "34")


def serves(runtime: ScoringRuntime, plan: Plan) -> bool:
    return runtime.writer.scorer.program.plan.hash == plan.hash


def test_new_features_are_computed_from_the_log_while_payments_are_decided(
    settings: Settings,
) -> None:
    """What was decided before counts in them, and the columns of the champion stay as they are."""
    history(settings, 3, 50)

    async def claim(runtime: ScoringRuntime) -> list[dict[str, Any]]:
        assert serves(runtime, PLAN)
        await decide_on(runtime, [card(runtime, f"a{n}", n % 5) for n in range(50)])
        same_plan = Experiment(name="same", kind="shadow", version="32")
        await asyncio.to_thread(run_experiments, settings, NEW, same_plan)
        answers: list[dict[str, Any]] = []
        names: set[str] = set()
        problems: set[str] = set()
        while not serves(runtime, UNION):
            names |= {other.name for other in runtime.writer.scorer.panel.others}
            problems.add(runtime.problem_with_experiment("new") or "")
            answers += await decide_on(
                runtime, [card(runtime, f"b{len(answers)}", len(answers) % 5)]
            )
        assert any("being computed from the log" in problem for problem in problems)
        assert names == {"same"}  # it did not wait for the features of the other one
        await until(lambda: len(runtime.writer.scorer.panel.others) == 2)
        assert runtime.problem_with_experiment("new") is None
        answers += await decide_on(runtime, [card(runtime, f"c{n}", n % 5) for n in range(200)])
        return answers

    answers = {answer["transaction_id"]: answer for answer in within(settings, claim)}
    assert {a["model_version"] for a in answers.values()} == {"1", "31"}
    challenger = ServingModel.load(model_folder(settings, "31"), settings.money)
    columns = matching_columns(UNION, OTHER)
    found = 0
    for group in groups_of(settings):
        if group.plan_hash != UNION.hash:
            assert group.plan_hash == PLAN.hash
            continue
        vectors = group.vector_array()
        counted = vectors[:, UNION.feature_names.index("count_7d")]
        assert counted.max() > 0  # of payments before the experiment, too
        said = {role.role: np.frombuffer(role.probabilities) for role in group.columns.roles}
        _, alone = challenger.score(np.ascontiguousarray(vectors[:, columns]))
        assert said["new"].tobytes() == alone.tobytes()
        for row, transaction in enumerate(group.transactions):
            answer = answers[transaction.transaction_id]
            if answer["model_version"] == "31":
                assert answer["fraud_probability"] == alone[row]
                assert {r["feature"] for r in answer["reasons"]} <= {
                    UNION.feature_names[column] for column in columns
                }
                found += 1
    assert found > 50
    # Every column that was served is what either plan computes alone.
    for plan in (PLAN, OTHER):
        backfill(settings, plan=plan)
        verified = verify(settings, plan=plan)
        assert verified.recorded >= 200
        assert verified.agree
    known = labelled_payments(settings, plan=PLAN)
    rows = np.arange(len(known.payments.event_time_us))
    X, overridden = served_over(settings, known, rows)
    assert overridden.served >= 250
    assert X.tobytes() == known.vectors(rows).tobytes()


def test_the_union_is_there_after_a_restart_and_gone_after_the_experiment(
    settings: Settings,
) -> None:
    run_experiments(settings, NEW)

    async def decided(runtime: ScoringRuntime) -> list[bytes]:
        assert serves(runtime, UNION)
        sent.extend(card(runtime, f"p{n}", n % 5) for n in range(60))
        first = await asyncio.gather(*(decide(runtime, t) for t in sent))
        assert await asyncio.gather(*(decide(runtime, t) for t in sent)) == first
        return list(first)

    sent: list[Transaction] = []
    answers = within(settings, decided)
    assert find_plan(settings, UNION.hash) == UNION

    async def again(runtime: ScoringRuntime) -> None:
        assert serves(runtime, UNION)
        await asyncio.to_thread(run_experiments, settings)
        await until(lambda: serves(runtime, PLAN))
        assert runtime.writer.scorer.panel.union is None
        await decide(runtime, card(runtime, "after", 1))
        # Reasons of the union are told by name after it has gone.
        assert [await decide(runtime, t) for t in sent] == answers

    within(settings, again)
    assert groups_of(settings)[-1].plan_hash == PLAN.hash
    assert not (settings.state_dir / UNION.hash).exists()
    assert find_plan(settings, UNION.hash) == UNION  # what was decided can be explained


def test_a_restart_waits_for_no_features_of_an_experiment(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The champion decides from its own snapshot, as it did when the process ended."""
    monkeypatch.setattr(state_beside, "FEW_ENTRIES", 10)

    async def decided(runtime: ScoringRuntime) -> None:
        await decide_on(runtime, [card(runtime, f"p{n}", n % 5) for n in range(50)])

    within(settings, decided)
    run_experiments(settings, NEW)  # the process ends before their state is computed

    async def again(runtime: ScoringRuntime) -> None:
        assert serves(runtime, PLAN)
        assert "being computed from the log" in (runtime.problem_with_experiment("new") or "")
        await until(lambda: serves(runtime, UNION))
        assert runtime.problem_with_experiment("new") is None
        await decide_on(runtime, [card(runtime, f"q{n}", n % 5) for n in range(50)])

    within(settings, again)
    counted = groups_of(settings)[-1].vector_array()[:, UNION.feature_names.index("count_7d")]
    assert counted.max() >= 10
    assert (settings.state_dir / UNION.hash).exists()
    run_experiments(settings)  # it is stopped while no process runs
    monkeypatch.setattr(state_beside, "FEW_ENTRIES", 20_000)  # so few are replayed at once

    async def without(runtime: ScoringRuntime) -> None:
        assert serves(runtime, PLAN)
        assert not (settings.state_dir / UNION.hash).exists()
        assert (settings.state_dir / PLAN.hash).exists()

    within(settings, without)


def test_a_restart_after_a_promotion_goes_on_with_the_union(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The state of the new champion's own plan is opened beside it."""
    monkeypatch.setattr(state_beside, "FEW_ENTRIES", 10)
    models = settings.models_dir.resolve()
    settings.models_dir.unlink()
    shutil.copytree(models, settings.models_dir)
    run_experiments(settings, NEW)

    async def decided(runtime: ScoringRuntime) -> None:
        assert serves(runtime, UNION)
        await decide_on(runtime, [card(runtime, f"p{n}", n % 5) for n in range(50)])

    within(settings, decided)
    champion = ServedModel(version="31", folder=model_folder(settings, "31").name)
    write_serving(settings, Serving(roles={CHAMPION_ROLE: champion}, plan_hash=OTHER.hash))
    run_experiments(settings)

    async def promoted(runtime: ScoringRuntime) -> list[dict[str, Any]]:
        assert serves(runtime, UNION)
        first = await decide_on(runtime, [card(runtime, "q", 1)])
        await until(lambda: serves(runtime, OTHER))
        return first + await decide_on(runtime, [card(runtime, "r", 1)])

    answers = within(settings, promoted)
    assert {answer["model_version"] for answer in answers} == {"31"}
    assert not (settings.state_dir / UNION.hash).exists()
    of_union, alone = groups_of(settings)[-2:]
    assert (of_union.plan_hash, alone.plan_hash) == (UNION.hash, OTHER.hash)
    before = of_union.vector_array()[0, matching_columns(UNION, OTHER)]
    assert alone.vector_array()[0, 0] == before[0] + 1  # payments of the card in seven days


def test_a_union_whose_file_is_damaged_is_kept_anew(settings: Settings) -> None:
    keep_union(settings, UNION)
    union_path(settings, UNION.hash).write_bytes(b"")
    assert find_plan(settings, UNION.hash) is None
    keep_union(settings, UNION)
    assert find_plan(settings, UNION.hash) == UNION


def test_the_control_group_counts_by_the_champions_feature_of_a_name(settings: Settings) -> None:
    """A challenger that was promoted over a union may call a feature as another plan does."""
    run_experiments(settings, msgspec.structs.replace(NEW, version="34"))

    async def claim(runtime: ScoringRuntime) -> None:
        scorer = runtime.writer.scorer
        assert serves(runtime, union_plan(PLAN, NAMED))
        group = ControlGroup(share=0.05, count_feature=ALIKE, most_count=1)
        policy = Policy(NOTHING_PASSES, control=group)
        champion = runtime.models.load_beside("34", to_serve=True, approved=False)
        panel = runtime.line_ups.panel(champion, lambda _: policy, scorer.program.plan)
        key = ExplorationKey(b"0123456789abcdef")
        runtime.writer.take_over(Scorer(scorer.state, panel, policy, key))
        await decide_on(runtime, [card(runtime, f"p{n}", 1) for n in range(20)])

    within(settings, claim)
    # All of one card are at one merchant, however many they are.
    for group in groups_of(settings):
        assert group.columns.eligible_array(len(group.transactions)).all()


def test_a_plan_that_cannot_be_served_beside_the_champions_is_refused_by_name(
    settings: Settings,
) -> None:
    """It reads as text what the champion reads as a number."""
    run_experiments(settings, msgspec.structs.replace(NEW, version="33"))

    async def claim(runtime: ScoringRuntime) -> None:
        assert serves(runtime, PLAN)
        problem = runtime.problem_with_experiment("new") or ""
        assert "version 33 takes features that cannot be computed beside those of" in problem
        assert "'risk' is used as a number and as text" in problem
        await decide(runtime, card(runtime, "p", 1))

    within(settings, claim)


@pytest.mark.parametrize("broken", ["rule", "explain"])
def test_a_challenger_that_cannot_be_ruled_on_or_explained_leaves_it_to_the_champion(
    settings: Settings, broken: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_experiments(settings, NEW)

    def fail(*_: object, **__: object) -> None:
        raise ZeroDivisionError("never tried")

    async def claim(runtime: ScoringRuntime) -> list[dict[str, Any]]:
        (challenger,) = runtime.writer.scorer.panel.others
        if broken == "rule":
            monkeypatch.setattr(type(challenger.policy), "rule", failing_for(challenger.policy))
        else:
            monkeypatch.setattr(challenger.model, "explain", fail)
        sent: list[Transaction] = [card(runtime, f"p{n}", n) for n in range(40)]
        answers = await decide_on(runtime, sent)
        assert "ZeroDivisionError" in (runtime.problem_with_experiment("new") or "")
        runtime.metrics.refresh()
        assert runtime.metrics.experiment_failures == 1
        return answers

    def failing_for(policy: Any) -> Any:
        sound = type(policy).rule

        def rule(self: Any, *given: Any, **named: Any) -> Any:
            return fail() if self is policy else sound(self, *given, **named)

        return rule

    answers = within(settings, claim)
    assert {(a["model_version"], a["decision"] == "decline") for a in answers} == {("1", False)}
    assert all(not any(g.columns.deciders) for g in groups_of(settings))
