"""Where a version comes from: its data, its plan, the code that trained it, and its parent.

The manifest of a version has all of it, and is signed. The registry has it as a tag as well, for
versions whose files are not at hand.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Final

import msgspec

from sentinel.models.artifact import ModelManifest
from sentinel.models.code_version import CodeVersion

LINEAGE_TAG: Final = "sentinel.lineage"
"""Of a version in the registry: its `Lineage` as JSON."""


class Lineage(msgspec.Struct, frozen=True, kw_only=True):
    """Where a version comes from.

    Attributes:
        data_hash: Names the rows and labels that it learnt from.
        start_us, end_us: Event times of those rows, microseconds UTC; the end is exclusive.
        cutoff_us: Labels that arrived from here on were not used.
        rows, frauds: How many rows there were, and frauds among them.
        plan_hash: The features.
        parent: The version that was champion when it was trained: what it would replace, and what
            it is a refit of where their procedures are alike; empty if there was none.
        code: What trained it; None for versions of before that was noted.
    """

    data_hash: str
    start_us: int
    end_us: int
    cutoff_us: int
    rows: int
    frauds: int
    plan_hash: str
    parent: str = ""
    code: CodeVersion | None = None

    @property
    def words(self) -> dict[str, str]:
        """What there is to say, by what it is of."""
        return {
            "data": f"{self.rows:,} payments with {self.frauds:,} known frauds, "
            f"{_day(self.start_us)} to {_day(self.end_us)}, labels up to {_day(self.cutoff_us)}; "
            f"hash {self.data_hash}",
            "plan": self.plan_hash,
            "code": "not noted" if self.code is None else str(self.code),
            "parent": self._parent,
        }

    @property
    def _parent(self) -> str:
        if self.code is None:  # a model of before parents were noted
            return "not noted"
        return f"version {self.parent}" if self.parent else "none: nothing served before it"


def lineage_of(manifest: ModelManifest) -> Lineage:
    """Where a model comes from, by its manifest."""
    window = manifest.training
    return Lineage(
        data_hash=manifest.data_hash,
        start_us=window.start_us,
        end_us=window.end_us,
        cutoff_us=window.cutoff_us,
        rows=window.rows,
        frauds=window.frauds,
        plan_hash=manifest.plan_hash,
        parent=manifest.parent,
        code=manifest.code,
    )


def noted_lineage(tags: Mapping[str, str]) -> Lineage | None:
    """Where a version comes from, by what the registry notes; None if it notes nothing of it."""
    try:
        return msgspec.json.decode(tags.get(LINEAGE_TAG, ""), type=Lineage)
    except msgspec.DecodeError:
        return None


def _day(time_us: int) -> str:
    return f"{datetime.fromtimestamp(time_us / 1e6, UTC):%Y-%m-%d}"
