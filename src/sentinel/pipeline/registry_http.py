"""The few questions to an MLflow server that following it takes, in plain HTTP.

MLflow's own client takes seconds and a hundred megabytes to import; the follower is a small
process that runs for ever.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final, TypeVar
from urllib.parse import quote

import httpx
import msgspec

from sentinel.domain import NoModel, Unavailable
from sentinel.models.approval import APPROVAL_TAG
from sentinel.models.registry import (
    CHAMPION,
    CHAMPIONS_TAG,
    MANIFEST_TAG,
    PREVIOUS_CHAMPION,
    champions_of,
)
from sentinel.models.registry_place import artifact_path, away
from sentinel.models.registry_view import KnownVersion
from sentinel.models.signature import SIGNATURE_TAG

_TIMEOUT: Final = httpx.Timeout(10.0, read=60.0)
_CHUNK_BYTES: Final = 1 << 20
_API: Final = "/api/2.0/mlflow"
_PAGE: Final = 200
# MLflow's ways to say that there is none; an alias that is not there is an "invalid parameter".
_NONE: Final = {"RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"}

T = TypeVar("T")


class RegisteredVersion(msgspec.Struct, frozen=True):
    """A version as the registry names it. Another registry may use the same number.

    Attributes:
        version: Its number, as text.
        run_id: The training run that it came from.
        manifest_sha256: Of its manifest, in hex; empty if it was not noted.
        signature: Of its files, see `sentinel.models.signature`; empty if it has none.
        approval: See `sentinel.models.approval`; empty if it has none.
    """

    version: str
    run_id: str
    manifest_sha256: str = ""
    signature: str = ""
    approval: str = ""


class _Tag(msgspec.Struct):
    key: str
    value: str = ""


class _Version(msgspec.Struct):
    version: str
    run_id: str = ""
    description: str = ""
    creation_timestamp: int = 0
    tags: list[_Tag] = []

    def noted(self) -> dict[str, str]:
        return {tag.key: tag.value for tag in self.tags}


class _OneVersion(msgspec.Struct):
    model_version: _Version


class _Versions(msgspec.Struct):
    model_versions: list[_Version] = []
    next_page_token: str = ""


class _Alias(msgspec.Struct):
    alias: str
    version: str


class _Model(msgspec.Struct):
    aliases: list[_Alias] = []
    tags: list[_Tag] = []


class _OneModel(msgspec.Struct):
    registered_model: _Model


class _Location(msgspec.Struct):
    artifact_uri: str


class _File(msgspec.Struct):
    path: str
    is_dir: bool = False


class _Files(msgspec.Struct):
    files: list[_File] = []


class _Complaint(msgspec.Struct):
    error_code: str = ""


class RegistryOverHttp:
    """The few questions to an MLflow server that following it takes.

    Args:
        uri: ``http://`` address of the server.

    Raises:
        Unavailable: It does not answer, not to the end, or not as MLflow does. By every method.
    """

    def __init__(self, uri: str) -> None:
        self._uri = uri.rstrip("/")
        self._http = httpx.Client(base_url=self._uri, timeout=_TIMEOUT)

    def __enter__(self) -> RegistryOverHttp:
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()

    def champion(self, name: str) -> RegisteredVersion | None:
        """The version that is champion."""
        answer = self._ask("GET", "/registered-models/alias", name=name, alias=CHAMPION)
        return None if self._is_none(answer) else self._read(answer)

    def version(self, name: str, version: str) -> RegisteredVersion:
        """A version by its number.

        Raises:
            NoModel: There is none.
        """
        answer = self._ask("GET", "/model-versions/get", name=name, version=version)
        if self._is_none(answer):
            raise NoModel(
                f"{name} has no version {version!r} in the registry at {self._uri}. Look at "
                "what there is in MLflow, or train one with `sentinel train`."
            )
        return self._read(answer)

    def model(self, name: str) -> tuple[list[str], list[KnownVersion]]:
        """Who was champion, oldest first, and all versions, newest first."""
        answer = self._ask("GET", "/registered-models/get", name=name)
        if self._is_none(answer):
            return [], []
        model = self._decoded(answer, _OneModel).registered_model
        noted = {tag.key: tag.value for tag in model.tags}
        pointing: dict[str, list[str]] = {}
        for alias in model.aliases:
            pointing.setdefault(alias.version, []).append(alias.alias)
        present = next((a.version for a in model.aliases if a.alias == CHAMPION), "")
        known = [
            KnownVersion(
                version=version.version,
                run_id=version.run_id,
                aliases=tuple(sorted(pointing.get(version.version, ()))),
                description=version.description,
                tags=version.noted(),
                created_at_us=version.creation_timestamp * 1000,
            )
            for version in self._versions(name)
        ]
        known.sort(key=lambda v: (len(v.version), v.version), reverse=True)
        return champions_of(noted.get(CHAMPIONS_TAG, ""), present), known

    def crown(self, name: str, champions: list[str]) -> None:
        """Make the last of these the champion, as `sentinel.models.registry.Registry` does."""
        self._tell("/registered-models/set-tag", key=CHAMPIONS_TAG, name=name,
                   value=",".join(champions))  # fmt: skip
        if len(champions) > 1:
            self._tell("/registered-models/alias", name=name, alias=PREVIOUS_CHAMPION,
                       version=champions[-2])  # fmt: skip
        else:
            self._ask("DELETE", "/registered-models/alias", name=name, alias=PREVIOUS_CHAMPION)
        self._tell("/registered-models/alias", name=name, alias=CHAMPION, version=champions[-1])

    def point(self, name: str, alias: str, version: str) -> None:
        """Point an alias to a version."""
        self._tell("/registered-models/alias", name=name, alias=alias, version=version)

    def unpoint(self, name: str, alias: str) -> None:
        """Remove an alias; nothing if it is not there."""
        answer = self._ask("DELETE", "/registered-models/alias", name=name, alias=alias)
        if answer.status_code != httpx.codes.OK and not self._is_none(answer):
            raise self._refused(answer)

    def location_of(self, name: str, version: str) -> str:
        """Where the files of a version are, as a path of the server's artifacts.

        Raises:
            ModelError: They are somewhere else.
        """
        answer = self._ask("GET", "/model-versions/get-download-uri", name=name, version=version)
        return artifact_path(self._decoded(answer, _Location).artifact_uri)

    def files(self, location: str, below: str = "") -> list[str]:
        """Paths of all files under a location, relative to it."""
        path = f"{location}/{below}".rstrip("/")
        answer = self._get("/api/2.0/mlflow-artifacts/artifacts", {"path": path})
        found: list[str] = []
        for entry in self._decoded(answer, _Files).files:
            relative = f"{below}/{entry.path}".lstrip("/")
            found += self.files(location, relative) if entry.is_dir else [relative]
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

    def _versions(self, name: str) -> list[_Version]:
        found: list[_Version] = []
        asked = {"filter": f"name = '{name}'", "max_results": str(_PAGE)}
        while True:
            page = self._decoded(self._get(f"{_API}/model-versions/search", asked), _Versions)
            found += page.model_versions
            if not page.next_page_token:
                return found
            asked["page_token"] = page.next_page_token

    def _read(self, answer: httpx.Response) -> RegisteredVersion:
        found = self._decoded(answer, _OneVersion).model_version
        return RegisteredVersion(
            version=found.version,
            run_id=found.run_id,
            manifest_sha256=found.noted().get(MANIFEST_TAG, ""),
            signature=found.noted().get(SIGNATURE_TAG, ""),
            approval=found.noted().get(APPROVAL_TAG, ""),
        )

    def _tell(self, path: str, **values: str) -> None:
        answer = self._ask("POST", path, **values)
        if answer.status_code != httpx.codes.OK:
            raise self._refused(answer)

    def _ask(self, method: str, path: str, **values: str) -> httpx.Response:
        if method == "GET":
            return self._get(_API + path, values)
        try:
            return self._http.request(method, _API + path, json=values)
        except httpx.HTTPError as error:
            raise away(self._uri, error) from error

    def _get(self, path: str, parameters: dict[str, str]) -> httpx.Response:
        try:
            return self._http.get(path, params=parameters)
        except httpx.HTTPError as error:
            raise away(self._uri, error) from error

    def _is_none(self, answer: httpx.Response) -> bool:
        """Whether MLflow says that there is none; another server's 404 says nothing."""
        if answer.status_code not in (400, 404):
            return False
        return self._as(answer, _Complaint).error_code in _NONE

    def _decoded(self, answer: httpx.Response, kind: type[T]) -> T:
        if answer.status_code != httpx.codes.OK:
            raise self._refused(answer)
        return self._as(answer, kind)

    def _as(self, answer: httpx.Response, kind: type[T]) -> T:
        try:
            return msgspec.json.decode(answer.content, type=kind, strict=False)
        except msgspec.DecodeError as error:
            raise Unavailable(
                f"What answers at {self._uri} is not MLflow ({error}). Look at "
                "SENTINEL_MLFLOW__PORT and SENTINEL_MLFLOW__TRACKING_URI."
            ) from error

    def _refused(self, answer: httpx.Response) -> Unavailable:
        said = answer.text[:200].replace("\n", " ")
        hint = "Look at its log, and try again."
        if "mlflow-artifacts" in answer.request.url.path:
            hint = "See that the S3 server or the folder behind it can be reached, and try again."
        elif answer.status_code == httpx.codes.FORBIDDEN:
            hint = "Add the name that it is called by to SENTINEL_MLFLOW__ALLOWED_HOSTS there."
        return Unavailable(
            f"MLflow at {self._uri} answered {answer.status_code} to {answer.request.url.path}: "
            f"{said} {hint}"
        )
