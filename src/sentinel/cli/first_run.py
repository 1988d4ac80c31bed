"""The first run of a workspace: from data to a champion, stage by stage."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

from sentinel.cli.console import err, out
from sentinel.domain import WorkspaceError
from sentinel.ledger.open import ledger_exists, ledger_name, open_reader, open_writer
from sentinel.log.entries import GroupKind
from sentinel.settings import Settings

if TYPE_CHECKING:
    from sentinel.sources.base import Source
    from sentinel.sources.simulator import SimulatorConfig

_EXPLORING_MINOR: Final = 100_000
"""What the control group of a simulated world may cost in 30 days."""

WORLD_CUSTOMERS: Final = 2600
WORLD_DAYS: Final = 180.0
"""Size of the simulated world, unless the caller has other wishes."""


class Progress(msgspec.Struct, kw_only=True):
    """Which stages of the first run are done.

    Attributes:
        data: The mapping file whose data this workspace holds; empty: simulated.
        stages: Names of the finished stages.
        seconds: How long each took.
    """

    data: str = ""
    stages: list[str] = []
    seconds: dict[str, float] = {}

    @property
    def shares(self) -> str:
        """What took how long until there was a champion, in a line."""
        whole = sum(self.seconds.values())
        parts = ", ".join(
            f"{stage} {seconds:.0f} s ({seconds / max(whole, 1e-9):.0%})"
            for stage, seconds in self.seconds.items()
        )
        return f"From data to a champion in {whole:.0f} s: {parts}."


class FirstRun:
    """The stages that turn an empty workspace into one that can serve.

    Args:
        settings: The workspace.
        data: Mapping file of the user's own data; None to simulate.
        customers, days: Size of the simulated world.
        now_us: The clock, microseconds UTC: where live traffic is to arrive.
    """

    def __init__(
        self, settings: Settings, data: Path | None, customers: int, days: float, now_us: int
    ) -> None:
        self.settings = settings
        self._data = data
        self._customers = customers
        self._days = days
        self._now_us = now_us
        self._path = settings.workspace / "up.json"
        self._progress = self._load()

    @property
    def simulated(self) -> bool:
        return not self._progress.data

    @property
    def complete(self) -> bool:
        return "promoted" in self._progress.stages

    @property
    def measured(self) -> bool:
        """Whether the champion's baselines were measured and lengths of history compared."""
        return "measured" in self._progress.stages

    def remember_measured(self) -> None:
        """Do not measure again at the next start."""
        self._once("measured", lambda: None)

    def check(self) -> None:
        """See that data can be read and may be added, before anything is started.

        Raises:
            ConfigurationError: The mapping file or its data cannot be read.
            WorkspaceError: The workspace or its ledger holds what others brought.
        """
        from sentinel.sources.registry import open_source

        if "imported" in self._progress.stages:
            return
        self._refuse_what_others_filled()
        if self._data is not None:
            open_source(self._data)

    def prepare(self) -> None:
        """Import, apply and backfill, as far as that was not done before."""
        self._once("imported", self._import)
        self._once("applied", self._apply)
        self._once("backfilled", self._backfill)

    def train(self) -> None:
        """Train, pass the gate and promote; needs MLflow."""
        self._once("trained", self._train)
        self._once("promoted", self._promote)
        if self.simulated:
            self._once("explored", self._explore)
        out.print(self._progress.shares, soft_wrap=True)

    def _load(self) -> Progress:
        wanted = str(self._data.resolve()) if self._data is not None else ""
        try:
            progress = msgspec.json.decode(self._path.read_bytes(), type=Progress)
        except FileNotFoundError:
            return Progress(data=wanted)
        except msgspec.DecodeError:
            raise WorkspaceError(
                f"{self._path} is damaged. Run `sentinel reset --workspace "
                f"{self.settings.workspace}` to start over."
            ) from None
        if self._data is None and progress.data:
            self._data = Path(progress.data)  # a later start goes on with what is there
        elif progress.data != wanted:
            held, name = progress.data or "simulated data", self._data
            add = (
                f"To add {name} to it, run `sentinel import {name} --workspace "
                f"{self.settings.workspace}` and start it again. "
                if progress.data
                else ""
            )
            raise WorkspaceError(
                f"The workspace {self.settings.workspace} holds {held}. {add}For other data use "
                "another one: `sentinel up --workspace FOLDER`."
            )
        return progress

    def _once(self, stage: str, job: Callable[[], None]) -> None:
        if stage in self._progress.stages:
            return
        began = time.monotonic()
        job()
        if stage != "measured":
            self._progress.seconds[stage] = time.monotonic() - began
        self._progress.stages.append(stage)
        partial = self._path.with_suffix(".partial")
        partial.write_bytes(msgspec.json.encode(self._progress))
        partial.replace(self._path)

    def _import(self) -> None:
        from sentinel.cli.importing import ALLOWED_REJECTS, import_and_report
        from sentinel.cli.traffic import remember, world_before
        from sentinel.pipeline.importing import import_history
        from sentinel.sources.registry import open_source
        from sentinel.sources.simulator import SimulatorSource

        self._refuse_what_others_filled()
        source: Source
        if self._data is not None:
            source = open_source(self._data)
            now_us = self._now_us
        else:
            config = self._own_world() or world_before(
                self._now_us, customers=self._customers, days=self._days
            )
            remember(self.settings, config)
            source = SimulatorSource(config)
            now_us = config.end_us
        self._take_up(source)
        import_and_report(
            lambda progress: import_history(
                self.settings,
                source,
                now_us=now_us,
                allow_rejects=ALLOWED_REJECTS,
                progress=progress,
            )
        )

    def _take_up(self, source: Source) -> None:
        """Begin with what the log holds: a first import that was cut short is begun anew.

        Everything else stays. The import adds what the log lacks.
        """
        if not ledger_exists(self.settings):
            return
        if self._is_half(source.name):
            # An import that still runs has the right to write, and this says so; one that ended
            # since the look has left all that it was to leave.
            with open_writer(self.settings):
                if self._is_half(source.name):
                    self._begin_anew()
                    return
        if entries := self._entries():
            err.print(f"The log holds {entries:,} entries already; what they lack is imported.")

    def _begin_anew(self) -> None:
        err.print("The last import was interrupted; it starts over.")
        for path in self.settings.workspace.glob("ledger.db*"):
            if path.suffix != ".lock":
                path.unlink(missing_ok=True)
        for path in self.settings.workspace.glob("index.db*"):
            path.unlink(missing_ok=True)

    def _own_world(self) -> SimulatorConfig | None:
        """The world whose history is in the log, if nothing else is: a start was cut after it."""
        from sentinel.cli.traffic import remembered
        from sentinel.pipeline.importing import import_records
        from sentinel.sources.simulator import SimulatorSource

        records = import_records(self.settings)
        finished = any(one.finished for one in records)
        own = finished and all(one.source == SimulatorSource.name for one in records)
        return remembered(self.settings) if own else None

    def _is_half(self, name: str) -> bool:
        """Whether the log holds nothing but what imports of a source left that never ended."""
        from sentinel.pipeline.importing import import_records

        records = import_records(self.settings)
        if not records or any(one.finished or one.source != name for one in records):
            return False
        with open_reader(self.settings) as ledger:
            return all(group.kind == GroupKind.IMPORT for group in ledger.groups())

    def _entries(self) -> int:
        """How many entries the log holds."""
        if not ledger_exists(self.settings):
            return 0
        with open_reader(self.settings) as ledger:
            return ledger.last_sequence()

    def _refuse_what_others_filled(self) -> None:
        """A first run adds nothing made up to what somebody brought, and replaces no model.

        Raises:
            WorkspaceError: It would.
        """
        from sentinel.sources.simulator import SimulatorSource

        if not ledger_exists(self.settings):
            return
        if self.settings.ledger.url:
            self._refuse_entries_of_others()
        elif (self.settings.models_dir / "champion.json").exists():
            raise WorkspaceError(
                f"The workspace {self.settings.workspace} was filled by other commands, and has a "
                "champion that a first run would replace. Start its services one by one instead: "
                "`sentinel serve`, `sentinel mlflow`, `sentinel follow`, `sentinel monitor` and "
                "`sentinel dashboard`. Or use another workspace: `sentinel up --workspace FOLDER`."
            )
        elif (
            self._data is None
            and self._own_world() is None
            and not self._is_half(SimulatorSource.name)
        ):
            if entries := self._entries():
                raise WorkspaceError(
                    f"The workspace {self.settings.workspace} holds {entries:,} entries, and "
                    "`sentinel up` without data adds simulated payments. Name the mapping file of "
                    "your data with `sentinel up --data FILE`, or use another workspace: "
                    "`sentinel up --workspace FOLDER`."
                )

    def _refuse_entries_of_others(self) -> None:
        """A database may be shared: what it holds is not for a first run to delete."""
        if entries := self._entries():
            raise WorkspaceError(
                f"The ledger {ledger_name(self.settings)} holds {entries:,} entries already, from "
                "a first import that was cut short or from elsewhere. Serve it with `sentinel "
                "serve`, delete it with `sentinel reset --ledger`, or set another "
                "SENTINEL_LEDGER__NAMESPACE."
            )

    def _apply(self) -> None:
        from sentinel.pipeline.apply import apply_definitions
        from sentinel.sources.progress import progress_bar

        with progress_bar(err) as progress:
            applied = apply_definitions(self.settings, progress=progress)
        if applied.installed is not None:
            out.print(str(applied.installed), soft_wrap=True, markup=False)
        out.print(
            f"Plan {applied.plan.hash}: {len(applied.plan.feature_names)} features over "
            f"{len(applied.plan.views)} views."
        )

    def _backfill(self) -> None:
        from sentinel.pipeline.backfill import backfill
        from sentinel.sources.progress import progress_bar

        with progress_bar(err) as progress:
            done = backfill(self.settings, progress=progress)
        out.print(f"Backfilled {done.new_rows:,} vectors in {done.seconds:.1f} s.")

    def _train(self) -> None:
        from sentinel.cli.reports import training_report
        from sentinel.pipeline.training import train
        from sentinel.sources.progress import progress_bar

        with progress_bar(err) as progress:
            # Baselines, lengths of history and a refit come once the champion serves.
            trained = train(
                self.settings, baselines=False, search=False, refitted=False, progress=progress
            )
        training_report(out, trained)

    def _promote(self) -> None:
        from sentinel.pipeline.promotion import promote
        from sentinel.sources.progress import progress_bar

        with progress_bar(err) as progress:
            promoted = promote(self.settings, progress=progress)
        out.print(
            f"Version {promoted.version} is the champion; {promoted.scored:,} historic "
            "transactions have an answer."
        )

    def _explore(self) -> None:
        """Allow a control group: its money is made up, as everything of this world is."""
        from sentinel.pipeline.policies import apply
        from sentinel.policy.versions import Exploring, Terms

        made, workings = apply(
            self.settings,
            Terms(exploring=Exploring(budget_minor=_EXPLORING_MINOR)),
            by="sentinel up",
            why="a simulated world, whose money is nobody's",
        )
        out.print(
            f"A control group lets {100 * made.share:.2f} % of what is stopped through: "
            f"{workings.explored_a_month:,.1f} payments a month (`sentinel policy show`)."
        )
