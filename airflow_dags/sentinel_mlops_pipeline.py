"""The daily run: definitions and log into a model that is at least as good as the champion.

Each task calls the function of `sentinel.pipeline` that the command line calls, and prints what the
command prints. Heavy imports are inside the tasks: this file is read again and again by the DAG
processor, and tasks are forked.
"""

from __future__ import annotations

import html
import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from airflow.sdk import Param, dag, task
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException
from rich.console import Console

from sentinel.domain import GateRefused, GateWaits, SentinelError, Unavailable, WorkspaceError
from sentinel.private_files import keep_files_private
from sentinel.settings import Settings
from sentinel.telemetry.context import begin_run
from sentinel.telemetry.safe_records import make_records_safe

out = Console(width=140, highlight=False, color_system=None)

DEFAULTS = Settings()
RETRY = timedelta(seconds=DEFAULTS.airflow.retry_seconds)

PARAMETERS = {
    "window_days": Param(
        None if DEFAULTS.training.window_days == "auto" else DEFAULTS.training.window_days,
        type=["null", "number"],
        minimum=1,
        maximum=3650,
        title="Training window (days)",
        description="How much history the candidate learns from; empty: all that is mature, unless "
        "recent data proves better. Default: the setting `training.window_days`.",
    ),
    "model": Param(
        DEFAULTS.training.trainer,
        type="string",
        enum=["lightgbm", "xgboost", "random_forest", "lightgbm_forest"],
        values_display={
            "lightgbm": "LightGBM",
            "xgboost": "XGBoost",
            "random_forest": "Random forest",
        },
        title="Model",
        description="What the candidate is trained with. Baselines are always trained beside it, "
        "to compare.",
    ),
    "retrain_anyway": Param(
        False,
        type="boolean",
        title="Retrain anyway",
        description="Train also if no retraining is due by the settings `retraining`.",
    ),
    "dry_run": Param(
        False,
        type="boolean",
        title="Dry run",
        description="Train, evaluate and ask the gate, then say what a promotion would do and "
        "change nothing of what serves.",
    ),
}

ABOUT = """
Brings the features up to the end of the log, trains a candidate on what is known by now, judges it
and, if it passes, puts it in charge: a model of the approved procedure at once, one of another
procedure when it is shown to be no worse.

| task | command | what it leaves |
|---|---|---|
| `apply_features` | `sentinel features apply` | the compiled plan |
| `materialize` | `sentinel features backfill`, `materialize` | vectors and online store |
| `decide_retraining` | `sentinel retrain --check` | whether a retraining is due, and why |
| `build_dataset` | `sentinel train` | the dataset as Parquet |
| `train` | `sentinel train` | a tracked run and a registered candidate |
| `evaluate` | `sentinel evaluate` | the report that compares it with the approved procedure |
| `gate` | `sentinel promote` | the verdict, on the version in MLflow |
| `promote` | `sentinel promote` | the new champion; scorers take it over within seconds |
| `refresh_policy` | `sentinel policy refresh` | price of a review, share of the control group |
| `settle_experiments` | `sentinel experiment settle` | promoted and ended experiments |
| `last_retraining` | `sentinel retrain --check` | what the last retraining bought, in money |
| `learn_online` | `sentinel learn` | learners that go on every day, where the setting says so |

Where no retraining is due, everything from the dataset on is skipped, the run is green, and the
log says when one will be. A run that the gate ends is red and says which figure was worse; nothing
is retried and the champion stays. While a candidate waits for more truth, gate and promotion are
skipped, and the run is green. What may pass by itself (a server that is away) is retried with
growing pauses. Red runs are told by e-mail.
"""


class Refused(AirflowFailException):
    """The gate's no: ends the run without a retry.

    Args:
        message: Why.
        table: The figures of both models, as text.
    """

    def __init__(self, message: str, table: str = "") -> None:
        super().__init__(message)
        self.table = table


@contextmanager
def told_apart(table: str = "") -> Iterator[None]:
    """Let only those errors be retried that may pass by themselves."""
    try:
        yield
    except GateWaits as error:
        out.print(f"WAITS. {error}", markup=False, soft_wrap=True)
        raise AirflowSkipException(str(error)) from error
    except GateRefused as error:
        out.print(f"REFUSED. {error}", markup=False, soft_wrap=True)
        raise Refused(str(error), table) from error
    except (Unavailable, WorkspaceError) as error:  # a server that is away, a job that runs
        out.print(f"{type(error).__name__}: {error}", markup=False, soft_wrap=True)
        raise
    except SentinelError as error:
        out.print(f"{type(error).__name__}: {error}", markup=False, soft_wrap=True)
        raise AirflowFailException(f"{type(error).__name__}: {error}") from error


