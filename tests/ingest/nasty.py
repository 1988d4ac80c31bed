"""Text and numbers of the kinds that tell one reader from another."""

from __future__ import annotations

from hypothesis import strategies as st

SPACES = [" ", "\t", "\u00a0", "\u3000", "\u2009", "\u2028", "\r\n", "\x85", "\x1f"]
PIECES = [
    *SPACES,
    *("\u200d", "\u00ad", "\u200f", "\u202e", "\u2066", "\x00", "\ufeff", "👩", "İ", "ß", "東京"),
    *("1", "0", "007", "1.0", ".0", ".00", "-0.0", "e5", "e+18", "E+18", "1e5", "+", "-", "|", "."),
    *("9007199254740992", "9007199254740991.0", "9007199254740993.0", "1234567890123456789"),
    *("TRUE", "true", "False", "nan", "NaN", "inf", "-inf", "None", "tok1_", "=", "/", "_"),
    *("4111111111111111", "4111 1111 1111 1111", "5555-5555-5555-4444", "x" * 126, "y" * 129),
    *("2001:DB8::1", "::ffff:192.0.2.1", "192.0.2.1", "fe80::1%eth0", "::"),
]
text = st.one_of(
    st.lists(st.sampled_from(PIECES), max_size=4).map("".join),
    st.text(max_size=12),
    st.from_regex(r"\A[+-]?[0-9]{1,20}(\.[0-9]{0,3})?([eE][+-]?[0-9]{1,3})?\Z"),
)
"""Any text that Arrow can hold, odd texts often."""

floats = st.one_of(
    st.floats(),
    st.integers(-(2**70), 2**70).map(float),
    st.sampled_from([0.0, -0.0, 2.0**53, 2.0**53 - 1, 1e15, 1e16, 1e22, 0.1, 1001.0]),
)
