"""The dashboard as somebody sees it: a real scorer, a real browser."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Locator, Page, expect

from testkit.browsing import SOON_MS
from testkit.servers import wait_until
from tests.dashboard.conftest import Stage
from tests.dashboard.stage import MODEL_VERSION

pytestmark = [pytest.mark.browser, pytest.mark.slow]

LARGEST = """charts => charts.map(chart => {
  const boxes = [...chart.querySelectorAll(".role-mark path")]
    .filter(mark => Number(getComputedStyle(mark).opacity) > 0.1)
    .map(mark => mark.getBBox());
  return [Math.max(0, ...boxes.map(b => b.width)), Math.max(0, ...boxes.map(b => b.height))];
})"""
"""The largest width and height of what each chart draws, in pixels."""


def figure(page: Page, label: str) -> Locator:
    """The value of one of the figures at the top."""
    return page.get_by_test_id("stMetric").filter(has_text=label).get_by_test_id("stMetricValue")


def rows(page: Page) -> Locator:
    return page.locator("tr[data-sequence]")


def one_row(page: Page, place: int) -> Locator:
    """The row that is at a place now, wherever newer ones move it."""
    sequence = rows(page).nth(place).get_attribute("data-sequence")
    return page.locator(f"tr[data-sequence='{sequence}']")


def test_it_shows_what_the_scorer_decided(
    page: Page, stage_with_payments: Stage, tmp_path: Path
) -> None:
    answers = stage_with_payments.answers
    newest = rows(page).first
    expect(newest).to_contain_text(str(answers[-1]["transaction_id"]), timeout=SOON_MS)
    expect(newest).to_contain_text(f"{100 * answers[-1]['fraud_probability']:.1f} %")
    expect(figure(page, "since the scorer's start")).to_have_text(f"{len(answers):,}")
    outcomes = [answer["decision"] for answer in answers]
    expect(figure(page, "Review and declined")).to_have_text(
        f"{outcomes.count('review')} + {outcomes.count('decline')}"
    )
    assert outcomes.count("approve") < len(outcomes), "the stage needs alerts"
    expect(page.get_by_test_id("stVegaLiteChart")).to_have_count(3)
    page.screenshot(path=tmp_path / "dashboard.png")
    assert (tmp_path / "dashboard.png").stat().st_size > 20_000


def test_every_chart_draws_something(page: Page, stage_with_payments: Stage) -> None:
    stage_with_payments.send(20)
    charts = page.get_by_test_id("stVegaLiteChart")
    expect(charts).to_have_count(3, timeout=SOON_MS)
    for span in ("15 min", "1 hour", "All"):
        page.get_by_text(span, exact=True).click()
        page.wait_for_timeout(3_000)  # one refresh, and the chart's own transition
        wait_until(lambda: draw_something(charts), 60, f"charts that draw something of {span}")


def draw_something(charts: Locator) -> bool:
    rate, pace, reasons = charts.evaluate_all(LARGEST)
    busiest_minute = pace[0] > 2 and pace[1] > 60
    return bool(max(rate) > 2 and busiest_minute and reasons[0] > 60)


def test_it_shows_the_model_in_charge_with_its_intervals(page: Page) -> None:
    model = page.locator(".st-key-model")
    expect(model).to_contain_text("stage-model")
    expect(model).to_contain_text(f"version {MODEL_VERSION}")
    expect(model).to_contain_text("Average precision")
    expect(model).to_contain_text("0.710")
    expect(model).to_contain_text("0.660 to 0.760")


def test_it_shows_how_each_part_is(page: Page, stage_with_payments: Stage) -> None:
    service = page.locator(".st-key-service")
    entries = len(stage_with_payments.answers)
    expect(service).to_contain_text(f"{entries:,} entries", timeout=SOON_MS)
    for part in ("Scoring API", "Model", "Feature state", "Ledger", "Query tables"):
        expect(service.locator(".s-ok").filter(has_text=part).first).to_be_visible()
    expect(page.get_by_text("All parts work")).to_be_visible()


def test_new_decisions_appear_by_themselves(page: Page, stage_with_payments: Stage) -> None:
    fresh = stage_with_payments.send(3)[-1]
    expect(rows(page).first).to_contain_text(str(fresh["transaction_id"]), timeout=SOON_MS)
    expect(figure(page, "since the scorer's start")).to_have_text(
        f"{len(stage_with_payments.answers):,}"
    )


def test_a_phone_shows_whole_decisions(
    page: Page, stage_with_payments: Stage, tmp_path: Path
) -> None:
    page.set_viewport_size({"width": 390, "height": 844})
    newest = rows(page).first
    expect(newest).to_contain_text(
        f"{100 * stage_with_payments.answers[-1]['fraud_probability']:.1f} %", timeout=SOON_MS
    )
    newest.scroll_into_view_if_needed()
    table = page.locator(".scroll").bounding_box()
    assert table is not None
    for badge in page.locator("tr[data-sequence] .badge").all()[:10]:
        box = badge.bounding_box()
        assert box is not None
        assert box["x"] + box["width"] <= table["x"] + table["width"] < 390
    page.screenshot(path=tmp_path / "phone.png")


def test_a_click_opens_a_payment_and_another_closes_it(
    page: Page, stage_with_payments: Stage
) -> None:
    row = one_row(page, 4)
    shown = row.locator(".transaction").text_content()
    sequence = row.get_attribute("data-sequence")
    row.click()
    detail = page.locator(".st-key-detail")
    expect(detail).to_contain_text(str(shown), timeout=SOON_MS)
    expect(detail).to_contain_text("Merchant")
    stage_with_payments.send(2)
    expect(page.locator(f"tr[data-sequence='{sequence}'].open")).to_be_visible(timeout=SOON_MS)
    expect(detail).to_contain_text(str(shown))
    detail.get_by_role("button", name="Close").click()
    expect(detail).to_have_count(0, timeout=SOON_MS)


def test_an_open_payment_shows_why_as_bars_from_the_expected_score_to_its_score(
    page: Page, stage_with_payments: Stage
) -> None:
    row = one_row(page, 2)
    name = row.locator(".transaction").text_content()
    row.click()
    detail = page.locator(".st-key-detail")
    bars = detail.locator(".s-step")
    asked = httpx.get(f"{stage_with_payments.server.url}/decisions/{name}/explanation", timeout=60)
    said = asked.json()
    assert said["reproduced"]["exact"]
    weighing = sum(one["contribution"] != 0 for one in said["features"][:10])
    # The expected score, the features that weigh, all others, and the score.
    expect(bars).to_have_count(weighing + 3, timeout=SOON_MS)
    expect(bars.nth(1)).to_contain_text(said["features"][0]["words"])
    expect(bars.last).to_contain_text(f"{said['score']:+.2f}")
    widths = bars.locator("i").evaluate_all("all => all.map(i => i.getBoundingClientRect().width)")
    assert max(widths) > 40
    detail.get_by_role("button", name="Close").click()
    expect(detail).to_have_count(0, timeout=SOON_MS)


def test_alerts_can_be_seen_alone(page: Page, stage_with_payments: Stage) -> None:
    alerts = [a for a in stage_with_payments.answers if a["decision"] != "approve"]
    page.get_by_role("radio", name="Alerts").or_(
        page.get_by_role("button", name="Alerts", exact=True)
    ).click()
    expect(rows(page).first).to_contain_text(str(alerts[-1]["transaction_id"]), timeout=SOON_MS)
    expect(page.locator("tr[data-sequence] .badge.approve")).to_have_count(0)


def test_it_says_when_the_scorer_is_away_and_goes_on_when_it_is_back(
    page: Page, stage_with_payments: Stage
) -> None:
    server = stage_with_payments.server
    server.kill()
    alert = page.get_by_test_id("stAlert")
    expect(alert).to_contain_text("does not answer", timeout=SOON_MS)
    expect(alert).to_contain_text("sentinel serve")
    server.start()
    expect(page.get_by_text("All parts work")).to_be_visible(timeout=SOON_MS)
    expect(alert).to_have_count(0)
    last = stage_with_payments.answers[-1]
    expect(rows(page).first).to_contain_text(str(last["transaction_id"]), timeout=SOON_MS)
