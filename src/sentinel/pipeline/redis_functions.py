"""The functions that scorers run in Redis, loaded by a user that may."""

from __future__ import annotations

from contextlib import closing
from typing import Final

from sentinel.domain import ConfigurationError
from sentinel.settings import Settings
from sentinel.state.redis.layout import Library
from sentinel.state.redis.wire import Wire

_TIMEOUT_SECONDS: Final = 30.0


def load_functions(settings: Settings) -> str:
    """Put this version's functions into every primary; returns the name of their library.

    Raises:
        ConfigurationError: State is not shared.
        StateUnavailable: Redis does not answer, or the user of its address may not load functions.
    """
    if settings.state.backend != "redis":
        raise ConfigurationError(
            "State is kept by the scorer itself (state.backend = embedded): there is "
            "nothing to load into Redis."
        )
    library = Library()
    with closing(Wire(settings.state.redis_url, timeout_seconds=_TIMEOUT_SECONDS)) as wire:
        wire.load_library(library.text)
    return library.name
