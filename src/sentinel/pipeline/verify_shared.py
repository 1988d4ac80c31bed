"""The proof of `features verify` for state that scorers share."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from sentinel.features.plan.plan import Plan
from sentinel.features.plan.program import KIND_ADD
from sentinel.ledger.base import SharedLedger
from sentinel.ledger.log import read_log
from sentinel.ledger.open import open_shared
from sentinel.log.entries import FLAG_DEGRADED, GroupKind
from sentinel.log.placed import placed_decisions
from sentinel.log.schema import KIND_TRANSACTION
from sentinel.pipeline.served_changes import Effect, Rebuilt, Voided
from sentinel.pipeline.served_replay import ServedReplay, replay_served
from sentinel.settings import Settings
from sentinel.state.redis.layout import same_load, state_name


def verify_shared(settings: Settings, plan: Plan) -> ServedReplay | None:
    """Hold everything that scorers with shared state served with a plan against a replay.

    Args:
        settings: The deployment.
        plan: The plan.

    Returns:
        What was found; None if no state of this plan was shared.

    Raises:
        ConfigurationError: State is not shared.
        LedgerUnavailable: The ledger cannot be read right now.
    """
    places = {view.name: number for number, view in enumerate(plan.views)}
    with open_shared(settings) as ledger:
        name = state_name(plan.hash)
        loaded_through: int | None = None
        epoch = 0
        rebuilds: list[Rebuilt] = []
        voids: list[Voided] = []
        for found in ledger.rebuilds(name):
            if not found.view:  # all of it, anew
                loaded_through, epoch = found.through_sequence, found.position
                rebuilds.clear()
                voids.clear()
                continue
            record = (places[found.view], found.entity_key)
            if found.through_sequence < 0:
                voids.append(Voided(*record, -found.through_sequence, found.position))
            else:
                rebuilds.append(Rebuilt(*record, found.position, found.through_sequence))
        if loaded_through is None:
            return None
        effects = [
            Effect(effect.transaction_id, effect.kind, effect.positions, effect.label_sequence)
            for effect in ledger.label_effects(name)
            if effect.label_sequence > loaded_through
        ]
        effects += _imported(ledger, plan, loaded_through)
        replay = replay_served(ledger, plan, loaded_through, rebuilds, effects, voids, epoch=epoch)
        return replace(replay, not_replayed=_not_replayed(ledger, plan, loaded_through, epoch))


def _imported(ledger: SharedLedger, plan: Plan, after: int) -> list[Effect]:
    """Where imported transactions stand that were brought in piece by piece."""
    placed: dict[int, tuple[int, ...]] = {}
    views = len(plan.views)
    for piece in ledger.piece_effects(state_name(plan.hash)):
        rows = [
            tuple(piece.positions[at : at + views]) for at in range(0, len(piece.positions), views)
        ]
        for sequence, row in enumerate(rows, piece.first_sequence):
            known = placed.get(sequence, row)
            placed[sequence] = tuple(map(max, known, row))
    if not placed:
        return []
    found = []
    columns = ("kind", "transaction_id")
    for first, batch in read_log(ledger, after=after, columns=columns):
        ids, kinds = (batch.column(name).to_pylist() for name in ("transaction_id", "kind"))
        for sequence, (identifier, kind) in enumerate(zip(ids, kinds, strict=True), first):
            if kind == KIND_TRANSACTION and sequence in placed:
                found.append(Effect(identifier, KIND_ADD, placed[sequence], sequence))
    return found


def _not_replayed(ledger: SharedLedger, plan: Plan, loaded_through: int, epoch: int) -> int:
    """Decisions on shared records of an older format, or of a load before the last one."""
    number = 0
    for group in ledger.groups():
        if group.kind != GroupKind.DECISIONS:
            continue
        placed = placed_decisions(group.payload, group.entries)
        if placed.plan_hash != plan.hash or placed.positions is None:
            continue
        highest = placed.positions.max(axis=1, initial=0)
        with_state = (highest > 0) & (placed.flags & FLAG_DEGRADED == 0)
        sequences = group.first_sequence + np.arange(group.entries)
        number += int(
            (with_state & ((sequences <= loaded_through) | ~same_load(highest, epoch))).sum()
        )
    return number
