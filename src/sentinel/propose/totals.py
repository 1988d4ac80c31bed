"""A row of totals at the end of an export, which is no payment."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from sentinel.propose import names
from sentinel.propose.profile import TableProfile

_WORDS: Final = names.words(
    "total totals totale totali totaal totais totales totaux gesamt gesamtsumme endsumme summe sum "
    "sums suma somme soma somma razem toplam итого всего 合計 総計 合计 总计 합계 총계 subtotal "
    "zwischensumme"
)
_BESIDE: Final = names.words("grand general général generale geral all amount amounts of the in")
_MOST_GIVEN: Final = 0.5
"""Share of the columns of which such a row says something at most; payments say more."""


@dataclass(frozen=True)
class Total:
    """Such a row.

    Attributes:
        row: Its number, from 0.
        column: Where it says that it is one.
        text: What it says there.
        given: The columns of which it says something.
    """

    row: int
    column: str
    text: str
    given: frozenset[str]


def total_of(profile: TableProfile) -> Total | None:
    """The row of totals among the last rows of a table; None if there is none."""
    for row, cells in reversed(profile.last_rows):
        said = {name: text for name, text in cells.items() if text}
        if len(said) > _MOST_GIVEN * len(profile.columns):
            continue
        for column, text in said.items():
            words = set(names.words_of(text)) | set(text.lower().strip(" :.").split())
            if words & _WORDS and words <= _WORDS | _BESIDE:
                return Total(row, column, text, frozenset(said))
    return None