def settings_of(params: dict[str, Any] | None) -> Settings:
    """The deployment's settings with the parameters of the run.

    Log lines of processes that a task starts have Airflow's id of the run as `run_id`.
    """
    keep_files_private()
    make_records_safe()
    begin_run(os.environ.get("AIRFLOW_CTX_DAG_RUN_ID", ""))
    given = params or {}
    days = given["window_days"]
    training = DEFAULTS.training.model_copy(
        update={
            "window_days": "auto" if days is None else float(days),
            "trainer": given["model"],
        }
    )
    return DEFAULTS.model_copy(update={"training": training})


def send_mail(context: Any) -> None:
    """Tell of a task that has finally failed, or of a candidate that was refused."""
    from airflow.providers.smtp.hooks.smtp import SmtpHook

    to = [address.strip() for address in DEFAULTS.airflow.mail_to.split(",") if address.strip()]
    if not to:
        out.print("No e-mail: the setting airflow.mail_to names nobody.")
        return
    ti, error = context["ti"], context.get("exception")
    if isinstance(error, Refused):
        subject = f"Sentinel's gate refused a candidate ({ti.run_id})"
        words = "The candidate was refused; the champion stays in charge."
        details = f"{error}\n\n{error.table}"
    else:
        subject = f"Sentinel's pipeline failed in {ti.task_id} ({ti.run_id})"
        words = f"Task {ti.task_id} failed in attempt {ti.try_number}; it is not tried again."
        details = f"{type(error).__name__}: {error}" if error else "The process was ended."
    parameters = ", ".join(f"{name} = {value}" for name, value in context["params"].items())
    body = (
        f"<p>{html.escape(words)}</p><pre>{html.escape(details)}</pre>"
        f"<p>Run: {html.escape(ti.run_id)}<br>Parameters: {html.escape(parameters)}<br>"
        f'Log: <a href="{html.escape(ti.log_url)}">{html.escape(ti.log_url)}</a></p>'
    )
    with SmtpHook() as smtp:  # Airflow's connection smtp_default
        smtp.send_email_smtp(
            to=to, from_email=DEFAULTS.airflow.mail_from, subject=subject, html_content=body
        )
    out.print(f"E-mail sent to {', '.join(to)}: {subject}", markup=False, soft_wrap=True)


@task
def apply_features(params: dict[str, Any] | None = None) -> dict[str, Any]:
    """Compile the feature definitions into the plan."""
    from sentinel.cli.reports import plan_report
    from sentinel.pipeline.apply import apply_definitions
    from sentinel.sources.progress import progress_bar

    with told_apart(), progress_bar(out) as progress:
        applied = apply_definitions(settings_of(params), progress=progress)
    plan_report(out, applied)
    return {"plan_hash": applied.plan.hash, "changed": applied.changed}


@task
def materialize(params: dict[str, Any] | None = None) -> dict[str, Any]:
    """Compute the vectors of what is new in the log, and bring the online store up to date."""
    from sentinel.cli.reports import backfill_report, materialize_report
    from sentinel.pipeline.backfill import backfill
    from sentinel.pipeline.materialize import materialize
    from sentinel.sources.progress import progress_bar

    settings = settings_of(params)
    with told_apart(), progress_bar(out) as progress:
        vectors = backfill(settings, progress=progress)
        online = materialize(settings, progress=progress)
    backfill_report(out, vectors)
    materialize_report(out, online)
    return {
        "kind": "incremental" if vectors.new_rows < vectors.parts.manifest.rows else "full",
        "new_vectors": vectors.new_rows,
        "vectors": vectors.parts.manifest.rows,
        "online": {view.view: {"mode": view.mode, "rows": view.rows} for view in online.views},
        "through": online.sequence,
    }


