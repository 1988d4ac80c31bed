"""Verbs from a log to a champion: train, evaluate, promote, and back."""

from __future__ import annotations

from typing import Annotated

import typer

from sentinel.cli.console import (
    err,
    out,
    plain_errors,
    settings_for,
    settings_with_versions,
    system_user,
)
from sentinel.cli.options import Workspace


def train(
    model: Annotated[
        str | None,
        typer.Option(
            help="Family of the model: lightgbm, xgboost, random-forest, lightgbm-forest, "
            "logistic (with --search alone: it is not served), or an installed one. Default: "
            "training.trainer of the settings."
        ),
    ] = None,
    search: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="First try so many sets of parameters on validation folds before the test rows, "
            "and keep the best. A search that was interrupted goes on.",
        ),
    ] = None,
    workspace: Workspace = None,
) -> None:
    """Build a dataset from the log, train on it, and register a candidate with its figures.

    Without a server of MLflow the workspace's own database and folder are used; a server that is
    started later shows the same runs.
    """
    from sentinel.models.registry_owner import check_own_server
    from sentinel.models.registry_place import mlflow_place
    from sentinel.pipeline.workspace import ledger_reader

    with plain_errors():
        settings = settings_for(workspace)
        if model is not None:
            training = settings.training.model_copy(update={"trainer": model})
            settings = settings.model_copy(update={"training": training})
        # What is away is said before the libraries of training are loaded, and before any work.
        mlflow_place(settings)
        check_own_server(settings)
        with ledger_reader(settings):
            pass
        from sentinel.cli.reports import dataset_report, training_report
        from sentinel.models.families.installed import trainer_of
        from sentinel.pipeline.datasets import build_dataset
        from sentinel.pipeline.parameter_search import search_parameters
        from sentinel.pipeline.training import served_trainer
        from sentinel.pipeline.training import train as run
        from sentinel.sources.progress import progress_bar

        if search is None:
            served_trainer(settings)
        else:
            with progress_bar(err) as progress:
                found = search_parameters(settings, search, progress=progress)
            out.print(found.words, soft_wrap=True)
            if not trainer_of(settings.training.trainer).served:
                out.print(
                    f"Models of {found.trainer} do not serve, so no candidate was trained.",
                    soft_wrap=True,
                )
                return
        with progress_bar(err) as progress:
            built = build_dataset(settings, progress=progress)
            result = run(settings, built.folder, progress=progress)
        dataset_report(out, built)
        training_report(out, result)


def retrain(
    check: Annotated[
        bool, typer.Option("--check", help="Only say whether one is due, and why.")
    ] = False,
    anyway: Annotated[bool, typer.Option("--anyway", help="Train also if none is due.")] = False,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Train and ask the gate; nothing that decides changes."),
    ] = False,
    workspace: Workspace = None,
) -> None:
    """Train, evaluate and promote if a retraining is due, and say what the last one bought.

    What makes one due are the settings [retraining]. Exit code 0 also says that none was due, or
    that the candidate waits for more truth.
    """
    from sentinel.cli.reports import (
        gain_report,
        gate_report,
        promotion_report,
        training_report,
    )
    from sentinel.domain import GateWaits
    from sentinel.models.registry_owner import check_own_server
    from sentinel.models.registry_place import mlflow_place
    from sentinel.pipeline.gate import evaluate as measure
    from sentinel.pipeline.gate import judge
    from sentinel.pipeline.last_training import ASKED_FOR
    from sentinel.pipeline.promotion import promote as install
    from sentinel.pipeline.retraining import retraining_due
    from sentinel.pipeline.retraining_gain import retraining_gain
    from sentinel.pipeline.training import train as run
    from sentinel.sources.progress import progress_bar

    with plain_errors():
        settings = settings_for(workspace)
        mlflow_place(settings)
        check_own_server(settings)
        with progress_bar(err) as progress:
            answer = retraining_due(settings, progress=progress)
        out.print(answer.words, soft_wrap=True, markup=False)
        if not check and (answer.due or anyway):
            with progress_bar(err) as progress:
                why = answer.why or ASKED_FOR
                trained = run(settings, why=why, counts=not dry_run, progress=progress)
            training_report(out, trained)
            with progress_bar(err) as progress:
                report = measure(settings, trained.version, progress=progress)
            gate_report(out, report)
            try:
                judge(settings, report)
                with progress_bar(err) as progress:
                    promoted = install(
                        settings,
                        report.version,
                        report=report,
                        dry_run=dry_run,
                        by=system_user(),
                        progress=progress,
                    )
                promotion_report(out, promoted)
            except GateWaits as error:
                out.print(f"It waits. {error}", soft_wrap=True, markup=False)
        with progress_bar(err) as progress:
            gain_report(out, retraining_gain(settings, progress=progress), settings.money)


def evaluate(
    version: Annotated[str | None, typer.Argument(help="Version; default: the newest.")] = None,
    workspace: Workspace = None,
) -> None:
    """Compare a candidate with the champion on the same matured labels, and write the report."""
    with plain_errors():
        settings = settings_with_versions(workspace, version)
        from sentinel.cli.reports import gate_report
        from sentinel.pipeline.gate import evaluate as run
        from sentinel.pipeline.gate import report_path
        from sentinel.sources.progress import progress_bar

        with progress_bar(err) as progress:
            report = run(settings, version, progress=progress)
        gate_report(out, report)
        out.print(f"Written to {report_path(settings, report.version)}", soft_wrap=True)


