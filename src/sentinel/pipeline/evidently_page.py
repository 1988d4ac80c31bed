"""Evidently's page of drift, of the payments that a report of drift rests on.

It describes what the monitor's counts describe, by the rules of another tool and without bounds on
false alarms. Needs the extra ``evidently`` of the package, and loads nothing of it unless a page is
wanted.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
import numpy.typing as npt

from sentinel.domain import ConfigurationError, InvalidQuery
from sentinel.drift.bins import ColumnBins

if TYPE_CHECKING:
    import pandas as pd

MOST_ROWS: Final = 20_000
"""Payments of either side; of more, evenly spaced ones."""


def need_evidently() -> None:
    """Look for the extra before anything slow begins.

    Raises:
        ConfigurationError: It is not installed.
    """
    if find_spec("evidently") is None:
        raise ConfigurationError(
            "Evidently is not installed, which draws this page. Install "
            "sentinel-fraud[evidently], or leave --evidently out: the report of drift needs none."
        )


def write_evidently_page(
    page: Path,
    columns: Sequence[ColumnBins],
    before: npt.NDArray[np.float32],
    now: npt.NDArray[np.float32],
) -> tuple[str, ...]:
    """Let Evidently hold payments of now against those of a model's reference.

    Args:
        page: The file, HTML that needs nothing else.
        columns: What the columns are; a category's values stay codes.
        before: float32 (n, columns) of the reference's time, NaN = unknown.
        now: float32 (m, columns), recent ones.

    Returns:
        The columns that were left out, since no value of them is known on one side.

    Raises:
        ConfigurationError: The extra is not installed.
        InvalidQuery: One side has no payments, or no column has values on both sides.
    """
    need_evidently()
    if not len(before) or not len(now):
        side = "recent" if len(before) else "of the time of the model's reference"
        raise InvalidQuery(
            f"Evidently's page needs payments of then and of now, and the log has none {side}. "
            "The report of drift rests on the monitor's counts and needs none."
        )
    unknown = np.isnan(before).all(axis=0) | np.isnan(now).all(axis=0)
    known = np.asarray(~unknown, np.bool_)
    if not known.any():
        raise InvalidQuery("Evidently's page needs a column with values then and now; none has.")
    os.environ.setdefault("DO_NOT_TRACK", "1")  # Evidently would tell its makers of its use
    from evidently import DataDefinition, Dataset, Report
    from evidently.presets import DataDriftPreset

    kept = [column for column, has in zip(columns, known, strict=True) if has]
    definition = DataDefinition(
        numerical_columns=[one.name for one in kept if one.kind == "number"],
        categorical_columns=[one.name for one in kept if one.kind == "category"],
    )
    then, recent = (
        Dataset.from_pandas(_frame(kept, rows[:, known]), data_definition=definition)
        for rows in (before, now)
    )
    found = Report([DataDriftPreset()]).run(recent, then)
    page.parent.mkdir(parents=True, exist_ok=True)
    found.save_html(str(page))
    return tuple(one.name for one, has in zip(columns, known, strict=True) if not has)


def with_score(
    vectors: npt.NDArray[np.float32], score: npt.NDArray[np.float64]
) -> npt.NDArray[np.float32]:
    """Vectors and, as the last column, the score: float32 (n, features + 1).."""
    return np.column_stack((vectors, score.astype(np.float32)))


def _frame(columns: Sequence[ColumnBins], rows: npt.NDArray[np.float32]) -> pd.DataFrame:
    import pandas as pd

    table: dict[str, object] = {}
    for at, column in enumerate(columns):
        values = rows[:, at].astype(np.float64)
        if column.kind == "category":
            words = [
                None if np.isnan(value) else column.code_words(value) for value in values.tolist()
            ]
            table[column.name] = pd.Series(words, dtype=object)
        else:
            table[column.name] = values
    return pd.DataFrame(table)
