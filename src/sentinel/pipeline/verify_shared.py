"""The proof of `features verify` for state that scorers share."""

from __future__ import annotations

from sentinel.features.plan.plan import Plan
from sentinel.ledger.open import open_shared
from sentinel.pipeline.served_replay import Effect, Rebuilt, ServedReplay, replay_served
from sentinel.settings import Settings


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
        loaded_through: int | None = None
        rebuilds: list[Rebuilt] = []
        for rebuild in ledger.rebuilds(plan.hash):
            if rebuild.view:
                place = (places[rebuild.view], rebuild.entity_key)
                rebuilds.append(Rebuilt(*place, rebuild.position, rebuild.through_sequence))
            else:  # all of it, anew
                loaded_through = rebuild.through_sequence
                rebuilds.clear()
        if loaded_through is None:
            return None
        effects = [
            Effect(effect.transaction_id, effect.kind, effect.positions, effect.label_sequence)
            for effect in ledger.label_effects(plan.hash)
        ]
        return replay_served(ledger, plan, loaded_through, rebuilds, effects)
