"""The file that names the model which serves: ``champion.json`` in the models folder."""

from __future__ import annotations

from typing import Final

import msgspec

from sentinel.domain import ModelFormatError
from sentinel.settings import Settings

CHAMPION_FILE: Final = "champion.json"


class Champion(msgspec.Struct, frozen=True):
    """What the file says.

    Attributes:
        version: In the registry.
        folder: Next to the file.
    """

    version: str
    folder: str


def champion_of(settings: Settings) -> Champion | None:
    """The model that is to serve; None while nothing was promoted.

    Raises:
        ModelFormatError: The file is damaged.
    """
    path = settings.models_dir / CHAMPION_FILE
    try:
        return msgspec.json.decode(path.read_bytes(), type=Champion)
    except FileNotFoundError:
        return None
    except msgspec.DecodeError as error:
        raise ModelFormatError(
            f"{path} cannot be read ({error}). Delete it: a follower fetches it again, and so does "
            "`sentinel promote`."
        ) from None
