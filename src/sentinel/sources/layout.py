"""How a text table is written: delimiter, quotes, encoding, lines before the header, names."""

from __future__ import annotations

import codecs
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

from sentinel.domain import ConfigurationError

FileFormat = Literal["csv", "parquet", "json"]

_NAMED_DELIMITERS: Final = {
    "tab": "\t",
    "\\t": "\t",
    "comma": ",",
    "semicolon": ";",
    "pipe": "|",
    "space": " ",
}


@dataclass(frozen=True)
class CsvLayout:
    """How a text file is written.

    Attributes:
        delimiter: Between two fields: one character or several, or a word such as "tab";
            "" = a tab in ``.tsv`` files, else a comma unless the header has none of them.
        quote: Around fields that contain delimiters; "" = none.
        escape: In front of a quote, delimiter or itself that is text; "" = a quote inside a
            quoted field is written twice.
        encoding: Of the text. A byte order mark at the beginning of the file decides by itself.
        null_values: Texts that mean "not given".
        null_values_by_column: More of them, for one column each.
        skip_lines: Lines before the header.
        header: Whether the first line names the columns.
        names: Names by place, counted from 1, in front of what the header says.

    Raises:
        ConfigurationError: One of them is impossible.
    """

    delimiter: str = ""
    quote: str = '"'
    escape: str = ""
    encoding: str = "utf8"
    null_values: tuple[str, ...] = ("",)
    null_values_by_column: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    skip_lines: int = 0
    header: bool = True
    names: Mapping[int, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(
            self, "delimiter", _NAMED_DELIMITERS.get(self.delimiter.lower(), self.delimiter)
        )
        if any(character in self.delimiter for character in "\r\n\0"):
            raise ConfigurationError("files.delimiter holds a line end, which ends a row already.")
        if len(self.quote) > 1 or not self.quote.isascii() or self.quote in ("\r", "\n", "\0"):
            raise ConfigurationError(
                f"files.quote is {self.quote!r}; allowed is one ASCII character such as "
                '\'"\' or "\'", or "" for none.'
            )
        if self.quote and self.quote in self.delimiter:
            raise ConfigurationError(
                f"files.delimiter {self.delimiter!r} holds files.quote {self.quote!r}; "
                "they must differ."
            )
        if len(self.escape) > 1 or not self.escape.isascii() or self.escape in ("\r", "\n", "\0"):
            raise ConfigurationError(
                f"files.escape is {self.escape!r}; allowed is one ASCII character such as "
                "'\\', or \"\" where a quote inside a quoted field is written twice."
            )
        if self.escape and self.escape in (self.quote, self.delimiter):
            raise ConfigurationError(
                f"files.escape {self.escape!r} is the quote or the delimiter as well; they must "
                "differ. Leave it out where a quote inside a quoted field is written twice."
            )
        if self.skip_lines < 0:
            raise ConfigurationError("files.skip_lines is 0 or more lines before the header.")
        try:
            codecs.lookup(self.encoding)
            "".encode(self.encoding)
        except LookupError:
            raise ConfigurationError(
                f"files.encoding {self.encoding!r} is unknown; allowed are Python's names, "
                'such as "utf8", "utf-16", "latin-1" and "cp1252".'
            ) from None
        for place, name in self.names.items():
            if place < 1 or not name:
                raise ConfigurationError(
                    f"files.names: {place} = {name!r}; places count from 1, names are not empty."
                )


def names_by_place(names: Mapping[str, str], where: str = "files.names") -> dict[int, str]:
    """The keys of a TOML table as places.

    >>> names_by_place({"1": "row"})
    {1: 'row'}
    """
    wrong = [key for key in names if not re.fullmatch(r"[1-9]\d{0,5}", key)]
    if wrong:
        raise ConfigurationError(
            f"{where}: the key {wrong[0]!r} is no place; columns are counted from 1, "
            'as in names = { 1 = "row" }.'
        )
    return {int(key): name for key, name in names.items()}


def column_names(header: list[str], layout: CsvLayout, file: str) -> list[str]:
    """The names of a table's columns: as given by place, else the header's, else ``column_1``.

    Args:
        header: What the file says, in its order; "" = nothing.
        layout: With the names by place.
        file: For messages.

    Raises:
        ConfigurationError: Two columns have one name, or a place is beyond the last column.

    >>> column_names(["", "amount"], CsvLayout(), "x.csv")
    ['column_1', 'amount']
    """
    beyond = [place for place in layout.names if place > len(header)]
    if beyond:
        raise ConfigurationError(
            f"{file} has {len(header)} columns; files.names gives column {beyond[0]} a name."
        )
    names = [
        layout.names.get(place) or (name if name.strip() else f"column_{place}")
        for place, name in enumerate(header, 1)
    ]
    places: dict[str, list[int]] = {}
    for place, name in enumerate(names, 1):
        places.setdefault(name, []).append(place)
    for name, where in places.items():
        if len(where) > 1:
            all_places = f"{', '.join(map(str, where[:-1]))} and {where[-1]}"
            raise ConfigurationError(
                f"{file}: columns {all_places} both have the name {name!r}; say which is which "
                f'by place: files.names = {{ {where[-1]} = "{name}_{len(where)}" }}.'
                if len(where) == 2
                else f"{file}: columns {all_places} all have the name {name!r}; say which is "
                f'which by place: files.names = {{ {where[-1]} = "{name}_{len(where)}", ... }}.'
            )
    return names
