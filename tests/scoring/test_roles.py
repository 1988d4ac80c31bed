"""Many models score one payment: one decides, the log holds them all, and none can harm it."""

from __future__ import annotations

import asyncio
import shutil
import time
from collections.abc import Callable
from typing import Any

import msgspec
import numpy as np
import pytest

from sentinel.domain import Transaction
from sentinel.experiments.assignment import draw, unit_of
from sentinel.experiments.lineup import Experiment
from sentinel.ledger.index import LedgerIndex
from sentinel.ledger.sqlite import SqliteLedger
from sentinel.log.entries import FLAG_DEGRADED, DecisionGroup, GroupKind, decode_decisions
from sentinel.models.serving import serving_of
from sentinel.models.thresholds import Thresholds
from sentinel.policy.exploration import ControlGroup, ExplorationKey
from sentinel.policy.ruling import Policy
from sentinel.scoring.champions import WarmModels
from sentinel.scoring.lineups import LineUpInCharge
from sentinel.scoring.panel import Panel, PanelModel
from sentinel.scoring.roles import score_roles, score_together
from sentinel.scoring.runtime import ScoringRuntime
from sentinel.scoring.scorer import Scorer
from sentinel.settings import LedgerSettings, Settings
from testkit.experiments import install_version, run_experiments
from tests.scoring.one_scorer import PLAN, decide, made, payment, settings, within

__all__ = ["made", "settings"]  # fixtures

NOTHING_PASSES = Thresholds(fraud=0.0, review=0.0, decline=0.0)
AB = Experiment(name="ab", kind="challenger", version="11", share=0.5)
SHADOW = Experiment(name="night", kind="shadow", version="12")


@pytest.fixture(scope="module", autouse=True)
def versions(made: Settings) -> None:
    install_version(made, PLAN, "11", lines=NOTHING_PASSES)
    install_version(made, PLAN, "12", verdict="candidate")
    install_version(made, PLAN, "13")


def card(runtime: ScoringRuntime, name: str, number: int, **changed: Any) -> Transaction:
    return msgspec.structs.replace(payment(runtime, name), customer_id=f"C{number}", **changed)


def groups_of(settings: Settings) -> list[DecisionGroup]:
    with SqliteLedger.open_reader(settings.ledger_path) as ledger:
        return [
            decode_decisions(group.payload)
            for group in ledger.groups(0)
            if group.kind == GroupKind.DECISIONS
        ]


async def until(true: Callable[[], bool]) -> float:
    began = time.perf_counter()
    while not true():
        assert time.perf_counter() < began + 30
        await asyncio.sleep(0.01)
    return time.perf_counter() - began


async def decide_on(runtime: ScoringRuntime, sent: list[Transaction]) -> list[dict[str, Any]]:
    answers = await asyncio.gather(*(decide(runtime, t) for t in sent))
    return [msgspec.json.decode(answer) for answer in answers]


def test_a_challenger_decides_on_its_share_and_the_log_holds_both_scores(
    settings: Settings,
) -> None:
    run_experiments(settings, AB, SHADOW)

    async def claim(runtime: ScoringRuntime) -> list[dict[str, Any]]:
        sent = [card(runtime, f"p{n}", n % 50) for n in range(200)]
        return await decide_on(runtime, sent)

    answers = {answer["transaction_id"]: answer for answer in within(settings, claim)}
    decided = 0
    for group in groups_of(settings):
        roles = {role.role: role for role in group.columns.roles}
        assert {name: role.model_version for name, role in roles.items()} == {
            "ab": "11",
            "night": "12",
        }
        said = {name: np.frombuffer(role.probabilities) for name, role in roles.items()}
        champion = np.frombuffer(group.probabilities)
        deciders = group.columns.deciders or bytes(len(group.transactions))
        for row, transaction in enumerate(group.transactions):
            answer = answers[transaction.transaction_id]
            taken = draw("ab", unit_of(transaction)) < 0.5
            assert deciders[row] == taken  # the first role, or the champion
            assert answer["model_version"] == ("11" if taken else "1")
            # The decider's probability is ruled on, by its own lines.
            mine = said["ab"][row] if taken else champion[row]
            assert answer["fraud_probability"] == mine
            if taken:
                assert answer["decision"] == "decline"
            assert np.isfinite(said["night"][row])
            decided += taken
    assert 60 < decided < 140


