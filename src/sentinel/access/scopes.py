"""The scopes of a key: what it may be used for. No scope implies another."""

from __future__ import annotations

import enum
from collections.abc import Iterable
from typing import Final

from sentinel.domain import ConfigurationError


class Scope(enum.StrEnum):
    """What a key may be used for."""

    SCORE = "score"
    DRY_RUN = "dry_run"
    LABEL = "label"
    DECISIONS = "decisions"
    FEATURES = "features"
    MODELS = "models"
    METRICS = "metrics"
    ADMIN = "admin"


MEANINGS: Final[dict[Scope, str]] = {
    Scope.SCORE: "have payments decided on, and ask for the answer again",
    Scope.DRY_RUN: "have payments scored without a trace; it can probe the model",
    Scope.LABEL: "record verdicts",
    Scope.DECISIONS: "read what was decided, with everything that was sent",
    Scope.FEATURES: "read features of customers, cards and others",
    Scope.MODELS: "see which model serves and which versions there are",
    Scope.METRICS: "read counters, for Prometheus",
    Scope.ADMIN: "operate the service: models, counters, and what concerns all senders",
}
ALL_SCOPES: Final = frozenset(Scope)


def scopes_of(names: Iterable[str]) -> frozenset[Scope]:
    """The scopes that are named, each alone or several with commas between.

    Raises:
        ConfigurationError: One is no scope, or there is none.

    >>> sorted(scopes_of(["score,label", "dry_run"]))
    [<Scope.DRY_RUN: 'dry_run'>, <Scope.LABEL: 'label'>, <Scope.SCORE: 'score'>]
    """
    found: set[Scope] = set()
    for name in ",".join(names).split(","):
        word = name.strip().lower().replace("-", "_")
        if not word:
            continue
        if word not in ALL_SCOPES:
            raise ConfigurationError(
                f"{name.strip()!r} is no scope; the scopes are {', '.join(Scope)}."
            )
        found.add(Scope(word))
    if not found:
        raise ConfigurationError(f"A key needs a scope; the scopes are {', '.join(Scope)}.")
    return frozenset(found)
