"""`sentinel keys`: who may call the scoring API."""

from __future__ import annotations

import contextlib
import datetime as dt
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from sentinel.cli.console import err, out, plain_errors, settings_for
from sentinel.cli.options import Workspace

if TYPE_CHECKING:
    from sentinel.access.store import KeyStore
    from sentinel.settings import Settings

_DAY_US: Final = 86_400_000_000

KeyId = Annotated[str, typer.Argument(help="Its id, which the log names callers by: shop-a.")]
KeyFile = Annotated[
    Path | None,
    typer.Option(
        "--key-file",
        help="Leave the key in this file (mode 0600) instead of showing it; one that the file "
        "holds already is taken.",
    ),
]


def create(
    key_id: KeyId,
    scope: Annotated[
        list[str] | None, typer.Option(help="What it is for; repeat it, or put commas between.")
    ] = None,
    for_tools: Annotated[
        bool,
        typer.Option(
            "--for-tools",
            help="For this workspace's own tools (live traffic, dashboard, doctor): every scope "
            "but admin, left in access.key of the workspace.",
        ),
    ] = False,
    name: Annotated[str, typer.Option(help="Who holds it, in words.")] = "",
    origin: Annotated[
        list[str] | None, typer.Option(help="Label origin that it may record; default: any.")
    ] = None,
    sender: Annotated[
        str, typer.Option(help="Prefix of the transaction ids that it may use; default: any.")
    ] = "",
    days: Annotated[
        float | None, typer.Option(help="Days until it expires; default: never.", min=0)
    ] = None,
    requests_per_minute: Annotated[
        int | None, typer.Option(help="Most requests in a minute; default: as set.", min=1)
    ] = None,
    payments_per_minute: Annotated[
        int | None, typer.Option(help="Most payments in a minute; default: as set.", min=1)
    ] = None,
    key_file: KeyFile = None,
    workspace: Workspace = None,
) -> None:
    """Make a key and show it once; the first one closes the door to callers without."""
    from sentinel.access.managing import KeyRights, create_key
    from sentinel.access.own_key import OWN_KEY_FILE
    from sentinel.access.pepper import pepper_of
    from sentinel.access.scopes import ALL_SCOPES, Scope, scopes_of
    from sentinel.access.store import now_us

    with plain_errors(), _store(workspace) as (settings, store):
        if for_tools:
            scopes = scopes_of(scope) if scope else ALL_SCOPES - {Scope.ADMIN}
            key_file = key_file or settings.workspace / OWN_KEY_FILE
        else:
            scopes = scopes_of(scope or [])
        rights = KeyRights(
            name=name,
            scopes=scopes,
            origins=origin or (),
            sender=sender,
            requests_per_minute=requests_per_minute,
            payments_per_minute=payments_per_minute,
            expires_at_us=None if days is None else now_us() + round(days * _DAY_US),
        )
        pepper = pepper_of(settings, make=not store.version())
        first = not store.version()
        given = _held(key_file)
        text = create_key(store, pepper, key_id, rights, given)
        _hand_over(text, key_file, given)
        own = settings.workspace / OWN_KEY_FILE
        if first and key_file != own:
            err.print(
                "From now on every caller needs a key. Live traffic, the dashboard and `sentinel "
                "doctor` of this workspace have none yet: `sentinel keys create tools "
                "--for-tools` makes it.",
                markup=False,
                soft_wrap=True,
            )


def rotate(
    key_id: KeyId,
    grace_hours: Annotated[
        float,
        typer.Option(help="Hours that the secret before stays good; 0 ends it at once.", min=0),
    ] = 24.0,
    key_file: KeyFile = None,
    workspace: Workspace = None,
) -> None:
    """Give a key a new secret; the one before stays good for a while."""
    from sentinel.access.managing import holds, rotate_key
    from sentinel.access.own_key import OWN_KEY_FILE
    from sentinel.access.pepper import pepper_of

    with plain_errors(), _store(workspace) as (settings, store):
        pepper = pepper_of(settings)
        own = settings.workspace / OWN_KEY_FILE
        held = _held(own)
        if key_file is None and held is not None and holds(store, pepper, key_id, held):
            key_file = own  # the tools of this workspace go on with the new one
        given = _held(key_file)
        if given is not None and holds(store, pepper, key_id, given):
            given = None
        text = rotate_key(store, pepper, key_id, grace_hours=grace_hours, given=given)
        _hand_over(text, key_file, given)


def revoke(key_id: KeyId, workspace: Workspace = None) -> None:
    """End a key for ever, in every scorer within a second."""
    from sentinel.access.managing import revoke_key
    from sentinel.access.pepper import pepper_of

    with plain_errors(), _store(workspace) as (settings, store):
        revoke_key(store, pepper_of(settings), key_id)
        out.print(f"Revoked {key_id}. Every scorer refuses it within a second.", markup=False)


def list_(
    as_json: Annotated[bool, typer.Option("--json", help="Print the keys as JSON.")] = False,
    workspace: Workspace = None,
) -> None:
    """Which keys there are, what each is for and when it was last used."""
    import msgspec
    from rich.table import Table

    from sentinel.access.managing import listed

    with plain_errors(), _store(workspace) as (_, store):
        keys = listed(store)
        if as_json:
            out.print_json(msgspec.json.encode(keys).decode())
            return
        if not keys:
            out.print("There is no key. Anyone on this machine may call the scoring API.")
            return
        table = Table("key", "is for", "transactions", "state", "last used")
        for key in keys:
            what = ", ".join(key.scopes)
            if key.origins:
                what += f" (origins {', '.join(key.origins)})"
            table.add_row(
                key.key_id if key.name == key.key_id else f"{key.key_id}\n{key.name}",
                what,
                f"{key.sender}*" if key.sender else "any",
                key.state,
                _moment(key.last_used_at_us),
            )
        out.print(table)


@contextlib.contextmanager
def _store(workspace: Path | None) -> Iterator[tuple[Settings, KeyStore]]:
    from sentinel.access.open_store import open_store

    settings = settings_for(workspace)
    store = open_store(settings)
    try:
        yield settings, store
    finally:
        store.close()


def _held(key_file: Path | None) -> str | None:
    from sentinel.access.managing import read_key_file

    return None if key_file is None else read_key_file(key_file)


def _hand_over(text: str, key_file: Path | None, given: str | None) -> None:
    """Show a key, or leave it in its file."""
    from sentinel.access.managing import write_key_file

    if key_file is None:
        out.print(text, markup=False, soft_wrap=True)
        err.print("This is the only time that it is shown.")
        return
    if given is None:
        write_key_file(key_file, text)
    out.print(f"The key is in {key_file}.", markup=False, soft_wrap=True)


def _moment(at_us: int | None) -> str:
    if at_us is None:
        return "never"
    return dt.datetime.fromtimestamp(at_us / 1e6, dt.UTC).strftime("%Y-%m-%d %H:%M")
