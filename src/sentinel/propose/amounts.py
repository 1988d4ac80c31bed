"""Which column is the money, and how it is written."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow.compute as pc

from sentinel.propose import names
from sentinel.propose.column_profile import ColumnProfile
from sentinel.propose.profile import TableProfile
from sentinel.propose.roles import Amount, Answers, Question, Roles, quoted
from sentinel.sources.currencies import CODES, code_of, currency_of

MAX_SCALE: Final = 4
_SIGN: Final = (
    r"(?:[A-Z]{1,3}\s?)?[$€£¥￥₹₩₽₺₫₪₴₦₱฿]|zł|Kč|Ft|[Kk]r\.?|Fr\.?|Rs\.?|円|元|원|[A-Z]{3}"
)
_MONEY: Final = re.compile(
    rf"^\(?[-+\u2212]?\s?(?P<before>{_SIGN})?\s?[-+\u2212]?"
    rf"(?P<digits>\d[\d.,'\u00a0 ]*)(?:[eE]\d+)?\s?(?P<after>{_SIGN})?-?\)?$"
)
_WORDS_AS_CODES: Final = {"ALL", "ANG", "BAM", "COP", "CUP", "GEL", "LAK", "MAD", "MOP", "PEN"} | {
    *("RON", "SOS", "TOP", "TRY", "XXX", "XTS"),
}
_EQUAL: Final = 0.006
_BALANCE_SHARE: Final = 0.95
_FIRST_SHARE: Final = 0.5
_FIRST_ROWS: Final = 1_000
_LEAST_ROWS: Final = 50
_NUMBER: Final = re.compile(r"^(\d+|\d{1,3}([., '\u00a0])\d{2,3}(\2\d{3})*)?([.,]\d+)?$")


def choose_amount(roles: Roles, answers: Answers) -> None:
    """Decide which column is the amount, or ask."""
    profile = roles.profile
    if answers.amount == "none":
        roles.amount = Amount("", "as you said, the events are no payments")
        return
    if answers.amount:
        roles.amount = _written(profile, answers.amount, answers, "as you said")
        return
    used = roles.used()
    scored = sorted(
        (
            (_points(profile, column), -column.place, column.name)
            for column in profile.columns.values()
            if column.name not in used and _possible(profile, column)
        ),
        reverse=True,
    )
    triples = balance_triples(profile, [name for _, _, name in scored[:12]])
    counted = [first for first, _, _ in triples]
    scored = sorted(
        (
            (points + min(2.0, 1.0 * counted.count(name)), place, name)
            for points, place, name in scored
        ),
        reverse=True,
    )
    if not scored or scored[0][0] < 0:
        _ask(roles, [name for _, _, name in scored])
        return
    best, _, name = scored[0]
    twins = _named(profile.columns[name]) and not triples
    rivals = [
        other
        for points, _, other in scored
        if points > best - 1 or (twins and _same_name(profile.columns[other], name))
    ]
    if len(rivals) > 1:
        _ask(roles, rivals)
        return
    reason = "by its name and values" if names.has(name, names.AMOUNT) else "by its values"
    roles.amount = _written(profile, name, answers, reason)


def balance_triples(
    profile: TableProfile, columns: list[str], amount: str = ""
) -> list[tuple[str, str, str]]:
    """Columns (amount, before, after) of which the second and third differ by the first.

    They do in at least 95 % of the rows in which something moved, as far as a balance goes: one
    that would fall below 0 may stop there. Of the three the amount is hardly ever 0.

    Args:
        profile: Of the table.
        columns: Which to look at, in the file's order.
        amount: The amount, if it is known.
    """
    values = {name: profile.numbers(name) for name in dict.fromkeys([*columns, amount]) if name}
    found: dict[frozenset[str], tuple[str, str, str]] = {}
    for third in [amount] if amount else columns:
        others = [name for name in columns if name != third]
        for first, second in _differing(values, others, third):
            if _differ_by(values[first], values[second], values[third]):
                key = frozenset((first, second, third))
                zeros = profile.columns[third].zeros
                if key not in found or zeros < profile.columns[found[key][0]].zeros:
                    found[key] = (third, first, second)
    return list(found.values())


def _differing(
    values: dict[str, npt.NDArray[np.float64]], columns: list[str], amount: str
) -> list[tuple[str, str]]:
    """Pairs of columns that differ by the amount in most of the first rows."""
    rows = np.flatnonzero(np.abs(np.nan_to_num(values[amount])) > 0)[:_FIRST_ROWS]
    if len(rows) < _LEAST_ROWS:
        return []
    table = np.stack([values[name][rows] for name in columns]) if columns else np.empty((0, 0))
    moved = np.abs(values[amount][rows])
    found: list[tuple[str, str]] = []
    for i, first in enumerate(columns):
        with np.errstate(invalid="ignore"):
            same = np.abs(np.abs(table[i + 1 :] - table[i]) - moved) <= _EQUAL + 1e-9 * moved
        close = np.flatnonzero(same.mean(axis=1) > _FIRST_SHARE).tolist() if len(same) else []
        found += [(first, columns[i + 1 + j]) for j in close]
    return found


def _differ_by(
    x: npt.NDArray[np.float64], y: npt.NDArray[np.float64], amount: npt.NDArray[np.float64]
) -> bool:
    moved = np.isfinite(x) & np.isfinite(y) & (np.abs(amount) > 0) & ((x != 0) | (y != 0))
    if moved.sum() < _LEAST_ROWS:
        return False
    x, y, paid = x[moved], y[moved], np.abs(amount[moved])
    apart = np.abs(x - y)
    same = np.abs(apart - paid) <= _EQUAL + 1e-9 * np.abs(x)
    emptied = (np.minimum(x, y) == 0) & (apart < paid)
    return bool((same | emptied).mean() >= _BALANCE_SHARE and same.mean() >= _FIRST_SHARE)


def _possible(profile: TableProfile, column: ColumnProfile) -> bool:
    named = _named(column)
    if named and column.numeric and column.given:
        return True
    if column.share_given < 0.98 or (column.constant and not named):
        return False
    if not named and _names_somebody(column):
        return False  # the number of a card is a number, too
    if column.type in ("integer", "number"):
        return not (column.steady or column.padded or (column.unique and column.whole > 0.999))
    return column.type == "text" and _money_texts(profile, column.name) is not None


def _named(column: ColumnProfile) -> bool:
    words = set(names.words_of(column.name))
    return bool(words & names.AMOUNT and not words & names.MONEY_BESIDE)


def _names_somebody(column: ColumnProfile) -> bool:
    """Whether a name says who pays, with what, or where, and nothing about them."""
    words = set(names.words_of(column.name))
    somebody = any(words & known for known in names.ENTITY_WORDS.values())
    return somebody and not words & (names.ABOUT | names.MONEY_BESIDE) - names.CODES


def _same_name(column: ColumnProfile, name: str) -> bool:
    """Whether two columns are called the same, numbers aside."""
    own, other = names.words_of(column.name), names.words_of(name)
    return [w for w in own if not w.isdigit()] == [w for w in other if not w.isdigit()]


def _points(profile: TableProfile, column: ColumnProfile) -> float:
    points = 0.0
    words = set(names.words_of(column.name))
    if _named(column):
        points += 4 if words & {"amount", "amt", "betrag"} else 3
    elif words & (names.MONEY_BESIDE | names.ABOUT | names.CODES | names.ID):
        points -= 2
    if column.type == "text":
        return points + 3
    points += {0: 0.0, 1: 2.0, 2: 2.0, 3: 1.0, 4: 0.0}.get(column.decimals, -2.0)
    points += 0.5 if column.zeros < 0.02 else -0.5
    points -= 2 if column.distinct < min(20, column.rows / 5) else 0
    numbers = profile.numbers(column.name)
    numbers = numbers[np.isfinite(numbers)]
    points += 0.5 if len(numbers) and np.median(numbers) < numbers.mean() else 0
    points -= 1 if column.negatives > 0.3 else 0
    return points


def _written(profile: TableProfile, name: str, answers: Answers, reason: str) -> Amount:
    """How the amounts of a column are written."""
    column = profile.columns[name]
    unit = answers.amount_unit or ("minor" if names.has(name, names.MINOR) else "major")
    currency, currency_column, _ = _currency(profile)
    decimal, thousands, scale = ".", "", column.decimals
    if column.type == "text":
        money = _money_texts(profile, name)
        if money is not None:
            decimal, thousands, scale, sign = money
            currency = currency or sign
    scale = 0 if unit == "minor" else scale
    return Amount(
        column=name,
        reason=reason,
        unit="minor" if unit == "minor" else "major",
        scale=min(MAX_SCALE, max(2, scale)),
        decimal=decimal,
        thousands=thousands,
        currency=answers.currency or currency or _named_currency(name),
        currency_column="" if answers.currency else currency_column,
    )


def _money_texts(profile: TableProfile, name: str) -> tuple[str, str, int, str] | None:
    """Decimal point, thousands, decimals and currency of texts that are money; None if not."""
    values = pc.unique(pc.drop_null(profile.texts(name).slice(0, 20_000))).to_pylist()[:3_000]
    matches = [_MONEY.match(text) for text in values]
    fitting = [match for match in matches if match and _NUMBER.match(match["digits"].strip())]
    if (
        not fitting
        or len(fitting) < (0.6 if names.has(name, names.AMOUNT) else 0.99) * len(values)
        or not any(
            match["before"] or match["after"] or set(match["digits"]) & set(",.")
            for match in fitting
        )
    ):
        return None
    digits = [match["digits"].strip() for match in fitting]
    comma = sum(bool(re.search(r",\d{1,2}$", text)) for text in digits)
    point = sum(bool(re.search(r"\.\d{1,2}$", text)) for text in digits)
    decimal = "," if comma > point else "."
    other = "." if decimal == "," else ","
    grouped = [mark for mark in (other, "'", "\u00a0", " ") if any(mark in text for text in digits)]
    behind = [len(text.rpartition(decimal)[2]) for text in digits if decimal in text]
    signs = [match["before"] or match["after"] for match in fitting]
    common = max(set(signs), key=signs.count) if signs else ""
    code = currency_of(common or "")  # which crowns "kr" are, nobody knows
    currency = code if code in CODES else ""
    return decimal, grouped[0] if grouped else "", max(behind, default=0), currency


def _currency(profile: TableProfile) -> tuple[str, str, tuple[str, ...]]:
    """The one currency, or the column of several and what it holds."""
    for name, column in profile.columns.items():
        if not names.has(name, names.CURRENCY) or not column.values:
            continue
        codes = [value for value, _ in column.values]
        if column.type == "integer" and all(map(code_of, codes)):
            codes = [code_of(code) for code in codes]  # 978 is the euro
        elif column.type != "text":
            continue
        if all(re.fullmatch(r"[A-Za-z]{3}", code) for code in codes):
            if len(codes) == 1:
                return codes[0].upper(), "", tuple(codes)
            return "", name, tuple(codes)
    return "", "", ()


def _named_currency(name: str) -> str:
    """The currency that a column's name tells; empty if it tells none.

    >>> _named_currency("AmountKES"), _named_currency("amt_usd"), _named_currency("total_all")
    ('KES', 'USD', '')
    """
    codes = {word.upper() for word in names.words_of(name)} & CODES - _WORDS_AS_CODES
    return codes.pop() if len(codes) == 1 else ""


def ask_about_currencies(roles: Roles) -> None:
    """Several currencies in one column: a rate column, or a word of the user."""
    amount = roles.amount
    if amount is None or not amount.currency_column:
        return
    rates = [
        name
        for name, column in roles.profile.columns.items()
        if column.numeric
        and column.low > 0
        and names.has(name, {"rate", "fx", "to"})
        and names.has(name, {"rate", "fx", "eur", "usd", "gbp", "base"})
    ]
    if len(rates) == 1:
        roles.amount = replace(amount, rate_column=rates[0])
        roles.notes.append(
            f"Amounts are in several currencies; {rates[0]!r} is taken for the rate of each row."
        )
        return
    column = roles.profile.columns[amount.currency_column]
    held = [code_of(value) or value for value, _ in column.values]
    several = ", ".join(held[:5])
    flags = tuple(
        (f"--currency {value}", "the amounts are in it already, whatever the column says")
        for value in held[:3]
    )
    roles.questions.append(
        Question(
            "currency",
            f"The amounts are in several currencies ({several} in {amount.currency_column!r}). "
            "Are they converted already, and to which?",
            flags,
        )
    )


def _ask(roles: Roles, candidates: list[str]) -> None:
    profile = roles.profile
    shown = candidates[:5]
    flags = [
        (f"--amount {quoted(name)}", ", ".join(profile.columns[name].examples[:3]))
        for name in shown
    ]
    flags.append(("--amount none", "the events are no payments"))
    roles.questions.append(Question("amount", "Which column is the amount?", tuple(flags)))