def test_a_stop_between_two_steps_of_a_batch_mixes_no_scores(settings: Settings) -> None:
    """A guardrail's thread may stop a model while a batch is being scored."""
    run_experiments(settings, AB, SHADOW)

    async def claim(runtime: ScoringRuntime) -> None:
        scorer = runtime.writer.scorer
        panel, sent = scorer.panel, [card(runtime, f"p{n}", n) for n in range(40)]
        vectors = scorer.state.peek(sent).vectors
        said = score_together(panel, vectors)
        assert said is not None
        given = (panel, vectors, said.scores[0], said.probabilities[0], sent)
        before = score_roles(*given, said=said)
        panel.failed["ab"] = "it was stopped"
        after = score_roles(*given, said=said)
        assert before is not None
        assert after is not None
        assert after.models == before.models
        assert after.probabilities.tobytes() == before.probabilities.tobytes()
        later = score_roles(*given, said=score_together(panel, vectors))
        assert later is not None
        assert [model.name for model in later.models] == ["night"]
        assert later.probabilities[1].tobytes() == before.probabilities[2].tobytes()

    within(settings, claim)


def test_what_is_stopped_decides_no_more_while_a_champion_takes_long(settings: Settings) -> None:
    """A state is opened for minutes beside the one that serves; nobody waits for that."""
    run_experiments(settings, AB, SHADOW)

    async def claim(runtime: ScoringRuntime) -> list[dict[str, Any]]:
        late = await asyncio.to_thread(runtime._loader.load, PLAN)
        async with runtime._plans.changing:  # as while a new champion's plan is opened
            other = Experiment(name="other", kind="shadow", version="13")
            await asyncio.to_thread(run_experiments, settings, AB, SHADOW, other)
            await until(lambda: runtime.line_ups.line_up.find("other") is not None)
            await asyncio.to_thread(run_experiments, settings, SHADOW, other)
            await until(lambda: "ab" in runtime.writer.scorer.panel.failed)
            assert late is not None
            state = await asyncio.to_thread(runtime._states.open, PLAN)
            await runtime._plans.take_over_state(Scorer(state, late.panel, late.policy, late.key))
            answers = await decide_on(runtime, [card(runtime, f"p{n}", n) for n in range(40)])
        await until(lambda: len(runtime.writer.scorer.panel.others) == 2)
        return answers

    assert {answer["model_version"] for answer in within(settings, claim)} == {"1"}


