"""Card numbers as people and programs write them, by rule: what no door may let in.

Each of the issuers' numbers is made at random with a correct check digit, spelled in one of many
ways, and put into one of many surroundings.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import cycle
from typing import Final

from sentinel.ingest.issuers import ISSUERS, has_check_digit


@dataclass(frozen=True)
class Disguise:
    """A card number in disguise.

    Attributes:
        value: As it is sent: text, or a whole number.
        number: The digits of the card number.
        rule: How it was made, for people.
    """

    value: str | int
    number: str
    rule: str


SEPARATORS: Final = {
    "space": " ",
    "hyphen": "-",
    "dot": ".",
    "slash": "/",
    "underscore": "_",
    "no-break space": "\u00a0",
    "narrow space": "\u202f",
    "figure space": "\u2007",
    "thin space": "\u2009",
    "ideographic space": "\u3000",
    "Unicode hyphen": "\u2010",
    "no-break hyphen": "\u2011",
    "figure dash": "\u2012",
    "en dash": "\u2013",
    "em dash": "\u2014",
    "minus": "\u2212",
    "middle dot": "\u00b7",
    "wide hyphen": "\uff0d",
}
WIDTHLESS: Final = {
    "zero-width space": "\u200b",
    "non-joiner": "\u200c",
    "joiner": "\u200d",
    "word joiner": "\u2060",
    "byte order mark": "\ufeff",
    "soft hyphen": "\u00ad",
}
DIGITS: Final = {
    "full-width": "０１２３４５６７８９",
    "Arabic": "٠١٢٣٤٥٦٧٨٩",
    "Persian": "۰۱۲۳۴۵۶۷۸۹",
    "Devanagari": "०१२३४५६७८९",
    "Thai": "๐๑๒๓๔๕๖๗๘๙",
    "bold": "𝟎𝟏𝟐𝟑𝟒𝟓𝟔𝟕𝟖𝟗",
    "superscript": "⁰¹²³⁴⁵⁶⁷⁸⁹",
}
BETWEEN_GROUPS: Final = (" ", "-", "  ", " - ", ", ", "+", "%20", "|", "\u00a0")

Spell = Callable[[str], str]


def _spellings(rng: random.Random) -> dict[str, Spell]:
    """Ways to write the digits, which no further digits follow or precede."""
    found: dict[str, Spell] = {"plain": str}
    for name, sign in SEPARATORS.items():
        found[f"groups, {name}"] = _in_groups(sign)
        found[f"each digit, {name}"] = sign.join
        found[f"one {name} anywhere"] = _one_anywhere(sign, rng)
    for name, sign in WIDTHLESS.items():
        found[f"{name} behind each digit"] = sign.join
        found[f"{name} and spaces"] = _in_groups(sign + " ")
    for name, script in DIGITS.items():
        found[f"{name} digits"] = _in_script(script, "")
        found[f"{name} digits in groups"] = _in_script(script, " ")
    found["digits of several scripts"] = _in_scripts(rng)
    found["keycaps"] = _in_keycaps
    found["single separators at random"] = _at_random(rng)
    return found


def _in_groups(sign: str) -> Spell:
    return lambda digits: sign.join(groups_of(digits))


def _in_script(script: str, sign: str) -> Spell:
    table = str.maketrans("0123456789", script)
    return lambda digits: sign.join(groups_of(digits)).translate(table)


def _in_scripts(rng: random.Random) -> Spell:
    scripts = list(DIGITS.values())
    return lambda digits: "".join(rng.choice(scripts)[int(digit)] for digit in digits)


def _in_keycaps(digits: str) -> str:
    return "".join(f"{digit}\ufe0f\u20e3" for digit in digits)


def _one_anywhere(sign: str, rng: random.Random) -> Spell:
    def spell(digits: str) -> str:
        at = rng.randrange(1, len(digits))
        return digits[:at] + sign + digits[at:]

    return spell


def _at_random(rng: random.Random) -> Spell:
    signs = list(SEPARATORS.values())

    def spell(digits: str) -> str:
        return digits[0] + "".join(
            (rng.choice(signs) if rng.random() < 0.3 else "") + digit for digit in digits[1:]
        )

    return spell


def groups_of(digits: str) -> list[str]:
    """The groups in which a card of this length has its number."""
    sizes = {13: (4, 4, 5), 14: (4, 6, 4), 15: (4, 6, 5), 19: (4, 4, 4, 4, 3)}.get(len(digits))
    if sizes is None:
        return [digits[i : i + 4] for i in range(0, len(digits), 4)]
    at = [sum(sizes[:i]) for i in range(len(sizes))]
    return [digits[start : start + size] for start, size in zip(at, sizes, strict=True)]


ALONE: Final = {
    "alone": "{}",
    "spaces around": "  {} ",
    "pan=": "pan={}",
    "card number:": "Card Number: {}",
    "a sentence": "paid with {}, thanks",
    "quotes": '"{}"',
    "JSON": '{{"pan": "{}", "exp": "12/29"}}',
    "JSON in JSON": '{{\\"card\\":{{\\"number\\":\\"{}\\"}}}}',
    "XML": "<pan>{}</pan>",
    "an address of the web": "https://shop.example/pay?pan={}&step=two",
    "letters around": "x{}y",
    "words around": "PAN{}EXP",
    "brackets": "({})",
    "dots around": "card.{}.visa",
    "a path": "rows[0].{}",
    "a list with numbers": "1. {}",
    "a list": "[{}, none]",
    "another language": "カード{}です",
}
"""Surroundings for any spelling."""

BESIDE_DIGITS: Final = {
    "expiry behind": "{} 12/29",
    "security code behind": "{} 123",
    "a reference": "order-7/{}/1",
    "track 1": "%B{}^DOE/JANE^29121011000012300000?",
    "track 2": ";{}=29121011000012300000?",
    "track 2 with D": "{}D29121011000012300000",
}
"""Surroundings with digits, for numbers in one piece or in printed groups."""


def card_numbers(rng: random.Random) -> Iterator[str]:
    """Card numbers of every issuer and length in turn, at random, without end."""
    kinds = [(first, last, n) for first, last, lengths, _ in ISSUERS for n in lengths]
    for first, last, length in cycle(kinds):
        start = f"{rng.randint(first, last)}"
        start += "".join(rng.choices("0123456789", k=length - len(start) - 1))
        yield next(start + d for d in "0123456789" if has_check_digit(start + d))


def disguises(count: int, seed: int = 1) -> list[Disguise]:
    """So many card numbers in disguise, the same for the same seed.

    >>> made = disguises(100)
    >>> len(made), len({disguise.rule for disguise in made}) > 90
    (100, True)
    """
    rng = random.Random(seed)
    numbers = card_numbers(rng)
    found: list[Disguise] = []
    alone = list(_spellings(rng).items())
    beside = [("plain", alone[0][1])]
    beside += [(f"groups, {sign!r}", _in_groups(sign)) for sign in BETWEEN_GROUPS]
    while len(found) < count:
        for spelling, spell in alone:
            number = next(numbers)
            place, around = rng.choice(list(ALONE.items()))
            text = around.format(spell(number))
            found.append(Disguise(text, number, f"{spelling}; {place}"))
        for spelling, spell in beside:
            number = next(numbers)
            place, around = rng.choice(list(BESIDE_DIGITS.items()))
            if len(groups_of(number)[-1]) == 4 or spelling == "plain":
                text = around.format(spell(number))
                found.append(Disguise(text, number, f"{spelling}; {place}"))
        for _ in range(5):
            number = next(numbers)
            found.append(Disguise(int(number), number, "a whole number"))
    return found[:count]
