"""One file that changes as a whole names what serves; what older versions wrote still holds."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec
import pytest

from sentinel.domain import ModelFormatError
from sentinel.models.champion import champion_of
from sentinel.models.serving import (
    CHAMPION_FILE,
    SERVING_FILE,
    ServedModel,
    Serving,
    serving_of,
    serving_stamp,
    write_serving,
)
from sentinel.models.thresholds import Thresholds
from sentinel.settings import Settings

ONE, TWO = ServedModel("1", "fraud-1"), ServedModel("2", "fraud-2")
NAMED = '{"roles": {"champion": {"version": "1", "folder": "a"}}, '
LINES = Thresholds(fraud=0.5, review=0.3, decline=0.9)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    made = Settings(workspace=tmp_path)
    made.models_dir.mkdir()
    return made


def older_promotes(settings: Settings, model: ServedModel, seconds: float) -> None:
    """What a version of Sentinel does that knows no roles, so long after the last promotion."""
    path = settings.models_dir / CHAMPION_FILE
    path.write_bytes(msgspec.json.encode(model))
    now = (settings.models_dir / SERVING_FILE).stat().st_mtime
    os.utime(path, (now + seconds, now + seconds))


def test_roles_plan_and_policy_are_named_together(settings: Settings) -> None:
    assert serving_of(settings) is None
    serving = Serving(
        roles={"champion": ONE, "challenger": TWO}, plan_hash="71f8348ec35965d8", policy=LINES
    )
    write_serving(settings, serving)
    assert serving_of(settings) == serving
    assert champion_of(settings) == ONE
    older = msgspec.json.decode((settings.models_dir / CHAMPION_FILE).read_bytes())
    assert older == {"version": "1", "folder": "fraud-1"}


def test_a_champion_that_an_older_version_named_serves(settings: Settings) -> None:
    (settings.models_dir / CHAMPION_FILE).write_text('{"version":"1","folder":"fraud-1"}')
    assert serving_of(settings) == Serving(roles={"champion": ONE})


def test_the_later_of_two_versions_promotions_holds(settings: Settings) -> None:
    write_serving(settings, Serving(roles={"champion": ONE, "shadow": TWO}, policy=LINES))
    older_promotes(settings, TWO, seconds=+5)
    assert serving_of(settings) == Serving(roles={"champion": TWO})
    # Killed between the two files: the first one is the newer one, and what it says holds.
    older_promotes(settings, TWO, seconds=-5)
    assert champion_of(settings) == ONE
    # The same champion once more takes no role away.
    older_promotes(settings, ONE, seconds=+5)
    serving = serving_of(settings)
    assert serving is not None
    assert serving.roles == {"champion": ONE, "shadow": TWO}


def test_every_change_can_be_seen_without_reading(settings: Settings) -> None:
    seen = [serving_stamp(settings)]
    for policy in (None, LINES):
        write_serving(settings, Serving(roles={"champion": ONE}, policy=policy))
        seen.append(serving_stamp(settings))
    older_promotes(settings, TWO, seconds=+5)
    seen.append(serving_stamp(settings))
    assert len(set(seen)) == 4
    assert serving_stamp(settings) == seen[-1]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"roles": {"champion"', "cannot be read"),
        ('{"roles": {}}', "names no champion"),
        (
            '{"roles": {"champion": {"version": "1", "folder": "a"}}, "format": 2}',
            "Install the version that wrote it",
        ),
        (
            NAMED + '"policy": {"fraud": 0.5, "review": 0.9, "decline": 0.3}}',
            "review 0.9 and decline 0.3",
        ),
        (
            NAMED + '"policy": {"fraud": NaN, "review": 0.1, "decline": 0.3}}',
            "cannot be read",
        ),
    ],
)
def test_a_file_that_cannot_serve_says_what_to_do(
    settings: Settings, content: str, message: str
) -> None:
    (settings.models_dir / SERVING_FILE).write_text(content)
    with pytest.raises(ModelFormatError, match=message):
        serving_of(settings)
