"""The oracle's share: some entities, with all that ever happened to them."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable
from typing import Final

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from benchmarks.parity_tally import Tally, Vectors
from sentinel.domain import Label, Verdict
from sentinel.features.arena import KEY_SEPARATOR
from sentinel.features.plan.functions import AMOUNT
from sentinel.features.plan.parts import View
from sentinel.features.plan.plan import Plan
from sentinel.log.schema import KIND_LABEL, KIND_TRANSACTION
from sentinel.pipeline.verify import transactions_of
from testkit.oracle import Oracle

_MOST_ROWS_OF_AN_ENTITY: Final = 2_000


class SampledView:
    """The oracle for one view: sampled entities, and of the plan what needs no other view."""

    def __init__(self, plan: Plan, view: View, entities: Iterable[str]) -> None:
        own = {AMOUNT, *(a.name for a in view.aggregates)}
        ratios = tuple(r for r in plan.ratios if {r.numerator, r.denominator} <= own)
        self.view = view
        self.plan = msgspec.structs.replace(plan, views=(view,), ratios=ratios)
        self.names = list(self.plan.feature_names)
        self.columns = [plan.feature_names.index(name) for name in self.names]
        self.entities = pa.array(sorted(entities), pa.string())
        self.oracle = Oracle(self.plan)

    def step(self, batch: pa.RecordBatch, backfilled: Vectors, tally: Tally) -> None:
        """Go through a log batch; compare the sampled transactions' vectors."""
        is_transaction = batch.column("kind").to_numpy() == KIND_TRANSACTION
        sampled = pc.is_in(entity_column(batch, self.view), value_set=self.entities)
        wanted = sampled.to_numpy(zero_copy_only=False) & is_transaction
        places = np.flatnonzero(wanted | ~is_transaction)
        if len(places) == 0:
            return
        few = batch.take(pa.array(places))
        transactions = transactions_of(few)
        answers = []
        for entry in few.select(["kind", "transaction_id", "verdict"]).to_pylist():
            if entry["kind"] == KIND_LABEL:
                self.oracle.tell(
                    Label(
                        label_id="",
                        transaction_id=entry["transaction_id"],
                        verdict=Verdict(entry["verdict"]),
                        received_at_us=0,
                    )
                )
            else:
                transaction = next(transactions)
                answers.append(self.oracle.ask(transaction))
                self.oracle.tell(transaction)
        rows = np.cumsum(is_transaction)[wanted] - 1
        by_definition = np.array(
            [[np.nan if v is None else v for v in answer] for answer in answers], dtype=np.float32
        ).reshape(len(rows), len(self.names))
        tally.compare(self.names, backfilled[rows][:, self.columns].copy(), by_definition)


def entity_column(batch: pa.RecordBatch, view: View) -> pa.Array:
    """A view's entity keys, null where a part is unknown."""
    keys = [batch.column(key) for key in view.keys]
    return keys[0] if len(keys) == 1 else pc.binary_join_element_wise(*keys, KEY_SEPARATOR)


def sample(
    plan: Plan, batches: Iterable[pa.RecordBatch], rows: int, seed: int
) -> list[SampledView]:
    """Sampled entities of every view that has any, ``rows`` transactions of each view."""
    counts: list[Counter[str]] = [Counter() for _ in plan.views]
    for batch in batches:
        for view, counter in zip(plan.views, counts, strict=True):
            for item in entity_column(batch, view).drop_null().value_counts().to_pylist():
                counter[item["values"]] += item["counts"]
    sampled = []
    for view, counter in zip(plan.views, counts, strict=True):
        entities = sorted(counter)
        random.Random(seed).shuffle(entities)
        chosen: list[str] = []
        found = 0
        for entity in entities:
            if found >= rows:
                break
            if counter[entity] <= _MOST_ROWS_OF_AN_ENTITY:
                chosen.append(entity)
                found += counter[entity]
        if chosen:
            sampled.append(SampledView(plan, view, chosen))
    return sampled
