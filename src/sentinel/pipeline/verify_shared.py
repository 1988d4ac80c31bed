"""The proof of `features verify` for state that scorers share."""

from __future__ import annotations

from sentinel.features.plan.plan import Plan
from sentinel.ledger.open import open_shared
from sentinel.pipeline.served_replay import (
    Effect,
    Rebuilt,
    ServedReplay,
    Voided,
    replay_served,
)
from sentinel.settings import Settings
from sentinel.state.redis.layout import state_name


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
        return replay_served(ledger, plan, loaded_through, rebuilds, effects, voids, epoch=epoch)
