"""How the MLflow server of a workspace is started."""

from __future__ import annotations

import os
import sys

from sentinel.settings import Settings


def mlflow_server_command(settings: Settings) -> tuple[list[str], dict[str, str]]:
    """The command and the environment of the MLflow server that belongs to a workspace.

    Runs and the registry are in ``mlflow.db``, files in ``mlartifacts``; clients get files
    through the server. One worker is enough for one machine, and MLflow's job workers, which
    nothing here uses, would cost more memory than all the rest.

    Args:
        settings: Gives the folder, the host and the port.

    Returns:
        The arguments, and the environment to run them with. The server answers
        ``GET /health`` once it is ready.
    """
    folder = settings.workspace.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    command = [
        sys.executable,
        "-m",
        "mlflow",
        "server",
        "--workers",
        "1",
        "--backend-store-uri",
        f"sqlite:///{folder / 'mlflow.db'}",
        "--artifacts-destination",
        str(folder / "mlartifacts"),
        "--host",
        settings.mlflow.host,
        "--port",
        str(settings.mlflow.port),
        # The follower asks every two seconds; a line for each would bury everything else.
        "--uvicorn-opts",
        "--no-access-log",
    ]
    environment = os.environ | {
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "PYTHONUNBUFFERED": "1",
    }
    return command, environment
