"""`sentinel`: the verbs. Each imports what it needs when it is called, so that all start fast."""

from __future__ import annotations

import logging
import signal
import sys
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from sentinel.cli.console import err, out, plain_errors, settings_for

app = typer.Typer(
    name="sentinel",
    help="Self-hosted real-time fraud detection.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
features = typer.Typer(
    name="features", help="Feature definitions, plan and backfill.", no_args_is_help=True
)
app.add_typer(features)
ledger = typer.Typer(name="ledger", help="The ledger's database.", no_args_is_help=True)
app.add_typer(ledger)

Workspace = Annotated[
    Path | None, typer.Option("--workspace", help="Folder of ledger, state and models.")
]
AllowRejects = Annotated[
    float,
    typer.Option(
        help="Largest share of rejected rows, 0 to 1; if more are, nothing is imported.",
        min=0.0,
        max=1.0,
    ),
]


def _logging() -> None:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)


@app.command()
def up(
    data: Annotated[
        Path | None,
        typer.Option(
            help="Your own data: a table, folder or archive, or a mapping file (.toml); "
            "default: simulate."
        ),
    ] = None,
    workspace: Workspace = None,
    customers: Annotated[int, typer.Option(help="Customers to simulate.", min=20)] = 2600,
    days: Annotated[float, typer.Option(help="Days of history to simulate.", min=30)] = 180.0,
    traffic: Annotated[bool, typer.Option(help="Play live traffic.")] = True,
    speed: Annotated[
        float | None,
        typer.Option(help="Play traffic so many times faster until it is at the clock.", min=1),
    ] = None,
) -> None:
    """Bring up everything on this machine and keep it up until Ctrl-C."""
    from sentinel.cli.up import up as run

    with plain_errors():
        if data is not None:
            from sentinel.cli.propose import workspace_of

            workspace = workspace or workspace_of(data)
            data = _mapping_of(data, workspace)
        run(
            settings_for(workspace),
            data=data,
            customers=customers,
            days=days,
            traffic=traffic,
            speed=speed,
        )


def _mapping_of(data: Path, workspace: Path | None) -> Path:
    """The mapping file of data; of a table without one, as proposed for it."""
    if data.suffix == ".toml":
        return data
    from sentinel.cli.propose import run as propose
    from sentinel.propose.proposing import MAPPING, proposed_before
    from sentinel.propose.roles import Answers

    folder = settings_for(workspace).workspace
    if not proposed_before([data], folder):
        propose([data], folder, Answers(), goes_on=True)
    return folder / MAPPING


@app.command()
def propose(
    files: Annotated[
        list[Path], typer.Argument(help="Tables of payments: files, a folder or an archive.")
    ],
    workspace: Workspace = None,
    id: Annotated[
        list[str] | None, typer.Option(help="Column of the id (several are joined), or `row`.")
    ] = None,
    time: Annotated[
        list[str] | None, typer.Option(help="Column of the time; several are read together.")
    ] = None,
    time_format: Annotated[
        str | None, typer.Option(help="iso, or a pattern such as %d.%m.%Y.")
    ] = None,
    time_unit: Annotated[
        str | None, typer.Option(help="What numbers count: s, ms, us, ns, min, h or d.")
    ] = None,
    start: Annotated[str | None, typer.Option(help="The day at which a count is 0.")] = None,
    timezone: Annotated[str | None, typer.Option(help="Of times that name none.")] = None,
    amount: Annotated[
        str | None, typer.Option(help="Column of the amount; `none` if there are no payments.")
    ] = None,
    amount_unit: Annotated[str | None, typer.Option(help="major (euros) or minor (cents).")] = None,
    currency: Annotated[
        str | None, typer.Option(help="The one currency of all amounts, such as EUR.")
    ] = None,
    label: Annotated[
        str | None, typer.Option(help="Column of the verdict; `none` if there is none.")
    ] = None,
    label_values: Annotated[
        list[str] | None, typer.Option(help="Its values that mean fraud.")
    ] = None,
    label_delay: Annotated[
        float | None, typer.Option(help="Days until a fraud is known.", min=0)
    ] = None,
    customer: Annotated[list[str] | None, typer.Option(help="Column of the customer.")] = None,
    card: Annotated[list[str] | None, typer.Option(help="Column of the card.")] = None,
    merchant: Annotated[list[str] | None, typer.Option(help="Column of the merchant.")] = None,
    device: Annotated[list[str] | None, typer.Option(help="Column of the device.")] = None,
    ip: Annotated[list[str] | None, typer.Option(help="Column of the address.")] = None,
    use: Annotated[
        list[str] | None, typer.Option(help="Take in a column that is suspected of leaking.")
    ] = None,
    exclude: Annotated[list[str] | None, typer.Option(help="Leave a column out.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the proposal as JSON.")] = False,
) -> None:
    """Read a table, and write a mapping and feature definitions for it into a workspace.

    What two readings fit equally is asked, and ends with code 2 where nobody can answer.
    """
    from sentinel.cli.propose import run, workspace_of
    from sentinel.propose.answering import answers_of

    given = {
        "--id": id,
        "--time": time,
        "--time-format": time_format,
        "--time-unit": time_unit,
        "--start": start,
        "--timezone": timezone,
        "--amount": amount,
        "--amount-unit": amount_unit,
        "--currency": currency,
        "--label": label,
        "--label-values": label_values,
        "--label-delay": label_delay,
        "--customer": customer,
        "--card": card,
        "--merchant": merchant,
        "--device": device,
        "--ip": ip,
        "--use": use,
        "--exclude": exclude,
    }
    with plain_errors():
        folder = settings_for(workspace or workspace_of(files[0])).workspace
        run(files, folder, answers_of(given), as_json=as_json)


