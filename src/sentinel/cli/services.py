"""Commands about running services: the dashboard, their status, their health, and a clean slate."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from importlib import util
from typing import Any

import httpx
import msgspec
from filelock import FileLock, Timeout
from rich.table import Table

from sentinel.access.own_key import OwnKey
from sentinel.cli.console import err, out
from sentinel.domain import ConfigurationError, WorkspaceError
from sentinel.feature_sets import is_as_shipped
from sentinel.ledger.open import delete_ledger, ledger_exists, ledger_name, open_reader
from sentinel.settings import Settings

_TIMEOUT_SECONDS = 5.0


def run_dashboard(settings: Settings) -> None:
    """Become the dashboard's server process."""
    module = "sentinel.dashboard.serve"
    if util.find_spec(module) is None or util.find_spec("streamlit") is None:
        raise ConfigurationError("The dashboard is not installed. Run `make install`.")
    command = [sys.executable, "-m", module]
    os.environ["SENTINEL_WORKSPACE"] = str(settings.workspace.resolve())
    os.execv(sys.executable, command)  # noqa: S606 -- no shell is wanted


def show_status(settings: Settings) -> None:
    """Print what runs and what the workspace holds."""
    table = Table(title=f"Workspace {settings.workspace}", title_justify="left", show_header=False)
    if not settings.workspace.is_dir():
        beside = "there is no such folder; what runs belongs to another workspace"
        table.add_row("Workspace", "not made yet", beside)
    for name, (address, health_path) in _addresses(settings).items():
        state = "running" if _answers(address + health_path) else "not running"
        table.add_row(name, state, address)
    health, refused = _health(settings)
    if refused:
        table.add_row("Health", "not shown", refused)
    if health is not None:
        model, store, ledger = health["model"], health["feature_store"], health["ledger"]
        table.add_row("Health", health["status"], model["problem"] or "")
        provisional = model.get("provisional")
        note = f"provisional: {provisional}" if provisional else ""
        table.add_row("Model", f"{model['name']} version {model['version']}", note)
        table.add_row("Features", f"{store['features']}", f"plan {store['plan_hash']}")
        table.add_row("Entities", f"{store['entities']:,}", f"{store['bytes'] / 1e6:,.1f} MB")
        table.add_row("Log entries", f"{ledger['sequence']:,}", "")
    elif ledger_exists(settings):
        with open_reader(settings) as reader:
            table.add_row("Log entries", f"{reader.last_sequence():,}", "")
    else:
        table.add_row("Log", "empty", "run `sentinel up`")
    from sentinel.pipeline.last_training import last_answer

    answer = last_answer(settings)
    if answer is not None:
        table.add_row("Retraining", "due" if answer.due else "not due", answer.words)
    out.print(table)


def show_findings(settings: Settings, *, as_json: bool = False) -> bool:
    """Check every service that the settings name, print a line for each; True if all are well."""
    from sentinel.pipeline.health import Finding, check_services

    findings: list[Finding] = []
    for finding in check_services(settings):
        findings.append(finding)
        if not as_json:
            out.print("[green]ok[/]      " if finding.well else "[red]failed[/]  ", end="")
            out.print(f"{finding.name}: {finding.detail}", markup=False, soft_wrap=True)
    well = all(finding.well for finding in findings)
    if as_json:
        report = {"well": well, "checks": findings}
        out.print_json(msgspec.json.encode(report).decode())
    return well


def reset_workspace(settings: Settings, *, yes: bool, ledger: bool) -> None:
    """Delete a workspace.

    Args:
        settings: Name it.
        yes: Don't ask.
        ledger: Delete the ledger in PostgreSQL, too, which is not in the workspace.

    Raises:
        WorkspaceError: It is in use, or the folder holds something else.
    """
    if settings.ledger.url:
        _reset_ledger(settings, yes=yes, ledger=ledger)
    folder = settings.workspace
    if not folder.exists():
        out.print(f"There is no workspace at {folder}.")
        return
    ours = {"up.json", "up.lock", "ledger.db", "plan.json", "logs", "models", "mlflow.db"}
    ours.add(settings.dashboard_path.name)
    if not ours & {path.name for path in folder.iterdir()} and any(folder.iterdir()):
        raise WorkspaceError(f"{folder} is not a workspace of Sentinel; it is left alone.")
    own = settings.own_definitions_dir
    written = own.is_dir() and not is_as_shipped(own)
    what = "all its data and the feature definitions in it" if written else "all its data"
    if not (yes or _agreed(f"Delete {folder.resolve()} with {what}?")):
        return
    with _unused(settings):
        shutil.rmtree(folder)
    out.print(f"Deleted {folder}.")


@contextmanager
def _unused(settings: Settings) -> Iterator[None]:
    """Keep a workspace from others while it is deleted.

    Raises:
        WorkspaceError: Somebody uses it.
    """
    folder, ledger = settings.workspace, settings.ledger_path
    if (folder / "scorer.json").exists() and _answers("".join(_addresses(settings)["Scoring API"])):
        raise WorkspaceError(f"A scorer serves from {folder}. Stop it first.")
    with ExitStack() as held:
        for lock, what in (
            (folder / "up.lock", "`sentinel up` runs in it"),
            (ledger.with_name(ledger.name + ".lock"), "another process is writing its ledger"),
            (
                folder / "promotion.lock",
                "a promotion, a rollback, a retirement or the like goes on",
            ),
        ):
            try:
                held.enter_context(FileLock(lock, timeout=0))
            except Timeout:
                raise WorkspaceError(
                    f"The workspace {folder} is in use: {what}. Stop that first, or wait until it "
                    "is done. Nothing was deleted."
                ) from None
        yield


def _reset_ledger(settings: Settings, *, yes: bool, ledger: bool) -> None:
    name = f"the ledger in schema {settings.ledger.namespace} of {ledger_name(settings)}"
    if not ledger:
        out.print(f"Kept {name}; --ledger deletes it, too.", markup=False, soft_wrap=True)
    elif yes or _agreed(f"Delete {name} for all scorers, with all decisions and labels?"):
        was = "Deleted" if delete_ledger(settings) else "There was no ledger to delete:"
        out.print(f"{was} {name}.", markup=False, soft_wrap=True)


def _agreed(question: str) -> bool:
    if err.input(f"{question} [y/N] ").strip().lower() in ("y", "yes"):
        return True
    out.print("Nothing was deleted.")
    return False


def _addresses(settings: Settings) -> dict[str, tuple[str, str]]:
    """The address of each service, and the path below it that tells its health."""
    api, dashboard = settings.api, settings.dashboard
    return {
        "Scoring API": (f"http://{api.host}:{api.port}", "/livez"),
        "Dashboard": (f"http://{dashboard.host}:{dashboard.port}", "/_stcore/health"),
        "MLflow": (settings.tracking_uri, "/health"),
    }


def _answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=_TIMEOUT_SECONDS).status_code < 500
    except httpx.HTTPError:
        return False


def _health(settings: Settings) -> tuple[dict[str, Any] | None, str]:
    """The scoring API's health, None if it does not answer; and why it does not let us see it."""
    url = f"http://{settings.api.host}:{settings.api.port}/health"
    try:
        answer = httpx.get(url, headers=OwnKey(settings).headers(), timeout=_TIMEOUT_SECONDS)
    except httpx.HTTPError:
        return None, ""
    if answer.status_code in (401, 403):
        return None, "a key is needed: `sentinel keys create tools --for-tools`"
    return (answer.json() if answer.status_code == 200 else None), ""
