"""How a model is made, apart from the data: what a gate approves, and a nightly training repeats.

Two models of one procedure differ in what they learnt from, and in nothing that anybody chose. So a
new model of an approved procedure needs no proof that it is good; any change of the procedure does.
"""

from __future__ import annotations

from typing import Final

import msgspec
import xxhash

_SAME_LENGTH: Final = (0.75, 1.34)


class Procedure(msgspec.Struct, frozen=True, kw_only=True):
    """What somebody chose of a model.

    Attributes:
        trainer: Which one.
        parameters: Its own settings, changes included; without the seed.
        plan_hash: The features.
        window_days: Days of history to learn from; 0: all that is mature.
        window_searched: Whether a search on validation folds chose that length, and not a person.
        max_rows: Most payments to fit on.
        maturity_days: How long after a payment its silence counts; None if as the labels show.
        alerts_per_1000, decline_precision: How lines are drawn where costs draw none.
        state_dropout: Share of the payments fitted on whose state is hidden.
    """

    trainer: str
    parameters: dict[str, str | float | int | bool]
    plan_hash: str
    window_days: float
    max_rows: int
    maturity_days: float | None
    alerts_per_1000: float
    decline_precision: float
    state_dropout: float = 0.0
    window_searched: bool = False

    @property
    def hash(self) -> str:
        """Sixteen hex digits that name it."""
        return xxhash.xxh3_64(msgspec.json.encode(self, order="sorted")).hexdigest()

    def is_that_of(self, other: Procedure) -> bool:
        """Whether two models were made alike.

        Lengths of history that a search chooses are a result, as the number of trees is, and
        differ from night to night; what somebody chose is to search. Other lengths are alike if
        they differ by less than a third.

        Args:
            other: The procedure of the other model.
        """
        low, high = _SAME_LENGTH
        mine, theirs = self.window_days, other.window_days
        searched = self.window_searched and other.window_searched
        alike = (
            searched or mine == theirs or (mine > 0 and theirs > 0 and low < mine / theirs < high)
        )
        return alike and msgspec.structs.replace(self, window_days=theirs) == other
