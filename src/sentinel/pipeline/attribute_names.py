"""Columns of feature definitions that no payment has had: misspelt, or not sent yet."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from sentinel.domain import SentinelError
from sentinel.feature_sets import SETS, set_text
from sentinel.features.plan.plan import Plan
from sentinel.ledger.log import read_log
from sentinel.ledger.open import ledger_exists
from sentinel.log.schema import attribute_columns
from sentinel.pipeline.workspace import ledger_reader
from sentinel.settings import Settings
from sentinel.sources.mapping import MappingSource
from sentinel.sources.mapping_words import suggestion

_MAPPING: Final = "mapping.toml"
_MOST_NAMED: Final = 20


def strange_columns(settings: Settings, plan: Plan) -> str:
    """A line that names the attributes of a plan that neither payments nor the mapping have.

    Attributes that the sets which come with Sentinel read are spelt as they are meant. The log
    is read until each other one was seen, so to its end where one is missing.

    Args:
        settings: The deployment; its mapping is the ``mapping.toml`` beside the definitions, as
            `sentinel propose` writes it, or the one in the workspace.
        plan: Compiled from the definitions.

    Returns:
        The line, each name with the nearest that is there. Empty if every name is known, or if
        there are no payments and no mapping to know names from.

    Raises:
        LedgerUnavailable: The log cannot be read right now.
    """
    shipped = "".join(set_text(name) for name in SETS)
    read = sorted(plan.number_columns | plan.category_columns)
    wanted = [name for name in read if f'"{name}"' not in shipped]
    if not wanted:
        return ""
    mapped = _of_mapping(settings)
    known = set(mapped or ())
    payments = False
    if ledger_exists(settings) and not known.issuperset(wanted):
        with ledger_reader(settings) as ledger:
            for _, batch in read_log(ledger):
                payments = payments or bool(batch.num_rows)
                known.update(attribute_columns(batch.schema))
                if known.issuperset(wanted):
                    break
    strange = [name for name in wanted if name not in known]
    if not strange or not (payments or mapped is not None):
        return ""
    where = "no payment so far has had" if payments else "the mapping does not have"
    if payments and mapped is not None:
        where = "neither a payment so far nor the mapping has had"
    return (
        f"The definitions read attributes that {where}: {_named(strange, known)}. Until payments "
        "bring them, conditions on them never hold and their values are unknown. If a name is "
        "misspelt, correct it in the definitions."
    )


def _named(strange: list[str], known: Iterable[str]) -> str:
    options = list(known)
    named = [f"{name!r}{suggestion(name, options)}" for name in strange[:_MOST_NAMED]]
    more = len(strange) - len(named)
    return ", ".join(named) + (f" and {more} more" if more else "")


def _of_mapping(settings: Settings) -> frozenset[str] | None:
    """Attributes by the mapping; None if there is none, or its files cannot be read."""
    for folder in (settings.definitions_dir.parent, settings.workspace):
        path = folder / _MAPPING
        if path.is_file():
            try:
                return frozenset(MappingSource.from_file(path).attributes)
            except (SentinelError, OSError):
                return None
    return None
