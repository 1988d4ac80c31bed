"""What the control group costs, beside what it may cost, as Prometheus samples."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import msgspec
from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from sentinel.monitoring.families import families
from sentinel.monitoring.table import CONTROL_GROUP


class MonthOfControlGroup(msgspec.Struct, frozen=True, kw_only=True):
    """What the control group let through in 30 days.

    Attributes:
        expected_cost_minor: Amounts, each times its probability of fraud.
        realised_loss_minor: Amounts of those that labels call fraud by now.
        payments: How many, by what labels say: "fraud", "legitimate" or "unknown".
    """

    expected_cost_minor: float
    realised_loss_minor: int
    payments: Mapping[str, int]


class ControlGroupFigures(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of the control group.

    Attributes:
        budget_minor: What it may cost in 30 days, as expected; 0: none is allowed.
        months: By the days that they are of: "last" or "mature".
    """

    budget_minor: float
    months: Mapping[str, MonthOfControlGroup]


class ControlGroupMetrics(Collector):
    """Samples of the control group.

    Args:
        figures: Gives them; None before the log was read.
    """

    def __init__(self, figures: Callable[[], ControlGroupFigures | None]) -> None:
        self._figures = figures

    def collect(self) -> Iterable[Metric]:
        """Samples for a scrape."""
        now = self._figures()
        if now is None:
            return ()
        months = now.months.items()
        return families(
            CONTROL_GROUP,
            {
                "sentinel_control_group_budget_minor": now.budget_minor,
                "sentinel_control_group_expected_cost_minor": {
                    (days,): month.expected_cost_minor for days, month in months
                },
                "sentinel_control_group_realised_loss_minor": {
                    (days,): month.realised_loss_minor for days, month in months
                },
                "sentinel_control_group_payments": {
                    (days, truth): count
                    for days, month in months
                    for truth, count in month.payments.items()
                },
            },
        )
