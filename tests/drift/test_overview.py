"""What a reader of drift sees is what the monitor kept; what is missing is said with what to do."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt
import pytest
from rich.console import Console

from sentinel.cli.drift_report import drift_report
from sentinel.drift.bins import SCORE
from sentinel.drift.counting import count_cells
from sentinel.drift.day_bars import LARGE, day_bars, distance_words
from sentinel.drift.distances import payments_to_tell, stability_index
from sentinel.drift.estimates import LabelFree
from sentinel.drift.figures import Change, DriftOverview, FeatureDay, FeatureDrift, SeenChange
from sentinel.drift.notices import HOUR_US, Notice
from sentinel.drift.overview import DriftView
from sentinel.drift.report_page import drift_page
from sentinel.drift.rows import Step, StreamRow, Tally
from sentinel.drift.segments import members
from sentinel.drift.store import DriftStore, open_drift
from sentinel.pipeline.drift_status import status_of
from sentinel.settings import Settings
from testkit.drifting_log import NAMES, SEGMENTS, START_HOUR, reference_of, vectors_of

REFERENCE = reference_of()
DAYS = 9
NOW_US = (START_HOUR + DAYS * 24) * HOUR_US
CHANGE = Change(
    feature="risk",
    segment="all payments",
    at_hour=START_HOUR + 100,
    since_hour=START_HOUR + 72,
    question="risk above 0.7",
    was=0.25,
    now=0.5,
    total_variation=0.3,
    stability_index=0.4,
    jensen_shannon=0.05,
    kolmogorov_smirnov=0.3,
    missing_was=0.05,
    missing_now=0.05,
    new_was=0.0,
    new_now=0.0,
    events=3_000,
    evidence=12.0,
)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[DriftStore]:
    found = open_drift(Settings(workspace=tmp_path / "workspace"))
    yield found
    found.close()


def stream_of(problem: str = "") -> StreamRow:
    return StreamRow(
        id=1,
        model_name="sentinel-fraud",
        model_version="7",
        reference=REFERENCE.digest,
        first_sequence=1,
        last_sequence=DAYS * 24 * 60,
        tested_hour=START_HOUR + DAYS * 24 - 1,
        problem=problem,
    )


def filled(
    store: DriftStore, *, shift: float = 1.0, problem: str = "", last: int = DAYS * 24
) -> None:
    """The last hours of nine days of sixty payments an hour; from the fourth day on, risk moved."""
    hours = {}
    for hour in range(START_HOUR + DAYS * 24 - last, START_HOUR + DAYS * 24):
        random = np.random.default_rng(hour)
        X = vectors_of(random, 60, shift=shift if hour >= START_HOUR + 72 else 0.0)
        member = members(SEGMENTS, X, REFERENCE.bins.names)
        counts = np.zeros((len(SEGMENTS), REFERENCE.bins.cells), np.uint32)
        count_cells(REFERENCE.bins, X, member, counts)
        hours[1, hour] = member.sum(axis=0).astype(np.int64), counts
    store.keep(
        Step(
            begun=store.progress(),
            through=DAYS * 24 * 60,
            clock_us=NOW_US,
            streams=[stream_of(problem)],
            hours=hours,
            changes=[(1, CHANGE)],
            tallies={
                ("sentinel-fraud", "7", START_HOUR + DAYS * 24 - 1): Tally(counted=60, late=5),
                ("sentinel-fraud", "6", START_HOUR + DAYS * 24 - 1): Tally(counted=9),
                ("sentinel-fraud", "7", START_HOUR + DAYS * 24 - 2): Tally(counted=60, degraded=2),
                ("sentinel-fraud", "7", START_HOUR): Tally(late=1_000),
            },
        )
    )


def view_of(store: DriftStore) -> DriftView:
    return DriftView(store, lambda _: REFERENCE)


def test_without_a_monitor_it_says_how_to_start_one(store: DriftStore) -> None:
    found = view_of(store).overview(NOW_US)
    assert "`sentinel monitor`" in found.missing
    assert (found.features, found.changes, found.model_version) == ((), (), "")


def test_a_model_without_a_reference_says_where_one_comes_from(store: DriftStore) -> None:
    filled(store, problem="its folder is not here; `sentinel follow` fetches it")
    found = view_of(store).overview(NOW_US)
    assert found.missing.endswith("not here; `sentinel follow` fetches it."), "and no other advice"
    assert found.features == ()


def test_a_folder_that_is_not_here_is_said(store: DriftStore) -> None:
    filled(store)
    found = DriftView(store, lambda _: None).overview(NOW_US)
    assert "The folder of version 7 is not here" in found.missing


def test_the_feature_that_moved_comes_first_with_its_days(store: DriftStore) -> None:
    filled(store)
    found = view_of(store).overview(NOW_US)
    assert (found.missing, found.model_version) == ("", "7")
    assert {one.feature for one in found.features} == {*NAMES, SCORE}
    risk = found.features[0]
    assert risk.feature == "risk"
    assert risk.changed == ("all payments",)
    assert risk.stability_index > 0.2
    # The days of before the change are near the reference, those since then are not.
    by_day = [day.stability_index for day in risk.days]
    assert max(by_day[:3]) < 0.05 < 0.2 < min(by_day[-5:])
    assert sum(day.payments for day in risk.days) == DAYS * 24 * 60
    amount = next(one for one in found.features if one.feature == "amount")
    assert amount.stability_index < 0.02
    assert found.payments == 7 * 24 * 60 or found.payments == sum(
        day.payments for day in amount.days[-7:]
    )


def test_decisions_that_are_in_no_figure_are_said_with_the_reason(store: DriftStore) -> None:
    filled(store)
    found = view_of(store).overview(NOW_US)
    words = (
        "Decisions of the last day: 127, of them 2 degraded, 5 late, which are not counted. "
        "A decision is late if the hour of its payment was closed when it came in, "
        "`drift.late_minutes` after its end, whether or not that hour was tested."
    )
    assert found.left_out_words == words
    page = drift_page(found, shares={}, moved=0.0, estimate=None, made_us=NOW_US)
    assert words in page
    nothing = msgspec.structs.replace(found, left_out="")
    assert nothing.left_out_words == ""
    page = drift_page(nothing, shares={}, moved=0.0, estimate=None, made_us=NOW_US)
    assert "Decisions of the last day" not in page


def test_silences_and_plans_are_shown_at_the_changes_that_they_are_about(
    store: DriftStore,
) -> None:
    filled(store)
    window = {"said_at_us": 0, "from_us": 0, "until_us": NOW_US + HOUR_US, "by": "Ada"}
    store.add_notice(Notice(kind="plan", why="a new merchant", feature="risk", **window))  # type: ignore[arg-type]
    store.add_notice(Notice(kind="silence", why="a migration", segment="all*", **window))  # type: ignore[arg-type]
    found = view_of(store).overview(NOW_US)
    assert [(one.plan, one.silence) for one in found.changes] == [("a new merchant", "a migration")]
    assert [one.kind for one in found.notices] == ["plan", "silence"]


def test_a_feature_shows_its_histogram_beside_that_of_the_reference(store: DriftStore) -> None:
    filled(store)
    found = view_of(store).feature("risk", NOW_US)
    assert found is not None
    assert len(found.labels) == len(found.was) == len(found.now)
    assert found.labels[0] == "unknown"
    assert sum(found.was) == pytest.approx(1.0)
    assert sum(found.now) == pytest.approx(1.0)
    assert found.now[-1] > found.was[-1] + 0.1
    assert [one.change.feature for one in found.changes] == ["risk"]
    assert view_of(store).feature("no such feature", NOW_US) is None


def test_hours_that_became_days_give_the_same_figures(store: DriftStore) -> None:
    filled(store)
    before = view_of(store).overview(NOW_US)
    while store.compact(stream_of(), before_hour=START_HOUR + 6 * 24):
        pass
    assert view_of(store).overview(NOW_US) == before


def test_the_page_holds_itself_and_says_what_is_known(store: DriftStore) -> None:
    filled(store)
    store.add_notice(
        Notice(
            kind="plan",
            why="<b>a release</b>",
            by="Ada",
            said_at_us=0,
            from_us=0,
            until_us=NOW_US,
        )
    )
    estimate = LabelFree(
        status="not estimable", why="Too few.", figures=None, payments=1, known_frauds=0.0
    )
    page = drift_page(
        view_of(store).overview(NOW_US),
        shares={"risk": 0.004, "amount": 0.0},
        moved=0.005,
        estimate=estimate,
        made_us=NOW_US,
    )
    assert "<h1>Drift of version 7</h1>" in page
    assert "25.0% &rarr; 50.0%" in page
    assert "80%" in page  # of the score's move
    assert "Not estimable. Too few." in page
    assert "&lt;b&gt;a release" in page
    assert "<b>a release" not in page
    assert "http" not in page.replace("http-equiv", "")


def test_a_page_shows_the_first_changes_and_the_others_when_they_are_asked_for() -> None:
    many = [
        SeenChange(
            change=msgspec.structs.replace(
                CHANGE, feature=f"feature_{n}", question=f"feature_{n}: 7 and above"
            ),
            model_version="7",
        )
        for n in range(50)
    ]
    found = DriftOverview(model_version="7", tested_until_us=NOW_US, changes=tuple(many))
    page = drift_page(found, shares={}, moved=0.0, estimate=None, made_us=NOW_US)
    at_once, _, asked_for = page.partition("<details>")
    assert "30 more" in asked_for
    assert [at_once.count(f"feature_{n}<") for n in (0, 19, 20)] == [1, 1, 0]
    assert asked_for.count("feature_49<") == 1
    # The row says which feature it is about; what moved need not say so again.
    assert "<td class=said>7 and above: 25.0%" in page


def test_the_first_payment_of_a_deployment_is_no_distance() -> None:
    """Nothing is usual yet, and one payment lies far away from any reference."""
    first = FeatureDay(day=20_000, payments=1, stability_index=11.8, missing=0.0, few=True)
    bars, top = day_bars([first], ("hot", "few"))
    assert top == LARGE
    assert 'class="few"' in bars
    full = FeatureDay(day=20_000, payments=400, stability_index=0.5, missing=0.0)
    bars, top = day_bars([full], ("hot", "few"))
    assert top == 0.5
    assert 'class="hot"' in bars


@pytest.mark.parametrize(
    ("last", "said"),
    [(1, "fewer than "), (11, "payments of fewer than 12 hours"), (12, "")],
)
def test_the_first_hours_of_a_deployment_are_no_distance(
    store: DriftStore, last: int, said: str
) -> None:
    filled(store, last=last)
    found = view_of(store).overview(NOW_US)
    assert found.payments == last * 60
    for one in found.features:
        assert one.too_few.startswith(said)
        assert bool(one.too_few) == bool(said)
        assert [day.few for day in one.days] == [bool(said)]
        words = distance_words(one)
        assert words.startswith("PSI") == (not said)
    page = drift_page(found, shares={}, moved=0.0, estimate=None, made_us=NOW_US)
    assert ('class="hot"' in page) == (not said)


def test_so_many_payments_seldom_lie_so_far_away() -> None:
    random = np.random.default_rng(1)
    for cells in (5, 20, 200):
        for evenness in (50.0, 5.0, 1.0):
            shares = random.dirichlet(np.full(cells, evenness), size=20)
            n = payments_to_tell(cells, LARGE)

            def far(n: int, shares: npt.NDArray[np.float64] = shares) -> float:
                drawn = [random.multinomial(n, share, size=200) for share in shares]
                apart = [stability_index(share, d) for share, d in zip(shares, drawn, strict=True)]
                return float(np.mean(np.array(apart) > LARGE))

            assert far(n) < 0.05 < far(n // 3), (cells, evenness, n)


def test_a_day_of_few_payments_does_not_hide_the_others() -> None:
    """A day that has just begun lies far away by chance."""
    days = [
        FeatureDay(day=20_000 + n, payments=400, stability_index=0.1, missing=0.0) for n in range(6)
    ]
    begun = FeatureDay(day=20_006, payments=12, stability_index=2.4, missing=0.0, few=True)
    one = FeatureDrift(
        feature="risk",
        stability_index=0.1,
        jensen_shannon=0.1,
        kolmogorov_smirnov=0.1,
        missing_was=0.0,
        missing_now=0.0,
        new_was=0.0,
        new_now=0.0,
        changed=(),
        days=(*days, begun),
    )
    found = DriftOverview(model_version="7", tested_until_us=NOW_US, features=(one,))
    page = drift_page(found, shares={"risk": -1e-7}, moved=0.005, estimate=None, made_us=NOW_US)
    assert page.count('style="height:50%"') == 6
    assert '<i class="few" style="height:100%"' in page
    assert "top 0.20" in page
    assert "-0%" not in page


def test_the_screen_says_how_many_changes_it_leaves_out(store: DriftStore, tmp_path: Path) -> None:
    filled(store)
    status = status_of(Settings(workspace=tmp_path / "workspace"), store, NOW_US)
    one = status.changes[0]
    feature = "customer_merchant_seconds_since_last"
    named = msgspec.structs.replace(
        one, change=msgspec.structs.replace(one.change, feature=feature)
    )
    said = io.StringIO()
    drift_report(
        Console(file=said, width=80), msgspec.structs.replace(status, changes=(named,) * 30)
    )
    assert "These are the latest 20: `sentinel drift report`" in said.getvalue()
    # A long name goes on in the next line, and is not cut.
    assert "…" not in said.getvalue()


def test_a_page_without_anything_known_still_says_what_to_do() -> None:
    empty = DriftOverview(missing="No monitor has followed the log yet.")
    page = drift_page(empty, shares={}, moved=0.0, estimate=None, made_us=NOW_US)
    assert "No monitor has followed the log yet." in page
    assert "Nothing was tested yet." in page
    assert "No change was found." not in page
