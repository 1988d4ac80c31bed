"""Columns that know the truth before it can be known.

A column is a suspect if

- a tree of depth three on it, fitted on the first 70 % of the payments by time, ranks the frauds
  of the rest with an area under the curve whose lower bound is above .98; or
- one value of it, or that there is one, has a fraud share of .9 or more at a recall of .5 or more,
  with 20 frauds or more; or
- it and another column differ by the amount in 95 % of the rows or more: then the later one is a
  balance after the payment.

Suspects are left out until the user takes them in.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from sentinel.propose import names
from sentinel.propose.amounts import balance_triples
from sentinel.propose.profile import TableProfile
from sentinel.propose.roles import Leak, Roles
from sentinel.propose.time_formats import moments
from sentinel.propose.trees import auc_with_bound, tree_scores

FITTED_SHARE: Final = 0.7
AUC_BOUND: Final = 0.98
VALUE_SHARE: Final = 0.9
VALUE_RECALL: Final = 0.5
NOTED_SHARE: Final = 0.8
LEAST_FRAUDS: Final = 20

_CATEGORIES: Final = 100
_AFTER: Final = {"new", "newbalance", "after", "post", "closing", "remaining", "ending", "updated"}
_BEFORE: Final = {"old", "oldbalance", "before", "pre", "previous", "opening", "starting", "prior"}

Flags = npt.NDArray[np.bool_]


def find_leaks(roles: Roles, columns: list[str], fraud: Flags, known: Flags) -> list[Leak]:
    """The suspects among columns.

    Args:
        roles: What is known so far; time and amount are used.
        columns: Which to look at.
        fraud: bool (n_sampled,), which payments of the sample were fraud.
        known: bool (n_sampled,), for which of them that is known.
    """
    profile = roles.profile
    found: dict[str, str] = {}
    order = _by_time(roles)
    for name in columns:
        reason = _suspicion(profile, name, fraud, known, order)
        if reason:
            found[name] = reason
    for name, reason in balances_after(roles).items():
        if name in columns:
            found.setdefault(name, reason)
    return [Leak(name, reason) for name, reason in found.items()]


def mostly_in_frauds(profile: TableProfile, columns: list[str], fraud: Flags, known: Flags) -> str:
    """What to say of columns that hold something for some frauds and hardly any other payment.

    They give too few frauds away to be suspects, and may well be notes that were made afterwards.

    Args:
        profile: The table.
        columns: Which to look at.
        fraud, known: See `find_leaks`.

    Returns:
        A sentence; empty if there are none.
    """
    truth = fraud[known]
    found = []
    for name in columns:
        given = pc.is_valid(profile.texts(name)).to_numpy(zero_copy_only=False)[known]
        bad, rows = int((given & truth).sum()), int(given.sum())
        if bad >= LEAST_FRAUDS and bad >= NOTED_SHARE * rows:
            found.append(f"{name!r} ({bad / rows:.0%} frauds)")
    if not found:
        return ""
    return f"Hardly any good payment has a value in {', '.join(found)}: is it known in time?"


def balances_after(roles: Roles) -> dict[str, str]:
    """Columns that differ from another by the amount, and are the later of the two."""
    profile, amount = roles.profile, roles.amount
    if amount is None or not amount.column:
        return {}
    in_text = [
        attribute.column
        for attribute in roles.attributes
        if attribute.kind == "number" and profile.columns[attribute.column].type == "text"
    ]
    for name in in_text:
        profile.read_numbers(name, roles.decimal, roles.thousands)
    if profile.columns[amount.column].type == "text":
        profile.read_numbers(amount.column, amount.decimal, amount.thousands)
    used = roles.used() - set(roles.left_out)
    others = [
        name
        for name, column in profile.columns.items()
        if (column.numeric or name in in_text)
        and name not in used
        and column.distinct > LEAST_FRAUDS
    ]
    found = {}
    for _, before, after in balance_triples(profile, others, amount.column):
        before, after = _in_time(roles, before, after)
        found[after] = f"differs from {before!r} by the amount: a balance after the payment"
    return found


def _in_time(roles: Roles, first: str, second: str) -> tuple[str, str]:
    """Which of two balances is before the payment: by name, by the chain they form, by place."""
    if names.has(first, _AFTER) or names.has(second, _BEFORE):
        return second, first
    if names.has(second, _AFTER) or names.has(first, _BEFORE):
        return first, second
    forward, backward = _chained(roles, first, second), _chained(roles, second, first)
    return (second, first) if backward > max(forward, 0.5) else (first, second)


def _chained(roles: Roles, before: str, after: str) -> float:
    """Share of payments whose balance before is the balance after the entity's last payment."""
    profile = roles.profile
    order = _by_time(roles)
    best = 0.0
    for entity in roles.entities:
        keys = profile.texts(entity.columns[0]).dictionary_encode().indices
        codes = np.asarray(pc.fill_null(keys, -1).to_numpy(zero_copy_only=False), np.int64)[order]
        place = np.lexsort((np.arange(len(codes)), codes))
        codes = codes[place]
        b, a = profile.numbers(before)[order][place], profile.numbers(after)[order][place]
        same = (codes[1:] == codes[:-1]) & (codes[1:] >= 0)
        if same.sum() >= LEAST_FRAUDS:
            best = max(best, float((np.abs(b[1:] - a[:-1]) < 0.006)[same].mean()))
    return best


