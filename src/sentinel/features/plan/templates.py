"""Templates of words: how a feature's value is said, where its definition says it otherwise.

    "{number} payments on this card in 10 minutes"

A definition without a template gets the sentence of its function (`functions.FUNCTIONS`), and a
value that is unknown is said in the same words either way. Each kind of feature has its own
placeholders; a template is checked when definitions are compiled and when a plan is read.
"""

from __future__ import annotations

from string import Formatter
from typing import Final

from sentinel.domain import DefinitionError

MOST_CHARACTERS: Final = 200

OF_WINDOWS: Final = {
    "value": "the value with its unit: `7 payments`, `480.00 EUR`, `12 %`, `3 minutes`",
    "number": "the value without its unit: `7`, `480.00`, `12`, `180` (seconds)",
    "where": "the entity: `by this card`",
    "period": "the window: `the last 10 minutes`",
    "which": "the conditions in brackets after a space, if there are any: ` (channel online)`",
    "of": "the last three together: ` by this card in the last 10 minutes`",
    "column": "what is told apart, in the singular: `merchant`",
    "columns": "its plural: `merchants`",
}
"""Placeholders of windowed features, and what stands for each."""

OF_REQUESTS: Final = {
    "value": "the value: `480.00 EUR`, `14:05`, `Monday`, a category's text, a number",
    "number": "the value without its unit: `480.00`, `14.1`, `0`, a category's code, a number",
    "column": "the attribute: `account age days`",
}
"""Placeholders of features of the payment itself."""

OF_RATIOS: Final = {
    "value": "how many times: `6.2`",
    "number": "the same",
    "numerator": "what is divided: `amount`, `this card's payments of the last 24 hours`",
    "denominator": "what by: `this card's mean of the last 30 days`",
}
"""Placeholders of ratios."""


def check_template(template: str, allowed: dict[str, str], where: str) -> None:
    """Check a template; an empty one is none.

    Args:
        template: Of the words.
        allowed: The placeholders it may have.
        where: Names the feature in errors.

    Raises:
        DefinitionError: It has another placeholder, or cannot be read.
    """
    if not template:
        return
    choice = f"It may have {', '.join('{' + name + '}' for name in allowed)}."
    try:
        parts = list(Formatter().parse(template))
    except ValueError as error:
        raise DefinitionError(
            f"{where} has the words {template!r}, which cannot be read: {error}. {choice} "
            "A brace of the text itself is written twice."
        ) from None
    if len(template) > MOST_CHARACTERS or not template.isprintable():
        raise DefinitionError(
            f"{where} has words of {len(template)} characters. Words are one line of at most "
            f"{MOST_CHARACTERS} printable characters."
        )
    for _, name, form, conversion in parts:
        if name is None:
            continue
        if name not in allowed:
            raise DefinitionError(
                f"{where} has the words {template!r}, in which {{{name}}} means nothing. {choice}"
            )
        if form or conversion:
            raise DefinitionError(
                f"{where} has the words {template!r}, in which {{{name}}} has a format. Values "
                f"are written by their unit; write {{{name}}} alone."
            )


def fill(template: str, parts: dict[str, str]) -> tuple[tuple[str, str], ...]:
    """A checked template as pieces of text, each with the placeholder after it.

    Args:
        template: As it was checked.
        parts: Text of those placeholders that are known before the value is.

    Returns:
        Pairs of a text and a placeholder of the value, ``value`` or ``number``; the last
        placeholder is empty.

    >>> fill("{value} by {who}, {{so}}", {"who": "this card"})
    (('', 'value'), (' by this card, {so}', ''))
    """
    pieces: list[tuple[str, str]] = []
    text = ""
    for before, name, _, _ in Formatter().parse(template):
        text += before
        if name is None:
            continue
        if name in parts:
            text += parts[name]
        else:
            pieces.append((text, name))
            text = ""
    return (*pieces, (text, ""))