@app.command()
def serve(workspace: Workspace = None) -> None:
    """Serve the scoring API until Ctrl-C."""
    from sentinel.api.server import serve as run

    _logging()
    with plain_errors():
        run(settings_for(workspace), ready=lambda url: out.print(f"Scoring at {url}"))


@app.command()
def dashboard(workspace: Workspace = None) -> None:
    """Serve the dashboard until Ctrl-C."""
    from sentinel.cli.services import run_dashboard

    with plain_errors():
        run_dashboard(settings_for(workspace))


@app.command()
def mlflow(workspace: Workspace = None) -> None:
    """Serve MLflow until Ctrl-C, making its database and buckets where they are missing."""
    from sentinel.pipeline.mlflow_server import run_mlflow

    _logging()
    with plain_errors():
        run_mlflow(settings_for(workspace))


@app.command()
def follow(workspace: Workspace = None) -> None:
    """Keep the served model that of the registry until Ctrl-C."""
    from sentinel.pipeline.follow import run_follower

    _logging()
    with plain_errors():
        run_follower(settings_for(workspace))


@app.command()
def simulate(
    workspace: Workspace = None,
    speed: Annotated[
        float | None,
        typer.Option(help="Play so many times faster until it is at the clock.", min=1),
    ] = None,
) -> None:
    """Play live traffic to the scoring API until Ctrl-C."""
    from sentinel.cli.traffic import play, traffic_file

    _logging()
    with plain_errors():
        settings = settings_for(workspace)
        if not traffic_file(settings).exists():
            err.print(
                "This workspace's history was not simulated, so there is no traffic that would "
                "follow it. `sentinel up` makes one that has."
            )
            raise SystemExit(1)
        stopping: list[int] = []
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda n, _: stopping.append(n))
        url = f"http://{settings.api.host}:{settings.api.port}"
        play(settings, url, speed=speed, stop=lambda: bool(stopping))