def promote(
    version: Annotated[str | None, typer.Argument(help="Version; default: the newest.")] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Ask the gate, and only say what would be done.")
    ] = False,
    despite_experiments: Annotated[
        bool,
        typer.Option(
            "--despite-experiments",
            help="Wait for no experiment; those that run begin anew against the new champion.",
        ),
    ] = False,
    workspace: Workspace = None,
) -> None:
    """Make a candidate the champion, if the gate lets it through."""
    with plain_errors():
        settings = settings_with_versions(workspace, version)
        import msgspec

        from sentinel.cli.reports import gate_report, promotion_report
        from sentinel.pipeline.gate import evaluate, judge
        from sentinel.pipeline.promotion import promote as run
        from sentinel.sources.progress import progress_bar

        with progress_bar(err) as progress:
            report = evaluate(settings, version, progress=progress)
        if despite_experiments:
            report = msgspec.structs.replace(report, held_by=())
        gate_report(out, report)
        judge(settings, report)
        with progress_bar(err) as progress:
            result = run(
                settings,
                report.version,
                report=report,
                dry_run=dry_run,
                despite_experiments=despite_experiments,
                by=system_user(),
                progress=progress,
            )
        promotion_report(out, result)


def report(
    version: Annotated[str | None, typer.Argument(help="Version; default: the champion.")] = None,
    workspace: Workspace = None,
) -> None:
    """Write one page and a model card that say how good a version is, against the champion."""
    _report(workspace, version, None)


def compare(
    version: Annotated[str, typer.Argument(help="Version.")],
    other: Annotated[str, typer.Argument(help="Version to compare it with.")],
    workspace: Workspace = None,
) -> None:
    """Write the page of a version against another one, on payments that neither has seen."""
    _report(workspace, version, other)


def _report(workspace: Workspace, version: str | None, against: str | None) -> None:
    with plain_errors():
        settings = settings_with_versions(workspace, version, against)
        from sentinel.pipeline.model_report import report as run
        from sentinel.sources.progress import progress_bar

        with progress_bar(err) as progress:
            done = run(settings, version, against=against, progress=progress)
        facts = done.facts
        out.print(
            f"Version {facts.version} on {facts.payments:,} payments with {facts.frauds:,} known "
            "frauds that it has not seen.",
            soft_wrap=True,
        )
        for name, found in facts.metrics.items():
            if (figure := found.get("average_precision")) is not None:
                out.print(f"  {name}: average precision {figure}", soft_wrap=True, markup=False)
        for name, differences in facts.better_by.items():
            if (figure := differences.get("average_precision")) is not None:
                words = f"  average precision above that of {name}: {figure}"
                out.print(words, soft_wrap=True, markup=False)
        out.print(f"Page: {done.page}\nModel card: {done.card}", soft_wrap=True, markup=False)
        out.print(done.tracked, soft_wrap=True, markup=False)


def rollback(workspace: Workspace = None) -> None:
    """Put the champion before the present one back in charge."""
    from sentinel.cli.reports import promotion_report
    from sentinel.pipeline.promotion import rollback as run
    from sentinel.sources.progress import progress_bar

    with plain_errors():
        settings = settings_with_versions(workspace)
        with progress_bar(err) as progress:
            result = run(settings, progress=progress)
        promotion_report(out, result)


def sign(
    version: Annotated[
        str | None,
        typer.Argument(help="Version; default: what serves here, and the champions before it."),
    ] = None,
    workspace: Workspace = None,
) -> None:
    """Vouch for a version of before models were signed, or sign one with another key."""
    with plain_errors():
        settings = settings_with_versions(workspace, version)
        from sentinel.pipeline.signing import sign_versions

        for done in sign_versions(settings, version):
            said = done.signed.statement
            out.print(
                f"Version {said.version} is signed by key {done.signed.key_id}: {said.verdict}, "
                f"{said.reason} (before: {done.before}).",
                soft_wrap=True,
                markup=False,
            )
            if done.untold:
                out.print(f"The registry has not got it: {done.untold}", soft_wrap=True)


def signing_key(
    new: Annotated[
        bool, typer.Option("--new", help="Make another private key; the old one stays trusted.")
    ] = False,
    forget: Annotated[
        str | None, typer.Option(help="Trust this public key of the workspace no longer.")
    ] = None,
    workspace: Workspace = None,
) -> None:
    """Print the public keys whose models may serve; makes the private key if there is none."""
    from sentinel.models.signing_keys import (
        forget_key,
        replace_key,
        signing_key_of,
        trusted_keys_of,
    )

    with plain_errors():
        settings = settings_for(workspace)
        key = replace_key(settings) if new else signing_key_of(settings)
        if forget is not None:
            forget_key(settings, forget)
        # The key that signs comes first, and alone on its line: scripts read it.
        trusted = trusted_keys_of(settings)
        for public in dict.fromkeys([key.public, *trusted.public]):
            out.print(public, soft_wrap=True, highlight=False)
        if key.key_id not in trusted.ids:
            err.print(
                f"Key {key.key_id} signs, and is not trusted here: add it to {trusted.where}.",
                soft_wrap=True,
            )


def explain(
    transaction_id: Annotated[str, typer.Argument(help="A payment that was decided on.")],
    every: Annotated[
        bool, typer.Option("--all", help="A line for every feature, not for the strongest alone.")
    ] = False,
    workspace: Workspace = None,
) -> None:
    """Say why a decision was what it was: each feature's share in the score, in words.

    The model that decided attributes the recorded vector again, however long ago it was. Exit code
    1 says that it does not give what was recorded.
    """
    from sentinel.cli.explain import MOST_SHOWN, explanation_of, explanation_report

    with plain_errors():
        settings = settings_for(workspace)
        said = explanation_of(settings, transaction_id)
        most = len(said["features"]) if every else MOST_SHOWN
        explanation_report(out, said, settings.money, most=most)
    if not said["reproduced"]["exact"]:
        raise typer.Exit(1)
