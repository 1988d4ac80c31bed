"""Clearing Redis of shared records that no scorer uses any more."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass
from typing import Final

from sentinel.domain import ConfigurationError
from sentinel.scoring.served import load_plan
from sentinel.settings import Settings
from sentinel.state.redis.layout import VALUE_FORMAT
from sentinel.state.redis.old_states import StoredState, drop_state, stored_states
from sentinel.state.redis.wire import Wire

UNUSED_MINUTES: Final = 60
_TIMEOUT_SECONDS: Final = 30.0


@dataclass(frozen=True)
class OldRecords:
    """What was found.

    Attributes:
        dropped: Deleted, or to be deleted.
        in_use: Kept, since a scorer has asked for it too short a time ago.
        current: Kept, since it is of the plan that serves and of this version; None if there is
            none.
    """

    dropped: tuple[StoredState, ...]
    in_use: tuple[StoredState, ...]
    current: StoredState | None


def drop_old_records(
    settings: Settings, *, unused_seconds: int = 60 * UNUSED_MINUTES, dry_run: bool = False
) -> OldRecords:
    """Delete shared records of older formats and of plans that serve no more.

    Args:
        settings: The deployment.
        unused_seconds: Only what no scorer has asked for in so long.
        dry_run: Delete nothing.

    Raises:
        ConfigurationError: State is not shared, or Redis does not tell when keys were used.
        StateUnavailable: Redis does not answer. Run it again.
    """
    if settings.state.backend != "redis":
        raise ConfigurationError(
            "State is kept by the scorer itself (state.backend = embedded): there is nothing in "
            "Redis to drop."
        )
    plan_hash = load_plan(settings).hash
    dropped, in_use = [], []
    current = None
    with closing(Wire(settings.state.redis_url, timeout_seconds=_TIMEOUT_SECONDS)) as wire:
        for state in stored_states(wire, settings.state.redis_prefix):
            if (state.value_format, state.plan_hash) == (VALUE_FORMAT, plan_hash):
                current = state
            elif state.value_format > VALUE_FORMAT or state.unused_seconds < unused_seconds:
                in_use.append(state)
            elif dry_run or drop_state(wire, state, unused_seconds):
                dropped.append(state)
            else:
                in_use.append(state)
    return OldRecords(tuple(dropped), tuple(in_use), current)
