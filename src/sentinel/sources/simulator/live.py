"""What happens in the simulated world, one event after the other: payments, and labels of them."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from sentinel.domain import ENTITY_COLUMNS, Label, Transaction, Verdict
from sentinel.log.schema import ATTRIBUTE_PREFIX
from sentinel.sources.simulator.arrow import ATTRIBUTES, Ids, label_rows, transaction_rows
from sentinel.sources.simulator.catalogue import SCENARIOS
from sentinel.sources.simulator.config import SimulatorConfig
from sentinel.sources.simulator.events import Events
from sentinel.sources.simulator.population import Population


class LiveEvent(msgspec.Struct, frozen=True, kw_only=True):
    """Something that happens in live traffic: a payment, or a label that arrives.

    Attributes:
        due_us: When it happens, microseconds UTC; never decreases.
        entry: The payment or the label. A payment's ``received_at_us`` is its event time.
        scenario: What is behind the payment (or the one that the label is about):
            "legitimate", or the kind of fraud. Ground truth that a model must not see.
    """

    due_us: int
    entry: Transaction | Label
    scenario: str

    @property
    def is_fraud(self) -> bool:
        """Whether the payment really is fraud, whatever the label says."""
        return self.scenario != SCENARIOS[0]


def live_payments(
    events: Events, ids: Ids, config: SimulatorConfig, population: Population
) -> Iterator[LiveEvent]:
    """Payments as live traffic, in the order of the arrays."""
    rows = transaction_rows(events, ids, config, population)
    for row, code in zip(rows.to_pylist(), events.scenario.tolist(), strict=True):
        payment = Transaction(
            transaction_id=row["transaction_id"],
            event_time_us=row["event_time_us"],
            received_at_us=row["event_time_us"],
            amount_minor=row["amount_minor"],
            **{name: row[name] for name in ENTITY_COLUMNS},
            attributes={
                name: row[ATTRIBUTE_PREFIX + name]
                for name in ATTRIBUTES
                if row[ATTRIBUTE_PREFIX + name] is not None
            },
        )
        yield LiveEvent(due_us=payment.event_time_us, entry=payment, scenario=SCENARIOS[code])


def live_labels(events: Events, ids: Ids) -> list[LiveEvent]:
    """Claims on payments and their corrections, in the order of the payments."""
    scenarios = dict(zip(ids.astype(str).tolist(), events.scenario.tolist(), strict=True))
    found = []
    for row in label_rows(events, ids).to_pylist():
        label = Label(**row | {"verdict": Verdict(row["verdict"])})
        scenario = SCENARIOS[scenarios[label.transaction_id]]
        found.append(LiveEvent(due_us=label.received_at_us, entry=label, scenario=scenario))
    return found
