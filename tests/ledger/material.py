"""Groups to put into ledgers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
from hypothesis import strategies as st

from sentinel.domain import (
    ENTITY_COLUMNS,
    AttributeValue,
    Entry,
    Label,
    Transaction,
    Verdict,
    Void,
)
from sentinel.ledger.base import Ledger
from sentinel.ledger.log import Imported, append_import
from sentinel.ledger.sqlite import SqliteLedger
from sentinel.log.entries import (
    FLAG_DEGRADED,
    FLAG_IS_FRAUD,
    GROUP_FORMAT,
    LABEL_FORMAT,
    VOID_FORMAT,
    DecisionGroup,
    GroupKind,
    LabelGroup,
    VoidGroup,
    encode_group,
)
from tests.features.logs import batch_of

MINUTE_US = 60_000_000
NOON_US = 1_709_294_400_000_000
"""2024-03-01 12:00 UTC."""
N_FEATURES = 5


def transaction(
    number: int,
    received_at_us: int,
    *,
    event_time_us: int | None = None,
    attributes: dict[str, AttributeValue] | None = None,
    **entities: str | None,
) -> Transaction:
    known: dict[str, str | None] = {
        "customer_id": f"c{number % 5}",
        "card_id": f"k{number % 7}",
        "merchant_id": f"m{number % 3}",
        "device_id": None,
        "ip_address": None,
    }
    return Transaction(
        transaction_id=f"tx-{number}",
        event_time_us=received_at_us - 1_000 if event_time_us is None else event_time_us,
        received_at_us=received_at_us,
        amount_minor=100 * number,
        attributes={"channel": "pos", "mcc": float(number)} if attributes is None else attributes,
        **(known | entities),
    )


def label(number: int, transaction_id: str, received_at_us: int, *, fraud: bool = True) -> Label:
    return Label(
        label_id=f"label-{number}",
        transaction_id=transaction_id,
        verdict=Verdict.FRAUD if fraud else Verdict.LEGITIMATE,
        received_at_us=received_at_us,
    )


def decision_group(
    transactions: Sequence[Transaction],
    *,
    outcomes: Sequence[int] = (0,),
    model_version: str = "1",
    seed: int = 0,
) -> DecisionGroup:
    """Decisions whose figures follow from the seed; outcome codes are taken in turn."""
    random = np.random.default_rng(seed)
    n = len(transactions)
    codes = [outcomes[i % len(outcomes)] for i in range(n)]
    flags = [
        code | (FLAG_IS_FRAUD if code else 0) | (FLAG_DEGRADED if i % 10 == 9 else 0)
        for i, code in enumerate(codes)
    ]
    vectors = random.random((n, N_FEATURES), dtype=np.float32)
    vectors[:, 0] = np.nan
    features = random.integers(0, N_FEATURES, (n, 4)).astype("<i2")
    features[:, 3] = -1
    return DecisionGroup(
        format=GROUP_FORMAT,
        plan_hash="plan-a",
        model_name="fraud",
        model_version=model_version,
        transactions=list(transactions),
        vectors=vectors.tobytes(),
        scores=random.normal(size=n).tobytes(),
        probabilities=random.random(n).tobytes(),
        flags=np.array(flags, dtype="<u4").tobytes(),
        reason_features=features.tobytes(),
        reason_contributions=random.random((n, 4), dtype=np.float32).tobytes(),
        latencies_us=random.integers(100, 5_000, n).astype("<u4").tobytes(),
    )


def append_decisions(
    ledger: Ledger,
    transactions: Sequence[Transaction],
    *,
    outcomes: Sequence[int] = (0,),
    model_version: str = "1",
    seed: int = 0,
) -> DecisionGroup:
    group = decision_group(transactions, outcomes=outcomes, model_version=model_version, seed=seed)
    received = transactions[-1].received_at_us
    ledger.append(GroupKind.DECISIONS, len(transactions), received, encode_group(group))
    return group


def append_labels(ledger: Ledger, labels: Sequence[Label]) -> None:
    payload = encode_group(LabelGroup(LABEL_FORMAT, list(labels)))
    ledger.append(GroupKind.LABELS, len(labels), labels[-1].received_at_us, payload)


def append_voids(ledger: Ledger, voids: Sequence[Void], called_by: str = "admin") -> None:
    payload = encode_group(VoidGroup(VOID_FORMAT, list(voids), called_by))
    ledger.append(GroupKind.VOIDS, len(voids), voids[-1].received_at_us, payload)


def append_history(ledger: Ledger, entries: Sequence[Transaction | Label]) -> Imported:
    return append_import(ledger, batch_of(entries))


def fill(ledger: Ledger) -> None:
    """History, decisions and labels: 10 + 30 transactions and 4 labels, one of which waits."""
    history: list[Transaction | Label] = [
        transaction(i, NOON_US + i * MINUTE_US) for i in range(10)
    ]
    history.append(label(1, "tx-3", NOON_US + 10 * MINUTE_US))
    append_history(ledger, history)
    now = NOON_US + 20 * MINUTE_US
    for first in range(10, 40, 5):
        arrived = [transaction(i, now + i * MINUTE_US) for i in range(first, first + 5)]
        append_decisions(
            ledger, arrived, outcomes=(0, 0, 1, 2), seed=first, model_version=str(first // 25)
        )
    append_labels(
        ledger,
        [
            label(2, "tx-12", now + 41 * MINUTE_US),
            label(3, "tx-12", now + 41 * MINUTE_US, fraud=False),
            label(4, "tx-unknown", now + 41 * MINUTE_US),
        ],
    )


def new_ledger(folder: Path) -> SqliteLedger:
    return SqliteLedger.open_writer(folder / "ledger.db")


def entries_from(first_sequence: int, batch: pa.RecordBatch) -> list[tuple[int, Entry]]:
    """A log batch back as entries with their sequences; attributes without value are left out.

    The reason of a void is no column of the log, and stands in its group alone.
    """
    entries: list[tuple[int, Entry]] = []
    for offset, row in enumerate(batch.to_pylist()):
        if row["kind"] == 1:
            entry: Entry = Label(
                label_id=row["label_id"],
                transaction_id=row["transaction_id"],
                verdict=Verdict(row["verdict"]),
                received_at_us=row["received_at_us"],
                origin=row["origin"],
            )
        elif row["kind"] == 2:
            entry = Void(
                transaction_id=row["transaction_id"],
                received_at_us=row["received_at_us"],
                reason="",
            )
        else:
            entry = Transaction(
                transaction_id=row["transaction_id"],
                event_time_us=row["event_time_us"],
                received_at_us=row["received_at_us"],
                amount_minor=row["amount_minor"],
                **{name: row[name] for name in ENTITY_COLUMNS},
                attributes={
                    name.removeprefix("attributes."): value
                    for name, value in row.items()
                    if name.startswith("attributes.") and value is not None
                },
            )
        entries.append((first_sequence + offset, entry))
    return entries


_TEXT = st.text(st.characters(codec="utf-8"), max_size=8)
_ATTRIBUTES = st.dictionaries(
    st.sampled_from(["a", "b", "ü", "c.d"]),
    st.one_of(_TEXT, st.floats(allow_nan=False, width=64)),
    max_size=4,
)
_IDS = st.one_of(st.none(), st.sampled_from(["x", "y", "", "日本"]))


@st.composite
def logs(draw: st.DrawFn) -> list[tuple[GroupKind, list[Entry]]]:
    """Groups of entries in log order, of all kinds, with attributes of mixed kinds."""
    groups: list[tuple[GroupKind, list[Entry]]] = []
    now = draw(st.integers(1, 10**15))
    number = 0
    for _ in range(draw(st.integers(1, 6))):
        kind = draw(st.sampled_from(GroupKind))
        entries: list[Entry] = []
        typed: dict[str, type] = {}
        for _ in range(draw(st.integers(1, 5))):
            now += draw(st.integers(0, 10**8))
            number += 1
            if kind == GroupKind.VOIDS:
                about = f"tx-{draw(st.integers(1, number))}"
                entries.append(Void(transaction_id=about, received_at_us=now, reason=""))
                continue
            is_label = kind == GroupKind.LABELS or (
                kind == GroupKind.IMPORT and draw(st.booleans())
            )
            if is_label:
                about = f"tx-{draw(st.integers(1, number + 5))}"
                entries.append(label(number, about, now, fraud=draw(st.booleans())))
                continue
            attributes: dict[str, AttributeValue] = dict(draw(_ATTRIBUTES))
            if kind == GroupKind.IMPORT:
                # An imported column is of one kind.
                attributes = {
                    name: value
                    for name, value in attributes.items()
                    if typed.setdefault(name, type(value)) is type(value)
                }
            entries.append(
                transaction(
                    number,
                    now,
                    event_time_us=now - draw(st.integers(-(10**6), 10**12)),
                    attributes=attributes,
                    customer_id=draw(_IDS),
                    ip_address=draw(_IDS),
                )
            )
        groups.append((kind, entries))
    return groups


def append_all(ledger: Ledger, groups: Sequence[tuple[GroupKind, Sequence[Entry]]]) -> list[Entry]:
    """Append groups drawn by `logs`; returns their entries in log order."""
    for i, (kind, entries) in enumerate(groups):
        if kind == GroupKind.IMPORT:
            append_history(ledger, [entry for entry in entries if not isinstance(entry, Void)])
        elif kind == GroupKind.VOIDS:
            append_voids(ledger, [entry for entry in entries if isinstance(entry, Void)])
        elif kind == GroupKind.LABELS:
            append_labels(ledger, [entry for entry in entries if isinstance(entry, Label)])
        else:
            decided = [entry for entry in entries if isinstance(entry, Transaction)]
            append_decisions(ledger, decided, outcomes=(i % 3, 0), seed=i, model_version=str(i))
    return [entry for _, entries in groups for entry in entries]
