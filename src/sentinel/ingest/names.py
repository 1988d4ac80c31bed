"""Names of fields: which may be, and which say that the field holds what must never be stored.

Security codes, PINs and the content of magnetic stripes are refused by the name of their field,
however it is written: ``cvv``, ``cardCvv``, ``CVC_2``, ``security-code``. A field that holds no
such secret and only says something about one is let in, if its name says so:

* by its last words: ``cvv_match``, ``pin_entry_mode``, ``cvc_check``; see `ABOUT`;
* by its first word: ``has_cvv``, ``is_cvv_present``; see `QUESTIONS`.
"""

from __future__ import annotations

import re
import unicodedata
from typing import Final

from sentinel.domain import MAX_ID_LENGTH
from sentinel.ingest.cards import holds_card_number, masked
from sentinel.ingest.values import CONTROL_CHARACTER, CONTROL_PATTERN, Flaw, holds_control


def _set(words: str) -> frozenset[str]:
    return frozenset(words.split())


SECRETS: Final = {
    **dict.fromkeys(
        (
            *("cvv", "cvv1", "cvv2", "cvv3", "icvv", "dcvv", "cvc", "cvc1", "cvc2", "cvc3", "cv2"),
            *("cav", "cav2", "csc", "csc2", "cvn", "cvn2", "cvd", "cvd2"),
            *("securitycode", "cardverificationvalue", "cardverificationcode"),
            *("cardverificationnumber", "cardidentificationnumber", "sicherheitscode"),
            *("cardcid", "amexcid", "cidcode", "cidnumber", "cryptogramme"),
            *("kartenprufnummer", "kartenpruefnummer", "codigoseguridad", "codigodeseguridad"),
        ),
        "a security code of a card",
    ),
    **dict.fromkeys(("pin", "pinblock", "pincode", "pinnumber", "pinoffset", "pvv"), "a PIN"),
    **dict.fromkeys(
        (
            *("track1", "track2", "track3", "trackone", "tracktwo", "trackdata"),
            *("magstripe", "magneticstripe"),
        ),
        "a track of a magnetic stripe",
    ),
}
"""Words, also several that stand together, and what a field with such a name holds."""

AMBIGUOUS: Final = _set("pin pincode pinnumber cav csc cvd cvn cv2 pvv")
"""Those that mean something else beside other words than `BESIDE`: ``map_pin``, ``csc_region``."""

BESIDE: Final = _set(
    "card cards cc credit debit payment payer pay customer user cardholder holder client account "
    "atm amex visa mastercard the my raw plain clear enc encrypted hashed hash old new entered "
    "input field code number num no nr value val data digits digit text txt str string block "
    "offset equivalent full 1 2 3 one two"
)
"""Words that may stand beside a secret's and change nothing."""

ABOUT: Final = _set(
    "match matched matches matching result results response resp check checked checks provided "
    "present presence given supplied submitted available absent missing valid validity validated "
    "validation verified verification status flag indicator ok passed failed failure failures "
    "attempt attempts try tries retry retries count counter length len entry entered required "
    "requested mode method capable capability capabilities type used usage supported fallback "
    "read changed change reset set at reason error errors score bypass bypassed skipped"
)
"""Last words of the name of a field that tells something about a secret, not the secret."""

QUESTIONS: Final = _set("has have had is was are with without no needs requires")
"""First words that make a question of a name."""

FORBIDDEN_FIELD: Final = "forbidden_field"
"""Code of the flaw of a name that says that a field holds a secret."""

_HUMPS: Final = re.compile("([a-z0-9])([A-Z])")
_ACRONYM: Final = re.compile("([A-Z]+)([A-Z][a-z])")
_WORD: Final = re.compile("[a-z0-9]+")
_UNSHOWN: Final = re.compile(CONTROL_PATTERN[:-1] + "\ud800-\udfff]")
_MOST_WORDS: Final = 4
_ANY: Final = re.compile("|".join(SECRETS))


def secret_of(name: str) -> str | None:
    """What a field with this name holds that must never be stored; None if nothing.

    >>> secret_of("cardCvv"), secret_of("CVC 2"), secret_of("pin_block")
    ('a security code of a card', 'a security code of a card', 'a PIN')
    >>> [secret_of(name) for name in ("cvv_match", "pin_entry", "shipping", "tracking_no", "cid")]
    [None, None, None, None, None]
    """
    words = _words(name)
    if _ANY.search("".join(words)) is None:  # nearly all names
        return None
    if words[0] in QUESTIONS and len(words) > 1:
        return None
    for start in range(len(words)):
        for size in range(min(_MOST_WORDS, len(words) - start), 0, -1):
            secret = _secret("".join(words[start : start + size]))
            if secret is not None:
                behind = words[start + size :]
                if any(word in ABOUT for word in behind):
                    return None
                if secret not in AMBIGUOUS or {*words[:start], *behind} <= BESIDE:
                    return SECRETS[secret]
    return None


def name_flaw(name: str) -> Flaw | None:
    """Why an attribute cannot have a name; None if it can.

    >>> name_flaw("mcc"), name_flaw("cvv").code
    (None, 'forbidden_field')
    """
    if not 0 < len(name) <= MAX_ID_LENGTH:
        return Flaw("invalid_name", f"a name must have 1 to {MAX_ID_LENGTH} characters")
    if holds_control(name):
        return Flaw(
            CONTROL_CHARACTER.code,
            "a name holds a control character, such as a line break; give it one without",
        )
    if holds_card_number(name):
        return Flaw("card_number", "a name holds what looks like a raw card number; leave it out")
    secret = secret_of(name)
    return None if secret is None else secret_flaw(secret)


def good_name(name: str) -> str:
    r"""A name like another one that an attribute can have: in one line, and not too long.

    Names that hold a card number or name a secret stay flawed, see `name_flaw`.

    >>> good_name("merchant category\ncode"), good_name("mcc")
    ('merchant category code', 'mcc')
    """
    if not holds_control(name) and len(name) <= MAX_ID_LENGTH:
        return name
    return " ".join(_UNSHOWN.sub(" ", name).split())[:MAX_ID_LENGTH].rstrip()


def secret_flaw(secret: str) -> Flaw:
    """What is wrong with a field that holds such a secret by its name.

    Args:
        secret: See `secret_of`.
    """
    return Flaw(
        FORBIDDEN_FIELD,
        f"holds {secret} by its name, which must not be stored, not even as a token; leave the "
        "field out. What only tells of one is let in by a name such as cvv_match or pin_entry_mode",
    )


def shown_name(name: str) -> str:
    r"""A name as messages show it: in one line, not too long, and without card numbers.

    >>> shown_name("a\nb"), shown_name("pan 4111111111111111")
    ('a?b', 'pan 411111******1111')
    """
    return masked(_UNSHOWN.sub("?", name))[:MAX_ID_LENGTH]


def _secret(word: str) -> str | None:
    """The secret that a word names, also with a word beside it: ``cvvcode``, ``cardpin``."""
    if word in SECRETS:
        return word
    for beside in BESIDE:
        for rest in (word.removeprefix(beside), word.removesuffix(beside)):
            if rest in SECRETS:
                return rest
    return None


def _words(name: str) -> list[str]:
    """The words of a name in small ASCII letters, whatever stands between them."""
    if not name.isascii():
        plain = unicodedata.normalize("NFKD", name)
        name = "".join(c for c in plain if unicodedata.category(c) not in ("Mn", "Cf"))
    spaced = _ACRONYM.sub(r"\1 \2", _HUMPS.sub(r"\1 \2", name))
    return _WORD.findall(spaced.lower())
