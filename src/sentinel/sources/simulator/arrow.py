"""Simulated payments as canonical rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from sentinel.domain import Verdict
from sentinel.sources.base import (
    LABEL_CHUNK_SCHEMA,
    AttributeType,
    canonical_rows,
    transaction_schema,
)
from sentinel.sources.simulator.catalogue import (
    AUTHENTICATIONS,
    BRANDS,
    CARD_TYPES,
    CATEGORIES,
    CHANNELS,
    COUNTRIES,
    ENTRY_MODES,
    SYSTEMS,
)
from sentinel.sources.simulator.config import SimulatorConfig
from sentinel.sources.simulator.events import Events
from sentinel.sources.simulator.population import Bools, Ints, Population

ATTRIBUTES: Final[dict[str, AttributeType]] = {
    "channel": "category",
    "entry_mode": "category",
    "authentication": "category",
    "mcc": "category",
    "merchant_country": "category",
    "card_country": "category",
    "card_brand": "category",
    "card_type": "category",
    "currency": "category",
    "original_amount": "number",
    "device_system": "category",
    "account_age_days": "number",
}

Ids = Ints | npt.NDArray[np.str_]
"""Ids of payments: numbers of planned ones, or texts."""

_SCRAMBLE: Final = 0x9E3779B97F4A7C15 | 1
_PER_DAY: Final = 10_000_000
_HEX: Final = pa.array([f"{value:x}" for value in range(1 << 16)])

TRANSACTIONS: Final = transaction_schema(ATTRIBUTES)


def transaction_ids(day_number: int, count: int) -> Ints:
    """Ids of a day's payments in order of time: at most twelve digits, no card numbers."""
    return day_number * _PER_DAY + np.arange(count)


def transaction_rows(
    events: Events, ids: Ids, config: SimulatorConfig, population: Population
) -> pa.RecordBatch:
    """Payments as canonical transaction rows."""
    people, shops = population.customers, population.merchants
    slot = events.card % 2
    country = shops.country[events.merchant]
    per_euro = np.array([item.per_euro for item in COUNTRIES])[country]
    day = events.time_us // 86_400_000_000 - config.first_day
    columns = {
        "transaction_id": _text(ids),
        "event_time_us": pa.array(events.time_us),
        "amount_minor": pa.array(events.amount_minor),
        "customer_id": _numbered("c", events.customer),
        "card_id": _numbered("k", events.card),
        "merchant_id": _numbered("m", events.merchant),
        "device_id": _devices(events.device, in_hex=config.device_ids == "hex"),
        "ip_address": _addresses(events.address),
        "attributes.channel": _coded(CHANNELS, events.channel),
        "attributes.entry_mode": _coded(ENTRY_MODES, events.entry),
        "attributes.authentication": _coded(AUTHENTICATIONS, events.authentication),
        "attributes.mcc": _coded(
            [item.mcc for item in CATEGORIES], shops.category[events.merchant]
        ),
        "attributes.merchant_country": _coded([item.code for item in COUNTRIES], country),
        "attributes.card_country": _coded(
            [item.code for item in COUNTRIES], people.country[events.customer]
        ),
        "attributes.card_brand": _coded(BRANDS, people.brand[events.customer, slot]),
        "attributes.card_type": _coded(CARD_TYPES, people.card_type[events.customer, slot]),
        "attributes.currency": _coded([item.currency for item in COUNTRIES], country),
        "attributes.original_amount": pa.array(np.rint(events.amount_minor * per_euro) / 100),
        "attributes.device_system": _coded(SYSTEMS, events.system),
        "attributes.account_age_days": pa.array(
            (day - people.joined[events.customer]).astype(np.float64)
        ),
    }
    return canonical_rows(columns, TRANSACTIONS, len(events))


def label_rows(events: Events, ids: Ids) -> pa.RecordBatch:
    """Claims and their corrections as canonical label rows, in order of their payments."""
    claimed = np.flatnonzero(events.claimed_us)
    corrected = np.flatnonzero(events.corrected_us)
    rows = np.concatenate([claimed, corrected])
    arrival = np.concatenate([events.claimed_us[claimed], events.corrected_us[corrected]])
    kind = np.repeat([0, 1], [len(claimed), len(corrected)])
    order = np.lexsort((kind, rows))
    rows, arrival, kind = rows[order], arrival[order], kind[order]
    text = _text(ids[rows])
    suffix = _coded(["-claim", "-correction"], kind)
    columns = {
        "label_id": pc.binary_join_element_wise(text, suffix, ""),
        "transaction_id": text,
        "verdict": _coded([Verdict.FRAUD.value, Verdict.LEGITIMATE.value], kind),
        "received_at_us": pa.array(arrival),
        "origin": _coded(["chargeback", "chargeback_reversal"], kind),
    }
    return canonical_rows(columns, LABEL_CHUNK_SCHEMA, len(rows))


def scrambled(numbers: Ints, bits: int) -> Ints:
    """Numbers that tell nothing of how they were made; different ones stay different.

    >>> len(set(scrambled(np.arange(1000), 32).tolist()))
    1000
    """
    mask = np.uint64((1 << bits) - 1)
    mixed = (numbers.astype(np.uint64) * np.uint64(_SCRAMBLE)) & mask
    return (mixed ^ (mixed >> np.uint64(bits // 2))).astype(np.int64)


def _text(numbers: Ids) -> pa.Array:
    return pc.cast(pa.array(numbers), pa.string())


def _numbered(letter: str, numbers: Ints, missing: Bools | None = None) -> pa.Array:
    named = pc.binary_join_element_wise(letter, _text(numbers), "")
    if missing is None:
        return named
    return pc.if_else(pa.array(missing), pa.scalar(None, pa.string()), named)


def _coded(names: Sequence[str], codes: Ints) -> pa.Array:
    return pa.array(list(names), pa.string()).take(pa.array(codes, mask=codes < 0))


def _devices(numbers: Ints, *, in_hex: bool) -> pa.Array:
    """Ids of devices; twelve hexadecimal digits are too few for the number of a card."""
    if not in_hex:
        return _numbered("d", scrambled(numbers, 48), numbers < 0)
    named = pc.binary_join_element_wise("d", *_words(numbers), "-")
    return pc.if_else(pa.array(numbers < 0), pa.scalar(None, pa.string()), named)


def _words(numbers: Ints) -> list[pa.Array]:
    """Three hexadecimal words of 16 bits that tell nothing of a number."""
    mixed = scrambled(numbers, 48)
    return [_HEX.take(pa.array((mixed >> shift) & 0xFFFF)) for shift in (32, 16, 0)]


def _addresses(numbers: Ints) -> pa.Array:
    """IPv6 addresses of the range kept for documentation (RFC 3849), so that they are nobody's."""
    text = pc.binary_join_element_wise("2001:db8:", *_words(numbers), ":")
    return pc.if_else(pa.array(numbers < 0), pa.scalar(None, pa.string()), text)
