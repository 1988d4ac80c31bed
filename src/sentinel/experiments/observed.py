"""What the log says of an experiment: disagreements, and which of them came to light.

Groups are read in log order. Payments of one block (a day, or more days where there are few) are
held until it is over: then both models get a line such that each would alert on the same number of
the block's payments, and only what one would alert on and the other would not is kept. Lines
depend on scores alone, never on labels, so that judging a block does not wait for its truth.

The number of alerts is the larger of what either model did on the payments that it decided. So a
payment below a model's line is one that this model let pass, if it decided, wherever lines rule.
Where costs rule, a model may stop a payment below its line: on such a payment the two agree in
effect, whatever their lines say, and it is left out.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import msgspec
import numpy as np
import numpy.typing as npt
import xxhash

from sentinel.domain import Transaction
from sentinel.log.entries import FLAG_DEGRADED, DecisionGroup, outcome_codes

Floats = npt.NDArray[np.float64]
Numbers = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

DAY_US: Final = 86_400_000_000
LEAST_BLOCK: Final = 1_000
"""Payments that a block has at least: lines of fewer would be lines of chance."""
MOST_SLACK: Final = 1.25
"""Alerts that lines may raise, against the share that was stopped: where costs rule, the lowest
score of a stopped payment says nothing of a line."""
MOST_WEIGHT: Final = 50.0
"""One over the propensity, at most; as in `sentinel.models.weights`."""

LabelOf = Callable[[str], tuple[bool, int] | None]
"""Whether a transaction is fraud, and when that arrived, microseconds; None if nobody said so."""


class Side(msgspec.Struct, kw_only=True):
    """Payments that one model would alert on and the other would not.

    Attributes:
        payments: All of them.
        visible: Those whose truth comes out: the other model decided, and let them pass.
        agreed: Those that the other model decided and stopped all the same.
    """

    payments: int = 0
    visible: int = 0
    agreed: int = 0


class AlertSums(msgspec.Struct, kw_only=True):
    """Sums over payments that a model would alert on, for estimates before labels.

    Attributes:
        payments: How many.
        probability, variance: Sums of p and p (1 - p), p its own calibrated probability.
        known: Mature ones with truth.
        weight, weight_squared: Sums of one over the chance to be known.
        rest, rest_squared: Weighted sums of truth minus p, and of its square times the weight.
    """

    payments: int = 0
    probability: float = 0.0
    variance: float = 0.0
    known: int = 0
    weight: float = 0.0
    weight_squared: float = 0.0
    rest: float = 0.0
    rest_squared: float = 0.0


class Block(msgspec.Struct, frozen=True, kw_only=True):
    """A day or more, after the fact.

    Attributes:
        start_us, end_us: When its first and last payment came.
        payments: That both models scored, with the champion or the challenger deciding.
        decided: Of these, by the challenger.
        budget: Share of payments that each model may alert on.
        mature: Whether all of its payments are.
    """

    start_us: int
    end_us: int
    payments: int
    decided: int
    budget: float
    mature: bool


@dataclass(frozen=True, eq=False)
class Frauds:
    """Frauds that came to light and that one model would alert on alone: (n,) each, in log order.

    Attributes:
        received_at_us: When the payment came.
        challenger: Whether only the challenger would have alerted.
        share: The challenger's chance to decide.
        amount_minor: Minor units.
        mature: Whether the payment is as old as labels need; a label that came later is left out.
    """

    received_at_us: Numbers
    challenger: Bools
    share: Floats
    amount_minor: Numbers
    mature: Bools


@dataclass(frozen=True, eq=False)
class Observed:
    """An experiment as the log shows it.

    Attributes:
        frauds: The first of each card.
        repeated: Further frauds of the same cards, which are not counted.
        late: Frauds that were reported after the maturity, which are not counted either.
        blocks: In time.
        champion_alone, challenger_alone: Disagreements, fraud or not.
        champion, challenger: For estimates.
        degraded: Payments that were decided without state, and are left out.
    """

    frauds: Frauds
    repeated: int
    late: int
    blocks: tuple[Block, ...]
    champion_alone: Side
    challenger_alone: Side
    champion: AlertSums
    challenger: AlertSums
    degraded: int

    @property
    def mature_days(self) -> float:
        """Days from the first payment to the last mature one."""
        mature = [block for block in self.blocks if block.mature]
        return (mature[-1].end_us - mature[0].start_us) / DAY_US if mature else 0.0

    @property
    def payments(self) -> int:
        """Payments that were compared."""
        return sum(block.payments for block in self.blocks)


@dataclass
class _Held:
    """Columns of a block that is not over yet, a list of arrays each."""

    columns: dict[str, list[npt.NDArray[np.generic]]] = field(default_factory=dict)
    ids: list[str] = field(default_factory=list)
    start_us: int = 0
    end_us: int = 0
    payments: int = 0

    def add(self, part: Mapping[str, npt.NDArray[np.generic]], ids: Sequence[str]) -> None:
        for name, values in part.items():
            self.columns.setdefault(name, []).append(values)
        if not self.payments:
            self.start_us = int(part["received"][0])
        self.end_us = max(self.end_us, int(part["received"][-1]))
        self.ids += ids
        self.payments += len(ids)


class Observing:
    """Reads groups of decisions, oldest first.

    Args:
        name: Of the experiment.
        share_at: The challenger's chance to decide, among payments that it or the champion
            decides, at a time in microseconds, where these experiments scored.
        label_of: What is said of a payment.
        maturity_us: After so long, silence counts.
        now_us: The end of the log.
        unit_of: What a payment is drawn by.
    """

    def __init__(
        self,
        name: str,
        share_at: Callable[[int, Collection[str]], float],
        label_of: LabelOf,
        *,
        maturity_us: int,
        now_us: int,
        unit_of: Callable[[Transaction], str],
    ) -> None:
        self._name = name
        self._share_at = share_at
        self._label_of = label_of
        self._maturity_us = maturity_us
        self._now_us = now_us
        self._unit_of = unit_of
        self._held = _Held()
        self._seen: set[int] = set()
        self._frauds: list[tuple[int, bool, float, int, bool]] = []
        self._blocks: list[Block] = []
        self._sides = Side(), Side()
        self._sums = AlertSums(), AlertSums()
        self._repeated = self._late = self._degraded = 0

    def add(self, group: DecisionGroup, floor_us: int = 0) -> None:
        """Take a group of decisions."""
        number = next(
            (i for i, role in enumerate(group.columns.roles, 1) if role.role == self._name), None
        )
        if number is None:
            return
        n, role = len(group.transactions), group.columns.roles[number - 1]
        deciders = np.frombuffer(group.columns.deciders or bytes(n), np.uint8)
        challenger = np.frombuffer(role.scores, "<f8")
        flags = group.flag_array()
        degraded = (flags & FLAG_DEGRADED) > 0
        compared = ((deciders == 0) | (deciders == number)) & ~np.isnan(challenger)
        self._degraded += int(np.count_nonzero(compared & degraded))
        rows = np.flatnonzero(compared & ~degraded)
        if not len(rows):
            return
        taken = [group.transactions[row] for row in rows.tolist()]
        received = np.array([max(t.received_at_us, floor_us) for t in taken], dtype=np.int64)
        if self._held.payments >= LEAST_BLOCK and received[0] - self._held.start_us >= DAY_US:
            self._close_block()
        share = self._share_at(int(received[0]), {role.role for role in group.columns.roles})
        part: dict[str, npt.NDArray[np.generic]] = {
            "received": received,
            "champion": np.frombuffer(group.scores, "<f8")[rows],
            "challenger": challenger[rows],
            "champion_p": np.frombuffer(group.probabilities, "<f8")[rows],
            "challenger_p": np.frombuffer(role.probabilities, "<f8")[rows],
            "decided": deciders[rows] == number,
            "outcome": outcome_codes(flags)[rows],
            "base": np.asarray(group.base_outcome_codes())[rows],
            "propensity": group.columns.propensity_array(n)[rows].astype(np.float64),
            "amount": np.array([t.amount_minor for t in taken], dtype=np.int64),
            "unit": np.array(
                [xxhash.xxh3_64_intdigest(self._unit_of(t).encode()) >> 1 for t in taken],
                dtype=np.int64,
            ),
            "share": np.full(len(rows), share),
        }
        self._held.add(part, [t.transaction_id for t in taken])

    def result(self) -> Observed:
        """All that was read; what is left over is a block that is not over yet."""
        if self._held.payments:
            self._close_block()
        columns = list(zip(*self._frauds, strict=True)) or [()] * 5
        kinds: tuple[npt.DTypeLike, ...] = (np.int64, bool, np.float64, np.int64, bool)
        arrays = [np.array(c, dtype=kind) for c, kind in zip(columns, kinds, strict=True)]
        return Observed(
            frauds=Frauds(*arrays),
            repeated=self._repeated,
            late=self._late,
            blocks=tuple(self._blocks),
            champion_alone=self._sides[0],
            challenger_alone=self._sides[1],
            champion=self._sums[0],
            challenger=self._sums[1],
            degraded=self._degraded,
        )

    def _close_block(self) -> None:
        held, self._held = self._held, _Held()
        c = {name: np.concatenate(parts) for name, parts in held.columns.items()}
        decided, alerted = c["decided"].astype(bool), c["base"] != 0
        scores = [np.asarray(c[name], np.float64) for name in _MODELS]
        alerts = _equal_alerts(scores, decided, alerted)
        mature = held.end_us < self._now_us - self._maturity_us
        self._blocks.append(
            Block(
                start_us=held.start_us,
                end_us=held.end_us,
                payments=held.payments,
                decided=int(decided.sum()),
                budget=alerts / held.payments,
                mature=mature,
            )
        )
        if not alerts:
            return
        would = [_at_most(score, alerts) for score in scores]
        for side, name in enumerate(_MODELS):
            self._sum_alerts(side, np.flatnonzero(would[side]), c, held.ids, name)
        for side in (0, 1):
            rows = np.flatnonzero(would[side] & ~would[1 - side])
            self._disagree(side, rows, c, held.ids)

    def _disagree(
        self, side: int, rows: Numbers, c: dict[str, npt.NDArray[np.generic]], ids: list[str]
    ) -> None:
        """Payments that one model alone (0 = the champion) would alert on."""
        decided = np.asarray(c["decided"], np.bool_)
        counts, passed = self._sides[side], np.asarray(c["base"]) == 0
        # The model that would not alert is the one whose decision lets the truth out.
        by_other = decided[rows] == (side == 0)
        counts.payments += len(rows)
        counts.visible += int(np.count_nonzero(by_other & passed[rows]))
        counts.agreed += int(np.count_nonzero(by_other & ~passed[rows]))
        for row in rows[by_other & passed[rows]].tolist():
            received = int(np.asarray(c["received"])[row])
            said = self._label_of(ids[row])
            if said is None or not said[0]:
                continue
            if said[1] > received + self._maturity_us:
                self._late += 1
                continue
            unit = int(np.asarray(c["unit"])[row])
            if unit in self._seen:
                self._repeated += 1
                continue
            self._seen.add(unit)
            self._frauds.append(
                (
                    received,
                    side == 1,
                    float(np.asarray(c["share"])[row]),
                    int(np.asarray(c["amount"])[row]),
                    received < self._now_us - self._maturity_us,
                )
            )

    def _sum_alerts(
        self,
        side: int,
        rows: Numbers,
        c: dict[str, npt.NDArray[np.generic]],
        ids: list[str],
        name: str,
    ) -> None:
        """Sums of what a model would alert on; truth of what the control group let through."""
        sums = self._sums[side]
        p = np.asarray(c[f"{name}_p"], np.float64)
        sums.payments += len(rows)
        sums.probability += float(p[rows].sum())
        sums.variance += float((p[rows] * (1.0 - p[rows])).sum())
        explored = (np.asarray(c["base"])[rows] != 0) & (np.asarray(c["outcome"])[rows] == 0)
        old = np.asarray(c["received"], np.int64)[rows] < self._now_us - self._maturity_us
        own = np.asarray(c["decided"], np.bool_)[rows] == (side == 1)
        # The model's own alerts that the control group let through: a sample of all of them.
        for row in rows[explored & old & own].tolist():
            said = self._label_of(ids[row])
            weight = min(1.0 / float(np.asarray(c["propensity"])[row]), MOST_WEIGHT)
            rest = float(said is not None and said[0]) - float(p[row])
            sums.known += 1
            sums.weight += weight
            sums.weight_squared += weight * weight
            sums.rest += weight * rest
            sums.rest_squared += weight * weight * rest * rest


_MODELS: Final = ("champion", "challenger")


def _equal_alerts(scores: Sequence[Floats], decided: Bools, alerted: Bools) -> int:
    """How many payments both models may alert on, so that each lets pass what is below its line.

    Args:
        scores: float64 (n,), of the champion and of the challenger.
        decided: bool (n,), by the challenger.
        alerted: bool (n,), stopped by the model that decided, before the control group.
    """
    n, found = len(decided), 0
    most = MOST_SLACK * max(float(alerted[~decided].mean()) if (~decided).any() else 0.0, 0.0) * n
    for side, score in enumerate(scores):
        own = decided == bool(side)
        if not (own & alerted).any():
            continue
        line = float(score[own & alerted].min())
        mine = MOST_SLACK * float(alerted[own].mean()) * n
        # A small arm says little of its own share: then the champion's has to do.
        found = max(found, min(int((score >= line).sum()), round(max(mine, most))))
    return found


def _at_most(scores: Floats, alerts: int) -> Bools:
    """Bool (n,): the payments that a model would alert on, if it may on ``alerts`` of them.

    Of equal scores at the line, none is taken unless all fit.

    >>> _at_most(np.array([0.9, 0.2, 0.5, 0.5]), 2).tolist()
    [True, False, False, False]
    """
    if alerts >= len(scores):
        return np.ones(len(scores), dtype=np.bool_)
    line = np.partition(scores, len(scores) - alerts)[len(scores) - alerts]
    above = scores >= line
    return np.asarray(above if above.sum() <= alerts else scores > line, np.bool_)
