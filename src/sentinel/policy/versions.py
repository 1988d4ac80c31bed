"""The policy of a deployment as it is kept: what people set, what is worked out of it daily, and
who changed it why. A version is never changed; going back is a new version with an old content.
"""

from __future__ import annotations

from typing import Final

import msgspec

from sentinel.documents.store import Document, decode_document
from sentinel.domain import ConfigurationError
from sentinel.models.thresholds import Thresholds
from sentinel.policy.degraded import DegradedPolicy
from sentinel.policy.economics import Costs, Economics, Segment
from sentinel.policy.exploration import MOST_SHARE, ControlGroup
from sentinel.policy.ruling import Policy

POLICY_FORMAT: Final = 1
MOST_MINOR: Final = 1e15
"""Nothing that people set is larger: beyond it, money is no longer counted to the minor unit."""
EXPLORED_A_MONTH: Final = 60
"""Payments that the control group lets through in 30 days, as far as share and budget allow."""


class Exploring(msgspec.Struct, frozen=True, kw_only=True):
    """What may be spent on knowing what is stopped. Setting it is the consent to spend it.

    Attributes:
        budget_minor: Money that the control group may cost in 30 days, as expected.
        payments: So many are let through in 30 days, if that is within the budget.
        most_share: The largest share of the eligible ones, at most `MOST_SHARE`.
        most_amount_minor, count_feature, most_count: See `ControlGroup`.
    """

    budget_minor: float
    payments: float = EXPLORED_A_MONTH
    most_share: float = MOST_SHARE
    most_amount_minor: int | None = None
    count_feature: str = ""
    most_count: float | None = None

    def check(self) -> None:
        """Raise ConfigurationError if something of it cannot be."""
        if not (0 <= self.budget_minor <= MOST_MINOR and 0 <= self.payments <= MOST_MINOR):
            raise ConfigurationError(
                f"exploring: the budget is {self.budget_minor:g} and the payments are "
                f"{self.payments:g}; both are 0 or more, and at most {MOST_MINOR:g}."
            )
        if not 0 <= self.most_share <= MOST_SHARE:
            raise ConfigurationError(
                f"exploring: most_share is {self.most_share:g}; it lies from 0 to {MOST_SHARE}."
            )
        if bool(self.count_feature) != (self.most_count is not None):
            raise ConfigurationError(
                "exploring: count_feature and most_count belong together. Give both, or none."
            )
        for name in ("most_amount_minor", "most_count"):
            most = getattr(self, name)
            if most is not None and not 0 <= most <= MOST_MINOR:
                raise ConfigurationError(
                    f"exploring: {name} is {most:g}; it is 0 or more, and at most {MOST_MINOR:g}. "
                    "Leave it out where nothing is to bound it."
                )

    def group(self, share: float) -> ControlGroup:
        """The control group of a share."""
        return ControlGroup(
            share=share,
            most_amount_minor=self.most_amount_minor,
            count_feature=self.count_feature,
            most_count=self.most_count,
        )


class Terms(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What people set.

    Attributes:
        costs: Of payments of no segment; None if bands decide.
        segments: Payments with costs of their own.
        reviews_per_day: What analysts have time for; None if there is no bound. Needs costs.
        bands: Lines that replace the champion's own; None if its own hold.
        exploring: None while nobody has allowed it.
    """

    costs: Costs | None = None
    segments: tuple[Segment, ...] = ()
    reviews_per_day: float | None = None
    bands: Thresholds | None = None
    exploring: Exploring | None = None

    def check(self) -> None:
        """Raise ConfigurationError if something of it cannot be."""
        if self.costs is None and (self.segments or self.reviews_per_day is not None):
            raise ConfigurationError(
                "segments and reviews_per_day need costs: without them the bands of the model "
                "decide."
            )
        if self.costs is not None:
            self.economics(0.0).check()
        if self.reviews_per_day is not None and not 0 <= self.reviews_per_day <= MOST_MINOR:
            raise ConfigurationError(
                f"reviews_per_day is 0 or more, and at most {MOST_MINOR:g}; leave it out where "
                "analysts have time for all."
            )
        if self.exploring is not None:
            self.exploring.check()
        lines = self.bands
        if lines is not None and not (
            0 <= lines.review <= lines.decline <= 1 and 0 <= lines.fraud <= 1
        ):
            raise ConfigurationError(
                f"bands: review {lines.review:g}, decline {lines.decline:g} and fraud "
                f"{lines.fraud:g} are probabilities from 0 to 1, and a review begins at a lower "
                "one than a decline, or at the same."
            )

    def economics(self, shadow_price_minor: float) -> Economics:
        """The costs, with a price of reviews. There are costs."""
        assert self.costs is not None
        return Economics(
            costs=self.costs, segments=self.segments, shadow_price_minor=shadow_price_minor
        )


class PolicyVersion(Document, frozen=True, kw_only=True):
    """A version of the policy.

    Attributes:
        terms: What people set.
        shadow_price_minor: Worked out: the price of a review.
        share: Worked out: of the control group; 0 lets nothing through.
        by: Who made it.
        why: In their words.
        at_us: When, microseconds UTC.
        restores: The version whose content this is; None if it is its own.
        key_check: `ExplorationKey.check` of the secret that draws; empty if nothing is let through.
        format: Version of this layout.
    """

    terms: Terms
    shadow_price_minor: float = 0.0
    share: float = 0.0
    by: str
    why: str
    at_us: int
    restores: int | None = None
    key_check: str = ""
    format: int = POLICY_FORMAT

    def policy(self, bands: Thresholds, degraded: DegradedPolicy) -> Policy:
        """The policy that this version is with a model.

        Args:
            bands: The model's own lines.
            degraded: What is done where state could not be read.
        """
        terms = self.terms
        return Policy(
            bands if terms.bands is None else terms.bands,
            degraded,
            None if terms.costs is None else terms.economics(self.shadow_price_minor),
            None
            if terms.exploring is None or self.share == 0
            else terms.exploring.group(self.share),
        )

    def same_content(self, other: PolicyVersion) -> bool:
        """Whether both rule alike."""
        return (self.terms, self.shadow_price_minor, self.share, self.key_check) == (
            other.terms,
            other.shadow_price_minor,
            other.share,
            other.key_check,
        )


_decoder: Final = msgspec.json.Decoder(PolicyVersion)


def decode_version(document: bytes) -> PolicyVersion:
    """A stored version.

    Raises:
        ConfigurationError: A newer Sentinel wrote it, or it is damaged.
    """
    return decode_document(
        document,
        _decoder,
        what="policy",
        newest_format=POLICY_FORMAT,
        otherwise="; else apply an older version again: `sentinel policy apply --version N`",
    )
