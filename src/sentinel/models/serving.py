"""The file that names what serves: ``serving.json`` in the models folder.

    {"roles": {"champion": {"version": "3", "folder": "sentinel-fraud-3"}},
     "plan_hash": "71f8348ec35965d8", "policy": null, "format": 1}

It names the models by role, the plan that their vectors are of, and the lines of the policy where
they are not the champion's own. It is replaced as a whole, so that a scorer never has the roles of
one version with the plan or the policy of another.

``champion.json`` beside it says who the champion is, for versions of Sentinel that know no roles.
Both are written, this one first. If the other one is newer and names another champion, an older
Sentinel has promoted since, and what it says holds, with no other role and no policy.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final, TypeVar

import msgspec

from sentinel.domain import ModelFormatError
from sentinel.models.signature import APPROVAL_FILE
from sentinel.models.thresholds import Thresholds
from sentinel.settings import Settings

SERVING_FILE: Final = "serving.json"
CHAMPION_FILE: Final = "champion.json"
SERVING_FORMAT: Final = 1
CHAMPION_ROLE: Final = "champion"

_S = TypeVar("_S", bound=msgspec.Struct)

_REMEDY: Final = "Delete it: a follower fetches it again, and so does `sentinel promote`."


class ServedModel(msgspec.Struct, frozen=True):
    """A model that serves.

    Attributes:
        version: In the registry.
        folder: Next to the file.
    """

    version: str
    folder: str


class Serving(msgspec.Struct, frozen=True, kw_only=True):
    """What serves.

    Attributes:
        roles: Models by role; there always is a champion.
        plan_hash: The plan of their vectors; empty if an older Sentinel wrote the file.
        policy: Lines that replace the champion's own; None if its own hold.
        format: Version of this layout.
    """

    roles: dict[str, ServedModel]
    plan_hash: str = ""
    policy: Thresholds | None = None
    format: int = SERVING_FORMAT

    @property
    def champion(self) -> ServedModel:
        """The model that decides."""
        return self.roles[CHAMPION_ROLE]


def model_folder(settings: Settings, version: str) -> Path:
    """Where a version's folder is, or would be."""
    return settings.models_dir / f"{settings.mlflow.model_name}-{version}"


def serving_of(settings: Settings) -> Serving | None:
    """What is to serve; None while nothing was promoted.

    Raises:
        ModelFormatError: A file is damaged, or a newer Sentinel wrote it.
    """
    path, old = settings.models_dir / SERVING_FILE, settings.models_dir / CHAMPION_FILE
    champion = _read(old, ServedModel)
    serving = _read(path, Serving)
    if serving is not None and serving.format > SERVING_FORMAT:
        raise ModelFormatError(
            f"{path} has format {serving.format}, this Sentinel reads {SERVING_FORMAT}. Install "
            "the version that wrote it, or promote with this one."
        )
    if serving is not None and CHAMPION_ROLE not in serving.roles:
        raise ModelFormatError(f"{path} names no champion. {_REMEDY}")
    named = [] if serving is None else list(serving.roles.values())
    for model in named if champion is None else [*named, champion]:
        if Path(model.folder).name != model.folder or model.folder in (".", ".."):
            raise ModelFormatError(
                f"{path.parent} names {model.folder!r} as the folder of version {model.version}. A "
                f"model is in a folder next to that file. {_REMEDY}"
            )
    if serving is not None and serving.policy is not None:
        lines = serving.policy
        if not 0 <= lines.review <= lines.decline or lines.fraud < 0:
            raise ModelFormatError(
                f"{path} has a policy with the lines fraud {lines.fraud:g}, review "
                f"{lines.review:g} and decline {lines.decline:g}. Lines are probabilities, and a "
                f"review begins at a lower one than a decline, or at the same. {_REMEDY}"
            )
    if champion is None or (
        serving is not None and (champion == serving.champion or _newer(path, old))
    ):
        return serving
    return Serving(roles={CHAMPION_ROLE: champion})


def write_serving(settings: Settings, serving: Serving) -> None:
    """Let serving read this from now on; each file is there whole, the old or the new one."""
    write_durably(settings.models_dir / SERVING_FILE, serving)
    write_durably(settings.models_dir / CHAMPION_FILE, serving.champion)


def serving_stamp(settings: Settings, folder: str = "") -> tuple[tuple[int, int], ...]:
    """Changes whenever `serving_of` may say something else; costs three looks at folders.

    Args:
        settings: The deployment.
        folder: Of the champion that it said: its approval may come later. Empty for none.
    """
    paths = [settings.models_dir / name for name in (SERVING_FILE, CHAMPION_FILE)]
    if folder:
        paths.append(settings.models_dir / folder / APPROVAL_FILE)
    found = []
    for path in paths:
        try:
            status = path.stat()
        except FileNotFoundError:
            found.append((0, 0))
        else:
            found.append((status.st_mtime_ns, status.st_ino))
    return tuple(found)


def write_durably(path: Path, value: msgspec.Struct) -> None:
    """Replace a JSON file at once, on disk when this returns."""
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    with partial.open("wb") as file:
        file.write(msgspec.json.encode(value))
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)


def _newer(path: Path, other: Path) -> bool:
    try:
        return path.stat().st_mtime_ns > other.stat().st_mtime_ns
    except FileNotFoundError:  # replaced just now
        return True


def _read(path: Path, kind: type[_S]) -> _S | None:
    try:
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except FileNotFoundError:
        return None
    except msgspec.DecodeError as error:
        raise ModelFormatError(f"{path} cannot be read ({error}). {_REMEDY}") from None
