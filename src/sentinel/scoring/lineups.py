"""The stored line-up as a scoring process holds it: looked for often, put together with models."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Final

import numpy as np

from sentinel.domain import ConfigurationError, DefinitionError, SentinelError
from sentinel.experiments.conditions import compile_condition
from sentinel.experiments.lineup import NO_LINE_UP, Experiment, LineUp
from sentinel.experiments.store import open_line_ups
from sentinel.features.plan.definition_hashes import matching_columns
from sentinel.features.plan.plan import Plan
from sentinel.features.plan.union import union_plan
from sentinel.models.artifact import MANIFEST
from sentinel.models.many_scorers import ManyScorers
from sentinel.models.plans import keep_union
from sentinel.models.serving import model_folder
from sentinel.models.signature import APPROVAL_FILE, SIGNATURE_FILE
from sentinel.models.thresholds import Thresholds
from sentinel.policy.ruling import Policy
from sentinel.scoring.canaries import Canaries
from sentinel.scoring.champions import WarmModels
from sentinel.scoring.panel import Failures, Panel, PanelModel, Together
from sentinel.scoring.serving_model import ServingModel
from sentinel.scoring.union import Union
from sentinel.settings import Settings
from sentinel.telemetry.safe_errors import shown

log = logging.getLogger(__name__)

_FORMAT_WITH_ROLES: Final = 2
_FILLING: Final = (
    "its features are being computed from the log; it scores as soon as they are known for all "
    "cards"
)
_Stamp = tuple[int, ...]


class LineUpInCharge:
    """The version of the line-up that holds, and why some of it does not run here.

    `start`, `look` and `panel` wait for the store or read files: they belong in threads.

    Args:
        settings: The deployment.
        models: Load and hold its models.

    Attributes:
        line_up: The version that holds; an empty one if nothing was ever stored.
        problems: Why an experiment does not run here, by name.
        plan: The plan that has the features of all models of the last panel that was asked for;
            None before the first one.
    """

    def __init__(self, settings: Settings, models: WarmModels) -> None:
        self._settings = settings
        self._models = models
        self._store = open_line_ups(settings)
        self._seen = 0
        self._stored = NO_LINE_UP
        self._away = False
        self._shares: tuple[float, ...] = ()
        self._missing: dict[str, _Stamp] = {}
        self.line_up = NO_LINE_UP
        self.problems: dict[str, str] = {}
        self.plan: Plan | None = None
        self._union: Union | None = None
        self._together: Together | None = None
        self._failures = Failures()
        self._canaries = Canaries(settings)
        self._failed: dict[str, str] = {}

    def start(self) -> None:
        """Read the version that holds. One that cannot be read is as none: the champion decides.

        Raises:
            WorkspaceError, LedgerUnavailable: The store cannot be used.
        """
        self._seen = self._store.latest()
        try:
            self._stored = self._store.stored() or NO_LINE_UP
            self.line_up = self._store.in_force(self._stored)
        except ConfigurationError as error:
            log.error("No experiment runs. %s", error)  # noqa: TRY400

    def look(self) -> bool:
        """Read a newer version if there is one; returns whether other models are to be asked now.

        That is so, too, when a guardrail has stopped something beside the line-up, when the share
        of a canary has grown, and when files of a model that could
        not be loaded have changed. While the store is away, the version before stays. Canaries
        whose models have run here for long enough grow first.
        """
        self._canaries.grow(self.line_up.experiments, self._failed)
        try:
            latest = self._store.latest()
            if self._away:
                log.info("The line-up can be read again.")
            self._away = False
            if latest != self._seen:
                try:
                    stored = self._store.stored() or NO_LINE_UP
                except ConfigurationError:
                    self._seen = latest  # one that cannot be read is not tried again
                    raise
                # What was stopped is asked for before anything is taken over.
                line_up = self._store.in_force(stored)
                self._seen, self._stored, self.line_up = latest, stored, line_up
                return True
            line_up = self._store.in_force(self._stored)
            if line_up != self.line_up:
                self.line_up = line_up
                return True
        except ConfigurationError as error:
            log.error("The line-up stays what it was. %s", error)  # noqa: TRY400
        except SentinelError as error:
            if not self._away:
                log.warning("The line-up stays what it was: it cannot be read. %s", error)
            self._away = True
        if self._shares != _shares_of(self.line_up):
            return True
        return any(self._stamp(version) != seen for version, seen in self._missing.items())

    def panel(
        self,
        champion: ServingModel,
        lines: Callable[[Thresholds], Policy],
        running: Plan | None = None,
    ) -> Panel:
        """The champion, and the models of the line-up that can score beside it.

        Args:
            champion: It.
            lines: The policy that holds, with the lines of a model.
            running: The plan of the vectors that there are: models that take others do not score
                yet. None if there will be those of `plan`, which this sets.
        """
        line_up, others = self.line_up, []
        experiments, shares = line_up.experiments, _shares_of(line_up)
        problems, missing = {}, {}
        plan = champion.plan
        for experiment, share in zip(experiments, shares, strict=True):
            stamp = self._stamp(experiment.version)
            try:
                member = self._member(experiment, share, lines)
                plan = self._joined(plan, member.model)
                others.append(member)
            except Exception as error:
                known = isinstance(error, SentinelError)
                problems[experiment.name] = str(error) if known else f"unexpected: {shown(error)}"
                missing[experiment.version] = stamp
                if self.problems.get(experiment.name) != problems[experiment.name]:
                    log.warning(
                        "Experiment %s does not run here: %s",
                        experiment.name,
                        problems[experiment.name],
                        exc_info=None if known else error,
                    )
        self._models.keep_beside(one.version for one in experiments)
        panel = self._over(running or plan, champion, line_up, others)
        here = {other.name for other in panel.others}
        problems.update({other.name: _FILLING for other in others if other.name not in here})
        self._shares, self._missing, self.problems, self.plan = shares, missing, problems, plan
        self._canaries.run(one for one in experiments if one.name in here)
        self._failed = panel.failed
        return panel

    def ask_no_more(self, panel: Panel) -> None:
        """Models whose experiment was stopped decide no more, however long a new panel takes."""
        line_up = self.line_up
        for other in panel.others:
            before, now = panel.line_up.find(other.name), line_up.find(other.name)
            if before is None or now is None or before.started_at_us != now.started_at_us:
                panel.failed[other.name] = "it was stopped"

    def _joined(self, plan: Plan, model: ServingModel) -> Plan:
        """The union of a plan and that of another model, kept where past decisions find it."""
        try:
            joined = union_plan(plan, model.plan)
        except DefinitionError as error:
            raise ConfigurationError(
                f"version {model.version} takes features that cannot be computed beside those of "
                f"the others. {error}"
            ) from None
        if joined is plan:
            return plan
        if self._settings.state.backend == "redis":
            raise ConfigurationError(
                f"version {model.version} was trained with plan {model.plan.hash}, which has "
                "features that the plans of the others lack, and records in Redis are of one "
                "plan. Train it with the champion's plan, or promote it."
            )
        try:
            keep_union(self._settings, joined)
        except OSError as error:
            raise ConfigurationError(
                f"version {model.version} takes features of another plan, and the plan that has "
                f"all of them cannot be kept for explanations of its decisions: {error}"
            ) from None
        return joined

    def _over(
        self, plan: Plan, champion: ServingModel, line_up: LineUp, others: list[PanelModel]
    ) -> Panel:
        """A panel over vectors of a plan, with those models whose features they have."""
        if plan.hash == champion.plan.hash:
            self._union = union = None
        elif self._union is None or self._union.plan.hash != plan.hash:
            union = Union(plan, self._settings.money, reasons=self._settings.scoring.reasons)
            self._union = union
        else:
            union = self._union
        here = []
        for other in others:
            if other.model.plan.hash == plan.hash:
                here.append(other)
                continue
            columns = matching_columns(plan, other.model.plan)
            if (columns >= 0).all():
                here.append(replace(other, columns=columns))
        return Panel(
            champion,
            tuple(here),
            line_up,
            union=union,
            columns=None if union is None else matching_columns(plan, champion.plan),
            together=self._score_together(champion, here),
            failures=self._failures,
        )

    def _score_together(self, champion: ServingModel, others: list[PanelModel]) -> Together | None:
        """The models that score every payment on the champion's vectors."""
        numbers = tuple(
            number
            for number, other in enumerate(others, 1)
            if other.model.plan.hash == champion.plan.hash
            and (other.kind == "challenger" or (other.kind == "shadow" and other.sample >= 1.0))
        )
        if not numbers:
            self._together = None
            return None
        models = (champion, *(others[number - 1].model for number in numbers))
        if self._together is None or self._together.models != models:
            scorers = ManyScorers([model.many for model in models])
            for rows in (1, 40):
                shape = (rows, len(champion.plan.feature_names))
                scorers.score(np.full(shape, np.nan, dtype=np.float32))
            self._together = Together(models, (0, *numbers), scorers)
        self._together = self._together._replace(numbers=(0, *numbers))
        return self._together

    def close(self) -> None:
        """Release the store."""
        self._store.close()

    def _member(
        self,
        experiment: Experiment,
        share: float,
        lines: Callable[[Thresholds], Policy],
    ) -> PanelModel:
        if self._settings.ledger.group_format < _FORMAT_WITH_ROLES:
            raise ConfigurationError(
                "decisions are written in format 1, which cannot say who decided. Set "
                "ledger.group_format = 2."
            )
        folder = model_folder(self._settings, experiment.version)
        if not (folder / MANIFEST).exists():
            raise ConfigurationError(
                f"version {experiment.version} is not here yet: {folder} is missing. A follower "
                "(`sentinel follow`) fetches it from the registry."
            )
        model = self._models.load_beside(
            experiment.version, to_serve=experiment.decides, approved=experiment.decides_on_most
        )
        condition = experiment.condition
        return PanelModel(
            name=experiment.name,
            kind=experiment.kind,
            model=model,
            policy=lines(model.manifest.thresholds),
            share=share,
            sample=experiment.sample,
            holds=compile_condition(condition) if condition else None,
        )

    def _stamp(self, version: str) -> _Stamp:
        """Changes whenever the files of a version do."""
        folder, found = model_folder(self._settings, version), []
        for name in (MANIFEST, SIGNATURE_FILE, APPROVAL_FILE):
            try:
                found.append((folder / name).stat().st_mtime_ns)
            except OSError:
                found.append(0)
        return tuple(found)


def _shares_of(line_up: LineUp) -> tuple[float, ...]:
    """Shares as they are now: those of canaries grow."""
    now_us = time.time_ns() // 1000
    return tuple(one.share_at(now_us) for one in line_up.experiments)
