"""What is to serve, put together from files and stores: champion, line-up, policy and plan."""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

from sentinel.domain import PlanMismatch
from sentinel.features.plan.definition_hashes import matching_columns
from sentinel.features.plan.plan import Plan
from sentinel.models.champion import champion_of
from sentinel.models.plans import kept_unions
from sentinel.models.serving import SERVING_FILE, serving_of, serving_stamp
from sentinel.models.thresholds import Thresholds
from sentinel.policy.exploration import ExplorationKey
from sentinel.policy.ruling import Policy
from sentinel.scoring import state_beside
from sentinel.scoring.champions import WarmModels
from sentinel.scoring.guard import Guard
from sentinel.scoring.lineups import LineUpInCharge
from sentinel.scoring.panel import Panel
from sentinel.scoring.plan_words import MOST_PLANS
from sentinel.scoring.policies import PolicyInCharge
from sentinel.scoring.serving_model import ServingModel
from sentinel.settings import Settings
from sentinel.state.snapshot_file import sequence_of, snapshots_of


def load_plan(settings: Settings) -> Plan:
    """The plan that serving runs: the champion's, or the one applied last.

    Raises:
        DefinitionError: There is none yet.
    """
    champion = champion_of(settings)
    if champion is None:
        return Plan.load(settings.plan_path)
    return Plan.load(settings.models_dir / champion.folder / "plan.json")


class Served(NamedTuple):
    """What is to serve.

    Attributes:
        panel: The champion and those beside it.
        policy: With the champion's lines.
        key: Of the control group; None if nothing is let through.
        bands: The lines that the policy has of the champion.
    """

    panel: Panel
    policy: Policy
    key: ExplorationKey | None
    bands: Thresholds

    @property
    def model(self) -> ServingModel:
        """The champion."""
        return self.panel.require()


class ServedLoader:
    """Loads what is to serve. All methods but `changed` read files: they belong in threads.

    Args:
        settings: The deployment.
        models: Load and hold models.
        policies: The policy that holds.
        line_ups: The line-up that holds.
        guard: Knows which experiments were stopped.
    """

    def __init__(
        self,
        settings: Settings,
        models: WarmModels,
        policies: PolicyInCharge,
        line_ups: LineUpInCharge,
        guard: Guard,
    ) -> None:
        self.policies = policies
        self.line_ups = line_ups
        self._settings = settings
        self._models = models
        self._guard = guard
        self._seen: tuple[tuple[int, int], ...] = ()
        self._folder = ""

    def changed(self) -> bool:
        """Whether the files that name the champion, or approve it, are others than those loaded."""
        return serving_stamp(self._settings, self._folder) != self._seen

    def load(self, running: Plan | None = None) -> Served | None:
        """The models in charge and the policy that goes with them; None without a champion.

        Args:
            running: The plan of the state that there is, which serves on if the champion finds its
                features in it.

        Raises:
            ModelError: The champion cannot be used here.
            PlanMismatch: It was trained with another plan than it is to serve with.
        """
        self._seen, self._folder = serving_stamp(self._settings), ""
        serving = serving_of(self._settings)
        if serving is None:
            return None
        # What is looked at before the model is read may only be too old.
        folder = serving.champion.folder
        approval = serving_stamp(self._settings, folder)[-1]
        self._seen, self._folder = (*self._seen, approval), folder
        model = self._models.load(serving.champion)
        if serving.plan_hash and serving.plan_hash != model.plan.hash:
            raise PlanMismatch(
                f"{self._settings.models_dir / SERVING_FILE} names plan {serving.plan_hash}, and "
                f"its champion, version {serving.champion.version}, was trained with plan "
                f"{model.plan.hash}. Promote the model again: `sentinel promote`."
            )
        bands = serving.policy or model.manifest.thresholds
        policy, key = self.policies.of(bands, model.plan)
        if running is not None and (matching_columns(running, model.plan) < 0).any():
            running = None
        return Served(self.panel(model, policy, running), policy, key, bands)

    def load_first(self) -> Served | None:
        """What serves from the start of a process on; None without a champion.

        Where the state of the line-up's plan is far behind the log, and that of another plan with
        the champion's features is not, vectors are of that one, and the former is opened beside it.

        Raises:
            ModelError, PlanMismatch: See `load`.
        """
        served = self.load()
        if served is None or self._settings.state.backend != "embedded":
            return served
        own, running = served.model.plan, None
        newest = self._snapshot_of(served.panel.plan) + state_beside.FEW_ENTRIES
        for plan in (own, *kept_unions(self._settings, MOST_PLANS)):
            through = self._snapshot_of(plan)
            if through > newest and (matching_columns(plan, own) >= 0).all():
                running, newest = plan, through
        return served if running is None else self.load(running)

    def panel(self, champion: ServingModel, policy: Policy, running: Plan | None) -> Panel:
        """The champion with the models of the line-up, each with its lines.

        Args:
            champion: Its model.
            policy: The policy that holds.
            running: See `LineUpInCharge.panel`.
        """
        lines = partial(self.policies.with_lines, policy)
        panel = self.line_ups.panel(champion, lines, running)
        panel.failed.update(self._guard.breached(panel.line_up))
        return panel

    def _snapshot_of(self, plan: Plan) -> int:
        """The last entry of the newest snapshot of a plan; 0 if there is none."""
        found = snapshots_of(self._settings.state_dir, plan.hash)
        return sequence_of(found[0]) if found else 0
