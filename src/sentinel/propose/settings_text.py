"""The settings that a workspace needs for its data."""

from __future__ import annotations

from sentinel.propose import toml_text as toml
from sentinel.propose.roles import Roles


def settings_text(roles: Roles) -> str:
    """The text of the workspace's ``sentinel.toml``."""
    lines = toml.comment(
        "Settings of this workspace; environment variables go before them. Written by "
        "`sentinel propose`, see docs/settings.md."
    )
    amount = roles.amount
    if amount is not None and amount.column:
        lines += ["", "[money]"]
        if amount.currency:
            lines.append(toml.line("currency", amount.currency))
        lines.append(toml.line("scale", amount.scale, "decimals of one unit of money in the data"))
    return toml.block(lines)
