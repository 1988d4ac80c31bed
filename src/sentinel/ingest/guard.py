"""What a deployment does with ids and attributes at every door: normal form, tokens, no cards."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from sentinel.domain import AttributeValue
from sentinel.ingest.card_columns import ColumnJudge, shaped_and_right
from sentinel.ingest.cards import holds_card_number, is_card_value
from sentinel.ingest.columns import address_column, id_flaws, joined_id, text_flaws
from sentinel.ingest.issuers import is_card
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

CARD_CODE: Final = "card_number"


def card_flaw(field: str) -> Flaw:
    """What is wrong with a value that holds a card number.

    Args:
        field: ``transaction_id``, an entity, ``attributes.NAME`` and so on.
    """
    return Flaw(
        CARD_CODE,
        "holds what looks like a raw card number; send a token or leave it out. If it is none, add "
        f"{field} to SENTINEL_TOKENS__EXEMPT",
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
            BadValue: It cannot be an id, or holds a card number.

        >>> Guard().id("card_id", 17.0), Guard().id("ip_address", "2001:DB8::1")
        ('17', '2001:db8::1')
        """
        text = self.known_id(field, value)
        if text is not None and field not in self.exempt and holds_card_number(text):
            raise BadValue(card_flaw(field))
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
                flaws.append((card_flaw(field), right))
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
                guilty = says_card(value) if kind == "number" else holds_card_number(value)
            else:
                guilty = _is_card(value)
            if guilty:
                raise BadValue(card_flaw(field))
        return attribute_of(value, kind)

    def attribute_flaws(
        self, field: str, values: pa.Array
    ) -> list[tuple[Flaw, npt.NDArray[np.bool_]]]:
        """What cannot be taken of a column of an attribute, with its rows; see `attribute`.

        Args:
            field: ``attributes.NAME``.
            values: Text or float64 in normal form.
        """
        flaws = list(text_flaws(values)) if pa.types.is_string(values.type) else []
        if field not in self.exempt and field not in self.fields:
            right = ColumnJudge().judge(values)
            if right.any():
                flaws.append((card_flaw(field), right))
        return flaws

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
    return is_card(str(abs(value))) if isinstance(value, int) else is_card_value(value)


def says_card(text: str) -> bool:
    """Whether a number that is written as text is a card number; decimals do not count.

    >>> says_card("4111111111111111.0"), says_card("4.111111111111111"), says_card("4.111e3")
    (True, False, False)
    """
    whole = text.strip().lstrip("+-").partition(".")[0]
    if whole.isascii() and whole.isdigit() and "e" not in text.lower():
        return is_card(whole.lstrip("0"))
    try:
        return is_card_value(float(text))
    except ValueError:
        return False
