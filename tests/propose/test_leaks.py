"""Columns that know the truth too early are named, and honest ones are not accused."""

from __future__ import annotations

import numpy as np

from sentinel.propose.deciding import decide
from sentinel.propose.roles import Answers
from sentinel.propose.trees import auc_with_bound, tree_scores
from tests.propose.tables import payments, profile, transfers


def with_column(values: list[str]) -> dict[str, list[str]]:
    columns = {k: v for k, v in payments().items() if k != "case_opened"}
    return {**columns, "extra": values}


def frauds() -> np.ndarray:
    return np.array([value == "1" for value in payments()["is_fraud"]])


def leaks(columns: dict[str, list[str]], answers: Answers | None = None) -> set[str]:
    return {leak.column for leak in decide(profile(columns), answers or Answers()).leaks}


def test_a_number_that_tells_the_frauds_apart_is_a_suspect() -> None:
    noise = np.random.default_rng(1).random(3_000)
    assert leaks(with_column([f"{v:.4f}" for v in noise + 5 * frauds()])) == {"extra"}


def test_a_strong_but_honest_column_is_not_accused() -> None:
    rng = np.random.default_rng(1)
    strong = rng.normal(0, 1, 3_000) + 2.2 * frauds()
    assert not leaks(with_column([f"{v:.4f}" for v in strong]))
    often = np.where(rng.random(3_000) < np.where(frauds(), 0.9, 0.05), "abroad", "home")
    assert not leaks(with_column(often.tolist()))


def test_a_value_that_only_frauds_have_is_a_suspect() -> None:
    rng = np.random.default_rng(2)
    said = np.where(frauds() & (rng.random(3_000) < 0.6), "charged back", "fine")
    assert leaks(with_column(said.tolist())) == {"extra"}


def test_a_value_that_only_few_of_the_frauds_have_is_none() -> None:
    rng = np.random.default_rng(2)
    said = np.where(frauds() & (rng.random(3_000) < 0.3), "bot", "fine")
    assert not leaks(with_column(said.tolist()))


def test_that_there_is_a_value_can_be_the_leak() -> None:
    reference = [f"case {n}" if fraud else "" for n, fraud in enumerate(frauds().tolist())]
    assert leaks(with_column(reference)) == {"extra"}


def test_a_note_that_only_some_frauds_have_is_taken_and_doubted() -> None:
    rng = np.random.default_rng(3)
    noted = np.where(frauds() & (rng.random(3_000) < 0.35), "the bank called", "")
    everyday = np.where(rng.random(3_000) < 0.2, "gift", "")
    assert noted.astype(bool).sum() >= 20
    for values, doubted in ((noted, True), (everyday, False)):
        roles = decide(profile(with_column(values.tolist())), Answers())
        assert "extra" in {attribute.column for attribute in roles.attributes}
        assert any("known in time" in note for note in roles.notes) == doubted
    assured = decide(profile(with_column(noted.tolist())), Answers(use=("extra",)))
    assert not any("known in time" in note for note in assured.notes)


def test_a_date_that_only_frauds_have_is_a_suspect() -> None:
    assert leaks(payments()) == {"case_opened"}


def test_of_two_balances_the_one_after_is_the_leak() -> None:
    roles = decide(profile(transfers()), Answers())
    assert {leak.column for leak in roles.leaks} == {"newbalanceOrig", "newbalanceDest"}
    neutral = {
        k.replace("newbalance", "b_").replace("oldbalance", "a_"): v for k, v in transfers().items()
    }
    roles = decide(profile(neutral), Answers(time=("step",), time_unit="h"))
    assert {leak.column for leak in roles.leaks} == {"b_Orig", "b_Dest"}


def test_the_user_can_take_a_suspect_in() -> None:
    roles = decide(profile(transfers()), Answers(use=("newbalanceOrig",)))
    assert "newbalanceOrig" in {a.column for a in roles.attributes}
    assert "newbalanceOrig" not in roles.left_out
    assert "newbalanceOrig" in {leak.column for leak in roles.leaks}


def test_the_lower_bound_needs_enough_frauds() -> None:
    score = np.arange(500.0)
    few, many = score >= 490, np.arange(20_000) >= 19_000
    few[455], many[18_000:18_020] = True, True
    assert auc_with_bound(score, few)[0] > 0.99
    assert auc_with_bound(score, few)[1] < 0.98
    assert auc_with_bound(np.arange(20_000.0), many)[1] > 0.98


def test_a_tree_of_depth_three_cuts_out_an_interval() -> None:
    x = np.linspace(0, 1, 4_000)
    fraud = (x > 0.4) & (x < 0.45)
    scores = tree_scores(x, fraud, np.arange(4_000) % 2 == 0)
    assert auc_with_bound(scores, fraud)[0] > 0.99
