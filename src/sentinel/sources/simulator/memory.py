"""What decisions have changed in the simulated world: tries and labels that are still to come."""

from __future__ import annotations

from dataclasses import fields
from typing import Final

import msgspec
import numpy as np

from sentinel.domain import Label
from sentinel.sources.simulator.events import Events

COLUMNS: Final = tuple(item.name for item in fields(Events))


class Attempt(msgspec.Struct, frozen=True):
    """A payment that is made or tried again.

    Attributes:
        planned: Number of the payment that the world had planned.
        tries: How often that was tried before.
        columns: The payment, in the order of the fields of `Events`.
    """

    planned: int
    tries: int
    columns: tuple[int, ...]

    @property
    def transaction_id(self) -> str:
        """That of the planned payment, and the number of the try behind an ``r``.

        >>> Attempt(197440000000, 0, ()).transaction_id, Attempt(197440000000, 2, ()).transaction_id
        ('197440000000', '197440000000r2')
        """
        return f"{self.planned}r{self.tries}" if self.tries else str(self.planned)

    @property
    def events(self) -> Events:
        """The payment as arrays of length 1."""
        return Events(*(np.array([value], np.int64) for value in self.columns))

    def get(self, name: str) -> int:
        """A field of the payment."""
        return self.columns[COLUMNS.index(name)]

    def with_(self, **changes: int) -> Attempt:
        """The same payment with other fields."""
        values = dict(zip(COLUMNS, self.columns, strict=True)) | changes
        return Attempt(self.planned, self.tries, tuple(values.values()))


class Coming(msgspec.Struct, frozen=True):
    """Something that an answer of the world has set going: a try or a label.

    Attributes:
        due_us: When it happens, microseconds UTC.
        scenario: What is behind the payment that it is about.
        attempt: A payment that is tried again, None if it is a label.
        label: A label, None if it is a try.
    """

    due_us: int
    scenario: str
    attempt: Attempt | None = None
    label: Label | None = None

    @property
    def key(self) -> str:
        """The id of what comes."""
        if self.label is not None:
            return self.label.label_id
        return "" if self.attempt is None else self.attempt.transaction_id


class Memory(msgspec.Struct, kw_only=True):
    """What decisions have changed in the world so far: enough to go on from a later moment.

    Attributes:
        withheld: Planned payments that were declined or held for review, with their event times.
        stopped: Card and the moment from which it was stopped.
        left: Customers who have left for good, and when.
        coming: What will still happen, in no order.
    """

    withheld: dict[int, int] = {}
    stopped: list[tuple[int, int]] = []
    left: dict[int, int] = {}
    coming: list[Coming] = []
