"""Currencies: their codes, signs and names, and columns that hold them."""

from __future__ import annotations

import re
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc

from sentinel.sources.columns import is_text
from sentinel.sources.words import counted

_ALL_CODES: Final = (
    "AED AFN ALL AMD ANG AOA ARS AUD AWG AZN BAM BBD BDT BGN BHD BIF BMD BND BOB BOV BRL BSD BTN "
    "BWP BYN BZD CAD CDF CHE CHF CHW CLF CLP CNH CNY COP COU CRC CUC CUP CVE CZK DJF DKK DOP DZD "
    "EGP ERN ETB EUR FJD FKP GBP GEL GHS GIP GMD GNF GTQ GYD HKD HNL HRK HTG HUF IDR ILS INR IQD "
    "IRR ISK JMD JOD JPY KES KGS KHR KMF KPW KRW KWD KYD KZT LAK LBP LKR LRD LSL LTL LVL LYD MAD "
    "MDL MGA MKD MMK MNT MOP MRU MUR MVR MWK MXN MXV MYR MZN NAD NGN NIO NOK NPR NZD OMR PAB PEN "
    "PGK PHP PKR PLN PYG QAR RON RSD RUB RWF SAR SBD SCR SDG SEK SGD SHP SLE SLL SOS SRD SSP STN "
    "SVC SYP SZL THB TJS TMT TND TOP TRY TTD TWD TZS UAH UGX USD USN UYI UYU UZS VED VES VND VUV "
    "WST XAF XAG XAU XCD XOF XPF YER ZAR ZMW ZWL BTC ETH USDT USDC"
)
CODES: Final = frozenset(_ALL_CODES.split())
"""Codes of ISO 4217, those of recent history included, and of the best-known coins."""

SIGNS: Final = {
    "$": "USD",
    "US$": "USD",
    "€": "EUR",
    "£": "GBP",
    "¥": "JPY",
    "₹": "INR",
    "RS": "INR",
    "R$": "BRL",
    "ZŁ": "PLN",
    "KČ": "CZK",
    "FT": "HUF",
    "FR": "CHF",
    "￥": "JPY",
    "円": "JPY",
    "₩": "KRW",
    "원": "KRW",
    "元": "CNY",
    "₽": "RUB",
    "₺": "TRY",
    "₫": "VND",
    "₪": "ILS",
    "₴": "UAH",
    "₦": "NGN",
    "₱": "PHP",
    "฿": "THB",
    "A$": "AUD",
    "AU$": "AUD",
    "C$": "CAD",
    "CA$": "CAD",
    "HK$": "HKD",
    "NZ$": "NZD",
    "S$": "SGD",
    "NT$": "TWD",
    "MX$": "MXN",
}
"""Signs of money, in capitals, and the currency that is most often meant."""

_NUMERIC_CODES: Final = (
    "032=ARS 036=AUD 050=BDT 124=CAD 144=LKR 152=CLP 156=CNY 170=COP 203=CZK 208=DKK 344=HKD "
    "348=HUF 356=INR 360=IDR 376=ILS 392=JPY 398=KZT 404=KES 410=KRW 414=KWD 458=MYR 484=MXN "
    "504=MAD 554=NZD 566=NGN 578=NOK 586=PKR 604=PEN 608=PHP 634=QAR 643=RUB 682=SAR 702=SGD "
    "704=VND 710=ZAR 752=SEK 756=CHF 764=THB 784=AED 788=TND 818=EGP 826=GBP 840=USD 901=TWD "
    "941=RSD 944=AZN 946=RON 949=TRY 975=BGN 978=EUR 980=UAH 981=GEL 985=PLN 986=BRL "
)
_NUMERIC: Final = dict(pair.split("=") for pair in _NUMERIC_CODES.split())
"""Numbers of ISO 4217 that card messages carry, of the currencies that come up most."""

_NAMES: Final = re.compile(
    r"(^|[^a-z])(currency|currencies|curr|ccy|cur|currencycode|iso4217|w(ä|ae)hrung|devise|moneda"
    r"|moeda|valuta)([^a-z]|$)|currency|ccy$"
)
_NOTHING: Final = ("NA", "N/A", "NULL", "NONE", "NAN", "-", "UNKNOWN")
_FEW: Final = 200  # kinds of money that a column may hold; a column of more is something else


def currency_of(money: str) -> str:
    """The code that a sign of money most often means; what is no such sign as it is, in capitals.

    >>> currency_of("R$"), currency_of("zł"), currency_of("Fr."), currency_of("eur")
    ('BRL', 'PLN', 'CHF', 'EUR')
    """
    word = money.upper().replace(" ", "").rstrip(".")
    return SIGNS.get(word, word)


def code_of(value: str) -> str:
    """The code of a currency that is given by its code or its number; empty if it is neither.

    >>> code_of("978"), code_of("36"), code_of("eur"), code_of("5411")
    ('EUR', 'AUD', 'EUR', '')
    """
    word = value.strip().upper()
    return word if word in CODES else _NUMERIC.get(word.zfill(3), "")


def is_currency_name(column: str) -> bool:
    """Whether a column's name says that it holds currencies.

    >>> [is_currency_name(name) for name in ("transactionCurrencyCode", "ccy", "currently_open")]
    [True, True, False]
    """
    spaced = re.sub(r"([a-z])([A-Z])", r"\1 \2", column).lower()
    return bool(_NAMES.search(spaced))


def currencies_in(column: str, values: pa.Array) -> dict[str, int]:
    """The kinds of money that a column holds and how many rows hold each, in capitals.

    A column counts where its name says so, or where all its values are codes of currencies;
    else nothing is found.

    >>> currencies_in("ccy", pa.array(["USD", "jpy", None]))
    {'USD': 1, 'JPY': 1}
    >>> currencies_in("shop", pa.array(["USD", "Corner store"]))
    {}
    """
    if pa.types.is_nested(values.type) or pa.types.is_temporal(values.type):
        return {}
    named = is_currency_name(column)
    if not is_text(values.type):
        if not named or not pa.types.is_integer(values.type):
            return {}  # numeric codes, such as 840, only where the name says so
        values = pc.cast(values, pa.string())
    kinds: dict[str, int] = {}
    for word, rows in counted(pc.utf8_upper(pc.utf8_trim_whitespace(values))).items():
        kind = SIGNS.get(word, word)
        if kind and kind not in _NOTHING:
            kinds[kind] = kinds.get(kind, 0) + rows
    if len(kinds) > _FEW:
        return {}
    return kinds if named or all(kind in CODES for kind in kinds) else {}
