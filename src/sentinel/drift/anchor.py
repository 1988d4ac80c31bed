"""The anchor: the reference that features are held against, whichever model decides.

What a feature's payments look like does not depend on the model; only the score does. A champion
that is replaced every night would take the evidence of a slow change with it. So the first model's
reference stays the *anchor*: its detector goes on with the decisions of all later models, for all
features that have the same definition. A later model's own detector tests its score, and features
that the anchor does not have.

The anchor moves to the model that decides by the rules of `why_moved`. All that they look at
follows from the log and from the models' references, so a record that is made anew has the same
anchors. Moving it gives up evidence and never adds any, so the bound on false alarms holds.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec
import numpy as np
import numpy.typing as npt

from sentinel.drift.bins import SCORE
from sentinel.drift.detector import DriftDetector
from sentinel.drift.figures import Change
from sentinel.drift.reference import DriftReference

LEAST_COMMON: Final = 0.5
"""Share of a model's features that the anchor must have."""
_QUIET: Final = 0.1
"""The anchor is moved for its age only while evidence is below so much of what makes an alarm."""


class Anchor(msgspec.Struct, frozen=True, kw_only=True):
    """Which stream's reference features are held against.

    Attributes:
        stream: Its id.
        from_hour: Since when, hours since 1970 by the log's clock.
    """

    stream: int
    from_hour: int


def covered(reference: DriftReference, anchor: DriftReference) -> npt.NDArray[np.bool_]:
    """Which columns of a reference the anchor tests: bool (columns,); never the score."""
    known = {(column.name, column.kind, column.definition) for column in anchor.bins.columns}
    return np.array(
        [
            column.name != SCORE and (column.name, column.kind, column.definition) in known
            for column in reference.bins.columns
        ],
        np.bool_,
    )


def why_moved(anchor: DriftDetector, newest: DriftReference, hours: int, anchor_days: float) -> str:
    """Why the anchor moves to the reference of the model that decides; empty if it stays.

    - The model has other features: fewer than half of them are the anchor's.
    - Features have changed since the anchor, and the newer reference is all of payments of after
      that: the model was trained on what is usual by now.
    - Nothing has changed, the anchor is old, the model's reference is of later payments, and there
      is no evidence that would be lost.

    Args:
        anchor: The detector that tests features.
        newest: The reference of the model that decides.
        hours: For which the anchor has been one.
        anchor_days: After how many days it is old.
    """
    features = [column.name != SCORE for column in newest.bins.columns]
    if covered(newest, anchor.reference)[features].mean() < LEAST_COMMON:
        return "the model has other features"
    changes: Sequence[Change] = [one for one in anchor.named if one.feature != SCORE]
    if changes:
        after = newest.first_hour >= max(one.since_hour for one in changes)
        return "what changed is usual for the model" if after else ""
    is_old = hours >= anchor_days * 24 and newest.last_hour > anchor.reference.last_hour
    if is_old and anchor.average < _QUIET * anchor.threshold:
        return f"that of the model before was used for {hours // 24} days"
    return ""
