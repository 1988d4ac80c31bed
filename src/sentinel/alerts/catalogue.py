"""The alerts that a deployment raises by itself, without Prometheus.

They have the names of the rules in `monitoring/prometheus/alerts.yml`, so that one runbook
(`docs/runbooks/NAME.md`) serves both.
"""

from __future__ import annotations

from typing import Final, Literal

import msgspec

Severity = Literal["page", "ticket"]
"""A page wakes somebody up; a ticket waits for the morning."""


class Alert(msgspec.Struct, frozen=True):
    """An alert as it is defined.

    Attributes:
        name: As in the rules and the name of its runbook.
        severity: Whether it wakes somebody up.
        action: What to do first.
        follows_from: Another alert; while that fires, nobody is told of this one.
    """

    name: str
    severity: Severity
    action: str
    follows_from: str = ""

    @property
    def runbook(self) -> str:
        """The page that says what it means and what to do."""
        return f"docs/runbooks/{self.name}.md"


ALERTS: Final = {
    alert.name: alert
    for alert in (
        Alert(
            "NoScorer",
            "page",
            "Start the scorer: `sentinel up` or `sentinel serve`. Its log is logs/api.log in the "
            "workspace.",
        ),
        Alert(
            "ScorerDown",
            "page",
            "Look at the log of this scorer; the others go on scoring.",
        ),
        Alert(
            "SlowDecisions",
            "page",
            "Run `sentinel doctor`. A slow disk under the ledger is the usual cause.",
        ),
        Alert(
            "DegradedDecisions",
            "page",
            "See that the feature state is well: `sentinel doctor`. Repairs follow by themselves.",
            follows_from="RedisDown",
        ),
        Alert(
            "RedisDown",
            "page",
            "Start Redis. Until then payments are decided without feature state, and are degraded.",
        ),
        Alert(
            "CommitFailures",
            "page",
            "Look for a full disk, or a ledger's database that does not answer.",
        ),
        Alert("ErrorAnswers", "page", "Look at the log of the scorer, logs/api.log."),
        Alert(
            "StateFull",
            "page",
            "Raise state.max_mb (or Redis' maxmemory) and restart; see docs/bounds.md.",
        ),
        Alert(
            "DiskNearlyFull",
            "page",
            "Free some space, or move the workspace. At a full disk no payment can be recorded, "
            "and payments get 503.",
        ),
        Alert(
            "StateNearlyFull",
            "ticket",
            "Raise state.max_mb (or Redis' maxmemory), or find out who sends so many new ids.",
            follows_from="StateFull",
        ),
        Alert("IndexBehind", "ticket", "Restart the scorer; its indexer is slow or has ended."),
        Alert(
            "SnapshotsOld",
            "ticket",
            "Look for room and errors in the folder state of the workspace. A restart reads "
            "everything that came since the newest snapshot.",
        ),
        Alert(
            "RegistryAway",
            "ticket",
            "Start MLflow, and look at logs/follower.log. The served model stays as it is.",
        ),
        Alert(
            "ChampionRefused",
            "ticket",
            "Run `sentinel models list`: the registry's champion cannot serve, an older one does.",
        ),
        Alert(
            "AlertShareJumped",
            "ticket",
            "A wave of fraud, a new policy or model, or a change in what clients send. Look at the "
            "top reasons of stopped payments first.",
        ),
        Alert(
            "LabelsStopped",
            "ticket",
            "See that chargebacks reach POST /labels, or import them: `sentinel import-labels`.",
        ),
        Alert(
            "DriftFound",
            "ticket",
            "Run `sentinel drift status`: it says what moved, by how much and since when.",
        ),
        Alert(
            "LabelDriftFound",
            "ticket",
            "Run `sentinel drift status`: it says what labels have changed about, and since when.",
        ),
    )
}
"""By name; pages first."""
