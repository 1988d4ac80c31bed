"""What is decided where feature state could not be read.

A model's thresholds are lines through the probabilities of whole vectors. A degraded vector holds
only what needs no state, and what a model makes of the rest being unknown was never measured. So
those lines do not hold for it, and a degraded decision has a policy of its own: one outcome for
all, or bands of its own.
"""

from __future__ import annotations

import msgspec

from sentinel.domain import ConfigurationError, Outcome
from sentinel.models.thresholds import NEVER, Thresholds
from sentinel.policy.bands import Limits, fixed_limits, limits_of
from sentinel.settings import PolicySettings


class DegradedPolicy(msgspec.Struct, frozen=True):
    """The policy of degraded decisions.

    Attributes:
        outcome: Of all of them, whatever the model says; empty if ``bands`` decide.
        bands: Thresholds for the probability that the model gives to what is known.
    """

    outcome: str = Outcome.APPROVE.value
    bands: Thresholds | None = None

    def limits(self) -> Limits:
        """The same as bands."""
        return fixed_limits(Outcome(self.outcome)) if self.bands is None else limits_of(self.bands)


def degraded_policy(settings: PolicySettings) -> DegradedPolicy:
    """The policy that the settings name.

    Raises:
        ConfigurationError: ``policy.degraded = "bands"`` without a band, a band with a fixed
            outcome, or a review line above the decline line.
    """
    review, decline = settings.degraded_review, settings.degraded_decline
    if settings.degraded != "bands":
        if review is not None or decline is not None:
            raise ConfigurationError(
                "policy.degraded_review and policy.degraded_decline are bands of degraded "
                f'decisions, and policy.degraded is "{settings.degraded}", one outcome for all of '
                'them. Set policy.degraded = "bands", or take the bands away.'
            )
        return DegradedPolicy(settings.degraded)
    if review is None and decline is None:
        raise ConfigurationError(
            'policy.degraded = "bands" needs policy.degraded_review, policy.degraded_decline, or '
            "both: probabilities from which on a degraded decision is a review or a decline."
        )
    declines = NEVER if decline is None else decline
    reviews = declines if review is None else review
    if reviews > declines:
        raise ConfigurationError(
            f"policy.degraded_review ({reviews:g}) lies above policy.degraded_decline "
            f"({declines:g}). A review begins at a lower probability than a decline."
        )
    return DegradedPolicy("", Thresholds(fraud=declines, review=reviews, decline=declines))
