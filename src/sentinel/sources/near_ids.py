"""Ids that would be equal but for leading zeros, letter case or signs, as other programs change."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from sentinel.ingest.cards import masked

ESSENCE_SQL: Final = "ltrim(regexp_replace(lower({}), '[^0-9a-z]', '', 'g'), '0')"
"""`essence` in the words of DuckDB, for a column."""

_SIGNS: Final = re.compile("[^0-9a-z]")


def essence(identifier: str) -> str:
    """What is left of an id without leading zeros, signs and capital letters.

    >>> essence("0001001"), essence("AB-1")
    ('1001', 'ab1')
    """
    return _SIGNS.sub("", identifier.lower()).lstrip("0")


def nearest(labels: Iterable[str], payments: Iterable[str]) -> tuple[str, str] | None:
    """The first label's id that is nearly a payment's, with that one; None if there is none.

    >>> nearest(["77", "1001"], ["0001001", "0001002"])
    ('1001', '0001001')
    """
    by_essence = {essence(name): name for name in payments}
    for name in labels:
        found = by_essence.get(essence(name)) if essence(name) else None
        if found is not None and found != name:
            return name, found
    return None


def in_words(pair: tuple[str, str]) -> str:
    """How the two ids differ, and what to do.

    >>> in_words(("1001", "0001001"))
    "the label's '1001' is the payment's '0001001' but for leading zeros; write both the same way"
    """
    label, payment = pair
    if label.lstrip("0") == payment.lstrip("0"):
        how = "leading zeros"
    elif label.lower() == payment.lower():
        how = "letter case"
    else:
        how = "signs, letter case or leading zeros"
    return (
        f"the label's {masked(label)!r} is the payment's {masked(payment)!r} but for {how}; "
        "write both the same way"
    )