@task
def refresh_policy(params: dict[str, Any] | None = None) -> dict[str, Any]:
    """Work out the price of reviews and the share of the control group for the next day."""
    from sentinel.cli.policy_reports import workings_report
    from sentinel.models.champion import champion_of
    from sentinel.pipeline.policies import refresh

    settings = settings_of(params)
    if champion_of(settings) is None:
        out.print("Nothing serves yet, so there is no policy to look at.")
        return {"version": None, "changed": False, "share": 0.0}
    with told_apart():
        found = refresh(settings, dry_run=bool((params or {})["dry_run"]))
    version = found.version
    allowed = version is not None and version.terms.exploring is not None
    workings_report(out, found.workings, settings.money, allowed=allowed)
    return {
        "version": None if version is None else version.version,
        "changed": found.changed,
        "share": found.workings.share,
    }


@task
def decide_retraining(params: dict[str, Any] | None = None) -> dict[str, Any]:
    """Say whether a retraining is due, and why; if none is, the tasks behind are skipped."""
    from sentinel.pipeline.last_training import ASKED_FOR
    from sentinel.pipeline.retraining import retraining_due
    from sentinel.sources.progress import progress_bar

    with told_apart(), progress_bar(out) as progress:
        answer = retraining_due(settings_of(params), progress=progress)
    out.print(answer.words, markup=False, soft_wrap=True)
    anyway = bool((params or {})["retrain_anyway"])
    if not answer.due and not anyway:
        raise AirflowSkipException(answer.words)
    return {"why": answer.why or ASKED_FOR, "kinds": [one.kind for one in answer.reasons]}


@task
def last_retraining(params: dict[str, Any] | None = None) -> dict[str, Any]:
    """Say what the last retraining bought against the model that it replaced, in money."""
    from sentinel.cli.reports import gain_report
    from sentinel.pipeline.retraining_gain import retraining_gain
    from sentinel.sources.progress import progress_bar

    settings = settings_of(params)
    with told_apart(), progress_bar(out) as progress:
        gain = retraining_gain(settings, progress=progress)
    gain_report(out, gain, settings.money)
    if gain is None:
        return {"version": None, "replaced": None, "saved_minor": None}
    saved = gain.saved_minor
    return {
        "version": gain.version,
        "replaced": gain.replaced,
        "saved_minor": None if saved is None else [saved.value, saved.low, saved.high],
    }


@task
def build_dataset(params: dict[str, Any] | None = None) -> dict[str, Any]:
    """Put vectors and what is known of them by now into Parquet files."""
    from sentinel.cli.reports import dataset_report
    from sentinel.pipeline.datasets import build_dataset
    from sentinel.sources.progress import progress_bar

    with told_apart(), progress_bar(out) as progress:
        built = build_dataset(settings_of(params), progress=progress)
    dataset_report(out, built)
    about = built.manifest
    return {"folder": str(built.folder), "rows": about.fit.rows + about.tail.rows + about.test.rows}


@task
def train(
    dataset: dict[str, Any], retraining: dict[str, Any], params: dict[str, Any] | None = None
) -> dict[str, Any]:
    """Fit the candidate and the baselines, measure them, track and register the candidate."""
    from sentinel.cli.reports import training_report
    from sentinel.pipeline.training import train
    from sentinel.sources.progress import progress_bar

    with told_apart(), progress_bar(out) as progress:
        folder, why = Path(dataset["folder"]), retraining["why"]
        counts = not bool((params or {})["dry_run"])
        trained = train(settings_of(params), folder, why=why, counts=counts, progress=progress)
    training_report(out, trained)
    return {"version": trained.version, "run_id": trained.run_id, "run_url": trained.run_url}


@task
def evaluate(candidate: dict[str, Any], params: dict[str, Any] | None = None) -> dict[str, Any]:
    """Compare the candidate with the champion on payments that neither has seen."""
    from sentinel.cli.reports import gate_report
    from sentinel.pipeline.gate import evaluate, report_path
    from sentinel.sources.progress import progress_bar

    settings, version = settings_of(params), candidate["version"]
    with told_apart(), progress_bar(out) as progress:
        report = evaluate(settings, version, progress=progress)
    gate_report(out, report)
    path = report_path(settings, version)
    return {"version": version, "champion": report.champion, "report": str(path)}


