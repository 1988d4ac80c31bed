"""Whether a model serves that no gate signed: files, signatures and versions are exchanged."""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import msgspec

from sentinel.domain import ModelError
from sentinel.models.champion import champion_of
from sentinel.models.registry import MANIFEST_TAG, Registry
from sentinel.models.serving import SERVING_FILE
from sentinel.models.signature import SIGNATURE_FILE, SIGNATURE_TAG, sign, verify
from sentinel.models.signing_keys import SigningKey, signing_key_of, trusted_keys_of
from sentinel.pipeline.registry_files import open_registry
from sentinel.pipeline.registry_sync import sync_champion
from sentinel.pipeline.served import folder_of
from sentinel.scoring.champions import WarmModels
from sentinel.settings import MlflowSettings, Settings
from testkit.ports import free_port
from testkit.signed_models import let_through
from testkit.small_models import register_small_model

_FOREIGN: Final = SigningKey(bytes(range(32)))
_PLACES: Final = 16
"""Bytes of each file that are flipped in the scorer's folder, one after the other."""


class World:
    """A workspace that serves version 1, with a signed version 2 and a candidate 3.

    Args:
        folder: For the workspace and copies of it.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._copies = 0
        mlflow = MlflowSettings(port=free_port(), model_name="signatures")
        self.settings = Settings(workspace=folder / "workspace", mlflow=mlflow)
        for seed in range(3):
            register_small_model(self.settings, folder / str(seed), seed=seed)
        for version in ("1", "2"):
            let_through(self.settings, version)
        Registry.of(self.settings).crown(["1"])
        sync_champion(self.settings)

    def copy(self) -> Settings:
        """The same in a folder of its own, to be changed."""
        self._copies += 1
        target = self._folder / f"copy-{self._copies}"
        shutil.copytree(self.settings.workspace, target)
        return self.settings.model_copy(update={"workspace": target})


Attack = Callable[[Settings], object]
"""Changes the registry of a workspace, or the folder of version 2 that is here."""


def at_the_registry(version: str) -> dict[str, Attack]:
    """What who can write to MLflow may try with a version, by name."""

    def files(settings: Settings) -> Path:
        with open_registry(settings) as server:
            place = server.location_of(settings.mlflow.model_name, version)
        return settings.workspace / "mlartifacts" / place

    def note(settings: Settings, key: str, value: str) -> None:
        Registry.of(settings).note(version, key, value)

    def said(settings: Settings, of: str) -> str:
        return Registry.of(settings).version(of).tags[SIGNATURE_TAG]

    def foreign(settings: Settings) -> None:
        statement = verify(said(settings, version), trusted_keys_of(settings), "it").statement
        passed = msgspec.structs.replace(statement, verdict="passed")
        note(settings, SIGNATURE_TAG, sign(passed, _FOREIGN))

    def promoted_words(settings: Settings) -> None:
        lines = said(settings, version).splitlines()
        words = lines[0].replace('"candidate"', '"passed"').replace("judged by no", "passed the")
        note(settings, SIGNATURE_TAG, f"{words}\n{lines[1]}\n")

    def other_manifest(settings: Settings) -> None:
        here = files(settings) / "manifest.json"
        with open_registry(settings) as server:
            place = server.location_of(settings.mlflow.model_name, "1")
        shutil.copy(settings.workspace / "mlartifacts" / place / "manifest.json", here)
        note(settings, MANIFEST_TAG, "")

    tries: dict[str, Attack] = {
        "unsigned": lambda settings: note(settings, SIGNATURE_TAG, ""),
        "another key": foreign,
        "changed words": promoted_words if version == "3" else foreign,
        "signature of version 1": lambda s: note(s, SIGNATURE_TAG, said(s, "1")),
        "manifest of version 1": other_manifest,
        "added file": lambda settings: (files(settings) / "added.txt").write_text("x"),
        "missing file": lambda settings: (files(settings) / "MLmodel").unlink(),
    }
    for name in ("manifest.json", "plan.json", "model.txt", "MLmodel"):

        def flip_one(settings: Settings, name: str = name) -> None:
            flip(files(settings) / name, 0.5)
            note(settings, MANIFEST_TAG, "")

        tries[f"flipped byte of {name}"] = flip_one
    return tries


def flip(path: Path, where: float) -> None:
    """Change the lowest bit of one byte, at a share of the file."""
    content = bytearray(path.read_bytes())
    content[int(where * (len(content) - 1))] ^= 1
    path.write_bytes(bytes(content))


def in_the_folder(settings: Settings) -> Iterator[tuple[str, Attack]]:
    """What who can write to the models folder may try with version 2."""
    folder = folder_of(settings, "2")
    for path in sorted(folder.iterdir()):
        for place in range(_PLACES):

            def flip_one(changed: Settings, name: str = path.name, place: int = place) -> None:
                flip(folder_of(changed, "2") / name, place / (_PLACES - 1))

            yield f"flipped byte of {path.name}", flip_one

        def remove(changed: Settings, name: str = path.name) -> None:
            (folder_of(changed, "2") / name).unlink()

        yield f"missing {path.name}", remove

        def exchange(changed: Settings, name: str = path.name) -> None:
            shutil.copy(folder_of(changed, "1") / name, folder_of(changed, "2"))

        if path.read_bytes() != (folder_of(settings, "1") / path.name).read_bytes():
            yield f"{path.name} of version 1", exchange

    def foreign(changed: Settings) -> None:
        here = folder_of(changed, "2")
        text = (here / SIGNATURE_FILE).read_text()
        statement = verify(text, trusted_keys_of(changed), "it").statement
        (here / SIGNATURE_FILE).write_text(sign(statement, _FOREIGN))

    def ungated(changed: Settings) -> None:
        here = folder_of(changed, "2")
        text = (here / SIGNATURE_FILE).read_text()
        statement = verify(text, trusted_keys_of(changed), "it").statement
        candidate = msgspec.structs.replace(statement, verdict="candidate")
        (here / SIGNATURE_FILE).write_text(sign(candidate, signing_key_of(changed)))

    yield "another key", foreign
    yield "ungated", ungated
    yield "added file", lambda changed: (folder_of(changed, "2") / "added").write_text("x")
    yield "outside of the folder", outside


def outside(changed: Settings) -> None:
    """Point to a folder that is not next to the file."""
    shutil.copytree(folder_of(changed, "2"), changed.workspace / "elsewhere")
    path = changed.models_dir / SERVING_FILE
    path.write_text(path.read_text().replace(folder_of(changed, "2").name, "../elsewhere"))
    (changed.models_dir / "champion.json").unlink()


def loads(settings: Settings) -> str:
    """The version that a scorer loads; empty if it refuses."""
    try:
        champion = champion_of(settings)
        return "" if champion is None else str(WarmModels(settings).load(champion).version)
    except ModelError:
        return ""


def measure(folder: Path) -> dict[str, dict[str, object]]:
    """Try everything.

    Args:
        folder: For workspaces.

    Returns:
        By what was tried: how often (``tried``), how often it served (``served``), and how often
        anything else than version 1 decided afterwards (``displaced``).
    """
    world = World(folder)
    found: dict[str, dict[str, object]] = {}

    def tally(name: str, served: bool, displaced: bool) -> None:
        line = found.setdefault(name, {"tried": 0, "served": 0, "displaced": 0})
        for key, value in (("tried", 1), ("served", served), ("displaced", displaced)):
            line[key] = int(str(line[key])) + int(value)

    # A version that is in order serves, or the rest would show nothing.
    sound = world.copy()
    Registry.of(sound).crown(["1", "2"])
    sync_champion(sound)
    if loads(sound) != "2":
        raise RuntimeError("A version that is signed to serve does not.")

    for version in ("2", "3"):
        tries = at_the_registry(version)
        if version == "3":
            tries["ungated"] = lambda _: None
        for name, attack in tries.items():
            settings = world.copy()
            attack(settings)
            Registry.of(settings).crown(["1", version])
            try:
                served = sync_champion(settings) == version
            except ModelError:
                served = False
            tally(f"registry: {name}", served, loads(settings) != "1")
            shutil.rmtree(settings.workspace)

    world.settings = sound
    for name, attack in in_the_folder(sound):
        settings = world.copy()
        attack(settings)
        served = loads(settings) != ""
        tally(f"folder: {name}", served, False)
        shutil.rmtree(settings.workspace)
    return found


def totals(folder: Path) -> dict[str, int]:
    """How often something was tried, served, and displaced version 1; see `measure`."""
    lines = measure(folder).values()
    return {
        name: sum(int(str(line[name])) for line in lines)
        for name in ("tried", "served", "displaced")
    }


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks signatures", description=__doc__)
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    options = parser.parse_args(argv)
    with tempfile.TemporaryDirectory(prefix="sentinel-signatures-") as folder:
        found = measure(Path(folder))
    served = sum(int(str(line["served"])) for line in found.values())
    displaced = sum(int(str(line["displaced"])) for line in found.values())
    if options.json:
        tried = sum(int(str(line["tried"])) for line in found.values())
        document = {"tried": tried, "served": served, "displaced": displaced, "by": found}
        print(json.dumps(document, indent=2))
    else:
        width = max(map(len, found))
        print(f"{'tried to put in charge':{width}}  tried  served")
        for name, line in found.items():
            print(f"{name:{width}}  {line['tried']!s:>5}  {line['served']!s:>6}")
    return 1 if served or displaced else 0
