"""Reads features where state is in Redis: the records of now, folded here."""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np

from sentinel.domain import DefinitionError, StateUnavailable
from sentinel.features.plan.program import compile_program
from sentinel.retrieval.current import CurrentFeatures, Row
from sentinel.scoring.served import load_plan
from sentinel.settings import Settings
from sentinel.state.redis.features import SharedFeatures
from sentinel.state.redis.records import Records
from sentinel.state.redis.wire import Wire

_TIMEOUT_SECONDS = 5.0  # a notebook can wait longer than a payment
_ROWS_A_READ = 500


class RedisStateReader:
    """A `FeatureReader` of the state that scorers share. For one thread at a time.

    Args:
        settings: Name the Redis, and the plan that scorers run.

    Raises:
        DefinitionError: No plan has been applied yet.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.plan = load_plan(settings)
        self._places = {name: i for i, name in enumerate(self.plan.feature_names)}
        wire = Wire(settings.state.redis_url, timeout_seconds=_TIMEOUT_SECONDS)
        program = compile_program(self.plan)
        self._records = Records(program, wire, prefix=settings.state.redis_prefix)
        self._features = SharedFeatures(self._records, cache_bytes=0)

    @property
    def is_current(self) -> bool:
        """Whether scorers still run this reader's plan."""
        return load_plan(self._settings).hash == self.plan.hash

    def read(
        self, rows: Sequence[Row], features: Sequence[str], now_us: int | None
    ) -> CurrentFeatures:
        """See `FeatureReader.read`. State that is not loaded, or being loaded, cannot be read."""
        unknown = [name for name in features if name not in self._places]
        if unknown:
            raise DefinitionError(
                f"The plan {self.plan.hash} that scorers run has no feature {unknown[0]!r}. "
                "If the definitions changed, train and promote a model with them."
            )
        self._require_state()
        now = time.time_ns() // 1000 if now_us is None else now_us
        values = np.empty((len(rows), len(self._places)), dtype=np.float32)
        for start in range(0, len(rows), _ROWS_A_READ):
            few = rows[start : start + _ROWS_A_READ]
            values[start : start + len(few)] = self._features.read(few, now)
        self._require_state()  # still there: a load that began meanwhile empties it first
        columns = [self._places[name] for name in features]
        return CurrentFeatures(self.plan.hash, now, tuple(features), values[:, columns])

    def _require_state(self) -> None:
        # A record that is not there reads as an entity without history: only true once all are.
        if self._records.loaded() is None:
            raise StateUnavailable(
                f"Redis does not hold the state of plan {self.plan.hash}: no scorer has loaded it, "
                "or Redis has lost it. Start a scorer (`sentinel serve`), which loads it, and see "
                "that SENTINEL_STATE__REDIS_URL and SENTINEL_STATE__REDIS_PREFIX are the scorer's."
            )

    def close(self) -> None:
        """Close the connection."""
        self._records.close()
