"""The model registry: versions of one model, and the aliases that say what each is for.

MLflow is the registry. This is the only place, besides the tracking of training runs, that
speaks with it through its own client; its errors become ours here. Serving does not come by
here: see `sentinel.pipeline.follow`.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from typing import Any, Final

import msgspec

from sentinel.domain import ModelError, NoModel, SentinelError, Unavailable
from sentinel.models.registry_owner import own_place
from sentinel.models.registry_place import MlflowPlace, away
from sentinel.settings import Settings

CHAMPION: Final = "champion"
PREVIOUS_CHAMPION: Final = "previous-champion"
CANDIDATE: Final = "challenger-latest"

CHAMPIONS_TAG: Final = "sentinel.champions"
"""Of the model: the versions that were champion, oldest first, with commas between."""
MANIFEST_TAG: Final = "manifest_sha256"
"""Of a version: the hash of its manifest, which has the hashes of its other files."""


class ModelVersion(msgspec.Struct, frozen=True, kw_only=True):
    """A registered version.

    Attributes:
        version: Its number, as text.
        run_id: The training run that it came from.
        source: Where its files are.
        aliases: What it is for.
        tags: What was noted of it.
        created_at_us: When it was registered, microseconds UTC.
        description: A sentence about it.
    """

    version: str
    run_id: str
    source: str
    aliases: tuple[str, ...]
    tags: dict[str, str]
    created_at_us: int
    description: str = ""


@contextmanager
def translated(uri: str, doing: str) -> Iterator[None]:
    """Raise MLflow's errors as ours.

    Args:
        uri: The server, for the message.
        doing: What is being done, for the message.

    Raises:
        Unavailable: The server is away, or busy.
        ModelError: It refuses.
    """
    from mlflow.exceptions import MlflowException

    try:
        yield
    except SentinelError:
        raise
    except MlflowException as error:
        code = str(error.error_code)
        if "error responses" in str(error):  # it was asked several times
            raise _failing(uri, doing, error) from error
        if code in ("INTERNAL_ERROR", "TEMPORARILY_UNAVAILABLE", "REQUEST_LIMIT_EXCEEDED"):
            raise away(uri, error) from error
        raise ModelError(
            f"MLflow at {uri} refused when {doing}: {error.message} ({code})."
        ) from error
    except OSError as error:  # of requests, under MLflow
        if getattr(error, "response", None) is not None:
            raise _failing(uri, doing, error) from error
        raise away(uri, error) from error
    except Exception as error:
        # Of the workspace's own database: MLflow's own library of databases wraps its errors.
        cause = getattr(error, "orig", error)
        if not isinstance(cause, sqlite3.Error):
            raise
        raise away(uri, cause) from error


def _failing(uri: str, doing: str, error: Exception) -> Unavailable:
    return Unavailable(
        f"MLflow at {uri} failed when {doing} ({error}). See that the database and the S3 server "
        "behind it answer; its log says more. Nothing was registered: do it again."
    )


class Registry:
    """The versions of one model.

    Args:
        place: Where MLflow is.
        name: Name of the model.

    Raises:
        Unavailable: MLflow does not answer. Raised by every method, too.
    """

    def __init__(self, place: MlflowPlace, name: str) -> None:
        self.place = place
        self.uri = place.uri
        self.name = name

    @classmethod
    def of(cls, settings: Settings) -> Registry:
        """The registry of a deployment.

        Raises:
            ConfigurationError: It is another workspace's.
            Unavailable: MLflow does not answer.
        """
        return cls(own_place(settings), settings.mlflow.model_name)

    @cached_property
    def _client(self) -> Any:
        with translated(self.uri, "opening it"):
            return self.place.client()

    def register(
        self, *, model_id: str, source: str, run_id: str, tags: Mapping[str, str], words: str
    ) -> ModelVersion:
        """Register a logged model as the next version.

        Args:
            model_id, source, run_id: Of the logged model.
            tags: To note of it.
            words: A sentence about it, for people.
        """
        client = self._client
        with translated(self.uri, f"registering {self.name}"):
            with passing_over_existing():
                client.create_registered_model(
                    self.name, description="Scores card payments; see the artifact's manifest.json."
                )
            found = client.create_model_version(
                self.name,
                source=source,
                run_id=run_id,
                model_id=model_id,
                tags=dict(tags),
                description=words,
                await_creation_for=0,
            )
            return _version(found)

    def version(self, version: str) -> ModelVersion:
        """A version by its number.

        Raises:
            NoModel: There is none.
        """
        client = self._client
        with translated(self.uri, f"looking for version {version} of {self.name}"):
            found = _if_there(client.get_model_version, self.name, version)
        if found is None:
            raise NoModel(
                f"{self.name} has no version {version!r} in the registry at {self.uri}. Look at "
                "what there is in MLflow, or train one with `sentinel train`."
            )
        return _version(found)

    def files_of(self, version: str) -> str:
        """Location of a version's files, as MLflow writes it."""
        client = self._client
        with translated(self.uri, f"looking for the files of version {version} of {self.name}"):
            return str(client.get_model_version_download_uri(self.name, version))

    def versions(self) -> list[ModelVersion]:
        """All versions, newest first."""
        client = self._client
        with translated(self.uri, f"listing the versions of {self.name}"):
            model = _if_there(client.get_registered_model, self.name)
            if model is None:
                return []
            found = []
            token = None
            while token is None or token:
                page = client.search_model_versions(f"name = '{self.name}'", page_token=token)
                found += [_version(version) for version in page]
                token = page.token or ""
        # A search does not say aliases.
        aliases: dict[str, list[str]] = {}
        for alias, version in model.aliases.items():
            aliases.setdefault(str(version), []).append(alias)
        complete = [
            msgspec.structs.replace(v, aliases=tuple(sorted(aliases.get(v.version, ()))))
            for v in found
        ]
        return sorted(complete, key=lambda v: int(v.version), reverse=True)

    def by_alias(self, alias: str) -> ModelVersion | None:
        """The version that an alias points to."""
        client = self._client
        with translated(self.uri, f"looking for {self.name}@{alias}"):
            found = _if_there(client.get_model_version_by_alias, self.name, alias)
        return None if found is None else _version(found)

    def candidate(self) -> ModelVersion:
        """The version that was trained last.

        Raises:
            NoModel: Nothing was trained yet.
        """
        found = self.by_alias(CANDIDATE)
        if found is None:
            raise NoModel(
                f"The registry at {self.uri} has no candidate of {self.name}. Train one with "
                "`sentinel train`."
            )
        return found

    def point(self, alias: str, version: str) -> None:
        """Point an alias to a version."""
        client = self._client
        with translated(self.uri, f"pointing {self.name}@{alias} to version {version}"):
            client.set_registered_model_alias(self.name, alias, version)

    def unpoint(self, alias: str) -> None:
        """Remove an alias; nothing if it is not there."""
        client = self._client
        with translated(self.uri, f"removing {self.name}@{alias}"):
            client.delete_registered_model_alias(self.name, alias)

    def note(self, version: str, key: str, value: str) -> None:
        """Note something of a version."""
        client = self._client
        with translated(self.uri, f"tagging version {version} of {self.name}"):
            client.set_model_version_tag(self.name, version, key, value)

    def champions(self) -> list[str]:
        """The versions that were champion, oldest first; the last one is."""
        client = self._client
        with translated(self.uri, f"reading {self.name}"):
            model = _if_there(client.get_registered_model, self.name)
        if model is None:
            return []
        return champions_of(
            str(model.tags.get(CHAMPIONS_TAG, "")), str(model.aliases.get(CHAMPION, ""))
        )

    def crown(self, champions: list[str]) -> None:
        """Make the last of these the champion, and the one before it the previous champion.

        Args:
            champions: Versions, oldest first, none twice in a row.
        """
        client = self._client
        with translated(self.uri, f"making version {champions[-1]} of {self.name} the champion"):
            client.set_registered_model_tag(self.name, CHAMPIONS_TAG, ",".join(champions))
            if len(champions) > 1:
                client.set_registered_model_alias(self.name, PREVIOUS_CHAMPION, champions[-2])
            else:
                client.delete_registered_model_alias(self.name, PREVIOUS_CHAMPION)
            client.set_registered_model_alias(self.name, CHAMPION, champions[-1])