@app.command("import")
def import_(
    source: Annotated[
        str, typer.Argument(help="simulator, ieee-cis, handbook, or a mapping file (.toml).")
    ],
    path: Annotated[
        Path | None, typer.Option(help="Where the files of ieee-cis or handbook are.")
    ] = None,
    preview: Annotated[
        bool, typer.Option("--preview", help="Show what is understood; import nothing.")
    ] = False,
    allow_rejects: AllowRejects = 0.5,
    workspace: Workspace = None,
) -> None:
    """Import history into the ledger. Bad rows go to a rejects file with their reasons.

    A simulated history ends now: its latest labels have not arrived yet, as in life. Imported
    once more into the same workspace, it is the same history.
    """
    from sentinel.cli.importing import import_and_report
    from sentinel.pipeline.importing import import_history, import_records, known_transactions
    from sentinel.sources.preview import preview as look
    from sentinel.sources.registry import open_source

    with plain_errors():
        settings = settings_for(workspace)
        now_us = time.time_ns() // 1000
        options: dict[str, Any] = {} if path is None else {"path": path}
        if source == "simulator":
            # Once more is the same world once more: its ids would come with other content.
            earlier = [r for r in import_records(settings) if r.source == "simulator"]
            options["ending_us"] = earlier[0].started_at_us if earlier else now_us
        opened = open_source(source, **options)
        if source == "ieee-cis" and not preview:
            from sentinel.feature_sets import IEEE_CIS, suit

            installed = suit(settings, IEEE_CIS)
            if installed is not None:
                out.print(str(installed), soft_wrap=True, markup=False)
        if preview:
            seen = look(opened, now_us=now_us, known=lambda: known_transactions(settings))
            out.print(seen.render())
            return
        import_and_report(
            lambda progress: import_history(
                settings, opened, now_us=now_us, allow_rejects=allow_rejects, progress=progress
            )
        )


@app.command()
def example(
    name: Annotated[str | None, typer.Argument(help="Name; without one, list them.")] = None,
    into: Annotated[Path, typer.Option(help="Folder that holds the data.")] = Path(),
) -> None:
    """Copy the mapping file of a well-known data set into a folder; without a name, list them."""
    from sentinel.cli.reports import examples_report
    from sentinel.examples import copy_to

    with plain_errors():
        if name is None:
            examples_report(out)
        else:
            out.print(f"Written to {copy_to(name, into)}.", soft_wrap=True, markup=False)


@app.command("import-labels")
def import_labels(
    path: Annotated[
        Path,
        typer.Argument(
            help="A table with transaction_id, verdict and received_at; or a mapping file (.toml) "
            "whose [labels] have a path."
        ),
    ],
    allow_rejects: AllowRejects = 0.5,
    workspace: Workspace = None,
) -> None:
    """Import labels from files of their own."""
    from sentinel.cli.importing import import_and_report
    from sentinel.pipeline.importing import import_labels as run

    with plain_errors():
        settings = settings_for(workspace)
        import_and_report(
            lambda progress: run(settings, path, allow_rejects=allow_rejects, progress=progress)
        )


@app.command()
def train(workspace: Workspace = None) -> None:
    """Build a dataset from the log, train on it, and register a candidate with its figures.

    Without a server of MLflow the workspace's own database and folder are used; a server that is
    started later shows the same runs.
    """
    from sentinel.models.registry_place import mlflow_place
    from sentinel.pipeline.workspace import ledger_reader

    with plain_errors():
        settings = settings_for(workspace)
        # What is away is said before the libraries of training are loaded, and before any work.
        mlflow_place(settings)
        with ledger_reader(settings):
            pass
        from sentinel.cli.reports import dataset_report, training_report
        from sentinel.pipeline.datasets import build_dataset
        from sentinel.pipeline.training import train as run
        from sentinel.sources.progress import progress_bar

        with progress_bar(err) as progress:
            built = build_dataset(settings, progress=progress)
            result = run(settings, built.folder, progress=progress)
        dataset_report(out, built)
        training_report(out, result)


@app.command()
def evaluate(
    version: Annotated[str | None, typer.Argument(help="Version; default: the newest.")] = None,
    workspace: Workspace = None,
) -> None:
    """Compare a candidate with the champion on the same matured labels, and write the report."""
    from sentinel.cli.reports import gate_report
    from sentinel.pipeline.gate import evaluate as run
    from sentinel.pipeline.gate import report_path
    from sentinel.sources.progress import progress_bar

    with plain_errors():
        settings = settings_for(workspace)
        with progress_bar(err) as progress:
            report = run(settings, version, progress=progress)
        gate_report(out, report)
        out.print(f"Written to {report_path(settings, report.version)}", soft_wrap=True)


