"""The stored line-up as a scoring process holds it: looked for often, put together with models."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Final

from sentinel.domain import ConfigurationError, PlanMismatch, SentinelError
from sentinel.experiments.conditions import compile_condition
from sentinel.experiments.lineup import NO_LINE_UP, Experiment, LineUp
from sentinel.experiments.store import open_line_ups
from sentinel.models.artifact import MANIFEST
from sentinel.models.serving import model_folder
from sentinel.models.signature import SIGNATURE_FILE
from sentinel.models.thresholds import Thresholds
from sentinel.policy.ruling import Policy
from sentinel.scoring.champions import WarmModels
from sentinel.scoring.panel import Panel, PanelModel
from sentinel.scoring.serving_model import ServingModel
from sentinel.settings import Settings

log = logging.getLogger(__name__)

_FORMAT_WITH_ROLES: Final = 2
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
    """

    def __init__(self, settings: Settings, models: WarmModels) -> None:
        self._settings = settings
        self._models = models
        self._store = open_line_ups(settings)
        self._seen = 0
        self._away = False
        self._shares: tuple[float, ...] = ()
        self._missing: dict[str, _Stamp] = {}
        self.line_up = NO_LINE_UP
        self.problems: dict[str, str] = {}

    def start(self) -> None:
        """Read the version that holds. One that cannot be read is as none: the champion decides.

        Raises:
            WorkspaceError, LedgerUnavailable: The store cannot be used.
        """
        self._seen = self._store.latest()
        try:
            self.line_up = self._store.read() or NO_LINE_UP
        except ConfigurationError as error:
            log.error("No experiment runs. %s", error)  # noqa: TRY400

    def look(self) -> bool:
        """Read a newer version if there is one; returns whether other models are to be asked now.

        That is so, too, when the share of a canary has grown, and when files of a model that could
        not be loaded have changed. While the store is away, the version before stays.
        """
        try:
            latest = self._store.latest()
            if self._away:
                log.info("The line-up can be read again.")
            self._away = False
            if latest != self._seen:
                try:
                    found = self._store.read()
                except ConfigurationError:
                    self._seen = latest  # one that cannot be read is not tried again
                    raise
                self._seen, self.line_up = latest, found or NO_LINE_UP
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

    def panel(self, champion: ServingModel, lines: Callable[[Thresholds], Policy]) -> Panel:
        """The champion, and the models of the line-up that can score beside it.

        Args:
            champion: It.
            lines: The policy that holds, with the lines of a model.
        """
        line_up, others = self.line_up, []
        experiments, shares = line_up.experiments, _shares_of(line_up)
        problems, missing = {}, {}
        for experiment, share in zip(experiments, shares, strict=True):
            stamp = self._stamp(experiment.version)
            try:
                others.append(self._member(experiment, share, champion, lines))
            except Exception as error:
                known = isinstance(error, SentinelError)
                problems[experiment.name] = str(error) if known else f"unexpected: {error!r}"
                missing[experiment.version] = stamp
                if self.problems.get(experiment.name) != problems[experiment.name]:
                    log.warning(
                        "Experiment %s does not run here: %s",
                        experiment.name,
                        problems[experiment.name],
                        exc_info=None if known else error,
                    )
        self._models.keep_beside(one.version for one in experiments)
        self._shares, self._missing, self.problems = shares, missing, problems
        return Panel(champion, tuple(others), line_up)

    def close(self) -> None:
        """Release the store."""
        self._store.close()

    def _member(
        self,
        experiment: Experiment,
        share: float,
        champion: ServingModel,
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
        model = self._models.load_beside(experiment.version, to_serve=experiment.decides)
        if model.plan.hash != champion.plan.hash:
            raise PlanMismatch(
                f"version {experiment.version} was trained with plan {model.plan.hash}, and the "
                f"champion's is {champion.plan.hash}. Train it with the champion's plan."
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
        for name in (MANIFEST, SIGNATURE_FILE):
            try:
                found.append((folder / name).stat().st_mtime_ns)
            except OSError:
                found.append(0)
        return tuple(found)


def _shares_of(line_up: LineUp) -> tuple[float, ...]:
    """Shares as they are now: those of canaries grow."""
    now_us = time.time_ns() // 1000
    return tuple(one.share_at(now_us) for one in line_up.experiments)