def _by_time(roles: Roles) -> npt.NDArray[np.int64]:
    """The sample's rows in the order of their times."""
    if roles.time is None:
        return np.arange(roles.profile.sample.num_rows, dtype=np.int64)
    return np.argsort(np.nan_to_num(moments(roles.profile, roles.time)), kind="stable")


def _suspicion(
    profile: TableProfile, name: str, fraud: Flags, known: Flags, order: npt.NDArray[np.int64]
) -> str:
    text = profile.texts(name)
    of_value = _one_value(text, fraud, known)
    if of_value:
        return of_value
    rows = order[known[order]]
    cut = int(len(rows) * FITTED_SHARE)
    truth = fraud[rows]
    if truth[:cut].sum() < LEAST_FRAUDS or truth[cut:].sum() < LEAST_FRAUDS:
        return ""
    fitted = np.arange(len(rows)) < cut
    if profile.columns[name].numeric:
        x = profile.numbers(name)[rows]
    else:
        x = _shares(text.take(pa.array(rows)), truth, fitted)
    scores = tree_scores(x, truth, fitted)
    area, bound = auc_with_bound(scores[cut:], truth[cut:])
    if bound > AUC_BOUND:
        return f"alone it tells the frauds apart (AUC {area:.3f}, at least {bound:.3f})"
    return ""


def _shares(text: pa.Array, truth: Flags, fitted: Flags) -> npt.NDArray[np.float64]:
    """Categories as their share of frauds in the fitted rows; rare ones are one category."""
    indices = text.dictionary_encode().indices
    codes = np.asarray(pc.fill_null(indices, -1).to_numpy(zero_copy_only=False), np.int64) + 1
    rows = np.bincount(codes[fitted], minlength=codes.max() + 1).astype(np.float64)
    frauds = np.bincount(codes[fitted & truth], minlength=codes.max() + 1).astype(np.float64)
    rare = np.ones(len(rows), np.bool_)
    rare[np.argsort(-rows)[:_CATEGORIES]] = False
    rows[rare], frauds[rare] = rows[rare].sum(), frauds[rare].sum()
    prior = truth[fitted].mean()
    shares: npt.NDArray[np.float64] = (frauds + prior) / (rows + 1.0)
    return shares[codes]


def _one_value(text: pa.Array, fraud: Flags, known: Flags) -> str:
    """A value, or the presence of one, that nearly all frauds and hardly any others have."""
    truth = fraud[known]
    frauds = int(truth.sum())
    if frauds < LEAST_FRAUDS:
        return ""
    encoded = text.filter(pa.array(known)).dictionary_encode()
    codes = np.asarray(pc.fill_null(encoded.indices, -1).to_numpy(zero_copy_only=False), np.int64)
    given = codes >= 0
    for mask, words in ((given, "frauds have a value here"), (~given, "frauds have none here")):
        if mask.all():
            continue
        said = _telling(int((mask & truth).sum()), int(mask.sum()), frauds)
        if said:
            return f"{words}, others hardly: {said}"
    if not given.any():
        return ""
    rows = np.bincount(codes[given])
    bad = np.bincount(codes[given & truth], minlength=len(rows))
    if len(rows) < 2:
        return ""
    best = int(np.argmax(bad * (bad >= VALUE_SHARE * rows)))
    said = _telling(int(bad[best]), int(rows[best]), frauds)
    return f"the value {encoded.dictionary[best].as_py()!r}: {said}" if said else ""


def _telling(bad: int, rows: int, frauds: int) -> str:
    if bad < LEAST_FRAUDS or bad < VALUE_SHARE * rows or bad < VALUE_RECALL * frauds:
        return ""
    return f"{bad / rows:.0%} of these {rows:,} rows are frauds, {bad / frauds:.0%} of all frauds"