@app.command()
def promote(
    version: Annotated[str | None, typer.Argument(help="Version; default: the newest.")] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Ask the gate, and only say what would be done.")
    ] = False,
    workspace: Workspace = None,
) -> None:
    """Make a candidate the champion, if the gate lets it through."""
    from sentinel.cli.reports import gate_report, promotion_report
    from sentinel.pipeline.gate import evaluate, judge
    from sentinel.pipeline.promotion import promote as run
    from sentinel.sources.progress import progress_bar

    with plain_errors():
        settings = settings_for(workspace)
        with progress_bar(err) as progress:
            report = evaluate(settings, version, progress=progress)
        gate_report(out, report)
        judge(settings, report)
        with progress_bar(err) as progress:
            result = run(
                settings, report.version, report=report, dry_run=dry_run, progress=progress
            )
        promotion_report(out, result)


@app.command()
def rollback(workspace: Workspace = None) -> None:
    """Put the champion before the present one back in charge."""
    from sentinel.cli.reports import promotion_report
    from sentinel.pipeline.promotion import rollback as run
    from sentinel.sources.progress import progress_bar

    with plain_errors():
        with progress_bar(err) as progress:
            result = run(settings_for(workspace), progress=progress)
        promotion_report(out, result)


@app.command()
def export(
    target: Annotated[
        str | None,
        typer.Argument(help="Folder or s3://bucket/prefix; default: the offline store's."),
    ] = None,
    workspace: Workspace = None,
) -> None:
    """Export transactions, decisions and labels to partitioned Parquet; only what is new."""
    from sentinel.pipeline.exporting import export_history
    from sentinel.sources.progress import progress_bar

    with plain_errors():
        with progress_bar(err) as progress:
            result = export_history(settings_for(workspace), target, progress=progress)
        out.print(f"{result.where} holds the log through entry {result.exported_through:,}.")
        if result.published is not None:
            done = result.published
            out.print(
                f"{done.uploaded:,} files ({done.uploaded_bytes / 1e6:,.1f} MB) went up, "
                f"{done.kept:,} were there, {done.removed:,} were removed."
            )


@app.command()
def status(workspace: Workspace = None) -> None:
    """What runs and what the workspace holds."""
    from sentinel.cli.services import show_status

    with plain_errors():
        show_status(settings_for(workspace))


@app.command()
def verify(
    as_json: Annotated[bool, typer.Option("--json", help="Print what was found as JSON.")] = False,
    workspace: Workspace = None,
) -> None:
    """Check every service that the settings name; exits with 1 if one is not well."""
    from sentinel.cli.services import verify_parts

    with plain_errors():
        sys.exit(0 if verify_parts(settings_for(workspace), as_json=as_json) else 1)


@app.command()
def reset(
    workspace: Workspace = None,
    yes: Annotated[bool, typer.Option("--yes", help="Don't ask.")] = False,
    ledger: Annotated[
        bool, typer.Option("--ledger", help="Delete the ledger in PostgreSQL, too.")
    ] = False,
) -> None:
    """Delete a workspace with its ledger, models and state."""
    from sentinel.cli.services import reset_workspace

    with plain_errors():
        reset_workspace(settings_for(workspace), yes=yes, ledger=ledger)


@features.command("plan")
def features_plan(workspace: Workspace = None) -> None:
    """Print what the definitions compile to, readable and diffable, and whether it is applied."""
    from sentinel.cli.reports import plan_difference
    from sentinel.features.plan.describe import describe
    from sentinel.pipeline.apply import plan_definitions

    with plain_errors():
        planned = plan_definitions(settings_for(workspace))
        out.print(describe(planned.plan), markup=False, soft_wrap=True, end="")
        plan_difference(err, planned)


@features.command("init")
def features_init(
    name: Annotated[
        str, typer.Option("--set", help="default or ieee_cis; see docs/feature-store.md.")
    ] = "default",
    into: Annotated[
        Path | None, typer.Option(help="Folder; default: the workspace's feature_store.")
    ] = None,
    workspace: Workspace = None,
) -> None:
    """Copy a set of feature definitions to where you can edit it."""
    from sentinel.feature_sets import install

    with plain_errors():
        settings = settings_for(workspace)
        folder = into or settings.own_definitions_dir
        out.print(str(install(name, folder, settings.workspace)), soft_wrap=True, markup=False)
        if folder.resolve() != settings.definitions_dir.resolve():
            out.print(f"To use it, set SENTINEL_FEATURE_STORE={folder}.", soft_wrap=True)


