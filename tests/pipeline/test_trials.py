"""A candidate's wait: its last night is looked at, and what was let through once has an end."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from sentinel.features.plan.plan import DAY_US
from sentinel.models.line_guard import LineFigure
from sentinel.models.noninferiority import NIGHTS, SPENT, Look, PairedPrecision
from sentinel.models.procedure import Procedure
from sentinel.pipeline.trials import Trial, Trials
from sentinel.settings import Settings

EQUAL = PairedPrecision(
    candidate=0.5,
    reference=0.5,
    difference_error=0.02,
    shortfall_error=0.02,
    skewness=0.0,
    margin=0.1,
    frauds=80,
    effective_frauds=60.0,
)
"""2.5 standard errors above the margin: enough once all error may be spent, and not before."""

PASSING = Look(night=3, information=20.0, spent=SPENT, z=3.0, bound=1.96)

PROCEDURE = Procedure(
    trainer="lightgbm",
    parameters={},
    plan_hash="p",
    window_days=0.0,
    max_rows=1_000,
    maturity_days=None,
    alerts_per_1000=5.0,
    decline_precision=0.5,
)


def trial(*, opened_us: int = 0, looks: tuple[Look, ...] = (), reference: str = "1") -> Trial:
    return Trial(
        version="3",
        procedure=None,
        reference=reference,
        opened_us=opened_us,
        start_us=0,
        gap_us=None,
        looks=looks,
    )


def kept(settings: Settings, one: Trial) -> Trials:
    folder = settings.workspace / "trials" / f"{one.version}-{one.reference}-{one.opened_us}"
    folder.mkdir(parents=True)
    trials = Trials(settings)
    trials.keep(folder, one)
    return trials


@pytest.mark.parametrize("last", [NIGHTS - 1, NIGHTS + 1], ids=["in time", "after missed nights"])
def test_the_last_nights_look_spends_the_error_that_is_left(last: int) -> None:
    waits = trial().after_night(EQUAL, (), 10 * DAY_US)
    assert (waits.state, waits.ended, len(waits.looks)) == ("waits", False, 1)
    surer = PairedPrecision(**(vars(EQUAL) | {"shortfall_error": 0.0195}))
    passed = waits.after_night(surer, (), last * DAY_US)
    assert passed.looks[-1].spent == SPENT
    assert (passed.state, passed.ended) == ("passed", True)
    assert passed.after_night(surer, (), (last + 1) * DAY_US) == passed


def test_what_the_last_look_lets_through_is_still_held_against_its_lines() -> None:
    worse = LineFigure(name="alert_rate", candidate=0.02, reference=0.01, worse=True)
    refused = trial().after_night(EQUAL, (worse,), (NIGHTS - 1) * DAY_US)
    assert (refused.state, refused.refused) == ("refused", str(worse))


def test_a_last_night_without_any_fraud_ends_the_wait() -> None:
    waits = trial().after_night(None, (), (NIGHTS - 2) * DAY_US)
    assert waits == trial()
    refused = waits.after_night(None, (), (NIGHTS - 1) * DAY_US)
    assert (refused.state, refused.ended) == ("refused", True)


def test_nobody_is_refused_before_the_last_look(tmp_path: Path) -> None:
    one = msgspec.structs.replace(trial(), procedure=PROCEDURE)
    trials = kept(Settings(workspace=tmp_path), one)
    assert not trials.refused(PROCEDURE)
    found = trials.find("3", PROCEDURE, "1", 2 * NIGHTS * DAY_US)
    assert found is not None, "its last look is still to come"
    folder, waits = found
    trials.keep(folder, waits.after_night(None, (), 2 * NIGHTS * DAY_US))
    assert trials.refused(PROCEDURE)


def test_a_pass_holds_for_as_long_as_a_wait_lasts(tmp_path: Path) -> None:
    trials = kept(Settings(workspace=tmp_path), trial(looks=(PASSING,)))
    assert trials.find("3", None, "1", (NIGHTS - 1) * DAY_US) is not None
    assert trials.find("3", None, "1", NIGHTS * DAY_US) is None


def test_what_let_a_version_through_that_was_rolled_back_lets_no_other_through(
    tmp_path: Path,
) -> None:
    settings = Settings(workspace=tmp_path)
    passed = msgspec.structs.replace(trial(looks=(PASSING,)), procedure=PROCEDURE)
    other = msgspec.structs.replace(PROCEDURE, trainer="xgboost")
    trials = kept(settings, passed)
    kept(settings, msgspec.structs.replace(passed, version="2", procedure=other))
    trials.withdraw("5", PROCEDURE)  # a later model of the procedure
    assert trials.find("6", PROCEDURE, "1", DAY_US) is None
    assert trials.find("7", other, "1", DAY_US) is not None


def models_in(folder: Path) -> tuple[Path, Path]:
    """Folders of two models, told apart by a file."""
    for name in ("new", "old"):
        (folder / name).mkdir(parents=True)
        (folder / name / "model.txt").write_text(name)
    return folder / "new", folder / "old"


def test_a_trial_that_two_begin_at_once_is_one(tmp_path: Path) -> None:
    trials = Trials(Settings(workspace=tmp_path / "workspace"))
    new, old = models_in(tmp_path)
    trials.open(trial(opened_us=5), new, old)
    found = trials.find("3", None, "1", 5)
    assert found is not None
    folder, _ = found
    looked = msgspec.structs.replace(trial(opened_us=5), looks=(PASSING,))
    trials.keep(folder, looked)
    assert trials.open(trial(opened_us=5), new, old) == (folder, looked)
    assert trials.open(trial(opened_us=6), new, old) == (folder, looked)
    assert [one.name for one in (tmp_path / "workspace" / "trials").iterdir()] == ["3-1-5"]


def test_a_withdrawal_and_a_look_at_once_both_count(tmp_path: Path) -> None:
    settings = Settings(workspace=tmp_path)
    trials = kept(settings, trial(looks=(PASSING,)))
    found = trials.find("3", None, "1", DAY_US)
    assert found is not None
    folder, _ = found
    Trials(settings).withdraw("3", None)
    after = trials.update(folder, lambda one: one.after_night(None, (), DAY_US))
    assert after is not None
    assert after.withdrawn
    assert trials.find("3", None, "1", DAY_US) is None


def test_what_an_interruption_left_is_no_trial_and_is_deleted_at_the_next_beginning(
    tmp_path: Path,
) -> None:
    settings = Settings(workspace=tmp_path / "workspace")
    new, old = models_in(tmp_path)
    place = settings.workspace / "trials"
    for left in ("3-1-5", "4-1-0", ".4-1-0.deleted", ".3-1-5"):
        (place / left / "candidate").mkdir(parents=True)
    (place / ".4-1-0.deleted" / "trial.json").write_bytes(
        msgspec.json.encode(msgspec.structs.replace(trial(), version="4"))
    )
    trials = Trials(settings)
    assert trials.find("4", None, "1", 0) is None
    trials.open(trial(opened_us=5), new, old)
    assert sorted(one.name for one in place.iterdir()) == ["3-1-5"]
    found = trials.find("3", None, "1", 5)
    assert found is not None
    assert (found[0] / "candidate" / "model.txt").read_text() == "new"
    assert (found[0] / "reference" / "model.txt").read_text() == "old"
