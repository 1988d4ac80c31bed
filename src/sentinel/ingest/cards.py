"""What is a raw card number (PAN) or a card's track, which must never be stored.

A card number is looked for wherever it stands in a text: 13 to 19 digits of any script in one
piece, or with single separators between them, or in the groups that are printed on cards. The
digits have an issuer's prefix of the right length and a correct check digit; see `issuers`. A track
of a magnetic stripe is recognised by its shape.

What is no card number, although its digits could be: a part of a longer piece of digits, of a UUID,
a hash in hexadecimal digits, an IBAN or the decimals of a number, and a telephone number behind a
plus sign.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from functools import lru_cache
from itertools import pairwise
from typing import Final

from sentinel.ingest.issuers import LONGEST, SHORTEST, has_check_digit, is_card, is_issued

NUMBER_BOUNDS: Final = (10.0**12, 2.0**53)
"""Whole numbers from the first up to the second may be card numbers that are kept exactly."""

Span = tuple[int, int]
"""Where something begins and ends in a text."""

_SEPARATORS: Final = " .-_/\t"
"""One of these may stand between any two digits. Other spaces and dashes are read as these."""

_GROUP: Final = re.compile("[0-9]+")
_NO_DIGITS: Final = re.compile("[^0-9]+")
_BETWEEN_GROUPS: Final = re.compile("[^0-9A-Za-z]{1,3}")
_PRINTED: Final = (
    *((4, 4, 4, 4), (4, 6, 5), (4, 6, 4), (4, 4, 4, 4, 3), (4, 4, 5), (4, 4, 4, 1), (4, 4, 4, 3)),
    *((4, 4, 4, 2), (4, 4, 4, 4, 2), (4, 4, 4, 4, 1), (8, 8), (6, 13)),
)
"""Sizes of the groups in which card numbers are printed."""

_TRACK: Final = re.compile(
    r"%?[Bb][0-9]{12,19}\^[^^]{2,26}\^[0-9]{2}(?:0[1-9]|1[0-2])[0-9 ]*\??"
    r"|;?(?<![0-9])[0-9]{12,19}=[0-9]{2}(?:0[1-9]|1[0-2])[0-9]{3,}\??"
)
"""Tracks 1 and 2: number, name, expiry (YYMM) and service code; number, expiry and so on."""

# For a quick look: digits become 0, letters stay letters, and what may stand between digits goes.
_LETTERS: Final = b"abcdefghijklmnopqrstuvwxyz"
_KINDS: Final = bytes.maketrans(b"0123456789" + _LETTERS + _LETTERS.upper(), b"0" * 10 + b"x" * 52)
_NEITHER: Final = bytes(code for code in range(128) if not chr(code).isalnum())
_ENOUGH: Final = b"0" * SHORTEST

_UUID: Final = re.compile(
    "(?<![0-9A-Za-z])[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}(?![0-9A-Za-z])"
)
_HEX_TOKEN: Final = re.compile("(?<![0-9A-Za-z])(?:[0-9a-f]{24,}|[0-9A-F]{24,})(?![0-9A-Za-z])")
_HEX_SIZES: Final = frozenset((24, 32, 40, 48, 56, 64, 96, 128))
_FEWEST_HEX_LETTERS: Final = 4
_INTEGER_PART: Final = re.compile(r"(?:^|[^0-9.])(?=[0-9])0*([0-9]{0,3})\.$")
_MORE_DECIMALS: Final = re.compile(r"\.[0-9]")
_DIGITS_OF_A_DOUBLE: Final = 17
_LONGEST_PHONE: Final = 14
_IBAN_DIGITS: Final = {
    "AT": 18,
    "BE": 14,
    "DK": 16,
    "EE": 18,
    "FI": 16,
    "HR": 19,
    "LT": 18,
    "NO": 13,
    "SI": 17,
    "BA": 18,
    "XK": 18,
}
"""Digits behind the two letters of the IBANs that have no further letters."""

_CHARACTERS_KEPT: Final = 4096


def card_digits(text: str) -> str | None:
    """The digits of a card number written in any way; None if there are not 12 to 19.

    Maestro has numbers of 12 digits, so this is for fields that are said to hold cards.

    >>> card_digits("4111-1111 1111.1111"), card_digits("676770000018"), card_digits("tok-9")
    ('4111111111111111', '676770000018', None)
    """
    plain = _plain(text)[0].strip()
    digits = plain.translate(_WITHOUT)
    return digits if 12 <= len(digits) <= LONGEST and digits.isdigit() else None


_WITHOUT: Final = str.maketrans("", "", _SEPARATORS)


def may_hold_card(text: str) -> bool:
    """A quick look: False for nearly every text that holds no card number or track.

    >>> may_hold_card("tx-000123"), may_hold_card("x 4111 1111 1111 1111"), may_hold_card("é" * 20)
    (False, True, False)
    """
    if len(text) < SHORTEST:
        return False
    if text.isascii():
        return _ENOUGH in text.encode().translate(_KINDS, _NEITHER)
    return sum(map(str.isdigit, text)) >= SHORTEST


def holds_card_number(text: str) -> bool:
    """Whether text is a card number or a track, or mentions one.

    >>> holds_card_number("paid with 4111 1111 1111 1111"), holds_card_number("4111111111111112")
    (True, False)
    >>> holds_card_number("pan=4111.1111.1111.1111"), holds_card_number("x4111111111111111y")
    (True, True)
    >>> holds_card_number(";4111111111111111=29122011000012300000?")
    True
    """
    return may_hold_card(text) and _found(text)[1]


def looks_at_cards(text: str) -> tuple[bool, bool]:
    """Whether a text holds digits with an issuer's prefix and length; and a card number.

    The first tells how many texts of a column could hold one by chance.

    >>> looks_at_cards("no 4111111111111112"), looks_at_cards("17")
    ((True, False), (False, False))
    """
    return _found(text) if may_hold_card(text) else (False, False)


def is_card_value(number: float) -> bool:
    """Whether a number is a card number that was read as a number; decimals do not count.

    >>> is_card_value(4111111111111111.0), is_card_value(4111111111111112.0), is_card_value(17.0)
    (True, False, False)
    """
    low, high = NUMBER_BOUNDS
    return low <= abs(number) < high and is_card(str(int(abs(number))))


def masked(text: str) -> str:
    """The text with all but the first six and last four digits of card numbers hidden.

    >>> masked("paid with 4111 1111 1111 1111 today")
    'paid with 411111******1111 today'
    >>> masked("%B4111111111111111^DOE/JOHN^29122011000012300000?")
    '411111******1111***'
    """
    if not may_hold_card(text):
        return text
    plain, places = _plain(text)
    parts: list[str] = []
    done = 0
    for start, end, shown in sorted(_marks(plain)):
        if start < done:
            continue
        parts += (_original(text, places, done, start), shown)
        done = end
    return "".join(parts) + _original(text, places, done, len(plain)) if parts else text


def _original(text: str, places: list[int] | None, start: int, end: int) -> str:
    """A part of the text as it was given."""
    if places is None:
        return text[start:end]
    return text[places[start] : places[end]]


def _marks(plain: str) -> Iterator[tuple[int, int, str]]:
    """What has to be hidden, and what is shown in its place."""
    for found in _TRACK.finditer(plain):
        digits = _NO_DIGITS.sub("", re.split("[=^]", found.group())[0])
        yield found.start(), found.end(), _hidden(digits) + "***"
    for start, end in _candidates(plain):
        digits = _NO_DIGITS.sub("", plain[start:end])
        if is_card(digits) and not _is_excused(plain, start, end, digits):
            yield start, end, _hidden(digits)


def _hidden(digits: str) -> str:
    if len(digits) < SHORTEST:
        return "*" * (len(digits) - 4) + digits[-4:]
    return digits[:6] + "*" * (len(digits) - 10) + digits[-4:]


def _found(text: str) -> tuple[bool, bool]:
    """See `looks_at_cards`."""
    plain = _plain(text)[0]
    if plain.isdigit():
        shaped = SHORTEST <= len(plain) <= LONGEST and is_issued(plain)
        return shaped, shaped and has_check_digit(plain)
    if ("=" in plain or "^" in plain) and _TRACK.search(plain):
        return True, True
    shaped = False
    for start, end in _candidates(plain):
        digits = _NO_DIGITS.sub("", plain[start:end])
        if not is_issued(digits):
            continue
        right = has_check_digit(digits)
        if (right or not shaped) and not _is_excused(plain, start, end, digits):
            shaped = True
            if right:
                return True, True
    return shaped, False


def _candidates(plain: str) -> Iterator[Span]:
    """Where 13 to 19 digits stand that may be a card number."""
    groups = [found.span() for found in _GROUP.finditer(plain)]
    for start, end in groups:
        if SHORTEST <= end - start <= LONGEST:
            yield start, end
    if len(groups) < 2:
        return
    gaps = [plain[one[1] : next_[0]] for one, next_ in pairwise(groups)]
    yield from _chains(groups, gaps)
    begin = 0
    for i in range(1, len(gaps) + 1):
        if i == len(gaps) or gaps[i] != gaps[begin]:
            if _BETWEEN_GROUPS.fullmatch(gaps[begin]):
                yield from _printed(groups[begin : i + 1])
            begin = i


def _chains(groups: list[Span], gaps: list[str]) -> Iterator[Span]:
    """Groups that are joined by single separators, as a whole."""
    begin = 0
    for i in range(len(groups)):
        if i < len(gaps) and len(gaps[i]) == 1 and gaps[i] in _SEPARATORS:
            continue
        digits = sum(end - start for start, end in groups[begin : i + 1])
        if i > begin and SHORTEST <= digits <= LONGEST:
            yield groups[begin][0], groups[i][1]
        begin = i + 1


def _printed(groups: list[Span]) -> Iterator[Span]:
    """Groups with the same signs between them that have the sizes of those on cards."""
    sizes = tuple(end - start for start, end in groups)
    if sum(sizes) < SHORTEST:
        return
    for pattern in _PRINTED:
        for i in range(len(sizes) - len(pattern) + 1):
            if sizes[i : i + len(pattern)] == pattern:
                yield groups[i][0], groups[i + len(pattern) - 1][1]
    alone = 0
    for i, size in enumerate((*sizes, 0)):
        if size == 1:
            alone += 1
            continue
        if SHORTEST <= alone <= LONGEST:
            yield groups[i - alone][0], groups[i - 1][1]
        alone = 0


def _is_excused(plain: str, start: int, end: int, digits: str) -> bool:
    """Whether digits are part of something else that is known."""
    before = plain[max(0, start - 5) : start]
    in_one_piece = end - start == len(digits)
    if before.endswith("+") and len(digits) <= _LONGEST_PHONE:
        return True
    whole = _INTEGER_PART.search(before) if in_one_piece and before.endswith(".") else None
    if whole is not None and not _MORE_DECIMALS.match(plain, end):
        whole_digits = len(whole.group(1))
        if whole_digits == 0 or whole_digits + len(digits) <= _DIGITS_OF_A_DOUBLE:
            return True
    if in_one_piece and _is_iban(plain, start, end):
        return True
    for shape, sizes in ((_UUID, None), (_HEX_TOKEN, _HEX_SIZES)):
        for found in shape.finditer(plain):
            if found.start() <= start and end <= found.end():
                token = found.group()
                letters = sum(map(str.isalpha, token))
                return letters >= _FEWEST_HEX_LETTERS and (sizes is None or len(token) in sizes)
    return False


def _is_iban(plain: str, start: int, end: int) -> bool:
    """Whether digits are those of an account number with its two check digits."""
    country = plain[start - 2 : start] if start >= 2 else ""
    if _IBAN_DIGITS.get(country) != end - start or plain[start - 3 : start - 2].isalnum():
        return False
    letters = "".join(str(ord(letter) - 55) for letter in country)
    return int(plain[start + 2 : end] + letters + plain[start : start + 2]) % 97 == 1


def _plain(text: str) -> tuple[str, list[int] | None]:
    """Text in ASCII: digits, separators and the place in the text of each character.

    Characters without width are left out, full-width ones and digits of all scripts are read as
    those of ASCII, spaces and dashes as " " and "-", other letters as "x" and signs as "*". The
    places have one more than the characters: the end. None if all are where they were.
    """
    if text.isascii():
        return text.replace("%20", "   "), None  # a space in an address of the web
    made: list[str] = []
    places: list[int] = []
    for place, character in enumerate(text):
        read = character if character.isascii() else _ascii_of(character)
        if read:
            made.append(read)
            places.append(place)
    places.append(len(text))
    return "".join(made).replace("%20", "   "), places


@lru_cache(maxsize=_CHARACTERS_KEPT)
def _ascii_of(character: str) -> str:
    """One ASCII character, or none for what has no width."""
    if character.isdigit():
        return str(unicodedata.digit(character))
    kind = unicodedata.category(character)
    if kind in ("Cf", "Mn", "Me"):
        return ""
    if kind[0] == "Z":
        return " "
    if kind == "Pd" or character == "\u2212":
        return "-"
    if character in "\u00b7\u2022\u2027\u2219\u22c5\u30fb":
        return "."
    same = unicodedata.normalize("NFKC", character)
    if len(same) == 1 and same.isascii():
        return same
    return "x" if kind[0] == "L" else "*"
