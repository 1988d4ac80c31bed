"""Who the champion is, for all that need no other role; see `sentinel.models.serving`."""

from __future__ import annotations

from sentinel.models.serving import CHAMPION_FILE, ServedModel, serving_of
from sentinel.settings import Settings

__all__ = ["CHAMPION_FILE", "Champion", "champion_of"]

Champion = ServedModel


def champion_of(settings: Settings) -> Champion | None:
    """The model that is to decide; None while nothing was promoted.

    Raises:
        ModelFormatError: The file is damaged.
    """
    serving = serving_of(settings)
    return None if serving is None else serving.champion
