"""The stored policy as a scoring process holds it: looked for often, put together with a model."""

from __future__ import annotations

import logging
from typing import Final

import msgspec

from sentinel.domain import ConfigurationError, SentinelError
from sentinel.features.plan.plan import Plan
from sentinel.models.thresholds import Thresholds
from sentinel.policy.degraded import degraded_policy
from sentinel.policy.exploration import ExplorationKey, exploration_key
from sentinel.policy.ruling import Policy
from sentinel.policy.store import open_policies
from sentinel.policy.versions import PolicyVersion
from sentinel.settings import Settings

log = logging.getLogger(__name__)

LOOK_SECONDS: Final = 0.2
"""How often the store is asked for a newer version."""

_FORMAT_WITH_CONTROL_GROUP: Final = 2


class PolicyInCharge:
    """The version of the policy that holds, and why it cannot be followed to the letter.

    `start` and `look` wait for the store, `of` may read a file: they belong in threads.

    Args:
        settings: The deployment.

    Attributes:
        version: The version that holds; None if nothing was ever stored.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._degraded = degraded_policy(settings.policy)
        self._store = open_policies(settings)
        self._seen = 0
        self._away = False
        self._unread: str | None = None
        self._control_off: str | None = None
        self.version: PolicyVersion | None = None

    @property
    def problem(self) -> str | None:
        """Why the newest version does not hold, or nothing is let through; None if all is well."""
        return self._unread or self._control_off

    def start(self) -> None:
        """Read the version that holds.

        Raises:
            ConfigurationError: A newer Sentinel wrote it, so that nobody here knows what to do.
            WorkspaceError, LedgerUnavailable: The store cannot be used.
        """
        self.version = self._store.read()
        self._seen = 0 if self.version is None else self.version.version

    def look(self) -> bool:
        """Read a newer version if there is one; returns whether another one holds now.

        While the store is away, or if the new one cannot be read, the one before stays.
        """
        try:
            latest = self._store.latest()
            if self._away:
                log.info("The policy can be read again.")
            self._away = False
            if latest == self._seen:
                return False
            found = self._store.read()
            self._seen, self.version, self._unread = latest, found, None
        except ConfigurationError as error:
            self._seen = latest  # it is not tried again
            self._unread = str(error)
            log.error("The policy stays what it was. %s", error)  # noqa: TRY400
            return False
        except SentinelError as error:
            if not self._away:
                log.warning("The policy stays what it was: it cannot be read. %s", error)
            self._away = True
            return False
        return True

    def of(self, bands: Thresholds, plan: Plan) -> tuple[Policy, ExplorationKey | None]:
        """The policy with a model, and the key of its control group.

        Args:
            bands: The model's own lines.
            plan: The model's.

        Returns:
            No key where nothing is to be let through, or where it could not be recorded or drawn
            rightly; `problem` says so then.
        """
        self._control_off = None
        if self.version is None:
            return Policy(bands, self._degraded), None
        policy = self.version.policy(bands, self._degraded)
        if policy.control is None:
            return policy, None
        try:
            return policy, self._key(policy, plan)
        except SentinelError as error:
            self._control_off = f"The control group is off: {error}"
            log.warning("%s", self._control_off)
            return policy, None

    def with_lines(self, policy: Policy, bands: Thresholds) -> Policy:
        """The policy for another model: with its own lines, unless people set lines for all."""
        if self.version is not None and self.version.terms.bands is not None:
            return policy
        return msgspec.structs.replace(policy, bands=bands)

    def close(self) -> None:
        """Release the store."""
        self._store.close()

    def _key(self, policy: Policy, plan: Plan) -> ExplorationKey:
        assert self.version is not None
        assert policy.control is not None
        if self._settings.ledger.group_format < _FORMAT_WITH_CONTROL_GROUP:
            raise ConfigurationError(
                "decisions are written in format 1, which cannot say what was let through. Set "
                "ledger.group_format = 2."
            )
        policy.control.count_column(plan)
        key = exploration_key(self._settings)
        if key.check != self.version.key_check:
            raise ConfigurationError(
                "this scorer has another secret than the one that the policy was made with. Give "
                "all the same SENTINEL_POLICY__CONTROL_GROUP_SECRET, or the file "
                "control_group.secret of one workspace."
            )
        return key
