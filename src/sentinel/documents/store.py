"""Versioned documents at rest: one contract for both places where they may be.

They are in the ledger's database where that is PostgreSQL, so that all scorers read alike, and in
a file of the workspace (mode 0600) elsewhere. The newest version holds. Scorers ask for its number
and read it when that has moved. A version is never changed; going back is a new version with an
old content.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, Generic, Protocol, TypeVar

import msgspec

from sentinel.domain import ConfigurationError, NotFound

if TYPE_CHECKING:
    from sentinel.ledger.schema import Tables

MOST_VERSIONS: Final = 100_000
"""Most versions of a document that are kept: one a day for 270 years."""


class Document(msgspec.Struct, frozen=True, kw_only=True):
    """What all versioned documents have.

    Attributes:
        version: Counted from 1; 0 until it is stored.
    """

    version: int = 0


class _Formatted(Protocol):
    """A version as it is stored: its number, and the format that it is written in."""

    @property
    def version(self) -> int: ...

    @property
    def format(self) -> int: ...


D = TypeVar("D", bound=Document)
F = TypeVar("F", bound=_Formatted)
Change = Callable[[D | None], D | None]
"""Given the version that holds, the one to add; None adds none."""
Stored = tuple[int, bytes]
"""The number of a version, and the version as it is stored."""


@dataclass(frozen=True)
class Kind(Generic[D]):
    """A kind of document, and where its versions are.

    Attributes:
        what: In words, after "the": "policy".
        list_verb: The command that lists its versions.
        decode: Reads a stored version; raises ConfigurationError where it cannot.
        file: Of the workspace.
        application_id: Marks that file, in SQLite's header.
        table: In the schema of a ledger in PostgreSQL.
        version_table: Of the revisions of that table.
        migrations: The folder of these revisions.
        revisions: Their names, oldest first.
    """

    what: str
    list_verb: str
    decode: Callable[[bytes], D]
    file: str
    application_id: int
    table: str
    version_table: str
    migrations: Path
    revisions: tuple[str, ...] = ("0001",)

    def tables(self) -> Tables:
        """The table of versions beside a ledger in PostgreSQL."""
        from sentinel.ledger.schema import Tables

        return Tables(
            what=self.what,
            folder=self.migrations,
            version_table=self.version_table,
            versions=self.revisions,
        )


class DocumentStore(Protocol[D]):
    """Where versions are kept. All methods are safe from any thread, and wait.

    All raise LedgerUnavailable where the store cannot be reached, and WorkspaceError where it is
    something else or may not be used by this process.

    Attributes:
        kind: Of its documents.
        shown: Where it is, fit to be shown.
    """

    kind: Kind[D]
    shown: str

    def latest(self) -> int:
        """The number of the version that holds; 0 if there never was one."""
        ...

    def read(self, version: int | None = None) -> D | None:
        """A version, or the one that holds; None if there is none.

        Raises:
            ConfigurationError: It cannot be read by this Sentinel.
        """
        ...

    def history(self, most: int, before: int | None = None) -> list[D]:
        """The latest versions, newest first.

        Args:
            most: So many at most.
            before: Only versions with a smaller number.
        """
        ...

    def add(self, change: Change[D], *, over_unreadable: bool = False) -> D | None:
        """Add a version; the store is made where there is none.

        Two changes at once come one after the other. What ``change`` raises leaves all as it was.

        Args:
            change: Makes it.
            over_unreadable: Whether a version that cannot be read may be followed by another one;
                ``change`` is given None then.

        Returns:
            It, with its number; None if the change added none.

        Raises:
            ConfigurationError: There are `MOST_VERSIONS`, it could not be read again, or the
                version that holds cannot be read.
        """
        ...

    def close(self) -> None:
        """Release it."""
        ...


def decode_document(
    document: bytes,
    decoder: msgspec.json.Decoder[F],
    *,
    what: str,
    newest_format: int,
    otherwise: str = "",
) -> F:
    """A stored version.

    Args:
        document: As it is stored.
        decoder: Of such versions.
        what: The kind of document in words, after "the": "policy".
        newest_format: That this Sentinel knows.
        otherwise: What else can be done where it is damaged, after "install that version here".

    Raises:
        ConfigurationError: A newer Sentinel wrote it, or it is damaged.
    """
    try:
        found = decoder.decode(document)
    except msgspec.DecodeError as error:
        raise ConfigurationError(
            f"{_which(document)} of the {what} cannot be read ({error}). If a newer Sentinel wrote "
            f"it, install that version here{otherwise}."
        ) from None
    if found.format > newest_format:
        raise ConfigurationError(
            f"Version {found.version} of the {what} has format {found.format}, this Sentinel reads "
            f"up to {newest_format}. Install the version that wrote it."
        )
    return found


def _which(document: bytes) -> str:
    """A version in words, by its number if that much can be read."""
    try:
        version = msgspec.json.decode(document, type=Document).version
    except msgspec.DecodeError:
        version = 0
    return f"Version {version}" if version else "A stored version"


def changed(
    kind: Kind[D], latest: Stored | None, change: Change[D], *, over_unreadable: bool = False
) -> tuple[D, bytes] | None:
    """The version that a change makes, with its number, and as it is stored; None if none.

    Args:
        kind: Of the documents.
        latest: The version that holds; None if there never was one.
        change: Makes the next one.
        over_unreadable: See `DocumentStore.add`.

    Raises:
        ConfigurationError: See `DocumentStore.add`.
    """
    last, before = 0, None
    if latest is not None:
        last, document = latest
        try:
            before = kind.decode(document)
        except ConfigurationError:
            if not over_unreadable:
                raise
    made = change(before)
    if made is None:
        return None
    if last >= MOST_VERSIONS:
        raise ConfigurationError(
            f"There are {last:,} versions of the {kind.what}, as many as there may be."
        )
    made = msgspec.structs.replace(made, version=last + 1)
    return made, _encoded(kind, made)


def _encoded(kind: Kind[D], made: D) -> bytes:
    """A version as it is stored: what was written must be what is read."""
    try:
        document = msgspec.json.encode(made)
        again = msgspec.json.decode(document, type=type(made))
    except (msgspec.MsgspecError, UnicodeEncodeError, OverflowError) as error:
        raise _no_document(kind, str(error)) from None
    if again != made:
        raise _no_document(kind, "it holds a number that is infinite, or none")
    return document


def _no_document(kind: Kind[D], why: str) -> ConfigurationError:
    return ConfigurationError(
        f"This version of the {kind.what} could not be read again ({why}), so it was not stored, "
        "and what held before holds on. Write it with finite numbers and text in UTF-8."
    )


def restored(store: DocumentStore[D], version: int) -> D:
    """A version to go back to.

    Raises:
        NotFound: There is none of that number.
    """
    found = store.read(version)
    if found is None:
        raise NotFound(
            f"There is no version {version} of the {store.kind.what}; the latest one is "
            f"{store.latest()}. `{store.kind.list_verb}` lists them."
        )
    return found
