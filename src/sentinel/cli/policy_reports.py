"""A policy, what it does and what is not known of it, for people. Tables fit 80 columns."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from sentinel.policy.economics import NO_REVIEWS
from sentinel.policy.figures import LINE_FIGURES

if TYPE_CHECKING:
    from sentinel.models.intervals import Estimate
    from sentinel.policy.economics import Costs
    from sentinel.policy.previewed import Preview
    from sentinel.policy.versions import PolicyVersion
    from sentinel.policy.working_out import Workings
    from sentinel.settings import MoneySettings


def money(minor: float, settings: MoneySettings) -> str:
    """An amount with its currency."""
    return f"{minor / 10**settings.scale:,.{settings.scale}f} {settings.currency}"


def version_report(
    console: Console, version: PolicyVersion | None, settings: MoneySettings
) -> None:
    """The version that holds."""
    if version is None:
        console.print(
            "Nobody has set a policy: the lines of the model hold, and nothing is let through. "
            "`sentinel policy preview FILE` says what costs of yours would do.",
            soft_wrap=True,
            markup=False,
        )
        return
    terms = version.terms
    title = f"Policy version {version.version}, by {version.by}, {_time(version.at_us)}"
    table = Table(title=title, title_justify="left", caption=version.why, caption_justify="left")
    table.add_column("")
    table.add_column("", justify="right")
    if terms.costs is None:
        table.add_row("rules by", "lines" if terms.bands else "the lines of the model")
        if terms.bands is not None:
            table.add_row("review from", f"{terms.bands.review:.4f}")
            table.add_row("decline from", f"{terms.bands.decline:.4f}")
    else:
        for name, value in _costs(terms.costs, settings):
            table.add_row(name, value)
        for segment in terms.segments:
            of = f"{segment.field} = {', '.join(segment.values)}"
            table.add_row(f"segment {segment.name}", of)
            for name, value in _costs(segment.costs, settings):
                table.add_row(f"  {name}", value)
        per_day = terms.reviews_per_day
        table.add_row("reviews a day", "no bound" if per_day is None else f"{per_day:,.0f}")
        price = version.shadow_price_minor
        table.add_row(
            "price of a review",
            "nobody reviews" if price >= NO_REVIEWS else money(price, settings),
        )
    exploring = terms.exploring
    if exploring is None:
        table.add_row("control group", "no budget: off")
    else:
        table.add_row(
            "control group may cost", f"{money(exploring.budget_minor, settings)} a month"
        )
        table.add_row("lets through", f"{100 * version.share:.2f} % of what is stopped")
        if exploring.most_amount_minor is not None:
            table.add_row("up to an amount of", money(exploring.most_amount_minor, settings))
        if exploring.most_count is not None:
            table.add_row(f"up to {exploring.count_feature}", f"{exploring.most_count:g}")
    console.print(table)


def workings_report(
    console: Console, found: Workings, settings: MoneySettings, *, allowed: bool
) -> None:
    """What was worked out of the last days, and what cannot be known.

    Args:
        console: Where to.
        found: What was worked out.
        settings: Of money.
        allowed: Whether a budget for the control group is set.
    """
    console.print(
        f"Of {found.payments:,.0f} payments of {_span(found.days)}: "
        f"{found.reviews_a_day:,.1f} reviews and {found.declines_a_day:,.1f} declines a day"
        + (
            f" ({found.reviews_wanted_a_day:,.1f} reviews would gain something); a review costs "
            f"{money(found.shadow_price_minor, settings)} of another one's time."
            if 0 < found.shadow_price_minor < NO_REVIEWS
            else "."
        ),
        soft_wrap=True,
        markup=False,
    )
    stopped = (
        f"{found.stopped_a_month:,.0f} payments of "
        f"{money(found.stopped_amount_minor, settings)} are stopped in 30 days"
    )
    if found.share > 0:
        console.print(
            f"{stopped}. The control group lets {100 * found.share:.2f} % of the "
            f"{found.eligible_a_month:,.0f} eligible ones through: {found.explored_a_month:,.1f} a "
            f"month for {money(found.cost_minor, settings)}, as expected. The share of fraud among "
            f"stopped payments is then known to within {found.half_width:.2f} a month later.",
            soft_wrap=True,
            markup=False,
        )
        return
    why = "the budget is 0" if allowed else "nobody has set a budget for a control group"
    offer = (
        f" {money(found.possible_cost_minor, settings)} a month would let "
        f"{found.possible_explored:,.1f} of them through ({100 * found.possible_share:.2f} %), and "
        f"tell the share of fraud among them to within {found.possible_half_width:.2f}."
        if found.possible_explored > 0
        else ""
    )
    console.print(
        f"{stopped}, and whether they are fraud cannot be known: {why}.{offer}",
        soft_wrap=True,
        markup=False,
    )


def preview_report(console: Console, found: Preview, settings: MoneySettings) -> None:
    """What a policy would do, beside the one in charge."""
    known = found.known
    if found.lines:
        table = Table(title="Lines by amount", title_justify="left")
        for name in ("segment", "amount", "review from", "decline from"):
            table.add_column(name, justify="left" if name == "segment" else "right")
        for line in found.lines:
            table.add_row(
                line.segment,
                money(line.amount_minor, settings),
                f"{line.review:.4f}",
                f"{line.decline:.4f}" if line.decline < 1 else "never",
            )
        console.print(table)
    if found.figures:
        table = Table(title="On mature truth, with 95 % intervals", title_justify="left")
        table.add_column("")
        table.add_column("this policy", justify="right")
        table.add_column("as decided", justify="right")
        for name in dict.fromkeys([*found.figures, *found.not_measured]):
            table.add_row(
                name.removesuffix("_minor").replace("_", " "),
                _figure(name, found.figures.get(name), settings),
                _figure(name, found.figures_now.get(name), settings),
            )
        console.print(table)
    if found.differences:
        table = Table(title="This policy minus as decided", title_justify="left")
        table.add_column("")
        table.add_column("difference", justify="right")
        for name, estimate in found.differences.items():
            shown = name.removesuffix("_minor").replace("_", " ")
            table.add_row(shown, _figure(name, estimate, settings))
        console.print(table)
        console.print(
            "Both are measured on the same draws of cards: a difference whose interval leaves "
            "out 0 is more than chance.",
            soft_wrap=True,
            markup=False,
        )
    by_reason: dict[str, list[str]] = {}
    for name, why in found.not_measured.items():
        by_reason.setdefault(why, []).append(name.removesuffix("_minor").replace("_", " "))
    for why, names in by_reason.items():
        if not found.figures:
            names = ["what the policy would have done on mature truth"]
        console.print(f"Unknown ({why}): {', '.join(names)}.", soft_wrap=True, markup=False)
    console.print(
        f"{known.mature:,.0f} mature payments ({known.source}) with {known.frauds:,} known frauds "
        f"({known.effective_frauds:,.0f} of equal weight); {known.unknown:,.0f} were stopped, so "
        "that nobody knows"
        + (
            f". Of the {known.explored:,} that were let through, {known.stopped_precision} were "
            "fraud."
            if known.explored
            else "; none was let through to find out."
        ),
        soft_wrap=True,
        markup=False,
    )
    if found.calibration:
        table = Table(title="Calibration at the lines", title_justify="left")
        for name in ("payments", "predicted", "observed"):
            table.add_column(name, justify="left" if name == "payments" else "right")
        for one in found.calibration:
            table.add_row(one.of, f"{one.predicted:.4f}", _share(one.observed))
        console.print(table)
    workings_report(console, found.workings, settings, allowed=found.terms.exploring is not None)


def history_report(
    console: Console, versions: Sequence[PolicyVersion], settings: MoneySettings
) -> None:
    """Who made each version, when and why."""
    table = Table(title="Policy, newest first", title_justify="left")
    for name in ("", "when", "by", "why", "share", "review"):
        table.add_column(name, justify="right" if name in ("", "share", "review") else "left")
    for version in versions:
        back = "" if version.restores is None else f" (as version {version.restores})"
        price = version.shadow_price_minor
        table.add_row(
            str(version.version),
            _time(version.at_us),
            version.by,
            version.why + back,
            f"{100 * version.share:.2f} %",
            "none" if price >= NO_REVIEWS else money(price, settings),
        )
    console.print(table)


def _costs(costs: Costs, settings: MoneySettings) -> list[tuple[str, str]]:
    return [
        ("a fraud loses of its amount", f"{100 * costs.lost_share:g} %"),
        ("and a fee of", money(costs.fee_minor, settings)),
        ("a false decline costs", money(costs.false_decline_minor, settings)),
        ("and of its amount", f"{100 * costs.false_decline_share:g} %"),
        ("a review costs", money(costs.review_minor, settings)),
        ("analysts pass of frauds", f"{100 * costs.missed_share:g} %"),
        ("analysts stop of good ones", f"{100 * costs.stopped_share:g} %"),
    ]


def _figure(name: str, estimate: Estimate | None, settings: MoneySettings) -> str:
    if estimate is None:
        return "unknown"
    if name in LINE_FIGURES:
        return _share(estimate)
    values = [money(value, settings) for value in (estimate.value, estimate.low, estimate.high)]
    short = [value.removesuffix(f" {settings.currency}") for value in values]
    return f"{short[0]} [{short[1]}, {short[2]}]"


def _share(estimate: Estimate) -> str:
    digits = 4 if abs(estimate.value) < 0.1 else 3
    low, high = f"{estimate.low:.{digits}f}", f"{estimate.high:.{digits}f}"
    return f"{estimate.value:.{digits}f} [{low}, {high}]"


def _span(days: float) -> str:
    """A length of time in days, hours or minutes.

    >>> _span(28.0), _span(0.2), _span(0.002)
    ('28.0 days', '4.8 hours', '2.9 minutes')
    """
    if days >= 1:
        return f"{days:.1f} days"
    return f"{24 * days:.1f} hours" if days >= 1 / 24 else f"{24 * 60 * days:.1f} minutes"


def _time(at_us: int) -> str:
    return f"{datetime.fromtimestamp(at_us / 1e6, UTC):%Y-%m-%d %H:%M}"