@task
def gate(evaluation: dict[str, Any], params: dict[str, Any] | None = None) -> dict[str, Any]:
    """Let the candidate through, or end the run here."""
    from sentinel.cli.reports import gate_report
    from sentinel.pipeline.gate import GateReport, judge

    with told_apart():
        report = GateReport.load(Path(evaluation["report"]))
        figures = Console(file=io.StringIO(), width=120, color_system=None)
        gate_report(figures, report)
        table = figures.file.getvalue()
        out.print(table, markup=False)
    with told_apart(table):
        judge(settings_of(params), report)
    return {"version": report.version, "passed": report.passed}


@task
def promote(evaluation: dict[str, Any], params: dict[str, Any] | None = None) -> dict[str, Any]:
    """Make the candidate the champion; in a dry run, only say so."""
    from sentinel.cli.reports import promotion_report
    from sentinel.pipeline.gate import GateReport
    from sentinel.pipeline.promotion import promote
    from sentinel.sources.progress import progress_bar

    dry_run = bool((params or {})["dry_run"])
    with told_apart(), progress_bar(out) as progress:
        report = GateReport.load(Path(evaluation["report"]))
        promoted = promote(
            settings_of(params),
            evaluation["version"],
            report=report,
            dry_run=dry_run,
            by="the nightly pipeline",
            progress=progress,
        )
    promotion_report(out, promoted)
    return {"version": promoted.version, "replaced": promoted.replaced, "dry_run": dry_run}


@task
def settle_experiments(params: dict[str, Any] | None = None) -> dict[str, Any]:
    """Judge challengers by matured frauds; promote what is better, end what will never be."""
    from sentinel.cli.experiment_reports import settled_report
    from sentinel.pipeline.experiment_judging import settle

    settings = settings_of(params)
    with told_apart():
        found = settle(settings, dry_run=bool((params or {})["dry_run"]))
    settled_report(out, found)
    return {one.name: {"verdict": one.verdict, "action": one.action} for one in found}


@task
def learn_online(params: dict[str, Any] | None = None) -> dict[str, Any]:
    """Bring the online learners up to the last whole day, where the setting says so."""
    settings = settings_of(params)
    if not settings.online.learn:
        out.print("Nothing is learnt online: the setting online.learn is off.")
        return {"base": None, "days": 0}
    from sentinel.cli.online_report import online_report
    from sentinel.models.champion import champion_of
    from sentinel.pipeline.online_learning import learn
    from sentinel.pipeline.online_shadow import publish
    from sentinel.sources.progress import progress_bar

    if champion_of(settings) is None:
        out.print("Nothing serves yet, so there is no model to learn beside.")
        return {"base": None, "days": 0}
    with told_apart(), progress_bar(out) as progress:
        learnt = learn(settings, progress=progress)
    online_report(out, learnt)
    if settings.online.shadow and not bool((params or {})["dry_run"]):
        with told_apart(), progress_bar(out) as progress:
            said = publish(settings, learnt, progress=progress)
        out.print(said, markup=False, soft_wrap=True)
    return {"base": learnt.state.base, "days": learnt.state.next_day - learnt.state.first_day}


@dag(
    dag_id="sentinel_mlops_pipeline",
    description="Features, dataset, candidate, evaluation, gate, champion: every night",
    doc_md=ABOUT,
    schedule="0 0 * * *",
    start_date=datetime(2025, 1, 1, tzinfo=UTC),
    catchup=False,
    max_active_runs=1,
    params=PARAMETERS,
    tags=["sentinel"],
    default_args={
        "owner": "sentinel",
        "retries": DEFAULTS.airflow.retries,
        "retry_delay": RETRY,
        "retry_exponential_backoff": 2,
        "max_retry_delay": timedelta(hours=1),
        "execution_timeout": timedelta(minutes=DEFAULTS.airflow.timeout_minutes),
        "on_failure_callback": send_mail,
    },
)
def sentinel_mlops_pipeline() -> None:
    """One task after another."""
    applied, vectors, due, dataset = (
        apply_features(),
        materialize(),
        decide_retraining(),
        build_dataset(),
    )
    candidate = train(dataset, due)
    evaluation = evaluate(candidate)
    verdict = gate(evaluation)
    applied >> vectors >> due >> dataset >> candidate
    candidate >> evaluation >> verdict >> promote(evaluation)
    vectors >> refresh_policy()  # whatever becomes of the candidate
    vectors >> settle_experiments()
    vectors >> last_retraining()
    vectors >> learn_online()


sentinel_mlops_pipeline()
