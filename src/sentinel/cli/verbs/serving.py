"""Verbs that run until Ctrl-C: everything at once, or one process of it."""

from __future__ import annotations

import shlex
import signal
from pathlib import Path
from typing import Annotated

import typer

from sentinel.cli.console import announce, err, out, plain_errors, settings_for
from sentinel.cli.options import Workspace


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
    from sentinel.cli.up import check_ports
    from sentinel.propose.proposing import MAPPING, proposed_before
    from sentinel.propose.reading import look
    from sentinel.propose.roles import Answers

    settings = settings_for(workspace)
    folder = settings.workspace
    mapping = folder / MAPPING
    if proposed_before([data], folder):
        again = shlex.join(["sentinel", "propose", str(data), "--workspace", str(folder)])
        out.print(
            f"{mapping} was proposed for {data} before and is used as it stands; nothing is "
            f"proposed anew. `{again}` does that.",
            markup=False,
            soft_wrap=True,
        )
    else:
        look([data])  # a wrong path is the first thing to say
        check_ports(settings)  # said before every row is read, which may take a minute
        propose([data], folder, Answers(), goes_on=True)
    return mapping


def serve(workspace: Workspace = None) -> None:
    """Serve the scoring API until Ctrl-C."""
    from sentinel.api.server import serve as run

    with plain_errors():
        run(
            settings_for(workspace, service="serve"),
            ready=lambda url: announce(f"Scoring at {url}"),
        )


def dashboard(workspace: Workspace = None) -> None:
    """Serve the dashboard until Ctrl-C."""
    from sentinel.cli.services import run_dashboard

    with plain_errors():
        run_dashboard(settings_for(workspace, service="dashboard"))


def mlflow(workspace: Workspace = None) -> None:
    """Serve MLflow until Ctrl-C, making its database and buckets where they are missing."""
    from sentinel.pipeline.mlflow_server import run_mlflow

    with plain_errors():
        run_mlflow(settings_for(workspace, service="mlflow"))


def follow(workspace: Workspace = None) -> None:
    """Keep the served model that of the registry until Ctrl-C."""
    from sentinel.models.registry_owner import check_own_server
    from sentinel.pipeline.follow import run_follower

    with plain_errors():
        settings = settings_for(workspace, service="follow")
        check_own_server(settings)
        run_follower(settings)


def monitor(workspace: Workspace = None) -> None:
    """Watch over the deployment until Ctrl-C: drift, labels, alerts."""
    from sentinel.pipeline.monitor import run_monitor

    with plain_errors():
        run_monitor(settings_for(workspace, service="monitor"))


def simulate(
    workspace: Workspace = None,
    speed: Annotated[
        float | None,
        typer.Option(help="Play so many times faster until it is at the clock.", min=1),
    ] = None,
) -> None:
    """Play live traffic to the scoring API until Ctrl-C."""
    from sentinel.cli.traffic import play, traffic_file

    with plain_errors():
        settings = settings_for(workspace, service="simulate")
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