@features.command("apply")
def features_apply(
    relearn: Annotated[
        bool, typer.Option("--relearn", help="Learn all category dictionaries anew.")
    ] = False,
    workspace: Workspace = None,
) -> None:
    """Compile the definitions into the workspace's plan and write them to Feast's registry."""
    from sentinel.cli.reports import plan_report
    from sentinel.pipeline.apply import apply_definitions
    from sentinel.sources.progress import progress_bar

    with plain_errors():
        with progress_bar(err) as progress:
            applied = apply_definitions(settings_for(workspace), relearn=relearn, progress=progress)
        plan_report(out, applied)


@features.command("backfill")
def features_backfill(
    rebuild: Annotated[bool, typer.Option("--rebuild", help="Start over.")] = False,
    workspace: Workspace = None,
) -> None:
    """Fold the log into vectors, from where the last backfill ended."""
    from sentinel.cli.reports import backfill_report
    from sentinel.pipeline.backfill import backfill
    from sentinel.sources.progress import progress_bar

    with plain_errors():
        with progress_bar(err) as progress:
            done = backfill(settings_for(workspace), rebuild=rebuild, progress=progress)
        backfill_report(out, done)


@features.command("materialize")
def features_materialize(
    full: Annotated[
        bool, typer.Option("--full", help="Compute and write everything again.")
    ] = False,
    workspace: Workspace = None,
) -> None:
    """Bring the online store's profiles and historic transactions up to date."""
    from sentinel.cli.reports import materialize_report
    from sentinel.pipeline.materialize import materialize
    from sentinel.sources.progress import progress_bar

    with plain_errors():
        with progress_bar(err) as progress:
            report = materialize(settings_for(workspace), full=full, progress=progress)
        materialize_report(out, report)


@features.command("verify")
def features_verify(
    sample: Annotated[
        int | None,
        typer.Option(help="Only look at so many served rows of each kind.", min=1),
    ] = None,
    workspace: Workspace = None,
) -> None:
    """Replay the log through the online path and compare every value, bit for bit."""
    from sentinel.cli.reports import sample_report
    from sentinel.pipeline.verify import verify as run
    from sentinel.pipeline.verify_sample import verify_sample
    from sentinel.sources.progress import progress_bar

    with plain_errors():
        settings = settings_for(workspace)
        if sample is not None:
            with progress_bar(err) as progress:
                sampled = verify_sample(settings, sample, progress=progress)
            sample_report(out, sampled)
            sys.exit(1 if sampled.mismatches else 0)
        with progress_bar(err) as progress:
            result = run(settings, progress=progress)
        out.print(
            f"{result.rows:,} rows x {result.features} features replayed, "
            f"{result.mismatches:,} mismatches; {result.recorded:,} recorded decisions, "
            f"{result.recorded_mismatches:,} mismatches."
        )
        wrong = result.mismatches + result.recorded_mismatches
        if settings.state.backend == "redis":
            from sentinel.pipeline.verify_shared import verify_shared
            from sentinel.scoring.runtime import load_plan

            shared = verify_shared(settings, load_plan(settings))
            if shared is not None:
                out.print(
                    f"{shared.decisions:,} decisions on shared state replayed by position, "
                    f"{shared.mismatches:,} mismatches in {shared.values:,} values; "
                    f"{shared.unverifiable:,} values unverifiable, {shared.degraded:,} decisions "
                    "degraded."
                )
                wrong += shared.mismatches
        sys.exit(1 if wrong else 0)


@ledger.command("migrate")
def ledger_migrate(workspace: Workspace = None) -> None:
    """Bring the tables of a ledger in PostgreSQL up to date; makes them where there are none."""
    from sentinel.ledger.open import ledger_name, migrate_ledger

    with plain_errors():
        settings = settings_for(workspace)
        migrated = migrate_ledger(settings)
        if migrated is None:
            said = f"The ledger {ledger_name(settings)} is in SQLite: there is nothing to migrate."
        else:
            before, after = migrated
            where = f"the ledger in schema {settings.ledger.namespace} of {ledger_name(settings)}"
            if before is None:
                said = f"Made {where}, schema version {after}."
            elif before == after:
                said = f"Nothing to do: {where} has schema version {after}."
            else:
                said = f"Brought {where} from schema version {before} to {after}."
        out.print(said, markup=False, soft_wrap=True)


def main() -> None:
    """Entry point of the `sentinel` command."""
    app()