def test_what_is_stopped_and_begun_anew_while_models_load_decides_no_more(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    started = msgspec.structs.replace(AB, started_at_us=1)
    again = msgspec.structs.replace(AB, version="13", started_at_us=2)
    run_experiments(settings, started)

    def panel() -> Panel:
        """Of models one of which takes long."""
        models = WarmModels(settings)
        line_ups = LineUpInCharge(settings, models)
        line_ups.start()
        member = line_ups._member

        def slow(experiment: Experiment, *about: Any) -> PanelModel:
            made = member(experiment, *about)
            run_experiments(settings, again)
            assert line_ups.look()
            return made

        monkeypatch.setattr(line_ups, "_member", slow)
        champion = serving_of(settings)
        assert champion is not None
        found = line_ups.panel(models.load(champion.champion), Policy)
        line_ups.ask_no_more(found)
        line_ups.close()
        return found

    found = panel()
    assert [other.model.version for other in found.others] == ["11"]
    assert found.line_up.experiments == (started,)
    assert found.failed == {"ab": "it was stopped"}


def test_the_queryable_tables_and_a_repeat_give_the_deciders_answer(settings: Settings) -> None:
    run_experiments(settings, msgspec.structs.replace(AB, share=0.95))

    async def claim(runtime: ScoringRuntime) -> dict[str, dict[str, Any]]:
        sent = [card(runtime, f"p{n}", n) for n in range(40)]
        first = await asyncio.gather(*(decide(runtime, t) for t in sent))
        assert await asyncio.gather(*(decide(runtime, t) for t in sent)) == first
        return {t.transaction_id: msgspec.json.decode(a) for t, a in zip(sent, first, strict=True)}

    answers = within(settings, claim)
    with SqliteLedger.open_reader(settings.ledger_path) as ledger:
        index = LedgerIndex(settings.index_path, ledger)
        index.catch_up()
        for name, answer in answers.items():
            found = index.decision_row(name)
            assert found is not None
            assert found.model_version == answer["model_version"]
            assert found.fraud_probability == answer["fraud_probability"]
        index.close()
    assert {answer["model_version"] for answer in answers.values()} == {"1", "11"}


def test_a_segment_model_decides_where_its_condition_holds_and_no_challenger_does(
    settings: Settings,
) -> None:
    segment = Experiment(
        name="online", kind="segment", version="13", condition='attributes.channel == "web"'
    )
    run_experiments(settings, msgspec.structs.replace(AB, share=0.95), segment)

    async def claim(runtime: ScoringRuntime) -> list[tuple[Transaction, dict[str, Any]]]:
        sent = [
            card(runtime, f"p{n}", n, attributes={"channel": "web" if n % 3 else "pos"})
            for n in range(60)
        ]
        return list(zip(sent, await decide_on(runtime, sent), strict=True))

    for transaction, answer in within(settings, claim):
        if transaction.attributes["channel"] == "web":
            assert answer["model_version"] == "13"
        else:
            taken = draw("ab", unit_of(transaction)) < 0.95
            assert answer["model_version"] == ("11" if taken else "1")
    for group in groups_of(settings):
        by_name = {role.role: np.frombuffer(role.probabilities) for role in group.columns.roles}
        scored = [t.attributes["channel"] == "web" for t in group.transactions]
        np.testing.assert_array_equal(np.isfinite(by_name["online"]), scored)


def test_a_line_up_is_taken_within_a_second_and_left_again(settings: Settings) -> None:
    async def claim(runtime: ScoringRuntime) -> None:
        assert runtime.writer.scorer.panel.others == ()
        for line_up, names in (((AB, SHADOW), ["ab", "night"]), ((SHADOW,), ["night"]), ((), [])):
            await asyncio.to_thread(run_experiments, settings, *line_up)
            wanted = list(names)
            took = await until(
                lambda: [o.name for o in runtime.writer.scorer.panel.others] == wanted  # noqa: B023
            )
            assert took < 1.0
        await decide(runtime, card(runtime, "alone", 1))

    within(settings, claim)
    (group,) = groups_of(settings)
    assert group.columns.roles == ()
    assert group.columns.deciders == b""


def test_a_role_whose_scoring_raises_drops_out_and_no_payment_with_it(settings: Settings) -> None:
    run_experiments(settings, msgspec.structs.replace(AB, share=0.95), SHADOW)

    def fail(vectors: object) -> None:
        raise ZeroDivisionError("a model that was never tried")

    async def claim(runtime: ScoringRuntime) -> list[dict[str, Any]]:
        panel = runtime.writer.scorer.panel
        assert panel.together is not None
        assert len(panel.together.models) == 3  # they score in one call, while none fails
        panel.together.scorers.score = fail  # type: ignore[method-assign, assignment]
        panel.others[0].model.score = fail  # type: ignore[method-assign, assignment]
        answers = await decide_on(runtime, [card(runtime, f"p{n}", n) for n in range(20)])
        assert "ZeroDivisionError" in (runtime.problem_with_experiment("ab") or "")
        assert runtime.problem_with_experiment("night") is None
        return answers + await decide_on(runtime, [card(runtime, f"q{n}", n) for n in range(20)])

    assert {answer["model_version"] for answer in within(settings, claim)} == {"1"}
    assert [role.role for role in groups_of(settings)[-1].columns.roles] == ["night"]


@pytest.mark.parametrize(
    ("experiment", "message"),
    [
        (msgspec.structs.replace(AB, version="77"), "version 77 is not here yet"),
        # A candidate may look on, and may not decide.
        (msgspec.structs.replace(AB, version="12"), "signed as a candidate only"),
    ],
)
def test_a_model_that_may_not_score_leaves_the_payments_to_the_champion(
    settings: Settings, experiment: Experiment, message: str
) -> None:
    run_experiments(settings, experiment, SHADOW)

    async def claim(runtime: ScoringRuntime) -> list[dict[str, Any]]:
        assert message in (runtime.problem_with_experiment("ab") or "")
        return await decide_on(runtime, [card(runtime, f"p{n}", n) for n in range(10)])

    assert {answer["model_version"] for answer in within(settings, claim)} == {"1"}


def test_a_version_that_arrives_later_scores_from_then_on(
    made: Settings, settings: Settings
) -> None:
    run_experiments(settings, msgspec.structs.replace(SHADOW, version="21"))

    async def claim(runtime: ScoringRuntime) -> None:
        assert runtime.writer.scorer.panel.others == ()
        await asyncio.to_thread(install_version, made, PLAN, "21")
        await until(lambda: len(runtime.writer.scorer.panel.others) == 1)
        assert runtime.problem_with_experiment("night") is None

    within(settings, claim)


def test_decisions_of_the_first_format_have_no_roles_and_say_why(settings: Settings) -> None:
    old = settings.model_copy(update={"ledger": LedgerSettings(group_format=1)})
    run_experiments(old, AB)

    async def claim(runtime: ScoringRuntime) -> None:
        assert "cannot say who decided" in (runtime.problem_with_experiment("ab") or "")
        await decide(runtime, card(runtime, "p", 1))

    within(old, claim)


def test_the_control_group_lets_through_of_what_a_challenger_stops(settings: Settings) -> None:
    run_experiments(settings, AB)
    key = ExplorationKey(b"0123456789abcdef")

    async def claim(runtime: ScoringRuntime) -> list[Transaction]:
        before = runtime.writer.scorer
        policy = Policy(Thresholds(fraud=2, review=2, decline=2), control=ControlGroup(share=0.05))
        other = Policy(NOTHING_PASSES, control=policy.control)
        panel = before.panel.with_lines(lambda _: other)
        runtime.writer.take_over(Scorer(before.state, panel, policy, key))
        sent = [card(runtime, f"p{n}", n) for n in range(400)]
        await decide_on(runtime, sent)
        return sent

    sent = within(settings, claim)
    taken = {t.transaction_id for t in sent if draw("ab", unit_of(t)) < 0.5}
    passed = {t.transaction_id for t in sent if t.transaction_id in taken and key.draw(t) < 0.05}
    assert passed
    for group in groups_of(settings):
        n = len(group.transactions)
        propensity, eligible = (
            group.columns.propensity_array(n),
            group.columns.eligible_array(n),
        )
        outcomes = group.flag_array() & 3
        for row, transaction in enumerate(group.transactions):
            name = transaction.transaction_id
            assert eligible[row] == (name in taken)
            assert group.base_outcome_codes()[row] == (2 if name in taken else 0)
            assert outcomes[row] == (2 if name in taken - passed else 0)
            wanted = (0.05 if name in passed else 0.95) if name in taken else 1.0
            assert propensity[row] == np.float32(wanted)


def test_a_degraded_decision_keeps_its_decider_and_the_rule_for_degraded_ones(
    settings: Settings,
) -> None:
    run_experiments(settings, msgspec.structs.replace(AB, share=0.95))

    async def claim(runtime: ScoringRuntime) -> None:
        scorer = runtime.writer.scorer
        sent = [card(runtime, f"p{n}", n) for n in range(30)]
        scored = scorer.decide_without_state(sent)
        assert (scored.flags & FLAG_DEGRADED > 0).all()
        assert (scored.flags & 3 == 0).all()  # approved, whatever the lines of the challenger
        assert [scored.decider(row).version for row in range(30)] == [
            scorer.peek(sent).decider(row).version for row in range(30)
        ]

    within(settings, claim)


def test_state_is_the_same_after_a_restart_with_roles(settings: Settings) -> None:
    run_experiments(settings, AB, SHADOW)

    async def claim(runtime: ScoringRuntime) -> bytes:
        await decide_on(runtime, [card(runtime, f"p{n}", n % 9) for n in range(100)])
        probe = card(runtime, "probe", 3)
        probe = msgspec.structs.replace(probe, event_time_us=probe.event_time_us + 1_000_000)
        kept.append(probe)
        return runtime.writer.scorer.peek([probe]).vectors.tobytes()

    async def again(runtime: ScoringRuntime) -> bytes:
        return runtime.writer.scorer.peek(kept).vectors.tobytes()

    kept: list[Transaction] = []
    before = within(settings, claim)
    shutil.rmtree(settings.state_dir)
    assert within(settings, again) == before
