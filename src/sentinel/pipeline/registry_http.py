"""The few questions to an MLflow server that fetching a model takes, in plain HTTP.

MLflow's own client takes seconds and a hundred megabytes to import; the follower is a small
process that runs for ever.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import httpx
import msgspec

from sentinel.domain import ModelError, NoModel, Unavailable
from sentinel.models.registry import CHAMPION, away

_TIMEOUT: Final = httpx.Timeout(10.0, read=60.0)
_CHUNK_BYTES: Final = 1 << 20
_SCHEME: Final = "mlflow-artifacts:"


class RegisteredVersion(msgspec.Struct, frozen=True):
    """A version as the registry names it. Another registry may use the same number."""

    version: str
    run_id: str


class RegistryOverHttp:
    """The few questions to an MLflow server that fetching takes."""

    def __init__(self, uri: str) -> None:
        self._uri = uri.rstrip("/")
        self._http = httpx.Client(base_url=self._uri, timeout=_TIMEOUT)

    def __enter__(self) -> RegistryOverHttp:
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()

    def champion(self, name: str) -> RegisteredVersion | None:
        """The version that is champion."""
        answer = self._get(
            "/api/2.0/mlflow/registered-models/alias", {"name": name, "alias": CHAMPION}
        )
        if answer.status_code in (400, 404):  # MLflow's ways to say that there is none
            return None
        return self._read(answer)

    def version(self, name: str, version: str) -> RegisteredVersion:
        """A version by its number."""
        answer = self._get("/api/2.0/mlflow/model-versions/get", {"name": name, "version": version})
        if answer.status_code in (400, 404):
            raise NoModel(
                f"{name} has no version {version!r} in the registry at {self._uri}. Look at "
                "what there is in MLflow, or train one with `sentinel train`."
            )
        return self._read(answer)

    def location_of(self, name: str, version: str) -> str:
        """Where the files of a version are, as a path of the server's artifacts."""
        answer = self._get(
            "/api/2.0/mlflow/model-versions/get-download-uri", {"name": name, "version": version}
        )
        location = str(self._json(answer)["artifact_uri"])
        if not location.startswith(_SCHEME):
            raise ModelError(
                f"Version {version} of {name} is at {location}, not behind the MLflow server. "
                "Run the server with --artifacts-destination, and train the model anew."
            )
        path = location.removeprefix(_SCHEME)
        if path.startswith("//"):  # the server's own address may stand in between
            path = path[2:].partition("/")[2]
        return path.strip("/")

    def files(self, location: str, below: str = "") -> list[str]:
        """Paths of all files under a location, relative to it."""
        path = f"{location}/{below}".rstrip("/")
        answer = self._get("/api/2.0/mlflow-artifacts/artifacts", {"path": path})
        found: list[str] = []
        for entry in self._json(answer).get("files", []):
            relative = f"{below}/{entry['path']}".lstrip("/")
            found += self.files(location, relative) if entry.get("is_dir") else [relative]
        return found

    def download(self, location: str, file: str, target: Path) -> None:
        """Write one file durably."""
        url = f"/api/2.0/mlflow-artifacts/artifacts/{quote(f'{location}/{file}')}"
        try:
            with self._http.stream("GET", url) as answer, target.open("wb") as out:
                if answer.status_code != httpx.codes.OK:
                    answer.read()
                    raise self._refused(answer)
                for chunk in answer.iter_bytes(_CHUNK_BYTES):
                    out.write(chunk)
                out.flush()
                os.fsync(out.fileno())
        except httpx.HTTPError as error:
            raise away(self._uri, error) from error

    def _read(self, answer: httpx.Response) -> RegisteredVersion:
        found = self._json(answer)["model_version"]
        return RegisteredVersion(version=str(found["version"]), run_id=str(found.get("run_id", "")))

    def _get(self, path: str, parameters: dict[str, str]) -> httpx.Response:
        try:
            return self._http.get(path, params=parameters)
        except httpx.HTTPError as error:
            raise away(self._uri, error) from error

    def _json(self, answer: httpx.Response) -> Any:
        if answer.status_code != httpx.codes.OK:
            raise self._refused(answer)
        try:
            return answer.json()
        except ValueError as error:
            raise Unavailable(
                f"What answers at {self._uri} is not MLflow. Look at SENTINEL_MLFLOW__PORT and "
                "SENTINEL_MLFLOW__TRACKING_URI."
            ) from error

    def _refused(self, answer: httpx.Response) -> Unavailable:
        return Unavailable(
            f"MLflow at {self._uri} answered {answer.status_code} to {answer.request.url.path}. "
            "Look at its log, and try again."
        )
