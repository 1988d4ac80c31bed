"""The control group: a measured share of what would be stopped is let through, so that the truth
of what is stopped stays known.

Whether a payment is let through follows from a keyed hash of its card (or customer, or itself) and
the day on which it happened. So a card that tries again meets the same answer all day, nothing has
to be remembered, and nobody without the key can tell beforehand which cards pass.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec
import numpy as np
import numpy.typing as npt

from sentinel.domain import ConfigurationError, Transaction, WorkspaceError
from sentinel.features.plan.plan import DAY_US, Plan
from sentinel.log.entries import outcome_codes
from sentinel.private_files import made_secret
from sentinel.settings import Settings

KEY_FILE: Final = "control_group.secret"
MOST_SHARE: Final = 0.05
"""The largest share that is let through."""

_SHORTEST_SECRET: Final = 16
_PURPOSE: Final = b"control group"
_DIGEST_BYTES: Final = 8
_STEPS: Final = 2.0**64


class ControlGroup(msgspec.Struct, frozen=True, kw_only=True):
    """What of the stopped payments is let through.

    Attributes:
        share: Of the eligible ones, 0 to `MOST_SHARE`.
        most_amount_minor: A payment of a larger amount is not eligible; None if any is.
        count_feature: Feature that counts what the card, or whoever pays, did of late; empty if
            nothing is counted.
        most_count: A payment is not eligible if that feature is larger; None if any count is.
    """

    share: float
    most_amount_minor: int | None = None
    count_feature: str = ""
    most_count: float | None = None

    def check(self) -> None:
        """Raise ConfigurationError if something of it cannot be."""
        if not 0.0 <= self.share <= MOST_SHARE:
            raise ConfigurationError(
                f"The share of the control group is {self.share:g}; it lies from 0 to {MOST_SHARE}."
            )

    def count_column(self, plan: Plan) -> int | None:
        """Where a plan's vectors hold the count; None if nothing is counted.

        Raises:
            ConfigurationError: The plan has no such feature.
        """
        if not self.count_feature:
            return None
        try:
            return plan.feature_names.index(self.count_feature)
        except ValueError:
            raise ConfigurationError(
                f"The control group counts by feature {self.count_feature!r}, which plan "
                f"{plan.hash} has not. Name another one, or none, and apply the policy again."
            ) from None


class ExplorationKey:
    """Draws with one secret.

    Args:
        secret: At least 16 bytes.

    Attributes:
        check: Tells this secret from others, and gives nothing away.
    """

    def __init__(self, secret: bytes) -> None:
        if len(secret) < _SHORTEST_SECRET:
            raise ConfigurationError(
                f"The secret of the control group has {len(secret)} bytes; it needs "
                f"{_SHORTEST_SECRET} or more. `openssl rand -hex 32` makes one."
            )
        self._keyed = hashlib.blake2b(
            key=hashlib.sha256(secret).digest(), digest_size=_DIGEST_BYTES, person=_PURPOSE
        )
        self.check = self._digest("check").hex()

    def draw(self, transaction: Transaction) -> float:
        """The number in [0, 1) of a payment's entity and day; below the share it is let through.

        >>> key = ExplorationKey(b"0123456789abcdef")
        >>> first = Transaction(transaction_id="1", event_time_us=0, received_at_us=0,
        ...                     amount_minor=100, card_id="c")
        >>> again = msgspec.structs.replace(first, transaction_id="2", event_time_us=5_000_000)
        >>> key.draw(first) == key.draw(again)
        True
        """
        if transaction.card_id is not None:
            entity = f"card/{transaction.card_id}"
        elif transaction.customer_id is not None:
            entity = f"customer/{transaction.customer_id}"
        else:
            entity = f"payment/{transaction.transaction_id}"
        digest = self._digest(f"{transaction.event_time_us // DAY_US}/{entity}")
        # 2**64 - 1 rounds up to 2**64 as a float; 53 bits are kept instead.
        return (int.from_bytes(digest, "big") >> 11) * 2048.0 / _STEPS

    def _digest(self, text: str) -> bytes:
        keyed = self._keyed.copy()
        keyed.update(text.encode())
        return keyed.digest()


class Control(msgspec.Struct, frozen=True, eq=False, gc=False):
    """What the control group did to a batch; row i is of its i-th payment.

    Attributes:
        base_outcomes: uint8 (n,): outcome codes before it.
        eligible: bool (n,): where it could have changed the outcome.
        propensities: float32 (n,): probability of the outcome that the row got.
    """

    base_outcomes: npt.NDArray[np.uint8]
    eligible: npt.NDArray[np.bool_]
    propensities: npt.NDArray[np.float32]

    def rows(self, kept: list[int]) -> Control:
        """That of some rows."""
        return Control(self.base_outcomes[kept], self.eligible[kept], self.propensities[kept])


def joined_control(
    flags: npt.NDArray[np.uint32],
    parts: Sequence[tuple[npt.NDArray[np.int64], Control | None]],
) -> Control | None:
    """What the control group did to a batch that was ruled on in parts.

    Args:
        flags: uint32 (n,), as ruled, of the whole batch.
        parts: The rows of each part, and what it did to them.

    Returns:
        None if no row was eligible.
    """
    if all(control is None for _, control in parts):
        return None
    base = outcome_codes(flags).astype(np.uint8)
    eligible = np.zeros(len(flags), dtype=np.bool_)
    propensities = np.ones(len(flags), dtype=np.float32)
    for rows, control in parts:
        if control is not None:
            base[rows] = control.base_outcomes
            eligible[rows] = control.eligible
            propensities[rows] = control.propensities
    return Control(base, eligible, propensities)


def exploration_key(settings: Settings) -> ExplorationKey:
    """The key of a deployment; makes the workspace's secret on first use.

    Raises:
        ConfigurationError: The secret is too short.
        WorkspaceError: The file cannot be made or read.
    """
    given = settings.policy.control_group_secret.get_secret_value()
    if given:
        return ExplorationKey(given.encode())
    path: Path = settings.workspace / KEY_FILE
    try:
        try:
            return ExplorationKey(path.read_bytes().strip())
        except FileNotFoundError:
            settings.workspace.mkdir(parents=True, exist_ok=True)
            return ExplorationKey(made_secret(path))
    except OSError as error:
        raise WorkspaceError(
            f"The secret of the control group in {path} cannot be read or made ({error}). Make it "
            "readable for this process."
        ) from None
