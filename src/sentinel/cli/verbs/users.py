"""Verbs about the users of the dashboard."""

from __future__ import annotations

import datetime as dt
import getpass
import sys
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer
from rich.table import Table

from sentinel.cli.console import out, plain_errors, settings_for
from sentinel.cli.options import Workspace
from sentinel.domain import ConfigurationError

if TYPE_CHECKING:
    from sentinel.dashboard.login.users import UserStore

Name = Annotated[str, typer.Argument(help="What the user types to log in.")]
FromStdin = Annotated[
    bool, typer.Option("--stdin", help="Read the password from standard input, one line.")
]


def create(name: Name, stdin: FromStdin = False, workspace: Workspace = None) -> None:
    """Add a user; asks for the password."""
    with plain_errors():
        store = _store(workspace)
        first = not store.users()
        store.create(name, _asked(name, stdin=stdin))
        out.print(f"Made the user {name}.", markup=False)
        if first:
            out.print("From now on the dashboard asks everybody to log in.")


def list_users(
    as_json: Annotated[bool, typer.Option("--json", help="Print them as JSON.")] = False,
    workspace: Workspace = None,
) -> None:
    """Who may log in with a password, and who is logged in."""
    with plain_errors():
        store = _store(workspace)
        users, sessions = store.users(), store.sessions()
        counts = {session.name: 0 for session in sessions}
        for session in sessions:
            counts[session.name] += 1
        if as_json:
            rows = [
                {**msgspec.structs.asdict(user), "sessions": counts.get(user.name, 0)}
                for user in users
            ]
            out.print_json(msgspec.json.encode(rows).decode())
            return
        table = Table("user", "made", "password set", "last login", "sessions")
        for user in users:
            moments = (user.created_us, user.changed_us, user.seen_us)
            table.add_row(user.name, *map(_day, moments), str(counts.pop(user.name, 0)))
        for name, count in sorted(counts.items()):
            table.add_row(name, "", "", "identity provider", str(count))
        out.print(table if table.row_count else "There are no users. `sentinel users create NAME`.")


def password(name: Name, stdin: FromStdin = False, workspace: Workspace = None) -> None:
    """Set a new password, and end the user's sessions."""
    with plain_errors():
        store = _store(workspace)
        store.require(name)
        store.set_password(name, _asked(name, stdin=stdin))
        out.print(f"Set the password of {name}; all sessions of this user have ended.")


def logout(name: Name, workspace: Workspace = None) -> None:
    """End all sessions of a user, also of one who comes in by an identity provider."""
    with plain_errors():
        ended = _store(workspace).end_sessions(name)
        out.print(f"Ended {ended} session{'' if ended == 1 else 's'} of {name}.", markup=False)


def remove(name: Name, workspace: Workspace = None) -> None:
    """Forget a user, and end the user's sessions."""
    with plain_errors():
        store = _store(workspace)
        store.remove(name)
        out.print(f"Removed the user {name}; all sessions of this user have ended.", markup=False)
        if not store.users():
            out.print("That was the last user. Without one the dashboard starts on loopback alone.")


def export(workspace: Workspace = None) -> None:
    """Print all users as JSON, with the hashes of their passwords, for a backup."""
    with plain_errors():
        sys.stdout.write(msgspec.json.encode(_store(workspace).kept()).decode() + "\n")


def import_(workspace: Workspace = None) -> None:
    """Put the users of a backup, read from standard input, in the place of all; sessions end."""
    from sentinel.dashboard.login.users import KeptUser

    with plain_errors():
        try:
            kept = msgspec.json.decode(sys.stdin.buffer.read(), type=list[KeptUser])
        except msgspec.DecodeError as error:
            raise ConfigurationError(
                f"This is not what `sentinel users export` writes ({error}). Nothing was changed."
            ) from None
        _store(workspace).replace(kept)
        out.print(f"Put back {len(kept)} user{'' if len(kept) == 1 else 's'}; all sessions ended.")


def _store(workspace: Workspace) -> UserStore:
    from sentinel.dashboard.login.users import UserStore

    return UserStore(settings_for(workspace).dashboard_path)


def _asked(name: str, *, stdin: bool) -> str:
    """A password, from whoever types it or from standard input."""
    if stdin:
        return sys.stdin.readline().rstrip("\r\n")
    if not sys.stdin.isatty():
        raise ConfigurationError(
            "There is no terminal to ask for a password. Hand it on: `... --stdin <FILE`."
        )
    given = getpass.getpass(f"Password of {name}: ")
    if given != getpass.getpass("Once more: "):
        raise ConfigurationError("These were two different passwords. Nothing was changed.")
    return given


def _day(us: int | None) -> str:
    if us is None:
        return "never"
    return dt.datetime.fromtimestamp(us / 1e6, dt.UTC).strftime("%Y-%m-%d %H:%M")