def champions_of(noted: str, present: str) -> list[str]:
    """The versions that were champion, oldest first; the last one is.

    Args:
        noted: The model's tag.
        present: The version that the alias points to. It may have been moved by hand; it is what
            counts.

    >>> champions_of("1,2,3", "2")
    ['1', '2']
    >>> champions_of("1,2", "7")
    ['1', '2', '7']
    """
    past = [version for version in noted.split(",") if version]
    if not present:
        return []
    if present in past:
        return past[: len(past) - past[::-1].index(present)]
    return [*past, present]


@contextmanager
def passing_over_existing() -> Iterator[None]:
    """Pass over MLflow's complaint that something exists already."""
    from mlflow.exceptions import MlflowException

    try:
        yield
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise


def _if_there(ask: Callable[..., Any], *what: str) -> Any:
    """What MLflow answers, None where it has nothing of that name."""
    from mlflow.exceptions import MlflowException

    try:
        return ask(*what)
    except MlflowException as error:
        # An alias that is not there is an "invalid parameter" to MLflow.
        if error.error_code == "RESOURCE_DOES_NOT_EXIST":
            return None
        if error.error_code == "INVALID_PARAMETER_VALUE" and "not found" in str(error.message):
            return None
        raise


def _version(found: Any) -> ModelVersion:
    return ModelVersion(
        version=str(found.version),
        run_id=str(found.run_id or ""),
        source=str(found.source),
        aliases=tuple(found.aliases),
        tags=dict(found.tags),
        created_at_us=int(found.creation_timestamp) * 1000,
        description=str(found.description or ""),
    )
