"""What a deployment does with ids and attributes at every door: normal form, tokens, no cards."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from sentinel.domain import AttributeValue
from sentinel.ingest.cards import (
    ColumnJudge,
    holds_card_number,
    is_card_number,
    is_card_value,
    masked,
    shaped_and_right,
)
from sentinel.ingest.columns import address_column, id_flaws, joined_id
from sentinel.ingest.tokens import (
    TokenField,
    TokenRules,
    Tokens,
    card_parts,
    checked_tokens,
    is_token,
    token_rules,
)
from sentinel.ingest.values import BadValue, Flaw, attribute_of, id_of, normal_address
from sentinel.log.schema import ATTRIBUTE_PREFIX
from sentinel.settings import Settings

CARD_NUMBER: Final = Flaw(
    "card_number",
    "looks like a raw card number; send a token instead (SENTINEL_TOKENS__EXEMPT names fields "
    "whose values only look like it)",
)


class Guard:
    """Reads ids and attributes as a deployment wants them.

    Args:
        rules: Which fields are tokenised and which are exempt.
        tokens: Makes tokens; None only if no field is tokenised.
    """

    def __init__(self, rules: TokenRules | None = None, tokens: Tokens | None = None) -> None:
        self.fields: dict[str, TokenField] = {} if rules is None else dict(rules.fields)
        self.exempt = frozenset(() if rules is None else rules.exempt)
        self._tokens = tokens

    @classmethod
    def of(cls, settings: Settings) -> Guard:
        """The guard of a deployment.

        Raises:
            ConfigurationError, WorkspaceError: The secret or the rules cannot be used.
        """
        rules = token_rules(settings)
        return cls(rules, checked_tokens(settings, rules) if rules.fields else None)

    def id(self, field: str, value: Any) -> str | None:
        """An id of any type as the log has it; None if there is none.

        Args:
            field: ``transaction_id``, ``label_id`` or an entity.
            value: As it came in.

        Raises:
            BadValue: It cannot be an id, or is a card number.

        >>> Guard().id("card_id", 17.0), Guard().id("ip_address", "2001:DB8::1")
        ('17', '2001:db8::1')
        """
        text = self.known_id(field, value)
        if text is not None and field not in self.exempt and is_card_number(text):
            raise BadValue(CARD_NUMBER)
        return text

    def known_id(self, field: str, value: Any) -> str | None:
        """`id` for a question, which stores nothing: what looks like a card number may be asked.

        Raises:
            BadValue: It cannot be an id.
        """
        text = id_of(value)
        if text is None:
            return None
        text = normal_address(text) if field == "ip_address" else text
        return self._token(text) if field in self.fields else text

    def id_column(
        self, field: str, columns: Sequence[pa.Array], cards: ColumnJudge | None = None
    ) -> tuple[pa.Array, list[tuple[Flaw, npt.NDArray[np.bool_]]]]:
        """The twin of `id` for columns; several make one id together.

        Args:
            field: ``transaction_id``, ``label_id`` or an entity.
            columns: Of any type.
            cards: Says which are card numbers by what the column shows; None if each by itself.

        Returns:
            The ids, null where there is none, and what cannot be taken, with its rows.
        """
        ids = joined_id(columns)
        if field == "ip_address":
            ids = address_column(ids)
        flaws = list(id_flaws(ids))
        if field in self.fields:
            return self.tokens_of(ids), flaws
        if field not in self.exempt:
            right = shaped_and_right(ids)[1] if cards is None else cards.judge(ids)
            if right.any():
                flaws.append((CARD_NUMBER, right))
        return ids, flaws

    def attribute(self, name: str, value: Any, kind: str | None) -> AttributeValue:
        """An attribute as the log has it; None if there is none.

        Args:
            name: Without prefix.
            value: Text, a number, true or false.
            kind: How it is read later; see `attribute_of`.

        Raises:
            BadValue: It cannot be stored, or is or mentions a card number.
        """
        field = ATTRIBUTE_PREFIX + name
        if field in self.fields:
            text = attribute_of(value, "category")
            return None if text is None else self._token(str(text))
        if value is None or isinstance(value, bool):
            return attribute_of(value, kind)
        if field not in self.exempt:
            if isinstance(value, str):
                guilty = len(value) >= 13 and holds_card_number(value)
            else:
                guilty = _is_card(value)
            if guilty:
                raise BadValue(_named(value if isinstance(value, str) else f"{value:.0f}", field))
        return attribute_of(value, kind)

    def card_parts(self, field: str, value: Any) -> dict[str, str]:
        """The attributes that are made of a field before it becomes a token."""
        kept = self.fields.get(field)
        if kept is None or not (kept.bin or kept.last_four):
            return {}
        text = id_of(value)
        parts = card_parts(text) if text is not None and not is_token(text) else None
        if parts is None:
            return {}
        return {
            name: part for name, part in zip((kept.bin, kept.last_four), parts, strict=True) if name
        }

    def tokens_of(self, ids: pa.Array) -> pa.Array:
        """The tokens of a column of ids in normal form, null where null."""
        assert self._tokens is not None
        return self._tokens.column(ids)

    def _token(self, text: str) -> str:
        assert self._tokens is not None
        return self._tokens.of(text)


def _is_card(value: float) -> bool:
    if isinstance(value, int):
        return 10**12 <= abs(value) < 10**19 and is_card_number(str(abs(value)))
    return is_card_value(value)


def _named(text: str, field: str) -> Flaw:
    return Flaw(
        CARD_NUMBER.code,
        f"holds what looks like a raw card number ({masked(text)[:40]}); send a token or leave it "
        f"out. If it is none, add {field} to SENTINEL_TOKENS__EXEMPT",
    )
