"""How figures and names are written, the same on every page."""

from __future__ import annotations

import datetime as dt
import re
import uuid
from typing import Final

from sentinel.domain import Outcome
from sentinel.ingest.cards import masked
from sentinel.ingest.values import CONTROL_PATTERN
from sentinel.settings import MoneySettings

OUTCOME_WORDS: Final = {
    Outcome.APPROVE: "Approved",
    Outcome.REVIEW: "Review",
    Outcome.DECLINE: "Declined",
}
DASH: Final = "–"

_SYMBOLS: Final = {"EUR": "€", "USD": "$", "GBP": "£", "JPY": "¥"}
_UNITS: Final = {"s": "second", "m": "minute", "h": "hour", "d": "day"}
_WINDOW: Final = re.compile(r"^(\d+)(s|m|h|d)$")
_CAPITALS: Final = {"ip": "IP", "ips": "IPs", "mcc": "MCC"}
_USER_CHARACTERS: Final = 90
"""Of a user's name in the id of a label, which has at most 128."""
_CONTROL: Final = re.compile(CONTROL_PATTERN)
_LETTERS: Final = str.maketrans("0123456789", "ghijklmnop")
_CODE: Final = re.compile(r"(`[^`]*`)")
_MARKDOWN: Final = re.compile(r"([\\*_\[\]!~$<>:#|])")
_METRICS: Final = {
    "average_precision": "Average precision",
    "roc_auc": "ROC AUC",
    "brier": "Brier score",
    "log_loss": "Log loss",
    "calibration_error": "Calibration error",
}


def verdict_id(user: str) -> str:
    """An id of its own for a verdict, with who gives it at its beginning; every API takes it.

    So a name that a provider of logins gives loses what no id may hold: control characters, and
    the middle of what looks like a card number. What follows it is letters alone, since one in
    60,000 of random hexadecimal digits looks like a card number, too.

    >>> verdict_id("ann")[:4], len(verdict_id("a" * 500))
    ('ann-', 123)
    """
    name = masked(_CONTROL.sub("\ufffd", user)[:_USER_CHARACTERS])
    return f"{name}-{uuid.uuid4().hex.translate(_LETTERS)}"


def literal(text: str) -> str:
    r"""A text with ids of others in it, for Streamlit, which reads Markdown; commands stay code.

    >>> print(literal("![](http://x) of $5 is unknown: run `sentinel serve --port *`"))
    \!\[\](http\://x) of \$5 is unknown\: run `sentinel serve --port *`
    """
    parts = _CODE.split(text)
    parts[::2] = [_MARKDOWN.sub(r"\\\1", part) for part in parts[::2]]
    return "".join(parts)


def money(amount_minor: int, base: MoneySettings) -> str:
    """An amount in the base currency.

    >>> money(123456, MoneySettings()), money(-50, MoneySettings(currency="CHF"))
    ('€1,234.56', '-0.50 CHF')
    """
    digits = f"{abs(amount_minor) / 10**base.scale:,.{base.scale}f}"
    sign = "-" if amount_minor < 0 else ""
    symbol = _SYMBOLS.get(base.currency)
    return f"{sign}{symbol}{digits}" if symbol else f"{sign}{digits} {base.currency}"


def percent(share: float) -> str:
    """A probability, with a decimal more where it is small.

    >>> percent(0.5), percent(0.0312), percent(0.0002), percent(1.0)
    ('50.0 %', '3.1 %', '0.02 %', '100.0 %')
    """
    return f"{100 * share:.2f} %" if share < 0.01 else f"{100 * share:.1f} %"


def count(number: float) -> str:
    """A whole number with thousands separators.

    >>> count(1234567)
    '1,234,567'
    """
    return f"{number:,.0f}"


def size(n_bytes: int) -> str:
    """Memory.

    >>> size(2_500_000), size(900), size(3_100_000_000)
    ('2.5 MB', '1 kB', '3.1 GB')
    """
    if n_bytes >= 1e9:
        return f"{n_bytes / 1e9:,.1f} GB"
    return f"{n_bytes / 1e6:,.1f} MB" if n_bytes >= 1e6 else f"{n_bytes / 1e3:,.0f} kB"


def milliseconds(us: float) -> str:
    """A latency.

    >>> milliseconds(870), milliseconds(12_345), milliseconds(250_000)
    ('0.87 ms', '12.3 ms', '250 ms')
    """
    ms = us / 1000
    return f"{ms:.2f} ms" if ms < 10 else f"{ms:.1f} ms" if ms < 100 else f"{ms:,.0f} ms"


def duration(seconds: float) -> str:
    """A length of time, in its two largest units.

    >>> duration(42), duration(3_725), duration(200_000)
    ('42 s', '1 h 2 min', '2 d 7 h')
    """
    whole = int(seconds)
    days, hours = whole // 86_400, whole % 86_400 // 3_600
    minutes = whole % 3_600 // 60
    if days:
        return f"{days} d {hours} h"
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {whole % 60} s" if minutes else f"{whole} s"


def clock(us: int) -> str:
    """Time of day, UTC.

    >>> clock(1_700_000_000_000_000)
    '22:13:20'
    """
    return f"{_moment(us):%H:%M:%S}"


def moment(us: int) -> str:
    """Day and time, UTC.

    >>> moment(1_700_000_000_000_000)
    '14 Nov 2023, 22:13:20 UTC'
    """
    return f"{_moment(us):%-d %b %Y, %H:%M:%S} UTC"


def feature(name: str | None) -> str:
    """A feature's name for reading: words, with its window at the end.

    >>> feature("card_count_1h"), feature("card_amount_to_mean_30d"), feature(None)
    ('Card count, 1 hour', 'Card amount to mean, 30 days', '–')
    >>> feature("ip_customers_1d"), feature("amount"), feature("card_count_1d_to_30d")
    ('IP customers, 1 day', 'Amount', 'Card count, 1 day to 30 days')
    """
    if not name:
        return DASH
    said = ""
    for part in name.split("_"):
        window = _WINDOW.match(part)
        if window:
            number, unit = int(window[1]), _UNITS[window[2]]
            comma = "" if said.endswith(" to") else ","
            said += f"{comma} {number} {unit}{'' if number == 1 else 's'}"
        else:
            said += f" {_CAPITALS.get(part, part)}"
    said = said.strip(" ,")
    return said[:1].upper() + said[1:]


def metric(name: str) -> str:
    """A metric of evaluation for reading.

    >>> metric("average_precision"), metric("recall_at_fpr_0.1pct")
    ('Average precision', 'Recall at 0.1 % false positives')
    >>> metric("money_caught_at_5_per_1000"), metric("card_precision_at_100")
    ('Money caught at 5 alerts per 1,000', 'Card precision at 100')
    """
    if name in _METRICS:
        return _METRICS[name]
    if found := re.fullmatch(r"recall_at_fpr_([\d.]+)pct", name):
        return f"Recall at {found[1]} % false positives"
    if found := re.fullmatch(r"money_caught_at_([\d.]+)_per_(\d+)", name):
        return f"Money caught at {found[1]} alerts per {int(found[2]):,}"
    said = name.replace("_", " ")
    return said[:1].upper() + said[1:]


def _moment(us: int) -> dt.datetime:
    return dt.datetime.fromtimestamp(us // 1_000_000, dt.UTC)
